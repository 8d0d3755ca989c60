"""`pareto`: what policies can reach in several objectives at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from occlp._typing import FloatArray, frozen
from occlp.arguments import check_count, check_tolerance, read_list
from occlp.constraints import LinearExpression, expected, expected_total
from occlp.errors import InvalidProblem
from occlp.model import MDP
from occlp.pareto.search import Scale, Search, is_reached
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.base import Solver

#: Default tolerance of two objectives: every vertex is found, rounding aside.
EXACT = 1e-9
#: Default tolerance of three objectives or more, whose fronts may have very many vertices.
COARSE = 1e-3


@dataclass(frozen=True, eq=False)
class Front:
    """The convex front of several objectives: its vertices, their policies, and a proof of what lies beyond.

    Attributes
    ----------
    names : tuple of str [k]
        The objectives: those to maximise, then those to minimise.
    senses : tuple of {"maximize", "minimize"} [k]
    points : FloatArray [n, k]
        Normalised expectations of the vertices found, in the user's units; best first objective first.
    policies : tuple of Policy [n]
        One for each point. Without constraints they are deterministic, and a `Mixture` of neighbours reaches what
        lies between.
    weights : FloatArray [n, k]
        Weights, not negative and summing to one, under which the weighted sum of the objectives (those to
        minimise taken negative) is best at the point.
    bound_weights, bounds : FloatArray [m, k], [m]
        Half-spaces that hold for every policy: the sum weighted with a row of `bound_weights` is at most the
        entry of `bounds`. Each comes from a certificate.
    ranges : FloatArray [k]
        Range of each objective over the pairs, the unit of `gap`.
    gap : float
        No policy surpasses what mixtures of the points reach by more than gap · range in all objectives.
    n_solves : int
        Plain questions that were answered on the way.
    """

    names: tuple[str, ...]
    senses: tuple[Literal["maximize", "minimize"], ...]
    points: FloatArray  # [n, k]
    policies: tuple[Policy, ...]
    weights: FloatArray  # [n, k]
    bound_weights: FloatArray  # [m, k]
    bounds: FloatArray  # [m]
    ranges: FloatArray  # [k]
    gap: float
    n_solves: int

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        words = ", ".join(f"{sense} {name}" for sense, name in zip(self.senses, self.names, strict=True))
        return f"Front({len(self)} points: {words}; gap {self.gap:.2g})"

    @property
    def signs(self) -> FloatArray:
        """1 for objectives to maximise, −1 for those to minimise, [k]."""
        return np.array([1.0 if sense == "maximize" else -1.0 for sense in self.senses])

    @property
    def trade_offs(self) -> FloatArray:
        """What a unit of the second objective costs in the first between neighbouring points, [n − 1].

        The change of the first per unit of the second, for fronts of two objectives.
        """
        if len(self.names) != 2:
            raise InvalidProblem(f"trade_offs belong to fronts of two objectives; this one has {len(self.names)}.")
        steps = np.diff(self.points, axis=0)
        return np.asarray(steps[:, 0] / steps[:, 1])

    def reaches(self, target: Mapping[str, float]) -> bool | None:
        """Whether some policy is at least as good as a target in each objective that the target names.

        True: a mixture of the points is (to 1e-9 of the ranges). False: a half-space proves that none is.
        None: the target lies in the gap between the two.
        """
        unknown = set(target) - set(self.names)
        if unknown or not target:
            raise InvalidProblem(f"a target names some of {', '.join(self.names)}; got {', '.join(target) or 'none'}.")
        kept = [n for n, name in enumerate(self.names) if name in target]
        wanted = self.signs[kept] * np.array([float(target[self.names[n]]) for n in kept])
        others = [n for n in range(len(self.names)) if n not in kept]
        free = ~(self.bound_weights[:, others] > 0).any(axis=1)  # the others may be as bad as they like
        if (self.bound_weights[free][:, kept] @ wanted > self.bounds[free]).any():
            return False
        points = (self.signs * self.points / self.ranges)[:, kept]
        return True if is_reached(wanted / self.ranges[kept], points) else None

    def records(self) -> list[dict[str, float]]:
        """One dict a point: the objectives, and the weights under which it is best."""
        return [
            {**dict(zip(self.names, point, strict=True))}
            | {f"weight of {name}": weight for name, weight in zip(self.names, weights, strict=True)}
            for point, weights in zip(self.points.tolist(), self.weights.tolist(), strict=True)
        ]

    def to_frame(self) -> Any:
        """A pandas DataFrame of the records (extra ``occlp[pandas]``); the records where pandas is missing."""
        from occlp.report.frames import to_frame

        return to_frame(self.records())

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw the front, or its projections on pairs of objectives; returns the matplotlib figure."""
        from occlp.report.fronts import plot_front

        return plot_front(self, path)


def pareto(
    question: MDP | Problem,
    maximize: Sequence[str | LinearExpression] = (),
    minimize: Sequence[str | LinearExpression] = (),
    *,
    criterion: Literal["discounted", "average", "total"] | None = None,
    tol: float | None = None,
    max_solves: int = 1000,
    solver: Solver | None = None,
) -> Front:
    """Find the front of several objectives: what cannot be improved in one without losing in another.

    Parameters
    ----------
    question : MDP or Problem
        A model, or a problem whose criterion and constraints are kept; its reward and sense play no part
        unless they are named.
    maximize, minimize : list of str or LinearExpression
        "reward", names of costs, or expressions such as ``oc.visits(actions="repair")``; two or more in all.
    criterion : {"discounted", "average", "total"}, optional
        Of a model; default "discounted". Names mean totals under the last; give a `Problem` to have a goal.
    tol : float, optional
        Largest gap, as a share of each objective's range over the pairs. Default 1e-9 for two objectives: all
        vertices; 1e-3 for more.
    max_solves : int
        Questions after which the search ends with a larger, stated gap.
    solver : Solver, optional
        For the weighted questions; default as in `solve`.

    Returns
    -------
    Front
        Randomised policies included: the front is convex. The front of deterministic policies is another one,
        with points inside this one that no weights find (docs/pareto.md).

    Raises
    ------
    InvalidProblem
        For fewer than two objectives, unknown or repeated ones, or a problem with a regularizer or utility.
    Unsupported
        With a constraint on a concave utility.
    Infeasible
        When no policy keeps the constraints.

    Examples
    --------
    >>> import occlp as oc
    >>> front = oc.pareto(oc.instances.get("machine-repair"), maximize=["reward"], minimize=["wear"])
    >>> len(front), front.gap < 1e-9
    (2, True)
    """
    problem = _problem(question, criterion)
    listed = ((read_list(maximize, "maximize="), 1.0), (read_list(minimize, "minimize="), -1.0))
    scales = [_scale(problem, what, sign) for given, sign in listed for what in given]
    names = tuple(scale.name for scale in scales)
    if len(names) < 2:
        raise InvalidProblem(f"a front has two objectives or more, in maximize= and minimize=; got {len(names)}.")
    if len(set(names)) < len(names):
        raise InvalidProblem(f"an objective is named twice: {', '.join(names)}.")
    tol = (EXACT if len(names) == 2 else COARSE) if tol is None else tol
    check_tolerance("tol", tol)
    check_count("max_solves", max_solves, least=len(names))
    search = Search(problem, scales, solver)
    search.run(tol, max_solves)
    return _front(search)


def _front(search: Search) -> Front:
    """What a search has found, in the user's units."""
    gap = search.finish()
    scales = search.scales
    sizes, lows = np.array([scale.size for scale in scales]), np.array([scale.low for scale in scales])
    signs = np.array([scale.sign for scale in scales])
    points = np.array(search.points)
    weights, bound_weights = np.array(search.found_by) / sizes, np.array([w for w, _ in search.half_spaces]) / sizes
    offsets = (bound_weights * signs) @ lows
    bounds = np.array([end for _, end in search.half_spaces]) + offsets
    bounds += 8 * np.finfo(float).eps * (np.abs(bounds) + np.abs(bound_weights) @ np.abs(lows))  # the change of units
    return Front(
        names=tuple(scale.name for scale in scales),
        senses=tuple("maximize" if scale.sign > 0 else "minimize" for scale in scales),
        points=frozen(np.column_stack([scale.to_user(points[:, n]) for n, scale in enumerate(scales)])),
        policies=tuple(search.policies),
        weights=frozen(weights / weights.sum(axis=1, keepdims=True)),
        bound_weights=frozen(bound_weights / bound_weights.sum(axis=1, keepdims=True)),
        bounds=frozen(bounds / bound_weights.sum(axis=1)),
        ranges=frozen(sizes),
        gap=gap,
        n_solves=search.n_solves,
    )


def _problem(question: MDP | Problem, criterion: Literal["discounted", "average", "total"] | None) -> Problem:
    if isinstance(question, MDP):
        return Problem(question, criterion=criterion or "discounted")
    if criterion is not None and criterion != question.criterion:
        raise InvalidProblem(f"the problem's criterion is {question.criterion!r}; leave criterion= out.")
    if question.regularizer is not None or question.utility is not None:
        raise InvalidProblem("a front is of linear objectives; leave the regularizer or utility out.")
    return question


def _scale(problem: Problem, what: str | LinearExpression, sign: float) -> Scale:
    total = problem.criterion == "total"
    named = expected_total if total else expected
    expression = what if isinstance(what, LinearExpression) else named(what)
    coefficients = problem.coefficients(expression)
    return Scale.of(expression.name or str(expression), sign, coefficients, total=total)

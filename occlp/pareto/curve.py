"""`limit_curve`: the optimum as a function of the bound of one constraint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from occlp._typing import FloatArray, frozen
from occlp.constraints import Relation
from occlp.errors import InvalidProblem, Unsupported
from occlp.model.pairs import is_known
from occlp.pareto.front import EXACT
from occlp.pareto.search import Scale, Search
from occlp.policy import Policy
from occlp.problem import Problem, refuse_concave
from occlp.solvers.base import Solver


@dataclass(frozen=True, eq=False)
class LimitCurve:
    """The optimum of a problem as a function of one bound: piecewise linear, given by its breakpoints.

    Concave when maximising, convex when minimising. Call the curve with a bound, or with an array of them.

    Attributes
    ----------
    name : str
        The constraint whose bound varies.
    relation : {"<=", ">=", "=="}
    bounds : FloatArray [n]
        Breakpoints, increasing, in the units of the constraint.
    objectives : FloatArray [n]
        The optimum at each of them, normalised.
    policies : tuple of Policy [n]
        Optimal at the breakpoints; between two of them a mixture of both is optimal.
    feasible : tuple of float
        Least and largest bound under which some policy keeps all constraints; infinite where there is no end.
    gap : float
        No optimum on the curve is off by more than this, in units of the objective where the bound is exact.

    Examples
    --------
    >>> import occlp as oc
    >>> problem = oc.Problem(oc.instances.get("machine-repair"), constraints=[oc.expected("wear") <= 0.25])
    >>> curve = oc.limit_curve(problem, "wear")
    >>> abs(curve(0.25) - oc.solve(problem).objective) < 1e-9
    True
    """

    name: str
    relation: Relation
    bounds: FloatArray  # [n]
    objectives: FloatArray  # [n]
    policies: tuple[Policy, ...]
    feasible: tuple[float, float]
    gap: float

    def __len__(self) -> int:
        return len(self.bounds)

    def __repr__(self) -> str:
        low, high = self.feasible
        return (
            f"LimitCurve({self.name!r} {self.relation} b: {len(self)} breakpoints, feasible for b in "
            f"[{low:.6g}, {high:.6g}], gap {self.gap:.2g})"
        )

    def __call__(self, bound: Any) -> Any:
        """The optimum at a bound, or at each of an array of them; NaN where no policy keeps the constraints."""
        asked = np.asarray(bound, dtype=np.float64)
        low, high = self.feasible
        inside = (asked >= low) & (asked <= high)
        values = np.where(inside, np.interp(asked, self.bounds, self.objectives), np.nan)
        return float(values) if values.ndim == 0 else values

    @property
    def slopes(self) -> FloatArray:
        """The change of the optimum per unit of the bound between neighbouring breakpoints, [n − 1]."""
        return np.asarray(np.diff(self.objectives) / np.diff(self.bounds))

    @property
    def prices(self) -> FloatArray:
        """Improvement per unit by which the bound is relaxed, on each piece, [n − 1]; slopes for equalities.

        What ``result.multipliers`` is for a bound inside that piece.
        """
        return self.slopes if self.relation == "==" else np.abs(self.slopes)

    def slope(self, bound: float) -> tuple[float, float]:
        """The derivatives of the optimum at a bound, from the left and from the right.

        They differ at breakpoints. Beyond the last breakpoint the constraint is slack and both are 0; NaN is the
        derivative on a side where no policy keeps the constraints.
        """
        low, high = self.feasible
        padded = np.concatenate([[0.0 if low == -np.inf else np.nan], self.slopes, [0.0 if high == np.inf else np.nan]])
        left, right = np.searchsorted(self.bounds, bound, side="left"), np.searchsorted(self.bounds, bound, "right")
        return float(padded[left]), float(padded[right])

    def records(self) -> list[dict[str, float]]:
        """One dict a breakpoint: bound, objective, and the slope to its right."""
        return [
            {"bound": float(bound), "objective": float(objective), "slope": self.slope(float(bound))[1]}
            for bound, objective in zip(self.bounds, self.objectives, strict=True)
        ]

    def to_frame(self) -> Any:
        """A pandas DataFrame of the records (extra ``occlp[pandas]``); the records where pandas is missing."""
        from occlp.report.frames import to_frame

        return to_frame(self.records())

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw the curve with its breakpoints and slopes; returns the matplotlib figure."""
        from occlp.report.fronts import plot_curve

        return plot_curve(self, path)


def limit_curve(
    problem: Problem, name: str, *, tol: float = EXACT, max_solves: int = 1000, solver: Solver | None = None
) -> LimitCurve:
    """Find the optimum as a function of the bound of one constraint, the others kept as they are.

    Parameters
    ----------
    problem : Problem
        A linear question; the present bound of the constraint does not matter, its relation does.
    name : str
        The name of the constraint.
    tol : float
        Largest gap, as a share of the ranges of objective and constraint over the pairs. The default finds
        all breakpoints.
    max_solves : int
        Questions after which the search ends with a larger, stated gap.
    solver : Solver, optional
        For the weighted questions; default as in `solve`.

    Returns
    -------
    LimitCurve
        Its slopes are the prices of the constraint, its first breakpoint (the last, for ≥) the tightest bound
        that can be kept.

    Raises
    ------
    InvalidProblem
        For an unknown name, a share or ratio (the curve of their bounds is no polygon), or a problem with a
        regularizer or utility.
    Unsupported
        With a constraint on a concave utility.
    Infeasible
        When the other constraints alone cannot be kept.

    Notes
    -----
    The curve is the front of the objective against the expression of the constraint (both fronts, for an
    equality), so each breakpoint is the answer to a plain question with a price on the expression.
    """
    if problem.regularizer is not None or problem.utility is not None:
        raise InvalidProblem("the optimum of a concave objective is no polygon; solve it bound by bound instead.")
    refuse_concave(problem, "limit_curve takes")
    if not is_known(name, problem.limits):
        known = ", ".join(map(repr, problem.limits)) or "none"
        raise InvalidProblem(f"the problem has no constraint {name!r}. It has {known}.")
    limit = problem.limits[name]
    if limit.label is not None:
        raise InvalidProblem(
            f"the bound of {limit.label!r} is part of its coefficients; solve it bound by bound instead."
        )
    others = {other: kept for other, kept in problem.limits.items() if other != name}
    bare, total = replace(problem, constraints=others), problem.criterion == "total"
    if problem.objective == "reach":
        raise Unsupported("the curve of a probability of reaching is not followed; solve it bound by bound instead.")
    sign = 1.0 if problem.sense == "maximize" else -1.0
    coefficients = problem.coefficients(limit)
    branches = []
    for direction in {"<=": (-1.0,), ">=": (1.0,), "==": (-1.0, 1.0)}[limit.relation]:
        scales = [
            Scale.of("objective", sign, problem.mdp.pair_rewards, total=total),
            Scale.of(name, direction, coefficients, total=total),
        ]
        search = Search(bare, scales, solver)
        search.run(tol, max_solves)
        branches.append(_branch(search))
    bounds, objectives, policies = _joined([branch[:3] for branch in branches])
    low = -np.inf if limit.relation == ">=" else float(bounds[0])
    high = np.inf if limit.relation == "<=" else float(bounds[-1])
    gap = max(branch[3] for branch in branches)
    return LimitCurve(name, limit.relation, frozen(bounds), frozen(objectives), policies, (low, high), gap)


def _branch(search: Search) -> tuple[FloatArray, FloatArray, list[Policy], float]:
    """Bounds (increasing), objectives and policies of one front, and the gap of the objective."""
    gap = search.finish()
    objective, expression = search.scales
    points = np.array(search.points)
    order = np.argsort(expression.to_user(points[:, 1]))
    bounds, objectives = expression.to_user(points[order, 1]), objective.to_user(points[order, 0])
    # A gap in both coordinates is one in the objective alone, at the steepest slope.
    steepest = np.abs(np.diff(points[order, 0]) / np.diff(points[order, 1])).max(initial=0.0)
    return bounds, objectives, [search.policies[n] for n in order], gap * objective.size * (1.0 + float(steepest))


def _joined(
    branches: list[tuple[FloatArray, FloatArray, list[Policy]]],
) -> tuple[FloatArray, FloatArray, tuple[Policy, ...]]:
    """The branches one after the other; where both meet in one breakpoint it is kept once."""
    bounds, objectives, policies = branches[0]
    for more_bounds, more_objectives, more_policies in branches[1:]:
        first = 1 if abs(more_bounds[0] - bounds[-1]) <= 1e-12 * max(1.0, float(np.ptp([*bounds, *more_bounds]))) else 0
        bounds = np.concatenate([bounds, more_bounds[first:]])
        objectives = np.concatenate([objectives, more_objectives[first:]])
        policies = policies + more_policies[first:]
    return bounds, objectives, tuple(policies)

"""`path`: one question along the strengths of its regularizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from occlp.errors import InvalidProblem
from occlp.problem import Problem
from occlp.result import Result, Status
from occlp.solvers.base import Solver
from occlp.solving import solve


@dataclass(frozen=True, eq=False)
class RegularizationPath:
    """The results of one question along the strengths of its regularizer.

    Attributes
    ----------
    strengths : tuple of float
        In the order in which they were asked for.
    results : tuple of Result
        One for each strength.
    """

    strengths: tuple[float, ...]
    results: tuple[Result, ...]

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __getitem__(self, position: int) -> Result:
        return self.results[position]

    def __repr__(self) -> str:
        return f"RegularizationPath({len(self)} strengths from {min(self.strengths):g} to {max(self.strengths):g})"

    def records(self) -> list[dict[str, Any]]:
        """One dict a strength: objective, the expected reward and costs, the penalty between them, gap and run."""
        return [
            {
                "strength": strength,
                "objective": result.objective,
                "penalty": abs(result.expected["reward"] - result.objective),
                **result.expected,
                "gap": result.gap,
                "status": result.status.name,
                "iterations": result.iterations,
                "seconds": result.timing.total,
            }
            for strength, result in zip(self.strengths, self.results, strict=True)
        ]

    def to_frame(self) -> Any:
        """A pandas DataFrame of the records (extra ``occlp[pandas]``); the records where pandas is missing."""
        from occlp.report.frames import to_frame

        return to_frame(self.records())


def path(
    problem: Problem, strengths: Iterable[float], *, solver: Solver | None = None, tol: float = 1e-8
) -> RegularizationPath:
    """Answer a question for each of several strengths of its regularizer, each from its neighbour's answer.

    Parameters
    ----------
    problem : Problem
        With a regularizer; its own strength does not matter.
    strengths : iterable of float
        Positive, in any order; they are solved from the largest to the smallest.
    solver : Solver, optional
        Default as in `solve`.
    tol : float
        As in `solve`.

    Returns
    -------
    RegularizationPath
        Every result is certified on its own; the start changes the time, not the answer.

    Raises
    ------
    InvalidProblem
        For a problem without a regularizer, no strengths, or one that is not positive.
    NotCertified
        When a strength misses the tolerance, also without a start.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> problem = oc.Problem(mdp, regularizer=oc.KL(strength=1, reference=oc.Policy.uniform(mdp)))
    >>> [round(result.expected["reward"], 2) for result in oc.path(problem, [100, 1, 0.01])]
    [1.24, 7.33, 7.47]
    """
    if problem.regularizer is None:
        raise InvalidProblem("a path is along the strengths of a regularizer; this problem has none.")
    asked = tuple(float(strength) for strength in strengths)
    if not asked:
        raise InvalidProblem("a path needs at least one strength.")
    found: dict[float, Result] = {}
    last: Result | None = None
    for strength in sorted(set(asked), reverse=True):
        regularizer: Any = problem.regularizer  # a frozen dataclass of settings
        regularizer = replace(regularizer, strength=strength)
        found[strength] = last = _answer(replace(problem, regularizer=regularizer), solver, tol, last)
    return RegularizationPath(asked, tuple(found[strength] for strength in asked))


def _answer(problem: Problem, solver: Solver | None, tol: float, start: Result | None) -> Result:
    """Solve from the neighbour's answer; from scratch where that was too far away."""
    if start is not None:
        result = solve(problem, solver, tol=tol, start=start, check=False)
        if result.status is Status.CERTIFIED and np.isfinite(result.gap):
            return result
    return solve(problem, solver, tol=tol)

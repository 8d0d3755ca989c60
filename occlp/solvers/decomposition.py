"""Decomposition of constrained and concave problems: each step is an ordinary MDP.

The occupancy polytope is the hull of the occupancies of policies. A small master program mixes those
found so far so that the constraints hold; its prices y make the next MDP, with rewards r − Gᵀy, whose policy is
the next column. Any y ≥ 0 bounds the optimum from above (weak duality), so the method knows when it is done; with
the rewards left out the same bound proves that the constraints cannot be met. Concave functions of a few expectations
join as further rows, whose prices are their slopes. Sources: Dantzig and Wolfe (1960); von Hohenbalken (1977);
Altman (1999), chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from occlp.evaluation import formulate
from occlp.problem import Problem
from occlp.solvers.base import InfeasibleProof, Iterate, SolverFailure, Start, start_policy
from occlp.solvers.column_generation import ColumnGeneration
from occlp.solvers.expansion import is_expandable
from occlp.standard import StandardForm

#: Violations (rows have size one) below this are not shown before they are gone.
NEARLY = 1e-6
#: Gaps (of the weights) above this, and below the last, are closed first in models so small that it costs little.
CLOSED = 1e-13
#: Iterates that are held back for that at most, and models that count as small.
MOST_HELD = 10
FEW_STATES = 10_000


@dataclass(frozen=True)
class Decomposition:
    """Column generation over policies, for linear constraints, and for `LogSum` and `WorstCase` in any place.

    Parameters
    ----------
    max_columns : int
        The method gives up after this many policies.

    Notes
    -----
    The answer is a mixture of policies, at most k + 1 for k linear constraints, turned into the one stationary
    policy that has the mixture's occupancy.
    """

    max_columns: int = 2000

    @property
    def promises_tol(self) -> bool:
        """True: a missed tolerance is an error."""
        return True

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if problem.criterion == "total":
            return "it mixes discounted and average occupancies; OccupancyProgram answers totals"
        if not is_expandable(problem):
            return "of concave objectives and constraints it answers LogSum and WorstCase; OccupancyProgram the others"
        return None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the best mixture after each column."""
        run = ColumnGeneration(formulate(problem), problem.mdp.pairs)
        run.begin(start_policy(problem, start))
        held = 0
        for _ in range(self.max_columns):
            gained = run.advance()
            # What is nearly kept would do for the tolerance, but in a step or two it is kept to rounding; and what
            # is nearly the best is a vertex.
            nearly_kept = run.is_broken and run.mixture.excess < NEARLY
            nearly_best = CLOSED < run.gap < NEARLY and held < MOST_HELD and run.form.n_states <= FEW_STATES
            held += nearly_best
            if not (gained and (nearly_kept or nearly_best)):
                yield run.iterate()
            if not gained:
                return
        raise SolverFailure(f"no optimum was reached with max_columns={self.max_columns} policies.")

    def require_feasible(self, problem: Problem) -> None:
        """Raise `InfeasibleProof` where no policy keeps the linear constraints."""
        run = ColumnGeneration(_linear_part(problem), problem.mdp.pairs)
        run.begin(None)
        run.reach_feasibility(self.max_columns)


def minimal_conflict(problem: Problem, proof: InfeasibleProof, late: Callable[[], bool]) -> list[str]:
    """Return names of constraints that cannot be kept together, although all but any one of them can.

    Deletion filter (Chinneck and Dravnieks 1991) over the constraints that the proof uses. Once it is `late`, what is
    left is returned: still a conflict, but perhaps not the smallest.
    """
    form, pairs = _linear_part(problem), problem.mdp.pairs
    kept = np.flatnonzero(proof.bound.prices)
    for candidate in kept.copy():
        if late():
            break
        fewer = kept[kept != candidate]
        run = ColumnGeneration(replace(form, limits=form.limits.subset(fewer)), pairs)
        run.begin(None)
        try:
            run.reach_feasibility(Decomposition().max_columns)
        except InfeasibleProof:
            kept = fewer
    return [form.limits.names[k] for k in kept]


def _linear_part(problem: Problem) -> StandardForm:
    """The question without its terms."""
    return replace(formulate(problem), term=None, concave=())

"""Interior points: any structured concave question over occupancies, with linear and concave limits.

The program (`lifted_program`) has one flow row for each state and a few dense rows; each step of the method
(`central_path`) factorises the normal equations of the flow rows by nested dissection, which for a grid of S
states takes some S^1.5 operations. What the backend of `OccupancyProgram` would factorise has all cones in it.
Sources: Mehrotra (1992); Nesterov and Nemirovskii (1994); for the questions, Hazan, Kakade, Singh and Van Soest (2019)
and Zahavy, O'Donoghue, Desjardins and Singh (2021).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from occlp._typing import AnyArray, BoolArray, FloatArray
from occlp.bounds.upper import bound_above
from occlp.certificate import to_multipliers
from occlp.evaluation import assess, formulate
from occlp.graph import graph_of, maximal_end_components, reachable
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.residuals import pair_residuals
from occlp.solvers.base import InfeasibleProof, Iterate, OutOfTime, SolverFailure, Start
from occlp.solvers.central_path import CentralPath
from occlp.solvers.lifted_program import BlockTerm, LiftedProgram, Meaning, unliftable
from occlp.solvers.normal_equations import NormalEquations
from occlp.standard import StandardForm
from occlp.terms import LogTerm, PolicyTerm, StateTerm, Term, WorstTerm

#: Shares of the tolerance, and of what was missing before, at which an iterate is shown.
SHOWN, SHOWN_AGAIN = 0.03, 0.01
#: Points that miss their rows by more than this were not found.
NOT_FOUND = 1e-6
#: How many strengths of an entropy are as good as infinity where nothing can be.
DEEP = 60.0


@dataclass(frozen=True)
class InteriorPoint:
    """A primal-dual interior-point method on occupancies, with the flow rows factorised by nested dissection.

    It answers what is concave and structured: linear objectives, `KL`, `ConditionalKL`, entropies, `TotalVariation`
    (one target), `LogSum` and `WorstCase`, each with linear limits and with limits on any of the utilities.

    Parameters
    ----------
    seconds : float, optional
        Wall-clock time; `solve` puts what its own limit leaves here.

    Notes
    -----
    A step is one sparse factorisation; 20 to 60 steps are usual. The answer mixes all policies that are optimal
    (the analytic centre), and its gap is near the rounding of the arithmetic.
    """

    seconds: float | None = None

    #: What it misses is mended as that of other methods of limited accuracy is.
    is_polished: ClassVar[bool] = True

    @property
    def promises_tol(self) -> bool:
        """True: a missed tolerance is an error."""
        return True

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if problem.criterion == "total":
            return "it answers discounted and average questions; OccupancyProgram answers totals"
        form = formulate(problem)
        reason = unliftable(form)
        if reason is not None:
            return f"{reason}; OccupancyProgram answers it"
        if form.rest == 0 and not possible_pairs(problem, form).all():
            return "on average it needs models whose states are all in one end component; OccupancyProgram does not"
        return None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield when little is missing, and again when next to nothing is."""
        deadline = np.inf if self.seconds is None else time.perf_counter() + self.seconds
        form = formulate(problem)
        run = _Run(problem, form)
        target = SHOWN * tol * (form.spread or 1.0) / run.program.size
        for missing in run.path.steps():
            if missing <= target:
                yield run.iterate()
                target = SHOWN_AGAIN * missing
            if time.perf_counter() > deadline:
                yield run.iterate()
                raise OutOfTime("a step of the interior-point method")
        last = run.iterate()
        yield last
        if missing > NOT_FOUND:
            if not form.names:
                raise SolverFailure(f"the interior-point method stopped where {missing:.2g} is missing.")
            nearest = _Run(problem, replace(form, rewards=np.zeros(form.n_pairs), term=None), elastic=True)
            nearest.raise_proof()  # where there is none, limits may be kept at their edges only, and prices end nowhere
            yield replace(last, policy=nearest.iterate().policy)


@dataclass(frozen=True, eq=False)
class NearOptimum:
    """Where the method ended, in the units of the form."""

    occupancy: FloatArray  # [pairs]
    values: FloatArray  # [S]
    prices: FloatArray  # [k], of all limits
    missing: float  # from the optimum


def near_optimum(problem: Problem, form: StandardForm, tol: float, equations: NormalEquations) -> NearOptimum:
    """Follow the central path well beyond the tolerance, or as far as it goes: a start for methods of more digits.

    The normal equations of the caller serve here too, with all that is known of them, if they are of the same pairs.
    """
    run = _Run(problem, form, equations=equations)
    target = SHOWN * SHOWN_AGAIN * tol * (form.spread or 1.0) / run.program.size
    for missing in run.path.steps():
        if missing <= target:
            break
    found = run._meaning()
    return NearOptimum(found.occupancy, run._values(found), found.prices, missing)


class _Run:
    """A form, its program and the way to its optimum."""

    def __init__(
        self, problem: Problem, form: StandardForm, *, elastic: bool = False, equations: NormalEquations | None = None
    ) -> None:
        self.problem, self.form = problem, form
        possible = possible_pairs(problem, form)
        pairs = np.flatnonzero(possible)
        self.program = LiftedProgram(form, pairs, elastic=elastic)
        curves = [self.program.curve, *self.program.row_curves.values()]
        joined = any(curve is not None and isinstance(curve.term, StateTerm | PolicyTerm) for curve in curves)
        if equations is None or equations.joined != joined or not np.array_equal(equations.pairs, pairs):
            equations = NormalEquations(form, pairs, joined=joined)
        self.equations = equations
        begin = assess(form, _evenly(form, possible)).pair_occupancy[pairs]
        self.path = CentralPath(self.program, self.equations, begin)
        self.inside = np.zeros(form.n_states, dtype=np.bool_)
        self.inside[form.states[pairs]] = True

    def iterate(self) -> Iterate:
        """The point as a policy, with its values, prices and slopes."""
        form, found = self.form, self._meaning()
        policy = Policy.from_occupancy(self.problem.mdp.pairs, found.occupancy, self._elsewhere())
        factor = form.sign * form.scale
        prices = form.feasible_prices(found.prices)
        return Iterate(
            policy, factor * self._values(found), multipliers=to_multipliers(form, prices), slopes=found.slopes
        )

    def raise_proof(self) -> None:
        """Raise `InfeasibleProof` where the limits cannot be kept, as the prices of breaking them show."""
        for _ in self.path.steps():
            pass
        found, form = self._meaning(), self.form
        bound = bound_above(form, (self._values(found), None), found.prices, found.occupancy, found.slopes)
        if bound.value < 0:
            pairs = self.problem.mdp.pairs
            raise InfeasibleProof(bound, Policy.from_occupancy(pairs, found.occupancy, self._elsewhere()))

    def _meaning(self) -> Meaning:
        point = self.path.settled()
        return self.program.meaning(point.x, point.z, point.y[self.equations.n :])

    def _elsewhere(self) -> Policy:
        """What is followed in states without mass: as the term's own base, which may exclude pairs."""
        term, pairs = self.form.term, self.problem.mdp.pairs
        return Policy.from_pairs(
            pairs, _evenly(self.form, np.ones(pairs.n_pairs, bool) if term is None else term.support)
        )

    def _values(self, found: Meaning) -> FloatArray:
        """The duals of the flow rows; where nothing can be, values so large that no pair counts there."""
        form, inside = self.form, self.inside
        values = np.zeros(form.n_states)
        values[self.equations.states] = self.program.size * self.path.point.y[: self.equations.n]
        if inside.all() or form.rest == 0:
            return values
        among = inside[form.states]
        if form.term is not None and not form.concave and not form.term.support[~among].any():
            values[~inside] = values[inside].min()  # no bound sees these states; the less they are worth, the better
            return values
        prices = form.feasible_prices(found.prices)
        rewards = form.rewards - prices[: len(form.limits.names)] @ form.limits.rows
        for price, limit in zip(prices[len(form.limits.names) :], form.concave, strict=True):
            rewards = rewards + price * found.slopes.get(limit.name, 0.0)
        scores, _ = pair_residuals(form, values, None, rewards)
        level = float(scores[among].max())
        needed = float(rewards[~among].max()) - level + _depth(form.term, found.occupancy, ~among)
        values[~inside] = max(float(values[inside].max()), needed / form.rest)
        return values


def possible_pairs(problem: Problem, form: StandardForm) -> BoolArray:
    """The pairs that may carry mass: what can be reached by pairs of the support, undiscounted for good."""
    support = np.ones(form.n_pairs, dtype=np.bool_) if form.term is None else form.term.support
    graph = graph_of(problem.mdp)
    if form.rest == 0:
        return maximal_end_components(graph, support).pairs
    return support & reachable(graph, form.initial > 0, support)[form.states]


def _evenly(form: StandardForm, pairs: BoolArray) -> FloatArray:
    """Every one of the pairs with the same probability, or every pair of a state that has none, [pairs]."""
    counts = np.add.reduceat(pairs.astype(np.float64), form.start[:-1])
    weights = np.where(form.on_pairs(counts) > 0, pairs, 1.0)
    return np.asarray(weights / form.on_pairs(np.add.reduceat(weights, form.start[:-1])))


def _depth(term: Term | None, occupancy: FloatArray, pairs: AnyArray) -> float:
    """By how much scores have to be below the others so that a term's bound does not see them."""
    if term is None:
        return 0.0
    if isinstance(term, BlockTerm):
        return DEEP * term.spread
    if isinstance(term, LogTerm | WorstTerm):
        slope = term.gradient(occupancy) if isinstance(term, LogTerm) else np.abs(term.rows).max(axis=0)
        return 1.1 * float(slope[pairs].max()) + term.spread
    return 2.0 * term.spread

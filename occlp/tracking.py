"""Judging a run while it goes: the best policy, the best bound and the history, from iterates alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy

from occlp._typing import BoolArray, FloatArray, frozen
from occlp.bounds.averages import Gains, has_several, preferred
from occlp.bounds.lower import distance_from_claim
from occlp.bounds.relaxation import Values
from occlp.bounds.upper import Candidate as BoundCandidate
from occlp.bounds.upper import UpperBound, best_bound
from occlp.certificate import allowed_gap, gained_by, rounding_of, slack_of, to_multipliers, to_prices, tolerance_size
from occlp.chains.chain import Bracket, Chain, enclose, policy_chain
from occlp.errors import OccupancyError
from occlp.evaluation import Assessment, assess, formulate
from occlp.parallel import inner_product
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.result import HISTORY_ROWS, History, Snapshot
from occlp.solvers.base import Iterate, Start, start_policy
from occlp.standard import StandardForm
from occlp.terms import JointTerm

#: Runs are judged at every iteration up to this one, then ever more rarely (each 1 % further).
DENSE_ITERATIONS = 100
#: Up to this many states every judged policy is evaluated exactly; beyond, only the last one is.
EXACT_STATES = 5000
#: Values that enclose what a policy earns this closely (rewards have size one) are as good as an evaluation.
OWN_VALUES = 1e-13
#: Occupancies claimed are believed while what they miss costs this share of the tolerance.
TRUSTED = 0.01
#: Values beyond this (standard form) prove nothing that smaller ones would not; their arithmetic overflows.
LARGEST_VALUE = 1e150


@dataclass(frozen=True, eq=False)
class Reference:
    """The optimum that other methods are measured against (docs/conventions.md, section 8)."""

    upper: UpperBound
    pair_occupancy: FloatArray  # [pairs], d*
    advantages: FloatArray  # [pairs], A*, standard form
    unique: bool  # whether d* is the only optimal occupancy
    best: float  # objective, standard form

    @classmethod
    def of(cls, tracker: Tracker) -> Reference | None:
        """What an exact method that was run to its end has found; None when it did not reach the tolerance."""
        found, upper, _ = tracker.final()
        if not tracker.reached(0.0):
            return None
        form = tracker.form
        # What a reference never does is infinitely bad, also in states where it never comes.
        support = True if form.term is None else form.term.support
        best = np.maximum.reduceat(np.where(support, upper.scores, -np.inf), form.start[:-1])
        advantages = np.where(support, upper.scores - best[form.states], -np.inf)
        return cls(upper, found.pair_occupancy, advantages, _is_unique(form, found, advantages), found.objective)


class Rows:
    """The history of a run: when to judge, and the rows so far, with the occupancies of some of them."""

    def __init__(self, most_snapshots: int = 0) -> None:
        self._rows: list[tuple[float, ...]] = []
        self._extras: list[Mapping[str, float]] = []
        self._next = 1
        self._most, self._stride = most_snapshots, 1
        self._snapshots: list[Snapshot] = []

    def due(self, iteration: int) -> bool:
        """Whether this iteration is to be judged."""
        if iteration < self._next:
            return False
        self._next = iteration + 1 if iteration < DENSE_ITERATIONS else math.ceil(iteration * 1.01)
        return True

    def add_row(self, row: tuple[float, ...], extra: Mapping[str, float], occupancy: Callable[[], FloatArray]) -> None:
        """Keep the row of an iteration with the method's own figures, and its occupancy if some are kept."""
        self._rows.append(row)
        self._extras.append(extra)
        if self._most:
            if self._snapshots and (len(self._rows) - 2) % self._stride:
                self._snapshots.pop()  # the latest always stands at the end, and stays only if it is its turn
            if len(self._snapshots) >= 8 * self._most:
                self._snapshots, self._stride = self._snapshots[::2], 2 * self._stride
            gap = row[History.common.index("gap")]
            self._snapshots.append(Snapshot(int(row[0]), gap, frozen(np.array(occupancy()))))

    def history(self) -> History:
        """The rows, thinned evenly to at most 1,000 (first and last are kept)."""
        rows, extras = self._rows, self._extras
        if len(rows) > HISTORY_ROWS:
            keep = np.unique(np.linspace(0, len(rows) - 1, HISTORY_ROWS).astype(int))
            rows, extras = [rows[i] for i in keep], [extras[i] for i in keep]
        if not self._snapshots:
            return History(rows, extras)
        shown = np.unique(np.linspace(len(self._snapshots) - 1, 0, self._most).astype(int))
        return History(rows, extras, tuple(self._snapshots[i] for i in shown))


class Tracker(Rows):
    """Keeps the best of a run. Every number comes from the model and the iterate's policy and values."""

    def __init__(self, problem: Problem, tol: float, reference: Reference | None, snapshots: int = 0) -> None:
        super().__init__(snapshots)
        self.problem, self.tol, self.reference = problem, tol, reference
        self.form = formulate(problem)
        self._best: _Candidate | None = None
        self._upper = None if reference is None else reference.upper
        self._gains = Gains.of(self.form) if has_several(problem) else None

    @property
    def gap(self) -> float:
        """Best upper bound less best lower bound, standard form."""
        if self._best is None or self._upper is None or not self._best.kept:
            return math.inf
        return max(self._upper.value - self._best.lower, 0.0)

    def is_near(self, share: float) -> bool:
        """Whether bound and limits are within this share of their ranges from the best policy.

        That policy is assessed exactly first: the values of a backend are noise where its occupancy does not come,
        so what one pass with them proves of a policy may be far from what it earns.
        """
        best, found = self._assessed()
        assert self._upper is not None
        size = max(self.form.spread, min(abs(self._upper.value), abs(best.lower)))
        return self._upper.value - best.lower <= share * size and self.form.kept(found.pair_occupancy, share)

    @property
    def best_policy(self) -> Policy:
        """The policy with the best lower bound so far."""
        assert self._best is not None
        return self._best.policy

    @property
    def multipliers(self) -> dict[str, float]:
        """The prices of the best bound, in the user's units."""
        return {} if self._upper is None else to_multipliers(self.form, self._upper.prices)

    def record(self, iterate: Iterate, iteration: int | None, seconds: float, *, prefer: bool = False) -> float:
        """Judge an iterate and return the gap in the user's units.

        A policy with garbage in it counts for nothing; a preferred one also wins ties within rounding.
        """
        try:
            policy = iterate.policy.sound(self.problem.mdp.pairs)
        except OccupancyError:
            return self.form.scale * self.gap
        values = self._standard_values(iterate)
        prices = to_prices(self.form, iterate.multipliers)
        candidate = self._trust(policy, iterate) or self._weigh(policy, values, prices)
        point = None if candidate.found is None else candidate.found.pair_occupancy
        candidates: list[BoundCandidate] = [] if values is None else [(values, prices, point, iterate.slopes)]
        if candidate.found is not None and not prices.any():
            candidates.append(((candidate.found.bracket.high, candidate.found.bracket.low), None, point, None))
        self._upper = best_bound(self.form, candidates, self._upper)
        self._bound_gains(values, iterate.gains, prices)
        # On average, later policies are also better where that does not show: in states that are left for good.
        if self._best is None or self._beats(candidate, self._best, prefer or self.form.rest == 0):
            self._best = candidate
        if iteration is not None:
            row = self._row(candidate, iteration, iterate.samples, seconds)
            found = candidate.found

            def occupancy() -> FloatArray:
                return (found or assess(self.form, policy.pair_probabilities, candidate.start)).pair_occupancy

            self.add_row(row, self._extra(candidate, iterate), occupancy)
        return self.form.scale * self.gap

    def reached(self, atol: float) -> bool:
        """Whether the gap is within the tolerance, by the certificate's own rule."""
        if self._best is None or self._upper is None or not self._best.kept:
            return False
        form, best = self.form, self._best
        ends = form.to_user(best.lower), form.to_user(self._upper.value)
        rounding = rounding_of(form, best.slack, self._upper)
        size = tolerance_size(form, ends)
        return form.scale * self.gap <= allowed_gap(size, form.scale * form.spread, rounding, self.tol, atol)

    def fall_back(self, start: Start) -> None:
        """Make sure that there is a policy to return: the start, or the uniform one."""
        if self._best is None:
            policy = start_policy(self.problem, start) or Policy.uniform(self.problem.mdp)
            self.record(Iterate(policy), None, 0.0)

    def final(self) -> tuple[Assessment, UpperBound, bool]:
        """Return the best policy's assessment, the best bound, and whether the policy keeps the constraints."""
        assert self._upper is not None
        best, found = self._assessed()
        own = (found.bracket.high, found.bracket.low)
        upper = best_bound(self.form, [(own, None, found.pair_occupancy, None)], self._upper)
        self._upper = upper = upper if self._upper.gain is None else preferred(upper, self._upper)
        return found, upper, best.kept

    def _assessed(self) -> tuple[_Candidate, Assessment]:
        """The best policy, assessed exactly: what was known of it may have come from values that are not its own."""
        assert self._best is not None
        assert self._upper is not None
        best = self._best
        if best.found is not None:
            return best, best.found
        found = assess(self.form, best.policy.pair_probabilities, best.start)
        kept, violation = self._check(found.pair_occupancy)
        lower = found.lower - gained_by(self.form, self._upper.prices, found.pair_occupancy)
        lower = lower if self.form.names else max(lower, best.lower)
        self._best = _Candidate(best.policy, lower, found.objective, found, None, kept, violation)
        return self._best, found

    def _bound_gains(self, values: Values | None, gains: FloatArray | None, prices: FloatArray) -> None:
        """Tighten the upper bound with gains that differ from state to state, where a model needs them."""
        if self._gains is None or values is None or gains is None or np.shape(gains) != (self.form.n_states,):
            return
        gains = np.asarray(gains, dtype=np.float64) / (self.form.sign * self.form.scale)
        if (np.abs(gains) < LARGEST_VALUE).all() and self._upper is not None:
            self._upper = preferred(self._upper, self._gains.bound_above(values, gains, prices))

    def _standard_values(self, iterate: Iterate) -> Values | None:
        if iterate.values is None or self.form.spread == 0:  # constant rewards: no values are needed
            return None
        factor = self.form.sign * self.form.scale
        high = np.asarray(iterate.values, dtype=np.float64) / factor
        low = None if iterate.values_low is None else np.asarray(iterate.values_low, dtype=np.float64) / factor
        shapes = {high.shape} | ({low.shape} if low is not None else set())
        digits = [high] if low is None else [high, low]
        if shapes != {(self.form.n_states,)} or not all((np.abs(part) < LARGEST_VALUE).all() for part in digits):
            return None
        return high, low

    @staticmethod
    def _beats(candidate: _Candidate, best: _Candidate, prefer: bool) -> bool:
        """Feasible before infeasible, then the better lower bound, or the smaller violation."""
        if candidate.kept != best.kept:
            return candidate.kept
        if not candidate.kept:
            return candidate.violation < best.violation
        if prefer:
            return candidate.lower >= best.lower - 2.0 * candidate.slack
        return candidate.lower > best.lower

    def _trust(self, policy: Policy, iterate: Iterate) -> _Candidate | None:
        """Assess a policy of a large model by the occupancy claimed for it, once it is checked; None where it fails."""
        form, mass = self.form, iterate.state_occupancy
        plain = form.term is None and not form.concave and form.rest > 0 and self.reference is None
        if mass is None or not plain or form.n_states <= EXACT_STATES or np.shape(mass) != (form.n_states,):
            return None
        claimed = np.asarray(mass, dtype=np.float64)[form.states] * policy.pair_probabilities
        if not (claimed >= 0).all():
            return None
        slack = float(np.abs(form.rewards).max()) * distance_from_claim(form, claimed)
        if not slack <= TRUSTED * self.tol * form.spread:
            return None
        objective = float(inner_product(claimed, form.rewards))
        return _Candidate(policy, objective - slack, objective, None, None, *self._check(claimed))

    def _check(self, pair_occupancy: FloatArray) -> tuple[bool, float]:
        """Whether an occupancy keeps the constraints within the tolerance, and by how much it breaks one."""
        return self.form.kept(pair_occupancy, self.tol), self.form.violation(pair_occupancy)

    def _weigh(self, policy: Policy, values: Values | None, prices: FloatArray) -> _Candidate:
        """Assess a policy: by one pass with the solver's own values where these are its own, or the model is large."""
        form, constrained = self.form, bool(self.form.names)
        # With gains, one number for all states would not prove what a policy earns.
        exact = constrained or form.term is not None or self._gains is not None
        bracket: Bracket | None = None
        if values is not None and not exact:
            chain = policy_chain(form, policy.pair_probabilities)
            bracket = enclose(chain, *values)
            known = self.reference is None and bracket.upper - bracket.lower <= OWN_VALUES
            if form.n_states <= EXACT_STATES and not known:
                bracket = None
        if values is None or bracket is None:
            start = None if values is None or constrained else values[0]
            found = assess(form, policy.pair_probabilities, start)
            kept, violation = self._check(found.pair_occupancy)
            # What a violation within the tolerance has gained is taken off again, at the prices known.
            gained = gained_by(form, prices, found.pair_occupancy)
            return _Candidate(policy, found.lower - gained, found.objective, found, None, kept, violation)
        return _Candidate(policy, bracket.lower, bracket.lower, None, values[0], chain=chain)

    def _row(self, candidate: _Candidate, iteration: int, samples: int, seconds: float) -> tuple[float, ...]:
        form, reference, found = self.form, self.reference, candidate.found
        assert self._upper is not None
        objective = form.to_user(candidate.objective)
        earned = math.nan
        if form.rest and form.term is None:
            earned = objective / form.rest
        elif form.rest and found is not None:
            earned = float(inner_product(found.pair_occupancy, self.problem.mdp.pair_rewards)) / form.rest
        gap = form.scale * max(self._upper.value - candidate.lower, 0.0) if candidate.kept else math.inf
        mass, variation, divergence = math.nan, math.nan, math.nan
        if reference is not None and found is not None:
            mass = float(found.pair_occupancy[reference.advantages < -self.tol * form.spread].sum())
            if reference.unique:
                variation = 0.5 * float(np.abs(found.pair_occupancy - reference.pair_occupancy).sum())
                divergence = float(scipy.special.rel_entr(reference.pair_occupancy, found.pair_occupancy).sum())
        return (iteration, objective, earned, gap, mass, variation, divergence, samples, seconds)

    def _extra(self, candidate: _Candidate, iterate: Iterate) -> dict[str, float]:
        """The figures of the method itself, and how far its occupancy is from covering an optimal one."""
        if iterate.measures is None:
            return {}
        figures = dict(iterate.measures())
        if self.reference is not None and candidate.found is not None:
            optimal = np.add.reduceat(self.reference.pair_occupancy, self.form.start[:-1])
            used = optimal > 0
            with np.errstate(divide="ignore", over="ignore"):
                figures["mismatch"] = float((optimal[used] / candidate.found.state_occupancy[used]).max())
        return figures


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A policy and what is known of it."""

    policy: Policy
    lower: float
    objective: float
    found: Assessment | None
    start: FloatArray | None = None  # values to begin an exact evaluation with
    kept: bool = True  # the constraints, within the tolerance
    violation: float = 0.0
    chain: Chain | None = None  # held on to, with all that is known of it

    @property
    def slack(self) -> float:
        """What rounding takes off the lower bound; what breaking a constraint has gained is none of it."""
        return slack_of(self.objective, self.lower if self.found is None else self.found.lower)


def _is_unique(form: StandardForm, found: Assessment, advantages: FloatArray) -> bool:
    """Whether the optimal occupancy is unique: no unused optimal pair in a visited state (strict concavity aside)."""
    if isinstance(form.term, JointTerm):
        return True
    if form.term is not None or form.concave:
        return False
    visited: BoolArray = found.chain.visited[form.states]
    unused = visited & (found.pair_occupancy == 0)
    return not bool((advantages[unused] > -1e-12).any()) and not _randomizes(form, found)


def _randomizes(form: StandardForm, found: Assessment) -> bool:
    used = (found.pair_occupancy > 0).astype(np.int64)
    return bool((np.add.reduceat(used, form.start[:-1]) > 1).any())

"""Judging a run of a total-reward question: the best policy, the best bound, and their certificate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from occlp._typing import FloatArray, frozen
from occlp.certificate import (
    Certificate,
    allowed_gap,
    to_multipliers,
    to_prices,
    to_sensitivity,
    tolerance_size,
)
from occlp.errors import OccupancyError
from occlp.evaluation import Evaluation, to_total_evaluation
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.base import Iterate, Start, start_policy
from occlp.total.assessment import TotalAssessment, assess_total
from occlp.total.bound import TotalBound, bound_total
from occlp.total.form import formulate_total, standard_values
from occlp.tracking import Rows

NAN = math.nan


@dataclass(frozen=True, eq=False)
class _Candidate:
    policy: Policy
    found: TotalAssessment
    lower: float
    kept: bool
    violation: float


class TotalTracker(Rows):
    """Keeps the best of a run. Every number comes from the model and the iterate's policy and values."""

    def __init__(self, problem: Problem, tol: float, upper: TotalBound | None = None, snapshots: int = 0) -> None:
        super().__init__(snapshots)
        self.problem, self.tol = problem, tol
        self.total = formulate_total(problem)
        self.form = self.total.base
        self._best: _Candidate | None = None
        self._upper = upper
        self._last: tuple[FloatArray, FloatArray] = np.zeros(self.form.n_states), np.zeros(len(self.form.limits.names))

    @property
    def gap(self) -> float:
        """Best upper bound less best lower bound, in the units of the form."""
        if self._best is None or self._upper is None or not self._best.kept:
            return math.inf
        if self._upper.value == self._best.lower:  # both may be infinite
            return 0.0
        return max(self._upper.value - self._best.lower, 0.0)

    @property
    def bound(self) -> TotalBound | None:
        """The bound of a run that has reached the tolerance, or None."""
        return self._upper if self.reached(0.0) else None

    @property
    def best_policy(self) -> Policy:
        """The policy with the best lower bound so far."""
        assert self._best is not None
        return self._best.policy

    def is_near(self, share: float) -> bool:
        """Whether the bound is within this share of the size of the total from the best policy."""
        return self.gap <= share * max(self._size(), self.form.spread)

    def record(self, iterate: Iterate, iteration: int | None, seconds: float, *, prefer: bool = False) -> float:
        """Judge an iterate and return the gap in the user's units; a policy with garbage in it counts for nothing."""
        try:
            policy = iterate.policy.sound(self.problem.mdp.pairs)
        except OccupancyError:
            return self.form.scale * self.gap
        limits = self.form.limits
        prices = limits.feasible_prices(to_prices(self.form, iterate.multipliers))
        claimed = None if iterate.values is None else standard_values(self.form, iterate.values)
        if claimed is not None and claimed.shape != (self.form.n_states,):
            claimed = None
        found = assess_total(self.total, policy.pair_probabilities, claimed)
        kept, violation, gained = True, 0.0, 0.0
        if limits.names:
            visits = np.where(np.isfinite(found.visits), found.visits, 1e300)
            kept, violation = self.form.kept(visits, self.tol), self.form.violation(visits)
            gained = float(np.abs(prices) @ limits.excess(visits))
        candidate = _Candidate(policy, found, found.lower - gained, kept, violation)
        if claimed is not None or not prices.any():
            self._last = found.values if claimed is None else claimed, prices
            self._improve_bound(*self._last, self.tol * max(self._size(), self.form.spread))
        if self._best is None or self._beats(candidate, self._best, prefer):
            self._best = candidate
        if iteration is not None:
            row = self._row(candidate, iteration, iterate.samples, seconds)
            self.add_row(row, {} if iterate.measures is None else iterate.measures(), lambda: found.visits)
        return self.form.scale * self.gap

    def reached(self, atol: float) -> bool:
        """Whether the gap is within the tolerance."""
        if self._best is None or self._upper is None:
            return False
        scale = self.form.scale
        size, spread, rounding = scale * self._size(), scale * self.form.spread, scale * self._rounding()
        return scale * self.gap <= allowed_gap(size, spread, rounding, self.tol, atol)

    def fall_back(self, start: Start) -> None:
        """Make sure that there is a policy to return: the start, or the uniform one."""
        if self._best is None:
            policy = start_policy(self.problem, start) or Policy.uniform(self.problem.mdp)
            self.record(Iterate(policy), None, 0.0)

    def verdict(self) -> tuple[Certificate, Evaluation]:
        """The certificate and the evaluation of the best policy."""
        assert self._best is not None
        if self._upper is None or self._upper.value == math.inf:
            no_prices = np.zeros(len(self.form.limits.names))
            for values, prices in (self._last, (self._best.found.values, no_prices)):
                self._improve_bound(values, prices, math.inf)
        assert self._upper is not None
        found, upper, form = self._best.found, self._upper, self.form
        lower = self._best.lower if self._best.kept else -math.inf
        # Where a total is undefined, nothing is proved of it.
        own = np.where(np.isnan(found.values), -math.inf, found.values)
        own = np.where(np.isfinite(own), found.proof, own)
        ends = sorted((form.to_user(lower), form.to_user(upper.value)))
        factor = form.sign * form.scale
        certificate = Certificate(
            lower=float(ends[0]),
            upper=float(ends[1]),
            gap=float(form.scale * self.gap),
            rounding=form.scale * self._rounding(),
            size=tolerance_size(form, (float(ends[0]), float(ends[1])), total=True),
            spread=form.scale * form.spread,
            shift=0.0,
            values=frozen(
                factor * (upper.values if upper.value < math.inf else np.full(form.n_states, math.inf)) + 0.0
            ),
            values_low=frozen(np.zeros(form.n_states)),
            policy_values=frozen(factor * own + 0.0),
            policy_values_low=frozen(np.zeros(form.n_states)),
            reduced_costs=frozen(form.scale * -upper.scores + 0.0),
            fingerprint=self.problem.fingerprint,
            violation=self._best.violation,
            multipliers=to_multipliers(form, upper.prices),
            sensitivity=to_sensitivity(form, to_multipliers(form, upper.prices)),
            assumptions=("double precision, rounding bounded",),
        )
        return certificate, to_total_evaluation(self.problem, self._best.policy, found)

    def _improve_bound(self, values: FloatArray, prices: FloatArray, worthwhile: float) -> None:
        bound = bound_total(self.total, values, prices, worthwhile=worthwhile)
        if self._upper is None or bound.value < self._upper.value:
            self._upper = bound

    def _rounding(self) -> float:
        """The part of the gap that rounding may have caused."""
        assert self._best is not None
        assert self._upper is not None
        found, upper = self._best.found, self._upper
        below = found.objective - found.lower
        return 2.0 * (upper.rounding if math.isfinite(upper.value) else 0.0) + (below if math.isfinite(below) else 0.0)

    def _size(self) -> float:
        """What the tolerance is relative to: the size of the total."""
        best = self._best.lower if self._best is not None and self._best.kept else 0.0
        ends = [best, 0.0 if self._upper is None else self._upper.value]
        return max((abs(end) for end in ends if math.isfinite(end)), default=0.0)

    @staticmethod
    def _beats(candidate: _Candidate, best: _Candidate, prefer: bool) -> bool:
        """Feasible before infeasible, then the better lower bound, or the smaller violation."""
        if candidate.kept != best.kept:
            return candidate.kept
        if not candidate.kept:
            return candidate.violation < best.violation
        if candidate.lower == best.lower:
            return prefer
        doubt = 2.0 * (candidate.found.objective - candidate.lower) if prefer else 0.0
        return bool(candidate.lower > best.lower - (doubt if math.isfinite(doubt) else 0.0))

    def _row(self, candidate: _Candidate, iteration: int, samples: int, seconds: float) -> tuple[float, ...]:
        objective = self.form.to_user(candidate.found.objective)
        gap = math.inf
        if candidate.kept and self._upper is not None and math.isfinite(candidate.lower):
            gap = self.form.scale * max(self._upper.value - candidate.lower, 0.0)
        return (iteration, objective, objective, gap, NAN, NAN, NAN, samples, seconds)


def certify_unending(problem: Problem, policy: Policy) -> tuple[Certificate, Evaluation]:
    """Write down that the total has no bound: the policy returned earns for ever in a class that it reaches."""
    total = formulate_total(problem)
    form = total.base
    found = assess_total(total, policy.pair_probabilities)
    best = form.sign * math.inf
    zero = np.zeros(form.n_states)
    certificate = Certificate(
        lower=best, upper=best, gap=0.0, rounding=0.0, size=0.0, spread=form.scale * form.spread, shift=0.0,
        values=frozen(zero), values_low=frozen(zero), policy_values=frozen(zero), policy_values_low=frozen(zero),
        reduced_costs=frozen(np.full(form.n_pairs, NAN)), fingerprint=problem.fingerprint, unending=True,
        assumptions=("double precision, rounding bounded",),
    )  # fmt: skip
    return certificate, to_total_evaluation(problem, policy, found)


def certify_infeasible_total(problem: Problem, bound: TotalBound, policy: Policy) -> tuple[Certificate, Evaluation]:
    """Write down the proof that no policy keeps the constraints: a bound on minus the priced violation."""
    total = formulate_total(problem)
    form = total.base
    found = assess_total(total, policy.pair_probabilities)
    zero = np.zeros(form.n_states)
    weights = bound.prices / form.limits.units
    certificate = Certificate(
        lower=NAN, upper=NAN, gap=math.inf, rounding=2.0 * bound.rounding, size=form.scale * form.spread,
        spread=form.scale * form.spread, shift=0.0, values=frozen(bound.values), values_low=frozen(zero),
        policy_values=frozen(zero), policy_values_low=frozen(zero), reduced_costs=frozen(-bound.scores + 0.0),
        fingerprint=problem.fingerprint, violation=form.violation(found.visits),
        multipliers=dict(zip(form.limits.names, map(float, weights), strict=True)), infeasible_by=-bound.value,
        assumptions=("double precision, rounding bounded",),
    )  # fmt: skip
    return certificate, to_total_evaluation(problem, policy, found)

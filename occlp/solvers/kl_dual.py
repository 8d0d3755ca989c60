"""Newton's method on the smooth dual of the joint-KL program.

Minimise g(V) = (1 − γ) μ0·V + τ log Σ d0 exp((r + γPV − V) / τ). Where chains mix fast, conjugate gradients solve
Newton's equations (`gibbs_dual`). Otherwise they are factorised, with one state pinned because the dual does not
change with V + c; the start comes from an interior-point method, which weak penalties do not stop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from occlp._typing import AnyArray, BoolArray, FloatArray
from occlp.bounds.upper import priced
from occlp.certificate import to_multipliers, to_prices
from occlp.evaluation import formulate
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.residuals import base_value, pair_residuals, two_sum
from occlp.result import Result
from occlp.solvers.barrier_method import near_optimum
from occlp.solvers.base import LINEAR_ONLY, Iterate, SolverFailure, Start
from occlp.solvers.decomposition import Decomposition
from occlp.solvers.gibbs_dual import descend
from occlp.solvers.normal_equations import FEW_PRODUCTS, MANY_PRODUCTS, NormalEquations, Solve
from occlp.standard import StandardForm
from occlp.terms import KL, JointTerm, OccupancyEntropy

#: Values beyond this are kept in two doubles.
LARGE_VALUES = 1e4
#: Newton decrement (squared, in strengths) at which the constraints that bind are looked at again.
SETTLED = 1e-12
#: Below this strength (rewards having size one) policies made of scores feel the rounding of the scores.
COARSE = 1e-6
#: An interior point that misses its equations by more than this was not found.
NOT_FOUND = 1e-6


@dataclass(frozen=True)
class KLDual:
    """Newton's method on the dual of a problem with a KL term, begun by an interior-point method.

    Parameters
    ----------
    max_steps : int
        Newton steps at most.

    Notes
    -----
    The dual of the Gibbs variational principle is smooth and convex; its Hessian is
    F (diag(p) − p pᵀ) Fᵀ / τ with p the Gibbs distribution, solved sparsely.
    """

    max_steps: int = 60

    @property
    def promises_tol(self) -> bool:
        """True: a missed tolerance is an error."""
        return True

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if not isinstance(problem.regularizer or problem.utility, KL | OccupancyEntropy):
            return (
                "it needs a KL term or the entropy of the occupancy; oc.solve without a solver chooses for the others"
            )
        return LINEAR_ONLY if problem.concave_limits else None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the start, and after each Newton step."""
        form = formulate(problem)
        newton = _Newton(problem, form, tol)
        if problem.limits:
            Decomposition().require_feasible(problem)  # raises a proof where no policy keeps the constraints
        elif start is None and newton.strength >= COARSE:
            for near in newton.by_products(enough=0.1 * tol * form.spread):
                yield _iterate(problem, form, near)
        for point in [newton.resumed(start)] if isinstance(start, Result) else newton.starts():
            yield _iterate(problem, form, step := point)
            for step in newton.descend(point, self.max_steps):
                yield _iterate(problem, form, step)
            if newton.settled:
                break
        if newton.occupancy is not None and newton.strength < COARSE:
            policy = Policy.from_occupancy(problem.mdp.pairs, newton.occupancy, reference_of(problem))
            yield replace(_iterate(problem, form, step), policy=policy)


def _iterate(problem: Problem, form: StandardForm, point: _Point) -> Iterate:
    assert isinstance(form.term, JointTerm)
    prices = form.limits.feasible_prices(point.prices)
    scores, _ = pair_residuals(form, point.values, point.low, priced(form, prices)[0])
    policy = soft_policy(form, form.term, scores, reference_of(problem))
    factor = form.sign * form.scale
    low = None if point.low is None else factor * point.low
    return Iterate(policy, factor * point.values, low, multipliers=to_multipliers(form, prices))


@dataclass(frozen=True, eq=False)
class _Point:
    """Where the dual is: values of the states and prices of the constraints."""

    values: FloatArray  # [S]
    prices: FloatArray  # [k]
    low: FloatArray | None = None  # [S], further digits of values that one double cannot hold

    def moved(self, states: AnyArray, values: FloatArray, active: BoolArray, prices: FloatArray) -> _Point:
        """The point after a step in the values of some states and in the active prices."""
        step, new_prices = np.zeros(len(self.values)), self.prices.copy()
        step[states] = values
        new_prices[active] += prices
        if self.low is None and np.abs(self.values).max() < LARGE_VALUES:
            return _Point(self.values + step, new_prices)
        high, low = two_sum(self.values, step + (0.0 if self.low is None else self.low))
        return _Point(high, new_prices, low)


class _Newton:
    """Newton steps on the pairs and states of the prior's support, with an active set of constraints.

    The unknowns are the values of all states but one, and the prices of the active constraints.
    """

    def __init__(self, problem: Problem, form: StandardForm, tol: float) -> None:
        assert isinstance(form.term, JointTerm)
        self.problem, self.tol = problem, tol
        self.form, self.term, self.strength = form, form.term, form.term.strength
        self.equations = NormalEquations(form)
        self.pairs, self.states = self.equations.pairs, self.equations.states
        self.active = np.array(form.limits.equal)
        self.changes = 0
        self.settled = False
        self.occupancy: FloatArray | None = None  # [pairs], that of the start

    def by_products(self, enough: float) -> Iterator[_Point]:
        """Points near the optimum without constraints, by products with the Hessian alone."""
        for most_products in (FEW_PRODUCTS, MANY_PRODUCTS):
            for near in descend(self.form, enough=enough, most_products=most_products):
                yield _Point(near.values, np.zeros(0))
            if self.equations.factors_fit:
                self.equations.mixes_fast = False
                return

    def starts(self) -> Iterator[_Point]:
        """Where to begin: near the optimum, or at zero, which is better for classes at the longest horizons."""
        yield self.near_optimum()
        self.active, self.changes = np.array(self.form.limits.equal), 0
        yield _Point(np.zeros(self.form.n_states), np.zeros(len(self.active)))

    def descend(self, point: _Point, max_steps: int) -> Iterator[_Point]:
        """The points after each step."""
        floor = 1e-30 * max(1.0, self.strength)
        for _ in range(max_steps):
            point, decrement = self.step(point)
            yield point
            self.settled = decrement <= SETTLED * self.strength and not self.change_active(point)
            if (self.settled and decrement <= floor) or math.isnan(decrement):
                return

    def near_optimum(self) -> _Point:
        """Near the optimum, by an interior-point method, with the constraints that it finds tight."""
        limits, found = self.form.limits, near_optimum(self.problem, self.form, self.tol, self.equations)
        if found.missing > NOT_FOUND:
            raise SolverFailure(
                "no occupancy within the reference's support was found that keeps the constraints; every policy "
                "that visits other pairs has an infinite penalty."
            )
        self.occupancy = found.occupancy
        self.active = limits.equal | (found.prices > -(limits.rows @ found.occupancy))
        return _Point(found.values, np.where(self.active, found.prices, 0.0))

    def resumed(self, start: Result) -> _Point:
        """At the values and prices that certify a result."""
        form = self.form
        prices = to_prices(form, start.certificate.multipliers)
        self.active = form.limits.equal | (prices > 0)
        return _Point(form.sign * start.certificate.values / form.scale, prices)

    def dual(self, point: _Point) -> tuple[float, FloatArray]:
        """Value of g and the Gibbs distribution p, [kept pairs]."""
        form, term = self.form, self.term
        scores, _ = pair_residuals(form, point.values, point.low, priced(form, point.prices)[0])
        value = base_value(form.initial, form.rest, point.values, point.low)[0] + term.bound(scores)
        return value, term.maximizer(scores)[self.pairs]

    def change_active(self, point: _Point) -> bool:
        """Drop constraints with a negative price and take up broken ones; whether anything changed."""
        limits = self.form.limits
        if not len(limits.names) or self.changes > 20 * len(limits.names):
            return False
        _, gibbs = self.dual(point)
        broken = limits.rows[:, self.pairs] @ gibbs > 1e-12
        active = limits.equal | (self.active & (point.prices > 0)) | (~self.active & broken)
        changed = bool((active != self.active).any())
        point.prices[~active] = 0.0
        self.active, self.changes = active, self.changes + changed
        return changed

    def step(self, point: _Point) -> tuple[_Point, float]:
        """One damped Newton step; returns the new point and the squared decrement, NaN where no step was found."""
        strength, n = self.strength, len(self.states)
        value, gibbs = self.dual(point)
        limits = self.form.limits.rows[self.active][:, self.pairs]
        mass = np.append(self.equations.flow @ gibbs, limits @ gibbs)
        gradient = np.append(self.equations.source, np.zeros(len(limits))) - mass
        if not len(gradient):
            return point, 0.0
        try:
            solve = self.equations.solver(gibbs, limits, np.zeros((len(limits), len(limits))))
            direction = _direction(solve, mass, gradient, strength)
        except RuntimeError:  # exactly singular: constraints that depend on each other
            return point, math.nan
        decrement = float(-(gradient @ direction))
        if decrement <= 0:
            return point, 0.0
        length = 1.0
        while length > 1e-10:
            trial = point.moved(self.states, length * direction[:n], self.active, length * direction[n:])
            new, _ = self.dual(trial)
            # Near the optimum the decrease drowns in rounding: the full step is then the right one.
            if new <= value - 1e-4 * length * decrement or decrement <= 1e-14 * (abs(value) + strength):
                return trial, decrement
            length *= 0.5
        return point, math.nan


def _direction(solve: Solve, mass: FloatArray, gradient: FloatArray, strength: float) -> FloatArray:
    """Solve R (diag(p) − ppᵀ) Rᵀ δ = −τ ∇g, given the solver of the first part (Sherman and Morrison)."""
    plain, rank_one = solve(-strength * gradient), solve(mass)
    denominator = 1.0 - float(mass @ rank_one)
    if denominator <= 1e-12:
        return plain
    return np.asarray(plain + rank_one * (float(mass @ plain) / denominator))


def reference_of(problem: Problem) -> Policy:
    """Where a joint term has no mass, its reference policy is followed."""
    if isinstance(problem.regularizer, KL):
        return problem.regularizer.reference
    return Policy.uniform(problem.mdp)


def soft_policy(form: StandardForm, term: JointTerm, scores: FloatArray, reference: Policy) -> Policy:
    """π(a | s) of the Gibbs occupancy d0 exp(score / τ); the reference where it has no mass."""
    keep, first = term.support, form.start[:-1]
    top = np.maximum.reduceat(np.where(keep, scores, -np.inf), first)[form.states]
    weights = np.zeros(form.n_pairs)
    weights[keep] = term.prior[keep] * np.exp((scores[keep] - top[keep]) / term.strength)
    sums = np.add.reduceat(weights, first)[form.states]
    shares = np.where(sums > 0, weights / np.where(sums > 0, sums, 1.0), 0.0)
    return Policy.from_occupancy(reference.pairs, shares, reference)

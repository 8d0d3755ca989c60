"""Newton's method on the smooth dual of the joint-KL program.

Minimise g(V) = (1 − γ) μ0·V + τ log Σ d0 exp((r + γPV − V) / τ). The dual does not change with V + c,
so one state is pinned; small τ is approached through larger ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from occlp._typing import AnyArray, BoolArray, FloatArray
from occlp.certificate import priced, to_multipliers, to_prices
from occlp.chain import base_value, two_sum
from occlp.evaluation import formulate, pair_residuals
from occlp.problem import Problem
from occlp.result import Result
from occlp.solvers.base import Iterate, Start
from occlp.solvers.occupancy_program import reference_of, soft_policy
from occlp.standard import StandardForm, flow_matrix
from occlp.terms import KL, JointTerm, OccupancyEntropy

#: Values beyond this are kept in two doubles.
LARGE_VALUES = 1e4


@dataclass(frozen=True)
class KLDual:
    """Newton's method on the dual of a problem with a KL term, with continuation in the strength.

    Parameters
    ----------
    max_steps : int
        Newton steps at each strength.

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
        return None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield after each Newton step at the final strength."""
        form = formulate(problem)
        assert isinstance(form.term, JointTerm)
        newton = _Newton(form)
        point = _Point(np.zeros(form.n_states), np.zeros(len(form.limits.names)))
        strengths = _continuation(form.term.strength, form.reward_range)
        if isinstance(start, Result):  # a result brings its certifying values
            prices = to_prices(form, start.certificate.multipliers)
            point = _Point(form.sign * start.certificate.values / form.scale, prices)
            strengths = [form.term.strength]
        for strength in strengths:
            final = strength == form.term.strength
            for _ in range(self.max_steps):
                point, decrement = newton.step(point, strength)
                if final:
                    yield _iterate(problem, form, point)
                if decrement <= (1e-30 if final else 1e-3 * strength) and not newton.change_active(point, strength):
                    break


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


def _continuation(strength: float, reward_range: float) -> list[float]:
    """Strengths from the size of the rewards down to the one asked for, each a quarter of the last."""
    strengths = [strength]
    while strengths[-1] < 0.5 * reward_range:
        strengths.append(4.0 * strengths[-1])
    return strengths[::-1]


class _Newton:
    """Newton steps on the pairs and states of the prior's support, with an active set of constraints.

    The unknowns are the values of all states but one, and the prices of the active constraints.
    """

    def __init__(self, form: StandardForm) -> None:
        assert isinstance(form.term, JointTerm)
        self.form, self.term = form, form.term
        self.pairs: AnyArray = np.flatnonzero(form.term.support)
        states = np.unique(form.states[self.pairs])
        pinned = int(np.argmax(form.initial[states]))
        self.states: AnyArray = np.delete(states, pinned)
        self.flow: Any = sparse.csr_array(flow_matrix(form)[self.states][:, self.pairs])
        self.active = np.array(form.limits.equal)
        self.changes = 0

    def dual(self, point: _Point, strength: float) -> tuple[float, FloatArray]:
        """Value of g and the Gibbs distribution p, [kept pairs]."""
        form, term = self.form, self.term.with_strength(strength)
        scores, _ = pair_residuals(form, point.values, point.low, priced(form, point.prices)[0])
        value = base_value(form.initial, form.rest, point.values, point.low)[0] + term.bound(scores)
        return value, term.maximizer(scores)[self.pairs]

    def change_active(self, point: _Point, strength: float) -> bool:
        """Drop constraints with a negative price and take up broken ones; whether anything changed."""
        limits = self.form.limits
        if not len(limits.names) or self.changes > 20 * len(limits.names):
            return False
        _, gibbs = self.dual(point, strength)
        broken = limits.rows[:, self.pairs] @ gibbs > 1e-12
        active = limits.equal | (self.active & (point.prices > 0)) | (~self.active & broken)
        changed = bool((active != self.active).any())
        point.prices[~active] = 0.0
        self.active, self.changes = active, self.changes + changed
        return changed

    def step(self, point: _Point, strength: float) -> tuple[_Point, float]:
        """One damped Newton step; returns the new point and the Newton decrement squared (scaled)."""
        form, n = self.form, len(self.states)
        value, gibbs = self.dual(point, strength)
        limits = sparse.csr_array(form.limits.rows[self.active][:, self.pairs])
        rows = sparse.csr_array(sparse.vstack([self.flow, limits]))
        source = np.append(form.rest * form.initial[self.states], np.zeros(int(self.active.sum())))
        mass = rows @ gibbs
        gradient = source - mass
        if not len(gradient):
            return point, 0.0
        direction = _direction(rows, gibbs, mass, gradient, strength)
        decrement = float(-(gradient @ direction))
        if not decrement > 0:
            return point, 0.0
        length = 1.0
        while length > 1e-10:
            trial = point.moved(self.states, length * direction[:n], self.active, length * direction[n:])
            new, _ = self.dual(trial, strength)
            # Near the optimum the decrease drowns in rounding: the full step is then the right one.
            if new <= value - 1e-4 * length * decrement or decrement <= 1e-14 * (abs(value) + strength):
                return trial, decrement
            length *= 0.5
        return point, 0.0


def _direction(rows: Any, gibbs: FloatArray, mass: FloatArray, gradient: FloatArray, strength: float) -> FloatArray:
    """Solve R (diag(p) − ppᵀ) Rᵀ δ = −τ ∇g (Sherman-Morrison on the sparse part)."""
    hessian = sparse.csc_array((rows * gibbs) @ rows.T)
    ridge = 1e-14 * hessian.diagonal().max() + 1e-300
    factors: Any = splu(
        hessian + ridge * sparse.eye_array(len(gradient), format="csc"),
        permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True},
    )  # fmt: skip
    right = factors.solve(np.column_stack([-strength * gradient, mass]))
    plain, rank_one = right[:, 0], right[:, 1]
    denominator = 1.0 - float(mass @ rank_one)
    if denominator <= 1e-12:
        return np.asarray(plain)
    return np.asarray(plain + rank_one * (float(mass @ plain) / denominator))

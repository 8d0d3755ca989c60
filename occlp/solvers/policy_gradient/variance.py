"""Variance of a sampled gradient by recursion over the steps, however many trajectories there are.

A trajectory's estimate is X = Σ c_t Ψ_t z_t with scores z. Seen from a state it is Ψ z + w X' for the X' that is seen
from the next state, so that the moments of (Ψ, X) in a state follow from those in the next ones. Letters: w weight of a
step against the one before in c_t, g the same in returns, l the trace λ.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.policy_gradient.estimators import MonteCarlo, TrajectoryEstimator
from occlp.solvers.policy_gradient.estimators.base import ends_of

#: A recursion without an end stops when what is left weighs less than this part, ...
NOTHING = 1e-16
#: ... and is given up after this many steps, ...
MOST_STEPS = 100_000
#: ... or this many products of numbers.
MOST_WORK = 1e10


def variance_by_recursion(
    problem: Problem, policy: Policy, estimator: TrajectoryEstimator, values: FloatArray, scores: FloatArray
) -> float:
    """E‖estimate − mean‖² for scores [pairs, k]; NaN where the estimator is not one of ours, or it takes too long."""
    own = type(estimator).signals
    if own not in (TrajectoryEstimator.signals, MonteCarlo.signals):
        return float("nan")
    total = isinstance(estimator, MonteCarlo) and estimator.returns == "total"
    chain = _Chain(problem, policy, estimator, values, scores)
    return (_Total(chain) if total else _ToGo(chain)).variance() / estimator.trajectories


class _Chain:
    """The chain of a policy with the signals of its steps, and what all recursions do alike."""

    def __init__(
        self, problem: Problem, policy: Policy, estimator: TrajectoryEstimator, values: FloatArray, scores: FloatArray
    ) -> None:
        mdp, clock = problem.mdp, estimator.horizon == "geometric"
        self.states, self.start, self.matrix = mdp.pairs.states, mdp.pairs.start, mdp.transitions
        self.pi, self.rewards, self.scores, self.values = policy.pair_probabilities, mdp.pair_rewards, scores, values
        self.alive = ~ends_of(problem)
        self.first = np.where(self.alive, mdp.initial, 0.0)
        self.going_on = problem.discount if clock else 1.0  # a clock stops trajectories; discounts weigh them
        self.g = 1.0 if clock else problem.discount
        self.w, self.l = estimator.weight(problem), estimator.trace
        self.horizon, self.bootstrap = estimator.steps(problem), estimator.bootstrap

    def ahead(self, of_state: FloatArray) -> FloatArray:
        """Expectation of something of the next state, zero where there is none, [pairs] or [pairs, k]."""
        alive = self.alive if of_state.ndim == 1 else self.alive[:, None]
        return np.asarray(self.going_on * (self.matrix @ np.where(alive, of_state, 0.0)))

    def mean(self, of_pair: FloatArray) -> FloatArray:
        """Mean over the actions, [S] or [S, k]."""
        weights = self.pi if of_pair.ndim == 1 else self.pi[:, None]
        return np.asarray(np.add.reduceat(weights * of_pair, self.start[:-1]))

    def run(self, step: Any, moments: tuple[FloatArray, ...]) -> tuple[FloatArray, ...] | None:
        """Moments after the whole horizon; None where they do not settle."""
        work = 4.0 * self.matrix.nnz * self.scores.shape[1]
        if isinstance(self.horizon, int):
            if work * self.horizon > MOST_WORK:
                return None
            for steps in range(self.horizon):
                moments = tuple(map(self.mean, step(moments, is_last=steps == 0)))
            return moments
        mass = self.first
        for _ in range(int(min(MOST_STEPS, MOST_WORK / work))):
            before, moments = moments, tuple(map(self.mean, step(moments, is_last=False)))
            mass = np.where(self.alive, self.going_on * ((mass[self.states] * self.pi) @ self.matrix), 0.0)
            if mass.sum() < NOTHING and all(map(_settled, before, moments)):
                return moments
        return None


def _settled(before: FloatArray, after: FloatArray) -> bool:
    return bool(np.abs(after - before).max() <= NOTHING * np.abs(after).max())


class _ToGo:
    """Moments of (Ψ, X) for returns to go and generalised advantages: Ψ = δ + g l Ψ', X = Ψ z + w X'."""

    def __init__(self, chain: _Chain) -> None:
        self.chain = chain

    def step(self, moments: tuple[FloatArray, ...], *, is_last: bool) -> tuple[FloatArray, ...]:
        """E Ψ, E Ψ², E X, E ΨX and E‖X‖² of each pair from those of the states ahead."""
        c, z = self.chain, self.chain.scores
        psi, square, x, product, length = moments
        v = c.g * (c.values if c.bootstrap or not is_last else np.zeros_like(c.values))
        base, gl = c.rewards - c.values[c.states], c.g * c.l
        coming = c.ahead(v + gl * psi)
        second = base**2 + 2.0 * base * coming + c.ahead(v**2 + 2.0 * v * gl * psi + gl**2 * square)
        after = c.ahead(x)
        cross = base[:, None] * after + c.ahead(v[:, None] * x + gl * product)  # E ΨX'
        return (
            base + coming, second, (base + coming)[:, None] * z + c.w * after, second[:, None] * z + c.w * cross,
            second * (z**2).sum(axis=1) + 2.0 * c.w * (z * cross).sum(axis=1) + c.w**2 * c.ahead(length),
        )  # fmt: skip

    def variance(self) -> float:
        """Of one trajectory."""
        flat, wide = np.zeros(len(self.chain.first)), np.zeros((len(self.chain.first), self.chain.scores.shape[1]))
        found = self.chain.run(self.step, (flat, flat, wide, wide, flat))
        if found is None:
            return float("nan")
        mean = self.chain.first @ found[2]
        return float(self.chain.first @ found[4] - mean @ mean)


class _Total:
    """Moments of the return R and the sum of scores Z, for X = (R − b) Z with the baseline b of the first state."""

    def __init__(self, chain: _Chain) -> None:
        self.chain = chain

    def step(self, moments: tuple[FloatArray, ...], *, is_last: bool) -> tuple[FloatArray, ...]:
        """E of R, R², Z, RZ, R²Z, ‖Z‖², R‖Z‖² and R²‖Z‖² of each pair from those of the states ahead."""
        c, z, r, g = self.chain, self.chain.scores, self.chain.rewards, self.chain.g
        one, two, *wide, zz, rzz, rrzz = map(c.ahead, moments)
        z1, rz, rrz = wide
        wider, size = r[:, None], (z**2).sum(axis=1)
        first, second = r + g * one, r**2 + 2.0 * r * g * one + g**2 * two
        by_one = wider * z1 + g * rz  # E RZ'
        by_two = wider**2 * z1 + 2.0 * wider * g * rz + g**2 * rrz  # E R²Z'
        return (
            first, second, z + z1, first[:, None] * z + by_one, second[:, None] * z + by_two,
            size + 2.0 * (z * z1).sum(axis=1) + zz,
            size * first + 2.0 * (z * by_one).sum(axis=1) + r * zz + g * rzz,
            size * second + 2.0 * (z * by_two).sum(axis=1) + r**2 * zz + 2.0 * r * g * rzz + g**2 * rrzz,
        )  # fmt: skip

    def variance(self) -> float:
        """Of one trajectory."""
        c = self.chain
        flat, wide = np.zeros(len(c.first)), np.zeros((len(c.first), c.scores.shape[1]))
        found = c.run(self.step, (flat, flat, wide, wide, wide, flat, flat, flat))
        if found is None:
            return float("nan")
        _, _, z1, rz, _, zz, rzz, rrzz = found
        b = c.values
        mean = c.first @ (rz - b[:, None] * z1)
        return float(c.first @ (rrzz - 2.0 * b * rzz + b**2 * zz) - mean @ mean)

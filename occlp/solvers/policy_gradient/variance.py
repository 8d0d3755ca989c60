"""Variance of a sampled gradient by recursion over the steps, however many trajectories there are.

A trajectory's estimate is X = Σ c_t Ψ_t z_t with scores z. Seen from a state it is Ψ z + w X' for the X' that is seen
from the next state, so that the moments of (Ψ, X) in a state follow from those in the next ones. Letters as in
`occlp.solvers.policy_gradient.walk`; q what each step is counted less, where estimates are ratios.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.solvers.policy_gradient.estimators import MonteCarlo, TrajectoryEstimator
from occlp.solvers.policy_gradient.walk import Walk, expected_slopes

#: A recursion without an end stops when what is left weighs less than this part, ...
NOTHING = 1e-16
#: ... and is given up after this many steps, ...
MOST_STEPS = 100_000
#: ... or this many products of numbers.
MOST_WORK = 1e10


def variance_by_recursion(walk: Walk, estimator: TrajectoryEstimator, scores: FloatArray) -> float:
    """E‖sum − mean‖² for scores [pairs, k]; NaN where the estimator is not one of ours, or it takes too long.

    For cycles the sum is Σ (Ψ_t z_t − q), q the ratio of the means of Σ Ψ_t z_t and of the lengths: the delta method.
    """
    own = type(estimator).signals
    if own not in (TrajectoryEstimator.signals, MonteCarlo.signals):
        return float("nan")
    total = isinstance(estimator, MonteCarlo) and estimator.returns == "total"
    return (_Total(walk, scores) if total else _ToGo(walk, scores)).variance() / estimator.trajectories


def _run(walk: Walk, step: Any, moments: tuple[FloatArray, ...], width: int) -> tuple[FloatArray, ...] | None:
    """Moments after the whole horizon; None where they do not settle."""
    work = 4.0 * walk.matrix.nnz * width
    if isinstance(walk.horizon, int):
        if work * walk.horizon > MOST_WORK:
            return None
        for steps in range(walk.horizon):
            moments = tuple(map(walk.mean, step(moments, is_last=steps == 0)))
        return moments
    mass = walk.first
    for _ in range(int(min(MOST_STEPS, MOST_WORK / work))):
        before, moments = moments, tuple(map(walk.mean, step(moments, is_last=False)))
        mass = walk.forward(mass)
        if mass.sum() < NOTHING and all(map(_settled, before, moments)):
            return moments
    return None


def _settled(before: FloatArray, after: FloatArray) -> bool:
    return bool(np.abs(after - before).max() <= NOTHING * np.abs(after).max())


class _ToGo:
    """Moments of (Ψ, X) for returns to go and generalised advantages: Ψ = δ + g l Ψ', X = Ψ z + w X'."""

    def __init__(self, walk: Walk, scores: FloatArray) -> None:
        self.walk, self.scores, self.less = walk, scores, np.zeros(scores.shape[1])
        if walk.is_average and not isinstance(walk.horizon, int):
            slopes, _ = expected_slopes(walk)
            self.less = (walk.pi * slopes) @ scores

    def step(self, moments: tuple[FloatArray, ...], *, is_last: bool) -> tuple[FloatArray, ...]:
        """E Ψ, E Ψ², E X, E ΨX and E‖X‖² of each pair from those of the states ahead."""
        c, z, q = self.walk, self.scores, self.less
        psi, square, x, product, length = moments
        v = c.g * (c.values if c.bootstrap or not is_last else np.zeros_like(c.values))
        base, gl = c.rewards - c.values[c.states], c.g * c.l
        coming = c.ahead(v + gl * psi)
        second = base**2 + 2.0 * base * coming + c.ahead(v**2 + 2.0 * v * gl * psi + gl**2 * square)
        after = c.ahead(x)
        cross = base[:, None] * after + c.ahead(v[:, None] * x + gl * product)  # E ΨX'
        first = base + coming
        return (
            first, second, first[:, None] * z - q + c.w * after, second[:, None] * z - first[:, None] * q + c.w * cross,
            second * (z**2).sum(axis=1) - 2.0 * first * (z @ q) + q @ q
            + 2.0 * c.w * ((z * cross).sum(axis=1) - after @ q) + c.w**2 * c.ahead(length),
        )  # fmt: skip

    def variance(self) -> float:
        """Of one trajectory."""
        walk, width = self.walk, self.scores.shape[1]
        flat, wide = np.zeros(len(walk.first)), np.zeros((len(walk.first), width))
        found = _run(walk, self.step, (flat, flat, wide, wide, flat), width)
        if found is None:
            return float("nan")
        mean = walk.first @ found[2]
        return float(walk.first @ found[4] - mean @ mean)


class _Total:
    """Moments of the return R and the sum of scores Z, for X = (R − b) Z with the baseline b of the first state."""

    def __init__(self, walk: Walk, scores: FloatArray) -> None:
        self.walk, self.scores = walk, scores

    def step(self, moments: tuple[FloatArray, ...], *, is_last: bool) -> tuple[FloatArray, ...]:
        """E of R, R², Z, RZ, R²Z, ‖Z‖², R‖Z‖² and R²‖Z‖² of each pair from those of the states ahead."""
        c, z, r, g = self.walk, self.scores, self.walk.rewards, self.walk.g
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
        c, width = self.walk, self.scores.shape[1]
        flat, wide = np.zeros(len(c.first)), np.zeros((len(c.first), width))
        found = _run(c, self.step, (flat, flat, wide, wide, wide, flat, flat, flat), width)
        if found is None:
            return float("nan")
        _, _, z1, rz, _, zz, rzz, rrzz = found
        b = c.values
        mean = c.first @ (rz - b[:, None] * z1)
        return float(c.first @ (rrzz - 2.0 * b * rzz + b**2 * zz) - mean @ mean)

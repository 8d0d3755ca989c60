"""Signals of sampled trajectories: what each step contributes to a gradient.

Letters: n trajectory, t step, k pair, s state, r reward, v value, delta temporal difference.
"""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.kernels._jit import kernel


@kernel
def to_go(
    paths: IntArray,
    lengths: IntArray,
    ends: FloatArray,
    states: IntArray,
    rewards: FloatArray,
    values: FloatArray,
    discount: float,
    trace: float,
    weight: float,
) -> FloatArray:
    """Σ_l (γλ)^l δ_{t+l}, times weight^t, [N, T]; zero after the end.

    δ = r + γ v(s') − v(s), and v(s') of the last step is `ends` [N]. With λ = 1 this is the return to go less v(s).
    """
    out = np.zeros(paths.shape)
    for n in range(paths.shape[0]):
        carry, ahead = 0.0, ends[n]
        for t in range(lengths[n] - 1, -1, -1):
            k = paths[n, t]
            here = values[states[k]]
            carry = rewards[k] + discount * ahead - here + discount * trace * carry
            ahead = here
            out[n, t] = carry
        factor = 1.0
        for t in range(lengths[n]):
            out[n, t] *= factor
            factor *= weight
    return out


@kernel
def total(paths: IntArray, lengths: IntArray, rewards: FloatArray, bases: FloatArray, discount: float) -> FloatArray:
    """Return of the whole trajectory less `bases` [N], at each of its steps, [N, T]; zero after the end."""
    out = np.zeros(paths.shape)
    for n in range(paths.shape[0]):
        earned, factor = 0.0, 1.0
        for t in range(lengths[n]):
            earned += factor * rewards[paths[n, t]]
            factor *= discount
        for t in range(lengths[n]):
            out[n, t] = earned - bases[n]
    return out


@kernel
def sums(
    paths: IntArray, lengths: IntArray, signals: FloatArray, weight: float, n_pairs: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of each pair over its visits: signals, positive signals, and weight^t, [pairs] each."""
    added, positive, mass = np.zeros(n_pairs), np.zeros(n_pairs), np.zeros(n_pairs)
    for n in range(paths.shape[0]):
        factor = 1.0
        for t in range(lengths[n]):
            k = paths[n, t]
            added[k] += signals[n, t]
            positive[k] += max(signals[n, t], 0.0)
            mass[k] += factor
            factor *= weight
    return added, positive, mass

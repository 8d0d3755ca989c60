"""Backward induction over many steps in one pass; see the package docstring for the letters.

Values are kept as h + o with h[0] = 0: what all states have in common goes into the offset o, in two
doubles, so that rounding is relative to the differences between states and not to the sums over time.
"""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.kernels._jit import kernel

EPS = 2.0**-52
#: What underflow may lose in a step, and much more; values are of size one.
TINY = 1e-300


@kernel
def shift(offset: FloatArray, discount: float, pin: float) -> None:
    """offset[0] + offset[1] = discount · (offset[0] + offset[1]) + pin, in two doubles (Dekker 1971)."""
    high, low = offset[0], offset[1]
    if discount != 1.0:
        c = 134217729.0 * discount
        d_high = c - (c - discount)
        d_low = discount - d_high
        c = 134217729.0 * high
        o_high = c - (c - high)
        o_low = high - o_high
        product = discount * high
        low = discount * low + (((d_high * o_high - product) + d_high * o_low + d_low * o_high) + d_low * o_low)
        high = product
    total = high + pin
    t = total - high
    low += (high - (total - t)) + (pin - t)
    offset[0] = total + low
    offset[1] = (total - offset[0]) + low


@kernel
def induce(
    steps: int,
    start: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rewards: FloatArray,
    discount: float,
    growth: float,
    values: FloatArray,
    following: FloatArray,
    offset: FloatArray,
    kept_values: FloatArray,
    kept_choices: IntArray,
) -> None:
    """Go `steps` steps back in time, in place.

    values [S] holds h; offset [3] holds o in two doubles, and a bound on the error of every h + o, which a
    step multiplies by `growth` at most. Row `steps − 1 − i` of kept_values [steps or 0, S] and kept_choices
    receives the values and the first best pair of each state after i + 1 steps. following [S] is scratch.
    """
    n_states = len(values)
    for i in range(steps):
        worst = 0.0
        for s in range(n_states):
            following[s] = values[s]
        for s in range(n_states):
            here = following[s]
            top = -np.inf
            arg = start[s]
            for k in range(start[s], start[s + 1]):
                total = 0.0
                size = 0.0
                for e in range(indptr[k], indptr[k + 1]):
                    step = data[e] * (following[indices[e]] - here)
                    total += step
                    size += abs(step)
                gain = rewards[k] + discount * (here + total)
                terms = indptr[k + 1] - indptr[k] + 8
                worst = max(worst, terms * EPS * (abs(rewards[k]) + discount * (abs(here) + size)))
                if gain > top:
                    top = gain
                    arg = k
            values[s] = top
            if len(kept_choices):
                kept_choices[steps - 1 - i, s] = arg
        pin = values[0]
        for s in range(n_states):
            values[s] -= pin
            worst = max(worst, EPS * abs(values[s]))
        if worst > 0.0 or offset[0] != 0.0 or offset[2] > 0.0:
            worst += TINY
        shift(offset, discount, pin)
        worst += 16.0 * EPS * EPS * (abs(offset[0]) + abs(pin))
        offset[2] = (growth * offset[2] + worst) * (1.0 + 4.0 * EPS)
        if len(kept_values):
            for s in range(n_states):
                kept_values[steps - 1 - i, s] = values[s] + offset[0]

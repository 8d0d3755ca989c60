"""Bellman residuals and improvements over blocks of rows; see the package docstring for the letters."""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.kernels._jit import kernel

EPS = 2.0**-52


@kernel
def residuals(
    first: int,
    last: int,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    states: IntArray,
    rewards: FloatArray,
    discount: float,
    rest: float,
    values: FloatArray,
    out: FloatArray,
    error: FloatArray,
) -> None:
    """out[k] = r + γPV − V for pairs first..last−1; error[k] bounds its rounding."""
    for k in range(first, last):
        here = values[states[k]]
        total = 0.0
        size = 0.0
        for e in range(indptr[k], indptr[k + 1]):
            step = data[e] * (values[indices[e]] - here)
            total += step
            size += abs(step)
        out[k] = rewards[k] - rest * here + discount * total
        terms = indptr[k + 1] - indptr[k] + 8
        error[k] = terms * EPS * (abs(rewards[k]) + abs(rest * here) + discount * size)


@kernel
def residuals_extended(
    first: int,
    last: int,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    states: IntArray,
    rewards: FloatArray,
    discount: float,
    rest: float,
    high: FloatArray,
    low: FloatArray,
    out: FloatArray,
    error: FloatArray,
) -> None:
    """The same for values high + low, in double-double arithmetic (Dekker 1971; Knuth's two-sum).

    For values so large that one double cannot hold the digits that matter: 1 − γ = 1e-9 with
    several recurrent classes.
    """
    splitter = 134217729.0
    for k in range(first, last):
        i = states[k]
        total = 0.0
        tail = 0.0
        size = 0.0
        count = indptr[k + 1] - indptr[k]
        for e in range(indptr[k], indptr[k + 1] + 1):
            if e < indptr[k + 1]:  # weight · (V' − V)
                j = indices[e]
                weight = discount * data[e]
                a, b = high[j], -high[i]
                difference = low[j] - low[i]
            else:  # −(1 − γ) · V
                weight = -rest
                a, b = high[i], 0.0
                difference = low[i]
            s = a + b
            t = s - a
            difference += (a - (s - t)) + (b - t)
            product = weight * s
            c = splitter * weight
            w_high = c - (c - weight)
            w_low = weight - w_high
            c = splitter * s
            s_high = c - (c - s)
            s_low = s - s_high
            rounding = ((w_high * s_high - product) + w_high * s_low + w_low * s_high) + w_low * s_low
            rounding += weight * difference
            size += abs(rounding) + EPS * abs(product)
            s = total + product
            t = s - total
            tail += ((total - (s - t)) + (product - t)) + rounding
            total = s
        s = total + rewards[k]
        t = s - total
        tail += (total - (s - t)) + (rewards[k] - t)
        out[k] = s + tail
        # size is about EPS · Σ |terms|: second-order rounding, plus the first-order rounding of the result.
        error[k] = (count + 8) * EPS * (abs(rewards[k]) + abs(out[k]) + size)


@kernel
def improvements(
    first: int,
    last: int,
    start: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rewards: FloatArray,
    discount: float,
    rest: float,
    values: FloatArray,
    best: FloatArray,
    choice: IntArray,
) -> None:
    """best[s] = max over the pairs k of state s of r + γPV − V; choice[s] the first pair attaining it."""
    for s in range(first, last):
        here = values[s]
        top = -np.inf
        arg = start[s]
        for k in range(start[s], start[s + 1]):
            total = 0.0
            for e in range(indptr[k], indptr[k + 1]):
                total += data[e] * (values[indices[e]] - here)
            gain = rewards[k] + discount * total
            if gain > top:
                top = gain
                arg = k
        best[s] = top - rest * here
        choice[s] = arg


@kernel
def policy_sweep(
    first: int,
    last: int,
    chosen: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rewards: FloatArray,
    discount: float,
    rest: float,
    values: FloatArray,
    out: FloatArray,
) -> None:
    """out[s] = r + γPV − V of the chosen pair of each state s in first..last−1."""
    for s in range(first, last):
        k = chosen[s]
        here = values[s]
        total = 0.0
        for e in range(indptr[k], indptr[k + 1]):
            total += data[e] * (values[indices[e]] - here)
        out[s] = rewards[k] - rest * here + discount * total

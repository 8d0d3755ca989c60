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
def two_product(a: float, b: float) -> tuple[float, float]:
    """Product and its rounding, a · b exactly (Dekker 1971), unless it overflows."""
    product = a * b
    c = 134217729.0 * a
    a_high = c - (c - a)
    a_low = a - a_high
    c = 134217729.0 * b
    b_high = c - (c - b)
    b_low = b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


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
    for k in range(first, last):
        i = states[k]
        total = 0.0
        tail = 0.0
        size = 0.0
        count = indptr[k + 1] - indptr[k]
        for e in range(indptr[k], indptr[k + 1] + 1):
            if e < indptr[k + 1]:  # weight · (V' − V)
                j = indices[e]
                weight, missed = two_product(discount, data[e])
                a, b = high[j], -high[i]
                difference = low[j] - low[i]
            else:  # −(1 − γ) · V
                weight, missed = -rest, 0.0
                a, b = high[i], 0.0
                difference = low[i]
            s = a + b
            t = s - a
            difference += (a - (s - t)) + (b - t)
            product, rounding = two_product(weight, s)
            rounding += weight * difference + missed * s
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
def judge(
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
    out: FloatArray,
    best: IntArray,
    ceiling: FloatArray,
    slack: FloatArray,
    doubt: FloatArray,
) -> None:
    """out[k] = r + γPV − V for the pairs of states first..last−1, and of each state s what follows.

    best[s] is the first pair with the largest of them, ceiling[s] the largest with a bound on its rounding added,
    slack[s] that bound, doubt[s] the largest bound on a rounding.
    """
    for s in range(first, last):
        here = values[s]
        arg, top, most, own, worst = start[s], -np.inf, -np.inf, 0.0, 0.0
        e = indptr[start[s]]
        for k in range(start[s], start[s + 1]):
            total = 0.0
            size = 0.0
            end = indptr[k + 1]
            terms = end - e + 8
            while e < end:
                step = data[e] * (values[np.uint32(indices[e])] - here)
                total += step
                size += abs(step)
                e += 1
            rho = rewards[k] - rest * here + discount * total
            error = terms * EPS * (abs(rewards[k]) + abs(rest * here) + discount * size)
            out[k] = rho
            high = rho + error
            high = high if high < np.inf else np.inf  # what is not a number proves nothing
            # Written so that nothing branches: which pair is best cannot be foretold.
            arg = k if rho > top else arg
            top = rho if rho > top else top
            own = error if high > most else own
            most = high if high > most else most
            worst = error if error > worst else worst
        best[s], ceiling[s], slack[s], doubt[s] = arg, most, own, worst


@kernel
def summarize(
    start: IntArray,
    scores: FloatArray,
    error: FloatArray,
    best: IntArray,
    ceiling: FloatArray,
    slack: FloatArray,
    doubt: FloatArray,
) -> None:
    """The same of each state, from the scores and roundings of its pairs."""
    for s in range(len(best)):
        arg, most, own, worst = start[s], -np.inf, 0.0, 0.0
        for k in range(start[s], start[s + 1]):
            if scores[k] > scores[arg]:
                arg = k
            high = scores[k] + error[k]
            high = high if high < np.inf else np.inf
            if high > most:
                most, own = high, error[k]
            if error[k] > worst:
                worst = error[k]
        best[s], ceiling[s], slack[s], doubt[s] = arg, most, own, worst


@kernel
def best_pair(
    s: int,
    start: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rewards: FloatArray,
    discount: float,
    values: FloatArray,
) -> tuple[int, float]:
    """The first pair of state s with the largest r + γ Σ p (V' − V), and how large that is."""
    here = values[s]
    arg, top = start[s], -np.inf
    e = indptr[start[s]]
    for k in range(start[s], start[s + 1]):
        total = 0.0
        end = indptr[k + 1]
        while e < end:
            total += data[e] * (values[np.uint32(indices[e])] - here)
            e += 1
        gain = rewards[k] + discount * total
        # Written so that nothing branches: which pair is best cannot be foretold.
        arg = k if gain > top else arg
        top = gain if gain > top else top
    return arg, top


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
        arg, top = best_pair(s, start, indptr, indices, data, rewards, discount, values)
        best[s] = top - rest * values[s]
        choice[s] = arg


@kernel
def sojourns(
    start: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    discount: float,
    rest: float,
) -> FloatArray:
    """1 / (1 − γ P(stay)) of each pair, [pairs]: the steps that its state lasts; 0 where it is never left.

    The rates are summed from what leaves the state.
    """
    steps = np.empty(len(indptr) - 1)
    for s in range(len(start) - 1):
        for k in range(start[s], start[s + 1]):
            leaving = 0.0
            for e in range(indptr[k], indptr[k + 1]):
                leaving += data[e] if indices[e] != s else 0.0
            rate = rest + discount * leaving
            steps[k] = 1.0 / rate if rate > 0.0 else 0.0
    return steps


@kernel
def improve_in_place(
    order: IntArray,
    start: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rewards: FloatArray,
    discount: float,
    rest: float,
    steps: FloatArray,
    values: FloatArray,
    choice: IntArray,
) -> int:
    """One Bellman backup in place, states [S] in this order: each takes its best action and solves its equation alone.

    steps[k] is 1 / (1 − γ P(stay)), 0 where a state is to be left as it is. A reward of −∞ rules a pair out.
    Returns how many states take another action than their `choice`, [S], which is brought up to date.
    """
    changes = 0
    for s in order:
        arg, top = best_pair(s, start, indptr, indices, data, rewards, discount, values)
        if top > -np.inf:
            values[s] += (top - rest * values[s]) * steps[arg]
        changes += arg != choice[s]
        choice[s] = arg
    return changes


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

"""Policy iteration by sweeps: the rows of a policy side by side, sweeps over them, and improvements where it matters.

Letters as in the package docstring; besides, i is a state and j one that it leads to. Positions are read as unsigned
numbers, which spares the test for negative ones.
"""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.kernels._jit import fused_kernel, kernel

EPS = 2.0**-52
#: Sweeps between two looks at whether the target is in reach.
LOOK = 16


@kernel
def gather(
    chosen: IntArray,
    known: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rewards: FloatArray,
    old_indptr: IntArray,
    old_indices: IntArray,
    old_data: FloatArray,
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Rows of the chosen pairs in CSR form, and their rewards.

    Rows of states whose pair is still the `known` one are copied from the old rows, which lie side by side.
    """
    n = len(chosen)
    out_indptr = np.empty(n + 1, np.int32)
    out_indptr[0] = 0
    for s in range(n):
        k = chosen[s]
        out_indptr[s + 1] = out_indptr[s] + indptr[k + 1] - indptr[k]
    out_indices, out_data = np.empty(out_indptr[n], np.int32), np.empty(out_indptr[n])
    earned = np.empty(n)
    to = 0
    for s in range(n):
        k = chosen[s]
        earned[s] = rewards[k]
        if known[s] == k:
            for e in range(old_indptr[s], old_indptr[s + 1]):
                out_indices[to], out_data[to] = old_indices[e], old_data[e]
                to += 1
        else:
            for e in range(indptr[k], indptr[k + 1]):
                out_indices[to], out_data[to] = indices[e], data[e]
                to += 1
    return out_indptr, out_indices, out_data, earned


@kernel
def patch(
    chosen: IntArray,
    known: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rewards: FloatArray,
    own_indptr: IntArray,
    own_indices: IntArray,
    own_data: FloatArray,
    earned: FloatArray,
) -> bool:
    """Put the rows of newly chosen pairs in the place of the `known` ones; False if they do not fit."""
    for s in range(len(chosen)):
        k = chosen[s]
        if k != known[s] and indptr[k + 1] - indptr[k] != own_indptr[s + 1] - own_indptr[s]:
            return False
    for s in range(len(chosen)):
        k = chosen[s]
        if k != known[s]:
            earned[s] = rewards[k]
            to = own_indptr[s]
            for e in range(indptr[k], indptr[k + 1]):
                own_indices[to], own_data[to] = indices[e], data[e]
                to += 1
    return True


@kernel
def transpose(indptr: IntArray, indices: IntArray, data: FloatArray, n: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Rows of Pᵀ in CSR form, entries in the order of the states that they come from."""
    ends = np.zeros(n + 1, np.int32)
    for e in range(indptr[len(indptr) - 1]):
        ends[indices[e] + 1] += 1
    for j in range(n):
        ends[j + 1] += ends[j]
    begins = ends.copy()
    out_indices, out_data = np.empty(len(data), np.int32), np.empty(len(data))
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            to = begins[j]
            out_indices[to], out_data[to] = i, data[e]
            begins[j] = to + 1
    return ends, out_indices, out_data


@fused_kernel
def sweep(
    most: int,
    target: float,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rewards: FloatArray,
    discount: float,
    rest: float,
    values: FloatArray,
    room: FloatArray,
) -> tuple[int, float]:
    """Sweeps V ← r − λ + γPV until the spread of the residual is within the target, `most` of them at most.

    λ, the middle of the last residual, keeps V where it is: its level proves nothing, and V is centred in the end.
    They end early where the target is out of reach. Returns how many there were and the spread of the residual of the
    V before the last one.
    """
    n = len(values)
    here, there = values, room
    level, last, spread = 0.0, np.inf, np.inf
    done = 0
    while done < most:
        low, high = np.inf, -np.inf
        e = indptr[0]
        for s in range(n):
            value = here[s]
            total = 0.0
            end = indptr[s + 1]
            while e < end:
                total += data[e] * (here[np.uint32(indices[e])] - value)
                e += 1
            rho = rewards[s] - rest * value + discount * total
            if rho < low:
                low = rho
            if rho > high:
                high = rho
            there[s] = value + (rho - level)
        level, spread = 0.5 * (low + high), high - low
        here, there = there, here
        done += 1
        if spread <= target:
            break
        if done % LOOK == 0:
            rate = spread / last
            if not (rate < 1.0 and spread * rate ** ((most - done) / LOOK) <= target) and last < np.inf:
                break
            last = spread
    mean = 0.0
    for s in range(n):
        mean += here[s]
    mean /= n
    for s in range(n):
        values[s] = here[s] - mean
    return done, spread


@fused_kernel
def spread_mass(
    most: int,
    target: float,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    discount: float,
    rest: float,
    initial: FloatArray,
    mass: FloatArray,
) -> tuple[int, float]:
    """Gauss–Seidel sweeps for d = (1 − γ) μ0 + γ dP from a d that sums to one.

    Rows are those of Pᵀ. Once a sweep changes no more than the target, or than rounding, one that is not in place tells
    how far d is from satisfying its equations, Σ |defect|. They end early where the target is out of reach. Returns the
    number of sweeps and their last change, 0 where d is as near as it gets.
    """
    n = len(mass)
    room = np.empty(n)
    last, defect = np.inf, np.inf
    done, judging = 0, False
    while done < most:
        out = room if judging else mass
        drift, defect, noise = 0.0, 0.0, 0.0
        e = indptr[0]
        for s in range(n):
            inflow = 0.0
            end = indptr[s + 1]
            terms = end - e + 4
            while e < end:
                inflow += data[e] * mass[np.uint32(indices[e])]
                e += 1
            arriving = rest * initial[s] + discount * inflow
            change = arriving - mass[s]
            defect += abs(change)
            noise += terms * arriving
            drift += change
            out[s] = arriving
        done += 1
        share = 1.0 / (1.0 + drift)
        for s in range(n):
            mass[s] = out[s] * share
        near = defect <= max(target, EPS * noise)
        if near and judging:
            return done, 0.0
        judging = near
        if done % LOOK == 0:
            rate = defect / last
            if not (rate < 1.0 and defect * rate ** ((most - done) / LOOK) <= target) and last < np.inf:
                break
            last = defect
    return done, defect


@kernel
def moved(values: FloatArray, known: FloatArray) -> tuple[float, float]:
    """How far values have moved apart since they were `known`, and how large any of them is; they are known then."""
    low, high, size = np.inf, -np.inf, 0.0
    for s in range(len(values)):
        change = values[s] - known[s]
        low = change if change < low else low
        high = change if change > high else high
        size = max(size, abs(values[s]), abs(known[s]))
        known[s] = values[s]
    return high - low, size


@fused_kernel
def improve(
    first: int,
    last: int,
    start: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rewards: FloatArray,
    discount: float,
    own_indptr: IntArray,
    own_indices: IntArray,
    own_data: FloatArray,
    values: FloatArray,
    drift: float,
    leads: FloatArray,
    choice: IntArray,
    best: FloatArray,
) -> int:
    """The first best pair of each state s in first..last−1 into choice, and r + γPV − V there into best.

    Where leads[s] exceeds the drift, no other pair can have overtaken the chosen one, whose row is among those that
    lie side by side (`own`). Elsewhere all are looked at, and leads[s] becomes the lead of the best plus the drift.
    Returns the number of transitions that were read.
    """
    read = 0
    for s in range(first, last):
        if leads[s] > drift:
            total = 0.0
            e = own_indptr[s]
            while e < own_indptr[s + 1]:
                total += own_data[e] * values[np.uint32(own_indices[e])]
                e += 1
            best[s] = rewards[choice[s]] + discount * total - values[s]
            read += own_indptr[s + 1] - own_indptr[s]
            continue
        top, second, arg = -np.inf, -np.inf, start[s]
        e = indptr[start[s]]
        for k in range(start[s], start[s + 1]):
            total = 0.0
            end = indptr[k + 1]
            while e < end:
                total += data[e] * values[np.uint32(indices[e])]
                e += 1
            worth = rewards[k] + discount * total
            # Written so that nothing branches: which pair is best cannot be foretold.
            below = worth if worth < top else top
            second = below if below > second else second
            arg = k if worth > top else arg
            top = worth if worth > top else top
        choice[s] = arg
        best[s] = top - values[s]
        leads[s] = top - second + drift
        read += e - indptr[start[s]]
    return read


@kernel
def largest(start: IntArray, numbers: FloatArray) -> IntArray:
    """The first pair of each state with the largest number, [S]."""
    n = len(start) - 1
    out = np.empty(n, np.int32)
    for s in range(n):
        arg = start[s]
        top = numbers[arg]
        for k in range(start[s] + 1, start[s + 1]):
            arg = k if numbers[k] > top else arg
            top = numbers[k] if numbers[k] > top else top
        out[s] = arg
    return out


@kernel
def extent(numbers: FloatArray) -> tuple[float, float]:
    """The least and the largest number."""
    low, high = np.inf, -np.inf
    for number in numbers:
        low = number if number < low else low
        high = number if number > high else high
    return low, high

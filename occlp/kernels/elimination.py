"""Subtraction-free (GTH) elimination of A = diag(leave) + γ (D − P), in banded storage.

Grassmann, Taksar and Heyman (1985); O'Cinneide (1993) proves the componentwise relative accuracy of
the solutions, whatever the conditioning. The diagonal is never read: it is the sum of the other
entries of its row and of the probability of leaving the system (1 − γ; undiscounted, the probability
of entering a pinned state).
"""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.kernels._jit import kernel


@kernel
def bandwidth(indptr: IntArray, indices: IntArray, most: int) -> int:
    """How far entries are from the diagonal; −1 as soon as one is further than `most`."""
    width = 0
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            width = max(width, abs(indices[e] - i))
        if width > most:
            return -1
    return width


@kernel
def fill_chain(
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    order: IntArray,
    position: IntArray,
    width: int,
    discount: float,
) -> FloatArray:
    """Band [S, 2 width + 1] of γP off the diagonal: entry (i, j) stands at band[i, j − i + width]."""
    n = len(order)
    band = np.zeros((n, 2 * width + 1))
    for i in range(n):
        s = order[i]
        for e in range(indptr[s], indptr[s + 1]):
            j = position[indices[e]]
            if j != i:
                band[i, j - i + width] += discount * data[e]
    return band


@kernel
def fill_policy(
    start: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    probabilities: FloatArray,
    order: IntArray,
    position: IntArray,
    width: int,
    discount: float,
) -> FloatArray:
    """The same band for the chain of a policy, from the rows of its pairs."""
    n = len(order)
    band = np.zeros((n, 2 * width + 1))
    for i in range(n):
        s = order[i]
        for k in range(start[s], start[s + 1]):
            weight = discount * probabilities[k]
            if weight == 0.0:
                continue
            for e in range(indptr[k], indptr[k + 1]):
                j = position[indices[e]]
                if j != i:
                    band[i, j - i + width] += weight * data[e]
    return band


@kernel
def eliminate(band: FloatArray, leave: FloatArray) -> FloatArray:
    """Factor A = diag(leave) + (D − band) in place; returns the pivots [S].

    `leave` [S], in the order of the band, is the probability of leaving the system; it is overwritten.
    Afterwards the strict upper part of the band holds the rows of the reduced chains, the strict lower
    part the multipliers.
    """
    n = band.shape[0]
    width = (band.shape[1] - 1) // 2
    pivots = np.zeros(n)
    for k in range(n):
        last = min(n, k + width + 1)
        onward = band[k, width + 1 : width + last - k]
        pivot = leave[k]
        for j in range(len(onward)):
            pivot += onward[j]
        pivots[k] = pivot
        for i in range(k + 1, last):
            factor = band[i, k - i + width]
            if factor == 0.0:
                continue
            factor /= pivot
            band[i, k - i + width] = factor
            leave[i] += factor * leave[k]
            own = band[i, k - i + width + 1 :]
            for j in range(len(onward)):  # over the diagonal as well, which nobody reads
                own[j] += factor * onward[j]
    return pivots


@kernel
def solve_columns(band: FloatArray, pivots: FloatArray, order: IntArray, rhs: FloatArray) -> FloatArray:
    """x = A⁻¹ b from `eliminate`: what b > 0 and b < 0 give is computed apart, without a subtraction."""
    n = len(order)
    width = (band.shape[1] - 1) // 2
    x = np.empty((n, 2))
    for i in range(n):
        above, below = max(rhs[order[i]], 0.0), max(-rhs[order[i]], 0.0)
        for j in range(max(0, i - width), i):
            above += band[i, j - i + width] * x[j, 0]
            below += band[i, j - i + width] * x[j, 1]
        x[i, 0], x[i, 1] = above, below
    for i in range(n - 1, -1, -1):
        above, below = x[i, 0], x[i, 1]
        for j in range(i + 1, min(n, i + width + 1)):
            above += band[i, j - i + width] * x[j, 0]
            below += band[i, j - i + width] * x[j, 1]
        x[i, 0], x[i, 1] = above / pivots[i], below / pivots[i]
    out = np.empty(n)
    for i in range(n):
        out[order[i]] = x[i, 0] - x[i, 1]
    return out


@kernel
def solve_rows(band: FloatArray, pivots: FloatArray, order: IntArray, rhs: FloatArray) -> FloatArray:
    """x = b A⁻¹ (a row vector) from `eliminate`, likewise; what a state has is passed on along its row."""
    n = len(order)
    width = (band.shape[1] - 1) // 2
    above, below = np.empty(n), np.empty(n)
    for i in range(n):
        above[i], below[i] = max(rhs[order[i]], 0.0), max(-rhs[order[i]], 0.0)
    for i in range(n):
        above[i] /= pivots[i]
        below[i] /= pivots[i]
        last = min(n, i + width + 1)
        onward = band[i, width + 1 : width + last - i]
        for j in range(len(onward)):
            above[i + 1 + j] += above[i] * onward[j]
            below[i + 1 + j] += below[i] * onward[j]
    for i in range(n - 1, -1, -1):
        first = max(0, i - width)
        back = band[i, first - i + width : width]
        for j in range(len(back)):
            above[first + j] += above[i] * back[j]
            below[first + j] += below[i] * back[j]
    out = np.empty(n)
    for i in range(n):
        out[order[i]] = above[i] - below[i]
    return out

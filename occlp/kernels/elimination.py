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
def within_band(indptr: IntArray, indices: IntArray, width: int) -> bool:
    """Whether no entry is further than `width` from the diagonal."""
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            if abs(indices[e] - i) > width:
                return False
    return width >= 0


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
        pivot = leave[k]
        for j in range(k + 1, last):
            pivot += band[k, j - k + width]
        pivots[k] = pivot
        for i in range(k + 1, last):
            factor = band[i, k - i + width]
            if factor == 0.0:
                continue
            factor /= pivot
            band[i, k - i + width] = factor
            leave[i] += factor * leave[k]
            for j in range(k + 1, last):
                if j != i:
                    band[i, j - i + width] += factor * band[k, j - k + width]
    return pivots


@kernel
def solve_columns(band: FloatArray, pivots: FloatArray, order: IntArray, rhs: FloatArray) -> FloatArray:
    """x = A⁻¹ b from `eliminate`; subtraction-free for b ≥ 0."""
    n = len(order)
    width = (band.shape[1] - 1) // 2
    x = np.empty(n)
    for i in range(n):
        total = rhs[order[i]]
        for j in range(max(0, i - width), i):
            total += band[i, j - i + width] * x[j]
        x[i] = total
    for i in range(n - 1, -1, -1):
        total = x[i]
        for j in range(i + 1, min(n, i + width + 1)):
            total += band[i, j - i + width] * x[j]
        x[i] = total / pivots[i]
    out = np.empty(n)
    for i in range(n):
        out[order[i]] = x[i]
    return out


@kernel
def solve_rows(band: FloatArray, pivots: FloatArray, order: IntArray, rhs: FloatArray) -> FloatArray:
    """x = b A⁻¹ (a row vector) from `eliminate`; subtraction-free for b ≥ 0."""
    n = len(order)
    width = (band.shape[1] - 1) // 2
    x = np.empty(n)
    for j in range(n):
        total = rhs[order[j]]
        for i in range(max(0, j - width), j):
            total += x[i] * band[i, j - i + width]
        x[j] = total / pivots[j]
    for j in range(n - 1, -1, -1):
        total = x[j]
        for i in range(j + 1, min(n, j + width + 1)):
            total += x[i] * band[i, j - i + width]
        x[j] = total
    out = np.empty(n)
    for i in range(n):
        out[order[i]] = x[i]
    return out

"""Softmax over the pairs of each state; see the package docstring for the letters."""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.kernels._jit import kernel


@kernel
def softmax(start: IntArray, logits: FloatArray) -> FloatArray:
    """π(a | s) ∝ exp(logit), [pairs]; safe against overflow."""
    out = np.empty(len(logits))
    for s in range(len(start) - 1):
        top = -np.inf
        for k in range(start[s], start[s + 1]):
            top = max(top, logits[k])
        total = 0.0
        for k in range(start[s], start[s + 1]):
            out[k] = np.exp(logits[k] - top)
            total += out[k]
        for k in range(start[s], start[s + 1]):
            out[k] /= total
    return out


@kernel
def score_gradient(start: IntArray, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Σ_a w(s, a) ∇ log π(a | s) with respect to the logits: w − π Σ_a w, [pairs]."""
    out = np.empty(len(weights))
    for s in range(len(start) - 1):
        total = 0.0
        for k in range(start[s], start[s + 1]):
            total += weights[k]
        for k in range(start[s], start[s + 1]):
            out[k] = weights[k] - probabilities[k] * total
    return out


@kernel
def project(start: IntArray, points: FloatArray) -> FloatArray:
    """Euclidean projection of the pairs of each state on the simplex, [pairs].

    Source: Held, Wolfe and Crowder (1974): max(x − τ, 0) with τ such that the sum is one.
    """
    out = np.empty(len(points))
    for s in range(len(start) - 1):
        first, last = start[s], start[s + 1]
        ordered = np.sort(points[first:last])[::-1]
        total, threshold = 0.0, 0.0
        for i in range(last - first):
            total += ordered[i]
            candidate = (total - 1.0) / (i + 1)
            if ordered[i] > candidate:
                threshold = candidate
        total = 0.0
        for k in range(first, last):
            out[k] = max(points[k] - threshold, 0.0)
            total += out[k]
        for k in range(first, last):
            out[k] /= total
    return out


@kernel
def relax_soft_values(
    sweeps: int,
    start: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rewards: FloatArray,
    base: FloatArray,
    strength: float,
    discount: float,
    rest: float,
    level: float,
    values: FloatArray,
) -> None:
    """Gauss–Seidel sweeps for V = τ log Σ_a base exp((r − λ + γPV) / τ), forwards and backwards in turn, in place.

    Pairs with base 0 do not exist. λ is the `level` that V would otherwise creep along with.
    """
    n, widest = len(values), 0
    for s in range(n):
        widest = max(widest, start[s + 1] - start[s])
    scores = np.empty(widest)
    for sweep in range(sweeps):
        for i in range(n):
            s = i if sweep % 2 == 0 else n - 1 - i
            first, last, here, top = start[s], start[s + 1], values[s], -np.inf
            for k in range(first, last):
                total = 0.0
                for e in range(indptr[k], indptr[k + 1]):
                    total += data[e] * (values[indices[e]] - here)
                scores[k - first] = rewards[k] - rest * here + discount * total
                if base[k] > 0.0:
                    top = max(top, scores[k - first])
            mass, leaving = 0.0, 0.0
            for k in range(first, last):
                if base[k] > 0.0:
                    weight = base[k] * np.exp((scores[k - first] - top) / strength)
                    mass += weight
                    if weight == 0.0:
                        continue
                    for e in range(indptr[k], indptr[k + 1]):
                        if indices[e] != s:
                            leaving += weight * data[e]
            rho, rate = top + strength * np.log(mass), rest + discount * leaving / mass
            if rate > 0.0:
                values[s] = here + (rho - level) / rate

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

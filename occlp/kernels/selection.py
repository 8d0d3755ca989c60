"""The best pair of each state at given prices, from advantages of several measures; see the package docstring."""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.kernels._jit import kernel


@kernel
def select(
    start: IntArray,
    scores: FloatArray,
    weights: FloatArray,
    mass: FloatArray,
    kept: IntArray,
    doubt: float,
    choice: IntArray,
    sums: FloatArray,
) -> float:
    """choice[s] = the pair k of state s with the largest Σ_i w[i] · scores[i, k]; returns the largest of all.

    sums[i] = Σ_s mass[s] · scores[i, choice[s]]. The pair kept[s] wins ties within the doubt.
    """
    n = scores.shape[0]
    sums[:] = 0.0
    highest = -np.inf
    for s in range(len(mass)):
        top = -np.inf
        arg = start[s]
        known = -np.inf
        for k in range(start[s], start[s + 1]):
            total = 0.0
            for i in range(n):
                total += weights[i] * scores[i, k]
            if total > top:
                top = total
                arg = k
            if k == kept[s]:
                known = total
        if known >= top - doubt:
            arg = kept[s]
        highest = max(highest, top)
        choice[s] = arg
        for i in range(n):
            sums[i] += mass[s] * scores[i, arg]
    return highest

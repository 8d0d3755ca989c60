"""Bellman backups in place; see the package docstring."""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.kernels._jit import kernel


@kernel
def improve_values(
    order: IntArray,
    start: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rewards: FloatArray,
    discount: float,
    rest: float,
    values: FloatArray,
) -> None:
    """One Bellman backup in place, states [S] in this order: each takes its best action and solves its equation alone.

    A reward of −∞ rules a pair out.
    """
    for s in order:
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
        leaving = 0.0
        for e in range(indptr[arg], indptr[arg + 1]):
            if indices[e] != s:
                leaving += data[e]
        rate = rest + discount * leaving
        if rate > 0.0 and top > -np.inf:
            values[s] = here + (top - rest * here) / rate

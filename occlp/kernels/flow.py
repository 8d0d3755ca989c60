"""The flow matrix F = E − γPᵀ and products with it; see the package docstring for the letters."""

from __future__ import annotations

from occlp._typing import FloatArray, IntArray
from occlp.kernels._jit import kernel


@kernel
def flow(
    start: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    discount: float,
    rest: float,
    mass: FloatArray,
    out: FloatArray,
    squares: FloatArray,
) -> None:
    """out = F m and squares = the diagonal of F diag(m) Fᵀ, both [S], of masses m of the pairs."""
    out[:] = 0.0
    squares[:] = 0.0
    for s in range(len(start) - 1):
        for k in range(start[s], start[s + 1]):
            if mass[k] == 0.0:
                continue
            leaving = 0.0
            for e in range(indptr[k], indptr[k + 1]):
                if indices[e] != s:
                    leaving += data[e]
                    share = discount * data[e]
                    out[indices[e]] -= mass[k] * share
                    squares[indices[e]] += mass[k] * share * share
            own = rest + discount * leaving
            out[s] += mass[k] * own
            squares[s] += mass[k] * own * own


@kernel
def curvature(
    start: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    discount: float,
    rest: float,
    mass: FloatArray,
    values: FloatArray,
    out: FloatArray,
) -> float:
    """out = F diag(m) Fᵀ V, [S], in one pass over the transitions; returns m · FᵀV."""
    out[:] = 0.0
    mean = 0.0
    for s in range(len(start) - 1):
        here = values[s]
        stays = 0.0
        for k in range(start[s], start[s + 1]):
            if mass[k] == 0.0:
                continue
            change = rest * here
            for e in range(indptr[k], indptr[k + 1]):
                change += discount * data[e] * (here - values[indices[e]])
            weight = mass[k] * change
            mean += weight
            stays += rest * weight
            weight *= discount
            for e in range(indptr[k], indptr[k + 1]):
                moved = weight * data[e]
                stays += moved
                out[indices[e]] -= moved
        out[s] += stays
    return mean

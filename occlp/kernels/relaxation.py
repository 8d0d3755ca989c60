"""Sweeps for one policy, in place; see the package docstring."""

from __future__ import annotations

from occlp._typing import FloatArray, IntArray
from occlp.kernels._jit import kernel


@kernel
def relax_values(
    sweeps: int,
    chosen: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rewards: FloatArray,
    discount: float,
    rest: float,
    pin: int,
    values: FloatArray,
) -> None:
    """Gauss–Seidel sweeps for V = r − λ + γPV of the chosen pairs, λ being the first residual at the state `pin`.

    They go forwards and backwards in turn, and carry values a long way in one sweep. Without λ the level of V, which
    proves nothing, would creep along at the rate of γ; where the pin is hardly ever visited, λ is noise.
    """
    n = len(values)
    level = 0.0
    for sweep in range(sweeps):
        for i in range(-1 if sweep == 0 else 0, n):  # the pin first, for λ
            s = pin if i < 0 else (i if sweep % 2 == 0 else n - 1 - i)
            k = chosen[s]
            here = values[s]
            total = 0.0
            leaving = 0.0
            for e in range(indptr[k], indptr[k + 1]):
                if indices[e] != s:
                    total += data[e] * (values[indices[e]] - here)
                    leaving += data[e]
            rho = rewards[k] - rest * here + discount * total
            if i < 0:
                level = rho
            elif rest + discount * leaving > 0.0:
                values[s] = here + (rho - level) / (rest + discount * leaving)

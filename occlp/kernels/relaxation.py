"""Sweeps for one policy, in place; see the package docstring."""

from __future__ import annotations

from occlp._typing import FloatArray, IntArray
from occlp.kernels._jit import kernel


@kernel
def sweep_values(
    sweeps: int,
    chosen: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rewards: FloatArray,
    discount: float,
    rest: float,
    values: FloatArray,
    change: FloatArray,
) -> None:
    """Sweeps V ← r + γPV of the chosen pairs, centred after each; `change` [S] is room to work in."""
    n = len(values)
    for _ in range(sweeps):
        mean = 0.0
        for s in range(n):
            k = chosen[s]
            here = values[s]
            total = 0.0
            for e in range(indptr[k], indptr[k + 1]):
                total += data[e] * (values[indices[e]] - here)
            change[s] = rewards[k] - rest * here + discount * total
            mean += change[s]
        mean /= n
        for s in range(n):
            values[s] += change[s] - mean


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


@kernel
def relax_occupancy(
    sweeps: int,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    leaving: FloatArray,
    discount: float,
    rest: float,
    initial: FloatArray,
    mass: FloatArray,
) -> float:
    """Gauss–Seidel sweeps for d = (1 − γ) μ0 + γ dP, d summing to one.

    Rows are those of Pᵀ, `leaving` [S] the chances to leave. Returns how far the last d is from satisfying its
    equations, Σ |defect|.
    """
    n = len(mass)
    defect = 0.0
    for sweep in range(sweeps + 1):
        total = lost = 0.0  # Kahan's sum: an error of n roundings would stay as a defect
        for s in range(n):
            inflow = 0.0
            for e in range(indptr[s], indptr[s + 1]):
                if indices[e] != s:
                    inflow += data[e] * mass[indices[e]]
            arriving = rest * initial[s] + discount * inflow
            rate = rest + discount * leaving[s]
            if sweep == sweeps:
                defect += abs(arriving - rate * mass[s])
            else:
                mass[s] = arriving / rate
                more = mass[s] - lost
                raised = total + more
                lost = (raised - total) - more
                total = raised
        if sweep < sweeps:
            for s in range(n):
                mass[s] /= total
    return defect

"""Conjugate gradients for positive semidefinite systems known by their products alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from occlp._typing import FloatArray
from occlp.parallel import inner_product


def solve_by_gradients(
    product: Callable[[FloatArray], FloatArray],
    diagonal: FloatArray,
    right: FloatArray,
    *,
    accuracy: float,
    most_products: int,
) -> FloatArray | None:
    """Solve M x = b, scaled by the diagonal of M, [n]; None where that takes too many products.

    Parameters
    ----------
    product : callable
        Returns M x.
    diagonal : FloatArray [n]
        Unknowns with a zero here are left at zero.
    right : FloatArray [n]
        b, in the range of M.
    accuracy : float
        Share of the first residual, in the norm of the scaling, at which to stop.
    most_products : int
    """
    unit = np.where(diagonal > 0, 1.0 / np.maximum(diagonal, 1e-300), 0.0)
    found, left = np.zeros_like(right), right.copy()
    scaled = unit * left
    along, size = scaled.copy(), float(inner_product(left, scaled))
    enough = accuracy * accuracy * size
    for _ in range(most_products):
        bent = product(along)
        curve = float(inner_product(along, bent))
        if not curve > 0:
            return found
        found += size / curve * along
        left -= size / curve * bent
        scaled = unit * left
        before, size = size, float(inner_product(left, scaled))
        if size <= enough:
            return found
        along = scaled + size / before * along
    return None

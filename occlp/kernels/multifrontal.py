"""Loops of multifrontal Cholesky factors: putting fronts together, and solving with them.

The columns of a front are a panel, stored by columns in one flat array: its own rows first, then its border.
Letters: f front, m its rows, k its own rows among them, first its first row in the order of elimination.
"""

from __future__ import annotations

import numpy as np

from occlp._typing import AnyArray, FloatArray, IntArray
from occlp.kernels._jit import kernel


@kernel
def scatter(
    matrix: tuple[IntArray, IntArray, FloatArray],
    position: IntArray,
    front_of: IntArray,
    starts: IntArray,
    borders: tuple[AnyArray, IntArray],
    panel_starts: AnyArray,
    panels: FloatArray,
) -> None:
    """Put the lower triangle of a symmetric matrix, by columns, into the panels."""
    indptr, indices, data = matrix
    border_starts, border_rows = borders
    for j in range(len(indptr) - 1):
        column = position[j]
        f = front_of[column]
        first, k = starts[f], starts[f + 1] - starts[f]
        begin, end = border_starts[f], border_starts[f + 1]
        base = panel_starts[f] + (column - first) * (k + end - begin)
        for e in range(indptr[j], indptr[j + 1]):
            row = position[indices[e]]
            if row < column:
                continue
            if row < first + k:
                place = row - first
            else:
                place = k + np.searchsorted(border_rows[begin:end], row)
            panels[base + place] += data[e]


@kernel
def extend(update: FloatArray, places: IntArray, k: int, panel: FloatArray, rest: FloatArray) -> None:
    """Add what a child leaves to the panel [k, m] of its parent and to its rest; lower triangles, transposed."""
    for j in range(len(places)):
        column = places[j]
        if column < k:
            for i in range(j, len(places)):
                panel[column, places[i]] += update[j, i]
        else:
            for i in range(j, len(places)):
                rest[column - k, places[i] - k] += update[j, i]


@kernel
def solve(
    starts: IntArray,
    borders: tuple[AnyArray, IntArray],
    panel_starts: AnyArray,
    panels: FloatArray,
    right: FloatArray,
) -> None:
    """Solve L Lᵀ x = b in place, in the order of elimination."""
    border_starts, border_rows = borders
    for f in range(len(starts) - 1):
        first, k = starts[f], starts[f + 1] - starts[f]
        rows = border_rows[border_starts[f] : border_starts[f + 1]]
        m = k + len(rows)
        below = np.zeros(len(rows))
        for c in range(k):
            column = panels[panel_starts[f] + c * m : panel_starts[f] + (c + 1) * m]
            value = right[first + c] / column[c]
            right[first + c] = value
            for r in range(c + 1, k):
                right[first + r] -= column[r] * value
            for r in range(len(rows)):
                below[r] += column[k + r] * value
        for r in range(len(rows)):
            right[rows[r]] -= below[r]
    for f in range(len(starts) - 2, -1, -1):
        first, k = starts[f], starts[f + 1] - starts[f]
        rows = border_rows[border_starts[f] : border_starts[f + 1]]
        m = k + len(rows)
        above = right[rows]
        for c in range(k - 1, -1, -1):
            column = panels[panel_starts[f] + c * m : panel_starts[f] + (c + 1) * m]
            value = right[first + c]
            for r in range(c + 1, k):
                value -= column[r] * right[first + r]
            for r in range(len(rows)):
                value -= column[k + r] * above[r]
            right[first + c] = value / column[c]

"""Cholesky factors of sparse symmetric matrices by fronts, each a dense block: Duff and Reid (1983), Liu (1992)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg.blas import dsyrk, dtrsm
from scipy.linalg.lapack import dpotrf

from occlp._typing import FloatArray, IntArray
from occlp.chains.resolvent import inverse
from occlp.kernels import multifrontal as kernels
from occlp.solvers.dissection import Dissection


class NotDefinite(ArithmeticError):
    """A matrix is not positive definite, if only by rounding."""


class Cholesky:
    """Factors L Lᵀ of one symmetric positive definite matrix after the other, all with the same graph."""

    def __init__(self, dissection: Dissection) -> None:
        self.dissection = dissection
        self.position = inverse(dissection.order)
        self.own = np.diff(dissection.starts).astype(np.int64)
        sizes = np.array([len(rows) for rows in dissection.borders], dtype=np.int64)
        border_rows = np.concatenate([np.zeros(0, dtype=np.int32), *dissection.borders])
        self.borders = (np.concatenate([[0], np.cumsum(sizes)]), border_rows)
        self.panel_starts = np.concatenate([[0], np.cumsum(self.own * (self.own + sizes))])
        self.panels: FloatArray = np.empty(int(self.panel_starts[-1]))  # kept, since fresh memory is slow
        self.parents = [int(dissection.front_of[rows[0]]) if len(rows) else -1 for rows in dissection.borders]
        self.places = [self._places(front) for front in range(len(sizes))]

    def _places(self, front: int) -> IntArray:
        """Where the border of a front stands among the rows of its parent."""
        rows, parent, starts = self.dissection.borders[front], self.parents[front], self.dissection.starts
        if parent < 0:
            return rows
        later = self.own[parent] + np.searchsorted(self.dissection.borders[parent], rows)
        own = rows < starts[parent + 1]
        return np.asarray(np.where(own, rows - starts[parent], later), dtype=np.int32)

    def factorise(self, matrix: Any) -> None:
        """Find the factors of a csc_array [n, n], in the place of the last ones; raises `NotDefinite`."""
        found = self.dissection
        self.panels.fill(0.0)
        kernels.scatter(
            (matrix.indptr, matrix.indices, matrix.data), self.position, found.front_of, found.starts, self.borders,
            self.panel_starts, self.panels,
        )  # fmt: skip
        updates: dict[int, FloatArray] = {}
        for front, parent in enumerate(self.parents):
            update = self._eliminate(front, updates.pop(front, None))
            if parent < 0:
                continue
            if parent not in updates:
                updates[parent] = np.zeros((len(found.borders[parent]),) * 2)
            kernels.extend(update, self.places[front], int(self.own[parent]), self._panel(parent), updates[parent])

    def _panel(self, front: int) -> FloatArray:
        """The panel of a front, transposed: [own rows, rows]."""
        first, last = self.panel_starts[front : front + 2]
        return self.panels[first:last].reshape(int(self.own[front]), -1)

    def _eliminate(self, front: int, left: FloatArray | None) -> FloatArray:
        """Factorise the own rows of a front; returns what is left for its border, an upper triangle."""
        panel, k = self._panel(front), int(self.own[front])
        block = panel[:, :k].T
        factor, trouble = dpotrf(block, lower=1, clean=0)
        if trouble:
            raise NotDefinite
        panel[:, :k] = factor.T
        if panel.shape[1] == k:
            return np.zeros((0, 0))
        below = dtrsm(1.0, factor, panel[:, k:].T, side=1, lower=1, trans_a=1)  # [border, own], by columns
        panel[:, k:] = below.T
        if left is None:
            left = np.zeros((below.shape[0],) * 2)
        return np.asarray(dsyrk(-1.0, below, beta=1.0, c=left.T, lower=1, overwrite_c=1)).T

    def solve(self, right: FloatArray) -> FloatArray:
        """A⁻¹ b, [n] or by columns [n, k]."""
        found, out = self.dissection, np.empty_like(right)
        for b, x in zip(np.atleast_2d(right.T), np.atleast_2d(out.T), strict=True):
            ordered = b[found.order]
            kernels.solve(found.starts, self.borders, self.panel_starts, self.panels, ordered)
            x[found.order] = ordered
        return out

"""Solves with the matrix of a chain, A = diag(leave) + γ (D − P), D the row sums of P.

Subtraction-free elimination where the size (or the bandwidth) allows, else sparse LU; undiscounted
chains with one recurrent class are solved with one of its states pinned.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import splu

from occlp._typing import BoolArray, FloatArray
from occlp.errors import Unsupported
from occlp.kernels import elimination

#: Operations (states x bandwidth squared) up to which subtraction-free elimination is used.
ELIMINATION_WORK = 40_000_000


class Resolvent(Protocol):
    """Solves with A, from the right and from the left."""

    def columns(self, rhs: FloatArray) -> FloatArray:
        """A⁻¹ b."""

    def rows(self, rhs: FloatArray) -> FloatArray:
        """b A⁻¹ (b a row vector)."""


def band_order(graph: Any) -> tuple[Any, int]:
    """Order the states of a sparse [S, S] graph so that its entries lie near the diagonal.

    Returns the order [S] and the bandwidth; the natural order stays where it is good enough.
    """
    n = graph.shape[0]
    natural = np.arange(n, dtype=np.int32)
    coo = graph.tocoo()
    width = int(np.abs(coo.row.astype(np.int64) - coo.col).max(initial=0))
    if fits_elimination(n, width):
        return natural, width
    order = csgraph.reverse_cuthill_mckee(sparse.csr_array(graph), symmetric_mode=False).astype(np.int32)
    position = inverse(order).astype(np.int64)
    return order, int(np.abs(position[coo.row] - position[coo.col]).max(initial=0))


def fits_elimination(n_states: int, width: int) -> bool:
    """Whether subtraction-free elimination of this size is affordable."""
    return n_states * (width + 1.0) ** 2 <= ELIMINATION_WORK


def inverse(order: Any) -> Any:
    """Position of each state in an order, [S]."""
    position = np.empty(len(order), dtype=np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    return position


class Elimination:
    """Subtraction-free elimination; signed right-hand sides are split into their two parts."""

    def __init__(self, band: FloatArray, order: Any, leave: FloatArray) -> None:
        self._band, self._order = band, order
        self._pivots = elimination.eliminate(band, leave)

    def columns(self, rhs: FloatArray) -> FloatArray:
        """A⁻¹ b."""
        return self._split(elimination.solve_columns, rhs)

    def rows(self, rhs: FloatArray) -> FloatArray:
        """b A⁻¹."""
        return self._split(elimination.solve_rows, rhs)

    def _split(self, solve: Any, rhs: FloatArray) -> FloatArray:
        positive, negative = np.maximum(rhs, 0.0), np.maximum(-rhs, 0.0)
        out: FloatArray = solve(self._band, self._pivots, self._order, positive)
        if negative.any():
            out = out - solve(self._band, self._pivots, self._order, negative)
        return out


class Factors:
    """Sparse LU without pivoting: the matrix is a diagonally dominant M-matrix."""

    def __init__(self, system: Any) -> None:
        self._lu: Any = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})

    def columns(self, rhs: FloatArray) -> FloatArray:
        """A⁻¹ b."""
        return np.asarray(self._lu.solve(rhs))

    def rows(self, rhs: FloatArray) -> FloatArray:
        """b A⁻¹."""
        return np.asarray(self._lu.solve(rhs, "T"))


class Recurrent:
    """The undiscounted case with one recurrent class: one of its states is pinned.

    The other states form a chain that is left on entering the pinned one; its visits between two
    returns give the stationary distribution (regeneration), and h solves h = r − λ + Ph with h = 0 there.
    """

    def __init__(self, matrix: Any, *, small: bool) -> None:
        self.recurrent = _recurrent_class(matrix)
        self.pinned = int(np.argmax(self.recurrent))
        n_states = matrix.shape[0]
        others = np.delete(np.arange(n_states), self.pinned)
        matrix = sparse.csr_array(matrix)
        self.others, self.onward = others, np.asarray(matrix[[self.pinned]].toarray()).ravel()[others]
        self.inner: Resolvent | None = None
        if len(others):
            leave = np.asarray(matrix[:, [self.pinned]].toarray()).ravel()[others]
            self.inner = leaving(sparse.csr_array(matrix[others][:, others]), leave, small=small)
        self.distribution = self._stationary(n_states)

    def columns(self, rhs: FloatArray) -> FloatArray:
        """Relative values h of rewards b: h = b − d·b + Ph, zero at the pinned state."""
        out = np.zeros(len(rhs))
        if self.inner is not None:
            out[self.others] = self.inner.columns((rhs - self.distribution @ rhs)[self.others])
        return out

    def rows(self, rhs: FloatArray) -> FloatArray:
        """The stationary distribution, whatever the start."""
        return self.distribution

    def _stationary(self, n_states: int) -> FloatArray:
        mass = np.zeros(n_states)
        mass[self.pinned] = 1.0
        if self.inner is not None:
            mass[self.others] = self.inner.rows(self.onward)
        mass = np.where(self.recurrent, np.maximum(mass, 0.0), 0.0)
        return np.asarray(mass / mass.sum())


def leaving(matrix: Any, leave: FloatArray, *, small: bool) -> Resolvent:
    """Solver for A = diag(leave) + D − P of a chain [n, n] that is left with the given probabilities."""
    matrix.indices = matrix.indices.astype(np.int32, copy=False)
    matrix.indptr = matrix.indptr.astype(np.int32, copy=False)
    if small:
        order, width = band_order(matrix)
        rows = (matrix.indptr, matrix.indices, matrix.data, order, inverse(order), width, 1.0)
        return Elimination(elimination.fill_chain(*rows), order, leave[order])
    off = sparse.csr_array(matrix, copy=True)
    off.setdiag(0.0)
    diagonal = sparse.diags_array(leave + np.asarray(off.sum(axis=1)).ravel())
    return Factors(sparse.csc_array(diagonal - off))


def _recurrent_class(matrix: Any) -> BoolArray:
    """Mask [S] of the only recurrent class; raises `Unsupported` where there are several."""
    count, labels = csgraph.connected_components(matrix, directed=True, connection="strong")
    coo = sparse.coo_array(matrix)
    leaving = labels[coo.row] != labels[coo.col]
    closed = np.ones(count, dtype=np.bool_)
    closed[labels[coo.row[leaving]]] = False
    if closed.sum() > 1:
        raise Unsupported(
            f"the average criterion needs one recurrent class in this version; a policy met has {closed.sum()}. "
            "Ask a discounted question with a discount near 1."
        )
    return np.asarray(labels == int(np.flatnonzero(closed)[0]))

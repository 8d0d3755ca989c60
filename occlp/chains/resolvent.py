"""Solves with the matrix of a chain, A = diag(leave) + γ (D − P), D the row sums of P.

Subtraction-free elimination where the size (or the bandwidth) allows, else iterations on two levels, and sparse LU
where they stall; undiscounted chains are solved with one state of each recurrent class pinned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import splu

from occlp._typing import AnyArray, BoolArray, FloatArray, IntArray, Rows
from occlp.chains.aggregation import Aggregation, Stalled
from occlp.kernels import elimination
from occlp.work import count_factorization

#: Operations (states x bandwidth squared) up to which subtraction-free elimination is used, for chains of up to so many
#: transitions; for longer ones in proportion, so that it takes no longer than some sweeps.
ELIMINATION_WORK, WORTH = 40_000_000, 800_000


class Resolvent(Protocol):
    """Solves with A, from the right and from the left."""

    def columns(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """A⁻¹ b; of methods that iterate, what is left of the defect at a state may be as large as `noise`."""

    def rows(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """b A⁻¹ (b a row vector), likewise."""


def natural_width(indptr: IntArray, indices: IntArray) -> int:
    """The bandwidth in the order of the states as it is; −1 where it makes elimination too dear.

    It looks no further than it must.
    """
    return int(elimination.bandwidth(indptr, indices, widest_band(len(indptr) - 1, len(indices))))


def widest_band(n_states: int, nnz: int = 0) -> int:
    """The largest bandwidth for which elimination is affordable; negative where none is."""
    return int(np.sqrt(max(affordable_work(nnz), 0) / n_states)) - 1


def affordable_work(nnz: int = 0) -> float:
    """Operations that elimination may take for a chain of so many transitions."""
    return ELIMINATION_WORK * max(1.0, nnz / WORTH)


def band_order(graph: Any) -> tuple[Any, int]:
    """Order the states of a sparse [S, S] graph so that its entries lie near the diagonal.

    Returns the order [S] and the bandwidth; the natural order stays where it is good enough.
    """
    n = graph.shape[0]
    natural = np.arange(n, dtype=np.int32)
    coo = graph.tocoo()
    width = int(np.abs(coo.row.astype(np.int64) - coo.col).max(initial=0))
    if fits_elimination(n, width, coo.nnz):
        return natural, width
    order = narrow_order(graph)
    position = inverse(order).astype(np.int64)
    return order, int(np.abs(position[coo.row] - position[coo.col]).max(initial=0))


def narrow_order(graph: Any) -> Any:
    """The order of Cuthill and McKee, reversed, in which the entries of a sparse [S, S] graph lie near the diagonal."""
    return csgraph.reverse_cuthill_mckee(sparse.csr_array(graph), symmetric_mode=False).astype(np.int32)


def fits_elimination(n_states: int, width: int, nnz: int = 0) -> bool:
    """Whether subtraction-free elimination of this size is affordable for a chain of so many transitions."""
    return n_states * (width + 1.0) ** 2 <= affordable_work(nnz)


def inverse(order: Any) -> Any:
    """Position of each state in an order, [S]."""
    position = np.empty(len(order), dtype=np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    return position


class Elimination:
    """Subtraction-free elimination."""

    def __init__(self, band: FloatArray, order: Any, leave: FloatArray) -> None:
        self._band, self._order = band, order
        count_factorization()
        self._pivots = elimination.eliminate(band, leave)

    @classmethod
    def of_chain(cls, rows: Rows, leave: FloatArray, discount: float, order: Any, width: int) -> Elimination:
        """For the rows of a chain, in an order of the states and with the bandwidth that it gives."""
        return cls(elimination.fill_chain(*rows, order, inverse(order), width, discount), order, leave[order])

    def columns(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """A⁻¹ b."""
        found: FloatArray = elimination.solve_columns(self._band, self._pivots, self._order, rhs)
        return found

    def rows(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """b A⁻¹."""
        found: FloatArray = elimination.solve_rows(self._band, self._pivots, self._order, rhs)
        return found


class Factors:
    """Sparse LU without pivoting: the matrix is a diagonally dominant M-matrix."""

    def __init__(self, system: Any) -> None:
        count_factorization()
        self._lu: Any = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})

    def columns(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """A⁻¹ b."""
        return np.asarray(self._lu.solve(rhs))

    def rows(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """b A⁻¹."""
        return np.asarray(self._lu.solve(rhs, "T"))


class Guarded:
    """Iterations on two levels, and sparse LU from the first solve on that they do not manage."""

    def __init__(self, iterations: Aggregation, factorise: Callable[[], Resolvent]) -> None:
        self._iterations: Aggregation | None = iterations
        self._factorise = factorise

    @cached_property
    def _factors(self) -> Resolvent:
        return self._factorise()

    def columns(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """A⁻¹ b; what is left of the defect at a state may be as large as `noise`."""
        if self._iterations is not None:
            try:
                return self._iterations.columns(rhs, noise=noise)
            except Stalled:
                self._iterations = None
        return self._factors.columns(rhs)

    def rows(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """b A⁻¹, likewise."""
        if self._iterations is not None:
            try:
                return self._iterations.rows(rhs, noise=noise)
            except Stalled:
                self._iterations = None
        return self._factors.rows(rhs)


class Recurrent:
    """The undiscounted case: one state of each recurrent class is pinned.

    The other states form a chain that is left on entering a pinned one; its visits between two returns give the
    stationary distribution of a class (regeneration), its exits the probabilities of absorption, and h solves
    h = r − g + Ph with h = 0 at the pinned states, g being the gain of each state.
    """

    def __init__(self, matrix: Any, *, small: bool) -> None:
        n_states = matrix.shape[0]
        labels, closed = closed_labels(matrix)
        number = np.cumsum(closed) - 1
        self.classes = np.where(closed[labels], number[labels], -1)
        self.n_classes = int(closed.sum())
        self.pinned = np.unique(self.classes, return_index=True)[1][-self.n_classes :]
        free = np.ones(n_states, dtype=np.bool_)
        free[self.pinned] = False
        self.others = np.flatnonzero(free)
        matrix = sparse.csr_array(matrix)
        self._entering = sparse.csr_array(matrix[self.others][:, self.pinned])  # [others, classes]
        self.inner: Resolvent | None = None
        if len(self.others):
            leave: FloatArray = np.asarray(self._entering.sum(axis=1), dtype=np.float64).ravel()
            self.inner = leaving(sparse.csr_array(matrix[self.others][:, self.others]), leave, small=small)
        onward = np.asarray(matrix[self.pinned].sum(axis=0)).ravel()[self.others]
        self.distribution = self._stationary(onward)

    def gains(self, rhs: FloatArray) -> FloatArray:
        """Long-run averages of rewards b from each state, P* b; equal, to the last bit, within a class."""
        inside = self.classes >= 0
        gains = np.bincount(self.classes[inside], (self.distribution * rhs)[inside], minlength=self.n_classes)
        base = float(gains[0])
        if self.n_classes == 1:
            return np.full(len(rhs), base)
        out = np.full(len(rhs), base)
        if self.inner is not None:  # what the classes entered give beyond the first one
            out[self.others] += self.inner.columns(self._entering @ (gains - base))
            out = np.clip(out, gains.min(), gains.max())
        out[inside] = gains[self.classes[inside]]
        return out

    def columns(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """Relative values h of rewards b: h = b − P*b + Ph, zero at the pinned states."""
        return self.until_pinned(rhs - self.gains(rhs))

    def until_pinned(self, rhs: FloatArray) -> FloatArray:
        """What is earned on the way to a pinned state, [S]."""
        out = np.zeros(len(rhs))
        if self.inner is not None:
            out[self.others] = self.inner.columns(rhs[self.others])
        return out

    def rows(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """The long-run frequencies b P* of states from the initial distribution b."""
        if self.n_classes == 1:
            return self.distribution
        absorbed = rhs[self.pinned]
        if self.inner is not None:
            absorbed = absorbed + self.inner.rows(rhs[self.others]) @ self._entering
        absorbed = np.maximum(absorbed, 0.0)
        return np.asarray(self.distribution * np.where(self.classes >= 0, (absorbed / absorbed.sum())[self.classes], 0))

    def _stationary(self, onward: FloatArray) -> FloatArray:
        """The stationary distribution of each class, side by side, [S]; 0 at transient states."""
        mass = np.zeros(len(self.classes))
        mass[self.pinned] = 1.0
        if self.inner is not None:
            mass[self.others] = self.inner.rows(onward)
        inside = self.classes >= 0
        mass = np.where(inside, np.maximum(mass, 0.0), 0.0)
        sums = np.bincount(self.classes[inside], mass[inside], minlength=self.n_classes)
        return np.asarray(np.where(inside, mass / sums[self.classes], 0.0))


def leaving(matrix: Any, leave: FloatArray, *, small: bool) -> Resolvent:
    """Solver for A = diag(leave) + D − P of a chain [n, n] that is left with the given probabilities."""
    matrix.indices = matrix.indices.astype(np.int32, copy=False)
    matrix.indptr = matrix.indptr.astype(np.int32, copy=False)
    if small:
        return Elimination.of_chain((matrix.indptr, matrix.indices, matrix.data), leave, 1.0, *band_order(matrix))
    off = sparse.csr_array(matrix, copy=True)
    off.setdiag(0.0)
    diagonal = sparse.diags_array(leave + np.asarray(off.sum(axis=1)).ravel())
    return Factors(sparse.csc_array(diagonal - off))


def closed_labels(matrix: AnyArray) -> tuple[AnyArray, BoolArray]:
    """Strong component of each state, [S], and which components are closed."""
    count, labels = csgraph.connected_components(matrix, directed=True, connection="strong")
    coo = sparse.coo_array(matrix)
    positive = coo.data > 0
    tails, heads = labels[coo.row[positive]], labels[coo.col[positive]]
    closed = np.ones(count, dtype=np.bool_)
    closed[tails[tails != heads]] = False
    return labels, closed

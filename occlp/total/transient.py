"""Solves on the states of a chain that are left for good: I − P restricted to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import splu

from occlp._typing import AnyArray, BoolArray, FloatArray
from occlp.resolvent import Resolvent, band_order, fits_elimination, leaving

#: Expected steps beyond which sparse LU is not believed, and states up to which elimination then takes its place.
DOUBTED_STEPS, DOUBTED_STATES = 1e12, 1_500


class Transient:
    """The part of a chain that is left almost surely.

    Parameters
    ----------
    matrix : csr_array [S, S]
    inner : BoolArray [S]
        States that the chain leaves almost surely; all others are taken as the outside.
    """

    def __init__(self, matrix: Any, inner: BoolArray) -> None:
        self.inner = inner
        self._states = np.flatnonzero(inner)
        rows = sparse.csr_array(matrix)[self._states]
        self._outward = rows[:, np.flatnonzero(~inner)]
        self._solver = _factorise(sparse.csr_array(rows[:, self._states]), _sums(self._outward))

    def values(self, rewards: FloatArray, outside: FloatArray) -> FloatArray:
        """V = r + PV on the inner states, [S], with V given outside."""
        out = np.array(outside, dtype=np.float64)
        out[self.inner] = 0.0
        if len(self._states):
            out[self._states] = self._solver.columns(rewards[self._states] + self._outward @ outside[~self.inner])
        return out

    def visits(self, source: FloatArray) -> FloatArray:
        """x = source + xP on the inner states, [S]: expected visits before the chain has left; 0 outside."""
        out = np.zeros(len(self.inner))
        if len(self._states):
            out[self._states] = np.maximum(self._solver.rows(source[self._states]), 0.0)
        return out

    def steps(self) -> FloatArray:
        """Expected steps until the chain has left, [S]."""
        return self.values(np.ones(len(self.inner)), np.zeros(len(self.inner)))


class _Triangular:
    """A chain that never returns to a state, ordered so that I − P is triangular: no fill."""

    def __init__(self, matrix: Any, leave: FloatArray, order: AnyArray) -> None:
        self._order = order
        off = sparse.csr_array(matrix[order][:, order])
        off.setdiag(0.0)
        diagonal = sparse.diags_array(leave[order] + _sums(off))
        options = {"SymmetricMode": True}
        self._lu: Any = splu(
            sparse.csc_array(diagonal - off), permc_spec="NATURAL", diag_pivot_thresh=0.0, options=options
        )

    def columns(self, rhs: FloatArray) -> FloatArray:
        """A⁻¹ b."""
        return self._solve(rhs, "N")

    def rows(self, rhs: FloatArray) -> FloatArray:
        """b A⁻¹."""
        return self._solve(rhs, "T")

    def _solve(self, rhs: FloatArray, way: str) -> FloatArray:
        out = np.empty_like(rhs)
        out[self._order] = self._lu.solve(rhs[self._order], way)
        return out


def _factorise(matrix: Any, leave: FloatArray) -> Resolvent:
    """The cheapest stable way: elimination without subtraction, triangular, or sparse LU."""
    if not matrix.shape[0]:
        return _Empty()
    if fits_elimination(matrix.shape[0], band_order(matrix)[1]):
        return leaving(matrix, leave, small=True)
    order = _acyclic_order(matrix)
    if order is not None:
        return _Triangular(matrix, leave, order)
    factors = leaving(matrix, leave, small=False)
    if matrix.shape[0] > DOUBTED_STATES:
        return factors
    steps = factors.columns(np.ones(matrix.shape[0]))
    sound = np.isfinite(steps).all() and (steps >= 1.0 - 1e-9).all() and steps.max() <= DOUBTED_STEPS
    return factors if sound else leaving(matrix, leave, small=True)


class _Empty:
    """Nothing to solve."""

    def columns(self, rhs: FloatArray) -> FloatArray:
        """Return the right-hand side, which is empty."""
        return rhs

    def rows(self, rhs: FloatArray) -> FloatArray:
        """Return the right-hand side, which is empty."""
        return rhs


def _acyclic_order(matrix: Any) -> AnyArray | None:
    """Order [n] in which every state comes before its successors; None where there is a cycle (loops aside)."""
    count, labels = csgraph.connected_components(matrix, directed=True, connection="strong")
    if count < matrix.shape[0]:
        return None
    coo = sparse.coo_array(matrix)
    away = coo.row != coo.col
    tails, heads = labels[coo.row[away]], labels[coo.col[away]]
    if (tails > heads).all():
        return np.argsort(-labels.astype(np.int64), kind="stable")
    return np.argsort(labels, kind="stable") if (tails < heads).all() else None


def _sums(matrix: Any) -> FloatArray:
    return np.asarray(matrix.sum(axis=1)).ravel()

"""Solves on the states of a chain that are left for good: I − P restricted to them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from occlp._typing import AnyArray, BoolArray, FloatArray, Rows
from occlp.chains.aggregation import Aggregation
from occlp.chains.resolvent import Guarded, Resolvent, band_order, fits_elimination, inverse, leaving
from occlp.chains.sweeps import rows_of
from occlp.kernels import aggregation, rounds
from occlp.kernels.backup import EPS
from occlp.work import count_transitions

#: Expected steps beyond which sparse LU is not believed, and states up to which elimination then takes its place.
DOUBTED_STEPS, DOUBTED_STATES = 1e12, 1_500
#: Steps of iterative refinement at most.
MOST_REFINEMENTS = 3
#: Where visits are too many for doubles, those of a start with 2^−MANY of the mass are found.
MANY = 900


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

    @property
    def iterates(self) -> bool:
        """Whether solves are iterations, for which something near is worth having."""
        return isinstance(self._solver, _WithEnd)

    def values(self, rewards: FloatArray, outside: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """V = r + PV on the inner states, [S], with V given outside; iterations may leave residuals like noise."""
        out = np.array(outside, dtype=np.float64)
        out[self.inner] = 0.0
        if len(self._states):
            rhs = rewards[self._states] + self._outward @ outside[~self.inner]
            out[self._states] = self._solver.columns(rhs, noise=noise)
        return out

    def refined(
        self, values: FloatArray, residuals: Callable[[FloatArray], tuple[FloatArray, FloatArray]]
    ) -> FloatArray:
        """Values [S] with smaller residuals on the inner states, by iterative refinement.

        `residuals` gives r + PV − V of some values and a bound on its rounding, [S] each.
        """

        def inside(values: FloatArray) -> tuple[FloatArray, float]:
            rho, error = (np.where(self.inner, found, 0.0) for found in residuals(values))
            return rho, math.sqrt(float(np.mean(error * error)))

        rho, noise = inside(values)
        for _ in range(MOST_REFINEMENTS):
            trial = values + self.values(rho, np.zeros_like(rho), noise=noise)
            after, noise = inside(trial)
            if not np.abs(after).max() < np.abs(rho).max():
                break
            values, rho = trial, after
        return values

    def visits(self, source: FloatArray) -> FloatArray:
        """x = source + xP on the inner states, [S]: expected visits before the chain has left; 0 outside.

        More visits than doubles hold are as many as they hold.
        """
        out = np.zeros(len(self.inner))
        if len(self._states):
            found = self._solver.rows(source[self._states])
            if not np.isfinite(found).all():
                with np.errstate(over="ignore"):
                    found = np.ldexp(self._solver.rows(np.ldexp(source[self._states], -MANY)), MANY)
            out[self._states] = np.clip(found, 0.0, np.finfo(np.float64).max)
        return out

    def steps(self) -> FloatArray:
        """Expected steps until the chain has left, [S]; of iterations no more than three digits are asked."""
        return self.values(np.ones(len(self.inner)), np.zeros(len(self.inner)), noise=1e-3)


class _Triangular:
    """A chain that never returns to a state, ordered so that I − P is triangular: one sweep solves it."""

    def __init__(self, matrix: Any, leave: FloatArray, order: AnyArray) -> None:
        self._order = order
        off = sparse.csr_array(matrix[order][:, order])
        off.setdiag(0.0)
        self._diagonal, self._onward = leave[order] + _sums(off), rows_of(off)

    @cached_property
    def _entering(self) -> Rows:
        return rounds.transpose(*self._onward, len(self._order))

    def columns(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """A⁻¹ b: states after those that they lead to."""
        return self._sweep(rhs, self._onward, backwards=True)

    def rows(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """b A⁻¹: states after those that lead to them."""
        return self._sweep(rhs, self._entering, backwards=False)

    def _sweep(self, rhs: FloatArray, rows: Rows, *, backwards: bool) -> FloatArray:
        x, out = np.zeros(len(rhs)), np.empty(len(rhs))
        count_transitions(len(rows[1]))
        aggregation.relax(1, backwards, *rows, self._diagonal, rhs[self._order], x)
        out[self._order] = x
        return out


class _WithEnd:
    """Iterations on a chain with its end as one more state: without it, a basin might have no way out."""

    def __init__(self, matrix: Any, leave: FloatArray) -> None:
        column, corner = sparse.csr_array(leave[:, None]), sparse.csr_array([[1.0]])
        whole = sparse.csr_array(sparse.block_array([[matrix, column], [None, corner]], format="csr"))
        ended = np.append(np.zeros(len(leave)), 1.0)
        self._moves, self._rates = whole, _sums(whole) + ended
        self._guarded = Guarded(
            Aggregation(rows_of(whole), ended, discount=1.0), lambda: leaving(whole, ended, small=False)
        )

    def columns(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """A⁻¹ b."""
        return self._guarded.columns(np.append(rhs, 0.0), noise=noise)[:-1]

    def rows(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """b A⁻¹, refined once."""
        rhs, moves = np.append(rhs, 0.0), self._moves
        found = self._guarded.rows(rhs)
        count_transitions(moves.nnz)
        defect = rhs + found @ moves - found * self._rates
        noise = 4.0 * EPS * math.sqrt(float(np.mean(found * found)))
        return (found + self._guarded.rows(defect, noise=noise))[:-1]


def _factorise(matrix: Any, leave: FloatArray) -> Resolvent:
    """The cheapest stable way: one sweep, elimination without subtraction, iterations on two levels, or sparse LU."""
    if not matrix.shape[0]:
        return _Empty()
    order = _acyclic_order(matrix)
    if order is not None:
        return _Triangular(matrix, leave, order)
    if fits_elimination(matrix.shape[0], band_order(matrix)[1]):
        return leaving(matrix, leave, small=True)
    if matrix.shape[0] > DOUBTED_STATES:
        return _WithEnd(matrix, leave)
    factors = leaving(matrix, leave, small=False)
    steps = factors.columns(np.ones(matrix.shape[0]))
    sound = np.isfinite(steps).all() and (steps >= 1.0 - 1e-9).all() and steps.max() <= DOUBTED_STEPS
    return factors if sound else leaving(matrix, leave, small=True)


class _Empty:
    """Nothing to solve."""

    def columns(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
        """Return the right-hand side, which is empty."""
        return rhs

    def rows(self, rhs: FloatArray, *, noise: float = 0.0) -> FloatArray:
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
    # Components are found from the last to the first; were it otherwise, there would be other ways.
    return np.asarray(inverse(labels)[::-1]) if (tails > heads).all() else None


def _sums(matrix: Any) -> FloatArray:
    return np.asarray(matrix.sum(axis=1)).ravel()

"""Solves with the matrix of a slow chain, A = diag(leave) + γ (D − P), without factors of it.

Two levels precondition BiCGSTAB (van der Vorst 1992). From each state the likeliest moves lead to a cycle; the states
that come to the same one are its basin. Gauss–Seidel sweeps take the states by their distance from the cycle: there A
is nearly triangular, so that values travel the whole way in one sweep. What is left is nearly constant on each basin:
one unknown a basin, its equation that of the cycle, takes it away (iterative aggregation: Koury, McAllister and
Stewart 1984; for values Bertsekas and Castañon 1989).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from occlp._typing import FloatArray, IntArray, Rows
from occlp.kernels import aggregation, rounds
from occlp.parallel import inner_product
from occlp.work import count_factorization, count_transitions

#: Sweeps on either side of a coarse correction.
SWEEPS = 2
#: Basins, and share of the states, beyond which all states make one basin.
MOST_BASINS, LARGEST_SHARE = 30_000, 1 / 8
#: By how much a solve makes the defect smaller.
REDUCTION = 1e-10
#: Preconditioned steps after which a solve has failed.
MOST_STEPS = 100
#: Cosine between the defect and its shadow below which iterations start anew, from the defect.
BLIND = 1e-6


class Stalled(Exception):
    """The iterations do not converge."""


class Aggregation:
    """Solves with A by iterations, from the right and from the left.

    Parameters
    ----------
    rows : Rows
        Of P, a csr_array [n, n].
    leave : FloatArray [n]
        Rate at which each state is left for good; 1 − γ.
    discount : float
    """

    def __init__(self, rows: Rows, leave: FloatArray, *, discount: float) -> None:
        n, size = len(leave), len(rows[1])
        label, depth, order, core = (np.empty(n, dtype=np.int32) for _ in range(4))
        self._n_basins, length = aggregation.label_basins(*rows, label, depth, order, core)
        position = np.empty(n, dtype=np.int32)
        aggregation.order_by_depth(depth, order, position)
        indptr, indices, data = np.empty(n + 1, dtype=np.int32), np.empty(size, dtype=np.int32), np.empty(size)
        sums = np.empty(n)
        count = aggregation.gather_moves(*rows, position, discount, indptr, indices, data, sums)
        self._order, self._moves = order, (indptr, indices[:count], data[:count])
        self._leave = leave[order]
        self._diagonal = self._leave + sums
        self._label, self._core = label[order], position[core[:length]]
        if self._n_basins > min(MOST_BASINS, max(1.0, LARGEST_SHARE * n)):
            self._label[:], self._n_basins = 0, 1
        if not self._leave.all():
            self._core = self._widened(self._core)
        self._weights = 1.0 / np.bincount(self._label[self._core])[self._label[self._core]]

    def _widened(self, core: IntArray) -> IntArray:
        """The states whose equations stand for their basins: all states of a basin whose cycle is never left."""
        tails = self._crossing(core, np.ones(len(core)))[0]
        left = np.zeros(self._n_basins, dtype=np.bool_)
        left[tails], left[self._label[core[self._leave[core] > 0]]] = True, True
        mine = ~left[self._label]
        mine[core] = True
        return np.flatnonzero(mine).astype(np.int32)

    def _crossing(self, core: IntArray, weights: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
        """Weighted moves from some states into other basins: from which basin, to which, how much."""
        size = int((self._moves[0][core + 1] - self._moves[0][core]).sum())
        tails, heads, flows = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int32), np.empty(size)
        size = aggregation.cross_basins(core, weights, self._label, *self._moves, tails, heads, flows)
        return tails[:size], heads[:size], flows[:size]

    def columns(self, rhs: FloatArray, *, reduction: float = REDUCTION, noise: float = 0.0) -> FloatArray:
        """A⁻¹ b, the defect made smaller by the given factor, or than noise of this size at every state.

        Raises `Stalled` where that fails.
        """
        target = max(reduction * math.sqrt(inner_product(rhs, rhs)), noise * math.sqrt(len(rhs)))
        found = bicgstab(self._defects(self._moves, self._leave), self._improve_columns, rhs[self._order], target)
        return self._in_place(found)

    def rows(self, rhs: FloatArray, *, reduction: float = REDUCTION, noise: float = 0.0) -> FloatArray:
        """b A⁻¹, likewise."""
        target = max(reduction * math.sqrt(inner_product(rhs, rhs)), noise * math.sqrt(len(rhs)))
        found = bicgstab(self._defects(*self._entering), self._improve_rows, rhs[self._order], target)
        return self._in_place(found)

    def _in_place(self, ordered: FloatArray) -> FloatArray:
        out = np.empty_like(ordered)
        out[self._order] = ordered
        return out

    @staticmethod
    def _defects(rows: Rows, rate: FloatArray) -> Callable[[FloatArray, FloatArray], FloatArray]:
        """The defect b − A x as a function of b and x."""

        def defect(rhs: FloatArray, x: FloatArray) -> FloatArray:
            out = np.empty(len(x))
            count_transitions(len(rows[1]))
            aggregation.defects(*rows, rate, rhs, x, out)
            return out

        return defect

    @cached_property
    def _entering(self) -> tuple[Rows, FloatArray]:
        """The transposed moves, and the diagonal of A less the sums of their rows, [n]."""
        indptr, indices, data = self._moves
        n = len(self._order)
        sums = np.bincount(indices, data, minlength=n)
        return rounds.transpose(indptr, indices, data, n), self._diagonal - sums

    @cached_property
    def _coarse(self) -> Any:
        """Factors of the equations of the cycles, [basins, basins]; their diagonal is summed, not subtracted."""
        core, weights, count = self._core, self._weights, self._n_basins
        tails, heads, flows = self._crossing(core, weights)
        diagonal = np.bincount(self._label[core], weights * self._leave[core], minlength=count)
        diagonal += np.bincount(tails, flows, minlength=count)
        crossing = sparse.csc_array((flows, (tails, heads)), shape=(count, count))
        matrix = sparse.csc_array(sparse.diags_array(diagonal) - crossing)
        count_factorization()
        try:
            return splu(matrix, diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        except RuntimeError:  # singular: cycles that are left for each other only
            raise Stalled from None

    def _improve_columns(self, rhs: FloatArray) -> FloatArray:
        """Sweeps, a coarse correction and sweeps for Ax = b, from zero."""
        count_transitions(2 * SWEEPS * len(self._moves[1]))
        x, coarse = np.zeros(len(rhs)), np.zeros(self._n_basins)
        system = (*self._moves, self._diagonal, rhs, x)
        aggregation.relax(SWEEPS, False, *system)
        links = (self._core, self._weights, self._label, *self._moves)
        aggregation.weigh_defects(*links, self._leave, rhs, x, coarse)
        x += self._coarse.solve(coarse)[self._label]
        aggregation.relax(SWEEPS, False, *system)
        return x

    def _improve_rows(self, rhs: FloatArray) -> FloatArray:
        """The same for xA = b."""
        count_transitions((2 * SWEEPS + 1) * len(self._moves[1]))
        x, defect = np.zeros(len(rhs)), np.empty(len(rhs))
        rows, surplus = self._entering
        system = (*rows, self._diagonal, rhs, x)
        aggregation.relax(SWEEPS, True, *system)
        aggregation.defects(*rows, surplus, rhs, x, defect)
        coarse = np.bincount(self._label, defect, minlength=self._n_basins)
        x[self._core] += self._weights * self._coarse.solve(coarse, "T")[self._label[self._core]]
        aggregation.relax(SWEEPS, True, *system)
        return x


def bicgstab(
    defects: Callable[[FloatArray, FloatArray], FloatArray],
    improve: Callable[[FloatArray], FloatArray],
    rhs: FloatArray,
    target: float,
) -> FloatArray:
    """Solve A x = b, from zero, until the Euclidean norm of the defect b − Ax is at most `target`.

    Parameters
    ----------
    defects, improve : callable
        (b, x) -> b − Ax, and b -> an approximation of A⁻¹ b.
    rhs : FloatArray [n]
        b.
    target : float

    Raises
    ------
    Stalled

    References
    ----------
    van der Vorst (1992), Bi-CGSTAB, SIAM J. Sci. Stat. Comput. 13, preconditioned from the right.
    """
    x, defect, zero = np.zeros(len(rhs)), rhs.copy(), np.zeros(len(rhs))
    if math.sqrt(inner_product(rhs, rhs)) <= target:
        return x
    shadow, direction, product = rhs, rhs.copy(), inner_product(rhs, rhs)
    with np.errstate(all="ignore"):
        for _ in range(MOST_STEPS // 2):
            step = improve(direction)
            image = defects(zero, step)  # −A step
            length = -product / inner_product(shadow, image)
            x += length * step
            defect += length * image
            if math.sqrt(inner_product(defect, defect)) <= target:
                return x
            step = improve(defect)
            change = defects(zero, step)
            damping = -inner_product(change, defect) / inner_product(change, change)
            x += damping * step
            defect += damping * change
            if math.sqrt(inner_product(defect, defect)) <= target:
                return x
            before, product = product, inner_product(shadow, defect)
            size = inner_product(shadow, shadow) * inner_product(defect, defect)
            if product * product <= BLIND * BLIND * size:
                shadow, direction, product = defect.copy(), defect.copy(), inner_product(defect, defect)
                continue
            direction += damping * image
            direction *= (product / before) * (length / damping)
            direction += defect
            if not np.isfinite(direction[0]):
                break
    raise Stalled

"""Normal equations A diag(w) Aᵀ of occupancy programs: flow rows of the states, above a few dense rows.

The flow part is solved by conjugate gradients without a matrix where chains mix fast, else by a factorisation:
banded Cholesky where states can be ordered in a narrow band, sparse LU elsewhere. The dense rows join by
their Schur complement.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded
from scipy.sparse.linalg import splu

from occlp._typing import AnyArray, FloatArray
from occlp.kernels import flow
from occlp.resolvent import band_order, inverse
from occlp.solvers.conjugate_gradients import solve_by_gradients
from occlp.standard import StandardForm, flow_matrix

#: Solves with a matrix, for a vector [n] or columns [n, k].
Solve = Callable[[FloatArray], FloatArray]

#: Operations (rows x bandwidth squared) up to which a factorisation costs nothing, is banded, and is there at all.
TINY_WORK, BANDED_WORK, MOST_WORK = 3e7, 3e8, 1e12
#: Products of conjugate gradients after which a factorisation is cheaper; and where none fits.
FEW_PRODUCTS, MANY_PRODUCTS = 100, 20_000
#: What they have to reach, as a share of the right-hand side.
ACCURATE = 1e-12
#: What keeps scaled matrices regular.
REGULAR = 1e-14


class NormalEquations:
    """The pairs that may carry mass, and the flow rows of all their states but one.

    Parameters
    ----------
    form : StandardForm
        With a term whose support is taken.
    """

    def __init__(self, form: StandardForm) -> None:
        assert form.term is not None
        self.form = form
        self.pairs: AnyArray = np.flatnonzero(form.term.support)
        states = np.unique(form.states[self.pairs])
        self.states: AnyArray = np.delete(states, int(np.argmax(form.initial[states])))
        self.source = form.rest * form.initial[self.states]
        self.mixes_fast = self.work > TINY_WORK

    @property
    def n(self) -> int:
        """Number of flow rows."""
        return len(self.states)

    @cached_property
    def flow(self) -> Any:
        """The flow rows, csr_array [n, kept pairs]."""
        return sparse.csr_array(flow_matrix(self.form)[self.states][:, self.pairs])

    @cached_property
    def transposed(self) -> Any:
        """The transpose of the flow rows, csr_array [kept pairs, n]."""
        return sparse.csr_array(self.flow.T)

    @cached_property
    def band(self) -> tuple[AnyArray, int]:
        """An order of the rows and the bandwidth of the normal matrix in it: pairs join states one step apart."""
        form = self.form
        member = sparse.csr_array((np.ones(form.n_pairs), np.arange(form.n_pairs), form.start))
        order, width = band_order(sparse.csr_array((member @ form.transitions)[self.states][:, self.states]))
        return order, min(2 * width, self.n - 1)

    @property
    def work(self) -> float:
        """Operations of a banded factorisation."""
        return self.n * (self.band[1] + 1.0) ** 2

    @property
    def factors_fit(self) -> bool:
        """Whether a factorisation takes reasonable time and memory."""
        return self.work <= MOST_WORK

    def solver(self, weights: FloatArray, dense: FloatArray, corner: FloatArray) -> Solve:
        """Solver of the whole matrix.

        Parameters
        ----------
        weights : FloatArray [kept pairs]
        dense : FloatArray [k, kept pairs]
        corner : FloatArray [k, k]
            What joins the block of the dense rows, from variables that only they have.

        Raises
        ------
        RuntimeError
            Where the matrix is singular.
        """
        n = self.n
        factored = self._flow_solver(weights) if n else np.asarray
        border = np.asarray(self.flow @ (weights[:, None] * dense.T))
        inner = factored(border)
        corner = (dense * weights) @ dense.T + corner - border.T @ inner

        def solve(right: FloatArray) -> FloatArray:
            first = factored(right[:n])
            if not len(corner):
                return first
            last = np.linalg.lstsq(corner, right[n:] - border.T @ first, rcond=None)[0]
            return np.concatenate([first - inner @ last, last])

        return solve

    def _flow_solver(self, weights: FloatArray) -> Solve:
        """Solver of the flow part; once gradients have been slow, factors are tried first."""
        return self._by_gradients(weights) if self.mixes_fast else self._factor(weights)

    def _by_gradients(self, weights: FloatArray) -> Solve:
        form, matrix, states = self.form, self.form.transitions, self.states
        mass, values, out = np.zeros(form.n_pairs), np.zeros(form.n_states), np.empty(form.n_states)
        mass[self.pairs] = weights
        rows = (form.start, matrix.indptr, matrix.indices, matrix.data, form.discount, form.rest, mass)
        squares = np.empty(form.n_states)
        flow.flow(*rows, out, squares)
        most = FEW_PRODUCTS if self.factors_fit else MANY_PRODUCTS
        factors: list[Solve] = []

        def product(direction: FloatArray) -> FloatArray:
            values[states] = direction
            flow.curvature(*rows, values, out)
            return out[states]

        def solve(right: FloatArray) -> FloatArray:
            if right.ndim == 2:
                return np.column_stack([solve(column) for column in right.T]) if right.shape[1] else right
            found = None
            if not factors:
                found = solve_by_gradients(product, squares[states], right, accuracy=ACCURATE, most_products=most)
            if found is None:
                if not self.factors_fit:
                    raise RuntimeError("conjugate gradients did not converge")
                self.mixes_fast = False
                factors.extend([] if factors else [self._factor(weights)])
                found = factors[0](right)
            return found

        return solve

    def _factor(self, weights: FloatArray) -> Solve:
        """Factors of the flow part, scaled to a diagonal of ones and made regular."""
        scaled = self.flow.copy()
        scaled.data *= weights[scaled.indices]
        matrix = sparse.csc_array(scaled @ self.transposed)
        units = 1.0 / np.sqrt(np.maximum(matrix.diagonal(), 1e-300))
        columns = np.repeat(np.arange(self.n), np.diff(matrix.indptr))
        matrix.data *= units[matrix.indices] * units[columns]
        inner = None
        if self.work <= BANDED_WORK:
            inner = self._banded(matrix, columns)
        if inner is None:
            options = {"SymmetricMode": True}
            regular = sparse.csc_array(matrix + REGULAR * sparse.eye_array(self.n, format="csc"))
            inner = splu(regular, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options).solve
        return lambda right: (units * inner((units * right.T).T).T).T

    def _banded(self, matrix: Any, columns: AnyArray) -> Solve | None:
        """Cholesky factors within a band; None where rounding has cost the matrix its definiteness."""
        order, width = self.band
        position = inverse(order)
        rows, columns = position[matrix.indices], position[columns]
        lower = rows >= columns
        band = np.zeros((width + 1, self.n))
        band[(rows - columns)[lower], columns[lower]] = matrix.data[lower]
        band[0] += REGULAR
        try:
            factors = cholesky_banded(band, lower=True, overwrite_ab=True, check_finite=False)
        except LinAlgError:
            return None

        def solve(right: FloatArray) -> FloatArray:
            out = np.empty_like(right)
            out[order] = cho_solve_banded((factors, True), right[order], check_finite=False)
            return out

        return solve

"""Normal equations A diag(w) Aᵀ of occupancy programs: flow rows of the states, above a few dense rows.

The flow part is solved by conjugate gradients without a matrix where chains mix fast, else by a factorisation:
Cholesky factors within a band where states stand in a narrow one, and by fronts elsewhere. The dense rows join by
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
from occlp.solvers.conjugate_gradients import solve_by_gradients
from occlp.solvers.dissection import dissect
from occlp.solvers.multifrontal import Cholesky, NotDefinite
from occlp.standard import StandardForm, flow_matrix
from occlp.work import count_factorization, count_transitions

#: Solves with a matrix, for a vector [n] or columns [n, k].
Solve = Callable[[FloatArray], FloatArray]

#: Operations up to which a factorisation costs nothing, is banded, and is there at all.
TINY_WORK, BANDED_WORK, MOST_WORK = 3e7, 3e8, 1e12
#: Products of conjugate gradients after which factors are cheaper; and where none fit.
FEW_PRODUCTS, MANY_PRODUCTS = 80, 20_000
#: What they have to reach, as a share of the right-hand side.
ACCURATE = 1e-12
#: What keeps scaled matrices regular.
REGULAR = 1e-14


class NormalEquations:
    """The pairs that may carry mass, and the flow rows of all their states but one.

    Parameters
    ----------
    form : StandardForm
    pairs : AnyArray, optional
        The pairs that may carry mass. Default: the support of the form's term.
    joined : bool
        Whether weights may join the pairs of a state (`joint`).
    """

    def __init__(self, form: StandardForm, pairs: AnyArray | None = None, *, joined: bool = False) -> None:
        self.form, self.joined = form, joined
        if pairs is None:
            assert form.term is not None
            pairs = np.flatnonzero(form.term.support)
        self.pairs: AnyArray = pairs
        states, self.firsts = np.unique(form.states[self.pairs], return_index=True)
        self.states: AnyArray = np.delete(states, int(np.argmax(form.initial[states])))
        self.source = form.rest * form.initial[self.states]
        self.mixes_fast = self.band_work > TINY_WORK

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
    def members(self) -> Any:
        """Which pair belongs to which kept state, csr_array [kept states, kept pairs]."""
        starts = np.append(self.firsts, len(self.pairs))
        shape = (len(self.firsts), len(self.pairs))
        return sparse.csr_array((np.ones(shape[1]), np.arange(shape[1]), starts), shape=shape)

    @cached_property
    def width(self) -> int:
        """Bandwidth of the normal matrix in the order of the states: pairs join states one step apart."""
        form = self.form
        steps = form.transitions.indices - np.repeat(form.states, np.diff(form.transitions.indptr))
        return min(2 * int(np.abs(steps).max(initial=0)), max(self.n - 1, 0))

    @property
    def band_work(self) -> float:
        """Operations of a factorisation within the band."""
        return self.n * (self.width + 1.0) ** 2

    @cached_property
    def cholesky(self) -> Cholesky | None:
        """What finds factors of normal matrices; None where they take too long, or too much memory."""
        rows = abs(self.flow) @ self.members.T if self.joined else abs(self.flow)
        found = dissect(rows @ rows.T, MOST_WORK)
        return None if found is None else Cholesky(found)

    @property
    def factors_fit(self) -> bool:
        """Whether a factorisation takes reasonable time and memory."""
        return self.band_work <= BANDED_WORK or self.cholesky is not None

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
        factored = self.single(weights)
        border = np.asarray(self.flow @ (weights[:, None] * dense.T))
        return bordered(factored, border, (dense * weights) @ dense.T + corner)

    def joint(self, weights: FloatArray, means: FloatArray) -> Solve:
        """Solver of the flow part Σ w (a − b)(a − b)ᵀ + Σ_s m_s b_s b_sᵀ, weights [kept pairs], means [kept states].

        The columns a of a state are weighed about their weighted mean b, which costs no digits where the curvature
        of what they have in common is much larger than their own (or much smaller).

        Raises
        ------
        RuntimeError
            Where the matrix is singular.
        """
        if not self.n:
            return np.asarray
        totals = np.add.reduceat(weights, self.firsts)
        shares = sparse.csr_array(self.members.multiply(weights[None, :]).multiply(1.0 / totals[:, None]))
        mean = sparse.csr_array(self.flow @ shares.T)
        about = sparse.csr_array(self.flow - mean @ self.members)
        scaled, scaled_mean = about.copy(), mean.copy()
        scaled.data *= weights[about.indices]
        scaled_mean.data *= means[mean.indices]
        return self._factor(sparse.csc_array(scaled @ about.T + scaled_mean @ mean.T))

    def single(self, weights: FloatArray) -> Solve:
        """Solver of the flow part Σ w a aᵀ, weights [kept pairs]; once gradients have been slow, factors come first."""
        if not self.n:
            return np.asarray
        return self._by_gradients(weights) if self.mixes_fast else self._factor(self._matrix(weights))

    def _by_gradients(self, weights: FloatArray) -> Solve:
        form, matrix, states = self.form, self.form.transitions, self.states
        mass, values, out = np.zeros(form.n_pairs), np.zeros(form.n_states), np.empty(form.n_states)
        mass[self.pairs] = weights
        rows = (form.start, matrix.indptr, matrix.indices, matrix.data, form.discount, form.rest, mass)
        squares = np.empty(form.n_states)
        count_transitions(matrix.nnz)
        flow.flow(*rows, out, squares)
        factors: list[Solve] = []

        def product(direction: FloatArray) -> FloatArray:
            values[states] = direction
            count_transitions(matrix.nnz)
            flow.curvature(*rows, values, out)
            return out[states]

        def solve(right: FloatArray) -> FloatArray:
            if right.ndim == 2:
                return np.column_stack([solve(column) for column in right.T]) if right.shape[1] else right
            for most in (FEW_PRODUCTS, MANY_PRODUCTS):
                if self.mixes_fast:
                    found = solve_by_gradients(product, squares[states], right, accuracy=ACCURATE, most_products=most)
                    if found is not None:
                        return found
                    self.mixes_fast = not self.factors_fit
            if self.mixes_fast:
                raise RuntimeError("conjugate gradients did not converge")
            factors.extend([] if factors else [self._factor(self._matrix(weights))])
            return factors[0](right)

        return solve

    def _matrix(self, weights: FloatArray) -> Any:
        """The flow part, csc_array [n, n]."""
        scaled = self.flow.copy()
        scaled.data *= weights[scaled.indices]
        return sparse.csc_array(scaled @ self.transposed)

    def _factor(self, matrix: Any) -> Solve:
        """Factors of a flow part, scaled to a diagonal of ones and made regular."""
        units = 1.0 / np.sqrt(np.maximum(matrix.diagonal(), 1e-300))
        columns = np.repeat(np.arange(self.n), np.diff(matrix.indptr))
        matrix.data *= units[matrix.indices] * units[columns]
        matrix = sparse.csc_array(matrix + REGULAR * sparse.eye_array(self.n, format="csc"))
        count_factorization()
        try:
            inner = self._banded(matrix) if self.band_work <= BANDED_WORK else self._dissected(matrix)
        except (LinAlgError, NotDefinite):  # rounding has cost the matrix its definiteness
            options = {"SymmetricMode": True}
            inner = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options).solve
        return lambda right: (units * inner((units * right.T).T).T).T

    def _banded(self, matrix: Any) -> Solve:
        """Cholesky factors within the band."""
        rows, columns = matrix.indices, np.repeat(np.arange(self.n), np.diff(matrix.indptr))
        lower = rows >= columns
        band = np.zeros((self.width + 1, self.n))
        band[(rows - columns)[lower], columns[lower]] = matrix.data[lower]
        factors = cholesky_banded(band, lower=True, overwrite_ab=True, check_finite=False)
        return lambda right: np.asarray(cho_solve_banded((factors, True), right, check_finite=False))

    def _dissected(self, matrix: Any) -> Solve:
        """Cholesky factors by fronts; they replace those found before."""
        if self.cholesky is None:
            raise RuntimeError("no factors fit")
        self.cholesky.factorise(matrix)
        return self.cholesky.solve


def bordered(factored: Solve, border: FloatArray, corner: FloatArray) -> Solve:
    """Solver of [[M, B], [Bᵀ, C]] from one of M: B [n, k], C [k, k]."""
    n, inner = len(border), factored(border)
    units = 1.0 / np.sqrt(np.maximum(corner.diagonal(), 1e-300))
    scaled = units[:, None] * (corner - border.T @ inner) * units

    def solve(right: FloatArray) -> FloatArray:
        first = factored(right[:n])
        if not len(corner):
            return first
        last = units * np.linalg.lstsq(scaled, units * (right[n:] - border.T @ first), rcond=None)[0]
        return np.concatenate([first - inner @ last, last])

    return solve

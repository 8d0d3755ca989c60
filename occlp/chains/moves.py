"""How a policy moves: the matrix of its chain, and the solves with A = (1 − γ) I + γ (D − P), D the row sums of P.

Chains that differ in their rewards or in their start share it, with all that has been found out about it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from occlp._typing import Rows
from occlp.chains.aggregation import Aggregation
from occlp.chains.resolvent import (
    Elimination,
    Factors,
    Guarded,
    Recurrent,
    Resolvent,
    band_order,
    closed_labels,
    fits_elimination,
    natural_width,
)
from occlp.chains.sweeps import to_matrix

#: Chains of at most so many states, and so many times as long as they are wide, are factored for many right-hand sides.
FACTORED_STATES, FACTORED_WIDTHS = 300_000, 20


class Moves:
    """The transitions of a chain, and the ways to solve with them that are known so far.

    Parameters
    ----------
    rows : Rows
        Of P, a csr_array [S, S].
    discount, rest : float
        γ and 1 − γ.
    """

    def __init__(self, rows: Rows, discount: float, rest: float) -> None:
        self.rows, self.discount, self.rest = rows, discount, rest
        self._resolvent: Resolvent | None = None
        self._settles = False

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.rows[0]) - 1

    @cached_property
    def matrix(self) -> Any:
        """P as a csr_array [S, S]."""
        return to_matrix(self.rows, self.n_states)

    @cached_property
    def system(self) -> Any:
        """A as a csc_array [S, S], rows summing to 1 − γ."""
        matrix = sparse.csr_array(self.matrix, copy=True)
        matrix.setdiag(0.0)
        sums = np.asarray(matrix.sum(axis=1)).ravel()
        diagonal = sparse.diags_array(self.rest + self.discount * sums)
        return sparse.csc_array(diagonal - self.discount * matrix)

    @cached_property
    def n_classes(self) -> int:
        """Number of recurrent classes."""
        return int(closed_labels(self.matrix)[1].sum())

    @cached_property
    def is_banded(self) -> bool:
        """Whether subtraction-free elimination is affordable in the order of the states as it is."""
        return self._natural >= 0

    @cached_property
    def _natural(self) -> int:
        return natural_width(*self.rows[:2])

    @cached_property
    def _band(self) -> tuple[Any, int]:
        """An order of the states and the bandwidth it gives."""
        return (np.arange(self.n_states, dtype=np.int32), self._natural) if self.is_banded else band_order(self.matrix)

    @property
    def is_small(self) -> bool:
        """Whether subtraction-free elimination is affordable, and called for: nothing else has been found to do."""
        return not (self._settles or self._iterates) and (self.is_banded or self._fits)

    @cached_property
    def _fits(self) -> bool:
        return fits_elimination(self.n_states, self._band[1], len(self.rows[1]))

    @property
    def may_settle(self) -> bool:
        """Whether sweeps are tried before anything else: nothing better is at hand, as elimination or factors."""
        return not (self.is_banded or self.is_factored or self._iterates) and (self.rest > 0 or not self.is_small)

    def note_settling(self) -> None:
        """Remember that sweeps are enough: no other way is called for."""
        self._settles = True

    @property
    def _iterates(self) -> bool:
        """Whether iterations on two levels have been set up, on the way to this policy."""
        return "iterations" in vars(self)

    @cached_property
    def iterations(self) -> Aggregation:
        """Iterations on two levels."""
        return Aggregation(self.rows, np.full(self.n_states, self.rest), discount=self.discount)

    @property
    def resolvent(self) -> Resolvent:
        """The most trustworthy solver that the size allows; made once."""
        if self._resolvent is None:
            self._resolvent = self._most_trustworthy()
        return self._resolvent

    def _most_trustworthy(self) -> Resolvent:
        if self.rest == 0:
            return Recurrent(self.matrix, small=self.is_small)
        if self.is_small:
            leave = np.full(self.n_states, self.rest)
            return Elimination.of_chain(self.rows, leave, self.discount, *self._band)
        return Guarded(self.iterations, lambda: Factors(self.system))

    @property
    def is_factored(self) -> bool:
        """Whether there is a resolvent already, so that sweeps would be in vain."""
        return self._resolvent is not None

    def factor(self) -> None:
        """Factor the matrix, for many right-hand sides, where sweeps would be slow and the factors stay sparse."""
        sparse_factors = self.n_states <= FACTORED_STATES and FACTORED_WIDTHS * self._band[1] <= self.n_states
        if self.rest > 0 and not self.is_small and sparse_factors and not isinstance(self._resolvent, Factors):
            self._resolvent = Factors(self.system)

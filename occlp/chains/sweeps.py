"""Chains that mix fast: the rows of a policy side by side, and sweeps over them until nothing is left to settle."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, FloatArray, IntArray, Rows
from occlp.kernels import rounds
from occlp.standard import StandardForm
from occlp.work import count_transitions

#: Rewards [S] of the rows, γ and 1 − γ.
Earned: TypeAlias = tuple[FloatArray, float, float]
#: Sweeps between two improvements at most, and the share of the residual's spread at which they end before.
SWEEPS, SHARE = 10, 0.05
#: Sweeps that chains which mix fast may take.
SWEEP_BUDGET = 600
#: Spread of the residual (rewards have size one), and change of the occupancy, at which sweeps stop.
SWEEP_TARGET = 1e-14
#: The least 1 − γ for which sweeps settle an occupancy.
LEAST_REST = 1e-5


def rows_of(matrix: Any) -> Rows:
    """The arrays of a csr_array, as the kernels take them."""
    return matrix.indptr, matrix.indices, matrix.data


def to_matrix(rows: Rows, n_columns: int) -> Any:
    """A csr_array around the arrays, which are taken as they are."""
    matrix = sparse.csr_array((len(rows[0]) - 1, n_columns), dtype=np.float64)
    matrix.indptr, matrix.indices, matrix.data = rows
    return matrix


class ChosenRows:
    """The rows of one pair of each state side by side; they follow the choice with as little copying as may be.

    Parameters
    ----------
    form : StandardForm
    choice : IntArray [S]
    """

    def __init__(self, form: StandardForm, choice: IntArray) -> None:
        self._source = (*rows_of(form.transitions), form.rewards)
        self.choice = choice
        self._gather(np.full(len(choice), -1, dtype=np.int32), rows_of(form.transitions))

    def follow(self, choice: IntArray) -> None:
        """Take the rows of another choice, [S]."""
        known, self.choice = self.choice, choice
        if not rounds.patch(choice, known, *self._source, *self.rows, self.rewards):
            self._gather(known, self.rows)

    def _gather(self, known: IntArray, rows: Rows) -> None:
        indptr, indices, data, self.rewards = rounds.gather(self.choice, known, *self._source, *rows)
        self.rows: Rows = (indptr, indices, data)


def sweep(rows: Rows, earned: Earned, values: FloatArray, room: FloatArray, most: int, target: float) -> float:
    """Sweep the values, [S], in place, until the spread of the residual is within the target; that spread.

    `room` [S] is to work in. There are `most` sweeps at most, and fewer where the target is out of reach.
    """
    done, spread = rounds.sweep(most, target, *rows, *earned, values, room)
    count_transitions(done * len(rows[1]))
    return float(spread)


def settle_values(
    rows: Rows,
    earned: Earned,
    values: FloatArray,
) -> bool:
    """Sweep the values, [S], in place, while the chain mixes fast enough for that; whether they are settled."""
    grain = min(8 * float(np.spacing(np.abs(values).max())), 1e-13)  # what one double of this size can resolve
    target = max(SWEEP_TARGET, grain)
    return sweep(rows, earned, values, np.empty_like(values), SWEEP_BUDGET, target) <= target


def settle_occupancy(rows: Rows, discount: float, rest: float, initial: AnyArray) -> FloatArray | None:
    """The occupancy, [S], by sweeps from the initial distribution; None where the chain mixes too slowly for that.

    A defect of one may stand for an error of 1 / (1 − γ) in classes that hardly know each other, so nothing is settled
    where 1 − γ is tiny.
    """
    if rest < LEAST_REST:
        return None
    mass: FloatArray = np.array(initial)
    links = rounds.transpose(*rows, len(mass))
    done, left = rounds.spread_mass(SWEEP_BUDGET, SWEEP_TARGET, *links, discount, rest, initial, mass)
    count_transitions(done * len(rows[1]))
    return mass if left == 0 else None

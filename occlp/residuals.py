"""Residuals r + γPV − V of the pairs of a form: the one pass over a model that improves policies and proves bounds."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.kernels import backup
from occlp.parallel import run_rows
from occlp.standard import StandardForm
from occlp.work import count_transitions


@dataclass(frozen=True, eq=False)
class PairResiduals:
    """The residuals of all pairs for some values V = high + low, and what each state needs to know of its own.

    Attributes
    ----------
    form : StandardForm
    high, low : FloatArray [S], FloatArray [S] or None
    scores : FloatArray [pairs]
        r + γPV − V.
    best : IntArray [S]
        The first pair of each state with the largest residual.
    ceiling : FloatArray [S]
        The largest residual of a state with its rounding added.
    slack : FloatArray [S]
        The rounding that stands in the ceiling.
    doubt : FloatArray [S]
        The largest rounding of a residual of the state.
    """

    form: StandardForm
    high: FloatArray  # [S]
    low: FloatArray | None  # [S]
    scores: FloatArray  # [pairs]
    best: IntArray  # [S]
    ceiling: FloatArray  # [S]
    slack: FloatArray  # [S]
    doubt: FloatArray  # [S]

    def is_of(self, high: FloatArray, low: FloatArray | None) -> bool:
        """Whether these are the residuals of the same values."""
        if (low is None) != (self.low is None) or not _equal(high, self.high):
            return False
        return low is None or self.low is None or _equal(low, self.low)


#: The last residuals of each form, while somebody holds them: solvers, trackers and certificates ask for the same.
_IN_USE: WeakValueDictionary[int, PairResiduals] = WeakValueDictionary()


def residuals_of(form: StandardForm, high: FloatArray, low: FloatArray | None = None) -> PairResiduals:
    """Residuals of the form's own rewards; they are computed once for all who need them at the same time."""
    low = None if low is None or not low.any() else low
    known = _IN_USE.get(id(form))
    if known is not None and known.is_of(high, low):
        return known
    n_states = form.n_states
    states = (np.empty(n_states, np.int32), np.empty(n_states), np.empty(n_states), np.empty(n_states))
    if low is None:
        scores, matrix = np.empty(form.n_pairs), form.transitions
        rows = (matrix.indptr, matrix.indices, matrix.data, form.rewards, form.discount, form.rest)
        count_transitions(matrix.nnz)
        run_rows(backup.judge, n_states, matrix.nnz, form.start, *rows, high, scores, *states)
    else:
        scores, error = pair_residuals(form, high, low)
        backup.summarize(form.start, scores, error, *states)
    found = PairResiduals(form, high.copy(), None if low is None else low.copy(), scores, *states)
    _IN_USE[id(form)] = found
    return found


def pair_residuals(
    form: StandardForm, high: FloatArray, low: FloatArray | None, rewards: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Residual r + γPV − V of every pair for V = high + low, and a bound on its rounding; both [pairs].

    `rewards` [pairs] takes the place of the form's own.
    """
    out, error = np.empty(form.n_pairs), np.empty(form.n_pairs)
    matrix, rewards = form.transitions, form.rewards if rewards is None else rewards
    rows = (matrix.indptr, matrix.indices, matrix.data, form.states, rewards, form.discount, form.rest)
    count_transitions(matrix.nnz)
    if low is None or not low.any():
        run_rows(backup.residuals, form.n_pairs, matrix.nnz, *rows, high, out, error)
    else:
        run_rows(backup.residuals_extended, form.n_pairs, 8 * matrix.nnz, *rows, high, low, out, error)
    return out, error


def improve(form: StandardForm, values: FloatArray, rewards: FloatArray | None = None) -> tuple[FloatArray, IntArray]:
    """One Bellman backup: the gain max_a r + γPV − V of each state and the first pair attaining it, [S].

    `rewards` [pairs] takes the place of the form's own.
    """
    best, choice = np.empty(form.n_states), np.empty(form.n_states, dtype=np.int32)
    matrix, rewards = form.transitions, form.rewards if rewards is None else rewards
    rows = (form.start, matrix.indptr, matrix.indices, matrix.data, rewards, form.discount, form.rest)
    count_transitions(matrix.nnz)
    run_rows(backup.improvements, form.n_states, matrix.nnz, *rows, values, best, choice)
    return best, choice


def base_value(initial: FloatArray, rest: float, high: FloatArray, low: FloatArray | None) -> tuple[float, float]:
    """(1 − γ) μ0·V and a bound on its rounding."""
    terms = initial * high
    base = rest * (float(terms.sum()) + (0.0 if low is None else float((initial * low).sum())))
    # Pairwise summation: the error grows with log S.
    slack = (np.log2(len(initial) + 1) + 12) * backup.EPS * rest * float(np.abs(terms).sum())
    return base, slack


def two_sum(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """a + b as a rounded sum and its rounding, exactly (Knuth)."""
    total = a + b
    t = total - a
    return total, (a - (total - t)) + (b - t)


def _equal(one: FloatArray, other: FloatArray) -> bool:
    """Whether two arrays hold the same numbers; NaN is the same as nothing."""
    return one is other or bool(np.array_equal(one, other))

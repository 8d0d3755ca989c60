"""What a model must satisfy; each failure names the state, the action, the value and the way out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from occlp._typing import AnyArray, FloatArray
from occlp.errors import InvalidModel, ModelWarning
from occlp.model.exact import is_exact, to_floats, to_fraction, to_fractions
from occlp.model.pairs import Pairs

#: Rows may miss 1 by this much (docs/conventions.md, section 3); nothing is ever renormalised.
ROW_TOLERANCE = 1e-9
#: The same for numbers that arrive in single precision.
SINGLE_ROW_TOLERANCE = 1e-6
#: Negative entries down to this size are taken for rounding: set to zero, and reported.
NEGATIVE_TOLERANCE = 1e-12


def check_transitions(matrix: Any, pairs: Pairs, *, single: bool) -> list[str]:
    """Check the rows of a CSR matrix [pairs, S'] in place; return notes about accepted departures."""
    notes: list[str] = []
    data = matrix.data
    bad = ~np.isfinite(data)
    if bad.any():
        entry = int(np.flatnonzero(bad)[0])
        where = _entry(matrix, pairs, entry)
        raise InvalidModel(f"the probability of {where} is {data[entry]}. Every probability must be a finite number.")
    negative = data < 0
    if negative.any():
        entry = int(np.argmin(data))
        if data[entry] < -NEGATIVE_TOLERANCE:
            where = _entry(matrix, pairs, entry)
            raise InvalidModel(f"the probability of {where} is {data[entry]:g}, which is negative.")
        notes.append(f"{int(negative.sum())} probabilities between {data[entry]:g} and 0 were set to 0")
        data[negative] = 0.0
        matrix.eliminate_zeros()
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    departure = sums - 1.0
    tolerance = SINGLE_ROW_TOLERANCE if single else ROW_TOLERANCE
    worst = int(np.argmax(np.abs(departure)))
    if abs(departure[worst]) > tolerance:
        raise InvalidModel(_row_sum_message(matrix, pairs, worst, float(sums[worst]), tolerance))
    if departure[worst] != 0:
        notes.append(
            f"{int((departure != 0).sum())} rows do not sum to exactly 1 (the most: {pairs.describe(worst)}, by "
            f"{departure[worst]:.2g}); the probability of staying takes up the difference"
        )
    if single and abs(departure[worst]) > ROW_TOLERANCE:
        warnings.warn(
            f"transition rows in single precision miss 1 by up to {abs(departure[worst]):.1e}. "
            "Pass float64 for exact answers.",
            ModelWarning,
            stacklevel=4,
        )
    return notes


def check_values(values: FloatArray, pairs: Pairs, name: str) -> None:
    """Check one finite number per pair."""
    bad = ~np.isfinite(values)
    if bad.any():
        pair = int(np.flatnonzero(bad)[0])
        advice = {
            np.inf: "A reward of +inf makes every question meaningless; use a large finite number.",
            -np.inf: "Only rewards may be -inf (it marks an unavailable action); give a finite cost.",
        }.get(float(values[pair]), "Every number must be finite.")
        raise InvalidModel(f"{name} of {pairs.describe(pair)} is {values[pair]}. {advice}")


def check_discount(discount: Any) -> tuple[float | None, Fraction | None]:
    """Read a discount in [0, 1] or None; strings and fractions are exact."""
    if discount is None:
        return None, None
    exact: Fraction | None = None
    if is_exact(discount):
        exact = to_fraction(discount, "discount")
        value = float(exact)
    elif isinstance(discount, bool) or not isinstance(discount, int | float | np.number):
        raise InvalidModel(f"discount={discount!r} is not a number. Give a number in [0, 1].")
    else:
        value = float(discount)
    if math.isnan(value) or not 0.0 <= value <= 1.0:
        raise InvalidModel(
            f"discount={discount!r} is outside [0, 1]. For undiscounted questions leave it out and ask for "
            "criterion='average' or 'total'."
        )
    return value, exact


def read_initial(initial: Any, pairs: Pairs) -> tuple[FloatArray, tuple[Fraction, ...] | None]:
    """Read the initial distribution: None (uniform), a state, a mapping of states, or an array [S]."""
    n = pairs.n_states
    if initial is None:
        return np.full(n, 1.0 / n), None
    if isinstance(initial, Mapping):
        array = np.array([0] * n, dtype=object)
        for label, probability in initial.items():
            array[_initial_state(label, pairs)] = probability
        if not any(is_exact(value) for value in initial.values()):
            array = array.astype(np.float64)
    elif _is_state(initial, pairs):
        point = np.zeros(n)
        point[_initial_state(initial, pairs)] = 1.0
        return point, None
    else:
        array = np.asarray(initial)
    exact: tuple[Fraction, ...] | None = None
    if is_exact(array):
        fractions = to_fractions(array, "initial")
        exact, array = tuple(fractions.ravel()), to_floats(fractions)
    if array.dtype.kind not in "buif":
        raise InvalidModel(f"initial={initial!r} is neither a distribution [S] nor a state of the model.")
    array = array.astype(np.float64)
    if array.shape != (n,):
        raise InvalidModel(f"initial has shape {list(array.shape)}; the model has {n} states, so give [{n}] or a state.")
    if not np.isfinite(array).all() or (array < 0).any():
        state = int(np.flatnonzero(~(np.isfinite(array) & (array >= 0)))[0])
        raise InvalidModel(f"initial probability of state {pairs.state_name(state)!r} is {array[state]}.")
    if abs(array.sum() - 1.0) > ROW_TOLERANCE:
        raise InvalidModel(f"initial sums to {array.sum()!r}, not 1 (within {ROW_TOLERANCE:g}).")
    return array, exact


def _is_state(initial: Any, pairs: Pairs) -> bool:
    if isinstance(initial, list | np.ndarray) and np.ndim(initial) > 0:
        return False
    if isinstance(initial, tuple):
        return pairs.state_labels is not None and initial in pairs.state_labels
    return isinstance(initial, Hashable)


def _initial_state(label: Hashable, pairs: Pairs) -> int:
    try:
        return pairs.state(label)
    except ValueError as error:
        raise InvalidModel(f"initial: {error}") from None


def _entry(matrix: Any, pairs: Pairs, entry: int) -> str:
    pair = int(np.searchsorted(matrix.indptr, entry, side="right")) - 1
    return f"{pairs.describe(pair)} moving to state {pairs.state_name(int(matrix.indices[entry]))!r}"


def _row_sum_message(matrix: Any, pairs: Pairs, pair: int, total: float, tolerance: float) -> str:
    if matrix.indptr[pair] == matrix.indptr[pair + 1]:
        return (
            f"{pairs.describe(pair)} has no successor. Give an absorbing state a transition to itself, or remove "
            "the pair with admissible= or a reward of -inf."
        )
    hint = "Add the missing mass (an absorbing state?)" if total < 1 else "Divide the row by its sum"
    return (
        f"transition probabilities of {pairs.describe(pair)} sum to {total:.12g}, not 1. Rows must sum to 1 within "
        f"{tolerance:g}. {hint}, or rescale the row yourself: occlp never does."
    )

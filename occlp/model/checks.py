"""What a model must satisfy; each failure names the state, the action, the value and the way out."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from occlp.errors import InvalidModel, ModelWarning
from occlp.model.arrays import read_array
from occlp.model.exact import is_exact, read_number, shown, to_double, to_floats
from occlp.model.pairs import Pairs

if TYPE_CHECKING:
    from occlp._typing import AnyArray, FloatArray

#: Rows may miss 1 by this much (docs/conventions.md, section 3); nothing is ever renormalised.
ROW_TOLERANCE = 1e-9
#: The same for numbers that arrive in single precision.
SINGLE_ROW_TOLERANCE = 1e-6
#: Negative entries down to this size are taken for rounding: set to zero, and reported.
NEGATIVE_TOLERANCE = 1e-12


class Start(NamedTuple):
    """An initial distribution that has been read."""

    floats: FloatArray  # [S]
    exact: tuple[Fraction, ...] | None = None


def check_transitions(matrix: Any, pairs: Pairs, *, single: bool, exact: AnyArray | None) -> list[str]:
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
        if exact is not None or data[entry] < -NEGATIVE_TOLERANCE:
            where = _entry(matrix, pairs, entry)
            raise InvalidModel(f"the probability of {where} is {data[entry]:g}, which is negative.")
        notes.append(f"{int(negative.sum())} probabilities between {data[entry]:g} and 0 were set to 0")
        data[negative] = 0.0
        matrix.eliminate_zeros()
    if exact is None:
        with np.errstate(over="ignore"):
            departure = np.asarray(matrix.sum(axis=1)).ravel() - 1.0
    else:
        rows = zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
        departure = to_floats(np.array([sum(exact[first:last]) - 1 for first, last in rows], dtype=object))
    worst = int(np.argmax(np.abs(departure)))
    if not abs(departure[worst]) <= (SINGLE_ROW_TOLERANCE if single else ROW_TOLERANCE):
        raise InvalidModel(_row_sum_message(matrix, pairs, worst, float(departure[worst]), single))
    if departure[worst] != 0:
        notes.append(
            f"{int((departure != 0).sum())} rows do not sum to exactly 1 (the most: {pairs.describe(worst)}, by "
            f"{departure[worst]:.2g}); the probability of staying takes up the difference"
        )
    if abs(departure[worst]) > ROW_TOLERANCE:
        _warn_single("transition rows", float(departure[worst]))
    return notes


def check_values(values: FloatArray, pairs: Pairs, name: str) -> None:
    """Check one finite number per pair."""
    bad = ~np.isfinite(values)
    if bad.any():
        pair = int(np.flatnonzero(bad)[0])
        advice = {
            np.inf: "An infinite number makes every question meaningless; use a large finite one.",
            -np.inf: "Only rewards may be -inf (it marks an unavailable action); give a finite cost.",
        }.get(float(values[pair]), "Every number must be finite.")
        raise InvalidModel(f"{name} of {pairs.describe(pair)} is {values[pair]}. {advice}")


def check_discount(discount: Any) -> tuple[float | None, Fraction | None]:
    """Read a discount in [0, 1] or None; strings and fractions are exact."""
    if discount is None:
        return None, None
    value = discount.item() if isinstance(discount, np.generic | np.ndarray) and discount.ndim == 0 else discount
    if isinstance(value, bool) or not (is_exact(value) or isinstance(value, int | float)):
        raise InvalidModel(f"discount={shown(discount)} is not a number. Give a number in [0, 1].")
    number = read_number(value, "discount")
    if not 0 <= number <= 1:  # also NaN
        raise InvalidModel(
            f"discount={shown(discount)} is outside [0, 1]. For undiscounted questions leave it out and ask for "
            "criterion='average' or 'total'."
        )
    if number < 1 and float(number) == 1.0:
        raise InvalidModel(f"discount={shown(discount)} is so near 1 that no double lies between them.")
    return float(number), number if is_exact(value) and isinstance(number, Fraction) else None


def read_initial(initial: Any, pairs: Pairs) -> Start:
    """Read the initial distribution: None (uniform), a state, a mapping of states, or an array [S]."""
    n = pairs.n_states
    if isinstance(initial, np.ndarray) and initial.ndim == 0:
        initial = initial.item()
    if initial is None:
        return Start(np.full(n, 1.0 / n))
    if isinstance(initial, Mapping):
        listed: list[Any] = [0] * n
        for label, probability in initial.items():
            listed[_initial_state(label, pairs)] = probability
        array, single = read_array(listed, "initial")
    elif _is_state(initial, pairs):
        array, single = np.zeros(n), False
        array[_initial_state(initial, pairs)] = 1.0
    else:
        array, single = read_array(initial, "initial")
    if array.shape != (n,):
        raise InvalidModel(
            f"initial has shape {list(array.shape)}; the model has {n} states, so give [{n}] or a state."
        )
    floats = to_floats(array) if array.dtype == object else array
    if not np.isfinite(floats).all() or (floats < 0).any():
        state = int(np.flatnonzero(~(np.isfinite(floats) & (floats >= 0)))[0])
        raise InvalidModel(
            f"the initial probability of state {pairs.state_name(state)!r} is {floats[state]:g}. "
            "Every probability must be a finite number, and not negative."
        )
    with np.errstate(over="ignore"):
        departure = to_double(array.sum() - 1)
    if not abs(departure) <= (SINGLE_ROW_TOLERANCE if single else ROW_TOLERANCE):
        raise InvalidModel(f"initial sums to {1 + departure:.12g}, not 1 (within {ROW_TOLERANCE:g}).")
    if abs(departure) > ROW_TOLERANCE:
        _warn_single("initial probabilities", departure)
    return Start(floats, tuple(array) if array.dtype == object else None)


def initial_notes(start: Start) -> list[str]:
    """Report an initial distribution that misses 1 by more than the rounding of its sum."""
    rounding = 0.0 if start.exact is not None else np.finfo(np.float64).eps * len(start.floats)
    departure = float(start.floats.sum() - 1.0 if start.exact is None else sum(start.exact) - 1)
    return [f"initial probabilities miss 1 by {departure:.2g}"] if abs(departure) > rounding else []


def _is_state(initial: Any, pairs: Pairs) -> bool:
    if isinstance(initial, tuple):
        return pairs.has_state(initial)
    return isinstance(initial, Hashable) and (isinstance(initial, np.generic) or not hasattr(initial, "__array__"))


def _initial_state(label: Hashable, pairs: Pairs) -> int:
    try:
        return pairs.state(label)
    except ValueError as error:
        raise InvalidModel(f"initial: {error}") from None


def _entry(matrix: Any, pairs: Pairs, entry: int) -> str:
    pair = int(np.searchsorted(matrix.indptr, entry, side="right")) - 1
    return f"{pairs.describe(pair)} moving to state {pairs.state_name(int(matrix.indices[entry]))!r}"


def _row_sum_message(matrix: Any, pairs: Pairs, pair: int, departure: float, single: bool) -> str:
    if matrix.indptr[pair] == matrix.indptr[pair + 1]:
        return (
            f"{pairs.describe(pair)} has no successor. Give an absorbing state a transition to itself, or remove "
            "the pair with admissible= or a reward of -inf."
        )
    hint = "Add the missing mass (an absorbing state?)" if departure < 0 else "Divide the row by its sum"
    return (
        f"transition probabilities of {pairs.describe(pair)} sum to {1 + departure:.12g}, not 1. Rows must sum to 1 "
        f"within {SINGLE_ROW_TOLERANCE if single else ROW_TOLERANCE:g}. {hint}, or rescale the row yourself: occlp "
        "never does."
    )


def _warn_single(what: str, departure: float) -> None:
    warnings.warn(
        f"{what} in single precision miss 1 by up to {abs(departure):.1e}. Pass float64 for exact answers.",
        ModelWarning,
        stacklevel=6,
    )

"""What users pass besides models: numbers, words, lists and seeds, refused in the same words everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from occlp._typing import AnyArray, FloatArray
from occlp.errors import InvalidModel, InvalidProblem
from occlp.model.exact import is_exact, read_number, shown, to_fractions

#: What numpy and scipy raise for objects that are not what they are asked to be.
_STRANGE = (TypeError, ValueError, OverflowError, IndexError, NotImplementedError)


def read_numbers(values: Any, name: str) -> FloatArray:
    """Return a fresh array of doubles; NaN and infinities pass, for the caller to refuse with their place.

    Raises `InvalidProblem` for text, complex and masked numbers, ragged lists, and what is no array at all.
    """
    if not np.ma.is_masked(values):
        try:
            array = np.asarray(values)
            if array.dtype.kind in "buifO":
                with np.errstate(over="ignore"):  # beyond the range of doubles is inf
                    return np.array(array, dtype=np.float64)
        except _STRANGE:
            pass
    raise InvalidProblem(f"{name} takes real numbers, not {shown(values)}.")


def read_exact_numbers(values: Any, name: str) -> AnyArray | None:
    """Return an array of fractions where numbers are written in text, decimals or fractions; None where none are.

    Raises `InvalidProblem` for text that is no number.
    """
    try:
        array = np.asarray(values)
        written = array.dtype.kind in "OU" and any(map(is_exact, array.ravel().tolist()))
        return to_fractions(array, name) if written else None
    except InvalidModel as error:
        raise InvalidProblem(str(error)) from None
    except _STRANGE:  # no array at all, which `read_numbers` refuses
        return None


def is_number(value: object) -> bool:
    """Whether a value is a real number, or text that may say one; booleans are not."""
    kinds = int | float | np.integer | np.floating | Fraction | Decimal | str
    return isinstance(value, kinds) and not isinstance(value, bool)


def read_fraction(value: Any, name: str) -> Fraction | float:
    """Return a number exactly: doubles are the dyadic rationals that they are, text says a decimal or a fraction.

    NaN and infinities come back as floats. Raises `InvalidProblem` for text that is no number.
    """
    try:
        return read_number(float(value) if isinstance(value, np.floating) else value, name)
    except InvalidModel as error:
        raise InvalidProblem(str(error)) from None


def read_list(values: Any, name: str) -> list[Any]:
    """Return the items of a collection; raises `InvalidProblem` for what has none."""
    try:
        return list(values)
    except _STRANGE:
        raise InvalidProblem(f"{name} takes a list, not {shown(values)}.") from None


def check_word(word: Any, name: str, words: Iterable[str]) -> None:
    """Raise `InvalidProblem` unless a word is one of those known."""
    known = tuple(words)
    if not isinstance(word, str) or word not in known:
        listed = ", ".join(map(repr, known[:-1])) + f" or {known[-1]!r}"
        raise InvalidProblem(f"{name}={shown(word)} is unknown. Use {listed}.")


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise `InvalidProblem` unless a setting is an integer that is large enough."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        what = "that is not negative" if least == 0 else f"of at least {least}"
        raise InvalidProblem(f"{name}={shown(value)} must be an integer {what}.")


def check_positive(name: str, value: Any, *, none: str = "") -> None:
    """Raise `InvalidProblem` unless a setting is positive and finite, or None where `none` says what that means."""
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf:
        other = f", or None for {none}" if none else ""
        raise InvalidProblem(f"{name}={shown(value)} must be positive and finite{other}.")


def check_tolerance(name: str, value: Any) -> None:
    """Raise `InvalidProblem` unless a setting is a finite number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
        raise InvalidProblem(f"{name}={shown(value)} must be a finite number that is not negative.")


def read_generator(seed: Any) -> np.random.Generator:
    """Return numpy's generator of a seed; raises `InvalidProblem` for what is none."""
    try:
        return np.random.default_rng(seed)
    except _STRANGE:
        raise InvalidProblem(f"rng={shown(seed)} is no seed. Give an integer, a numpy Generator, or None.") from None

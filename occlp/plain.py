"""Plain data from outside: numbers out of JSON, where anything may stand in their place, and text made safe to show."""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction
from typing import Any
from unicodedata import category

import numpy as np

from occlp._typing import FloatArray
from occlp.errors import InvalidModel
from occlp.model.exact import shown, to_double, to_fraction

_FRACTION = re.compile(r"-?[0-9]+(/0*[1-9][0-9]*)?")


def read_json(text: str | bytes) -> Any:
    """Read JSON in which no object names a thing twice, which readers would understand differently.

    Raises ValueError for anything else, also where it is nested deeper than Python follows.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _without_twins(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(entries)
    if len(found) < len(entries):
        raise ValueError("a name stands twice in one object")
    return found


def plain_number(value: Any, name: str) -> float:
    """Return a number as a double; integers that no double holds are infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {shown(value)}, not a number")
    return to_double(value)


def plain_fraction(value: Any, name: str) -> Fraction:
    """Return a finite number exactly: a double is the dyadic rational that it is, text is of the form p/q."""
    if isinstance(value, str):
        if not _FRACTION.fullmatch(value):
            raise TypeError(f"{name} is {shown(value)}, not a fraction p/q")
        return to_fraction(value, name)
    number = plain_number(value, name)
    if not math.isfinite(number):
        raise TypeError(f"{name} is {shown(number)}, not a finite number")
    return Fraction(number)


def written(number: Fraction) -> str:
    """A fraction as text p/q; raises `InvalidModel` for one of thousands of digits, which Python refuses to write."""
    try:
        return str(number)
    except ValueError:
        raise InvalidModel("there is a fraction of thousands of digits; those cannot be saved.") from None


def plain_array(values: Any, name: str) -> FloatArray:
    """Return a list of numbers as an array; raises TypeError for anything else."""
    if not isinstance(values, list) or any(isinstance(x, bool) or not isinstance(x, int | float) for x in values):
        raise TypeError(f"{name} is not a list of numbers")
    return np.array([to_double(value) for value in values], dtype=np.float64)


def plain_table(values: Any, name: str) -> dict[str, float]:
    """Return an object of numbers by name."""
    if not isinstance(values, dict):
        raise TypeError(f"{name} is not an object of numbers")
    return {str(key): plain_number(value, f"{name}[{key!r}]") for key, value in values.items()}


def visible(text: str) -> str:
    """Write what terminals and browsers obey rather than show as escapes: control characters, reversals of direction.

    Halves of surrogate pairs, which no file takes, as well. Lines, blanks and joiners of letters stay.
    """
    if text.isprintable():
        return text
    kept = (c.isprintable() or c in "\n\t\u200c\u200d" or category(c) == "Zs" for c in text)
    return "".join(
        c if keep else c.encode("unicode_escape").decode("ascii") for c, keep in zip(text, kept, strict=True)
    )

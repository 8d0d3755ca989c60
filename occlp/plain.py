"""Numbers out of JSON, where anything may stand in their place; raises TypeError for what is none."""

from __future__ import annotations

from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.model.exact import shown, to_double


def plain_number(value: Any, name: str) -> float:
    """Return a number as a double; integers that no double holds are infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {shown(value)}, not a number")
    return to_double(value)


def plain_array(values: Any, name: str) -> FloatArray:
    """Return a list of numbers as an array."""
    if not isinstance(values, list) or any(isinstance(x, bool) or not isinstance(x, int | float) for x in values):
        raise TypeError(f"{name} is not a list of numbers")
    return np.array([to_double(value) for value in values], dtype=np.float64)


def plain_table(values: Any, name: str) -> dict[str, float]:
    """Return an object of numbers by name."""
    if not isinstance(values, dict):
        raise TypeError(f"{name} is not an object of numbers")
    return {str(key): plain_number(value, f"{name}[{key!r}]") for key, value in values.items()}

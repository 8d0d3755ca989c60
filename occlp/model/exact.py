"""Exact rationals: strings such as "1/3" and "0.9" are kept as fractions beside their doubles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from occlp._typing import AnyArray
from occlp.errors import InvalidModel


@dataclass(frozen=True)
class ExactNumbers:
    """The model's numbers as fractions, in the order of the arrays they belong to.

    Attributes
    ----------
    transitions : tuple of Fraction [nnz]
        Aligned with ``mdp.transitions.data``.
    rewards : tuple of Fraction [pairs]
    initial : tuple of Fraction [S]
    discount : Fraction or None
    costs : mapping of name to tuple of Fraction [pairs]
    """

    transitions: tuple[Fraction, ...]
    rewards: tuple[Fraction, ...]
    initial: tuple[Fraction, ...]
    discount: Fraction | None
    costs: Mapping[str, tuple[Fraction, ...]] = field(default_factory=dict)


def is_exact(value: Any) -> bool:
    """Whether a value (scalar or array) is written in strings or fractions."""
    if isinstance(value, str | Fraction):
        return True
    return isinstance(value, np.ndarray) and value.dtype.kind in "OUS"


def to_fraction(value: Any, where: str) -> Fraction:
    """Read one number exactly; a float is the dyadic rational that it is.

    Raises `InvalidModel` for text that is not a number, NaN or infinity (−inf is read by the caller).
    """
    try:
        if isinstance(value, bytes):
            value = value.decode()
        if isinstance(value, bool | np.bool_):
            return Fraction(int(value))
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, str):
            value = value.strip()
        return Fraction(value)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        raise InvalidModel(f"{where} holds {value!r}, which is not a number. Write 0.25, '1/4' or '0.25'.") from None


def to_fractions(array: AnyArray, where: str) -> AnyArray:
    """Read an array of strings, fractions or numbers into an object array of fractions (or ±inf floats)."""
    cache: dict[Any, Any] = {}

    def read(value: Any) -> Any:
        key = (type(value), value)
        if key not in cache:
            text = value.strip().lower() if isinstance(value, str) else value
            infinite = text in ("-inf", "inf", "+inf") if isinstance(text, str) else _is_infinite(value)
            cache[key] = float(value) if infinite else to_fraction(value, where)
        return cache[key]

    flat = np.empty(array.size, dtype=object)
    flat[:] = [read(value) for value in array.ravel().tolist()]
    return flat.reshape(array.shape)


def to_floats(array: AnyArray) -> AnyArray:
    """Round an object array of fractions to doubles (infinities stay)."""
    return np.array([float(value) for value in array.ravel()], dtype=np.float64).reshape(array.shape)


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and value in (np.inf, -np.inf)

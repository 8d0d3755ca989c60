"""Exact rationals: strings such as "1/3" and "0.9" are kept as fractions beside their doubles."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from occlp.errors import InvalidModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from occlp._typing import AnyArray
    from occlp.model.mdp import MDP

_EXPONENT = re.compile(r"[eE][+-]?0*(\d+)\s*$")
_NOT_FINITE = ("nan", "inf", "infinity")


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

    @property
    def beyond_doubles(self) -> list[str]:
        """The numbers that are no doubles, costs aside, with their places, as text."""
        parts = {"transitions": self.transitions, "rewards": self.rewards, "initial": self.initial}
        parts["discount"] = () if self.discount is None else (self.discount,)
        return [text for what, numbers in parts.items() for text in rounded_away(what, numbers)]


def rounded_away(what: str, numbers: Iterable[Fraction]) -> list[str]:
    """The fractions among numbers that are no doubles, with their places, as text."""
    return [f"{what}[{k}]={number}" for k, number in enumerate(numbers) if Fraction(to_double(number)) != number]


def exact_numbers(mdp: MDP) -> ExactNumbers:
    """Return the model's fractions; where it has none, its doubles as the dyadic rationals that they are."""
    if mdp.exact is not None:
        return mdp.exact

    def dyadic(numbers: AnyArray) -> tuple[Fraction, ...]:
        return tuple(map(Fraction, numbers.tolist()))

    return ExactNumbers(
        transitions=dyadic(mdp.transitions.data),
        rewards=dyadic(mdp.pair_rewards),
        initial=dyadic(mdp.initial),
        discount=None if mdp.discount is None else Fraction(mdp.discount),
        costs={name: dyadic(cost) for name, cost in mdp.pair_costs.items()},
    )


def is_exact(value: Any) -> bool:
    """Whether a value (scalar or array) is written in strings, decimals or fractions."""
    if isinstance(value, str | Fraction | Decimal):
        return True
    return isinstance(value, np.ndarray) and value.dtype.kind in "OUST"


def to_fraction(value: Any, where: str) -> Fraction:
    """Read one finite number exactly; a float is the dyadic rational that it is.

    Raises `InvalidModel` for what is not a finite number, and for numbers that no double can stand for.
    """
    number = read_number(value, where)
    if isinstance(number, float):
        raise InvalidModel(f"{where} holds {number}, which is not a finite number.")
    return number


def read_number(value: Any, where: str) -> Fraction | float:
    """Read one number exactly; NaN and infinities come back as floats, for the checks to judge with their pair."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return value
    number: Fraction | None = None
    try:
        text = value.decode() if isinstance(value, bytes) else str(value) if isinstance(value, str | Decimal) else None
        if text is not None and text.strip().lower().lstrip("+-") in _NOT_FINITE:
            return float(text)
        exponent = None if text is None else _EXPONENT.search(text)
        if exponent is None or len(exponent[1]) <= 3:  # otherwise Fraction would compute 10**exponent
            number = Fraction(value if text is None else text.strip())
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        raise InvalidModel(
            f"{where} holds {shown(value)}, which is not a number. Write 0.25, '1/4' or '0.25'."
        ) from None
    if number is None or not math.isfinite(to_double(number)) or (number != 0 and float(number) == 0):
        raise InvalidModel(f"{where} holds {shown(value)}, which is beyond the range of doubles.")
    return number


def to_fractions(array: AnyArray, where: str) -> AnyArray:
    """Read an array of strings, fractions or numbers into an object array of fractions (or NaN, ±inf)."""
    cache: dict[Any, Any] = {}
    flat = np.empty(array.size, dtype=object)
    for position, value in enumerate(array.ravel().tolist()):
        try:
            flat[position] = cache[type(value), value]
        except (KeyError, TypeError):  # not met before, or not hashable
            index = ", ".join(map(str, np.unravel_index(position, array.shape)))
            flat[position] = read_number(value, f"{where}[{index}]" if array.ndim else where)
            if isinstance(value, str | bytes | int | float | Fraction | Decimal):
                cache[type(value), value] = flat[position]
    return flat.reshape(array.shape)


def to_floats(array: AnyArray) -> AnyArray:
    """Round an object array of fractions to doubles (NaN and infinities stay)."""
    return np.array([to_double(value) for value in array.ravel()], dtype=np.float64).reshape(array.shape)


def expectation(weights: Iterable[Any], values: Iterable[Any]) -> Any:
    """Σ weight · value in fractions; any NaN or infinity among the terms decides the answer."""
    terms = list(zip(weights, values, strict=True))
    special = [number for term in terms for number in term if isinstance(number, float)]
    return sum(special) if special else sum((weight * value for weight, value in terms), start=Fraction(0))


def shown(value: Any) -> str:
    """Show a value in a message, as text of bounded length."""
    try:
        text = repr(value.item() if isinstance(value, np.generic) else value)
    except ValueError:  # integers of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def to_double(number: Any) -> float:
    """Round to a double; what is beyond their range becomes an infinity."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf

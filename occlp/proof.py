"""Exact proofs: the optimum as a fraction, with the fractions that prove it, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import Any

#: Integers of more bits than this are written in hexadecimal, which any Python reads at once.
DECIMAL_BITS = 4096


@dataclass(frozen=True)
class ExactProof:
    """Fractions that prove an optimum: user's units and sense, normalised scale.

    Attributes
    ----------
    optimum : Fraction
        The best objective, attained by the policy.
    values : tuple of Fraction [S]
        V with r + γPV ≤ V (reversed when minimising; priced where there are constraints), equal on the
        pairs that the policy uses; relative values for the average.
    multipliers : mapping of str to Fraction
        Prices of the constraints.
    occupancy : mapping of int to Fraction
        With constraints: the occupancy of an optimal policy, by pair. Its probabilities are ratios of
        these; the policy of the result holds the nearest doubles.
    """

    optimum: Fraction
    values: tuple[Fraction, ...]
    multipliers: Mapping[str, Fraction] = field(default_factory=dict)
    occupancy: Mapping[int, Fraction] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """Return strings and lists that JSON can hold; the values share one denominator."""
        unit = lcm(*(value.denominator for value in self.values))
        return {
            "optimum": write_fraction(self.optimum),
            "unit": _write_integer(unit),
            "values": [_write_integer(value.numerator * (unit // value.denominator)) for value in self.values],
            "multipliers": {name: write_fraction(price) for name, price in self.multipliers.items()},
            "occupancy": {str(pair): write_fraction(mass) for pair, mass in self.occupancy.items()},
        }

    @classmethod
    def from_plain(cls, plain: Any) -> ExactProof:
        """Read what `to_plain` wrote; raises TypeError or ValueError for anything else."""
        if not isinstance(plain, dict) or set(plain) != {"optimum", "unit", "values", "multipliers", "occupancy"}:
            raise TypeError("the exact proof is not the object it should be")
        if not isinstance(plain["values"], list):
            raise TypeError("the values of the exact proof are not a list")
        unit = _read_integer(plain["unit"])
        if unit <= 0:
            raise ValueError("the unit of the exact proof is not positive")
        return cls(
            optimum=read_fraction(plain["optimum"]),
            values=tuple(Fraction(_read_integer(text), unit) for text in plain["values"]),
            multipliers={name: read_fraction(text) for name, text in plain["multipliers"].items()},
            occupancy={_read_integer(pair): read_fraction(text) for pair, text in plain["occupancy"].items()},
        )


def write_fraction(number: Fraction) -> str:
    """Write p/q, in hexadecimal where it is long."""
    top, bottom = number.numerator, number.denominator
    return _write_integer(top) if bottom == 1 else f"{_write_integer(top)}/{_write_integer(bottom)}"


def read_fraction(text: Any) -> Fraction:
    """Read what `write_fraction` wrote; raises TypeError or ValueError for anything else."""
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is not a fraction")
    top, slash, bottom = text.partition("/")
    below = _read_integer(bottom) if slash else 1
    if below <= 0:
        raise ValueError("a fraction has a denominator that is not positive")
    return Fraction(_read_integer(top), below)


def _write_integer(number: int) -> str:
    return str(number) if number.bit_length() <= DECIMAL_BITS else hex(number)


def _read_integer(text: Any) -> int:
    if not isinstance(text, str) or text != text.strip() or "_" in text:
        raise TypeError("an exact number is not written as one")
    return int(text, 16 if "x" in text else 10)

"""Exact proofs as plain data: the optimum as a fraction, or that there is none, with the fractions that prove it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import Any

#: Integers of more bits than this are written in hexadecimal, which any Python reads at once.
DECIMAL_BITS = 4096


@dataclass(frozen=True)
class ExactProof:
    """Fractions that prove an optimum, or that there is none: user's units and sense, normalised scale.

    Attributes
    ----------
    optimum : Fraction or None
        The best objective, attained by the policy. None where the constraints cannot be kept, and for a total
        without a bound.
    values : tuple of (Fraction or None) [S]
        V with r + γPV ≤ V (reversed when minimising; priced where there are constraints), equal on the
        pairs that the policy uses; relative values for the average. None stands for a state of a total from which
        the goal cannot be reached almost surely.
    multipliers : mapping of str to Fraction
        Prices of the constraints.
    occupancy : mapping of int to Fraction
        With constraints: the occupancy of an optimal policy, by pair. Its probabilities are ratios of
        these; the policy of the result holds the nearest doubles. For a total without a bound: masses that flow
        in a circle which earns.
    gains : tuple of Fraction [S]
        Averages that depend on the start: G with PG ≤ G and r + Ph ≤ G + h for the values h; else empty.
    infeasible_by : Fraction or None
        Where no policy keeps the constraints: the least violation, weighted with the multipliers; the values are
        then those of minus the weighted violation, to be maximised.
    """

    optimum: Fraction | None
    values: tuple[Fraction | None, ...]
    multipliers: Mapping[str, Fraction] = field(default_factory=dict)
    occupancy: Mapping[int, Fraction] = field(default_factory=dict)
    gains: tuple[Fraction, ...] = ()
    infeasible_by: Fraction | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return strings and lists that JSON can hold; values share one denominator, and gains another."""
        return {
            "optimum": _write_optional(self.optimum),
            "values": _write_list(self.values),
            "gains": _write_list(self.gains),
            "multipliers": {name: write_fraction(price) for name, price in self.multipliers.items()},
            "occupancy": {str(pair): write_fraction(mass) for pair, mass in self.occupancy.items()},
            "infeasible_by": _write_optional(self.infeasible_by),
        }

    @classmethod
    def from_plain(cls, plain: Any) -> ExactProof:
        """Read what `to_plain` wrote; raises TypeError or ValueError for anything else."""
        names = {"optimum", "values", "gains", "multipliers", "occupancy", "infeasible_by"}
        if not isinstance(plain, dict) or set(plain) != names:
            raise TypeError("the exact proof is not the object it should be")
        gains = _read_list(plain["gains"])
        if None in gains:
            raise TypeError("the exact proof has a gain that is no number")
        return cls(
            optimum=_read_optional(plain["optimum"]),
            values=_read_list(plain["values"]),
            multipliers={name: read_fraction(text) for name, text in plain["multipliers"].items()},
            occupancy={_read_integer(pair): read_fraction(text) for pair, text in plain["occupancy"].items()},
            gains=tuple(gain for gain in gains if gain is not None),
            infeasible_by=_read_optional(plain["infeasible_by"]),
        )


def _write_list(numbers: Sequence[Fraction | None]) -> dict[str, Any]:
    """One denominator and the numerators over it; none where there is no number."""
    unit = lcm(*(number.denominator for number in numbers if number is not None))
    tops = [None if x is None else _write_integer(x.numerator * (unit // x.denominator)) for x in numbers]
    return {"unit": _write_integer(unit), "tops": tops}


def _read_list(plain: Any) -> tuple[Fraction | None, ...]:
    if not isinstance(plain, dict) or set(plain) != {"unit", "tops"} or not isinstance(plain["tops"], list):
        raise TypeError("the exact proof has no list of fractions where there should be one")
    unit = _read_integer(plain["unit"])
    if unit <= 0:
        raise ValueError("the unit of the exact proof is not positive")
    return tuple(None if text is None else Fraction(_read_integer(text), unit) for text in plain["tops"])


def _write_optional(number: Fraction | None) -> str | None:
    return None if number is None else write_fraction(number)


def _read_optional(text: Any) -> Fraction | None:
    return None if text is None else read_fraction(text)


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

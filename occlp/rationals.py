"""The one door to python-flint: rationals and balls of arbitrary precision, opened when a proof needs them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from occlp.errors import BackendMissing


def load_flint() -> Any:
    """Return the module flint; raises `BackendMissing` where python-flint is not installed."""
    try:
        import flint
    except ImportError:
        raise BackendMissing(
            "certify='interval' and 'exact' need python-flint, which is not installed: pip install 'occlp[exact]'."
        ) from None
    return flint


def to_rational(number: Fraction | float) -> Any:
    """Return a fraction, or the dyadic rational that a double is, as an fmpq."""
    return load_flint().fmpq(*number.as_integer_ratio())


def to_fraction(rational: Any) -> Fraction:
    """Return an fmpq as a fraction of the standard library."""
    return Fraction(int(rational.p), int(rational.q))

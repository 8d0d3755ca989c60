"""Arithmetic without rounding: the optimum as a fraction, and enclosures by intervals."""

"""When a run stops early."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occlp.errors import InvalidProblem


@dataclass(frozen=True)
class Limit:
    """When to stop a run early; the answer then has status LIMIT and an honest gap.

    Parameters
    ----------
    seconds : float, optional
        Wall-clock time, looked at between two iterations, and passed on to methods that run a backend. What is not
        cut short: one iteration, the judgement of the answer, and loading kernels, which a fresh installation compiles.
    iterations : int, optional
    samples : int, optional
        Transitions sampled.

    Raises
    ------
    InvalidProblem
        For a limit that is negative or not a number.
    """

    seconds: float | None = None
    iterations: int | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if value is not None and not (number and value >= 0):
                raise InvalidProblem(f"Limit({name}={value!r}) must be a number that is not negative.")

    def reached(self, seconds: float, iterations: int, samples: int) -> str | None:
        """Return words for the limit that is reached, or None."""
        if self.seconds is not None and seconds >= self.seconds:
            return f"the time limit of {self.seconds:g} s"
        if self.iterations is not None and iterations >= self.iterations:
            return f"the limit of {self.iterations} iterations"
        if self.samples is not None and samples >= self.samples:
            return f"the limit of {self.samples} samples"
        return None

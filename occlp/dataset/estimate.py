"""A number from data, with its standard error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from occlp._typing import FloatArray
from occlp.errors import InvalidProblem

#: Below this effective sample size an interval from a normal law is said to be no guide.
FEW = 30.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Estimate:
    """An estimate of an expected return; read-only.

    Attributes
    ----------
    value : float
        On the return scale, Σ γ^t r.
    standard_error : float
        Of `value`: the deviation of `contributions` over √N. NaN for one trajectory.
    contributions : FloatArray [N]
        What each independent part of the data (a trajectory, or a transition) contributes; their mean is `value`.
        For ratios of sums these are linearised (the delta method).
    effective_sample_size : float
        (Σ w)² / Σ w² of the importance weights: how many trajectories of the policy itself would do.
    method : str
    notes : tuple of str
        What is worth knowing about support, truncation and the weights.
    """

    value: float
    standard_error: float
    contributions: FloatArray  # [N]
    effective_sample_size: float
    method: str
    notes: tuple[str, ...] = ()

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval from Student's law with N − 1 degrees of freedom, at a level in (0, 1).

        It holds for large effective sample sizes. Importance weights have heavy tails: where the few weights that
        matter have not been drawn, both the value and its standard error are too small, and no interval from the
        same data can show it.
        """
        if not 0 < level < 1:
            raise InvalidProblem(f"level is a probability between 0 and 1, not {level}.")
        half = float(special.stdtrit(max(len(self.contributions) - 1, 1), (1 + level) / 2)) * self.standard_error
        return self.value - half, self.value + half

    def __repr__(self) -> str:
        return (
            f"Estimate({self.value:.6g} ± {self.standard_error:.2g}, {self.method}, "
            f"effective sample size {self.effective_sample_size:.1f})"
        )


def from_contributions(
    contributions: FloatArray, weights: FloatArray, *, method: str, notes: tuple[str, ...] = ()
) -> Estimate:
    """Build an estimate from the parts whose mean it is, and the importance weights behind them."""
    n = len(contributions)
    error = float(contributions.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    squares = float(weights @ weights)
    effective = float(weights.sum()) ** 2 / squares if squares > 0 else 0.0
    if effective < FEW:
        notes = (*notes, f"the effective sample size is {effective:.1f}: the interval is no guide")
    contributions.setflags(write=False)
    return Estimate(
        value=float(contributions.mean()), standard_error=error, contributions=contributions,
        effective_sample_size=effective, method=method, notes=notes,
    )  # fmt: skip

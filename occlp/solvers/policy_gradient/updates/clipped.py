"""Proximal policy optimisation: several steps on a surrogate whose probability ratio is clipped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import check_count, check_positive
from occlp.errors import InvalidProblem
from occlp.solvers.policy_gradient.estimators import Estimate
from occlp.solvers.policy_gradient.updates.base import Landscape, Position, Update
from occlp.solvers.policy_gradient.updates.gradient import Moments


@dataclass(frozen=True, repr=False)
class ClippedRatio(Update):
    """Ascend E[min(ρ Â, clip(ρ, 1 − ε, 1 + ε) Â)], ρ = π_new / π_old, for some epochs over one estimate.

    Parameters
    ----------
    clip : float
        ε, between 0 and 1.
    epochs : int
        Steps of Adam on the surrogate for one estimate (full batches).
    step_size : float
        η of these steps; the change of a parameter in one, as in `GradientStep` with ``adaptive=True``.

    Notes
    -----
    The minimum is taken visit by visit. Visits of one pair differ only in their advantage, and the minimum is
    min(ρ, 1 + ε) Â for Â > 0 and max(ρ, 1 − ε) Â otherwise, so their sums over the visits of each pair are all that
    is needed. ρ is the Radon–Nikodym derivative of the new pair masses with respect to the old ones if the states'
    masses are frozen. Source: Schulman, Wolski, Dhariwal, Radford and Klimov (2017), equation 7.
    """

    clip: float = 0.2
    epochs: int = 10
    step_size: float = 0.02

    def __post_init__(self) -> None:
        check_positive("clip", self.clip)
        if self.clip >= 1:
            raise InvalidProblem(f"clip={self.clip!r} must lie between 0 and 1.")
        check_count("epochs", self.epochs)
        check_positive("step_size", self.step_size)

    def step(self, landscape: Landscape, position: Position) -> Position | None:
        """Take the steps of all epochs."""
        estimate, parameters = position.estimate, position.parameters
        old = landscape.probabilities(parameters)
        moments = position.memory or Moments.blank(len(parameters))
        for _ in range(self.epochs):
            slopes = clipped_slopes(estimate, old, landscape.probabilities(parameters), self.clip)
            gradient = landscape.unit * landscape.pullback(parameters, slopes)
            if not gradient.any():
                break
            moments, direction = moments.join(gradient)
            parameters = landscape.parametrization.project(landscape.pairs, parameters + self.step_size * direction)
        return landscape.move(position, parameters, memory=moments)


def clipped_surrogate(estimate: Estimate, old: FloatArray, new: FloatArray, clip: float) -> float:
    """Σ over pairs of π_old (rises min(ρ, 1 + ε) + falls max(ρ, 1 − ε)), normalised scale."""
    rising, falling = np.minimum(new, (1 + clip) * old), np.maximum(new, (1 - clip) * old)
    return float(estimate.rises @ rising + estimate.falls @ falling)


def clipped_slopes(estimate: Estimate, old: FloatArray, new: FloatArray, clip: float) -> FloatArray:
    """Return the derivative of `clipped_surrogate` with respect to the new probabilities, [pairs]."""
    rising, falling = new < (1 + clip) * old, new > (1 - clip) * old
    return np.where(rising, estimate.rises, 0.0) + np.where(falling, estimate.falls, 0.0)

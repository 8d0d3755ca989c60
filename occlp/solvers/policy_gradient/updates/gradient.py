"""Steps along the gradient: fixed, decaying, by a search along the line, or adapted to each parameter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import check_positive
from occlp.errors import InvalidProblem
from occlp.solvers.policy_gradient.parametrizations import Parametrization
from occlp.solvers.policy_gradient.updates.base import Landscape, Position, Update, advance, needs_step


@dataclass(frozen=True, eq=False)
class Moments:
    """Running means of the gradient and of its square (Kingma and Ba 2015)."""

    first: FloatArray  # [k]
    second: FloatArray  # [k]
    count: int = 0

    #: Decay of the two means, and the floor of the denominator relative to the largest entry.
    DECAYS = (0.9, 0.999)
    FLOOR = 1e-8

    @classmethod
    def blank(cls, size: int) -> Moments:
        """Return the moments before the first gradient."""
        return cls(np.zeros(size), np.zeros(size))

    def join(self, gradient: FloatArray) -> tuple[Moments, FloatArray]:
        """Take a gradient in; return the new moments and the direction, with entries of size one."""
        (keep, square), count = self.DECAYS, self.count + 1
        first = keep * self.first + (1 - keep) * gradient
        second = square * self.second + (1 - square) * gradient**2
        mean, size = first / (1 - keep**count), np.sqrt(second / (1 - square**count))
        floor = self.FLOOR * float(size.max(initial=0.0)) or 1.0
        return Moments(first, second, count), mean / (size + floor)


@dataclass(frozen=True, repr=False)
class GradientStep(Update):
    """Plain gradient ascent, θ ← θ + η ∇J.

    Parameters
    ----------
    step_size : float, optional
        η. Default: a line search that doubles the last step and halves it until J has gained
        enough, so that J never gets worse; for exact estimators.
    decay : float
        Step t = 0, 1, ... has size η / (1 + t)^decay; between 1/2 and 1 the noise of sampled gradients dies out
        (Robbins and Monro 1951).
    adaptive : bool
        Divide each entry of an averaged gradient by its size (Adam, Kingma and Ba 2015): η is then
        the change of a parameter in one step, whatever the units of the reward.
    """

    step_size: float | None = None
    decay: float = 0.0
    adaptive: bool = False

    def __post_init__(self) -> None:
        check_positive("step_size", self.step_size, none="a line search")
        if isinstance(self.decay, bool) or not 0 <= self.decay < np.inf:
            raise InvalidProblem(f"decay={self.decay!r} must be finite and not negative.")
        if self.step_size is None and (self.decay or self.adaptive):
            raise InvalidProblem("decaying and adaptive steps need a step_size.")

    def unsupported(self, parametrization: Parametrization, *, is_sampled: bool) -> str | None:
        """Return why this update cannot be joined with these other two choices, or None."""
        return needs_step(self.step_size, is_sampled=is_sampled)

    def step(self, landscape: Landscape, position: Position) -> Position | None:
        """Move along the gradient."""
        gradient = landscape.gradient(position)
        if self.step_size is None:
            return advance(landscape, position, gradient, float(gradient @ gradient), None)
        size = self.step_size / (1 + position.taken) ** self.decay
        if not self.adaptive:
            return landscape.move(position, position.parameters + size * gradient)
        moments, direction = (position.memory or Moments.blank(len(gradient))).join(gradient)
        return landscape.move(position, position.parameters + size * direction, memory=moments)

"""Updates: how an estimate changes the parameters.

Step sizes refer to the gradient on the return scale and in the user's units, ∇J = d π A / (1 − γ).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from occlp._typing import FloatArray
from occlp.errors import InvalidProblem
from occlp.model import Pairs
from occlp.solvers.policy_gradient.estimators import Estimate
from occlp.solvers.policy_gradient.parametrizations import Parametrization, Softmax
from occlp.standard import StandardForm

#: A step must gain at least this part of what the slope promises (Armijo 1966).
SUFFICIENT = 1e-4
#: A line search that has halved its step this often has reached the rounding of J.
MOST_HALVINGS = 60


@dataclass(frozen=True, eq=False)
class Position:
    """Where a run is: parameters, their estimate, and the step size carried along."""

    parameters: FloatArray
    estimate: Estimate
    step_size: float | None = None


@dataclass(frozen=True, eq=False)
class Landscape:
    """What an update may ask: the parametrization, and the estimate at any parameters."""

    form: StandardForm
    pairs: Pairs
    parametrization: Parametrization
    estimate: Callable[[FloatArray], Estimate]  # of parameters

    def gradient(self, position: Position) -> FloatArray:
        """∇J on the return scale and in the user's units, uphill in the user's sense."""
        form, estimate = self.form, position.estimate
        probabilities = self.parametrization.probabilities(self.pairs, position.parameters)
        weights = estimate.state_mass[form.states] * probabilities * estimate.advantages
        return self.unit * self.parametrization.pullback(self.pairs, position.parameters, weights)

    @property
    def unit(self) -> float:
        """Return scale in the user's units per unit of the standard form."""
        return self.form.scale / self.form.rest


class Update(Protocol):
    """One step from a position; None when no step makes progress any more."""

    def step(self, landscape: Landscape, position: Position) -> Position | None:
        """Return the next position."""


@dataclass(frozen=True)
class GradientStep:
    """Plain gradient ascent, θ ← θ + η ∇J.

    Parameters
    ----------
    step_size : float, optional
        A fixed η. Default: a line search that doubles the last step and halves it until J has gained
        enough, so that J never gets worse.
    """

    step_size: float | None = None

    def __post_init__(self) -> None:
        _check_step(self.step_size)

    def step(self, landscape: Landscape, position: Position) -> Position | None:
        """Move along the gradient."""
        direction = landscape.gradient(position)
        return _advance(landscape, position, direction, float(direction @ direction), self.step_size)


@dataclass(frozen=True)
class NaturalStep:
    """Natural gradient for tabular softmax, θ ← θ + η F⁺∇J = θ + η A / (1 − γ) at visited states.

    Parameters
    ----------
    step_size : float, optional
        A fixed η. Default: a line search as in `GradientStep`, begun at a step that moves no logit
        by more than one.

    Notes
    -----
    F is the Fisher matrix under the normalised occupancy (Kakade 2001); F⁺∇J is A / (1 − γ) plus a
    constant in each state where d(s) > 0 and zero elsewhere. The step is mirror descent in the
    policy, π ∝ π exp(η Q / (1 − γ)).
    """

    step_size: float | None = None

    def __post_init__(self) -> None:
        _check_step(self.step_size)

    def step(self, landscape: Landscape, position: Position) -> Position | None:
        """Move along the natural gradient."""
        if not isinstance(landscape.parametrization, Softmax):
            raise InvalidProblem("NaturalStep without a Fisher matrix is for the tabular Softmax parametrization.")
        visited = position.estimate.state_mass > 0
        direction = np.where(visited[landscape.form.states], landscape.unit * position.estimate.advantages, 0.0)
        slope = float(landscape.gradient(position) @ direction)
        return _advance(landscape, position, direction, slope, self.step_size)


def _advance(
    landscape: Landscape, position: Position, direction: FloatArray, slope: float, step_size: float | None
) -> Position | None:
    """Take a fixed step, or search along a direction of ascent with the given slope (return scale)."""
    if step_size is not None:
        parameters = position.parameters + step_size * direction
        return Position(parameters, landscape.estimate(parameters))
    if not slope > 0:
        return None
    length = 1.0 / float(np.abs(direction).max()) if position.step_size is None else 2.0 * position.step_size
    promised = slope / landscape.unit
    for _ in range(MOST_HALVINGS):
        parameters = position.parameters + length * direction
        estimate = landscape.estimate(parameters)
        gain = estimate.objective - position.estimate.objective
        if gain > 0 and gain >= SUFFICIENT * length * promised:
            return Position(parameters, estimate, length)
        length *= 0.5
    return None


def _check_step(step_size: float | None) -> None:
    if step_size is not None and not 0 < step_size < np.inf:
        raise InvalidProblem(f"step_size={step_size!r} must be positive and finite, or None for a line search.")

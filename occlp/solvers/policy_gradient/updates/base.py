"""What an update is, what it may ask, and the search along a line that several share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.model import Pairs
from occlp.solvers.base import describe
from occlp.solvers.policy_gradient.estimators import Estimate
from occlp.solvers.policy_gradient.parametrizations import Parametrization
from occlp.standard import StandardForm

#: A step must gain at least this part of what the slope promises (Armijo 1966).
SUFFICIENT = 1e-4
#: A line search that has halved its step this often has reached the rounding of J.
MOST_HALVINGS = 60


@dataclass(frozen=True, eq=False)
class Position:
    """Where a run is.

    Attributes
    ----------
    parameters : FloatArray [k]
    estimate : Estimate
        Of the policy of these parameters.
    step_size : float, optional
        Length of the last step of a line search, carried along.
    taken : int
        Steps taken so far.
    memory : object
        What else an update carries along (moments of the gradient, say).
    """

    parameters: FloatArray
    estimate: Estimate
    step_size: float | None = None
    taken: int = 0
    memory: Any = None

    def bare(self) -> Position:
        """The same without what cannot be stored, and without samples that are to be counted once."""
        return replace(self, estimate=replace(self.estimate, parts=None, samples=0))


@dataclass(frozen=True, eq=False)
class Landscape:
    """What an update may ask: the parametrization, and the estimate at any parameters."""

    form: StandardForm
    pairs: Pairs
    parametrization: Parametrization
    estimate: Callable[[FloatArray], Estimate]  # of parameters
    is_sampled: bool = False

    @property
    def unit(self) -> float:
        """Return scale in the user's units per unit of the standard form (the objective's scale for the average)."""
        return self.form.scale / (self.form.rest or 1.0)

    def probabilities(self, parameters: FloatArray) -> FloatArray:
        """π(a | s), [pairs]."""
        return self.parametrization.probabilities(self.pairs, parameters)

    def pullback(self, parameters: FloatArray, slopes: FloatArray) -> FloatArray:
        """Σ v(s, a) ∇π(a | s), [k]."""
        return self.parametrization.pullback(self.pairs, parameters, slopes)

    def gradient(self, position: Position) -> FloatArray:
        """∇J on the return scale and in the user's units, uphill in the user's sense."""
        return self.unit * self.pullback(position.parameters, position.estimate.slopes)

    def move(self, position: Position, parameters: FloatArray, **changes: Any) -> Position:
        """Return the position at other parameters, projected and estimated."""
        parameters = self.parametrization.project(self.pairs, parameters)
        changes = {"step_size": position.step_size, "memory": position.memory} | changes
        return Position(parameters, self.estimate(parameters), taken=position.taken + 1, **changes)


class Update:
    """One step from a position; subclasses are frozen dataclasses of settings."""

    def __repr__(self) -> str:
        """Name and settings that differ from their defaults."""
        return describe(self)

    def unsupported(self, parametrization: Parametrization, *, is_sampled: bool) -> str | None:
        """Return why this update cannot be joined with these other two choices, or None."""
        return None

    def step(self, landscape: Landscape, position: Position) -> Position | None:
        """Return the next position, or None when no step makes progress any more."""
        raise NotImplementedError


def advance(
    landscape: Landscape, position: Position, direction: FloatArray, slope: float, step_size: float | None
) -> Position | None:
    """Take a fixed step, or search along a direction of ascent with the given slope (return scale).

    The search doubles the last step and halves it until J has gained enough; it needs exact estimates.
    """
    if step_size is not None:
        return landscape.move(position, position.parameters + step_size * direction)
    if not slope > 0:
        return None
    length = 1.0 / float(np.abs(direction).max()) if position.step_size is None else 2.0 * position.step_size
    promised = slope / landscape.unit
    for _ in range(MOST_HALVINGS):
        parameters = position.parameters + length * direction
        found = landscape.move(position, parameters, step_size=length)
        # A projection shortens the step: only what is left of it can promise anything.
        share = np.array_equal(found.parameters, parameters) or _share(position, found, direction, length)
        gain = found.estimate.objective - position.estimate.objective
        if gain > 0 and gain >= SUFFICIENT * share * length * promised:
            return found
        length *= 0.5
    return None


def _share(position: Position, found: Position, direction: FloatArray, length: float) -> float:
    """What part of a step is left after its projection, along the direction."""
    return float((found.parameters - position.parameters) @ direction) / (length * float(direction @ direction))


def needs_step(step_size: float | None, *, is_sampled: bool) -> str | None:
    """Words for a line search that lacks the objective, or None."""
    if step_size is None and is_sampled:
        return "a search along a line needs the exact objective, and the estimator samples: give a step_size"
    return None

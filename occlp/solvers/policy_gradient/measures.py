"""What a run of policy gradients says of itself for the history, beside the truth."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from occlp._typing import FloatArray
from occlp.problem import Problem
from occlp.solvers.policy_gradient.estimators import Estimate, Exact
from occlp.solvers.policy_gradient.updates import Landscape, Position


class Measures:
    """Figures of the positions of one run; the exact estimator is prepared when it is first needed."""

    def __init__(self, problem: Problem, landscape: Landscape, trajectories: int) -> None:
        self.problem, self.landscape, self.trajectories = problem, landscape, trajectories

    @cached_property
    def _exact(self) -> Callable[[FloatArray], Estimate]:
        return Exact().prepare(self.problem, np.random.default_rng(0))

    def of(self, position: Position) -> dict[str, float]:
        """Return the columns of a position (docs/conventions.md, section 8)."""
        landscape, form = self.landscape, self.landscape.form
        gradient = landscape.gradient(position)
        figures = {"gradient_norm": float(np.linalg.norm(gradient))}
        exact = position.estimate
        if landscape.is_sampled:
            exact = self._exact(landscape.probabilities(position.parameters))
            truth = landscape.unit * landscape.pullback(position.parameters, exact.slopes)
            figures["gradient_angle"] = angle_between(gradient, truth)
            figures["gradient_error"] = float(np.linalg.norm(gradient - truth))
            figures["gradient_variance"] = self._variance(position)
        figures["steepest"] = landscape.unit * float(np.maximum.reduceat(exact.slopes, form.start[:-1]).sum())
        return figures

    def _variance(self, position: Position) -> float:
        """E‖estimate − mean‖², estimated from single trajectories; NaN where there are fewer than two."""
        landscape, parts = self.landscape, position.estimate.parts
        if parts is None or self.trajectories < 2:
            return float("nan")
        gradients = np.stack([landscape.unit * landscape.pullback(position.parameters, one) for one in parts()])
        return float(gradients.var(axis=0, ddof=1).sum()) / self.trajectories


def angle_between(first: FloatArray, second: FloatArray) -> float:
    """Angle between two vectors in degrees, accurate also where it is small; NaN if one of them vanishes."""
    sizes = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    if not all(sizes):
        return float("nan")
    one, other = first / sizes[0], second / sizes[1]
    halves = float(np.linalg.norm(one - other)), float(np.linalg.norm(one + other))
    return float(np.degrees(2.0 * np.arctan2(*halves)))

"""Mirror descent on the policy itself, state by state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import check_positive, check_word
from occlp.solvers.policy_gradient.parametrizations import Direct, Parametrization, Softmax
from occlp.solvers.policy_gradient.updates.base import MOST_HALVINGS, Landscape, Position, Update, needs_step


@dataclass(frozen=True, repr=False)
class MirrorStep(Update):
    """Policy mirror descent: in each state π ← argmax over p of η A·p / (1 − γ) − D(p, π).

    Parameters
    ----------
    step_size : float, optional
        η. Default: a search that halves the step until J has not become worse; for exact estimators.
    distance : {"kl", "euclidean"}
        D: KL(p ‖ π), which multiplies, π ∝ π exp(η A / (1 − γ)); or ½‖p − π‖², which projects π + η A / (1 − γ).
    growth : float
        Factor of η after each step; 1/γ and more makes exact runs converge linearly (Xiao 2022, Theorem 10).

    Notes
    -----
    With "kl" and fixed η this is the natural gradient of a tabular softmax (Agarwal et al. 2021, Lemma 15). Unlike
    the projected gradient, the steps of different states are not weighed by d(s). Sources: Shani, Efroni and
    Mannor (2020); Lan (2023); Xiao (2022).
    """

    step_size: float | None = None
    distance: str = "kl"
    growth: float = 1.0

    def __post_init__(self) -> None:
        check_positive("step_size", self.step_size, none="a search")
        check_positive("growth", self.growth)
        check_word(self.distance, "distance", ("kl", "euclidean"))

    def unsupported(self, parametrization: Parametrization, *, is_sampled: bool) -> str | None:
        """Return why this update cannot be joined with these other two choices, or None."""
        if not isinstance(parametrization, Softmax | Direct):
            return "mirror descent moves the policy of each state freely, which only Softmax and Direct allow"
        if self.distance == "euclidean" and not isinstance(parametrization, Direct):
            return "euclidean steps reach probabilities of zero, which only Direct allows"
        return needs_step(self.step_size, is_sampled=is_sampled)

    def step(self, landscape: Landscape, position: Position) -> Position | None:
        """Move the policy of each state."""
        direction = landscape.unit * position.estimate.advantages
        if self.step_size is not None:
            length = self.step_size * self.growth**position.taken
            return landscape.move(position, self._target(landscape, position, length * direction))
        size = float(np.abs(direction).max())
        if not size > 0:
            return None
        length = 1.0 / size if position.step_size is None else 2.0 * self.growth * position.step_size
        for _ in range(MOST_HALVINGS):
            target = self._target(landscape, position, length * direction)
            found = landscape.move(position, target, step_size=length)
            if found.estimate.objective > position.estimate.objective:
                return found
            length *= 0.5
        return None

    def _target(self, landscape: Landscape, position: Position, change: FloatArray) -> FloatArray:
        """Return the parameters after the change η A / (1 − γ) [pairs]."""
        if isinstance(landscape.parametrization, Softmax) or self.distance == "euclidean":
            return position.parameters + change
        start, states = landscape.form.start, landscape.form.states
        positive = position.parameters > 0
        change = np.where(positive, change, -np.inf)
        weights = position.parameters * np.exp(change - np.maximum.reduceat(change, start[:-1])[states])
        return np.asarray(weights / np.add.reduceat(weights, start[:-1])[states])

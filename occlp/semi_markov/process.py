"""A semi-Markov process as an ordinary one, and the way back from its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from occlp._typing import FloatArray
from occlp.model import MDP
from occlp.policy import Policy

if TYPE_CHECKING:
    from occlp.evaluation import Evaluation


@dataclass(frozen=True, eq=False)
class SemiMarkov:
    """A semi-Markov decision process, as an ordinary one.

    Attributes
    ----------
    mdp : MDP
        Steps of equal length: ask questions about this one. Average: `objective` and ``oc.expected`` are per
        unit of time, the occupancy is the fraction of time. Discounted: values and everything on the return
        scale are those of the process, the occupancy is the fraction of discounted time.
    embedded : MDP
        The process as it was given, decision by decision.
    weights : FloatArray [pairs]
        ω: decisions per unit of time (average), or per step of `mdp` (discounted).
    step : float
        Time that a step of `mdp` stands for: its length (average), or 1 − γ, the discounting that it takes.
    """

    mdp: MDP
    embedded: MDP
    weights: FloatArray  # [pairs]
    step: float

    @property
    def is_discounted(self) -> bool:
        """Whether time is discounted; otherwise the criterion is the average."""
        return self.mdp.discount is not None

    def decision_policy(self, policy: Policy) -> Policy:
        """Turn shares of time π(a | s) into probabilities of decisions, π ω / Σ_a π ω.

        Deterministic policies stay what they are.
        """
        mass = policy.pair_probabilities * self.weights
        return Policy.from_occupancy(self.mdp, mass)

    def time_policy(self, policy: Policy) -> Policy:
        """Turn probabilities of decisions into shares of time, the way back of `decision_policy`."""
        return Policy.from_occupancy(self.mdp, policy.pair_probabilities / self.weights)

    def decisions(self, evaluation: Evaluation) -> FloatArray:
        """Expected decisions as an [S, A] table: per unit of time (average), or discounted, over all time."""
        mass = evaluation.pair_occupancy * self.weights
        return self.mdp.pairs.table(mass / self.step if self.is_discounted else mass, 0.0)

    def embedded_occupancy(self, evaluation: Evaluation) -> FloatArray:
        """Fraction of (discounted) decisions as an [S, A] table that sums to one."""
        mass = evaluation.pair_occupancy * self.weights
        return self.mdp.pairs.table(mass / mass.sum(), 0.0)

    def state_values(self, evaluation: Evaluation) -> FloatArray:
        """Values of the process, [S]: the same when discounted, relative values times the step for the average."""
        values: FloatArray = evaluation.state_values * (1.0 if self.is_discounted else self.step)
        return values

    def advantages(self, evaluation: Evaluation) -> FloatArray:
        """Loss by one decision, as an [S, A] table: those of `mdp` divided by ω; NaN where there is no pair."""
        return self.mdp.pairs.table(evaluation.pair_advantages / self.weights, np.nan)

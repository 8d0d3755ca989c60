"""Parametrizations: how parameters become a policy, and how weights on pairs become a gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from occlp._typing import FloatArray
from occlp.kernels import softmax as kernels
from occlp.model import Pairs
from occlp.policy import Policy

#: Smallest probability that a start policy is read with: the logit of zero is minus infinity.
LEAST_PROBABILITY = 1e-300


class Parametrization(Protocol):
    """A differentiable map from parameters θ to π(a | s)."""

    def initial(self, pairs: Pairs, policy: Policy | None) -> FloatArray:
        """Return parameters of the uniform policy, or of the one given."""

    def probabilities(self, pairs: Pairs, parameters: FloatArray) -> FloatArray:
        """Return π(a | s), [pairs]."""

    def pullback(self, pairs: Pairs, parameters: FloatArray, weights: FloatArray) -> FloatArray:
        """Return Σ w(s, a) ∇θ log π(a | s) for weights [pairs]."""


@dataclass(frozen=True)
class Softmax:
    """One logit a pair: π(a | s) = exp θ(s, a) / Σ_b exp θ(s, b)."""

    def initial(self, pairs: Pairs, policy: Policy | None) -> FloatArray:
        """Zeros, or the logarithm of a policy."""
        if policy is None:
            return np.zeros(pairs.n_pairs)
        return np.log(np.maximum(policy.pair_probabilities, LEAST_PROBABILITY))

    def probabilities(self, pairs: Pairs, parameters: FloatArray) -> FloatArray:
        """Softmax of the logits, [pairs]."""
        probabilities: FloatArray = kernels.softmax(pairs.start, parameters)
        return probabilities

    def pullback(self, pairs: Pairs, parameters: FloatArray, weights: FloatArray) -> FloatArray:
        """w − π Σ_a w (source: ∇ log π = 1_a − π)."""
        gradient: FloatArray = kernels.score_gradient(pairs.start, self.probabilities(pairs, parameters), weights)
        return gradient

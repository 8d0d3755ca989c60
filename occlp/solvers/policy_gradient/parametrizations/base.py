"""What a parametrization is, and the one that most are: a softmax of differentiable logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from occlp._typing import FloatArray
from occlp.kernels import softmax as kernels
from occlp.model import Pairs
from occlp.policy import Policy
from occlp.solvers.base import describe

#: Smallest probability that a start policy is read with: the logit of zero is minus infinity.
LEAST_PROBABILITY = 1e-300


class Parametrization:
    """A differentiable map from parameters θ [k] to probabilities π(a | s) [pairs].

    Subclasses are frozen dataclasses of settings. They give `initial`, `probabilities`, `pullback` and `score`, and
    `project` where not every θ is allowed.

    Attributes
    ----------
    most_products : int
        How many products with the Fisher matrix a natural direction may take.
    """

    most_products: int = 100

    def __repr__(self) -> str:
        """Name and settings that differ from their defaults."""
        return describe(self)

    def initial(self, pairs: Pairs, policy: Policy | None) -> FloatArray:
        """Return parameters to begin with, or those of the policy given (of the nearest there is).

        Raises `InvalidProblem` when the settings do not fit the model.
        """
        raise NotImplementedError

    def probabilities(self, pairs: Pairs, parameters: FloatArray) -> FloatArray:
        """Return π(a | s), [pairs]."""
        raise NotImplementedError

    def pullback(self, pairs: Pairs, parameters: FloatArray, slopes: FloatArray) -> FloatArray:
        """Return Σ v(s, a) ∇π(a | s) for slopes v [pairs], [k]."""
        raise NotImplementedError

    def score(self, pairs: Pairs, parameters: FloatArray, direction: FloatArray) -> FloatArray:
        """Return ∇ log π(a | s) · u for a direction u [k], [pairs]."""
        raise NotImplementedError

    def fisher(self, pairs: Pairs, parameters: FloatArray, masses: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """Return the product u ↦ F u, [k], with F = Σ m(s, a) ∇log π ∇log πᵀ for masses m [pairs]."""
        probabilities = self.probabilities(pairs, parameters)
        ratio = np.where(probabilities > 0, masses / np.where(probabilities > 0, probabilities, 1.0), 0.0)
        return lambda direction: self.pullback(pairs, parameters, ratio * self.score(pairs, parameters, direction))

    def project(self, pairs: Pairs, parameters: FloatArray) -> FloatArray:
        """Return the nearest parameters that are allowed; all are, unless a subclass says otherwise."""
        return parameters


class PreferenceParametrization(Parametrization):
    """π(a | s) ∝ exp h(s, a; θ), for preferences h (logits) that a subclass differentiates.

    Then ∇ log π(a | s) = ∇h(s, a) − Σ_b π(b | s) ∇h(s, b), and nothing overflows.
    """

    def preferences(self, pairs: Pairs, parameters: FloatArray) -> FloatArray:
        """Return h, [pairs]."""
        raise NotImplementedError

    def preferences_vjp(self, pairs: Pairs, parameters: FloatArray, weights: FloatArray) -> FloatArray:
        """Return Σ w(s, a) ∇h(s, a) for weights w [pairs], [k]."""
        raise NotImplementedError

    def preferences_jvp(self, pairs: Pairs, parameters: FloatArray, direction: FloatArray) -> FloatArray:
        """Return ∇h(s, a) · u for a direction u [k], [pairs]."""
        raise NotImplementedError

    def probabilities(self, pairs: Pairs, parameters: FloatArray) -> FloatArray:
        """Softmax of the logits, [pairs]."""
        found: FloatArray = kernels.softmax(pairs.start, self.preferences(pairs, parameters))
        return found

    def pullback(self, pairs: Pairs, parameters: FloatArray, slopes: FloatArray) -> FloatArray:
        """Pull π (v − Σ_a π v) back through the preferences."""
        probabilities = self.probabilities(pairs, parameters)
        weights = kernels.score_gradient(pairs.start, probabilities, probabilities * slopes)
        return self.preferences_vjp(pairs, parameters, weights)

    def score(self, pairs: Pairs, parameters: FloatArray, direction: FloatArray) -> FloatArray:
        """∇h · u less its mean in each state."""
        probabilities = self.probabilities(pairs, parameters)
        slopes = self.preferences_jvp(pairs, parameters, direction)
        return slopes - state_sums(pairs, probabilities * slopes)[pairs.states]

    def fisher(self, pairs: Pairs, parameters: FloatArray, masses: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """Return u ↦ F u: one product forwards and one back, with the probabilities computed once."""
        probabilities = self.probabilities(pairs, parameters)

        def product(direction: FloatArray) -> FloatArray:
            slopes = self.preferences_jvp(pairs, parameters, direction)
            score = slopes - state_sums(pairs, probabilities * slopes)[pairs.states]
            weights = kernels.score_gradient(pairs.start, probabilities, masses * score)
            return self.preferences_vjp(pairs, parameters, weights)

        return product


def state_sums(pairs: Pairs, values: FloatArray) -> FloatArray:
    """Σ_a of values [pairs] in each state, [S]."""
    return np.add.reduceat(values, pairs.start[:-1])


def log_of_policy(policy: Policy) -> FloatArray:
    """log π(a | s), with probabilities of zero read as the smallest there is."""
    return np.log(np.maximum(policy.pair_probabilities, LEAST_PROBABILITY))

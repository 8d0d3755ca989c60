"""One parameter a pair: tabular softmax, and the probabilities themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occlp._typing import FloatArray
from occlp.kernels import softmax as kernels
from occlp.model import Pairs
from occlp.policy import Policy
from occlp.solvers.policy_gradient.parametrizations.base import (
    Parametrization,
    PreferenceParametrization,
    log_of_policy,
    state_sums,
)


@dataclass(frozen=True, repr=False)
class Softmax(PreferenceParametrization):
    """One logit a pair: π(a | s) = exp θ(s, a) / Σ_b exp θ(s, b).

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("kakade-two-state")
    >>> oc.parametrizations.Softmax().probabilities(mdp.pairs, np.array([0.0, 0.0, 0.0, np.log(3.0)])).round(12)
    array([0.5 , 0.5 , 0.25, 0.75])
    """

    def initial(self, pairs: Pairs, policy: Policy | None) -> FloatArray:
        """Zeros, or the logarithm of a policy."""
        return np.zeros(pairs.n_pairs) if policy is None else log_of_policy(policy)

    def preferences(self, pairs: Pairs, parameters: FloatArray) -> FloatArray:
        """θ itself."""
        return parameters

    def preferences_vjp(self, pairs: Pairs, parameters: FloatArray, weights: FloatArray) -> FloatArray:
        """w itself."""
        return weights

    def preferences_jvp(self, pairs: Pairs, parameters: FloatArray, direction: FloatArray) -> FloatArray:
        """u itself."""
        return direction


@dataclass(frozen=True, repr=False)
class Direct(Parametrization):
    """The probabilities are the parameters, θ(s, a) = π(a | s), projected on the simplex of each state.

    The gradient is ∂J/∂π(a | s) = d(s) Q(s, a) / (1 − γ) less its mean over the actions of the state: the part along
    the simplex, all that a projection leaves of it. Deterministic policies are reached in finitely many steps and
    can be left again.

    Notes
    -----
    Source: Agarwal, Kakade, Lee and Mahajan (2021), section 4.
    """

    def initial(self, pairs: Pairs, policy: Policy | None) -> FloatArray:
        """Return the uniform policy, or the one given."""
        return (Policy.uniform(pairs) if policy is None else policy).pair_probabilities.copy()

    def probabilities(self, pairs: Pairs, parameters: FloatArray) -> FloatArray:
        """θ itself."""
        return parameters

    def pullback(self, pairs: Pairs, parameters: FloatArray, slopes: FloatArray) -> FloatArray:
        """v less its mean in each state."""
        return _along(pairs, slopes)

    def score(self, pairs: Pairs, parameters: FloatArray, direction: FloatArray) -> FloatArray:
        """u / π for the part of u along the simplex, and zero where π is."""
        positive = parameters > 0
        return np.where(positive, _along(pairs, direction) / np.where(positive, parameters, 1.0), 0.0)

    def project(self, pairs: Pairs, parameters: FloatArray) -> FloatArray:
        """Return the nearest point of the simplex in each state."""
        found: FloatArray = kernels.project(pairs.start, parameters)
        return found


def _along(pairs: Pairs, values: FloatArray) -> FloatArray:
    """Values less their mean in each state: moves that keep the sum of the probabilities."""
    return values - (state_sums(pairs, values) / np.diff(pairs.start))[pairs.states]

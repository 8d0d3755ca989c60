"""Policy gradient as three independent choices: parametrization, estimator, update."""

from __future__ import annotations

from occlp.solvers.policy_gradient import estimators, parametrizations, updates
from occlp.solvers.policy_gradient.ascent import NaturalPolicyGradient, PolicyGradient, policy_gradient

__all__ = [
    "NaturalPolicyGradient", "PolicyGradient", "estimators", "parametrizations", "policy_gradient", "updates",
]  # fmt: skip

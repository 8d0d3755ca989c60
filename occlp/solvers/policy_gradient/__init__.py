"""Policy gradient as three independent choices: parametrization, estimator, update."""

from __future__ import annotations

from occlp.solvers.policy_gradient import estimators, parametrizations, updates
from occlp.solvers.policy_gradient.ascent import PolicyGradient, policy_gradient
from occlp.solvers.policy_gradient.presets import MirrorDescent, NaturalPolicyGradient

__all__ = [
    "MirrorDescent",
    "NaturalPolicyGradient",
    "PolicyGradient",
    "estimators",
    "parametrizations",
    "policy_gradient",
    "updates",
]

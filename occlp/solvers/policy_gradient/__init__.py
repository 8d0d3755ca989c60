"""Policy gradient as three independent choices: parametrization, estimator, update."""

from __future__ import annotations

from occlp.solvers.policy_gradient import estimators, parametrizations, updates
from occlp.solvers.policy_gradient.ascent import PolicyGradient, policy_gradient
from occlp.solvers.policy_gradient.listing import all_trajectories
from occlp.solvers.policy_gradient.moments import GradientMoments, gradient_moments
from occlp.solvers.policy_gradient.presets import (
    A2C,
    PPO,
    TRPO,
    ActorCritic,
    MirrorDescent,
    NaturalPolicyGradient,
    Reinforce,
)
from occlp.solvers.policy_gradient.primal_dual import PrimalDualGradient

__all__ = [
    "A2C",
    "PPO",
    "TRPO",
    "ActorCritic",
    "GradientMoments",
    "MirrorDescent",
    "NaturalPolicyGradient",
    "PolicyGradient",
    "PrimalDualGradient",
    "Reinforce",
    "all_trajectories",
    "estimators",
    "gradient_moments",
    "parametrizations",
    "policy_gradient",
    "updates",
]

"""Solvers: one file a family, and the rules by which one is chosen."""

from __future__ import annotations

from occlp.problem import Problem
from occlp.solvers.base import Iterate, Solver
from occlp.solvers.decomposition import Decomposition
from occlp.solvers.dynamic_programming import ModifiedPolicyIteration, PolicyIteration, ValueIteration
from occlp.solvers.face_newton import FaceNewton
from occlp.solvers.kl_dual import KLDual
from occlp.solvers.occupancy_program import OccupancyProgram
from occlp.solvers.policy_gradient import (
    A2C,
    PPO,
    TRPO,
    ActorCritic,
    MirrorDescent,
    NaturalPolicyGradient,
    PolicyGradient,
    Reinforce,
)
from occlp.solvers.soft_policy_iteration import SoftPolicyIteration
from occlp.terms import KL, ConditionalKL, OccupancyEntropy, PolicyEntropy

__all__ = [
    "A2C",
    "PPO",
    "TRPO",
    "ActorCritic",
    "Decomposition",
    "Iterate",
    "KLDual",
    "MirrorDescent",
    "ModifiedPolicyIteration",
    "NaturalPolicyGradient",
    "OccupancyProgram",
    "PolicyGradient",
    "PolicyIteration",
    "Reinforce",
    "SoftPolicyIteration",
    "Solver",
    "ValueIteration",
    "default_solver",
    "polisher",
]  # fmt: skip


def default_solver(problem: Problem) -> Solver:
    """The fastest sound method for a problem (docs/how-to-choose.md)."""
    setting = problem.regularizer or problem.utility
    if problem.criterion == "total":
        return OccupancyProgram() if problem.limits else PolicyIteration()
    if problem.concave_limits:
        return OccupancyProgram()
    if setting is None:
        return Decomposition() if problem.limits else PolicyIteration()
    if isinstance(setting, KL | OccupancyEntropy):
        return KLDual()
    if isinstance(setting, ConditionalKL | PolicyEntropy) and not problem.limits:
        return SoftPolicyIteration()
    return OccupancyProgram()


def polisher(problem: Problem, solver: Solver) -> Solver | None:
    """The exact method that mends the last digits of a solver of limited accuracy, or None."""
    if not isinstance(solver, OccupancyProgram):
        return None
    exact = default_solver(problem)
    if not isinstance(exact, OccupancyProgram):
        return exact
    newton = FaceNewton()
    return newton if newton.unsupported(problem) is None else None

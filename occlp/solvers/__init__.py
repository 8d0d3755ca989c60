"""Solvers: one file a family, and the rules by which one is chosen."""

from __future__ import annotations

from occlp.errors import OccupancyError
from occlp.multichain import components_of, has_several
from occlp.problem import Problem
from occlp.solvers.base import Iterate, Solver
from occlp.solvers.decomposition import Decomposition
from occlp.solvers.dynamic_programming import ModifiedPolicyIteration, PolicyIteration, ValueIteration
from occlp.solvers.expansion import is_expandable
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
    PrimalDualGradient,
    Reinforce,
)
from occlp.solvers.saddle_point import SaddlePoint
from occlp.solvers.sampled_saddle_point import SampledSaddlePoint
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
    "PrimalDualGradient",
    "Reinforce",
    "SaddlePoint",
    "SampledSaddlePoint",
    "SoftPolicyIteration",
    "Solver",
    "ValueIteration",
    "default_solver",
    "polisher",
    "refusal",
]  # fmt: skip


def default_solver(problem: Problem) -> Solver:
    """The fastest sound method for a problem (docs/how-to-choose.md)."""
    setting = problem.regularizer or problem.utility
    if problem.criterion == "total":
        return OccupancyProgram() if problem.limits else PolicyIteration()
    if setting is None and not problem.all_limits:
        return PolicyIteration()
    if is_expandable(problem):
        # On average the best mixture may be of classes that no policy combines: an interior point is then nearer.
        curved = setting is not None or problem.concave_limits
        several = has_several(problem) or (curved and problem.criterion == "average")
        return OccupancyProgram() if several else Decomposition()
    if problem.concave_limits:
        return OccupancyProgram()
    if isinstance(setting, KL | OccupancyEntropy):
        return KLDual()
    if isinstance(setting, ConditionalKL | PolicyEntropy) and not problem.limits:
        return SoftPolicyIteration()
    return OccupancyProgram()


def refusal(problem: Problem, solver: Solver) -> str | None:
    """Why a solver cannot answer a problem, or None; averages that depend on the start are refused to most."""
    try:
        reason = solver.unsupported(problem)
    except OccupancyError:
        raise
    except Exception as error:  # a third party's mistake ends its own run only
        return f"its unsupported() raised {type(error).__name__}: {error}"
    if reason is not None or not has_several(problem):
        return reason
    found = f"the model has {components_of(problem).count} end components, so averages may depend on the start"
    if problem.regularizer is not None or problem.utility is not None or problem.concave_limits:
        return f"{found}; regularizers and utilities need one (oc.structure(mdp) shows them), or a discounted question"
    if not getattr(solver, "several_classes", False):
        return f"{found}; PolicyIteration and OccupancyProgram answer such questions"
    return None


def polisher(problem: Problem, solver: Solver) -> Solver | None:
    """The exact method that mends the last digits of a solver of limited accuracy, or None."""
    if not isinstance(solver, OccupancyProgram) or (problem.limits and has_several(problem)):
        return None
    exact = default_solver(problem)
    if not isinstance(exact, OccupancyProgram):
        return exact
    newton = FaceNewton()
    return newton if newton.unsupported(problem) is None else None

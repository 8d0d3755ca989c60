"""Solvers: one file a family, and the rules by which one is chosen."""

from __future__ import annotations

from occlp.problem import Problem
from occlp.solvers.base import Iterate, Solver
from occlp.solvers.decomposition import Decomposition
from occlp.solvers.dynamic_programming import ModifiedPolicyIteration, PolicyIteration, ValueIteration
from occlp.solvers.kl_dual import KLDual
from occlp.solvers.occupancy_program import OccupancyProgram
from occlp.solvers.policy_gradient import NaturalPolicyGradient, PolicyGradient

__all__ = [
    "Decomposition", "Iterate", "KLDual", "ModifiedPolicyIteration", "NaturalPolicyGradient", "OccupancyProgram",
    "PolicyGradient",
    "PolicyIteration", "Solver", "ValueIteration", "default_solver", "polisher",
]  # fmt: skip


def default_solver(problem: Problem) -> Solver:
    """The fastest sound method for a problem (docs/how-to-choose.md)."""
    if problem.regularizer is not None:
        return KLDual()
    return Decomposition() if problem.limits else PolicyIteration()


def polisher(problem: Problem, solver: Solver) -> Solver | None:
    """The exact method that mends the last digits of a solver of limited accuracy, or None."""
    return default_solver(problem) if isinstance(solver, OccupancyProgram) else None

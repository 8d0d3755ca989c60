"""Solvers: one file a family, and the rules by which one is chosen."""

from __future__ import annotations

from occlp.problem import Problem
from occlp.solvers.base import Iterate, Solver
from occlp.solvers.dynamic_programming import ModifiedPolicyIteration, PolicyIteration, ValueIteration

__all__ = [
    "Iterate", "ModifiedPolicyIteration", "PolicyIteration", "Solver", "ValueIteration", "default_solver", "polisher",
]  # fmt: skip


def default_solver(problem: Problem) -> Solver:
    """The fastest sound method for a problem (docs/how-to-choose.md)."""
    return PolicyIteration()


def polisher(problem: Problem, solver: Solver) -> Solver | None:
    """The exact method that mends the last digits of a solver of limited accuracy, or None."""
    return None

"""Which method answers a question: the default, refusals, and what polishes an answer.

Methods are imported where they are chosen: a first plain question does not wait for the others.
"""

from __future__ import annotations

from collections.abc import Mapping

from occlp.bounds.averages import components_of, has_several
from occlp.errors import OccupancyError
from occlp.problem import Problem
from occlp.solvers.base import Solver
from occlp.solvers.dynamic_programming import PolicyIteration
from occlp.solvers.expansion import is_expandable
from occlp.terms import KL, ConditionalKL, OccupancyEntropy, PolicyEntropy, WorstCase

#: Up to this many pairs some linear programs are solved faster as a whole: those of a worst case (measured on slow
#: grids), and those with more than so many limits (on garnets: with 150, the prices alone take longer).
FEW_PAIRS, MANY_LIMITS = 10_000, 100


def default_solver(problem: Problem) -> Solver:
    """The fastest sound method for a problem (docs/how-to-choose.md)."""
    setting = problem.regularizer or problem.utility
    if problem.criterion == "total":
        if not problem.limits:
            return PolicyIteration()
    elif setting is None and not problem.all_limits:
        return PolicyIteration()
    elif is_expandable(problem):
        # On average the best mixture may be of classes that no policy combines: an interior point is then nearer.
        curved = setting is not None or problem.concave_limits
        several = has_several(problem) or (curved and problem.criterion == "average")
        many = len(problem.limits) > MANY_LIMITS
        whole = (many or isinstance(setting, WorstCase)) and problem.mdp.n_pairs <= FEW_PAIRS
        if many and whole and not several:
            from occlp.solvers.occupancy_program import OccupancyProgram

            return OccupancyProgram(backend="CLARABEL")  # HIGHS takes long over many rows
        if not (several or whole):
            from occlp.solvers.decomposition import Decomposition

            return Decomposition()
    elif isinstance(setting, KL | OccupancyEntropy) and not problem.concave_limits:
        from occlp.solvers.kl_dual import KLDual

        return KLDual()
    elif isinstance(setting, ConditionalKL | PolicyEntropy) and not problem.all_limits:
        from occlp.solvers.soft_policy_iteration import SoftPolicyIteration

        return SoftPolicyIteration()
    if problem.criterion != "total" and (setting is not None or problem.concave_limits) and not has_several(problem):
        from occlp.solvers.barrier_method import InteriorPoint

        inside = InteriorPoint()
        if inside.unsupported(problem) is None:
            return inside
    from occlp.solvers.occupancy_program import OccupancyProgram

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


def polisher(problem: Problem, solver: Solver, multipliers: Mapping[str, float]) -> Solver | None:
    """The exact method that mends the last digits of a solver of limited accuracy, or None.

    It begins at the prices of the constraints that are known.
    """
    if not getattr(solver, "is_polished", False) or (problem.limits and has_several(problem)):
        return None
    exact = default_solver(problem)
    if not getattr(exact, "is_polished", False):
        return exact
    from occlp.solvers.face_newton import FaceNewton

    newton = FaceNewton(multipliers=multipliers)
    return newton if newton.unsupported(problem) is None else None

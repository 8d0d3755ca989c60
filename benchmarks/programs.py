"""The occupancy program as a user of cvxpy or scipy would write it down, with nothing scaled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import occlp as oc
from benchmarks.peers import Answered, flow_matrix


def occupancies(backend: str, **options: Any) -> Callable[[oc.Problem, float], Callable[[], Answered]]:
    """Maximise r·d − τ KL(d ‖ d0) over occupancies d that keep the limits, by a backend of cvxpy; π from d."""

    def prepare(problem: oc.Problem, accuracy: float) -> Callable[[], Answered]:
        import cvxpy as cp

        flow, rewards, initial, costs, bounds = data(problem)
        leash, reference = problem.regularizer, None
        if leash is not None:
            reference = oc.evaluate(oc.Problem(problem.mdp), leash.reference).pair_occupancy

        def answer() -> Answered:
            d = cp.Variable(len(rewards), nonneg=True)
            objective = rewards @ d
            if reference is not None:
                objective -= leash.strength * cp.sum(cp.rel_entr(d, reference))
            constraints = [flow.T @ d == initial]
            if len(bounds):
                constraints.append(costs @ d <= bounds)
            program = cp.Problem(cp.Maximize(objective), constraints)
            program.solve(solver=backend, **options)
            if d.value is None:
                raise RuntimeError(f"status {program.status}")
            return Answered(_policy(problem.mdp, d.value), {"status": program.status})

        return answer

    return prepare


def linprog_occupancies(method: str) -> Callable[[oc.Problem, float], Callable[[], Answered]]:
    """The same linear program by scipy."""

    def prepare(problem: oc.Problem, accuracy: float) -> Callable[[], Answered]:
        from scipy.optimize import linprog

        flow, rewards, initial, costs, bounds = data(problem)

        def answer() -> Answered:
            found = linprog(-rewards, A_ub=costs, b_ub=bounds, A_eq=flow.T, b_eq=initial, method=method)
            if found.x is None:
                raise RuntimeError(found.message)
            notes = {"status": found.message, "iterations": int(found.nit)}
            return Answered(_policy(problem.mdp, found.x), notes)

        return answer

    return prepare


def data(problem: oc.Problem) -> tuple[Any, Any, Any, Any, Any]:
    """E − γP [pairs, S], rewards [pairs], (1 − γ) μ0 [S], costs [k, pairs] and their upper limits [k]."""
    mdp, limits = problem.mdp, list(problem.limits.values())
    costs = [limit.expression.coefficients(mdp, problem.rest) for limit in limits]
    bounds = np.array([float(limit.bound) for limit in limits])
    return flow_matrix(problem), mdp.pair_rewards, problem.rest * mdp.initial, np.array(costs), bounds


def _policy(mdp: oc.MDP, occupancy: Any) -> Any:
    return oc.Policy.from_occupancy(mdp, np.maximum(occupancy, 0.0)).pair_probabilities

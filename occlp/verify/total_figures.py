"""The figures that stand beside a certificate of a total: visits, totals, violation, objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from occlp.errors import AuditFailed
from occlp.verify.paths import chain_of, reached_from

if TYPE_CHECKING:
    from occlp.problem import Problem
    from occlp.result import Result


def check_total_figures(problem: Problem, result: Result) -> None:
    """Check the visits against the flow equations, and the totals against the visits."""
    mdp, goal = problem.mdp, problem.goal_states
    visits = np.asarray(result.pair_occupancy)
    if visits.shape != (mdp.n_pairs,) or np.isnan(visits).any() or (visits < 0).any():
        raise AuditFailed("the visits are not one number a pair, none negative.")
    chain, labels, closed = chain_of(problem, result.policy)
    reached = reached_from(chain, mdp.initial > 0)
    if not np.array_equal(result.visited, reached):
        raise AuditFailed("the visited states are not those that the policy reaches.")
    first, states = mdp.pairs.start[:-1], mdp.pairs.states
    staying = closed[labels] & reached & ~goal
    outflow = np.add.reduceat(visits, first)
    if not (np.isinf(outflow) == staying).all() or outflow[goal].any() or outflow[~reached].any():
        raise AuditFailed("visits are infinite where the process stays for ever, zero in the goal, and there only.")
    finite = np.where(np.isinf(visits), 0.0, visits)
    inflow = mdp.initial + mdp.transitions.T @ finite
    inner = reached & ~staying & ~goal
    scale = 1.0 + float(finite.max(initial=0.0))
    if not np.abs((inflow - outflow)[inner]).max(initial=0.0) <= 1e-9 * scale:
        raise AuditFailed("the visits break the flow equations.")
    share = np.where(staying, 0.0, outflow)[states] * result.policy.pair_probabilities
    if not np.abs(share - finite).max() <= 1e-9 * scale:
        raise AuditFailed("the visits are not those of the policy.")
    _check_totals(problem, result, visits, inflow)


def _check_totals(problem: Problem, result: Result, visits: Any, inflow: Any) -> None:
    mdp, certificate = problem.mdp, result.certificate
    if certificate.infeasible_by is None and not certificate.unending:
        low, high = sorted((certificate.lower, certificate.upper))
        gained = 2.0 * sum(abs(price) for price in certificate.multipliers.values()) * certificate.violation
        doubt = 1e-9 * (abs(result.objective) if np.isfinite(result.objective) else 0.0) + gained
        undefined = np.isnan(result.objective) and (low, high) == (-np.inf, np.inf)  # nothing is claimed
        if not (undefined or low - doubt <= result.objective <= high + doubt):
            raise AuditFailed(f"the objective {result.objective} lies outside [{low}, {high}].")
    live = ~problem.goal_states[mdp.pairs.states]
    for name, cost in {"reward": mdp.pair_rewards, **mdp.pair_costs}.items():
        if name not in result.expected_total:
            raise AuditFailed(f"expected_total lacks {name!r}.")
        claimed = result.expected_total[name]
        counted = live & (cost != 0) & (visits > 0)
        with np.errstate(invalid="ignore"):
            parts = visits[counted] * cost[counted]
            value, size = float(parts.sum()), float(np.abs(parts).sum())
        if np.isfinite(size) and not abs(value - claimed) <= 1e-8 * size + 1e-300:
            raise AuditFailed(f"expected_total[{name!r}] is {value}, not {claimed}.")
    if problem.objective == "reach":
        probability = float(inflow[problem.goal_states].sum())
        if not abs(probability - result.objective) <= 1e-8:
            raise AuditFailed(f"the goal is reached with probability {probability}, not {result.objective}.")
    elif np.isfinite(result.objective) and result.objective != result.expected_total["reward"]:
        raise AuditFailed("the objective is not the expected total reward.")
    worst, size = 0.0, 1.0
    for limit in problem.limits.values():
        cost = np.where(live, problem.coefficients(limit), 0.0)
        counted = (cost != 0) & (visits > 0)
        excess = float((visits[counted] * cost[counted]).sum()) - limit.bound
        worst = max(worst, {"<=": excess, ">=": -excess, "==": abs(excess)}[limit.relation])
        size = max(size, abs(limit.bound), float((visits[counted] * np.abs(cost[counted])).sum()))
    if np.isfinite(worst) and not abs(worst - certificate.violation) <= 1e-10 * size:
        raise AuditFailed(f"the constraints are broken by {worst}, not {certificate.violation} as claimed.")

"""Audit of certificates of totals: goals, reachability, and totals without a goal.

For rewards to be maximised, with V at the goal fixed (0; 1 where the question is whether it is reached):

* V ≥ r − y·C + PV on every pair outside the goal bounds every policy that ends almost surely by μ0·V + y·b.
  Without a goal that must be reached, a policy may also stay for ever at no loss; there V ≥ 0 is asked.
  V = −∞ is allowed where a search of the graph finds that no policy ends well.
* W ≤ r + PW on the pairs of a policy that ends almost surely bounds what it earns from below by μ0·W.

The residuals are recomputed in extended precision, and their rounding is charged against the certificate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from occlp.errors import AuditFailed
from occlp.verify.paths import (
    certain_to_reach,
    chain_of,
    end_components,
    forward,
    is_proper,
    leads_into,
    reached_from,
)
from occlp.verify.terms import Real

if TYPE_CHECKING:
    from occlp.certificate import Certificate
    from occlp.policy import Policy
    from occlp.problem import Problem

UNIT = float(np.finfo(np.float64).eps)
FINE = float(np.finfo(Real).eps)


def check_total(problem: Problem, policy: Policy, certificate: Certificate) -> None:
    """Check the bounds of a certificate of a total; raises `AuditFailed`."""
    sign = 1 if problem.sense == "maximize" else -1
    if certificate.unending:
        ends = (certificate.lower, certificate.upper, certificate.gap, certificate.infeasible_by)
        if ends != (sign * np.inf, sign * np.inf, 0.0, None):
            raise AuditFailed(f"a total without a bound is claimed beside lower, upper, gap, infeasible_by = {ends}.")
        _check_unending(problem, policy)
        return
    boundary = sign if problem.objective == "reach" else 0
    short = certificate.infeasible_by
    values = (sign if short is None else 1) * np.asarray(certificate.values).astype(Real)
    own = sign * np.asarray(certificate.policy_values).astype(Real)
    if any(array.shape != (problem.mdp.n_states,) or np.isnan(array).any() for array in (values, own)):
        raise AuditFailed("the certificate's values are not one number a state.")
    if short is not None and (not problem.limits or (np.isneginf(values).any() and not is_proper(problem))):
        raise AuditFailed("infeasibility follows from prices of constraints, not from values of −∞.")
    weights, bounds = _prices(problem, certificate)
    rewards = _rewards(problem) * (short is None)
    above = Real(np.inf)
    if short is not None or max(sign * certificate.lower, sign * certificate.upper) < np.inf:
        above = _upper(problem, values, sign * rewards - weights, boundary if short is None else 0) + bounds
    written = UNIT * 4 * sum(abs(end) for end in (certificate.lower, certificate.upper) if np.isfinite(end))
    written += float(FINE * 64 * np.abs(np.where(np.isfinite(values), values, 0)).max())
    if short is not None:
        if not (short > 0 and float(-above) >= short * (1 - 1e-9) - written and above < 0):
            raise AuditFailed(f"the priced violation is at least {float(-above)}, not {short}.")
        return
    claims = sorted((sign * certificate.lower, sign * certificate.upper))
    # Where nothing is claimed, the values need not prove anything.
    below = Real(-np.inf) if claims[0] == -np.inf else _lower(problem, policy, own, sign * rewards, boundary)
    if not float(above) <= claims[1] + written:
        raise AuditFailed(f"policies better than the certificate's bound are not excluded: {above} > {claims[1]}.")
    if not float(below) >= claims[0] - written:
        raise AuditFailed(f"the policy does not attain what the certificate claims: {below} < {claims[0]}.")
    if claims[0] < claims[1] and not certificate.gap >= (claims[1] - claims[0]) - written:
        raise AuditFailed(f"the gap is {claims[1] - claims[0]}, not {certificate.gap} as claimed.")
    if not certificate.gap >= 0:
        raise AuditFailed(f"a gap of {certificate.gap} makes no sense.")


def _rewards(problem: Problem) -> Any:
    mdp = problem.mdp
    if problem.objective == "reach":
        return np.zeros(mdp.n_pairs, dtype=Real)
    return np.where(problem.goal_states[mdp.pairs.states], 0, mdp.pair_rewards).astype(Real)


def _prices(problem: Problem, certificate: Certificate) -> tuple[Any, Any]:
    """y·C of every pair and y·b; raises for a price of the wrong sign."""
    charge, bounds = np.zeros(problem.mdp.n_pairs, dtype=Real), Real(0)
    if set(certificate.multipliers) != set(problem.limits):
        raise AuditFailed("the certificate's multipliers are not those of the problem's constraints.")
    live = ~problem.goal_states[problem.mdp.pairs.states]
    for name, limit in problem.limits.items():
        price = certificate.multipliers[name]
        if not np.isfinite(price) or (price < 0 and limit.relation != "=="):
            raise AuditFailed(f"the multiplier of {name!r} is {price}; it must not be negative.")
        side = -1 if limit.relation == ">=" else 1
        charge += Real(side * price) * np.where(live, problem.coefficients(limit), 0).astype(Real)
        bounds += Real(side * price) * Real(limit.bound)
    return charge, bounds


def _upper(problem: Problem, values: Any, rewards: Any, boundary: int) -> Any:
    """μ0·V, once V is shown to bound every policy."""
    mdp, goal = problem.mdp, problem.goal_states
    states = mdp.pairs.states
    if (values == np.inf).any():
        return Real(np.inf)
    if (values[goal] != boundary).any():
        raise AuditFailed(f"the values are not {boundary} at the goal.")
    lost = values == -np.inf
    leads_to_lost = leads_into(mdp, lost)
    _check_lost(problem, lost)
    if (lost & (mdp.initial > 0)).any():
        return Real(-np.inf)
    counted = ~goal[states] & ~lost[states] & ~leads_to_lost
    scores, doubt = _residuals(mdp, np.where(lost, 0, values), rewards)
    worst = np.where(counted, scores + doubt, -1)
    if worst.max(initial=-1) > 0:
        pair = int(np.argmax(worst))
        raise AuditFailed(f"V < r + PV by {float(worst[pair])} at {mdp.pairs.describe(pair)}: V bounds nothing.")
    if not is_proper(problem):
        tight = counted & (scores + doubt >= -doubt)
        staying = end_components(mdp, tight)
        if (values[staying] < 0).any():
            raise AuditFailed("a policy may stay for ever, at no loss, where the values are negative.")
    return (mdp.initial.astype(Real) * np.where(lost, 0, values)).sum()


def _check_lost(problem: Problem, lost: Any) -> None:
    """Raise unless no policy ends well from the states said to be lost, or the process cannot get there."""
    if not lost.any():
        return
    mdp, goal = problem.mdp, problem.goal_states
    states = mdp.pairs.states
    live = ~goal[states]
    ends = goal.copy()
    if not is_proper(problem):
        idle = live & (_rewards(problem) == 0)
        for limit in problem.limits.values():
            idle &= problem.coefficients(limit) == 0
        ends |= end_components(mdp, idle)
    certain = certain_to_reach(mdp, ends, live)
    reached = forward(mdp, mdp.initial > 0, live)
    if (lost & certain & reached).any():
        raise AuditFailed("the values say −∞ where some policy ends well.")
    if not is_proper(problem):
        among = live & lost[states] & ~leads_into(mdp, ~lost) & reached[states]
        sign = 1 if problem.sense == "maximize" else -1
        among &= end_components(mdp, among)[states]
        if (sign * _rewards(problem)[among] > 0).any() and not _loses(mdp, among, sign * _rewards(problem)):
            raise AuditFailed("the values say −∞ where a policy may earn for ever.")


def _lower(problem: Problem, policy: Policy, values: Any, rewards: Any, boundary: int) -> Any:
    """μ0·W, once W is shown to bound the policy from below; −∞ where the certificate says so."""
    mdp, goal = problem.mdp, problem.goal_states
    if not np.isfinite(values[mdp.initial > 0]).all():
        return Real(-np.inf)
    chain, labels, closed = chain_of(problem, policy)
    reached = reached_from(chain, mdp.initial > 0)
    ends = closed[labels] & reached
    states, used = mdp.pairs.states, policy.pair_probabilities > 0
    stays = ends & ~goal
    if stays.any() and (is_proper(problem) or (rewards[used & stays[states]] != 0).any()):
        raise AuditFailed("the policy does not end almost surely: it stays for ever outside the goal.")
    inner = reached & ~ends
    if not np.isfinite(values[inner]).all():
        raise AuditFailed("the policy's values are infinite where it goes.")
    held = np.where(goal, boundary, np.where(stays, 0, values))
    if (values[goal & reached] != boundary).any() or (values[stays] > 0).any():
        raise AuditFailed("the policy's values are not those of the end where it has ended.")
    scores, doubt = _residuals(mdp, np.where(np.isfinite(held), held, 0), rewards)
    first = mdp.pairs.start[:-1]
    shares = policy.pair_probabilities.astype(Real)
    means = np.add.reduceat(shares * scores, first)
    doubts = np.add.reduceat(shares * (doubt + 64 * FINE * np.abs(scores)), first)
    if (means - doubts)[inner].min(initial=0) < 0:
        raise AuditFailed(f"W > r + PW by {float(-(means - doubts)[inner].min())} under the policy.")
    return (mdp.initial.astype(Real) * np.where(mdp.initial > 0, held, 0)).sum()


def _check_unending(problem: Problem, policy: Policy) -> None:
    """Raise unless the policy reaches a class that it never leaves and in which it earns on average.

    Where a goal must be reached, it has to be within reach of the class.
    """
    mdp, sign = problem.mdp, 1 if problem.sense == "maximize" else -1
    chain, labels, closed = chain_of(problem, policy)
    reached = reached_from(chain, mdp.initial > 0)
    if is_proper(problem):
        live = ~problem.goal_states[mdp.pairs.states]
        reached &= certain_to_reach(mdp, problem.goal_states, live)
    rewards = sign * np.add.reduceat(policy.pair_probabilities * _rewards(problem).astype(float), mdp.pairs.start[:-1])
    for label in np.unique(labels[closed[labels] & reached & ~problem.goal_states]):
        inside = np.flatnonzero(labels == label)
        matrix = chain[inside][:, inside].toarray()
        system = np.vstack([(np.eye(len(inside)) - matrix).T, np.ones(len(inside))])
        mass = np.linalg.lstsq(system, np.append(np.zeros(len(inside)), 1.0), rcond=None)[0]
        if mass @ rewards[inside] > 1e-9 * (np.abs(mass) @ np.abs(rewards[inside])):
            return
    raise AuditFailed("the policy reaches no class in which it earns for ever: nothing is unbounded.")


def _loses(mdp: Any, among: Any, rewards: Any) -> bool:
    """Whether every policy that keeps to some pairs loses on average: r + Ph − h < 0 for some h, found by a program."""
    pairs = np.flatnonzero(among)
    entries = (np.ones(len(pairs)), (np.arange(len(pairs)), mdp.pairs.states[pairs]))
    own = sparse.csr_array(entries, shape=(len(pairs), mdp.n_states))
    step = sparse.hstack([mdp.transitions[pairs] - own, sparse.csr_array(-np.ones((len(pairs), 1)))])
    goal = np.append(np.zeros(mdp.n_states), 1.0)
    limits = [(None, None)] * mdp.n_states + [(-1e6, None)]
    answer = linprog(goal, A_ub=step, b_ub=-rewards[pairs].astype(float), bounds=limits, method="highs")
    if answer.x is None:
        return False
    scores, doubt = _residuals(mdp, answer.x[:-1].astype(Real), rewards)
    return bool((scores + doubt)[pairs].max() < 0)


def _residuals(mdp: Any, values: Any, rewards: Any) -> tuple[Any, Any]:
    """r + Σ p (V' − V) of every pair in extended precision, and its rounding; both [pairs]."""
    matrix = mdp.transitions
    rows = np.repeat(np.arange(mdp.n_pairs), np.diff(matrix.indptr))
    steps = matrix.data.astype(Real) * (values[matrix.indices] - values[mdp.pairs.states[rows]])
    moved = np.add.reduceat(steps, matrix.indptr[:-1])
    size = np.add.reduceat(np.abs(steps), matrix.indptr[:-1])
    return rewards + moved, (np.diff(matrix.indptr) + 4) * FINE * (size + np.abs(rewards) * (size > 0))

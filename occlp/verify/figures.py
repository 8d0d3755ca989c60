"""The occupancy of a policy for the audit, and the figures that stand beside a certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from occlp.errors import AuditFailed
from occlp.terms import Utility
from occlp.verify.gain import check_gain, closed_classes, long_run
from occlp.verify.terms import Real, bonus_of, size_of, value_of

if TYPE_CHECKING:
    from occlp.policy import Policy
    from occlp.problem import Problem
    from occlp.result import Result


#: States up to which a discounted chain is eliminated one state after the other.
MOST_ELIMINATED = 300


def occupancy_of(problem: Problem, policy: Policy) -> Any:
    """d^π, [pairs]: by elimination without subtraction in small models; else by `_refined`."""
    states, weights = problem.mdp.pairs.states, policy.pair_probabilities
    chain = _chain(problem, policy)
    if problem.rest > 0 and problem.mdp.n_states <= MOST_ELIMINATED:
        mass = np.where(_reached(chain, problem.mdp.initial), _eliminated(problem, chain), 0)
        occupancy = (mass / mass.sum())[states] * weights.astype(Real)
        return occupancy / occupancy.sum()
    return _refined(problem, policy, chain)


def _eliminated(problem: Problem, chain: Any) -> Any:
    """The stationary distribution, [S], of γP + (1 − γ) 1 μ0ᵀ, to every digit (Grassmann, Taksar and Heyman 1985)."""
    order = np.argsort(-problem.mdp.initial, kind="stable")  # the first state is one that every state leads to
    rates = problem.discount * chain.toarray()[np.ix_(order, order)].astype(Real)
    rates += Real(problem.rest) * problem.mdp.initial[order].astype(Real)
    for k in range(len(order) - 1, 0, -1):
        rates[:k, k] /= rates[k, :k].sum()
        rates[:k, :k] += np.outer(rates[:k, k], rates[k, :k])
    mass = np.ones(len(order), dtype=Real)
    for k in range(1, len(order)):
        mass[k] = mass[:k] @ rates[:k, k]
    found = np.empty_like(mass)
    found[order] = mass
    return found


def _refined(problem: Problem, policy: Policy, chain: Any) -> Any:
    """d^π, [pairs]: a sparse LU in doubles, refined on residuals of d ((1 − γ) I + γ (D − P)) = (1 − γ) μ0."""
    mdp = problem.mdp
    states, weights = mdp.pairs.states, policy.pair_probabilities
    classes = closed_classes(chain)
    if problem.rest == 0 and classes.max() > 0:
        occupancy = long_run(chain, mdp.initial)[states] * weights.astype(Real)
        return occupancy / occupancy.sum()
    entries = sparse.coo_array(chain)
    away = entries.row != entries.col
    source, target, flow = entries.row[away], entries.col[away], problem.discount * entries.data[away]
    leaving = problem.rest + np.bincount(source, weights=flow, minlength=mdp.n_states)
    staying = sparse.coo_array((flow, (source, target)), shape=chain.shape)
    entered = np.where(classes >= 0, np.bincount(target, weights=flow, minlength=mdp.n_states), -1.0)
    pinned = int(np.argmax(entered)) if problem.rest == 0 else -1
    system = sparse.lil_array(sparse.diags_array(leaving) - staying)
    if pinned >= 0:  # undiscounted: d is the same up to a factor; one column is replaced by its value
        system[:, [pinned]] = 0.0
        system[pinned, pinned] = 1.0
    factors: Any = splu(sparse.csc_array(system))
    begin = Real(problem.rest) * mdp.initial.astype(Real)
    mass = np.full(mdp.n_states, Real(0))
    for _ in range(4):
        # Net flow out of each state, from differences along its transitions.
        moved = flow.astype(Real) * mass[source]
        defect = begin - Real(problem.rest) * mass
        np.add.at(defect, target, moved)
        np.subtract.at(defect, source, moved)
        if pinned >= 0:
            defect[pinned] = 1 - mass[pinned]
        mass = mass + factors.solve(defect.astype(np.float64), "T")
        if problem.rest > 0:
            mass = np.maximum(mass, 0)
            mass /= mass.sum()
    mass = np.where(_reached(chain, mdp.initial), np.maximum(mass, 0), 0)
    mass /= mass.sum()
    occupancy = mass[states] * weights.astype(Real)
    return occupancy / occupancy.sum()


def _chain(problem: Problem, policy: Policy) -> Any:
    """Transitions between states under a policy, [S, S], sparse."""
    mdp = problem.mdp
    used = np.flatnonzero(policy.pair_probabilities)
    starts = np.searchsorted(used, mdp.pairs.start)
    kernel = sparse.csr_array((policy.pair_probabilities[used], used, starts), shape=(mdp.n_states, mdp.n_pairs))
    return sparse.csr_array(kernel @ mdp.transitions)


def _reached(chain: Any, initial: Any) -> Any:
    """Mask [S] of the states that the chain reaches from the initial distribution."""
    reached = initial > 0
    graph: Any = sparse.csr_array(sparse.csr_array(chain).T)
    graph.data = np.ones(len(graph.data))
    frontier = reached.copy()
    while frontier.any():
        frontier = (graph @ frontier.astype(np.float64) > 0) & ~reached
        reached = reached | frontier
    return reached


def check_figures(problem: Problem, result: Result) -> None:
    """The figures beside the certificate: occupancy, objective and expectations."""
    occupancy = np.asarray(result.pair_occupancy)
    mdp = problem.mdp
    if occupancy.shape != (mdp.n_pairs,) or not (np.isfinite(occupancy).all() and (occupancy >= 0).all()):
        raise AuditFailed("the occupancy is not one finite number a pair, none negative.")
    if not abs(occupancy.sum() - 1) <= 1e-9:
        raise AuditFailed(f"the occupancy sums to {occupancy.sum()}, not 1.")
    inflow = problem.rest * mdp.initial + problem.discount * (mdp.transitions.T @ occupancy)
    outflow = np.add.reduceat(occupancy, mdp.pairs.start[:-1])
    if not np.abs(inflow - outflow).sum() <= 1e-8:
        raise AuditFailed(f"the occupancy breaks the flow equations by {np.abs(inflow - outflow).sum():.3g}.")
    share = outflow[mdp.pairs.states] * result.policy.pair_probabilities
    if not np.abs(share - occupancy).sum() <= 1e-9:
        raise AuditFailed("the occupancy is not that of the policy.")
    if problem.rest == 0 and closed_classes(_chain(problem, result.policy)).max() > 0:
        far = np.abs(occupancy - occupancy_of(problem, result.policy)).sum()
        if not far <= 1e-8:
            raise AuditFailed(f"the occupancy is off by {float(far):.3g} for this initial distribution.")
    _check_objective(problem, result, occupancy)
    _check_values(problem, result)
    costs = {"reward": mdp.pair_rewards, **mdp.pair_costs}
    if set(result.expected) != set(costs):
        raise AuditFailed(f"expected names {sorted(result.expected)}; the model has {sorted(costs)}.")
    for name, cost in costs.items():
        value = float(occupancy @ cost)
        if not abs(value - result.expected[name]) <= 1e-9 * (float(np.abs(cost).max()) + 1e-300):
            raise AuditFailed(f"expected[{name!r}] is {value}, not {result.expected[name]}.")
    check_utilities(problem, result)


def check_utilities(problem: Problem, result: Result) -> None:
    """The values of the utilities in constraints; a user's function is not run."""
    if problem.concave_limits and set(result.utilities) != set(problem.concave_limits):
        raise AuditFailed("the result's utilities are not those of the problem's constraints.")
    for name, limit in problem.concave_limits.items():
        if isinstance(limit.utility, Utility):
            continue
        occupancy = occupancy_of(problem, result.policy)
        value = float(value_of(problem, limit.utility, occupancy, None, occupancy_of))
        claimed = result.utilities[name]
        if not (abs(value - claimed) <= 1e-9 * (1.0 + abs(value)) or (claimed == -np.inf and not np.isfinite(value))):
            raise AuditFailed(f"the utility of constraint {name!r} is {value}, not {claimed}.")


def _check_objective(problem: Problem, result: Result, occupancy: Any) -> None:
    """The objective between the bounds, and equal to r·d + f(d)."""
    if result.certificate.infeasible_by is not None:
        return
    scale = float(np.abs(problem.mdp.pair_rewards).max()) + size_of(problem)
    low, high = sorted((result.certificate.lower, result.certificate.upper))
    # A violation within the tolerance earns what the prices say, beyond the bound of those who keep the limits.
    prices = result.certificate.multipliers.values()
    gained = 2.0 * sum(abs(price) for price in prices) * result.certificate.violation
    doubt = 1e-9 * scale + gained
    if not low - doubt <= result.objective <= high + doubt:
        raise AuditFailed(f"the objective {result.objective} lies outside [{low}, {high}].")
    sign = 1 if problem.sense == "maximize" else -1
    earned = Real(0) if problem.utility is not None else occupancy.astype(Real) @ problem.mdp.pair_rewards
    earned += sign * (occupancy.astype(Real) @ bonus_of(problem, result.policy))
    if problem.regularizer is not None or problem.utility is not None:
        earned += sign * value_of(
            problem,
            problem.regularizer or problem.utility,
            occupancy_of(problem, result.policy),
            result.certificate.dual,
            occupancy_of,
        )
    if not abs(float(earned) - result.objective) <= 1e-8 * scale:
        raise AuditFailed(f"the objective is {float(earned)}, not {result.objective}.")


def _check_values(problem: Problem, result: Result) -> None:
    """State values, action values and advantages of the reward under the policy; visited states, discount."""
    mdp = problem.mdp
    if result.discount != problem.discount or result.rest != problem.rest:
        raise AuditFailed("the result's discount is not the problem's.")
    chain = _chain(problem, result.policy)
    if not np.array_equal(result.visited, _reached(chain, mdp.initial) if problem.discount > 0 else mdp.initial > 0):
        raise AuditFailed("the visited states are not those that the policy reaches.")
    values, first = np.asarray(result.state_values), mdp.pairs.start[:-1]
    if values.shape != (mdp.n_states,):
        raise AuditFailed("state_values are not those of the policy.")
    if not np.isfinite(values).all():
        if np.isnan(values).any() or float(np.abs(mdp.pair_rewards).max()) <= 1e300 * problem.rest:
            raise AuditFailed("state_values are not finite, and the rewards do not overflow on the return scale.")
        return  # an overflow is reported as infinity
    size = float(np.abs(mdp.pair_rewards).max()) + float(np.abs(values).max()) + 1e-300
    gain: Any = 0.0
    if problem.rest == 0:
        check_gain(problem, result, chain)
        gain = np.asarray(result.gain)[mdp.pairs.states]
    action_values = mdp.pair_rewards - gain + problem.discount * (mdp.transitions @ values)
    means = np.add.reduceat(result.policy.pair_probabilities * action_values, first)
    for name, claimed, found in (
        ("state_values", values, means),
        ("pair_action_values", np.asarray(result.pair_action_values), action_values),
        ("pair_advantages", np.asarray(result.pair_advantages), action_values - values[mdp.pairs.states]),
    ):
        if claimed.shape != found.shape or not np.abs(claimed - found).max() <= 1e-8 * size:
            raise AuditFailed(f"{name} are not those of the policy.")

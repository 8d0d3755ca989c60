"""How one policy's measures stand to another's: density ratios, divergences, and ratios of trajectories.

A ratio dP/dQ exists where Q has mass. What is returned elsewhere is said in each function: infinity where
only P has mass, zero where neither has. Sources: Peters, Mülling and Altün (2010); Precup, Sutton and Singh
(2000); Nachum, Chow, Dai and Li (2019).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import read_list
from occlp.errors import InvalidProblem
from occlp.evaluation import Evaluation, evaluate
from occlp.model import MDP, Pairs
from occlp.model.exact import shown
from occlp.policy import Policy, read_policy
from occlp.problem import Problem, as_problem, refuse_total
from occlp.terms import JointTerm


def density_ratio(problem: Problem | MDP, policy: Policy | Evaluation, reference: Policy | Evaluation) -> FloatArray:
    """Radon–Nikodym derivative of one occupancy with respect to another, w(s, a) = d(s, a) / d0(s, a).

    Parameters
    ----------
    problem : Problem or MDP
        The model and criterion whose occupancies are meant.
    policy, reference : Policy, Evaluation or Result
        Of d and of d0.

    Returns
    -------
    FloatArray [S, A]
        w with Σ d0·w·f = Σ d·f for every f, if d ≪ d0. Infinite where d > 0 = d0: there d is not absolutely
        continuous and no density exists (`singular_pairs` names these). 0 where both vanish, where
        the derivative may be anything. NaN where the pair does not exist.

    Raises
    ------
    InvalidProblem
        When a policy belongs to another model.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> old = oc.evaluate(mdp, oc.Policy.uniform(mdp))
    >>> weights = oc.density_ratio(mdp, oc.solve(mdp), old)
    >>> bool(abs((old.occupancy * weights * mdp.rewards).sum() - oc.solve(mdp).objective) < 1e-12)
    True
    """
    first, second = _occupancies(problem, policy, reference)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(first > 0, first / second, 0.0)
    return as_problem(problem).mdp.pairs.table(ratio, np.nan)


def singular_pairs(
    problem: Problem | MDP, policy: Policy | Evaluation, reference: Policy | Evaluation
) -> list[tuple[Hashable, Hashable]]:
    """List the pairs that a policy visits and the reference never does, as (state, action) labels.

    The list is empty if and only if the occupancy of the policy is absolutely continuous with respect to that
    of the reference: then, and only then, data of the reference can tell what the policy earns.

    Parameters
    ----------
    problem : Problem or MDP
    policy, reference : Policy, Evaluation or Result

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> never = oc.Policy.deterministic(mdp, ["run", "run", "run"])
    >>> oc.singular_pairs(mdp, oc.solve(mdp), never)
    [('broken', 'repair')]
    """
    first, second = _occupancies(problem, policy, reference)
    pairs = as_problem(problem).mdp.pairs
    broken = np.flatnonzero((first > 0) & (second == 0))
    return [(pairs.state_name(pairs.states[k]), pairs.action_name(pairs.actions[k])) for k in broken]


def divergence(problem: Problem | MDP, policy: Policy | Evaluation, reference: Policy | Evaluation) -> float:
    """Joint Kullback–Leibler divergence of occupancies, KL(d ‖ d0) = Σ d log(d / d0), in nats.

    Parameters
    ----------
    problem : Problem or MDP
    policy, reference : Policy, Evaluation or Result
        Of d and of d0.

    Returns
    -------
    float
        Not negative, 0 for equal occupancies; +inf when d is not absolutely continuous with respect to d0
        (`singular_pairs` names the pairs). This is what `KL` penalises; it is at least the divergence of the
        actions alone, Σ d(s) KL(π ‖ π0), which `ConditionalKL` penalises.

    Raises
    ------
    InvalidProblem
        When a policy belongs to another model.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> oc.divergence(mdp, oc.Policy.uniform(mdp), oc.solve(mdp))
    inf
    """
    first, second = _occupancies(problem, policy, reference)
    return max(-JointTerm(second, 1.0).value(first), 0.0)


def trajectory_ratio(
    policy: Policy | Evaluation,
    reference: Policy | Evaluation,
    trajectory: Iterable[tuple[Hashable, Hashable]],
    *,
    log: bool = False,
) -> float:
    """Ratio of the probabilities of a finite trajectory under two policies, Π π(a_t | s_t) / π0(a_t | s_t).

    Initial distribution and transitions are the same under both and cancel, so no model is needed.

    Parameters
    ----------
    policy, reference : Policy, Evaluation or Result
        Of the same model.
    trajectory : iterable of (state, action)
        Labels where the model has them. It must be finite: on infinite horizons the measures of two policies
        are in general mutually singular, and the product goes to 0 almost surely under the reference.
    log : bool
        Whether to return the logarithm, which neither overflows nor underflows on long trajectories.

    Returns
    -------
    float
        0 (−inf) where the policy never acts so, whatever the reference does; else infinity where the reference
        never acts so. An empty trajectory has ratio 1.

    Raises
    ------
    InvalidProblem
        For unknown labels, an action that is not admissible, or policies of different models.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> best, old = oc.solve(mdp).policy, oc.Policy.uniform(mdp)
    >>> round(oc.trajectory_ratio(best, old, [("new", "run"), ("new", "run"), ("worn", "run")]), 12)
    8.0
    """
    pairs = getattr(getattr(policy, "policy", policy), "pairs", None)
    if not isinstance(pairs, Pairs):
        raise InvalidProblem(f"the policy is {shown(policy)}, neither an oc.Policy nor a result that has one.")
    first, second = read_policy(policy, pairs), read_policy(reference, pairs, "the reference")
    taken = []
    for n, step in enumerate(read_list(trajectory, "a trajectory")):
        listed = read_list(step, f"step {n}")
        if len(listed) != 2:
            raise InvalidProblem(f"step {n} of the trajectory is {shown(step)}, not (state, action).")
        state, action = listed
        pair = pairs.pair(pairs.state(state), pairs.action(action))
        if pair is None:
            raise InvalidProblem(f"action {action!r} is not admissible in state {state!r}.")
        taken.append(pair)
    above, below = first.pair_probabilities[taken], second.pair_probabilities[taken]
    if (above == 0).any():
        total = -math.inf
    elif (below == 0).any():
        total = math.inf
    else:
        total = float((np.log(above) - np.log(below)).sum())
    if log:
        return total
    return math.exp(total) if total < math.log(np.finfo(float).max) else math.inf


def _occupancies(
    problem: Problem | MDP, policy: Policy | Evaluation, reference: Policy | Evaluation
) -> tuple[FloatArray, FloatArray]:
    """d and d0, [pairs]; exactly zero where a policy never goes."""
    problem = as_problem(problem)
    refuse_total(problem, "densities are of the occupancies of")
    policies = (read_policy(policy, problem.mdp.pairs), read_policy(reference, problem.mdp.pairs, "the reference"))
    first, second = (evaluate(problem, one).pair_occupancy for one in policies)
    return first, second

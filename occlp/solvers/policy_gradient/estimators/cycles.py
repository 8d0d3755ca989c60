"""Regenerative cycles: trajectories from a state until the first return to it."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from occlp.errors import InvalidProblem
from occlp.evaluation import evaluate
from occlp.model import MDP
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.rollouts import Rollouts, Sampler


def often_visited(problem: Problem) -> int:
    """Return the state that the uniform policy visits most."""
    found = evaluate(problem, Policy.uniform(problem.mdp))
    return int(np.argmax(found.state_occupancy))


def sample_cycles(mdp: MDP, policy: Policy, origin: int, count: int, rng: np.random.Generator) -> Rollouts:
    """Sample cycles of a policy, as trajectories that begin and terminate in the state `origin`.

    The state is split: transitions into it lead to a copy, which is terminal.

    Raises
    ------
    InvalidProblem
        When some cycle does not end, because the policy need not return to the state.
    """
    matrix, n, n_pairs = mdp.transitions, mdp.n_states, mdp.n_pairs
    targets = np.append(np.where(matrix.indices == origin, n, matrix.indices), n)
    split = sparse.csr_array(
        (np.append(matrix.data, 1.0), targets, np.append(matrix.indptr, matrix.nnz + 1)), shape=(n_pairs + 1, n + 1)
    )
    sampler = Sampler(
        start=np.append(mdp.pairs.start, n_pairs + 1).astype(np.int32), transitions=split,
        initial=np.eye(n + 1)[origin], ended=np.arange(n + 1) == n,
    )  # fmt: skip
    found = sampler.paths(np.append(policy.pair_probabilities, 1.0), n_trajectories=count, horizon="episode", rng=rng)
    if not found.terminated.all():
        raise InvalidProblem(
            f"a cycle from state {mdp.pairs.state_name(origin)!r} has not come back after {int(found.lengths.max())} "
            "steps. Cycles need a state that every policy of the run visits again and again: give another reference=, "
            "or a number of steps as the horizon."
        )
    return Rollouts(
        pairs=mdp.pairs, lengths=found.lengths, terminated=found.terminated, initial_states=found.initial_states,
        final_states=np.full(count, origin, dtype=np.int32), components=np.zeros(count, dtype=np.int32),
        discount=mdp.discount, horizon="episode", flat_pairs=found.flat_pairs, pair_rewards=mdp.pair_rewards,
        pair_costs=dict(mdp.pair_costs),
    )  # fmt: skip

"""Every trajectory of a policy with its probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from occlp._typing import BoolArray, FloatArray, IntArray
from occlp.errors import InvalidProblem
from occlp.model import MDP
from occlp.policy import Policy
from occlp.problem import Problem, as_problem
from occlp.rollouts import Rollouts
from occlp.solvers.policy_gradient.estimators.base import ends_of

#: More trajectories than this are not listed.
MOST_TRAJECTORIES = 2_000_000


def all_trajectories(problem: Problem | MDP, policy: Policy, horizon: int) -> tuple[Rollouts, FloatArray]:
    """List every trajectory of a policy, with its probability.

    Parameters
    ----------
    problem : Problem or MDP
        Trajectories end in the goal of a total, or in states that every action keeps for nothing.
    policy : Policy
    horizon : int
        Number of steps.

    Returns
    -------
    trajectories : Rollouts
        As `rollouts` samples them, N of them.
    probabilities : FloatArray [N]
        Their sum is one.

    Raises
    ------
    InvalidProblem
        When there are more than two million.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("kakade-two-state")
    >>> trajectories, chances = oc.all_trajectories(mdp, oc.Policy.uniform(mdp), 5)
    >>> len(chances), round(float(chances.sum()), 12)
    (64, 1.0)
    """
    found = list_trajectories(as_problem(problem), policy, horizon)
    if found is None:
        raise InvalidProblem(
            f"there are more than {MOST_TRAJECTORIES} trajectories of {horizon} steps. Use a shorter horizon, or "
            "sample them with oc.rollouts."
        )
    return found


def _number(problem: Problem, policy: Policy, horizon: int) -> float:
    """How many trajectories there are, capped beyond what is listed."""
    mdp, terminal = problem.mdp, ends_of(problem)
    possible, used = (mdp.transitions > 0).astype(np.float64), policy.pair_probabilities > 0
    paths = np.ones(mdp.n_states)
    for _ in range(horizon):
        onward = np.add.reduceat(used * (possible @ paths), mdp.pairs.start[:-1])
        paths = np.where(terminal, 1.0, np.minimum(onward, 2.0 * MOST_TRAJECTORIES))
    return float(paths[mdp.initial > 0].sum())


def list_trajectories(problem: Problem, policy: Policy, horizon: int) -> tuple[Rollouts, FloatArray] | None:
    """List every trajectory with its probability; None where there are too many."""
    mdp = problem.mdp
    terminal = ends_of(problem)
    if _number(problem, policy, horizon) > MOST_TRAJECTORIES:
        return None
    start = np.flatnonzero(mdp.initial > 0).astype(np.int32)
    paths = np.full((len(start), horizon), -1, dtype=np.int32)
    listed = _Listed(paths, start, start, mdp.initial[start], np.zeros(len(start), dtype=np.int32))
    for t in range(horizon):
        listed = listed.grow(mdp, policy, terminal, t)
    sample = Rollouts(
        pairs=mdp.pairs, lengths=listed.lengths, terminated=terminal[listed.now], initial_states=listed.first,
        final_states=listed.now, components=np.zeros(len(listed.now), dtype=np.int32), discount=mdp.discount,
        horizon=horizon, flat_pairs=listed.paths[listed.paths >= 0], pair_rewards=mdp.pair_rewards,
        pair_costs=mdp.pair_costs,
    )  # fmt: skip
    return sample, listed.chances


@dataclass(frozen=True, eq=False)
class _Listed:
    """Trajectories so far: their pairs, first and present states, probabilities and lengths."""

    paths: IntArray  # [N, T]
    first: IntArray  # [N]
    now: IntArray  # [N]
    chances: FloatArray  # [N]
    lengths: IntArray  # [N]

    def grow(self, mdp: MDP, policy: Policy, terminal: BoolArray, t: int) -> _Listed:
        """Return what they become in one more step."""
        kernel = sparse.csr_array(
            sparse.diags_array(policy.pair_probabilities) @ mdp.transitions
        )  # chance of (pair, next state)
        pair_of = np.repeat(np.arange(mdp.n_pairs, dtype=np.int32), np.diff(kernel.indptr))
        possible = kernel.data > 0
        entries = np.flatnonzero(possible)
        owner = mdp.pairs.states[pair_of[entries]]
        begin = np.searchsorted(owner, np.arange(mdp.n_states + 1))
        going = ~terminal[self.now]
        counts = np.where(going, (begin[1:] - begin[:-1])[self.now], 1)
        rows = np.repeat(np.arange(len(self.now)), counts)
        offset = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        moved = going[rows]
        entry = entries[np.where(moved, begin[self.now[rows]] + offset, 0)]
        paths = self.paths[rows]
        paths[moved, t] = pair_of[entry[moved]]
        now = np.where(moved, kernel.indices[entry], self.now[rows]).astype(np.int32)
        chances = self.chances[rows] * np.where(moved, kernel.data[entry], 1.0)
        return _Listed(paths, self.first[rows], now, chances, (self.lengths[rows] + moved).astype(np.int32))

"""The requests: trajectories of a policy on a model, stored or summed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from occlp._typing import BoolArray, frozen
from occlp.arguments import read_list
from occlp.mixture import Mixture
from occlp.model import MDP
from occlp.policy import Policy, read_policy
from occlp.rollouts.sampler import BLOCKS, Run, Sampler, Seed
from occlp.rollouts.samples import Rollouts, RolloutTotals, column, step_discount


def rollouts(
    mdp: MDP,
    policy: Policy | Mixture,
    *,
    n_trajectories: int,
    horizon: int | str,
    longest: int | None = None,
    terminal: Iterable[Hashable] | None = None,
    rng: Seed = None,
) -> Rollouts:
    """Sample trajectories of a policy and store them.

    Parameters
    ----------
    mdp : MDP
        Start states are drawn from ``mdp.initial``.
    policy : Policy or Mixture
        A mixture is drawn anew for each trajectory, at time 0.
    n_trajectories : int
        N.
    horizon : int, "geometric" or "episode"
        A number of steps; or a random one with P(length > t) = γ^t, so that plain sums have the mean of
        discounted ones and the pairs are those of the occupancy d; or until a terminal state. A terminal state
        ends a trajectory in every case.
    longest : int, optional
        Trajectories are cut at this length (default: 100,000 for episodes, else none).
    terminal : iterable of state labels, optional
        States that end a trajectory. Default: the states in which every action stays and pays and costs nothing.
    rng : int, Generator, SeedSequence or None
        A generator moves on, so that a second call with it gives an independent sample.

    Returns
    -------
    Rollouts

    Raises
    ------
    InvalidProblem
        For a policy of another model, sizes that are not positive, a geometric horizon without γ < 1, and
        episodes where no state is terminal.
    Unsupported
        When states times actions exceed 2^32.

    Notes
    -----
    Probabilities of a row or of a policy are divided by their sum, and transitions of probability 0 never occur.
    The law is exact to about 1e-16 in each probability. Rewards are the expected rewards of the pairs, which is
    what the model knows; returns then vary less than with rewards that depend on the next state.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> sample = oc.rollouts(mdp, oc.Policy.uniform(mdp), n_trajectories=1000, horizon=50, rng=0)
    >>> sample.pair_index.shape, sample.n_steps
    ((1000, 50), 50000)
    """
    request = {"n_trajectories": n_trajectories, "horizon": horizon, "longest": longest, "rng": rng}
    run = _run(mdp, policy, terminal, request)
    found = run.paths()
    return Rollouts(
        flat_pairs=found.flat_pairs, pair_rewards=mdp.pair_rewards, pair_costs=dict(mdp.pair_costs),
        **_common(mdp, horizon, run),
    )  # fmt: skip


def rollout_totals(
    mdp: MDP,
    policy: Policy | Mixture,
    *,
    n_trajectories: int,
    horizon: int | str,
    longest: int | None = None,
    terminal: Iterable[Hashable] | None = None,
    rng: Seed = None,
) -> RolloutTotals:
    """Sample the trajectories that `rollouts` would sample, and keep their sums and the counts of pairs only.

    Parameters
    ----------
    mdp, policy, n_trajectories, horizon, longest, terminal, rng
        As in `rollouts`; the same seed gives the same trajectories.

    Returns
    -------
    RolloutTotals
        Of the size of N and of the model, whatever the horizon.

    Raises
    ------
    InvalidProblem, Unsupported
        As in `rollouts`.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> policy = oc.Policy.uniform(mdp)
    >>> sample = oc.rollout_totals(mdp, policy, n_trajectories=20_000, horizon="geometric", rng=0)
    >>> error = sample.returns.mean() - oc.evaluate(mdp, policy).expected_return
    >>> bool(abs(error) < 4 * sample.returns.std() / len(sample.returns) ** 0.5)
    True
    """
    request = {"n_trajectories": n_trajectories, "horizon": horizon, "longest": longest, "rng": rng}
    run = _run(mdp, policy, terminal, request)
    names = ["reward", *mdp.pair_costs]
    values = np.stack([column(name, mdp.pair_rewards, mdp.pair_costs) for name in names], axis=1)
    counts = np.zeros((BLOCKS, mdp.n_pairs), dtype=np.int64)
    totals = np.zeros((len(run.limits), len(names)))
    run.simulate(None, counts, values, step_discount(mdp.discount, horizon), totals)
    by_name = {name: frozen(totals[:, c]) for c, name in enumerate(names)}
    return RolloutTotals(totals=by_name, counts=frozen(counts.sum(axis=0)), **_common(mdp, horizon, run))


def _run(mdp: MDP, policy: Policy | Mixture, terminal: Iterable[Hashable] | None, request: dict[str, Any]) -> Run:
    parts = list(policy) if isinstance(policy, Mixture) else [(1.0, policy)]
    parts = [(weight, read_policy(part, mdp.pairs)) for weight, part in parts]
    sampler = Sampler(mdp.pair_start, mdp.transitions, mdp.initial, terminal_states(mdp, terminal))
    tables = sampler.tables([part.pair_probabilities for _, part in parts], [weight for weight, _ in parts])
    return sampler.run(tables, discount=mdp.discount, **request)


def _common(mdp: MDP, horizon: int | str, run: Run) -> dict[str, Any]:
    """Fields of a `Sample`."""
    return {
        "pairs": mdp.pairs, "lengths": run.lengths, "terminated": run.terminated, "components": run.components,
        "initial_states": run.initial_states, "final_states": run.final_states, "discount": mdp.discount,
        "horizon": horizon,
    }  # fmt: skip


def terminal_states(mdp: MDP, terminal: Iterable[Hashable] | None = None) -> BoolArray:
    """Mask [S] of the states that end a trajectory: those named, or those that every action keeps for nothing."""
    pairs = mdp.pairs
    if terminal is not None:
        mask = np.zeros(mdp.n_states, dtype=np.bool_)
        mask[[pairs.state(label) for label in read_list(terminal, "terminal=")]] = True
        return mask
    matrix = mdp.transitions
    owners = np.repeat(np.arange(mdp.n_pairs, dtype=np.int32), np.diff(matrix.indptr))
    leaves = (matrix.data > 0) & (matrix.indices != pairs.states[owners])
    matters = mdp.pair_rewards != 0
    for cost in mdp.pair_costs.values():
        matters = matters | (cost != 0)
    stays = ~matters
    stays[owners[leaves]] = False
    return np.asarray(np.logical_and.reduceat(stays, pairs.start[:-1]))

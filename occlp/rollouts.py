"""Sampled trajectories of a policy: stored as arrays, or summed while they run.

The answer is a function of the model, the policy and the seed alone; the number of threads does not change a bit
of it, and the first trajectories of a larger sample are those of a smaller one.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from occlp._typing import AnyArray, BoolArray, FloatArray, IntArray, frozen
from occlp.errors import InvalidProblem, Unsupported
from occlp.kernels import sampling
from occlp.mixture import Mixture
from occlp.model import MDP, Pairs
from occlp.parallel import run_rows
from occlp.policy import Policy

#: What `numpy.random.default_rng` takes.
Seed: TypeAlias = int | np.random.Generator | np.random.SeedSequence | None

#: Trajectories are handed to threads in this many blocks.
BLOCKS = 32
#: An episode that has not ended by then is cut, unless ``longest=`` says otherwise.
LONGEST_EPISODE = 100_000


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """What stored trajectories and their sums have in common; arrays are read-only.

    Attributes
    ----------
    pairs : Pairs
        The index of admissible pairs, with labels.
    lengths : IntArray [N]
        Number of actions taken.
    terminated : BoolArray [N]
        Whether a terminal state was entered (else the horizon cut the trajectory).
    initial_states, final_states : IntArray [N]
        State before the first and after the last action.
    components : IntArray [N]
        Which policy of a mixture was followed; 0 for a policy.
    discount : float or None
        γ of the model.
    horizon : int or str
        As it was asked for.
    """

    pairs: Pairs
    lengths: IntArray  # [N]
    terminated: BoolArray  # [N]
    initial_states: IntArray  # [N]
    final_states: IntArray  # [N]
    components: IntArray  # [N]
    discount: float | None
    horizon: int | str

    @property
    def n_trajectories(self) -> int:
        """Number of trajectories N."""
        return len(self.lengths)

    @property
    def n_steps(self) -> int:
        """Number of actions taken in all trajectories."""
        return int(self.lengths.sum(dtype=np.int64))

    @property
    def step_discount(self) -> float:
        """What a step weighs against the step before in a return: γ, but 1 where γ is in the horizon already."""
        return 1.0 if self.horizon == "geometric" or self.discount is None else self.discount


@dataclass(frozen=True, eq=False, kw_only=True)
class Rollouts(Sample):
    """Stored trajectories, N of them, in arrays as long as the longest; arrays are read-only.

    Attributes
    ----------
    pair_index : IntArray [N, T]
        Position of the pair (s_t, a_t) among the model's pairs; −1 after the end.
    pair_rewards : FloatArray [pairs]
        Expected reward of each pair, as the model holds it.
    pair_costs : mapping of str to FloatArray [pairs]
    """

    pair_index: IntArray  # [N, T]
    pair_rewards: FloatArray  # [pairs]
    pair_costs: Mapping[str, FloatArray]

    @property
    def mask(self) -> BoolArray:
        """Whether step t of a trajectory was taken, [N, T]."""
        return np.asarray(self.pair_index >= 0)

    @property
    def states(self) -> IntArray:
        """State index s_t, [N, T]; −1 after the end."""
        return self._of_pairs(self.pairs.states)

    @property
    def actions(self) -> IntArray:
        """Action index a_t, [N, T]; −1 after the end."""
        return self._of_pairs(self.pairs.actions)

    @property
    def next_states(self) -> IntArray:
        """State index s_{t+1}, [N, T]; −1 after the end."""
        states = self.states
        following = np.full_like(states, -1)
        following[:, :-1] = states[:, 1:]
        rows = np.flatnonzero(self.lengths)
        following[rows, self.lengths[rows] - 1] = self.final_states[rows]
        return following

    @cached_property
    def rewards(self) -> FloatArray:
        """Reward of step t, [N, T]: the expected one of its pair; 0 after the end."""
        return frozen(self._values(self.pair_rewards))

    def costs(self, name: str) -> FloatArray:
        """Return a named cost of step t, [N, T]; 0 after the end."""
        return self._values(_column(name, self.pair_rewards, self.pair_costs))

    @cached_property
    def returns(self) -> FloatArray:
        """Return of each trajectory, [N]: Σ γ^t r_t, or Σ r_t where the horizon is geometric (same mean)."""
        weights = self.step_discount ** np.arange(self.pair_index.shape[1])
        return frozen(self.rewards @ weights)

    @cached_property
    def counts(self) -> AnyArray:
        """How often each pair was taken, [pairs]."""
        taken = self.pair_index[self.mask]
        return frozen(np.bincount(taken, minlength=self.pairs.n_pairs))

    def _of_pairs(self, column: IntArray) -> IntArray:
        return np.where(self.mask, column[self.pair_index], np.int32(-1))

    def _values(self, column: FloatArray) -> FloatArray:
        return np.where(self.mask, column[self.pair_index], 0.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class RolloutTotals(Sample):
    """Sums over trajectories that were not stored; arrays are read-only.

    Attributes
    ----------
    totals : mapping of str to FloatArray [N]
        Σ γ^t c_t of the reward and every cost (Σ c_t where the horizon is geometric: the same mean).
    counts : array [pairs]
        How often each pair was taken in all trajectories.
    """

    totals: Mapping[str, FloatArray]
    counts: AnyArray  # [pairs]

    @property
    def returns(self) -> FloatArray:
        """The reward's totals, [N]."""
        return self.totals["reward"]


@dataclass(frozen=True, eq=False)
class Tables:
    """A model and a policy in the form that is sampled from; see `occlp.kernels.sampling` for the letters."""

    starts: AnyArray  # [2 × initial states], records
    heads: AnyArray  # [components × S, 4]
    records: AnyArray  # [2 × outcomes]
    bits: int


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
    run = _prepare(mdp, policy, n_trajectories, horizon, longest, terminal, rng)
    width = int(run.limits.max())
    if horizon == "episode":  # numbers are a function of the step, so that a second run is the same run
        run.simulate()
        width = int(run.ends[:, sampling.LENGTH].max())
    paths = np.full((run.n, width), -1, dtype=np.int32)
    run.simulate(paths)
    return Rollouts(pair_index=frozen(paths), pair_rewards=mdp.pair_rewards, pair_costs=mdp.pair_costs, **run.common())


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
    run = _prepare(mdp, policy, n_trajectories, horizon, longest, terminal, rng)
    names = ["reward", *mdp.pair_costs]
    values = np.stack([_column(name, mdp.pair_rewards, mdp.pair_costs) for name in names], axis=1)
    counts = np.zeros((BLOCKS, mdp.n_pairs), dtype=np.int64)
    totals = np.zeros((run.n, len(names)))
    run.simulate(None, counts, values, totals)
    by_name = {name: frozen(totals[:, c]) for c, name in enumerate(names)}
    return RolloutTotals(totals=MappingProxyType(by_name), counts=frozen(counts.sum(axis=0)), **run.common())


class _Run:
    """One call: its tables, its seed, and what every trajectory begins and ends with."""

    def __init__(self, mdp: MDP, horizon: int | str, tables: Tables, limits: AnyArray, keys: AnyArray) -> None:
        self.mdp, self.horizon, self.tables, self.limits, self.keys = mdp, horizon, tables, limits, keys
        self.n = len(limits)
        self.ends = np.empty((self.n, 3), dtype=np.int64)

    def simulate(
        self,
        paths: IntArray | None = None,
        counts: AnyArray | None = None,
        values: FloatArray | None = None,
        totals: FloatArray | None = None,
    ) -> None:
        """Run all trajectories; outputs that are not given are left out."""
        discount = 1.0 if self.horizon == "geometric" or self.mdp.discount is None else self.mdp.discount
        values = np.empty((self.mdp.n_pairs, 0)) if values is None else values
        tables = self.tables
        blocks = min(BLOCKS, self.n)
        run_rows(
            sampling.simulate, blocks, int(self.limits.sum(dtype=np.int64)), blocks, *self.keys, tables.starts,
            tables.heads, tables.records, tables.bits, self.limits, self.ends, paths, counts, values, discount, totals,
        )  # fmt: skip

    def common(self) -> dict[str, Any]:
        """Fields of a `Sample`."""
        origins, finals, lengths = self.ends.T
        n_states = self.mdp.n_states
        return {
            "pairs": self.mdp.pairs,
            "lengths": frozen(lengths.astype(np.int32)),
            "terminated": frozen(self.tables.heads[finals, sampling.SIZE] == 0),
            "initial_states": frozen((origins % n_states).astype(np.int32)),
            "final_states": frozen((finals % n_states).astype(np.int32)),
            "components": frozen((origins // n_states).astype(np.int32)),
            "discount": self.mdp.discount,
            "horizon": self.horizon,
        }


def _prepare(
    mdp: MDP,
    policy: Policy | Mixture,
    n_trajectories: int,
    horizon: int | str,
    longest: int | None,
    terminal: Iterable[Hashable] | None,
    rng: Seed,
) -> _Run:
    if not policy.pairs.same_as(mdp.pairs):
        raise InvalidProblem("the policy belongs to another model: its pairs are not those of the model.")
    n = _positive(n_trajectories, "n_trajectories")
    ended = terminal_states(mdp, terminal)
    cut = None if longest is None else _positive(longest, "longest")
    keys = np.random.default_rng(rng).integers(0, 2**64, size=2, dtype=np.uint64)
    if isinstance(horizon, str):
        limits = _random_limits(mdp, horizon, n, cut, ended, keys)
    else:
        steps = _positive(horizon, "horizon")
        limits = np.full(n, steps if cut is None else min(steps, cut), dtype=np.int32)
    return _Run(mdp, horizon, build_tables(mdp, policy, ended), limits, keys)


def _random_limits(mdp: MDP, horizon: str, n: int, cut: int | None, ended: BoolArray, keys: AnyArray) -> AnyArray:
    if horizon == "episode":
        if not ended.any():
            raise InvalidProblem(
                'horizon="episode" needs a terminal state, and this model has none that every action keeps for '
                "nothing. Name them with terminal=, or give a number of steps."
            )
        return np.full(n, cut or LONGEST_EPISODE, dtype=np.int32)
    if horizon != "geometric":
        raise InvalidProblem(f'horizon is a number of steps, "geometric" or "episode", not {horizon!r}.')
    if mdp.discount is None or mdp.discount >= 1:
        raise InvalidProblem(
            f"a geometric horizon restarts with probability 1 − γ, and γ is {mdp.discount}. "
            "Use mdp.replace(discount=...), or give a number of steps."
        )
    most = cut or np.iinfo(np.int32).max
    limits = np.ones(n, dtype=np.int32)
    if mdp.discount > 0:
        log_discount = math.log(mdp.discount)
        run_rows(sampling.geometric_lengths, n, n, *keys, log_discount, most, limits)
    return limits


def _positive(number: Any, name: str) -> int:
    try:
        count = operator.index(number)
    except TypeError:
        raise InvalidProblem(f"{name} is a whole number, not {number!r}.") from None
    if not 0 < count < np.iinfo(np.int32).max:
        raise InvalidProblem(f"{name} is between 1 and 2^31 − 2, not {count}.")
    return count


def terminal_states(mdp: MDP, terminal: Iterable[Hashable] | None = None) -> BoolArray:
    """Mask [S] of the states that end a trajectory: those named, or those that every action keeps for nothing."""
    pairs = mdp.pairs
    if terminal is not None:
        mask = np.zeros(mdp.n_states, dtype=np.bool_)
        mask[[pairs.state(label) for label in terminal]] = True
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


def build_tables(mdp: MDP, policy: Policy | Mixture, ended: BoolArray) -> Tables:
    """Write the alias tables of a model under a policy; a mixture is sampled as one copy of the model a policy."""
    parts = list(policy) if isinstance(policy, Mixture) else [(1.0, policy)]
    pairs, matrix, n_states = mdp.pairs, mdp.transitions, mdp.n_states
    bits = int(np.diff(pairs.start).max() - 1).bit_length()
    if bits + (n_states * len(parts) - 1).bit_length() > 32:
        raise Unsupported(f"sampling packs a state and an action into 32 bits; {n_states} states are too many for it.")
    sizes = np.zeros(n_states * len(parts), dtype=np.int64)
    for c, (_, part) in enumerate(parts):
        run_rows(
            sampling.count_outcomes, n_states, matrix.nnz, pairs.start, matrix.indptr, matrix.data,
            part.pair_probabilities, ended, sizes[c * n_states : (c + 1) * n_states],
        )  # fmt: skip
    begin = np.concatenate([[0], np.cumsum(sizes)])
    if begin[-1] > np.iinfo(np.int32).max:
        raise Unsupported(f"sampling tables hold at most 2^31 outcomes; these have {begin[-1]}.")
    heads = np.zeros((len(sizes), 4), dtype=np.uint32)
    heads[:, sampling.BEGIN], heads[:, sampling.SIZE] = begin[:-1], sizes
    heads[:, sampling.PAIR] = np.tile(pairs.start[:-1], len(parts))
    records = np.empty(2 * begin[-1], dtype=np.uint64)
    for c, (_, part) in enumerate(parts):
        run_rows(
            sampling.fill_tables, n_states, matrix.nnz, pairs.start, matrix.indptr, matrix.indices, matrix.data,
            part.pair_probabilities, heads[c * n_states : (c + 1) * n_states], c * n_states, bits, records,
        )  # fmt: skip
    weights = np.concatenate([weight * mdp.initial for weight, _ in parts])
    positive = np.flatnonzero(weights > 0)
    starts = np.empty(2 * len(positive), dtype=np.uint64)
    sampling.fill_table(weights[positive], positive.astype(np.uint64), len(positive), 0, starts)
    return Tables(starts, heads, records, bits)


def _column(name: str, rewards: FloatArray, costs: Mapping[str, FloatArray]) -> FloatArray:
    if name == "reward":
        return rewards
    if name not in costs:
        raise InvalidProblem(f"there is no cost {name!r}; the model has {sorted(costs) or 'none'}.")
    return costs[name]

"""Transitions or trajectories of a behaviour policy, in one flat form."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, BoolArray, FloatArray, IntArray, frozen
from occlp.arguments import read_list, read_numbers
from occlp.dataset.coverage import Coverage, cover
from occlp.errors import InvalidProblem
from occlp.interop.episodes import gymnasium_episodes
from occlp.model import MDP, Pairs
from occlp.model.exact import shown
from occlp.policy import Policy, read_policy
from occlp.rollouts import Rollouts, Seed

#: Label of the state that stands for the end of an episode and for what the data do not hold.
OUTSIDE = "outside the data"


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Transitions (s, a, r, s') that a behaviour policy left, one after the other; arrays are read-only.

    Attributes
    ----------
    pairs : Pairs
        The index of admissible pairs, with labels.
    pair_index : IntArray [n]
        Position of (s, a) among the pairs.
    rewards : FloatArray [n]
    next_states : IntArray [n]
    terminated : BoolArray [n]
        Whether the episode ended in s' (nothing is earned from there on), rather than being cut.
    starts : array [N + 1] or None
        Trajectory i consists of the transitions starts[i] .. starts[i + 1] − 1. None for transitions without order.
    initial : FloatArray [S]
        Initial distribution: the frequencies in the trajectories (less than one where some begin at an end), or the
        model's.
    discount : float
        γ.
    step_discount : float
        What a step weighs against the one before: γ, or 1 where trajectories were stopped by a clock of rate 1 − γ.
    behavior : Policy or None
        The policy that acted, if it is known.
    """

    pairs: Pairs
    pair_index: IntArray  # [n]
    rewards: FloatArray  # [n]
    next_states: IntArray  # [n]
    terminated: BoolArray  # [n]
    starts: AnyArray | None  # [N + 1]
    initial: FloatArray  # [S]
    discount: float
    step_discount: float
    behavior: Policy | None = None

    @classmethod
    def from_rollouts(cls, rollouts: Rollouts, behavior: Policy | None = None) -> Dataset:
        """Take over sampled trajectories, and the policy that they follow (None treats it as unknown)."""
        flat, begun = rollouts.flat_pairs, rollouts.lengths > 0
        ends = np.cumsum(rollouts.lengths, dtype=np.int64)
        terminated, following = np.zeros(len(flat), dtype=np.bool_), np.empty(len(flat), dtype=np.int32)
        terminated[ends[rollouts.terminated & begun] - 1] = True
        following[:-1] = rollouts.pairs.states[flat[1:]]
        following[ends[begun] - 1] = rollouts.final_states[begun]
        first = np.bincount(rollouts.initial_states[begun], minlength=rollouts.pairs.n_states)
        return _dataset(
            rollouts.pairs, rollouts.discount, behavior,
            pair_index=flat, rewards=rollouts.pair_rewards[flat], next_states=following, terminated=terminated,
            starts=np.concatenate([[0], ends]), initial=first / rollouts.n_trajectories,
            step_discount=rollouts.step_discount,
        )  # fmt: skip

    @classmethod
    def from_transitions(
        cls,
        model: MDP,
        transitions: Iterable[tuple[Hashable, Hashable, float, Hashable]],
        *,
        terminated: Sequence[bool] | None = None,
        behavior: Policy | None = None,
    ) -> Dataset:
        """Read transitions without order.

        Parameters
        ----------
        model : MDP
            Of its numbers only γ and the initial distribution are used.
        transitions : iterable of (state, action, reward, next state)
            Labels where the model has them.
        terminated : sequence of bool [n], optional
            Whether each ended its episode; default: none did.
        behavior : Policy, optional
        """
        listed = read_list(transitions, "from_transitions")
        columns = _read(model.pairs, listed)
        ended = _read_ends(terminated, len(listed), "transitions")
        return _dataset(
            model.pairs, model.discount, behavior, **columns, terminated=ended, starts=None, initial=model.initial,
        )  # fmt: skip

    @classmethod
    def from_trajectories(
        cls,
        model: MDP,
        trajectories: Iterable[Sequence[tuple[Hashable, Hashable, float, Hashable]]],
        *,
        terminated: Sequence[bool] | None = None,
        behavior: Policy | None = None,
    ) -> Dataset:
        """Read trajectories, each a sequence of (state, action, reward, next state) from time 0 on.

        Parameters
        ----------
        model : MDP
            Of its numbers only γ is used; the initial distribution is that of the data.
        trajectories : iterable of sequences
        terminated : sequence of bool [N], optional
            Whether each trajectory ended in a terminal state, rather than being cut; default: none did.
        behavior : Policy, optional

        Raises
        ------
        InvalidProblem
            Also where a step does not begin in the state in which the one before ended.
        """
        listed = [read_list(one, "a trajectory") for one in read_list(trajectories, "from_trajectories")]
        columns = _read(model.pairs, [step for trajectory in listed for step in trajectory])
        lengths = np.array([len(trajectory) for trajectory in listed])
        if len(lengths) == 0 or (lengths == 0).any():
            raise InvalidProblem("trajectories must have at least one step each, and there must be one.")
        ends = np.cumsum(lengths)
        origins = model.pairs.states[columns["pair_index"]]
        broken = np.flatnonzero(columns["next_states"][:-1] != origins[1:])
        broken = broken[~np.isin(broken + 1, ends)]
        if len(broken):
            n = int(np.searchsorted(ends, broken[0], side="right"))
            raise InvalidProblem(
                f"trajectory {n} breaks at step {int(broken[0] - (ends[n] - lengths[n])) + 1}: it does not begin in "
                f"state {model.pairs.state_name(columns['next_states'][broken[0]])!r}, in which the step before ended."
            )
        ended = np.zeros(len(origins), dtype=np.bool_)
        ended[ends - 1] = _read_ends(terminated, len(listed), "trajectories")
        first = np.bincount(origins[ends - lengths], minlength=model.n_states)
        return _dataset(
            model.pairs, model.discount, behavior, **columns, terminated=ended,
            starts=np.concatenate([[0], ends]), initial=first / first.sum(),
        )  # fmt: skip

    @classmethod
    def from_gymnasium(
        cls,
        env: Any,
        model: MDP,
        behavior: Policy,
        *,
        n_trajectories: int,
        longest: int | None = None,
        rng: Seed = None,
    ) -> Dataset:
        """Step a Gymnasium environment, with the rewards that it pays.

        Parameters
        ----------
        env : str or environment
            An id, or an environment with discrete observations and actions.
        model : MDP
            As `oc.interop.from_gymnasium` reads it: states are labelled by Gymnasium's numbers.
        behavior : Policy
            The policy that acts.
        n_trajectories : int
        longest : int, optional
            Steps after which an episode is cut, besides the environment's own time limit.
        rng : int, Generator, SeedSequence or None
        """
        episodes = gymnasium_episodes(env, model, behavior, n_trajectories=n_trajectories, longest=longest, rng=rng)
        return cls.from_trajectories(
            model, [steps for steps, _ in episodes], terminated=[ended for _, ended in episodes], behavior=behavior
        )

    def __len__(self) -> int:
        return len(self.pair_index)

    def __repr__(self) -> str:
        kind = "" if self.starts is None else f" in {self.n_trajectories} trajectories"
        known = "unknown" if self.behavior is None else "known"
        return f"Dataset({len(self)} transitions{kind}, behaviour {known}, discount={self.discount})"

    @property
    def n_trajectories(self) -> int:
        """Number of trajectories N."""
        return len(self.offsets) - 1

    @property
    def offsets(self) -> AnyArray:
        """First transition of each trajectory, and the end, [N + 1]; raises where the data have no order."""
        if self.starts is None:
            raise InvalidProblem(
                "this needs trajectories, and the data are transitions without order. Use "
                "Dataset.from_trajectories, or marginalized_importance_sampling, which needs no order."
            )
        return self.starts

    @cached_property
    def counts(self) -> IntArray:
        """How often each pair occurs, [pairs]."""
        return frozen(np.bincount(self.pair_index, minlength=self.pairs.n_pairs))

    @property
    def frequencies(self) -> FloatArray:
        """d^D, the share of each pair among the transitions, [pairs]."""
        return self.counts / len(self)

    @cached_property
    def empirical_behavior(self) -> Policy:
        """Actions as often as the data take them; uniform in states that they do not hold."""
        return Policy.from_occupancy(self.pairs, self.counts)

    @cached_property
    def empirical_model(self) -> MDP:
        """The model of the frequencies and mean rewards (certainty equivalence), as an MDP.

        It has one more state, last, in which nothing is earned: where episodes end, and where pairs lead that the
        data lack.
        """
        pairs, n = self.pairs, self.pairs.n_states
        targets = np.where(self.terminated, n, self.next_states)
        unseen = np.flatnonzero(self.counts == 0)
        rows = np.concatenate([self.pair_index, unseen, [pairs.n_pairs]])
        columns = np.concatenate([targets, np.full(len(unseen) + 1, n)])
        found = sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(pairs.n_pairs + 1, n + 1)).tocsr()
        found.data /= np.repeat(found.sum(axis=1), np.diff(found.indptr))
        sums = np.bincount(self.pair_index, self.rewards, minlength=pairs.n_pairs)
        labels = None if pairs.state_labels is None else (*pairs.state_labels, OUTSIDE)
        index = Pairs(
            start=frozen(np.append(pairs.start, pairs.n_pairs + 1).astype(np.int32)),
            actions=frozen(np.append(pairs.actions, 0).astype(np.int32)),
            n_actions=pairs.n_actions, state_labels=labels, action_labels=pairs.action_labels,
        )  # fmt: skip
        plain = MDP.from_pairs(
            index.states, index.actions, found, np.append(sums / np.maximum(self.counts, 1), 0.0),
            discount=self.discount, initial=np.append(self.initial, max(1.0 - self.initial.sum(), 0.0)),
        )  # fmt: skip
        return replace(plain, pairs=index)

    def select(self, kept: BoolArray) -> Dataset:
        """Return the trajectories of a mask [N], with the initial distribution of the whole."""
        lengths = np.diff(self.offsets)
        rows = np.repeat(kept, lengths)
        return replace(
            self, pair_index=frozen(self.pair_index[rows]), rewards=frozen(self.rewards[rows]),
            next_states=frozen(self.next_states[rows]), terminated=frozen(self.terminated[rows]),
            starts=frozen(np.concatenate([[0], np.cumsum(lengths[kept])])),
        )  # fmt: skip

    def extend(self, policy: Policy) -> Policy:
        """Return the policy on the pairs of `empirical_model`."""
        self.check(policy)
        return Policy.from_pairs(self.empirical_model, np.append(policy.pair_probabilities, 1.0))

    def check(self, policy: Policy) -> None:
        """Raise `InvalidProblem` unless the policy belongs to the pairs of the data."""
        read_policy(policy, self.pairs)

    def coverage(self, policy: Policy) -> Coverage:
        """Tell which pairs a policy needs, and which of these the data hold.

        Examples
        --------
        >>> import occlp as oc
        >>> mdp = oc.instances.get("machine-repair")
        >>> lazy = oc.Policy.deterministic(mdp, ["run", "run", "run"])
        >>> sample = oc.rollouts(mdp, lazy, n_trajectories=100, horizon=20, rng=0)
        >>> oc.Dataset.from_rollouts(sample, lazy).coverage(oc.solve(mdp).policy).missing
        [('broken', 'repair')]
        """
        self.check(policy)
        going_on = ~self.terminated
        links = (self.pair_index[going_on], self.next_states[going_on])
        return cover(self.pairs, policy.pair_probabilities > 0, self.initial > 0, links, self.counts)


def _dataset(pairs: Pairs, discount: float | None, behavior: Policy | None, **parts: Any) -> Dataset:
    """Check what all encodings share."""
    if discount is None or not 0 <= discount <= 1:
        raise InvalidProblem(f"data are judged by discounted returns, and the discount is {discount}.")
    if not len(parts["pair_index"]):
        raise InvalidProblem("the data hold no transition.")
    if not np.isfinite(parts["rewards"]).all():
        row = int(np.flatnonzero(~np.isfinite(parts["rewards"]))[0])
        raise InvalidProblem(f"the reward of transition {row} is {parts['rewards'][row]}.")
    arrays: dict[str, Any] = {
        name: frozen(part) if isinstance(part, np.ndarray) else part
        for name, part in {"step_discount": discount, **parts}.items()
    }
    data = Dataset(pairs=pairs, discount=float(discount), behavior=behavior, **arrays)
    if behavior is not None:
        data.check(behavior)
        impossible = np.flatnonzero((data.counts > 0) & (behavior.pair_probabilities == 0))
        if len(impossible):
            raise InvalidProblem(
                f"the data hold {pairs.describe(int(impossible[0]))}, which the behaviour policy never takes: they "
                "are not its data. Leave behavior out, and use dataset.empirical_behavior if you must."
            )
    return data


def _read(pairs: Pairs, steps: list[tuple[Hashable, Hashable, float, Hashable]]) -> dict[str, AnyArray]:
    """Columns of labelled steps."""
    index, rewards, targets = [], [], []
    for n, step in enumerate(steps):
        listed = read_list(step, f"step {n}")
        if len(listed) != 4:
            raise InvalidProblem(f"step {n} is {shown(step)}, not (state, action, reward, next state).")
        state, action, reward, following = listed
        pair = pairs.pair(pairs.state(state), pairs.action(action))
        if pair is None:
            raise InvalidProblem(f"step {n} takes action {action!r} in state {state!r}, where it is not admissible.")
        index.append(pair)
        rewards.append(reward)
        targets.append(pairs.state(following))
    return {
        "pair_index": np.array(index, dtype=np.int32),
        "rewards": _column(rewards),
        "next_states": np.array(targets, dtype=np.int32),
    }


def _column(rewards: list[Any]) -> FloatArray:
    """One number a transition."""
    column = read_numbers(rewards, "the reward of a transition")
    if column.ndim != 1:
        raise InvalidProblem(f"the rewards of transitions have shape {list(column.shape)}; give one number each.")
    return column


def _read_ends(terminated: Any, count: int, of: str) -> BoolArray:
    """Which of some trajectories or transitions ended, bool [count]; None: none did."""
    if terminated is None:
        return np.zeros(count, dtype=np.bool_)
    ended = read_numbers(terminated, "terminated=")
    if ended.shape != (count,) or not np.isin(ended, (0.0, 1.0)).all():
        raise InvalidProblem(f"terminated= has {ended.size} entries for {count} {of}; give True or False for each.")
    return ended.astype(np.bool_)

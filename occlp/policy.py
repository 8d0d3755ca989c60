"""Policies as Markov kernels: a distribution over the admissible actions of each state."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from occlp._typing import AnyArray, BoolArray, FloatArray, IntArray, frozen
from occlp.arguments import check_count, read_generator, read_list, read_numbers
from occlp.errors import InvalidProblem
from occlp.model import MDP, Pairs
from occlp.model.exact import shown

#: A row of a policy may miss 1 by this much; it is then divided by its sum.
ROW_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Policy:
    """A stationary policy π(a | s); deterministic policies are policies.

    Attributes
    ----------
    pairs : Pairs
        The index of admissible pairs that the probabilities refer to.
    pair_probabilities : FloatArray [pairs]
        π(a | s) of each pair, summing to one in every state; read-only.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("kakade-two-state")
    >>> policy = oc.Policy.uniform(mdp)
    >>> policy.probabilities
    array([[0.5, 0.5], [0.5, 0.5]])
    """

    pairs: Pairs
    pair_probabilities: FloatArray  # [pairs]

    @classmethod
    def from_pairs(cls, model: MDP | Pairs, probabilities: Any) -> Policy:
        """Build a policy from one probability per pair, [pairs].

        Raises
        ------
        InvalidProblem
            For a wrong shape, NaN, negative numbers, or a state whose probabilities do not sum to 1
            (within 1e-9; the rest is divided away).
        """
        pairs = _pairs_of(model)
        array = read_numbers(probabilities, "a policy")
        if array.shape != (pairs.n_pairs,):
            raise InvalidProblem(f"a policy of this model has {pairs.n_pairs} pair probabilities, not {array.shape}.")
        bad = ~(np.isfinite(array) & (array >= 0))
        if bad.any():
            pair = int(np.flatnonzero(bad)[0])
            raise InvalidProblem(f"the policy's probability of {pairs.describe(pair)} is {array[pair]}.")
        sums = np.add.reduceat(array, pairs.start[:-1])
        worst = int(np.argmax(np.abs(sums - 1)))
        if abs(sums[worst] - 1) > ROW_TOLERANCE:
            raise InvalidProblem(
                f"the policy's probabilities in state {pairs.state_name(worst)!r} sum to {sums[worst]:.12g}, not 1."
            )
        return cls(pairs, frozen(array / sums[pairs.states]))._checked()

    @classmethod
    def from_table(cls, model: MDP | Pairs, probabilities: Any) -> Policy:
        """Build a policy from an ``[S, A]`` table; pairs that do not exist must hold 0."""
        pairs = _pairs_of(model)
        table = read_numbers(probabilities, "a policy")
        if table.shape != (pairs.n_states, pairs.n_actions):
            raise InvalidProblem(
                f"a policy table of this model is [S, A] = [{pairs.n_states}, {pairs.n_actions}], "
                f"not {list(table.shape)}."
            )
        outside = pairs.table(np.zeros(pairs.n_pairs), 1.0) * np.nan_to_num(table, nan=0.0)
        if (outside != 0).any():
            state, action = (int(i) for i in np.argwhere(outside != 0)[0])
            raise InvalidProblem(
                f"the policy gives {table[state, action]} to action {pairs.action_name(action)!r} in state "
                f"{pairs.state_name(state)!r}, where it is not admissible."
            )
        return cls.from_pairs(pairs, table[pairs.states, pairs.actions])

    @classmethod
    def deterministic(cls, model: MDP | Pairs, actions: Any) -> Policy:
        """Build a policy that takes one action in each state.

        Parameters
        ----------
        model : MDP or Pairs
        actions : mapping of state to action, or sequence [S] of actions
            Labels where the model has them, else indices.
        """
        pairs = _pairs_of(model)
        if isinstance(actions, Mapping):
            if len(actions) != pairs.n_states:
                raise InvalidProblem(f"the mapping names {len(actions)} of {pairs.n_states} states; name each once.")
            chosen = {pairs.state(state): action for state, action in actions.items()}
            listed = [chosen[s] for s in range(pairs.n_states)]
        else:
            listed = read_list(actions, "a deterministic policy")
            if len(listed) != pairs.n_states:
                raise InvalidProblem(f"{len(listed)} actions were given for {pairs.n_states} states.")
        positions = []
        for state, action in enumerate(listed):
            pair = pairs.pair(state, pairs.action(action))
            if pair is None:
                raise InvalidProblem(f"action {action!r} is not admissible in state {pairs.state_name(state)!r}.")
            positions.append(pair)
        return cls.from_choice(pairs, np.array(positions))

    @classmethod
    def from_choice(cls, model: MDP | Pairs, chosen: AnyArray) -> Policy:
        """Build a deterministic policy from the position of the chosen pair of each state, [S]."""
        pairs = _pairs_of(model)
        whole = isinstance(chosen, np.ndarray) and chosen.dtype.kind in "iu"
        positions = chosen if whole else read_numbers(chosen, "a choice")
        if positions.shape != (pairs.n_states,):
            raise InvalidProblem(f"a choice is the position of one pair a state, [S], not of shape {positions.shape}.")
        own = (positions >= pairs.start[:-1]) & (positions < pairs.start[1:]) & (positions == np.floor(positions))
        if not own.all():
            state = int(np.argmin(own))
            raise InvalidProblem(f"{positions[state]} is no pair of state {pairs.state_name(state)!r}.")
        probabilities = np.zeros(pairs.n_pairs)
        probabilities[positions.astype(np.int64, copy=False)] = 1.0
        policy = cls(pairs, frozen(probabilities))._checked()
        vars(policy)["choice"] = frozen(np.array(positions, dtype=np.int32))
        return policy

    @classmethod
    def uniform(cls, model: MDP | Pairs) -> Policy:
        """Build the policy that takes every admissible action of a state with equal probability."""
        pairs = _pairs_of(model)
        return cls(pairs, frozen(1.0 / np.diff(pairs.start)[pairs.states]))

    @classmethod
    def from_occupancy(cls, model: MDP | Pairs, occupancy: Any, fallback: Policy | None = None) -> Policy:
        """Build π(a | s) = d(s, a) / Σ_a d(s, a) from an occupancy, [S, A] or [pairs].

        States without mass follow `fallback` (default: uniform). Tiny negative entries, as interior-point
        methods leave them, count as zero.
        """
        pairs = _pairs_of(model)
        mass = read_numbers(occupancy, "an occupancy")
        if mass.shape == (pairs.n_states, pairs.n_actions):
            mass = mass[pairs.states, pairs.actions]
        if mass.shape != (pairs.n_pairs,) or not np.isfinite(mass).all():
            raise InvalidProblem(f"an occupancy is [S, A] or [pairs] and finite; got shape {list(mass.shape)}.")
        mass = np.maximum(mass, 0.0)
        sums = np.add.reduceat(mass, pairs.start[:-1])[pairs.states]
        other = (fallback or cls.uniform(pairs)).pair_probabilities
        probabilities = np.where(sums > 0, mass / np.where(sums > 0, sums, 1.0), other)
        return cls.from_pairs(pairs, probabilities)

    def sound(self, pairs: Pairs) -> Policy:
        """Return this policy if a constructor has checked it on these pairs, else one made by `from_pairs`."""
        checked = self.pairs is pairs and vars(self).get("_is_checked", False)
        return self if checked else Policy.from_pairs(pairs, self.pair_probabilities)

    def _checked(self) -> Policy:
        vars(self)["_is_checked"] = True
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.pairs, self.pair_probabilities)

    @property
    def probabilities(self) -> FloatArray:
        """π(a | s) as an [S, A] table, 0 where the pair does not exist."""
        return self.pairs.table(self.pair_probabilities, 0.0)

    @cached_property
    def choice(self) -> IntArray:
        """Position of the most probable pair of each state (ties: the first), [S]."""
        pairs = self.pairs
        tops = np.maximum.reduceat(self.pair_probabilities, pairs.start[:-1])
        first = np.flatnonzero(self.pair_probabilities == tops[pairs.states])
        return frozen(first[np.searchsorted(first, pairs.start[:-1])].astype(np.int32))

    @property
    def is_deterministic(self) -> bool:
        """Whether every state takes one action with probability one."""
        return bool((self.pair_probabilities[self.choice] == 1.0).all())

    @property
    def randomizing(self) -> BoolArray:
        """Mask [S] of the states in which more than one action has positive probability."""
        positive = (self.pair_probabilities > 0).astype(np.int64)
        return np.add.reduceat(positive, self.pairs.start[:-1]) > 1

    @property
    def actions(self) -> dict[Hashable, Hashable]:
        """Action label of each state label; the most probable one where the policy randomises."""
        pairs = self.pairs
        return {pairs.state_name(s): pairs.action_name(pairs.actions[k]) for s, k in enumerate(self.choice)}

    def __getitem__(self, key: Any) -> Any:
        """``policy[state, action]`` is a probability, ``policy[state]`` a dict of action to probability."""
        pairs = self.pairs
        if isinstance(key, tuple) and not pairs.has_state(key):
            if len(key) != 2:
                raise InvalidProblem(f"index a policy as policy[state, action] or policy[state], not {key!r}.")
            pair = pairs.pair(pairs.state(key[0]), pairs.action(key[1]))
            return 0.0 if pair is None else float(self.pair_probabilities[pair])
        state = pairs.state(key)
        span = range(pairs.start[state], pairs.start[state + 1])
        return {pairs.action_name(pairs.actions[k]): float(self.pair_probabilities[k]) for k in span}

    def sample(self, state: Hashable, rng: int | np.random.Generator | None = None, size: int | None = None) -> Any:
        """Draw an action label in a state (a list of `size` labels where a size is given)."""
        generator = read_generator(rng)
        if size is not None:
            check_count("size", size, least=0)
        index = self.pairs.state(state)
        first, last = int(self.pairs.start[index]), int(self.pairs.start[index + 1])
        drawn = generator.choice(last - first, size=size, p=self.pair_probabilities[first:last])
        if size is None:
            return self.pairs.action_name(self.pairs.actions[first + int(drawn)])
        return [self.pairs.action_name(self.pairs.actions[first + int(k)]) for k in drawn]

    def __repr__(self) -> str:
        kind = "deterministic" if self.is_deterministic else f"randomising in {int(self.randomizing.sum())} states"
        return f"Policy({self.pairs.n_states} states, {kind})"


def read_policy(given: Any, pairs: Pairs, name: str = "the policy") -> Policy:
    """Return a policy, or that of an evaluation or result, for a model with these pairs.

    Raises `InvalidProblem` for anything else, and for a policy of another model.
    """
    policy = given if isinstance(given, Policy) else getattr(given, "policy", None)
    if not isinstance(policy, Policy):
        raise InvalidProblem(f"{name} is {shown(given)}, neither an oc.Policy nor a result that has one.")
    if not policy.pairs.same_as(pairs):
        raise InvalidProblem(f"{name} belongs to another model: its pairs are not those of the problem.")
    return policy


def _pairs_of(model: MDP | Pairs) -> Pairs:
    return model if isinstance(model, Pairs) else model.pairs


def _restore(pairs: Pairs, probabilities: FloatArray) -> Policy:
    return Policy(pairs, frozen(probabilities))

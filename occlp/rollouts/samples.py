"""What sampling returns: stored trajectories, or the sums over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from occlp._typing import AnyArray, BoolArray, FloatArray, IntArray, frozen
from occlp.errors import InvalidProblem
from occlp.model import Pairs
from occlp.rollouts.sampler import as_rows


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
        return step_discount(self.discount, self.horizon)


@dataclass(frozen=True, eq=False, kw_only=True)
class Rollouts(Sample):
    """Stored trajectories, N of them; arrays are read-only.

    They are stored one after the other, and laid out as rows [N, T], T the longest length, when asked for.

    Attributes
    ----------
    flat_pairs : IntArray [n]
        Positions of the pairs (s_t, a_t) among the model's pairs, those of the first trajectory first.
    pair_rewards : FloatArray [pairs]
        Expected reward of each pair, as the model holds it.
    pair_costs : mapping of str to FloatArray [pairs]
    """

    flat_pairs: IntArray  # [n]
    pair_rewards: FloatArray  # [pairs]
    pair_costs: Mapping[str, FloatArray]

    @cached_property
    def pair_index(self) -> IntArray:
        """Position of the pair (s_t, a_t) among the model's pairs, −1 after the end, [N, T]."""
        return as_rows(self.flat_pairs, self.lengths)

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
        return self._values(column(name, self.pair_rewards, self.pair_costs))

    @cached_property
    def returns(self) -> FloatArray:
        """Return of each trajectory, [N]: Σ γ^t r_t, or Σ r_t where the horizon is geometric (same mean)."""
        weights = self.step_discount ** np.arange(self.pair_index.shape[1])
        return frozen(self.rewards @ weights)

    @cached_property
    def counts(self) -> AnyArray:
        """How often each pair was taken, [pairs]."""
        return frozen(np.bincount(self.flat_pairs, minlength=self.pairs.n_pairs))

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


def column(name: str, rewards: FloatArray, costs: Mapping[str, FloatArray]) -> FloatArray:
    """Return the reward or a named cost of each pair, [pairs]."""
    if name == "reward":
        return rewards
    if name not in costs:
        raise InvalidProblem(f"there is no cost {name!r}; the model has {sorted(costs) or 'none'}.")
    return costs[name]


def step_discount(discount: float | None, horizon: int | str) -> float:
    """Return what a step weighs in a return against the one before."""
    return 1.0 if horizon == "geometric" or discount is None else discount

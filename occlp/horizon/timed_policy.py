"""Policies that depend on the time: one decision rule for each step of a horizon."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from occlp._typing import AnyArray, FloatArray, IntArray, frozen
from occlp.errors import InvalidProblem
from occlp.model import MDP, Pairs
from occlp.model.stages import StageLabels
from occlp.model.unrolling import read_terminal
from occlp.policy import Policy


@dataclass(frozen=True, eq=False)
class TimedPolicy:
    """A Markov policy of a horizon: π_t(a | s) for t = 0 .. T−1.

    ``policy[t]`` is the decision rule of step t, a `Policy`. A state that cannot be reached at time t has
    no rule there: its choice is −1, its row of ``probabilities`` is zero.

    Attributes
    ----------
    pairs : Pairs
        The index of pairs of the model, without time.
    choice : IntArray [T, S]
        Position of the chosen pair (the most probable one where the policy randomises), −1 for none.
    randomized : FloatArray [T, pairs] or None
        π_t(a | s) of each pair; None for a deterministic policy.

    Examples
    --------
    >>> import occlp as oc
    >>> plan = oc.backward_induction(oc.instances.get("machine-repair"), 3).policy
    >>> plan[0].actions
    {'new': 'run', 'worn': 'run', 'broken': 'repair'}
    >>> plan[2].actions
    {'new': 'run', 'worn': 'run', 'broken': 'run'}
    """

    pairs: Pairs
    choice: IntArray  # [T, S]
    randomized: FloatArray | None = None  # [T, pairs]

    @classmethod
    def from_rules(cls, rules: Sequence[Policy]) -> TimedPolicy:
        """Build one from the decision rule of each step, [T] policies of one model.

        Raises `InvalidProblem` where there is none, or where they belong to different models.
        """
        rules = list(rules)
        if not rules or not all(isinstance(rule, Policy) and rule.pairs.same_as(rules[0].pairs) for rule in rules):
            raise InvalidProblem("give one policy of the same model for each step, at least one.")
        choice = np.array([rule.choice for rule in rules], dtype=np.int32)
        if all(rule.is_deterministic for rule in rules):
            return cls(rules[0].pairs, frozen(choice))
        return cls(rules[0].pairs, frozen(choice), frozen(np.array([rule.pair_probabilities for rule in rules])))

    @property
    def horizon(self) -> int:
        """Number of steps T."""
        return len(self.choice)

    @property
    def is_deterministic(self) -> bool:
        """Whether every decision rule takes one action in each state."""
        return self.randomized is None

    @property
    def pair_probabilities(self) -> FloatArray:
        """π_t(a | s), [T, pairs]."""
        if self.randomized is not None:
            return self.randomized
        out = np.zeros((self.horizon, self.pairs.n_pairs))
        times, states = np.nonzero(self.choice >= 0)
        out[times, self.choice[times, states]] = 1.0
        return out

    @property
    def probabilities(self) -> FloatArray:
        """π_t(a | s) as a [T, S, A] table, 0 where there is no such pair, or no rule."""
        return tables(self.pairs, self.pair_probabilities, 0.0)

    @property
    def actions(self) -> AnyArray:
        """Action labels [T, S], the most probable ones where the policy randomises; None where there is no rule."""
        names = np.empty(self.pairs.n_actions + 1, dtype=object)
        names[:-1] = [self.pairs.action_name(a) for a in range(self.pairs.n_actions)]
        return names[np.where(self.choice >= 0, self.pairs.actions[self.choice], -1)]

    def __len__(self) -> int:
        return self.horizon

    def __getitem__(self, time: int) -> Policy:
        """The decision rule of one step; states without one take their first action."""
        if not -self.horizon <= time < self.horizon:
            raise IndexError(f"step {time} of a policy for {self.horizon} steps")
        first = np.where(self.choice[time] >= 0, self.choice[time], self.pairs.start[:-1])
        if self.randomized is None:
            return Policy.from_choice(self.pairs, first)
        row = self.randomized[time].copy()
        row[first[self.choice[time] < 0]] = 1.0
        return Policy.from_pairs(self.pairs, row)

    def pair_visits(self, mdp: MDP) -> FloatArray:
        """Expected visits P(s_t = s, a_t = a) from the model's initial distribution, [T, pairs].

        Raises `InvalidProblem` for a model with other pairs.
        """
        return np.array([visits for visits, _ in self._forward(mdp)]).reshape(self.horizon, self.pairs.n_pairs)

    def expected_total(self, mdp: MDP, terminal: Any = None) -> dict[str, float]:
        """Expected discounted totals of the reward and of every cost over the steps, as `MDP.unrolled` counts them.

        Parameters
        ----------
        mdp : MDP
            On the same pairs.
        terminal : array [S], or mapping of name to array [S], optional
            Salvage values.
        """
        salvage = {name: np.asarray(values, dtype=np.float64) for name, values in read_terminal(terminal, mdp).items()}
        numbers = {"reward": mdp.pair_rewards, **mdp.pair_costs}
        totals: dict[str, list[float]] = {name: [] for name in numbers}
        power, mass = 1.0, mdp.initial
        for visits, following in self._forward(mdp):
            mass = following
            for name, values in numbers.items():
                totals[name].append(power * float(visits @ values))
            power *= 1.0 if mdp.discount is None else mdp.discount
        for name, values in salvage.items():
            totals[name].append(power * float(mass @ values))
        return {name: math.fsum(parts) for name, parts in totals.items()}

    def _forward(self, mdp: MDP) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Visits of each step, [pairs], and where it leads, [S]."""
        if not mdp.pairs.same_as(self.pairs):
            raise InvalidProblem("the policy belongs to another model: its pairs are not those of the model.")
        matrix, states = mdp.transitions, self.pairs.states
        missing = 1.0 - np.asarray(matrix.sum(axis=1)).ravel()  # staying takes up what a row misses
        mass = mdp.initial
        for time in range(self.horizon):
            probabilities = self.randomized[time] if self.randomized is not None else self._rule(time)
            visits = mass[states] * probabilities
            mass = visits @ matrix + np.bincount(states, weights=visits * missing, minlength=mdp.n_states)
            yield visits, mass

    def visits(self, mdp: MDP) -> FloatArray:
        """Expected visits as a [T, S, A] table; each step sums to one."""
        return tables(self.pairs, self.pair_visits(mdp), 0.0)

    def on(self, unrolled: MDP) -> Policy:
        """The same policy as one of the unrolled model, ``mdp.unrolled(T)``.

        Raises `InvalidProblem` for a model of other steps or pairs.
        """
        labels = unrolled.pairs.state_labels
        if not isinstance(labels, StageLabels) or not labels.base.same_as(self.pairs):
            raise InvalidProblem("the model is not this policy's model unrolled over its horizon.")
        if labels.horizon != self.horizon:
            raise InvalidProblem(f"the model has {labels.horizon} steps, the policy {self.horizon}.")
        pairs = unrolled.pairs
        found = np.ones(pairs.n_pairs)
        inside = pairs.states < pairs.n_states - 1
        times, states = labels.times[pairs.states[inside]], labels.states[pairs.states[inside]]
        found[inside] = self.probabilities[times, states, pairs.actions[inside]]
        return Policy.from_pairs(pairs, found)

    def _rule(self, time: int) -> FloatArray:
        row = np.zeros(self.pairs.n_pairs)
        row[self.choice[time][self.choice[time] >= 0]] = 1.0
        return row

    def __repr__(self) -> str:
        kind = "deterministic" if self.is_deterministic else "randomising"
        return f"TimedPolicy({self.horizon} steps, {self.pairs.n_states} states, {kind})"


def tables(pairs: Pairs, values: AnyArray, fill: float) -> FloatArray:
    """Spread values [T, pairs] over a new [T, S, A] table."""
    out = np.full((len(values), pairs.n_states, pairs.n_actions), fill)
    out[:, pairs.states, pairs.actions] = values
    return out

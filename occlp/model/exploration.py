"""States found by breadth-first search through a step function."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import sparse

from occlp.errors import InvalidModel
from occlp.model.exact import is_exact, to_fraction


@dataclass(eq=False)
class Exploration:
    """What the search found, ready for `MDP.from_pairs`."""

    states: list[Hashable]
    actions: list[Hashable]
    pair_states: Any  # [pairs]
    pair_actions: Any  # [pairs]
    transitions: Any  # [pairs, S'], sparse, or an object array where numbers are exact
    rewards: Any  # [pairs]
    costs: dict[str, Any]  # [pairs]
    initial: dict[Hashable, Any]


def explore(
    step: Callable[[Any, Any], Any],
    initial_states: Any,
    actions: Any,
    costs: Mapping[str, Callable[[Any, Any], Any]],
    max_states: int,
) -> Exploration:
    """Visit every state reachable from the initial ones, in breadth-first order."""
    initial = _read_start(initial_states)
    index: dict[Hashable, int] = {}
    for state in initial:
        _admit(state, index, max_states, "the initial states")
    action_index: dict[Hashable, int] = {}
    pair_states, pair_actions, rows, rewards = [], [], [], []
    cost_values: dict[str, list[Any]] = {name: [] for name in costs}
    queue = list(index)
    position = 0
    while position < len(queue):
        state = queue[position]
        position += 1
        choices = list(actions(state) if callable(actions) else actions)
        if not choices:
            raise InvalidModel(
                f"actions({state!r}) is empty. Give an absorbing state one action that stays there with reward 0."
            )
        for action in choices:
            row, reward = _merge(step(state, action), state, action)
            for successor in row:
                if successor not in index:
                    _admit(successor, index, max_states, f"step({state!r}, {action!r})")
                    queue.append(successor)
            pair_states.append(index[state])
            pair_actions.append(action_index.setdefault(action, len(action_index)))
            rows.append({index[successor]: weight for successor, weight in row.items()})
            rewards.append(reward)
            for name, cost in costs.items():
                cost_values[name].append(cost(state, action))
    return Exploration(
        states=list(index),
        actions=list(action_index),
        pair_states=np.array(pair_states),
        pair_actions=np.array(pair_actions),
        transitions=_matrix(rows, len(index)),
        rewards=_column(rewards),
        costs={name: _column(values) for name, values in cost_values.items()},
        initial=initial,
    )


def _read_start(initial_states: Any) -> dict[Hashable, Any]:
    if isinstance(initial_states, Mapping):
        start = dict(initial_states)
    elif isinstance(initial_states, list | set | frozenset | range | np.ndarray):
        listed = list(dict.fromkeys(initial_states))
        if len(listed) != len(initial_states):
            raise InvalidModel("initial_states holds a state twice; give a mapping of state to probability.")
        start = {state: 1.0 / len(listed) for state in listed}
    else:
        start = {initial_states: 1.0}
    if not start:
        raise InvalidModel("initial_states is empty: the search needs a state to begin with.")
    return start


def _admit(state: Hashable, index: dict[Hashable, int], max_states: int, source: str) -> None:
    if not isinstance(state, Hashable):
        raise InvalidModel(f"{source} gave the state {state!r}, which is not hashable. Use a tuple, for example.")
    if state != state:
        raise InvalidModel(f"{source} gave a state that is not equal to itself ({state!r}).")
    if len(index) >= max_states:
        raise InvalidModel(f"more than max_states={max_states} states were found (the last: {state!r}).")
    index[state] = len(index)


def _merge(outcome: Any, state: Any, action: Any) -> tuple[dict[Hashable, Any], Any]:
    """Sum repeated successors; return the row and the expected reward."""
    row: dict[Hashable, Any] = {}
    reward: Any = 0
    where = f"step({state!r}, {action!r})"
    try:
        triples = [(probability, successor, value) for probability, successor, value in outcome]
    except (TypeError, ValueError):
        raise InvalidModel(f"{where} must return a list of (probability, next state, reward) triples.") from None
    exact = any(is_exact(number) for probability, _, value in triples for number in (probability, value))
    for probability, successor, value in triples:
        if exact and value != -np.inf:
            probability, value = to_fraction(probability, where), to_fraction(value, where)
        try:
            if probability == 0:
                continue
            reward = reward + probability * value
            row[successor] = row.get(successor, 0) + probability
        except TypeError:
            raise InvalidModel(f"{where} returned ({probability!r}, {successor!r}, {value!r}).") from None
    return row, reward


def _matrix(rows: list[dict[int, Any]], n_states: int) -> Any:
    entries = [(i, j, weight) for i, row in enumerate(rows) for j, weight in row.items()]
    if any(isinstance(weight, Fraction) for *_, weight in entries):
        dense = np.zeros((len(rows), n_states), dtype=object)
        for i, j, weight in entries:
            dense[i, j] = weight
        return dense
    i, j, data = zip(*entries, strict=True) if entries else ((), (), ())
    try:
        numbers = np.array(data, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidModel("step() returned a probability that is not a number.") from None
    return sparse.csr_array((numbers, (i, j)), shape=(len(rows), n_states))


def _column(values: list[Any]) -> Any:
    exact = any(is_exact(value) for value in values)
    if exact:
        out = np.empty(len(values), dtype=object)
        out[:] = values
        return out
    return np.array(values, dtype=np.float64)

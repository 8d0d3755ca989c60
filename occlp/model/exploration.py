"""States found by breadth-first search through a step function."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from occlp.errors import InvalidModel
from occlp.model.arrays import Rows
from occlp.model.exact import expectation, is_exact, read_number, shown, to_double, to_fractions

if TYPE_CHECKING:
    from occlp._typing import AnyArray


@dataclass(eq=False)
class Exploration:
    """What the search found: rows by position, and the labels of states and actions."""

    states: list[Hashable]
    actions: list[Hashable]
    rows: Rows
    rewards: Any  # [pairs]
    costs: dict[str, Any]  # name -> [pairs]
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
    everywhere = None if callable(actions) else _listed(actions, "actions")
    index: dict[Hashable, int] = {}
    for state in initial:
        _admit(state, index, max_states, "initial_states")
    action_index: dict[Hashable, int] = {}
    pairs: list[tuple[int, int]] = []
    rows: list[dict[Hashable, Any]] = []
    rewards: list[Any] = []
    cost_values: dict[str, list[Any]] = {name: [] for name in costs}
    queue = list(index)
    for state in queue:  # grows
        choices = _listed(actions(state), f"actions({state!r})") if everywhere is None else everywhere
        if not choices:
            raise InvalidModel(
                f"actions({state!r}) is empty. Give an absorbing state one action that stays there with reward 0."
            )
        for action in choices:
            row, reward = _merge(step(state, action), f"step({state!r}, {action!r})")
            for successor in row:
                if successor not in index:
                    _admit(successor, index, max_states, f"step({state!r}, {action!r})")
                    queue.append(successor)
            pairs.append((index[state], _number(action, action_index)))
            rows.append(row)
            rewards.append(reward)
            for name, cost in costs.items():
                cost_values[name].append(cost(state, action))
    matrix, exact = _matrix(rows, index)
    pair_states, pair_actions = np.array(pairs).T
    if None in initial.values():  # a list: uniform
        share = 1.0 / len(initial) if exact is None else Fraction(1, len(initial))
        initial = dict.fromkeys(initial, share)
    return Exploration(
        states=list(index),
        actions=list(action_index),
        rows=Rows(pair_states, pair_actions, matrix, exact, len(action_index), None),
        rewards=rewards,
        costs=dict(cost_values),
        initial=initial,
    )


def _read_start(initial_states: Any) -> dict[Hashable, Any]:
    """Read states with their probabilities; None stands for equal ones."""
    try:
        if isinstance(initial_states, Mapping):
            start = dict(initial_states)
            if None in start.values():
                raise InvalidModel("initial_states gives a state the probability None.")
        elif isinstance(initial_states, list | set | range | np.ndarray):
            listed = initial_states.tolist() if isinstance(initial_states, np.ndarray) else list(initial_states)
            start = dict.fromkeys(sorted(listed, key=repr) if isinstance(initial_states, set) else listed)
            if len(listed) != len(start):
                raise InvalidModel("initial_states holds a state twice; give a mapping of state to probability.")
        else:
            start = {initial_states: 1.0}
    except TypeError:
        raise InvalidModel(
            f"initial_states={shown(initial_states)} holds what is not hashable. Use tuples, for example."
        ) from None
    if not start:
        raise InvalidModel("initial_states is empty: the search needs a state to begin with.")
    return start


def _admit(state: Hashable, index: dict[Hashable, int], max_states: int, source: str) -> None:
    if state != state:
        raise InvalidModel(f"{source} gave a state that is not equal to itself ({state!r}).")
    if len(index) >= max_states:
        raise InvalidModel(f"more than max_states={max_states} states were found (the last: {state!r}).")
    index[state] = len(index)


def _listed(actions: Any, source: str) -> list[Hashable]:
    try:
        return list(actions)
    except (TypeError, NotImplementedError):  # the latter from sparse matrices
        raise InvalidModel(f"{source} must be a list of actions; got {shown(actions)}.") from None


def _number(action: Hashable, action_index: dict[Hashable, int]) -> int:
    try:
        return action_index.setdefault(action, len(action_index))
    except TypeError:
        raise InvalidModel(f"the action {shown(action)} is not hashable. Use a tuple, for example.") from None


def _merge(outcome: Any, where: str) -> tuple[dict[Hashable, Any], Any]:
    """Sum repeated successors; return the row and the expected reward, fractions if any number is one."""
    try:
        triples = [(probability, successor, value) for probability, successor, value in outcome]
    except (TypeError, ValueError):
        raise InvalidModel(f"{where} must return a list of (probability, next state, reward) triples.") from None
    exact = any(is_exact(number) for probability, _, value in triples for number in (probability, value))
    read = read_number if exact else _read_float
    row: dict[Hashable, Any] = {}
    weights, values = [], []
    for probability, successor, value in triples:
        weight = read(probability, where)
        if weight == 0:
            continue
        weights.append(weight)
        values.append(read(value, where))
        try:
            row[successor] = row.get(successor, 0) + weight
        except TypeError:
            raise InvalidModel(f"{where} gave the state {shown(successor)}, which is not hashable.") from None
    if exact:
        reward = expectation(weights, values)
    else:
        reward = sum(weight * value for weight, value in zip(weights, values, strict=True))
    # An action that is not available leads nowhere: the search does not follow it.
    return ({}, reward) if reward == -np.inf else (row, reward)


def _read_float(value: Any, where: str) -> float:
    if not isinstance(value, int | float | np.number | np.bool_) or isinstance(value, np.complexfloating):
        raise InvalidModel(f"{where} returned {shown(value)} where a number was expected.")
    try:
        return float(value)
    except OverflowError:
        raise InvalidModel(f"{where} returned {shown(value)}, which is beyond the range of doubles.") from None


def _matrix(rows: list[dict[Hashable, Any]], index: dict[Hashable, int]) -> tuple[Any, AnyArray | None]:
    """Rows as a CSR matrix [pairs, S], sorted, without zeros, and the same numbers as fractions if any is one."""
    entries: list[Any] = []
    columns: list[int] = []
    indptr = [0]
    for row in rows:
        line = sorted((index[successor], weight) for successor, weight in row.items() if weight != 0)
        columns += [column for column, _ in line]
        entries += [weight for _, weight in line]
        indptr.append(len(entries))
    exact: AnyArray | None = None
    if any(isinstance(weight, Fraction) for weight in entries):
        objects = np.empty(len(entries), dtype=object)
        objects[:] = entries
        exact = to_fractions(objects, "step")
    numbers = np.array([to_double(weight) for weight in entries], dtype=np.float64)
    return sparse.csr_array((numbers, columns, indptr), shape=(len(rows), len(index))), exact

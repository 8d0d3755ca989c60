"""The index of admissible state-action pairs, with labels: what models, policies and results share."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, BoolArray, FloatArray, IntArray, frozen
from occlp.errors import InvalidModel, InvalidProblem
from occlp.model.exact import shown
from occlp.model.stages import StageLabels


@dataclass(frozen=True, eq=False)
class Pairs:
    """Admissible state-action pairs, sorted by state, then by action.

    Attributes
    ----------
    start : IntArray [S + 1]
        The pairs of state ``s`` are ``start[s] .. start[s + 1] - 1``.
    actions : IntArray [pairs]
        Action index of each pair.
    n_actions : int
        Number of actions over all states (columns of an ``[S, A]`` table).
    state_labels, action_labels : sequence or None
        Names; where given they are used instead of indices.
    """

    start: IntArray  # [S + 1]
    actions: IntArray  # [pairs]
    n_actions: int
    state_labels: Sequence[Hashable] | None = None
    action_labels: Sequence[Hashable] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.start, self.actions, self.n_actions, self.state_labels, self.action_labels)

    @property
    def n_states(self) -> int:
        """Number of states S."""
        return len(self.start) - 1

    @property
    def n_pairs(self) -> int:
        """Number of admissible pairs."""
        return len(self.actions)

    @cached_property
    def states(self) -> IntArray:
        """State index of each pair, [pairs]."""
        counts = np.diff(self.start)
        return frozen(np.repeat(np.arange(self.n_states, dtype=np.int32), counts))

    @cached_property
    def _state_positions(self) -> dict[Hashable, int]:
        return _positions(self.state_labels, self.n_states)

    @cached_property
    def _action_positions(self) -> dict[Hashable, int]:
        return _positions(self.action_labels, self.n_actions)

    def state_name(self, state: int) -> Hashable:
        """Label of a state index (the index itself where there are no labels)."""
        return int(state) if self.state_labels is None else self.state_labels[state]

    def action_name(self, action: int) -> Hashable:
        """Label of an action index (the index itself where there are no labels)."""
        return int(action) if self.action_labels is None else self.action_labels[action]

    def describe(self, pair: int) -> str:
        """Words for a pair: ``state 'worn', action 'repair'``."""
        state, action = int(self.states[pair]), int(self.actions[pair])
        return f"state {self.state_name(state)!r}, action {self.action_name(action)!r}"

    def state(self, label: Hashable) -> int:
        """Index of a state label; raises `InvalidProblem` for an unknown one."""
        return _look_up(label, self._state_positions, "state")

    def has_state(self, label: Hashable) -> bool:
        """Whether this is one of the state labels; what cannot be hashed is not."""
        return is_known(label, self._state_positions)

    def action(self, label: Hashable) -> int:
        """Index of an action label; raises `InvalidProblem` for an unknown one."""
        return _look_up(label, self._action_positions, "action")

    def pair(self, state: int, action: int) -> int | None:
        """Position of the pair (state index, action index), or None where it is not admissible."""
        first, last = int(self.start[state]), int(self.start[state + 1])
        position = first + int(np.searchsorted(self.actions[first:last], action))
        return position if position < last and self.actions[position] == action else None

    def table(self, values: AnyArray, fill: float) -> FloatArray:
        """Spread [pairs] values over a new ``[S, A]`` table; pairs that do not exist hold `fill`."""
        out = np.full((self.n_states, self.n_actions), fill, dtype=np.float64)
        out[self.states, self.actions] = values
        return out

    def select(self, states: Iterable[Hashable] | None = None, actions: Iterable[Hashable] | None = None) -> BoolArray:
        """Mask [pairs] of the pairs whose state and action are among the labels given (None means all)."""
        mask = np.ones(self.n_pairs, dtype=np.bool_)
        if states is not None:
            mask &= np.isin(self.states, [self.state(label) for label in _listed(states, self._state_positions)])
        if actions is not None:
            mask &= np.isin(self.actions, [self.action(label) for label in _listed(actions, self._action_positions)])
        return mask

    def same_as(self, other: Pairs) -> bool:
        """Whether the other index holds the same pairs in the same order (labels aside)."""
        return self is other or (
            self.n_actions == other.n_actions
            and np.array_equal(self.start, other.start)
            and np.array_equal(self.actions, other.actions)
        )


def index_pairs(
    pair_states: AnyArray,
    pair_actions: AnyArray,
    *,
    n_states: int,
    n_actions: int,
    states: Sequence[Hashable] | None,
    actions: Sequence[Hashable] | None,
) -> tuple[Pairs, AnyArray]:
    """Sort pairs by state and action; return the index and the order that sorts them.

    Raises `InvalidModel` for duplicate pairs and for states without an action.
    """
    order = np.lexsort((pair_actions, pair_states))
    sorted_states, sorted_actions = pair_states[order], pair_actions[order]
    counts = np.bincount(sorted_states, minlength=n_states)
    pairs = Pairs(
        start=frozen(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)),
        actions=frozen(sorted_actions.astype(np.int32)),
        n_actions=n_actions,
        state_labels=check_labels(states, n_states, "states"),
        action_labels=check_labels(actions, n_actions, "actions"),
    )
    same = np.flatnonzero((np.diff(sorted_states) == 0) & (np.diff(sorted_actions) == 0))
    if len(same):
        first, second = sorted(int(order[same[0] + i]) for i in (0, 1))
        raise InvalidModel(
            f"the pair ({pairs.describe(int(same[0]))}) is given twice, in rows {first} and {second}. "
            "Merge the two rows, or give the second one an action of its own."
        )
    if (counts == 0).any():
        empty = int(np.flatnonzero(counts == 0)[0])
        raise InvalidModel(
            f"state {pairs.state_name(empty)!r} has no action: none was given, or admissible= and rewards of -inf "
            "remove them all. Every state needs one; an absorbing state stays where it is, with reward 0."
        )
    return pairs, order


def check_labels(labels: Any, count: int, what: str) -> Sequence[Hashable] | None:
    """Read labels; raise `InvalidModel` unless there are `count` distinct hashable ones."""
    read = read_labels(labels, what)
    if read is not None and len(read) != count:
        raise InvalidModel(f"{what}= has {len(read)} labels, but the model has {count} {what}. Give one label each.")
    return read


def read_labels(labels: Any, what: str) -> Sequence[Hashable] | None:
    """Turn labels into a tuple; raise `InvalidModel` unless they are hashable and distinct."""
    if labels is None or isinstance(labels, StageLabels):
        return labels
    if isinstance(labels, np.ndarray) and labels.ndim > 0:
        labels = labels.tolist()
    unordered = isinstance(labels, set | frozenset | Mapping | np.ndarray) or sparse.issparse(labels)
    if unordered or not isinstance(labels, Iterable):
        raise InvalidModel(f"{what}= must be a list of labels in the order of the {what}, not {shown(labels)}.")
    listed = [label.item() if isinstance(label, np.generic) else label for label in labels]
    seen: set[Hashable] = set()
    for label in listed:
        try:
            twice = label in seen
            seen.add(label)
        except TypeError:
            raise InvalidModel(
                f"{what}= holds {shown(label)}, which is not hashable. Use strings, numbers or tuples."
            ) from None
        if twice or label != label:
            reason = "twice. Labels must be distinct" if twice else "which is not equal to itself"
            raise InvalidModel(f"{what}= holds {shown(label)} {reason}.")
    return tuple(listed)


def _restore(*fields: Any) -> Pairs:
    start, actions, *rest = fields
    return Pairs(frozen(start), frozen(actions), *rest)


def _positions(labels: Sequence[Hashable] | None, count: int) -> dict[Hashable, int]:
    return {label: i for i, label in enumerate(range(count) if labels is None else labels)}


def _listed(labels: Any, known: Mapping[Hashable, int]) -> list[Hashable]:
    """One label (which may be a string or a tuple), or several of them."""
    single = isinstance(labels, Hashable) and not isinstance(labels, Iterable)
    if single or isinstance(labels, str) or (isinstance(labels, tuple) and is_known(labels, known)):
        return [labels]
    try:
        return list(labels)
    except (TypeError, NotImplementedError):  # arrays without axes, and other things that are no collections
        raise InvalidProblem(f"{shown(labels)} is neither a label nor a collection of labels.") from None


def is_known(label: Any, positions: Mapping[Any, Any]) -> bool:
    """Whether this is one of the labels (what cannot be hashed is not)."""
    try:
        return label in positions
    except TypeError:
        return False


def _look_up(label: Hashable, positions: dict[Hashable, int], what: str) -> int:
    if isinstance(label, np.generic):
        label = label.item()
    try:
        return positions[label]
    except (KeyError, TypeError):
        known = ", ".join(map(repr, list(positions)[:8])) + (", ..." if len(positions) > 8 else "")
        raise InvalidProblem(f"there is no {what} {label!r}. The {what}s are {known}.") from None

"""The one model form: admissible pairs sorted by state, sparse transition rows, rewards and named costs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, FloatArray, frozen
from occlp.errors import InvalidModel
from occlp.model import arrays, checks
from occlp.model.exact import ExactNumbers, to_fractions
from occlp.model.exploration import explore
from occlp.model.pairs import Pairs, index_pairs

Labels: TypeAlias = Sequence[Hashable]


@dataclass(frozen=True, eq=False)
class MDP:
    """A finite Markov decision process in its one internal form; every array is read-only.

    Build one with `from_arrays`, `from_pairs` or `from_function`; the constructor itself takes
    the parts as they are and checks nothing.

    Attributes
    ----------
    pairs : Pairs
        The admissible state-action pairs, with labels.
    transitions : csr_array [pairs, S]
        ``P(s' | s, a)``, one row a pair, 32-bit indices.
    pair_rewards : FloatArray [pairs]
        Expected immediate reward of each pair.
    pair_costs : mapping of str to FloatArray [pairs]
        Everything besides the reward that a question may mention.
    discount : float or None
        γ in [0, 1].
    initial : FloatArray [S]
        Initial distribution μ0.
    notes : tuple of str
        What was accepted although it departs from a perfect model (row sums, removed pairs, ...).
    exact : ExactNumbers or None
        The numbers as fractions, where any was written as a string or a fraction.
    """

    pairs: Pairs
    transitions: Any  # csr_array [pairs, S]
    pair_rewards: FloatArray  # [pairs]
    pair_costs: Mapping[str, FloatArray]  # name -> [pairs]
    discount: float | None
    initial: FloatArray  # [S]
    notes: tuple[str, ...] = ()
    exact: ExactNumbers | None = field(default=None, repr=False)

    @classmethod
    def from_arrays(
        cls,
        transitions: Any,
        rewards: Any,
        *,
        discount: Any = None,
        initial: Any = None,
        costs: Mapping[str, Any] | None = None,
        admissible: Any = None,
        states: Labels | None = None,
        actions: Labels | None = None,
        layout: str = "sas",
    ) -> MDP:
        """Build a model from arrays over states and actions.

        Parameters
        ----------
        transitions : array [S, A, S'], sparse [S*A, S'] with row ``s*A + a``, or list of sparse
            With ``layout="ass"``: [A, S, S'], sparse [A*S, S'], or a list of A sparse [S, S'].
        rewards : array [S, A], [S] or [S, A, S'] (with "ass": [A, S], [S] or [A, S, S'])
            A reward of −inf marks an action that is not available.
        discount : float or str, optional
            γ in [0, 1]; may be left out for the average and total criteria.
        initial : array [S], state label, or mapping of state label to probability, optional
            μ0; default uniform.
        costs : mapping of str to array, optional
            Named quantities in any reward shape.
        admissible : bool array [S, A], optional
            Which pairs exist; default all. Rows of other pairs are ignored.
        states, actions : sequence of hashable, optional
            Labels; once given they are used instead of indices.
        layout : {"sas", "ass"}
            Order of the axes; never inferred from the data.

        Raises
        ------
        InvalidModel
            Naming state, action, value and the way out.

        Examples
        --------
        >>> import occlp as oc
        >>> mdp = oc.MDP.from_arrays([[[0.9, 0.1], [1, 0]], [[0, 1], [1, 0]]], [[2, 0], [0, -1]], discount=0.9)
        >>> mdp.n_states, mdp.n_actions, mdp.n_pairs
        (2, 2, 4)
        """
        rows = arrays.read_array_rows(transitions, layout)
        keep = np.ones(rows.n_rows, dtype=np.bool_)
        if admissible is not None:
            keep = _read_mask(admissible, rows)
        return _assemble(
            rows, rewards, costs, keep, discount=discount, initial=initial, states=states, actions=actions
        )

    @classmethod
    def from_pairs(
        cls,
        pair_states: Any,
        pair_actions: Any,
        transitions: Any,
        rewards: Any,
        *,
        discount: Any = None,
        initial: Any = None,
        costs: Mapping[str, Any] | None = None,
        states: Labels | None = None,
        actions: Labels | None = None,
    ) -> MDP:
        """Build a model from one row per admissible pair, in any order.

        Parameters
        ----------
        pair_states, pair_actions : sequence [pairs]
            Indices, or labels where `states` or `actions` are given.
        transitions : array or sparse [pairs, S']
        rewards : array [pairs] or [pairs, S']
            −inf drops the pair.
        discount, initial, costs, states, actions
            As in `from_arrays`; costs are [pairs] or [pairs, S'].

        Raises
        ------
        InvalidModel
            Also for duplicate pairs, indices out of range and states without an action.
        """
        state_index = _read_index(pair_states, states, "state")
        action_index = _read_index(pair_actions, actions, "action")
        n_actions = len(actions) if actions is not None else int(action_index.max(initial=-1)) + 1
        rows = arrays.read_pair_rows(state_index, action_index, transitions, n_actions)
        for index, count, what in ((state_index, rows.n_states, "state"), (action_index, n_actions, "action")):
            if len(index) == 0 or count == 0:
                raise InvalidModel("the model is empty: it needs at least one state and one action.")
            wrong = np.flatnonzero((index < 0) | (index >= count))
            if len(wrong):
                row = int(wrong[0])
                raise InvalidModel(
                    f"row {row} has {what} index {index[row]}, outside 0 .. {count - 1}. "
                    f"The number of states is the number of columns of transitions ({rows.n_states})."
                )
        keep = np.ones(rows.n_rows, dtype=np.bool_)
        return _assemble(
            rows, rewards, costs, keep, discount=discount, initial=initial, states=states, actions=actions
        )

    @classmethod
    def from_function(
        cls,
        step: Callable[[Any, Any], Any],
        initial_states: Any,
        actions: Any,
        *,
        discount: Any = None,
        costs: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        max_states: int = 1_000_000,
    ) -> MDP:
        """Build a model by search from the initial states; the states found become the labels.

        Parameters
        ----------
        step : callable
            ``step(state, action) -> [(probability, next state, reward), ...]``; repeated successors are
            summed. A reward of −inf marks an unavailable action.
        initial_states : list of states, mapping of state to probability, or one state
            A list means the uniform distribution over it.
        actions : callable or list
            ``actions(state) -> list`` of action labels, or one list for all states.
        discount : float or str, optional
        costs : mapping of str to callable, optional
            ``cost(state, action) -> number``.
        max_states : int
            The search stops with an error beyond this many states.

        Examples
        --------
        >>> import occlp as oc
        >>> walk = lambda s, a: [(1, min(s + a, 3), 1.0 if s < 3 else 0.0)]
        >>> oc.MDP.from_function(walk, 0, [0, 1], discount=0.5).n_states
        4
        """
        found = explore(step, initial_states, actions, costs or {}, max_states)
        return cls.from_pairs(
            found.pair_states,
            found.pair_actions,
            found.transitions,
            found.rewards,
            discount=discount,
            initial=found.initial,
            costs=found.costs,
            states=found.states,
            actions=found.actions,
        )

    def replace(self, **changes: Any) -> MDP:
        """A copy with another ``discount``, ``initial``, ``rewards`` or ``costs`` (all costs at once).

        Rewards and costs are [pairs], [S, A] or [S] arrays, or read [S, A, S'] per transition.
        """
        unknown = set(changes) - {"discount", "initial", "rewards", "costs"}
        if unknown:
            raise TypeError(f"MDP.replace() changes discount, initial, rewards or costs, not {sorted(unknown)}.")
        pairs = self.pairs
        rewards: Any = self.pair_rewards if self.exact is None else np.array(self.exact.rewards, dtype=object)
        costs: Any = dict(self.pair_costs if self.exact is None else self.exact.costs)
        discount: Any = self.discount if self.exact is None else self.exact.discount
        initial: Any = self.initial if self.exact is None else np.array(self.exact.initial, dtype=object)
        if "rewards" in changes:
            rewards = _per_pair(changes["rewards"], pairs, "rewards")
        if "costs" in changes:
            costs = {name: _per_pair(cost, pairs, f"cost {name!r}") for name, cost in changes["costs"].items()}
        exact = None if self.exact is None else np.array(self.exact.transitions, dtype=object)
        rows = arrays.Rows(pairs.states, pairs.actions, self.transitions.copy(), exact, pairs.n_actions, None)
        return _assemble(
            rows,
            rewards,
            costs,
            np.ones(pairs.n_pairs, dtype=np.bool_),
            discount=changes.get("discount", discount),
            initial=changes.get("initial", initial),
            states=pairs.state_labels,
            actions=pairs.action_labels,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.transitions.data, self.transitions.indices, self.transitions.indptr)
        rest = (self.pair_rewards, dict(self.pair_costs), self.discount, self.initial, self.notes, self.exact)
        return _restore, (self.pairs, *parts, *rest)

    def __repr__(self) -> str:
        costs = f", costs={sorted(self.pair_costs)}" if self.pair_costs else ""
        return (
            f"MDP({self.n_states} states, {self.n_actions} actions, {self.n_pairs} pairs, "
            f"{self.transitions.nnz} transitions, discount={self.discount}{costs})"
        )

    @property
    def n_states(self) -> int:
        """Number of states S."""
        return self.pairs.n_states

    @property
    def n_actions(self) -> int:
        """Number of action labels A (columns of an ``[S, A]`` table)."""
        return self.pairs.n_actions

    @property
    def n_pairs(self) -> int:
        """Number of admissible pairs."""
        return self.pairs.n_pairs

    @property
    def pair_start(self) -> AnyArray:
        """First pair of each state, [S + 1]."""
        return self.pairs.start

    @property
    def states(self) -> tuple[Hashable, ...]:
        """State labels (indices where none were given)."""
        return tuple(self.pairs.state_name(s) for s in range(self.n_states))

    @property
    def actions(self) -> tuple[Hashable, ...]:
        """Action labels (indices where none were given)."""
        return tuple(self.pairs.action_name(a) for a in range(self.n_actions))

    @property
    def rewards(self) -> FloatArray:
        """Rewards as an [S, A] table, NaN where the pair does not exist."""
        return self.pairs.table(self.pair_rewards, np.nan)

    @cached_property
    def costs(self) -> Mapping[str, FloatArray]:
        """Costs as [S, A] tables, NaN where the pair does not exist."""
        return MappingProxyType({name: self.pairs.table(cost, np.nan) for name, cost in self.pair_costs.items()})


def _assemble(
    rows: arrays.Rows,
    rewards: Any,
    costs: Mapping[str, Any] | None,
    keep: AnyArray,
    *,
    discount: Any,
    initial: Any,
    states: Labels | None,
    actions: Labels | None,
) -> MDP:
    """Select, sort and check rows; everything that builds a model passes here."""
    reward = arrays.read_values(rewards, rows, "rewards")
    cost = {name: arrays.read_values(value, rows, f"cost {name!r}") for name, value in (costs or {}).items()}
    if "reward" in cost:
        raise InvalidModel("a cost named 'reward' would hide the reward. Choose another name.")
    closed = keep & (reward.floats == -np.inf)
    keep &= ~closed
    kept = np.flatnonzero(keep)
    pairs, order = index_pairs(
        rows.states[kept], rows.actions[kept], n_states=rows.n_states, n_actions=rows.n_actions,
        states=states, actions=actions,
    )  # fmt: skip
    order = kept[order]
    in_place = len(order) == rows.n_rows and bool((order == np.arange(rows.n_rows)).all())
    matrix = rows.matrix if in_place else rows.matrix[order]
    notes = _closed_notes(closed, rows, pairs) + checks.check_transitions(matrix, pairs, single=rows.single)
    checks.check_values(reward.floats[order], pairs, "the reward")
    for name, value in cost.items():
        checks.check_values(value.floats[order], pairs, f"cost {name!r}")
    gamma, exact_gamma = checks.check_discount(discount)
    start, exact_start = checks.read_initial(initial, pairs)
    twins = [rows.exact, reward.exact, exact_start, exact_gamma, *(value.exact for value in cost.values())]
    exact = None
    if any(twin is not None for twin in twins):
        weights = None if rows.exact is None else _permute(rows.exact, rows.matrix.indptr, order)
        exact = ExactNumbers(
            transitions=tuple(to_fractions(matrix.data, "transitions") if weights is None else weights),
            rewards=_fractions(reward, order),
            initial=tuple(to_fractions(start, "initial")) if exact_start is None else exact_start,
            discount=exact_gamma if exact_gamma is not None or gamma is None else to_fractions(np.array(gamma), "")[()],
            costs={name: _fractions(value, order) for name, value in cost.items()},
        )
    matrix.sort_indices()
    return _restore(
        pairs, matrix.data, matrix.indices, matrix.indptr,
        reward.floats[order], {name: value.floats[order] for name, value in cost.items()},
        gamma, start, tuple(notes), exact,
    )  # fmt: skip


def _restore(pairs: Pairs, data: Any, indices: Any, indptr: Any, rewards: Any, costs: Any, *rest: Any) -> MDP:
    """Build a model from checked parts, with every array read-only (also after unpickling)."""
    discount, initial, notes, exact = rest
    matrix = sparse.csr_array((pairs.n_pairs, pairs.n_states), dtype=np.float64)
    matrix.data = frozen(np.asarray(data, dtype=np.float64))
    matrix.indices = frozen(np.asarray(indices, dtype=np.int32))
    matrix.indptr = frozen(np.asarray(indptr, dtype=np.int32))
    matrix.has_canonical_format = True
    frozen_costs = MappingProxyType({name: frozen(cost) for name, cost in costs.items()})
    return MDP(pairs, matrix, frozen(rewards), frozen_costs, discount, frozen(initial), notes, exact)


def _read_mask(admissible: Any, rows: arrays.Rows) -> AnyArray:
    mask = np.asarray(admissible)
    shape = (rows.n_states, rows.n_actions)
    if mask.shape != shape or not (mask.dtype == np.bool_ or np.isin(mask, (0, 1)).all()):
        raise InvalidModel(f"admissible must be a boolean array [S, A] = {list(shape)}; got {list(mask.shape)}.")
    return mask.astype(np.bool_).ravel()


def _read_index(values: Any, labels: Labels | None, what: str) -> AnyArray:
    """Positions [pairs] from indices, or from labels where the model has them."""
    if labels is not None:
        positions = {label: i for i, label in enumerate(labels)}
        listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
        if all(_known(value, positions) for value in listed):
            return np.array([positions[value] for value in listed], dtype=np.int64)
        if not all(isinstance(value, int | np.integer) for value in listed):
            unknown = next(value for value in listed if not _known(value, positions))
            raise InvalidModel(f"pair_{what}s holds {unknown!r}, which is not among {what}s=.")
    index = np.asarray(values)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise InvalidModel(f"pair_{what}s must be one {what} index per pair, or labels with {what}s= given.")
    return index.astype(np.int64)


def _known(value: Any, positions: Mapping[Hashable, int]) -> bool:
    return isinstance(value, Hashable) and value in positions


def _per_pair(values: Any, pairs: Pairs, name: str) -> Any:
    """Rewards for `MDP.replace`: [pairs] or [pairs, S'] stay, [S], [S, A] and [S, A, S'] are gathered."""
    array = np.asarray(values)
    if array.shape[:1] == (pairs.n_pairs,) and array.shape != (pairs.n_states, pairs.n_actions):
        return array
    if array.shape[:2] == (pairs.n_states, pairs.n_actions):
        return array[pairs.states, pairs.actions]
    if array.shape == (pairs.n_states,):
        return array[pairs.states]
    raise InvalidModel(f"{name} has shape {list(array.shape)}; give [S, A], [S], [S, A, S'] or [pairs].")


def _fractions(value: arrays.RowValues, order: AnyArray) -> tuple[Any, ...]:
    return tuple(to_fractions(value.floats[order], "") if value.exact is None else value.exact[order])


def _permute(entries: AnyArray, indptr: AnyArray, order: AnyArray) -> AnyArray:
    """Entries of CSR rows, rows taken in the given order."""
    pieces = [entries[indptr[row] : indptr[row + 1]] for row in order]
    return np.concatenate(pieces) if pieces else entries


def _closed_notes(closed: AnyArray, rows: arrays.Rows, pairs: Pairs) -> list[str]:
    if not closed.any():
        return []
    listed = [
        f"({pairs.state_name(int(rows.states[i]))!r}, {pairs.action_name(int(rows.actions[i]))!r})"
        for i in np.flatnonzero(closed)[:5]
    ]
    more = ", ..." if int(closed.sum()) > 5 else ""
    return [f"{int(closed.sum())} pairs have reward -inf and are not available: {', '.join(listed)}{more}"]

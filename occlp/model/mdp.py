"""The one model form: admissible pairs sorted by state, sparse transition rows, rewards and named costs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, FloatArray, frozen
from occlp.errors import InvalidModel
from occlp.model import arrays, assembly, checks, unrolling
from occlp.model.exploration import explore
from occlp.model.pairs import Pairs, read_labels

if TYPE_CHECKING:
    from occlp.model.exact import ExactNumbers

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
        transitions : array [S, A, S'], array or sparse [S*A, S'] with row ``s*A + a``, or list of S sparse [A, S']
            With ``layout="ass"``: [A, S, S'], [A*S, S'] with row ``a*S + s``, or a list of A sparse [S, S'].
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
        return from_rows(
            rows, rewards, costs=costs, discount=discount, initial=initial,
            states=states, actions=actions, admissible=admissible,
        )  # fmt: skip

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
            Indices, or labels where `states` or `actions` are given (indices still do, unless labels are integers).
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
        states, actions = read_labels(states, "states"), read_labels(actions, "actions")
        state_index = assembly.read_index(pair_states, states, "state")
        action_index = assembly.read_index(pair_actions, actions, "action")
        n_actions = len(actions) if actions is not None else int(action_index.max(initial=-1)) + 1
        rows = arrays.read_pair_rows(state_index, action_index, transitions, n_actions)
        for index, count, what in ((state_index, rows.n_states, "state"), (action_index, n_actions, "action")):
            if len(index) == 0 or count == 0:
                raise InvalidModel("the model is empty: it needs at least one state and one action.")
            if index.max() >= count:
                row = int(np.argmax(index >= count))
                raise InvalidModel(
                    f"row {row} has {what} index {index[row]}, outside 0 .. {count - 1}. "
                    f"The number of states is the number of columns of transitions ({rows.n_states})."
                )
        return from_rows(rows, rewards, costs=costs, discount=discount, initial=initial, states=states, actions=actions)

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
        found = explore(step, initial_states, actions, assembly.read_costs(costs), max_states)
        return from_rows(
            found.rows, found.rewards, costs=found.costs, discount=discount, initial=found.initial,
            states=found.states, actions=found.actions,
        )  # fmt: skip

    def replace(self, **changes: Any) -> MDP:
        """Return a copy with another ``discount``, ``initial``, ``rewards`` or ``costs`` (all costs at once).

        Rewards and costs are [pairs], [S, A] or [S], or, per transition, [pairs, S'] or [S, A, S'].
        A reward of −inf takes its pair away.
        """
        unknown = set(changes) - {"discount", "initial", "rewards", "costs"}
        if unknown:
            raise TypeError(f"MDP.replace() changes discount, initial, rewards or costs, not {sorted(unknown)}.")
        pairs, exact = self.pairs, self.exact
        rows = arrays.Rows(
            pairs.states, pairs.actions, self.transitions,
            None if exact is None else np.array(exact.transitions, dtype=object), pairs.n_actions, None,
            notes=tuple(note for note in self.notes if not note.startswith("initial ")),
        )  # fmt: skip
        if "rewards" in changes:
            rewards = assembly.per_pair(changes["rewards"], pairs, "rewards")
        else:
            rewards = self.pair_rewards if exact is None else exact.rewards
        if "costs" in changes:
            given = assembly.read_costs(changes["costs"])
            costs = {name: assembly.per_pair(cost, pairs, f"cost {name!r}") for name, cost in given.items()}
        else:
            costs = dict(self.pair_costs if exact is None else exact.costs)
        kept = checks.Start(self.initial, None if exact is None else exact.initial)
        return from_rows(
            rows, rewards, costs=costs, initial=changes.get("initial", kept),
            discount=changes.get("discount", self.discount if exact is None else exact.discount),
            states=pairs.state_labels, actions=pairs.action_labels,
        )  # fmt: skip

    def unrolled(self, horizon: int, terminal: Any = None) -> MDP:
        """Return the model of a finite horizon: states (t, s) for t = 0 .. T−1, and one absorbing state ``"end"``.

        Every path takes T steps and ends. Rewards and costs of step t carry γ^t and the discount is left out,
        so that total rewards of this model are discounted rewards of the horizon. Solve it with
        ``Problem(mdp.unrolled(T), criterion="total")``; `occlp.by_time` sorts what comes out by time. Without
        constraints `occlp.backward_induction` needs no unrolled model.

        Only the states (t, s) that can be reached from the initial distribution exist.

        Parameters
        ----------
        horizon : int
            Number of steps T, at least 1.
        terminal : array [S], or mapping of name to array [S], optional
            Salvage values, paid with the last step for the state that it leads to, times γ^T. An array is
            the reward's; a mapping may name ``"reward"`` and costs.

        Raises
        ------
        InvalidProblem
            For a horizon that is not a positive integer.
        InvalidModel
            For salvage values of the wrong shape, or not finite.

        References
        ----------
        Puterman (1994), chapter 4; section 5.3 for a horizon as a model with a terminal state.

        Examples
        --------
        >>> import occlp as oc
        >>> mdp = oc.instances.get("machine-repair", discount=None).unrolled(2)
        >>> mdp.states
        ((0, 'new'), (1, 'new'), (1, 'worn'), 'end')
        """
        return _restore(*unrolling.unroll(self, horizon, terminal))

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

    @cached_property
    def rewards(self) -> FloatArray:
        """Rewards as an [S, A] table (read-only), NaN where the pair does not exist."""
        return frozen(self.pairs.table(self.pair_rewards, np.nan))

    @cached_property
    def costs(self) -> Mapping[str, FloatArray]:
        """Costs as [S, A] tables (read-only), NaN where the pair does not exist."""
        tables = {name: self.pairs.table(cost, np.nan) for name, cost in self.pair_costs.items()}
        return MappingProxyType({name: frozen(table) for name, table in tables.items()})


def from_rows(rows: arrays.Rows, rewards: Any, **parts: Any) -> MDP:
    """Build a model from rows that have been read; every constructor and transformation passes here."""
    return _restore(*assembly.assemble(rows, rewards, **parts))


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

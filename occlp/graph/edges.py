"""The graph behind a model: which states each pair may lead to. Numbers play no part, only whether they are 0."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, BoolArray, IntArray, frozen

if TYPE_CHECKING:
    from occlp.model import MDP


@dataclass(frozen=True, eq=False)
class TransitionGraph:
    """Pairs and the states that they may lead to; every array is read-only and 32 bits wide.

    Attributes
    ----------
    pair_states : IntArray [pairs]
        The state of each pair, in any order.
    indptr : IntArray [pairs + 1]
        The successors of pair ``k`` are ``indices[indptr[k]:indptr[k + 1]]``.
    indices : IntArray [edges]
        States of positive probability; a stored zero is no edge.
    n_states : int
    """

    pair_states: IntArray  # [pairs]
    indptr: IntArray  # [pairs + 1]
    indices: IntArray  # [edges]
    n_states: int

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return len(self.pair_states)

    @cached_property
    def edge_pairs(self) -> IntArray:
        """The pair of each edge, [edges]."""
        return frozen(np.repeat(np.arange(self.n_pairs, dtype=np.int32), np.diff(self.indptr)))

    @cached_property
    def edge_states(self) -> IntArray:
        """The state that each edge leaves, [edges]."""
        return frozen(self.pair_states[self.edge_pairs])

    @cached_property
    def by_state(self) -> tuple[IntArray, IntArray]:
        """(start [S + 1], pairs [pairs]): the pairs of state ``s`` are ``pairs[start[s]:start[s + 1]]``."""
        return grouped(self.pair_states, self.n_states)

    @cached_property
    def entering(self) -> tuple[IntArray, IntArray]:
        """(start [S + 1], pairs [edges]): the pairs that may lead to ``s`` are ``pairs[start[s]:start[s + 1]]``."""
        start, order = grouped(self.indices, self.n_states)
        return start, frozen(self.edge_pairs[order])

    def every(self, mask: AnyArray) -> BoolArray:
        """Pairs all of whose successors are in a set of states, bool [S] -> bool [pairs]."""
        return ~self.some(~np.asarray(mask, dtype=np.bool_))

    def some(self, mask: AnyArray) -> BoolArray:
        """Pairs with a successor in a set of states, bool [S] -> bool [pairs]."""
        out = np.zeros(self.n_pairs, dtype=np.bool_)
        out[self.edge_pairs[np.asarray(mask, dtype=np.bool_)[self.indices]]] = True
        return out

    def kept(self, keep: AnyArray | None) -> BoolArray:
        """A mask [pairs] that may be changed; None means all pairs."""
        if keep is None:
            return np.ones(self.n_pairs, dtype=np.bool_)
        mask = np.array(keep, dtype=np.bool_)
        if mask.shape != (self.n_pairs,):
            raise ValueError(f"a mask of pairs of this graph is [{self.n_pairs}], not {list(mask.shape)}.")
        return mask

    def marked(self, states: Any) -> BoolArray:
        """A mask [S] that may be changed, from a mask or from indices of states."""
        given = np.asarray(states)
        if given.dtype == np.bool_:
            if given.shape != (self.n_states,):
                raise ValueError(f"a mask of states of this graph is [{self.n_states}], not {list(given.shape)}.")
            return given.copy()
        mask = np.zeros(self.n_states, dtype=np.bool_)
        mask[given.astype(np.int64)] = True
        return mask

    def count(self, keep: BoolArray) -> IntArray:
        """How many of the pairs of each state are in the mask, [S]."""
        return np.bincount(self.pair_states[keep], minlength=self.n_states).astype(np.int32)

    def adjacency(self, keep: BoolArray) -> Any:
        """The union graph: csr_array [S, S] with an entry where a kept pair may lead from one state to another."""
        used = keep[self.edge_pairs]
        rows, columns = self.edge_states[used], self.indices[used]
        ones = np.ones(len(rows), dtype=np.bool_)  # sums of these stay one, however many pairs lead the same way
        return sparse.coo_array((ones, (rows, columns)), shape=(self.n_states, self.n_states)).tocsr()


def transition_graph(pair_states: AnyArray, transitions: Any) -> TransitionGraph:
    """Build the graph of pairs with transitions csr [pairs, S], probabilities of zero left out.

    Every pair has to lead somewhere; a process that ends is one that enters an absorbing state.
    """
    transitions = sparse.csr_array(transitions)
    positive = np.asarray(transitions.data) != 0
    before = np.concatenate([[0], np.cumsum(positive)])
    indptr = before[transitions.indptr].astype(np.int32)
    if (np.diff(indptr) == 0).any():
        raise ValueError(f"pair {int(np.argmin(np.diff(indptr)))} leads nowhere; give it a state to end in.")
    return TransitionGraph(
        pair_states=frozen(np.asarray(pair_states, dtype=np.int32)),
        indptr=frozen(indptr),
        indices=frozen(transitions.indices[positive].astype(np.int32)),
        n_states=int(transitions.shape[1]),
    )


def graph_of(mdp: MDP) -> TransitionGraph:
    """Build the graph of a model."""
    return transition_graph(mdp.pairs.states, mdp.transitions)


def grouped(keys: AnyArray, count: int) -> tuple[IntArray, IntArray]:
    """(start [count + 1], order): positions of the keys 0 .. count − 1, key by key, in their order."""
    keys = np.asarray(keys)
    ones = np.ones(len(keys), dtype=np.bool_)
    rows = sparse.csr_array((ones, keys, np.arange(len(keys) + 1)), shape=(len(keys), count))
    columns = rows.tocsc()  # counts, where sorting would compare
    return frozen(columns.indptr.astype(np.int32)), frozen(columns.indices.astype(np.int32))

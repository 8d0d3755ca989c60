"""Collapsing end components: each becomes one node, from which every pair that leaves it may be taken.

Staying in an end component of reward 0 changes nothing, so the optimum of the collapsed model is that of
the model, and there every policy leaves (de Alfaro 1997; Ciesinski, Baier, Größer and Klein 2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, IntArray, frozen
from occlp.graph.components import EndComponents
from occlp.graph.edges import TransitionGraph
from occlp.kernels import search


@dataclass(frozen=True, eq=False)
class Quotient:
    """A graph with end components collapsed, and the way back.

    Attributes
    ----------
    nodes : IntArray [S]
        The node of each state; nodes are numbered by their first states.
    pairs : IntArray [pairs of the quotient]
        The original pair of each pair of the quotient; pairs inside the components have gone.
    graph : TransitionGraph
        The collapsed graph.
    original : TransitionGraph
    components : EndComponents
    """

    nodes: IntArray  # [S]
    pairs: IntArray  # [pairs of the quotient]
    graph: TransitionGraph
    original: TransitionGraph
    components: EndComponents

    def transitions(self, matrix: Any) -> Any:
        """Collapse transitions csr [pairs, S] to csr [pairs of the quotient, nodes]; probabilities into a node add."""
        shape = (self.original.n_states, self.graph.n_states)
        states = np.arange(shape[0])
        onto = sparse.csr_array((np.ones(shape[0]), (states, self.nodes)), shape=shape)
        return sparse.csr_array(matrix)[self.pairs] @ onto

    def lift(self, choice: AnyArray) -> IntArray:
        """Turn one pair of the quotient a node, [nodes], into one original pair a state, [S].

        Within a component, all states make for the state of the chosen pair and take it there. Where the choice
        is −1, a component is never left (states outside components keep −1).
        """
        choice = np.asarray(choice)
        chosen = np.where(choice >= 0, self.pairs[choice] if len(self.pairs) else -1, -1)
        out = np.full(self.original.n_states, -1, dtype=np.int32)
        inside = self.components.pairs
        out[self.original.pair_states[inside]] = np.flatnonzero(inside)
        exits = self.original.pair_states[chosen[chosen >= 0]]
        level = np.full(self.original.n_states, -1, dtype=np.int32)
        level[exits] = 0
        search.backward(self.original.pair_states, *self.original.entering, inside, level, out)
        out[exits] = chosen[chosen >= 0]
        return out


def collapse(graph: TransitionGraph, components: EndComponents, keep: AnyArray | None = None) -> Quotient:
    """Collapse end components into one node each; of the other pairs, those in `keep` (None: all) remain."""
    kept = graph.kept(keep) & ~components.pairs
    alone = np.arange(graph.n_states) + components.count
    labels = np.where(components.component >= 0, components.component, alone)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    nodes = frozen(rank[inverse])
    pairs = np.flatnonzero(kept).astype(np.int32)
    counts = np.diff(graph.indptr)[pairs]
    collapsed = TransitionGraph(
        pair_states=frozen(nodes[graph.pair_states[pairs]]),
        indptr=frozen(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)),
        indices=frozen(nodes[graph.indices[kept[graph.edge_pairs]]]),
        n_states=len(first),
    )
    return Quotient(nodes, frozen(pairs), collapsed, graph, components)

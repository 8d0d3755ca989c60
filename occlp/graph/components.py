"""Strongly connected components, maximal end components and recurrent classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csgraph

from occlp._typing import AnyArray, BoolArray, IntArray, frozen
from occlp.graph.edges import TransitionGraph
from occlp.kernels import end_components, search


@dataclass(frozen=True, eq=False)
class EndComponents:
    """Disjoint sets of states, each with pairs that never leave it and connect all of it.

    Attributes
    ----------
    component : IntArray [S]
        Number of the component of each state, −1 for none; numbered by their first states.
    pairs : BoolArray [pairs]
        The pairs inside the components.
    count : int
    """

    component: IntArray  # [S]
    pairs: BoolArray  # [pairs]
    count: int


@dataclass(frozen=True, eq=False)
class ClosedClasses:
    """The closed classes of a chain, or of all policies that use the pairs given.

    Attributes
    ----------
    label : IntArray [S]
        Number of the class of each state, −1 for transient states; numbered by their first states.
    periods : IntArray [classes]
        Greatest common divisor of the lengths of all closed walks of a class; 1 is aperiodic.
    """

    label: IntArray  # [S]
    periods: IntArray  # [classes]

    @property
    def count(self) -> int:
        """Number of classes."""
        return len(self.periods)


def strong_components(graph: TransitionGraph, keep: AnyArray | None = None) -> tuple[int, IntArray]:
    """Count and labels [S] of the strongly connected components of the union graph, by their first states."""
    matrix = graph.adjacency(graph.kept(keep))
    count, labels = csgraph.connected_components(matrix, directed=True, connection="strong")
    return int(count), _by_first_state(labels, np.ones(graph.n_states, dtype=np.bool_))


def maximal_end_components(graph: TransitionGraph, keep: AnyArray | None = None) -> EndComponents:
    """Find the maximal end components, of all pairs or of those in a mask (such as those of reward 0).

    Splits the states into strongly connected components and takes away the pairs that leave their own, again and
    again (de Alfaro 1997, algorithm 3.1); what falls off a component is found without looking at the rest, so that
    components nested in one another cost no more than others.
    """
    alive = graph.kept(keep)
    _drop_stranded(graph, alive)
    rows = (graph.indptr, graph.indices)
    parts = end_components.partition(graph.pair_states, rows, graph.by_state, graph.entering, alive)
    end_components.refine(parts)
    component = _by_first_state(parts.part, graph.count(alive) > 0)
    return EndComponents(frozen(component), frozen(alive), int(component.max(initial=-1)) + 1)


def closed_classes(graph: TransitionGraph, keep: AnyArray | None = None) -> ClosedClasses:
    """Find the closed classes of the union graph; with the pairs of one policy, its recurrent classes."""
    keep = graph.kept(keep)
    count, labels = strong_components(graph, keep)
    edges = keep[graph.edge_pairs]
    tails, heads = graph.edge_states[edges], graph.indices[edges]
    closed = np.zeros(count, dtype=np.bool_)
    closed[labels[graph.pair_states[keep]]] = True  # a state without a pair is no class
    closed[labels[tails[labels[tails] != labels[heads]]]] = False
    label = _by_first_state(labels, closed[labels])
    return ClosedClasses(frozen(label), frozen(_periods(graph, keep, label)))


def _periods(graph: TransitionGraph, keep: BoolArray, label: IntArray) -> IntArray:
    """Period of each class: the gcd of level(tail) + 1 − level(head) over its edges, levels counted from a root."""
    inside = keep & (label[graph.pair_states] >= 0)
    roots = np.unique(label, return_index=True)[1][int((label < 0).any()) :]
    level = np.full(graph.n_states, -1, dtype=np.int32)
    level[roots] = 0
    search.forward(*graph.by_state, graph.indptr, graph.indices, inside, level)
    edges = inside[graph.edge_pairs]
    tails, heads = graph.edge_states[edges], graph.indices[edges]
    periods = np.zeros(len(roots), dtype=np.int32)
    np.gcd.at(periods, label[tails], np.abs(level[tails] + 1 - level[heads]))
    return periods


def _drop_stranded(graph: TransitionGraph, alive: BoolArray) -> None:
    """Take away pairs that may lead to states without a pair, for as long as there are any."""
    left = graph.count(alive)
    search.attract(graph.pair_states, *graph.entering, alive, left, left == 0)


def _by_first_state(labels: AnyArray, wanted: BoolArray) -> IntArray:
    """Renumber labels [S] in the order in which they first appear among the wanted states; −1 for the others."""
    out = np.full(len(labels), -1, dtype=np.int32)
    _, first, inverse = np.unique(labels[wanted], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    out[wanted] = rank[inverse]
    return out

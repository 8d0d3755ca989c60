"""A total-reward question without its graph-theoretic traps.

States from which no policy can end well are taken out, and end components in which nothing is earned are
collapsed to one node: then every policy that is not proper loses (or wins) without end, as policy iteration
needs it (Bertsekas and Tsitsiklis 1991). One extra node stands for staying where nothing is earned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from scipy import sparse

from occlp._typing import BoolArray, FloatArray, IntArray, frozen
from occlp.chains.resolvent import closed_labels
from occlp.graph import (
    Quotient,
    TransitionGraph,
    certain_for_some,
    collapse,
    maximal_end_components,
    reachable,
    steps_to,
    transition_graph,
)
from occlp.standard import StandardForm
from occlp.total.form import TotalForm

_REDUCTIONS: WeakKeyDictionary[TotalForm, Reduction] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Reduction:
    """A reduced form, and the way back to the pairs and states of the question.

    Attributes
    ----------
    total : TotalForm
    quotient : Quotient
    kept : BoolArray [S]
        States from which some policy ends well almost surely; all others are worth −∞.
    usable : BoolArray [pairs]
        Pairs outside the goal that never leave the states kept.
    form : StandardForm
        Of the nodes: those of the quotient, and a last one for having stopped. Nodes of the goal, nodes taken
        out and the last one are loops.
    pairs : IntArray [pairs of the form]
        The question's pair; −1 for loops, −2 for stopping.
    fixed : BoolArray [nodes]
        Nodes where the process has ended; `ends` [nodes] are their values.
    """

    total: TotalForm
    quotient: Quotient
    kept: BoolArray  # [S]
    usable: BoolArray  # [pairs]
    form: StandardForm
    pairs: IntArray  # [pairs of the form]
    fixed: BoolArray  # [nodes]
    ends: FloatArray  # [nodes]

    @cached_property
    def graph(self) -> TransitionGraph:
        """Which nodes each pair of the form may lead to."""
        return transition_graph(self.form.states, self.form.transitions)

    @property
    def losing(self) -> BoolArray:
        """States of the initial distribution from which no policy ends well, [S]."""
        return ~self.kept & (self.total.base.initial > 0)

    @cached_property
    def proper_choice(self) -> IntArray:
        """A pair of the form for each node, [nodes], that leads to an end almost surely, by the fewest steps."""
        choice = steps_to(self.graph, self.fixed)[1].copy()
        loops = np.flatnonzero(self.pairs == -1)
        choice[self.form.states[loops]] = loops
        return choice

    def to_nodes(self, values: FloatArray) -> FloatArray:
        """Values of states, [S], as values of nodes: the largest of each node; those of the ends stay as they are."""
        out = np.full(self.form.n_states, -np.inf)
        usable = np.where(np.isfinite(values), values, -np.inf)
        np.maximum.at(out, self.quotient.nodes, usable)
        return np.where(self.fixed | ~np.isfinite(out), self.ends, out)

    def to_states(self, values: FloatArray) -> FloatArray:
        """Values of nodes as values of states, [S]; −∞ at the states taken out."""
        return np.where(self.kept, values[self.quotient.nodes], -np.inf)

    def lift(self, choice: IntArray) -> IntArray:
        """One pair of the question for each state, [S], from one pair of the form for each node.

        In the goal and in the states taken out any pair will do: the first, or one towards the goal.
        """
        total, quotient = self.total, self.quotient
        chosen = self.pairs[choice[: quotient.graph.n_states]]
        position = np.full(total.base.n_pairs, -1, dtype=np.int64)
        position[quotient.pairs] = np.arange(len(quotient.pairs))
        out = quotient.lift(np.where(chosen >= 0, position[np.maximum(chosen, 0)], -1))
        outside = out < 0
        towards = steps_to(total.graph, total.goal)[1] if total.goal.any() else np.full(len(out), -1)
        out[outside] = np.where(towards[outside] >= 0, towards[outside], total.base.start[:-1][outside])
        return out


def greedy(form: StandardForm, scores: FloatArray) -> IntArray:
    """The first best pair of each node, [nodes]."""
    first = form.start[:-1]
    best = np.flatnonzero(scores == np.maximum.reduceat(scores, first)[form.states])
    return best[np.searchsorted(best, first)].astype(np.int32)


def is_proper(reduction: Reduction, choice: IntArray) -> bool:
    """Whether a pair for each node leads to an end almost surely."""
    return not trap_of(reduction, choice).any()


def trap_of(reduction: Reduction, choice: IntArray) -> BoolArray:
    """The nodes [nodes] of classes that a pair for each node never leaves, ends aside."""
    labels, closed = closed_labels(reduction.form.transitions[choice])
    return np.asarray(closed[labels] & ~reduction.fixed)


def reduction_of(total: TotalForm) -> Reduction:
    """Return the reduction of a form; kept while the form lives."""
    found = _REDUCTIONS.get(total)
    if found is None:
        found = _REDUCTIONS[total] = reduce(total)
    return found


def priced_reduction(total: TotalForm, prices: FloatArray) -> Reduction:
    """The reduction of a form whose rewards are less the prices, [k], of its constraints, and that has none.

    What collapses depends on the prices: a circle that costs something may earn nothing.
    """
    limits = total.base.limits
    if not limits.names:
        return reduction_of(total)
    none = limits.subset(np.zeros(0, dtype=np.int32))
    base = replace(total.base, rewards=frozen(total.base.rewards - prices @ limits.rows), limits=none)
    return reduce(replace(total, base=base))


def reduce(total: TotalForm, *, stop_anywhere: bool = False) -> Reduction:
    """Take out states that cannot end well and collapse what earns nothing.

    With `stop_anywhere`, a policy may end in every end component, whatever is earned there: what improves
    without end on this reduction is worth +∞ in the question itself.
    """
    graph, goal = total.graph, total.goal
    live = ~goal[total.base.states]
    live &= _relevant(total, live)[total.base.states]
    stops = np.zeros_like(goal)
    if not total.proper:  # staying for ever where nothing is earned is an end as well
        stops = maximal_end_components(graph, live if stop_anywhere else total.free & live).component >= 0
    kept = certain_for_some(graph, goal | stops, live)
    usable = live & kept[total.base.states] & graph.every(kept)
    components = maximal_end_components(graph, usable & total.free)
    return _reduction(total, collapse(graph, components, usable), kept, usable, stops)


def _relevant(total: TotalForm, live: BoolArray) -> BoolArray:
    """All states, [S], unless some that cannot be reached from the start may earn without end."""
    graph, everything = total.graph, np.ones_like(total.goal)
    reached = reachable(graph, total.base.initial > 0, live)
    if reached.all():
        return everything
    components = maximal_end_components(graph, live & ~reached[total.base.states])
    return reached if (total.base.rewards[components.pairs] > 0).any() else everything


def _reduction(total: TotalForm, quotient: Quotient, kept: BoolArray, usable: BoolArray, stops: BoolArray) -> Reduction:
    base, nodes = total.base, quotient.nodes
    n_nodes = quotient.graph.n_states
    fixed = np.zeros(n_nodes + 1, dtype=np.bool_)
    fixed[nodes[total.goal | ~kept]] = True
    fixed[n_nodes] = True
    ends = np.zeros(n_nodes + 1)
    ends[nodes[total.goal]] = total.boundary
    stopping = np.zeros(n_nodes + 1, dtype=np.bool_)
    stopping[nodes[stops]] = True
    stopping &= ~fixed
    loops, ended = np.flatnonzero(fixed), np.flatnonzero(stopping)
    owner = np.concatenate([quotient.graph.pair_states, loops, ended])
    origin = np.concatenate([quotient.pairs, np.full(len(loops), -1), np.full(len(ended), -2)])
    order = np.argsort(owner, kind="stable")
    heads = np.concatenate([loops, np.full(len(ended), n_nodes)])
    ones = np.ones(len(heads))
    moves = quotient.transitions(base.transitions)
    last = sparse.csr_array((moves.shape[0], 1))
    tails = sparse.csr_array((ones, (np.arange(len(heads)), heads)), shape=(len(heads), n_nodes + 1))
    transitions = sparse.csr_array(sparse.vstack([sparse.hstack([moves, last]), tails], format="csr")[order])
    blank = np.zeros(len(heads))
    rows = np.hstack([base.limits.rows[:, quotient.pairs], np.zeros((len(base.limits.names), len(heads)))])
    form = replace(
        base,
        start=np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n_nodes + 1))]).astype(np.int32),
        states=frozen(owner[order].astype(np.int32)),
        transitions=_narrow(transitions),
        rewards=frozen(np.concatenate([base.rewards[quotient.pairs], blank])[order]),
        initial=_initial(base.initial, nodes, n_nodes),
        limits=replace(base.limits, rows=frozen(rows[:, order])),
    )
    return Reduction(total, quotient, kept, usable, form, frozen(origin[order]), fixed, ends)


def _initial(initial: FloatArray, nodes: IntArray, n_nodes: int) -> FloatArray:
    return frozen(np.bincount(nodes, weights=initial, minlength=n_nodes + 1))


def _narrow(matrix: Any) -> Any:
    """Indices of one width, sorted, as kernels expect them."""
    matrix.sum_duplicates()
    matrix.sort_indices()
    matrix.indices = matrix.indices.astype(np.int32, copy=False)
    matrix.indptr = matrix.indptr.astype(np.int32, copy=False)
    return matrix

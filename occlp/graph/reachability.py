"""Reachability without numbers: where a goal can, must, may surely or will surely be reached.

De Alfaro, Formal Verification of Probabilistic Systems (1997), chapter 3; Forejt, Kwiatkowska, Norman and
Parker, Automated verification techniques for probabilistic systems (2011), algorithms 1-4, where the
complements of the first two are called Prob0A and Prob0E, the others Prob1E and Prob1A. In every function
`goal` is a mask [S] or indices of states, and `keep` a mask of the pairs that policies may use (None: all).
A state without a kept pair stops there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from occlp._typing import AnyArray, BoolArray, IntArray
from occlp.graph.collapse import collapse
from occlp.graph.components import maximal_end_components
from occlp.graph.edges import TransitionGraph
from occlp.kernels import search


def reachable(graph: TransitionGraph, start: Any, keep: AnyArray | None = None) -> BoolArray:
    """States [S] that some policy reaches with positive probability from any of the states `start`."""
    return steps_from(graph, start, keep) >= 0


def steps_from(graph: TransitionGraph, start: Any, keep: AnyArray | None = None) -> IntArray:
    """Least number of steps [S] from the states `start`; −1 where there is no way."""
    level = _levels(graph, start)
    search.forward(*graph.by_state, graph.indptr, graph.indices, graph.kept(keep), level)
    return level


def steps_to(graph: TransitionGraph, goal: Any, keep: AnyArray | None = None) -> tuple[IntArray, IntArray]:
    """Least number of steps [S] to the goal (−1 where there is no way) and a pair [S] that takes the first.

    The pair is −1 in the goal and where there is no way.
    """
    level = _levels(graph, goal)
    choice = np.full(graph.n_states, -1, dtype=np.int32)
    search.backward(graph.pair_states, *graph.entering, graph.kept(keep), level, choice)
    return level, choice


def positive_for_some(graph: TransitionGraph, goal: Any, keep: AnyArray | None = None) -> BoolArray:
    """States [S] from which some policy reaches the goal with positive probability (not in Prob0A)."""
    return steps_to(graph, goal, keep)[0] >= 0


def positive_for_all(graph: TransitionGraph, goal: Any, keep: AnyArray | None = None) -> BoolArray:
    """States [S] from which every policy reaches the goal with positive probability (not in Prob0E).

    From all others a policy avoids the goal for ever.
    """
    caught, _ = _attracted(graph, graph.marked(goal), graph.kept(keep))
    return caught


def certain_for_all(graph: TransitionGraph, goal: Any, keep: AnyArray | None = None) -> BoolArray:
    """States [S] from which every policy reaches the goal with probability one (Prob1A)."""
    goal, keep = graph.marked(goal), graph.kept(keep)
    avoiding = ~positive_for_all(graph, goal, keep)
    keep &= ~goal[graph.pair_states]  # a policy that has been at the goal has reached it
    return ~positive_for_some(graph, avoiding, keep)


def certain_for_some(graph: TransitionGraph, goal: Any, keep: AnyArray | None = None) -> BoolArray:
    """States [S] from which some policy reaches the goal with probability one (Prob1E)."""
    return _certain(graph, graph.marked(goal), graph.kept(keep))[0]


def proper_choice(graph: TransitionGraph, goal: Any, keep: AnyArray | None = None) -> IntArray:
    """Pairs [S] of a policy that reaches the goal with probability one wherever some policy does.

    Each pair stays among those states and may lead one step nearer to the goal. It is −1 in the goal and
    in the states from which no policy is certain to arrive.
    """
    goal = graph.marked(goal)
    certain, safe = _certain(graph, goal, graph.kept(keep))
    return steps_to(graph, goal & certain, safe)[1]


def _certain(graph: TransitionGraph, goal: BoolArray, keep: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Prob1E and the kept pairs that never leave it, both as masks.

    Once maximal end components are collapsed, every policy ends in the goal or in a node without a way on, so
    that certain arrival only asks to avoid the latter: one attractor instead of nested fixpoints.
    """
    usable = keep & ~goal[graph.pair_states]
    components = maximal_end_components(graph, usable)
    quotient = collapse(graph, components, usable)
    arrived = np.zeros(quotient.graph.n_states, dtype=np.bool_)
    arrived[quotient.nodes[goal]] = True
    everything = np.ones(quotient.graph.n_pairs, dtype=np.bool_)
    stuck = ~arrived & (quotient.graph.count(everything) == 0)
    lost, _ = _attracted(quotient.graph, stuck, everything)
    certain = ~lost[quotient.nodes]
    return certain, usable & graph.every(certain)


def _attracted(graph: TransitionGraph, seeds: BoolArray, keep: BoolArray) -> tuple[BoolArray, BoolArray]:
    """States that cannot avoid the seeds, and the kept pairs that avoid those states; its arguments are used up."""
    left = graph.count(keep)
    search.attract(graph.pair_states, *graph.entering, keep, left, seeds)
    return seeds, keep


def _levels(graph: TransitionGraph, states: Any) -> IntArray:
    return np.where(graph.marked(states), 0, -1).astype(np.int32)

"""The class of a model: what its policies have in common in the long run (Puterman 1994, sections 8.3 and 9.5).

Two questions have quick answers: a model is communicating if its union graph is strongly connected, and
weakly communicating if it has exactly one maximal end component (all else is then transient under every
policy). Whether every policy has one recurrent class is NP-hard to decide (Tsitsiklis, Operations Research
Letters 35, 2007): two disjoint end components refute it, a state that no policy avoids proves it (Feinberg
and Yang, Operations Research Letters 36, 2008), and where neither is found the answer is None.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occlp._typing import AnyArray, BoolArray
from occlp.graph.components import EndComponents, maximal_end_components, strong_components
from occlp.graph.edges import TransitionGraph
from occlp.graph.reachability import positive_for_all

#: Edges that may be looked at in search of a state that no policy avoids, and the least number of states tried.
EDGE_BUDGET = 5_000_000
LEAST_TRIES = 4


@dataclass(frozen=True)
class ChainClass:
    """What is known about the chains of all policies of a model.

    Attributes
    ----------
    communicating : bool
        Some policy leads from any state to any other.
    weakly_communicating : bool
        So in one closed set, and every policy leaves all other states for good.
    unichain : bool or None
        Every policy has one recurrent class; None if that could not be decided.
    recurrent : bool or None
        Every policy has one recurrent class, of all states; None if that could not be decided.
    """

    communicating: bool
    weakly_communicating: bool
    unichain: bool | None
    recurrent: bool | None

    @property
    def name(self) -> str:
        """The narrowest class that is known: recurrent, unichain, communicating, weakly communicating or multichain."""
        if self.recurrent:
            return "recurrent"
        if self.unichain:
            return "unichain"
        if self.communicating:
            return "communicating"
        return "weakly communicating" if self.weakly_communicating else "multichain"


def classify(graph: TransitionGraph, components: EndComponents | None = None) -> ChainClass:
    """Find the class of a model from its graph (and its maximal end components, where they are known)."""
    components = maximal_end_components(graph) if components is None else components
    weakly = components.count == 1
    communicating = weakly and strong_components(graph)[0] == 1
    if not weakly:
        return ChainClass(communicating, weakly, False, False)
    states = np.flatnonzero(components.component >= 0)
    unichain, unavoidable = _unichain(graph, components, _tried(graph, states))
    recurrent: bool | None = None
    if unichain is False or not communicating or not unavoidable.all():
        recurrent = False
    elif len(unavoidable) == len(states):
        recurrent = True
    return ChainClass(communicating, weakly, unichain, recurrent)


def _unichain(graph: TransitionGraph, components: EndComponents, tried: AnyArray) -> tuple[bool | None, BoolArray]:
    """Whether there are no disjoint end components, and which of the states tried no policy avoids (as far as seen)."""
    inside = components.component >= 0
    unavoidable: list[bool] = []
    found: bool | None = None
    for state in tried:
        avoiding = inside & ~positive_for_all(graph, [state], components.pairs)
        unavoidable.append(not avoiding.any())
        if unavoidable[-1]:
            found = True
        elif found is None:
            found = False if _has_disjoint(graph, components, avoiding) else None
        if found is not None and not all(unavoidable):
            break
    return found, np.array(unavoidable)


def _has_disjoint(graph: TransitionGraph, components: EndComponents, avoiding: BoolArray) -> bool:
    """Whether an end component among the states `avoiding` has another one beside it."""
    smaller = maximal_end_components(graph, components.pairs & graph.every(avoiding) & avoiding[graph.pair_states])
    if smaller.count > 1:
        return True
    met = positive_for_all(graph, smaller.component >= 0, components.pairs)
    return bool(((components.component >= 0) & ~met).any())


def _tried(graph: TransitionGraph, states: AnyArray) -> AnyArray:
    """States to try, those that most pairs lead to first; as many as the budget allows."""
    tries = max(LEAST_TRIES, EDGE_BUDGET // max(1, len(graph.indices)))
    entering = np.bincount(graph.indices, minlength=graph.n_states)[states]
    return states[np.argsort(-entering, kind="stable")][:tries]

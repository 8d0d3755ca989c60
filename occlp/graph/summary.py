"""The structure of a model in the words of its labels."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from occlp._typing import AnyArray, BoolArray, IntArray, frozen
from occlp.errors import InvalidProblem
from occlp.graph import components, reachability
from occlp.graph.classification import ChainClass, classify
from occlp.graph.edges import TransitionGraph, graph_of, grouped
from occlp.model import MDP, Pairs

if TYPE_CHECKING:
    from occlp.policy import Policy


@dataclass(frozen=True)
class EndComponent:
    """A set of states that a policy can stay in for ever, visiting all of it.

    Attributes
    ----------
    states : tuple
        Labels of its states.
    pairs : tuple of (state, action)
        The choices that never leave it.
    closed : bool
        Whether nothing leads out: all actions of its states are among `pairs`.
    """

    states: tuple[Hashable, ...]
    pairs: tuple[tuple[Hashable, Hashable], ...]
    closed: bool


@dataclass(frozen=True)
class RecurrentClass:
    """A closed class of states of the chain of one policy.

    Attributes
    ----------
    states : tuple
        Labels of its states.
    period : int
        Returns to a state take multiples of this many steps; 1 is aperiodic.
    """

    states: tuple[Hashable, ...]
    period: int


@dataclass(frozen=True, eq=False)
class GoalStructure:
    """From where a goal is reached, by some or by all policies; masks [S] that include the goal.

    Attributes
    ----------
    goal : BoolArray [S]
    positive_for_some : BoolArray [S]
        Some policy reaches it with positive probability. All other states are dead ends.
    positive_for_all : BoolArray [S]
        Every policy reaches it with positive probability; from other states it can be avoided for ever.
    certain_for_some : BoolArray [S]
        Some policy reaches it with probability one.
    certain_for_all : BoolArray [S]
        Every policy reaches it with probability one.
    """

    goal: BoolArray  # [S]
    positive_for_some: BoolArray  # [S]
    positive_for_all: BoolArray  # [S]
    certain_for_some: BoolArray  # [S]
    certain_for_all: BoolArray  # [S]


@dataclass(frozen=True, eq=False)
class Structure:
    """The graph structure of a model: counts, masks and labels, lists of labels on demand.

    Attributes
    ----------
    pairs : Pairs
        The index of pairs, with labels.
    component : IntArray [S]
        Strongly connected component of each state in the union graph of all actions.
    end_component : IntArray [S]
        Maximal end component of each state; −1 for states that every policy leaves for good.
    end_component_pairs : BoolArray [pairs]
        Pairs inside the maximal end components.
    reachable : BoolArray [S]
        States that some policy reaches from the initial distribution.
    absorbing : BoolArray [S]
        States that no action leaves.
    chains : ChainClass
        ``communicating``, ``weakly_communicating``, ``unichain`` and ``recurrent``; the last two are None where
        undecided.
    goal : GoalStructure or None
        From where the goal is reached, if one was given.
    """

    pairs: Pairs
    component: IntArray  # [S]
    end_component: IntArray  # [S]
    end_component_pairs: BoolArray  # [pairs]
    reachable: BoolArray  # [S]
    absorbing: BoolArray  # [S]
    chains: ChainClass
    goal: GoalStructure | None = None

    @property
    def classification(self) -> str:
        """The narrowest class known: recurrent, unichain, communicating, weakly communicating or multichain."""
        return self.chains.name

    @property
    def n_strongly_connected_components(self) -> int:
        """Number of strongly connected components of the union graph, single states included."""
        return int(self.component.max()) + 1

    @property
    def n_maximal_end_components(self) -> int:
        """Number of maximal end components."""
        return int(self.end_component.max()) + 1

    @cached_property
    def strongly_connected_components(self) -> tuple[tuple[Hashable, ...], ...]:
        """States that lead to each other, class by class."""
        return _classes(self.pairs, self.component)

    @cached_property
    def maximal_end_components(self) -> tuple[EndComponent, ...]:
        """Where a policy can stay for ever: the largest such sets, with the choices that stay."""
        inside = np.flatnonzero(self.end_component_pairs)
        owners = self.end_component[self.pairs.states]
        start, order = grouped(owners[inside], self.n_maximal_end_components)
        every = np.bincount(owners[owners >= 0], minlength=self.n_maximal_end_components)
        found = []
        for i, states in enumerate(_classes(self.pairs, self.end_component)):
            listed = inside[order[start[i] : start[i + 1]]]
            found.append(EndComponent(states, tuple(map(self._pair, listed)), bool(len(listed) == every[i])))
        return tuple(found)

    @property
    def absorbing_states(self) -> tuple[Hashable, ...]:
        """States that no action leaves."""
        return _labels(self.pairs, self.absorbing)

    @property
    def unreachable_states(self) -> tuple[Hashable, ...]:
        """States that no policy reaches from the initial distribution."""
        return _labels(self.pairs, ~self.reachable)

    @property
    def transient_states(self) -> tuple[Hashable, ...]:
        """States outside all end components: every policy leaves them for good."""
        return _labels(self.pairs, self.end_component < 0)

    @property
    def dead_ends(self) -> tuple[Hashable, ...]:
        """States from which no policy reaches the goal; raises `InvalidProblem` without a goal."""
        if self.goal is None:
            raise InvalidProblem(
                "dead ends are states from which a goal cannot be reached: oc.structure(mdp, goal=...)."
            )
        return _labels(self.pairs, ~self.goal.positive_for_some)

    def _pair(self, pair: int) -> tuple[Hashable, Hashable]:
        pairs = self.pairs
        return pairs.state_name(int(pairs.states[pair])), pairs.action_name(int(pairs.actions[pair]))


def structure(mdp: MDP, *, goal: Any = None) -> Structure:
    """Find the graph structure of a model: components, absorbing states, class, and what concerns a goal.

    Only which probabilities are positive matters. Takes time proportional to the number of transitions, up to
    rare nested models.

    Parameters
    ----------
    mdp : MDP
    goal : state label or several, optional
        States to be reached; they count as reached whatever happens afterwards.

    Returns
    -------
    Structure

    Raises
    ------
    InvalidProblem
        For an unknown or an empty goal.

    Examples
    --------
    >>> import occlp as oc
    >>> found = oc.structure(oc.instances.get("howard-taxicab"))
    >>> found.classification, found.n_maximal_end_components
    ('recurrent', 1)

    Notes
    -----
    Puterman, Markov Decision Processes (1994), section 8.3, for the classes; de Alfaro, Formal Verification of
    Probabilistic Systems (1997), for end components and reachability.
    """
    graph = graph_of(mdp)
    ends = components.maximal_end_components(graph)
    return Structure(
        pairs=mdp.pairs,
        component=frozen(components.strong_components(graph)[1]),
        end_component=ends.component,
        end_component_pairs=ends.pairs,
        reachable=frozen(reachability.reachable(graph, mdp.initial > 0)),
        absorbing=frozen(absorbing_states(graph)),
        chains=classify(graph, ends),
        goal=None if goal is None else _goal_structure(graph, _goal_states(mdp.pairs, goal)),
    )


def recurrent_classes(mdp: MDP, policy: Policy) -> tuple[RecurrentClass, ...]:
    """Find the recurrent classes of a policy's chain, with their periods.

    Parameters
    ----------
    mdp : MDP
    policy : Policy
        A policy of this model; where it randomises, all its actions count.

    Returns
    -------
    tuple of RecurrentClass
        States in none of them are transient under the policy.

    Raises
    ------
    InvalidProblem
        If the policy belongs to another model.

    Examples
    --------
    >>> import occlp as oc
    >>> swap = oc.MDP.from_arrays([[[0, 1]], [[1, 0]]], [0, 1])
    >>> oc.recurrent_classes(swap, oc.Policy.uniform(swap))
    (RecurrentClass(states=(0, 1), period=2),)
    """
    if not mdp.pairs.same_as(policy.pairs):
        raise InvalidProblem("the policy belongs to a model with other states or actions.")
    found = components.closed_classes(graph_of(mdp), policy.pair_probabilities > 0)
    classes = _classes(mdp.pairs, found.label)
    return tuple(map(RecurrentClass, classes, found.periods.tolist()))


def absorbing_states(graph: TransitionGraph) -> BoolArray:
    """States [S] that no pair leaves."""
    out = np.ones(graph.n_states, dtype=np.bool_)
    out[graph.edge_states[graph.edge_states != graph.indices]] = False
    return out


def _goal_states(pairs: Pairs, goal: Any) -> BoolArray:
    mask = np.zeros(pairs.n_states, dtype=np.bool_)
    mask[pairs.states[pairs.select(states=goal)]] = True
    if not mask.any():
        raise InvalidProblem("goal= names no state. Give the label of at least one.")
    return mask


def _goal_structure(graph: TransitionGraph, goal: BoolArray) -> GoalStructure:
    return GoalStructure(
        goal=frozen(goal),
        positive_for_some=frozen(reachability.positive_for_some(graph, goal)),
        positive_for_all=frozen(reachability.positive_for_all(graph, goal)),
        certain_for_some=frozen(reachability.certain_for_some(graph, goal)),
        certain_for_all=frozen(reachability.certain_for_all(graph, goal)),
    )


def _labels(pairs: Pairs, mask: AnyArray) -> tuple[Hashable, ...]:
    return tuple(pairs.state_name(int(s)) for s in np.flatnonzero(mask))


def _classes(pairs: Pairs, numbers: IntArray) -> tuple[tuple[Hashable, ...], ...]:
    """Labels of the states of each number from 0 on."""
    states = np.flatnonzero(numbers >= 0)
    start, order = grouped(numbers[states], int(numbers.max(initial=-1)) + 1)
    names = [pairs.state_name(int(s)) for s in states[order]]
    return tuple(tuple(names[first:last]) for first, last in pairwise(start.tolist()))

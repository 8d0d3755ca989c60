"""The graph structure of models: components, classes, reachability, and collapsing.

Only which probabilities are positive matters here. Solvers use the functions on a `TransitionGraph` (built from
pair states and a sparse matrix of pairs) with masks of pairs; `structure` speaks in the labels of a model.
"""

from occlp.graph.classification import ChainClass, classify
from occlp.graph.collapse import Quotient, collapse
from occlp.graph.components import (
    ClosedClasses,
    EndComponents,
    closed_classes,
    maximal_end_components,
    strong_components,
)
from occlp.graph.edges import TransitionGraph, graph_of, transition_graph
from occlp.graph.reachability import (
    certain_for_all,
    certain_for_some,
    positive_for_all,
    positive_for_some,
    proper_choice,
    reachable,
    steps_from,
    steps_to,
)
from occlp.graph.summary import (
    EndComponent,
    GoalStructure,
    RecurrentClass,
    Structure,
    absorbing_states,
    recurrent_classes,
    structure,
)

__all__ = [
    "ChainClass",
    "ClosedClasses",
    "EndComponent",
    "EndComponents",
    "GoalStructure",
    "Quotient",
    "RecurrentClass",
    "Structure",
    "TransitionGraph",
    "absorbing_states",
    "certain_for_all",
    "certain_for_some",
    "classify",
    "closed_classes",
    "collapse",
    "graph_of",
    "maximal_end_components",
    "positive_for_all",
    "positive_for_some",
    "proper_choice",
    "reachable",
    "recurrent_classes",
    "steps_from",
    "steps_to",
    "strong_components",
    "structure",
    "transition_graph",
]

"""What the audit needs to know of graphs: where a policy leads, what can be reached, where a process can stay.

Only which probabilities are positive counts here, so nothing is rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

if TYPE_CHECKING:
    from occlp.policy import Policy
    from occlp.problem import Problem


def is_proper(problem: Problem) -> bool:
    """Whether the question is a total whose goal must be reached almost surely."""
    return problem.goal is not None and problem.objective == "reward"


def leads_into(mdp: Any, mask: Any) -> Any:
    """Pairs that may lead to one of the states, [pairs]."""
    matrix = mdp.transitions
    hits = mask[matrix.indices] & (matrix.data > 0)
    return np.add.reduceat(hits.astype(np.int64), matrix.indptr[:-1]) > 0


def chain_of(problem: Problem, policy: Policy) -> tuple[Any, Any, Any]:
    """Transitions of the policy, where the goal is never left; strong components and which are closed."""
    mdp = problem.mdp
    kernel = sparse.csr_array(
        (policy.pair_probabilities, (mdp.pairs.states, np.arange(mdp.n_pairs))), shape=(mdp.n_states, mdp.n_pairs)
    )
    stop = sparse.diags_array(problem.goal_states.astype(float))
    go = sparse.diags_array((~problem.goal_states).astype(float))
    chain = sparse.csr_array(go @ (kernel @ mdp.transitions) + stop)
    chain.eliminate_zeros()
    count, labels = csgraph.connected_components(chain, directed=True, connection="strong")
    coo = sparse.coo_array(chain)
    closed = np.ones(count, dtype=np.bool_)
    closed[labels[coo.row[labels[coo.row] != labels[coo.col]]]] = False
    return chain, labels, closed


def reached_from(chain: Any, start: Any) -> Any:
    """States, [S], that a chain reaches from some states: breadth first, from one node before all of them."""
    size, reached = chain.shape[0], np.zeros(chain.shape[0] + 1, dtype=np.bool_)
    edges = sparse.coo_array(chain)
    kept, first = edges.data > 0, np.flatnonzero(start)
    tails = np.concatenate([edges.row[kept], np.full(len(first), size)])
    heads = np.concatenate([edges.col[kept], first])
    graph = sparse.csr_array((np.ones(len(tails)), (tails, heads)), shape=(size + 1, size + 1))
    reached[csgraph.breadth_first_order(graph, size, return_predecessors=False)] = True
    return reached[:size]


def forward(mdp: Any, start: Any, usable: Any) -> Any:
    """States that some policy reaches from the start by the pairs given, [S]."""
    return reached_from(_edges(mdp, usable), start)


def _edges(mdp: Any, usable: Any) -> Any:
    """Which states the pairs given lead to, [S, S], sparse."""
    rows = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.transitions.indptr))
    edges = usable[rows] & (mdp.transitions.data > 0)
    ends = (mdp.pairs.states[rows[edges]], mdp.transitions.indices[edges])
    return sparse.csr_array((np.ones(int(edges.sum())), ends), shape=(mdp.n_states, mdp.n_states))


def leads_to(mdp: Any, ends: Any, pairs: Any) -> Any:
    """States, [S], from which some of the pairs (a mask or a list) lead to the ends."""
    kept = np.zeros(mdp.n_pairs, dtype=np.bool_)
    kept[pairs] = True
    return reached_from(_edges(mdp, kept).T, ends)


def certain_to_reach(mdp: Any, ends: Any, usable: Any) -> Any:
    """States, [S], from which some policy that keeps to the pairs given reaches the ends almost surely.

    The greatest set from which the ends can be approached without leaving it.
    """
    certain = np.ones(mdp.n_states, dtype=np.bool_)
    while True:
        inside = usable & certain[mdp.pairs.states] & ~leads_into(mdp, ~certain)
        reach = leads_to(mdp, ends & certain, inside)
        if (reach == certain).all():
            return certain
        certain = reach


def idle_for_ever(mdp: Any, idle: Any) -> Any:
    """States, [S], from which every policy takes pairs of the mask only, for ever."""
    busy = np.zeros(mdp.n_states, dtype=np.bool_)
    busy[mdp.pairs.states[~idle]] = True
    return ~leads_to(mdp, busy, np.ones(mdp.n_pairs, dtype=np.bool_))


def end_components(mdp: Any, usable: Any) -> Any:
    """States inside the maximal end components of some pairs, [S]."""
    states, usable = mdp.pairs.states, np.asarray(usable).copy()
    rows = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.transitions.indptr))
    while True:
        labels = csgraph.connected_components(_edges(mdp, usable), directed=True, connection="strong")[1]
        alive = np.zeros(mdp.n_states, dtype=np.bool_)
        alive[states[usable]] = True
        astray = (labels[mdp.transitions.indices] != labels[states[rows]]) | ~alive[mdp.transitions.indices]
        astray &= mdp.transitions.data > 0
        leaves = np.add.reduceat(astray.astype(np.int64), mdp.transitions.indptr[:-1]) > 0
        if not (usable & leaves).any():
            return alive
        usable &= ~leaves

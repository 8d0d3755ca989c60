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
    """States, [S], that a chain reaches from some states."""
    reached = np.asarray(start).copy()
    while True:
        more = reached | (np.asarray(chain.T @ reached.astype(float)).ravel() > 0)
        if (more == reached).all():
            return reached
        reached = more


def forward(mdp: Any, start: Any, usable: Any) -> Any:
    """States that some policy reaches from the start by the pairs given, [S]."""
    rows = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.transitions.indptr))
    edges = usable[rows] & (mdp.transitions.data > 0)
    shape = (mdp.n_states, mdp.n_states)
    ends = (mdp.pairs.states[rows[edges]], mdp.transitions.indices[edges])
    return reached_from(sparse.csr_array((np.ones(int(edges.sum())), ends), shape=shape), start)


def leads_to(mdp: Any, ends: Any, pairs: list[int]) -> Any:
    """States, [S], from which some of the pairs lead to the ends."""
    found, kept = np.asarray(ends).copy(), np.zeros(mdp.n_pairs, dtype=np.bool_)
    kept[pairs] = True
    while True:
        more = found.copy()
        more[mdp.pairs.states[kept & leads_into(mdp, found)]] = True
        if (more == found).all():
            return found
        found = more


def certain_to_reach(mdp: Any, ends: Any, usable: Any) -> Any:
    """States, [S], from which some policy that keeps to the pairs given reaches the ends almost surely.

    The greatest set from which the ends can be approached without leaving it.
    """
    states, certain = mdp.pairs.states, np.ones(mdp.n_states, dtype=np.bool_)
    while True:
        inside = usable & certain[states] & ~leads_into(mdp, ~certain)
        reach = ends & certain
        while True:
            more = reach.copy()
            more[states[inside & leads_into(mdp, reach)]] = True
            if (more == reach).all():
                break
            reach = more
        if (reach == certain).all():
            return certain
        certain = reach


def idle_for_ever(mdp: Any, idle: Any) -> Any:
    """States, [S], from which every policy takes pairs of the mask only, for ever."""
    states, found = mdp.pairs.states, np.ones(mdp.n_states, dtype=np.bool_)
    while True:
        fewer = found.copy()
        fewer[states[~idle | leads_into(mdp, ~found)]] = False
        if (fewer == found).all():
            return found
        found = fewer


def end_components(mdp: Any, usable: Any) -> Any:
    """States inside the maximal end components of some pairs, [S]."""
    states, usable = mdp.pairs.states, np.asarray(usable).copy()
    rows = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.transitions.indptr))
    while True:
        edges = usable[rows] & (mdp.transitions.data > 0)
        ends = (states[rows[edges]], mdp.transitions.indices[edges])
        graph = sparse.csr_array((np.ones(len(ends[0])), ends), shape=(mdp.n_states, mdp.n_states))
        labels = csgraph.connected_components(graph, directed=True, connection="strong")[1]
        alive = np.zeros(mdp.n_states, dtype=np.bool_)
        alive[states[usable]] = True
        astray = (labels[mdp.transitions.indices] != labels[states[rows]]) | ~alive[mdp.transitions.indices]
        astray &= mdp.transitions.data > 0
        leaves = np.add.reduceat(astray.astype(np.int64), mdp.transitions.indptr[:-1]) > 0
        if not (usable & leaves).any():
            return alive
        usable &= ~leaves

"""The way towards an optimal policy of many nodes, before the first exact evaluation.

Without circles one improvement in place is all, the nodes taken after those that they lead to. Else rounds evaluate a
policy to a digit or so, with iterations on two levels, and improve it in place, there and back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csgraph

from occlp._typing import FloatArray, IntArray
from occlp.chains.aggregation import Aggregation, Stalled
from occlp.chains.resolvent import closed_labels
from occlp.chains.sweeps import rows_of
from occlp.graph import TransitionGraph, steps_to, transition_graph
from occlp.kernels import backup
from occlp.residuals import improve
from occlp.total.reduction import Reduction
from occlp.work import count_transitions

#: Most rounds, and improvements in place of each.
ROUNDS, PASSES = 100, 4
#: By how much an evaluation makes the residual smaller.
REDUCTION = 0.03
#: Evaluations that may stall.
MOST_STALLED = 2
#: Moves at least so likely, beside the likeliest of a state, make the way of the first policy.
LIKELY = 0.5


def approach(
    reduction: Reduction, rewards: FloatArray, choice: IntArray | None = None, start: FloatArray | None = None
) -> tuple[FloatArray, IntArray]:
    """Values and a proper choice near the optimum, [nodes] each.

    Parameters
    ----------
    reduction : Reduction
    rewards : FloatArray [pairs of the form]
    choice : IntArray [nodes], optional
        A proper policy to begin with.
    start : FloatArray [nodes], optional
        Values to begin with.
    """
    form = reduction.form
    values = np.where(reduction.fixed, reduction.ends, 0.0 if start is None else start)
    order, circles = _order(reduction.graph)
    matrix = form.transitions
    if choice is None:
        choice = first_choice(reduction) if circles else reduction.proper_choice
    moves = matrix[choice] if circles else None
    rows = (form.start, matrix.indptr, matrix.indices, matrix.data, rewards, 1.0, 0.0)
    ways = (order, order[::-1].copy()) if circles else (order,)
    steps, stalled = backup.sojourns(*rows[:4], 1.0, 0.0), 0
    for _ in range(ROUNDS):
        if circles:
            try:
                values += _correction(reduction, rewards[choice], moves, values)
            except Stalled:
                stalled += 1
        greedy = choice.copy()
        for turn in range(PASSES if circles else 1):
            count_transitions(matrix.nnz)
            if not backup.improve_in_place(ways[turn % 2], *rows, steps, values, greedy):
                break
        known, (best, found) = choice, improve(form, values, rewards)
        if not np.isfinite(best).all():
            return np.where(reduction.fixed, reduction.ends, 0.0), known
        choice, moves = _proper(reduction, found, known)
        if stalled > MOST_STALLED or np.array_equal(choice, known):
            break
    return values, choice


def _correction(reduction: Reduction, rewards: FloatArray, moves: Any, values: FloatArray) -> FloatArray:
    """What brings the values of a proper policy nearer to its own, [nodes]; 0 where the process has ended.

    The policy is given by its rewards [nodes] and its moves, a csr_array [nodes, nodes].
    """
    rho, rows = np.empty(len(values)), rows_of(moves)
    count_transitions(moves.nnz)
    everywhere = np.arange(len(values), dtype=np.int32)
    backup.policy_sweep(0, len(values), everywhere, *rows, rewards, 1.0, 0.0, values, rho)
    return Aggregation(rows, reduction.fixed.astype(np.float64), discount=1.0).columns(rho, reduction=REDUCTION)


def _order(graph: TransitionGraph) -> tuple[IntArray, bool]:
    """Order of the nodes, [nodes], those first to which others lead; and whether there are circles, loops aside."""
    moves = graph.adjacency(np.ones(graph.n_pairs, dtype=np.bool_))
    count, labels = csgraph.connected_components(moves, directed=True, connection="strong")
    onward = bool((labels[graph.edge_states] <= labels[graph.indices]).all())
    order = np.argsort(-labels.astype(np.int64) if onward else labels, kind="stable")
    return order.astype(np.int32), count < graph.n_states


def first_choice(reduction: Reduction) -> IntArray:
    """A proper choice, [nodes], that comes to an end by the fewest likely moves, where such lead there."""
    form, known = reduction.form, reduction.proper_choice
    moves = form.transitions.copy()
    rows = np.repeat(np.arange(form.n_pairs), np.diff(moves.indptr))
    moves.data[moves.indices == form.states[rows]] = 0.0
    likeliest = np.maximum.reduceat(moves.data, moves.indptr[form.start[:-1]])[form.states[rows]]
    moves.data[:] = moves.data >= LIKELY * likeliest
    pairs = np.flatnonzero(np.maximum.reduceat(moves.data, moves.indptr[:-1]))
    found = steps_to(transition_graph(form.states[pairs], moves[pairs]), reduction.fixed)[1]
    return _proper(reduction, np.where(found >= 0, pairs[found], known).astype(np.int32), known)[0]


def _proper(reduction: Reduction, choice: IntArray, known: IntArray) -> tuple[IntArray, Any]:
    """The choice, with the pairs of a known proper one in classes that it would never leave; and its moves."""
    matrix: Any = reduction.form.transitions
    while True:
        moves = matrix[choice]
        labels, closed = closed_labels(moves)
        trap = closed[labels] & ~reduction.fixed & (choice != known)
        if not trap.any():
            return choice, moves
        choice = np.where(trap, known, choice).astype(np.int32)

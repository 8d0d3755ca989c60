"""From visits to a stationary policy, also where visits pass through collapsed end components."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, FloatArray, IntArray
from occlp.total.reduction import Reduction
from occlp.total.transient import Transient

#: Nodes with less mass than this, relative to the largest, count as not visited.
NO_MASS = 1e-11


def policy_of_visits(reduction: Reduction, visits: FloatArray, elsewhere: IntArray) -> FloatArray | None:
    """Pair probabilities of the question, [pairs], from visits to the pairs of the reduced form.

    Parameters
    ----------
    reduction : Reduction
    visits : FloatArray [pairs of the form]
    elsewhere : IntArray [S]
        The pair taken in states without visits.

    Returns
    -------
    FloatArray or None
        None where the visits stop with some probability in a component that they otherwise leave: no
        stationary policy does that.
    """
    total, form = reduction.total, reduction.form
    base = total.base
    mass = np.add.reduceat(visits, form.start[:-1])
    live = (mass > NO_MASS * mass.max(initial=0.0)) & ~reduction.fixed
    component = reduction.quotient.components.component
    collapsed = np.zeros(form.n_states, dtype=np.bool_)
    collapsed[reduction.quotient.nodes[component >= 0]] = True
    exits = {}
    for node in np.flatnonzero(live & collapsed).tolist():
        pairs = np.arange(form.start[node], form.start[node + 1])
        exits[node] = pairs[visits[pairs] > NO_MASS * mass[node]]
        if len(exits[node]) > 1 and (reduction.pairs[exits[node]] == -2).any():
            return None
    alone = {node: used[0] for node, used in exits.items() if len(used) == 1}
    choice = reduction.proper_choice.copy()
    choice[list(alone)] = list(alone.values())
    passed = np.isin(reduction.quotient.nodes, list(alone))
    probabilities = np.zeros(base.n_pairs)
    probabilities[np.where(passed, reduction.lift(choice), elsewhere)] = 1.0
    single = np.flatnonzero(live[form.states] & ~collapsed[form.states] & (reduction.pairs >= 0))
    states = base.states[reduction.pairs[single]]
    reset = np.zeros(base.n_states, dtype=np.bool_)
    reset[states] = True
    probabilities[reset[base.states]] = 0.0
    probabilities[reduction.pairs[single]] = visits[single] / mass[form.states[single]]
    for node, used in exits.items():
        if len(used) > 1:
            _pass_through(reduction, probabilities, node, reduction.pairs[used], visits, used)
    sums = np.add.reduceat(probabilities, base.start[:-1])[base.states]
    return np.asarray(probabilities / sums)


def _pass_through(
    reduction: Reduction, probabilities: FloatArray, node: int, exits: AnyArray, visits: FloatArray, used: AnyArray
) -> None:
    """Write a policy inside one component that leaves it by several pairs as often as the visits say."""
    base, quotient = reduction.total.base, reduction.quotient
    inside = quotient.nodes == node
    states = np.flatnonzero(inside)
    position = np.full(base.n_states, -1)
    position[states] = np.arange(len(states))
    inner = np.flatnonzero(quotient.components.pairs & inside[base.states])
    shares = 1.0 / np.bincount(position[base.states[inner]], minlength=len(states))
    weights = shares[position[base.states[inner]]]
    mix = sparse.csr_array(
        (weights, (position[base.states[inner]], np.arange(len(inner)))), shape=(len(states), len(inner))
    )
    matrix = sparse.csr_array((mix @ base.transitions[inner])[:, states])
    out = np.bincount(position[base.states[exits]], weights=visits[used], minlength=len(states))
    live = reduction.pairs >= 0
    flow = np.zeros(base.n_pairs)
    flow[reduction.pairs[live]] = visits[live]
    entering = (base.initial + base.transitions.T @ flow)[states]
    # What goes round inside: x (I − P) = in − out, up to a multiple of the stationary distribution.
    excess = entering * (out.sum() / entering.sum()) - out
    keep = np.arange(len(states)) > 0
    transient = Transient(matrix, keep)
    onward = np.asarray(matrix[[0]].toarray()).ravel()
    stationary = transient.visits(onward)
    stationary[0] = 1.0
    particular = _signed_visits(transient, excess)
    rounds = particular + max(0.0, float((-particular / stationary).max())) * stationary
    rounds = np.maximum(rounds, 0.0)
    whole = rounds + out
    # A state that is not passed through keeps what lifting has chosen.
    passed = whole > 0
    here = passed[position[base.states]] & inside[base.states]
    probabilities[here] = 0.0
    seen = passed[position[base.states[inner]]]
    at = position[base.states[inner[seen]]]
    probabilities[inner[seen]] = weights[seen] * rounds[at] / whole[at]
    probabilities[exits] = visits[used] / whole[position[base.states[exits]]]


def _signed_visits(transient: Transient, source: FloatArray) -> FloatArray:
    return transient.visits(np.maximum(source, 0.0)) - transient.visits(np.maximum(-source, 0.0))

"""The models that are timed, with fixed seeds and without a loop over states, and the questions asked about them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

import occlp as oc

#: Units that an order of the inventory brings: a lot, or several.
LOT = 5
#: Probabilities of a demand of 0, 1, ..., 9 units: binomial, so that they are exact doubles and sum to one.
DEMAND = np.array([1, 9, 36, 84, 126, 126, 84, 36, 9, 1]) / 512


def garnet(n_states: int, discount: float = 0.99, n_costs: int = 0) -> oc.MDP:
    """Ten actions, five random successors each; rewards and costs uniform on [0, 1)."""
    return oc.instances.get(
        "garnet", n_states=n_states, n_actions=10, branching=5, n_costs=n_costs, seed=1, discount=discount
    )


def bumpy(n: int, discount: float, n_costs: int = 0) -> oc.MDP:
    """A slippery grid of n × n cells without an end, a twentieth of which pays."""
    return oc.instances.get("bumpy-gridworld", n=n, n_costs=n_costs, seed=1, discount=discount)


def hazards(n: int, discount: float) -> oc.MDP:
    """A slippery grid of n × n cells with a goal that absorbs, and a cost for the cells that are hazards."""
    return oc.instances.get("slippery-gridworld", n=n, seed=1, discount=discount)


def queue(capacity: int, discount: float = 0.999) -> oc.MDP:
    """The instance "queue-admission" with its defaults, from arrays and without fractions."""
    number = np.arange(capacity + 1)
    states, admits = np.repeat(number, 2)[:-1], np.arange(2 * capacity + 1) % 2 == 0
    admits[-1] = False  # a full queue only rejects
    up = np.where(admits, 0.4, 0.0)
    down = np.where(states > 0, 0.5, 0.0)
    transitions = _band(states, {-1: down, 0: 1 - up - down, 1: up}, capacity + 1)
    initial = np.zeros(capacity + 1)
    initial[0] = 1.0
    costs = {"queue": states.astype(float), "rejected": np.where(admits, 0.0, 0.4)}
    return oc.MDP.from_pairs(
        states, np.where(admits, 0, 1), transitions, 5 * up - 0.2 * states,
        discount=discount, initial=initial, costs=costs, actions=["admit", "reject"],
    )  # fmt: skip


def inventory(capacity: int, discount: float = 0.99) -> oc.MDP:
    """A store that orders up to four lots at once; binomial demand, what cannot be served is lost.

    A unit sells for 8 and costs 2, an order costs 4 besides, and holding a full store costs 4 a period.
    """
    stock, lots = (table.ravel() for table in np.meshgrid(np.arange(capacity + 1), np.arange(5), indexing="ij"))
    fits = stock + LOT * lots <= capacity
    stock, lots = stock[fits], lots[fits]
    level = stock + LOT * lots
    left = np.maximum(level[:, None] - np.arange(len(DEMAND)), 0)
    starts = np.arange(0, left.size + 1, len(DEMAND))
    weights = np.broadcast_to(DEMAND, left.shape).ravel()
    transitions = sparse.csr_array((weights, left.ravel(), starts), shape=(len(stock), capacity + 1))
    sold, ordered = level - left @ DEMAND, (lots > 0).astype(float)
    rewards = 8 * sold - 4 * ordered - 2 * LOT * lots - 4 * level / capacity
    costs = {"orders": ordered, "stock": level.astype(float)}
    return oc.MDP.from_pairs(stock, lots, transitions, rewards, discount=discount, costs=costs)


def forest(n_states: int, discount: float = 0.99) -> oc.MDP:
    """The instance "forest" with its defaults but the discount, from arrays and without fractions."""
    age = np.arange(n_states)
    older = np.minimum(age + 1, n_states - 1)
    rows, columns = np.repeat(np.arange(2 * n_states), 2), np.empty((n_states, 4), dtype=np.int64)
    columns[:, 0], columns[:, 1], columns[:, 2:] = 0, older, 0
    weights = np.tile([0.1, 0.9, 1.0, 0.0], n_states)
    transitions = sparse.csr_array((weights, (rows, columns.ravel())), shape=(2 * n_states, n_states))
    transitions.eliminate_zeros()
    rewards = np.stack([np.where(age == n_states - 1, 4.0, 0.0), np.where(age > 0, 1.0, 0.0)], axis=1)
    rewards[-1, 1] = 2.0
    return oc.MDP.from_arrays(transitions, rewards, discount=discount, actions=["wait", "cut"])


def soft(mdp: oc.MDP, strength: float) -> oc.Problem:
    """A joint KL penalty towards the uniform policy."""
    return oc.Problem(mdp, regularizer=oc.KL(strength=strength, reference=oc.Policy.uniform(mdp)))


def limited(mdp: oc.MDP, names: list[str]) -> oc.Problem:
    """Limit costs halfway between the free optimum and the policy that spends least of them, all counted alike.

    Half a period under each of the two keeps every limit, so there is an answer.
    """
    free = oc.solve(mdp).expected
    ranges = {name: float(np.ptp(mdp.pair_costs[name])) for name in names}
    together = sum((mdp.pair_costs[name] / ranges[name] for name in names), np.zeros(mdp.n_pairs))
    thrifty = oc.solve(oc.Problem(mdp.replace(rewards=together), sense="minimize")).expected
    limits = {name: oc.expected(name) <= (free[name] + thrifty[name]) / 2 for name in names}
    return oc.Problem(mdp, constraints=limits)


def _band(states: Any, moves: dict[int, Any], n_states: int) -> Any:
    """Rows [pairs, S] that move by a few places with the given probabilities."""
    pairs = np.arange(len(states))
    rows, columns, weights = [], [], []
    for move, chance in moves.items():
        some = chance > 0
        rows.append(pairs[some])
        columns.append(states[some] + move)
        weights.append(chance[some])
    triple = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_array(triple, shape=(len(states), n_states))

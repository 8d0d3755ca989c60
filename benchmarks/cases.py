"""The questions that are timed, each in a full and a small size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import occlp as oc


@dataclass(frozen=True)
class Case:
    """A question of two sizes: the one that is reported, and a small one of the same kind for smoke runs."""

    name: str
    words: str
    full: Callable[[], oc.Problem]
    small: Callable[[], oc.Problem]


def _garnet(n_states: int) -> oc.MDP:
    return oc.instances.get("garnet", n_states=n_states, n_actions=10, branching=10, n_costs=1, seed=1, discount=0.99)


def _grid(n: int, discount: float = 0.999) -> oc.MDP:
    return oc.instances.get("slippery-gridworld", n=n, seed=1, discount=discount)


def _sparse_garnet(n_states: int) -> oc.MDP:
    return oc.instances.get("garnet", n_states=n_states, n_actions=10, branching=5, seed=1, discount=0.99)


def _bumpy(n: int, discount: float) -> oc.MDP:
    """A grid without an end: the last cell is left like any other, and a twentieth of the cells pays."""
    grid = _grid(n)
    last, rows = n * n - 1, grid.transitions.tolil()
    for action, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
        rows[4 * last + action, :] = 0.0
        for (below, beside), weight in (((down, right), 0.9), ((right, down), 0.05), ((-right, -down), 0.05)):
            rows[4 * last + action, last + n * min(below, 0) + min(beside, 0)] += weight
    rng = np.random.default_rng(1)
    pays = np.where(rng.random(n * n) < 0.05, rng.random(n * n), 0.0)
    return oc.MDP.from_arrays(rows.tocsr(), pays, discount=discount, actions=grid.pairs.action_labels)


def _soft(mdp: oc.MDP, strength: float) -> oc.Problem:
    return oc.Problem(mdp, regularizer=oc.KL(strength=strength, reference=oc.Policy.uniform(mdp)))


def _limited(mdp: oc.MDP, cost: str) -> oc.Problem:
    """Limit a cost halfway between what the free optimum spends and the least that any policy spends."""
    spent = oc.solve(mdp).expected[cost]
    least = oc.solve(oc.Problem(mdp.replace(rewards=mdp.pair_costs[cost]), sense="minimize")).objective
    return oc.Problem(mdp, constraints={cost: oc.expected(cost) <= (spent + least) / 2})


def _case(name: str, words: str, full: Callable[[], oc.MDP], small: Callable[[], oc.MDP]) -> Case:
    return Case(name, words, lambda: oc.Problem(full()), lambda: oc.Problem(small()))


CASES = (
    _case(
        "garnet-1e3",
        "random, 1,000 states, 10 actions, 10 successors, γ = .99",
        lambda: _garnet(1_000),
        lambda: _garnet(60),
    ),
    _case(
        "garnet-1e4",
        "random, 10,000 states, 10 actions, 10 successors, γ = .99",
        lambda: _garnet(10_000),
        lambda: _garnet(90),
    ),
    _case(
        "garnet-sparse-1e3",
        "random, 1,000 states, 10 actions, 5 successors, γ = .99",
        lambda: _sparse_garnet(1_000),
        lambda: _sparse_garnet(60),
    ),
    _case(
        "garnet-sparse-1e4",
        "random, 10,000 states, 10 actions, 5 successors, γ = .99",
        lambda: _sparse_garnet(10_000),
        lambda: _sparse_garnet(90),
    ),
    _case(
        "garnet-sparse-1e5",
        "random, 100,000 states, 10 actions, 5 successors, γ = .99",
        lambda: _sparse_garnet(100_000),
        lambda: _sparse_garnet(120),
    ),
    _case(
        "grid-50", "slippery grid of 50 × 50 cells, γ = .999: slow mixing", lambda: _grid(50), lambda: _grid(6, 0.99)
    ),
    _case("grid-100", "slippery grid of 100 × 100 cells, γ = .999", lambda: _grid(100), lambda: _grid(8, 0.99)),
    _case("grid-200", "slippery grid of 200 × 200 cells, γ = .999", lambda: _grid(200), lambda: _grid(9, 0.99)),
    _case(
        "grid-50-patient",
        "slippery grid of 50 × 50 cells, γ = .9999",
        lambda: _grid(50, 0.9999),
        lambda: _grid(7, 0.9999),
    ),
    _case(
        "bumpy-50",
        "slippery grid of 50 × 50 cells without an end, a twentieth of which pays, γ = .9999",
        lambda: _bumpy(50, 0.9999),
        lambda: _bumpy(6, 0.99),
    ),
    _case(
        "bumpy-200",
        "slippery grid of 200 × 200 cells without an end, a twentieth of which pays, γ = .999",
        lambda: _bumpy(200, 0.999),
        lambda: _bumpy(8, 0.99),
    ),
    _case(
        "forest",
        "forest management, 1,000 ages, γ = .96",
        lambda: oc.instances.get("forest", n_states=1_000, discount=0.96),
        lambda: oc.instances.get("forest", n_states=30, discount=0.96),
    ),
    _case(
        "queue",
        "admission to a queue of 1,000 places, γ = .999, start empty",
        lambda: oc.instances.get("queue-admission", capacity=1_000, discount=0.999),
        lambda: oc.instances.get("queue-admission", capacity=20),
    ),
    Case(
        "garnet-1e3-limit",
        "garnet-1e3 with a limit on one cost, halfway between the least possible and what the optimum spends",
        lambda: _limited(_garnet(1_000), "cost0"),
        lambda: _limited(_garnet(60), "cost0"),
    ),
    Case(
        "grid-50-limit",
        "grid-50 with a limit on the time in hazards, halfway between the least possible and the optimum's",
        lambda: _limited(_grid(50), "hazard"),
        lambda: _limited(_grid(8, 0.99), "hazard"),
    ),
    Case(
        "garnet-1e3-kl",
        "garnet-1e3 with a joint KL penalty of strength 0.1 towards uniform",
        lambda: _soft(_garnet(1_000), 0.1),
        lambda: _soft(_garnet(40), 0.1),
    ),
    Case(
        "grid-50-kl",
        "grid-50 with a joint KL penalty of strength 0.1 towards uniform",
        lambda: _soft(_grid(50), 0.1),
        lambda: _soft(_grid(6, 0.99), 0.1),
    ),
)

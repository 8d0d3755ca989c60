"""Small models by brute force: the occupancies of all deterministic policies, and linear programs over their hull.

Nothing of the library but the model's arrays is used: dense linear algebra and scipy's own program.
"""

from __future__ import annotations

import itertools

import numpy as np
from helpers import dense_chain, dense_evaluation
from scipy.optimize import linprog

import occlp as oc


def choices(mdp: oc.MDP):
    """Every deterministic policy, as the positions of its pairs [S]."""
    spans = [range(first, last) for first, last in itertools.pairwise(mdp.pair_start.tolist())]
    for chosen in itertools.product(*spans):
        yield np.array(chosen)


def vertices(mdp: oc.MDP) -> np.ndarray:
    """Occupancies of all deterministic policies, [policies, pairs]: discounted, or stationary without a discount."""
    found = []
    for chosen in choices(mdp):
        probabilities = np.zeros(mdp.n_pairs)
        probabilities[chosen] = 1.0
        if mdp.discount is None:
            chain = dense_chain(mdp, probabilities)
            system = np.vstack([chain.T - np.eye(mdp.n_states), np.ones(mdp.n_states)])
            mass = np.linalg.lstsq(system, np.append(np.zeros(mdp.n_states), 1.0), rcond=None)[0]
            found.append(mass[mdp.pairs.states] * probabilities)
        else:
            found.append(dense_evaluation(mdp, probabilities)[2])
    return np.array(found)


def best_mixture(points: np.ndarray, rewards: np.ndarray, limits=()) -> float | None:
    """The most that mixtures of the points earn; limits are (cost [pairs], relation, bound). None: infeasible."""
    above, below = [], []
    equal, target = [np.ones(len(points))], [1.0]
    for cost, relation, bound in limits:
        column = points @ cost
        if relation == "==":
            equal.append(column)
            target.append(bound)
        else:
            sign = 1.0 if relation == "<=" else -1.0
            above.append(sign * column)
            below.append(sign * bound)
    answer = linprog(
        -(points @ rewards), A_ub=np.array(above) if above else None, b_ub=below or None,
        A_eq=np.array(equal), b_eq=target, method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )  # fmt: skip
    return None if answer.x is None else -float(answer.fun)


def random_model(seed: int, n_states: int = 5, n_actions: int = 3, **changes: object) -> oc.MDP:
    """A dense model with two costs, "wear" and "fuel", and everything visited."""
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.full(n_states, 0.5), size=(n_states, n_actions))
    table = (n_states, n_actions)
    options = {"discount": 0.9, "costs": {"wear": rng.random(table), "fuel": rng.random(table)}, **changes}
    return oc.MDP.from_arrays(transitions, rng.normal(size=table), **options)

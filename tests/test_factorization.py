"""Many right-hand sides for one policy: against dense algebra and `oc.evaluate`, by each way of solving."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps_with_policies

import occlp as oc
from occlp.chains import aggregation, resolvent, sweeps
from occlp.errors import InvalidProblem, Unsupported

ROUTES = {
    "elimination": {},
    "sweeps": {(resolvent, "ELIMINATION_WORK"): -1},
    "iterations": {(resolvent, "ELIMINATION_WORK"): -1, (sweeps, "SWEEP_BUDGET"): 0},
    "sparse LU": {(resolvent, "ELIMINATION_WORK"): -1, (sweeps, "SWEEP_BUDGET"): 0, (aggregation, "MOST_STEPS"): 0},
}


@pytest.mark.parametrize("route", ROUTES)
@given(pair=mdps_with_policies(), seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_against_dense_linear_algebra(route, pair, seed):
    mdp, table = pair
    policy, rng = oc.Policy.from_table(mdp, table), np.random.default_rng(seed)
    pi, states, n = policy.pair_probabilities, mdp.pairs.states, mdp.n_states
    own = np.zeros((n, mdp.n_pairs))
    own[states, np.arange(mdp.n_pairs)] = pi
    inverse = np.linalg.inv(np.eye(n) - mdp.discount * own @ mdp.transitions.toarray())
    rewards, of_states = 100 * rng.normal(size=(mdp.n_pairs, 3)), rng.normal(size=n)
    starts = rng.dirichlet(np.ones(n), size=2).T
    with pytest.MonkeyPatch.context() as patch:
        for (home, name), value in ROUTES[route].items():
            patch.setattr(home, name, value)
        factors = oc.factorize(mdp, policy)
        found = factors.values(rewards), factors.values(of_states), factors.state_occupancy(starts)
        pairs = factors.pair_occupancy(starts[:, 0])
    scale = 1e2 / (1 - mdp.discount)
    np.testing.assert_allclose(found[0], inverse @ own @ rewards, rtol=0, atol=1e-11 * scale)
    np.testing.assert_allclose(found[1], inverse @ of_states, rtol=0, atol=1e-12 * scale)
    expected = (1 - mdp.discount) * inverse.T @ starts
    np.testing.assert_allclose(found[2], expected / expected.sum(axis=0), rtol=0, atol=1e-11)
    np.testing.assert_allclose(pairs, (own.T @ np.ones(n)) * found[2][states, 0], rtol=1e-12)


@given(mdps_with_policies(max_costs=2))
@settings(max_examples=25, deadline=None)
def test_the_same_as_an_evaluation(pair):
    mdp, table = pair
    policy = oc.Policy.from_table(mdp, table)
    evaluation, factors = oc.evaluate(mdp, policy), oc.factorize(mdp, policy)
    size = 1 + np.abs(mdp.pair_rewards).max() / (1 - mdp.discount)
    np.testing.assert_allclose(factors.values(), evaluation.state_values, rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(factors.state_occupancy(), evaluation.state_occupancy, rtol=0, atol=1e-13)
    np.testing.assert_allclose(factors.pair_occupancy(), evaluation.pair_occupancy, rtol=0, atol=1e-13)
    for name in mdp.pair_costs:
        total = float(mdp.initial @ factors.values(name))
        assert total == pytest.approx(evaluation.expected_total[name], rel=1e-9, abs=1e-9 * size)


@pytest.mark.parametrize("name", ["garnet", "slippery-gridworld"])
def test_large_chains(name):
    """A fast and a slow one, beyond elimination: V = r + γPV and d = (1 − γ) μ + γdP hold."""
    size = {"n_states": 3000, "n_actions": 2, "branching": 4, "seed": 1} if name == "garnet" else {"n": 60, "seed": 1}
    mdp = oc.instances.get(name, **size, discount=0.99)
    policy = oc.solve(mdp).policy
    factors, gamma = oc.factorize(mdp, policy), 0.99
    rewards = np.random.default_rng(0).normal(size=(mdp.n_states, 2))
    chain = mdp.transitions[policy.choice]
    values = factors.values(rewards)
    np.testing.assert_allclose(values, rewards + gamma * (chain @ values), rtol=0, atol=1e-11)
    starts = np.eye(mdp.n_states)[:, :2]
    mass = factors.state_occupancy(starts)
    np.testing.assert_allclose(mass, (1 - gamma) * starts + gamma * (chain.T @ mass), rtol=0, atol=1e-13)


def test_what_is_no_right_hand_side_is_refused():
    mdp = oc.instances.get("howard-toymaker", discount=0.9)
    policy = oc.Policy.uniform(mdp)
    factors = oc.factorize(mdp, policy)
    for rewards in ("wear", [1.0], np.ones((2, 2, 2)), [np.nan, 0.0], "x", object()):
        with pytest.raises(InvalidProblem):
            factors.values(rewards)
    for initial in ([1.0], [0.5, 0.6], [1.5, -0.5], [np.nan, 1.0], "x"):
        with pytest.raises(InvalidProblem):
            factors.state_occupancy(initial)
    with pytest.raises(InvalidProblem, match="another model"):
        oc.factorize(oc.instances.get("machine-repair", discount=0.9), policy)
    with pytest.raises(Unsupported, match="discounted"):
        oc.factorize(oc.Problem(mdp.replace(discount=None), criterion="average"), policy)

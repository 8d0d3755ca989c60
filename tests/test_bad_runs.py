"""Adversarial runs, by their numbers in docs/bad-input.md: regularizers, density ratios, gradients, backends."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import Exact

import occlp as oc


@pytest.fixture
def machine():
    return oc.instances.get("machine-repair")


@pytest.mark.parametrize("strength", [1e-12, 1e12])
def test_67_68_priors_with_zeros_at_any_temperature(strength):
    mdp = oc.MDP.from_arrays([[[1], [1], [1]]], [[1.0, 2.0, 100.0]], discount=0.9)
    prior = oc.Policy.from_table(mdp, [[0.5, 0.5, 0.0]])
    result = oc.solve(oc.Problem(mdp, regularizer=oc.KL(strength, prior)), check=False)
    assert result.policy.pair_probabilities[2] == 0
    limit = [0.0, 1.0, 0.0] if strength < 1 else [0.5, 0.5, 0.0]
    assert result.policy.pair_probabilities == pytest.approx(limit, abs=1e-9)
    assert np.isfinite(result.objective)


def test_67_a_prior_without_an_action(machine):
    with pytest.raises(oc.InvalidProblem, match="sum"):
        oc.Policy.from_pairs(machine, [0.0, 0.0, 0.5, 0.5, 0.5, 0.5])


def test_69_logits_of_any_size(machine):
    """exp(1e4) is never formed, and 0 · log 0 is 0 in every term, gradient and divergence."""
    logits = np.array([1e4, -1e4, 1e4, -1e4, 1e4, -1e4])
    chosen = oc.parametrizations.Softmax().probabilities(machine.pairs, logits)
    assert chosen.tolist() == [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    policy = oc.Policy.from_pairs(machine, chosen)
    plain = oc.evaluate(machine, policy)
    bonus = oc.evaluate(oc.Problem(machine, regularizer=oc.PolicyEntropy(1.0)), policy)
    assert bonus.objective == plain.objective
    states = plain.occupancy.sum(axis=1)
    for term in (oc.StateEntropy(1.0), oc.OccupancyEntropy(1.0)):
        found = oc.evaluate(oc.Problem(machine, regularizer=term), policy).objective
        assert found - plain.objective == pytest.approx(-(states * np.log(states)).sum(), rel=1e-12)
    assert oc.divergence(machine, policy, policy) == 0.0
    assert not np.abs(oc.policy_gradient(machine, policy)).any()
    for solver in (oc.PolicyGradient(steps=2), oc.NaturalPolicyGradient(steps=2)):
        assert oc.solve(machine, solver, start=policy, check=False).objective >= plain.objective


@pytest.mark.parametrize("rare", [1e-300, 1e-308, 5e-324])
def test_71_a_behaviour_that_almost_never_acts(rare):
    """One finite ratio of 1e300 is reported; estimates that would multiply such weights are refused."""
    mdp = oc.MDP.from_arrays(np.ones((1, 2, 1)), [[1.0, 0.0]], discount=0.5)
    acting, asked = oc.Policy.from_pairs(mdp, [rare, 1.0]), oc.Policy.deterministic(mdp, [0])
    ratio = oc.density_ratio(mdp, asked, acting)[0, 0]
    assert ratio == (np.inf if rare < 1e-308 else pytest.approx(1 / rare, rel=1e-12))
    assert oc.divergence(mdp, asked, acting) == pytest.approx(-np.log(rare), rel=1e-12)
    assert oc.density_ratio(mdp, asked, oc.Policy.deterministic(mdp, [1]))[0, 0] == np.inf
    data = oc.Dataset.from_trajectories(mdp, [[(0, 0, 1.0, 0)] * 3], behavior=acting)
    for estimate in (oc.importance_sampling, oc.doubly_robust):
        with pytest.raises(oc.Unsupported, match=r"overflow after [01] steps"):
            estimate(data, asked)


def test_72_constant_rewards_have_no_gradient():
    mdp = oc.MDP.from_arrays(np.full((2, 2, 2), 0.5), np.full((2, 2), 3.0), discount=0.9)
    assert np.abs(oc.policy_gradient(mdp, oc.Policy.uniform(mdp))).max() <= 1e-12
    assert oc.solve(mdp, oc.NaturalPolicyGradient(steps=5)).status is oc.Status.CERTIFIED


@pytest.mark.parametrize("method", ["PPO", "A2C", "TRPO", "Reinforce", "ActorCritic"])
def test_73_advantages_without_variance(method):
    mdp = oc.MDP.from_arrays(np.full((2, 2, 2), 0.5), np.full((2, 2), 3.0), discount=0.9)
    result = oc.solve(mdp, getattr(oc, method)(steps=2), rng=0)
    assert result.status is oc.Status.CERTIFIED
    assert np.isfinite(result.policy.probabilities).all()


def test_74_steps_that_make_it_worse_are_reported():
    """Steps of PPO far too long: the history shows the fall, and the best policy is what is returned."""
    mdp = oc.instances.get("garnet", n_states=5, n_actions=3, branching=2, seed=3)
    result = oc.solve(mdp, oc.PPO(steps=8, step_size=2.0), rng=0, check=False)
    objectives = result.history["objective"]
    assert (np.diff(objectives) < -1e-3).any()
    assert result.objective == objectives.max()
    # A trust region in which no step improves by a digit: the run ends by its own rule, with the gap.
    stuck = oc.solve(mdp, oc.TRPO(steps=3, radius=1e-300), check=False)
    assert stuck.status is oc.Status.BOUNDED
    assert stuck.gap == pytest.approx(oc.solve(mdp).objective - stuck.objective, abs=1e-9)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_75_a_plateau_is_no_answer(steps):
    """Where a gradient stops short of the optimum the gap says by how much, and nobody says CERTIFIED."""
    mdp = oc.instances.get("vanishing-gradient-chain")
    best = Exact.of(mdp).optimum()
    result = oc.solve(mdp, oc.PolicyGradient(steps=steps))
    lost = float(best) - result.objective
    assert (result.status is oc.Status.CERTIFIED) == (lost < 1e-8)
    assert result.gap == pytest.approx(lost, abs=1e-9)


@pytest.mark.parametrize("state", [0, 1])
def test_76_states_that_are_never_visited_do_not_move(state):
    """The Fisher matrix is singular there; its pseudo-inverse leaves them alone, and divides by no zero."""
    mdp = oc.MDP.from_arrays([[[1, 0]] * 2, [[0, 1]] * 2], [[1, 2], [5, 7]], discount=0.9, initial=state)
    start = oc.Policy.from_pairs(mdp, [0.5, 0.5, 0.25, 0.75])
    path = oc.PolicyGradient(update=oc.updates.NaturalStep(0.1), steps=2)
    *_, last = path.iterate(oc.Problem(mdp), tol=1e-8, rng=np.random.default_rng(0), start=start)
    before, after = start.probabilities, last.policy.probabilities
    assert after[1 - state] == pytest.approx(before[1 - state], rel=1e-15)
    assert after[state, 1] > before[state, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_77_parameters_that_are_no_numbers(machine, value):
    with pytest.raises(oc.InvalidProblem, match=f"state 'new', action 'run' is {value}"):
        oc.Policy.from_pairs(machine, np.full(6, value))
    with pytest.raises(oc.InvalidProblem, match="not finite for state 'new', action 'run'"):
        oc.solve(machine, oc.PolicyGradient(oc.parametrizations.LogLinear(np.full((6, 2), value))))
    network = oc.parametrizations.Network(lambda t: t, lambda t, w: w, np.full(6, value))
    with pytest.raises(oc.InvalidProblem, match=f"logit of state 'new', action 'run' is {value}"):
        oc.solve(machine, oc.PolicyGradient(network))


def test_79_a_solver_that_is_not_installed(machine):
    with pytest.raises(oc.BackendMissing, match="Installed are"):
        oc.solve(machine, oc.OccupancyProgram("NOSUCH"))

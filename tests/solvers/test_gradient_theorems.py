"""Statements of the literature on policy gradients, each tested under exactly its assumptions, and two false ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import dense_chain, dense_transitions, positive_policies
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps, policy_tables

import occlp as oc
from occlp.errors import InvalidProblem

E, U = oc.estimators, oc.updates


def corridor():
    """Sutton and Barto (2018), example 13.1: three states in a row, the middle one with its actions swapped."""
    transitions = np.zeros((4, 2, 4))
    for state, left, right in ((0, 0, 1), (1, 2, 0), (2, 1, 3), (3, 3, 3)):
        transitions[state, 0, left] = transitions[state, 1, right] = 1.0
    rewards = np.full((4, 2), -1.0)
    rewards[3] = 0.0
    mdp = oc.MDP.from_arrays(transitions, rewards, initial=[1, 0, 0, 0], actions=["left", "right"])
    return oc.Problem(mdp, criterion="total", goal=[3])


ALIASED = oc.parametrizations.LogLinear(np.tile([[[0.0], [1.0]]], (4, 1, 1)))


def policies_of(problem, solver, start=None):
    return [step.policy for step in solver.iterate(problem, tol=0.0, rng=np.random.default_rng(0), start=start)]


# Episodes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "update", [U.GradientStep(), U.NaturalStep(), U.TrustRegion(0.1), U.GradientStep(0.02, adaptive=True)], ids=str
)
def test_the_short_corridor(update):
    """With one probability for all states the best is 2 − √2, worth −(6 + 4√2): its expected number of steps."""
    found = oc.solve(corridor(), oc.PolicyGradient(ALIASED, update=update, steps=60))
    assert found.policy.probabilities[0, 1] == pytest.approx(2 - math.sqrt(2), abs=1e-3)
    assert found.objective == pytest.approx(-(6 + 4 * math.sqrt(2)), abs=1e-4)
    assert found.gap == pytest.approx(3 + 4 * math.sqrt(2), abs=1e-4)  # the best policy that sees the state needs 3


def test_the_short_corridor_from_samples():
    solver = oc.PolicyGradient(ALIASED, E.MonteCarlo(trajectories=64), U.GradientStep(0.02, adaptive=True), 150)
    found = oc.solve(corridor(), solver, rng=0)
    assert found.objective == pytest.approx(-(6 + 4 * math.sqrt(2)), abs=0.05)
    assert found.status is oc.Status.BOUNDED


@pytest.mark.parametrize("returns", ["to_go", "total"])
def test_gradients_of_episodes(returns):
    """∇J = E[G Σ ∇log π], undiscounted: by the recursion, and by finite differences of the total."""
    problem, theta = corridor(), np.array([0.3])
    policy = oc.Policy.from_pairs(problem.mdp, ALIASED.probabilities(problem.mdp.pairs, theta))
    found = oc.gradient_moments(problem, policy, E.MonteCarlo(returns=returns), parametrization=ALIASED)

    def total(x):
        probabilities = ALIASED.probabilities(problem.mdp.pairs, np.array([x]))
        return oc.evaluate(problem, oc.Policy.from_pairs(problem.mdp, probabilities)).objective

    assert found.truth[0] == pytest.approx((total(0.3 + 1e-5) - total(0.3 - 1e-5)) / 2e-5, rel=1e-7)
    np.testing.assert_allclose(found.mean, found.truth, rtol=1e-11)


def test_the_factor_of_episodes_is_their_expected_length():
    """∇J = E[T] E_d[∇log π Q] for d the expected visits divided by E[T]; mean frequencies of episodes are another d."""
    problem = corridor()
    policy = oc.Policy.from_table(problem.mdp, np.tile([0.4, 0.6], (4, 1)))
    found = oc.evaluate(problem, policy)
    visits = found.pair_occupancy
    length = visits[:6].sum()
    assert length == pytest.approx(-found.objective)
    gradient = oc.policy_gradient(problem, policy)[:3].ravel()
    shares = visits[:6] / length
    np.testing.assert_allclose(gradient, length * shares * found.pair_advantages[:6], rtol=1e-12)
    sample = oc.rollouts(problem.mdp, policy, n_trajectories=4000, horizon="episode", terminal=[3], rng=0)
    rows = np.broadcast_to(np.arange(4000)[:, None], sample.mask.shape)[sample.mask]
    counts = np.zeros((4000, 8))
    np.add.at(counts, (rows, sample.pair_index[sample.mask]), 1.0)
    frequencies = (counts / sample.lengths[:, None]).mean(axis=0)[:6]
    np.testing.assert_allclose(counts.mean(axis=0)[:6] / length, shares, atol=0.01)
    assert np.abs(frequencies - shares).max() > 0.02


def test_moments_of_policies_that_never_arrive_are_refused(monkeypatch):
    monkeypatch.setattr("occlp.solvers.policy_gradient.walk.MOST_STEPS", 100)
    lost = oc.Policy.from_table(corridor().mdp, np.tile([1.0, 0.0], (4, 1)))
    with pytest.raises(InvalidProblem, match="need not reach an end"):
        oc.gradient_moments(corridor(), lost, E.MonteCarlo())


def test_policies_that_never_arrive_have_no_gradient():
    problem = corridor()
    lost = oc.Policy.deterministic(problem.mdp, ["left", "left", "left", "left"])
    found = oc.solve(problem, oc.PolicyGradient(oc.parametrizations.Direct(), steps=3), start=lost, check=False)
    assert found.iterations == 1
    assert found.objective == -math.inf


# Identities --------------------------------------------------------------------------------------------------


@given(st.data(), mdps(max_states=4, max_actions=3))
@settings(max_examples=40)
def test_the_performance_difference_lemma(data, mdp):
    """J(π') − J(π) = Σ d^π' A^π/(1 − γ): Kakade and Langford (2002), Lemma 6.1."""
    one, other = (oc.evaluate(mdp, oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))) for _ in range(2))
    scale = (1 + np.abs(mdp.pair_rewards).max()) / (1 - mdp.discount) ** 2
    difference = other.pair_occupancy @ one.pair_advantages / (1 - mdp.discount)
    assert other.expected_return - one.expected_return == pytest.approx(difference, abs=1e-12 * scale)
    assert np.add.reduceat(one.policy.pair_probabilities * one.pair_advantages, mdp.pair_start[:-1]) == pytest.approx(
        0.0, abs=1e-12 * scale
    )


@given(st.data(), mdps(max_states=3, max_actions=2))
@settings(max_examples=25)
def test_the_law_behind_the_cancellation_lemma(data, mdp):
    """Σ (∇d π Q + d π ∇Q) = γ ∇(d·P^π V), by finite differences along a direction of logits; it is not zero."""
    policy = data.draw(positive_policies(mdp))
    logits, rest = np.log(policy.pair_probabilities), 1 - mdp.discount
    direction = np.random.default_rng(0).normal(size=mdp.n_pairs)
    family = oc.parametrizations.Softmax()

    def parts(h):
        pi = family.probabilities(mdp.pairs, logits + h * direction)
        found = oc.evaluate(mdp, oc.Policy.from_pairs(mdp, pi))
        onward = found.state_occupancy @ dense_chain(mdp, pi) @ found.state_values
        return found.state_occupancy, pi, found.pair_action_values, onward

    step = 1e-4
    d, pi, q, _ = parts(0.0)
    ahead, behind = parts(step), parts(-step)
    change = [(x - y) / (2 * step) for x, y in zip(ahead, behind, strict=True)]
    states = mdp.pairs.states
    left = float((change[0][states] * pi * q + d[states] * pi * change[2]).sum())
    scale = (1 + np.abs(mdp.pair_rewards).max()) / rest**2
    assert left == pytest.approx(mdp.discount * change[3], abs=1e-6 * scale)


def test_two_false_statements():
    """Σ d V is not J, and the two terms of the "cancellation lemma" do not cancel: one state is enough."""
    two = oc.MDP.from_arrays([[[0, 1]], [[0, 1]]], [[1.0], [0.0]], discount=0.9, initial=[1, 0])
    found = oc.evaluate(two, oc.Policy.uniform(two))
    assert found.expected_return == pytest.approx(1.0)
    assert found.state_occupancy @ found.state_values == pytest.approx(0.1)
    one = oc.MDP.from_arrays(np.ones((1, 2, 1)), [[1.0, 0.0]], discount=0.9)
    pi = np.array([0.3, 0.7])
    gradient = oc.policy_gradient(one, oc.Policy.from_pairs(one, pi))[0]
    np.testing.assert_allclose(gradient, 0.21 * np.array([1, -1]) / 0.1, rtol=1e-12)
    # d does not move; Σ π ∇Q = γ∇V, which is 0.9 times this gradient and not zero.
    assert np.abs(0.9 * gradient).max() > 1.0


@given(st.data(), mdps(max_states=4, max_actions=3))
@settings(max_examples=30)
def test_cancellation_under_the_average_criterion(data, mdp):
    """Σ (∇d π Q + d π ∇Q) = 0 for Q = r + Ph and relative values with d·h = 0: there the lemma is true."""
    problem = oc.Problem(mdp.replace(discount=None), criterion="average")
    mixed = 0.9 * dense_transitions(mdp) + 0.1 / mdp.n_states
    problem = oc.Problem(
        oc.MDP.from_pairs(mdp.pairs.states, mdp.pairs.actions, mixed, mdp.pair_rewards), criterion="average"
    )
    logits = np.log(data.draw(positive_policies(mdp)).pair_probabilities)
    direction = np.random.default_rng(0).normal(size=mdp.n_pairs)
    step, first = 1e-4, problem.mdp.pair_start[:-1]

    def parts(h):
        pi = oc.parametrizations.Softmax().probabilities(problem.mdp.pairs, logits + h * direction)
        found = oc.evaluate(problem, oc.Policy.from_pairs(problem.mdp, pi))
        onward = problem.mdp.transitions @ found.state_values
        return found.state_occupancy, pi, problem.mdp.pair_rewards + onward

    (d, pi, q), ahead, behind = parts(0.0), parts(step), parts(-step)
    change = [(x - y) / (2 * step) for x, y in zip(ahead, behind, strict=True)]
    inner = np.add.reduceat(pi * q, first), np.add.reduceat(pi * change[2], first)
    scale = 1 + np.abs(mdp.pair_rewards).max()
    assert change[0] @ inner[0] + d @ inner[1] == pytest.approx(0.0, abs=1e-5 * scale)


# Surrogates --------------------------------------------------------------------------------------------------


def test_surrogates_touch_to_first_order():
    """With the old occupancy frozen, Σ d π' A agrees with J' − J to first order: Schulman et al. (2015), equation 4."""
    mdp = oc.instances.get("garnet", n_states=4, n_actions=2, branching=2, seed=3, discount=0.8)
    old = oc.Policy.uniform(mdp)
    other = oc.Policy.from_pairs(mdp, [0.9, 0.1, 0.2, 0.8, 0.7, 0.3, 0.4, 0.6])
    before, errors = oc.evaluate(mdp, old), []
    for weight in (0.2, 0.1, 0.05):
        mixed = (1 - weight) * old.pair_probabilities + weight * other.pair_probabilities
        masses = before.state_occupancy[mdp.pairs.states] * mixed
        surrogate = before.expected_return + masses @ before.pair_advantages / 0.2
        errors.append(oc.evaluate(mdp, oc.Policy.from_pairs(mdp, mixed)).expected_return - surrogate)
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4.0, rel=0.1)
    assert abs(errors[0]) > 1e-4


# Published rates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_rate_of_softmax_gradients(seed):
    """V*(ρ) − V_t(ρ) ≤ 16 S ‖d*_ρ/μ‖²∞ ‖1/μ‖∞ / (c² (1 − γ)⁶ t): Mei et al. (2020), Theorem 4.

    Rewards in [0, 1], exact gradients of V(μ) with μ > 0, η = (1 − γ)³/8; c is the
    least π_t(a*(s) | s) along the run.
    """
    discount = 0.5
    mdp = oc.instances.get("garnet", n_states=4, n_actions=3, branching=3, seed=seed, discount=discount)
    assert mdp.pair_rewards.min() >= 0
    assert mdp.pair_rewards.max() <= 1
    best = oc.solve(mdp)
    chosen = best.policy.choice
    solver = oc.PolicyGradient(update=U.GradientStep((1 - discount) ** 3 / 8), steps=400)
    path = policies_of(oc.Problem(mdp), solver)
    returns = [oc.evaluate(mdp, policy).expected_return for policy in path]
    least = min(policy.pair_probabilities[chosen].min() for policy in path)
    mismatch = (best.state_occupancy / mdp.initial).max()
    bound = 16 * 4 * mismatch**2 / (least**2 * (1 - discount) ** 6) / mdp.initial.min()
    assert all(best.expected_return - value <= bound / t for t, value in enumerate(returns[1:], 1))
    assert (np.diff(returns) >= -1e-14).all()  # and J never decreases with this step (their Lemma 2)
    assert best.expected_return - returns[-1] > 1e-3  # it is slow


@given(st.data(), mdps(max_states=4, max_actions=3))
@settings(max_examples=30)
def test_gradient_domination(data, mdp):
    """J* − J ≤ ‖d*/d^π‖∞ max over p of (p − π)·∂J/∂π: Agarwal et al. (2021), Lemma 4."""
    policy = data.draw(positive_policies(mdp))
    found, best = oc.evaluate(mdp, policy), oc.solve(mdp)
    d, optimal = found.state_occupancy, best.state_occupancy
    if (d[optimal > 0] <= 0).any():
        return
    mismatch = (optimal[d > 0] / d[d > 0]).max()
    slopes = d[mdp.pairs.states] * found.pair_advantages / (1 - mdp.discount)
    steepest = np.maximum.reduceat(slopes, mdp.pair_start[:-1]).sum()
    scale = (1 + np.abs(mdp.pair_rewards).max()) / (1 - mdp.discount) ** 2
    assert best.expected_return - found.expected_return <= mismatch * steepest + 1e-11 * scale * (1 + mismatch)

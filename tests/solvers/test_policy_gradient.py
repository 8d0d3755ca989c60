"""Policy gradients: the gradient itself, the steps, published rates under their own assumptions, and the history."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
from helpers import positive_policies, random_policy
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps, policy_tables

import occlp as oc
from occlp.errors import InvalidProblem, Unsupported

SENSES = st.sampled_from(["maximize", "minimize"])


def softmax(mdp, logits):
    """The policy of some logits, [pairs], in plain numpy."""
    start, states = mdp.pair_start[:-1], mdp.pairs.states
    weights = np.exp(logits - np.maximum.reduceat(logits, start)[states])
    return oc.Policy.from_pairs(mdp, weights / np.add.reduceat(weights, start)[states])


def policies_of(problem, solver, start=None):
    """The policies that a solver passes through."""
    return [step.policy for step in solver.iterate(problem, tol=0.0, rng=np.random.default_rng(0), start=start)]


def unit_garnet(seed, discount=0.9):
    """A small garnet with rewards in [0, 1]."""
    return oc.instances.get("garnet", n_states=6, n_actions=3, branching=3, seed=seed, discount=discount)


# The gradient ------------------------------------------------------------------------------------------------


@given(st.data(), mdps(max_states=4, max_actions=3), SENSES)
@settings(max_examples=50)
def test_the_gradient_is_that_of_finite_differences(data, mdp, sense):
    """In both scales, in the user's units and sense, for every kind of model."""
    problem = oc.Problem(mdp, sense=sense)
    logits = np.log(data.draw(positive_policies(mdp)).pair_probabilities)
    step, rest = 1e-4, 1 - mdp.discount
    scale = (1 + np.abs(mdp.pair_rewards).max()) / rest
    table = oc.policy_gradient(problem, softmax(mdp, logits))
    for k, (s, a) in enumerate(zip(mdp.pairs.states, mdp.pairs.actions, strict=True)):
        moved = np.zeros(mdp.n_pairs)
        moved[k] = step
        # Fourth order: the error of the quotient is far below 1e-6.
        values = [oc.evaluate(problem, softmax(mdp, logits + m * moved)).expected_return for m in (-2, -1, 1, 2)]
        quotient = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        assert table[s, a] == pytest.approx(quotient, abs=1e-6 * scale)
    np.testing.assert_array_equal(np.isnan(table), np.isnan(mdp.rewards))
    normalized = oc.policy_gradient(problem, softmax(mdp, logits), scale="normalized")
    np.testing.assert_allclose(normalized, rest * table, rtol=1e-13, atol=0)


def test_the_gradient_is_not_that_of_another_policy():
    mdp = unit_garnet(0)
    first, second = (random_policy(mdp, np.random.default_rng(seed)) for seed in (0, 1))
    assert np.abs(oc.policy_gradient(mdp, first) - oc.policy_gradient(mdp, second)).max() > 1e-3


@given(st.data(), mdps(max_states=5), SENSES)
@settings(max_examples=40)
def test_gradients_of_each_state_sum_to_zero(data, mdp, sense):
    policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    table = oc.policy_gradient(oc.Problem(mdp, sense=sense), policy)
    scale = (1 + np.abs(mdp.pair_rewards).max()) / (1 - mdp.discount) ** 2
    np.testing.assert_allclose(np.nansum(table, axis=1), 0.0, atol=1e-13 * scale)
    evaluation = oc.evaluate(mdp, policy)
    assert not np.nan_to_num(table)[~evaluation.visited].any()  # and it is zero where the policy never goes


@given(st.data(), mdps(max_states=4), SENSES)
@settings(max_examples=40)
def test_the_natural_direction_is_the_advantage(data, mdp, sense):
    """F⁺∇J = A/(1 − γ) + c(s) where d(s) > 0 and zero elsewhere, F the Fisher matrix under the normalised d."""
    problem, policy = oc.Problem(mdp, sense=sense), data.draw(positive_policies(mdp))
    evaluation, states = oc.evaluate(problem, policy), mdp.pairs.states
    pi, d = policy.pair_probabilities, evaluation.state_occupancy
    fisher = np.zeros((mdp.n_pairs, mdp.n_pairs))
    for s, (first, last) in enumerate(itertools.pairwise(mdp.pair_start)):
        part = pi[first:last]
        fisher[first:last, first:last] = d[s] * (np.diag(part) - np.outer(part, part))
    gradient = oc.policy_gradient(problem, policy)[states, mdp.pairs.actions]
    direction = np.linalg.pinv(fisher, rcond=1e-12, hermitian=True) @ gradient
    natural = evaluation.pair_advantages / (1 - mdp.discount)
    visited = evaluation.visited[states] & (d[states] > 1e-6)  # below, pinv loses the block
    counts = np.diff(mdp.pair_start)[states]

    def centred(x):
        return x - np.add.reduceat(x, mdp.pair_start[:-1])[states] / counts

    scale = 1 + np.abs(natural).max()
    np.testing.assert_allclose(centred(direction)[visited], centred(natural)[visited], atol=1e-6 * scale)
    assert np.abs(direction[~evaluation.visited[states]]).max(initial=0.0) <= 1e-9 * scale


@given(st.data(), mdps(max_states=4), SENSES)
@settings(max_examples=40)
def test_where_the_loss_sits(data, mdp, sense):
    """J* − J = Σ d* A^π/(1 − γ) = −Σ d^π A*/(1 − γ), and each pair of the second sum has one sign."""
    problem = oc.Problem(mdp, sense=sense)
    found = oc.evaluate(problem, oc.Policy.from_table(mdp, data.draw(policy_tables(mdp))))
    best, rest = oc.solve(problem), 1 - mdp.discount
    optimal = -(1 if sense == "maximize" else -1) * best.certificate.reduced_costs  # A*, in every state
    scale = (1 + np.abs(mdp.pair_rewards).max()) / rest
    difference = best.expected_return - found.expected_return
    assert difference == pytest.approx(best.pair_occupancy @ found.pair_advantages / rest, abs=1e-12 * scale)
    assert difference == pytest.approx(-(found.pair_occupancy @ optimal) / rest, abs=1e-12 * scale)
    terms = found.pair_occupancy * optimal * (1 if sense == "maximize" else -1)
    assert (terms <= 0).all()
    seen = best.visited[mdp.pairs.states]
    np.testing.assert_allclose(optimal[seen], best.pair_advantages[seen], atol=1e-12 * scale)


@pytest.mark.parametrize("scale", ["Return", "", None, "mean"])
def test_scales_that_are_refused(scale):
    mdp = unit_garnet(0)
    with pytest.raises(InvalidProblem, match="'return' or 'normalized'"):
        oc.policy_gradient(mdp, oc.Policy.uniform(mdp), scale=scale)


def test_gradients_of_foreign_policies_and_returns_of_averages_are_refused():
    mdp = unit_garnet(0)
    with pytest.raises(InvalidProblem, match="another model"):
        oc.policy_gradient(mdp, oc.Policy.uniform(unit_garnet(1).replace(rewards=[-np.inf] + [0.0] * 17)))
    with pytest.raises(InvalidProblem, match="scale='normalized'"):
        oc.policy_gradient(oc.Problem(mdp.replace(discount=None), criterion="average"), oc.Policy.uniform(mdp))


TERMS = {
    "KL": lambda mdp: {"regularizer": oc.KL(0.7, oc.Policy.uniform(mdp))},
    "ConditionalKL": lambda mdp: {"regularizer": oc.ConditionalKL(0.7, oc.Policy.uniform(mdp))},
    "PolicyEntropy": lambda mdp: {"regularizer": oc.PolicyEntropy(0.7)},
    "StateEntropy as a regularizer": lambda mdp: {"regularizer": oc.StateEntropy(0.7)},
    "StateEntropy": lambda mdp: {"utility": oc.StateEntropy()},
    "LogSum": lambda mdp: {"utility": oc.LogSum(["reward"])},
    "plain": lambda mdp: {},
}


@pytest.mark.parametrize("criterion", ["discounted", "average"])
@pytest.mark.parametrize("sense", ["maximize", "minimize"])
@pytest.mark.parametrize("name", TERMS)
def test_gradients_of_terms_are_those_of_finite_differences(name, sense, criterion):
    """∇ of d·r + f(d) follows the reward r + ∇f(d), whatever the criterion."""
    mdp = unit_garnet(7).replace(discount=0.8 if criterion == "discounted" else None)
    terms = TERMS[name](mdp)
    if sense == "minimize" and "utility" in terms:
        pytest.skip("a utility is maximised")
    problem = oc.Problem(mdp, sense=sense, criterion=criterion, **terms)
    logits, step = np.random.default_rng(1).normal(size=mdp.n_pairs), 1e-4
    gradient = oc.policy_gradient(problem, softmax(mdp, logits), scale="normalized")
    for k in range(0, mdp.n_pairs, 5):
        moved = np.zeros(mdp.n_pairs)
        moved[k] = step
        values = [oc.evaluate(problem, softmax(mdp, logits + m * moved)).objective for m in (-2, -1, 1, 2)]
        quotient = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        assert gradient[mdp.pairs.states[k], mdp.pairs.actions[k]] == pytest.approx(quotient, abs=1e-9)


@pytest.mark.parametrize("name", ["KL", "ConditionalKL", "PolicyEntropy", "StateEntropy as a regularizer", "LogSum"])
def test_natural_gradients_reach_the_optimum_of_the_convex_program(name):
    mdp = unit_garnet(8)
    problem = oc.Problem(mdp, **TERMS[name](mdp))
    best, found = oc.solve(problem), oc.solve(problem, oc.NaturalPolicyGradient(steps=400), tol=1e-6)
    assert found.objective == pytest.approx(best.objective, abs=3e-6)
    assert found.status is oc.Status.CERTIFIED


def test_natural_gradients_reach_the_best_gain():
    problem = oc.Problem(unit_garnet(9).replace(discount=None), criterion="average")
    best, found = oc.solve(problem), oc.solve(problem, oc.NaturalPolicyGradient())
    assert found.objective == pytest.approx(best.objective, abs=1e-8)


# Steps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_fixed_steps_of_the_gradient(sense):
    """θ ← θ + η∇J (− when minimising), exactly as often as asked."""
    mdp, eta = unit_garnet(2), 0.3
    mdp = mdp.replace(rewards=3.0 * mdp.pair_rewards - 1.0)
    problem, sign = oc.Problem(mdp, sense=sense), 1 if sense == "maximize" else -1
    solver = oc.PolicyGradient(update=oc.updates.GradientStep(step_size=eta), steps=5)
    policies, logits = policies_of(problem, solver), np.zeros(mdp.n_pairs)
    assert len(policies) == 6
    for policy in policies:
        expected = softmax(mdp, logits)
        np.testing.assert_allclose(policy.pair_probabilities, expected.pair_probabilities, rtol=1e-12)
        gradient = oc.policy_gradient(problem, expected)[mdp.pairs.states, mdp.pairs.actions]
        logits = logits + sign * eta * gradient


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_fixed_natural_steps_are_mirror_descent(sense):
    """π ∝ π exp(ηQ/(1 − γ))."""
    mdp, eta = unit_garnet(3), 0.05
    problem, sign = oc.Problem(mdp, sense=sense), 1 if sense == "maximize" else -1
    policies = policies_of(problem, oc.NaturalPolicyGradient(step_size=eta, steps=4))
    assert len(policies) == 5
    for before, after in itertools.pairwise(policies):
        evaluation = oc.evaluate(problem, before)
        exponent = sign * eta * evaluation.pair_action_values / (1 - mdp.discount)
        weights = np.log(before.pair_probabilities) + exponent
        np.testing.assert_allclose(after.pair_probabilities, softmax(mdp, weights).pair_probabilities, rtol=1e-10)


@pytest.mark.parametrize("solver", [oc.PolicyGradient(steps=150), oc.NaturalPolicyGradient(steps=150)])
@given(st.data(), mdps(max_states=5), SENSES)
@settings(max_examples=15)
@pytest.mark.bad_input(74)
def test_line_searches_never_make_the_objective_worse(solver, data, mdp, sense):
    problem, sign = oc.Problem(mdp, sense=sense), 1 if sense == "maximize" else -1
    policies = policies_of(problem, solver, data.draw(positive_policies(mdp)))
    objectives = [sign * oc.evaluate(problem, policy).objective for policy in policies]
    rounding = 1e-14 * (1 + np.abs(mdp.pair_rewards).max())
    assert all(after >= before - rounding for before, after in itertools.pairwise(objectives))
    assert len(policies) == 1 or objectives[-1] > objectives[0]


def test_runs_end_where_no_step_makes_progress():
    constant = oc.MDP.from_arrays(np.full((2, 2, 2), 0.5), np.full((2, 2), 3.0), discount=0.9)
    single = oc.MDP.from_arrays(np.full((2, 1, 2), 0.5), [[1.0], [2.0]], discount=0.9)
    for mdp, solver in itertools.product((constant, single), (oc.PolicyGradient(), oc.NaturalPolicyGradient())):
        result = oc.solve(mdp, solver)
        assert result.iterations == 1
        assert result.status is oc.Status.CERTIFIED
        assert not np.nansum(np.abs(oc.policy_gradient(mdp, result.policy)))


def test_runs_start_from_the_uniform_policy_or_from_a_policy_or_a_result():
    mdp = unit_garnet(4)
    for solver in (oc.PolicyGradient(steps=0), oc.NaturalPolicyGradient(steps=0)):
        np.testing.assert_allclose(oc.solve(mdp, solver).policy.probabilities, 1 / 3, rtol=1e-15)
        other = random_policy(mdp, np.random.default_rng(0))
        for start in (other, oc.solve(mdp, oc.PolicyIteration(warm_up=0), start=other, limit=oc.Limit(iterations=1))):
            found = oc.solve(mdp, solver, start=start).policy
            np.testing.assert_allclose(found.pair_probabilities, other.pair_probabilities, rtol=1e-12)
    corner = oc.Policy.from_choice(mdp, mdp.pair_start[:-1])
    found = oc.solve(mdp, oc.PolicyGradient(steps=3), start=corner)
    assert np.isfinite(found.policy.pair_probabilities).all()
    with pytest.raises(InvalidProblem, match="another model"):
        oc.solve(mdp, oc.PolicyGradient(), start=oc.Policy.uniform(oc.instances.get("howard-toymaker")))


def test_parametrisations_and_estimators_are_what_updates_are_told():
    """The three choices by hand: softmax of the logits, its pullback, and the exact estimate of a policy."""
    mdp = unit_garnet(5)
    pairs, rng = mdp.pairs, np.random.default_rng(0)
    logits, weights = rng.normal(size=mdp.n_pairs), rng.normal(size=mdp.n_pairs)
    parametrization = oc.parametrizations.Softmax()
    pi = parametrization.probabilities(pairs, logits)
    np.testing.assert_allclose(pi, softmax(mdp, logits).pair_probabilities, rtol=1e-14)
    sums = np.add.reduceat(weights, mdp.pair_start[:-1])[pairs.states]
    np.testing.assert_allclose(parametrization.pullback(pairs, logits, weights / pi), weights - pi * sums, atol=1e-13)
    again = parametrization.initial(pairs, softmax(mdp, logits))
    np.testing.assert_allclose(parametrization.probabilities(pairs, again), pi, rtol=1e-12)


@pytest.mark.parametrize("n_states", [12, 400])
def test_estimates_do_not_depend_on_the_size_of_the_model(n_states, monkeypatch):
    """The two ways of the exact estimator agree: one elimination a policy, and the general evaluation."""
    mdp = oc.instances.get("garnet", n_states=n_states, n_actions=2, branching=3, seed=1)
    solver = oc.NaturalPolicyGradient(steps=3, step_size=0.01)
    first = policies_of(oc.Problem(mdp), solver)
    monkeypatch.setattr("occlp.solvers.policy_gradient.estimators.exact.fits_elimination", lambda n, width: False)
    second = policies_of(oc.Problem(mdp), solver)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_allclose(one.pair_probabilities, two.pair_probabilities, rtol=1e-9)


@pytest.mark.parametrize("step", [0, -1.0, math.inf, math.nan])
def test_steps_that_are_refused(step):
    for build in (oc.updates.GradientStep, oc.updates.NaturalStep, oc.NaturalPolicyGradient):
        with pytest.raises(InvalidProblem, match="positive and finite"):
            build(step_size=step)


@pytest.mark.parametrize("steps", [-1, 1.5, True, "10"])
def test_numbers_of_steps_that_are_refused(steps):
    for build in (oc.PolicyGradient, oc.NaturalPolicyGradient):
        with pytest.raises(InvalidProblem, match="integer that is not negative"):
            build(steps=steps)


def test_questions_that_gradients_do_not_answer():
    machine = oc.instances.get("machine-repair")
    problem = oc.Problem(machine, constraints=[oc.expected("wear") <= 0.25])
    for solver in (oc.PolicyGradient(), oc.NaturalPolicyGradient()):
        with pytest.raises(Unsupported, match=type(solver).__name__):
            oc.solve(problem, solver)


# Published rates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("eta", [0.05, 0.5, 5.0])
def test_the_dimension_free_rate_of_natural_gradients(seed, eta):
    """V*(ρ) − V_T(ρ) ≤ log|A|/(ηT) + 1/((1 − γ)² T): Agarwal et al. (2021), Theorem 16.

    Rewards in [0, 1], exact gradients, uniform start, fixed step; values on the return scale.
    """
    mdp = unit_garnet(seed, discount=0.8)
    best = oc.solve(mdp).expected_return
    policies = policies_of(oc.Problem(mdp), oc.NaturalPolicyGradient(step_size=eta, steps=60))
    losses = [best - oc.evaluate(mdp, policy).expected_return for policy in policies]
    bounds = [math.log(3) / (eta * t) + 1 / ((1 - 0.8) ** 2 * t) for t in range(1, 61)]
    assert all(loss <= bound for loss, bound in zip(losses[1:], bounds, strict=True))
    assert losses[0] > losses[-1] > -1e-12


@pytest.mark.parametrize("k", [2, 5, 10])
@pytest.mark.parametrize("discount", [0.0, 0.9])
def test_the_rate_of_softmax_gradients_on_bandits(k, discount):
    """(π* − π_t)·r ≤ 5K²/t for η = 2/5, uniform start, distinct rewards in [0, 1]: Mei et al. (2020), Theorem 2.

    Their gradient is that of π·r; ours is larger by 1/(1 − γ), so that the step is smaller by as much.
    """
    rewards = np.random.default_rng(k).random(k)
    mdp = oc.MDP.from_arrays(np.ones((1, k, 1)), rewards[None], discount=discount)
    solver = oc.PolicyGradient(update=oc.updates.GradientStep(step_size=0.4 * (1 - discount)), steps=400)
    logits = np.zeros(k)
    for t, policy in enumerate(policies_of(oc.Problem(mdp), solver)):
        pi = np.exp(logits - logits.max())
        pi /= pi.sum()
        np.testing.assert_allclose(policy.pair_probabilities, pi, rtol=1e-8)
        if t:
            assert rewards.max() - pi @ rewards <= 5 * k**2 / t
        logits = logits + 0.4 * pi * (rewards - pi @ rewards)
    assert rewards.max() - pi @ rewards > 0


def test_a_plateau_that_plain_gradients_sit_on_and_natural_ones_leave():
    """Kakade (2001), Figure 2: staying in i pays 1, the optimum 2; most mass begins on staying in i."""
    mdp = oc.instances.get("kakade-two-state")
    start = oc.Policy.from_pairs(mdp, [0.998, 0.002, 0.9, 0.1])
    best = oc.solve(mdp).objective
    plain = oc.PolicyGradient(update=oc.updates.GradientStep(step_size=0.05), steps=20)
    natural = oc.NaturalPolicyGradient(step_size=0.05, steps=20)
    slow, fast = (oc.solve(mdp, solver, start=start).objective for solver in (plain, natural))
    assert fast > best - 0.05
    assert slow < best - 0.4


@pytest.mark.bad_input(75)
def test_gradients_vanish_on_the_chain_of_agarwal():
    """While π(a1 | s) < 1/4 everywhere the gradient is exponentially small, and the loss of order one."""
    sizes = []
    for horizon in (8, 16, 24):
        mdp = oc.instances.get("vanishing-gradient-chain", horizon=horizon)
        table = np.where(np.isnan(mdp.rewards), 0.0, [[0.2, 0.8 / 3, 0.8 / 3, 0.8 / 3]])
        table[-1, 0] = 1.0
        gradient = oc.policy_gradient(mdp, oc.Policy.from_table(mdp, table))
        sizes.append(np.sqrt(np.nansum(gradient**2)))
        assert sizes[-1] <= (1 / 3) ** (horizon / 4)
        assert oc.solve(mdp).expected_return >= (horizon + 1) / 8 - (horizon + 1) ** 2 / 3**horizon
    assert sizes[0] > 1e2 * sizes[1] > 1e4 * sizes[2] > 0


# The history -------------------------------------------------------------------------------------------------


def test_the_columns_of_a_history():
    """Objective and return, gap to the best bound known, suboptimal mass, and distances to the unique optimum."""
    mdp, tol = oc.instances.get("garnet", n_states=8, n_actions=3, branching=3, seed=6), 1e-8
    problem, solver = oc.Problem(mdp), oc.NaturalPolicyGradient(steps=12)
    result, best = oc.solve(problem, solver, tol=tol), oc.solve(problem)
    history = result.history
    assert list(history) == [
        "iteration", "objective", "expected_return", "gap", "suboptimal_mass", "total_variation", "kl", "samples",
        "seconds", "gradient_norm", "steepest", "mismatch",
    ]  # fmt: skip
    assert len(history) == 12
    policies = policies_of(problem, solver)
    assert history.n_rows == result.iterations <= len(policies)
    bad = best.pair_advantages < -tol * np.ptp(mdp.pair_rewards)
    for row, policy in zip(history.rows(), policies, strict=False):
        found = oc.evaluate(problem, policy)
        assert row["objective"] == pytest.approx(found.objective, rel=1e-13)
        assert row["expected_return"] == pytest.approx(found.expected_return, rel=1e-13)
        assert row["gap"] == pytest.approx(best.objective - found.objective, abs=1e-12)
        assert row["suboptimal_mass"] == pytest.approx(found.pair_occupancy[bad].sum(), abs=1e-13)
        distance = 0.5 * np.abs(best.pair_occupancy - found.pair_occupancy).sum()
        assert row["total_variation"] == pytest.approx(distance, abs=1e-13)
        d, d0 = best.pair_occupancy, found.pair_occupancy
        divergence = (d[d > 0] * np.log(d[d > 0] / d0[d > 0])).sum()
        assert row["kl"] == pytest.approx(divergence, abs=1e-12)
        assert row["samples"] == 0
        gradient = oc.policy_gradient(problem, policy)
        assert row["gradient_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-6)
        ratio = best.state_occupancy / found.state_occupancy
        assert row["mismatch"] == pytest.approx(ratio.max(), rel=1e-9)
        slopes = found.state_occupancy[mdp.pairs.states] * found.pair_advantages / (1 - mdp.discount)
        steepest = np.maximum.reduceat(slopes, mdp.pair_start[:-1]).sum()
        assert row["steepest"] == pytest.approx(steepest, abs=1e-10)
        assert best.expected_return - row["expected_return"] <= row["mismatch"] * row["steepest"] + 1e-9
    assert (np.diff(history["seconds"]) >= 0).all()
    np.testing.assert_array_equal(history["iteration"], np.arange(1, history.n_rows + 1))
    with pytest.raises(KeyError, match="the columns are iteration"):
        history["loss"]
    again = pickle.loads(pickle.dumps(history))
    np.testing.assert_array_equal(again["gap"], history["gap"])


def test_the_columns_of_sampled_runs():
    """Angle and error against the true gradient, and a variance that agrees with the exact one."""
    mdp = oc.instances.get("garnet", n_states=3, n_actions=2, branching=2, seed=1, discount=0.7)
    estimator = oc.estimators.MonteCarlo(horizon=5, trajectories=64)
    solver = oc.PolicyGradient(estimator=estimator, update=oc.updates.GradientStep(1e-9), steps=300)
    history = oc.solve(mdp, solver, rng=0).history
    assert {"gradient_angle", "gradient_error", "gradient_variance", "mismatch"} <= set(history)
    exact = oc.gradient_moments(mdp, oc.Policy.uniform(mdp), estimator)
    assert np.mean(history["gradient_variance"]) == pytest.approx(exact.variance, rel=0.1)
    few = oc.estimators.MonteCarlo(horizon=5, trajectories=2)  # of which each mean takes half of the spread away
    pairs = oc.solve(mdp, oc.PolicyGradient(estimator=few, update=solver.update, steps=900), rng=1).history
    assert np.mean(pairs["gradient_variance"]) == pytest.approx(32 * exact.variance, rel=0.2)
    squared = exact.variance + np.linalg.norm(exact.bias) ** 2
    assert np.mean(history["gradient_error"] ** 2) == pytest.approx(squared, rel=0.2)
    assert (history["gradient_angle"] > 0).all()
    assert np.median(history["gradient_angle"]) < 60


def test_distances_are_left_out_where_the_optimum_is_not_unique():
    mdp = oc.MDP.from_arrays(np.ones((1, 3, 1)), [[1.0, 1.0, 0.0]], discount=0.9)
    history = oc.solve(mdp, oc.PolicyGradient(steps=5)).history
    assert np.isnan(history["kl"]).all()
    assert np.isnan(history["total_variation"]).all()
    assert np.isfinite(history["suboptimal_mass"]).all()
    assert history["suboptimal_mass"][0] == pytest.approx(1 / 3)
    untied = oc.MDP.from_arrays(np.ones((1, 3, 1)), [[1.0, 0.9, 0.0]], discount=0.9)
    assert np.isfinite(oc.solve(untied, oc.PolicyGradient(steps=5)).history["kl"]).all()


def test_long_histories_are_thinned_and_keep_their_ends():
    mdp = oc.instances.get("kakade-two-state")
    start = oc.Policy.from_pairs(mdp, [0.999, 0.001, 0.9, 0.1])
    solver = oc.PolicyGradient(update=oc.updates.GradientStep(step_size=1e-3), steps=2500)
    result = oc.solve(mdp, solver, start=start)
    assert result.iterations == 2501
    assert result.history.n_rows <= 1000
    assert result.history["iteration"][[0, -1]].tolist() == [1, 2501]
    assert (np.diff(result.history["iteration"]) > 0).all()
    np.testing.assert_array_equal(result.history["iteration"][:99], np.arange(1, 100))


def test_the_gap_of_a_gradient_is_not_judged_by_its_own_values():
    """At states that a policy does not reach, its own values prove nothing; the optimum does."""
    mdp = oc.MDP.from_arrays([[[1, 0], [1, 0]], [[0, 1], [0, 1]]], [[1.0, 0.0], [1000.0, 0.0]], discount=0.9, initial=0)
    result = oc.solve(mdp, oc.PolicyGradient(steps=50))
    assert result.gap < 1.0
    assert result.history["gap"][-1] == pytest.approx(1.0 - result.objective, abs=1e-10)
    assert not result.visited[1]


def test_the_result_is_the_best_policy_of_the_run():
    """A fixed step that is far too long ends in a bad place; what is returned is the best that was seen."""
    mdp = oc.instances.get("garnet", n_states=6, n_actions=3, branching=3, seed=0)
    solver = oc.PolicyGradient(update=oc.updates.GradientStep(step_size=300.0), steps=30)
    result = oc.solve(mdp, solver)
    assert result.objective == pytest.approx(result.history["objective"].max(), rel=1e-13)
    assert result.status in (oc.Status.BOUNDED, oc.Status.CERTIFIED)

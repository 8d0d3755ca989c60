"""Estimators: their expectations as theorems, by recursion and by listing every trajectory, and by sampling."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from helpers import positive_policies
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps

import occlp as oc
from occlp.errors import InvalidProblem, Unsupported

E = oc.estimators
MDP = oc.instances.get("garnet", n_states=3, n_actions=2, branching=2, seed=1, discount=0.7).replace(
    initial=[0.8, 0.2, 0]
)
POLICY = oc.Policy.from_pairs(MDP, [0.3, 0.7, 0.6, 0.4, 0.5, 0.5])
TERMINAL = oc.MDP.from_arrays(  # a walk that ends on the right
    [[[0.5, 0.5, 0.0], [0.0, 0.9, 0.1]], [[0.3, 0.3, 0.4], [0.0, 0.2, 0.8]], [[0, 0, 1], [0, 0, 1]]],
    [[1.0, -1.0], [0.5, 2.0], [0.0, 0.0]], discount=0.9, initial=[0.7, 0.3, 0.0],
)  # fmt: skip
WALK = oc.Policy.from_pairs(TERMINAL, [0.4, 0.6, 0.7, 0.3, 0.5, 0.5])
BASELINE = np.array([3.0, -1.0, 0.5])


def moments(estimator, mdp=MDP, policy=POLICY, **settings):
    return oc.gradient_moments(mdp, policy, estimator, **settings)


def listed_mean(estimator, mdp=MDP, policy=POLICY, horizon=5, values=None):
    """The expectation over a list of all trajectories, of softmax scores written out here."""
    problem = oc.Problem(mdp)
    sample, chances = oc.all_trajectories(problem, policy, horizon)
    assert chances.sum() == pytest.approx(1.0, abs=1e-12)
    values = estimator.values(problem, policy) if values is None else values
    signals = estimator.signals(problem, sample, values)
    out = np.zeros(mdp.n_pairs)
    for row, signal, chance in zip(sample.pair_index, signals, chances, strict=True):
        for k, psi in zip(row, signal, strict=True):
            if k >= 0:
                state = mdp.pairs.states == mdp.pairs.states[k]
                out += chance * psi * ((np.arange(mdp.n_pairs) == k) - state * policy.pair_probabilities)
    return out


# Expectations ------------------------------------------------------------------------------------------------

ESTIMATORS = {
    "to go": E.MonteCarlo(horizon=5),
    "total": E.MonteCarlo(horizon=5, returns="total"),
    "total with a baseline": E.MonteCarlo(horizon=5, returns="total", baseline=BASELINE),
    "baseline": E.MonteCarlo(horizon=5, baseline=BASELINE),
    "exact baseline": E.MonteCarlo(horizon=5, baseline="values"),
    "bootstrapped": E.MonteCarlo(horizon=5, baseline="values", bootstrap=True),
    "dropped": E.MonteCarlo(horizon=5, discounting="drop"),
    "TD": E.TemporalDifference(horizon=5, critic="values"),
    "TD with a wrong critic": E.TemporalDifference(horizon=5, critic=BASELINE),
    "GAE": E.GAE(lam=0.6, horizon=5, critic=BASELINE),
    "GAE, dropped, cut": E.GAE(lam=0.6, horizon=5, critic=BASELINE, discounting="drop", bootstrap=False),
}


@pytest.mark.parametrize("model", ["continuing", "with an end"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_recursion_agrees_with_a_list_of_all_trajectories(name, model):
    mdp, policy = (MDP, POLICY) if model == "continuing" else (TERMINAL, WALK)
    found = moments(ESTIMATORS[name], mdp, policy)
    np.testing.assert_allclose(found.mean, listed_mean(ESTIMATORS[name], mdp, policy), atol=1e-13)
    assert found.n_trajectories > 100
    assert found.variance > 0


@pytest.mark.parametrize("model", ["continuing", "with an end"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_variances_by_recursion_are_those_of_the_list(name, model, monkeypatch):
    mdp, policy = (MDP, POLICY) if model == "continuing" else (TERMINAL, WALK)
    listed = moments(ESTIMATORS[name], mdp, policy)
    monkeypatch.setattr("occlp.solvers.policy_gradient.listing.MOST_TRAJECTORIES", 10)
    found = moments(ESTIMATORS[name], mdp, policy)
    assert (found.n_trajectories, listed.n_trajectories > 100) == (0, True)
    assert found.variance == pytest.approx(listed.variance, rel=1e-11)


@pytest.mark.parametrize(
    ("estimator", "horizon"),
    [
        (E.MonteCarlo(horizon="geometric", trajectories=1), "geometric"),
        (E.MonteCarlo(horizon="geometric", trajectories=1, returns="total", baseline=BASELINE), "geometric"),
        (E.GAE(horizon="geometric", trajectories=1, lam=0.6, critic=BASELINE, bootstrap=False), "geometric"),
        (E.MonteCarlo(horizon="episode", trajectories=1, baseline=BASELINE), "episode"),
        (E.GAE(horizon="episode", trajectories=1, lam=0.6, critic=BASELINE, discounting="drop"), "episode"),
        (E.MonteCarlo(horizon=40, trajectories=1), 40),
    ],
)
def test_variances_of_endless_trajectories(estimator, horizon):
    """Against 200,000 samples; a fourth moment tells how near they should be."""
    problem, count = oc.Problem(TERMINAL), 200_000
    found = moments(estimator, TERMINAL, WALK)
    sample = oc.rollouts(TERMINAL, WALK, n_trajectories=count, horizon=horizon, rng=0)
    signals = estimator.signals(problem, sample, estimator.values(problem, WALK))
    gradients, taken = np.zeros((count, TERMINAL.n_pairs)), sample.mask
    rows = np.broadcast_to(np.arange(count)[:, None], taken.shape)
    np.add.at(gradients, (rows[taken], sample.pair_index[taken]), signals[taken])
    sums = np.add.reduceat(gradients, TERMINAL.pair_start[:-1], axis=1)[:, TERMINAL.pairs.states]
    squares = ((gradients - WALK.pair_probabilities * sums - found.mean) ** 2).sum(axis=1)
    assert found.n_trajectories == 0
    assert abs(squares.mean() - found.variance) < 5 * squares.std() / math.sqrt(count)


@pytest.mark.parametrize("returns", ["to_go", "total"])
@pytest.mark.parametrize("horizon", [40, "geometric"])
def test_variances_that_take_too_long_are_not_known(returns, horizon, monkeypatch):
    monkeypatch.setattr("occlp.solvers.policy_gradient.variance.MOST_WORK", 1e3)
    monkeypatch.setattr("occlp.solvers.policy_gradient.variance.MOST_STEPS", 10)
    assert math.isnan(moments(E.MonteCarlo(horizon=horizon, returns=returns), TERMINAL, WALK).variance)


def test_signals_of_ones_own_have_no_recursion():
    class Own(E.MonteCarlo):
        def signals(self, problem, sample, values):
            return 2.0 * super().signals(problem, sample, values)

    assert math.isnan(moments(Own(horizon=40)).variance)
    assert moments(Own(horizon=5)).variance == pytest.approx(4 * moments(E.MonteCarlo(horizon=5)).variance)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_samples_agree_with_mean_and_variance(name):
    """20,000 estimates of one trajectory: the mean within five standard errors, the variance within 10 %."""
    estimator = ESTIMATORS[name]
    found, problem = moments(estimator), oc.Problem(MDP)
    variance = found.variance * estimator.trajectories
    sample = oc.rollouts(MDP, POLICY, n_trajectories=20_000, horizon=5, rng=0)
    signals = estimator.signals(problem, sample, estimator.values(problem, POLICY))
    gradients = np.zeros((20_000, MDP.n_pairs))
    np.add.at(gradients, (np.arange(20_000)[:, None], sample.pair_index), signals)
    sums = np.add.reduceat(gradients, MDP.pair_start[:-1], axis=1)[:, MDP.pairs.states]
    gradients -= POLICY.pair_probabilities * sums
    error = np.linalg.norm(gradients.mean(axis=0) - found.mean)
    assert error < 5 * math.sqrt(variance / 20_000)
    assert ((gradients - found.mean) ** 2).sum(axis=1).mean() == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("estimator", [E.MonteCarlo(trajectories=4000), E.GAE(trajectories=4000, critic="values")])
@pytest.mark.parametrize("horizon", ["geometric", "episode", 40])
def test_estimates_of_a_run_are_the_gradient_on_average(estimator, horizon):
    """What an update is handed: slopes, masses and advantages of large samples, near the exact ones."""
    if horizon == "geometric" and estimator.bootstrap:
        pytest.skip("nothing follows the end of a geometric horizon")
    problem = oc.Problem(TERMINAL, sense="minimize")
    estimator = type(estimator)(**{**vars(estimator), "horizon": horizon})
    exact = E.Exact().prepare(problem, np.random.default_rng(0))(WALK.pair_probabilities)
    found = estimator.prepare(problem, np.random.default_rng(1))(WALK.pair_probabilities)
    pi, first = WALK.pair_probabilities, TERMINAL.pair_start[:-1]

    def centred(estimate):
        weights = pi * estimate.slopes
        return weights - pi * np.add.reduceat(weights, first)[TERMINAL.pairs.states]

    np.testing.assert_allclose(centred(found), centred(exact), atol=0.02 * np.abs(centred(exact)).max() + 2e-3)
    before_end = TERMINAL.pairs.states < 2
    np.testing.assert_allclose(found.pair_mass[before_end], exact.pair_mass[before_end], atol=0.01)
    np.testing.assert_allclose(found.rises + found.falls, found.slopes, atol=1e-12)
    assert (found.rises >= 0).all()
    assert (found.falls <= 1e-15).all()
    assert found.samples > 4000


# Theorems ----------------------------------------------------------------------------------------------------


@given(st.data(), mdps(max_states=3, max_actions=3), st.sampled_from(["maximize", "minimize"]))
@settings(max_examples=30, deadline=None)
def test_unbiased_estimators(data, mdp, sense):
    """Geometric horizons: returns with any baseline, TD(λ) with the true values. Nothing is left out."""
    problem, policy = oc.Problem(mdp, sense=sense), data.draw(positive_policies(mdp))
    numbers = st.floats(-5, 5, allow_subnormal=False)
    baseline = np.array(data.draw(st.lists(numbers, min_size=mdp.n_states, max_size=mdp.n_states)))
    for estimator in (
        E.MonteCarlo(horizon="geometric"),
        E.MonteCarlo(horizon="geometric", returns="total"),
        E.MonteCarlo(horizon="geometric", baseline=baseline),
        E.GAE(horizon="geometric", lam=1.0, critic=baseline, bootstrap=False),
        E.GAE(horizon="geometric", lam=0.3, critic="values", bootstrap=False),
        E.TemporalDifference(horizon="geometric", critic="values", bootstrap=False),
    ):
        found = oc.gradient_moments(problem, policy, estimator)
        scale = (1 + np.abs(mdp.pair_rewards).max() + np.abs(baseline).max()) / (1 - mdp.discount) ** 2
        np.testing.assert_allclose(found.mean, found.truth, atol=1e-12 * scale)
        table = oc.policy_gradient(problem, policy)[mdp.pairs.states, mdp.pairs.actions]
        np.testing.assert_allclose(found.truth, table, atol=1e-12 * scale)


def test_a_baseline_leaves_the_mean_and_changes_the_variance():
    """Any function of the state; the true values are good, but a constant shift of them can be better."""
    plain = moments(E.MonteCarlo(horizon=5))
    for baseline in (BASELINE, "values", "average"):
        found = moments(E.MonteCarlo(horizon=5, baseline=baseline))
        np.testing.assert_allclose(found.mean, plain.mean, atol=1e-13)
    exact = moments(E.MonteCarlo(horizon=5, baseline="values")).variance
    assert exact < 0.5 * plain.variance
    # The variance is quadratic in a shift of the baseline: its lowest point is not at zero.
    values = oc.evaluate(MDP, POLICY).state_values
    shifts = np.array([-0.5, 0.0, 0.5])
    found = [moments(E.MonteCarlo(horizon=5, baseline=values + shift)).variance for shift in shifts]
    curve = np.polyfit(shifts, found, 2)
    lowest = -curve[1] / (2 * curve[0])
    assert abs(lowest) > 0.01
    assert moments(E.MonteCarlo(horizon=5, baseline=values + lowest)).variance < exact


def test_a_baseline_of_the_action_is_biased():
    """Not every control variate is a baseline: Q(s, a) in the place of V(s) leaves nothing of the gradient."""
    problem = oc.Problem(MDP)
    sample, chances = oc.all_trajectories(problem, POLICY, 5)
    signals = E.MonteCarlo(horizon=5).signals(problem, sample, np.zeros(3))
    steps = [np.bincount(sample.pair_index[:, t], weights=chances * signals[:, t], minlength=6) for t in range(5)]
    seen = [np.bincount(sample.pair_index[:, t], weights=chances, minlength=6) for t in range(5)]
    means = [np.where(n > 0, total / np.where(n > 0, n, 1), 0.0) for total, n in zip(steps, seen, strict=True)]
    left = sum(total - n * mean for total, n, mean in zip(steps, seen, means, strict=True))
    np.testing.assert_allclose(left, 0.0, atol=1e-14)
    assert np.abs(moments(E.MonteCarlo(horizon=5)).mean).max() > 0.05


def test_causality():
    """Rewards before a step add nothing to the mean and much to the variance."""
    total, to_go = (moments(E.MonteCarlo(horizon=5, returns=returns)) for returns in ("total", "to_go"))
    np.testing.assert_allclose(total.mean, to_go.mean, atol=1e-14)
    np.testing.assert_allclose(listed_mean(E.MonteCarlo(returns="total")), to_go.mean, atol=1e-13)
    assert total.variance > 2 * to_go.variance


def test_the_ends_of_generalised_advantages():
    """λ = 0 is the temporal difference, λ = 1 the return to go less the critic: signal by signal."""
    problem = oc.Problem(TERMINAL)
    sample = oc.rollouts(TERMINAL, WALK, n_trajectories=50, horizon=8, rng=0)
    values = oc.evaluate(TERMINAL, WALK).state_values + BASELINE
    rewards, states = sample.rewards, sample.states
    following = np.where(sample.mask, values[sample.next_states], 0.0)
    last = sample.lengths[:, None] - 1 == np.arange(sample.pair_index.shape[1])
    following[last & sample.terminated[:, None]] = 0.0
    delta = np.where(sample.mask, rewards + 0.9 * following - values[states], 0.0)
    factor = 0.9 ** np.arange(sample.pair_index.shape[1])
    low = E.GAE(lam=0.0, critic=values).signals(problem, sample, values)
    np.testing.assert_allclose(low, factor * delta, atol=1e-13)
    np.testing.assert_array_equal(low, E.TemporalDifference(critic=values).signals(problem, sample, values))
    high = E.GAE(lam=1.0, critic=values, bootstrap=False).signals(problem, sample, values)
    returns = np.where(sample.mask, np.cumsum((factor * rewards)[:, ::-1], axis=1)[:, ::-1], 0.0)
    np.testing.assert_allclose(high, np.where(sample.mask, returns - factor * values[states], 0.0), atol=1e-13)
    middle = E.GAE(lam=0.4, critic=values).signals(problem, sample, values)
    expected = [
        sum((0.9 * 0.4) ** (j - t) * delta[:, j] for j in range(t, delta.shape[1])) for t in range(delta.shape[1])
    ]
    np.testing.assert_allclose(middle, factor * np.stack(expected, axis=1), atol=1e-13)


def test_a_wrong_critic_biases_temporal_differences_by_a_known_amount():
    """E Ψ = A + γ (P − P^π) (V̂ − V) at each pair: the bias is the gradient of a reward γPV̂ − γPV."""
    problem, values = oc.Problem(MDP), oc.evaluate(MDP, POLICY).state_values
    wrong = values + BASELINE
    found = moments(E.TemporalDifference(horizon="geometric", critic=wrong, bootstrap=False))
    extra = 0.7 * MDP.transitions @ BASELINE
    visits = oc.evaluate(MDP, POLICY).state_occupancy[MDP.pairs.states] / 0.3
    weights = POLICY.pair_probabilities * visits * extra
    bias = weights - POLICY.pair_probabilities * np.add.reduceat(weights, MDP.pair_start[:-1])[MDP.pairs.states]
    np.testing.assert_allclose(found.bias, bias, atol=1e-13)
    assert np.abs(bias).max() > 0.1
    assert problem.discount == 0.7


def test_cut_trajectories_lose_what_follows():
    """The bias of a cut decreases as γ^T; bootstrapping with the true values leaves only the missing steps."""
    sizes = [np.linalg.norm(moments(E.MonteCarlo(horizon=t)).bias) for t in (4, 8, 16)]
    for short, long, steps in zip(sizes[:-1], sizes[1:], (4, 8), strict=True):
        assert long == pytest.approx(short * 0.7**steps, rel=0.6)
    once = E.MonteCarlo(horizon=1, baseline="values", bootstrap=True)
    evaluation = oc.evaluate(MDP, POLICY)
    weights = MDP.initial[MDP.pairs.states] * POLICY.pair_probabilities * evaluation.pair_advantages
    np.testing.assert_allclose(moments(once).mean, weights, atol=1e-13)


def test_dropping_the_discount_points_elsewhere():
    """Without γ^t an estimator follows Σ_t P(s_t = s) A(s, a) ∇π: not the gradient, nor parallel to it."""
    kept, dropped = (moments(E.MonteCarlo(horizon=300, discounting=how)) for how in ("keep", "drop"))
    assert kept.angle < 1e-6
    assert dropped.angle > 1.0
    # Two states in turn, only the first of which matters at the start: after many steps both count alike.
    evaluation = oc.evaluate(MDP, POLICY)
    chain = np.zeros((3, 3))
    np.add.at(chain, MDP.pairs.states, POLICY.pair_probabilities[:, None] * MDP.transitions.toarray())
    visits = sum(MDP.initial @ np.linalg.matrix_power(chain, t) for t in range(300))
    weights = visits[MDP.pairs.states] * POLICY.pair_probabilities * evaluation.pair_advantages
    np.testing.assert_allclose(dropped.mean, weights, atol=0.05 * np.abs(weights).max())


def test_episodes_need_no_cut():
    found = moments(E.MonteCarlo(horizon="episode"), TERMINAL, WALK)
    np.testing.assert_allclose(found.mean, found.truth, atol=1e-12)
    assert found.n_trajectories == 0


def test_trajectories_that_are_too_many_are_not_listed():
    with pytest.raises(InvalidProblem, match="more than 2000000 trajectories of 40 steps"):
        oc.all_trajectories(MDP, POLICY, 40)


def test_moments_of_features():
    """Expectation and variance with respect to the parameters of any family."""
    features = np.random.default_rng(0).normal(size=(3, 2, 2))
    family, theta = oc.parametrizations.LogLinear(features), np.array([0.4, -0.3])
    policy = oc.Policy.from_pairs(MDP, family.probabilities(MDP.pairs, theta))
    found = moments(E.MonteCarlo(horizon=6), policy=policy, parametrization=family, parameters=theta)
    tabular = moments(E.MonteCarlo(horizon=6), policy=policy)
    np.testing.assert_allclose(found.mean, tabular.mean @ features.reshape(6, 2), atol=1e-13)
    assert found.truth.shape == (2,)
    again = moments(E.MonteCarlo(horizon=6), policy=policy, parametrization=family)
    assert again.variance == pytest.approx(found.variance, rel=1e-9)
    with pytest.raises(InvalidProblem, match="does not give this policy"):
        moments(E.MonteCarlo(horizon=6), policy=POLICY, parametrization=family)


# Learning while running --------------------------------------------------------------------------------------


def test_critics_and_averages_approach_the_true_values():
    problem, truth = oc.Problem(TERMINAL), oc.evaluate(TERMINAL, WALK).state_values[:2]
    for estimator in (
        E.MonteCarlo(baseline="average", horizon="episode", trajectories=200),
        E.GAE(lam=0.9, horizon="episode", trajectories=200, critic_step=0.05),
        E.TemporalDifference(horizon="episode", trajectories=200, critic_step=0.05),
    ):
        values, visits = np.zeros(3), np.zeros(3)
        rng = np.random.default_rng(0)
        for _ in range(150):
            sample = estimator.sample(problem, WALK, rng)
            values, visits = estimator.learn(problem, sample, values, visits)
        np.testing.assert_allclose(values[:2], truth, atol=0.12)
        assert values[2] == 0.0


def test_averages_are_those_of_all_returns_so_far():
    problem, rng = oc.Problem(TERMINAL), np.random.default_rng(3)
    estimator = E.MonteCarlo(baseline="average", horizon=6)
    values, visits = np.zeros(3), np.zeros(3)
    returns = {0: [], 1: []}
    for _ in range(4):
        sample = estimator.sample(problem, WALK, rng)
        values, visits = estimator.learn(problem, sample, values, visits)
        for states, rewards in zip(sample.states, sample.rewards, strict=True):
            for t, s in enumerate(states):
                if s >= 0:
                    returns[s].append(sum(0.9 ** (j - t) * rewards[j] for j in range(t, 6)))
    for s in (0, 1):
        assert values[s] == pytest.approx(np.mean(returns[s]), rel=1e-12)
        assert visits[s] == len(returns[s])


# Settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: E.MonteCarlo(trajectories=0), "trajectories=0"),
        (lambda: E.MonteCarlo(horizon=0), "horizon=0"),
        (lambda: E.MonteCarlo(horizon="long"), "horizon='long'"),
        (lambda: E.MonteCarlo(discounting="half"), "'keep' or 'drop'"),
        (lambda: E.MonteCarlo(horizon="geometric", discounting="drop"), "geometric horizon is the discount"),
        (lambda: E.GAE(horizon="geometric"), "nothing follows its end"),
        (lambda: E.MonteCarlo(returns="both"), "'to_go' or 'total'"),
        (lambda: E.MonteCarlo(returns="total", discounting="drop"), "none to drop"),
        (lambda: E.MonteCarlo(baseline="exact"), "None, 'values', 'average'"),
        (lambda: E.MonteCarlo(bootstrap=True), "needs a baseline"),
        (lambda: E.GAE(lam=1.5), "lam=1.5"),
        (lambda: E.GAE(critic=None), "'learned', 'values'"),
        (lambda: E.TemporalDifference(critic_step=0), "critic_step=0"),
        (lambda: oc.PolicyGradient(estimator=E.MonteCarlo()), "give a step_size"),
        (lambda: oc.NaturalPolicyGradient(estimator=E.MonteCarlo()), "give a step_size"),
        (lambda: oc.MirrorDescent(estimator=E.MonteCarlo()), "give a step_size"),
        (lambda: moments(E.MonteCarlo(baseline=[1.0])), "with S = 3"),
    ],
)
def test_settings_that_are_refused(build, message):
    with pytest.raises(InvalidProblem, match=message):
        build()


def test_questions_that_samples_do_not_answer():
    uniform = oc.Policy.uniform(MDP)
    step = oc.updates.GradientStep(0.1)
    solver = oc.PolicyGradient(estimator=E.MonteCarlo(), update=step)
    for problem, message in (
        (oc.Problem(MDP, regularizer=oc.KL(1.0, uniform)), "a term besides"),
        (oc.Problem(MDP, constraints=[oc.expected("reward") <= 0.25]), "cannot keep constraints"),
    ):
        with pytest.raises(Unsupported, match=message):
            oc.solve(problem, solver)
    with pytest.raises(Unsupported, match="a term besides"):
        oc.gradient_moments(oc.Problem(MDP, utility=oc.StateEntropy()), uniform, E.MonteCarlo())
    corridor = oc.MDP.from_arrays([[[0.5, 0.5]], [[0, 1]]], [[1], [0]])
    for horizon, objective in (("geometric", "reward"), (None, "reach")):
        solver = oc.PolicyGradient(estimator=E.MonteCarlo(horizon=horizon), update=step)
        with pytest.raises(Unsupported, match="sums of the rewards of whole episodes"):
            oc.solve(oc.Problem(corridor, criterion="total", goal=1, objective=objective), solver)


# Runs --------------------------------------------------------------------------------------------------------


UPDATES = {
    "plain": oc.updates.GradientStep(0.02, decay=0.3),
    "adaptive": oc.updates.GradientStep(0.1, adaptive=True),
    "natural": oc.updates.NaturalStep(0.02),
    "compatible": oc.updates.NaturalStep(0.02, fisher="sampled", damping=0.01),
    "mirror": oc.updates.MirrorStep(0.02),
    "trust": oc.updates.TrustRegion(0.02),
    "clipped": oc.updates.ClippedRatio(),
}


@pytest.mark.parametrize("estimator", [E.MonteCarlo(baseline="average"), E.GAE(critic="values")], ids=str)
@pytest.mark.parametrize("name", UPDATES)
def test_every_update_learns_from_samples(name, estimator):
    """Less than a tenth of the first loss is left; the answer is honest about what is."""
    mdp = oc.instances.get("machine-repair")
    solver = oc.PolicyGradient(estimator=estimator, update=UPDATES[name], steps=150)
    result, best = oc.solve(mdp, solver, rng=0), oc.solve(mdp)
    start = oc.evaluate(mdp, oc.Policy.uniform(mdp)).objective
    assert best.objective - result.objective < 0.1 * (best.objective - start)
    assert result.gap >= best.objective - result.objective - 1e-12
    assert result.status in (oc.Status.BOUNDED, oc.Status.CERTIFIED)
    assert result.history["samples"][0] > 0
    assert (np.diff(result.history["samples"]) > 0).all()


@pytest.mark.bad_input(77)
def test_runs_are_functions_of_the_seed():
    mdp = oc.instances.get("machine-repair")
    solver = oc.PolicyGradient(estimator=E.GAE(), update=UPDATES["adaptive"], steps=5)
    first, again, other = (oc.solve(mdp, solver, rng=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.policy.probabilities, again.policy.probabilities)
    assert np.abs(first.policy.probabilities - other.policy.probabilities).max() > 0
    table = oc.compare(mdp, {"pi": oc.PolicyIteration(), "mc": solver}, seeds=3)
    assert [row["name"] for row in table.to_records()] == ["pi", "mc", "mc", "mc"]
    objectives = {row["objective"] for row in table.to_records()[1:]}
    assert len(objectives) == 3


def test_runs_stop_at_a_number_of_samples():
    mdp = oc.instances.get("machine-repair")
    solver = oc.PolicyGradient(estimator=E.MonteCarlo(trajectories=4, horizon=10), update=UPDATES["adaptive"])
    result = oc.solve(mdp, solver, rng=0, limit=oc.Limit(samples=1000))
    assert result.status is oc.Status.LIMIT
    assert 1000 <= result.samples <= 1040
    assert result.gap > 0
    assert oc.verify(mdp, result)
    resumed = oc.solve(mdp, solver, rng=0, limit=oc.Limit(samples=1000), start=result)
    assert resumed.objective >= result.objective


def test_units_of_the_reward_do_not_matter_to_scale_free_updates():
    """Costs to be minimised, offsets and factors: the same trajectories and the same path."""
    mdp = oc.instances.get("machine-repair")
    for name, estimator in itertools.product(
        ("adaptive", "trust", "clipped"), (E.GAE(), E.MonteCarlo(baseline="average"))
    ):
        solver = oc.PolicyGradient(estimator=estimator, update=UPDATES[name], steps=8)
        first = oc.solve(mdp, solver, rng=0)
        costs = oc.Problem(mdp.replace(rewards=-1e3 * mdp.pair_rewards), sense="minimize")
        second = oc.solve(costs, solver, rng=0)
        np.testing.assert_allclose(second.policy.probabilities, first.policy.probabilities, rtol=1e-6)
        assert second.objective == pytest.approx(-1e3 * first.objective, rel=1e-6)


def test_an_estimator_in_one_file():
    """A third party's estimator: one-step returns; and its expectation comes from the same recursion."""

    class Myopic(E.TrajectoryEstimator):
        @property
        def trace(self):
            return 0.0

    found = moments(Myopic(horizon=5))
    np.testing.assert_allclose(found.mean, listed_mean(Myopic(horizon=5)), atol=1e-13)
    update = oc.updates.GradientStep(0.1, adaptive=True)
    assert oc.solve(MDP, oc.PolicyGradient(estimator=Myopic(), update=update, steps=20), rng=0).samples > 0

"""Sampled gradients of the average reward: expectations by recursion, by listing, in closed form, and by sampling."""

from __future__ import annotations

import itertools
import math
import sys

import numpy as np
import pytest
from helpers import dense_chain, dense_transitions, positive_policies
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps

import occlp as oc
from occlp.errors import InvalidProblem, Unsupported

E, U = oc.estimators, oc.updates
RNG = np.random.default_rng(4)
MDP = oc.MDP.from_arrays(RNG.dirichlet(np.ones(3), (3, 2)), 3 * RNG.random((3, 2)), initial=[0.6, 0.4, 0.0])
POLICY = oc.Policy.from_pairs(MDP, [0.3, 0.7, 0.6, 0.4, 0.5, 0.5])
PROBLEM = oc.Problem(MDP, criterion="average")
FOUND = oc.evaluate(PROBLEM, POLICY)
BASELINE = np.array([3.0, -1.0, 0.5])
#: Cycles from state 0 have two or three steps.
LOOP = oc.MDP.from_arrays(
    [[[0, 0.5, 0.5], [0, 0.9, 0.1]], [[1, 0, 0], [0, 0, 1.0]], [[1, 0, 0], [1, 0, 0]]],
    [[1.0, 2.0], [0.0, 5.0], [1.0, -1.0]], initial=[1, 0, 0],
)  # fmt: skip


def stationary(beta=None):
    """The problem begun in the stationary distribution of the policy; discounted by β if one is given."""
    begun = MDP.replace(initial=FOUND.state_occupancy)
    return begun.replace(discount=beta) if beta is not None else oc.Problem(begun, criterion="average")


def moments(estimator, problem=PROBLEM, policy=POLICY, **settings):
    return oc.gradient_moments(problem, policy, estimator, **settings)


def scores_of(mdp, policy):
    """∇ log π of softmax logits, [pairs, pairs]."""
    same = mdp.pairs.states[:, None] == mdp.pairs.states
    return np.eye(mdp.n_pairs) - same * policy.pair_probabilities


def logits(weights, mdp=MDP, policy=POLICY):
    """Σ m ∇log π for weights m [pairs]."""
    return weights @ scores_of(mdp, policy)


# A number of steps -------------------------------------------------------------------------------------------

SIGNALS = {
    "to go": (E.MonteCarlo(horizon=4, discount=0.6), 0.6, 1.0, None),
    "to go, default": (E.MonteCarlo(horizon=4), 0.95, 1.0, None),
    "baseline": (E.MonteCarlo(horizon=4, discount=0.6, baseline=BASELINE), 0.6, 1.0, None),
    "bootstrapped": (E.MonteCarlo(horizon=4, discount=0.6, baseline=BASELINE, bootstrap=True), 0.6, 1.0, BASELINE),
    "total": (E.MonteCarlo(horizon=4, returns="total"), 1.0, 1.0, None),
    "TD": (E.TemporalDifference(horizon=4, critic=BASELINE), 1.0, 0.0, BASELINE),
    "GAE": (E.GAE(horizon=4, critic=BASELINE, lam=0.7), 1.0, 0.7, BASELINE),
    "GAE, cut": (E.GAE(horizon=4, critic=BASELINE, lam=0.7, bootstrap=False), 1.0, 0.7, None),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_means_and_variances_are_those_of_a_list_of_all_trajectories(name, monkeypatch):
    """(1/T) Σ_t Ψ_t ∇log π with Ψ_t = Σ_l (βλ)^l (r − g + βV(s') − V(s)), written out for every trajectory."""
    estimator, beta, trace, ends = SIGNALS[name]
    gain, values = 0.8, BASELINE if "BL" in name or estimator.base is not None else np.zeros(3)
    sample, chances = oc.all_trajectories(PROBLEM, POLICY, 4)
    scores, gradients = scores_of(MDP, POLICY), np.zeros((len(chances), 6))
    states = np.column_stack([sample.states, sample.final_states])
    for n, row in enumerate(sample.pair_index):
        rewards = MDP.pair_rewards[row] - gain
        ahead = values[states[n, 1:]].copy()
        ahead[-1] = 0.0 if ends is None else ends[states[n, -1]]
        delta = rewards + beta * ahead - values[states[n, :-1]]
        for t in range(4):
            psi = rewards.sum() if name == "total" else sum((beta * trace) ** (u - t) * delta[u] for u in range(t, 4))
            gradients[n] += psi * scores[row[t]] / 4
    mean = chances @ gradients
    found = moments(estimator, gain=gain)
    assert found.n_trajectories == len(chances)
    np.testing.assert_allclose(found.mean, mean, atol=1e-13)
    expected = chances @ ((gradients - mean) ** 2).sum(axis=1) / estimator.trajectories
    assert found.variance == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(found.truth, logits(FOUND.pair_occupancy * FOUND.pair_advantages), atol=1e-13)
    monkeypatch.setattr("occlp.solvers.policy_gradient.listing.MOST_TRAJECTORIES", 10)
    again = moments(estimator, gain=gain)
    assert (again.n_trajectories, again.variance) == (0, pytest.approx(expected, rel=1e-11))


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_the_bias_of_a_discount(beta):
    """GPOMDP tends to Σ d ∇π Q_β, a discounted gradient with d held fixed: Baxter and Bartlett (2001), Theorem 2."""
    exact = oc.evaluate(stationary(beta), POLICY)
    np.testing.assert_allclose(exact.state_occupancy, FOUND.state_occupancy, atol=1e-14)
    limit = logits(FOUND.pair_occupancy * exact.pair_action_values)
    np.testing.assert_allclose(
        oc.policy_gradient(stationary(beta), POLICY, scale="normalized").ravel(), limit, atol=1e-13
    )
    errors = [
        np.abs(moments(E.MonteCarlo(horizon=steps, discount=beta), stationary()).mean - limit).max()
        for steps in (200, 400)
    ]
    if beta == 0:
        assert max(errors) < 1e-14
    else:
        assert errors[1] == pytest.approx(errors[0] / 2, rel=0.02)


def test_the_bias_of_a_discount_vanishes_as_it_does_in_the_paper():
    """∇g − Σ d ∇π Q_β is of order 1 − β, and is what ∇d leaves out: (1 − β) ∇d·V_β (their equation 24)."""
    truth, sizes = moments(E.MonteCarlo(horizon=2)).truth, []
    for beta in (0.9, 0.99, 0.999):
        values = oc.evaluate(stationary(beta), POLICY)
        bias = logits(FOUND.pair_occupancy * values.pair_action_values) - truth
        change = np.zeros(6)
        for k in range(6):  # finite differences of d along each logit
            shift = 1e-5 * np.eye(6)[k]
            d = [
                oc.evaluate(PROBLEM, softmax(np.log(POLICY.pair_probabilities) + sign * shift)).state_occupancy
                for sign in (1, -1)
            ]
            change[k] = (d[0] - d[1]) @ values.state_values / 2e-5
        np.testing.assert_allclose(bias, -(1 - beta) * change, atol=1e-8)
        sizes.append(np.linalg.norm(bias))
    assert sizes[0] / sizes[1] == pytest.approx(10, rel=0.2)
    assert sizes[1] / sizes[2] == pytest.approx(10, rel=0.02)


def softmax(preferences, mdp=MDP):
    return oc.Policy.from_pairs(mdp, oc.parametrizations.Softmax().probabilities(mdp.pairs, preferences))


@given(st.data(), mdps(max_states=3, max_actions=3), st.sampled_from(["maximize", "minimize"]))
@settings(max_examples=15, deadline=None)
def test_unbiased_estimators_of_averages(data, mdp, sense):
    """TD(λ) with the true values from the stationary distribution, and cycles from any state: whatever g is there."""
    mdp = ergodic(mdp)
    policy = data.draw(positive_policies(mdp))
    exact = oc.evaluate(oc.Problem(mdp, criterion="average"), policy)
    problem = oc.Problem(mdp.replace(initial=exact.state_occupancy), criterion="average", sense=sense)
    scale = 1 + np.abs(mdp.pair_rewards).max()
    for estimator, gain in (
        (E.TemporalDifference(horizon=3, critic="values"), 7.0),
        (E.GAE(horizon=3, critic="values", lam=0.6), -2.0),
        (E.GAE(horizon=3, critic="values", lam=1.0), 0.0),
        (E.MonteCarlo(horizon="cycle", reference=mdp.n_states - 1), None),
        (E.MonteCarlo(horizon="cycle", baseline=np.arange(mdp.n_states)), None),
    ):
        found = oc.gradient_moments(problem, policy, estimator, gain=gain)
        np.testing.assert_allclose(found.mean, found.truth, atol=1e-10 * scale)
        table = oc.policy_gradient(problem, policy, scale="normalized")
        np.testing.assert_allclose(found.truth, table[mdp.pairs.states, mdp.pairs.actions], atol=1e-11 * scale)


def ergodic(mdp):
    """The same with a part of every transition spread over all states, and no discount."""
    mixed = 0.8 * dense_transitions(mdp) + 0.2 / mdp.n_states
    return oc.MDP.from_pairs(mdp.pairs.states, mdp.pairs.actions, mixed, mdp.pair_rewards)


def test_a_wrong_critic_biases_temporal_differences_by_a_known_amount():
    """E Ψ = A + P(V − h) up to a constant in each state; λ shrinks it by its own chain, λ = 1 leaves the ends."""
    wrong = FOUND.state_values + BASELINE
    found = moments(E.TemporalDifference(horizon=5, critic=wrong), stationary())
    extra = dense_transitions(MDP) @ BASELINE
    np.testing.assert_allclose(found.bias, logits(FOUND.pair_occupancy * extra), atol=1e-13)
    assert np.abs(found.bias).max() > 0.02
    errors = [np.abs(moments(E.GAE(lam=1.0, horizon=n, critic=wrong), stationary()).bias).max() for n in (20, 40)]
    assert errors[1] == pytest.approx(errors[0] / 2, rel=1e-3)


def test_without_a_critic_generalised_advantages_are_a_discounted_sum():
    one = moments(E.GAE(lam=0.7, horizon=6, critic=np.zeros(3)))
    other = moments(E.MonteCarlo(discount=0.7, horizon=6))
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-14)
    assert one.variance == pytest.approx(other.variance, rel=1e-12)


def test_starting_elsewhere_fades_as_one_over_the_steps():
    sizes = [np.linalg.norm(moments(E.TemporalDifference(horizon=n, critic="values")).bias) for n in (50, 100, 200)]
    assert sizes[0] / sizes[1] == pytest.approx(2, rel=1e-6)
    assert sizes[1] / sizes[2] == pytest.approx(2, rel=1e-6)


# Cycles ------------------------------------------------------------------------------------------------------


def cycles_of_the_loop(policy, gain, baseline=(0.0, 0.0, 0.0)):
    """Every cycle from state 0: its chance, Σ Ψ ∇log π and length."""
    dense, scores, found = dense_transitions(LOOP), scores_of(LOOP, policy), []

    def extend(path, state, chance):
        if path and state == 0:
            rewards = LOOP.pair_rewards[path] - gain
            psi = [rewards[t:].sum() - baseline[LOOP.pairs.states[k]] for t, k in enumerate(path)]
            found.append((chance, np.array(psi) @ scores[path], len(path)))
            return
        for pair in (2 * state, 2 * state + 1):
            for following in np.flatnonzero(dense[pair]):
                extend([*path, pair], int(following), chance * policy.pair_probabilities[pair] * dense[pair, following])

    extend([], 0, 1.0)
    chances, sums, lengths = (np.array(column) for column in zip(*found, strict=True))
    assert chances.sum() == pytest.approx(1)
    return chances, sums, lengths


@pytest.mark.parametrize("gain", [None, 0.3])
@pytest.mark.parametrize("baseline", [None, BASELINE], ids=["plain", "baseline"])
def test_cycles_are_those_of_a_list(gain, baseline):
    """The mean, the exact variance of the delta method, and the bias ∇E[T] (g − ĝ)/E[T] of a gain that is wrong."""
    policy, problem = oc.Policy.from_pairs(LOOP, [0.3, 0.7, 0.6, 0.4, 0.2, 0.8]), oc.Problem(LOOP, criterion="average")
    exact = oc.evaluate(problem, policy)
    chances, sums, lengths = cycles_of_the_loop(
        policy, exact.objective if gain is None else gain, (0, 0, 0) if baseline is None else baseline
    )
    estimator = E.MonteCarlo(horizon="cycle", baseline=baseline, reference=0, trajectories=8)
    found = moments(estimator, problem, policy, gain=gain)
    length = chances @ lengths
    ratio = chances @ sums / length
    np.testing.assert_allclose(found.mean, ratio, atol=1e-13)
    assert found.variance == pytest.approx(
        chances @ ((sums - np.outer(lengths, ratio)) ** 2).sum(axis=1) / length**2 / 8, rel=1e-11
    )
    assert length == pytest.approx(1 / exact.state_occupancy[0])  # Kac
    theta = np.log(policy.pair_probabilities)
    change = np.zeros(6)
    for k in range(6):
        ends = [
            1 / oc.evaluate(problem, softmax(theta + sign * 1e-5 * np.eye(6)[k], LOOP)).state_occupancy[0]
            for sign in (1, -1)
        ]
        change[k] = (ends[0] - ends[1]) / 2e-5
    wrong = 0.0 if gain is None else exact.objective - gain
    np.testing.assert_allclose(found.bias, change * wrong / length, atol=1e-9)
    assert gain is None or np.abs(found.bias).max() > 0.02


def test_the_bias_of_a_ratio_is_of_order_one_over_the_cycles():
    """The estimate is a ratio of sums: its expectation over all samples of N cycles, listed."""
    policy, problem = oc.Policy.from_pairs(LOOP, [0.3, 0.7, 0.6, 0.4, 0.2, 0.8]), oc.Problem(LOOP, criterion="average")
    chances, sums, lengths = cycles_of_the_loop(policy, oc.evaluate(problem, policy).objective)
    truth = chances @ sums / (chances @ lengths)
    biases = []
    for n in (1, 2, 4):
        mean = np.zeros(6)
        for several in itertools.product(range(len(chances)), repeat=n):
            rows = list(several)
            mean += chances[rows].prod() * sums[rows].sum(axis=0) / lengths[rows].sum()
        biases.append(np.linalg.norm(mean - truth))
    first_order = chances @ ((sums - np.outer(lengths, truth)) * lengths[:, None]) / (chances @ lengths) ** 2
    assert biases[0] / biases[1] == pytest.approx(2, rel=0.1)
    assert biases[1] / biases[2] == pytest.approx(2, rel=0.05)
    assert 4 * biases[2] == pytest.approx(np.linalg.norm(first_order), rel=0.05)


# Samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
@pytest.mark.parametrize(
    "estimator",
    [
        E.MonteCarlo(horizon="cycle", trajectories=30_000, baseline="values", reference=1),
        E.MonteCarlo(horizon="cycle", trajectories=30_000),
        E.TemporalDifference(horizon=50, trajectories=2000, critic="values"),
        E.GAE(horizon=50, trajectories=2000, critic="values", lam=0.9),
        E.MonteCarlo(horizon=200, trajectories=1000, baseline="values", discount=0.99, bootstrap=True),
    ],
    ids=str,
)
def test_large_samples_give_the_gradient_of_the_gain(estimator, sense):
    """What an update is handed: slopes, masses, advantages, all steps counted, near the exact ones."""
    problem = oc.Problem(MDP.replace(initial=FOUND.state_occupancy), sense=sense, criterion="average")
    pi = POLICY.pair_probabilities
    exact = E.Exact().prepare(problem, np.random.default_rng(0))(pi)
    found = estimator.prepare(problem, np.random.default_rng(1))(pi)
    truth, size = logits(pi * exact.slopes), np.abs(logits(pi * exact.slopes)).max()
    np.testing.assert_allclose(logits(pi * found.slopes), truth, atol=0.06 * size)
    np.testing.assert_allclose(found.pair_mass, exact.pair_mass, atol=5e-3)
    assert found.pair_mass.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.rises + found.falls, found.slopes, atol=1e-12)
    assert found.samples >= 60_000


@pytest.mark.parametrize("horizon", ["cycle", 30])
def test_variances_are_those_of_repeated_samples(horizon):
    """800 batches against the recursion, and against what single trajectories of a batch say."""
    estimator = E.MonteCarlo(horizon=horizon, trajectories=100)
    expected = moments(estimator).variance
    sampling = estimator.prepare(PROBLEM, np.random.default_rng(0))
    scale = oc.estimators.base.form_of(PROBLEM).scale
    gradients, within = [], []
    for n in range(800):
        sampling.memory = (*sampling.memory[:2], FOUND.objective)
        estimate = sampling(POLICY.pair_probabilities)
        gradients.append(scale * logits(POLICY.pair_probabilities * estimate.slopes))
        if n < 200:
            single = scale * logits(POLICY.pair_probabilities * estimate.parts())
            within.append(single.var(axis=0, ddof=1).sum() / 100)
    assert np.var(gradients, axis=0).sum() == pytest.approx(expected, rel=0.15)
    assert np.mean(within) == pytest.approx(expected, rel=0.15)
    mean = moments(estimator).mean
    assert np.linalg.norm(np.mean(gradients, axis=0) - mean) < 5 * math.sqrt(expected / 800) + 0.1 / 100


def test_critics_learn_differential_values():
    """Average-reward TD: differences of the table approach those of h, and nothing drifts."""
    for estimator in (
        E.TemporalDifference(horizon=100, trajectories=200, critic_step=0.2),
        E.GAE(horizon=100, trajectories=200, critic_step=0.1, lam=0.8),
    ):
        sampling = estimator.prepare(PROBLEM, np.random.default_rng(0))
        for _ in range(100):
            sampling(POLICY.pair_probabilities)
        values, _, gain = sampling.memory
        assert gain == pytest.approx(FOUND.objective, abs=0.03)
        np.testing.assert_allclose(values - values[0], FOUND.state_values - FOUND.state_values[0], atol=0.05)
        assert np.abs(values).max() < 20


def test_rewards_count_from_the_gain_of_the_sample_before():
    """... which makes them independent of it: the first sample has none, and takes its own."""
    estimator = E.MonteCarlo(horizon=5, trajectories=3, discount=0.5)
    sampling, again = (estimator.prepare(PROBLEM, np.random.default_rng(7)) for _ in range(2))
    for gain in (None, 2.5):
        if gain is not None:
            again.memory = sampling.memory = (*sampling.memory[:2], gain)
        sample = estimator.sample(PROBLEM, POLICY, again.rng)
        found, used = sampling(POLICY.pair_probabilities), sample.rewards.mean() if gain is None else gain
        rewards, expected = sample.rewards - used, np.zeros(6)
        for row, earned in zip(sample.pair_index, rewards, strict=True):
            for t, k in enumerate(row):
                expected[k] += sum(0.5 ** (u - t) * earned[u] for u in range(t, 5)) / 15
        form = oc.estimators.base.form_of(PROBLEM)
        np.testing.assert_allclose(found.slopes * POLICY.pair_probabilities * form.scale, expected, atol=1e-13)
        assert sampling.memory[2] == pytest.approx(sample.rewards.mean())


# Runs and refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "update"),
    [
        (E.MonteCarlo(horizon="cycle", trajectories=64), U.GradientStep(0.1, adaptive=True)),
        (E.MonteCarlo(baseline="average"), U.TrustRegion(0.02)),
        (E.TemporalDifference(), U.GradientStep(0.1, adaptive=True)),
        (E.GAE(), U.ClippedRatio()),
        (E.GAE(), U.NaturalStep(0.3)),
    ],
    ids=str,
)
def test_runs_improve_the_average(estimator, update):
    mdp = oc.instances.get("machine-repair").replace(discount=None)
    problem = oc.Problem(mdp.replace(rewards=-mdp.pair_rewards), criterion="average", sense="minimize")
    solver = oc.PolicyGradient(estimator=estimator, update=update, steps=60)
    best, result = oc.solve(problem), oc.solve(problem, solver, rng=0)
    start = oc.evaluate(problem, oc.Policy.uniform(mdp)).objective
    assert result.objective - best.objective < 0.1 * (start - best.objective)
    assert result.gap >= result.objective - best.objective - 1e-12


def test_constrained_averages_from_samples():
    mdp = oc.instances.get("machine-repair").replace(discount=None)
    problem = oc.Problem(mdp, criterion="average", constraints=[oc.expected("wear") <= 0.25])
    solver = oc.PrimalDualGradient(step_size=0.3, steps=150, estimator=E.GAE(trajectories=8))
    result, best = oc.solve(problem, solver, rng=0), oc.solve(problem)
    assert best.objective - result.objective < 0.1 * abs(best.objective)
    assert result.certificate.violation < 1e-8


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: E.MonteCarlo(discount=1.5), "discount=1.5"),
        (lambda: E.MonteCarlo(horizon="cycle", discount=0.5), "without a discount"),
        (lambda: E.MonteCarlo(horizon="cycle", returns="total"), "rewards to go"),
        (lambda: E.MonteCarlo(reference=0), "use it with horizon='cycle'"),
        (lambda: E.GAE(horizon="cycle"), "'geometric', 'episode', or None"),
    ],
)
def test_settings_that_are_refused(build, message):
    with pytest.raises(InvalidProblem, match=message):
        build()


def test_questions_that_are_refused():
    for problem, estimator, message in (
        (MDP.replace(discount=0.5), E.MonteCarlo(horizon="cycle"), "belong to the average"),
        (MDP.replace(discount=0.5), E.MonteCarlo(discount=0.5), "belong to the average"),
        (PROBLEM, E.MonteCarlo(horizon="geometric"), "no end and no discount"),
        (PROBLEM, E.GAE(horizon="episode"), "no end and no discount"),
    ):
        with pytest.raises(Unsupported, match=message):
            oc.gradient_moments(problem, POLICY, estimator)


def test_states_that_do_not_come_back(monkeypatch):
    monkeypatch.setattr(sys.modules["occlp.rollouts.sampler"], "LONGEST_EPISODE", 500)
    monkeypatch.setattr("occlp.solvers.policy_gradient.walk.MOST_STEPS", 500)
    away = oc.MDP.from_arrays(
        np.array([[[0.5, 0.5], [0.9, 0.1]], [[0, 1], [0, 1]]]), [[1, 2], [3, 4]], states=["a", "b"]
    )
    problem, policy = oc.Problem(away, criterion="average"), oc.Policy.uniform(away)
    assert E.MonteCarlo(horizon="cycle").origin(problem) == 1
    lost = E.MonteCarlo(horizon="cycle", reference="a")
    with pytest.raises(InvalidProblem, match="state 'a' has not come back"):
        lost.sample(problem, policy, np.random.default_rng(0))
    with pytest.raises(InvalidProblem, match="need not reach an end"):
        oc.gradient_moments(problem, policy, lost)
    kept = oc.gradient_moments(problem, policy, E.MonteCarlo(horizon="cycle"))
    np.testing.assert_allclose(kept.mean, kept.truth, atol=1e-13)


def test_chains_written_out():
    """The stationary distribution that this file relies on."""
    chain = dense_chain(MDP, POLICY.pair_probabilities)
    np.testing.assert_allclose(FOUND.state_occupancy @ chain, FOUND.state_occupancy, atol=1e-14)

"""Parametrizations: derivatives against finite differences, score identities, and the limits of each family."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps

import occlp as oc
from occlp.errors import InvalidProblem

RNG = np.random.default_rng(0)
#: Actions differ per state, so that tables have holes.
MASK = np.array([[True, True, True], [True, False, True], [True, True, True], [False, True, True]])
MDP = oc.MDP.from_arrays(
    RNG.dirichlet(np.ones(4), (4, 3)),
    RNG.random((4, 3)),
    discount=0.9,
    admissible=MASK,
    initial=RNG.dirichlet(np.ones(4)),
)
INPUTS, HIDDEN = RNG.normal(size=(4, 2)), 5


def unpack(parameters):
    first = parameters[: 2 * HIDDEN].reshape(2, HIDDEN)
    return first, parameters[2 * HIDDEN :].reshape(HIDDEN, 3)


def network_logits(parameters):
    """One hidden layer of tanh, [S, A]."""
    first, second = unpack(parameters)
    return np.tanh(INPUTS @ first) @ second


def network_vjp(parameters, weights):
    first, second = unpack(parameters)
    hidden = np.tanh(INPUTS @ first)
    back = (weights @ second.T) * (1 - hidden**2)
    return np.concatenate([(INPUTS.T @ back).ravel(), (hidden.T @ weights).ravel()])


def network_jvp(parameters, direction):
    first, second = unpack(parameters)
    change_first, change_second = unpack(direction)
    hidden = np.tanh(INPUTS @ first)
    return (1 - hidden**2) * (INPUTS @ change_first) @ second + hidden @ change_second


START = np.random.default_rng(3).normal(size=5 * HIDDEN)
FEATURES = np.random.default_rng(1).normal(size=(4, 3, 2))
POINTS = np.array([-1.0, 0.5, 2.0])
FAMILIES = {
    "Softmax": (oc.parametrizations.Softmax(), RNG.normal(size=MDP.n_pairs)),
    "LogLinear": (oc.parametrizations.LogLinear(FEATURES), np.array([0.7, -1.2])),
    "LogLinear of pairs": (
        oc.parametrizations.LogLinear(FEATURES[MDP.pairs.states, MDP.pairs.actions]), np.array([0.7, -1.2])
    ),
    "Gaussian": (oc.parametrizations.Gaussian(POINTS, INPUTS, sigma=0.8), np.array([0.3, 0.4])),
    "Gaussian with its own sigma": (
        oc.parametrizations.Gaussian(POINTS, INPUTS, learn_sigma=True), np.array([0.3, 0.4, -0.2])
    ),
    "Network": (oc.parametrizations.Network(network_logits, network_vjp, START), START),
    "Network with jvp": (oc.parametrizations.Network(network_logits, network_vjp, START, network_jvp), START),
}  # fmt: skip


def difference(function, parameters, direction, step=1e-4):
    """Derivative along a direction, of fourth order."""
    values = [function(parameters + m * step * direction) for m in (-2, -1, 1, 2)]
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)


@pytest.mark.parametrize("name", FAMILIES)
def test_derivatives_are_those_of_finite_differences(name):
    """Both products, their adjointness Σ v π score(u) = pullback(v)·u, and E_π of the score, which is zero."""
    family, theta = FAMILIES[name]
    pairs, rng = MDP.pairs, np.random.default_rng(2)
    pi = family.probabilities(pairs, theta)
    oc.Policy.from_pairs(MDP, pi)
    for _ in range(5):
        slopes, direction = rng.normal(size=MDP.n_pairs), rng.normal(size=len(theta))
        quotient = difference(lambda x: family.probabilities(pairs, x), theta, direction)
        score = family.score(pairs, theta, direction)
        np.testing.assert_allclose(pi * score, quotient, atol=1e-9)
        assert family.pullback(pairs, theta, slopes) @ direction == pytest.approx(slopes @ quotient, abs=1e-9)
        np.testing.assert_allclose(np.add.reduceat(pi * score, pairs.start[:-1]), 0.0, atol=1e-12)
    assert not family.score(pairs, theta, np.zeros(len(theta))).any()  # no step, no change


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_of_the_return_are_those_of_finite_differences(name):
    """∇J = Σ d A ∇π / (1 − γ) for every family, and a run never gets worse."""
    family, theta = FAMILIES[name]
    pairs, rng = MDP.pairs, np.random.default_rng(3)

    def value(x):
        return oc.evaluate(MDP, oc.Policy.from_pairs(MDP, family.probabilities(pairs, x))).expected_return

    found = oc.evaluate(MDP, oc.Policy.from_pairs(MDP, family.probabilities(pairs, theta)))
    slopes = found.state_occupancy[pairs.states] * found.pair_advantages / 0.1
    direction = rng.normal(size=len(theta))
    expected = difference(value, theta, direction, 1e-3)
    assert family.pullback(pairs, theta, slopes) @ direction == pytest.approx(expected, abs=1e-7)
    for update in (oc.updates.GradientStep(), oc.updates.NaturalStep(), oc.updates.TrustRegion(0.05)):
        history = oc.solve(MDP, oc.PolicyGradient(family, update=update, steps=15)).history
        assert (np.diff(history["objective"]) >= -1e-14).all()
        assert history["objective"][-1] > history["objective"][0]


@pytest.mark.parametrize("name", FAMILIES)
def test_products_with_the_fisher_matrix(name):
    """Σ m ∇log π ∇log πᵀ u against the matrix of all scores, for masses that are no policy's."""
    family, theta = FAMILIES[name]
    masses, direction = np.random.default_rng(5).random(MDP.n_pairs), np.random.default_rng(6).normal(size=len(theta))
    scores = np.stack([family.score(MDP.pairs, theta, unit) for unit in np.eye(len(theta))], axis=1)
    expected = scores.T @ (masses * (scores @ direction))
    np.testing.assert_allclose(
        family.fisher(MDP.pairs, theta, masses)(direction), expected, atol=1e-8 * np.abs(expected).max()
    )


@pytest.mark.parametrize("update", [oc.updates.NaturalStep(), oc.updates.TrustRegion()], ids=str)
def test_a_step_of_a_network_takes_few_calls(update):
    """At most ten products with the Fisher matrix: one vjp and two calls of the logits each."""
    calls = {"logits": 0, "vjp": 0}

    def logits(parameters):
        calls["logits"] += 1
        return network_logits(parameters)

    def vjp(parameters, weights):
        calls["vjp"] += 1
        return network_vjp(parameters, weights)

    solver = oc.PolicyGradient(oc.parametrizations.Network(logits, vjp, START), update=update, steps=6)
    path = [oc.evaluate(MDP, one.policy).objective for one in solver.iterate(oc.Problem(MDP), tol=0, rng=None)]
    assert (np.diff(path) > 0).all()
    assert calls["vjp"] <= 13 * 6 + 1
    assert calls["logits"] <= 40 * 6


def test_direct_probabilities():
    family, pairs = oc.parametrizations.Direct(), MDP.pairs
    start = family.initial(pairs, None)
    np.testing.assert_array_equal(start, oc.Policy.uniform(MDP).pair_probabilities)
    slopes, counts = RNG.normal(size=MDP.n_pairs), np.diff(pairs.start)
    along = slopes - (np.add.reduceat(slopes, pairs.start[:-1]) / counts)[pairs.states]
    np.testing.assert_allclose(family.pullback(pairs, start, slopes), along, atol=1e-15)
    corner = oc.Policy.from_choice(MDP, pairs.start[:-1]).pair_probabilities
    score = family.score(pairs, corner, slopes)
    np.testing.assert_allclose(score, np.where(corner > 0, along, 0.0), atol=1e-15)


@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_slopes_of_probabilities_are_known_up_to_a_constant(constant):
    """What sampled returns without a baseline add to every action changes neither plain, adaptive nor natural steps.

    The natural direction is that of the replicator, π A.
    """
    family, pairs = oc.parametrizations.Direct(), MDP.pairs
    pi = oc.Policy.from_pairs(MDP, np.concatenate([[0.2, 0.3, 0.5], [0.4, 0.6], [0.1, 0.2, 0.7], [0.5, 0.5]]))
    exact = oc.estimators.Exact().prepare(oc.Problem(MDP), np.random.default_rng(0))(pi.pair_probabilities)
    moved = np.add.reduceat(exact.pair_mass, pairs.start[:-1])[pairs.states]
    slopes = exact.slopes + constant * moved
    right = family.pullback(pairs, pi.pair_probabilities, slopes)
    np.testing.assert_allclose(right, family.pullback(pairs, pi.pair_probabilities, exact.slopes), atol=1e-13)
    product = family.fisher(pairs, pi.pair_probabilities, exact.pair_mass)
    np.testing.assert_allclose(product(pi.pair_probabilities * exact.advantages), right, atol=1e-13)


@given(st.data(), mdps(max_states=5, max_actions=4))
@settings(max_examples=50)
def test_projections_on_the_simplex_are_nearest(data, mdp):
    """KKT: x − p is one constant where p > 0 and no larger where p = 0."""
    numbers = st.floats(-10, 10, allow_subnormal=False)
    point = np.array(data.draw(st.lists(numbers, min_size=mdp.n_pairs, max_size=mdp.n_pairs)))
    nearest = oc.parametrizations.Direct().project(mdp.pairs, point)
    oc.Policy.from_pairs(mdp, nearest)
    for first, last in zip(mdp.pair_start[:-1], mdp.pair_start[1:], strict=True):
        away, kept = (point - nearest)[first:last], nearest[first:last] > 0
        level = away[kept].mean()
        np.testing.assert_allclose(away[kept], level, atol=1e-12)
        assert (away[~kept] <= level + 1e-12).all()


@pytest.mark.parametrize("etas", [None, 0.5])
def test_projected_gradients_reach_the_optimum(etas):
    """Deterministic policies are reached exactly, and left again."""
    update = oc.updates.GradientStep(etas)
    solver = oc.PolicyGradient(oc.parametrizations.Direct(), update=update, steps=400)
    found = oc.solve(MDP, solver, start=oc.Policy.from_choice(MDP, MDP.pair_start[:-1]))
    assert found.status is oc.Status.CERTIFIED
    assert found.policy.is_deterministic


def test_two_actions_are_logistic_regression():
    mdp = oc.MDP.from_arrays(np.full((3, 2, 3), 1 / 3), np.eye(3)[:, :2], discount=0.5)
    features, theta = RNG.normal(size=(3, 2, 4)), RNG.normal(size=4)
    pi = oc.parametrizations.LogLinear(features).probabilities(mdp.pairs, theta)
    logistic = 1 / (1 + np.exp(-(features[:, 1] - features[:, 0]) @ theta))
    np.testing.assert_allclose(pi[1::2], logistic, rtol=1e-13)


def test_one_hot_features_are_tabular_softmax():
    one_hot, theta = np.eye(MDP.n_pairs), RNG.normal(size=MDP.n_pairs)
    family, tabular = oc.parametrizations.LogLinear(one_hot), oc.parametrizations.Softmax()
    np.testing.assert_array_equal(family.probabilities(MDP.pairs, theta), tabular.probabilities(MDP.pairs, theta))
    for update in (oc.updates.GradientStep(0.3), oc.updates.NaturalStep(0.3)):
        first, second = (oc.solve(MDP, oc.PolicyGradient(part, update=update, steps=5)) for part in (family, tabular))
        np.testing.assert_allclose(first.policy.probabilities, second.policy.probabilities, atol=1e-8)


@pytest.mark.parametrize("name", ["Softmax", "LogLinear", "Gaussian with its own sigma", "Network"])
def test_huge_parameters_do_not_overflow(name):
    family, theta = FAMILIES[name]
    pi = family.probabilities(MDP.pairs, 1e5 * theta if "Gaussian" not in name else np.array([3e5, 4e5, -9.0]))
    oc.Policy.from_pairs(MDP, pi)
    assert pi.max() == 1.0


def test_scores_of_gaussians_on_a_grid():
    """(x − E x)/σ² and ((x − μ)² − E(x − μ)²)/σ² with the grid's means; the continuous formulas have no zero mean."""
    sigma, theta = 0.8, np.array([0.3, 0.4, np.log(0.8)])
    family, pairs = oc.parametrizations.Gaussian(POINTS, INPUTS, learn_sigma=True), MDP.pairs
    pi, x = family.probabilities(pairs, theta), POINTS[pairs.actions]
    mean = (INPUTS @ theta[:2])[pairs.states]

    def average(values):
        return np.add.reduceat(pi * values, pairs.start[:-1])[pairs.states]

    grid = (x - average(x)) / sigma**2
    for k in range(2):
        direction = np.eye(3)[k]
        np.testing.assert_allclose(family.score(pairs, theta, direction), grid * INPUTS[pairs.states, k], atol=1e-12)
    width = ((x - mean) ** 2 - average((x - mean) ** 2)) / sigma**2
    np.testing.assert_allclose(family.score(pairs, theta, np.eye(3)[2]), width, atol=1e-12)
    assert np.abs(average((x - mean) / sigma**2)).max() > 0.1


def test_grids_that_refine_approach_the_continuous_gaussian():
    biases = []
    for n in (5, 9, 17, 33):
        points = np.linspace(-6, 6, n)
        mdp = oc.MDP.from_arrays(np.ones((1, n, 1)), np.zeros((1, n)), discount=0.5)
        family = oc.parametrizations.Gaussian(points, np.ones((1, 1)), sigma=1.0)
        pi = family.probabilities(mdp.pairs, np.array([0.4]))
        biases.append(abs(pi @ (points - 0.4)))  # mean of the continuous score
    assert biases[0] > 0.1
    assert biases[1] < 0.2 * biases[0]
    assert biases[-1] < 1e-6


def test_runs_begin_at_the_nearest_parameters():
    """Policies that a family can express are found again; others by least squares."""
    pairs = MDP.pairs
    for name in ("Softmax", "LogLinear", "LogLinear of pairs"):
        family, theta = FAMILIES[name]
        pi = family.probabilities(pairs, theta)
        again = family.probabilities(pairs, family.initial(pairs, oc.Policy.from_pairs(MDP, pi)))
        np.testing.assert_allclose(again, pi, rtol=1e-10)
    full = oc.parametrizations.Gaussian(np.linspace(-8, 8, 81), np.eye(2), sigma=0.7, learn_sigma=True)
    mdp = oc.MDP.from_arrays(np.full((2, 81, 2), 0.5), np.zeros((2, 81)), discount=0.5)
    theta = np.array([0.5, -1.0, np.log(0.7)])
    policy = oc.Policy.from_pairs(mdp, full.probabilities(mdp.pairs, theta))
    np.testing.assert_allclose(full.initial(mdp.pairs, policy), theta, atol=1e-6)
    assert (oc.solve(MDP, oc.PolicyGradient(FAMILIES["LogLinear"][0], steps=0)).policy.probabilities[0] == 1 / 3).all()


def wrong_vjp(parameters, weights):
    return np.zeros(3)


def short_logits(parameters):
    return np.zeros((4, 2))


def lost_logits(parameters):
    return np.full((4, 3), np.nan)


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (oc.parametrizations.LogLinear(np.zeros((4, 2, 2))), r"\[4, 3, k\] or \[pairs, k\]"),
        (oc.parametrizations.LogLinear(np.full((10, 1), np.nan)), "not finite for state 0, action 0"),
        (oc.parametrizations.Gaussian([0.0, 1.0], INPUTS), "each of the 3 actions"),
        (oc.parametrizations.Gaussian(POINTS, np.zeros((3, 1))), r"\[S, k\] with S = 4"),
        (oc.parametrizations.Network(short_logits, network_vjp, START), r"have shape \[4, 2\]"),
        (oc.parametrizations.Network(network_logits, wrong_vjp, START), r"vjp has shape \[3\]"),
        (oc.parametrizations.Network(lost_logits, network_vjp, START), "logit of state 0, action 0 is nan"),
    ],
)
def test_settings_that_do_not_fit_the_model(family, message):
    with pytest.raises(InvalidProblem, match=message):
        oc.solve(MDP, oc.PolicyGradient(family))


def test_settings_that_are_refused():
    with pytest.raises(InvalidProblem, match="sigma=0"):
        oc.parametrizations.Gaussian(POINTS, INPUTS, sigma=0)
    with pytest.raises(InvalidProblem, match="cannot begin at a policy"):
        oc.solve(MDP, oc.PolicyGradient(FAMILIES["Network"][0]), start=oc.Policy.uniform(MDP))
    with pytest.raises(InvalidProblem, match="nor derived from Parametrization"):
        oc.PolicyGradient("softmax")

"""Updates: each against its own published formula, computed another way, and its guarantees along real runs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.special import rel_entr

import occlp as oc
from occlp.errors import InvalidProblem
from occlp.solvers.policy_gradient.estimators import Estimate
from occlp.solvers.policy_gradient.estimators.base import form_of
from occlp.solvers.policy_gradient.updates.clipped import clipped_slopes, clipped_surrogate
from occlp.solvers.policy_gradient.updates.natural import conjugate_gradients, natural_direction

MDP = oc.instances.get("garnet", n_states=6, n_actions=3, branching=3, seed=5, discount=0.9)
FEATURES = np.random.default_rng(0).normal(size=(6, 3, 4))
LINEAR = oc.parametrizations.LogLinear(FEATURES)


def policies_of(solver, problem=None, start=None):
    """The policies that a solver passes through."""
    problem = oc.Problem(MDP) if problem is None else problem
    return [step.policy for step in solver.iterate(problem, tol=0.0, rng=np.random.default_rng(0), start=start)]


def divergence(old, new):
    """Σ_s d_old(s) KL(old ‖ new)."""
    terms = rel_entr(old.pair_probabilities, new.pair_probabilities)
    return float(oc.evaluate(MDP, old).state_occupancy @ np.add.reduceat(terms, MDP.pair_start[:-1]))


def scores_of(family, theta):
    """∇ log π, [pairs, k]."""
    return np.stack([family.score(MDP.pairs, theta, unit) for unit in np.eye(len(theta))], axis=1)


# Gradient steps ----------------------------------------------------------------------------------------------


def test_decaying_steps():
    """θ ← θ + η/(1 + t)^c ∇J."""
    logits = np.zeros(MDP.n_pairs)
    update = oc.updates.GradientStep(0.7, decay=0.6)
    for t, policy in enumerate(policies_of(oc.PolicyGradient(update=update, steps=6))):
        expected = oc.parametrizations.Softmax().probabilities(MDP.pairs, logits)
        np.testing.assert_allclose(policy.pair_probabilities, expected, rtol=1e-12)
        gradient = oc.policy_gradient(MDP, policy)[MDP.pairs.states, MDP.pairs.actions]
        logits = logits + 0.7 / (1 + t) ** 0.6 * gradient


def test_adaptive_steps_are_those_of_kingma_and_ba():
    """Algorithm 1 of the paper, written again; and no unit of the reward changes the path."""
    logits, first, second = (np.zeros(MDP.n_pairs) for _ in range(3))
    solver = oc.PolicyGradient(update=oc.updates.GradientStep(0.1, adaptive=True), steps=6)
    path = policies_of(solver)
    for t, policy in enumerate(path, 1):
        expected = oc.parametrizations.Softmax().probabilities(MDP.pairs, logits)
        np.testing.assert_allclose(policy.pair_probabilities, expected, rtol=1e-6)
        gradient = oc.policy_gradient(MDP, policy)[MDP.pairs.states, MDP.pairs.actions]
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        logits = logits + 0.1 * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-12)
    scaled = policies_of(solver, oc.Problem(MDP.replace(rewards=1e6 * MDP.pair_rewards)))
    np.testing.assert_allclose(scaled[-1].pair_probabilities, path[-1].pair_probabilities, rtol=1e-9)


# Natural steps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fisher", ["expected", "sampled"])
def test_natural_directions_solve_with_the_fisher_matrix(fisher):
    """θ + η F⁺∇J with the dense pseudoinverse, for features that do not determine every policy."""
    eta, theta = 0.2, np.zeros(4)
    update = oc.updates.NaturalStep(eta, fisher=fisher)
    for policy in policies_of(oc.PolicyGradient(LINEAR, update=update, steps=3)):
        expected = LINEAR.probabilities(MDP.pairs, theta)
        np.testing.assert_allclose(policy.pair_probabilities, expected, rtol=1e-8)
        found, score = oc.evaluate(MDP, policy), scores_of(LINEAR, theta)
        fisher_matrix = score.T @ (found.pair_occupancy[:, None] * score)
        gradient = score.T @ (found.pair_occupancy * found.pair_advantages) / 0.1
        theta = theta + eta * np.linalg.pinv(fisher_matrix) @ gradient


def test_natural_gradients_are_the_compatible_fit():
    """F⁺∇J·(1 − γ) minimises E_d (A − w·∇log π)²: Kakade (2001), Theorem 1."""
    theta = np.array([0.3, -0.2, 0.5, 0.1])
    policy = oc.Policy.from_pairs(MDP, LINEAR.probabilities(MDP.pairs, theta))
    found, score = oc.evaluate(MDP, policy), scores_of(LINEAR, theta)
    root = np.sqrt(found.pair_occupancy)
    fit = np.linalg.lstsq(root[:, None] * score, root * found.pair_advantages, rcond=None)[0]
    moved = policies_of(oc.PolicyGradient(LINEAR, update=oc.updates.NaturalStep(0.01), steps=1), start=policy)[1]
    expected = LINEAR.probabilities(MDP.pairs, theta + 0.01 * fit / 0.1)
    np.testing.assert_allclose(moved.pair_probabilities, expected, rtol=1e-8)


@pytest.mark.parametrize("family", [LINEAR, oc.parametrizations.Softmax()], ids=["features", "tabular"])
@pytest.mark.parametrize("fisher", ["expected", "sampled"])
def test_sampled_fisher_matrices_are_those_of_the_visits(fisher, family):
    """Masses that are not the policy's: Σ m z zᵀ as they are, or with the actions' mean taken by the policy."""
    rng = np.random.default_rng(4)
    theta = np.array([0.3, -0.2, 0.5, 0.1]) if family is LINEAR else rng.normal(size=18)
    pi, score = family.probabilities(MDP.pairs, theta), scores_of(family, theta)
    masses, slopes = rng.random(18), rng.normal(size=18)
    weights = masses if fisher == "sampled" else np.add.reduceat(masses, MDP.pair_start[:-1])[MDP.pairs.states] * pi
    landscape = oc.updates.Landscape(form_of(oc.Problem(MDP)), MDP.pairs, family, None, is_sampled=True)
    position = oc.updates.Position(theta, Estimate(slopes, slopes, masses))
    expected = np.linalg.pinv(score.T @ (weights[:, None] * score), rcond=1e-12) @ score.T @ (pi * slopes)
    found = natural_direction(landscape, position, fisher, 0.0)
    np.testing.assert_allclose(score @ found, score @ expected, rtol=1e-6)  # tabular logits have a constant a state


def test_damping_shortens_the_step():
    steps = []
    for damping in (0.0, 1.0, 100.0):
        path = policies_of(oc.PolicyGradient(LINEAR, update=oc.updates.NaturalStep(0.05, damping=damping), steps=1))
        steps.append(np.abs(path[1].pair_probabilities - path[0].pair_probabilities).max())
    assert steps[0] > 1.2 * steps[1] > 12 * steps[2] > 0


@pytest.mark.bad_input(76)
def test_conjugate_gradients_solve_singular_systems():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(8, 5))
    matrix = half @ half.T
    right = matrix @ rng.normal(size=8)
    np.testing.assert_allclose(
        conjugate_gradients(lambda x: matrix @ x, right, 100), np.linalg.pinv(matrix) @ right, atol=1e-7
    )
    for products in (1, 2, 3):  # cut short, the direction is still uphill
        assert conjugate_gradients(lambda x: matrix @ x, right, products) @ right > 0
    assert not conjugate_gradients(lambda x: matrix @ x, np.zeros(8), 100).any()
    assert not conjugate_gradients(lambda x: 0.0 * x, right, 100).any()


# Mirror descent ----------------------------------------------------------------------------------------------


def test_mirror_descent_is_the_natural_gradient_of_a_softmax():
    """π ∝ π exp(ηA/(1 − γ)), with either parametrization."""
    paths = [
        policies_of(oc.PolicyGradient(family, update=update, steps=6))
        for family, update in (
            (oc.parametrizations.Softmax(), oc.updates.NaturalStep(0.05)),
            (oc.parametrizations.Softmax(), oc.updates.MirrorStep(0.05)),
            (oc.parametrizations.Direct(), oc.updates.MirrorStep(0.05)),
        )
    ]
    for first, *others in zip(*paths, strict=True):
        for other in others:
            np.testing.assert_allclose(other.pair_probabilities, first.pair_probabilities, rtol=1e-11)


@pytest.mark.parametrize("distance", ["kl", "euclidean"])
def test_mirror_steps_maximise_what_they_should(distance):
    """η A·p/(1 − γ) − D(p, π) at the step, against a thousand other policies."""
    rng, eta = np.random.default_rng(1), 0.1
    start = oc.Policy.from_pairs(MDP, np.concatenate(rng.dirichlet(np.ones(3), 6)))
    update = oc.updates.MirrorStep(eta, distance=distance)
    _, after = policies_of(oc.PolicyGradient(oc.parametrizations.Direct(), update=update, steps=1), start=start)
    advantages, old = oc.evaluate(MDP, start).pair_advantages / 0.1, start.pair_probabilities

    def value(p):
        distances = rel_entr(p, old) if distance == "kl" else 0.5 * (p - old) ** 2
        return np.add.reduceat(eta * advantages * p - distances, MDP.pair_start[:-1])

    best = value(after.pair_probabilities)
    for _ in range(1000):
        assert (value(np.concatenate(rng.dirichlet(np.ones(3), 6))) <= best + 1e-12).all()


def test_growing_steps_converge_linearly():
    """J* − J_k ≤ (1 − 1/ϑ)^k (J* − J_0 + D_0/(η_0 (ϑ − 1))), ϑ = ‖d*/μ0‖∞/(1 − γ): Xiao (2022), Theorem 10.

    His steps multiply Q on the return scale, as here η/(1 − γ); they grow by ϑ/(ϑ − 1) at least.
    """
    best = oc.solve(MDP)
    theta = float((best.state_occupancy / MDP.initial).max()) / (1 - 0.9)
    eta = 0.05
    update = oc.updates.MirrorStep(eta * (1 - 0.9), growth=theta / (theta - 1))
    path = policies_of(oc.PolicyGradient(update=update, steps=80))
    losses = [best.expected_return - oc.evaluate(MDP, policy).expected_return for policy in path]
    start = oc.Policy.uniform(MDP).pair_probabilities
    terms = np.add.reduceat(rel_entr(best.policy.pair_probabilities, start), MDP.pair_start[:-1])
    distance = float(best.state_occupancy @ terms) / (1 - 0.9)
    for k, loss in enumerate(losses):
        assert loss <= (1 - 1 / theta) ** k * (losses[0] + distance / (eta * (theta - 1))) + 1e-12
    assert losses[-1] < 0.5 * losses[0]


def test_searches_of_mirror_steps_never_go_down():
    """Towards an even distribution over the states: steps that grow tenfold have to be taken back again and again."""
    problem = oc.Problem(MDP, utility=oc.StateEntropy())
    path = policies_of(oc.PolicyGradient(update=oc.updates.MirrorStep(growth=10.0), steps=40), problem)
    values = [oc.evaluate(problem, policy).objective for policy in path]
    assert (np.diff(values) > 0).all()
    assert oc.solve(problem, tol=1e-6).objective - values[-1] < 1e-3


NOTHING_TO_GAIN = [
    oc.updates.GradientStep(),
    oc.updates.NaturalStep(),
    oc.updates.MirrorStep(),
    oc.updates.TrustRegion(),
]


@pytest.mark.parametrize("update", NOTHING_TO_GAIN, ids=lambda update: type(update).__name__)
def test_where_nothing_is_gained_runs_end(update):
    """Exact ones at once; a sampled trust region stays where it is, as other batches may bring news."""
    problem = oc.Problem(MDP.replace(rewards=np.zeros(18)))
    assert len(policies_of(oc.PolicyGradient(update=update, steps=5), problem)) == 1
    if isinstance(update, oc.updates.TrustRegion):
        sampled = oc.PolicyGradient(estimator=oc.estimators.MonteCarlo(horizon=5), update=update, steps=3)
        path = policies_of(sampled, problem)
        assert len(path) == 4
        assert (path[-1].pair_probabilities == path[0].pair_probabilities).all()


# Trust regions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [oc.parametrizations.Softmax(), LINEAR, oc.parametrizations.Direct()], ids=str)
@pytest.mark.parametrize("radius", [1e-3, 0.05, 1.0])
def test_trust_regions_are_kept_and_every_step_improves(family, radius):
    path = policies_of(oc.PolicyGradient(family, update=oc.updates.TrustRegion(radius), steps=12))
    returns = [oc.evaluate(MDP, policy).expected_return for policy in path]
    assert (np.diff(returns) > 0).all()
    assert len(path) > 1
    for old, new in itertools.pairwise(path):
        assert divergence(old, new) <= radius * (1 + 1e-9)
    if radius == 1e-3:
        assert divergence(path[0], path[1]) > 0.6 * radius


def test_the_published_bound_of_trust_regions():
    """J(π') ≥ J(π) + Σ d^π π' A − 4εγ/(1 − γ)² α², α the largest total variation: Schulman et al. (2015), Theorem 1.

    The first two terms are on the return scale. Maximising the right-hand side can therefore not make J worse.
    """
    rng = np.random.default_rng(2)
    for _ in range(50):
        old, other = (oc.Policy.from_pairs(MDP, np.concatenate(rng.dirichlet(np.ones(3), 6))) for _ in range(2))
        weight = rng.random() ** 3
        mixed = weight * other.pair_probabilities + (1 - weight) * old.pair_probabilities
        before, after = oc.evaluate(MDP, old), oc.evaluate(MDP, oc.Policy.from_pairs(MDP, mixed))
        masses = before.state_occupancy[MDP.pairs.states] * mixed
        surrogate = before.expected_return + masses @ before.pair_advantages / 0.1
        change = np.add.reduceat(np.abs(mixed - old.pair_probabilities), MDP.pair_start[:-1])
        penalty = 4 * np.abs(before.pair_advantages).max() * 0.9 / 0.1**2 * (0.5 * change.max()) ** 2
        assert after.expected_return >= surrogate - penalty - 1e-12


# Clipped ratios ----------------------------------------------------------------------------------------------


def test_the_clipped_surrogate_is_that_of_single_visits():
    """Σ over visits of min(ρ Â, clip(ρ) Â): equation 7 of Schulman et al. (2017), from the sums over pairs alone."""
    rng = np.random.default_rng(3)
    old, new = (np.concatenate(rng.dirichlet(np.ones(3), 6)) for _ in range(2))
    visited, advantages = rng.integers(0, 18, size=500), rng.normal(size=500)

    def sums(values):
        return np.bincount(visited, weights=values, minlength=18) / old

    estimate = Estimate(sums(advantages), np.zeros(18), np.zeros(18), gains=sums(np.maximum(advantages, 0)))
    ratio = (new / old)[visited]
    expected = np.minimum(ratio * advantages, np.clip(ratio, 0.8, 1.2) * advantages).sum()
    assert clipped_surrogate(estimate, old, new, 0.2) == pytest.approx(expected, rel=1e-12)
    slopes = clipped_slopes(estimate, old, new, 0.2)
    for k in range(18):
        moved = 1e-6 * np.eye(18)[k]
        values = [clipped_surrogate(estimate, old, new + sign * moved, 0.2) for sign in (1, -1)]
        assert slopes[k] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


def test_clipped_steps_begin_along_the_gradient_and_stop_at_the_clip():
    estimate = oc.estimators.Exact().prepare(oc.Problem(MDP), np.random.default_rng(0))
    old = oc.Policy.uniform(MDP).pair_probabilities
    found = estimate(old)
    np.testing.assert_array_equal(clipped_slopes(found, old, old, 0.2), found.slopes)
    _, after = policies_of(oc.PolicyGradient(update=oc.updates.ClippedRatio(0.1, 300, 0.01), steps=1))
    ratio = after.pair_probabilities / old
    assert clipped_surrogate(found, old, after.pair_probabilities, 0.1) > 0
    assert ratio.max() < 1.5  # the push ends at 1.1; the other actions of a state share what is taken away
    assert ratio.max() > 1.1
    best = oc.solve(MDP, oc.PolicyGradient(update=oc.updates.ClippedRatio(), steps=200))
    assert best.gap < 0.01 * np.ptp(MDP.pair_rewards)


# Choices that do not fit -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: oc.updates.GradientStep(decay=0.5), "need a step_size"),
        (lambda: oc.updates.GradientStep(0.1, decay=-1), "decay=-1"),
        (lambda: oc.updates.NaturalStep(fisher="exact"), "'expected' or 'sampled'"),
        (lambda: oc.updates.NaturalStep(damping=math.nan), "damping=nan"),
        (lambda: oc.updates.TrustRegion(0.0), "radius=0.0"),
        (lambda: oc.updates.MirrorStep(distance="l2"), "'kl' or 'euclidean'"),
        (lambda: oc.updates.MirrorStep(growth=0), "growth=0"),
        (lambda: oc.updates.ClippedRatio(clip=1.0), "between 0 and 1"),
        (lambda: oc.updates.ClippedRatio(epochs=0), "epochs=0"),
        (lambda: oc.PolicyGradient(LINEAR, update=oc.updates.MirrorStep()), "only Softmax and Direct"),
        (lambda: oc.PolicyGradient(update=oc.updates.MirrorStep(distance="euclidean")), "only Direct allows"),
        (lambda: oc.PolicyGradient(update=oc.estimators.Exact()), "nor derived from Update"),
    ],
)
def test_settings_that_are_refused(build, message):
    with pytest.raises(InvalidProblem, match=message):
        build()


def test_updates_in_one_file():
    """A third party's update: normalised gradient steps; its parts are only those that are documented."""

    class Normalised(oc.updates.Update):
        def step(self, landscape, position):
            gradient = landscape.gradient(position)
            size = np.linalg.norm(gradient)
            return landscape.move(position, position.parameters + gradient / size) if size > 0 else None

    found = oc.solve(MDP, oc.PolicyGradient(update=Normalised(), steps=300))
    assert found.gap < 1e-3

"""Doubly robust gradients from data: the exact expectation over all trajectories, whatever the values are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers import random_policy
from test_dataset import chain, finite, paths

import occlp as oc

STEPS = 3


def softmax(mdp, preferences):
    return oc.Policy.from_pairs(mdp, oc.parametrizations.Softmax().probabilities(mdp.pairs, preferences))


def logits(mdp, policy, weights):
    """Σ m ∇log π for softmax logits."""
    return weights - policy.pair_probabilities * np.add.reduceat(weights, mdp.pair_start[:-1])[mdp.pairs.states]


def cut_return(mdp, policy, values, steps=STEPS):
    """So many steps, and then V̂ = Σ_a π Q̂; nothing after the end."""
    ends = np.add.reduceat(values * policy.pair_probabilities, mdp.pair_start[:-1])
    ends[-1] = 0.0
    return float(mdp.initial @ finite(mdp, policy, steps, ends)[1])


def gradient_of_cut_return(mdp, policy, values, steps=STEPS):
    """By central differences along every logit, with Q̂ held fixed."""
    theta, step = np.log(policy.pair_probabilities), 1e-5
    ends = [
        [cut_return(mdp, softmax(mdp, theta + sign * step * unit), values, steps) for sign in (1, -1)]
        for unit in np.eye(mdp.n_pairs)
    ]
    return np.array([(ahead - behind) / (2 * step) for ahead, behind in ends])


def each_path(mdp, acting, steps):
    """Chance and data of every trajectory."""
    for chance, path, over in zip(*paths(mdp, acting, steps), strict=True):
        yield chance, oc.Dataset.from_trajectories(mdp, [path], terminated=[over], behavior=acting)


@pytest.fixture(scope="module")
def model():
    mdp, rng = chain(), np.random.default_rng(8)
    return mdp, random_policy(mdp, rng), random_policy(mdp, rng)


@pytest.mark.parametrize("kind", ["exact", "arbitrary", "zero"])
def test_the_mean_is_right_whatever_the_values_are(model, kind):
    mdp, acting, judged = model
    exact = oc.evaluate(mdp, judged)
    values = {
        "exact": exact.pair_action_values,
        "arbitrary": np.random.default_rng(0).normal(size=mdp.n_pairs),
        "zero": np.zeros(mdp.n_pairs),
    }[kind]
    mean, second, plain = (np.zeros(mdp.n_pairs) for _ in range(3))
    for chance, data in each_path(mdp, acting, STEPS):
        given = exact if kind == "exact" else values
        found = logits(mdp, judged, oc.score_weights(data, judged, method="doubly_robust", values=given))
        weighed = logits(mdp, judged, oc.score_weights(data, judged))
        if kind == "zero":
            assert found == pytest.approx(weighed, abs=1e-12)
        mean, second, plain = mean + chance * found, second + chance * found**2, plain + chance * weighed**2
    assert mean == pytest.approx(gradient_of_cut_return(mdp, judged, values), abs=1e-8)
    if kind == "exact":
        assert second.sum() < 0.6 * plain.sum()
        truth = oc.policy_gradient(mdp, judged).ravel()
        short = gradient_of_cut_return(mdp, judged, values, 2 * STEPS)
        assert np.linalg.norm(short - truth) < 0.75**STEPS * np.linalg.norm(mean - truth)  # what a cut leaves out


def test_clocks():
    """Geometric lengths, enumerated: the values after a step stand for what the clock may have stopped."""
    mdp, rng = chain(discount=0.25), np.random.default_rng(5)
    acting, judged = random_policy(mdp, rng), random_policy(mdp, rng)
    values, longest, gamma = rng.normal(size=mdp.n_pairs), 4, mdp.discount
    mean = np.zeros(mdp.n_pairs)
    for length in range(1, longest + 1):
        stop = gamma ** (length - 1) * (1.0 if length == longest else 1 - gamma)
        for chance, data in each_path(mdp, acting, length):
            clocked = dataclasses.replace(data, step_discount=1.0)
            mean += stop * chance * oc.score_weights(clocked, judged, method="doubly_robust", values=values)
    assert logits(mdp, judged, mean) == pytest.approx(gradient_of_cut_return(mdp, judged, values, longest), abs=1e-8)


def test_each_half_is_judged_by_the_other(model):
    """Fitted values are those of the trajectories that they do not judge."""
    mdp, acting, judged = model
    data = oc.Dataset.from_rollouts(oc.rollouts(mdp, acting, n_trajectories=40, horizon=8, rng=0), acting)
    halves = [np.arange(40) % 2 == n for n in (0, 1)]
    expected = np.zeros(mdp.n_pairs)
    for own, other in (halves, halves[::-1]):
        part, fit = data.select(own), data.select(other)
        values = oc.evaluate(fit.empirical_model, fit.extend(judged)).pair_action_values[: mdp.n_pairs]
        expected += 0.5 * oc.score_weights(part, judged, method="doubly_robust", values=values)
    found = oc.score_weights(data, judged, method="doubly_robust")
    assert found == pytest.approx(expected, abs=1e-12)


def test_many_data(model):
    """Nearer to the truth than importance weights alone, and runs on data climb as far."""
    mdp, acting, judged = model
    data = oc.Dataset.from_rollouts(oc.rollouts(mdp, acting, n_trajectories=4000, horizon=25, rng=0), acting)
    truth, errors = oc.policy_gradient(mdp, judged).ravel(), {}
    for method in ("doubly_robust", "per_decision", "ratio"):
        found = logits(mdp, judged, oc.score_weights(data, judged, method=method))
        errors[method] = np.linalg.norm(found - truth) / np.linalg.norm(truth)
    assert errors["doubly_robust"] < 0.5 * errors["per_decision"]
    assert errors["doubly_robust"] < 0.1
    estimator = oc.estimators.OffPolicy(data, "doubly_robust")
    solver = oc.PolicyGradient(estimator=estimator, update=oc.updates.GradientStep(0.1, adaptive=True), steps=25)
    best, result = oc.solve(mdp), oc.solve(mdp, solver)
    start = oc.evaluate(mdp, oc.Policy.uniform(mdp)).objective
    assert best.objective - result.objective < 0.2 * (best.objective - start)
    assert result.gap >= best.objective - result.objective - 1e-12


def test_refusals(model):
    mdp, acting, judged = model
    data = oc.Dataset.from_rollouts(oc.rollouts(mdp, acting, n_trajectories=4, horizon=5, rng=0), acting)
    with pytest.raises(oc.InvalidProblem, match="values="):
        oc.score_weights(data, judged, method="doubly_robust", values=np.zeros(3))
    with pytest.raises(oc.InvalidProblem, match="features and penalties are those of ratios"):
        oc.estimators.OffPolicy(data, "doubly_robust", features=np.eye(8))

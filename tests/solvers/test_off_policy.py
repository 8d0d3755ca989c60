"""Gradients from data of another policy: near the exact ones, honest runs, and data that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

import occlp as oc
from occlp.errors import InvalidProblem, Unsupported

MDP = oc.instances.get("machine-repair").replace(discount=0.8)
ACTING = oc.Policy.from_table(MDP, [[0.6, 0.4]] * 3)


def data_of(n, horizon, policy=ACTING, known=True, rng=0):
    sample = oc.rollouts(MDP, policy, n_trajectories=n, horizon=horizon, rng=rng)
    return oc.Dataset.from_rollouts(sample, policy if known else None)


@pytest.mark.parametrize(("method", "accuracy"), [("ratio", 0.02), ("per_decision", 0.1), ("trajectory", 0.25)])
@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_gradients_of_another_policy(method, accuracy, sense):
    """At a policy that did not act: all methods near the truth, in the order of their variances."""
    problem, pi = oc.Problem(MDP, sense=sense), np.array([0.65, 0.35, 0.5, 0.5, 0.55, 0.45])
    estimator = oc.estimators.OffPolicy(data_of(40_000, 20), method=method)
    found = estimator.prepare(problem, np.random.default_rng(0))(pi)
    exact = oc.estimators.Exact().prepare(problem, np.random.default_rng(0))(pi)
    size = np.abs(pi * exact.slopes).max()
    np.testing.assert_allclose(pi * found.slopes, pi * exact.slopes, atol=accuracy * size)
    assert found.samples == 800_000
    if method == "ratio":
        np.testing.assert_allclose(found.pair_mass, exact.pair_mass, atol=0.01)
        np.testing.assert_allclose(found.advantages, exact.advantages, atol=0.05 * np.abs(exact.advantages).max())


@pytest.mark.parametrize(
    "update", [oc.updates.TrustRegion(0.05), oc.updates.NaturalStep(0.1), oc.updates.ClippedRatio()], ids=str
)
def test_runs_on_data_alone(update):
    """The behaviour need not be known; every policy is judged on the model, so the gap is true."""
    solver = oc.PolicyGradient(
        estimator=oc.estimators.OffPolicy(data_of(1000, 50, known=False)), update=update, steps=60
    )
    result, best = oc.solve(MDP, solver), oc.solve(MDP)
    start = oc.evaluate(MDP, oc.Policy.uniform(MDP)).objective
    assert result.samples == 50_000
    assert best.objective - result.objective < 0.05 * (best.objective - start)
    assert result.gap >= best.objective - result.objective - 1e-12


@pytest.mark.bad_input(70)
def test_pairs_that_the_data_lack_are_named():
    never = oc.Policy.from_table(MDP, [[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]])
    solver = oc.PolicyGradient(
        estimator=oc.estimators.OffPolicy(data_of(100, 20, never)), update=oc.updates.TrustRegion()
    )
    with pytest.raises(Unsupported, match="repair"):
        oc.solve(MDP, solver)


def test_data_that_do_not_fit():
    data = data_of(10, 5)
    step = oc.updates.TrustRegion()
    solver = oc.PolicyGradient(estimator=oc.estimators.OffPolicy(data), update=step)
    with pytest.raises(InvalidProblem, match=r"discounted by 0\.8, the problem by 0\.9"):
        oc.solve(MDP.replace(discount=0.9), solver)
    with pytest.raises(InvalidProblem, match="another model"):
        oc.solve(oc.instances.get("kakade-two-state"), solver)
    with pytest.raises(Unsupported, match="a term besides"):
        oc.solve(oc.Problem(MDP, utility=oc.StateEntropy()), solver)
    with pytest.raises(Unsupported, match="not for the average one"):
        oc.solve(oc.Problem(MDP.replace(discount=None), criterion="average"), solver)
    with pytest.raises(InvalidProblem, match=r"needs an oc\.Dataset"):
        oc.estimators.OffPolicy([1, 2])
    with pytest.raises(InvalidProblem, match="'ratio', 'per_decision'"):
        oc.estimators.OffPolicy(data, method="dice")
    with pytest.raises(InvalidProblem, match="give a step_size"):
        oc.PolicyGradient(estimator=oc.estimators.OffPolicy(data))
    assert "Dataset" not in repr(solver)

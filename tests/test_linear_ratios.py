"""Linear DualDICE with features of its own for values and for ratios: the saddle point, its bias, the exact ratio."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import dense_transitions, random_policy
from test_dataset import balanced, chain

import occlp as oc


@pytest.fixture(scope="module")
def known():
    """Data whose frequencies are exactly those of the model, the judged policy, and the ratio on the six pairs."""
    mdp = chain()
    judged = random_policy(mdp, np.random.default_rng(0))
    listed = balanced(mdp, [3, 1, 2, 5, 1, 4, 0, 0])
    data = oc.Dataset.from_transitions(mdp, listed, terminated=[step[3] == 3 for step in listed])
    truth = np.append(oc.evaluate(mdp, judged).pair_occupancy[:6] / data.frequencies[:6], [0.0, 0.0])
    return mdp, judged, data, truth


def bellman(mdp, policy):
    """B = I − γP^π between pairs, nothing after the end, [pairs, pairs]."""
    onward = dense_transitions(mdp)[:, mdp.pairs.states] * policy.pair_probabilities
    onward[:, 6:] = 0.0
    return np.eye(mdp.n_pairs) - mdp.discount * onward


@pytest.mark.parametrize("penalty", [0.0, 0.02])
@pytest.mark.parametrize(("n_values", "n_ratios"), [(2, 2), (2, 4), (1, 5), (4, 2)])
def test_the_saddle_point(known, penalty, n_values, n_ratios):
    """No move of α raises and no move of β lowers the published objective, summed over the transitions themselves."""
    mdp, judged, data, _ = known
    rng = np.random.default_rng(n_values + 10 * n_ratios)
    phi, psi = rng.normal(size=(8, n_values)), rng.normal(size=(8, n_ratios))
    if n_values > n_ratios and penalty == 0:
        with pytest.raises(oc.Unsupported, match="more of values than of ratios"):
            oc.estimate_ratio(data, judged, features=phi, ratio_features=psi)
        return
    found = oc.estimate_ratio(data, judged, features=phi, ratio_features=psi, penalty=penalty)
    beta = np.linalg.lstsq(psi, found.pair_ratio, rcond=None)[0]
    bent, d, pi = bellman(mdp, judged) @ phi, data.frequencies, judged.pair_probabilities
    start = (1 - mdp.discount) * (mdp.initial[mdp.pairs.states] * pi) @ phi
    cross, square = psi.T @ (d[:, None] * bent), psi.T @ (d[:, None] * psi)

    def objective(alpha, beta):
        value = d @ ((bent @ alpha) * (psi @ beta) - 0.5 * (psi @ beta) ** 2) - start @ alpha
        return value + 0.5 * penalty * (alpha @ alpha - beta @ beta)

    if penalty:
        alpha = (start - cross.T @ beta) / penalty
    else:
        alpha = np.linalg.lstsq(cross, square @ beta, rcond=None)[0]
    here, steps = objective(alpha, beta), 0.1 * rng.normal(size=(50, n_values + n_ratios))
    for step in steps:
        assert objective(alpha + step[:n_values], beta) >= here - 1e-12 * (1 + abs(here))
        assert objective(alpha, beta + step[n_values:]) <= here + 1e-12 * (1 + abs(here))
    for k, unit in enumerate(np.eye(n_values)):  # stationary, not only flat
        ends = [objective(alpha + sign * 1e-4 * unit, beta) for sign in (1, -1)]
        assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(0, abs=1e-8 * (1 + abs(here))), k


def test_the_bias_is_the_distance_to_the_features(known):
    """Ratios tabular, values poor: the estimate is the function Bφα nearest to the true ratio in L²(d^D)."""
    mdp, judged, data, truth = known
    root, rng, distances = np.sqrt(data.frequencies), np.random.default_rng(2), []
    features = rng.normal(size=(8, 6))
    for k in (1, 2, 4, 6):
        phi = features[:, :k]
        found = oc.estimate_ratio(data, judged, features=phi, ratio_features=np.eye(8)[:, :6])
        bent = bellman(mdp, judged) @ phi
        nearest = bent @ np.linalg.lstsq(root[:, None] * bent, root * truth, rcond=None)[0]
        assert found.pair_ratio[:6] == pytest.approx(nearest[:6], abs=1e-10)
        distances.append(np.linalg.norm(root * (found.pair_ratio - truth)))
    assert distances[0] > distances[1] > distances[2] > 0.01
    assert distances[3] < 1e-10  # six functions on six pairs: nothing is left out


def test_values_that_hold_the_dual_need_no_other_feature(known):
    """If w = Bν for ν = φ·α and ψ holds w, the ratio is exact however few features there are."""
    mdp, judged, data, truth = known
    nu = np.linalg.solve(bellman(mdp, judged), truth)
    rng = np.random.default_rng(3)
    psi = np.column_stack([rng.normal(size=(8, 2)), truth])
    found = oc.estimate_ratio(data, judged, features=nu[:, None], ratio_features=psi)
    assert found.pair_ratio[:6] == pytest.approx(truth[:6], abs=1e-10)
    value = oc.marginalized_importance_sampling(data, judged, ratio=found).value
    assert value == pytest.approx(oc.evaluate(mdp, judged).expected_return, abs=1e-10)
    assert found.method == "linear DualDICE with 1 features of values and 3 of ratios"


def test_poor_ratios_keep_what_the_values_ask(known):
    """E_D[w Bφ] = (1 − γ) E[φ(s0, a0)], as for the true ratio; and E_D[w r] is the start value of the fitted Q̂."""
    mdp, judged, data, truth = known
    rng = np.random.default_rng(4)
    phi, psi = rng.normal(size=(8, 2)), rng.normal(size=(8, 4))
    bent, d = bellman(mdp, judged) @ phi, data.frequencies
    start = 0.25 * (mdp.initial[mdp.pairs.states] * judged.pair_probabilities) @ phi
    assert (d * truth) @ bent == pytest.approx(start, abs=1e-12)
    for penalty in (0.0, 0.1):
        found = oc.estimate_ratio(data, judged, features=phi, ratio_features=psi, penalty=penalty)
        if penalty == 0:
            assert (d * found.pair_ratio) @ bent == pytest.approx(start, abs=1e-12)
        earned = (d * found.pair_ratio) @ mdp.pair_rewards
        begun = (mdp.initial[mdp.pairs.states] * judged.pair_probabilities) @ found.pair_action_values
        assert earned == pytest.approx(0.25 * begun, abs=1e-12)


def test_penalties_vanish_in_proportion(known):
    _, judged, data, truth = known
    phi, errors = np.eye(8)[:, :6], []
    for penalty in (1e-3, 1e-4, 1e-5):
        found = oc.estimate_ratio(data, judged, features=phi, penalty=penalty)
        errors.append(np.abs(found.pair_ratio - truth).max())
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.05)


def test_off_policy_gradients_with_features():
    """Indicators as features are tabular; fewer give another gradient, and runs say so by their gap."""
    mdp = oc.instances.get("machine-repair").replace(discount=0.8)
    acting = oc.Policy.uniform(mdp)
    data = oc.Dataset.from_rollouts(oc.rollouts(mdp, acting, n_trajectories=500, horizon=50, rng=0))
    pi = np.array([0.65, 0.35, 0.5, 0.5, 0.55, 0.45])
    estimates = [
        oc.estimators.OffPolicy(data, **settings).prepare(oc.Problem(mdp), np.random.default_rng(0))(pi)
        for settings in (
            {}, {"features": np.eye(6)}, {"features": np.eye(6)[:, :3], "ratio_features": np.eye(6), "penalty": 0.01}
        )
    ]  # fmt: skip
    np.testing.assert_allclose(estimates[1].slopes, estimates[0].slopes, atol=1e-9)
    assert np.abs(estimates[2].slopes - estimates[0].slopes).max() > 1e-2


def test_refusals(known):
    _, judged, data, _ = known
    for settings, message in (
        ({"ratio_features": np.eye(8)}, "give features= as well"),
        ({"penalty": 0.1}, "give features= as well"),
        ({"features": np.eye(8), "penalty": -1.0}, "penalty=-1.0"),
        ({"features": np.eye(8), "ratio_features": np.eye(3)}, "ratio_features= is finite"),
    ):
        with pytest.raises(oc.InvalidProblem, match=message):
            oc.estimate_ratio(data, judged, **settings)

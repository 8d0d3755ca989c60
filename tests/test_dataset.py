"""What data tell of another policy: means by enumeration, ratios against exact ones, refusals without support."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers import random_policy

import occlp as oc

PLAIN = [{"per_decision": True}, {"per_decision": False}]


def chain(**changes):
    """Three states and an end: all probabilities are quarters, so that frequencies can hold them exactly."""
    rows = np.array([
        [[1, 3, 0, 0], [0, 2, 2, 0]],
        [[2, 0, 2, 0], [0, 1, 1, 2]],
        [[0, 1, 2, 1], [3, 0, 0, 1]],
        [[0, 0, 0, 4], [0, 0, 0, 4]],
    ]) / 4  # fmt: skip
    rewards = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 2.0], [0.0, 0.0]])
    return oc.MDP.from_arrays(rows, rewards, **{"discount": 0.75, "initial": [0.25, 0.75, 0, 0], **changes})


def paths(mdp, policy, steps):
    """All trajectories of at most so many steps, as (probability, steps, terminated)."""
    dense, found = mdp.transitions.toarray(), []

    def extend(path, state, chance):
        ended = state == mdp.n_states - 1
        if ended or len(path) == steps:
            found.append((chance, path, ended))
            return
        for pair in range(mdp.pair_start[state], mdp.pair_start[state + 1]):
            action = int(mdp.pairs.actions[pair])
            for following in np.flatnonzero(dense[pair]):
                step = (state, action, mdp.pair_rewards[pair], int(following))
                extend([*path, step], int(following), chance * policy.pair_probabilities[pair] * dense[pair, following])

    for state in np.flatnonzero(mdp.initial):
        extend([], int(state), mdp.initial[state])
    chances, listed, ended = zip(*found, strict=True)
    assert sum(chances) == pytest.approx(1, abs=1e-12)
    return np.array(chances), list(listed), list(ended)


def finite(mdp, policy, steps, tail=None):
    """Q_t for t < steps [steps, pairs] and V_0 [S] of a finite horizon with values `tail` [S] at its end."""
    tail, tables = np.zeros(mdp.n_states) if tail is None else tail, []
    for _ in range(steps):
        tables.append(mdp.pair_rewards + mdp.discount * mdp.transitions.toarray() @ tail)
        tail = np.add.reduceat(tables[-1] * policy.pair_probabilities, mdp.pair_start[:-1])
    return np.array(tables[::-1]), tail


def balanced(mdp, multiples):
    """Transitions whose frequencies are exactly those of the model, so many times four of each pair."""
    listed = []
    for pair, row in enumerate(mdp.transitions.toarray()):
        s, a = int(mdp.pairs.states[pair]), int(mdp.pairs.actions[pair])
        for j in np.flatnonzero(row):
            listed += [(s, a, mdp.pair_rewards[pair], int(j))] * round(4 * row[j] * multiples[pair])
    return listed


@pytest.fixture(scope="module")
def enumerated():
    mdp, rng = chain(), np.random.default_rng(3)
    acting, judged = random_policy(mdp, rng), random_policy(mdp, rng)
    chances, listed, ended = paths(mdp, acting, 4)
    data = oc.Dataset.from_trajectories(mdp, listed, terminated=ended, behavior=acting)
    return mdp, judged, chances, data


class TestExpectations:
    @pytest.mark.parametrize("form", PLAIN, ids=["per-decision", "trajectory"])
    def test_importance_sampling_is_unbiased(self, enumerated, form):
        mdp, judged, chances, data = enumerated
        _, values = finite(mdp, judged, 4)
        found = oc.importance_sampling(data, judged, **form)
        assert chances @ found.contributions == pytest.approx(mdp.initial @ values, abs=1e-12)
        assert "cut" in found.notes[0]

    @pytest.mark.parametrize("form", PLAIN, ids=["per-decision", "trajectory"])
    def test_undiscounted_episodes(self, form):
        mdp, rng = chain(discount=1.0), np.random.default_rng(4)
        acting, judged = random_policy(mdp, rng), random_policy(mdp, rng)
        chances, listed, ended = paths(mdp, acting, 4)
        data = oc.Dataset.from_trajectories(mdp, listed, terminated=ended, behavior=acting)
        _, values = finite(mdp, judged, 4)
        found = oc.importance_sampling(data, judged, **form)
        assert chances @ found.contributions == pytest.approx(mdp.initial @ values, abs=1e-12)
        with pytest.raises(oc.InvalidProblem, match="Give values="):
            oc.doubly_robust(data, judged)

    def test_per_decision_varies_less_here(self, enumerated):
        _, judged, chances, data = enumerated
        spread = [chances @ oc.importance_sampling(data, judged, **form).contributions ** 2 for form in PLAIN]
        assert spread[0] < spread[1]

    @pytest.mark.parametrize("kind", ["exact", "arbitrary", "zero"])
    def test_doubly_robust_has_the_right_mean_whatever_the_values(self, enumerated, kind):
        mdp, judged, chances, data = enumerated
        exact = oc.evaluate(mdp, judged)
        values = {
            "exact": exact,
            "arbitrary": np.random.default_rng(0).normal(size=mdp.n_pairs),
            "zero": np.zeros(mdp.n_pairs),
        }[kind]
        table = exact.pair_action_values if kind == "exact" else values
        ends = np.add.reduceat(table * judged.pair_probabilities, mdp.pair_start[:-1])
        ends[-1] = 0.0  # nothing follows a terminal state, whatever the values say
        _, expected = finite(mdp, judged, 4, ends)
        found = oc.doubly_robust(data, judged, values=values)
        assert chances @ found.contributions == pytest.approx(mdp.initial @ expected, abs=1e-12)
        if kind == "exact":
            assert chances @ found.contributions == pytest.approx(exact.expected_return, abs=1e-12)
        if kind == "zero":
            plain = oc.importance_sampling(data, judged)
            assert found.contributions == pytest.approx(plain.contributions, abs=1e-12)

    def test_clocks_and_steps_have_the_same_mean(self):
        """Geometric lengths, enumerated: a path stops after each step with probability 1 − γ."""
        mdp, rng = chain(discount=0.25), np.random.default_rng(5)
        acting, judged = random_policy(mdp, rng), random_policy(mdp, rng)
        longest, gamma = 5, mdp.discount
        means = {"importance": 0.0, "robust": 0.0, "trajectory": 0.0}
        values = rng.normal(size=mdp.n_pairs)
        values[6:] = 0.0
        for length in range(1, longest + 1):
            chances, listed, ended = paths(mdp, acting, length)
            plain = oc.Dataset.from_trajectories(mdp, listed, terminated=ended, behavior=acting)
            clocked = dataclasses.replace(plain, step_discount=1.0)
            stop = gamma ** (length - 1) * (1.0 if length == longest else 1 - gamma)
            # a terminal state before the clock rings ends the path: `paths` counts it at every length, as it should
            means["importance"] += stop * chances @ oc.importance_sampling(clocked, judged).contributions
            trajectory = oc.importance_sampling(clocked, judged, per_decision=False)
            means["trajectory"] += stop * chances @ trajectory.contributions
            means["robust"] += stop * chances @ oc.doubly_robust(clocked, judged, values=values).contributions
        _, expected = finite(mdp, judged, longest)
        ends = np.add.reduceat(values * judged.pair_probabilities, mdp.pair_start[:-1])
        _, bootstrapped = finite(mdp, judged, longest, ends)
        assert means["importance"] == pytest.approx(mdp.initial @ expected, abs=1e-12)
        assert means["trajectory"] == pytest.approx(mdp.initial @ expected, abs=1e-12)
        assert means["robust"] == pytest.approx(mdp.initial @ bootstrapped, abs=1e-12)

    @pytest.mark.parametrize("method", ["per_decision", "trajectory"])
    def test_score_weights_give_the_gradient_of_the_finite_horizon(self, method):
        mdp, rng = chain(), np.random.default_rng(8)
        acting, judged = random_policy(mdp, rng), random_policy(mdp, rng)
        steps = 3
        chances, listed, ended = paths(mdp, acting, steps)
        mean = np.zeros(mdp.n_pairs)
        for chance, path, over in zip(chances, listed, ended, strict=True):
            data = oc.Dataset.from_trajectories(mdp, [path], terminated=[over], behavior=acting)
            mean += chance * oc.score_weights(data, judged, method=method)
        tables, _ = finite(mdp, judged, steps)
        mass, expected = mdp.initial, np.zeros(mdp.n_pairs)
        for t in range(steps):
            pairs = mass[mdp.pairs.states] * judged.pair_probabilities
            expected += mdp.discount**t * pairs * tables[t]
            mass = pairs @ mdp.transitions.toarray()
        if method == "per_decision":
            assert mean[:6] == pytest.approx(expected[:6], abs=1e-12)

        def logits(weights):  # Σ m ∇log π for softmax logits; what is past is a baseline and falls out
            return weights - judged.pair_probabilities * np.add.reduceat(weights, mdp.pair_start[:-1])[mdp.pairs.states]

        assert logits(mean) == pytest.approx(logits(expected), abs=1e-12)


class TestRatios:
    @pytest.fixture
    def exact_frequencies(self):
        mdp, rng = chain(), np.random.default_rng(0)
        judged = random_policy(mdp, rng)
        ended = [step[3] == 3 for step in balanced(mdp, [3, 1, 2, 5, 1, 4, 0, 0])]
        data = oc.Dataset.from_transitions(mdp, balanced(mdp, [3, 1, 2, 5, 1, 4, 0, 0]), terminated=ended)
        return mdp, judged, data

    def test_tabular_dualdice_is_exact_on_exact_frequencies(self, exact_frequencies):
        mdp, judged, data = exact_frequencies
        exact = oc.evaluate(mdp, judged)
        truth = exact.pair_occupancy[:6] / data.frequencies[:6]
        found = oc.estimate_ratio(data, judged)
        assert found.pair_ratio[:6] == pytest.approx(truth, abs=1e-13)
        assert found.pair_action_values[:6] == pytest.approx(exact.pair_action_values[:6], abs=1e-12)
        estimate = oc.marginalized_importance_sampling(data, judged)
        assert estimate.value == pytest.approx(exact.expected_return, abs=1e-12)
        assert found.ratio[1, 1] == found.pair_ratio[3]

    def test_the_model_gives_the_ratio_that_frequencies_give(self, exact_frequencies):
        mdp, judged, _ = exact_frequencies
        everywhere = oc.Dataset.from_transitions(mdp, balanced(mdp, [3, 1, 2, 5, 1, 4, 1, 1]))
        found, exact = oc.estimate_ratio(everywhere, judged), oc.estimate_ratio(everywhere, judged, model=mdp)
        assert found.pair_ratio == pytest.approx(exact.pair_ratio, abs=1e-13)
        known = oc.marginalized_importance_sampling(everywhere, judged, ratio=exact)
        assert known.value == pytest.approx(oc.evaluate(mdp, judged).expected_return, abs=1e-12)
        assert known.standard_error == pytest.approx(0, abs=1e-12)  # rewards of a pair do not vary here

    def test_the_ratio_to_an_occupancy_is_the_density_ratio(self):
        mdp, rng = chain(), np.random.default_rng(2)
        acting, judged = random_policy(mdp, rng), random_policy(mdp, rng)
        mass = oc.evaluate(mdp, acting).pair_occupancy
        exact = oc.density_ratio(mdp, judged, acting)
        steps = [(int(mdp.pairs.states[k]), int(mdp.pairs.actions[k]), 0.0, 0) for k in range(8)]
        counts = np.round(mass * 10**5).astype(int)
        data = oc.Dataset.from_transitions(mdp, [s for s, c in zip(steps, counts, strict=True) for _ in range(c)])
        assert oc.estimate_ratio(data, judged, model=mdp).ratio == pytest.approx(exact, rel=2e-3)

    def test_features_that_hold_the_ratio_find_it(self, exact_frequencies):
        _, judged, data = exact_frequencies
        rng = np.random.default_rng(1)
        truth = np.append(oc.estimate_ratio(data, judged).pair_ratio[:6], [0.0, 0.0])
        features = np.column_stack([truth, rng.normal(size=8), rng.normal(size=8)])
        assert oc.estimate_ratio(data, judged, features=features).pair_ratio == pytest.approx(truth, abs=1e-10)
        other = rng.normal(size=(8, 2))
        assert abs(oc.estimate_ratio(data, judged, features=other).pair_ratio - truth).max() > 0.1

    def test_indicators_are_tabular(self):
        mdp, rng = chain(), np.random.default_rng(4)
        acting, judged = random_policy(mdp, rng), random_policy(mdp, rng)
        data = oc.Dataset.from_rollouts(oc.rollouts(mdp, acting, n_trajectories=300, horizon=20, rng=0))
        tabular = oc.estimate_ratio(data, judged)
        linear = oc.estimate_ratio(data, judged, features=np.eye(8)[:, :6])
        assert linear.pair_ratio[:6] == pytest.approx(tabular.pair_ratio[:6], abs=1e-10)
        assert linear.pair_action_values[:6] == pytest.approx(tabular.pair_action_values[:6], abs=1e-10)
        first = oc.marginalized_importance_sampling(data, judged)
        second = oc.marginalized_importance_sampling(data, judged, ratio=linear)
        assert second.contributions == pytest.approx(first.contributions, abs=1e-9)

    def test_score_weights_of_the_exact_ratio_are_exact(self, exact_frequencies):
        mdp, judged, data = exact_frequencies
        exact = oc.evaluate(mdp, judged)
        found = oc.score_weights(data, judged, method="ratio")
        assert found[:6] == pytest.approx((exact.pair_occupancy * exact.pair_action_values / 0.25)[:6], abs=1e-12)


class TestErrors:
    """Standard errors and intervals, against what repeated samples do."""

    @pytest.mark.parametrize("horizon", [12, "geometric"])
    def test_standard_errors_are_those_of_repeated_samples(self, horizon):
        mdp = oc.instances.get("garnet", n_states=4, n_actions=2, branching=2, seed=3, discount=0.7)
        acting = oc.Policy.uniform(mdp)
        judged = oc.Policy.from_pairs(mdp, np.tile([0.6, 0.4], 4))
        truth = oc.evaluate(mdp, judged).expected_return
        methods = {
            "plain": oc.importance_sampling,
            "weighted": lambda d, p: oc.importance_sampling(d, p, weighted=True),
            "weighted wholes": lambda d, p: oc.importance_sampling(d, p, per_decision=False, weighted=True),
            "robust": oc.doubly_robust,
            "weighted robust": lambda d, p: oc.doubly_robust(d, p, weighted=True),
            "ratio": oc.marginalized_importance_sampling,
        }
        found = {name: [] for name in methods}
        stream = np.random.default_rng(0)
        for _ in range(120):
            sample = oc.rollouts(mdp, acting, n_trajectories=150, horizon=horizon, rng=stream)
            data = oc.Dataset.from_rollouts(sample, acting)
            for name, method in methods.items():
                found[name].append(method(data, judged))
        for name, estimates in found.items():
            values = np.array([estimate.value for estimate in estimates])
            errors = np.array([estimate.standard_error for estimate in estimates])
            assert errors.mean() == pytest.approx(values.std(), rel=0.25), name
            cut = 0.7**12 / 0.3 if horizon == 12 and "robust" not in name and name != "ratio" else 0.0
            assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(120) + cut + 0.01, name
            inside = np.mean([low - cut <= truth <= high + cut for low, high in (e.interval() for e in estimates)])
            assert inside > 0.88, name

    def test_weighted_wholes_are_a_ratio_of_sums(self):
        mdp, rng = chain(), np.random.default_rng(6)
        acting, judged = random_policy(mdp, rng), random_policy(mdp, rng)
        sample = oc.rollouts(mdp, acting, n_trajectories=50, horizon=8, rng=0)
        data, weights = oc.Dataset.from_rollouts(sample, acting), np.ones(50)
        ratios = judged.pair_probabilities / acting.pair_probabilities
        for i, t in zip(*np.nonzero(sample.mask), strict=True):
            weights[i] *= ratios[sample.pair_index[i, t]]
        found = oc.importance_sampling(data, judged, per_decision=False, weighted=True)
        assert found.value == pytest.approx(weights @ sample.returns / weights.sum(), rel=1e-12)
        assert sample.returns.min() <= found.value <= sample.returns.max()

    def test_intervals(self):
        mdp = chain()
        acting = oc.Policy.uniform(mdp)
        data = oc.Dataset.from_rollouts(oc.rollouts(mdp, acting, n_trajectories=400, horizon=30, rng=0), acting)
        estimate = oc.importance_sampling(data, acting)
        assert estimate.value == pytest.approx(estimate.contributions.mean())
        low, high = estimate.interval()
        assert (low + high) / 2 == pytest.approx(estimate.value)
        assert (high - low) / 2 == pytest.approx(1.966 * estimate.standard_error, rel=1e-3)  # Student, 399 degrees
        assert estimate.effective_sample_size == pytest.approx(400)
        with pytest.raises(oc.InvalidProblem, match="level"):
            estimate.interval(95)

    def test_few_effective_samples_are_said(self):
        mdp = chain(discount=0.9)
        acting, judged = oc.Policy.uniform(mdp), oc.Policy.from_pairs(mdp, [0.99, 0.01] * 4)
        data = oc.Dataset.from_rollouts(
            oc.rollouts(mdp, acting, n_trajectories=50, horizon=60, terminal=[], rng=0), acting
        )
        assert any("effective sample size" in note for note in oc.importance_sampling(data, judged).notes)

    def test_cross_fitted_values_beat_weights_alone(self):
        mdp, rng = chain(), np.random.default_rng(1)
        acting, judged = random_policy(mdp, rng), random_policy(mdp, rng)
        data = oc.Dataset.from_rollouts(oc.rollouts(mdp, acting, n_trajectories=2000, horizon=25, rng=0), acting)
        plain, robust = oc.importance_sampling(data, judged), oc.doubly_robust(data, judged, folds=4)
        assert robust.standard_error < plain.standard_error
        assert robust.standard_error > 0


class TestCoverage:
    @pytest.mark.bad_input(70)
    def test_missing_pairs_are_named_and_refused(self):
        mdp = oc.instances.get("machine-repair")
        lazy, best = oc.Policy.deterministic(mdp, ["run"] * 3), oc.solve(mdp).policy
        data = oc.Dataset.from_rollouts(oc.rollouts(mdp, lazy, n_trajectories=100, horizon=30, rng=0), lazy)
        coverage = data.coverage(best)
        assert coverage.missing == [("broken", "repair")]
        assert not coverage.is_complete
        assert coverage.rarest == (("broken", "repair"), 0)
        assert data.coverage(lazy).is_complete
        with pytest.raises(oc.Unsupported, match="'broken', action 'repair'"):
            oc.estimate_ratio(data, best)
        with pytest.raises(oc.Unsupported, match="'broken', action 'repair'"):
            oc.estimate_ratio(data, best, model=mdp)
        with pytest.raises(oc.Unsupported, match="never takes: state 'broken', action 'repair'"):
            oc.importance_sampling(data, best)
        assert coverage.missing == oc.singular_pairs(mdp, best, lazy)

    def test_what_the_policy_never_reaches_is_not_needed(self):
        mdp = chain()
        stay = oc.Policy.deterministic(mdp, [1, 0, 0, 0])
        coverage = oc.Dataset.from_transitions(mdp, [(1, 0, 0.0, 0), (0, 1, 0.0, 1)]).coverage(stay)
        assert coverage.is_complete
        assert coverage.needed.tolist() == [False, True, True, False, False, False, False, False]

    def test_sampled_gaps_are_notes(self):
        mdp = chain()
        acting = oc.Policy.uniform(mdp)
        data = oc.Dataset.from_trajectories(mdp, [[(0, 0, 1.0, 1)]], behavior=acting)
        assert any("lacks pairs" in note for note in oc.importance_sampling(data, acting).notes)


class TestData:
    def test_encodings_agree(self):
        mdp = chain()
        acting = oc.Policy.uniform(mdp)
        sample = oc.rollouts(mdp, acting, n_trajectories=40, horizon=6, rng=0)
        data = oc.Dataset.from_rollouts(sample, acting)
        states, actions, following = sample.states, sample.actions, sample.next_states
        listed = [
            [(states[i, t], actions[i, t], sample.rewards[i, t], following[i, t]) for t in range(sample.lengths[i])]
            for i in range(40)
        ]
        other = oc.Dataset.from_trajectories(mdp, listed, terminated=sample.terminated, behavior=acting)
        assert np.array_equal(data.pair_index, other.pair_index)
        assert np.array_equal(data.next_states, other.next_states)
        assert np.array_equal(data.terminated, other.terminated)
        assert np.array_equal(data.starts, other.starts)
        assert np.array_equal(data.initial, other.initial)
        loose = oc.Dataset.from_transitions(mdp, [step for path in listed for step in path])
        assert np.array_equal(loose.counts, data.counts)
        assert len(data) == sample.n_steps
        assert data.n_trajectories == 40
        assert data.empirical_behavior.pair_probabilities[:2] == pytest.approx(data.counts[:2] / data.counts[:2].sum())

    def test_trajectories_that_begin_at_the_end_count(self):
        mdp = chain(initial=[0.5, 0, 0, 0.5])
        acting = oc.Policy.uniform(mdp)
        sample = oc.rollouts(mdp, acting, n_trajectories=4000, horizon=40, rng=0)
        data = oc.Dataset.from_rollouts(sample, acting)
        assert (np.diff(data.starts) == 0).sum() == (sample.lengths == 0).sum() > 0
        truth = oc.evaluate(mdp, acting).expected_return
        for found in (
            oc.importance_sampling(data, acting), oc.doubly_robust(data, acting),
            oc.marginalized_importance_sampling(data, acting),
        ):  # fmt: skip
            assert abs(found.value - truth) < 4 * found.standard_error

    def test_the_empirical_model(self):
        mdp = chain()
        data = oc.Dataset.from_transitions(
            mdp,
            [(0, 0, 1.0, 1), (0, 0, 2.0, 0), (1, 1, 5.0, 3), (1, 1, 5.0, 2)],
            terminated=[False, False, True, False],
        )
        model = data.empirical_model
        assert (model.n_states, model.n_pairs) == (5, 9)
        assert model.transitions.toarray()[0].tolist() == [0.5, 0.5, 0, 0, 0]
        assert model.transitions.toarray()[3].tolist() == [0, 0, 0.5, 0, 0.5]
        assert model.transitions.toarray()[1].tolist() == [0, 0, 0, 0, 1]
        assert model.pair_rewards.tolist() == [1.5, 0, 0, 5, 0, 0, 0, 0, 0]

    def test_labels_stay(self):
        mdp = oc.instances.get("machine-repair")
        data = oc.Dataset.from_transitions(mdp, [("new", "run", 1.0, "worn")])
        assert data.empirical_model.states[:3] == ("new", "worn", "broken")
        assert oc.evaluate(data.empirical_model, data.extend(oc.Policy.uniform(mdp))).policy["new", "run"] == 0.5

    @pytest.mark.parametrize("name", ["FrozenLake-v1", "CliffWalking-v1"])
    def test_gymnasium(self, name):
        pytest.importorskip("gymnasium")
        mdp = oc.interop.from_gymnasium(name, discount=0.9)
        best = oc.solve(mdp).policy
        acting = oc.Policy.from_pairs(
            mdp, 0.5 * best.pair_probabilities + 0.5 * oc.Policy.uniform(mdp).pair_probabilities
        )
        data = oc.Dataset.from_gymnasium(name, mdp, acting, n_trajectories=300, longest=60, rng=0)
        again = oc.Dataset.from_gymnasium(name, mdp, acting, n_trajectories=300, longest=60, rng=0)
        assert np.array_equal(data.pair_index, again.pair_index)
        assert (mdp.transitions.toarray()[data.pair_index, data.next_states] > 0).all()
        assert (data.next_states[data.terminated] == mdp.pairs.state("terminal")).all()
        found = oc.importance_sampling(data, acting)
        truth = oc.evaluate(mdp, acting).expected_return
        most = 0.9**60 / 0.1 * abs(mdp.pair_rewards).max()
        assert abs(found.value - truth) < 4 * found.standard_error + most
        assert data.discount == data.step_discount == 0.9


class Corridor:
    """0 → 1 → 2, for a reward each; the state 2, where nothing happens any more, is not said to be the end."""

    P = {s: {0: [(1.0, min(s + 1, 2), float(s < 2), False)]} for s in range(3)}  # noqa: RUF012

    def reset(self, seed=None):
        self.state = 0
        return np.int64(0), {}

    def step(self, action):
        ((_, self.state, reward, _),) = self.P[self.state][action]
        return np.int64(self.state), reward, False, False, {}


class TestSteppedEnvironments:
    def test_an_episode_ends_where_nothing_happens_any_more(self):
        mdp = oc.interop.from_gymnasium(Corridor(), discount=0.9)
        data = oc.Dataset.from_gymnasium(Corridor(), mdp, oc.Policy.uniform(mdp), n_trajectories=2, rng=0)
        assert mdp.states == (0, 1, "terminal")
        assert data.pair_index.tolist() == [0, 1, 0, 1]
        assert data.next_states.tolist() == [1, 2, 1, 2]
        assert data.terminated.tolist() == [False, True, False, True]

    def test_the_clock_of_the_environment_cuts_episodes(self):
        gymnasium = pytest.importorskip("gymnasium")
        env = gymnasium.make("FrozenLake-v1", max_episode_steps=2)
        mdp = oc.interop.from_gymnasium(env, discount=0.9)
        still = oc.Policy.deterministic(mdp, ["left"] * 11 + ["left"])
        data = oc.Dataset.from_gymnasium(env, mdp, still, n_trajectories=3, rng=0)
        assert len(data.pair_index) == 6
        assert not data.terminated.any()

    @pytest.mark.parametrize("counts", [{"n_trajectories": 0}, {"n_trajectories": 1, "longest": 0}])
    def test_counts_are_at_least_one(self, counts):
        mdp = oc.interop.from_gymnasium(Corridor(), discount=0.9)
        with pytest.raises(oc.InvalidProblem, match="at least 1"):
            oc.Dataset.from_gymnasium(Corridor(), mdp, oc.Policy.uniform(mdp), **counts)


class TestRefusals:
    @pytest.mark.parametrize(
        ("steps", "words"),
        [
            ([], "no transition"),
            ([(0, 0, np.nan, 1)], "reward of transition 0"),
            ([(0, 0, 1.0)], r"not \(state, action"),
            ([(0, 5, 1.0, 1)], "no action 5"),
            ([(9, 0, 1.0, 1)], "no state 9"),
            ([(3, 1, 1.0, 3)], "action 1 in state 3, where it is not admissible"),
            ([(0, 0, [1.0], 1), (0, 0, [2.0], 1)], "give one number each"),
        ],
    )
    def test_bad_transitions(self, steps, words):
        mdp = chain(admissible=np.array([[True, True]] * 3 + [[True, False]]))
        with pytest.raises(oc.InvalidProblem, match=words):
            oc.Dataset.from_transitions(mdp, steps)

    def test_bad_trajectories(self):
        mdp = chain()
        with pytest.raises(oc.InvalidProblem, match="trajectory 1 breaks at step 1"):
            oc.Dataset.from_trajectories(mdp, [[(0, 0, 1.0, 1)], [(0, 0, 1.0, 1), (2, 0, 1.0, 1)]])
        with pytest.raises(oc.InvalidProblem, match="at least one step"):
            oc.Dataset.from_trajectories(mdp, [[]])
        with pytest.raises(oc.InvalidProblem, match="2 entries for 1"):
            oc.Dataset.from_trajectories(mdp, [[(0, 0, 1.0, 1)]], terminated=[True, False])
        with pytest.raises(oc.InvalidProblem, match="discount is None"):
            oc.Dataset.from_transitions(chain(discount=None), [(0, 0, 1.0, 1)])

    def test_data_of_another_policy(self):
        mdp = chain()
        never = oc.Policy.deterministic(mdp, [1, 1, 1, 1])
        with pytest.raises(oc.InvalidProblem, match="never takes"):
            oc.Dataset.from_transitions(mdp, [(0, 0, 1.0, 1)], behavior=never)
        data = oc.Dataset.from_transitions(mdp, [(0, 0, 1.0, 1)])
        other = oc.Policy.uniform(oc.instances.get("machine-repair"))
        with pytest.raises(oc.InvalidProblem, match="another model"):
            oc.estimate_ratio(data, other)
        with pytest.raises(oc.InvalidProblem, match="without order"):
            oc.importance_sampling(data, never, behavior=oc.Policy.uniform(mdp))
        ordered = oc.Dataset.from_trajectories(mdp, [[(0, 0, 1.0, 1)]])
        with pytest.raises(oc.InvalidProblem, match="policy that acted"):
            oc.importance_sampling(ordered, never)

    def test_bad_settings(self):
        mdp = chain()
        acting = oc.Policy.uniform(mdp)
        data = oc.Dataset.from_rollouts(oc.rollouts(mdp, acting, n_trajectories=50, horizon=9, rng=0), acting)
        with pytest.raises(oc.InvalidProblem, match="values="):
            oc.doubly_robust(data, acting, values=np.zeros(3))
        with pytest.raises(oc.InvalidProblem, match="folds"):
            oc.doubly_robust(data, acting, folds=1)
        with pytest.raises(oc.InvalidProblem, match="the number of trajectories, 50, not 51"):
            oc.doubly_robust(data, acting, folds=51)
        with pytest.raises(oc.InvalidProblem, match="features="):
            oc.estimate_ratio(data, acting, features=np.ones((3, 1)))
        with pytest.raises(oc.InvalidProblem, match="give one"):
            oc.estimate_ratio(data, acting, features=np.ones((8, 1)), model=mdp)
        with pytest.raises(oc.InvalidProblem, match="other pairs than the data"):
            oc.estimate_ratio(data, acting, model=oc.instances.get("machine-repair", discount=0.75))
        with pytest.raises(oc.Unsupported, match="condition"):
            oc.estimate_ratio(data, acting, features=np.ones((8, 2)))
        with pytest.raises(oc.InvalidProblem, match="method='guess'"):
            oc.score_weights(data, acting, method="guess")
        undiscounted = oc.Dataset.from_transitions(chain(discount=1.0), [(0, 0, 1.0, 1)])
        with pytest.raises(oc.InvalidProblem, match="below 1"):
            oc.estimate_ratio(undiscounted, acting)

    @pytest.mark.bad_input(71)
    def test_weights_that_overflow(self):
        mdp = oc.MDP.from_arrays(np.ones((1, 2, 1)), [[1.0, 0.0]], discount=0.5)
        acting = oc.Policy.from_pairs(mdp, [1e-3, 1 - 1e-3])
        data = oc.Dataset.from_trajectories(mdp, [[(0, 0, 1.0, 0)] * 150], behavior=acting)
        with pytest.raises(oc.Unsupported, match="overflow after 102 steps"):
            oc.importance_sampling(data, oc.Policy.deterministic(mdp, [0]))

"""Semi-Markov models against their own equations in fractions, and published answers."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from helpers import Exact, fractions, solve_fractions
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from strategies import distributions, numbers, sketches

import occlp as oc

POSITIVE = st.builds(Fraction, st.integers(1, 12), st.integers(1, 6))
SHARES = st.builds(Fraction, st.integers(0, 6), st.integers(7, 9))


def strings(values):
    return [str(value) for value in values]


def discounted_values(mdp, kernel, rewards, chosen):
    """V = r + Σ kernel V of the chosen pair of each state, in fractions; the kernel is [pairs] of {s': weight}."""
    n = mdp.n_states
    system = [[Fraction(int(i == j)) - kernel[chosen[i]].get(j, 0) for j in range(n)] for i in range(n)]
    return solve_fractions(system, [rewards[k] for k in chosen])


def rows_of(mdp):
    """Transition rows of an exact model, [pairs] of {s': probability}."""
    start, indices, weights = mdp.transitions.indptr, mdp.transitions.indices.tolist(), mdp.exact.transitions
    return [dict(zip(indices[a:b], weights[a:b], strict=True)) for a, b in itertools.pairwise(start)]


def stationary(rows, chosen):
    """The stationary distribution of one recurrent class, in fractions."""
    n = len(chosen)
    system = [[rows[chosen[i]].get(j, Fraction(0)) - int(i == j) for i in range(n)] for j in range(n)]
    system[-1] = [Fraction(1)] * n
    return solve_fractions(system, [Fraction(0)] * (n - 1) + [Fraction(1)])


class TestPublished:
    def test_maintenance_of_tijms(self):
        # Tijms (2003), Example 6.1.1: 0.4338 a day, repairing in condition 4; embedded stationary distribution
        # as computed by the R package MDP (tests of relund/mdp): 0.56603774 0.28301887 0.09433962 0.02358491 0.03301887
        process = oc.semi_markov(oc.instances.get("tijms-maintenance"), "days")
        problem = oc.Problem(process.mdp, criterion="average", sense="minimize")
        result = oc.solve(problem)
        assert abs(result.objective - 95 / 219) < 1e-12
        assert result.certificate.lower <= 95 / 219 <= result.certificate.upper
        assert result.policy.actions == {1: "run", 2: "run", 3: "run", 4: "repair", 5: "repair"}
        published = [30 / 53, 15 / 53, 5 / 53, 5 / 212, 7 / 212]
        np.testing.assert_allclose(process.embedded_occupancy(result).sum(axis=1), published, rtol=1e-12)
        np.testing.assert_allclose(result.expected["days"], 1.0, rtol=1e-12)  # a day a day
        assert oc.verify(problem, result)
        wrong = oc.semi_markov(oc.instances.get("tijms-maintenance"), np.ones(8)).mdp
        other = oc.solve(oc.Problem(wrong, criterion="average", sense="minimize"))
        assert abs(other.objective - 95 / 219) > 1e-3

    def test_maintenance_of_tijms_discounted(self):
        # R package MDP (tests of relund/mdp), rate 0.1, sojourns of fixed length: V(5) = −12.345412225178883, Σ V = ...
        process = oc.semi_markov(oc.instances.get("tijms-maintenance"), "days", rate=0.1, distribution="constant")
        result = oc.solve(oc.Problem(process.mdp, sense="minimize"))
        values = process.state_values(result)
        assert abs(values[4] - 12.345412225178883) < 1e-12
        assert abs(values.sum() - 36.64742873696038) < 1e-11

    def test_the_best_cycle_of_tijms(self):
        # Tijms (2003), Exercise 7.3: the best ratio of reward to time is 4, as on 4 -> 3 -> 2 -> 1 -> 0 -> 4
        origin, target = zip(*((s, a) for s in range(5) for a in range(5) if s != a), strict=True)
        reward = [8, 12, 6, 6, 20, 2, 14, 16, 16, 2, 18, 16, 6, 10, 20, 6, 8, 16, 20, 8]
        time = [3, 6, 3, 2, 4, 1, 7, 5, 5, 1, 6, 8, 3, 8, 5, 2, 2, 5, 9, 2]
        steps = {(s, a): (r, t) for s, a, r, t in zip(origin, target, reward, time, strict=True)}
        ratios = {
            cycle: Fraction(*map(sum, zip(*(steps[step] for step in zip(cycle, (*cycle[1:], cycle[0]), strict=True)),
                                          strict=True)))
            for size in range(2, 6)
            for cycle in itertools.permutations(range(5), size)
        }  # fmt: skip
        assert max(ratios.values()) == ratios[4, 3, 2, 1, 0] == 4
        embedded = oc.MDP.from_pairs(origin, target, np.eye(5, dtype=int)[list(target)], strings(reward), initial=0)
        process = oc.semi_markov(embedded, time)
        policy = oc.Policy.deterministic(process.mdp, [4, 0, 1, 2, 3])
        problem = oc.Problem(process.mdp, criterion="average")
        assert abs(oc.evaluate(problem, policy).objective - 4) < 1e-13
        result = oc.solve(problem)
        assert abs(result.objective - 4) < 1e-9
        np.testing.assert_allclose(result.gain, 4, rtol=1e-9)
        rows = rows_of(process.mdp)
        mass = stationary(rows, policy.choice.tolist())
        assert sum(m * process.mdp.exact.rewards[k] for m, k in zip(mass, policy.choice, strict=True)) == 4


class TestDiscounted:
    @given(st.data())
    @settings(max_examples=60)
    def test_values_and_occupancies_are_those_of_the_process(self, data):
        sketch = data.draw(sketches(max_states=4, max_actions=2, discounts=(None,)))
        embedded = sketch.mdp(exact=True)
        per_transition = data.draw(st.booleans())
        shape = (embedded.n_pairs, embedded.n_states) if per_transition else (embedded.n_pairs,)
        given_discounts = np.array(
            [data.draw(SHARES) for _ in range(int(np.prod(shape)))], dtype=object
        ).reshape(shape)  # fmt: skip
        process = oc.semi_markov(embedded, sojourn_discounts=given_discounts)
        assert process.mdp.exact is not None
        rows = rows_of(embedded)
        kernel = [
            {j: p * (given_discounts[k, j] if per_transition else given_discounts[k]) for j, p in row.items()}
            for k, row in enumerate(rows)
        ]
        choices = [data.draw(st.integers(a, b - 1)) for a, b in itertools.pairwise(embedded.pair_start.tolist())]
        values = discounted_values(embedded, kernel, embedded.exact.rewards, choices)
        changed = Exact.of(process.mdp)
        probabilities = [Fraction(int(k in choices)) for k in range(embedded.n_pairs)]
        assert changed.values(probabilities) == values
        policy = oc.Policy.from_choice(embedded, choices)
        evaluation = oc.evaluate(process.mdp, policy)
        scale = 1 + max(abs(float(v)) for v in values)
        np.testing.assert_allclose(evaluation.state_values, [float(v) for v in values], rtol=0, atol=1e-11 * scale)
        visits = self.visits(embedded, kernel, choices)
        np.testing.assert_allclose(process.decisions(evaluation).sum(axis=1), visits, rtol=1e-10, atol=1e-12)
        rests = [float(1 - sum(kernel[k].values())) for k in choices]
        np.testing.assert_allclose(evaluation.state_occupancy, np.array(visits) * rests, rtol=1e-10, atol=1e-12)
        # a decision's loss: r + Σ kernel V − V
        lost = [
            reward + sum(w * values[j] for j, w in row.items()) - values[s]
            for reward, row, s in zip(embedded.exact.rewards, kernel, embedded.pairs.states, strict=True)
        ]
        found = process.advantages(evaluation)[embedded.pairs.states, embedded.pairs.actions]
        np.testing.assert_allclose(found, [float(x) for x in lost], rtol=0, atol=1e-9 * scale)
        doubles = oc.semi_markov(sketch.mdp(), sojourn_discounts=given_discounts.astype(float))
        assert doubles.mdp.exact is None
        np.testing.assert_allclose(
            oc.evaluate(doubles.mdp, oc.Policy.from_choice(doubles.mdp, choices)).state_values,
            evaluation.state_values, rtol=0, atol=1e-9 * scale,
        )  # fmt: skip

    def visits(self, mdp, kernel, chosen):
        """Expected discounted decisions in each state, from the initial distribution."""
        n = mdp.n_states
        system = [[Fraction(int(i == j)) - kernel[chosen[i]].get(j, 0) for i in range(n)] for j in range(n)]
        return [float(x) for x in solve_fractions(system, list(mdp.exact.initial))]

    def test_distributions(self):
        embedded = oc.instances.get("tijms-maintenance")
        days = embedded.pair_costs["days"]
        memoryless = oc.semi_markov(embedded, "days", rate="1/10", distribution="exponential")
        by_hand = oc.semi_markov(embedded, sojourn_discounts=[f"10/{10 + int(t)}" for t in days])
        assert memoryless.mdp.exact.transitions == by_hand.mdp.exact.transitions
        assert memoryless.mdp.exact.rewards == by_hand.mdp.exact.rewards
        constant = oc.semi_markov(embedded, "days", rate="1/10", distribution="constant")
        assert constant.mdp.exact is None
        by_hand = oc.semi_markov(embedded, sojourn_discounts=np.exp(-0.1 * days))
        np.testing.assert_allclose(constant.mdp.pair_rewards, by_hand.mdp.pair_rewards, rtol=1e-13)
        assert constant.mdp.discount != memoryless.mdp.discount

    def test_sojourns_of_one_period_change_nothing(self):
        mdp = oc.instances.get("howard-taxicab", discount="9/10")
        process = oc.semi_markov(mdp.replace(discount=None), sojourn_discounts=["9/10"] * mdp.n_pairs)
        plain = Exact.of(mdp)
        assert Exact.of(process.mdp).optimal_values() == plain.optimal_values()

    def test_what_is_earned_during_a_sojourn(self):
        # one state: 1 per unit of time for ever is worth 1 / rate, however long the sojourns are
        stay = oc.MDP.from_arrays([[["1"], ["1"]]], [["0", "0"]], costs={"use": [[0, 0]]})
        for sojourn in (["1", "7/3"], ["1/100", "50"]):
            process = oc.semi_markov(
                stay, [sojourn], rate="1/4", distribution="exponential", reward_rates=[["1", "1"]],
                cost_rates={"use": [[2, 2]], "new": [[1, 3]]},
            )  # fmt: skip
            assert Exact.of(process.mdp).optimal_values() == [4]
            result = oc.evaluate(process.mdp, oc.Policy.uniform(process.mdp))
            assert result.expected_total["use"] == pytest.approx(8)
            assert result.expected_total["new"] == pytest.approx(8)  # half the time each: shares of time

    def test_near_one_keeps_its_digits(self):
        turn = oc.MDP.from_arrays([[[0.0, 1.0]], [[1.0, 0.0]]], [[1.0], [1.0]])
        process = oc.semi_markov(turn, [[1.0], [1.0]], rate=1e-9, distribution="constant")
        value = oc.solve(process.mdp).state_values[0]
        assert value == pytest.approx(-1 / np.expm1(-1e-9), rel=1e-12)

    def test_no_discount_left(self):
        mdp = oc.MDP.from_arrays([[["1", "0"]], [["1/2", "1/2"]]], [["3"], ["5"]])
        process = oc.semi_markov(mdp, sojourn_discounts=["0", "0"])
        assert process.mdp.discount == 0
        assert Exact.of(process.mdp).optimal_values() == [3, 5]


class TestAverage:
    @given(st.data())
    @settings(max_examples=60)
    def test_gain_and_occupancy_are_per_unit_of_time(self, data):
        n = data.draw(st.integers(1, 4))
        first = [data.draw(distributions(n, (7, 8))) for _ in range(2 * n)]
        rows = [[(p + Fraction(1, n)) / 2 for p in row] for row in first]  # every state from every state
        rewards, times = ([data.draw(source) for _ in range(2 * n)] for source in (numbers(), POSITIVE))
        embedded = oc.MDP.from_pairs(
            np.repeat(range(n), 2), np.tile([0, 1], n), [strings(row) for row in rows], strings(rewards), initial=0
        )
        process = oc.semi_markov(embedded, strings(times))
        chosen = [data.draw(st.integers(2 * s, 2 * s + 1)) for s in range(n)]
        by_decision = stationary(rows_of(embedded), chosen)
        cycle = sum(x * times[k] for x, k in zip(by_decision, chosen, strict=True))
        gain = sum(x * rewards[k] for x, k in zip(by_decision, chosen, strict=True)) / cycle
        by_time = stationary(rows_of(process.mdp), chosen)
        assert by_time == [x * times[k] / cycle for x, k in zip(by_decision, chosen, strict=True)]
        assert sum(m * process.mdp.exact.rewards[k] for m, k in zip(by_time, chosen, strict=True)) == gain
        doubles = oc.semi_markov(
            oc.MDP.from_pairs(
                np.repeat(range(n), 2), np.tile([0, 1], n), [[float(p) for p in row] for row in rows],
                [float(r) for r in rewards], initial=0,
            ),
            [float(t) for t in times],
        )  # fmt: skip
        problem = oc.Problem(doubles.mdp, criterion="average")
        evaluation = oc.evaluate(problem, oc.Policy.from_choice(doubles.mdp, chosen))
        assert evaluation.objective == pytest.approx(float(gain), abs=1e-10)
        assert doubles.decisions(evaluation).sum() == pytest.approx(float(1 / cycle), rel=1e-10)
        # relative values solve h = r − g τ + Q h
        h = doubles.state_values(evaluation)
        moves = [float(sum(p * Fraction(v) for p, v in zip(rows[k], h, strict=True))) for k in chosen]
        stays = [float(rewards[k] - gain * times[k]) for k in chosen]
        residuals = np.add(moves, stays) - h
        np.testing.assert_allclose(residuals, 0, atol=1e-9)
        advantages = doubles.advantages(evaluation)
        assert np.abs(advantages[range(n), [k % 2 for k in chosen]]).max() < 1e-9

    def test_policies_that_randomise_are_weighted_by_time(self):
        # two actions of 1 and 3 days, each every other decision: a quarter of the time for the first
        mdp = oc.MDP.from_arrays([[[1.0], [1.0]]], [[4.0, 0.0]])
        process = oc.semi_markov(mdp, [[1.0, 3.0]])
        even = oc.Policy.uniform(mdp)
        shares = process.time_policy(even)
        assert shares.pair_probabilities.tolist() == [0.25, 0.75]
        np.testing.assert_allclose(process.decision_policy(shares).pair_probabilities, even.pair_probabilities)
        evaluation = oc.evaluate(oc.Problem(process.mdp, criterion="average"), shares)
        assert evaluation.objective == pytest.approx(1.0)  # 4 every 4 days
        assert evaluation.occupancy.tolist() == [[0.25, 0.75]]

    def test_budget_per_unit_of_time(self):
        process = oc.semi_markov(oc.instances.get("tijms-maintenance"), "days")
        broken = np.zeros(8)
        broken[-1] = 1.0
        limits = {"down": oc.expected(process.mdp.pairs.table(broken, 0.0)) <= 0.05}
        problem = oc.Problem(process.mdp, criterion="average", sense="minimize", constraints=limits)
        result = oc.solve(problem)
        assert result.state_occupancy[-1] <= 0.05 + 1e-9
        assert result.objective > 95 / 219
        plan = process.decision_policy(result.policy)
        assert plan.randomizing.sum() <= 1


class TestContinuousTime:
    def test_a_queue(self):
        # M/M/1/3, arrivals 2, service 3: p_n ∝ (2/3)^n, so p = (27, 18, 12, 8)/65
        rates = np.zeros((4, 1, 4), dtype=object)
        for n in range(4):
            if n < 3:
                rates[n, 0, n + 1] = Fraction(2)
            if n > 0:
                rates[n, 0, n - 1] = Fraction(3)
        process = oc.continuous_time(rates, [0, 1, 2, 3], costs={"busy": [0, 3, 3, 3]}, initial=0)
        mass = stationary(rows_of(process.mdp), [0, 1, 2, 3])
        assert mass == [Fraction(k, 65) for k in (27, 18, 12, 8)]
        assert process.mdp.exact.rewards == (0, 1, 2, 3)
        assert process.step == pytest.approx(1 / 5)
        result = oc.solve(oc.Problem(process.mdp, criterion="average"))
        assert result.objective == pytest.approx(66 / 65)
        assert result.expected["busy"] == pytest.approx(3 * 38 / 65)

    @given(st.data())
    @settings(max_examples=40)
    def test_discounted_values_solve_the_equation_of_rates(self, data):
        n = data.draw(st.integers(1, 4))
        rates = [[data.draw(st.integers(0, 3)) for _ in range(n)] for _ in range(n)]
        earned = [data.draw(numbers()) for _ in range(n)]
        process = oc.continuous_time(
            [[strings(row)] for row in rates], [str(x) for x in earned], rate="1/5",
        )  # fmt: skip
        values = Exact.of(process.mdp).optimal_values()
        for s in range(n):  # α V = ρ + Σ rate (V' − V)
            flow = sum(rates[s][j] * (values[j] - values[s]) for j in range(n) if j != s)
            assert values[s] / 5 == earned[s] + flow

    def test_states_that_are_never_left(self):
        process = oc.continuous_time([[[0, 0]], [[1, 0]]], [[7], [0]], rate=0.5)
        np.testing.assert_allclose(oc.solve(process.mdp).state_values, [14, 14 / 1.5])

    def test_labels_masks_and_sums(self):
        process = oc.continuous_time(
            [[[0, 1], [-5, 5]], [[2, 0], [0, 0]]], [[1, 2], [3, 4]],
            admissible=[[True, True], [True, False]], states=["up", "down"], actions=["slow", "fast"], initial="up",
        )  # fmt: skip
        assert process.mdp.n_pairs == 3
        assert process.mdp.states == ("up", "down")
        np.testing.assert_allclose(process.mdp.transitions.toarray(), [[0.8, 0.2], [0, 1], [0.4, 0.6]], atol=1e-14)

    @pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
    def test_rates_that_are_none(self, wrong):
        with pytest.raises(oc.InvalidModel, match="the rate from state 0 to state 1 is"):
            oc.continuous_time([[[0, wrong]], [[1, 0]]], [[1], [0]])


class TestRefusals:
    @pytest.mark.parametrize(
        ("parts", "match"),
        [
            ({}, "either sojourn="),
            ({"sojourn": "days", "sojourn_discounts": np.ones(8) / 2}, "either sojourn="),
            ({"sojourn": "days", "rate": 1.0}, "both rate= and distribution="),
            ({"sojourn": "days", "distribution": "constant"}, "both rate= and distribution="),
            ({"sojourn": "days", "rate": 1.0, "distribution": "gamma"}, "distribution='gamma' is unknown"),
            ({"sojourn": "days", "rate": 0, "distribution": "constant"}, "rate=0 is not positive"),
            ({"sojourn": "hours"}, "sojourn='hours' is not a cost"),
            ({"sojourn": np.zeros(8)}, "a sojourn takes time: that of state 1, action 'run' is 0.0"),
            ({"sojourn": np.full(8, np.nan)}, "sojourn of state 1, action 'run' is not a finite number"),
            ({"sojourn_discounts": np.ones(8)}, r"in \[0, 1\); that of state 1, action 'run' is 1.0"),
            ({"sojourn_discounts": -np.ones(8)}, r"in \[0, 1\); that of"),
            ({"sojourn_discounts": np.ones(8) / 2, "distribution": "constant"}, "leave distribution= out"),
            ({"sojourn_discounts": np.ones(8) / 2, "reward_rates": np.ones(8)}, "needs rate="),
        ],
    )
    def test_parts(self, parts, match):
        with pytest.raises(oc.InvalidModel, match=match):
            oc.semi_markov(oc.instances.get("tijms-maintenance"), **parts)

    def test_discounts_too_near_one(self):
        turn = oc.MDP.from_arrays([[[0.0, 1.0]], [[1.0, 0.0]]], [[1.0], [0.0]])
        with pytest.raises(oc.InvalidModel, match="so near 1"):
            oc.semi_markov(turn, sojourn_discounts=[1 - 2.0**-53] * 2)

    def test_a_discount_per_decision(self):
        with pytest.raises(oc.InvalidModel, match=r"has discount 0.9 a decision"):
            oc.semi_markov(oc.instances.get("tijms-maintenance", discount=0.9), "days")

    def test_numbers_where_nothing_moves_are_ignored(self):
        mdp = oc.MDP.from_arrays([[[0.5, 0.5]], [[0.0, 1.0]]], [[1.0], [0.0]])
        with_nan = [[[2.0, 4.0]], [[np.nan, 1.0]]]
        process = oc.semi_markov(mdp, with_nan)
        assert process.weights.tolist() == [1 / 3, 1.0]
        given = sparse.csr_array(np.array([[2.0, 4.0], [0.0, 1.0]]))
        assert oc.semi_markov(mdp, given).weights.tolist() == [1 / 3, 1.0]
        with pytest.raises(oc.InvalidModel, match=r"that of state 0, action 0 is -4.0"):
            oc.semi_markov(mdp, [[[2.0, -4.0]], [[np.nan, 1.0]]])
        with pytest.raises(oc.InvalidModel, match=r"give \[pairs, S'\] = \[2, 2\]"):
            oc.semi_markov(mdp, sparse.csr_array((2, 3)))
        assert fractions(process.mdp.transitions.toarray().sum(axis=1)) == [1, 1]

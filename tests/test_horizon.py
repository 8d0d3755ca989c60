"""Backward induction against published tables, fractions and brute force; policies and results by time."""

from __future__ import annotations

import gzip
import itertools
import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers import Exact
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from strategies import sketches

import occlp as oc

SHARED = Path(__file__).resolve().parents[2] / "shared" / "cases"


def total(mdp, **parts):
    return oc.Problem(mdp, criterion="total", **parts)


def recursion(mdp, steps, terminal=None, sense="maximize"):
    """V_0 .. V_T in fractions, from the model's own numbers."""
    exact = Exact.of(mdp if mdp.discount is not None else mdp.replace(discount=1))
    best = max if sense == "maximize" else min
    values = [[Fraction(0)] * exact.n_states if terminal is None else [Fraction(v) for v in terminal]]
    for _ in range(steps):
        scores = exact.action_values(values[0])
        values.insert(0, [best(scores[k] for k in span) for span in exact.spans])
    return values


def brute_force(mdp, steps, sense="maximize"):
    """The best start value over all Markov policies, by looking at each."""
    exact = Exact.of(mdp)
    rules = list(itertools.product(*exact.spans))
    found = []
    for plan in itertools.product(rules, repeat=steps):
        values = [Fraction(0)] * exact.n_states
        for rule in reversed(plan):
            scores = exact.action_values(values)
            values = [scores[k] for k in rule]
        found.append(start_value(mdp, values))
    return (max if sense == "maximize" else min)(found)


def start_value(mdp, values):
    initial = mdp.initial.tolist() if mdp.exact is None else mdp.exact.initial
    return sum(Fraction(p) * v for p, v in zip(initial, values, strict=True))


def enclosed(answer, truth):
    return Fraction(answer.lower) <= truth <= Fraction(answer.upper)


# Puterman (1994), sections 3.2 and 4.6.1: an inventory of at most 3, horizon 3.
INVENTORY = oc.MDP.from_pairs(
    [0, 0, 0, 0, 1, 1, 1, 2, 2, 3],
    [0, 1, 2, 3, 0, 1, 2, 0, 1, 0],
    [
        ["1", "0", "0", "0"],
        ["3/4", "1/4", "0", "0"],
        ["1/4", "1/2", "1/4", "0"],
        ["0", "1/4", "1/2", "1/4"],
        ["3/4", "1/4", "0", "0"],
        ["1/4", "1/2", "1/4", "0"],
        ["0", "1/4", "1/2", "1/4"],
        ["1/4", "1/2", "1/4", "0"],
        ["0", "1/4", "1/2", "1/4"],
        ["0", "1/4", "1/2", "1/4"],
    ],
    ["0", "-1", "-2", "-5", "5", "0", "-3", "6", "-1", "5"],
)


class TestPublished:
    def test_inventory(self):
        table = [
            ["67/16", "129/16", "97/8", "227/16"],
            ["2", "25/4", "10", "21/2"],
            ["0", "5", "6", "5"],
            ["0", "0", "0", "0"],
        ]
        exact = oc.backward_induction(INVENTORY, 3, certify="exact")
        assert exact.exact_values.tolist() == [[Fraction(value) for value in row] for row in table]
        answer = oc.backward_induction(INVENTORY, 3)
        np.testing.assert_allclose(answer.values, exact.values, rtol=1e-15)
        for found in (answer, exact):
            assert found.policy.actions.tolist() == [[3, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]]
            assert enclosed(found, Fraction(67 + 129 + 194 + 227, 64))

    def test_howards_toymaker(self):
        # Howard (1960), Table 3.1: v1 = 0, 6, 8.2, 10.22, 12.222; v2 = 0, -3, -1.7, 0.23, 2.223
        answer = oc.backward_induction(oc.instances.get("howard-toymaker", discount=1), 4)
        table = [[12.222, 2.223], [10.22, 0.23], [8.2, -1.7], [6, -3], [0, 0]]
        np.testing.assert_allclose(answer.values, table, rtol=1e-14, atol=1e-14)

    def test_storms_one_state(self):
        # Storm, OneStateDiscounting: 100 (1 − 0.9^T) / 0.1 after 5 and 10 steps
        mdp = oc.MDP.from_arrays([[["1"], ["1"]]], [["1", "100"]], discount="9/10")
        for steps, value in ((5, "40951/100"), (10, "6513215599/10000000")):
            assert oc.backward_induction(mdp, steps, certify="exact").exact_objective == Fraction(value)
            assert oc.solve(total(mdp.unrolled(steps))).objective == pytest.approx(float(Fraction(value)), rel=1e-14)

    def test_prisms_cumulative_rewards(self):
        # prism-tests, mdp_rewards.nm.props: R{"a"}max=? [C<=T] = 5, 17, 28 and min = 2, 5.5, 11.25
        rows = [["1/2", "1/2", "0", "0"], ["0", "1/2", "1/2", "0"], ["0", "0", "1/2", "1/2"]]
        go = np.eye(4, dtype=int).tolist()
        mdp = oc.MDP.from_pairs(
            [0, 0, 1, 1, 2, 2, 3], [0, 1, 0, 1, 0, 1, 0],
            [go[1], rows[0], go[2], rows[1], go[3], rows[2], go[3]],
            [5, 2, 12, 5, 11, 11, 0], initial=0,
        )  # fmt: skip
        for sense, values in (("maximize", ["5", "17", "28"]), ("minimize", ["2", "11/2", "45/4"])):
            for steps, value in enumerate(values, start=1):
                answer = oc.backward_induction(mdp, steps, sense=sense, certify="exact")
                assert answer.exact_objective == Fraction(value)
                assert oc.solve(total(mdp.unrolled(steps), sense=sense)).objective == pytest.approx(
                    float(Fraction(value))
                )

    @pytest.mark.parametrize(
        ("size", "steps", "value"), [("4x4", 100, 0.7441902878292697), ("8x8", 200, 0.9132201502016295)]
    )
    def test_frozen_lake_with_its_time_limit(self, size, steps, value):
        mdp = oc.interop.from_gymnasium("FrozenLake-v1", discount=None, map_name=size)
        answer = oc.backward_induction(mdp, steps)
        assert abs(answer.objective - value) < 1e-12

    def test_resource_gathering_over_a_million_steps(self):
        # QComp, resource-gathering: R{"rew_gold"}max=? [C<=1000000] = 112032.8394 (Storm), 22.07144159 for 200
        path = SHARED / "data" / "qcomp" / "mdp_resource-gathering_B1000000_GOLD_TO_COLLECT0_GEM_TO_COLLECT0.json.gz"
        if not path.exists():
            pytest.skip("the public case is not here")
        mdp = read_case(path, reward="rew_gold")
        answer = oc.backward_induction(mdp, 10**6, keep=0)
        assert abs(answer.objective - 112032.8394) < 1e-4
        assert answer.gap < 1e-7
        short = oc.backward_induction(mdp, 200)
        assert abs(short.objective - 22.071441592808487) < 1e-12

    def test_leader_election_within_25_steps(self):
        # Storm's test leader4.nm: Pmax=? [F<=25 "elected"] = 1/16
        path = SHARED / "data" / "storm_tests" / "leader4_nm.json.gz"
        if not path.exists():
            pytest.skip("the public case is not here")
        mdp = read_case(path, absorbing="elected")
        elected = np.zeros(mdp.n_states)
        elected[json.loads(gzip.decompress(path.read_bytes()))["labels"]["elected"]] = 1.0
        answer = oc.backward_induction(mdp, 25, terminal=elected)
        assert enclosed(answer, Fraction(1, 16))
        assert answer.gap < 1e-12


def read_case(path, reward=None, absorbing=None):
    """A public case as a model of doubles."""
    case = json.loads(gzip.decompress(path.read_bytes()))
    start = np.array(case["row_start"])
    states = np.repeat(np.arange(case["n_states"]), np.diff(start))
    goal = set(case["labels"].get(absorbing, []))
    entries = [
        (k, *entry) for k, row in enumerate(case["rows"]) for entry in ([(states[k], 1)] if states[k] in goal else row)
    ]
    i, j, p = zip(*entries, strict=True)
    rewards = np.zeros(len(states))
    for k, value in case["rewards"].get(reward, {}).get("row", {}).items():
        rewards[int(k)] = float(Fraction(value))
    matrix = sparse.csr_array(([float(Fraction(x)) for x in p], (i, j)), shape=(len(states), case["n_states"]))
    return oc.MDP.from_pairs(
        states, np.arange(len(states)) - start[states], matrix, rewards, initial=case["initial"][0]
    )


class TestNamedModels:
    @pytest.mark.parametrize(
        ("n", "value", "skip"),
        [(3, "1/2", 1), (4, "11/24", 1), (5, "13/30", 2), (10, "3349/8400", 3), (20, "3407275/8868288", 7)],
    )
    def test_secretary(self, n, value, skip):
        # Lindley (1961), Gilbert and Mosteller (1966): n = 10: 0.3987, skip 3
        mdp = oc.instances.get("secretary", n=n)
        exact = oc.backward_induction(mdp, n, certify="exact")
        assert exact.exact_objective == Fraction(value)
        answer = oc.backward_induction(mdp, n)
        assert enclosed(answer, Fraction(value))
        rule = exact.policy[0].actions
        assert [rule[k] for k in range(1, n + 1)] == ["continue"] * skip + ["stop"] * (n - skip)
        assert oc.backward_induction(mdp, n + 1, certify="exact").exact_objective == Fraction(value)

    def test_secretary_of_a_hundred(self):
        answer = oc.backward_induction(oc.instances.get("secretary", n=100), 100)
        closed_form = Fraction(37, 100) * sum(Fraction(1, k) for k in range(37, 100))
        assert enclosed(answer, closed_form)
        assert abs(answer.objective - 0.3710) < 5e-5
        assert [answer.policy[0].actions[k] for k in (37, 38)] == ["continue", "stop"]

    def test_a_die(self):
        mdp = oc.instances.get("die-stopping")
        values = [oc.backward_induction(mdp, n, certify="exact").exact_objective for n in range(1, 7)]
        assert values == [Fraction(v) for v in ("7/2", "17/4", "14/3", "89/18", "277/54", "1709/324")]
        coin = oc.instances.get("die-stopping", sides=2)
        assert oc.backward_induction(coin, 2, certify="exact").exact_objective == Fraction(7, 4)

    def test_employment(self):
        # Hillier and Lieberman, Example 4: 185,000 dollars, levels 247.5, 245, 247.5, 255
        mdp = oc.instances.get("hillier-lieberman-employment")
        answer = oc.backward_induction(mdp, 4, sense="minimize", certify="exact")
        assert answer.exact_objective == 185
        season, people = "summer", 255
        levels = []
        for t, following in enumerate(["autumn", "winter", "spring", "year over"]):
            people = answer.policy[t].actions[season, people]
            levels.append(people)
            season = following
        assert levels == [247.5, 245, 247.5, 255]
        finer = oc.instances.get("hillier-lieberman-employment", step="1/2")
        assert oc.backward_induction(finer, 4, sense="minimize").objective == pytest.approx(185)
        with pytest.raises(oc.InvalidModel, match="step=0 is not positive"):
            oc.instances.get("hillier-lieberman-employment", step=0)


class TestAgainstFractions:
    @given(st.data())
    @settings(max_examples=80)
    def test_bounds_hold_and_exact_is_exact(self, data):
        sketch = data.draw(sketches(max_states=5, discounts=(None, Fraction(0), Fraction(1, 2), Fraction(99, 100))))
        sense = data.draw(st.sampled_from(["maximize", "minimize"]))
        steps = data.draw(st.integers(1, 12))
        terminal = data.draw(st.none() | st.lists(st.integers(-50, 50), min_size=5, max_size=5))
        terminal = None if terminal is None else terminal[: sketch.n_states]
        for model in (sketch.mdp(), sketch.mdp(exact=True)):
            truth = recursion(model, steps, terminal, sense)
            exact = oc.backward_induction(model, steps, terminal=terminal, sense=sense, certify="exact")
            assert exact.exact_values.tolist() == truth
            assert exact.exact_objective == start_value(model, truth[0])
            assert enclosed(exact, exact.exact_objective)
            assert exact.gap <= 2 * math.ulp(exact.objective)
        model = sketch.mdp()
        truth = recursion(model, steps, terminal, sense)
        answer = oc.backward_induction(model, steps, terminal=terminal, sense=sense)
        assert enclosed(answer, start_value(model, truth[0]))
        errors = [abs(Fraction(v) - w) for v, w in zip(answer.state_values.tolist(), truth[0], strict=True)]
        assert max(errors) <= answer.error
        assert answer.gap <= 1e-11 * max(1.0, float(np.abs(answer.values).max()))
        earned = self.earned(model, answer.policy, terminal)
        assert enclosed(answer, earned)
        if max(abs(v) for v in truth[0]) > 0:  # a wrong answer is noticed
            assert not enclosed(replace(answer, upper=answer.lower - abs(answer.lower) * 1e-9 - 1e-9), earned)

    def earned(self, model, policy, terminal):
        """What the returned decision rules earn, in fractions."""
        exact = Exact.of(model if model.discount is not None else model.replace(discount=1))
        values = [Fraction(0)] * exact.n_states if terminal is None else [Fraction(v) for v in terminal]
        for rule in policy.choice[::-1]:
            scores = exact.action_values(values)
            values = [scores[k] for k in rule]
        return start_value(model, values)

    @given(st.data())
    @settings(max_examples=20)
    def test_brute_force_over_markov_policies(self, data):
        model = data.draw(sketches(max_states=3, max_actions=2, min_states=2)).mdp(exact=True)
        steps = data.draw(st.integers(1, 2))
        for sense in ("maximize", "minimize"):
            found = oc.backward_induction(model, steps, sense=sense, certify="exact")
            assert found.exact_objective == brute_force(model, steps, sense)

    @given(st.data())
    @settings(max_examples=40)
    def test_the_unrolled_model_has_the_same_values(self, data):
        sketch = data.draw(sketches(max_states=4))
        steps = data.draw(st.integers(1, 6))
        model = sketch.mdp(exact=True)
        unrolled = model.unrolled(steps, [1] * model.n_states)
        longer = recursion(unrolled.replace(discount=1), steps + 1)[0]  # one step more than needed: the end pays 0
        values = recursion(model, steps, [1] * model.n_states)
        discount = model.exact.discount
        for label, value in zip(unrolled.states, longer, strict=True):
            if label != "end":
                time, state = label
                assert value == discount**time * values[time][state]

    @given(st.data())
    @settings(max_examples=30)
    def test_two_horizons_in_a_row(self, data):
        mdp = data.draw(sketches(max_states=4)).mdp()
        first, second = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
        whole = oc.backward_induction(mdp, first + second)
        rest = oc.backward_induction(mdp, second)
        joined = oc.backward_induction(mdp, first, terminal=rest.state_values)
        slack = joined.error + rest.error + whole.error
        assert np.abs(joined.state_values - whole.state_values).max() <= slack
        assert np.abs(whole.values[first] - rest.state_values).max() <= slack

    def test_a_long_horizon_is_the_infinite_one(self):
        mdp = oc.instances.get("machine-repair")
        endless = oc.solve(mdp)
        answer = oc.backward_induction(mdp, 2000, keep=1)
        np.testing.assert_allclose(answer.state_values, endless.state_values, rtol=1e-12)
        assert answer.policy[0].actions == endless.policy.actions

    def test_a_long_horizon_per_step_is_the_average(self):
        mdp = oc.instances.get("hillier-lieberman-machine", discount=None, initial="as new")
        answer = oc.backward_induction(mdp, 100_000, keep=0, sense="minimize")
        assert abs(answer.objective / 100_000 - 5000 / 3) < 0.1  # the book: 5000/3 a week in the long run
        longer = oc.backward_induction(mdp, 100_001, keep=0, sense="minimize")
        assert abs(longer.objective - answer.objective - 5000 / 3) < 1e-6


class TestNumbers:
    def test_scales_do_not_matter(self):
        plain = oc.backward_induction(INVENTORY, 50)
        for power in (-900, -30, 30, 900):
            scaled = INVENTORY.replace(rewards=INVENTORY.pair_rewards * 2.0**power)
            answer = oc.backward_induction(scaled, 50)
            assert (answer.values == plain.values * 2.0**power).all()
            assert answer.gap == plain.gap * 2.0**power

    def test_a_common_offset_does_not_cost_digits_over_time(self):
        mdp = oc.MDP.from_arrays([[[0.5, 0.5]], [[0.5, 0.5]]], [[1e6], [1e6 + 1]], initial=0)
        answer = oc.backward_induction(mdp, 10**5, keep=0)
        truth = Fraction(10**6) + (10**5 - 1) * (Fraction(10**6) + Fraction(1, 2))
        assert enclosed(answer, truth)
        assert answer.gap < 1e-3  # ulp(1e11) is 1.5e-5

    def test_underflow_is_accounted_for(self):
        mdp = oc.MDP.from_arrays([[[1.0]]], [[0.0]], discount=1e-200)
        answer = oc.backward_induction(mdp, 2, terminal=[1.0])
        assert answer.lower <= Fraction(1e-200) ** 2 <= answer.upper
        assert 0 < answer.upper < 1e-290

    def test_overflow_is_an_error(self):
        mdp = oc.MDP.from_arrays([[[1.0]]], [[1e307]])
        assert oc.backward_induction(mdp, 2).objective == 2e307
        for certify in ("float", "exact"):
            with pytest.raises(oc.InvalidProblem, match="overflow"):
                oc.backward_induction(mdp, 100, certify=certify)

    def test_zero_rewards_have_no_gap(self):
        answer = oc.backward_induction(INVENTORY.replace(rewards=np.zeros(10)), 5)
        assert (answer.objective, answer.gap) == (0.0, 0.0)

    @pytest.mark.parametrize("keep", [0, 1, 3, 7, 100])
    def test_keeping_less_changes_nothing(self, keep, monkeypatch):
        from occlp.horizon import induction

        whole = oc.backward_induction(INVENTORY, 7, terminal=[1, 2, 3, 4])
        monkeypatch.setattr(induction, "CALL_SIZE", 2 * INVENTORY.transitions.nnz)  # two steps a call
        part = oc.backward_induction(INVENTORY, 7, terminal=[1, 2, 3, 4], keep=keep)
        kept = min(keep, 7)
        assert (part.values == whole.values[: kept + 1]).all()
        assert (part.policy.choice == whole.policy.choice[:kept]).all()
        assert (part.objective, part.lower, part.upper) == (whole.objective, whole.lower, whole.upper)
        exact = oc.backward_induction(INVENTORY, 7, terminal=[1, 2, 3, 4], keep=keep, certify="exact")
        np.testing.assert_allclose(exact.values, part.values, rtol=1e-14)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"keep": -1}, "keep=-1"),
            ({"keep": 1.5}, "keep=1.5"),
            ({"sense": "max"}, "sense='max'"),
            ({"certify": "interval"}, "certify='interval'"),
        ],
    )
    def test_options(self, options, match):
        with pytest.raises(oc.InvalidProblem, match=match):
            oc.backward_induction(INVENTORY, 2, **options)

    def test_salvage_of_costs_is_refused(self):
        mdp = oc.instances.get("machine-repair")
        with pytest.raises(oc.InvalidProblem, match="knows no costs"):
            oc.backward_induction(mdp, 2, terminal={"wear": [1, 2, 3]})


class TestTimedPolicy:
    def plan(self):
        return oc.backward_induction(INVENTORY, 3).policy

    def test_rules(self):
        plan = self.plan()
        assert len(plan) == plan.horizon == 3
        assert plan[0].actions == {0: 3, 1: 0, 2: 0, 3: 0}
        assert plan[-1].actions == {0: 0, 1: 0, 2: 0, 3: 0}
        assert plan.probabilities.shape == (3, 4, 4)
        assert (plan.probabilities.sum(axis=2) == 1).all()
        assert oc.TimedPolicy.from_rules([plan[t] for t in range(3)]).choice.tolist() == plan.choice.tolist()
        assert repr(plan) == "TimedPolicy(3 steps, 4 states, deterministic)"
        with pytest.raises(IndexError):
            plan[3]
        with pytest.raises(oc.InvalidProblem, match="for each step"):
            oc.TimedPolicy.from_rules([])

    def test_visits_are_the_chain_written_out(self):
        plan = self.plan()
        visits = plan.visits(INVENTORY)
        np.testing.assert_allclose(visits.sum(axis=(1, 2)), 1.0)
        matrix, mass = INVENTORY.transitions.toarray(), INVENTORY.initial
        for t in range(3):
            np.testing.assert_allclose(visits[t].sum(axis=1), mass, atol=1e-15)
            mass = mass @ matrix[plan.choice[t]]
        earned = np.nansum(visits * INVENTORY.rewards)
        assert abs(earned - oc.backward_induction(INVENTORY, 3).objective) < 1e-14

    def test_expected_totals_are_those_of_the_unrolled_model(self):
        mdp = oc.instances.get("machine-repair", discount="9/10")
        salvage = {"reward": [3, 2, 1], "wear": ["1/2", "0", "4"]}
        plan = oc.backward_induction(mdp, 5, terminal=[3, 2, 1])
        found = plan.policy.expected_total(mdp, salvage)
        unrolled = mdp.unrolled(5, salvage)
        evaluation = oc.evaluate(total(unrolled), plan.policy.on(unrolled))
        assert found["reward"] == pytest.approx(plan.objective, rel=1e-14)
        assert found["reward"] == pytest.approx(evaluation.objective, rel=1e-14)
        assert found["wear"] == pytest.approx(evaluation.expected_total["wear"], rel=1e-14)
        assert plan.policy.expected_total(mdp)["wear"] < found["wear"]

    def test_visits_of_another_model(self):
        with pytest.raises(oc.InvalidProblem, match="another model"):
            self.plan().visits(oc.instances.get("machine-repair"))

    def test_there_and_back(self):
        unrolled = INVENTORY.unrolled(3)
        plan = self.plan()
        policy = plan.on(unrolled)
        again = oc.by_time(policy).policy
        assert again.is_deterministic
        reached = oc.by_time(unrolled).state_table(np.ones(unrolled.n_states), 0.0) > 0
        assert (again.choice[reached] == plan.choice[reached]).all()
        assert (again.choice[~reached] == -1).all()
        assert (again.visits(INVENTORY) == plan.visits(INVENTORY)).all()
        with pytest.raises(oc.InvalidProblem, match="has 2 steps, the policy 3"):
            plan.on(INVENTORY.unrolled(2))
        with pytest.raises(oc.InvalidProblem, match="unrolled over its horizon"):
            plan.on(INVENTORY)

    def test_a_policy_that_randomises(self):
        mdp = oc.instances.get("machine-repair")
        unrolled = mdp.unrolled(3)
        plan = oc.by_time(oc.Policy.uniform(unrolled)).policy
        assert not plan.is_deterministic
        assert plan[1]["worn"] == {"run": 0.5, "repair": 0.5}
        assert plan.actions[0].tolist() == ["run", None, None]
        assert plan[0]["broken"] == {"run": 1.0, "repair": 0.0}  # cannot be there: the first action
        np.testing.assert_allclose(plan.visits(mdp).sum(axis=(1, 2)), 1.0)
        np.testing.assert_allclose(plan.on(unrolled).pair_probabilities, oc.Policy.uniform(unrolled).pair_probabilities)
        twice = oc.TimedPolicy.from_rules([oc.Policy.uniform(mdp)] * 3)
        np.testing.assert_allclose(twice.visits(mdp), plan.visits(mdp))


class TestByTime:
    def test_tables(self):
        mdp = oc.instances.get("machine-repair", discount="1/2").unrolled(3)
        steps = oc.by_time(mdp)
        assert steps.horizon == 3
        assert steps.times.tolist() == [0, 1, 1, 2, 2, 2, 3]
        assert steps.pair_times.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3]
        rewards = steps.table(mdp.pair_rewards)
        assert rewards[2].tolist() == [[2.5, -2.0], [2.0, -2.0], [0.0, -2.5]]
        assert np.isnan(rewards[0, 1:]).all()
        np.testing.assert_array_equal(steps.table(mdp.rewards), rewards)
        assert steps.state_table(mdp.initial, 0.0).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]

    def test_what_it_refuses(self):
        mdp = oc.instances.get("machine-repair")
        steps = oc.by_time(mdp.unrolled(2))
        for ask, match in (
            (lambda: oc.by_time(mdp), "does not belong to an unrolled model"),
            (lambda: oc.by_time(3), "does not belong to an unrolled model"),
            (lambda: steps.policy, "a model has no policy"),
            (lambda: steps.occupancy, "only a result"),
            (lambda: steps.table(np.ones(2)), r"not \[2\]"),
            (lambda: steps.state_table(np.ones(2)), r"not \[2\]"),
        ):
            with pytest.raises(oc.InvalidProblem, match=match):
                ask()


class TestTotalRewards:
    """The unrolled model under the total criterion: the same answers, and constraints."""

    @given(st.data())
    @settings(max_examples=25)
    def test_backward_induction_agrees(self, data):
        sketch = data.draw(sketches(max_states=4))
        steps = data.draw(st.integers(1, 5))
        sense = data.draw(st.sampled_from(["maximize", "minimize"]))
        mdp = sketch.mdp(exact=True)
        truth = oc.backward_induction(mdp, steps, sense=sense, certify="exact").exact_objective
        problem = total(mdp.unrolled(steps), sense=sense)
        result = oc.solve(problem)
        scale = 1 + abs(float(truth))
        assert abs(result.objective - float(truth)) <= 1e-10 * scale
        assert result.certificate.lower - 1e-12 * scale <= truth <= result.certificate.upper + 1e-12 * scale
        assert oc.verify(problem, result)
        steps_of = oc.by_time(result)
        np.testing.assert_allclose(steps_of.occupancy.sum(axis=(1, 2)), 1.0, rtol=1e-12)
        np.testing.assert_allclose(steps_of.policy.visits(mdp), steps_of.occupancy, atol=1e-12)
        earned = np.nansum(steps_of.occupancy * steps_of.table(problem.mdp.pair_rewards, 0.0))
        assert abs(earned - result.objective) <= 1e-10 * scale

    def test_a_budget(self):
        # AlgTUDelft/ConstrainedPlanningToolbox, toy CMDP: horizon 10, budget 1/2; reward is 5 times the cost
        mdp = oc.MDP.from_pairs(
            [0, 0, 1, 1], [0, 1, 0, 1], [["1", "0"], ["1/10", "9/10"], ["0", "1"], ["0", "1"]],
            ["0", "0", "0", "10"], costs={"cost": ["0", "0", "0", "2"]}, initial=0,
        )  # fmt: skip
        problem = total(mdp.unrolled(10), constraints={"budget": oc.expected_total("cost") <= 0.5})
        for solver in (None, oc.OccupancyProgram()):
            result = oc.solve(problem, solver=solver)
            assert abs(result.objective - 2.5) < 1e-7
            assert abs(result.multipliers["budget"] - 5) < 1e-6
            assert result.expected_total["cost"] <= 0.5 + 1e-7
            assert oc.verify(problem, result)
        for solver in (oc.Decomposition(), oc.DeterministicProgram()):
            with pytest.raises(oc.Unsupported, match="OccupancyProgram answers totals"):
                oc.solve(problem, solver=solver)
        plan = oc.by_time(result).policy
        assert not plan.is_deterministic
        assert abs((plan.pair_visits(mdp) @ mdp.pair_costs["cost"]).sum() - 0.5) < 1e-7

    def test_limits_over_different_steps(self):
        # prism-tests, test-cumulative1.nm.props
        paid = {"a": "1", "c": "1/2", "d": "1", "e": "3", "f": "12/5"}
        costs = {
            "R2": ["1", "0", "1", "1", "1", "1", "0"],
            "R3": ["0", "1", "0", "0", "0", "0", "0"],
            "R4": ["0", "0", "0", "0", "0", "1", "0"],
        }
        mdp = oc.MDP.from_pairs(
            [0, 0, 0, 1, 2, 3, 4], list("abcdef-"), np.eye(5, dtype=int)[[1, 2, 3, 4, 4, 4, 4]],
            [paid.get(action, "0") for action in "abcdef-"], costs=costs, initial=0, actions=list("abcdef-"),
        )  # fmt: skip
        unrolled = mdp.unrolled(2)
        times = oc.by_time(unrolled).pair_times

        def within(steps, numbers):
            return np.where(times < steps, numbers, 0.0)

        def limit(steps, numbers):
            return oc.expected_total(unrolled.pairs.table(within(steps, numbers), 0.0))

        rewards, cost = unrolled.pair_rewards, unrolled.pair_costs
        cases = [
            (rewards, [limit(2, cost["R2"]) >= 2], 2.9),
            (within(1, rewards), [limit(2, cost["R2"]) >= 2], 1.0),
            (within(1, cost["R2"]), [limit(2, rewards) >= 2.95], 0.5),
            (cost["R4"], [limit(1, rewards) >= 0.5, limit(2, cost["R3"]) >= 0.3], 0.4),
        ]
        for earned, limits, value in cases:
            constraints = {f"limit {i}": each for i, each in enumerate(limits)}
            result = oc.solve(total(unrolled.replace(rewards=earned), constraints=constraints))
            assert abs(result.objective - value) < 1e-7
        conflict = {"R1": limit(2, rewards) >= 3, "R2": limit(2, cost["R2"]) >= 2}
        with pytest.raises(oc.Infeasible, match=r"Enough to relax: 'R1' by 0\.1"):
            oc.solve(total(unrolled, constraints=conflict))

    def test_any_plan_is_evaluated_on_the_unrolled_model(self):
        mdp = oc.instances.get("machine-repair")
        plan = oc.TimedPolicy.from_rules([oc.Policy.uniform(mdp), oc.Policy.deterministic(mdp, ["run"] * 3)] * 2)
        unrolled = mdp.unrolled(4)
        evaluation = oc.evaluate(total(unrolled), plan.on(unrolled))
        earned = (plan.pair_visits(mdp) @ mdp.pair_rewards) @ 0.95 ** np.arange(4)
        assert evaluation.objective == pytest.approx(earned, rel=1e-13)

    @given(st.data())
    @settings(max_examples=25)
    def test_a_discount_is_the_probability_of_going_on(self, data):
        sketch = data.draw(sketches(max_states=4, discounts=(Fraction(1, 2), Fraction(9, 10))))
        mdp = sketch.mdp()
        gamma, n = float(sketch.discount), mdp.n_states
        leaving = sparse.csr_array(np.full((mdp.n_pairs, 1), 1 - gamma))
        matrix = sparse.vstack([sparse.hstack([gamma * mdp.transitions, leaving]), np.eye(n + 1)[-1:]], format="csr")
        exiting = oc.MDP.from_pairs(
            [*mdp.pairs.states, n],
            [*mdp.pairs.actions, 0],
            matrix,
            [*mdp.pair_rewards, 0.0],
            initial=[*mdp.initial, 0.0],
        )
        discounted, ended = oc.solve(mdp), oc.solve(total(exiting, goal=n))
        scale = 1 + float(np.abs(mdp.pair_rewards).max()) / (1 - gamma)
        assert abs(ended.objective - discounted.expected_return) <= 1e-9 * scale
        here = oc.evaluate(mdp, oc.Policy.uniform(mdp))
        there = oc.evaluate(total(exiting, goal=n), oc.Policy.uniform(exiting))
        np.testing.assert_allclose(there.state_values[:n], here.state_values, rtol=0, atol=1e-8 * scale)
        np.testing.assert_allclose(there.occupancy[:n], here.visits, rtol=1e-9, atol=1e-12)

    def test_gradients_reach_the_same_plan(self):
        mdp = oc.instances.get("machine-repair")
        best = oc.backward_induction(mdp, 4)
        result = oc.solve(total(mdp.unrolled(4)), solver=oc.NaturalPolicyGradient())
        assert abs(result.objective - best.objective) < 1e-6
        assert (oc.by_time(result).policy.choice[0] == best.policy.choice[0])[0]

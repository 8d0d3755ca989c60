"""Mixtures of deterministic policies: their occupancies sum to that of the policy taken apart."""

from __future__ import annotations

import dataclasses
import json
import pickle
from fractions import Fraction

import numpy as np
import pytest
from helpers import Exact, doubles, fractions, positive_policies, random_policy, two_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps, policy_tables

import occlp as oc


def check_mixture(problem, policy, mixture):
    """Everything that `oc.mixture` promises; fails with words for what does not hold."""
    whole, parts = oc.evaluate(problem, policy), [oc.evaluate(problem, part) for part in mixture.policies]
    assert abs(mixture.weights.sum() - 1) < 1e-14, "the weights do not sum to one"
    assert (mixture.weights > 0).all(), "a weight is not positive"
    assert all(part.policy.is_deterministic for part in parts), "a policy randomises"
    mass = sum(weight * part.pair_occupancy for weight, part in zip(mixture.weights, parts, strict=True))
    assert np.abs(mass - whole.pair_occupancy).sum() < 1e-12, "the occupancies do not sum to that of the policy"
    used = whole.pair_occupancy > 0
    assert len(mixture) <= 1 + used.sum() - (whole.state_occupancy > 0).sum(), "more policies than promised"
    assert all((part.pair_occupancy[~used] == 0).all() for part in parts), "an action of its own is used"


def stay_or_leave(discount=Fraction(1, 2)):
    """One state that is left for ever by its second action; the running counterexample."""
    return oc.MDP.from_pairs(
        [0, 0, 1], [0, 1, 0], [[1, 0], [0, 1], [0, 1]], [1, 0, 0], discount=str(discount), initial=0
    )


def hillier_lieberman(share):
    """The average cost of Hillier and Lieberman's machine with a bound on the share of overhauls."""
    mdp = oc.instances.get("hillier-lieberman-machine", discount=None)
    overhaul = np.zeros((4, 3))
    overhaul[2, 1] = 1
    limits = {"overhauls": oc.expected(overhaul) <= share}
    return oc.Problem(mdp, sense="minimize", criterion="average", constraints=limits)


class TestTakingApart:
    def test_closed_form(self):
        # d(0) = (1 − γ) / (1 − γ/2) = 2/3 in halves; d_stay(0, stay) = 1 and d_leave(0, leave) = 1/2.
        mdp = stay_or_leave()
        found = oc.mixture(mdp, oc.Policy.uniform(mdp))
        assert {policy[0, 1]: weight for weight, policy in found} == pytest.approx({0.0: 1 / 3, 1.0: 2 / 3}, rel=1e-15)

    def test_independent_draws_in_each_state_are_another_lottery(self):
        mdp = stay_or_leave()
        policies = [oc.Policy.from_choice(mdp, np.array([choice, 2])) for choice in (0, 1)]
        drawn = oc.Mixture.of(policies, [0.5, 0.5])
        assert drawn.evaluate(mdp).state_occupancy[0] == pytest.approx(3 / 4, rel=1e-15)
        assert oc.evaluate(mdp, oc.Policy.uniform(mdp)).state_occupancy[0] == pytest.approx(2 / 3, rel=1e-15)
        with pytest.raises(AssertionError, match="do not sum to that of the policy"):
            check_mixture(mdp, oc.Policy.uniform(mdp), drawn)

    @given(st.data())
    def test_any_policy(self, data):
        mdp = data.draw(mdps())
        policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
        check_mixture(mdp, policy, oc.mixture(mdp, policy))

    @given(st.data())
    def test_in_exact_arithmetic(self, data):
        mdp = data.draw(mdps(max_states=4))
        policy = data.draw(positive_policies(mdp))
        exact = Exact.of(mdp)
        truth = exact.occupancy(fractions(policy.pair_probabilities))
        found = oc.mixture(mdp, policy)
        total = [Fraction(0)] * mdp.n_pairs
        for weight, part in found:
            mass = exact.occupancy(fractions(part.pair_probabilities))
            total = [t + Fraction(weight) * d for t, d in zip(total, mass, strict=True)]
        assert max(abs(t - d) for t, d in zip(total, truth, strict=True)) < Fraction(1, 10**14)

    @given(st.data())
    def test_average_criterion(self, data):
        mdp = data.draw(mdps(max_states=5, discounts=(None,), min_states=2))
        # A chance of one in eight to start afresh joins all states in one recurrent class.
        joined = 0.875 * mdp.transitions.toarray() + 0.125 / mdp.n_states
        mdp = oc.MDP.from_pairs(mdp.pairs.states, mdp.pairs.actions, joined, mdp.pair_rewards)
        problem = oc.Problem(mdp, criterion="average")
        policy = data.draw(positive_policies(mdp))
        found = oc.mixture(problem, policy)
        check_mixture(problem, policy, found)
        assert found.evaluate(problem).objective == pytest.approx(oc.evaluate(problem, policy).objective, abs=1e-12)

    def test_several_recurrent_classes_are_not_answered(self):
        mdp = two_classes(discount=None)
        with pytest.raises(oc.Unsupported, match="recurrent class"):
            oc.mixture(oc.Problem(mdp, criterion="average"), oc.Policy.uniform(mdp))

    def test_a_deterministic_policy_is_its_own_mixture(self):
        mdp = oc.instances.get("inventory")
        result = oc.solve(mdp)
        found = oc.mixture(mdp, result)
        assert len(found) == 1
        assert found.policies[0].actions == result.policy.actions

    def test_states_that_are_never_visited_cost_no_policies(self):
        mdp = stay_or_leave().replace(initial=[0, 1])
        assert len(oc.mixture(mdp, oc.Policy.uniform(mdp))) == 1

    @pytest.mark.parametrize("rest", ["1/10", "1/1000000000"])
    def test_small_probabilities_keep_their_digits(self, rest):
        mdp = oc.instances.get("machine-repair", discount=str(1 - Fraction(rest)))
        policy = oc.Policy.from_table(mdp, [[1 - 1e-12, 1e-12], [1e-7, 1 - 1e-7], [0.5, 0.5]])
        found = oc.mixture(mdp, policy).evaluate(mdp).pair_occupancy
        assert found == pytest.approx(oc.evaluate(mdp, policy).pair_occupancy, rel=1e-9)

    def test_large_supports(self):
        mdp = oc.instances.get("garnet", n_states=60, seed=5)
        policy = random_policy(mdp, np.random.default_rng(0))
        found = oc.mixture(mdp, policy)
        check_mixture(mdp, policy, found)
        assert (np.diff(found.weights) <= 0).all()

    def test_a_policy_of_another_model(self):
        with pytest.raises(oc.InvalidProblem, match="another model"):
            oc.mixture(stay_or_leave(), oc.Policy.uniform(oc.instances.get("inventory")))


class TestTheChecker:
    """The checker itself sees what is wrong."""

    @pytest.fixture
    def case(self):
        mdp = oc.instances.get("machine-repair")
        policy = random_policy(mdp, np.random.default_rng(3))
        return mdp, policy, oc.mixture(mdp, policy)

    def test_wrong_weights(self, case):
        mdp, policy, found = case
        turned = dataclasses.replace(found, weights=found.weights[::-1])
        with pytest.raises(AssertionError, match="do not sum to that"):
            check_mixture(mdp, policy, turned)

    def test_a_missing_policy(self, case):
        mdp, policy, found = case
        weights = found.weights[:-1] / found.weights[:-1].sum()
        with pytest.raises(AssertionError, match="do not sum to that"):
            check_mixture(mdp, policy, dataclasses.replace(found, weights=weights, choices=found.choices[:-1]))

    def test_too_many_policies(self, case):
        mdp, policy, found = case
        twice = oc.Mixture.of(found.policies * 2, np.tile(found.weights / 2, 2))
        with pytest.raises(AssertionError, match="more policies"):
            check_mixture(mdp, policy, twice)


class TestPurifying:
    @pytest.mark.parametrize(
        ("share", "cost"),
        [
            (Fraction(1), Fraction(5000, 3)),
            (Fraction(2, 21), Fraction(5000, 3)),
            (Fraction(1, 20), Fraction(18650, 11)),
            (Fraction(1, 50), Fraction(18860, 11)),
            (Fraction(0), Fraction(19000, 11)),
        ],
    )
    def test_hillier_and_lieberman_with_a_bound_on_overhauls(self, share, cost):
        # Hillier and Lieberman's machine; overhauls at most a share of the periods. Occupancy program, in fractions.
        problem = hillier_lieberman(float(share))
        found = oc.purify(problem, oc.solve(problem))
        plan = oc.mixture(problem, found)
        assert plan.evaluate(problem).objective == pytest.approx(float(cost), rel=1e-12)
        assert plan.evaluate(problem).pair_occupancy[4] <= float(share) + 1e-14
        assert len(plan) == (2 if 0 < share < Fraction(2, 21) else 1)
        assert found.randomizing.sum() == len(plan) - 1

    @settings(max_examples=40)
    @given(st.data())
    def test_any_policy_and_any_constraints(self, data):
        mdp = data.draw(mdps(max_states=5))
        policy = data.draw(positive_policies(mdp))
        before = oc.evaluate(mdp, policy)
        limits = {}
        for name in mdp.pair_costs:
            relation = data.draw(st.sampled_from(["<=", ">=", "=="]))
            slack = data.draw(st.sampled_from([0.0, 0.3])) if relation != "==" else 0.0
            bound, cost = before.expected[name], oc.expected(name)
            limits[name] = {"<=": cost <= bound + slack, ">=": cost >= bound - slack, "==": cost == bound}[relation]
        problem = oc.Problem(mdp, constraints=limits)
        found = oc.purify(problem, policy)
        after = oc.evaluate(problem, found)
        assert after.objective >= before.objective - 1e-10
        for name, limit in limits.items():
            change = after.expected[name] - limit.bound
            assert {"<=": change, ">=": -change, "==": abs(change)}[limit.relation] < 1e-10
        used = after.pair_occupancy > 0
        assert (before.pair_occupancy[used] > 0).all()
        assert used.sum() - (after.state_occupancy > 0).sum() <= len(limits)
        assert found.randomizing.sum() <= len(limits)
        assert len(oc.mixture(problem, found)) <= len(limits) + 1

    def test_without_constraints_a_policy_becomes_deterministic_and_no_worse(self):
        mdp = oc.instances.get("garnet", n_states=30, seed=2)
        policy = oc.Policy.uniform(mdp)
        found = oc.purify(mdp, policy)
        assert found.is_deterministic
        assert oc.evaluate(mdp, found).objective >= oc.evaluate(mdp, policy).objective

    def test_an_interior_optimum_becomes_a_vertex_of_the_same_objective(self):
        # Two actions of each state are one and the same, and an interior-point method splits its mass over both.
        mdp = oc.instances.get("queue-admission")
        twins = oc.MDP.from_pairs(
            np.repeat(mdp.pairs.states, 2), np.arange(2 * mdp.n_pairs) % 2 + 2 * np.repeat(mdp.pairs.actions, 2),
            np.repeat(mdp.transitions.toarray(), 2, axis=0), np.repeat(mdp.pair_rewards, 2),
            discount=mdp.discount, initial=0, costs={"queue": np.repeat(mdp.pair_costs["queue"], 2)},
        )  # fmt: skip
        problem = oc.Problem(twins, constraints={"queue": oc.expected("queue") <= 1.0})
        spread = oc.solve(oc.Problem(mdp, constraints={"queue": oc.expected("queue") <= 1.0}))
        halves = oc.Policy.from_pairs(twins, np.repeat(spread.policy.pair_probabilities, 2) / 2)
        assert halves.randomizing.all()
        found = oc.purify(problem, halves)
        assert found.randomizing.sum() == 1
        assert oc.evaluate(problem, found).objective == pytest.approx(spread.objective, abs=1e-12)
        assert oc.evaluate(problem, found).expected["queue"] <= 1.0 + 1e-12

    def test_it_ends_where_it_began(self):
        problem = hillier_lieberman(0.05)
        once = oc.purify(problem, oc.Policy.uniform(problem.mdp))
        assert oc.purify(problem, once).pair_probabilities == pytest.approx(once.pair_probabilities, abs=1e-12)

    def test_concave_objectives_are_refused(self):
        mdp = stay_or_leave()
        uniform = oc.Policy.uniform(mdp)
        with pytest.raises(oc.InvalidProblem, match="concave"):
            oc.purify(oc.Problem(mdp, regularizer=oc.KL(1.0, uniform)), uniform)


class TestTheMixture:
    @pytest.fixture
    def case(self):
        mdp = oc.instances.get("machine-repair")
        return mdp, oc.mixture(mdp, random_policy(mdp, np.random.default_rng(1)))

    def test_evaluation(self, case):
        mdp, found = case
        whole, parts = found.evaluate(mdp), [oc.evaluate(mdp, policy) for policy in found.policies]
        for name in ("reward", "wear"):
            assert whole.expected[name] == pytest.approx(found.weights @ [part.expected[name] for part in parts])
            assert whole.expected_total[name] == pytest.approx(whole.expected[name] / whole.rest)
        assert whole.objective == whole.expected["reward"]
        assert whole.expected_return == pytest.approx(mdp.initial @ whole.state_values)
        assert whole.visits == pytest.approx(whole.occupancy / 0.05)
        assert whole.occupancy.sum() == pytest.approx(1)
        assert whole.state_occupancy == pytest.approx(whole.occupancy.sum(axis=1))

    def test_the_stationary_policy_of_the_same_occupancy(self, case):
        mdp, found = case
        stationary = found.stationary(mdp)
        again = oc.evaluate(mdp, stationary).pair_occupancy
        assert again == pytest.approx(found.evaluate(mdp).pair_occupancy, abs=1e-14)

    def test_a_concave_objective_is_that_of_the_common_occupancy(self, case):
        mdp, found = case
        for term in (oc.KL(2.0, oc.Policy.uniform(mdp)), oc.PolicyEntropy(0.5)):
            problem = oc.Problem(mdp, regularizer=term)
            expected = oc.evaluate(problem, found.stationary(mdp)).objective
            assert found.evaluate(problem).objective == pytest.approx(expected, abs=1e-12)

    def test_the_average_has_no_return_scale(self):
        problem = hillier_lieberman(0.05)
        found = oc.mixture(problem, oc.solve(problem)).evaluate(problem)
        for name in ("expected_return", "expected_total", "visits"):
            with pytest.raises(oc.InvalidProblem, match="infinite"):
                getattr(found, name)

    def test_totals_of_a_lottery_that_is_built_by_hand(self):
        # Tossing a coin until it falls right costs 1 a toss, twice on average; paying 4 ends it at once.
        rows = [[0.5, 0.5], [0, 1], [0, 1]]
        mdp = oc.MDP.from_pairs([0, 0, 1], [0, 1, 0], rows, [1, 4, 0], initial=0, costs={"tosses": [1, 0, 0]})
        problem = oc.Problem(mdp, "minimize", criterion="total", goal=1)
        toss, pay = (oc.Policy.from_choice(mdp, np.array([pair, 2])) for pair in (0, 1))
        found = oc.Mixture.of([toss, pay], [0.25, 0.75]).evaluate(problem)
        assert (found.objective, found.expected_return) == (3.5, 3.5)
        assert found.expected_total == {"reward": 3.5, "tosses": 0.5}
        assert found.visits[0].tolist() == [0.5, 0.75]
        with pytest.raises(oc.InvalidProblem, match="expected_total"):
            found.expected["reward"]
        # A policy that is never drawn may go on for ever.
        stay = oc.MDP.from_pairs([0, 0, 1], [0, 1, 0], [[1, 0], [0, 1], [0, 1]], [1, 4, 0], initial=0)
        never = oc.Mixture.of([oc.Policy.from_choice(stay, np.array([pair, 2])) for pair in (0, 1)], [0.0, 1.0])
        assert never.evaluate(oc.Problem(stay, "minimize", criterion="total", goal=1)).objective == 4.0
        with pytest.raises(oc.Unsupported, match="those of no lottery"):
            oc.mixture(oc.Problem(stay, "minimize", criterion="total", goal=1), oc.Policy.uniform(stay))

    def test_sampling(self, case):
        _, found = case
        rng = np.random.default_rng(7)
        drawn = [found.sample_policy(rng).choice.tolist() for _ in range(4000)]
        for weight, choice in zip(found.weights, found.choices.tolist(), strict=True):
            assert drawn.count(choice) / 4000 == pytest.approx(weight, abs=4 * (weight / 4000) ** 0.5)
        assert found.sample_policy(3).actions == found.sample_policy(3).actions

    def test_what_it_is(self, case):
        _, found = case
        assert [weight for weight, _ in found] == found.weights.tolist()
        assert repr(found).startswith(f"Mixture({len(found)} deterministic policies of 3 states")
        assert not found.weights.flags.writeable
        assert found.differing.tolist() == [len(set(column)) > 1 for column in found.choices.T.tolist()]

    def test_pickle(self, case):
        mdp, found = case
        again = pickle.loads(pickle.dumps(found))
        assert again.evaluate(mdp).objective == found.evaluate(mdp).objective

    @pytest.mark.parametrize("name", ["machine-repair", "frozen-lake", "inventory"])
    def test_json(self, name):
        mdp = oc.instances.get(name) if name in oc.instances.names() else oc.instances.get("garnet", n_states=5, seed=0)
        found = oc.mixture(mdp, random_policy(mdp, np.random.default_rng(1)))
        again = oc.Mixture.from_json(found.to_json())
        assert again.weights.tolist() == found.weights.tolist()
        assert again.choices.tolist() == found.choices.tolist()
        assert [policy.actions for policy in again.policies] == [policy.actions for policy in found.policies]
        assert again.evaluate(mdp).objective == found.evaluate(mdp).objective

    def test_json_with_tuples_for_labels(self):
        walk = oc.MDP.from_function(
            lambda s, a: [(1.0, (min(s[0] + a, 2), "x"), float(a))], (0, "x"), [0, 1], discount=0.5
        )
        found = oc.mixture(walk, oc.Policy.uniform(walk))
        again = oc.Mixture.from_json(found.to_json())
        assert again.policies[0].actions == found.policies[0].actions
        assert again.pairs.state_labels == ((0, "x"), (1, "x"), (2, "x"))

    def test_labels_that_json_does_not_know(self):
        mdp = oc.MDP.from_arrays([[[1.0]]], [[0.0]], discount=0.5, states=[frozenset({1})])
        with pytest.raises(oc.InvalidProblem, match="pickle"):
            oc.mixture(mdp, oc.Policy.uniform(mdp)).to_json()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"format": "other"}, "not an occlp mixture"),
            ({"version": 2}, "version 2"),
            ({"weights": [0.5, 0.6, 0.1, 0.1]}, "sum to 1"),
            ({"weights": [1.0]}, "one weight a policy"),
            ({"choices": [[0, 0, 4]] * 4}, "not of its state"),
            ({"choices": [[0, 2]] * 4}, "not of its state"),
            ({"start": None}, "incomplete or altered"),
        ],
    )
    def test_altered_json(self, case, change, words):
        _, found = case
        plain = json.loads(found.to_json())
        with pytest.raises(oc.InvalidProblem, match=words):
            oc.Mixture.from_json(json.dumps(plain | change))

    @pytest.mark.parametrize("text", ["", "[]", "{", "null"])
    def test_no_json_of_a_mixture(self, text):
        with pytest.raises(ValueError, match="not an occlp mixture"):
            oc.Mixture.from_json(text)

    def test_incomplete_json(self, case):
        plain = json.loads(case[1].to_json())
        del plain["choices"]
        with pytest.raises(oc.InvalidProblem, match="choices"):
            oc.Mixture.from_json(json.dumps(plain))

    def test_what_cannot_be_mixed(self, case):
        mdp, found = case
        one = found.policies[0]
        with pytest.raises(oc.InvalidProblem, match="randomises"):
            oc.Mixture.of([one, oc.Policy.uniform(mdp)], [0.5, 0.5])
        with pytest.raises(oc.InvalidProblem, match="another model"):
            oc.Mixture.of([one, oc.solve(stay_or_leave()).policy], [0.5, 0.5])
        for weights in ([1.0], [0.7, 0.7], [1.5, -0.5], [np.nan, 1.0]):
            with pytest.raises(oc.InvalidProblem, match="weight"):
                oc.Mixture.of([one, one], weights)
        with pytest.raises(oc.InvalidProblem, match="weight"):
            oc.Mixture.of([], [])

    def test_what_weights_miss_of_one_is_divided_away(self, case):
        policies = case[1].policies[:2]
        assert oc.Mixture.of(policies, [0.25, 0.75 + 5e-10]).weights.sum() == pytest.approx(1.0, abs=4e-16)
        assert oc.Mixture.of(policies, [0.1, 0.9]).weights.tolist() == [0.1, 0.9]

    def test_doubles_of_the_closed_form(self):
        mdp = stay_or_leave(Fraction(9, 10))
        # γ = 9/10: d(0) = (1/10) / (1 − 9/20) = 2/11, half of it each; d_stay(0, 0) = 1, d_leave(0, 1) = 1/10.
        weights = sorted(oc.mixture(mdp, oc.Policy.uniform(mdp)).weights)
        assert weights == pytest.approx(doubles([Fraction(1, 11), Fraction(10, 11)]), rel=1e-14)

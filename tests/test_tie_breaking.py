"""A second objective among the optimal policies."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polytope import best_mixture, random_model, vertices
from scipy.stats import entropy
from strategies import sketches

import occlp as oc


def tied(mdp, copies=2):
    """The model with each action in several copies that pay and move the same, but wear and burn differently."""
    rng = np.random.default_rng(5)
    rows = np.repeat(np.arange(mdp.n_pairs), copies)
    actions = mdp.pairs.actions[rows] * copies + np.tile(np.arange(copies), mdp.n_pairs)
    costs = {"wear": rng.random(len(rows)), "fuel": rng.random(len(rows))}
    return oc.MDP.from_pairs(
        mdp.pairs.states[rows], actions, mdp.transitions[rows], mdp.pair_rewards[rows], discount=mdp.discount,
        initial=mdp.initial, costs=costs,
    )  # fmt: skip


@st.composite
def questions(draw):
    mdp = draw(sketches(max_states=3, discounts=(Fraction(1, 2), Fraction(9, 10)))).mdp()
    assume(np.prod(np.diff(mdp.pair_start)) <= 81)
    return oc.Problem(mdp, sense=draw(st.sampled_from(("maximize", "minimize"))))


class TestLinear:
    @given(questions(), st.integers(0, 9), st.sampled_from(("maximize", "minimize")))
    def test_against_all_policies(self, problem, seed, direction):
        mdp, sign = problem.mdp, 1.0 if problem.sense == "maximize" else -1.0
        points = vertices(mdp)
        earned = sign * points @ mdp.pair_rewards
        best = points[earned > earned.max() - 1e-9 * float(np.ptp(mdp.pair_rewards)) - 1e-13]
        table = np.random.default_rng(seed).normal(size=(mdp.n_states, mdp.n_actions))
        seconds = best @ table[mdp.pairs.states, mdp.pairs.actions]
        found = oc.tie_break(problem, oc.solve(problem), **{direction: table})
        assert found.second == pytest.approx(getattr(seconds, direction[:3])(), abs=1e-8)
        assert found.status is oc.Status.CERTIFIED
        assert found.second_lower - 1e-12 <= found.second <= found.second_upper + 1e-12
        assert oc.verify(problem, found)

    @pytest.mark.parametrize("criterion", ["discounted", "average"])
    @pytest.mark.parametrize("copies", [2, 3])
    def test_copies(self, copies, criterion):
        mdp = tied(random_model(0, n_states=4, n_actions=2), copies)
        mdp = mdp if criterion == "discounted" else mdp.replace(discount=None)
        problem = oc.Problem(mdp, criterion=criterion)
        first = oc.solve(problem)
        found = oc.tie_break(problem, first, minimize="wear")
        assert found.objective == pytest.approx(first.objective, abs=1e-12)
        assert found.expected["wear"] == pytest.approx(found.second, abs=1e-12)
        cheapest = np.minimum.reduceat(mdp.pair_costs["wear"], np.arange(0, mdp.n_pairs, copies))
        kept = [k // copies for k in found.policy.choice]
        assert found.second == pytest.approx(float(found.state_occupancy @ cheapest[kept]), abs=1e-12)
        assert found.second < first.expected["wear"]
        assert str(found).startswith("Result of TieBreak(minimize='wear')")

    def test_with_constraints(self):
        mdp = tied(random_model(1, n_states=3, n_actions=2), 2)
        points = vertices(mdp)
        bound = float(np.quantile(points @ mdp.pair_costs["fuel"], 0.3))
        problem = oc.Problem(mdp, constraints=[oc.expected("fuel") <= bound])
        first = oc.solve(problem, tol=1e-11)
        for direction, sign in (("minimize", -1.0), ("maximize", 1.0)):
            found = oc.tie_break(problem, first, **{direction: oc.expected("wear") - 2 * oc.visits(states=0)})
            weights = mdp.pair_costs["wear"] - 2 * 10 * (mdp.pairs.states == 0)
            limits = [(mdp.pair_costs["fuel"], "<=", bound), (mdp.pair_rewards, ">=", first.objective - 1e-9)]
            truth = sign * best_mixture(points, sign * weights, limits)
            assert found.second == pytest.approx(truth, abs=1e-5)
            assert found.expected["fuel"] <= bound + 1e-9
            assert oc.verify(problem, found)

    def test_a_constraint_on_the_reward_itself(self):
        """The second question replaces the reward, not what the constraint says about it."""
        mdp = oc.MDP.from_arrays([[[1.0], [1.0], [1.0]]], [[3, 1, 0]], discount=0.5, costs={"wear": [[0, 1, 1]]})
        problem = oc.Problem(
            mdp.replace(rewards=[[1, 1, 0]], costs={"wear": [[0, 1, 1]], "old": [[3, 1, 0]]}),
            constraints={"reward": oc.expected("reward") >= 0.5, "old": oc.expected("old") <= 2},
        )
        found = oc.tie_break(problem, oc.solve(problem), minimize="wear")
        assert found.expected["reward"] == pytest.approx(1.0)
        assert found.expected["wear"] == pytest.approx(0.5)

    def test_exact_discounts_are_kept(self):
        mdp = oc.instances.get("machine-repair", discount="0.9999999999")
        found = oc.tie_break(mdp, oc.solve(mdp), minimize="wear")
        assert found.rest == 1e-10
        assert found.status is oc.Status.CERTIFIED
        assert found.second == pytest.approx(found.expected["wear"], abs=1e-10)


class TestEntropy:
    def test_copies_are_drawn_evenly(self):
        mdp = tied(random_model(2, n_states=4, n_actions=2), 3)
        found = oc.tie_break(mdp, oc.solve(mdp), maximize="entropy")
        used = found.policy.pair_probabilities[found.policy.pair_probabilities > 0]
        assert used == pytest.approx(np.full(12, 1 / 3))
        assert found.second == pytest.approx(np.log(3))
        assert found.second_lower <= found.second <= found.second_upper
        assert found.second_upper - found.second_lower < 1e-10

    @pytest.mark.parametrize("criterion", ["discounted", "average"])
    def test_it_is_the_soft_optimum_of_the_optimal_actions(self, criterion):
        """With constant rewards every policy is optimal; the most random one is found by perturbation to be best."""
        rng = np.random.default_rng(0)
        mdp = random_model(4, n_states=4).replace(rewards=np.ones(12))
        mdp = mdp if criterion == "discounted" else mdp.replace(discount=None)
        problem = oc.Problem(mdp, criterion=criterion)
        found = oc.tie_break(problem, oc.solve(problem), maximize="entropy")

        def value(table):
            evaluation = oc.evaluate(problem, oc.Policy.from_table(mdp, table))
            return float(evaluation.state_occupancy @ entropy(table, axis=1))

        table = found.policy.probabilities
        assert found.second == pytest.approx(value(table), abs=1e-12)
        for _ in range(30):
            other = table * np.exp(0.05 * rng.normal(size=table.shape))
            assert value(other / other.sum(axis=1, keepdims=True)) < found.second

    def test_it_is_the_limit_of_small_entropy_bonuses(self):
        mdp = tied(random_model(6, n_states=4, n_actions=2), 2)
        found = oc.tie_break(mdp, oc.solve(mdp), maximize="entropy")
        soft = oc.solve(oc.Problem(mdp, regularizer=oc.PolicyEntropy(strength=1e-5)))
        assert soft.policy.pair_probabilities == pytest.approx(found.policy.pair_probabilities, abs=1e-6)

    def test_a_cost_of_that_name_comes_first(self):
        mdp = oc.MDP.from_arrays([[[1.0], [1.0]]], [[2, 2]], discount=0.9, costs={"entropy": [[3, 1]]})
        assert oc.tie_break(mdp, oc.solve(mdp), maximize="entropy").second == pytest.approx(3.0)


class TestMistakes:
    def test_one_second_objective(self):
        mdp = random_model(0)
        result = oc.solve(mdp)
        for options in ({}, {"minimize": "wear", "maximize": "fuel"}):
            with pytest.raises(oc.InvalidProblem, match="one second objective"):
                oc.tie_break(mdp, result, **options)

    def test_others(self):
        mdp = random_model(0)
        result = oc.solve(mdp)
        with pytest.raises(oc.InvalidProblem, match="no cost 'weer'"):
            oc.tie_break(mdp, result, minimize="weer")
        with pytest.raises(oc.InvalidProblem, match="least entropy"):
            oc.tie_break(mdp, result, minimize="entropy")
        problem = oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.5])
        with pytest.raises(oc.Unsupported, match="without constraints"):
            oc.tie_break(problem, oc.solve(problem), maximize="entropy")
        with pytest.raises(oc.InvalidProblem, match="another question"):
            oc.tie_break(problem, result, minimize="wear")

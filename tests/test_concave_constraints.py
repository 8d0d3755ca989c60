"""Constraints f(d) ≥ b on concave utilities: known answers, prices, proofs, mending, and what refuses them."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from helpers import permuted
from polytope import best_mixture, random_model, vertices
from scipy.optimize import linprog, minimize
from scipy.stats import entropy

import occlp as oc
from occlp.bounds.upper import bound_above
from occlp.evaluation import assess, formulate
from occlp.solvers.base import Iterate
from occlp.solvers.feasibility import DEFAULT, closest, mended
from occlp.solvers.scaled_program import Backend
from occlp.terms import Majorant

CRITERIA = ("discounted", "average")


@pytest.fixture(scope="module")
def bandit():
    """One state and two actions: the occupancy is (p, 1 − p), the reward p."""
    return oc.MDP.from_arrays(np.ones((1, 2, 1)), np.array([[1.0, 0.0]]), discount=0.9)


@pytest.fixture(scope="module")
def machine():
    return oc.instances.get("machine-repair")


@pytest.fixture(scope="module")
def floor(machine):
    return oc.Problem(machine, constraints={"even": oc.StateEntropy() >= 0.95})


def of(mdp, criterion, **options):
    mdp = mdp.replace(discount=None) if criterion == "average" else mdp
    return oc.Problem(mdp, criterion=criterion, **options)


def first(mdp):
    return oc.expected(np.eye(1, mdp.n_actions)), oc.expected(np.eye(1, mdp.n_actions, 1))


def solved(problem, **options):
    result = oc.solve(problem, **options)
    assert oc.verify(problem, result)
    return result


class TestWriting:
    def test_a_comparison_makes_a_constraint_with_a_name(self):
        made = oc.StateEntropy() >= 1.5
        assert isinstance(made, oc.ConcaveConstraint)
        assert (str(made), made.name, made.bound, made.relation) == ("StateEntropy >= 1.5", "StateEntropy", 1.5, ">=")
        turned = np.float64(1.5) <= oc.StateEntropy()
        assert isinstance(turned, oc.ConcaveConstraint)
        assert turned.bound == 1.5

    def test_names_in_a_dict_and_in_a_list(self, machine):
        limits = [oc.StateEntropy() >= 0.5, oc.expected("wear") <= 0.5]
        problem = oc.Problem(machine, constraints=limits)
        assert list(problem.limits) == ["wear"]
        assert list(problem.concave_limits) == ["StateEntropy"]
        named = oc.Problem(machine, constraints={"a": limits[0], "b": limits[1]})
        assert (list(named.limits), list(named.concave_limits)) == (["b"], ["a"])
        with pytest.raises(oc.InvalidProblem, match="called 'StateEntropy'"):
            oc.Problem(machine, constraints=[limits[0], oc.StateEntropy() >= 0.1])

    @pytest.mark.parametrize(
        "made", [oc.StateEntropy(), oc.OccupancyEntropy(), oc.LogSum(["wear"]), oc.WorstCase(["wear"])]
    )
    def test_other_sides_are_refused_with_advice(self, made):
        with pytest.raises(oc.InvalidProblem, match=r"not convex.*utility >= b"):
            made <= 1.0  # noqa: B015
        with pytest.raises(oc.InvalidProblem, match=r"not convex.*utility >= b"):
            made == 1.0  # noqa: B015
        with pytest.raises(oc.InvalidProblem, match="not finite"):
            made >= math.inf  # noqa: B015
        with pytest.raises(oc.InvalidProblem, match="no truth value"):
            bool(made >= 1.0)

    def test_utilities_are_still_themselves(self):
        one, other = oc.StateEntropy(), oc.StateEntropy()
        assert one == one
        assert one != other
        assert len({one, other}) == 2

    def test_the_model_is_checked(self, machine):
        target = oc.Policy.uniform(oc.instances.get("howard-toymaker"))
        for wrong in (
            oc.LogSum(["absent"]) >= 0.0,
            oc.TotalVariation(target) >= -0.1,
            oc.Utility(lambda d: cp.sum_squares(d)) >= 0.1,
            oc.Utility(lambda d: d) >= 0.1,
        ):
            with pytest.raises(oc.InvalidProblem):
                oc.Problem(machine, constraints=[wrong])
        with pytest.raises(oc.InvalidProblem, match="not a constraint"):
            oc.Problem(machine, constraints=[oc.StateEntropy()])

    def test_the_fingerprint_sees_name_bound_and_numbers(self, machine):
        def print_of(name, limit):
            return oc.Problem(machine, constraints={name: limit}).fingerprint

        prints = [
            print_of("a", oc.StateEntropy() >= 0.5), print_of("b", oc.StateEntropy() >= 0.5),
            print_of("a", oc.StateEntropy() >= 0.6), print_of("a", oc.StateEntropy(2.0) >= 0.5),
            print_of("a", oc.LogSum(["wear"]) >= 0.5), print_of("a", oc.WorstCase(["wear"]) >= 0.5),
        ]  # fmt: skip
        assert len(set(prints)) == len(prints)
        assert print_of("a", oc.StateEntropy() >= 0.5) == prints[0]


class TestByHand:
    """One state, two actions, rewards 1 and 0, so that the optimum is p = 3/4 where the limit is met."""

    def check(self, problem, best, price, name="limit"):
        result = solved(problem)
        assert result.status is oc.Status.CERTIFIED
        assert result.objective == pytest.approx(best, abs=2e-9)
        assert result.certificate.lower - 1e-12 <= best <= result.certificate.upper + 1e-12
        assert result.multipliers[name] == pytest.approx(price, rel=1e-5)
        assert result.sensitivity[name] == -result.multipliers[name]
        assert result.certificate.violation <= 1e-9
        return result

    @pytest.mark.parametrize("criterion", CRITERIA)
    def test_an_entropy_floor(self, bandit, criterion):
        # d ∝ exp(r / τ) with the temperature as the price: log(p / (1 − p)) = 1 / τ.
        bound = float(entropy([0.75, 0.25]))
        for utility in (oc.OccupancyEntropy(), oc.OccupancyEntropy(2.0)):
            scale = utility.strength
            problem = of(bandit, criterion, constraints={"limit": utility >= scale * bound})
            found = self.check(problem, 0.75, 1 / (scale * math.log(3)))
            assert found.utilities["limit"] == pytest.approx(scale * bound, abs=1e-9)
            assert oc.evaluate(problem, found.policy).utilities == found.utilities

    @pytest.mark.parametrize("criterion", CRITERIA)
    def test_a_ball_around_an_expert(self, bandit, criterion):
        # Total variation 1/8 lets 1/8 of the mass move, one for one.
        for target in (np.array([[0.625, 0.375]]), oc.Policy.from_table(bandit, [[0.625, 0.375]])):
            self.check(of(bandit, criterion, constraints={"limit": oc.TotalVariation(target) >= -0.125}), 0.75, 1.0)

    def test_a_square(self, bandit):
        # p² + (1 − p)² ≤ 5/8; its derivative in p is 4 p − 2 = 1.
        square = oc.Utility(lambda d: -cp.sum_squares(d))
        found = self.check(oc.Problem(bandit, constraints={"limit": square >= -0.625}), 0.75, 1.0)
        assert any("'limit'" in sentence for sentence in found.certificate.assumptions)

    def test_fairness(self, bandit):
        # log p + log(1 − p) ≥ log(3/16); the derivative in p is 4/3 − 4.
        limit = oc.LogSum(first(bandit)) >= math.log(3 / 16)
        self.check(oc.Problem(bandit, constraints={"limit": limit}), 0.75, 3 / 8)

    def test_the_worst_case(self, bandit):
        self.check(oc.Problem(bandit, constraints=[oc.WorstCase(first(bandit)) >= 0.25]), 0.75, 1.0, "WorstCase")

    def test_a_cost_is_minimised_as_well(self, bandit):
        problem = oc.Problem(bandit, sense="minimize", constraints={"limit": oc.WorstCase(first(bandit)) >= 0.25})
        result = solved(problem)
        assert result.objective == pytest.approx(0.25, abs=1e-12)
        assert result.multipliers["limit"] == pytest.approx(1.0)
        assert result.sensitivity["limit"] == pytest.approx(1.0)

    def test_a_divergence_ball_through_the_escape_hatch(self, bandit):
        # KL(d ‖ uniform) = log 2 − H(d).
        prior = np.full(2, 0.5)
        ball = oc.Utility(lambda d: -cp.sum(cp.rel_entr(d, prior)))
        radius = math.log(2) - float(entropy([0.75, 0.25]))
        self.check(oc.Problem(bandit, constraints={"limit": ball >= -radius}), 0.75, 1 / math.log(3))


def reference(mdp, value, bound, slope_tol=1e-12):
    """The best mixture of deterministic occupancies with value(d) ≥ bound, by a general method of scipy."""
    points = vertices(mdp)
    rewards = points @ mdp.pair_rewards

    def limited(weights):
        return value(weights @ points) - bound

    found = minimize(
        lambda weights: -(weights @ rewards), np.full(len(points), 1 / len(points)), jac=lambda weights: -rewards,
        bounds=[(0, 1)] * len(points), method="SLSQP", options={"maxiter": 500, "ftol": slope_tol},
        constraints=[
            {"type": "eq", "fun": lambda weights: weights.sum() - 1}, {"type": "ineq", "fun": limited},
        ],
    )  # fmt: skip
    assert found.success
    return -float(found.fun)


class TestAgainstAnotherMethod:
    @pytest.mark.parametrize("criterion", CRITERIA)
    @pytest.mark.parametrize("seed", [0, 1])
    def test_general_purpose_programs_over_mixtures_agree(self, criterion, seed):
        mdp = random_model(seed, n_states=3, n_actions=2)
        problem = of(mdp, criterion)
        mdp, starts = problem.mdp, problem.mdp.pair_start[:-1]
        most = oc.solve(replace(problem, utility=oc.StateEntropy()))
        least = entropy(np.add.reduceat(oc.solve(problem).pair_occupancy, starts))
        bound = 0.25 * float(least) + 0.75 * most.objective
        result = solved(replace(problem, constraints=[oc.StateEntropy() >= bound]))
        truth = reference(mdp, lambda d: float(entropy(np.add.reduceat(d, starts))), bound)
        assert result.objective == pytest.approx(truth, abs=1e-6)
        assert result.multipliers["StateEntropy"] > 0
        bound = -float(np.sum(oc.solve(problem).pair_occupancy ** 2)) + 0.1
        squares = oc.Utility(lambda d: -cp.sum_squares(d))
        result = solved(replace(problem, constraints={"spread": squares >= bound}))
        assert result.status is oc.Status.CERTIFIED
        assert result.objective == pytest.approx(reference(mdp, lambda d: -float(d @ d), bound), abs=1e-6)

    @pytest.mark.parametrize("criterion", CRITERIA)
    @pytest.mark.parametrize("seed", range(3))
    def test_a_ball_is_a_linear_program(self, criterion, seed):
        mdp = random_model(seed, n_states=3, n_actions=2)
        problem = of(mdp, criterion)
        target, points = oc.evaluate(problem, oc.Policy.uniform(mdp)).pair_occupancy, vertices(problem.mdp)
        n, m = len(points), mdp.n_pairs
        # d = weights @ points, |d − target| ≤ u, Σ u ≤ 2 · 0.1
        answer = linprog(
            np.append(-(points @ mdp.pair_rewards), np.zeros(m)),
            A_ub=np.block([[points.T, -np.eye(m)], [-points.T, -np.eye(m)], [np.zeros((1, n)), np.ones((1, m))]]),
            b_ub=np.concatenate([target, -target, [0.2]]), A_eq=np.append(np.ones(n), np.zeros(m))[None, :],
            b_eq=[1.0], method="highs-ds",
        )  # fmt: skip
        near = oc.TotalVariation(oc.Policy.uniform(mdp)) >= -0.1
        result = solved(replace(problem, constraints=[near]))
        assert result.objective == pytest.approx(-float(answer.fun), abs=1e-8)
        assert result.certificate.violation <= 1e-9
        price = -float(answer.ineqlin.marginals[-1]) * 2
        assert result.multipliers["TotalVariation"] == pytest.approx(price, abs=1e-6)

    @pytest.mark.parametrize("criterion", CRITERIA)
    def test_the_worst_case_is_one_linear_limit_for_each(self, criterion):
        problem = of(random_model(3), criterion)
        costs = ["wear", "fuel"]
        level = 0.5 * (oc.solve(replace(problem, utility=oc.WorstCase(costs))).objective) + 0.5 * min(
            oc.solve(problem).expected[name] for name in costs
        )
        joint = solved(replace(problem, constraints=[oc.WorstCase(costs) >= level]))
        apart = solved(replace(problem, constraints=[oc.expected(name) >= level for name in costs]))
        assert joint.objective == pytest.approx(apart.objective, abs=1e-8)
        assert joint.multipliers["WorstCase"] == pytest.approx(sum(apart.multipliers.values()), abs=1e-6)
        exact = best_mixture(
            vertices(problem.mdp), problem.mdp.pair_rewards,
            [(problem.mdp.pair_costs[name], ">=", level) for name in costs],
        )  # fmt: skip
        assert joint.objective == pytest.approx(exact, abs=1e-8)

    def test_the_program_of_the_user_has_the_constraint_by_name(self, machine, floor):
        program = oc.OccupancyProgram().program(floor)
        assert "even" in {constraint.label for constraint in program.constraints}
        program.solve(solver="CLARABEL")
        result = solved(floor)
        assert program.value == pytest.approx(result.objective, abs=1e-6)
        price = next(c.dual_value for c in program.constraints if c.label == "even")
        assert float(price) == pytest.approx(result.multipliers["even"], rel=1e-4)


UTILITIES = {
    "entropy": (lambda mdp: oc.StateEntropy(), 0.95),
    "pairs": (lambda mdp: oc.OccupancyEntropy(), 1.1),
    "ball": (lambda mdp: oc.TotalVariation(oc.Policy.uniform(mdp)), -0.2),
    "fair": (lambda mdp: oc.LogSum(["wear", oc.expected(np.ones((3, 2))) - oc.expected("wear")]), -1.5),
    "worst": (lambda mdp: oc.WorstCase([oc.expected(mdp.rewards), 18 * oc.expected("wear")]), 6.8),
    "square": (lambda mdp: oc.Utility(lambda d: -cp.sum_squares(d)), -0.3),
}


class TestPrices:
    @pytest.mark.parametrize("kind", UTILITIES)
    @pytest.mark.parametrize("criterion", CRITERIA)
    @pytest.mark.parametrize("sense", ["maximize", "minimize"])
    def test_prices_are_derivatives(self, machine, kind, criterion, sense):
        build, bound = UTILITIES[kind]
        mdp = machine if sense == "maximize" else machine.replace(rewards=-machine.rewards)
        utility, step = build(machine), 1e-4

        def at(level):
            return solved(of(mdp, criterion, sense=sense, constraints={"limit": utility >= level}))

        middle, above, below = at(bound), at(bound + step), at(bound - step)
        slope = (above.objective - below.objective) / (2 * step)
        assert middle.sensitivity["limit"] == pytest.approx(slope, rel=2e-3, abs=2e-3)
        assert middle.multipliers["limit"] == pytest.approx(abs(slope), rel=2e-3, abs=2e-3)
        assert (slope < 0) == (sense == "maximize") or slope == pytest.approx(0.0, abs=1e-3)

    @pytest.mark.parametrize("kind", UTILITIES)
    def test_a_slack_constraint_is_none(self, machine, kind):
        utility = UTILITIES[kind][0](machine)
        plain = oc.solve(machine)
        value = oc.evaluate(oc.Problem(machine, utility=utility), plain.policy).objective
        limit = utility >= (value if math.isfinite(value) else -60.0) - 0.1
        result = solved(oc.Problem(machine, constraints={"slack": limit}))
        assert result.status is oc.Status.CERTIFIED
        assert result.objective == pytest.approx(plain.objective, abs=1e-6)
        assert result.multipliers["slack"] == pytest.approx(0.0, abs=1e-5)

    def test_scaled_rewards_scale_the_price(self, machine):
        limit = {"even": oc.StateEntropy() >= 0.95}
        one = solved(oc.Problem(machine, constraints=limit))
        for factor in (1e-6, 1e6):
            other = solved(oc.Problem(machine.replace(rewards=factor * machine.rewards), constraints=limit))
            assert other.objective == pytest.approx(factor * one.objective, rel=1e-7)
            assert other.multipliers["even"] == pytest.approx(factor * one.multipliers["even"], rel=1e-4)

    def test_the_order_of_states_and_actions_does_not_matter(self, machine, floor):
        other = permuted(machine, [2, 0, 1], [1, 0])
        result = solved(oc.Problem(other, constraints={"even": oc.StateEntropy() >= 0.95}))
        assert result.objective == pytest.approx(solved(floor).objective, abs=1e-7)


class TestMixedQuestions:
    def test_several_limits_together(self, machine):
        limits = {
            "even": oc.StateEntropy() >= 0.92,
            "near": oc.TotalVariation(oc.Policy.uniform(machine)) >= -0.3,
            "wear": oc.expected("wear") <= 0.5,
        }
        result = solved(oc.Problem(machine, constraints=limits))
        assert result.status is oc.Status.CERTIFIED
        assert set(result.certificate.majorants) == {"even", "near"}
        assert list(result.multipliers) == ["wear", "even", "near"]
        without = [oc.solve(oc.Problem(machine, constraints={n: limits[n]})).objective for n in limits]
        assert result.objective <= min(without) + 1e-6

    @pytest.mark.parametrize("limit", ["even", "near"])
    @pytest.mark.parametrize("criterion", CRITERIA)
    def test_regularizers_and_utilities(self, limit, criterion):
        mdp = random_model(2, n_states=3, n_actions=2)
        uniform = oc.Policy.uniform(mdp)
        utility = {"even": oc.StateEntropy(), "near": oc.TotalVariation(uniform)}[limit]
        most = oc.solve(of(mdp, criterion, utility=utility)).objective
        asked = [
            {"regularizer": oc.KL(1.0, uniform)}, {"regularizer": oc.PolicyEntropy(0.2)},
            {"regularizer": oc.ConditionalKL(0.2, uniform)}, {"regularizer": oc.StateEntropy(0.2)},
            {"utility": oc.LogSum(["wear"])}, {"utility": oc.WorstCase(["wear", "fuel"])},
        ]  # fmt: skip
        for options in asked:
            free = oc.solve(of(mdp, criterion, **options))
            value = oc.evaluate(of(mdp, criterion, utility=utility), free.policy).objective
            problem = of(mdp, criterion, constraints={limit: utility >= 0.5 * (value + most)}, **options)
            result = solved(problem)
            assert result.status is oc.Status.CERTIFIED
            assert result.multipliers[limit] > 0
            assert result.objective < free.objective

    def test_pairs_that_a_reference_excludes(self, machine):
        always = oc.Policy.deterministic(machine, {"new": "run", "worn": "run", "broken": "repair"})
        target = oc.Policy.uniform(machine)
        value = oc.evaluate(oc.Problem(machine, utility=oc.TotalVariation(target)), always).objective
        square = oc.Utility(lambda d: -cp.sum_squares(d))
        for limit in (oc.TotalVariation(target) >= value - 0.01, square >= -0.6, oc.StateEntropy() >= 0.5):
            problem = oc.Problem(machine, regularizer=oc.KL(1.0, always), constraints={"limit": limit})
            result = solved(problem, check=False)
            assert result.certificate.violation <= 1e-8
            assert result.objective == pytest.approx(oc.evaluate(machine, always).objective, abs=1e-6)

    def test_states_that_are_never_visited(self):
        transitions = np.zeros((3, 2, 3))
        transitions[0, 0, 0] = transitions[0, 1, 1] = transitions[1, :, 0] = transitions[2, :, 2] = 1.0
        mdp = oc.MDP.from_arrays(
            transitions, [[1.0, 0.0], [0.0, 0.0], [9.0, 9.0]], discount=0.9, initial=[1.0, 0.0, 0.0]
        )
        result = solved(oc.Problem(mdp, constraints=[oc.StateEntropy() >= 0.5]))
        assert result.status is oc.Status.CERTIFIED
        mass = float(result.state_occupancy[0])
        assert entropy([mass, 1 - mass]) == pytest.approx(0.5, abs=1e-8)

    def test_helpers_that_ask_linear_questions(self, machine, floor):
        wear = oc.expected("wear")
        ratio = oc.maximize_ratio(floor, "reward", oc.expected(np.ones((3, 2))) + wear)
        assert ratio.status is oc.Status.CERTIFIED
        assert ratio.violation <= 1e-8
        share = oc.cvar_per_step(floor, 1.0)
        assert share.value == pytest.approx(oc.solve(floor).objective, abs=1e-6)
        named = oc.Problem(machine, constraints=[oc.WorstCase(["reward"]) >= 7.2])
        assert oc.maximize_ratio(named, "wear", oc.expected(np.ones((3, 2)))).violation <= 1e-8

    def test_comparison_path_and_report(self, machine, floor, tmp_path):
        table = oc.compare(floor, [oc.OccupancyProgram(), oc.PolicyIteration(), oc.Decomposition()])
        rows = table.to_frame().to_dict("records")
        assert rows[0]["status"] == "CERTIFIED"
        assert all("constraints" in row["message"] for row in rows[1:])
        table.report(tmp_path / "page.html")
        assert "even" in (tmp_path / "page.html").read_text()
        problem = replace(floor, regularizer=oc.KL(1.0, oc.Policy.uniform(machine)))
        found = oc.path(problem, [10.0, 0.1])
        assert [result.status.name for result in found] == ["CERTIFIED", "CERTIFIED"]

    def test_a_lottery_has_the_occupancy(self, floor):
        result = oc.solve(floor)
        lottery = oc.mixture(floor, result.policy)
        assert oc.evaluate(floor, lottery).pair_occupancy == pytest.approx(result.pair_occupancy, abs=1e-12)


class TestInfeasible:
    @pytest.mark.parametrize("criterion", CRITERIA)
    @pytest.mark.parametrize("kind", UTILITIES)
    def test_more_than_the_maximum_is_proved_impossible(self, machine, kind, criterion):
        utility = UTILITIES[kind][0](machine)
        best = oc.solve(of(machine, criterion, utility=utility), check=False).certificate.upper
        limit = {"limit": utility >= best + 1e-4}
        problem = of(machine, criterion, constraints=limit)
        with pytest.raises(oc.Infeasible, match="'limit'") as caught:
            oc.solve(problem)
        result = caught.value.result
        assert oc.verify(problem, result)
        assert result.certificate.infeasible_by > 0
        assert result.certificate.violation == pytest.approx(1e-4, rel=0.01)
        again = replace(result, certificate=oc.Certificate.from_json(result.certificate.to_json()))
        assert oc.verify(problem, again)

    @pytest.mark.parametrize("kind", UTILITIES)
    def test_a_little_less_than_the_maximum_is_answered(self, machine, kind):
        utility = UTILITIES[kind][0](machine)
        best = oc.solve(oc.Problem(machine, utility=utility)).objective
        result = solved(oc.Problem(machine, constraints={"limit": utility >= best - 1e-4}))
        assert result.status is oc.Status.CERTIFIED

    @pytest.mark.parametrize("kind", ["entropy", "ball", "worst"])
    def test_feasible_at_one_point_is_not_called_infeasible(self, machine, kind):
        utility = UTILITIES[kind][0](machine)
        best = oc.solve(oc.Problem(machine, utility=utility)).objective
        problem = oc.Problem(machine, constraints={"limit": utility >= best})
        result = oc.solve(problem, check=False)
        assert result.status in (oc.Status.CERTIFIED, oc.Status.BOUNDED)
        assert oc.verify(problem, result)

    def test_together_with_linear_limits(self, machine):
        limits = {
            "even": oc.StateEntropy() >= 0.95, "wear": oc.expected("wear") <= 0.3, "free": oc.expected("wear") >= 0.01,
        }  # fmt: skip
        for kept in (["even"], ["wear"]):
            assert oc.solve(oc.Problem(machine, constraints={name: limits[name] for name in kept}))
        problem = oc.Problem(machine, constraints=limits)
        with pytest.raises(oc.Infeasible) as caught:
            oc.solve(problem)
        assert "'even'" in str(caught.value)
        assert "'wear'" in str(caught.value)
        assert "'free'" not in str(caught.value)
        assert oc.verify(problem, caught.value.result)
        with pytest.raises(oc.Infeasible, match="no policy keeps 'wear'"):
            oc.solve(oc.Problem(machine, constraints={"wear": oc.expected("wear") <= -1.0, "even": limits["even"]}))

    def test_the_margin_is_that_of_the_widest_occupancy(self, machine):
        best = oc.solve(oc.Problem(machine, utility=oc.StateEntropy())).objective
        problem = oc.Problem(machine, constraints=[oc.StateEntropy() >= 0.9])
        inside = closest(problem, DEFAULT)
        assert inside.bound.value > 0
        assert oc.evaluate(problem, inside.policy).utilities["StateEntropy"] == pytest.approx(best, abs=1e-6)


class TestMending:
    def test_an_answer_that_breaks_the_limit_is_moved_inwards(self, machine, floor):
        form = formulate(floor)
        greedy = oc.solve(machine)
        broken = form.excess(greedy.pair_occupancy)
        assert broken[0] > 0.01
        *_, last = mended(floor, DEFAULT, Iterate(greedy.policy), 1e-8)
        found = assess(form, last.policy.pair_probabilities).pair_occupancy
        assert form.excess(found)[0] <= 1e-15
        inside = closest(floor, DEFAULT, strict=True).policy
        assert greedy.objective > oc.evaluate(floor, last.policy).objective > oc.evaluate(floor, inside).objective

    def test_a_poor_backend_is_mended(self, machine):
        for limit in (oc.StateEntropy() >= 0.95, oc.TotalVariation(oc.Policy.uniform(machine)) >= -0.1):
            problem = oc.Problem(machine, constraints={"limit": limit})
            options = {"eps_abs": 1e-4, "eps_rel": 1e-4}
            result = solved(problem, solver=oc.OccupancyProgram("SCS", options))
            assert result.status is oc.Status.CERTIFIED
            assert result.objective == pytest.approx(oc.solve(problem).objective, abs=1e-7)

    def test_linear_rows_that_are_tight_without_a_price(self, machine):
        # The cuts of a ball: several meet in the optimum, one alone has a price, and the columns mix in more ways.
        slopes = [
            [
                2.8687717249640711e-05, 1.0000286723291136, 2.7666155639630326e-05, 0.14079823194282262,
                0.4265630429842913, 0.0,
            ],
            [0.5, 0.5, -0.5, 0.5, 0.5, -0.5], [-0.5, 0.5, 0.5, -0.5, 0.5, 0.5], [-0.5, 0.5, -0.5, 0.5, 0.5, -0.5],
            [-0.5, 0.5, -0.5, 0.5, 0.5, -0.5],
        ]  # fmt: skip
        offsets = [-0.4388617157351039, -0.4233870967741936, -0.01635556361000362, 0.0, 0.0]
        limits = [(np.array(slope), -0.1 - offset) for slope, offset in zip(slopes, offsets, strict=True)]
        named = {f"cut {k}": oc.expected(slope.reshape(3, 2)) >= bound for k, (slope, bound) in enumerate(limits)}
        problem = oc.Problem(machine, constraints=named)
        exact = best_mixture(vertices(machine), machine.pair_rewards, [(slope, ">=", bound) for slope, bound in limits])
        result = solved(problem, solver=oc.Decomposition())
        assert result.status is oc.Status.CERTIFIED
        assert result.objective == pytest.approx(exact, abs=1e-9)

    def test_equalities_stay(self, machine):
        limits = {"even": oc.StateEntropy() >= 0.95, "wear": oc.expected("wear") == 0.43}
        problem = oc.Problem(machine, constraints=limits)
        result = solved(problem, solver=oc.OccupancyProgram("SCS", {"eps_abs": 1e-5, "eps_rel": 1e-5}), check=False)
        assert result.status is oc.Status.CERTIFIED
        assert result.expected["wear"] == pytest.approx(0.43, abs=1e-8)

    def test_any_slopes_and_prices_bound(self, floor):
        best, form = oc.solve(floor), formulate(floor)
        rng = np.random.default_rng(0)
        truth = form.from_user(best.certificate.lower)
        values = best.certificate.values / form.scale
        for _ in range(40):
            moved = values + rng.normal(size=3) * 10.0 ** rng.integers(-8, 1)
            price = np.abs(rng.normal(size=1)) * 10.0 ** rng.integers(-6, 3)
            slopes = {"even": rng.normal(size=6) * 10.0 ** rng.integers(-3, 4)} if rng.random() < 0.7 else None
            point = rng.dirichlet(np.ones(6)) * (rng.random(6) < 0.8)
            point = point / point.sum()
            assert bound_above(form, (moved, None), price, point, slopes).value >= truth - 1e-12


class TestAudit:
    def tampered(self, result, **changes):
        return replace(result, certificate=replace(result.certificate, **changes))

    @pytest.mark.parametrize("kind", ["entropy", "pairs", "ball", "fair", "worst"])
    def test_wrong_majorants_are_refused(self, machine, kind):
        build, bound = UTILITIES[kind]
        problem = oc.Problem(machine, constraints={"limit": build(machine) >= bound})
        result = solved(problem)
        held = result.certificate.majorants["limit"]
        wrong = {
            "the offset": Majorant(held.slope, held.offset - 1e-6, held.dual),
            "a slope": Majorant(held.slope - 1e-6 * np.eye(1, 6)[0] - 1e-6, held.offset, held.dual),
            "NaN": Majorant(held.slope * np.nan, held.offset, held.dual),
            "too few": Majorant(held.slope[:-1], held.offset, held.dual),
        }
        for majorant in wrong.values():
            with pytest.raises(oc.AuditFailed, match="majorant"):
                oc.verify(problem, self.tampered(result, majorants={"limit": majorant}))
        with pytest.raises(oc.AuditFailed, match="no majorant"):
            oc.verify(problem, self.tampered(result, majorants={}))
        with pytest.raises(oc.AuditFailed, match="majorants are not those"):
            oc.verify(problem, self.tampered(result, majorants={"limit": held, "other": held}))
        if held.dual.size:
            with pytest.raises(oc.AuditFailed):
                oc.verify(problem, self.tampered(result, majorants={"limit": replace(held, dual=-held.dual)}))

    def test_wrong_claims_are_refused(self, machine, floor):
        result = solved(floor)
        price = result.multipliers["even"]
        for changes in (
            {"multipliers": {"even": -price}},
            {"multipliers": {}},
            {"multipliers": {"even": 2 * price}, "sensitivity": {"even": -2 * price}},
            {"sensitivity": {"even": price}},
            {"upper": result.certificate.upper - 1e-3, "gap": 0.0},
            {"violation": 0.1},
        ):
            with pytest.raises(oc.AuditFailed):
                oc.verify(floor, self.tampered(result, **changes))
        with pytest.raises(oc.AuditFailed, match="utility of constraint 'even'"):
            oc.verify(floor, replace(result, utilities={"even": 2.0}))
        with pytest.raises(oc.AuditFailed, match="utilities"):
            oc.verify(floor, replace(result, utilities={}))

    @pytest.mark.parametrize("kind", UTILITIES)
    def test_a_policy_that_breaks_the_limit_is_not_passed_off(self, machine, kind):
        build, bound = UTILITIES[kind]
        problem = oc.Problem(machine, constraints={"limit": build(machine) >= bound})
        honest, greedy = solved(problem), oc.solve(machine)
        found = oc.evaluate(problem, greedy.policy)
        forged = replace(honest, **{name: getattr(found, name) for name in vars(found)})
        with pytest.raises(oc.AuditFailed, match="'limit' is broken"):
            oc.verify(problem, forged)

    def test_false_proofs_of_infeasibility_are_refused(self, machine, floor):
        problem = oc.Problem(machine, constraints={"even": oc.StateEntropy() >= 1.2})
        result = oc.solve(problem, check=False)
        assert oc.verify(problem, result)
        feasible = replace(result, certificate=replace(result.certificate, fingerprint=floor.fingerprint))
        with pytest.raises(oc.AuditFailed):
            oc.verify(floor, feasible)
        with pytest.raises(oc.AuditFailed):
            oc.verify(problem, self.tampered(result, infeasible_by=2 * result.certificate.infeasible_by))

    @pytest.mark.parametrize("kind", UTILITIES)
    def test_the_round_trip_keeps_every_digit(self, machine, kind):
        build, bound = UTILITIES[kind]
        problem = oc.Problem(machine, constraints={"limit": build(machine) >= bound})
        result = solved(problem)
        text = result.certificate.to_json()
        again = oc.Certificate.from_json(text)
        assert again.to_json() == text
        assert oc.verify(problem, replace(result, certificate=again))
        plain = json.loads(text)
        plain["majorants"]["limit"]["slope"][0] = "x"
        with pytest.raises(ValueError, match="majorant"):
            oc.Certificate.from_json(json.dumps(plain))
        del plain["majorants"]["limit"]["slope"]
        with pytest.raises(ValueError, match="incomplete or altered"):
            oc.Certificate.from_json(json.dumps(plain))

    def test_results_can_be_sent(self, floor):
        result = oc.solve(floor)
        assert oc.verify(floor, pickle.loads(pickle.dumps(result)))


def scaled_duals(factor):
    def lie(program, rng):
        for constraint in program.constraints:
            for dual in constraint.dual_variables:
                dual.save_value(None if dual.value is None else factor * np.asarray(dual.value))

    return lie


def shuffled(program, rng):
    for variable in program.variables():
        variable.save_value(rng.permutation(variable.value) if np.ndim(variable.value) else variable.value)


def noisy(program, rng):
    for variable in program.variables():
        variable.save_value(np.asarray(variable.value) * (1 + 1e-4 * rng.normal(size=np.shape(variable.value))))


def claims_infeasible(program, rng):
    program._status = "infeasible"


def no_numbers(program, rng):
    for variable in program.variables():
        variable.save_value(np.full(np.shape(variable.value), np.nan))


LIES = {
    "zero duals": scaled_duals(0.0), "turned duals": scaled_duals(-1.0), "large duals": scaled_duals(1e6),
    "NaN duals": scaled_duals(np.nan), "double duals": scaled_duals(2.0), "shuffled": shuffled, "noisy": noisy,
    "infeasible": claims_infeasible, "no numbers": no_numbers,
}  # fmt: skip


class TestALyingBackend:
    @pytest.mark.parametrize("lie", LIES)
    @pytest.mark.parametrize("kind", ["entropy", "ball", "impossible"])
    @pytest.mark.parametrize("polish", [True, False])
    def test_it_is_never_believed(self, machine, lie, kind, polish, monkeypatch):
        utility, bound = oc.StateEntropy(), 1.2
        if kind != "impossible":
            utility, bound = UTILITIES[kind][0](machine), UTILITIES[kind][1]
        problem = oc.Problem(machine, constraints={"limit": utility >= bound})
        truth = None if kind == "impossible" else oc.solve(problem)
        original = cp.Problem.solve

        def solve(self, *arguments, **options):
            original(self, *arguments, **options)
            LIES[lie](self, np.random.default_rng(3))

        monkeypatch.setattr(cp.Problem, "solve", solve)
        if not polish:
            monkeypatch.setattr("occlp.solving.polisher", lambda problem, solver, prices: None)
        result = oc.solve(problem, oc.OccupancyProgram("CLARABEL"), check=False)
        assert oc.verify(problem, result)
        if truth is None:
            assert result.status in (oc.Status.INFEASIBLE, oc.Status.FAILED, oc.Status.BOUNDED)
            return
        assert result.status is not oc.Status.INFEASIBLE
        assert result.certificate.upper >= truth.certificate.lower - 1e-9
        if np.isfinite(result.gap) and result.status is not oc.Status.FAILED:
            assert result.certificate.lower <= truth.certificate.upper + 1e-9
        if result.status is oc.Status.CERTIFIED:
            assert result.objective == pytest.approx(truth.objective, abs=2e-7)
            assert result.utilities["limit"] >= bound - 1e-8

    def test_a_backend_that_cannot_says_so(self, floor):
        with pytest.raises(oc.Unsupported, match="HIGHS"):
            oc.solve(floor, oc.OccupancyProgram("HIGHS"))

    def test_a_kink_of_a_user_is_bounded_honestly(self, machine):
        limits = {"limit": oc.Utility(lambda d: cp.min(d)) >= 0.02}
        problem = oc.Problem(machine, constraints=limits)
        result = oc.solve(problem)
        assert oc.verify(problem, result)
        sharp = oc.Problem(machine, constraints={"limit": oc.Utility(lambda d: cp.min(d), smooth=False) >= 0.02})
        exact = solved(sharp)
        assert exact.status is oc.Status.CERTIFIED
        worst = [oc.expected(np.eye(1, 6, k).reshape(3, 2)) for k in range(6)]
        same = solved(oc.Problem(machine, constraints=[oc.WorstCase(worst) >= 0.02]))
        assert exact.objective == pytest.approx(same.objective, abs=1e-7)
        assert result.certificate.lower - 1e-9 <= same.objective <= result.certificate.upper + 1e-9

    def test_the_default_backend_is_linear_where_the_program_is(self, machine, floor):
        ball = oc.Problem(machine, constraints=[oc.TotalVariation(oc.Policy.uniform(machine)) >= -0.1])
        assert oc.OccupancyProgram().backend_for(ball) == "HIGHS"
        assert oc.OccupancyProgram().backend_for(floor) == "CLARABEL"
        assert Backend("HIGHS", {}).name == "HIGHS"


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "solver",
        [
            oc.PolicyIteration(), oc.ModifiedPolicyIteration(), oc.ValueIteration(), oc.Decomposition(),
            oc.DeterministicProgram(), oc.NaturalPolicyGradient(), oc.Reps(),
        ],
    )  # fmt: skip
    def test_solvers_of_linear_questions(self, floor, solver):
        with pytest.raises(oc.Unsupported, match="OccupancyProgram"):
            oc.solve(floor, solver)

    def test_solvers_of_regularized_questions(self, machine, floor):
        uniform = oc.Policy.uniform(machine)
        for solver, setting in ((oc.KLDual(), oc.KL(1.0, uniform)), (oc.SoftPolicyIteration(), oc.PolicyEntropy(1.0))):
            with pytest.raises(oc.Unsupported, match="OccupancyProgram"):
                oc.solve(replace(floor, regularizer=setting), solver)

    def test_analyses_and_families(self, machine, floor):
        result = oc.solve(floor)
        limited = replace(floor, constraints={**floor.constraints, "wear": oc.expected("wear") <= 0.4})
        for ask in (
            lambda: oc.sensitivity(floor, result),
            lambda: oc.tie_break(floor, result, minimize="wear"),
            lambda: oc.pareto(floor, maximize=["reward"], minimize=["wear"]),
            lambda: oc.limit_curve(limited, "wear"),
            lambda: oc.limit_curve(limited, "even"),
            lambda: oc.mean_variance(floor, 0.1),
            lambda: oc.purify(floor, result),
            lambda: replace(floor, mdp=machine.replace(discount=None), criterion="total", goal="broken"),
        ):
            with pytest.raises(oc.Unsupported, match=r"'even' \(StateEntropy >= 0\.95\) is concave"):
                ask()


def test_an_interval_beside_a_concave_limit_is_verified():
    """Its bound needs no rounding upwards of the majorant's offset; neither does the audit."""
    pytest.importorskip("flint")
    problem = oc.Problem(oc.instances.get("machine-repair"), constraints=[oc.StateEntropy() >= 1.05])
    result = oc.solve(problem, certify="interval")
    assert result.multipliers["StateEntropy"] > 0.1
    assert oc.verify(problem, result)

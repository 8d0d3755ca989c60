"""Fronts, curves along a bound and paths along a strength, against exact hulls and against plain solves."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from helpers import Exact, fractions, permuted
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps

import occlp as oc
from occlp.pareto.search import chain

#: Deep sea treasure: treasures and the steps to them (Vamplew et al. 2011; convex values by Yang, Sun and
#: Narasimhan 2019), whose fronts at discount 1 are published in MO-Gymnasium.
STEPS = [1, 3, 5, 7, 8, 9, 13, 14, 17, 19]
CONVEX = ["0.7", "8.2", "11.5", "14.0", "15.1", "16.1", "19.6", "20.3", "22.4", "23.7"]
CONCAVE = ["1", "2", "3", "5", "8", "16", "24", "50", "74", "124"]


def one_decision(points):
    """A model of a single decision, worth a point (gain, loss, ...): its front is the hull of the points."""
    table = np.array(points, dtype=float).T[:, None, :]
    costs = {f"c{n}": column for n, column in enumerate(table[1:], 1)}
    return oc.MDP.from_arrays(np.ones((1, len(points), 1)), table[0], discount=0.0, costs=costs)


def hull(points):
    """Vertices of the upper right hull of exact points, from the best first to the best second coordinate."""
    kept = []
    for x, y in sorted(set(points), key=lambda point: (-point[0], -point[1])):
        if kept and y <= kept[-1][1]:
            continue
        while len(kept) > 1:
            (x0, y0), (x1, y1) = kept[-2:]
            if (x0 - x1) * (y - y0) < (x0 - x) * (y1 - y0):
                break
            kept.pop()
        kept.append((x, y))
    return kept


def exact_points(mdp, *names):
    """(reward, cost, ...) of every deterministic policy, in fractions, normalised."""
    exact = Exact.of(mdp)
    costs = [exact.rewards if name == "reward" else fractions(mdp.pair_costs[name]) for name in names]
    found = []
    for choice in exact.choices():
        mass = exact.occupancy(choice)
        found.append(tuple(sum((d * c for d, c in zip(mass, cost, strict=True)), Fraction(0)) for cost in costs))
    return found


def check_front(front, mdp, reached):
    """Everything that a front promises, given what all deterministic policies reach, [policies, k]."""
    scaled = front.signs * np.array(reached, dtype=float) / front.ranges
    points = front.signs * front.points / front.ranges
    beyond = (front.signs * np.array(reached, dtype=float)) @ front.bound_weights.T - front.bounds
    assert (beyond <= 1e-12 * front.ranges.max()).all(), "a policy lies beyond a half-space"
    for policy, point in zip(front.policies, front.points, strict=True):
        own = oc.evaluate(mdp, policy).expected
        assert [own[name] for name in front.names] == pytest.approx(point, abs=1e-10), "a policy misses its point"
    for weights in np.random.default_rng(0).dirichlet(np.full(len(front.names), 0.5), size=300):
        missed = (scaled @ weights).max() - (points @ weights).max()
        assert missed <= front.gap + 1e-10, "a policy surpasses the front by more than the gap"
    for weights, point in zip(front.weights, front.points, strict=True):
        assert (weights >= 0).all()
        best = ((front.signs * np.array(reached, dtype=float)) @ weights).max()
        assert (front.signs * point) @ weights == pytest.approx(best, abs=(front.gap + 1e-9) * front.ranges.max())


class TestTwoObjectives:
    def test_closed_form(self):
        # Two states, γ = 1/2, from state 0: "work" earns 3 and leads to state 1, "wait" earns 1; in state 1
        # "go on" earns 2 and wears 4, "repair" wears 1, and both lead back. Always: d = (2/3, 1/3) after work.
        mdp = oc.MDP.from_arrays(
            [[[0, 1], [1, 0]], [[1, 0], [1, 0]]], [[3, 1], [2, 0]],
            discount="1/2", initial=0, costs={"wear": [[0, 0], [4, 1]]},
            actions=["a", "b"],
        )  # fmt: skip
        # work & go on: (3·2 + 2·1)/3 = 8/3, 4/3;  work & repair: 2, 1/3;  wait: 1, 0.
        front = oc.pareto(mdp, maximize=["reward"], minimize=["wear"])
        truth = [[8 / 3, 4 / 3], [2, 1 / 3], [1, 0]]
        assert front.points == pytest.approx(np.array(truth), abs=1e-14)
        assert front.trade_offs == pytest.approx([2 / 3, 3], rel=1e-13)
        assert front.gap < 1e-14
        assert [policy.actions[1] for policy in front.policies[:2]] == ["a", "b"]

    def test_the_machine_of_the_documentation(self):
        front = oc.pareto(oc.instances.get("machine-repair"), maximize=["reward"], minimize=["wear"])
        assert front.names == ("reward", "wear")
        assert front.senses == ("maximize", "minimize")
        # Always repair a worn machine: d = (1/1.19, 0.19/1.19, 0) and wear 0.
        assert front.points[-1] == pytest.approx([(10 - 8 * 0.19) / 1.19, 0.0], abs=1e-13)

    @settings(max_examples=40)
    @given(mdps(max_states=4))
    def test_the_vertices_of_the_exact_hull(self, mdp):
        if len(mdp.pair_costs) < 1:
            mdp = mdp.replace(costs={"wear": np.arange(mdp.n_pairs) % 3})
        name = next(iter(mdp.pair_costs))
        reached = exact_points(mdp, "reward", name)
        front = oc.pareto(mdp, maximize=["reward", name])
        check_front(front, mdp, reached)
        assert front.gap < 1e-11
        truth = [(float(x), float(y)) for x, y in hull(reached)]
        for point in front.points:  # each is a vertex
            assert min(max(abs(point - other)) for other in np.array(truth)) < 1e-10
        clear = [  # each vertex that stands out is there
            vertex for n, vertex in enumerate(truth)
            if not any(max(abs(np.subtract(vertex, other))) < 1e-6 for other in truth[:n] + truth[n + 1 :])
        ]  # fmt: skip
        if len(clear) == len(truth):
            assert len(front) == len(truth)

    @pytest.mark.bad_input(65)
    def test_deep_sea_treasure_without_discount(self):
        # MO-Gymnasium's front at discount 1, as one decision; (20.3, −14) lies exactly on an edge and is no vertex.
        front = oc.pareto(one_decision([(float(v), t) for v, t in zip(CONVEX, STEPS, strict=True)]), ["reward"], ["c1"])
        expected = [(float(v), float(t)) for v, t in zip(CONVEX, STEPS, strict=True) if v != "20.3"]
        assert front.points.tolist() == pytest.approx(np.array(expected[::-1]))

    @pytest.mark.parametrize("treasures", [CONVEX, CONCAVE])
    @pytest.mark.bad_input(64)
    def test_deep_sea_treasure_with_discount(self, treasures):
        # At discount 0.99: treasure · γ^(t−1) and −(1 − γ^t)/(1 − γ), on the return scale; the dive is a corridor.
        def step(state, action):
            if state == "boat":
                return [(1, (action, 1), 0.0 if STEPS[action] > 1 else float(treasures[action]))]
            dive, t = state if state != "end" else (0, STEPS[0])
            if state == "end" or t == STEPS[dive]:
                return [(1, "end", 0.0)]
            return [(1, (dive, t + 1), float(treasures[dive]) if t + 1 == STEPS[dive] else 0.0)]

        mdp = oc.MDP.from_function(
            step, "boat", lambda s: range(10) if s == "boat" else [0], discount="99/100",
            costs={"time": lambda s, a: float(s == "boat" or (s != "end" and s[1] < STEPS[s[0]]))},
        )  # fmt: skip
        gamma = Fraction(99, 100)
        truth = hull(
            [
                (Fraction(v) * gamma ** (t - 1), -(1 - gamma**t) / (1 - gamma))
                for v, t in zip(treasures, STEPS, strict=True)
            ]
        )
        front = oc.pareto(mdp, maximize=["reward"], minimize=["time"])
        assert front.points / 0.01 == pytest.approx(np.array([(float(x), -float(y)) for x, y in truth]), abs=1e-9)
        assert len(front) == (2 if treasures is CONCAVE else 10)  # (20.3, −14) stands out now

    def test_points_that_are_dominated_only_by_ties_are_not_on_the_front(self):
        points = [(1.0, 5.0), (1.0, 3.0), (0.5, 1.0), (0.2, 1.0), (0.75, 2.0)]  # the last lies on an edge
        front = oc.pareto(one_decision(points), maximize=["reward"], minimize=["c1"])
        assert front.points.tolist() == [[1.0, 3.0], [0.5, 1.0]]

    def test_one_point_is_best_in_both(self):
        front = oc.pareto(one_decision([(1, 1), (2, 0), (0, 3)]), maximize=["reward"], minimize=["c1"])
        assert front.points.tolist() == [[2.0, 0.0]]
        assert front.trade_offs.shape == (0,)

    def test_objectives_that_are_constant(self):
        front = oc.pareto(one_decision([(1, 7), (2, 7)]), maximize=["reward"], minimize=["c1"])
        assert front.points.tolist() == [[2.0, 7.0]]

    def test_offsets_cost_no_digits(self):
        plain = oc.pareto(one_decision([(3, 2), (2, 1), (0, 0)]), maximize=["reward"], minimize=["c1"])
        moved = oc.pareto(one_decision([(3e9 + 3, 2), (3e9 + 2, 1), (3e9, 0)]), maximize=["reward"], minimize=["c1"])
        assert (moved.points[:, 0] - 3e9).tolist() == plain.points[:, 0].tolist()

    def test_scales_do_not_matter(self):
        mdp = oc.instances.get("queue-admission")
        plain = oc.pareto(mdp, maximize=["reward"], minimize=["queue"])
        other = mdp.replace(rewards=1e6 * mdp.pair_rewards, costs={"queue": 1e-6 * mdp.pair_costs["queue"]})
        assert oc.pareto(other, ["reward"], ["queue"]).points == pytest.approx(plain.points * [1e6, 1e-6], rel=1e-12)

    def test_names_do_not_matter(self):
        mdp = oc.instances.get("inventory")
        rng = np.random.default_rng(0)
        other = permuted(mdp, rng.permutation(mdp.n_states), rng.permutation(mdp.n_actions))
        found = [oc.pareto(model, ["reward"], ["lost"]).points for model in (mdp, other)]
        assert found[0] == pytest.approx(found[1], abs=1e-12)

    def test_the_order_of_the_objectives_turns_the_front_round(self):
        mdp = oc.instances.get("queue-admission")
        one = oc.pareto(mdp.replace(costs={"less": -mdp.pair_costs["queue"]}), maximize=["reward", "less"])
        other = oc.pareto(mdp.replace(costs={"less": -mdp.pair_costs["queue"]}), maximize=["less", "reward"])
        assert one.points == pytest.approx(other.points[::-1, ::-1], abs=1e-12)

    def test_average_criterion(self):
        # Hillier and Lieberman: cost against the share of overhauls runs from (5000/3, 2/21) to (19000/11, 0).
        mdp = oc.instances.get("hillier-lieberman-machine", discount=None)
        overhauls = oc.expected(np.eye(4)[:, [0, 2, 0]] * [0, 1, 0])
        front = oc.pareto(mdp, minimize=["reward", overhauls], criterion="average")
        assert front.points == pytest.approx(np.array([[5000 / 3, 2 / 21], [19000 / 11, 0]]), rel=1e-12, abs=1e-13)

    def test_expressions_are_objectives(self):
        mdp = oc.instances.get("machine-repair")
        repairs = oc.visits(actions="repair")
        front = oc.pareto(mdp, maximize=["reward"], minimize=[repairs])
        assert front.names == ("reward", "visits(actions='repair')")
        evaluations = [oc.evaluate(mdp, policy) for policy in front.policies]
        assert front.points[:, 1] == pytest.approx([found.visits[:, 1].sum() for found in evaluations], abs=1e-10)

    def test_neighbours_are_mixed_along_the_edge(self):
        mdp = oc.instances.get("machine-repair")
        front = oc.pareto(mdp, maximize=["reward"], minimize=["wear"])
        half = oc.Mixture.of(front.policies, [0.5, 0.5]).evaluate(mdp)
        assert [half.expected["reward"], half.expected["wear"]] == pytest.approx(front.points.mean(axis=0))


class TestConstraints:
    def test_they_are_kept_at_every_point(self):
        mdp = oc.instances.get("queue-admission")
        problem = oc.Problem(mdp, constraints=[oc.expected("rejected") <= 0.1])
        front = oc.pareto(problem, maximize=["reward"], minimize=["queue"])
        expected = [oc.evaluate(mdp, policy).expected for policy in front.policies]
        assert all(figures["rejected"] <= 0.1 + 1e-9 for figures in expected)
        assert front.points == pytest.approx(np.array([[e["reward"], e["queue"]] for e in expected]))
        for weight in (0.1, 0.5, 0.9):
            blend = weight * mdp.pair_rewards - (1 - weight) * mdp.pair_costs["queue"]
            best = oc.solve(oc.Problem(mdp.replace(rewards=blend), constraints=problem.constraints)).objective
            assert best == pytest.approx((front.points @ [weight, weight - 1]).max(), abs=1e-8)

    def test_a_limit_on_the_reward_is_one_on_the_reward(self):
        mdp = oc.instances.get("machine-repair").replace(costs={"wear": [0, 0, 1, 0, 3, 0], "runs": [1, 0, 1, 0, 1, 0]})
        problem = oc.Problem(mdp, constraints=[oc.expected("reward") >= 5])
        front = oc.pareto(problem, maximize=["runs"], minimize=["wear"])
        earned = [oc.evaluate(mdp, policy).expected["reward"] for policy in front.policies]
        assert min(earned) == pytest.approx(5.0, abs=1e-8)

    def test_slack_ones_change_nothing(self):
        mdp = oc.instances.get("machine-repair")
        problem = oc.Problem(mdp, constraints=[oc.expected("wear") <= 100])
        found = [oc.pareto(question, ["reward"], ["wear"]).points for question in (mdp, problem)]
        assert found[0] == pytest.approx(found[1], abs=1e-10)

    def test_infeasible(self):
        problem = oc.Problem(oc.instances.get("machine-repair"), constraints={"much": oc.expected("wear") >= 2.9})
        with pytest.raises(oc.Infeasible, match="much"):
            oc.pareto(problem, ["reward"], ["wear"])


class TestMoreObjectives:
    @settings(max_examples=15)
    @given(mdps(max_states=3))
    def test_inner_and_outer_approximation(self, mdp):
        costs = {"a": np.arange(mdp.n_pairs) % 3, "b": np.cos(np.arange(mdp.n_pairs))}
        mdp = mdp.replace(costs=costs)
        reached = exact_points(mdp, "reward", "a", "b")
        front = oc.pareto(mdp, maximize=["reward"], minimize=["a", "b"], tol=1e-6)
        assert front.gap <= 1e-6
        check_front(front, mdp, reached)

    def test_the_corners_of_a_simplex(self):
        points = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.3, 0.3, 0.3), (0.5, 0.5, 0)]
        front = oc.pareto(one_decision(points), maximize=["reward", "c1", "c2"])
        assert sorted(front.points.tolist()) == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]

    def test_resource_gathering(self):
        # The three points of MO-Gymnasium's resource gathering that are not dominated at discount 1.
        points = [(0, 0, 1), (0, 1, 0), (-0.1, 0.9, 0.9), (-0.19, 0.81, 0.81), (-0.19, 0.81, 0), (-0.1, 0.9, 0)]
        front = oc.pareto(one_decision(points), maximize=["reward", "c1", "c2"])
        assert sorted(front.points.tolist()) == sorted(map(list, points[:3]))

    def test_stopped_early_the_gap_says_so(self):
        rng = np.random.default_rng(5)
        directions = np.abs(rng.normal(size=(400, 3)))
        points = directions / np.linalg.norm(directions, axis=1, keepdims=True)  # all of them vertices
        mdp = one_decision(points)
        front = oc.pareto(mdp, maximize=["reward", "c1", "c2"], tol=1e-6, max_solves=12)
        assert front.n_solves == 12
        assert 1e-3 < front.gap < 0.3
        check_front(front, mdp, points)
        finer = oc.pareto(mdp, maximize=["reward", "c1", "c2"], tol=0.02)
        assert finer.gap <= 0.02
        assert front.n_solves < finer.n_solves < 300
        check_front(finer, mdp, points)

    def test_four_objectives(self):
        mdp = oc.instances.get("inventory")
        front = oc.pareto(mdp, maximize=["reward"], minimize=["stock", "orders", "lost"])
        check_front(front, mdp, np.array(exact_points(mdp, *front.names), dtype=float))


class TestTheChecker:
    """The checker of the fronts sees what is wrong."""

    @pytest.fixture
    def case(self):
        points = [(3.0, 3.0), (2.5, 1.5), (1.0, 0.5), (0.0, 0.0), (0.5, 2.0)]
        mdp = one_decision(points)
        return oc.pareto(mdp, maximize=["reward"], minimize=["c1"]), mdp, points

    def test_the_right_front(self, case):
        check_front(*case)

    def test_a_vertex_is_missing(self, case):
        front, mdp, points = case
        kept = [0, 2, 3]
        wrong = dataclasses.replace(
            front,
            points=front.points[kept],
            policies=tuple(front.policies[n] for n in kept),
            weights=front.weights[kept],
        )
        with pytest.raises(AssertionError, match="surpasses the front"):
            check_front(wrong, mdp, points)

    def test_a_point_that_its_policy_does_not_reach(self, case):
        front, mdp, points = case
        moved = front.points.copy()
        moved[1, 0] += 1e-6
        with pytest.raises(AssertionError, match="misses its point"):
            check_front(dataclasses.replace(front, points=moved), mdp, points)

    def test_a_bound_that_is_too_tight(self, case):
        front, mdp, points = case
        with pytest.raises(AssertionError, match="beyond a half-space"):
            check_front(dataclasses.replace(front, bounds=front.bounds - 1e-6), mdp, points)


class TestTheFront:
    @pytest.fixture
    def front(self):
        return oc.pareto(oc.instances.get("queue-admission"), maximize=["reward"], minimize=["queue"])

    def test_reaches(self, front):
        reward, queue = front.points[2]
        assert front.reaches({"reward": reward, "queue": queue}) is True
        assert front.reaches({"reward": reward - 0.1, "queue": queue + 1}) is True
        assert front.reaches({"reward": reward + 1e-6, "queue": queue}) is False
        middle = front.points[2:4].mean(axis=0)
        assert front.reaches(dict(zip(front.names, middle, strict=True))) is True
        assert front.reaches(dict(zip(front.names, middle + np.array([1e-5, 0]), strict=True))) is False
        assert front.reaches({"reward": front.points[0, 0]}) is True
        assert front.reaches({"reward": front.points[0, 0] + 1e-6}) is False
        assert front.reaches({"queue": -1e-6}) is False

    def test_reaches_does_not_know_what_lies_in_the_gap(self):
        rng = np.random.default_rng(5)
        directions = np.abs(rng.normal(size=(400, 3)))
        points = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        front = oc.pareto(one_decision(points), maximize=["reward", "c1", "c2"], max_solves=6)
        target = np.full(3, 3**-0.5)
        answers = [
            front.reaches(dict(zip(front.names, scale * target, strict=True))) for scale in np.linspace(0.5, 1.5)
        ]
        assert answers[0] is True
        assert answers[-1] is False
        assert None in answers

    @pytest.mark.parametrize("target", [{}, {"wear": 1.0}])
    def test_reaches_of_something_else(self, front, target):
        with pytest.raises(oc.InvalidProblem, match="reward, queue"):
            front.reaches(target)

    def test_records(self, front):
        records = front.records()
        assert [record["reward"] for record in records] == front.points[:, 0].tolist()
        assert set(records[0]) == {"reward", "queue", "weight of reward", "weight of queue"}
        assert len(front.to_frame()) == len(front) == 7
        assert repr(front).startswith("Front(7 points: maximize reward, minimize queue; gap")

    @pytest.mark.parametrize("minimize", [["queue"], ["queue", "rejected"]])
    def test_plot(self, tmp_path, minimize):
        front = oc.pareto(oc.instances.get("queue-admission"), ["reward"], minimize, tol=1e-2)
        figure = front.plot(tmp_path / "front.png")
        assert (tmp_path / "front.png").stat().st_size > 5000
        assert figure.axes[0].get_ylabel() == "reward (more is better)"
        assert len([axes for axes in figure.axes if axes.axison]) == (1 if len(minimize) == 1 else 3)
        with pytest.raises(oc.InvalidProblem, match=r"front\.txt"):
            front.plot(tmp_path / "front.txt")

    def test_plot_of_a_single_point(self, tmp_path):
        oc.pareto(one_decision([(1, 1), (2, 0)]), ["reward"], ["c1"]).plot(tmp_path / "point.svg")

    def test_panels_of_five_objectives(self):
        front = oc.pareto(one_decision(np.eye(5)), maximize=["reward", *(f"c{n}" for n in range(1, 5))], tol=0.5)
        assert [axes.axison for axes in front.plot().axes] == [True] * 10 + [False] * 2

    def test_too_many_panels(self):
        points = np.eye(6)
        front = oc.pareto(one_decision(points), maximize=["reward", *(f"c{n}" for n in range(1, 6))], tol=0.5)
        with pytest.raises(oc.InvalidProblem, match="at most 5"):
            front.plot()
        with pytest.raises(oc.InvalidProblem, match="two objectives"):
            _ = front.trade_offs

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"maximize": ["reward"]}, "two objectives or more"),
            ({"maximize": ["reward", "reward"]}, "named twice"),
            ({"maximize": ["reward"], "minimize": ["rust"]}, "rust"),
            ({"maximize": ["reward"], "minimize": ["wear"], "tol": -1}, "tol"),
            ({"maximize": ["reward"], "minimize": ["wear"], "max_solves": 1}, "max_solves"),
            ({"maximize": ["reward"], "minimize": ["wear"], "criterion": "average"}, "discount"),
        ],
    )
    def test_wrong_questions(self, arguments, words):
        with pytest.raises(oc.InvalidProblem, match=words):
            oc.pareto(oc.instances.get("machine-repair"), **arguments)

    def test_wrong_problems(self):
        mdp = oc.instances.get("machine-repair")
        with pytest.raises(oc.InvalidProblem, match="criterion"):
            oc.pareto(oc.Problem(mdp), ["reward"], ["wear"], criterion="average")
        with pytest.raises(oc.InvalidProblem, match="regularizer"):
            oc.pareto(oc.Problem(mdp, regularizer=oc.PolicyEntropy(1.0)), ["reward"], ["wear"])

    def test_a_solver_of_ones_own(self):
        mdp = oc.instances.get("machine-repair")
        found = [oc.pareto(mdp, ["reward"], ["wear"], solver=solver) for solver in (None, oc.OccupancyProgram("HIGHS"))]
        assert found[0].points == pytest.approx(found[1].points, abs=1e-9)

    def test_a_solver_that_fails_is_not_believed(self):
        with pytest.raises(oc.NotCertified, match="front failed"):
            oc.pareto(oc.instances.get("machine-repair"), ["reward"], ["wear"], solver=Broken())


@dataclasses.dataclass(frozen=True)
class Broken:
    """A solver that gives up at once."""

    promises_tol: bool = True

    def unsupported(self, problem):
        return None

    def iterate(self, problem, *, tol, rng, start=None):
        raise ArithmeticError("no answer")
        yield


class TestLimitCurve:
    @pytest.mark.parametrize("relation", ["<=", ">=", "=="])
    @pytest.mark.parametrize("sense", ["maximize", "minimize"])
    @pytest.mark.parametrize("scale", ["expected", "expected_total"])
    def test_against_plain_solves(self, relation, sense, scale):
        mdp = oc.instances.get("queue-admission")
        wear = getattr(oc, scale)("queue")

        def problem(bound):
            limit = {"<=": wear <= bound, ">=": wear >= bound, "==": wear == bound}[relation]
            return oc.Problem(mdp, sense=sense, constraints={"queue": limit, "other": oc.expected("rejected") <= 0.2})

        curve = oc.limit_curve(problem(1.0), "queue")
        low, high = curve.feasible
        first, last = curve.bounds[0], curve.bounds[-1]
        unit = 1 + abs(last)
        assert (low == -np.inf) == (relation == ">=")
        assert (high == np.inf) == (relation == "<=")
        inside = [first + share * (last - first) for share in (0.05, 0.37, 0.61, 0.93)] if len(curve) > 1 else []
        for bound in [*inside, *[first - unit] * (low == -np.inf), *[last + unit] * (high == np.inf)]:
            result = oc.solve(problem(bound))
            assert curve(bound) == pytest.approx(result.objective, abs=1e-9)
            left, right = curve.slope(bound)
            assert left == right == pytest.approx(result.sensitivity["queue"], abs=1e-9)
        for bound, beyond in ((low, -1e-6 * unit), (high, 1e-6 * unit)):
            if np.isfinite(bound):
                assert np.isnan(curve(bound + beyond))
                with pytest.raises(oc.Infeasible):
                    oc.solve(problem(bound + beyond))
                assert oc.solve(problem(bound)).objective == pytest.approx(curve(bound), abs=1e-7)
        turn = np.diff(curve.slopes)
        assert (turn < 0).all() if sense == "maximize" else (turn > 0).all()

    def test_hillier_and_lieberman(self):
        # Average cost with overhauls at most a share b of the periods: 19000/11 − 7000/11 b up to b = 2/21.
        mdp = oc.instances.get("hillier-lieberman-machine", discount=None)
        overhauls = oc.expected(np.eye(4)[:, [0, 2, 0]] * [0, 1, 0])
        problem = oc.Problem(mdp, "minimize", "average", constraints={"overhauls": overhauls <= 0.05})
        curve = oc.limit_curve(problem, "overhauls")
        assert curve.bounds == pytest.approx([0, 2 / 21], abs=1e-13)
        assert curve.objectives == pytest.approx([19000 / 11, 5000 / 3], rel=1e-13)
        assert curve.slopes == pytest.approx([-7000 / 11], rel=1e-11)
        assert curve.prices == pytest.approx([7000 / 11], rel=1e-11)
        assert curve([0.02, 0.05, 1.0]) == pytest.approx([18860 / 11, 18650 / 11, 5000 / 3], rel=1e-12)

    def test_the_vertices_are_exact(self):
        points = [(3, 4), (2.5, 2), (1, 0.5), (2, 3), (-1, 6)]
        mdp = one_decision(points)
        curves = [
            oc.limit_curve(oc.Problem(mdp, constraints={"c": limit}), "c")
            for limit in (oc.expected("c1") <= 1, oc.expected("c1") >= 1, oc.expected("c1") == 1)
        ]
        assert [curve.bounds.tolist() for curve in curves] == [[0.5, 2, 4], [4, 6], [0.5, 2, 4, 6]]
        assert [curve.objectives.tolist() for curve in curves] == [[1, 2.5, 3], [3, -1], [1, 2.5, 3, -1]]
        assert curves[2].slope(2.0) == pytest.approx((1.0, 0.25))
        assert curves[2].prices.tolist() == curves[2].slopes.tolist()
        assert [record["bound"] for record in curves[0].records()] == [0.5, 2, 4]
        assert len(curves[0].to_frame()) == len(curves[0]) == 3

    def test_one_sided_slopes(self):
        curve = oc.limit_curve(
            oc.Problem(one_decision([(3, 4), (1, 0)]), constraints={"c": oc.expected("c1") <= 1}), "c"
        )
        assert curve.slope(4.0) == (0.5, 0.0)
        assert curve.slope(9.0) == (0.0, 0.0)
        left, right = curve.slope(0.0)
        assert np.isnan(left)
        assert right == 0.5
        assert all(np.isnan(curve.slope(-1.0)))

    def test_a_flat_top_is_kept_as_a_piece(self):
        mdp = one_decision([(1, 0), (2, 1), (2, 3), (0, 4)])
        curve = oc.limit_curve(oc.Problem(mdp, constraints={"c": oc.expected("c1") == 1}), "c")
        assert curve.bounds.tolist() == [0, 1, 3, 4]
        assert curve.objectives.tolist() == [1, 2, 2, 0]

    def test_scaled_costs_scale_the_bounds(self):
        mdp = oc.instances.get("machine-repair")
        plain = oc.limit_curve(oc.Problem(mdp, constraints=[oc.expected("wear") <= 1]), "wear")
        other = oc.limit_curve(oc.Problem(mdp, constraints={"wear": 10 * oc.expected("wear") <= 1}), "wear")
        assert other.bounds == pytest.approx(10 * plain.bounds, abs=1e-12)
        assert other.slopes == pytest.approx(plain.slopes / 10)

    def test_the_best_policies_stand_at_the_breakpoints(self):
        mdp = oc.instances.get("queue-admission")
        curve = oc.limit_curve(oc.Problem(mdp, constraints=[oc.expected("queue") <= 1]), "queue")
        for bound, objective, policy in zip(curve.bounds, curve.objectives, curve.policies, strict=True):
            figures = oc.evaluate(mdp, policy).expected
            assert (figures["queue"], figures["reward"]) == pytest.approx((bound, objective), abs=1e-12)

    @pytest.mark.parametrize("relation", ["<=", "=="])
    def test_plot(self, tmp_path, relation):
        queue = oc.expected("queue")
        limit = queue <= 1 if relation == "<=" else queue == 1
        curve = oc.limit_curve(oc.Problem(oc.instances.get("queue-admission"), constraints={"$q_1": limit}), "$q_1")
        curve.plot(tmp_path / "curve.svg")
        text = (tmp_path / "curve.svg").read_text(encoding="utf-8")
        assert text.count("cannot") == (1 if relation == "<=" else 2)
        assert repr(curve).startswith("LimitCurve('$q_1'")
        with pytest.raises(oc.InvalidProblem, match="txt"):
            curve.plot(tmp_path / "curve.txt")

    def test_wrong_questions(self):
        mdp = oc.instances.get("machine-repair")
        wear = oc.expected("wear") <= 0.25
        with pytest.raises(oc.InvalidProblem, match="'wear'"):
            oc.limit_curve(oc.Problem(mdp, constraints=[wear]), "tear")
        with pytest.raises(oc.InvalidProblem, match="none"):
            oc.limit_curve(oc.Problem(mdp), "wear")
        with pytest.raises(oc.InvalidProblem, match="polygon"):
            oc.limit_curve(oc.Problem(mdp, constraints=[wear], regularizer=oc.PolicyEntropy(1.0)), "wear")
        shares = oc.Problem(mdp, constraints={"share": oc.conditional("worn", "repair") <= 0.3})
        with pytest.raises(oc.InvalidProblem, match="its coefficients"):
            oc.limit_curve(shares, next(iter(shares.limits)))

    def test_other_constraints_that_cannot_be_kept(self):
        limits = {"wear": oc.expected("wear") <= 0.25, "much": oc.expected("reward") >= 8}
        with pytest.raises(oc.Infeasible, match="much"):
            oc.limit_curve(oc.Problem(oc.instances.get("machine-repair"), constraints=limits), "wear")

    def test_probabilities_of_reaching_have_no_curve(self):
        mdp = oc.MDP.from_arrays([[[1, 0]], [[0, 1]]], [[0], [0]], costs={"wear": [[1], [0]]}, initial=0)
        limits = [oc.expected_total("wear") <= 3]
        with pytest.raises(oc.Unsupported, match="bound by bound"):
            oc.limit_curve(oc.Problem(mdp, criterion="total", goal=1, objective="reach", constraints=limits), "wear")


class TestPath:
    @pytest.fixture
    def problem(self):
        mdp = oc.instances.get("machine-repair")
        return oc.Problem(mdp, regularizer=oc.KL(strength=1.0, reference=oc.Policy.uniform(mdp)))

    def test_the_answers_are_those_of_cold_solves(self, problem):
        strengths = [0.1, 50.0, 2.0, 0.001]
        found = oc.path(problem, strengths)
        assert found.strengths == tuple(strengths)
        for strength, result in zip(strengths, found, strict=True):
            setting = dataclasses.replace(problem.regularizer, strength=strength)
            cold = oc.solve(dataclasses.replace(problem, regularizer=setting))
            assert result.status is oc.Status.CERTIFIED
            assert result.objective == pytest.approx(cold.objective, abs=1e-7)
        assert found[1] is found.results[1]
        assert len(found) == 4
        assert repr(found) == "RegularizationPath(4 strengths from 0.001 to 50)"

    def test_from_the_reference_to_the_plain_optimum(self, problem):
        found = oc.path(problem, np.geomspace(1e9, 1e-9, 10))
        uniform = problem.regularizer.reference
        distances = [oc.divergence(problem.mdp, result, uniform) for result in found]
        assert (np.diff(distances) > -1e-9).all()
        assert distances[0] < 1e-12
        assert found[-1].expected["reward"] == pytest.approx(oc.solve(problem.mdp).objective, abs=1e-7)

    def test_rows(self, problem):
        rows = oc.path(problem, [1.0, 0.1]).records()
        assert [row["strength"] for row in rows] == [1.0, 0.1]
        for row in rows:
            assert row["penalty"] == pytest.approx(row["reward"] - row["objective"])
            assert row["status"] == "CERTIFIED"
            assert {"wear", "gap", "iterations", "seconds"} <= set(row)
        assert list(oc.path(problem, [1.0]).to_frame()["strength"]) == [1.0]

    @pytest.mark.parametrize("term", [oc.PolicyEntropy, oc.StateEntropy])
    def test_other_regularizers(self, term):
        problem = oc.Problem(oc.instances.get("machine-repair"), regularizer=term(1.0))
        found = oc.path(problem, [0.5, 5.0], tol=1e-6)
        assert [result.status for result in found] == [oc.Status.CERTIFIED] * 2

    def test_a_start_that_does_not_help_is_left(self, problem):
        found = oc.path(problem, [1e4, 1e-4], solver=Stubborn())
        assert found[1].objective == pytest.approx(oc.solve(problem.mdp).objective, abs=1e-2)

    def test_wrong_questions(self, problem):
        with pytest.raises(oc.InvalidProblem, match="none"):
            oc.path(oc.Problem(problem.mdp), [1.0])
        with pytest.raises(oc.InvalidProblem, match="at least one"):
            oc.path(problem, [])
        with pytest.raises(oc.InvalidProblem, match="positive"):
            oc.path(problem, [1.0, 0.0])


@dataclasses.dataclass(frozen=True)
class Stubborn(oc.KLDual):
    """A method that any start leads astray."""

    def iterate(self, problem, *, tol, rng, start=None):
        if start is not None:
            raise ArithmeticError("led astray")
        yield from super().iterate(problem, tol=tol, rng=rng)


@pytest.mark.parametrize(("first", "then"), [("Front", "pareto"), ("Mixture", "mixture"), ("path", "pareto")])
def test_functions_named_as_their_modules_stay_functions(first, then):
    code = f"import occlp as oc; oc.{first}; import occlp.{then}; assert callable(oc.{then}), oc.{then}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fronts_and_curves_of_totals():
    """Two ways to the goal: dear and gentle, or cheap and wearing; mixtures lie on the line between them."""
    mdp = oc.MDP.from_arrays(
        [[[0, 1], [0.5, 0.5]], [[0, 1], [0, 1]]], [[4, 1], [0, 0]], costs={"wear": [[0, 1], [0, 0]]}, initial=[1, 0]
    )
    problem = oc.Problem(mdp, "minimize", criterion="total", goal=1)
    front = oc.pareto(problem, minimize=["reward", "wear"])
    assert front.points == pytest.approx(np.array([[2.0, 2.0], [4.0, 0.0]]))
    limited = oc.Problem(
        mdp, "minimize", criterion="total", goal=1, constraints={"wear": oc.expected_total("wear") <= 0.5}
    )
    curve = oc.limit_curve(limited, "wear")
    assert curve.bounds == pytest.approx([0.0, 2.0])
    assert curve(0.5) == pytest.approx(oc.solve(limited).objective)
    assert curve.prices == pytest.approx([oc.solve(limited).multipliers["wear"]], rel=1e-8)


@pytest.mark.parametrize(
    ("earned", "error", "words"),
    [(1, oc.Unbounded, "earns for ever"), (0, oc.Unsupported, "another objective is paid without end")],
)
def test_fronts_of_totals_that_never_end(earned, error, words):
    """State 0 may be kept for ever, at a wear of 1 a step; what that earns decides what is wrong."""
    mdp = oc.MDP.from_arrays(
        [[[1, 0], [0, 1]], [[0, 1], [0, 1]]], [[earned, -1], [0, 0]], costs={"wear": [[1, 0], [0, 0]]}, initial=0
    )
    with pytest.raises(error, match=words):
        oc.pareto(oc.Problem(mdp, criterion="total"), ["reward"], ["wear"])


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)), min_size=1, max_size=12), st.integers(0, 99))
def test_the_chain_of_points_is_their_hull(points, seed):
    """Whatever the points, in any order: exact hulls; and rounding errors in a coordinate add no vertex."""
    truth = [(float(x), float(y)) for x, y in hull([(Fraction(x), Fraction(y)) for x, y in points])]
    noise = np.random.default_rng(seed).uniform(-2e-13, 2e-13, (len(points), 2))
    for table in (np.array(points, dtype=float), np.array(points) + noise):
        assert [tuple(table[n].round(6)) for n in chain(table)] == truth

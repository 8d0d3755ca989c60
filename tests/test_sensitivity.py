"""What moves the optimum: against looking at every policy, and against finite differences."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from helpers import two_classes
from hypothesis import assume, given
from hypothesis import strategies as st
from polytope import best_mixture, random_model, vertices
from scipy import sparse
from strategies import sketches

import occlp as oc
from occlp.chains.moves import Moves

SENSES = ("maximize", "minimize")


def sign_of(sense):
    return 1.0 if sense == "maximize" else -1.0


def analysed(problem, **options):
    return oc.sensitivity(problem, oc.solve(problem, tol=1e-11), **options)


def optimum(problem):
    return oc.solve(problem, tol=1e-11).objective


def limit(expression, relation, bound):
    return {"<=": expression <= bound, ">=": expression >= bound, "==": expression == bound}[relation]


@st.composite
def plain(draw):
    mdp = draw(sketches(max_states=4, discounts=(Fraction(1, 2), Fraction(9, 10)))).mdp()
    assume(np.prod(np.diff(mdp.pair_start)) <= 81)
    return oc.Problem(mdp, sense=draw(st.sampled_from(SENSES)))


def true_range(points, rewards, own, pair):
    """Interval of one reward of a maximisation in which `own` stays the best of the points."""
    loss, change = (own - points) @ rewards, points[:, pair] - own[pair]
    up, down = change > 1e-11, change < -1e-11
    rise = max(0.0, float((loss[up] / change[up]).min(initial=np.inf)))
    fall = max(0.0, float((loss[down] / -change[down]).min(initial=np.inf)))
    return rewards[pair] - fall, rewards[pair] + rise


class TestRewardRanges:
    @given(plain())
    def test_against_all_policies(self, problem):
        mdp, sign = problem.mdp, sign_of(problem.sense)
        points = vertices(mdp)
        analysis = analysed(problem)
        size = max(1.0, float(np.abs(mdp.pair_rewards).max()))
        for pair, found in enumerate(analysis.reward_ranges().values()):
            ends = true_range(points, sign * mdp.pair_rewards, analysis.result.pair_occupancy, pair)
            truth = sorted(sign * end for end in ends)
            assert found == pytest.approx(truth, abs=1e-7 * size), mdp.pairs.describe(pair)

    @pytest.mark.parametrize("sense", SENSES)
    def test_just_inside_and_just_outside(self, sense):
        mdp = random_model(1)
        problem = oc.Problem(mdp, sense=sense)
        analysis = analysed(problem)
        own = analysis.result.policy.actions
        ends = 0
        for (state, action), interval in analysis.reward_ranges().items():
            pair = mdp.pairs.pair(state, action)
            for end, outwards in zip(interval, (-1.0, 1.0), strict=True):
                if not np.isfinite(end):
                    continue
                ends += 1
                for step, same in ((-1e-6, True), (1e-6, False)):
                    rewards = mdp.pair_rewards.copy()
                    rewards[pair] = end + outwards * step
                    again = oc.solve(oc.Problem(mdp.replace(rewards=rewards), sense=sense))
                    assert (again.policy.actions == own) is same
        assert ends >= mdp.n_pairs

    def test_on_average(self):
        mdp = random_model(3, discount=None)
        problem = oc.Problem(mdp, criterion="average")
        points, analysis = vertices(mdp), analysed(problem)
        for pair, found in enumerate(analysis.reward_ranges().values()):
            truth = true_range(points, mdp.pair_rewards, analysis.result.pair_occupancy, pair)
            assert found == pytest.approx(truth, abs=1e-7)

    def test_a_randomised_optimum_has_no_room_on_a_tie(self):
        mdp = oc.MDP.from_arrays([[[1.0], [1.0], [1.0]]], [[2, 2, 1]], discount=0.9)
        result = oc.solve(mdp, start=oc.Policy.from_table(mdp, [[0.5, 0.5, 0]]))
        assert result.policy[0, 0] == 0.5
        analysis = oc.sensitivity(mdp, result)
        assert analysis.reward_range(0, 0) == pytest.approx((2, 2), abs=1e-12)
        assert analysis.reward_range(0, 2) == pytest.approx((-np.inf, 2), abs=1e-12)

    def test_requested_pairs_only(self):
        mdp = oc.instances.get("machine-repair")
        analysis = analysed(mdp)
        found = analysis.reward_ranges([("worn", "repair")])
        assert found == {("worn", "repair"): analysis.reward_range("worn", "repair")}
        assert found["worn", "repair"][1] == pytest.approx(-8 - analysis.result.advantages[1, 1])

    def test_a_large_model(self):
        """One pair of 2,000 states, without anything of that size squared."""
        mdp = oc.instances.get("garnet", n_states=2_000, n_actions=3, seed=0, discount=0.95)
        analysis = analysed(mdp)
        state = int(np.argmax(analysis.result.visited))
        action = analysis.result.policy.actions[state]
        low, high = analysis.reward_range(state, action)
        own = mdp.pair_rewards[mdp.pairs.pair(state, action)]
        assert low < own
        assert own <= high

    @pytest.mark.parametrize("rest", ["1e-3", "1e-9", "1e-12"])
    def test_near_one_with_several_classes(self, rest):
        """A class of gain 1/2 is chosen once, for ever, over one of 1/3: a bribe takes their difference over 1 − γ."""
        mdp = two_classes(rest)
        points, analysis = vertices(mdp), analysed(mdp)
        ahead = float(np.abs(np.diff(points[:2] @ mdp.pair_rewards)[0])) if rest == "1e-3" else 1 / 6
        for action in (0, 1):
            ends = [end for end in analysis.reward_range(0, action) if np.isfinite(end)]
            assert [abs(end) * float(rest) for end in ends] == pytest.approx([ahead], rel=1e-3)

    def test_an_almost_optimal_policy_is_not_ranged(self):
        mdp = oc.instances.get("machine-repair")
        nearly = oc.Policy.from_table(mdp, [[1 - 1e-10, 1e-10], [1, 0], [0, 1]])

        class Given(oc.PolicyIteration):
            def iterate(self, problem, **options):
                yield oc.Iterate(nearly, oc.solve(problem).certificate.values)

        result = oc.solve(mdp, Given())
        analysis = oc.sensitivity(mdp, result)
        with pytest.raises(oc.InvalidProblem, match="answer of an exact method"):
            analysis.reward_range("new", "run")
        assert analysed(mdp).reward_range("new", "run")[0] < 10

    def test_mistakes(self):
        mdp = oc.instances.get("hillier-lieberman-machine")
        analysis = analysed(oc.Problem(mdp, sense="minimize"))
        with pytest.raises(oc.InvalidProblem, match="not admissible"):
            analysis.reward_range("as new", "overhaul")
        with pytest.raises(oc.InvalidProblem, match="no state"):
            analysis.reward_range("old", "overhaul")
        machine = oc.instances.get("machine-repair")
        constrained = analysed(oc.Problem(machine, constraints=[oc.expected("wear") <= 0.2]))
        with pytest.raises(oc.Unsupported, match="plain questions"):
            constrained.reward_range("new", "run")


class TestActions:
    def test_gaps_are_those_of_the_advantages(self):
        for sense in SENSES:
            mdp = random_model(2)
            analysis = analysed(oc.Problem(mdp, sense=sense))
            advantages = np.sort(-sign_of(sense) * analysis.result.advantages, axis=1)
            assert analysis.action_gaps == pytest.approx(advantages[:, 1], abs=1e-10)
            assert all(len(actions) == 1 for actions in analysis.optimal_actions.values())

    def test_ties_and_single_actions(self):
        mdp = oc.MDP.from_pairs(
            [0, 0, 0, 1], [0, 1, 2, 0], [[0, 1]] * 3 + [[1, 0]], [1, 1, 0, 0], discount=0.5,
            states=["here", "there"], actions=["a", "b", "c"],
        )  # fmt: skip
        analysis = analysed(mdp)
        assert analysis.action_gaps.tolist() == [0.0, np.inf]
        assert analysis.optimal_actions == {"here": ["a", "b"], "there": ["a"]}
        assert not analysis.unique
        assert "in state 'here'" in analysis.why_not_unique

    def test_the_tolerance(self):
        mdp = oc.MDP.from_arrays([[[1.0], [1.0]]], [[1, 1 - 1e-7]], discount=0.5)
        assert analysed(mdp).optimal_actions == {0: [0]}
        assert analysed(mdp, tol=1.1).optimal_actions == {0: [0, 1]}

    def test_states_that_are_not_visited_count(self):
        mdp = oc.instances.get("machine-repair").replace(initial="broken")
        idle = oc.Policy.deterministic(mdp, {"new": "repair", "worn": "run", "broken": "repair"})
        flat = mdp.replace(rewards=[[10, 99], [8, -8], [0, -10]])
        result = oc.solve(flat, start=idle)
        assert (
            oc.sensitivity(flat, result).optimal_actions["worn"]
            == oc.sensitivity(flat, oc.solve(flat)).optimal_actions["worn"]
        )


class TestUniqueness:
    @given(plain())
    def test_against_all_policies(self, problem):
        mdp, sign = problem.mdp, sign_of(problem.sense)
        points = vertices(mdp)
        earned = sign * points @ mdp.pair_rewards
        best = points[earned > earned.max() - 1e-9 * float(np.ptp(mdp.pair_rewards)) - 1e-13]
        analysis = analysed(problem)
        assert analysis.unique is bool(np.ptp(best, axis=0).max() <= 1e-9)
        assert (analysis.why_not_unique == "") is analysis.unique

    def test_a_tie_where_nobody_goes_does_not_matter(self):
        mdp = oc.MDP.from_pairs([0, 1, 1], [0, 0, 1], [[1, 0], [1, 0], [1, 0]], [1, 0, 0], discount=0.9, initial=[1, 0])
        analysis = analysed(mdp)
        assert analysis.unique
        assert analysis.optimal_actions[1] == [0, 1]

    def test_a_constraint_can_settle_it(self):
        """Two equally good actions, of which only one mixture keeps both limits."""
        mdp = oc.MDP.from_arrays([[[1.0], [1.0]]], [[1, 1]], discount=0.5, costs={"wear": [[1, 0]]})
        assert not analysed(mdp).unique
        assert not analysed(oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.5])).unique
        assert analysed(oc.Problem(mdp, constraints=[oc.expected("wear") == 0.5])).unique
        assert analysed(oc.Problem(mdp, constraints=[oc.expected("wear") <= 0])).unique

    def test_a_randomised_vertex_is_unique(self):
        machine = oc.instances.get("machine-repair")
        analysis = analysed(oc.Problem(machine, constraints=[oc.expected("wear") <= 0.2]))
        assert analysis.result.policy.randomizing.any()
        assert analysis.unique


class TestDerivatives:
    """Against central differences of the optimum, away from degeneracy."""

    @staticmethod
    def asker(mdp, sense, constrained, criterion="discounted"):
        """A function from models near this one to a question, whose limits bind."""
        limits = []
        if constrained:
            points = vertices(mdp)
            free = points[np.argmax(sign_of(sense) * points @ mdp.pair_rewards)]
            frugal = points[np.argmin(points @ mdp.pair_costs["wear"])]
            middle = (0.6 * free + 0.4 * frugal) @ np.stack(list(mdp.pair_costs.values()), axis=1)
            bounds = dict(zip(mdp.pair_costs, middle.tolist(), strict=True))
            limits = [oc.expected("wear") <= bounds["wear"], oc.expected("fuel") <= bounds["fuel"]]
        return lambda near: oc.Problem(near, sense=sense, criterion=criterion, constraints=limits)

    @pytest.mark.parametrize("constrained", [False, True])
    @pytest.mark.parametrize("sense", SENSES)
    def test_in_the_initial_distribution(self, sense, constrained):
        mdp, step = random_model(21), 1e-6
        ask = self.asker(mdp, sense, constrained)
        analysis = analysed(ask(mdp))
        assert any(analysis.result.multipliers.values()) is constrained
        assert mdp.initial @ analysis.initial == pytest.approx(0.0, abs=1e-12)
        for state in range(5):
            towards = (np.arange(5) == state) - mdp.initial
            up, down = (optimum(ask(mdp.replace(initial=mdp.initial + h * towards))) for h in (step, -step))
            assert analysis.initial[state] == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-7)

    @pytest.mark.parametrize("constrained", [False, True])
    @pytest.mark.parametrize("sense", SENSES)
    def test_in_the_discount(self, sense, constrained):
        mdp, step = random_model(22), 1e-6
        ask = self.asker(mdp, sense, constrained)
        analysis = analysed(ask(mdp))
        up, down = (optimum(ask(mdp.replace(discount=0.9 + h))) for h in (step, -step))
        assert analysis.discount == pytest.approx((up - down) / (2 * step), rel=1e-5)

    @pytest.mark.parametrize("seed", [23, 24, 25])
    def test_in_the_discount_with_a_limit_on_the_return_scale(self, seed):
        mdp, step = random_model(seed), 1e-6
        free = oc.solve(mdp).expected_total["fuel"]
        least = 10 * float((vertices(mdp) @ mdp.pair_costs["fuel"]).min())

        def problem(gamma):
            limits = [oc.expected_total("fuel") - oc.visits(states=2) / 5 <= 0.5 * (free + least)]
            return oc.Problem(mdp.replace(discount=gamma), constraints=limits)

        analysis = analysed(problem(0.9))
        up, down = (optimum(problem(0.9 + h)) for h in (step, -step))
        assert analysis.discount == pytest.approx((up - down) / (2 * step), rel=1e-5)

    @pytest.mark.parametrize("criterion", ["discounted", "average"])
    @pytest.mark.parametrize("constrained", [False, True])
    @pytest.mark.parametrize("sense", SENSES)
    def test_in_the_transitions(self, sense, constrained, criterion):
        mdp, step = random_model(26, **({} if criterion == "discounted" else {"discount": None})), 1e-6
        ask = self.asker(mdp, sense, constrained, criterion)
        analysis = analysed(ask(mdp))
        rng = np.random.default_rng(0)
        towards = rng.dirichlet(np.ones(5), size=mdp.n_pairs) - mdp.transitions.toarray()

        def moved(h, direction):
            rows = mdp.transitions.toarray() + h * direction
            changed = oc.MDP.from_arrays(
                rows.reshape(5, 3, 5), mdp.rewards, discount=mdp.discount, initial=mdp.initial, costs=dict(mdp.costs)
            )
            return optimum(ask(changed))

        slope = (moved(step, towards) - moved(-step, towards)) / (2 * step)
        assert analysis.transitions(towards) == pytest.approx(slope, rel=1e-5, abs=1e-8)
        assert analysis.transitions(sparse.csr_array(towards)) == pytest.approx(analysis.transitions(towards))
        state, action = 1, int(analysis.result.policy.choice[1] - mdp.pair_start[1])
        pair = mdp.pairs.pair(state, action)
        for target in (0, 4):
            single = np.zeros((mdp.n_pairs, 5))
            single[pair, target], single[pair, state] = 1.0, -1.0
            slope = (moved(step, single) - moved(-step, single)) / (2 * step)
            assert analysis.transition(state, action)[target] == pytest.approx(slope, rel=1e-5, abs=1e-8)
        assert analysis.transition(state, action)[state] == 0

    def test_on_average_the_start_does_not_matter(self):
        analysis = analysed(oc.Problem(random_model(3, discount=None), criterion="average"))
        assert (analysis.initial == 0).all()
        assert np.isnan(analysis.discount)

    def test_offsets_and_scales_of_the_reward(self):
        mdp = random_model(5)
        plain = analysed(mdp)
        moved = analysed(mdp.replace(rewards=1e6 * mdp.pair_rewards + 1e9))
        assert moved.initial == pytest.approx(1e6 * plain.initial, rel=1e-6, abs=1e-4)
        assert moved.discount == pytest.approx(1e6 * plain.discount, rel=1e-6)
        assert moved.action_gaps == pytest.approx(1e6 * plain.action_gaps, rel=1e-6)

    def test_near_one(self):
        """Nothing is lost to 1/(1 − γ): the derivatives tend to those of γ = 1."""
        values = [analysed(oc.instances.get("machine-repair", discount=g)) for g in ("0.9999", "0.9999999999")]
        direction = np.zeros((6, 3))
        direction[2, 1], direction[2, 2] = 1.0, -1.0  # run when worn: stay worn rather than break
        assert values[0].transitions(direction) == pytest.approx(values[1].transitions(direction), rel=1e-3)
        assert values[0].discount == pytest.approx(values[1].discount, rel=1e-3)

    def test_a_direction_has_rows_that_sum_to_zero(self):
        mdp = oc.instances.get("machine-repair")
        analysis = analysed(mdp)
        with pytest.raises(oc.InvalidProblem, match="sums to 1"):
            analysis.transitions(np.eye(6, 3))
        with pytest.raises(oc.InvalidProblem, match=r"\[pairs, S\] = \[6, 3\]"):
            analysis.transitions(np.zeros((3, 3)))


class TestBounds:
    """One-sided derivatives in the bound of a constraint."""

    @pytest.mark.parametrize("relation", ["<=", ">=", "=="])
    @pytest.mark.parametrize("sense", SENSES)
    def test_at_a_vertex_and_between(self, sense, relation):
        """The optimum as a function of the bound is piecewise linear; its corners are policies."""
        mdp = random_model(8)
        points, cost = vertices(mdp), mdp.pair_costs["wear"]
        degenerate = 0
        for level in np.quantile(points @ cost, [0.05, 0.3, 0.6, 0.95]):
            for bound in (float(level), self.corner(mdp, points, sense, float(level))):
                problem = oc.Problem(mdp, sense=sense, constraints=[limit(oc.expected("wear"), relation, bound)])
                result = oc.solve(problem, tol=1e-11)
                found, step = oc.sensitivity(problem, result).bounds["wear"], 1e-5

                def truth(b):
                    return sign_of(sense) * best_mixture(
                        points, sign_of(sense) * mdp.pair_rewards, [(cost, relation, b)]
                    )

                assert found.left == pytest.approx((truth(bound) - truth(bound - step)) / step, rel=1e-3, abs=1e-4)
                assert found.right == pytest.approx((truth(bound + step) - truth(bound)) / step, rel=1e-3, abs=1e-4)
                inside = sorted((found.left, found.right))
                assert inside[0] - 1e-7 <= result.sensitivity["wear"] <= inside[1] + 1e-7
                degenerate += abs(found.left - found.right) > 1e-6
        assert degenerate >= (3 if relation == "==" else 1)

    @staticmethod
    def corner(mdp, points, sense, level):
        """The cost of the unconstrained optimum at the price that the limit has at a level: a breakpoint."""
        problem = oc.Problem(mdp, sense=sense, constraints=[oc.expected("wear") == level])
        price = oc.solve(problem).sensitivity["wear"]
        scores = sign_of(sense) * (points @ (mdp.pair_rewards - price * mdp.pair_costs["wear"]))
        return float(points[np.argmax(scores)] @ mdp.pair_costs["wear"])

    @pytest.mark.parametrize("sense", SENSES)
    def test_infinite_where_nothing_is_left(self, sense):
        machine = oc.instances.get("machine-repair")
        found = analysed(oc.Problem(machine, sense=sense, constraints=[oc.expected("wear") <= 0])).bounds["wear"]
        assert found.left == sign_of(sense) * np.inf
        assert np.isfinite(found.right)
        found = analysed(oc.Problem(machine, sense=sense, constraints=[oc.expected("wear") >= 0])).bounds["wear"]
        assert np.isfinite(found.left)
        assert np.isfinite(found.right)

    def test_an_equality_at_the_end_of_its_range(self):
        machine = oc.instances.get("machine-repair")
        found = analysed(oc.Problem(machine, constraints=[oc.expected("wear") == 0])).bounds["wear"]
        assert found.left == np.inf
        assert np.isfinite(found.right)

    def test_several_constraints_and_duplicates(self):
        machine = oc.instances.get("machine-repair")
        twice = {"one": oc.expected("wear") <= 0.2, "two": oc.expected("wear") <= 0.2}
        single = analysed(oc.Problem(machine, constraints=[oc.expected("wear") <= 0.2])).bounds["wear"]
        both = analysed(oc.Problem(machine, constraints=twice)).bounds
        for found in both.values():  # raising one of two equal bounds helps nothing; lowering it hurts fully
            assert found.right == pytest.approx(0.0, abs=1e-8)
            assert found.left == pytest.approx(single.left, rel=1e-7)

    def test_without_constraints_there_are_none(self):
        assert analysed(random_model(0)).bounds == {}


class TestWhatItAsksFor:
    def test_the_answer_to_another_question(self):
        mdp = random_model(0)
        with pytest.raises(oc.InvalidProblem, match="another question"):
            oc.sensitivity(oc.Problem(mdp, sense="minimize"), oc.solve(mdp))

    def test_a_certified_answer(self):
        mdp = random_model(0)
        early = oc.solve(mdp, oc.NaturalPolicyGradient(), limit=oc.Limit(iterations=1))
        with pytest.raises(oc.InvalidProblem, match="needs an optimal policy; the result is LIMIT"):
            oc.sensitivity(mdp, early)

    def test_a_linear_question(self):
        mdp = random_model(0)
        problem = oc.Problem(mdp, regularizer=oc.KL(strength=1.0, reference=oc.Policy.uniform(mdp)))
        with pytest.raises(oc.Unsupported, match="linear questions"):
            oc.sensitivity(problem, oc.solve(problem))


def test_large_models_share_one_factorisation(monkeypatch):
    """All ranges of a policy come from one factorisation of its chain."""
    made = []
    original = Moves._most_trustworthy
    monkeypatch.setattr(Moves, "_most_trustworthy", lambda self: (made.append(1), original(self))[1])
    analysis = analysed(random_model(0, n_states=8))
    made.clear()
    analysis.reward_ranges()
    assert len(made) == 1

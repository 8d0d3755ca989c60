"""Linear constraints: how they are written, what they cost, and what is proved where they cannot be kept."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from helpers import permuted
from hypothesis import assume, given
from hypothesis import strategies as st
from polytope import best_mixture, random_model, vertices
from strategies import sketches

import occlp as oc

RELATIONS = ("<=", ">=", "==")
SENSES = ("maximize", "minimize")


def limit(expression, relation, bound):
    return {"<=": expression <= bound, ">=": expression >= bound, "==": expression == bound}[relation]


def sign_of(sense):
    return 1.0 if sense == "maximize" else -1.0


@pytest.fixture(scope="module")
def machine():
    return oc.instances.get("machine-repair")


class TestExpressions:
    def test_what_is_no_number_is_no_part_of_an_expression(self):
        wear = oc.expected("wear")
        for nonsense in (
            lambda: wear - 1,
            lambda: wear + "1",
            lambda: wear / True,
            lambda: wear * [],
        ):
            with pytest.raises(TypeError, match=r"unsupported operand|can't multiply"):
                nonsense()
        for divisor in (0, float("nan"), float("inf")):
            with pytest.raises(oc.InvalidProblem, match="cannot be divided by"):
                wear / divisor

    @pytest.mark.parametrize(
        ("expression", "text"),
        [
            (lambda e, f: e + f, "expected('wear') + expected('fuel')"),
            (lambda e, f: e - 2 * f, "expected('wear') - 2*expected('fuel')"),
            (lambda e, f: e * 0.5 - f / 4, "0.5*expected('wear') - 0.25*expected('fuel')"),
            (lambda e, f: -e + np.float64(3) * f, "- expected('wear') + 3*expected('fuel')"),
            (lambda e, f: np.int64(2) * (e + f), "2*expected('wear') + 2*expected('fuel')"),
        ],
    )
    def test_algebra(self, expression, text):
        mdp = random_model(0)
        made = expression(oc.expected("wear"), oc.expected("fuel"))
        assert str(made) == text
        wear, fuel = mdp.pair_costs["wear"], mdp.pair_costs["fuel"]
        assert made.coefficients(mdp, 0.1) == pytest.approx(expression(wear, fuel), abs=1e-15)

    def test_arrays_totals_and_visits(self):
        mdp = random_model(1)
        table = np.arange(15.0).reshape(5, 3)
        assert oc.expected(table).coefficients(mdp, 0.1) == pytest.approx(table.ravel())
        assert oc.expected_total("wear").coefficients(mdp, 0.1) == pytest.approx(mdp.pair_costs["wear"] / 0.1)
        assert oc.expected("reward").coefficients(mdp, 0.1) == pytest.approx(mdp.pair_rewards)
        seen = oc.visits(states=[0, 2], actions=1).coefficients(mdp, 0.1)
        assert np.flatnonzero(seen).tolist() == [1, 7]
        assert seen[1] == pytest.approx(10.0)
        both = oc.expected("fuel") + oc.expected_total("wear") + oc.visits(states=3)
        assert both.total_part(mdp) == pytest.approx(mdp.pair_costs["wear"] + (mdp.pairs.states == 3))

    def test_numbers_on_the_left_turn_the_relation(self):
        assert (0.1 >= oc.expected("wear")).relation == "<="  # noqa: SIM300
        assert (np.float64(0.1) <= oc.expected("wear")).relation == ">="
        assert (np.float64(0.1) == oc.expected("wear")).relation == "=="

    def test_labels_in_visits(self, machine):
        worn = oc.visits(states="worn").coefficients(machine, 0.05)
        assert (worn > 0).tolist() == [False, False, True, True, False, False]
        both = oc.visits(states=["new", "worn"], actions=["run"]).coefficients(machine, 0.05)
        assert (both > 0).tolist() == [True, False, True, False, False, False]

    def test_entries_of_pairs_that_do_not_exist_are_ignored(self):
        mdp = oc.instances.get("hillier-lieberman-machine")
        table = np.where(np.isnan(mdp.rewards), np.nan, 1.0)
        assert (oc.expected(table).coefficients(mdp, 0.1) == 1).all()

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda e: 0.1 <= e <= 0.3, "cannot be chained"),
            (lambda e: bool(e <= 0.3), "no truth value"),
            (lambda e: bool(e), "no truth value"),
            (lambda e: e <= e, "move|a - b <= 0"),
            (lambda e: e <= True, "not a number"),
            (lambda e: e <= "much", "not a number"),
            (lambda e: e >= float("inf"), "not finite"),
            (lambda e: e == float("nan"), "not finite"),
            (lambda e: e * float("nan"), "multiplied by nan"),
            (lambda e: oc.expected([1.0, 2.0]), r"\[S, A\] array"),
            (lambda e: oc.visits(), "states=, actions="),
        ],
    )
    def test_mistakes_are_named_at_once(self, make, message):
        with pytest.raises(oc.InvalidProblem, match=message):
            make(oc.expected("wear"))

    @pytest.mark.parametrize("make", [lambda e: e + 1, lambda e: e * e, lambda e: np.array([1.0, 2.0]) * e])
    def test_what_is_not_linear_is_a_type_error(self, make):
        with pytest.raises(TypeError):
            make(oc.expected("wear"))

    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            (lambda: oc.expected("weer"), "no cost 'weer'. It has 'reward', 'wear'"),
            (lambda: oc.expected(np.ones((2, 2))), r"\[S, A\] = \[3, 2\], not \[2, 2\]"),
            (lambda: oc.expected(np.full((3, 2), np.nan)), "holds nan at state 'new', action 'run'"),
            (lambda: oc.visits(states="old"), "no state 'old'"),
            (lambda: oc.visits(actions=["run", "scrap"]), "no action 'scrap'"),
        ],
    )
    def test_mistakes_that_need_the_model(self, machine, expression, message):
        with pytest.raises(oc.InvalidProblem, match=message):
            oc.Problem(machine, constraints=[expression() <= 1])

    def test_totals_are_infinite_on_average(self, machine):
        average = machine.replace(discount=None)
        for expression in (oc.expected_total("wear"), oc.visits(states="worn")):
            with pytest.raises(oc.InvalidProblem, match="infinite under the average criterion"):
                oc.Problem(average, criterion="average", constraints=[expression <= 1])


class TestNames:
    def names(self, constraints):
        return list(oc.Problem(random_model(0), constraints=constraints).limits)

    def test_a_dict_names_them(self):
        assert self.names({"budget": oc.expected("wear") <= 1, 2: oc.expected("fuel") <= 1}) == ["budget", "2"]

    def test_a_list_takes_the_names_of_costs(self):
        assert self.names([oc.expected("wear") <= 1, oc.expected_total("fuel") >= 1]) == ["wear", "fuel"]

    def test_or_the_text(self):
        named = self.names([oc.expected("wear") - oc.expected("fuel") <= 0, 2 * oc.expected("wear") <= 1])
        assert named == ["expected('wear') - expected('fuel') <= 0", "2*expected('wear') <= 1"]

    def test_lists_may_hold_lists(self):
        shares = oc.conditional([0, 1], 2) <= 0.5
        inside = ["conditional(0, 2) <= 0.5", "conditional(1, 2) <= 0.5"]
        assert self.names([oc.expected("wear") <= 1, shares]) == ["wear", *inside]
        assert self.names({"rest": shares}) == [f"rest: {name}" for name in inside]
        assert self.names({"rest": oc.conditional(0, 2) <= 0.5}) == ["rest"]

    def test_none_and_empty(self):
        assert self.names(None) == self.names([]) == self.names({}) == []

    @pytest.mark.parametrize(
        ("constraints", "message"),
        [
            ([oc.expected("wear") <= 1, oc.expected_total("wear") <= 9], "two constraints are called 'wear'"),
            ({1: oc.expected("wear") <= 1, "1": oc.expected("fuel") <= 1}, "two constraints are called '1'"),
            (oc.expected("wear") <= 1, r"write \[constraint\]"),
            (oc.expected("wear"), r"write \[constraint\]"),
            ([oc.expected("wear")], r"expected\('wear'\) is not a constraint"),
            ({"wear": 0.3}, "0.3 is not a constraint"),
            (["wear <= 0.3"], "is not a constraint"),
            ([oc.conditional(0, 1)], "is not a constraint"),
        ],
    )
    def test_what_is_not_a_set_of_constraints(self, constraints, message):
        with pytest.raises(oc.InvalidProblem, match=message):
            self.names(constraints)


@st.composite
def constrained(draw):
    """A small model, a sense, and limits on its costs that pass through or near some policy."""
    mdp = draw(sketches(max_states=4, max_costs=2, discounts=(Fraction(1, 2), Fraction(9, 10)))).mdp()
    assume(mdp.pair_costs and np.prod(np.diff(mdp.pair_start)) <= 81)
    points, sense = vertices(mdp), draw(st.sampled_from(SENSES))
    limits = {}
    for name, cost in mdp.pair_costs.items():
        first, second = (draw(st.integers(0, len(points) - 1)) for _ in range(2))
        weight, relation = draw(st.sampled_from((0.0, 0.25, 0.5, 1.0))), draw(st.sampled_from(RELATIONS))
        # A little room: whether the bound can be kept is then not a question of the last digit.
        room = {"<=": 1e-5, ">=": -1e-5, "==": 0.0}[relation] * (1.0 + float(np.abs(cost).max()))
        bound = weight * float(points[first] @ cost) + (1 - weight) * float(points[second] @ cost) + room
        limits[name] = (cost, relation, bound)
    return mdp, points, sense, limits


class TestTheOptimum:
    @given(constrained())
    def test_it_is_that_of_the_program_over_all_policies(self, question):
        mdp, points, sense, limits = question
        constraints = {name: limit(oc.expected(name), relation, b) for name, (_, relation, b) in limits.items()}
        problem = oc.Problem(mdp, sense=sense, constraints=constraints)
        truth = best_mixture(points, sign_of(sense) * mdp.pair_rewards, limits.values())
        result = oc.solve(problem, check=False)
        if result.status is oc.Status.INFEASIBLE:
            assert oc.verify(problem, result)
            assert truth is None or "==" in {relation for _, relation, _ in limits.values()}
            return
        assert result.status is oc.Status.CERTIFIED
        assert truth is not None
        assert sign_of(sense) * result.objective == pytest.approx(truth, rel=1e-7, abs=1e-8)
        assert result.certificate.lower <= sign_of(sense) * truth + 1e-9
        assert result.certificate.upper >= sign_of(sense) * truth - 1e-9
        assert oc.verify(problem, result)
        for name, (cost, _, _) in limits.items():
            assert result.expected[name] == pytest.approx(float(result.pair_occupancy @ cost), abs=1e-12)

    @pytest.mark.parametrize("relation", RELATIONS)
    @pytest.mark.parametrize("sense", SENSES)
    def test_two_solvers_agree(self, sense, relation):
        mdp = random_model(3)
        points = vertices(mdp)
        bounds = {name: float(np.median(points @ cost)) for name, cost in mdp.pair_costs.items()}
        constraints = [limit(oc.expected(name), relation, bound) for name, bound in bounds.items()]
        problem = oc.Problem(mdp, sense=sense, constraints=constraints)
        exact, program = oc.solve(problem), oc.solve(problem, oc.OccupancyProgram(backend="CLARABEL"))
        assert exact.objective == pytest.approx(program.objective, abs=1e-9)
        assert exact.status is program.status is oc.Status.CERTIFIED


class TestPrices:
    """multipliers and sensitivity against central differences, in every case of sense and relation."""

    STEP = 1e-5

    def bounds(self, mdp, expression, sense, relation):
        """A bound that binds: between what the plain optimum has and what the limit pushes it to."""
        free = float(oc.solve(oc.Problem(mdp, sense=sense)).pair_occupancy @ expression.coefficients(mdp, 0.1))
        reach = vertices(mdp) @ expression.coefficients(mdp, 0.1)
        end = {"<=": reach.min(), ">=": reach.max(), "==": reach.min()}[relation]
        return 0.6 * free + 0.4 * float(end)

    @pytest.mark.parametrize(
        "expression",
        [
            lambda: oc.expected("wear"),
            lambda: oc.expected_total("wear") - 0.3 * oc.expected_total("fuel"),
            lambda: oc.visits(states=[0, 1]),
        ],
        ids=["expected", "total", "visits"],
    )
    @pytest.mark.parametrize("relation", RELATIONS)
    @pytest.mark.parametrize("sense", SENSES)
    def test_differences(self, sense, relation, expression):
        mdp, what = random_model(7), expression()
        bound = self.bounds(mdp, what, sense, relation)

        def solved(b):
            return oc.solve(oc.Problem(mdp, sense=sense, constraints={"limit": limit(what, relation, b)}), tol=1e-11)

        result = solved(bound)
        slope = (solved(bound + self.STEP).objective - solved(bound - self.STEP).objective) / (2 * self.STEP)
        assert abs(slope) > 1e-3, "the limit has to bind"
        assert result.sensitivity["limit"] == pytest.approx(slope, rel=1e-5)
        assert abs(result.multipliers["limit"]) == pytest.approx(abs(slope), rel=1e-5)
        if relation != "==":
            assert result.multipliers["limit"] > 0
            relaxed = 1.0 if relation == "<=" else -1.0
            assert result.sensitivity["limit"] * relaxed * sign_of(sense) > 0

    @pytest.mark.parametrize("sense", SENSES)
    def test_of_several_at_once(self, sense):
        mdp = random_model(11)
        names = ("wear", "fuel")
        free = oc.solve(oc.Problem(mdp, sense=sense)).expected
        points = vertices(mdp)
        frugal = points[np.argmin(points @ (mdp.pair_costs["wear"] + mdp.pair_costs["fuel"]))]
        bounds = {name: 0.6 * free[name] + 0.4 * float(frugal @ mdp.pair_costs[name]) for name in names}

        def solved(**changed):
            limits = [oc.expected(name) <= {**bounds, **changed}[name] for name in names]
            return oc.solve(oc.Problem(mdp, sense=sense, constraints=limits), tol=1e-11)

        result = solved()
        for name in names:
            up, down = (solved(**{name: bounds[name] + h}).objective for h in (self.STEP, -self.STEP))
            assert result.sensitivity[name] == pytest.approx((up - down) / (2 * self.STEP), rel=1e-5, abs=1e-8)

    def test_a_slack_limit_costs_nothing(self, machine):
        result = oc.solve(oc.Problem(machine, constraints=[oc.expected("wear") <= 1]))
        assert result.multipliers == result.sensitivity == {"wear": 0.0}

    def test_the_price_of_a_share_and_of_a_ratio(self, machine):
        """Per unit of the share (or ratio) itself: the multiplier times what was multiplied out."""

        def share(p):
            return oc.solve(oc.Problem(machine, constraints={"limit": oc.conditional("worn", "run") <= p}), tol=1e-11)

        result, step = share(0.4), 1e-6
        slope = (share(0.4 + step).objective - share(0.4 - step).objective) / (2 * step)
        assert result.multipliers["limit"] * result.state_occupancy[1] == pytest.approx(slope, rel=1e-5)

        runs = oc.visits(actions="run")

        def ratio(b):
            return oc.solve(oc.Problem(machine, constraints={"limit": oc.ratio("wear", runs) <= b}), tol=1e-11)

        result = ratio(0.01)
        slope = (ratio(0.01 + step).objective - ratio(0.01 - step).objective) / (2 * step)
        assert result.multipliers["limit"] * result.visits[:, 0].sum() == pytest.approx(slope, rel=1e-5)


class TestMetamorphic:
    BUDGET = 0.2

    def solved(self, mdp, constraints, **options):
        return oc.solve(oc.Problem(mdp, constraints=constraints, **options), tol=1e-11)

    def test_a_slack_budget_is_no_constraint(self, machine):
        plain, slack = oc.solve(machine), self.solved(machine, [oc.expected("wear") <= 3])
        assert slack.objective == pytest.approx(plain.objective, abs=1e-12)
        assert slack.policy.is_deterministic

    def test_relabelling(self):
        mdp = random_model(5)
        moved = permuted(mdp, [3, 0, 4, 1, 2], [2, 0, 1])
        bound = float(np.median(vertices(mdp) @ mdp.pair_costs["wear"]))
        first, second = (self.solved(model, [oc.expected("wear") <= bound]) for model in (mdp, moved))
        assert first.objective == pytest.approx(second.objective, abs=1e-11)
        assert first.multipliers["wear"] == pytest.approx(second.multipliers["wear"], rel=1e-8)
        table = np.zeros((5, 3))
        table[np.ix_([3, 0, 4, 1, 2], [2, 0, 1])] = first.occupancy
        assert table == pytest.approx(second.occupancy, abs=1e-9)

    @pytest.mark.parametrize("factor", [1e-6, 7.0, 1e6])
    def test_scaled_costs(self, machine, factor):
        scaled = machine.replace(costs={"wear": factor * machine.pair_costs["wear"]})
        first = self.solved(machine, [oc.expected("wear") <= self.BUDGET])
        second = self.solved(scaled, [oc.expected("wear") <= factor * self.BUDGET])
        assert second.objective == pytest.approx(first.objective, abs=1e-10)
        assert second.multipliers["wear"] * factor == pytest.approx(first.multipliers["wear"], rel=1e-8)

    @pytest.mark.parametrize("factor", [1e-9, 1e9])
    def test_scaled_rewards(self, machine, factor):
        scaled = machine.replace(rewards=factor * machine.pair_rewards)
        first, second = (self.solved(model, [oc.expected("wear") <= self.BUDGET]) for model in (machine, scaled))
        assert second.objective == pytest.approx(factor * first.objective, rel=1e-10)
        assert second.multipliers["wear"] == pytest.approx(factor * first.multipliers["wear"], rel=1e-8)

    def test_shifted_costs(self, machine):
        shifted = machine.replace(costs={"wear": machine.pair_costs["wear"] + 100.0})
        first = self.solved(machine, [oc.expected("wear") <= self.BUDGET])
        second = self.solved(shifted, [oc.expected("wear") <= 100.0 + self.BUDGET])
        assert second.objective == pytest.approx(first.objective, abs=1e-9)

    def test_a_duplicated_constraint(self, machine):
        once = self.solved(machine, [oc.expected("wear") <= self.BUDGET])
        twice = self.solved(
            machine, {"one": oc.expected("wear") <= self.BUDGET, "two": oc.expected("wear") <= self.BUDGET}
        )
        assert twice.objective == pytest.approx(once.objective, abs=1e-11)
        assert sum(twice.multipliers.values()) == pytest.approx(once.multipliers["wear"], rel=1e-8)

    def test_an_equality_is_two_inequalities(self, machine):
        equal = self.solved(machine, [oc.expected("wear") == self.BUDGET])
        both = self.solved(
            machine, {"up": oc.expected("wear") <= self.BUDGET, "low": oc.expected("wear") >= self.BUDGET}
        )
        assert equal.objective == pytest.approx(both.objective, abs=1e-11)
        assert sum(both.sensitivity.values()) == pytest.approx(equal.sensitivity["wear"], rel=1e-8)

    def test_an_all_zero_constraint(self, machine):
        nothing = oc.expected(np.zeros((3, 2)))
        for constraint in (nothing <= 0, nothing == 0, nothing >= 0):
            result = self.solved(machine, [constraint])
            assert result.objective == pytest.approx(oc.solve(machine).objective, abs=1e-12)
        with pytest.raises(oc.Infeasible):
            self.solved(machine, [nothing <= -1])

    @pytest.mark.parametrize("relation", ["<=", "=="])
    def test_the_least_that_is_possible_is_feasible(self, relation):
        for seed in range(5):
            mdp = random_model(seed)
            least = oc.solve(oc.Problem(mdp.replace(rewards=mdp.pair_costs["wear"]), sense="minimize"))
            result = oc.solve(oc.Problem(mdp, constraints=[limit(oc.expected("wear"), relation, least.objective)]))
            assert result.status is oc.Status.CERTIFIED
            assert result.expected["wear"] == pytest.approx(least.objective, abs=1e-12)

    def test_duplicated_actions_change_nothing(self, machine):
        rows = [k for k in range(6) for _ in range(2)]
        doubled = oc.MDP.from_pairs(
            machine.pairs.states[rows], [2 * a + n for a in (0, 1) for n in (0, 1)] * 3, machine.transitions[rows],
            machine.pair_rewards[rows], discount=0.95, initial=machine.initial,
            costs={"wear": machine.pair_costs["wear"][rows]},
        )  # fmt: skip
        first, second = (self.solved(model, [oc.expected("wear") <= self.BUDGET]) for model in (machine, doubled))
        assert first.objective == pytest.approx(second.objective, abs=1e-11)


class TestWithinTheTolerance:
    """A bound that was computed in doubles may be out of reach by its rounding, or by the digits that were printed."""

    def missed(self, machine, amount):
        """A problem whose budget is `amount` (of a range of one) below the least wear, which is not zero."""
        mdp = machine.replace(costs={"wear": [[0.2, 0.1], [1, 0], [1.1, 0.3]]})
        least = oc.solve(oc.Problem(mdp.replace(rewards=mdp.costs["wear"]), sense="minimize"))
        return oc.Problem(mdp, constraints={"wear": oc.expected("wear") <= least.objective - amount}), least

    @pytest.mark.parametrize("solver", [None, oc.OccupancyProgram(backend="HIGHS")], ids=str)
    @pytest.mark.parametrize("amount", [0.0, 1e-16, 1e-13, 1e-11, 9e-9])
    def test_a_bound_just_out_of_reach_counts_as_kept(self, machine, amount, solver):
        problem, least = self.missed(machine, amount)
        result = oc.solve(problem, solver)
        assert result.status is oc.Status.CERTIFIED
        assert amount - 1e-12 <= result.certificate.violation <= 1e-8 * 1.1
        assert result.expected["wear"] == pytest.approx(least.objective, abs=1e-8)
        assert oc.verify(problem, result)

    def test_one_further_away_does_not(self, machine):
        problem, _ = self.missed(machine, 2e-8)
        with pytest.raises(oc.Infeasible, match="'wear' by 2e-08"):
            oc.solve(problem)
        assert oc.solve(problem, tol=1e-7).status is oc.Status.CERTIFIED

    def test_nor_does_one_where_exactness_is_asked_for(self, machine):
        problem, _ = self.missed(machine, 1e-11)
        with pytest.raises(oc.Infeasible):
            oc.solve(problem, certify="exact")

    @pytest.mark.parametrize(("relation", "sign"), [("==", 1), (">=", 1), ("<=", -1)])
    def test_all_relations(self, machine, relation, sign):
        most = oc.solve(oc.Problem(machine.replace(rewards=machine.costs["wear"]))).objective
        beyond = limit(sign * oc.expected("wear"), relation, sign * (most + 1e-9))
        result = oc.solve(oc.Problem(machine, constraints={"wear": beyond}))
        assert result.expected["wear"] == pytest.approx(most, abs=1e-12)
        assert result.certificate.violation == pytest.approx(1e-9, abs=1e-12)

    def test_a_comparison_shares_the_bound(self, machine):
        problem, _ = self.missed(machine, 1e-10)
        table = oc.compare(problem, [oc.Decomposition(), oc.PrimalDualGradient(steps=50)], rng=0)
        assert table.results[0].status is oc.Status.CERTIFIED
        assert table.results[1].certificate.upper == pytest.approx(table.results[0].certificate.upper, abs=1e-7)

    def test_utilities(self):
        mdp = oc.instances.get("inventory")
        best = oc.solve(oc.Problem(mdp, utility=oc.StateEntropy()))
        problem = oc.Problem(mdp, constraints={"variety": oc.StateEntropy() >= best.objective + 1e-9})
        result = oc.solve(problem, check=False)
        assert result.status is not oc.Status.INFEASIBLE


class TestInfeasible:
    def test_it_names_a_minimal_conflict(self):
        mdp = random_model(2)
        points = vertices(mdp)
        wear, fuel = points @ mdp.pair_costs["wear"], points @ mdp.pair_costs["fuel"]
        low = best_mixture(points, -mdp.pair_costs["fuel"], [(mdp.pair_costs["wear"], "<=", float(wear.min()) + 0.01)])
        constraints = {
            "harmless": oc.expected("reward") >= float((points @ mdp.pair_rewards).min()),
            "wear": oc.expected("wear") <= float(wear.min()) + 0.01,
            "fuel": oc.expected("fuel") <= 0.5 * (float(fuel.min()) - low),
            "idle": oc.expected("fuel") <= float(fuel.max()),
        }
        assert fuel.min() < 0.5 * (float(fuel.min()) - low) < -low  # each alone can be kept
        problem = oc.Problem(mdp, constraints=constraints)
        with pytest.raises(oc.Infeasible, match=r"no policy keeps all of 'wear' .* 'fuel'") as caught:
            oc.solve(problem)
        message, result = str(caught.value), caught.value.result
        assert "'harmless'" not in message
        assert "'idle'" not in message
        assert result.status is oc.Status.INFEASIBLE
        assert result.certificate.infeasible_by > 0
        assert oc.verify(problem, result)
        soft = oc.Problem(mdp, constraints=constraints, regularizer=oc.KL(0.1, oc.Policy.uniform(mdp)))
        assert "the time was up" not in oc.solve(soft, check=False).message
        late = oc.solve(
            soft, limit=oc.Limit(seconds=0), check=False
        )  # KLDual has the proof before it looks at the clock
        assert late.status is oc.Status.INFEASIBLE
        assert "the time was up" in late.message
        assert oc.verify(soft, late)

    @pytest.mark.parametrize("relation", RELATIONS)
    def test_the_relaxation_it_names_is_enough_and_the_smallest(self, relation):
        mdp = random_model(4)
        reach = vertices(mdp) @ mdp.pair_costs["wear"]
        bound, end = {
            "<=": (reach.min() - 0.125, reach.min()), ">=": (reach.max() + 0.125, reach.max()),
            "==": (reach.max() + 0.125, reach.max()),
        }[relation]  # fmt: skip
        problem = oc.Problem(mdp, constraints=[limit(oc.expected("wear"), relation, float(bound))])
        with pytest.raises(oc.Infeasible, match=r"Enough to relax: 'wear' by 0\.125") as caught:
            oc.solve(problem)
        assert caught.value.result.expected["wear"] == pytest.approx(end, abs=1e-10)
        assert oc.verify(problem, caught.value.result)
        direction = np.sign(end - bound)
        enough = limit(oc.expected("wear"), relation, float(end + 1e-9 * direction))
        if relation != "==":
            assert oc.solve(oc.Problem(mdp, constraints=[enough])).status is oc.Status.CERTIFIED

    def test_a_forged_proof_is_found(self, machine):
        from dataclasses import replace

        problem = oc.Problem(machine, constraints=[oc.expected("wear") <= -1])
        with pytest.raises(oc.Infeasible) as caught:
            oc.solve(problem)
        result = caught.value.result
        more = replace(result.certificate, infeasible_by=2 * result.certificate.infeasible_by)
        with pytest.raises(oc.AuditFailed):
            oc.verify(problem, replace(result, certificate=more))

    def test_check_false_returns_the_closest_policy(self, machine):
        result = oc.solve(oc.Problem(machine, constraints=[oc.expected("wear") <= -1]), check=False)
        assert result.status is oc.Status.INFEASIBLE
        assert result.expected["wear"] == pytest.approx(0.0, abs=1e-12)
        assert result.certificate.violation == pytest.approx(1.0)


class TestShares:
    def test_a_share_is_kept_in_its_state(self, machine):
        problem = oc.Problem(machine, constraints=[oc.conditional(["new", "worn"], "run") <= 0.5])
        result = oc.solve(problem)
        assert result.policy["worn", "run"] <= 0.5 + 1e-9
        assert result.policy["new", "run"] == pytest.approx(0.5)
        assert oc.verify(problem, result)
        assert oc.solve(problem, oc.OccupancyProgram()).objective == pytest.approx(result.objective, abs=1e-9)

    @pytest.mark.parametrize("criterion", ["discounted", "average"])
    def test_at_least_and_exactly(self, machine, criterion):
        model = machine if criterion == "discounted" else machine.replace(discount=None)
        for constraints in ([oc.conditional("worn", "repair") >= 0.25], [oc.conditional("worn", "repair") == 0.25]):
            result = oc.solve(oc.Problem(model, criterion=criterion, constraints=constraints))
            assert result.policy["worn", "repair"] == pytest.approx(0.25, abs=1e-9)

    def test_it_is_the_optimum_of_the_restricted_policies(self):
        """One state's share fixed: the best over the share and the other states, by brute force."""
        mdp = random_model(9, n_states=3, n_actions=2)
        result = oc.solve(oc.Problem(mdp, constraints=[oc.conditional(1, 0) == 0.3]))
        best = -np.inf
        for first in (0, 1):
            for last in (0, 1):
                table = [[1 - first, first], [0.3, 0.7], [1 - last, last]]
                best = max(best, oc.evaluate(mdp, oc.Policy.from_table(mdp, table)).objective)
        assert result.objective == pytest.approx(best, abs=1e-9)

    def test_a_tuple_is_one_label(self):
        grid = oc.MDP.from_function(lambda s, a: [(1, (0, 1 - s[1]), 1.0 * a)], [(0, 0)], [0, 1], discount=0.5)
        result = oc.solve(oc.Problem(grid, constraints=[oc.conditional((0, 0), 1) <= 0.25]))
        assert result.policy[(0, 0), 1] == pytest.approx(0.25)
        with pytest.raises(oc.InvalidProblem, match=r"no state \(0, 1\)"):
            oc.Problem(random_model(0), constraints=[oc.conditional((0, 1), 1) <= 0.25])

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: oc.conditional("worn", "run") <= 1.5, r"\[0, 1\]; the bound 1.5"),
            (lambda: oc.conditional([], "run"), "at least one state"),
            (lambda: 0 <= oc.conditional("worn", "run") <= 1, "cannot be chained"),
        ],
    )
    def test_mistakes(self, make, message):
        with pytest.raises(oc.InvalidProblem, match=message):
            make()


class TestRatios:
    def test_a_ratio_is_kept(self, machine):
        runs = oc.expected(np.array([[1, 0]] * 3))
        problem = oc.Problem(machine, constraints=[oc.ratio("wear", runs) <= 0.1])
        result = oc.solve(problem)
        assert result.expected["wear"] / result.occupancy[:, 0].sum() == pytest.approx(0.1, abs=1e-9)
        assert list(result.multipliers) == ["ratio(expected('wear'), expected(array)) <= 0.1"]
        assert oc.verify(problem, result)

    def test_it_is_the_limit_multiplied_out(self, machine):
        runs = oc.visits(actions="run")
        ratio = oc.Problem(machine, constraints=[oc.ratio(oc.expected_total("wear"), runs) == 0.1])
        linear = oc.Problem(machine, constraints=[oc.expected_total("wear") - 0.1 * runs == 0])
        assert oc.solve(ratio).objective == pytest.approx(oc.solve(linear).objective, abs=1e-12)
        assert (oc.ratio("wear", runs) >= 0.1).relation == ">="

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: oc.ratio("wear", "reward") <= 1, "negative, but expected.'reward'. is -10 in state 'broken'"),
            (lambda: oc.ratio("wear", np.zeros((3, 2))) <= 1, "zero everywhere"),
            (lambda: 0 <= oc.ratio("wear", "wear") <= 1, "cannot be chained"),
            (lambda: oc.ratio("wear", "wear") <= oc.expected("wear"), "compare an expression"),
        ],
    )
    def test_mistakes(self, machine, make, message):
        with pytest.raises(oc.InvalidProblem, match=message):
            oc.Problem(machine, constraints=[make()])


class TestPublished:
    """Hillier and Lieberman's machine on average, with a bound on how often it is overhauled."""

    @pytest.mark.parametrize("solver", [None, oc.OccupancyProgram(), oc.OccupancyProgram(backend="CLARABEL")])
    @pytest.mark.parametrize(
        ("bound", "cost"),
        [
            (1, Fraction(5000, 3)),
            (Fraction(2, 21), Fraction(5000, 3)),
            (Fraction(1, 20), Fraction(18650, 11)),
            (Fraction(1, 50), Fraction(18860, 11)),
            (0, Fraction(19000, 11)),
        ],
    )
    def test_overhauls(self, bound, cost, solver):
        mdp = oc.instances.get("hillier-lieberman-machine", discount=None)
        overhauls = np.zeros((4, 3))
        overhauls[:, mdp.actions.index("overhaul")] = 1.0
        problem = oc.Problem(
            mdp,
            sense="minimize",
            criterion="average",
            constraints={"overhauls": oc.expected(overhauls) <= float(bound)},
        )
        result = oc.solve(problem, solver)
        assert result.objective == pytest.approx(float(cost), abs=1e-6)
        assert result.certificate.lower - 1e-6 <= float(cost) <= result.certificate.upper + 1e-6
        if 0 < bound < Fraction(2, 21):  # it randomises between overhauling and replacing, in one state
            assert result.policy.randomizing.sum() == 1
            assert 0 < result.policy["major deterioration", "overhaul"] < 1
            assert result.multipliers["overhauls"] == pytest.approx(7000 / 11, rel=1e-6)

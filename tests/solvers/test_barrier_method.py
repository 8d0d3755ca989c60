"""Interior points: against cvxpy's programs and closed forms, for every term with every kind of limit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import occlp as oc
from occlp.evaluation import formulate
from occlp.solvers.barrier_method import InteriorPoint, possible_pairs
from occlp.solvers.block_curvature import BlockCurvature
from occlp.solvers.lifted_program import LiftedProgram
from occlp.solvers.normal_equations import NormalEquations

#: The objectives, beside the plain reward.
OBJECTIVES = {
    "reward": lambda mdp: {},
    "StateEntropy": lambda mdp: {"utility": oc.StateEntropy()},
    "OccupancyEntropy": lambda mdp: {"utility": oc.OccupancyEntropy()},
    "TotalVariation": lambda mdp: {"utility": oc.TotalVariation(even_target(mdp))},
    "LogSum": lambda mdp: {"utility": oc.LogSum(["cost0", "cost1"], [1.0, 2.0])},
    "WorstCase": lambda mdp: {"utility": oc.WorstCase(["cost0", "cost1"])},
    "some StateEntropy": lambda mdp: {"regularizer": oc.StateEntropy(0.3)},
    "PolicyEntropy": lambda mdp: {"regularizer": oc.PolicyEntropy(0.2)},
    "ConditionalKL": lambda mdp: {"regularizer": oc.ConditionalKL(0.2, oc.Policy.uniform(mdp))},
    "KL": lambda mdp: {"regularizer": oc.KL(0.2, oc.Policy.uniform(mdp))},
}
#: Utilities of limits; their bounds lie between what the uniform policy has and what is possible.
LIMITS = {
    "StateEntropy": lambda mdp: oc.StateEntropy(2.0),
    "OccupancyEntropy": lambda mdp: oc.OccupancyEntropy(),
    "TotalVariation": lambda mdp: oc.TotalVariation(oc.Policy.uniform(mdp)),
    "LogSum": lambda mdp: oc.LogSum(["cost0", "cost1"]),
    "WorstCase": lambda mdp: oc.WorstCase(["cost0", "cost1"]),
}


def even_target(mdp):
    return mdp.pairs.table(np.full(mdp.n_pairs, 1.0 / mdp.n_pairs), 0.0)


def garnet(seed, n_states=6, **options):
    options = {"n_actions": 3, "branching": 2, "discount": 0.9} | options
    return oc.instances.get("garnet", n_states=n_states, n_costs=2, seed=seed, **options)


def value_at(mdp, utility, policy):
    return oc.evaluate(oc.Problem(mdp, utility=utility), policy).objective


def solved(problem, **options):
    result = oc.solve(problem, InteriorPoint(), **options)
    assert result.status is oc.Status.CERTIFIED, result.message
    assert oc.verify(problem, result)
    return result


def agrees(problem, accuracy=1e-6):
    """Whether the answer is that of the conic program, within what its backend promises."""
    result, program = solved(problem), oc.solve(problem, oc.OccupancyProgram("CLARABEL"), check=False)
    assert program.status in (oc.Status.CERTIFIED, oc.Status.BOUNDED)
    assert result.objective == pytest.approx(program.objective, abs=accuracy)
    return result


class TestAgainstConicPrograms:
    @pytest.mark.parametrize("objective", OBJECTIVES)
    def test_every_objective_with_a_linear_limit(self, objective):
        mdp = garnet(3)
        uniform = oc.evaluate(mdp, oc.Policy.uniform(mdp)).expected["cost0"]
        agrees(oc.Problem(mdp, constraints=[oc.expected("cost0") >= 1.1 * uniform], **OBJECTIVES[objective](mdp)))

    @pytest.mark.parametrize(
        ("objective", "limit"),
        [both for both in itertools.product(OBJECTIVES, LIMITS) if set(both) != {"TotalVariation"}],
    )
    def test_every_objective_with_every_kind_of_limit(self, objective, limit):
        mdp = garnet(5)
        utility = LIMITS[limit](mdp)
        base = value_at(mdp, utility, oc.Policy.uniform(mdp))
        best = solved(oc.Problem(mdp, utility=utility)).objective
        problem = oc.Problem(mdp, constraints={"limit": utility >= 0.5 * (base + best)}, **OBJECTIVES[objective](mdp))
        solved(problem)

    @pytest.mark.parametrize("limit", LIMITS)
    def test_limits_agree(self, limit):
        mdp = garnet(8)
        utility = LIMITS[limit](mdp)
        base = value_at(mdp, utility, oc.Policy.uniform(mdp))
        agrees(oc.Problem(mdp, constraints={"limit": utility >= base - 0.1 * abs(base)}))

    @pytest.mark.parametrize("objective", OBJECTIVES)
    def test_every_objective_on_average(self, objective):
        mdp = garnet(2, discount=None, branching=6)
        agrees(oc.Problem(mdp, criterion="average", **OBJECTIVES[objective](mdp)))

    def test_several_limits_at_once_and_costs_to_be_minimised(self):
        mdp = garnet(11)
        limits = {
            "even": oc.StateEntropy() >= 1.2, "near": oc.TotalVariation(oc.Policy.uniform(mdp)) >= -0.4,
            "cost": oc.expected("cost0") == 0.5, "fair": oc.WorstCase(["cost0", "cost1"]) >= 0.3,
        }  # fmt: skip
        agrees(oc.Problem(mdp, sense="minimize", constraints=limits))


class TestClosedForms:
    def test_the_largest_entropy_of_a_ring_is_that_of_all_states(self):
        n = 12
        transitions = np.zeros((n, 2, n))
        for s in range(n):
            transitions[s, 0, (s + 1) % n] = transitions[s, 1, s - 1] = 1.0
        ring = oc.MDP.from_arrays(transitions, np.zeros((n, 2)), discount=0.99)
        result = solved(oc.Problem(ring, utility=oc.StateEntropy()))
        assert result.objective == pytest.approx(np.log(n), abs=1e-12)

    @pytest.mark.parametrize("discount", ["0.9", "0.999999", "0.999999999999"])
    def test_a_chain_that_stays_or_leaves(self, discount):
        """From the first of two states one stays with p; d(first) = (1 − γ) / (1 − γp), and the best is a half."""
        mdp = oc.MDP.from_arrays(
            np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]),
            np.zeros((2, 2)),
            discount=discount,
            initial=0,
        )
        result = solved(oc.Problem(mdp, utility=oc.StateEntropy()))
        assert result.objective == pytest.approx(np.log(2), abs=1e-10)

    def test_an_expert_is_met_where_nothing_forbids_it(self):
        mdp = garnet(4)
        result = solved(oc.Problem(mdp, utility=oc.TotalVariation(oc.solve(mdp).policy)))
        assert result.objective == pytest.approx(0.0, abs=1e-8)

    def test_one_state_is_a_program_over_its_actions(self):
        """Maximise p + τ H(p): p ∝ exp(r / τ), worth τ log Σ exp(r / τ) (Gibbs)."""
        mdp = oc.MDP.from_arrays(np.ones((1, 3, 1)), np.array([[0.0, 1.0, 2.0]]), discount=0.9)
        best = 0.5 * np.log(np.exp(np.arange(3) / 0.5).sum())
        for term in (oc.OccupancyEntropy(0.5), oc.PolicyEntropy(0.5)):
            assert solved(oc.Problem(mdp, regularizer=term)).objective == pytest.approx(best, abs=1e-10)
        assert solved(oc.Problem(mdp, utility=oc.StateEntropy())).objective == pytest.approx(0.0, abs=1e-12)

    @pytest.mark.parametrize("objective", OBJECTIVES)
    def test_states_that_nothing_reaches_change_nothing(self, objective):
        """A second copy of the model, which leads to the first and is not begun in."""
        mdp = garnet(6)
        known, n = np.asarray(mdp.transitions.toarray()).reshape(6, 3, 6), 6
        transitions = np.zeros((12, 3, 12))
        transitions[:n, :, :n], transitions[n:, :, n:], transitions[n:, :, :n] = known, 0.5 * known, 0.5 * known
        twice = {name: np.tile(row.reshape(6, 3), (2, 1)) for name, row in mdp.pair_costs.items()}
        start = np.append(mdp.initial, np.zeros(6))
        rewards = np.vstack([mdp.pair_rewards.reshape(6, 3), 5.0 + mdp.pair_rewards.reshape(6, 3)])
        if objective == "TotalVariation":
            target = np.vstack([even_target(mdp), np.zeros((6, 3))])
            own, other = (oc.TotalVariation(t) for t in (even_target(mdp), target))
            questions = [oc.Problem(mdp, utility=own)]
            mdp = oc.MDP.from_arrays(transitions, rewards, discount=0.9, initial=start, costs=twice)
            questions.append(oc.Problem(mdp, utility=other))
        else:
            wide = oc.MDP.from_arrays(transitions, rewards, discount=0.9, initial=start, costs=twice)
            questions = [oc.Problem(one, **OBJECTIVES[objective](one)) for one in (mdp, wide)]
        small, large = (solved(question) for question in questions)
        assert large.objective == pytest.approx(small.objective, abs=1e-8)


class TestLimitsThatCannotBeKept:
    @pytest.mark.parametrize("limit", LIMITS)
    def test_are_proved(self, limit):
        mdp = garnet(7)
        utility = LIMITS[limit](mdp)
        best = solved(oc.Problem(mdp, utility=utility)).objective
        problem = oc.Problem(mdp, constraints={"limit": utility >= best + 0.05})
        with pytest.raises(oc.Infeasible) as caught:
            oc.solve(problem, InteriorPoint())
        assert oc.verify(problem, caught.value.result)

    def test_also_linear_ones_beside_a_term(self):
        mdp = garnet(7)
        most = oc.solve(mdp.replace(rewards=mdp.pair_costs["cost0"])).objective
        limit = {"much": oc.expected("cost0") >= most + 0.01, "even": oc.StateEntropy() >= 0.1}
        with pytest.raises(oc.Infeasible):
            oc.solve(oc.Problem(mdp, utility=oc.StateEntropy(), constraints=limit), InteriorPoint())


class TestWhatItRefuses:
    def test_totals_functions_of_users_and_two_targets(self):
        mdp = garnet(1)
        target = oc.TotalVariation(oc.Policy.uniform(mdp))
        questions = [
            oc.Problem(mdp.replace(discount=None), criterion="total"),
            oc.Problem(mdp, utility=oc.Utility(lambda d: d[0])),
            oc.Problem(mdp, utility=target, constraints=[target >= -0.5]),
        ]
        for question in questions:
            with pytest.raises(oc.Unsupported, match="OccupancyProgram"):
                oc.solve(question, InteriorPoint())

    def test_averages_of_states_that_are_left_for_good(self):
        transitions = np.array([[[0.0, 1.0]], [[0.0, 1.0]]])
        mdp = oc.MDP.from_arrays(transitions, np.zeros((2, 1)))
        with pytest.raises(oc.Unsupported, match="end component"):
            oc.solve(oc.Problem(mdp, criterion="average", utility=oc.StateEntropy()), InteriorPoint())

    def test_it_stops_when_the_time_is_up(self):
        result = oc.solve(oc.Problem(garnet(1), utility=oc.StateEntropy()), InteriorPoint(), limit=oc.Limit(seconds=0))
        assert result.status is oc.Status.LIMIT
        assert result.gap >= 0


class TestBlocks:
    def test_the_inverse_is_that_of_the_matrix(self):
        rng = np.random.default_rng(0)
        pair_of, firsts = np.array([0, 1, 2, 3, 4, 1, 3]), np.array([0, 2])
        spread, bend, within = rng.random(7), rng.random(5), np.array([3.0, 0.5])
        blocks = BlockCurvature(spread, pair_of, bend, firsts=firsts, within=within)
        pairs = np.eye(5)[pair_of].T
        states = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]]) @ pairs
        matrix = np.diag(1 / spread) + pairs.T @ np.diag(bend) @ pairs + states.T @ np.diag(within) @ states
        force = rng.standard_normal(7)
        np.testing.assert_allclose(blocks.solve(force), np.linalg.solve(matrix, force), rtol=1e-12)

    def test_normal_equations_are_those_of_the_inverse(self):
        mdp = garnet(9)
        form = formulate(oc.Problem(mdp, utility=oc.StateEntropy()))
        pairs = np.flatnonzero(possible_pairs(oc.Problem(mdp, utility=oc.StateEntropy()), form))
        equations = NormalEquations(form, pairs, joined=True)
        rng = np.random.default_rng(1)
        spread, within = rng.random(len(pairs)), 100.0 * rng.random(len(equations.firsts))
        blocks = BlockCurvature(
            spread, np.arange(len(pairs)), np.zeros(len(pairs)), firsts=equations.firsts, within=within
        )
        flow = equations.flow.toarray()
        matrix = flow @ np.column_stack([blocks.solve(column) for column in np.eye(len(pairs))]) @ flow.T
        right = rng.standard_normal(equations.n)
        found = equations.joint(blocks.weights, blocks.means)(right)
        np.testing.assert_allclose(matrix @ found, right, rtol=1e-8, atol=1e-10)

    def test_a_target_gives_pairs_a_second_column(self):
        mdp = garnet(9)
        form = formulate(oc.Problem(mdp, utility=oc.TotalVariation(oc.solve(mdp).policy)))
        program = LiftedProgram(form, np.arange(mdp.n_pairs))
        assert program.n_columns == mdp.n_pairs + np.count_nonzero(form.term.target)
        np.testing.assert_array_equal(program.caps, form.term.target[form.term.target > 0])

"""Density ratios, divergences and ratios of trajectories: exact values, identities, and where they do not exist."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from helpers import Exact, divergence, doubles, fractions, positive_policies
from hypothesis import given
from hypothesis import strategies as st
from strategies import mdps, policy_tables

import occlp as oc


def stay_or_leave():
    """One state that is left for ever by its second action, γ = 1/2; the third pair is in the state it leads to."""
    rows = [[1, 0], [0, 1], [0, 1]]
    return oc.MDP.from_pairs([0, 0, 1], [0, 1, 0], rows, [1, 0, 0], discount="1/2", initial=0)


class TestDensityRatio:
    def test_closed_form(self):
        # d(0) = (1 − γ)/(1 − γ p) for probability p of staying: 2/3 at 1/2 and 4/5 at 3/4.
        mdp = stay_or_leave()
        often, half = oc.Policy.from_table(mdp, [[0.75, 0.25], [1, 0]]), oc.Policy.uniform(mdp)
        found = oc.density_ratio(mdp, often, half)
        assert found[0].tolist() == pytest.approx([(3 / 5) / (1 / 3), (1 / 5) / (1 / 3)], rel=1e-14)
        assert found[1, 0] == pytest.approx((1 / 5) / (1 / 3), rel=1e-14)
        assert math.isnan(found[1, 1])

    @given(st.data())
    def test_against_exact_occupancies(self, data):
        mdp = data.draw(mdps(max_states=4))
        one, other = data.draw(positive_policies(mdp)), data.draw(positive_policies(mdp))
        exact = Exact.of(mdp)
        above, below = (exact.occupancy(fractions(policy.pair_probabilities)) for policy in (one, other))
        truth = doubles([Fraction(0) if d == 0 else d / d0 for d, d0 in zip(above, below, strict=True)])
        found = oc.density_ratio(mdp, one, other)[mdp.pairs.states, mdp.pairs.actions]
        assert found == pytest.approx(truth, rel=1e-11)

    @given(st.data())
    def test_it_carries_expectations_over(self, data):
        mdp = data.draw(mdps())
        policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
        reference = data.draw(positive_policies(mdp))
        weights = oc.density_ratio(mdp, policy, reference)
        weighted = oc.evaluate(mdp, reference).occupancy * weights * mdp.rewards
        assert np.nansum(weighted) == pytest.approx(oc.evaluate(mdp, policy).objective, abs=1e-9)
        assert np.nansum(oc.evaluate(mdp, reference).occupancy * weights) == pytest.approx(1)

    @given(st.data())
    def test_where_it_does_not_exist(self, data):
        mdp = data.draw(mdps())
        one, other = (oc.Policy.from_table(mdp, data.draw(policy_tables(mdp))) for _ in range(2))
        first, second = (oc.evaluate(mdp, policy).occupancy for policy in (one, other))
        found = oc.density_ratio(mdp, one, other)
        exists = np.zeros(found.shape, dtype=bool)
        exists[mdp.pairs.states, mdp.pairs.actions] = True
        assert (np.isnan(found) == ~exists).all()
        assert (np.isinf(found) == ((first > 0) & (second == 0))).all()
        assert (found[exists & (first == 0)] == 0).all()
        broken = [(mdp.states[s], mdp.actions[a]) for s, a in np.argwhere(np.isinf(found))]
        assert oc.singular_pairs(mdp, one, other) == broken
        assert (oc.divergence(mdp, one, other) == math.inf) == bool(broken)

    def test_a_policy_to_itself(self):
        mdp = oc.instances.get("inventory")
        policy = oc.solve(mdp)
        found = oc.density_ratio(mdp, policy, policy)
        assert set(found[policy.occupancy > 0]) == {1.0}
        assert oc.divergence(mdp, policy, policy) == 0.0
        assert oc.singular_pairs(mdp, policy, policy) == []

    def test_the_criterion_decides(self):
        # On average nothing is left in state 0, so that what is done there no longer matters.
        mdp = stay_or_leave().replace(discount=None)
        problem = oc.Problem(mdp, criterion="average")
        half, leave = oc.Policy.uniform(mdp), oc.Policy.from_choice(mdp, np.array([1, 2]))
        assert oc.density_ratio(problem, half, leave)[:, 0].tolist() == [0.0, 1.0]
        assert oc.singular_pairs(problem, half, leave) == []
        assert oc.singular_pairs(stay_or_leave(), half, leave) == [(0, 0)]

    def test_policies_of_another_model(self):
        mdp = stay_or_leave()
        other = oc.Policy.uniform(oc.instances.get("inventory"))
        for function in (oc.density_ratio, oc.divergence, oc.singular_pairs):
            with pytest.raises(oc.InvalidProblem, match="another model"):
                function(mdp, oc.Policy.uniform(mdp), other)


class TestDivergence:
    @given(st.data())
    def test_to_many_digits(self, data):
        mdp = data.draw(mdps(max_states=4))
        one, other = data.draw(positive_policies(mdp)), data.draw(positive_policies(mdp))
        exact = Exact.of(mdp)
        masses = [exact.occupancy(fractions(policy.pair_probabilities)) for policy in (one, other)]
        assert oc.divergence(mdp, one, other) == pytest.approx(float(divergence(*masses)), rel=1e-9, abs=1e-15)

    @given(st.data())
    def test_it_is_the_penalty_of_kl_and_above_that_of_the_actions(self, data):
        mdp = data.draw(mdps())
        one, other = data.draw(positive_policies(mdp)), data.draw(positive_policies(mdp))
        found = oc.divergence(mdp, one, other)
        penalised = [
            oc.evaluate(oc.Problem(mdp, regularizer=term(2.0, other)), one) for term in (oc.KL, oc.ConditionalKL)
        ]
        joint, actions = ((plain.expected["reward"] - plain.objective) / 2 for plain in penalised)
        assert found == pytest.approx(joint, abs=1e-9)
        assert found >= actions - 1e-9

    def test_it_is_not_symmetric(self):
        mdp = stay_or_leave()
        half, leave = oc.Policy.uniform(mdp), oc.Policy.from_choice(mdp, np.array([1, 2]))
        # d_leave = (0, 1/2, 1/2) and d_half = (1/3, 1/3, 1/3).
        assert oc.divergence(mdp, leave, half) == pytest.approx(math.log(3 / 2), rel=1e-13)
        assert oc.divergence(mdp, half, leave) == math.inf
        assert oc.singular_pairs(mdp, half, leave) == [(0, 0)]


class TestTrajectoryRatio:
    @given(st.data())
    def test_weighted_returns_are_those_of_the_other_policy(self, data):
        # All trajectories of three steps: Σ P0(τ) ratio(τ) R(τ) is the return of three steps under the policy.
        mdp = data.draw(mdps(max_states=3, max_actions=2))
        policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
        reference = data.draw(positive_policies(mdp))
        kernel, pairs = mdp.transitions.toarray(), mdp.pairs
        total = 0.0
        for taken in itertools.product(range(mdp.n_pairs), repeat=3):
            chance = mdp.initial[pairs.states[taken[0]]] * reference.pair_probabilities[taken[0]]
            for before, after in itertools.pairwise(taken):
                chance *= kernel[before, pairs.states[after]] * reference.pair_probabilities[after]
            if chance > 0:
                steps = [(int(pairs.states[k]), int(pairs.actions[k])) for k in taken]
                total += chance * oc.trajectory_ratio(policy, reference, steps) * mdp.pair_rewards[list(taken)].sum()
        mass, expected = mdp.initial, 0.0
        for _ in range(3):
            flow = mass[pairs.states] * policy.pair_probabilities
            expected += flow @ mdp.pair_rewards
            mass = flow @ kernel
        assert total == pytest.approx(expected, abs=1e-9)

    @pytest.fixture
    def mdp(self):
        return oc.instances.get("machine-repair")

    def test_by_hand(self, mdp):
        one = oc.Policy.from_table(mdp, [[0.9, 0.1], [0.25, 0.75], [0, 1]])
        steps = [("new", "run"), ("worn", "repair"), ("new", "run")]
        assert oc.trajectory_ratio(one, oc.Policy.uniform(mdp), steps) == pytest.approx(0.9**2 * 0.75 * 8, rel=1e-14)
        assert oc.trajectory_ratio(one, one, steps) == 1.0
        assert oc.trajectory_ratio(one, oc.Policy.uniform(mdp), []) == 1.0
        assert oc.trajectory_ratio(one, oc.Policy.uniform(mdp), iter(steps), log=True) == pytest.approx(
            math.log(0.9**2 * 0.75 * 8)
        )

    def test_impossible_steps(self, mdp):
        run = oc.Policy.deterministic(mdp, ["run", "run", "run"])
        fix = oc.Policy.deterministic(mdp, ["repair", "repair", "repair"])
        uniform = oc.Policy.uniform(mdp)
        ran = [("new", "run")]
        assert oc.trajectory_ratio(fix, uniform, ran) == 0.0
        assert oc.trajectory_ratio(fix, uniform, ran, log=True) == -math.inf
        assert oc.trajectory_ratio(uniform, fix, ran) == math.inf
        assert oc.trajectory_ratio(uniform, fix, ran, log=True) == math.inf
        assert oc.trajectory_ratio(fix, fix, ran) == 0.0  # neither acts so
        assert oc.trajectory_ratio(run, fix, [*ran, ("worn", "repair")]) == 0.0  # each fails at another step

    def test_long_ones(self, mdp):
        run, uniform = oc.Policy.deterministic(mdp, ["run", "run", "run"]), oc.Policy.uniform(mdp)
        steps = [("new", "run")] * 2000
        assert oc.trajectory_ratio(run, uniform, steps) == math.inf
        assert oc.trajectory_ratio(run, uniform, steps, log=True) == pytest.approx(2000 * math.log(2))
        mixed = oc.Policy.from_table(mdp, [[0.25, 0.75], [1, 0], [1, 0]])
        assert oc.trajectory_ratio(mixed, uniform, steps) == 0.0
        assert oc.trajectory_ratio(mixed, uniform, steps, log=True) == pytest.approx(-2000 * math.log(2))

    def test_results_and_evaluations_do(self, mdp):
        result, old = oc.solve(mdp), oc.evaluate(mdp, oc.Policy.uniform(mdp))
        assert oc.trajectory_ratio(result, old, [("broken", "repair")]) == 2.0

    def test_wrong_trajectories(self, mdp):
        uniform = oc.Policy.uniform(mdp)
        with pytest.raises(oc.InvalidProblem, match="rusty"):
            oc.trajectory_ratio(uniform, uniform, [("rusty", "run")])
        with pytest.raises(oc.InvalidProblem, match=r"step 1 of the trajectory is \(.*\), not \(state, action\)"):
            oc.trajectory_ratio(uniform, uniform, [("new", "run"), ("new", "run", 1.0)])
        with pytest.raises(oc.InvalidProblem, match=r"neither an oc\.Policy nor a result"):
            oc.trajectory_ratio(mdp, uniform, [])
        lone = stay_or_leave()
        with pytest.raises(oc.InvalidProblem, match="not admissible"):
            oc.trajectory_ratio(oc.Policy.uniform(lone), oc.Policy.uniform(lone), [(1, 1)])
        with pytest.raises(oc.InvalidProblem, match="the reference belongs to another model"):
            oc.trajectory_ratio(uniform, oc.Policy.uniform(lone), [])

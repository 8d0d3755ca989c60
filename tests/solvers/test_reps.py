"""Relative entropy policy search: its steps in closed form, its rate, and what joins it to the natural gradient."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers import dense_chain, random_policy, two_classes

import occlp as oc


def steps_of(problem, solver, start=None):
    """Policies along a run, the start included."""
    problem = problem if isinstance(problem, oc.Problem) else oc.Problem(problem)
    rng = np.random.default_rng(0)
    return [iterate.policy for iterate in solver.iterate(problem, tol=1e-8, rng=rng, start=start)]


def one_step(problem, strength, start):
    return steps_of(problem, oc.Reps(strength=strength, steps=1), start)[-1]


def occupancy_jacobian(mdp, policy):
    """∂d/∂θ of a tabular softmax, [pairs, logits], by the perturbation of (I − γPᵀ) d = (1 − γ) μ0."""
    pi, states, gamma = policy.pair_probabilities, mdp.pairs.states, mdp.discount
    system = np.eye(mdp.n_states) - gamma * dense_chain(mdp, pi)
    mass = np.linalg.solve(system.T, (1 - gamma) * mdp.initial)
    same = states[:, None] == states[None, :]
    actions = np.diag(pi) - same * np.outer(pi, pi)  # ∂π(k) / ∂θ(l)
    flows = mdp.transitions.toarray().T @ (mass[states][:, None] * actions)
    return np.linalg.solve(system.T, gamma * flows)[states] * pi[:, None] + mass[states][:, None] * actions


def no_influence():
    """Actions pay, but do not move: the occupancy of the states is the same under every policy."""
    rng = np.random.default_rng(4)
    rows = np.repeat(rng.dirichlet(np.ones(4), size=4)[:, None, :], 3, axis=1)
    return oc.MDP.from_arrays(rows, rng.normal(size=(4, 3)), discount=0.9)


class TestSteps:
    def test_one_state_in_closed_form(self):
        # A single state: π ∝ π0 exp(r / τ).
        rewards = np.array([1.0, 2.0, 4.0])
        mdp = oc.MDP.from_arrays(np.ones((1, 3, 1)), [rewards], discount=0.5)
        policy = oc.Policy.from_table(mdp, [[0.5, 0.3, 0.2]])
        for _ in range(3):
            expected = policy.pair_probabilities * np.exp(rewards / 2.0)
            policy = one_step(mdp, 2.0, policy)
            assert policy.pair_probabilities == pytest.approx(expected / expected.sum(), rel=1e-12)

    def test_a_step_is_the_answer_to_the_question_with_kl(self):
        mdp = oc.instances.get("machine-repair")
        start = random_policy(mdp, np.random.default_rng(0))
        soft = oc.solve(oc.Problem(mdp, regularizer=oc.KL(strength=3.0, reference=start)), tol=1e-12)
        step = oc.evaluate(mdp, one_step(mdp, 3.0, start))
        assert step.pair_occupancy == pytest.approx(soft.pair_occupancy, abs=1e-9)

    @pytest.mark.parametrize("bound", [1e-7, 0.003, 0.1])
    def test_the_bound_on_the_kl_is_met_before_the_optimum_is_near(self, bound):
        mdp = oc.instances.get("machine-repair")
        policies = steps_of(mdp, oc.Reps(bound=bound, steps=4))
        moved = [oc.divergence(mdp, new, old) for old, new in itertools.pairwise(policies)]
        assert moved == pytest.approx([bound] * 4, rel=1e-5)
        assert max(moved) <= bound * (1 + 1e-9)

    def test_a_step_is_the_best_within_its_bound(self):
        mdp = oc.instances.get("garnet", n_states=8, n_actions=3, branching=3, seed=1)
        start = oc.Policy.uniform(mdp)
        best = oc.evaluate(mdp, steps_of(mdp, oc.Reps(bound=0.05, steps=1))[-1])
        rng = np.random.default_rng(0)
        reached = 0
        for size in rng.uniform(0.05, 0.6, size=200):
            other = start.pair_probabilities * np.exp(size * rng.normal(size=mdp.n_pairs))
            other = oc.Policy.from_occupancy(mdp, other)
            if oc.divergence(mdp, other, start) <= 0.05:
                reached += 1
                assert oc.evaluate(mdp, other).objective <= best.objective
        assert reached > 20


class TestTheRate:
    @pytest.mark.parametrize("strength", [0.3, 3.0])
    def test_mirror_descent(self, strength):
        # J* − J_t ≤ τ KL(d* ‖ d_0) / t, the bound of the proximal point method.
        mdp = oc.instances.get("garnet", n_states=10, n_actions=3, branching=3, seed=2)
        best, start = oc.solve(mdp), oc.Policy.uniform(mdp)
        distance = oc.divergence(mdp, best, start)
        objectives = [
            oc.evaluate(mdp, policy).objective for policy in steps_of(mdp, oc.Reps(strength=strength, steps=15))
        ]
        assert (np.diff(objectives) > -1e-12).all()
        for t, objective in enumerate(objectives[1:], 1):
            assert best.objective - objective <= strength * distance / t + 1e-12


class TestTheNaturalGradient:
    def test_small_steps_follow_the_fisher_metric_of_the_occupancy(self):
        mdp = oc.instances.get("garnet", n_states=6, n_actions=3, branching=3, seed=3)
        start = random_policy(mdp, np.random.default_rng(1))
        before = oc.evaluate(mdp, start)
        jacobian = occupancy_jacobian(mdp, start)
        gradient = jacobian.T @ mdp.pair_rewards
        assert gradient == pytest.approx((before.pair_occupancy * before.pair_advantages), abs=1e-12)
        fisher = jacobian.T @ (jacobian / before.pair_occupancy[:, None])
        natural = jacobian @ np.linalg.lstsq(fisher, gradient, rcond=1e-10)[0]
        for strength in (1e2, 1e4):
            moved = oc.evaluate(mdp, one_step(mdp, strength, start)).pair_occupancy - before.pair_occupancy
            assert np.abs(strength * moved - natural).max() < 2.0 * np.abs(natural).max() / strength

    def test_which_is_not_that_of_the_actions_alone(self):
        mdp = oc.instances.get("garnet", n_states=6, n_actions=3, branching=3, seed=3)
        start = random_policy(mdp, np.random.default_rng(1))
        before = oc.evaluate(mdp, start)
        kakade = occupancy_jacobian(mdp, start) @ before.pair_advantages  # F⁺∇J of the actions is A, up to a constant
        moved = oc.evaluate(mdp, one_step(mdp, 1e4, start)).pair_occupancy - before.pair_occupancy
        cosine = kakade @ moved / np.linalg.norm(kakade) / np.linalg.norm(moved)
        assert 0.2 < cosine < 0.999

    @pytest.mark.parametrize("strength", [0.2, 1.0, 50.0])
    def test_both_agree_where_the_policy_does_not_move_the_states(self, strength):
        mdp = no_influence()
        start = random_policy(mdp, np.random.default_rng(2))
        step = oc.NaturalPolicyGradient(step_size=(1 - mdp.discount) / strength, steps=1)
        natural = steps_of(mdp, step, start)[-1]
        assert one_step(mdp, strength, start).pair_probabilities == pytest.approx(natural.pair_probabilities, abs=1e-10)


class TestAnswers:
    @pytest.mark.parametrize("solver", [oc.Reps(), oc.Reps(bound=0.2), oc.Reps(strength=0.5)], ids=repr)
    @pytest.mark.parametrize("sense", ["maximize", "minimize"])
    def test_the_optimum_is_reached(self, solver, sense):
        problem = oc.Problem(oc.instances.get("machine-repair"), sense=sense)
        result = oc.solve(problem, solver)
        assert result.status is oc.Status.CERTIFIED
        assert result.objective == pytest.approx(oc.solve(problem).objective, abs=1e-6)
        oc.verify(problem, result)

    def test_constraints(self):
        problem = oc.Problem(oc.instances.get("machine-repair"), constraints=[oc.expected("wear") <= 0.2])
        result = oc.solve(problem, oc.Reps(strength=0.2), tol=1e-6)
        assert result.status is oc.Status.CERTIFIED
        assert result.objective == pytest.approx(oc.solve(problem).objective, abs=1e-5)

    def test_a_bound_too_small_to_keep_the_constraints_leads_to_the_nearest_that_does(self):
        problem = oc.Problem(oc.instances.get("machine-repair"), constraints=[oc.expected("wear") <= 0.05])
        _, first, *_ = steps_of(problem, oc.Reps(bound=1e-3, steps=2))
        assert oc.evaluate(problem, first).expected["wear"] == pytest.approx(0.05, abs=1e-5)

    def test_constraints_that_cannot_be_kept_are_proved_so(self):
        problem = oc.Problem(oc.instances.get("machine-repair"), constraints=[oc.expected("wear") >= 2.5])
        with pytest.raises(oc.Infeasible, match="wear"):
            oc.solve(problem, oc.Reps())

    def test_average_criterion(self):
        problem = oc.Problem(oc.instances.get("howard-toymaker", discount=None), criterion="average")
        result = oc.solve(problem, oc.Reps())
        assert result.objective == pytest.approx(2.0, abs=1e-6)  # Howard (1960): a gain of 2

    def test_constant_rewards_end_at_once(self):
        mdp = oc.instances.get("machine-repair").replace(rewards=np.ones((3, 2)))
        assert len(steps_of(mdp, oc.Reps())) == 1

    def test_it_ends_by_itself(self):
        mdp = oc.MDP.from_arrays(np.ones((1, 2, 1)), [[0.0, 1.0]], discount=0.5)
        assert len(steps_of(mdp, oc.Reps(strength=0.01, steps=50))) < 10

    def test_actions_that_the_start_never_takes_are_never_taken(self):
        mdp = two_classes(rest=0.1)
        start = oc.Policy.from_choice(mdp, np.array([1, 2, 3, 4, 5]))
        assert all(policy.pair_probabilities[0] == 0 for policy in steps_of(mdp, oc.Reps(), start))

    def test_in_a_comparison(self):
        table = oc.compare(oc.instances.get("machine-repair"), [oc.PolicyIteration(), oc.Reps()])
        assert [row["status"] for row in table.to_records()] == ["CERTIFIED", "CERTIFIED"]

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"bound": 1.0, "strength": 1.0}, "not both"),
            ({"bound": 0.0}, "positive"),
            ({"strength": -1.0}, "positive"),
            ({"strength": np.inf}, "finite"),
            ({"bound": "1"}, "positive"),
            ({"steps": -1}, "steps"),
            ({"steps": 1.5}, "steps"),
        ],
    )
    def test_wrong_settings(self, settings, words):
        with pytest.raises(oc.InvalidProblem, match=words):
            oc.Reps(**settings)

    def test_totals_are_refused(self):
        mdp = oc.MDP.from_arrays([[[0.5, 0.5]], [[0, 1]]], [[1], [0]])
        with pytest.raises(oc.Unsupported, match="PolicyIteration answers totals"):
            oc.solve(oc.Problem(mdp, criterion="total", goal=1), oc.Reps())

    def test_concave_objectives_are_refused(self):
        mdp = oc.instances.get("machine-repair")
        for term in ({"regularizer": oc.KL(1.0, oc.Policy.uniform(mdp))}, {"utility": oc.StateEntropy()}):
            with pytest.raises(oc.Unsupported, match="linear objective"):
                oc.solve(oc.Problem(mdp, **term), oc.Reps())

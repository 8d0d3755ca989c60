"""Adversarial questions, numbered as a list of 80 that was collected from the issues of other libraries.

Numbers 1 to 27, about the input of models, are in test_bad_inputs.py; what is not here is tested where it belongs.
"""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction

import numpy as np
import pytest
from helpers import Exact, encloses
from polytope import random_model
from scipy import sparse

import occlp as oc


@pytest.fixture
def machine():
    return oc.instances.get("machine-repair")


def test_28_arrays_of_the_caller_are_never_changed(machine):
    transitions, rewards = np.full((2, 2, 2), 0.5), np.array([[1.0, 2.0], [3.0, 4.0]])
    before = transitions.copy(), rewards.copy()
    mdp = oc.MDP.from_arrays(transitions, rewards, discount=0.9)
    answer = oc.solve(mdp)
    rewards[:] = 99.0
    transitions[:] = 0.0
    assert oc.solve(mdp).objective == answer.objective
    assert np.array_equal(mdp.rewards, before[1])


def test_29_copies_and_repetitions_answer_alike(machine):
    first = oc.solve(machine)
    for again in (machine, copy.deepcopy(machine), pickle.loads(pickle.dumps(machine))):
        assert oc.solve(again).certificate.to_json() == first.certificate.to_json()


def test_31_32_states_that_are_never_reached():
    mdp = oc.MDP.from_arrays([[[1, 0]] * 2, [[0, 1]] * 2], [[1, 2], [5, 7]], discount=0.9, initial=0)
    for solver in (None, oc.OccupancyProgram("HIGHS"), oc.OccupancyProgram("CLARABEL"), oc.Decomposition()):
        result = oc.solve(mdp, solver)
        assert result.visited.tolist() == [True, False]
        assert result.occupancy[1].tolist() == [0.0, 0.0]
        assert result.policy.choice.tolist() == [1, 3]
        assert result.state_values[1] == pytest.approx(70.0, rel=1e-9)


def test_33_34_ties_and_near_ties():
    for gap in (0.0, 1e-12, 1e-15):
        mdp = oc.MDP.from_arrays([[[1], [1]]], [[1.0, 1.0 + gap]], discount=0.9)
        assert encloses(oc.solve(mdp).certificate, Exact.of(mdp).optimum())
    tied = oc.solve(oc.instances.get("puterman-two-state", discount="10/11"))
    assert tied.certificate.reduced_costs[:2] == pytest.approx([0, 0], abs=1e-12)


def test_35_periodic_chains():
    mdp = oc.MDP.from_arrays([[[0, 1]], [[1, 0]]], [[1.0], [0.0]])
    for solver in (oc.PolicyIteration(), oc.OccupancyProgram("HIGHS")):
        assert oc.solve(oc.Problem(mdp, criterion="average"), solver).gain == pytest.approx([0.5, 0.5])


def test_36_gains_that_depend_on_the_start():
    mdp = oc.MDP.from_arrays([[[1, 0]], [[0, 1]]], [[1.0], [3.0]], initial=[0.25, 0.75])
    result = oc.solve(oc.Problem(mdp, criterion="average"))
    assert result.gain == pytest.approx([1.0, 3.0])
    assert result.objective == pytest.approx(2.5)


def test_38_a_free_loop_before_the_goal():
    """One may wait for ever at no cost, but must reach the goal: 1, not 0 (Storm's tiny_rewards)."""
    mdp = oc.MDP.from_arrays([[[1, 0], [0, 1]], [[0, 1]] * 2], [[0, 1], [0, 0]], initial=0)
    result = oc.solve(oc.Problem(mdp, "minimize", "total", goal=1))
    assert result.objective == pytest.approx(1.0)


def test_39_the_policy_is_evaluated_again():
    """A self-loop that ties must not be what is returned: the policy reaches the goal with probability 1/2."""
    rows = [[[1, 0, 0], [0, 0.5, 0.5]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2]
    mdp = oc.MDP.from_arrays(rows, np.zeros((3, 2)), initial=0)
    problem = oc.Problem(mdp, criterion="total", goal=1, objective="reach")
    result = oc.solve(problem)
    assert result.objective == pytest.approx(0.5)
    assert oc.evaluate(problem, result.policy).objective == pytest.approx(0.5)
    assert result.policy.choice[0] == 1


def test_42_43_totals_without_an_end():
    loop = oc.MDP.from_arrays([[[1, 0], [0, 1]], [[0, 1]] * 2], [[1, 0], [0, 0]], initial=0)
    with pytest.raises(oc.Unbounded) as caught:
        oc.solve(oc.Problem(loop, criterion="total"))
    assert caught.value.result.policy.choice[0] == 0
    endless = oc.MDP.from_arrays([[[1.0]]], [[1.0]])
    with pytest.raises(oc.Unbounded):
        oc.solve(oc.Problem(endless, "minimize", "total"))


@pytest.mark.parametrize("rest", ["1e-6", "1e-9", "1e-12"])
def test_49_discounts_near_1(rest):
    mdp = oc.instances.get("howard-toymaker", discount=str(1 - Fraction(rest)))
    for solver in (None, oc.OccupancyProgram("CLARABEL")):
        assert encloses(oc.solve(mdp, solver, check=False).certificate, Exact.of(mdp).optimum())


@pytest.mark.parametrize(("scale", "shift"), [(1e-12, 0.0), (1e12, 0.0), (1.0, 1e9)])
def test_50_rewards_of_any_size(machine, scale, shift):
    base = oc.solve(machine)
    other = oc.solve(machine.replace(rewards=machine.pair_rewards * scale + shift))
    assert other.policy.actions == base.policy.actions
    assert (other.objective - shift) / scale == pytest.approx(base.objective, rel=1e-6)


def test_51_one_enormous_reward():
    mdp = oc.MDP.from_arrays([[[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2], [[1.0, 1e300], [-1.0, 0.0]], discount=0.5)
    result = oc.solve(mdp)
    assert np.isfinite(result.objective)
    assert encloses(result.certificate, Exact.of(mdp).optimum())


@pytest.mark.parametrize("p", [1e-12, 1e-50, 1e-300])
def test_52_58_tiny_probabilities_keep_their_digits(p):
    mdp = oc.MDP.from_arrays([[[1 - p, p]], [[0, 1]]], [[0.0], [1.0]], discount=0.5, initial=0)
    result = oc.solve(mdp)
    assert result.objective == pytest.approx(float(Exact.of(mdp).optimum()), rel=1e-12)


def test_54_56_57_wide_and_long_models():
    """A hundred thousand states, ten thousand actions in one, a row of a hundred thousand successors."""
    n = 100_000
    rows = sparse.csr_array((np.ones(n), (np.arange(n), (np.arange(n) + 1) % n)), shape=(n, n))
    chain = oc.MDP.from_pairs(np.arange(n), np.zeros(n, dtype=int), rows, np.arange(n) % 7 / 7, discount=0.9)
    assert oc.solve(chain).status is oc.Status.CERTIFIED
    bandit = oc.MDP.from_arrays(np.ones((1, 10_000, 1)), [np.arange(10_000.0)], discount=0.9)
    assert oc.solve(bandit).objective == pytest.approx(9999.0)
    wide = sparse.vstack([sparse.csr_array(np.full((1, n), 1 / n)), sparse.eye_array(n, format="csr")[1:]])
    fan = oc.MDP.from_pairs(np.arange(n), np.zeros(n, dtype=int), wide, np.arange(n) / n, discount=0.5, initial=0)
    assert oc.solve(fan).status is oc.Status.CERTIFIED


def test_55_evaluation_only():
    mdp = oc.MDP.from_arrays([[[0.5, 0.5]], [[1, 0]]], [[1.0], [2.0]], discount=0.9)
    assert encloses(oc.solve(mdp).certificate, Exact.of(mdp).optimum())


def test_59_infeasible_with_a_proof(machine):
    problem = oc.Problem(machine, constraints=[oc.expected("wear") <= 0.0, oc.expected("reward") >= 7.4])
    with pytest.raises(oc.Infeasible) as caught:
        oc.solve(problem)
    certificate = caught.value.result.certificate
    assert certificate.infeasible_by > 0
    assert oc.verify(problem, caught.value.result)


def test_60_feasible_at_one_point_only():
    mdp = oc.MDP.from_arrays([[[1], [1]]], [[1.0, 0.0]], costs={"wear": [[1.0, 0.0]]}, discount=0.9)
    result = oc.solve(oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.0]))
    assert result.status is oc.Status.CERTIFIED
    assert result.objective == pytest.approx(0.0, abs=1e-8)


def test_61_useless_limits(machine):
    same = [("a", oc.expected("wear") <= 0.25), ("b", oc.expected("wear") <= 0.25), ("c", 0 * oc.expected("wear") <= 1)]
    result = oc.solve(oc.Problem(machine, constraints=dict(same)))
    assert result.objective == pytest.approx(351817 / 47600, rel=1e-7)
    for bound in (np.inf, np.nan, -np.inf):
        with pytest.raises(oc.InvalidProblem, match="is not finite"):
            oc.Problem(machine, constraints=[oc.expected("wear") <= bound])


@pytest.mark.parametrize("seed", range(4))
def test_62_63_limits_of_the_returned_policy(seed):
    """Evaluated again from the policy; it randomises in no more states than there are limits that bind."""
    mdp = random_model(seed)
    free = oc.evaluate(mdp, oc.Policy.uniform(mdp)).expected
    problem = oc.Problem(mdp, constraints={name: oc.expected(name) <= free[name] for name in ("wear", "fuel")})
    result = oc.solve(problem)
    found = oc.evaluate(problem, result.policy).expected
    broken = max(0.0, *(found[name] - free[name] for name in ("wear", "fuel")))
    assert result.certificate.violation == pytest.approx(broken, abs=1e-12)
    assert (result.policy.randomizing & result.visited).sum() <= 2


@pytest.mark.parametrize("strength", [1e-12, 1e12])
def test_67_68_priors_with_zeros_at_any_temperature(strength):
    mdp = oc.MDP.from_arrays([[[1], [1], [1]]], [[1.0, 2.0, 100.0]], discount=0.9)
    prior = oc.Policy.from_table(mdp, [[0.5, 0.5, 0.0]])
    result = oc.solve(oc.Problem(mdp, regularizer=oc.KL(strength, prior)), check=False)
    assert result.policy.pair_probabilities[2] == 0
    limit = [0.0, 1.0, 0.0] if strength < 1 else [0.5, 0.5, 0.0]
    assert result.policy.pair_probabilities == pytest.approx(limit, abs=1e-9)
    assert np.isfinite(result.objective)


def test_72_constant_rewards_have_no_gradient():
    mdp = oc.MDP.from_arrays(np.full((2, 2, 2), 0.5), np.full((2, 2), 3.0), discount=0.9)
    assert np.abs(oc.policy_gradient(mdp, oc.Policy.uniform(mdp))).max() <= 1e-12
    assert oc.solve(mdp, oc.NaturalPolicyGradient(steps=5)).status is oc.Status.CERTIFIED


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_75_a_plateau_is_no_answer(steps):
    """Where a gradient stops short of the optimum the gap says by how much, and nobody says CERTIFIED."""
    mdp = oc.instances.get("vanishing-gradient-chain")
    best = Exact.of(mdp).optimum()
    result = oc.solve(mdp, oc.PolicyGradient(steps=steps))
    lost = float(best) - result.objective
    assert (result.status is oc.Status.CERTIFIED) == (lost < 1e-8)
    assert result.gap == pytest.approx(lost, abs=1e-9)


def test_79_a_solver_that_is_not_installed(machine):
    with pytest.raises(oc.BackendMissing, match="Installed are"):
        oc.solve(machine, oc.OccupancyProgram("NOSUCH"))

"""Adversarial questions, by their numbers in docs/bad-input.md: structure, scale and constraints.

Numbers 1 to 27, about the input of models, are in test_bad_inputs.py, 67 to 80 in test_bad_runs.py.
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
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


def test_30_horizons(machine):
    for horizon in (0, -1, 2.5, np.nan, True, "3", None):
        for ask in (machine.unrolled, lambda steps: oc.backward_induction(oc.instances.get("inventory"), steps)):
            with pytest.raises(oc.InvalidProblem, match="is not a number of steps"):
                ask(horizon)
    steps = 10**6  # two values are kept, not a million; every period earns 2
    answer = oc.backward_induction(oc.MDP.from_arrays([[[0.5, 0.5]]] * 2, [[1.0], [3.0]]), steps, keep=0)
    assert answer.lower <= 2.0 * steps <= answer.upper
    assert answer.gap < 1e-6


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


def test_37_which_of_the_policies_of_best_gain():
    """Policy 0 earns 10 once more on its way into the same loop: equal in gain, better in bias (documented choice)."""
    mdp = oc.MDP.from_arrays([[[0, 1], [0, 1]], [[0, 1]] * 2], [[10.0, 0.0], [1.0, 1.0]], initial=0)
    problem = oc.Problem(mdp, criterion="average")
    either = oc.solve(problem)
    assert either.gain.tolist() == [1.0, 1.0]
    best = oc.solve(problem, oc.PolicyIteration(bias=True))
    assert best.policy.choice[0] == 0
    assert best.bias[0] - best.bias[1] == pytest.approx(9.0)


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


def test_40_a_goal_that_cannot_be_reached_for_certain():
    """From 0 the goal is missed with probability 1/2: no number, but minus infinity and the states that are lost."""
    rows = [[[0, 0.5, 0.5]], [[0, 1, 0]], [[0, 0, 1]]]
    mdp = oc.MDP.from_arrays(rows, [[-1.0], [-1.0], [0.0]], initial="start", states=["start", "pit", "home"])
    problem = oc.Problem(mdp, criterion="total", goal="home")
    with pytest.raises(oc.Infeasible, match="almost surely from start") as caught:
        oc.solve(problem)
    assert caught.value.result.objective == -np.inf
    assert oc.evaluate(problem, oc.Policy.uniform(mdp)).state_values.tolist() == [-np.inf, -np.inf, 0.0]
    assert oc.structure(mdp, goal="home").goal.certain_for_some.tolist() == [False, False, True]


def test_41_an_infinite_optimum_comes_with_a_policy_that_attains_it():
    loop = oc.MDP.from_arrays([[[1, 0], [0, 1]], [[0, 1]] * 2], [[1, 0], [0, 0]], initial=0)
    problem = oc.Problem(loop, criterion="total")
    result = oc.solve(problem, check=False)
    assert result.status is oc.Status.UNBOUNDED
    assert result.objective == oc.evaluate(problem, result.policy).objective == np.inf
    assert oc.verify(problem, result)


@pytest.mark.parametrize("loss", [-1.0, -1.01])
def test_44_gains_and_losses_for_ever(loss):
    """1 − 1 + 1 − ... has no sum: no bound is proved, none is claimed. With a little more lost each time it has."""
    circle = oc.MDP.from_arrays([[[0, 1]], [[1, 0]]], [[1.0], [loss]], initial=0)
    problem = oc.Problem(circle, criterion="total")
    if loss < -1:
        with pytest.raises(oc.Unbounded, match="every policy loses without end from 0") as caught:
            oc.solve(problem)
        assert oc.verify(problem, caught.value.result)
        return
    assert np.isnan(oc.evaluate(problem, oc.Policy.uniform(circle)).objective)
    with pytest.raises(oc.NotCertified, match="gains and losses cancel"):
        oc.solve(problem)
    result = oc.solve(problem, check=False)
    assert (result.certificate.lower, result.certificate.upper) == (-np.inf, np.inf)
    assert oc.verify(problem, result)


def test_45_several_initial_states_are_a_distribution(machine):
    """Never the best or the worst of them: their mean, which has to be written down."""
    for several in (("new", "worn"), {"new", "worn"}, range(2)):
        with pytest.raises(oc.InvalidModel, match="initial"):
            machine.replace(initial=several)
    worth = {s: oc.solve(machine.replace(initial=s)).objective for s in machine.states}
    mixed = machine.replace(initial={"new": 0.25, "worn": 0.75})
    assert oc.solve(mixed).objective == pytest.approx(0.25 * worth["new"] + 0.75 * worth["worn"], rel=1e-12)


def test_46_long_corridors():
    """A hundred thousand components of one state each, in a row: nothing recurses, every step is counted."""
    n = 100_000
    steps = sparse.csr_array((np.ones(n), (np.arange(n), np.minimum(np.arange(n) + 1, n - 1))), shape=(n, n))
    rewards = np.append(np.ones(n - 1), 0.0)
    corridor = oc.MDP.from_pairs(np.arange(n), np.zeros(n, dtype=int), steps, rewards, initial=0)
    result = oc.solve(oc.Problem(corridor, "minimize", "total", goal=n - 1))
    assert result.status is oc.Status.CERTIFIED
    assert result.certificate.lower <= n - 1 <= result.certificate.upper


@dataclass(frozen=True)
class OneSwitch:
    """Policy iteration that changes one state a step, the last that can be improved: Melekopoglou and Condon (1994)."""

    promises_tol: bool = True

    def unsupported(self, problem):
        return None

    def iterate(self, problem, *, tol, rng, start=None):
        choice = problem.mdp.pair_start[:-1].copy()
        while True:
            policy = oc.Policy.from_choice(problem.mdp, choice)
            found = oc.evaluate(problem, policy)
            yield oc.Iterate(policy, found.state_values)
            better = np.flatnonzero(found.pair_advantages > 1e-12)
            if not len(better):
                return
            choice[problem.mdp.pairs.states[better[-1]]] = better[-1]


def needs_every_policy(n):
    """The model on which that takes 2^n evaluations: n decisions, each with a chance node, and a reward at the end."""
    nodes = ["won", "end", "lost", *(f"{kind}{i}" for i in range(1, n + 1) for kind in ("chance", "choice"))]

    def step(state, action):
        if state in ("won", "end", "lost"):
            return [(1, "end", float(state == "won"))]
        kind, i = state[:6], int(state[6:])
        before = f"choice{i - 1}" if i > 1 else "lost"
        if kind == "choice":
            return [(1, f"chance{i}" if action else before, 0.0)]
        above = f"chance{i - 1}" if i > 1 else "won"
        return [("1/2", above, 0.0), ("1/2", f"choice{i - 2}" if i > 2 else "lost", 0.0)]

    return oc.MDP.from_function(step, nodes, lambda s: [0, 1] if s[:6] == "choice" else [0])


@pytest.mark.parametrize("n", [1, 3, 5])
def test_48_methods_that_take_exponentially_long_are_stopped(n):
    problem = oc.Problem(needs_every_policy(n), criterion="total")
    whole = oc.solve(problem, OneSwitch())
    assert whole.status is oc.Status.CERTIFIED
    if n > 1:
        stopped = oc.solve(problem, OneSwitch(), limit=oc.Limit(iterations=n))
        assert stopped.status is oc.Status.LIMIT
        assert stopped.certificate.lower <= whole.objective <= stopped.certificate.upper
        assert oc.verify(problem, stopped)


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


@pytest.mark.parametrize(("n", "steps"), [(100, 1.9014759003423441e30), (300, 3.0555539645017e90)])
def test_53_walks_of_1e30_and_1e90_steps(n, steps):
    """Haddad and Monmege (2018), Figure 2: sparse LU says 0 and 2.7e16 for n = 100, HiGHS "Optimal" 0."""
    rows, columns, weights = [0, 2 * n], [0, 2 * n], [1.0, 1.0]
    for i in range(1, 2 * n):
        ways = [(n + 1, 0.7), (n - 1, 0.3)] if i == n else [(n, 0.5), (i + (1 if i > n else -1), 0.5)]
        for target, weight in ways:
            rows, columns, weights = [*rows, i], [*columns, target], [*weights, weight]
    matrix = sparse.csr_array((weights, (rows, columns)), shape=(2 * n + 1, 2 * n + 1))
    moving = np.ones(2 * n + 1)
    moving[[0, -1]] = 0.0
    walk = oc.MDP.from_pairs(np.arange(2 * n + 1), np.zeros(2 * n + 1, dtype=int), matrix, moving, initial=n)
    reach = oc.Problem(walk, criterion="total", goal=2 * n, objective="reach")
    count = oc.Problem(walk, criterion="total", goal=[0, 2 * n])
    only = oc.Policy.uniform(walk)
    assert oc.evaluate(reach, only).objective == pytest.approx(0.7, rel=1e-12)
    assert oc.evaluate(count, only).objective == pytest.approx(steps, rel=1e-12)
    result = oc.solve(count, check=False)  # a bound in doubles may be out of reach, and is then infinite
    assert result.certificate.lower <= steps * (1 + 1e-12)
    assert result.certificate.upper >= steps * (1 - 1e-12)


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


def test_64_a_front_that_only_deterministic_policies_see():
    """Deep Sea Treasure with Vamplew's concave map: lotteries over the two ends beat the eight dives between."""
    treasures = [1, 2, 3, 5, 8, 16, 24, 50, 74, 124]
    times = [1, 3, 5, 7, 8, 9, 13, 14, 17, 19]
    dives = oc.MDP.from_arrays(np.ones((1, 10, 1)), [treasures], discount=0.5, costs={"time": [times]})
    front = oc.pareto(dives, ["reward"], ["time"])
    assert sorted(front.points.tolist()) == [[1.0, 1.0], [124.0, 19.0]]
    # The best single dive within 10 periods is asked for as such.
    limit = oc.Problem(dives, constraints=[oc.expected("time") <= 10])
    assert oc.solve(limit).objective == pytest.approx(1 + 123 * 9 / 18)
    assert oc.solve(limit, oc.DeterministicProgram()).objective == 16.0


def test_66_senses_are_never_guessed(machine):
    with pytest.raises(oc.InvalidProblem, match="sense="):
        oc.Problem(machine, sense="max")
    with pytest.raises(oc.InvalidProblem, match="chained"):
        bool(0 <= oc.expected("wear") <= 1)
    with pytest.raises(oc.InvalidProblem, match="named twice"):
        oc.pareto(machine, maximize=["reward"], minimize=["reward"])
    # Costs grow where rewards fall; the limit points the same way for both.
    for sense, bound in (("maximize", 0.25), ("minimize", 0.1)):
        problem = oc.Problem(machine, sense=sense, constraints={"wear": oc.expected("wear") <= bound})
        result = oc.solve(problem, check=False)
        assert result.certificate.lower <= result.certificate.upper
        assert min(result.multipliers.values()) >= 0

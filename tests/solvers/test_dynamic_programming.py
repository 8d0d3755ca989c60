"""Dynamic programming: numbers of iterations, ties, restarts, and what each method promises."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from helpers import Exact, doubles, encloses, exact_objective, random_policy, two_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps, policy_tables

import occlp as oc
from occlp.chains import moves, resolvent
from occlp.errors import InvalidProblem, NotCertified

METHODS = [
    oc.PolicyIteration(),
    oc.PolicyIteration(warm_up=0),
    oc.ValueIteration(),
    oc.ModifiedPolicyIteration(),
    oc.ModifiedPolicyIteration(evaluation_sweeps=1),
]
HOWARD = oc.PolicyIteration(warm_up=0)


# The optimum -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=str)
@given(mdps(max_states=4, max_actions=2), st.sampled_from(["maximize", "minimize"]))
@settings(max_examples=25)
def test_every_method_finds_the_optimum_of_every_kind_of_model(method, mdp, sense):
    problem, exact = oc.Problem(mdp, sense=sense), Exact.of(mdp)
    result, optimum = oc.solve(problem, method), exact.brute_force(sense)
    assert result.status is oc.Status.CERTIFIED
    assert encloses(result.certificate, optimum)
    assert abs(exact_objective(problem, result.policy) - optimum) <= Fraction(result.certificate.allowed_gap(1e-8))


@given(mdps(max_states=4, max_actions=2), st.sampled_from(["maximize", "minimize"]))
@settings(max_examples=40)
def test_sweeps_find_what_elimination_finds(mdp, sense):
    """The way of large models, on small ones, against every policy in fractions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resolvent, "ELIMINATION_WORK", -1)
        atol = 1e-12 * float(np.abs(mdp.pair_rewards).max())  # sweeps do not tell tiny optima from nothing
        result = oc.solve(oc.Problem(mdp, sense=sense), atol=atol)
    optimum = Exact.of(mdp).brute_force(sense)
    assert result.status is oc.Status.CERTIFIED
    assert encloses(result.certificate, optimum)
    again = oc.evaluate(oc.Problem(mdp, sense=sense), result.policy)
    np.testing.assert_allclose(result.pair_occupancy, again.pair_occupancy, atol=1e-10)
    np.testing.assert_allclose(result.objective, again.objective, atol=1e-11 * (1 + np.abs(mdp.pair_rewards).max()))
    assert oc.verify(oc.Problem(mdp, sense=sense), result)


@pytest.mark.parametrize("branching", [3, 7])
def test_large_models_are_swept_and_keep_their_certificates(branching):
    """Garnets mix fast, so nothing is factorised; the audit recomputes the bounds, and the flow must balance."""
    mdp = oc.instances.get("garnet", n_states=600, n_actions=4, branching=branching, seed=branching, discount=0.99)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moves.Moves, "resolvent", property(lambda _: pytest.fail("a chain was factorised")))
        result = oc.solve(mdp)
    assert oc.verify(mdp, result)
    assert result.gap <= 1e-13
    inflow = 0.99 * result.pair_occupancy @ mdp.transitions + (1 - 0.99) * mdp.initial
    np.testing.assert_allclose(result.state_occupancy, inflow, rtol=0, atol=1e-16)
    values = np.max(result.action_values, axis=1)
    np.testing.assert_allclose(result.state_values, values, rtol=1e-12)


@given(mdps(max_states=5), st.sampled_from(["maximize", "minimize"]))
@settings(max_examples=40)
def test_policy_iteration_ends_with_a_policy_that_is_optimal_in_every_state(mdp, sense):
    """Also in states that are out of reach, where the objective does not ask for it."""
    problem = oc.Problem(mdp, sense=sense)
    *_, last = HOWARD.iterate(problem, tol=1e-8, rng=np.random.default_rng(0))
    values = doubles(Exact.of(mdp).optimal_values(sense))
    scale = 1e2 * (1 + np.abs(mdp.pair_rewards).max())
    np.testing.assert_allclose(oc.evaluate(problem, last.policy).state_values, values, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("method", [HOWARD, oc.ModifiedPolicyIteration(), oc.ValueIteration()], ids=str)
def test_answers_are_greedy_in_states_out_of_reach(method):
    mdp = oc.MDP.from_pairs(
        [0, 1, 1, 2], [0, 0, 1, 0], [[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], [0, 1, 1, 0], discount=0.5, initial=2
    )
    result = oc.solve(mdp, method)
    assert result.visited.tolist() == [False, False, True]
    assert result.policy.actions[1] == 1
    assert result.pair_advantages.max() <= 1e-15


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("rest", [1e-3, 1e-6])
def test_long_horizons(method, rest):
    mdp = oc.instances.get("garnet", n_states=30, n_actions=3, branching=4, seed=8, discount=1 - rest)
    result = oc.solve(mdp, method)
    assert result.status is oc.Status.CERTIFIED
    assert result.objective == pytest.approx(oc.solve(mdp, oc.OccupancyProgram("HIGHS")).objective, rel=1e-8)


# Howard's iterations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_howards_iterations_keep_the_bound(seed):
    """At most (m − n) ⌈log(1/(1 − γ))/(1 − γ)⌉ (Ye 2011; Hansen, Miltersen and Zwick 2013; Scherrer 2016)."""
    rng = np.random.default_rng(seed)
    n, a, gamma = int(rng.integers(2, 40)), int(rng.integers(2, 6)), float(rng.choice([0.3, 0.5, 0.9, 0.99]))
    mdp = oc.instances.get("garnet", n_states=n, n_actions=a, branching=min(n, 3), seed=seed, discount=gamma)
    worst = oc.Policy.from_choice(mdp, oc.solve(oc.Problem(mdp, sense="minimize")).policy.choice)
    result = oc.solve(mdp, HOWARD, start=worst)
    bound = (mdp.n_pairs - n) * math.ceil(math.log(1 / (1 - gamma)) / (1 - gamma))
    assert 1 < result.iterations <= max(bound, 2)
    assert result.iterations <= 15  # as everybody sees in practice


@given(st.data(), mdps(max_states=5))
@settings(max_examples=40)
def test_howards_policies_never_get_worse(data, mdp):
    start = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    problem = oc.Problem(mdp)
    iterates = HOWARD.iterate(problem, tol=1e-8, rng=np.random.default_rng(0), start=start)
    policies = [iterate.policy for iterate in itertools.islice(iterates, 50)]
    assert len(policies) < 50
    np.testing.assert_array_equal(policies[0].pair_probabilities, start.pair_probabilities)
    values = [oc.evaluate(problem, policy).state_values for policy in policies]
    scale = 1e2 * (1 + np.abs(mdp.pair_rewards).max())
    for before, after in itertools.pairwise(values):
        assert (after >= before - 1e-12 * scale).all()
    assert oc.evaluate(problem, policies[-1]).objective == pytest.approx(
        float(Exact.of(mdp).optimum()), abs=1e-12 * scale
    )


def melekopoglou_condon(n, discount):
    """Decision i goes to i − 1 or to chance node i', which leads to (i − 1)' and to decision i − 2; 0' is worth 1.

    Source: Melekopoglou and Condon, ORSA Journal on Computing 6 (1994). States: decisions 0..n, chance n+1..2n+1
    (node i' is n + 1 + i), and an end without reward. Nodes 0 and 0' are worth 0 and 1.
    """
    end = 2 * n + 2
    states, actions, rows, rewards = [], [], [], []

    def add(state, action, successors, reward=0.0):
        row = np.zeros(end + 1)
        for successor, p in successors:
            row[successor] += p
        states.append(state)
        actions.append(action)
        rows.append(row)
        rewards.append(reward)

    add(0, 0, [(end, 1)])
    for i in range(1, n + 1):
        add(i, 0, [(i - 1, 1)])
        add(i, 1, [(n + 1 + i, 1)])
        add(n + 1 + i, 0, [(n + i, 0.5), (i - 2 if i >= 2 else end, 0.5)])
    add(n + 1, 0, [(end, 1)], 1.0)
    add(end, 0, [(end, 1)])
    return oc.MDP.from_pairs(states, actions, rows, rewards, discount=discount, initial=n)


def simple_policy_iteration(mdp, decisions):
    """Switch only the improvable state of the largest index; returns the number of evaluations."""
    exact, chosen = Exact.of(mdp), dict.fromkeys(decisions, 0)
    for evaluations in itertools.count(1):
        choice = [Fraction(int(len(exact.spans[s]) == 1 or chosen[s] == k - exact.spans[s][0]))
                  for k, s in enumerate(exact.states)]  # fmt: skip
        values = exact.values(choice)
        scores = exact.action_values(values)
        better = [s for s in decisions if scores[exact.spans[s][1 - chosen[s]]] > values[s]]
        if not better:
            return evaluations, exact.objective(values)
        chosen[max(better)] ^= 1
    raise AssertionError


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_worst_case_of_simple_policy_iteration(n):
    """One state at a time needs 2^n evaluations; all at once needs about n, from the same start."""
    mdp = melekopoglou_condon(n, 1 - 1e-6)
    evaluations, optimum = simple_policy_iteration(mdp, range(1, n + 1))
    assert evaluations == 2**n
    start = oc.Policy.deterministic(mdp, [0] * mdp.n_states)
    result = oc.solve(mdp, HOWARD, start=start)
    assert encloses(result.certificate, optimum)
    assert result.iterations <= n + 1


def test_a_run_that_is_cut_short_has_an_honest_bound():
    mdp = melekopoglou_condon(8, 1 - 1e-6)
    start = oc.Policy.deterministic(mdp, [0] * mdp.n_states)
    result = oc.solve(mdp, HOWARD, start=start, limit=oc.Limit(iterations=1))
    optimum = Exact.of(mdp).optimum()
    assert result.status is oc.Status.LIMIT
    assert encloses(result.certificate, optimum)
    assert Fraction(result.gap) >= optimum - exact_objective(oc.Problem(mdp), result.policy)
    assert result.gap > result.certificate.allowed_gap(1e-8)


# Ties --------------------------------------------------------------------------------------------------------


def tied():
    """Nine states, of which seven are indifferent (pymdptoolbox, issue 7)."""
    rows = [
        (0, 0, {3: "16/25", 6: "9/25"}, "0"), (0, 1, {2: "2/5", 4: "3/5"}, "3/5"),
        (1, 0, {4: "93/100", 7: "7/100"}, "0"), (1, 1, {4: "1"}, "1"),
        (2, 0, {5: "1/5", 8: "4/5"}, "0"), (2, 1, {2: "1"}, "0"),
        (3, 0, {3: "1"}, "0"), (3, 1, {4: "87/100", 5: "13/100"}, "0"),
        (4, 0, {4: "1"}, "0"), (4, 1, {4: "1"}, "0"), (5, 0, {5: "1"}, "0"), (5, 1, {5: "1"}, "0"),
        (6, 0, {6: "1"}, "0"), (6, 1, {7: "11/100", 8: "89/100"}, "0"),
        (7, 0, {7: "1"}, "0"), (7, 1, {7: "1"}, "0"), (8, 0, {8: "1"}, "0"), (8, 1, {8: "1"}, "0"),
    ]  # fmt: skip
    return oc.MDP.from_pairs(
        [row[0] for row in rows],
        [row[1] for row in rows],
        [[row[2].get(s, "0") for s in range(9)] for row in rows],
        [row[3] for row in rows],
        discount="0.9",
    )


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_ties_do_not_cycle(method):
    mdp = tied()
    result = oc.solve(mdp, method)
    assert result.status is oc.Status.CERTIFIED
    np.testing.assert_allclose(result.state_values, [0.6, 1, 0, 0, 0, 0, 0, 0, 0], rtol=1e-15, atol=0)
    assert [result.policy.actions[s] for s in (0, 1)] == [1, 1]
    assert (result.certificate.reduced_costs <= 1e-15).sum() == 16


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("offset", ["0", "1e-9", "-1e-9"])
def test_the_tie_of_putermans_model(method, offset):
    """At 10/11 both actions of s1 are optimal; on either side of it one is, by very little."""
    gamma = Fraction(10, 11) + Fraction(offset)
    mdp = oc.instances.get("puterman-two-state", discount=gamma)
    result = oc.solve(mdp, method)
    exact = Exact.of(mdp)
    assert encloses(result.certificate, exact.optimum())
    np.testing.assert_allclose(result.state_values, doubles(exact.optimal_values()), rtol=1e-13, atol=1e-8)
    if offset != "0" and isinstance(method, oc.PolicyIteration):
        assert result.policy.actions["s1"] == ("a1" if gamma > Fraction(10, 11) else "a2")


def test_stochastic_starts_keep_their_randomisation_on_ties():
    mdp = tied()
    result = oc.solve(mdp, HOWARD, start=oc.Policy.uniform(mdp))
    assert result.policy.probabilities[:2].tolist() == [[0, 1], [0, 1]]
    np.testing.assert_array_equal(result.policy.probabilities[2:], 0.5)
    assert result.policy.randomizing.tolist() == [False] * 2 + [True] * 7
    assert result.status is oc.Status.CERTIFIED


def test_mass_on_an_inferior_action_is_given_up_however_small():
    mdp = oc.MDP.from_arrays(np.ones((1, 3, 1)), [[1.0, 1.0, 0.0]], discount=0.9)
    start = oc.Policy.from_table(mdp, [[0.5, 0.5 - 1e-12, 1e-12]])
    result = oc.solve(mdp, HOWARD, start=start, tol=0.0, check=False)
    assert result.policy.pair_probabilities[2] == 0.0


# Restarts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_an_answer_resumes_at_once(method):
    mdp = oc.instances.get("garnet", n_states=30, seed=4)
    first = oc.solve(mdp, method)
    for start in (first, first.policy):
        again = oc.solve(mdp, method, start=start)
        assert again.iterations == 1
        assert again.status is oc.Status.CERTIFIED
        np.testing.assert_array_equal(again.policy.pair_probabilities, first.policy.pair_probabilities)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_run_in_two_parts_arrives_where_one_part_does(method):
    mdp = oc.instances.get("slippery-gridworld", n=9, discount=0.999)
    whole = oc.solve(mdp, method)
    half = oc.solve(mdp, method, limit=oc.Limit(iterations=1), start=oc.Policy.uniform(mdp))
    assert half.status is oc.Status.LIMIT
    rest = oc.solve(mdp, method, start=half)
    assert rest.status is oc.Status.CERTIFIED
    assert rest.objective == pytest.approx(whole.objective, rel=1e-9)
    assert rest.objective >= half.objective


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_starts_of_another_model_are_refused(method):
    mdp = oc.instances.get("howard-toymaker")
    other = oc.solve(oc.instances.get("kakade-two-state"))
    for start in (other, other.policy):
        with pytest.raises(InvalidProblem, match="another model"):
            oc.solve(mdp, method, start=start)


# Promises ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [oc.ValueIteration(max_sweeps=3), oc.ModifiedPolicyIteration(evaluation_sweeps=0, max_improvements=3)]
)
def test_methods_that_give_up_break_their_promise(method):
    mdp = oc.instances.get("slippery-gridworld", n=6, discount=0.999)
    with pytest.raises(NotCertified, match="the certified gap is") as caught:
        oc.solve(mdp, method)
    result = caught.value.result
    assert result.status is oc.Status.BOUNDED
    assert result.iterations == 3
    assert result.gap >= oc.solve(mdp).objective - result.objective > 0
    assert oc.solve(mdp, method, check=False).gap == result.gap


def test_value_iteration_is_modified_policy_iteration_without_sweeps():
    problem, rng = oc.Problem(oc.instances.get("garnet", n_states=20)), np.random.default_rng(0)
    first = oc.ValueIteration(max_sweeps=10).iterate(problem, tol=0, rng=rng)
    second = oc.ModifiedPolicyIteration(evaluation_sweeps=0, max_improvements=10).iterate(problem, tol=0, rng=rng)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.values, two.values)
        np.testing.assert_array_equal(one.policy.pair_probabilities, two.policy.pair_probabilities)


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_sweeps_follow_the_bellman_equation(sense):
    """Values less their mean are those of V ← best of r + γPV, also when minimising."""
    mdp = oc.instances.get("garnet", n_states=10, n_actions=3, seed=9, discount=0.8)
    problem, best = oc.Problem(mdp, sense=sense), np.maximum if sense == "maximize" else np.minimum
    plain = np.zeros(10)
    iterates = oc.ValueIteration(max_sweeps=8).iterate(problem, tol=0, rng=np.random.default_rng(0))
    for iterate in iterates:
        np.testing.assert_allclose(iterate.values - iterate.values.mean(), plain - plain.mean(), atol=1e-12)
        plain = best.reduceat(mdp.pair_rewards + 0.8 * mdp.transitions @ plain, mdp.pair_start[:-1])


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_easy_questions_take_one_iteration(method):
    zero = oc.MDP.from_pairs([0, 0, 1], [0, 1, 0], [[0, 1], [1, 0], [1, 0]], [0, 0, 0], discount=0.9)
    myopic = oc.instances.get("howard-taxicab", discount=0)
    for mdp in (zero, myopic):
        result = oc.solve(mdp, method)
        assert result.status is oc.Status.CERTIFIED
        assert result.iterations <= 2
    assert oc.solve(zero, method).gap == 0
    assert oc.solve(zero, method).state_values.tolist() == [0, 0]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_periodic_chains(method):
    """Two states that alternate: plain relative values oscillate, the discount damps them."""
    mdp = oc.MDP.from_arrays([[[0, 1], [0, 1]], [[1, 0], [1, 0]]], [[1.0, 0.5], [0.0, 0.25]], discount=0.999)
    result = oc.solve(mdp, method)
    assert encloses(result.certificate, Exact.of(mdp).optimum())
    assert result.policy.actions == {0: 0, 1: 1}


@pytest.mark.parametrize("rest", ["1e-9", "1e-12"])
@pytest.mark.parametrize("method", [oc.PolicyIteration(), HOWARD], ids=str)
def test_classes_of_different_gain(method, rest):
    mdp = two_classes(rest)
    result = oc.solve(mdp, method)
    assert result.policy.actions[0] == 0
    assert encloses(result.certificate, Exact.of(mdp).optimum())


def test_settings_that_are_refused():
    with pytest.raises(InvalidProblem, match="must not be negative"):
        oc.ModifiedPolicyIteration(evaluation_sweeps=-1)


def test_a_start_near_the_optimum_is_used():
    mdp = oc.instances.get("garnet", n_states=50, seed=2)
    best = oc.solve(mdp)
    cold = oc.solve(mdp, oc.ValueIteration())
    warm = oc.solve(mdp, oc.ValueIteration(), start=best.policy)
    assert warm.iterations < cold.iterations
    worse = oc.solve(mdp, HOWARD, start=random_policy(mdp, np.random.default_rng(0)))
    assert worse.iterations > 1

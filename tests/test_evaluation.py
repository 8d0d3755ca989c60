"""Evaluation of policies: against dense algebra, exact fractions, identities and relations between models."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from helpers import Exact, dense_evaluation, doubles, fractions, permuted, positive_policies, random_policy, two_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps, mdps_with_policies, policy_tables, sketches

import occlp as oc
from occlp import evaluation
from occlp.chains import aggregation, moves, resolvent, sweeps
from occlp.chains.chain import policy_chain, relative_values

REST = st.sampled_from(["1", "1/2", "1/10", "1e-3", "1e-9", "1e-12"])


def spread_of(mdp):
    """The range of the rewards, or their size where they are constant, or one."""
    rewards = mdp.pair_rewards
    return float(rewards.max() - rewards.min()) or float(np.abs(rewards).max()) or 1.0


def assert_close(found, expected, scale, tolerance=1e-12):
    """Equal to `tolerance` relative to a scale."""
    assert float(np.abs(np.asarray(found) - np.asarray(expected)).max(initial=0.0)) <= tolerance * scale


@given(mdps_with_policies())
@settings(max_examples=100)
def test_against_dense_linear_algebra(drawn):
    mdp, table = drawn
    evaluation = oc.evaluate(mdp, oc.Policy.from_table(mdp, table))
    values, action_values, occupancy = dense_evaluation(mdp, evaluation.policy.pair_probabilities)
    scale = 1e2 * (1 + np.abs(mdp.pair_rewards).max())  # 1/(1 − γ) is at most 100
    assert_close(evaluation.state_values, values, scale)
    assert_close(evaluation.pair_action_values, action_values, scale)
    assert_close(evaluation.pair_advantages, action_values - values[mdp.pairs.states], scale)
    assert_close(evaluation.pair_occupancy, occupancy, 1.0)
    assert_close(evaluation.objective, (1 - mdp.discount) * mdp.initial @ values, scale)
    assert_close(evaluation.expected_return, mdp.initial @ values, scale)


@given(st.data(), sketches(max_states=5), REST)
@settings(max_examples=150)
def test_against_exact_fractions(data, sketch, rest):
    """Also at 1 − γ = 1e-12 and with several classes: d keeps every digit of every component."""
    mdp = sketch.mdp(exact=True).replace(discount=str(1 - Fraction(rest)))
    policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    evaluation, exact = oc.evaluate(mdp, policy), Exact.of(mdp)
    probabilities = fractions(policy.pair_probabilities)
    values, mass = exact.values(probabilities), exact.occupancy(probabilities)
    action_values = exact.action_values(values)
    advantages = [q - values[s] for q, s in zip(action_values, exact.states, strict=True)]
    size = float(np.abs(mdp.pair_rewards).max()) or 1.0
    np.testing.assert_allclose(evaluation.pair_occupancy, doubles(mass), rtol=1e-13, atol=0)
    assert evaluation.visited.tolist() == [any(mass[k] > 0 for k in span) for span in exact.spans]
    # Gains and losses that cancel leave the roundings of rewards and of π(a | s) r(s, a), earned for ever.
    cancelled = 4e-16 * doubles(exact.values(probabilities, [abs(reward) for reward in exact.rewards]))
    doubt = 1e-13 * (np.abs(doubles(values)).max() + size) + cancelled
    assert (np.abs(evaluation.state_values - doubles(values)) <= doubt).all()
    assert_close(evaluation.objective, float(exact.objective(values)), size, 1e-14)
    # Advantages within a class are of the size of the rewards, whatever the values are; between classes the
    # rounding of γ and p to doubles counts, with the jump of the values.
    jumps = [
        max(float(sum(p * abs(values[j] - values[s]) for j, p in exact.rows[k].items())) for k in span)
        for s, span in enumerate(exact.spans)
    ]
    doubt = 1e-12 * (np.abs(doubles(advantages)) + size) + 1e-15 * np.array(jumps)[exact.states]
    assert (np.abs(evaluation.pair_advantages - doubles(advantages)) <= doubt).all()
    doubt = 1e-13 * (np.abs(doubles(action_values)).max() + size) + cancelled.max()
    assert (np.abs(evaluation.pair_action_values - doubles(action_values)) <= doubt).all()


def test_gains_and_losses_that_cancel_leave_the_rounding_of_the_rewards():
    """0.1·0 + 0.4·1 − 0.5·(4/5): zero, but 1e-17 for the fractions that 0.4 and 0.5·0.8 are; 1e9 such steps."""
    mdp = oc.MDP.from_arrays([[["1"]] * 3], [["0", "1", "-4/5"]], discount="0.999999999")
    evaluation = oc.evaluate(mdp, oc.Policy.from_table(mdp, [[0.1, 0.4, 0.5]]))
    exact = Exact.of(mdp).values(fractions([0.1, 0.4, 0.5]))
    assert 2e-8 < float(exact[0]) < 3e-8
    assert abs(evaluation.state_values[0] - float(exact[0])) < 4e-16 * 0.8e9


@given(st.data(), sketches(max_states=5), REST)
@settings(max_examples=80)
def test_values_of_rewards_of_one_sign_keep_every_digit(data, sketch, rest):
    mdp = sketch.mdp(exact=True).replace(discount=str(1 - Fraction(rest)))
    sign = data.draw(st.sampled_from([1, -1]))
    mdp = mdp.replace(rewards=[str(sign * abs(Fraction(r))) for r in mdp.exact.rewards])
    policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    evaluation = oc.evaluate(mdp, policy)
    values = Exact.of(mdp).values(fractions(policy.pair_probabilities))
    np.testing.assert_allclose(evaluation.state_values, doubles(values), rtol=1e-13, atol=0)


@given(mdps_with_policies())
@settings(max_examples=60)
def test_the_occupancy_solves_the_flow_equations(drawn):
    mdp, table = drawn
    evaluation = oc.evaluate(mdp, oc.Policy.from_table(mdp, table))
    d, states = evaluation.pair_occupancy, mdp.pairs.states
    inflow = (1 - mdp.discount) * mdp.initial + mdp.discount * (mdp.transitions.T @ d)
    outflow = np.bincount(states, weights=d, minlength=mdp.n_states)
    assert_close(inflow, outflow, 1.0, 1e-14)
    assert abs(d.sum() - 1) <= 1e-15
    assert (d >= 0).all()
    assert_close(d, evaluation.state_occupancy[states] * evaluation.policy.pair_probabilities, 1.0, 1e-15)
    np.testing.assert_array_equal(evaluation.state_occupancy > 0, evaluation.visited)
    np.testing.assert_array_equal(evaluation.occupancy[np.isnan(mdp.rewards)], 0.0)
    # The equation tells a wrong occupancy from the right one.
    wrong = oc.Policy.uniform(mdp).pair_probabilities / mdp.n_states
    if np.abs(wrong - d).max() > 1e-3:
        off = (1 - mdp.discount) * mdp.initial + mdp.discount * (mdp.transitions.T @ wrong)
        off = off - np.bincount(states, weights=wrong, minlength=mdp.n_states)
        assert np.abs(off).max() > 1e-6 or np.abs(np.bincount(states, weights=wrong - d)).max() < 1e-3


@given(mdps_with_policies())
@settings(max_examples=60)
def test_advantages_average_to_zero_and_values_satisfy_the_bellman_equation(drawn):
    mdp, table = drawn
    evaluation = oc.evaluate(mdp, oc.Policy.from_table(mdp, table))
    pi, states = evaluation.policy.pair_probabilities, mdp.pairs.states
    scale = 1e2 * (1 + np.abs(mdp.pair_rewards).max())
    average = np.bincount(states, weights=pi * evaluation.pair_advantages, minlength=mdp.n_states)
    assert_close(average, 0.0, scale, 1e-14)
    q = evaluation.pair_action_values
    assert_close(np.bincount(states, weights=pi * q, minlength=mdp.n_states), evaluation.state_values, scale)
    assert_close(q, mdp.pair_rewards + mdp.discount * mdp.transitions @ evaluation.state_values, scale)
    missing = np.isnan(mdp.rewards)
    assert np.isnan(evaluation.action_values[missing]).all()
    assert np.isnan(evaluation.advantages[missing]).all()
    np.testing.assert_array_equal(np.isnan(evaluation.advantages), missing)


@given(mdps_with_policies())
@settings(max_examples=60)
def test_the_objective_three_ways(drawn):
    mdp, table = drawn
    evaluation = oc.evaluate(mdp, oc.Policy.from_table(mdp, table))
    scale = 1 + np.abs(mdp.pair_rewards).max()
    rest = 1 - mdp.discount
    assert_close(evaluation.objective, evaluation.pair_occupancy @ mdp.pair_rewards, scale, 1e-14)
    assert_close(evaluation.expected_return, mdp.initial @ evaluation.state_values, scale / rest, 1e-13)
    assert_close(evaluation.expected_return, evaluation.objective / rest, scale / rest, 1e-15)
    assert evaluation.expected["reward"] == evaluation.objective
    assert evaluation.expected_total["reward"] == evaluation.expected_return
    assert_close(evaluation.visits, evaluation.occupancy / rest, 1 / rest, 1e-15)
    assert_close(evaluation.visits.sum(), 1 / rest, 1 / rest, 1e-14)
    for name, cost in mdp.pair_costs.items():
        assert_close(evaluation.expected[name], evaluation.pair_occupancy @ cost, np.abs(cost).max() + 1, 1e-14)
        assert evaluation.expected_total[name] == evaluation.expected[name] / rest


@given(st.data(), mdps())
@settings(max_examples=60)
def test_performance_difference(data, mdp):
    """J(π') − J(π) = Σ d^π' A^π / (1 − γ) (Kakade and Langford 2002, Lemma 6.1)."""
    first, second = (oc.evaluate(mdp, oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))) for _ in range(2))
    rest = 1 - mdp.discount
    scale = (1 + np.abs(mdp.pair_rewards).max()) / rest
    difference = second.expected_return - first.expected_return
    assert_close(difference, second.pair_occupancy @ first.pair_advantages / rest, scale, 1e-13)
    assert_close(difference, -(first.pair_occupancy @ second.pair_advantages) / rest, scale, 1e-13)


@given(st.data(), mdps(max_costs=1))
@settings(max_examples=60)
def test_permuting_states_and_actions_permutes_the_answer(data, mdp):
    states = data.draw(st.permutations(range(mdp.n_states)))
    actions = data.draw(st.permutations(range(mdp.n_actions)))
    table = data.draw(policy_tables(mdp))
    other = permuted(mdp, states, actions)
    moved = np.zeros((other.n_states, other.n_actions))
    moved[np.ix_(states, actions)] = table
    first = oc.evaluate(mdp, oc.Policy.from_table(mdp, table))
    second = oc.evaluate(other, oc.Policy.from_table(other, moved))
    scale = 1e2 * (1 + np.abs(mdp.pair_rewards).max())
    assert_close(second.objective, first.objective, scale, 1e-15)
    assert_close(second.state_values[list(states)], first.state_values, scale, 1e-14)
    assert_close(second.occupancy[np.ix_(states, actions)], first.occupancy, 1.0, 1e-15)
    np.testing.assert_allclose(second.advantages[np.ix_(states, actions)], first.advantages, rtol=0, atol=1e-14 * scale)


@given(st.data(), mdps(denominators=(1, 2, 4)), st.sampled_from([1e9, -1e9, 2.0**40]))
@settings(max_examples=60)
def test_shifting_rewards_shifts_values_and_nothing_else(data, mdp, shift):
    """The rewards are multiples of 1/4, so adding 1e9 to them rounds nothing; the answer loses nothing either."""
    policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    first = oc.evaluate(mdp, policy)
    second = oc.evaluate(mdp.replace(rewards=mdp.pair_rewards + shift), policy)
    rest = 1 - mdp.discount
    scale = 1 + np.abs(mdp.pair_rewards).max()
    np.testing.assert_array_equal(second.pair_occupancy, first.pair_occupancy)
    assert_close(second.pair_advantages, first.pair_advantages, scale / rest, 1e-14)
    assert_close(second.objective, first.objective + shift, abs(shift), 1e-15)
    assert_close(second.state_values, first.state_values + shift / rest, abs(shift) / rest, 1e-15)


@given(mdps_with_policies(), st.sampled_from([2.0**30, 2.0**-30, 1e9, 1e-9, 1e200, 1e-200]))
@settings(max_examples=80)
def test_scaling_rewards_scales_the_answer(drawn, factor):
    mdp, table = drawn
    policy = oc.Policy.from_table(mdp, table)
    first, second = oc.evaluate(mdp, policy), oc.evaluate(mdp.replace(rewards=factor * mdp.pair_rewards), policy)
    scale = 1e2 * (1 + np.abs(mdp.pair_rewards).max())
    np.testing.assert_array_equal(second.pair_occupancy, first.pair_occupancy)
    for name in ("objective", "expected_return", "state_values", "pair_advantages", "pair_action_values"):
        assert_close(np.asarray(getattr(second, name)) / factor, getattr(first, name), scale, 1e-14)


@given(st.data(), mdps())
@settings(max_examples=60)
def test_a_duplicated_action_shares_the_occupancy(data, mdp):
    table = data.draw(policy_tables(mdp))
    k = data.draw(st.integers(0, mdp.n_pairs - 1))
    share = data.draw(st.sampled_from([0.0, 0.25, 1.0]))
    twin = mdp.n_actions
    other = oc.MDP.from_pairs(
        [*mdp.pairs.states, mdp.pairs.states[k]],
        [*mdp.pairs.actions, twin],
        np.vstack([mdp.transitions.toarray(), mdp.transitions.toarray()[k]]),
        [*mdp.pair_rewards, mdp.pair_rewards[k]],
        discount=mdp.discount,
        initial=mdp.initial,
    )
    s, a = int(mdp.pairs.states[k]), int(mdp.pairs.actions[k])
    wide = np.hstack([table, np.zeros((mdp.n_states, 1))])
    wide[s, twin], wide[s, a] = share * table[s, a], (1 - share) * table[s, a]
    first = oc.evaluate(mdp, oc.Policy.from_table(mdp, table))
    second = oc.evaluate(other, oc.Policy.from_table(other, wide))
    scale = 1e2 * (1 + np.abs(mdp.pair_rewards).max())
    assert_close(second.state_values, first.state_values, scale, 1e-14)
    merged = second.occupancy[:, :-1].copy()
    merged[s, a] += second.occupancy[s, twin]
    assert_close(merged, first.occupancy, 1.0, 1e-14)
    assert_close(second.occupancy[s, twin], share * first.occupancy[s, a], 1.0, 1e-14)
    assert_close(second.advantages[s, twin], first.advantages[s, a], scale, 1e-14)


@given(mdps_with_policies(), st.integers(1, 3))
@settings(max_examples=40)
def test_unreachable_states_change_nothing(drawn, extra):
    mdp, table = drawn
    n = mdp.n_states
    rows = np.hstack([mdp.transitions.toarray(), np.zeros((mdp.n_pairs, extra))])
    # The new states lead into the old ones, never back.
    new = np.hstack([np.tile(mdp.initial, (extra, 1)), np.zeros((extra, extra))])
    other = oc.MDP.from_pairs(
        [*mdp.pairs.states, *range(n, n + extra)],
        [*mdp.pairs.actions, *[0] * extra],
        np.vstack([rows, new]),
        [*mdp.pair_rewards, *[1000.0] * extra],
        discount=mdp.discount,
        initial=np.append(mdp.initial, np.zeros(extra)),
    )
    wide = np.zeros((n + extra, other.n_actions))
    wide[:n, : table.shape[1]] = table[:, : other.n_actions]
    wide[n:, 0] = 1.0
    first = oc.evaluate(mdp, oc.Policy.from_table(mdp, table))
    second = oc.evaluate(other, oc.Policy.from_table(other, wide))
    assert not second.visited[n:].any()
    assert (second.state_occupancy[n:] == 0).all()
    np.testing.assert_array_equal(second.visited[:n], first.visited)
    scale = 1e3 * (1 + np.abs(mdp.pair_rewards).max())
    assert_close(second.objective, first.objective, scale, 1e-15)
    assert_close(second.state_values[:n], first.state_values, 1e2 * scale, 1e-14)
    expected = 1000.0 + mdp.discount * first.expected_return
    assert_close(second.state_values[n:], expected, 1e2 * scale, 1e-14)


@given(st.data(), mdps(discounts=(Fraction(0),)))
@settings(max_examples=40)
def test_a_discount_of_zero_is_myopic(data, mdp):
    policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    evaluation = oc.evaluate(mdp, policy)
    pi, states = policy.pair_probabilities, mdp.pairs.states
    np.testing.assert_allclose(evaluation.pair_occupancy, mdp.initial[states] * pi, rtol=1e-15, atol=0)
    np.testing.assert_array_equal(evaluation.visited, mdp.initial > 0)
    values = np.bincount(states, weights=pi * mdp.pair_rewards, minlength=mdp.n_states)
    scale = 1 + np.abs(mdp.pair_rewards).max()
    assert_close(evaluation.state_values, values, scale, 1e-15)
    assert_close(evaluation.pair_action_values, mdp.pair_rewards, scale, 1e-15)


@pytest.mark.parametrize("rest", ["1e-9", "1e-12"])
def test_two_classes_of_different_gain_with_a_discount_near_one(rest):
    mdp = two_classes(rest)
    policy = oc.Policy.from_table(mdp, [[0.25, 0.75], [1, 0], [1, 0], [1, 0], [1, 0]])
    evaluation, gamma = oc.evaluate(mdp, policy), 1 - Fraction(rest)
    first, second = 1 / (1 + gamma), gamma / (1 + gamma)  # of the class that alternates between 1 and 0
    third = Fraction(1, 3)
    gain = gamma * (Fraction(1, 4) * first + Fraction(3, 4) * third)
    assert_close(evaluation.objective, float(gain), 1.0, 1e-15)
    assert_close(evaluation.expected_return * float(rest), float(gain), 1.0, 1e-15)
    assert_close(evaluation.state_values * float(rest), doubles([gain, first, second, third, 1]), 1.0, 1e-15)
    np.testing.assert_allclose(
        evaluation.advantages[0] * float(rest), doubles([gamma * first - gain, gamma * third - gain]), rtol=1e-14
    )
    assert evaluation.visited.tolist() == [True, True, True, True, False]
    assert evaluation.state_occupancy[4] == 0


@given(st.data(), mdps(max_costs=1))
@settings(max_examples=40)
def test_minimising_the_negative_is_maximising(data, mdp):
    policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    earned = oc.evaluate(oc.Problem(mdp), policy)
    paid = oc.evaluate(oc.Problem(mdp, sense="minimize"), policy)
    negative = oc.evaluate(oc.Problem(mdp.replace(rewards=-mdp.pair_rewards), sense="minimize"), policy)
    scale = 1e2 * (1 + np.abs(mdp.pair_rewards).max())
    for name in ("objective", "expected_return", "state_values", "pair_action_values", "pair_advantages"):
        # The sense changes no number: values are the user's, advantages are Q − V.
        assert_close(getattr(paid, name), getattr(earned, name), scale, 1e-14)
        assert_close(getattr(negative, name), -np.asarray(getattr(earned, name)), scale, 1e-14)


def test_a_regularizer_is_taken_off_a_reward_and_added_to_a_cost():
    mdp = oc.MDP.from_arrays(np.ones((1, 2, 1)), [[1.0, 3.0]], discount=0.5)
    policy, kl = oc.Policy.from_table(mdp, [[0.25, 0.75]]), oc.KL(2.0, oc.Policy.uniform(mdp))
    divergence = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    for sense, sign in (("maximize", 1), ("minimize", -1)):
        evaluation = oc.evaluate(oc.Problem(mdp, sense=sense, regularizer=kl), policy)
        assert_close(evaluation.objective, 2.5 - sign * 2.0 * divergence, 1.0, 1e-15)
        assert evaluation.expected["reward"] == 2.5
        assert evaluation.expected_return == 5.0
        assert_close(evaluation.state_values, 5.0, 1.0, 1e-15)


ROUTES = {
    "elimination": {},
    "sweeps": {"ELIMINATION_WORK": -1, "SWEEP_BUDGET": 100_000, "LEAST_REST": 0.0},
    "iterations": {"ELIMINATION_WORK": -1, "SWEEP_BUDGET": 0},
    "sparse LU": {"ELIMINATION_WORK": -1, "SWEEP_BUDGET": 0, "MOST_STEPS": 0},
}
OWNERS = {"ELIMINATION_WORK": resolvent, "SWEEP_BUDGET": sweeps, "LEAST_REST": sweeps, "MOST_STEPS": aggregation}


class Called(Exception):
    """A route was taken that the test had closed."""


def limit_to(monkeypatch, route):
    """Set the thresholds of a route, where they live."""
    for name, value in ROUTES[route].items():
        monkeypatch.setattr(OWNERS[name], name, value)


def force(monkeypatch, route):
    """Leave only one way to evaluate a chain, and make the others fail."""

    def closed(*_, **__):
        raise Called

    limit_to(monkeypatch, route)
    if route != "elimination":
        monkeypatch.setattr(moves.Elimination, "__init__", closed)
    if route not in ("sparse LU", "iterations"):
        monkeypatch.setattr(moves.Aggregation, "__init__", closed)
    if route != "sparse LU":
        monkeypatch.setattr(moves.Factors, "__init__", closed)


def mixing_models():
    """Models on which sweeps converge: one class, aperiodic, not too near one."""
    yield "garnet", oc.instances.get("garnet", n_states=60, n_actions=3, branching=4, seed=5, discount=0.95)
    yield (
        "shifted",
        oc.MDP.from_arrays(
            np.random.default_rng(0).dirichlet(np.ones(12), size=(12, 2)),
            1e6 + np.random.default_rng(1).random((12, 2)),
            discount=1 - 1e-9,
            initial=3,
        ),
    )
    yield "small discount", oc.instances.get("garnet", n_states=15, n_actions=2, branching=2, seed=0, discount=0.3)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", [name for name, _ in mixing_models()])
def test_each_route_gives_the_exact_answer(route, kind, monkeypatch):
    mdp = dict(mixing_models())[kind]
    policy = random_policy(mdp, np.random.default_rng(7))
    exact, probabilities = Exact.of(mdp), fractions(policy.pair_probabilities)
    if mdp.n_states > 20:  # fractions would take minutes
        values, _, mass = dense_evaluation(mdp, policy.pair_probabilities)
        objective, tolerance = float((1 - mdp.discount) * mdp.initial @ values), 1e-12
    else:
        truth = exact.values(probabilities)
        values, mass = doubles(truth), doubles(exact.occupancy(probabilities))
        objective, tolerance = float(exact.objective(truth)), 1e-13
    force(monkeypatch, route)
    evaluation = oc.evaluate(mdp, policy)
    spread = spread_of(mdp)
    np.testing.assert_allclose(evaluation.pair_occupancy, mass, rtol=1e-11, atol=1e-15)
    assert_close(evaluation.state_values, values, np.abs(values).max(), tolerance)
    assert_close(evaluation.objective, objective, abs(objective) + spread, tolerance)
    assert_close(evaluation.pair_occupancy @ mdp.pair_rewards, objective, abs(objective), 1e-12)


@pytest.mark.parametrize("route", ["sweeps", "sparse LU"])
def test_the_other_routes_are_closed(route, monkeypatch):
    """The test above forces what it says that it forces."""
    mdp = two_classes("1e-9")  # sweeps do not converge here
    force(monkeypatch, route)
    if route == "sweeps":
        with pytest.raises(Called):
            oc.evaluate(mdp, oc.Policy.uniform(mdp))
    else:
        assert oc.evaluate(mdp, oc.Policy.uniform(mdp)).objective == pytest.approx(5 / 12, rel=1e-8)
    monkeypatch.setattr(resolvent, "ELIMINATION_WORK", 10**9)
    with pytest.raises(Called):
        oc.evaluate(mdp, oc.Policy.uniform(mdp))


@pytest.mark.parametrize("route", ["iterations", "sparse LU"])
@given(data=st.data(), mdp=mdps(max_states=5), rest=st.sampled_from([0.5, 0.1, 1e-2]))
@settings(max_examples=40)
def test_other_solves_agree_with_elimination_on_every_kind_of_model(route, data, mdp, rest):
    mdp = mdp.replace(discount=1.0 - rest)
    policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    first = oc.evaluate(mdp, policy)
    with pytest.MonkeyPatch.context() as patch:
        limit_to(patch, route)
        second = oc.evaluate(mdp, policy)
    size = float(np.abs(mdp.pair_rewards).max()) or 1.0
    assert_close(second.pair_occupancy, first.pair_occupancy, 1.0, 1e-13)
    np.testing.assert_array_equal(second.visited, first.visited)
    assert_close(second.objective, first.objective, size, 1e-13)
    assert_close(second.state_values, first.state_values, np.abs(first.state_values).max() + size, 1e-12)
    doubt = 1e-11 * (np.abs(first.pair_advantages) + size)
    assert (np.abs(second.pair_advantages - first.pair_advantages) <= doubt).all()


def test_sparse_lu_keeps_the_occupancy_of_two_classes(monkeypatch):
    mdp = oc.MDP.from_arrays(
        [[[0, 0, 0, 1]], [[0, 1, 0, 0]], [[0, 0, 1, 0]], [[0, 0, 1, 0]]],
        np.zeros((4, 1)), discount=1 - 1e-9, initial=[0, 1 / 3, 0, 2 / 3],
    )  # fmt: skip
    force(monkeypatch, "sparse LU")
    evaluation = oc.evaluate(mdp, oc.Policy.uniform(mdp))
    exact = Exact.of(mdp).occupancy([Fraction(1)] * 4)
    assert_close(evaluation.pair_occupancy, doubles(exact), 1.0, 1e-13)


@given(st.data(), mdps(max_states=5), st.sampled_from(sorted(ROUTES)))
@settings(max_examples=60)
def test_brackets_enclose_the_exact_objective_on_each_route(data, mdp, route):
    policy = data.draw(positive_policies(mdp))
    choice = np.array([data.draw(st.integers(a, b - 1)) for a, b in itertools.pairwise(mdp.pair_start.tolist())])
    policy = data.draw(st.sampled_from([policy, oc.Policy.from_choice(mdp, choice)]))
    exact = Exact.of(mdp)
    truth = exact.objective(exact.values(fractions(policy.pair_probabilities)))
    with pytest.MonkeyPatch.context() as patch:
        limit_to(patch, route)
        form = oc.evaluation.formulate(oc.Problem(mdp))
        bracket = relative_values(policy_chain(form, policy.pair_probabilities))
    to_user = [Fraction(form.shift) + Fraction(form.scale) * Fraction(end) for end in (bracket.lower, bracket.upper)]
    slack = Fraction(2, 10**16) * Fraction(spread_of(mdp))
    assert to_user[0] - slack <= truth <= to_user[1] + slack
    assert to_user[1] - to_user[0] <= Fraction(1e-12) * Fraction(spread_of(mdp))


def test_rewards_at_the_ends_of_double_precision():
    mdp = oc.instances.get("howard-toymaker", discount=0.5)
    policy = oc.Policy.uniform(mdp)
    for size in (1e307, 5e-324):
        evaluation = oc.evaluate(mdp.replace(rewards=[size, 0.0, 0.0, 0.0]), policy)
        assert np.isfinite(evaluation.state_values).all()
        assert evaluation.objective >= 0
    near = mdp.replace(discount=1 - 1e-9, rewards=[1e307, 0.0, 0.0, 0.0])
    evaluation = oc.evaluate(near, policy)
    assert np.isfinite(evaluation.objective)
    assert evaluation.expected_return == np.inf  # too large for a double, and never NaN
    assert not np.isnan(evaluation.state_values).any()
    assert not np.isnan(evaluation.pair_action_values).any()


def test_the_largest_rewards():
    mdp = oc.instances.get("howard-toymaker", discount=0.5)
    evaluation = oc.evaluate(mdp.replace(rewards=[1.7e308, -1.7e308, 0.0, 0.0]), oc.Policy.uniform(mdp))
    assert np.isfinite(evaluation.objective)
    assert not np.isnan(evaluation.state_values).any()


def test_evaluations_of_an_mdp_are_those_of_its_plain_problem():
    mdp = oc.instances.get("howard-taxicab")
    policy = random_policy(mdp, np.random.default_rng(0))
    first, second = oc.evaluate(mdp, policy), oc.evaluate(oc.Problem(mdp), policy)
    np.testing.assert_array_equal(first.pair_advantages, second.pair_advantages)
    for array in (first.pair_occupancy, first.state_values, first.pair_action_values, first.visited):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize("seed", range(4))
def test_an_occupancy_that_misses_digits_still_bounds_what_a_policy_earns(seed, monkeypatch):
    """To first order errors of d do not count: the slope of the term joins the rewards, and those are enclosed."""
    rng = np.random.default_rng(seed)
    mdp = oc.instances.get("garnet", n_states=30, n_actions=3, branching=3, seed=seed, discount=0.99)
    form = evaluation.formulate(oc.Problem(mdp, regularizer=oc.KL(0.5, random_policy(mdp, rng))))
    probabilities = random_policy(mdp, rng).pair_probabilities
    exact = evaluation.assess(form, probabilities)
    off = exact.state_occupancy * (1 + 1e-7 * rng.normal(size=mdp.n_states))
    off /= off.sum()
    slope = form.rewards + form.term.gradient(exact.pair_occupancy)
    assert abs((off - exact.state_occupancy)[form.states] * probabilities @ slope) > 1e-11  # the error at face value
    limit_to(monkeypatch, "sweeps")
    monkeypatch.setattr(evaluation, "occupancy", lambda _: off)
    found = evaluation.assess(form, probabilities.copy())  # a chain of its own
    assert exact.objective - 1e-12 <= found.lower <= exact.objective


def test_figures_that_a_criterion_does_not_have():
    """Averages have no return; totals are visits already."""
    average = oc.evaluate(
        oc.Problem(oc.instances.get("machine-repair", discount=None), criterion="average"),
        oc.Policy.uniform(oc.instances.get("machine-repair")),
    )
    for name in ("expected_return", "visits"):
        with pytest.raises(oc.InvalidProblem, match=f"{name} is infinite under the average criterion"):
            getattr(average, name)
    mdp = oc.MDP.from_arrays([[[0.5, 0.5]], [[0, 1]]], [[1], [0]], initial=0)
    total = oc.evaluate(oc.Problem(mdp, criterion="total", goal=1), oc.Policy.uniform(mdp))
    assert total.visits.tolist() == [[2.0], [0.0]]
    assert len(total.expected) == 0
    with pytest.raises(oc.InvalidProblem, match="gain belongs to the average criterion"):
        _ = total.gain

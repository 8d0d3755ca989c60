"""Policies: every way to write one down, what is refused, labels, sampling and the way from an occupancy."""

from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from strategies import mdps, mdps_with_policies

import occlp as oc
from occlp.errors import InvalidProblem


@pytest.fixture
def machine():
    """Three labelled states, two actions; a broken machine can only be repaired."""
    return oc.MDP.from_pairs(
        ["new", "new", "worn", "worn", "broken"],
        ["run", "repair", "run", "repair", "repair"],
        [[0.8, 0.2, 0.0], [1.0, 0.0, 0.0], [0.0, 0.7, 0.3], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]],
        [10.0, 2.0, 8.0, 0.0, -10.0],
        discount=0.9,
        states=["new", "worn", "broken"],
        actions=["run", "repair"],
    )


@given(mdps_with_policies())
@settings(max_examples=60)
def test_tables_and_pairs_are_two_ways_of_writing_one_policy(drawn):
    mdp, table = drawn
    policy = oc.Policy.from_table(mdp, table)
    again = oc.Policy.from_pairs(mdp.pairs, policy.pair_probabilities)
    np.testing.assert_allclose(again.pair_probabilities, policy.pair_probabilities, rtol=4e-16, atol=0)
    np.testing.assert_allclose(policy.probabilities, table, rtol=1e-15, atol=0)
    assert not policy.probabilities[np.isnan(mdp.rewards)].any()
    for k in range(mdp.n_pairs):
        s, a = int(mdp.pairs.states[k]), int(mdp.pairs.actions[k])
        assert policy[s, a] == policy.pair_probabilities[k]
        assert policy[s][a] == policy.pair_probabilities[k]


@given(mdps())
@settings(max_examples=40)
def test_uniform_policies(mdp):
    policy = oc.Policy.uniform(mdp)
    for s, (first, last) in enumerate(itertools.pairwise(mdp.pair_start)):
        np.testing.assert_array_equal(policy.pair_probabilities[first:last], 1 / (last - first))
        assert policy.randomizing[s] == (last - first > 1)
    assert policy.is_deterministic == (mdp.n_pairs == mdp.n_states)


@given(mdps(), st.integers(0, 10**6))
@settings(max_examples=40)
def test_deterministic_policies_from_choices_sequences_and_mappings(mdp, seed):
    rng = np.random.default_rng(seed)
    chosen = np.array([rng.integers(a, b) for a, b in itertools.pairwise(mdp.pair_start)])
    policy = oc.Policy.from_choice(mdp, chosen)
    actions = mdp.pairs.actions[chosen].tolist()
    for other in (
        oc.Policy.deterministic(mdp, actions),
        oc.Policy.deterministic(mdp, dict(enumerate(actions))),
        oc.Policy.deterministic(mdp, policy.actions),
    ):
        np.testing.assert_array_equal(other.pair_probabilities, policy.pair_probabilities)
    np.testing.assert_array_equal(policy.choice, chosen)
    assert policy.is_deterministic
    assert not policy.randomizing.any()
    assert repr(policy) == f"Policy({mdp.n_states} states, deterministic)"


def test_labels(machine):
    policy = oc.Policy.deterministic(machine, {"worn": "repair", "new": "run", "broken": "repair"})
    assert policy.actions == {"new": "run", "worn": "repair", "broken": "repair"}
    assert policy["worn", "repair"] == 1.0
    assert policy["worn", "run"] == 0.0
    assert policy["broken", "run"] == 0.0  # not admissible there
    assert policy["broken"] == {"repair": 1.0}
    assert policy["new"] == {"run": 1.0, "repair": 0.0}
    mixed = oc.Policy.from_table(machine, [[0.25, 0.75], [0.5, 0.5], [0, 1]])
    assert mixed.actions == {"new": "repair", "worn": "run", "broken": "repair"}  # ties: the first
    assert mixed.randomizing.tolist() == [True, True, False]
    assert repr(mixed) == "Policy(3 states, randomising in 2 states)"


def test_labels_that_are_tuples():
    mdp = oc.MDP.from_arrays(
        np.full((2, 2, 2), 0.5), np.zeros((2, 2)), discount=0.5, states=[(0, 0), (0, 1)], actions=[(1,), "b"]
    )
    policy = oc.Policy.from_table(mdp, [[1, 0], [0.25, 0.75]])
    assert policy[(0, 1)] == {(1,): 0.25, "b": 0.75}
    assert policy[(0, 1), "b"] == 0.75
    assert policy[(0, 0), (1,)] == 1.0


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (("sold", "run"), "no state 'sold'"),
        (("new", "sell"), "no action 'sell'"),
        ("sold", "no state 'sold'"),
        (("new", "run", 1), r"policy\[state, action\]"),
        ((["new"], "run"), "no state"),
    ],
)
def test_unknown_labels_are_named(machine, key, words):
    with pytest.raises(InvalidProblem, match=words):
        oc.Policy.uniform(machine)[key]


@pytest.mark.parametrize(
    ("probabilities", "words"),
    [
        ([0.5, 0.5, 0.5, 0.5], "5 pair probabilities"),
        ([[0.5, 0.5, 0.5, 0.5, 1.0]], "5 pair probabilities"),
        ([0.5, 0.5, np.nan, 0.5, 1.0], "state 'worn', action 'run' is nan"),
        ([0.5, 0.5, 0.5, np.inf, 1.0], "state 'worn', action 'repair' is inf"),
        ([1.5, -0.5, 0.5, 0.5, 1.0], "state 'new', action 'repair' is -0.5"),
        ([0.5, 0.5, 0.5, 0.5 + 1e-8, 1.0], "state 'worn' sum to 1.00000001"),
        ([0.5, 0.5, 0.5, 0.5, 0.0], "state 'broken' sum to 0"),
    ],
)
def test_what_is_not_a_policy(machine, probabilities, words):
    with pytest.raises(InvalidProblem, match=words):
        oc.Policy.from_pairs(machine, probabilities)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([[0.5, 0.5], [0.5, 0.5]], r"\[S, A\] = \[3, 2\]"),
        ([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]], "0.5 to action 'run' in state 'broken'"),
        ([[0.5, 0.5], [np.nan, 0.5], [0, 1]], "state 'worn', action 'run' is nan"),
        ([[0.5, 0.5], [0.5, 0.4], [0, 1]], "state 'worn' sum to 0.9"),
    ],
)
def test_what_is_not_a_policy_table(machine, table, words):
    with pytest.raises(InvalidProblem, match=words):
        oc.Policy.from_table(machine, table)


def test_pairs_that_do_not_exist_may_hold_nan_or_zero(machine):
    policy = oc.Policy.from_table(machine, [[0.5, 0.5], [0.5, 0.5], [np.nan, 1]])
    assert policy["broken", "repair"] == 1.0
    assert policy.probabilities[2, 0] == 0.0


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        (["run", "run"], "2 actions were given for 3 states"),
        (["run", "run", "run"], "'run' is not admissible in state 'broken'"),
        (["run", "fly", "repair"], "no action 'fly'"),
        ({"new": "run", "worn": "run"}, "names 2 of 3 states"),
        ({"new": "run", "worn": "run", "sold": "run"}, "no state 'sold'"),
    ],
)
def test_what_is_not_a_deterministic_policy(machine, actions, words):
    with pytest.raises(InvalidProblem, match=words):
        oc.Policy.deterministic(machine, actions)


def test_small_departures_are_divided_away(machine):
    policy = oc.Policy.from_pairs(machine, [0.5, 0.5 + 5e-10, 0.3, 0.7, 1.0])
    sums = np.add.reduceat(policy.pair_probabilities, machine.pair_start[:-1])
    np.testing.assert_allclose(sums, 1.0, rtol=0, atol=2e-16)
    assert policy["new", "repair"] > 0.5


def test_policies_are_read_only_and_do_not_share_the_callers_array(machine):
    given_array = np.array([0.5, 0.5, 0.25, 0.75, 1.0])
    policy = oc.Policy.from_pairs(machine, given_array)
    given_array[:] = 0.0
    assert policy["worn", "repair"] == 0.75
    with pytest.raises(ValueError, match="read-only"):
        policy.pair_probabilities[0] = 1.0
    with pytest.raises(AttributeError):
        policy.pair_probabilities = given_array
    table = policy.probabilities
    table[:] = 7.0  # a view made on demand
    assert policy.probabilities[1, 1] == 0.75


@pytest.mark.parametrize("copied", [lambda p: pickle.loads(pickle.dumps(p)), copy.copy, copy.deepcopy])
def test_copies_of_policies(machine, copied):
    policy = oc.Policy.from_pairs(machine, [0.1, 0.9, 0.25, 0.75, 1.0])
    again = copied(policy)
    np.testing.assert_array_equal(again.pair_probabilities, policy.pair_probabilities)
    assert again["worn", "repair"] == 0.75
    assert again.pairs.same_as(machine.pairs)
    assert not again.pair_probabilities.flags.writeable
    assert oc.evaluate(machine, again).objective == oc.evaluate(machine, policy).objective


def test_frequencies_of_a_sample_lie_within_exact_binomial_bounds(machine):
    policy = oc.Policy.from_pairs(machine, [0.03, 0.97, 0.25, 0.75, 1.0])
    n = 20_000
    for state, action, probability in (("new", "run", 0.03), ("worn", "run", 0.25), ("broken", "repair", 1.0)):
        count = policy.sample(state, rng=11, size=n).count(action)
        low, high = binom.ppf([1e-6, 1 - 1e-6], n, probability)
        assert low <= count <= high
        # The bounds would catch a policy that is off by three percentage points.
        assert not low <= (probability - 0.03 if probability > 0.03 else 0.06) * n <= high


def test_sampling_is_reproducible_and_gives_labels(machine):
    policy = oc.Policy.uniform(machine)
    assert policy.sample("new", rng=3, size=50) == policy.sample("new", rng=3, size=50)
    assert policy.sample("new", rng=3, size=50) != policy.sample("new", rng=4, size=50)
    assert policy.sample("new", rng=3) == policy.sample("new", rng=3, size=1)[0]
    generator = np.random.default_rng(0)
    assert policy.sample("new", generator, size=30) != policy.sample("new", generator, size=30)
    assert set(policy.sample("new", rng=0, size=30)) == {"run", "repair"}
    assert policy.sample("broken") == "repair"
    with pytest.raises(InvalidProblem, match="no state 'sold'"):
        policy.sample("sold")


@given(mdps_with_policies())
@settings(max_examples=60)
def test_the_policy_of_an_occupancy_is_the_one_that_made_it(drawn):
    mdp, table = drawn
    policy = oc.Policy.from_table(mdp, table)
    evaluation = oc.evaluate(mdp, policy)
    for occupancy in (evaluation.occupancy, evaluation.pair_occupancy):
        found = oc.Policy.from_occupancy(mdp, occupancy)
        for s in range(mdp.n_states):
            expected = table[s] if evaluation.visited[s] else oc.Policy.uniform(mdp).probabilities[s]
            np.testing.assert_allclose(found.probabilities[s], expected, rtol=1e-13, atol=1e-15)


def test_occupancies_of_backends_may_be_slightly_negative(machine):
    fallback = oc.Policy.deterministic(machine, ["repair", "repair", "repair"])
    occupancy = [3e-1, -1e-9, 0.0, -1e-12, 0.7]
    policy = oc.Policy.from_occupancy(machine, occupancy, fallback)
    assert policy.pair_probabilities.tolist() == [1.0, 0.0, 0.0, 1.0, 1.0]
    assert oc.Policy.from_occupancy(machine, occupancy)["worn"] == {"run": 0.5, "repair": 0.5}


@pytest.mark.parametrize("occupancy", [[0.5, 0.5], [np.nan] * 5, [np.inf, 0, 0, 0, 0], np.zeros((2, 3))])
def test_what_is_not_an_occupancy(machine, occupancy):
    with pytest.raises(InvalidProblem, match="an occupancy is"):
        oc.Policy.from_occupancy(machine, occupancy)


def test_a_policy_of_another_model_is_refused(machine):
    other = oc.MDP.from_arrays(np.full((3, 2, 3), 1 / 3), np.zeros((3, 2)), discount=0.9)
    with pytest.raises(InvalidProblem, match="another model"):
        oc.evaluate(machine, oc.Policy.uniform(other))
    with pytest.raises(InvalidProblem, match="another model"):
        oc.Problem(machine, regularizer=oc.KL(1.0, oc.Policy.uniform(other)))

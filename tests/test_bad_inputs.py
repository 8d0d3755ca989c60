"""What is not a Markov decision process is refused: with the state, the action, the value, and the way out.

First the inputs that people do give, then garbage: a constructor answers with a sound model or with
`InvalidModel`, never with another exception, a warning of numpy, or a hang.
"""

from __future__ import annotations

import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from garbage import GARBAGE, NESTED, SCALARS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse
from strategies import sketches

from occlp.errors import InvalidModel, ModelWarning, OccupancyError
from occlp.model import MDP, arrays

STATES, ACTIONS = ["new", "worn"], ["run", "repair"]
ROWS = [[[0.9, 0.1], [1.0, 0.0]], [[0.0, 1.0], [0.5, 0.5]]]
REWARDS = [[2.0, 0.0], [1.0, -1.0]]


def changed(table, where, value):
    """A copy of a nested list with one entry changed."""
    out = np.array(table, dtype=object)
    out[where] = value
    return out.tolist()


def machine(transitions=tuple(ROWS), rewards=tuple(REWARDS), **options):
    """The machine that wears out, with something changed."""
    return MDP.from_arrays(transitions, rewards, **{"states": STATES, "actions": ACTIONS, **options})


def refused(*fragments, build=machine, **arguments):
    """Check that this is an `InvalidModel`, whose message holds every fragment."""
    with pytest.raises(InvalidModel) as caught:
        build(**arguments)
    message = str(caught.value)
    missing = [fragment for fragment in fragments if fragment not in message]
    assert not missing, message
    return message


def dense_and_sparse(cube):
    """One set of transitions in the three containers that are checked apart."""
    rows = np.array(cube, dtype=float).reshape(-1, 2)
    return [cube, sparse.csr_array(rows), [sparse.coo_matrix(block) for block in rows.reshape(2, 2, 2)]]


def test_the_machine_itself_is_sound():
    assert machine().n_pairs == 4
    assert machine(discount=0.9, costs={"wear": REWARDS}, initial=[1, 0], admissible=np.ones((2, 2))).notes == ()


def test_the_error_is_a_value_error():
    assert issubclass(InvalidModel, ValueError)
    assert issubclass(InvalidModel, OccupancyError)


class TestTransitions:
    @pytest.mark.parametrize(("entry", "total"), [(0.88, "0.98"), (0.92, "1.02"), (0.9 + 2e-9, "1.000000002")])
    def test_1_2_row_sums(self, entry, total):
        for transitions in dense_and_sparse(changed(ROWS, (0, 0, 0), entry)):
            refused("state 'new', action 'run'", f"sum to {total}, not 1", transitions=transitions)

    def test_2_the_worst_row_is_named(self):
        rows = changed(changed(ROWS, (0, 0, 0), 0.89), (1, 1, 0), 0.9)
        refused("state 'worn', action 'repair'", "sum to 1.4", transitions=rows)

    @pytest.mark.parametrize("row", [[0.06, 0.94, *[0] * 7], [1 / 9] * 9], ids=["two", "ninths"])
    def test_3_rounding_is_accepted_and_reported(self, row):
        mdp = MDP.from_arrays(np.array([row] * 9)[:, None], np.zeros(9))
        np.testing.assert_array_equal(mdp.transitions.toarray(), [row] * 9)
        assert len(mdp.notes) == (mdp.transitions.sum(axis=1)[0] != 1)

    @pytest.mark.parametrize("departure", [1e-10, -9e-10])
    def test_4_small_departures_are_accepted_and_reported(self, departure):
        mdp = machine(changed(ROWS, (0, 0, 0), 0.9 + departure))
        assert mdp.transitions.data[0] == 0.9 + departure  # not renormalised
        assert any("state 'new', action 'run'" in note and f"{departure:.2g}" in note for note in mdp.notes)

    def test_5_negative_probabilities(self):
        for transitions in dense_and_sparse(changed(changed(ROWS, (0, 0, 1), -1e-3), (0, 0, 0), 1.001)):
            refused("state 'new', action 'run' moving to state 'worn'", "-0.001", "negative", transitions=transitions)
        mdp = machine(changed(ROWS, (0, 1, 1), -1e-17))
        assert mdp.notes == ("1 probabilities between -1e-17 and 0 were set to 0",)
        assert (mdp.transitions.data > 0).all()
        refused("state 'new', action 'repair'", "negative", transitions=changed(ROWS, (0, 1, 1), Fraction(-1, 10**17)))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_6_7_not_finite(self, value):
        for transitions in dense_and_sparse(changed(ROWS, (1, 0, 1), value)):
            refused("state 'worn', action 'run' moving to state 'worn'", f" {value}.", transitions=transitions)
        refused("state 'worn', action 'run'", f" {value}.", transitions=changed(ROWS, (1, 0, 1), str(value)))

    @pytest.mark.parametrize("single", [np.float32, np.float64])
    def test_18_float32_is_held_to_its_own_precision(self, single):
        rows = np.array(ROWS, dtype=single)
        rows[1, 1] = [0.5, 0.5 + 2e-6]
        refused("state 'worn', action 'repair'", "within 1e-0", transitions=rows)
        rows[1, 1] = [0.5, 0.5 + 5e-7]
        if single is np.float64:
            refused("state 'worn', action 'repair'", "within 1e-09", transitions=rows)
        else:
            with pytest.warns(ModelWarning, match="single precision"):
                assert machine(rows).n_pairs == 4

    def test_47_no_successor(self):
        for transitions in dense_and_sparse(changed(changed(ROWS, (1, 0, 1), 0), (1, 0, 0), 0)):
            refused("state 'worn', action 'run' has no successor", "absorbing", transitions=transitions)

    @pytest.mark.parametrize(
        ("transitions", "fragment"),
        [
            (np.zeros((0, 0, 0)), "empty"), (np.zeros((0, 2, 0)), "empty"), (np.zeros((2, 0, 2)), "empty"),
            (np.zeros((0, 2)), "empty"), ([], "shape [0]"), (np.zeros((3, 2)), "shape [3, 2]"),
            (0.5, "shape []"), (np.ones((2, 2, 3)), "not square"), (np.ones((2, 2, 2, 2)), "three axes"),
            ([[[1], [0, 1]], [[1, 0], [0, 1]]], "ragged"), (None, "None"), ("abc", "'abc', which is not a number"),
            (sparse.csr_array((3, 2)), "[3, 2] are not [S*A, S']"), (sparse.csr_array((0, 0)), "[0, 0] are not"),
            (sparse.coo_array(np.ones(4)), "two axes"), ([sparse.csr_array((2, 3))] * 2, "S matrices [A, S']"),
            ([sparse.eye_array(2), sparse.eye_array(3)], "different shapes"), (np.ones((2, 2, 2)) * 1j, "complex128"),
            (sparse.eye_array(2) * 1j, "complex128"), (np.zeros((2, 2, 2), "M8[s]"), "datetime64"),
            (np.ma.masked_equal(ROWS, 0.5), "masked"), (np.array([[[1, {}]]]), "transitions[0, 0, 1] holds {}"),
            ({"a": 1}, "holds {'a': 1}"),
        ],
    )  # fmt: skip
    def test_27_shapes_and_types(self, transitions, fragment):
        refused(fragment, transitions=transitions)

    def test_17_damaged_sparse_matrices(self):
        for bad in (7, -1):
            matrix = sparse.csr_array(np.array(ROWS).reshape(4, 2))
            matrix.indices[0] = bad
            refused("damaged", transitions=matrix)

    @pytest.mark.parametrize(
        "value", ["", "half", "1/0", "1/2/3", "0x1", "1e5000", "1e-400", "9" * 400, None, [], {}, 1j]
    )
    def test_19_what_is_not_a_number(self, value):
        rows = np.array(ROWS, dtype=object)
        rows[1, 0, 1] = value
        refused("transitions[1, 0, 1] holds", transitions=rows)

    def test_19_numbers_of_any_size_are_refused_at_once(self):
        for value in ("1e999999999", "1e-999999999", Decimal("1e999999"), 10**5000, Fraction(1, 10**5000)):
            refused("holds", "double", transitions=changed(ROWS, (0, 0, 0), value))
            refused("rewards[0, 0] holds", "double", rewards=changed(REWARDS, (0, 0), value))
            refused("discount", discount=value)

    def test_20_the_layout_is_explicit(self):
        # Row-stochastic in both readings: nothing in the numbers tells them apart, and only the argument does.
        assert machine(layout="ass").pairs.same_as(machine().pairs)
        for layout in ("ASS", "sa", None, 3, np.zeros(2)):
            refused("layout=", "Use 'sas'", layout=layout)
        refused("pass layout='ass'", transitions=np.ones((3, 2, 2)) / 2, states=None, actions=None)
        refused("pass layout='sas'", transitions=np.ones((2, 3, 2)) / 2, layout="ass", states=None, actions=None)


class TestRewardsAndCosts:
    def test_8_nan(self):
        refused("the reward of state 'worn', action 'run' is nan", rewards=changed(REWARDS, (1, 0), np.nan))
        refused("the reward of state 'worn', action 'run' is nan", rewards=changed(REWARDS, (1, 0), "nan"))

    def test_9_minus_infinity_is_an_action_that_is_not_available(self):
        mdp = machine(rewards=changed(REWARDS, (1, 0), -np.inf))
        assert mdp.n_pairs == 3
        assert mdp.notes == ("1 pairs have reward -inf and are not available: ('worn', 'run')",)

    def test_10_plus_infinity(self):
        refused("the reward of state 'new', action 'repair' is inf", rewards=changed(REWARDS, (0, 1), np.inf))

    def test_11_no_action_left(self):
        refused("state 'worn' has no action", "-inf", rewards=[[0, 0], [-np.inf, -np.inf]])
        refused("state 'new' has no action", "admissible", admissible=[[False, False], [True, True]])
        rewards = [[0, -np.inf], [0, 0]]
        refused("state 'new' has no action", rewards=rewards, admissible=[[False, True], [True, True]])

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_costs_are_finite(self, value):
        costs = {"fuel": REWARDS, "wear": changed(REWARDS, (1, 1), value)}
        refused(f"cost 'wear' of state 'worn', action 'repair' is {value}", costs=costs)

    @pytest.mark.parametrize(
        ("rewards", "fragment"),
        [
            ([1, 2, 3], "shape [3]"), (1.0, "shape []"), (np.ones((2, 3)), "shape [2, 3]"),
            (np.ones((2, 2, 3)), "one of [S] = [2], [S, A] = [2, 2], [S, A, S'] = [2, 2, 2]"),
            ([[1], [2, 3]], "ragged"), (None, "None"), (np.ones((2, 2), complex), "complex128"),
            (sparse.csr_array((3, 2)), "sparse rewards has shape [3, 2]"), (sparse.coo_array([1, 2]), "two axes"),
            (changed(REWARDS, (0, 1), "many"), "rewards[0, 1] holds 'many'"), (np.ones((2, 2), "m8[s]"), "timedelta"),
        ],
    )  # fmt: skip
    def test_21_shapes(self, rewards, fragment):
        refused(fragment, rewards=rewards)
        refused(fragment.replace("rewards", "cost 'wear'"), costs={"wear": rewards})

    def test_22_nan_on_a_possible_transition(self):
        rewards = np.zeros((2, 2, 2))
        rewards[0, 1, 1] = np.nan  # its probability is exactly 0
        assert machine(rewards=rewards).pair_rewards[1] == 0
        rewards[0, 0, 1] = np.nan
        refused("the reward of state 'new', action 'run' is nan", rewards=rewards)
        refused("the reward of state 'new', action 'run' is nan", rewards=sparse.csr_array(rewards.reshape(4, 2)))

    def test_51_large_numbers(self):
        assert machine(rewards=[[1.7e308, -1.7e308], [0, 0]]).pair_rewards[0] == 1.7e308
        refused("sum to inf", transitions=np.full((2, 2, 2), 1.7e308))
        rewards = np.zeros((2, 2, 2))
        rewards[1, 1] = [np.inf, -np.inf]  # of which the expectation is not a number
        refused("the reward of state 'worn', action 'repair' is nan", rewards=rewards)
        # An exact sum that no double can hold, before the row itself is refused, or closed by the -inf beside it.
        rows, rewards = np.array(ROWS).astype(str).astype(object), np.zeros((2, 2, 2), dtype=object)
        rows[0, 0], rewards[0, 0] = ["9", "1"], ["1.7e308", "1.7e308"]
        refused("state 'new', action 'run' sum to 10", transitions=rows, rewards=rewards)
        rewards[0, 0, 1] = "-inf"
        assert machine(rows, rewards).n_pairs == 3

    @pytest.mark.parametrize("costs", [REWARDS, np.array(REWARDS), "wear", {0: REWARDS}, {None: REWARDS}, 5])
    def test_costs_have_names(self, costs):
        refused("costs must map names to numbers", costs=costs)

    def test_no_cost_hides_the_reward(self):
        refused("'reward'", costs={"reward": REWARDS})

    def test_numbers_of_pairs_given_one_by_one(self):
        with pytest.raises(InvalidModel, match="sparse cost 'wear' has shape"):
            MDP.from_pairs([0, 1], [0, 0], np.eye(2), [0, 0], costs={"wear": sparse.csr_array((3, 2))})

    def test_what_an_index_of_32_bits_cannot_count(self, monkeypatch):
        with pytest.raises(InvalidModel, match="Indices count from 0"):
            MDP.from_pairs([0, 0], [0, 2**31], np.ones((2, 1)), [0, 0])
        monkeypatch.setattr(arrays, "MOST_TRANSITIONS", 3)
        refused("at most 3 fit its 32-bit index")


class TestPairs:
    def pairs(self, states=(0, 0, 1), actions=(0, 1, 0), transitions=None, rewards=(1, 2, 3), labels=None):
        rows = [[1, 0], [0, 1], [0.5, 0.5]] if transitions is None else transitions
        return MDP.from_pairs(states, actions, rows, rewards, states=labels)

    def test_sound(self):
        assert self.pairs().n_pairs == 3

    def test_12_a_state_without_a_row(self):
        refused("state 1 has no action", build=self.pairs, states=(0, 0, 0), actions=(0, 1, 2))

    def test_13_the_same_pair_twice(self):
        refused("state 0, action 1", "twice, in rows 0 and 1", build=self.pairs, actions=(1, 1, 0))
        refused("rows 0 and 2", build=self.pairs, states=[1, 0, 1], actions=[0, 0, 0])

    @pytest.mark.parametrize(
        ("given", "fragment"),
        [
            ({"states": (0, 0, 2)}, "row 2 has state index 2, outside 0 .. 1"),
            ({"states": (0, -1, 1)}, "row 1 has state index -1"),
            ({"actions": (0, -1, 0)}, "row 1 has action index -1"),
            ({"actions": (0, 2**40, 0)}, "row 1 has action index 1099511627776"),
            ({"states": np.array([0, 2**63, 1], dtype=np.uint64)}, "row 1 has state index 9223372036854775808"),
            ({"actions": (0, 10**5000, 0)}, "row 1 has action index a number of thousands of digits"),
        ],
    )
    def test_17_indices_out_of_range(self, given, fragment):
        refused(fragment, build=self.pairs, **given)

    @pytest.mark.parametrize(
        "index",
        [[0.0, 0.0, 1.0], ["a", "a", "b"], [True, False, True], 5, None, [[0], [0], [1]], [0, 0, None], [{}, 0, 1]],
    )
    def test_indices_are_integers(self, index):
        refused("pair_states", build=self.pairs, states=index)
        refused("pair_actions", build=self.pairs, actions=index)

    @pytest.mark.parametrize("index", [["a", "b", "z"], ["a", "b", 1], [0.0, 0.0, 1.0]])
    def test_unknown_labels(self, index):
        fragment = "which is not among states="
        refused("pair_states holds", fragment, build=self.pairs, states=index, labels=["a", "b"])

    def test_lengths(self):
        refused("3, 2 and 3 rows", build=self.pairs, actions=(0, 1))
        refused("3, 3 and 2 rows", build=self.pairs, transitions=np.eye(2))
        refused("empty", build=self.pairs, states=[], actions=[], transitions=np.zeros((0, 2)), rewards=[])
        refused("rewards has shape [2]", "[pairs] = [3]", build=self.pairs, rewards=(1, 2))
        refused("[pairs, S'], not of shape [2]", build=self.pairs, transitions=[1, 2])

    def test_1_row_sums(self):
        refused("state 1, action 0", "0.98", build=self.pairs, transitions=[[1, 0], [0, 1], [0.5, 0.48]])

    def test_27_empty(self):
        refused("empty", build=self.pairs, transitions=np.zeros((3, 0)))


class TestLabels:
    @pytest.mark.parametrize(
        ("labels", "fragment"),
        [
            (["a"], "has 1 labels, but the model has 2 states"), (["a", "b", "c"], "has 3 labels"),
            ([], "has 0 labels"), (["a", "a"], "'a' twice"), ([1, 1.0], "twice"),
            (["a", []], "[], which is not hashable"),
            (["a", ("b", [])], "not hashable"), ([float("nan"), "b"], "nan which is not equal to itself"),
            (5, "not 5"), ({"a", "b"}, "must be a list"), ({"a": 0, "b": 1}, "must be a list"),
            (np.array("ab"), "must be a list"), (np.ones((2, 2)), "not hashable"),
        ],
    )  # fmt: skip
    def test_labels(self, labels, fragment):
        refused("states=", fragment, states=labels)
        refused("actions=", fragment.replace("states", "actions"), actions=labels)
        refused("states=", build=lambda: MDP.from_pairs([0, 1], [0, 0], np.eye(2), [0, 0], states=labels))

    @pytest.mark.parametrize(
        "mask", [[True, False], np.ones((2, 3)), [[1, 2], [1, 1]], [["yes", "no"]] * 2, None, [[1], []]]
    )
    def test_masks(self, mask):
        if mask is None:
            assert machine(admissible=None).n_pairs == 4
        else:
            refused("admissible", admissible=mask)


class TestInitial:
    @pytest.mark.parametrize(
        ("initial", "fragments"),
        [
            ([0.5, 0.48], ["initial sums to 0.98, not 1"]), ([0.5, 0.52], ["initial sums to 1.02"]),
            ([0, 0], ["sums to 0"]), ([1.5, -0.5], ["state 'worn' is -0.5"]), ([np.nan, 1], ["state 'new' is nan"]),
            ([1, np.inf], ["state 'worn' is inf"]), ([1], ["shape [1]", "2 states"]),
            ([0.5, 0.25, 0.25], ["shape [3]"]), ([[0.5, 0.5]], ["shape [1, 2]"]),
            ("old", ["no state 'old'", "'new', 'worn'"]), (0, ["no state 0"]),
            (0.5, ["no state 0.5"]), (("new", 0), ["initial[0] holds 'new'"]), ({"old": 1}, ["no state 'old'"]),
            ({"new": 0.5}, ["sums to 0.5"]), ({"new": None, "worn": 1}, ["holds None"]), ({}, ["sums to 0"]),
            (["1/2", "1/3"], ["sums to 0.8333"]), (["1/2", "half"], ["initial[1] holds 'half'"]), ([], ["shape [0]"]),
            ([0.5, [0.5]], ["ragged"]), ([0.5, 0.5j], ["complex"]), ({"new": [0.5, 0.5]}, ["ragged"]),
            (np.array([1.7e308, 1.7e308]), ["sums to inf"]), (range(2), ["no state range(0, 2)"]),
            (np.array([1, 1e-5], dtype=np.float32), ["sums to 1.00001"]), ({"new": "nan", "worn": 1}, ["'new' is nan"]),
        ],
    )  # fmt: skip
    def test_23_refused(self, initial, fragments):
        refused("initial", *fragments, initial=initial)

    def test_24_zeros_are_fine(self):
        np.testing.assert_array_equal(machine(initial=[1, 0]).initial, [1, 0])


class TestDiscount:
    @pytest.mark.parametrize(
        "discount",
        [1.0000001, 2, -1e-9, -1, np.nan, np.inf, -np.inf, "1.1", "-1/10", "nan", "inf", Fraction(11, 10), 10**300],
    )
    def test_25_outside(self, discount):
        refused("discount=", "outside [0, 1]", "criterion='average' or 'total'", discount=discount)

    @pytest.mark.parametrize(
        "discount", [True, np.True_, 0.5j, np.complex128(0.5), [0.9], np.array([0.9]), {}, b"0.9", object]
    )
    def test_25_not_a_number(self, discount):
        refused("discount=", "is not a number", discount=discount)

    @pytest.mark.parametrize("discount", ["", "high", "0,9", "1/0"])
    def test_25_not_a_number_in_words(self, discount):
        refused(f"discount holds {discount!r}, which is not a number", discount=discount)

    def test_25_text_is_an_exact_number(self):
        mdp = machine(discount="0.9")
        assert (mdp.discount, mdp.exact.discount) == (0.9, Fraction(9, 10))

    @pytest.mark.parametrize(
        "discount", [0, 1, 0.0, 1.0, "0", "1", np.float32(0.5), np.int64(1), np.array(0.5), Decimal("0.5")]
    )
    def test_25_26_inside(self, discount):
        # 1 is a model of the average and total criteria: the question decides.
        np.testing.assert_equal(machine(discount=discount).discount, float(discount))

    def test_49_nearer_to_1_than_any_double(self):
        assert machine(discount="0.999999999999").discount == 0.999999999999
        refused("so near 1", discount="0." + "9" * 30)


class TestFunctions:
    def walk(self, step=None, start=0, actions=("stay",), **options):
        return MDP.from_function(step or (lambda s, a: [(1, s, 0)]), start, actions, **options)

    def test_sound(self):
        assert self.walk().n_states == 1

    @pytest.mark.parametrize(
        ("outcome", "fragment"),
        [
            ([(0.5, 0, 0), (0.48, 0, 0)], "sum to 0.98"), ([], "state 0, action 'stay' has no successor"),
            ([(1, 0, np.nan)], "the reward of state 0, action 'stay' is nan"), ([(1, 0, np.inf)], "is inf"),
            ([(1.5, 0, 0), (-0.5, 1, 0)], "-0.5, which is negative"), ([(np.nan, 0, 0)], "is nan"),
            ([(1, 0)], "(probability, next state, reward)"), (None, "must return a list"), (5, "must return a list"),
            ([(1, [], 0)], "step(0, 'stay') gave the state [], which is not hashable"), ([("half", 0, 0)], "'half'"),
            ([(1, 0, "much")], "step(0, 'stay') holds 'much'"), ([(None, 0, 0)], "returned None"),
            ([(1, 0, None)], "returned None"), ([(1, 0, 1j)], "returned 1j"), ([(1, 0, 10**400)], "beyond the range"),
            ([("1/2", 0, 0), ("1/3", 0, 0)], "sum to 0.83333"), ([("1", 0, "inf")], "is inf"), ([(1, 0, [1])], "[1]"),
            ([("1", 0, "nan")], "is nan"), ([(1, 0, "1e400")], "beyond"),
            ([(1, float("nan"), 0)], "not equal to itself"),
        ],
    )  # fmt: skip
    def test_steps(self, outcome, fragment):
        refused(fragment, build=self.walk, step=lambda s, a: outcome if s == 0 else [(1, s, 0)])

    @pytest.mark.parametrize(
        ("start", "fragment"),
        [
            ([], "empty"), ({}, "empty"), ([0, 0], "twice"), ([[0], [1]], "not hashable"), ({0: 0.5}, "sums to 0.5"),
            ({0: None}, "probability None"), ({0: np.nan}, "nan"), (float("nan"), "not equal to itself"),
            (bytearray(b"a"), "not hashable"), ({0: "half"}, "'half'"), ({0: 1.5, 1: -0.5}, "-0.5"),
        ],
    )  # fmt: skip
    def test_starts(self, start, fragment):
        refused(fragment, build=self.walk, start=start)

    @pytest.mark.parametrize(
        ("actions", "fragment"),
        [
            ([], "actions(0) is empty"), (lambda s: [], "actions(0) is empty"), (lambda s: None, "got None"),
            (5, "got 5"), ([[]], "the action [] is not hashable"), (["a", "a"], "twice"),
            ([float("nan")], "not equal to itself"),
        ],
    )  # fmt: skip
    def test_actions(self, actions, fragment):
        refused(fragment, build=self.walk, actions=actions)

    @pytest.mark.parametrize("cost", [np.nan, np.inf, None, "much", [1, 2], 1j, 10**400])
    def test_costs(self, cost):
        refused("cost 'wear'", build=self.walk, costs={"wear": lambda s, a: cost})
        refused("costs must map", build=self.walk, costs=[lambda s, a: 1])

    def test_the_search_ends(self):
        refused("more than max_states=50", "50", build=self.walk, step=lambda s, a: [(1, s + 1, 0)], max_states=50)

    def test_errors_of_the_user_pass(self):
        with pytest.raises(ZeroDivisionError):
            self.walk(lambda s, a: 1 / 0)


def check_sound(mdp):
    """A model that was accepted is one."""
    matrix = mdp.transitions
    assert matrix.shape == (mdp.n_pairs, mdp.n_states)
    assert np.isfinite(matrix.data).all()
    assert (matrix.data > 0).all()
    assert np.abs(matrix.sum(axis=1) - 1).max() <= 1e-6
    assert ((matrix.indices >= 0) & (matrix.indices < mdp.n_states)).all()
    assert matrix.has_canonical_format
    assert (np.diff(mdp.pair_start) >= 1).all()
    assert ((mdp.pairs.actions >= 0) & (mdp.pairs.actions < mdp.n_actions)).all()
    assert mdp.pair_rewards.shape == (mdp.n_pairs,)
    assert all(cost.shape == (mdp.n_pairs,) for cost in mdp.pair_costs.values())
    assert all(np.isfinite(values).all() for values in (mdp.pair_rewards, *mdp.pair_costs.values()))
    assert mdp.initial.shape == (mdp.n_states,)
    assert (mdp.initial >= 0).all()
    assert abs(mdp.initial.sum() - 1) <= 1e-6
    assert mdp.discount is None or 0 <= mdp.discount <= 1
    assert len(set(mdp.states)) == mdp.n_states
    if mdp.n_actions < 10**4:  # indices may be as large as they like
        assert len(set(mdp.actions)) == mdp.n_actions
    if mdp.exact is not None:
        assert [float(p) for p in mdp.exact.transitions] == list(matrix.data)
        assert [float(r) for r in mdp.exact.rewards] == list(mdp.pair_rewards)
        assert [float(p) for p in mdp.exact.initial] == list(mdp.initial)


def sound_or_refused(build, *arguments, **options):
    """Build a model and check it, or check that it was refused with a message; say which."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ModelWarning)
        try:
            mdp = build(*arguments, **options)
        except InvalidModel as error:
            message = str(error)
        else:
            check_sound(mdp)
            return True
    assert len(message) > 15
    return False


MANY = settings(max_examples=200)
FIELDS = ["transitions", "rewards", "discount", "initial", "costs", "admissible", "states", "actions", "layout"]


class TestGarbage:
    @MANY
    @given(GARBAGE, GARBAGE)
    @example([[[1.0]]], [0.0])
    def test_transitions_and_rewards(self, transitions, rewards):
        sound_or_refused(MDP.from_arrays, transitions, rewards)
        sound_or_refused(MDP.from_pairs, [0, 0, 1, 1], [0, 1, 0, 1], transitions, rewards)

    @MANY
    @given(st.dictionaries(st.sampled_from(FIELDS), GARBAGE, min_size=1, max_size=2))
    @example({"discount": 0.5, "initial": [1, 0]})
    def test_any_argument(self, arguments):
        sound_or_refused(machine, **arguments)

    @MANY
    @given(sketches(), st.sampled_from(["transitions", "rewards", "initial", "cost"]), SCALARS, st.integers(0, 10**6))
    def test_one_wrong_number(self, sketch, where, value, position):
        rows = np.array([list(map(float, row)) for row in sketch.rows.values()], dtype=object)
        parts = {
            "transitions": rows,
            "rewards": np.array([float(r) for r in sketch.rewards.values()], dtype=object),
            "initial": np.array([float(p) for p in sketch.initial], dtype=object),
            "cost": np.zeros(len(rows), dtype=object),
        }
        part = parts[where].reshape(-1)
        part[position % part.size] = value
        sound_or_refused(
            MDP.from_pairs,
            [s for s, _ in sketch.pairs], [a for _, a in sketch.pairs], parts["transitions"].tolist(),
            parts["rewards"].tolist(), initial=parts["initial"].tolist(), costs={"cost": parts["cost"].tolist()},
        )  # fmt: skip

    @MANY
    @given(GARBAGE, GARBAGE, st.sampled_from([None, STATES, [1, 0]]))
    def test_indices_of_pairs(self, states, actions, labels):
        sound_or_refused(MDP.from_pairs, states, actions, np.full((2, 2), 0.5), [0, 0], states=labels)
        sound_or_refused(MDP.from_pairs, [0, 1], actions, np.full((2, 2), 0.5), [0, 0])

    @MANY
    @given(st.lists(st.tuples(SCALARS, st.integers(0, 2), SCALARS) | SCALARS, max_size=3) | NESTED, NESTED, SCALARS)
    def test_steps(self, outcome, start, cost):
        def step(state, action):
            return outcome if state == 0 else [(1, 0, 0)]

        sound_or_refused(MDP.from_function, step, 0, ["go"], costs={"toll": lambda s, a: cost}, max_states=20)
        sound_or_refused(MDP.from_function, step, start, ["go"], max_states=20)

    @MANY
    @given(st.dictionaries(st.sampled_from(["rewards", "discount", "initial", "costs"]), GARBAGE, min_size=1))
    def test_replace(self, changes):
        sound_or_refused(machine(costs={"wear": REWARDS}).replace, **changes)

    @given(sketches())
    def test_most_models_are_sound(self, sketch):
        assert sound_or_refused(sketch.mdp)
        assert sound_or_refused(lambda: sketch.mdp(exact=True))

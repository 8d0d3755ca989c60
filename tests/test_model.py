"""One model form: every way of writing a model down gives the same model, and nothing changes it afterwards."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from strategies import mdps, sketches

from occlp.errors import InvalidModel, InvalidProblem, ModelWarning
from occlp.model import MDP

FORMATS = ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")
FEW = settings(max_examples=10)


def assert_same(first, second, rtol=0.0):
    """Both models hold the same numbers, pair by pair, and the same labels."""
    assert (second.states, second.actions) == (first.states, first.actions)
    assert second.pairs.same_as(first.pairs)
    for part in ("indices", "indptr"):
        np.testing.assert_array_equal(getattr(second.transitions, part), getattr(first.transitions, part))
    np.testing.assert_allclose(second.transitions.data, first.transitions.data, rtol=rtol, atol=0)
    np.testing.assert_allclose(second.pair_rewards, first.pair_rewards, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(second.initial, first.initial, rtol=rtol, atol=0)
    assert second.discount == first.discount
    assert list(second.pair_costs) == list(first.pair_costs)
    for name, cost in first.pair_costs.items():
        np.testing.assert_allclose(second.pair_costs[name], cost, rtol=rtol, atol=rtol)


def contents(mdp):
    """What a model says, by label: a form that does not depend on the order of anything."""
    bounds = mdp.transitions.indptr
    rows = {}
    for i in range(mdp.n_pairs):
        entries = range(bounds[i], bounds[i + 1])
        pair = (mdp.states[mdp.pairs.states[i]], mdp.actions[mdp.pairs.actions[i]])
        row = {mdp.states[mdp.transitions.indices[k]]: mdp.transitions.data[k] for k in entries}
        rows[pair] = (row, mdp.pair_rewards[i], {name: cost[i] for name, cost in mdp.pair_costs.items()})
    return rows, dict(zip(mdp.states, mdp.initial, strict=True)), mdp.discount


def stored_arrays(mdp):
    """Every array that a model exposes."""
    matrix, pairs = mdp.transitions, mdp.pairs
    named = {
        "data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "rewards": mdp.pair_rewards,
        "initial": mdp.initial, "start": pairs.start, "actions": pairs.actions, "states": pairs.states,
        "reward table": mdp.rewards,
    }  # fmt: skip
    named |= {f"cost {name}": cost for name, cost in mdp.pair_costs.items()}
    return named | {f"table {name}": cost for name, cost in mdp.costs.items()}


def sparse_rows(sketch):
    """Transitions as a CSR array [S*A, S']; rows of pairs that do not exist are empty."""
    return sparse.csr_array(sketch.transitions().reshape(-1, sketch.n_states))


def from_arrays(sketch, transitions, **changes):
    """The sketch through `from_arrays`, with its transitions in another encoding."""
    arguments = {
        "rewards": sketch.table(),
        "admissible": sketch.admissible(),
        "costs": {name: sketch.table(cost) for name, cost in sketch.costs.items()},
        **sketch.rest(),
        **changes,
    }
    return MDP.from_arrays(transitions, arguments.pop("rewards"), **arguments)


def action_major(sketch):
    """[A, S, S'], the transposed layout."""
    return np.ascontiguousarray(np.swapaxes(sketch.transitions(), 0, 1))


class TestContents:
    """The stored form is the one that was written down."""

    @given(sketches())
    def test_rows_and_values(self, sketch):
        mdp = sketch.mdp()
        assert (mdp.n_states, mdp.n_actions, mdp.n_pairs) == (sketch.n_states, sketch.n_actions, len(sketch.rows))
        assert list(zip(mdp.pairs.states, mdp.pairs.actions, strict=True)) == sketch.pairs
        np.testing.assert_array_equal(
            mdp.transitions.toarray(), [[float(p) for p in row] for row in sketch.rows.values()]
        )
        np.testing.assert_array_equal(mdp.pair_rewards, [float(r) for r in sketch.rewards.values()])
        np.testing.assert_array_equal(mdp.initial, [float(p) for p in sketch.initial])
        assert mdp.discount == float(sketch.discount)
        for name, cost in sketch.costs.items():
            np.testing.assert_array_equal(mdp.costs[name], sketch.table(cost, fill=np.nan))
        np.testing.assert_array_equal(mdp.rewards, sketch.table(fill=np.nan))

    @given(mdps())
    def test_one_form(self, mdp):
        matrix = mdp.transitions
        assert isinstance(matrix, sparse.csr_array)
        assert (matrix.indices.dtype, matrix.indptr.dtype, matrix.data.dtype) == (np.int32, np.int32, np.float64)
        assert (matrix.data > 0).all()
        for first, last in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
            assert (np.diff(matrix.indices[first:last]) > 0).all()
        assert mdp.pair_start[0] == 0
        assert mdp.pair_start[-1] == mdp.n_pairs
        assert (np.diff(mdp.pair_start) >= 1).all()

    def test_the_smallest_model(self):
        mdp = MDP.from_arrays([[[1]]], [[3]], discount=0)
        assert (mdp.n_states, mdp.n_actions, mdp.n_pairs) == (1, 1, 1)
        assert (mdp.pair_rewards[0], mdp.discount, mdp.initial[0]) == (3.0, 0.0, 1.0)
        assert mdp.notes == ()
        assert mdp.exact is None

    def test_repr(self):
        mdp = MDP.from_arrays([[[1]]], [[3]], discount=0.5, costs={"wear": [1]})
        assert repr(mdp) == "MDP(1 states, 1 actions, 1 pairs, 1 transitions, discount=0.5, costs=['wear'])"


def views(array):
    """The same numbers in other memory layouts."""
    wide = np.full([2 * n for n in array.shape], np.nan)
    wide[tuple(slice(None, None, 2) for _ in array.shape)] = array
    locked = array.copy()
    locked.setflags(write=False)
    return {
        "C order": array,
        "Fortran order": np.asfortranarray(array),
        "strided view": wide[tuple(slice(None, None, 2) for _ in array.shape)],
        "reversed view": array[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
        "read-only": locked,
        "nested lists": array.tolist(),
        "nested tuples": tuple(tuple(map(tuple, block)) for block in array.tolist()),
        "list of arrays": list(array),
        "swapped bytes": array.astype(array.dtype.newbyteorder()),
        "rows [S*A, S']": array.reshape(-1, array.shape[-1]),
    }


class TestDenseEncodings:
    @pytest.mark.parametrize("kind", list(views(np.zeros((1, 1, 1)))))
    @FEW
    @given(sketch=sketches())
    @pytest.mark.bad_input(16)
    def test_memory_layouts(self, kind, sketch):
        assert_same(sketch.mdp(), from_arrays(sketch, views(sketch.transitions())[kind]))

    @pytest.mark.parametrize("kind", list(views(np.zeros((1, 1, 1)))))
    @FEW
    @given(sketch=sketches())
    def test_memory_layouts_of_the_other_axes(self, kind, sketch):
        mdp = from_arrays(
            sketch,
            views(action_major(sketch))[kind],
            rewards=sketch.table().T,
            costs={name: sketch.table(cost).T for name, cost in sketch.costs.items()},
            layout="ass",
        )
        assert_same(sketch.mdp(), mdp)

    @FEW
    @given(sketches())
    def test_rows_of_other_pairs_are_ignored(self, sketch):
        mdp = from_arrays(sketch, sketch.transitions(fill=np.nan), rewards=sketch.table(fill=np.inf))
        assert_same(sketch.mdp(), mdp)

    @pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool", "float16", "float32", "longdouble", "object"])
    @FEW
    @given(sketch=sketches(denominators=(1,)))
    def test_types_of_certain_transitions(self, dtype, sketch):
        assert_same(sketch.mdp(), from_arrays(sketch, sketch.transitions().astype(dtype)))

    @pytest.mark.parametrize("dtype", ["float16", "float32", "longdouble", "object"])
    @FEW
    @given(sketch=sketches(denominators=(1, 2, 4, 8)))
    def test_types_of_dyadic_probabilities(self, dtype, sketch):
        mdp = from_arrays(sketch, sketch.transitions().astype(dtype))
        assert_same(sketch.mdp(), mdp)
        assert mdp.notes == ()

    @pytest.mark.bad_input(18)
    def test_integer_rewards_do_not_overflow(self):
        mdp = MDP.from_arrays(
            np.full((2, 1, 2), 0.5),
            np.full((2, 1, 2), 127, dtype=np.int8),
            costs={"wear": np.array([200, 255], np.uint8)},
        )
        np.testing.assert_array_equal(mdp.pair_rewards, [127.0, 127.0])
        np.testing.assert_array_equal(mdp.pair_costs["wear"], [200.0, 255.0])

    def test_the_layout_is_never_inferred(self):
        # Two states, two actions: read the other way round this is another model.
        cube = np.array([[[1, 0], [1, 0]], [[0, 1], [0, 1]]])
        by_state = MDP.from_arrays(cube, np.arange(4).reshape(2, 2))
        by_action = MDP.from_arrays(cube, np.arange(4).reshape(2, 2), layout="ass")
        np.testing.assert_array_equal(by_state.transitions.toarray(), [[1, 0], [1, 0], [0, 1], [0, 1]])
        np.testing.assert_array_equal(by_action.transitions.toarray(), [[1, 0], [0, 1], [1, 0], [0, 1]])
        np.testing.assert_array_equal(by_state.rewards, [[0, 1], [2, 3]])
        np.testing.assert_array_equal(by_action.rewards, [[0, 2], [1, 3]])


class TestSparseEncodings:
    @pytest.mark.parametrize("container", ["array", "matrix"])
    @pytest.mark.parametrize("name", FORMATS)
    @FEW
    @given(sketch=sketches())
    @pytest.mark.bad_input(16)
    def test_formats(self, name, container, sketch):
        matrix = getattr(sparse, f"{name}_{container}")(sparse_rows(sketch))
        assert_same(sketch.mdp(), from_arrays(sketch, matrix))

    @pytest.mark.parametrize("name", FORMATS)
    @FEW
    @given(sketch=sketches())
    def test_one_matrix_per_action(self, name, sketch):
        parts = [sparse.csr_array(block).asformat(name) for block in action_major(sketch)]
        rewards = [sparse.csr_array(np.repeat(row[:, None], sketch.n_states, axis=1)) for row in sketch.table().T]
        assert_same(
            sketch.mdp(),
            from_arrays(sketch, parts, rewards=rewards, layout="ass", costs=self._per_action(sketch)),
            rtol=1e-14,
        )

    def _per_action(self, sketch):
        return {name: sketch.table(cost).T for name, cost in sketch.costs.items()}

    @FEW
    @given(sketches())
    def test_one_matrix_per_state(self, sketch):
        assert_same(sketch.mdp(), from_arrays(sketch, [sparse.csc_array(block) for block in sketch.transitions()]))

    @FEW
    @given(sketches())
    def test_stacked_by_action(self, sketch):
        matrix = sparse.coo_array(action_major(sketch).reshape(-1, sketch.n_states))
        assert_same(
            sketch.mdp(),
            from_arrays(sketch, matrix, rewards=sketch.table().T, layout="ass", costs=self._per_action(sketch)),
        )

    @FEW
    @given(sketches())
    @pytest.mark.bad_input(16)
    def test_unsorted_indices(self, sketch):
        tidy = sparse_rows(sketch)
        order = np.concatenate([np.arange(a, b)[::-1] for a, b in zip(tidy.indptr[:-1], tidy.indptr[1:], strict=True)])
        messy = sparse.csr_array((tidy.data[order], tidy.indices[order], tidy.indptr), shape=tidy.shape)
        indices = messy.indices.copy()
        assert_same(sketch.mdp(), from_arrays(sketch, messy))
        np.testing.assert_array_equal(messy.indices, indices)

    @FEW
    @given(sketches())
    @pytest.mark.bad_input(14)
    def test_duplicates_are_summed(self, sketch):
        tidy = sparse_rows(sketch)
        messy = sparse.csr_array(
            (np.repeat(tidy.data / 2, 2), np.repeat(tidy.indices, 2), 2 * tidy.indptr), shape=tidy.shape
        )
        assert_same(sketch.mdp(), from_arrays(sketch, messy))
        assert messy.nnz == 2 * tidy.nnz
        coo = tidy.tocoo()
        messy = sparse.coo_array((np.tile(coo.data / 2, 2), (np.tile(coo.row, 2), np.tile(coo.col, 2))), coo.shape)
        assert_same(sketch.mdp(), from_arrays(sketch, messy))

    def test_duplicates_do_not_overflow(self):
        rewards = sparse.coo_array((np.array([100, 100], np.int8), ([0, 0], [0, 0])), shape=(1, 1))
        assert MDP.from_arrays([[[1]]], rewards).pair_rewards[0] == 200
        assert MDP.from_arrays([[[1]]], [rewards], layout="ass").pair_rewards[0] == 200

    @FEW
    @given(sketches())
    @pytest.mark.bad_input(15)
    def test_explicit_zeros(self, sketch):
        full = sparse.csr_array(np.ones((sketch.n_states * sketch.n_actions, sketch.n_states)))
        full.data = sketch.transitions().ravel()
        assert full.nnz == sketch.transitions().size
        assert_same(sketch.mdp(), from_arrays(sketch, full))

    @pytest.mark.parametrize("dtype", ["int8", "bool", "uint16", "float32"])
    @FEW
    @given(sketch=sketches(denominators=(1,)))
    def test_types(self, dtype, sketch):
        assert_same(sketch.mdp(), from_arrays(sketch, sparse_rows(sketch).astype(dtype)))
        parts = [sparse.csr_array(block.astype(dtype)) for block in sketch.transitions()]
        assert_same(sketch.mdp(), from_arrays(sketch, parts))

    @FEW
    @given(sketches())
    def test_wide_indices(self, sketch):
        matrix = sparse_rows(sketch)
        matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
        mdp = from_arrays(sketch, matrix)
        assert_same(sketch.mdp(), mdp)
        assert matrix.indices.dtype == np.int64

    @pytest.mark.bad_input(54)
    def test_no_dense_square_is_made(self):
        n = 100_000  # a dense S x S array would take 80 GB
        cycle = sparse.csr_array((np.ones(n), (np.arange(n), np.roll(np.arange(n), 1))), shape=(n, n))
        mdp = MDP.from_arrays(cycle, np.zeros(n), discount=0.9, costs={"wear": cycle})
        assert (mdp.n_states, mdp.transitions.nnz) == (n, n)
        assert mdp.pair_costs["wear"].sum() == n


class TestPairs:
    @given(sketches(), st.randoms(use_true_random=False))
    def test_any_order(self, sketch, random):
        order = random.sample(range(len(sketch.rows)), len(sketch.rows))
        rows = [sketch.pairs[i] for i in order]
        matrix = np.array([[float(p) for p in sketch.rows[pair]] for pair in rows])
        rewards = np.array([float(sketch.rewards[pair]) for pair in rows])
        costs = {name: [float(cost[pair]) for pair in rows] for name, cost in sketch.costs.items()}
        for transitions in (matrix, sparse.csr_array(matrix), sparse.coo_matrix(matrix), matrix.tolist()):
            mdp = MDP.from_pairs(
                [s for s, _ in rows], np.array([a for _, a in rows]), transitions, rewards, costs=costs, **sketch.rest()
            )
            assert_same(sketch.mdp(), mdp)

    @FEW
    @given(sketches(max_states=4))
    def test_labels_instead_of_indices(self, sketch):
        states, actions = ["new", "worn", "broken", "gone"][: sketch.n_states], [3, 1, 2][: sketch.n_actions]
        mdp = MDP.from_pairs(
            [states[s] for s, _ in sketch.pairs],
            [actions[a] for _, a in sketch.pairs],
            [[float(p) for p in row] for row in sketch.rows.values()],
            [float(r) for r in sketch.rewards.values()],
            states=states,
            actions=actions,
        )
        assert mdp.states == tuple(states)
        assert mdp.actions == tuple(actions)
        np.testing.assert_array_equal(mdp.rewards, sketch.table(fill=np.nan))
        np.testing.assert_array_equal(mdp.transitions.toarray(), sketch.mdp().transitions.toarray())

    def test_indices_beside_labels_that_are_no_integers(self):
        mdp = MDP.from_pairs([0, 1], [1, 0], np.eye(2), [5, 6], states=["a", "b"], actions=["x", "y"])
        assert contents(mdp)[0] == {("a", "y"): ({"a": 1.0}, 5.0, {}), ("b", "x"): ({"b": 1.0}, 6.0, {})}

    def test_integer_labels_are_labels(self):
        mdp = MDP.from_pairs([1, 0], [0, 0], [[0, 1], [1, 0]], [5, 6], states=[1, 0])
        assert contents(mdp)[0] == {(1, 0): ({0: 1.0}, 5.0, {}), (0, 0): ({1: 1.0}, 6.0, {})}
        with pytest.raises(InvalidModel, match=r"pair_states holds 0, which is not among states="):
            MDP.from_pairs([0, 1], [0, 0], np.eye(2), [5, 6], states=[1, 2])

    def test_rewards_per_transition(self):
        matrix = [[0.5, 0.5], [0, 1]]
        mdp = MDP.from_pairs([0, 1], [0, 0], matrix, [[2, 4], [np.nan, 3]], costs={"c": sparse.csr_array(matrix)})
        np.testing.assert_array_equal(mdp.pair_rewards, [3.0, 3.0])
        np.testing.assert_array_equal(mdp.pair_costs["c"], [0.5, 1.0])

    def test_index_of_a_pair(self):
        mdp = MDP.from_pairs([0, 0, 1], [0, 2, 1], [[1, 0], [0, 1], [0, 1]], [0, 0, 0])
        assert [mdp.pairs.pair(s, a) for s, a in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2))] == [0, None, 1, 2, None]
        assert mdp.pairs.describe(1) == "state 0, action 2"
        np.testing.assert_array_equal(mdp.pairs.table(np.array([1.0, 2.0, 3.0]), 0.0), [[1, 0, 2], [0, 3, 0]])


def steps_of(sketch, split=False):
    """The sketch as a step function; `split` lists every successor twice."""

    def step(s, a):
        share = 2 if split else 1
        row = enumerate(sketch.rows[s, a])
        return [(float(p) / share, j, float(sketch.rewards[s, a])) for j, p in row for _ in range(share)]

    return step


class TestFunctions:
    @given(sketches(), st.booleans())
    def test_same_model(self, sketch, split):
        mdp = MDP.from_function(
            steps_of(sketch, split),
            {s: float(p) for s, p in enumerate(sketch.initial)},
            lambda s: [a for state, a in sketch.pairs if state == s],
            discount=float(sketch.discount),
            costs={name: lambda s, a, cost=cost: float(cost[s, a]) for name, cost in sketch.costs.items()},
        )
        rows, initial, discount = contents(mdp)
        expected_rows, expected_initial, expected_discount = contents(sketch.mdp())
        assert (initial, discount) == (expected_initial, expected_discount)
        assert rows.keys() == expected_rows.keys()
        for pair, (row, reward, costs) in expected_rows.items():
            assert rows[pair][0] == row
            assert rows[pair][1] == pytest.approx(reward, rel=1e-14)
            assert rows[pair][2] == costs

    def test_integer_states_found_in_another_order(self):
        mdp = MDP.from_function(lambda s, a: [(1, max(s - 1, 0), s)], 3, [7])
        assert mdp.states == (3, 2, 1, 0)
        assert contents(mdp)[0] == {(s, 7): ({max(s - 1, 0): 1.0}, float(s), {}) for s in range(4)}
        np.testing.assert_array_equal(mdp.initial, [1, 0, 0, 0])

    def test_only_states_that_are_reached(self):
        mdp = MDP.from_function(lambda s, a: [(0.0, "never", np.nan), (1, "here", 2)], "here", iter(["stay"]))
        assert contents(mdp) == ({("here", "stay"): ({"here": 1.0}, 2.0, {})}, {"here": 1.0}, None)

    @pytest.mark.parametrize("start", [["b", "a"], {"b": 0.5, "a": 0.5}, np.array(["b", "a"])])
    def test_initial_states(self, start):
        mdp = MDP.from_function(lambda s, a: [(1, s, 0)], start, ["stay"])
        assert mdp.states == ("b", "a")
        np.testing.assert_array_equal(mdp.initial, [0.5, 0.5])

    def test_a_tuple_is_one_state_and_a_set_is_sorted(self):
        mdp = MDP.from_function(lambda s, a: [(1, s, 0)], (0, "x"), ["stay"])
        assert mdp.states == ((0, "x"),)
        assert MDP.from_function(lambda s, a: [(1, s, 0)], {"c", "a", "b"}, ["stay"]).states == ("a", "b", "c")

    def test_actions_that_are_not_available_are_not_followed(self):
        mdp = MDP.from_function(lambda s, a: [("1/2", s, 1), ("1/2", a, "-inf" if a == "far" else 1)], 0, [0, "far"])
        assert mdp.states == (0,)
        assert mdp.exact.rewards == (1,)
        assert any("(0, 'far')" in note for note in mdp.notes)

    def test_exact_numbers(self):
        mdp = MDP.from_function(
            lambda s, a: [("1/3", (s + 1) % 3, "1/7"), ("2/3", s, 0)], [0, 1, 2], ["go"], discount="0.9",
            costs={"toll": lambda s, a: Fraction(s, 3)},
        )  # fmt: skip
        third = Fraction(1, 3)
        assert mdp.exact.initial == (third, third, third)
        assert mdp.exact.transitions == (2 * third, third, 2 * third, third, third, 2 * third)
        assert mdp.exact.rewards == (Fraction(1, 21),) * 3
        assert mdp.exact.costs["toll"] == (0, third, 2 * third)
        assert mdp.exact.discount == Fraction(9, 10)
        assert mdp.notes == ()


def spread(table, possible):
    """A table [S, A] as numbers per transition, NaN where the probability is zero."""
    return np.where(possible, table[:, :, None], np.nan)


def flat(cube):
    """[S, A, S'] as rows [S*A, S']."""
    return cube.reshape(-1, cube.shape[-1])


#: One quantity [S, A] in every shape; `possible` [S, A, S'] says which transitions have positive probability.
SHAPES = {
    "[S, A]": lambda table, possible: table,
    "nested lists": lambda table, possible: table.tolist(),
    "[S, A, S']": lambda table, possible: np.repeat(table[:, :, None], len(table), axis=2),
    "[S, A, S'] with NaN": spread,
    "sparse [S*A, S']": lambda table, possible: sparse.csr_array(flat(np.where(possible, table[:, :, None], 0))),
    "sparse [S*A, S'] with NaN": lambda table, possible: sparse.coo_array(flat(spread(table, possible))),
    "sparse [S, A]": lambda table, possible: sparse.lil_matrix(table),
    "list of S sparse": lambda table, possible: [sparse.csr_array(block) for block in spread(table, possible)],
}
SHAPES_BY_ACTION = {
    "[A, S]": lambda table, possible: table.T,
    "[A, S, S']": lambda table, possible: np.swapaxes(spread(table, possible), 0, 1),
    "sparse [A*S, S']": lambda table, possible: sparse.csr_array(flat(np.swapaxes(spread(table, possible), 0, 1))),
    "sparse [A, S]": lambda table, possible: sparse.csr_array(table.T),
    "list of A sparse": lambda table, possible: [
        sparse.csc_array(block) for block in np.swapaxes(spread(table, possible), 0, 1)
    ],
}


class TestRewardsAndCosts:
    def shaped(self, sketch, shape, **layout):
        possible = sketch.transitions() > 0
        return {
            "rewards": shape(sketch.table(), possible),
            "costs": {name: shape(sketch.table(cost), possible) for name, cost in sketch.costs.items()},
            **layout,
        }

    @pytest.mark.parametrize("shape", SHAPES)
    @FEW
    @given(sketch=sketches(min_states=2))
    def test_shapes(self, shape, sketch):
        mdp = from_arrays(sketch, sketch.transitions(), **self.shaped(sketch, SHAPES[shape]))
        assert_same(sketch.mdp(), mdp, rtol=1e-14)

    @pytest.mark.parametrize("shape", SHAPES_BY_ACTION)
    @FEW
    @given(sketch=sketches(min_states=2))
    def test_shapes_by_action(self, shape, sketch):
        shaped = self.shaped(sketch, SHAPES_BY_ACTION[shape], layout="ass")
        assert_same(sketch.mdp(), from_arrays(sketch, action_major(sketch), **shaped), rtol=1e-14)

    @pytest.mark.parametrize("layout", ["sas", "ass"])
    def test_one_number_per_state(self, layout):
        cube = np.full((2, 3, 2) if layout == "sas" else (3, 2, 2), 0.5)
        mdp = MDP.from_arrays(cube, [1, 2], costs={"wear": np.array([3, 4])}, layout=layout)
        np.testing.assert_array_equal(mdp.rewards, [[1, 1, 1], [2, 2, 2]])
        np.testing.assert_array_equal(mdp.costs["wear"], [[3, 3, 3], [4, 4, 4]])

    @given(sketches(full=True), st.data())
    def test_expectation_over_successors(self, sketch, data):
        shape = (sketch.n_states, sketch.n_actions, sketch.n_states)
        numbers = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(-9, 9)))
        expected = [
            sum(p * int(r) for p, r in zip(row, numbers[s, a], strict=True)) for (s, a), row in sketch.rows.items()
        ]
        for rewards in (numbers, sparse.csr_array(flat(numbers))):
            mdp = MDP.from_arrays(sketch.transitions(), rewards, costs={"twice": 2 * rewards})
            np.testing.assert_allclose(mdp.pair_rewards, np.array(expected, dtype=float), rtol=0, atol=1e-14)
            np.testing.assert_allclose(mdp.pair_costs["twice"], 2 * mdp.pair_rewards, rtol=0, atol=1e-13)
        exact = MDP.from_arrays(
            [[list(map(str, sketch.rows[s, a])) for a in range(shape[1])] for s in range(shape[0])], numbers
        )
        assert list(exact.exact.rewards) == expected

    @pytest.mark.bad_input(22)
    def test_numbers_on_impossible_transitions_are_ignored(self):
        cube = np.array([[[1, 0]], [[0.5, 0.5]]])
        rewards = np.array([[[2, np.nan]], [[1, 3]]])
        assert list(MDP.from_arrays(cube, rewards).pair_rewards) == [2, 2]
        assert list(MDP.from_arrays(cube.astype(str), rewards).pair_rewards) == [2, 2]
        rewards[0, 0, 1] = -np.inf  # closes nothing
        assert list(MDP.from_arrays(cube, rewards).pair_rewards) == [2, 2]

    def test_costs_are_named(self):
        mdp = MDP.from_arrays(np.full((2, 1, 2), 0.5), [0, 0], costs={"wear": [1, 2], "fuel": [3, 4]})
        assert list(mdp.pair_costs) == ["wear", "fuel"]
        with pytest.raises(TypeError):
            mdp.pair_costs["wear"] = np.zeros(2)


class TestUnavailableActions:
    """A reward of -inf removes the pair, and a note lists it."""

    def test_removed_and_listed(self):
        mdp = MDP.from_arrays(
            np.full((2, 2, 2), 0.5), [[1, -np.inf], [2, 3]], costs={"wear": [[1, np.nan], [2, 3]]},
            states=["new", "worn"], actions=["run", "repair"],
        )  # fmt: skip
        assert mdp.n_pairs == 3
        assert mdp.notes == ("1 pairs have reward -inf and are not available: ('new', 'repair')",)
        np.testing.assert_array_equal(mdp.costs["wear"], [[1, np.nan], [2, 3]])

    def test_long_lists_are_cut(self):
        rewards = np.zeros((7, 2))
        rewards[:, 1] = -np.inf
        note = MDP.from_arrays(np.full((7, 2, 7), 1 / 7), rewards).notes[0]
        assert note.startswith("7 pairs have reward -inf")
        assert note.endswith("(4, 1), ...")

    @given(sketches())
    def test_the_same_as_never_given(self, sketch):
        rewards = sketch.table(fill=-np.inf)
        full = sketch.transitions()
        full[~sketch.admissible()] = 1 / sketch.n_states
        for transitions in (full, sparse.csc_array(flat(full))):
            assert_same(sketch.mdp(), from_arrays(sketch, transitions, rewards=rewards, admissible=None))
        exact = from_arrays(sketch, full, rewards=rewards.astype(str), admissible=None)
        assert_same(sketch.mdp(), exact)
        assert [float(r) for r in exact.exact.rewards] == list(exact.pair_rewards)

    def test_rows_of_unavailable_pairs_are_not_judged(self):
        mdp = MDP.from_arrays([[[1], [np.nan]]], [[0, -np.inf]])
        assert mdp.n_pairs == 1

    def test_one_impossible_successor_with_minus_infinity_closes_the_pair(self):
        mdp = MDP.from_arrays([[[0.5, 0.5], [0, 1]], [[0, 1], [0, 1]]], [[[-np.inf, 1], [0, 0]], [[0, 0], [0, 0]]])
        assert list(zip(mdp.pairs.states, mdp.pairs.actions, strict=True)) == [(0, 1), (1, 0), (1, 1)]


class TestNotes:
    def test_a_perfect_model_has_none(self):
        assert MDP.from_arrays([[[0.25, 0.75]], [[0, 1]]], [0, 0]).notes == ()

    @pytest.mark.parametrize("departure", [1e-12, -1e-12, 9e-10, -9e-10])
    def test_row_sums_are_reported_never_repaired(self, departure):
        row = [0.5, 0.5 + departure]
        for transitions in ([[row], [[0, 1]]], sparse.csr_array([row, [0, 1]])):
            mdp = MDP.from_arrays(transitions, [0, 0], states=["here", "there"])
            np.testing.assert_array_equal(mdp.transitions.toarray()[0], row)
            assert len(mdp.notes) == 1
            assert "1 rows do not sum to exactly 1" in mdp.notes[0]
            assert f"state 'here', action 0, by {departure:.2g}" in mdp.notes[0]

    def test_exact_rows_are_judged_exactly(self):
        tenths = [["0.1"] * 10] * 10  # as doubles they miss 1
        assert sum([0.1] * 10) != 1
        assert MDP.from_arrays(np.array(tenths)[:, None], np.zeros(10)).notes == ()
        (note,) = MDP.from_arrays([[["0.3333333333", "0.6666666666"]], [["0", "1"]]], [0, 0]).notes
        assert "state 0, action 0, by -1e-10" in note

    def test_negative_rounding_is_clipped_and_reported(self):
        mdp = MDP.from_arrays([[[1, -1e-17]], [[-1e-13, 1]]], [0, 0])
        np.testing.assert_array_equal(mdp.transitions.toarray(), [[1, 0], [0, 1]])
        assert mdp.transitions.nnz == 2
        assert mdp.notes == ("2 probabilities between -1e-13 and 0 were set to 0",)

    def test_single_precision_is_promoted(self):
        rows = np.full((3, 1, 3), 1 / 3, dtype=np.float32)
        for transitions in (rows, sparse.csr_array(rows[:, 0]), [sparse.csr_array(rows[:, 0])]):
            layout = "ass" if isinstance(transitions, list) else "sas"
            with pytest.warns(ModelWarning, match=r"transition rows in single precision .* 3\.0e-08") as seen:
                mdp = MDP.from_arrays(transitions, np.zeros(3), layout=layout)
            assert seen[0].filename == __file__
            assert mdp.transitions.dtype == np.float64
            np.testing.assert_array_equal(mdp.transitions.data, np.float64(np.float32(1 / 3)))
            assert "3 rows do not sum" in mdp.notes[0]

    def test_single_precision_of_the_initial_distribution(self):
        with pytest.warns(ModelWarning, match="initial probabilities in single precision"):
            mdp = MDP.from_arrays(np.full((3, 1, 3), 1 / 3), [0] * 3, initial=np.full(3, 1 / 3, dtype=np.float32))
        assert "initial probabilities miss 1 by 3e-08" in mdp.notes

    def test_the_initial_distribution(self):
        cube = np.full((2, 1, 2), 0.5)
        assert MDP.from_arrays(cube, [0, 0], initial=[0.5, 0.5 - 1e-10]).notes == (
            "initial probabilities miss 1 by -1e-10",
        )
        assert MDP.from_arrays(np.full((49, 1, 49), 1 / 49), np.zeros(49)).notes[1:] == ()


class TestExactNumbers:
    @given(sketches())
    def test_fractions_stand_beside_their_doubles(self, sketch):
        mdp = sketch.mdp(exact=True)
        assert_same(sketch.mdp(), mdp)
        exact = mdp.exact
        assert exact.transitions == tuple(p for row in sketch.rows.values() for p in row if p)
        assert exact.rewards == tuple(sketch.rewards.values())
        assert exact.initial == sketch.initial
        assert exact.discount == sketch.discount
        assert exact.costs == {name: tuple(cost.values()) for name, cost in sketch.costs.items()}
        assert mdp.notes == ()

    @given(sketches(), st.randoms(use_true_random=False))
    def test_aligned_after_sorting_and_removal(self, sketch, random):
        order = random.sample(range(len(sketch.rows)), len(sketch.rows))
        pairs = [sketch.pairs[i] for i in order]
        closed = [pair for pair in pairs if sum(s == pair[0] for s, _ in pairs) > 1][:1]
        mdp = MDP.from_pairs(
            [s for s, _ in pairs], [a for _, a in pairs], [list(map(str, sketch.rows[pair])) for pair in pairs],
            ["-inf" if pair in closed else str(sketch.rewards[pair]) for pair in pairs],
        )  # fmt: skip
        kept = [pair for pair in sketch.pairs if pair not in closed]
        assert mdp.exact.rewards == tuple(sketch.rewards[pair] for pair in kept)
        assert mdp.exact.transitions == tuple(p for pair in kept for p in sketch.rows[pair] if p)
        assert [float(p) for p in mdp.exact.transitions] == list(mdp.transitions.data)
        assert [float(r) for r in mdp.exact.rewards] == list(mdp.pair_rewards)

    @pytest.mark.parametrize(
        "one_third",
        ["1/3", " 1/3 ", "2/6", b"1/3", Fraction(1, 3), np.str_("1/3")],
        ids=["text", "spaces", "unreduced", "bytes", "fraction", "numpy text"],
    )
    def test_spellings_of_a_third(self, one_third):
        mdp = MDP.from_arrays([[[one_third, "2/3"]], [[0, 1]]], [0, 0])
        assert mdp.exact.transitions == (Fraction(1, 3), Fraction(2, 3), 1)

    @pytest.mark.parametrize("half", ["0.5", "5e-1", "1/2", ".5", Decimal("0.5"), 0.5, np.float32(0.5)])
    def test_spellings_of_a_half(self, half):
        mdp = MDP.from_arrays([[[half, "1/2"]], [["0", "1"]]], [0, 0])
        assert mdp.exact.transitions == (Fraction(1, 2), Fraction(1, 2), 1)

    def test_arrays_of_text(self):
        for dtype in ("U", "S", "O", "T"):
            table = np.array([[["0.9", "0.1"]], [["0", "1"]]]).astype(
                np.dtypes.StringDType() if dtype == "T" else dtype
            )
            assert MDP.from_arrays(table, [0, 0]).exact.transitions == (Fraction(9, 10), Fraction(1, 10), 1)

    def test_a_float_among_strings_is_the_dyadic_that_it_is(self):
        mdp = MDP.from_arrays([[[0.1, "9/10"]], [["0", "1"]]], [0, 0])
        assert mdp.exact.transitions[:2] == (Fraction(0.1), Fraction(9, 10))
        assert Fraction(0.1) != Fraction(1, 10)

    @pytest.mark.parametrize("discount", ["0.9", "9/10", Fraction(9, 10), Decimal("0.9"), np.str_("0.9")])
    def test_discount(self, discount):
        mdp = MDP.from_arrays([[[1]]], [0], discount=discount)
        assert mdp.discount == 0.9
        assert mdp.exact.discount == Fraction(9, 10)

    def test_what_was_not_exact_is_dyadic(self):
        mdp = MDP.from_arrays([[[0.1, 0.9]], [[0, 1]]], ["1/3", 0], discount=0.9, initial=[0.3, 0.7])
        assert mdp.exact.transitions == (Fraction(0.1), Fraction(0.9), 1)
        assert mdp.exact.discount == Fraction(0.9)
        assert mdp.exact.initial == (Fraction(0.3), Fraction(0.7))

    def test_a_uniform_start_is_exact_where_anything_is(self):
        cube = np.full((3, 1, 3), "1/3")
        assert MDP.from_arrays(cube, [0, 0, 0]).exact.initial == (Fraction(1, 3),) * 3
        assert MDP.from_arrays(cube, [0, 0, 0], initial=1).exact.initial == (0, 1, 0)
        assert MDP.from_arrays(cube, [0, 0, 0], initial={0: "1/3", 2: "2/3"}).exact.initial[2] == Fraction(2, 3)

    def test_doubles_alone_keep_no_fractions(self):
        assert MDP.from_arrays(np.full((3, 1, 3), 1 / 3), [0, 0, 0], discount=0.9).exact is None


class TestInitial:
    CUBE = np.full((3, 1, 3), 1 / 3)

    @pytest.mark.parametrize(
        "initial", [1, np.int64(1), np.array(1), [0, 1, 0], (0, 1, 0), np.eye(3)[1], {1: 1}], ids=repr
    )
    def test_a_point_mass(self, initial):
        mdp = MDP.from_arrays(self.CUBE, [0, 0, 0], initial=initial)
        np.testing.assert_array_equal(mdp.initial, [0, 1, 0])

    @pytest.mark.parametrize("initial", ["b", np.str_("b"), np.array("b"), {"b": 1}, {"b": 1.0, ("a", 2): 0}])
    def test_a_label(self, initial):
        states = [("a", 2), "b", "c"]
        mdp = MDP.from_arrays(self.CUBE, [0, 0, 0], initial=initial, states=states)
        np.testing.assert_array_equal(mdp.initial, [0, 1, 0])
        np.testing.assert_array_equal(mdp.replace(initial=("a", 2)).initial, [1, 0, 0])

    @pytest.mark.parametrize(
        "initial",
        [
            [0.25, 0, 0.75],
            (0.25, 0, 0.75),
            np.array([1, 0, 3]) / 4,
            ["1/4", "0", "3/4"],
            {0: 0.25, 2: "3/4"},
            ["1/4", 0, 0.75],
        ],
    )
    def test_a_distribution(self, initial):
        mdp = MDP.from_arrays(self.CUBE, [0, 0, 0], initial=initial)
        np.testing.assert_array_equal(mdp.initial, [0.25, 0, 0.75])

    def test_default_is_uniform(self):
        np.testing.assert_array_equal(MDP.from_arrays(self.CUBE, [0, 0, 0]).initial, [1 / 3] * 3)

    def test_labels_are_used_instead_of_indices(self):
        mdp = MDP.from_arrays(self.CUBE, [0, 0, 0], states=[2, 0, 1], initial=0)
        np.testing.assert_array_equal(mdp.initial, [0, 1, 0])
        with pytest.raises(InvalidModel, match=r"there is no state 0.*'a', 'b', 'c'"):
            MDP.from_arrays(self.CUBE, [0, 0, 0], states="abc", initial=0)

    @given(sketches(), st.integers(0, 5))
    def test_a_state_is_its_point_mass(self, sketch, state):
        state %= sketch.n_states
        mass = np.eye(sketch.n_states)[state]
        assert_same(sketch.mdp(initial=mass), sketch.mdp(initial=state))
        assert_same(sketch.mdp(initial=mass), sketch.mdp(initial={state: 1.0}))


class TestLabels:
    MODEL = MDP.from_arrays(
        np.full((2, 3, 2), 0.5), np.zeros((2, 3)), states=[("t", 0), ("t", 1)], actions=["run", "repair", ("buy", 2)]
    )

    def test_named_and_looked_up(self):
        pairs = self.MODEL.pairs
        assert self.MODEL.states == (("t", 0), ("t", 1))
        assert self.MODEL.actions == ("run", "repair", ("buy", 2))
        assert [pairs.state(label) for label in self.MODEL.states] == [0, 1]
        assert [pairs.action(label) for label in self.MODEL.actions] == [0, 1, 2]
        assert pairs.describe(4) == "state ('t', 1), action 'repair'"

    @pytest.mark.parametrize("label", ["walk", 0, ["run"], None])
    def test_unknown(self, label):
        with pytest.raises(InvalidProblem, match=r"there is no action .*'run', 'repair', \('buy', 2\)"):
            self.MODEL.pairs.action(label)

    def test_indices_where_there_are_none(self):
        mdp = MDP.from_arrays(np.full((2, 1, 2), 0.5), [0, 0])
        assert mdp.states == (0, 1)
        assert mdp.pairs.state(np.int32(1)) == 1
        with pytest.raises(InvalidProblem, match="there is no state 2"):
            mdp.pairs.state(2)

    @pytest.mark.parametrize("states", [np.array(["a", "b"]), "ab", (np.str_("a"), np.str_("b")), iter("ab")])
    def test_containers(self, states):
        mdp = MDP.from_arrays(np.full((2, 1, 2), 0.5), [0, 0], states=states)
        assert repr(mdp.states) == "('a', 'b')"

    def test_select(self):
        select = self.MODEL.pairs.select
        assert list(select(states=("t", 1))) == [False] * 3 + [True] * 3
        assert list(select(states=[("t", 1)], actions="run")) == [False] * 3 + [True, False, False]
        assert list(select(actions=["run", ("buy", 2)])) == [True, False, True] * 2
        assert list(select(states=[])) == [False] * 6
        assert select().all()
        with pytest.raises(InvalidProblem, match="there is no action 'walk'"):
            select(actions=["run", "walk"])


def everything(sketch):
    """Arguments of `from_arrays` in which every array could be shared or changed by mistake."""
    full = sketch.transitions()
    full[~sketch.admissible()] = 1 / sketch.n_states
    return {
        "transitions": full,
        "rewards": sketch.table(),
        "admissible": sketch.admissible(),
        "costs": {name: sketch.table(cost) for name, cost in sketch.costs.items()},
        "initial": np.array([float(p) for p in sketch.initial]),
    }


class TestOwnership:
    """A model owns its arrays: the caller's stay as they were, and nobody changes the model's."""

    @given(sketches(full=True))
    def test_the_callers_arrays(self, sketch):
        given_, before = everything(sketch), everything(sketch)
        mdp = MDP.from_arrays(**given_)
        inputs = [given_["transitions"], given_["rewards"], given_["initial"], *given_["costs"].values()]
        for name, stored in stored_arrays(mdp).items():
            assert not any(np.shares_memory(stored, array) for array in inputs), name
        assert all(array.flags.writeable for array in inputs)
        for name, array in before.items():
            np.testing.assert_equal(given_[name], array)
        frozen = contents(mdp)
        for array in inputs:
            array[...] = np.nan
        assert contents(mdp) == frozen

    @pytest.mark.parametrize("name", FORMATS)
    def test_the_callers_sparse_matrices(self, name):
        matrix = sparse.csr_array(([0.5, 0.25, 0.25, 1, 0], [1, 0, 0, 1, 0], [0, 3, 5]), shape=(2, 2)).asformat(name)
        before, parts = matrix.copy(), [part for part in vars(matrix).values() if isinstance(part, np.ndarray)]
        mdp = MDP.from_arrays(matrix, matrix, costs={"wear": matrix})
        assert not any(np.shares_memory(stored, part) for stored in stored_arrays(mdp).values() for part in parts)
        assert (matrix.nnz, matrix.dtype, matrix.format) == (before.nnz, before.dtype, name)
        for part in vars(before):
            np.testing.assert_equal(vars(matrix)[part], vars(before)[part])
        np.testing.assert_array_equal(mdp.transitions.toarray(), [[0.5, 0.5], [0, 1]])

    @given(sketches(), st.booleans())
    def test_everything_stored_is_read_only(self, sketch, exact):
        for name, array in stored_arrays(sketch.mdp(exact=exact)).items():
            assert not array.flags.writeable, name
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0

    def test_fields_cannot_be_set(self):
        mdp = MDP.from_arrays([[[1]]], [0])
        for name in ("discount", "initial", "pairs", "pair_rewards"):
            with pytest.raises(AttributeError):
                setattr(mdp, name, None)


class TestCopies:
    @pytest.mark.parametrize(
        "duplicate", [copy.copy, copy.deepcopy, *(lambda m, p=p: pickle.loads(pickle.dumps(m, p)) for p in (2, 5))]
    )
    @FEW
    @given(sketch=sketches(), exact=st.booleans())
    def test_the_same_to_the_last_bit(self, duplicate, sketch, exact):
        mdp = sketch.mdp(exact=exact, states=[f"s{s}" for s in range(sketch.n_states)])
        assert mdp.costs.keys() == mdp.pair_costs.keys()  # cached tables must not stand in the way
        again = duplicate(mdp)
        assert_same(mdp, again)
        assert (again.notes, again.exact) == (mdp.notes, mdp.exact)
        assert again.pairs.state_labels == mdp.pairs.state_labels
        assert not any(array.flags.writeable for array in stored_arrays(again).values())
        assert again.transitions.has_canonical_format

    def test_a_deep_copy_shares_nothing(self):
        mdp = MDP.from_arrays(np.full((2, 1, 2), 0.5), [1, 2])
        assert not np.shares_memory(copy.deepcopy(mdp).pair_rewards, mdp.pair_rewards)

    def test_models_are_compared_by_identity(self):
        mdp = MDP.from_arrays([[[1]]], [0])
        assert mdp == mdp
        assert mdp != copy.deepcopy(mdp)
        assert len({mdp, copy.deepcopy(mdp)}) == 2


class TestReplace:
    @given(sketches(), sketches(), st.booleans())
    def test_the_same_as_built_anew(self, sketch, other, exact):
        rewards = dict(zip(sketch.rows, [*other.rewards.values()] * len(sketch.rows), strict=False))
        number = str if exact else float
        values = [number(rewards[pair]) for pair in sketch.rows]
        changed = {"discount": number(other.discount), "initial": 0, "rewards": values, "costs": {"toll": values}}
        for name, change in changed.items():
            before = sketch.mdp(exact=exact)
            after = before.replace(**{name: change})
            assert_same(sketch.mdp(exact=exact), before)
            arguments = {"rewards": [number(r) for r in sketch.rewards.values()], name: change}
            anew = MDP.from_pairs(
                *zip(*sketch.pairs, strict=True), [[number(p) for p in row] for row in sketch.rows.values()],
                **{"costs": {k: [number(c) for c in v.values()] for k, v in sketch.costs.items()}}
                | sketch.rest(exact=exact) | arguments,
            )  # fmt: skip
            assert_same(anew, after)
            assert after.exact == anew.exact

    @given(sketches())
    def test_nothing_changed_is_the_same_model(self, sketch):
        for exact in (False, True):
            mdp = sketch.mdp(exact=exact)
            again = mdp.replace()
            assert_same(mdp, again)
            assert (again.notes, again.exact) == (mdp.notes, mdp.exact)

    @pytest.mark.parametrize("n_actions", [1, 2, 3])
    def test_shapes(self, n_actions):
        n = 3
        mdp = MDP.from_arrays(np.full((n, n_actions, n), 1 / n), np.zeros(n), states="abc")
        table = np.arange(1.0, 1 + n * n_actions).reshape(n, n_actions)
        shapes = [table, table.ravel(), np.repeat(table[:, :, None], n, 2), flat(np.repeat(table[:, :, None], n, 2))]
        for rewards in (*shapes, table.tolist(), sparse.csr_array(shapes[-1]), table.astype(str)):
            new = mdp.replace(rewards=rewards, costs={"wear": rewards})
            np.testing.assert_allclose(new.rewards, table, rtol=1e-15)
            np.testing.assert_allclose(new.costs["wear"], table, rtol=1e-15)
            assert new.states == ("a", "b", "c")
        np.testing.assert_array_equal(mdp.replace(rewards=[1, 2, 3]).rewards[:, -1], [1, 2, 3])
        assert not mdp.rewards.any()

    def test_only_pairs_that_exist_are_read(self):
        mdp = MDP.from_pairs([0, 0, 1], [0, 1, 1], [[1, 0], [0, 1], [0, 1]], [0, 0, 0])
        new = mdp.replace(rewards=[[1, 2], [np.nan, 3]])
        np.testing.assert_array_equal(new.pair_rewards, [1, 2, 3])

    def test_notes_stay(self):
        with pytest.warns(ModelWarning):
            mdp = MDP.from_arrays(
                np.full((3, 2, 3), 1 / 3, dtype=np.float32),
                [[0, -np.inf], [0, 0], [0, 0]],
                initial=[0.5, 0.5 - 1e-10, 0],
            )
        assert len(mdp.notes) == 3
        again = mdp.replace(discount=0.5)  # what was accepted is accepted again
        assert again.notes == mdp.notes
        assert mdp.replace(initial=0).notes == mdp.notes[:2]
        fewer = mdp.replace(rewards=[[0, 0], [0, 0], [-np.inf, 0]])
        assert fewer.n_pairs == mdp.n_pairs - 1
        assert set(mdp.notes) < set(fewer.notes)

    def test_back_to_nothing(self):
        mdp = MDP.from_arrays([[[1]]], [0], discount="0.5", costs={"wear": [1]})
        assert mdp.replace(discount=None).discount is None
        assert mdp.replace(costs=None).pair_costs == {}
        assert mdp.replace(discount=0.25).exact.discount == Fraction(1, 4)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"rewards": [1, 2, 3]}, r"rewards has shape \[3\]; give \[S, A\] = \[2, 2\]"),
            ({"rewards": [[1], [2, 3]]}, "rewards is ragged"),
            ({"rewards": [[0, np.nan], [0, 0]]}, "the reward of state 'a', action 1 is nan"),
            ({"rewards": -np.inf * np.ones((2, 2))}, "state 'a' has no action"),
            ({"costs": {"wear": [[0, np.inf], [0, 0]]}}, "cost 'wear' of state 'a', action 1 is inf"),
            ({"costs": [1, 2]}, "costs must map names to numbers"),
            ({"discount": 1.5}, r"discount=1\.5 is outside"),
            ({"initial": "z"}, "there is no state 'z'"),
        ],
    )
    def test_refusals(self, change, message):
        mdp = MDP.from_arrays(np.full((2, 2, 2), 0.5), np.zeros(2), states="ab")
        with pytest.raises(InvalidModel, match=message):
            mdp.replace(**change)

    def test_unknown_fields(self):
        with pytest.raises(TypeError, match=r"not \['transitions'\]"):
            MDP.from_arrays([[[1]]], [0]).replace(transitions=[[[1]]])


class TestMetamorphic:
    """Names and orders mean nothing."""

    @given(sketches(), st.data())
    def test_permuted_states_and_actions(self, sketch, data):
        states = data.draw(st.permutations(range(sketch.n_states)))
        actions = data.draw(st.permutations(range(sketch.n_actions)))
        grid = np.ix_(states, actions)
        mdp = MDP.from_arrays(
            sketch.transitions()[np.ix_(states, actions, states)],
            sketch.table()[grid],
            admissible=sketch.admissible()[grid],
            costs={name: sketch.table(cost)[grid] for name, cost in sketch.costs.items()},
            initial=[float(sketch.initial[s]) for s in states],
            discount=float(sketch.discount),
            states=states,
            actions=actions,
        )
        assert contents(mdp) == contents(sketch.mdp())

    @given(sketches())
    def test_rewards_scale_by_powers_of_two(self, sketch):
        mdp = sketch.mdp()
        for factor in (2.0**-40, 2.0**40):
            scaled = mdp.replace(rewards=factor * mdp.pair_rewards)
            np.testing.assert_array_equal(scaled.pair_rewards, factor * mdp.pair_rewards)
            assert scaled.pairs.same_as(mdp.pairs)

    @given(sketches(), sketches())
    def test_same_pairs(self, sketch, other):
        first, second = sketch.mdp().pairs, other.mdp().pairs
        alike = sketch.n_actions == other.n_actions and sketch.pairs == other.pairs
        assert first.same_as(second) == alike
        assert second.same_as(first) == alike
        assert first.same_as(copy.deepcopy(first))

    def test_pairs_that_differ_in_one_action(self):
        first = MDP.from_pairs([0, 0, 1], [0, 2, 1], [[1, 0], [0, 1], [0, 1]], [0, 0, 0]).pairs
        second = MDP.from_pairs([0, 0, 1], [0, 2, 0], [[1, 0], [0, 1], [0, 1]], [0, 0, 0]).pairs
        assert not first.same_as(second)

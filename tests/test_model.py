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
from scipy import sparse
from strategies import mdps, sketches

from occlp.errors import InvalidModel, InvalidProblem, ModelWarning
from occlp.model import MDP

FORMATS = ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")
FEW = settings(max_examples=20)


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

    def test_integer_rewards_do_not_overflow(self):
        mdp = MDP.from_arrays(
            np.full((2, 1, 2), 0.5), np.full((2, 1, 2), 127, dtype=np.int8), costs={"wear": np.array([200, 255], np.uint8)}
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
    def test_unsorted_indices(self, sketch):
        tidy = sparse_rows(sketch)
        order = np.concatenate([np.arange(a, b)[::-1] for a, b in zip(tidy.indptr[:-1], tidy.indptr[1:], strict=True)])
        messy = sparse.csr_array((tidy.data[order], tidy.indices[order], tidy.indptr), shape=tidy.shape)
        indices = messy.indices.copy()
        assert_same(sketch.mdp(), from_arrays(sketch, messy))
        np.testing.assert_array_equal(messy.indices, indices)

    @FEW
    @given(sketches())
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


def reward_shapes(sketch, values):
    """One quantity in every shape that `from_arrays` reads with layout "sas"."""
    table = sketch.table(values)
    per_transition = np.where(sketch.transitions() > 0, table[:, :, None], np.nan)
    rows = per_transition.reshape(-1, sketch.n_states)
    return {
        "[S, A]": table,
        "[S, A, S']": np.repeat(table[:, :, None], sketch.n_states, axis=2),
        "[S, A, S'] with NaN": per_transition,
        "sparse [S*A, S']": sparse.csr_array(np.where(np.isnan(rows), 0, rows)),
        "sparse [S*A, S'] with NaN": sparse.coo_array(np.nan_to_num(rows, nan=np.inf)),
        "sparse [S, A]": sparse.csr_array(table),
        "list of S sparse": [sparse.csr_array(np.nan_to_num(block)) for block in per_transition],
        "nested lists": table.tolist(),
    }


class TestRewardsAndCosts:
    @pytest.mark.parametrize("shape", list(reward_shapes(find_one := sketches().example, None)) if False else [
        "[S, A]", "[S, A, S']", "[S, A, S'] with NaN", "sparse [S*A, S']", "sparse [S*A, S'] with NaN",
        "sparse [S, A]", "list of S sparse", "nested lists",
    ])  # fmt: skip
    @FEW
    @given(sketch=sketches(min_states=2))
    def test_shapes(self, shape, sketch):
        mdp = from_arrays(
            sketch,
            sketch.transitions(),
            rewards=reward_shapes(sketch, sketch.rewards)[shape],
            costs={name: reward_shapes(sketch, cost)[shape] for name, cost in sketch.costs.items()},
        )
        assert_same(sketch.mdp(), mdp, rtol=1e-14)

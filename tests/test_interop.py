"""Gymnasium's tables and files: values, labels, and what is refused."""

from __future__ import annotations

import io
import json
import sys
import types
import zipfile

import numpy as np
import pytest

from occlp import instances
from occlp.errors import BackendMissing, InvalidModel, InvalidProblem
from occlp.interop import from_gymnasium, load, read_model, read_states, save
from occlp.model import MDP


def environment(table, start=None, *, steps=None):
    """An object with what is read of a Gymnasium environment."""
    inner = types.SimpleNamespace(P=table)
    if start is not None:
        inner.initial_state_distrib = np.array(start)
    return types.SimpleNamespace(unwrapped=inner, spec=types.SimpleNamespace(max_episode_steps=steps))


def expected_return(mdp):
    """μ0·V by dense policy iteration."""
    matrix = mdp.transitions.toarray()
    policy = mdp.pair_start[:-1].astype(int)
    while True:
        values = np.linalg.solve(np.eye(mdp.n_states) - mdp.discount * matrix[policy], mdp.pair_rewards[policy])
        table = np.where(np.isnan(mdp.rewards), -np.inf, 0) + mdp.pairs.table(
            mdp.pair_rewards + mdp.discount * matrix @ values, 0.0
        )
        best = mdp.pair_start[:-1] + table.argmax(axis=1)
        better = table.max(axis=1) > table[np.arange(mdp.n_states), policy - mdp.pair_start[:-1]] + 1e-10
        if not better.any():
            return float(mdp.initial @ values)
        policy = np.where(better, best, policy)


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        # Gymnasium 1.4.0; the 4x4 lake is widely quoted as 0.5420.
        ("FrozenLake-v1", {}, 0.54202593200047),
        ("FrozenLake-v1", {"map_name": "8x8"}, 0.4146403617999881),
        ("FrozenLake-v1", {"is_slippery": False}, 0.99**5),
        ("Taxi-v4", {}, 6.327464314919365),
        ("CliffWalking-v1", {}, -(1 - 0.99**13) / 0.01),  # thirteen steps of -1
    ],
)
def test_values_of_gymnasium(name, arguments, value):
    gymnasium = pytest.importorskip("gymnasium")
    if name not in gymnasium.registry:
        pytest.skip(f"{name} is not in this gymnasium")
    mdp = from_gymnasium(name, discount=0.99, **arguments)
    assert expected_return(mdp) == pytest.approx(value, abs=1e-9)


def test_frozen_lake_keeps_the_numbers_of_its_states():
    gymnasium = pytest.importorskip("gymnasium")
    mdp = from_gymnasium("FrozenLake-v1", discount=0.99)
    assert mdp.states == (0, 1, 2, 3, 4, 6, 8, 9, 10, 13, 14, "terminal")  # holes 5, 7, 11, 12 and goal 15 end it
    assert mdp.actions == ("left", "down", "right", "up")
    assert np.isnan(mdp.rewards[-1, 1:]).all()
    assert mdp.rewards[-1, 0] == 0
    assert any("time limit of 100 steps" in note for note in mdp.notes)
    made = gymnasium.make("FrozenLake-v1")
    wrapped, bare = from_gymnasium(made, discount=0.99), from_gymnasium(made.unwrapped, discount=0.99)
    np.testing.assert_array_equal(wrapped.transitions.toarray(), mdp.transitions.toarray())
    np.testing.assert_array_equal(bare.pair_rewards, mdp.pair_rewards)
    with pytest.raises(InvalidProblem, match="is_slippery"):
        from_gymnasium(made, discount=0.99, is_slippery=False)


def test_cliff_walking_keeps_states_that_are_never_entered():
    pytest.importorskip("gymnasium")
    mdp = from_gymnasium("CliffWalking-v1", discount=0.99)
    assert mdp.states == (*range(48), "terminal")
    assert mdp.actions == ("up", "right", "down", "left")
    assert mdp.initial[36] == 1
    assert any(note.startswith("11 states cannot be reached") for note in mdp.notes)


@pytest.mark.parametrize("name", ["Blackjack-v1", "CartPole-v1"])
def test_environments_without_a_table(name):
    pytest.importorskip("gymnasium")
    with pytest.raises(InvalidModel, match=r"no transition table P.*FrozenLake-v1.*Taxi-v4"):
        from_gymnasium(name, discount=0.9)


def test_gymnasium_refusals_are_ours():
    pytest.importorskip("gymnasium")
    with pytest.raises(InvalidProblem, match="Lava"):
        from_gymnasium("Lava-v0", discount=0.9)
    with pytest.raises(InvalidProblem, match="depth"):
        from_gymnasium("FrozenLake-v1", discount=0.9, depth=3)


def test_what_an_environment_needs_is_missing():
    pytest.importorskip("gymnasium")
    with pytest.raises(BackendMissing, match="no_such_package"):
        from_gymnasium("no_such_package:Lake-v0", discount=0.9)


def test_gymnasium_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(BackendMissing, match=r'pip install "occlp\[gymnasium\]"'):
        from_gymnasium("FrozenLake-v1", discount=0.9)


def test_termination_is_honoured():
    # The goal continues in P, as in CliffWalking: without the flag the walker would go on for ever.
    table = {
        0: {0: [(1.0, np.int64(0), -1, False)], 1: [(0.5, 1, -1, True), (0.5, 0, -1, False)]},
        1: {0: [(1.0, 0, -100, False)], 1: [(1.0, 1, -1, True)]},
    }
    mdp = from_gymnasium(environment(table, [1.0, 0.0]), discount=0.5)
    assert mdp.states == (0, 1, "terminal")
    expected = [[1, 0, 0], [0.5, 0, 0.5], [1, 0, 0], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_array_equal(mdp.transitions.toarray(), expected)
    np.testing.assert_array_equal(mdp.pair_rewards, [-1, -1, -100, -1, 0])
    assert mdp.pairs.action_labels is None


def test_repeated_successors_are_summed_and_impossible_ones_dropped():
    table = [
        [[(0.25, 1, 1.0, False), (0.5, 0, 0, False), (0.25, np.int64(1), 3.0, False), (0.0, 0, 9, True)]],
        [[(1, 0, 0, False)]],
    ]
    mdp = from_gymnasium(environment(table), discount="1/2")
    np.testing.assert_array_equal(mdp.transitions.toarray(), [[0.5, 0.5], [1, 0]])
    np.testing.assert_array_equal(mdp.pair_rewards, [1, 0])
    assert mdp.states == (0, 1)  # nothing ends, so there is no terminal state
    assert any("initial_state_distrib" in note for note in mdp.notes)


def test_absorbing_states_are_merged_with_their_start():
    stay = {0: [(1.0, 1, 0, False)], 1: [(1.0, 1, 0, False)]}
    table = {0: {0: [(1.0, 1, 5, False)], 1: [(1.0, 0, 1, False)]}, 1: stay, 2: {0: [(1.0, 2, 0, True)]}}
    mdp = from_gymnasium(environment(table, [0.5, 0.25, 0.25]), discount=0.9)
    assert mdp.states == (0, "terminal")
    np.testing.assert_array_equal(mdp.initial, [0.5, 0.5])
    np.testing.assert_array_equal(mdp.rewards, [[5, 1], [0, np.nan]])
    # An absorbing state that pays is a state like any other.
    paying = {0: {0: [(1.0, 0, 1, False)]}}
    assert from_gymnasium(environment(paying), discount=0.9).states == (0,)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "no transition table"),
        (np.eye(2), "no transition table"),
        ({0: {0: []}}, "no outcomes"),
        ({0: {0: [(1.0, 0, 0)]}}, r"P\[0\]\[0\]"),
        ({0: {0: [(1.0, 7, 0, False)]}}, r"P\[0\]\[0\]"),
        ({0: {"up": [(1.0, 0, 1, False)]}}, "action number"),
        ({0: {0: [(0.5, 0, 1, False)]}}, "sum to 0.5"),
        ({0: {0: [(1.0, 0, 1, False)], 1: []}}, "no successor"),
    ],
)
def test_malformed_tables(table, message):
    with pytest.raises(InvalidModel, match=message):
        from_gymnasium(environment(table), discount=0.9)


def test_malformed_start():
    table = {0: {0: [(1.0, 0, 1, False)]}}
    with pytest.raises(InvalidModel, match="initial_state_distrib"):
        from_gymnasium(environment(table, [0.5, 0.5]), discount=0.9)


def test_read_states():
    mdp = MDP.from_arrays(np.eye(4)[:, None], [0] * 4, states=["a", (1, 2), 7, "7"])
    assert read_states(mdp, ["(1, 2)", "a"]) == [(1, 2), "a"]
    with pytest.raises(InvalidProblem, match="'7' stands for 2 states"):
        read_states(mdp, ["7"])
    with pytest.raises(InvalidProblem, match=r"'b' is no state\. The states are a, "):
        read_states(mdp, ["b"])


def test_read_model(tmp_path):
    assert read_model("forest", discount=0.5, n_states=4).n_states == 4
    save(instances.get("forest"), tmp_path / "forest.npz")
    stored = read_model(str(tmp_path / "forest.npz"), discount=0.5, initial=2)
    assert (stored.discount, stored.initial[2]) == (0.5, 1.0)
    with pytest.raises(InvalidProblem, match="n_states"):
        read_model(str(tmp_path / "forest.npz"), n_states=3)
    with pytest.raises(InvalidProblem, match=r"(?s)'forest'.*gym:ID.*\.npz"):
        read_model("forrest")
    with pytest.raises(InvalidProblem, match="7 is no model"):
        read_model(7)
    with pytest.raises(InvalidProblem, match="is no model"):
        read_model(str(tmp_path / "missing.npz"))


def test_read_model_of_gymnasium():
    pytest.importorskip("gymnasium")
    assert read_model("gym:FrozenLake-v1").discount == 0.99
    changed = read_model("gym:FrozenLake-v1", discount=0.9, is_slippery=False, initial=4)
    assert (changed.discount, changed.initial[4], changed.transitions.nnz) == (0.9, 1.0, changed.n_pairs)


def assert_same(first, second):
    assert second.states == first.states
    assert second.actions == first.actions
    assert second.pairs.state_labels == first.pairs.state_labels
    assert second.pairs.action_labels == first.pairs.action_labels
    assert second.pairs.same_as(first.pairs)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(second.transitions, part), getattr(first.transitions, part))
    np.testing.assert_array_equal(second.pair_rewards, first.pair_rewards)
    np.testing.assert_array_equal(second.initial, first.initial)
    assert list(second.pair_costs) == list(first.pair_costs)
    for name, cost in first.pair_costs.items():
        np.testing.assert_array_equal(second.pair_costs[name], cost)
    assert second.discount == first.discount
    assert second.notes == first.notes
    assert second.exact == first.exact


@pytest.mark.parametrize("name", instances.names())
def test_instances_survive_a_file(name, tmp_path):
    mdp = instances.get(name)
    save(mdp, tmp_path / "model.npz")
    again = load(tmp_path / "model.npz")
    assert_same(mdp, again)
    assert not again.transitions.data.flags.writeable
    assert [file.name for file in tmp_path.iterdir()] == ["model.npz"]


@pytest.mark.parametrize(
    "labels",
    [
        None,
        ["a", "b", "ü"],
        [2, 1, 0],  # numbers that could be taken for positions
        [0.5, 1e300, -0.25],
        [True, False, None],
        [(1, 2), ((1, 2), "x", None), ()],
        [np.int64(4), np.float64(0.5), np.str_("c")],
        ["", "\ud800", "\0"],
    ],
)
def test_labels_survive_a_file(labels, tmp_path):
    transitions = np.array([[[0.25, 0.75, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0]], [[0, 0.5, 0.5], [0.25, 0.25, 0.5]]])
    mdp = MDP.from_arrays(transitions, np.arange(6.0).reshape(3, 2), discount=None, states=labels)
    save(mdp, tmp_path / "model")
    again = load(tmp_path / "model")
    assert_same(mdp, again)
    assert list(map(type, again.states)) == [type(x.item() if isinstance(x, np.generic) else x) for x in mdp.states]


def test_an_action_that_no_state_has_survives_a_file(tmp_path):
    admissible = [[True, False, False], [True, True, False]]
    mdp = MDP.from_arrays(np.full((2, 3, 2), 0.5), np.ones((2, 3)), discount=0.5, admissible=admissible)
    save(mdp, tmp_path / "model.npz")
    assert_same(mdp, load(tmp_path / "model.npz"))
    assert load(tmp_path / "model.npz").n_actions == 3


def test_notes_survive_a_file_once(tmp_path):
    third = np.full((3, 1, 3), 1 / 3)
    third[0, 0, 0] += 1e-12
    mdp = MDP.from_arrays(third, np.ones((3, 1)), discount=0.5, states=["x", "y", "z"])
    assert len(mdp.notes) == 1
    save(mdp, tmp_path / "model.npz")
    assert load(tmp_path / "model.npz").notes == mdp.notes


@pytest.mark.parametrize("label", [frozenset({1}), float("inf"), b"bytes", (1, 2j)])
def test_labels_that_no_file_can_hold(label, tmp_path):
    mdp = MDP.from_arrays([[[1.0]]], [[1.0]], discount=0.5, states=[label])
    with pytest.raises(InvalidModel, match="cannot be written to a file"):
        save(mdp, tmp_path / "model.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "model.npz"
    save(instances.get("machine-repair"), path)
    return path


def parts_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, parts, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def as_array(values):
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def as_json(content):
    return as_array(np.frombuffer(json.dumps(content).encode(), dtype=np.uint8))


def header_of(parts):
    return json.loads(np.load(io.BytesIO(parts["header.npy"])).tobytes())


def test_files_are_plain_numpy(stored):
    with np.load(stored, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["rewards"], instances.get("machine-repair").pair_rewards)
        assert "cost_0" in arrays


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere.npz")


def test_truncated_files(stored):
    content = stored.read_bytes()
    for size in range(0, len(content), 97):
        stored.write_bytes(content[:size])
        with pytest.raises(InvalidModel, match=r"model\.npz"):
            load(stored)


def test_flipped_bytes_never_give_another_model(stored):
    content, original = stored.read_bytes(), load(stored)
    refused = 0
    for position in range(0, len(content), 11):
        damaged = bytearray(content)
        damaged[position] ^= 0x15
        stored.write_bytes(damaged)
        try:
            again = load(stored)
        except InvalidModel:
            refused += 1
        else:  # dates and the like in the archive's directory mean nothing
            assert_same(original, again)
    assert refused > len(content) // 22


def test_foreign_files(stored):
    stored.write_text("s,a,p\n0,0,1\n")
    with pytest.raises(InvalidModel, match="damaged"):
        load(stored)
    np.savez(stored, P=np.eye(3))
    with pytest.raises(InvalidModel, match="header"):
        load(stored)
    np.savez_compressed(stored, header=np.zeros(4, dtype=np.uint8))
    with pytest.raises(InvalidModel, match="compressed"):
        load(stored)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "another program"),
        ({"version": 2}, "newer occlp"),
        ({"version": "1"}, "not a number"),
        ({"n_states": 4}, "start"),
        ({"n_states": 0}, "sizes"),
        ({"n_states": True}, "sizes"),
        ({"n_pairs": 10**9}, "actions"),
        ({"n_transitions": 2**40}, "sizes"),
        ({"n_actions": 1}, "out of range"),
        ({"states": ["new", "worn"]}, "damaged"),
        ({"states": ["new", "worn", "worn"]}, "twice"),
        ({"states": ["new", "worn", {"a": 1}]}, "label"),
        ({"discount": 1.5}, "outside"),
        ({"discount": "0.9"}, "contradicts"),
        ({"costs": ["wear", "tear"]}, "cost_1"),
        ({"costs": "wear"}, "costs"),
        ({"notes": [1]}, "notes"),
        ({"exact": 1}, "contradicts"),
    ],
)
def test_headers_that_lie(stored, change, message):
    parts = parts_of(stored)
    rewrite(stored, parts | {"header.npy": as_json(header_of(parts) | change)})
    with pytest.raises(InvalidModel, match=message):
        load(stored)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("data", np.full(8, 0.5), "sum to"),
        ("data", np.ones(8, dtype=np.float32), "float32"),
        ("data", np.array([None] * 8), "damaged"),
        ("rewards", np.full(6, np.nan), "reward"),
        ("cost_0", np.full(6, np.inf), "wear"),
        ("initial", np.ones(3), "initial"),
        ("initial", np.ones((3, 1)), r"\[3, 1\]"),
        ("start", np.array([0, 4, 2, 6], dtype=np.int32), "count up"),
        ("start", np.array([0, 3, 3, 6], dtype=np.int32), "no action|twice"),
        ("actions", np.array([0, 0, 0, 1, 0, 1], dtype=np.int32), "twice"),
        ("indices", np.full(8, 3, dtype=np.int32), "out of range"),
        ("indices", np.full(8, -1, dtype=np.int32), "out of range"),
        ("indptr", np.array([0, 9, 3, 4, 6, 7, 8], dtype=np.int32), "count up"),
    ],
)
def test_arrays_are_checked_again(stored, name, values, message):
    rewrite(stored, parts_of(stored) | {f"{name}.npy": as_array(values)})
    with pytest.raises(InvalidModel, match=message):
        load(stored)


@pytest.mark.parametrize("text", ["1e99999999", "1/0", "10/3", "x", 1])
def test_exact_numbers_are_checked_again(stored, text):
    parts = parts_of(stored)
    exact = json.loads(np.load(io.BytesIO(parts["exact.npy"])).tobytes())
    exact["rewards"][0] = text
    rewrite(stored, parts | {"exact.npy": as_json(exact)})
    with pytest.raises(InvalidModel, match="damaged"):
        load(stored)


def test_an_array_that_claims_to_be_huge(stored):
    parts = parts_of(stored)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    rewrite(stored, parts | {"data.npy": stream.getvalue()})
    with pytest.raises(InvalidModel, match="data"):
        load(stored)


def test_an_existing_file_survives_a_failed_save(stored):
    before = stored.read_bytes()
    with pytest.raises(InvalidModel):
        save(MDP.from_arrays([[[1.0]]], [[1.0]], states=[frozenset()]), stored)
    assert stored.read_bytes() == before

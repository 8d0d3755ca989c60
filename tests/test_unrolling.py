"""A horizon as a model: its states, its numbers, and what it refuses."""

from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import sketches

import occlp as oc
from occlp.model import unrolling


def written_out(mdp, steps, salvage=None):
    """The unrolled model as plain dicts of fractions: {(label, action): ({label: p}, reward, {cost: c})}."""
    exact, start = mdp.exact, mdp.transitions.indptr
    discount = Fraction(1) if exact.discount is None else exact.discount
    rows = {}
    reached = {s for s in range(mdp.n_states) if exact.initial[s] > 0}
    for t in range(steps):
        following = set()
        for k in range(mdp.n_pairs):
            s, a = int(mdp.pairs.states[k]), int(mdp.pairs.actions[k])
            if s not in reached:
                continue
            row = {int(mdp.transitions.indices[e]): exact.transitions[e] for e in range(start[k], start[k + 1])}
            following |= set(row)
            reward = discount**t * exact.rewards[k]
            if t == steps - 1 and salvage is not None:
                reward += discount**steps * sum(p * salvage[j] for j, p in row.items())
            successors = {(t + 1, j): p for j, p in row.items()} if t < steps - 1 else {"end": Fraction(1)}
            rows[(t, s), a] = successors, reward, {n: discount**t * c[k] for n, c in exact.costs.items()}
        reached = following
    rows["end", 0] = {"end": Fraction(1)}, Fraction(0), dict.fromkeys(exact.costs, Fraction(0))
    return rows


def rows_of(mdp):
    start, states = mdp.transitions.indptr, mdp.states
    return {
        (states[mdp.pairs.states[k]], mdp.actions[mdp.pairs.actions[k]]): (
            {states[mdp.transitions.indices[e]]: mdp.exact.transitions[e] for e in range(start[k], start[k + 1])},
            mdp.exact.rewards[k],
            {name: cost[k] for name, cost in mdp.exact.costs.items()},
        )
        for k in range(mdp.n_pairs)
    }


class TestTheModel:
    @given(st.data())
    @settings(max_examples=60)
    def test_it_is_what_it_says(self, data):
        sketch = data.draw(sketches(max_states=4))
        steps = data.draw(st.integers(1, 5))
        salvage = data.draw(st.none() | st.lists(st.fractions(-3, 3, max_denominator=7), min_size=4, max_size=4))
        salvage = None if salvage is None else salvage[: sketch.n_states]
        mdp = sketch.mdp(exact=True)
        unrolled = mdp.unrolled(steps, None if salvage is None else [str(value) for value in salvage])
        expected = written_out(mdp, steps, salvage)
        assert rows_of(unrolled) == expected
        assert rows_of(unrolled) != written_out(mdp, steps + 1, salvage)
        assert unrolled.discount is None
        assert sum(unrolled.exact.initial) == 1
        assert unrolled.states[-1] == "end"
        doubles = sketch.mdp().unrolled(steps, None if salvage is None else [float(value) for value in salvage])
        assert list(doubles.states) == list(unrolled.states)
        np.testing.assert_allclose(doubles.pair_rewards, unrolled.pair_rewards, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(doubles.transitions.toarray(), unrolled.transitions.toarray(), rtol=1e-15)

    def test_reachable_sets_that_come_back(self):
        walk = oc.MDP.from_pairs(
            [0, 1, 2, 3], [0, 0, 0, 0], np.eye(4)[[1, 2, 3, 1]], np.arange(4.0), initial="a", states="abcd"
        )
        labels = walk.unrolled(9).states
        assert labels == (*zip(range(9), "abcdbcdbc", strict=True), "end")

    def test_the_start_decides_what_exists(self):
        mdp = oc.instances.get("machine-repair")
        assert mdp.unrolled(2).states == ((0, "new"), (1, "new"), (1, "worn"), "end")
        elsewhere = mdp.replace(initial="broken").unrolled(2)
        assert elsewhere.states == ((0, "broken"), (1, "new"), (1, "broken"), "end")
        assert "4 of 6 states" not in str(elsewhere.notes)
        assert "3 of 6 states (t, s) can be reached" in str(elsewhere.notes)

    def test_salvage_of_costs_by_name(self):
        mdp = oc.instances.get("machine-repair", discount="1/2")
        plain = mdp.unrolled(2)
        with_wear = mdp.unrolled(2, {"wear": [0, 4, 0]})
        assert with_wear.exact.rewards == plain.exact.rewards
        last = with_wear.pairs.pair(with_wear.pairs.state((1, "new")), 0)
        assert with_wear.exact.costs["wear"][last] == Fraction(1, 4) * Fraction(1, 5) * 4

    def test_rows_that_miss_one_stay_with_what_is_missing(self):
        mdp = oc.MDP.from_arrays([[[0.5, 0.4999999999]], [[0.0, 1.0]]], [[1.0], [0.0]], initial=0)
        unrolled = mdp.unrolled(2)
        first = unrolled.transitions.toarray()[0]
        assert first.tolist() == [0.0, 0.5 + (1 - 0.9999999999), 0.4999999999, 0.0]
        assert "do not sum" not in str(unrolled.notes)

    def test_fractions_that_miss_one(self):
        thirds = ["0.3333333333"] * 3
        mdp = oc.MDP.from_pairs([0, 1, 2], [0, 0, 0], [thirds, ["0", "1", "0"], ["0", "0", "1"]], ["1"] * 3, initial=0)
        row = rows_of(mdp.unrolled(2))[(0, 0), 0][0]
        assert row[1, 0] == Fraction("0.3333333334")
        assert sum(row.values()) == 1

    def test_powers_too_long_for_fractions_are_doubles(self, monkeypatch):
        mdp = oc.instances.get("machine-repair")
        assert mdp.unrolled(30).exact is not None
        monkeypatch.setattr(unrolling, "EXACT_BITS", 1000)
        long = mdp.unrolled(30)
        assert long.exact is None
        assert "too long as fractions" in str(long.notes)
        np.testing.assert_allclose(long.pair_rewards[-2:], [0.95**29 * -10, 0.0])

    def test_a_million_states(self):
        mdp = oc.instances.get("forest", n_states=10, discount=0.9).unrolled(100_000)
        assert mdp.n_states == 1_000_001
        assert mdp.pairs.state_labels[123_456] == (12_345, 6)


class TestLabels:
    def test_they_are_tuples_made_on_demand(self):
        mdp = oc.instances.get("machine-repair").unrolled(3)
        labels = mdp.pairs.state_labels
        assert labels == list(mdp.states)
        assert labels != list(mdp.states)[1:]
        assert labels[-1] == "end"
        assert labels[:2] == ((0, "new"), (1, "new"))
        assert mdp.pairs.state((2, "broken")) == list(labels).index((2, "broken"))
        assert (2, "broken") in labels
        assert (0, "broken") not in labels
        with pytest.raises(IndexError):
            labels[len(labels)]

    def test_they_survive_pickling_and_replacing(self):
        mdp = oc.instances.get("machine-repair").unrolled(3)
        for copy in (pickle.loads(pickle.dumps(mdp)), mdp.replace(rewards=-mdp.pair_rewards)):
            assert copy.states == mdp.states
            assert oc.by_time(copy).horizon == 3

    def test_the_start_can_be_named(self):
        mdp = oc.instances.get("machine-repair").unrolled(3)
        assert mdp.replace(initial=(1, "worn")).initial[mdp.pairs.state((1, "worn"))] == 1.0
        policy = oc.Policy.uniform(mdp)
        assert policy[(1, "worn"), "run"] == 0.5
        assert policy[1, "worn"] == {"run": 0.5, "repair": 0.5}


class TestRefusals:
    @pytest.mark.parametrize("horizon", [0, -1, 2.5, 2.0, "3", True, None, np.nan])
    def test_horizons(self, horizon):
        mdp = oc.instances.get("machine-repair")
        for ask in (mdp.unrolled, lambda steps: oc.backward_induction(mdp, steps)):
            with pytest.raises(oc.InvalidProblem, match="is not a number of steps"):
                ask(horizon)

    @pytest.mark.parametrize(
        ("terminal", "match"),
        [
            ([1, 2], r"shape \[2\]; give \[S\] = \[3\]"),
            ([1, np.nan, 3], "of state 'worn' is nan"),
            ([1, 2, "-inf"], "of state 'broken' is -inf"),
            ({"fuel": [1, 2, 3]}, "terminal names 'fuel'; this model has 'reward', 'wear'"),
        ],
    )
    def test_salvage(self, terminal, match):
        with pytest.raises(oc.InvalidModel, match=match):
            oc.instances.get("machine-repair").unrolled(2, terminal)

    def test_too_large_a_model(self):
        with pytest.raises(oc.InvalidProblem, match="32-bit index"):
            oc.instances.get("machine-repair").unrolled(10**9)

    def test_numbers_that_overflow(self):
        mdp = oc.MDP.from_arrays([[[1.0]]], [[1.5e308]], discount=1.0)
        with pytest.raises(oc.InvalidModel, match="the reward of state"):
            mdp.unrolled(1, [1.5e308])

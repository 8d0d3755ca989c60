"""The strategies draw every kind of model that the other tests count on."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.sparse import csgraph
from strategies import mdps_with_policies, sketches


@pytest.fixture(scope="module")
def drawn():
    """Some hundreds of models with policies, always the same."""
    found = []

    @settings(max_examples=250, database=None, deadline=None, derandomize=True)
    @given(mdps_with_policies())
    def draw(model_and_policy):
        found.append(model_and_policy)

    draw()
    return found


def reached(mdp):
    """States that have positive probability at some time, whatever is done."""
    graph = np.zeros((mdp.n_states + 1, mdp.n_states + 1))
    np.add.at(graph, mdp.pairs.states, np.hstack([mdp.transitions.toarray(), np.zeros((mdp.n_pairs, 1))]))
    graph[-1, :-1] = mdp.initial
    return set(csgraph.breadth_first_order(graph, mdp.n_states, return_predecessors=False)) - {mdp.n_states}


def n_classes(mdp):
    """Sets of states that never meet, at least."""
    graph = np.zeros((mdp.n_states, mdp.n_states))
    np.add.at(graph, mdp.pairs.states, mdp.transitions.toarray())
    return csgraph.connected_components(graph, directed=False)[0]


def has_absorbing(mdp):
    return any(mdp.transitions[[i], [s]] == 1 for s in range(mdp.n_states) for i in [mdp.pair_start[s]])


KINDS = {
    "action sets that differ": lambda m: len(set(np.diff(m.pair_start))) > 1,
    "an absorbing state": lambda m: m.n_states > 1 and has_absorbing(m),
    "several classes": lambda m: n_classes(m) > 1,
    "unreachable states": lambda m: len(reached(m)) < m.n_states,
    "rewards of both signs": lambda m: m.pair_rewards.min() < 0 < m.pair_rewards.max(),
    "several costs": lambda m: len(m.pair_costs) == 2,
    "six states": lambda m: m.n_states == 6,
    "three actions": lambda m: m.n_actions == 3,
    "one state": lambda m: m.n_states == 1,
    "a thin row": lambda m: 0 < m.transitions.data.min() < 0.1,
    "discount 0": lambda m: m.discount == 0,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_drawn(kind, drawn):
    assert sum(bool(KINDS[kind](mdp)) for mdp, _ in drawn) >= 3


def test_both_deterministic_and_mixed_policies_are_drawn(drawn):
    tables = [table for mdp, table in drawn if mdp.n_pairs > mdp.n_states]
    mixed = sum(((table > 0) & (table < 1)).any() for table in tables)
    assert 3 <= mixed <= len(tables) - 3


@given(sketches())
def test_sketches_are_models(sketch):
    assert all(sum(row) == 1 for row in sketch.rows.values())
    assert all(p.denominator <= 12 for row in sketch.rows.values() for p in row)
    assert sum(sketch.initial) == 1
    assert sketch.pairs == sorted(sketch.pairs)
    assert {s for s, _ in sketch.pairs} == set(range(sketch.n_states))


@given(sketches(full=True, denominators=(1, 2, 4)))
def test_options_of_sketches(sketch):
    assert len(sketch.rows) == sketch.n_states * sketch.n_actions
    assert all((p * 4).denominator == 1 for row in sketch.rows.values() for p in row)
    assert all(isinstance(reward, Fraction) for reward in sketch.rewards.values())


@given(mdps_with_policies())
def test_policies_are_stochastic_on_the_pairs(drawn):
    mdp, table = drawn
    np.testing.assert_allclose(table.sum(axis=1), 1.0, rtol=0, atol=1e-15)
    assert (table >= 0).all()
    assert not table[np.isnan(mdp.rewards)].any()

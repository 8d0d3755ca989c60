"""Totals of many states: the way to the optimum, and iterations in the place of factors, against small-scale ways."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import occlp as oc
from occlp.chains.aggregation import Stalled
from occlp.total import improvement, transient
from occlp.total.approach import approach, first_choice
from occlp.total.form import formulate_total
from occlp.total.reduction import is_proper, reduction_of
from occlp.total.transient import Transient


def corridor(n, seed, *, slip=0.1):
    """An n x n floor with an exit in the far corner: a step goes astray with probability `slip`; cells cost 1 to 2."""
    count = n * n
    down, right = np.divmod(np.arange(count), n)
    ways = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    ends = [np.clip(down + i, 0, n - 1) * n + np.clip(right + j, 0, n - 1) for i, j in ways]
    rows = np.zeros((4 * count, count))
    for action in range(4):
        astray = (2, 3) if action < 2 else (0, 1)
        for way, share in ((action, 1 - slip), (astray[0], slip / 2), (astray[1], slip / 2)):
            np.add.at(rows, (4 * np.arange(count) + action, ends[way]), share)
    costs = np.repeat(1 + np.random.default_rng(seed).random(count), 4)
    states, actions = np.repeat(np.arange(count), 4), np.tile(np.arange(4), count)
    mdp = oc.MDP.from_pairs(states, actions, sparse.csr_array(rows), costs, initial=0)
    return oc.Problem(mdp, "minimize", criterion="total", goal=count - 1)


def stages(depth, width, seed):
    """A project of so many stages, the states of all in random order: it moves to the next stage, or stays."""
    rng = np.random.default_rng(seed)
    count = depth * width
    place = rng.permutation(count)
    rows = np.zeros((2 * count + 1, count + 1))
    for s in range(count):
        level = s // width
        for action in range(2):
            if level == depth - 1:
                rows[2 * place[s] + action, count] = 1.0
            else:
                onward = place[(level + 1) * width + rng.integers(0, width, 2)]
                np.add.at(rows[2 * place[s] + action], onward, 0.5)
    rows[-1, count] = 1.0
    states, actions = np.append(np.repeat(np.arange(count), 2), count), np.append(np.tile([0, 1], count), 0)
    rewards = np.append(rng.standard_normal(2 * count), 0.0)
    mdp = oc.MDP.from_pairs(states, actions, rows, rewards, initial=int(place[0]))
    return oc.Problem(mdp, criterion="total", goal=count)


@pytest.fixture
def as_if_large(monkeypatch):
    """Treat every model as one of many states."""
    monkeypatch.setattr(improvement, "FEW_NODES", 0)
    monkeypatch.setattr(transient, "DOUBTED_STATES", 0)
    monkeypatch.setattr(transient, "fits_elimination", lambda *_: False)


@pytest.mark.parametrize("seed", range(3))
def test_large_ways_give_the_answers_of_small_ones(as_if_large, seed, monkeypatch):
    problem = corridor(7, seed)
    found = oc.solve(problem)
    monkeypatch.undo()
    exact = oc.solve(corridor(7, seed))
    assert found.status is oc.Status.CERTIFIED
    assert found.iterations == 1
    assert found.objective == pytest.approx(exact.objective, rel=1e-12)
    np.testing.assert_allclose(found.pair_occupancy, exact.pair_occupancy, atol=1e-9)
    assert oc.verify(problem, found)


def test_without_circles_one_improvement_in_place_is_all(as_if_large):
    problem = stages(12, 5, 0)
    result = oc.solve(problem)
    assert (result.status, result.iterations) == (oc.Status.CERTIFIED, 1)
    mdp = problem.mdp
    values, dense = np.zeros(mdp.n_states), mdp.transitions.toarray()
    for _ in range(13):
        values = np.maximum.reduceat(mdp.pair_rewards + dense @ values, mdp.pair_start[:-1])
    assert result.objective == pytest.approx(float(mdp.initial @ values), abs=1e-12)


@given(st.integers(0, 10**6), st.integers(2, 9))
@settings(max_examples=25)
def test_the_way_ends_at_a_policy_that_ends(seed, n):
    rng = np.random.default_rng(seed)
    rows = np.vstack([rng.dirichlet(np.full(n, 0.3), 2 * (n - 1)), np.eye(n)[[-1]]])
    rows[::2, -1] += 0.01
    rows /= rows.sum(axis=1, keepdims=True)
    states = np.append(np.repeat(np.arange(n - 1), 2), n - 1)
    mdp = oc.MDP.from_pairs(states, np.append(np.tile([0, 1], n - 1), 0), rows, np.append(-rng.random(2 * n - 2), 0))
    reduction = reduction_of(formulate_total(oc.Problem(mdp, criterion="total", goal=n - 1)))
    assert is_proper(reduction, first_choice(reduction))
    choice = approach(reduction, reduction.form.rewards)[1]
    assert is_proper(reduction, choice)
    *_, last = improvement.improvements(reduction, reduction.form.rewards)
    found = Transient(reduction.form.transitions[choice], ~reduction.fixed)
    worth = found.values(reduction.form.rewards[choice], reduction.ends)
    assert (worth <= last.values + 1e-9 * np.abs(last.values).max()).all()


def test_the_likely_way_is_taken_first():
    """Two doors: one opens nearly always, the other nearly never but in fewer moves."""
    rows = [[0, 0.99, 0.01], [0, 0, 1], [0, 0, 1]]
    mdp = oc.MDP.from_pairs([0, 1, 2], [0, 0, 0], rows, [-1, -1, 0], initial=0)
    rare = oc.MDP.from_pairs([0, 0, 1, 2], [0, 1, 0, 0], [[0.99, 0, 0.01], *rows], [-1, -1, -1, 0], initial=0)
    for model, pair in ((mdp, 0), (rare, 1)):
        reduction = reduction_of(formulate_total(oc.Problem(model, criterion="total", goal=2)))
        node = reduction.quotient.nodes[0]
        assert reduction.pairs[first_choice(reduction)[node]] == pair


def test_visits_of_iterations_flow_as_they_should(as_if_large):
    problem = corridor(6, 5, slip=0.6)
    result = oc.solve(problem)
    mdp, open_ = problem.mdp, np.arange(36) != 35
    entering = mdp.initial + mdp.transitions.T @ result.pair_occupancy
    leaving = np.add.reduceat(result.pair_occupancy, mdp.pair_start[:-1])
    np.testing.assert_allclose(entering[open_], leaving[open_], atol=1e-13 * leaving.max())


def test_where_iterations_stall_factors_take_over(as_if_large, monkeypatch):
    def stalled(*_, **__):
        raise Stalled

    exact = oc.solve(corridor(6, 1)).objective
    monkeypatch.setattr("occlp.chains.aggregation.bicgstab", stalled)
    result = oc.solve(corridor(6, 1))
    assert result.status is oc.Status.CERTIFIED
    assert result.objective == pytest.approx(exact, rel=1e-12)

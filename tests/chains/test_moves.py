"""Moves: what is found out about a chain is found out once, and shared by chains that differ in rewards or start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import dense_chain, random_policy

import occlp as oc
from occlp.chains.chain import Chain, occupancy, policy_chain, relative_values
from occlp.chains.moves import Moves
from occlp.chains.resolvent import Elimination, Guarded, Recurrent, natural_width
from occlp.chains.sweeps import rows_of
from occlp.evaluation import formulate


def chain_of(mdp, seed=0):
    policy = random_policy(mdp, np.random.default_rng(seed))
    return policy, policy_chain(formulate(oc.Problem(mdp)), policy.pair_probabilities)


def test_a_chain_keeps_its_bracket_and_hands_on_only_its_moves():
    mdp = oc.instances.get("garnet", n_states=12, n_actions=2, branching=3, seed=1, discount=0.9)
    policy, chain = chain_of(mdp)
    assert chain.bracket is None
    bracket = relative_values(chain)
    assert relative_values(chain, np.ones(12)) is bracket is chain.bracket
    other = replace(chain, rewards=np.arange(12.0), initial=np.eye(12)[3])
    assert other.bracket is None
    assert other.moves is chain.moves
    transitions = dense_chain(mdp, policy.pair_probabilities)
    mass = 0.1 * np.linalg.solve((np.eye(12) - 0.9 * transitions).T, np.eye(12)[3])
    np.testing.assert_allclose(occupancy(other), mass, atol=1e-14)
    assert relative_values(other).lower <= mass @ np.arange(12.0) <= relative_values(other).upper


def test_the_resolvent_is_made_once_and_sweeps_are_then_in_vain():
    _, chain = chain_of(oc.instances.get("garnet", n_states=12, n_actions=2, branching=3, seed=1, discount=0.9))
    moves = chain.moves
    assert not moves.is_factored
    assert moves.resolvent is moves.resolvent
    assert isinstance(moves.resolvent, Elimination)
    assert moves.is_factored
    assert not moves.may_settle


def test_chains_that_settle_by_sweeps_are_not_called_small(monkeypatch):
    _, chain = chain_of(oc.instances.get("garnet", n_states=60, n_actions=2, branching=5, seed=1, discount=0.9))
    monkeypatch.setattr("occlp.chains.resolvent.ELIMINATION_WORK", 60 * 59**2)  # not quite dense
    moves = Moves(chain.rows, chain.discount, chain.rest)
    small = moves.is_small
    moves.note_settling()
    assert not moves.is_small
    assert moves.is_factored is False
    assert small == (moves._band[1] < 59)


@pytest.mark.parametrize(("discount", "kind"), [(None, Recurrent), (0.9, Elimination)])
def test_averages_pin_a_state(discount, kind):
    mdp = oc.instances.get("howard-automobile", discount=discount)
    problem = oc.Problem(mdp, criterion="average" if discount is None else "discounted")
    form, policy = formulate(problem), oc.Policy.uniform(mdp)
    assert isinstance(policy_chain(form, policy.pair_probabilities).resolvent, kind)


def test_elimination_may_take_longer_for_longer_chains(monkeypatch):
    """A path of 400 states, 3 transitions each, of bandwidth 1; what may be spent grows with the transitions."""
    n = 400
    matrix = oc.instances.get("queue-admission", capacity=n - 1).transitions[: 2 * n - 1 : 2]
    rows = rows_of(matrix)
    monkeypatch.setattr("occlp.chains.resolvent.ELIMINATION_WORK", 4 * n - 1)
    assert natural_width(*rows[:2]) == -1
    monkeypatch.setattr("occlp.chains.resolvent.WORTH", len(rows[1]) // 2)
    assert natural_width(*rows[:2]) == 1
    monkeypatch.setattr("occlp.chains.resolvent.ELIMINATION_WORK", -1)
    moves = Moves(rows, 0.9, 0.1)
    assert natural_width(*rows[:2]) == -1
    assert isinstance(moves.resolvent, Guarded)
    rhs = np.sin(np.arange(n))
    system = (0.1 * np.eye(n)) + 0.9 * (np.diag(matrix.toarray().sum(axis=1)) - matrix.toarray())
    np.testing.assert_allclose(system @ moves.resolvent.columns(rhs), rhs, atol=1e-8)
    assert Chain(moves, rhs, np.full(n, 1 / n)).n_states == n

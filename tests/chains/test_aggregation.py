"""Iterations on two levels: against dense algebra, on chains whose basins are known, and where they give up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import occlp as oc
from occlp.chains import aggregation
from occlp.chains.aggregation import Aggregation, Stalled, bicgstab
from occlp.chains.chain import occupancy, policy_chain, relative_values
from occlp.chains.resolvent import Guarded
from occlp.chains.sweeps import rows_of
from occlp.standard import standardize


def chains(seed, n, width):
    """A random chain [n, n] with a few moves a state; some stay, some never move."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((n, n))
    for s in range(n):
        where = rng.choice(n, size=rng.integers(1, min(width, n) + 1), replace=False)
        dense[s, where] = rng.dirichlet(np.ones(len(where)))
    return dense


def system(dense, leave, discount):
    """A = diag(leave) + γ (D − P)."""
    return np.diag(leave + discount * dense.sum(axis=1)) - discount * dense


@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0.5, 1e-2, 1e-5]))
@settings(max_examples=60)
def test_both_solves_are_those_of_dense_algebra(seed, n, rest):
    dense = chains(seed, n, 3)
    rng = np.random.default_rng(seed)
    leave = rest * (0.5 + rng.random(n))
    dense_system = system(dense, leave, 1 - rest)
    solver = Aggregation(rows_of(sparse.csr_array(dense)), leave, discount=1 - rest)
    rhs = rng.standard_normal(n)
    for found, exact in (
        (solver.columns(rhs, reduction=1e-13), np.linalg.solve(dense_system, rhs)),
        (solver.rows(rhs, reduction=1e-13), np.linalg.solve(dense_system.T, rhs)),
    ):
        np.testing.assert_allclose(found, exact, atol=1e-9 * np.abs(exact).max())
    assert not solver.columns(np.zeros(n)).any()


def ring_of_wells(wells, depth, escape):
    """Corridors that lead down to a well each; from a well the chain escapes to the end of the next corridor."""
    n = wells * depth
    dense = np.zeros((n, n))
    for s in range(n):
        well = s // depth
        if s % depth:
            dense[s, s - 1], dense[s, s] = 0.9, 0.1
        else:
            dense[s, s + 1], dense[s, ((well + 1) % wells) * depth + depth - 1] = 1 - escape, escape
    return dense


@pytest.mark.parametrize("escape", [0.0, 1e-9, 1e-3])
def test_wells_that_are_hardly_left_take_no_more_steps(escape, monkeypatch):
    """Sweeps alone would need some 1e6 steps: the values of each well creep along at the rate of 1 − γ."""
    monkeypatch.setattr(aggregation, "MOST_STEPS", 24)
    dense, rest = ring_of_wells(7, 10, escape), 1e-6
    leave = np.full(70, rest)
    solver = Aggregation(rows_of(sparse.csr_array(dense)), leave, discount=1 - rest)
    rhs = np.random.default_rng(0).random(70)
    exact = np.linalg.solve(system(dense, leave, 1 - rest), rhs)
    np.testing.assert_allclose(solver.columns(rhs), exact, rtol=1e-7)
    mass = np.linalg.solve(system(dense, leave, 1 - rest).T, leave / 70)
    np.testing.assert_allclose(solver.rows(leave / 70), mass, rtol=1e-6, atol=1e-9)


def test_too_many_basins_make_one(monkeypatch):
    monkeypatch.setattr(aggregation, "LARGEST_SHARE", 1e-3)
    dense = ring_of_wells(3, 4, 1e-2)
    solver = Aggregation(rows_of(sparse.csr_array(dense)), np.full(12, 0.1), discount=0.9)
    rhs = np.arange(12.0)
    np.testing.assert_allclose(
        solver.columns(rhs), np.linalg.solve(system(dense, np.full(12, 0.1), 0.9), rhs), rtol=1e-8
    )


def test_what_does_not_converge_is_said_to_stall_and_left_to_other_factors(monkeypatch):
    monkeypatch.setattr(aggregation, "MOST_STEPS", 2)
    dense = chains(3, 40, 4)
    leave, rhs = np.full(40, 1e-3), np.random.default_rng(1).random(40)
    solver = Aggregation(rows_of(sparse.csr_array(dense)), leave, discount=0.999)
    with pytest.raises(Stalled):
        solver.columns(rhs)

    class Dense:
        """Answers that cannot be those of the iterations."""

        def columns(self, b):
            return b + 1

        def rows(self, b):
            return b + 2

    guarded = Guarded(solver, Dense)
    np.testing.assert_array_equal(guarded.columns(rhs), rhs + 1)
    np.testing.assert_array_equal(guarded.rows(rhs), rhs + 2)
    np.testing.assert_array_equal(Guarded(solver, Dense).rows(rhs), rhs + 2)


def test_a_broken_preconditioner_stalls():
    with pytest.raises(Stalled):
        bicgstab(lambda b, x: b - x, np.zeros_like, np.ones(3), 1e-8)
    with pytest.raises(Stalled):
        bicgstab(lambda b, x: b - x, lambda b: np.full_like(b, np.nan), np.ones(3), 1e-8)


@pytest.mark.parametrize("discount", [0.99, 0.9999, 1 - 1e-9])
def test_values_and_occupancy_of_a_slow_world_are_those_of_elimination(discount, monkeypatch):
    mdp = oc.instances.get("slippery-gridworld", n=14, discount=discount, seed=3)
    form, policy = standardize(oc.Problem(mdp)), oc.solve(mdp).policy
    exact = policy_chain(form, policy.pair_probabilities)
    bracket, mass = relative_values(exact), occupancy(exact)
    monkeypatch.setattr("occlp.chains.resolvent.ELIMINATION_WORK", -1)
    slow = policy_chain(form, policy.pair_probabilities.copy())  # a chain of its own
    assert isinstance(slow.resolvent, Guarded)
    found = relative_values(slow)
    assert found.upper - found.lower <= 1e-12
    assert abs(found.lower - bracket.lower) <= 1e-12
    masses = occupancy(slow)
    assert (masses >= 0).all()
    assert abs(masses.sum() - 1) <= 1e-12
    np.testing.assert_allclose(masses, mass, rtol=1e-6, atol=1e-13)

"""The way to a good policy: slow worlds take few rounds, and what stalls is left to exact evaluations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps

import occlp as oc
from occlp.chains import aggregation
from occlp.chains.chain import enclose, policy_chain
from occlp.residuals import improve
from occlp.solvers import approach as rounds
from occlp.solvers import slow_rounds
from occlp.solvers.approach import approach
from occlp.standard import standardize


def slowed(patch):
    """Plain rounds are given up at once, and nothing is eliminated."""
    patch.setattr(rounds, "MOST_SLOW", 0)
    patch.setattr("occlp.chains.resolvent.ELIMINATION_WORK", -1)


@given(mdps(max_states=6), st.sampled_from([0.0, 0.5, 0.99, 1 - 1e-9]))
@settings(max_examples=25, deadline=None)
def test_slow_rounds_and_exact_evaluations_find_the_optimum_of_every_kind_of_model(mdp, discount):
    mdp = mdp.replace(discount=discount)
    expected = oc.solve(mdp)
    with pytest.MonkeyPatch.context() as patch:
        slowed(patch)
        found = oc.solve(mdp, check=False)  # without elimination, optima that are nearly zero miss their last digits
    size = float(np.abs(mdp.pair_rewards).max()) or 1.0
    assert found.gap <= 1e-12 * size
    assert abs(found.objective - expected.objective) <= 1e-12 * size
    assert found.certificate.lower <= expected.certificate.upper
    assert expected.certificate.lower <= found.certificate.upper
    assert (found.pair_occupancy >= 0).all()
    assert abs(found.pair_occupancy.sum() - 1) <= 1e-9


@pytest.mark.parametrize("most", [6, 12], ids=["elimination", "iterations"])
@pytest.mark.parametrize("discount", [0.99, 0.9999])
@pytest.mark.parametrize("name", ["slippery-gridworld", "bumpy-gridworld"])
def test_few_rounds_bring_a_slow_world_near_its_optimum(name, discount, most, monkeypatch):
    mdp = oc.instances.get(name, n=24, discount=discount, seed=2)
    form, counted = standardize(oc.Problem(mdp)), []
    original = slow_rounds._evaluate
    monkeypatch.setattr(slow_rounds, "_evaluate", lambda *given: counted.append(1) or original(*given))
    monkeypatch.setattr(rounds, "MOST_SLOW", 0)
    if most == 12:
        slowed(monkeypatch)
    values, policy, chain = approach(form, mdp.pairs, np.zeros(mdp.n_states), 200)
    assert 0 < len(counted) <= most
    assert chain.moves.is_factored == (most == 6)  # the last elimination is kept
    best, _ = improve(form, values)
    bracket = enclose(policy_chain(form, policy.pair_probabilities), values, None)
    optimum = form.from_user(oc.solve(mdp).objective)
    assert bracket.lower - 1e-12 <= optimum <= bracket.upper + best.max() - best.min() + 1e-12
    assert best.max() - best.min() <= 0.1


def test_evaluations_that_stall_end_the_rounds(monkeypatch):
    mdp = oc.instances.get("slippery-gridworld", n=12, discount=0.999)
    expected = oc.solve(mdp).objective
    slowed(monkeypatch)
    monkeypatch.setattr(aggregation, "MOST_STEPS", 0)
    assert oc.solve(mdp).objective == pytest.approx(expected, rel=1e-9)


def test_values_that_overflow_are_not_handed_on(monkeypatch):
    mdp = oc.instances.get("slippery-gridworld", n=6, discount=0.99)
    form = standardize(oc.Problem(mdp))
    slowed(monkeypatch)
    monkeypatch.setattr(
        "occlp.chains.aggregation.Aggregation.columns", lambda self, rhs, reduction: np.full(len(rhs), np.inf)
    )
    with np.errstate(all="ignore"):
        values, *_ = approach(form, mdp.pairs, np.zeros(36), 200)
    assert np.isfinite(values).all()

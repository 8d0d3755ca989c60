"""The dual of joint terms without a matrix: derivatives against dense algebra, and answers against two other ways."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import random_policy
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps, policy_tables

import occlp as oc
from occlp.evaluation import formulate
from occlp.solvers import kl_dual, normal_equations
from occlp.solvers.gibbs_dual import GibbsDual, descend
from occlp.standard import flow_matrix


def form_of(mdp, strength, reference):
    return formulate(oc.Problem(mdp, regularizer=oc.KL(strength, reference)))


@given(st.data(), mdps(max_states=4), st.sampled_from([0.1, 1.0, 10.0]))
@settings(max_examples=40)
def test_derivatives_are_those_of_dense_algebra(data, mdp, strength):
    form = form_of(mdp, strength, oc.Policy.from_table(mdp, data.draw(policy_tables(mdp))))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values, direction = rng.normal(size=(2, mdp.n_states))
    flow, keep, tau = flow_matrix(form).toarray(), form.term.support, form.term.strength
    scores = (form.rewards - flow.T @ values) / tau
    weights = np.where(keep, form.term.prior * np.exp(scores - scores[keep].max(), where=keep, out=0 * scores), 0)
    gibbs = weights / weights.sum()
    point = GibbsDual(form, tau).at(values)
    np.testing.assert_allclose(point.mass, gibbs, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(point.gradient, form.rest * form.initial - flow @ gibbs, atol=1e-12)
    np.testing.assert_allclose(point.squares, np.diag((flow * gibbs) @ flow.T), rtol=1e-9, atol=1e-13)
    hessian = (flow * gibbs) @ flow.T - np.outer(flow @ gibbs, flow @ gibbs)
    np.testing.assert_allclose(point.curvature(direction), hessian @ direction, atol=1e-12)


@pytest.mark.parametrize("strength", [1e-5, 1e-3, 0.1, 10.0])
def test_the_last_point_is_the_optimum(strength):
    """Its Gibbs distribution keeps the flow, so it is the occupancy that attains the bound."""
    mdp = oc.instances.get("garnet", n_states=40, n_actions=4, branching=3, seed=3)
    form = form_of(mdp, strength, random_policy(mdp, np.random.default_rng(0)))
    *_, last = descend(form, enough=1e-9, most_products=1000)
    np.testing.assert_allclose(flow_matrix(form) @ last.mass, form.rest * form.initial, rtol=0, atol=1e-11)
    assert last.value == pytest.approx(form.rewards @ last.mass + form.term.value(last.mass), abs=1e-11)


@pytest.mark.parametrize("most", [0, 1, 3])
def test_points_of_runs_that_are_cut_bound_the_optimum(most, monkeypatch):
    """Any values do (weak duality), so a run may end anywhere."""
    form = form_of(oc.instances.get("machine-repair"), 0.01, oc.Policy.uniform(oc.instances.get("machine-repair")))
    *_, best = descend(form, enough=1e-9, most_products=1000)
    monkeypatch.setattr("occlp.solvers.gibbs_dual.MOST_STEPS", most)
    points = list(descend(form, enough=1.0, most_products=1000))
    assert bool(points) == (most > 0)
    assert all(point.value >= best.value - 1e-12 for point in points)


def test_too_few_products_lead_nowhere():
    mdp = oc.instances.get("slippery-gridworld", n=12, discount=0.999)
    assert not list(descend(form_of(mdp, 0.01, oc.Policy.uniform(mdp)), enough=1e-9, most_products=2))


@pytest.mark.parametrize(
    "mdp",
    [
        oc.instances.get("garnet", n_states=30, n_actions=4, branching=3, seed=1),
        oc.instances.get("slippery-gridworld", n=6, discount=0.99),
        oc.instances.get("queue-admission", capacity=20),
    ],
    ids=["garnet", "grid", "queue"],
)
@pytest.mark.parametrize("strength", [1e-4, 0.01, 1.0])
def test_products_factors_and_the_program_agree(mdp, strength, monkeypatch):
    problem = oc.Problem(mdp, regularizer=oc.KL(strength, oc.Policy.uniform(mdp)))
    others = [oc.solve(problem), oc.solve(problem, oc.OccupancyProgram())]
    monkeypatch.setattr(kl_dual, "FEW_PRODUCTS", 0)
    others.append(oc.solve(problem))
    for one in others:
        assert one.status is oc.Status.CERTIFIED
        assert oc.verify(problem, one)
        assert one.objective == pytest.approx(others[-1].objective, abs=1e-8 * (1 + np.ptp(mdp.pair_rewards)))


def test_where_factors_do_not_fit_products_go_on(monkeypatch):
    mdp = oc.instances.get("slippery-gridworld", n=6, discount=0.99)
    problem = oc.Problem(mdp, regularizer=oc.KL(0.1, oc.Policy.uniform(mdp)))
    monkeypatch.setattr(kl_dual, "FEW_PRODUCTS", 2)
    monkeypatch.setattr(normal_equations, "MOST_WORK", 0.0)
    monkeypatch.setattr(normal_equations, "BANDED_WORK", 0.0)
    assert oc.solve(problem).status is oc.Status.CERTIFIED

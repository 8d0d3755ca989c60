"""Normal equations of occupancy programs: every way to solve them against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest

import occlp as oc
from occlp.evaluation import formulate
from occlp.solvers import normal_equations
from occlp.solvers.conjugate_gradients import solve_by_gradients
from occlp.solvers.normal_equations import NormalEquations
from occlp.standard import flow_matrix

MODELS = {
    "garnet": oc.instances.get("garnet", n_states=25, n_actions=3, branching=3, seed=1, discount=0.9),
    "grid": oc.instances.get("slippery-gridworld", n=5, discount=0.9),
    "queue": oc.instances.get("queue-admission", capacity=12, discount=0.9),
}


def equations_of(mdp):
    return NormalEquations(formulate(oc.Problem(mdp, regularizer=oc.KL(1.0, oc.Policy.uniform(mdp)))))


@pytest.mark.parametrize("way", ["gradients", "banded", "fronts", "gradients, then factors"])
@pytest.mark.parametrize("name", MODELS)
def test_every_way_solves_the_whole_matrix(name, way, monkeypatch):
    mdp, rng = MODELS[name], np.random.default_rng(0)
    equations = equations_of(mdp)
    monkeypatch.setattr(normal_equations, "BANDED_WORK", 1e9 if way == "banded" else 0.0)
    monkeypatch.setattr(normal_equations, "FEW_PRODUCTS", 200 if way == "gradients" else 3)
    equations.mixes_fast = way.startswith("gradients")
    n, kept = equations.n, len(equations.pairs)
    weights, dense = rng.uniform(0.1, 1.0, kept), np.vstack([np.ones(kept), rng.normal(size=kept)])
    corner = np.diag([0.0, 0.5])
    rows = np.vstack([flow_matrix(equations.form).toarray()[equations.states][:, equations.pairs], dense])
    matrix = (rows * weights) @ rows.T
    matrix[n:, n:] += corner
    right = rng.normal(size=n + 2)
    found = equations.solver(weights, dense, corner)(right)
    np.testing.assert_allclose(matrix @ found, right, atol=1e-8)
    assert equations.mixes_fast == (way == "gradients")


def test_states_that_the_reference_never_visits_are_left_out():
    mdp = oc.MDP.from_pairs(
        [0, 1, 2], [0, 0, 0], [[0, 1, 0], [1, 0, 0], [0, 0, 1]], [1.0, 0.0, 5.0], discount=0.9, initial=0
    )
    equations = equations_of(mdp)
    assert equations.pairs.tolist() == [0, 1]
    assert equations.states.tolist() == [1]


def test_where_no_factors_fit_gradients_that_fail_say_so(monkeypatch):
    equations = equations_of(MODELS["garnet"])
    equations.mixes_fast = True
    monkeypatch.setattr(normal_equations, "MOST_WORK", 0.0)
    monkeypatch.setattr(normal_equations, "BANDED_WORK", 0.0)
    for products in ("FEW_PRODUCTS", "MANY_PRODUCTS"):
        monkeypatch.setattr(normal_equations, products, 1)
    with pytest.raises(RuntimeError, match="did not converge"):
        equations.solver(np.ones(len(equations.pairs)), np.zeros((0, len(equations.pairs))), np.zeros((0, 0)))(
            np.arange(equations.n) + 1.0
        )


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_conjugate_gradients_take_at_most_as_many_products_as_unknowns(n):
    rng = np.random.default_rng(n)
    root = rng.normal(size=(n, n))
    matrix, right, count = root @ root.T + np.eye(n), rng.normal(size=n), []

    def product(x):
        count.append(1)
        return matrix @ x

    found = solve_by_gradients(product, np.diag(matrix), right, accuracy=1e-7, most_products=2 * n)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), atol=1e-5)
    assert len(count) <= 2 * n
    if n > 2:
        assert solve_by_gradients(product, np.diag(matrix), right, accuracy=1e-12, most_products=1) is None

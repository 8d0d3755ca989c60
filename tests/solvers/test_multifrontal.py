"""Nested dissection and factors by fronts, against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from occlp.solvers import dissection
from occlp.solvers.dissection import dissect
from occlp.solvers.multifrontal import Cholesky, NotDefinite


def grid(n):
    """Five points of a grid of n × n, as a graph."""
    path = sparse.diags_array([np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1])
    one = sparse.eye_array(n)
    return sparse.csr_array(sparse.kron(path, one) + sparse.kron(one, path) + sparse.eye_array(n * n))


def star(n):
    """A path whose states all lead back to the first."""
    rows, columns = np.arange(n - 1), np.arange(1, n)
    edges = sparse.coo_array((np.ones(2 * n - 2), (np.r_[rows, columns], np.r_[columns, 0 * columns])), shape=(n, n))
    return sparse.csr_array(edges + edges.T + sparse.eye_array(n))


def positive(graph, seed):
    """A symmetric positive definite matrix with this graph and a diagonal of ones."""
    rng = np.random.default_rng(seed)
    lower = sparse.tril(graph, -1).tocsr()
    lower.data = rng.uniform(-1.0, 1.0, len(lower.data))
    matrix = lower + lower.T
    sums = np.asarray(abs(matrix).sum(axis=1)).ravel() + 1e-3
    root = sparse.diags_array(1 / np.sqrt(sums))
    return sparse.csc_array(root @ (matrix + sparse.diags_array(sums)) @ root)


@pytest.mark.parametrize("leaf", [1, 4, 96])
@pytest.mark.parametrize("graph", [grid(1), grid(2), grid(13), star(60)], ids=["one", "four", "grid", "star"])
def test_factors_solve(graph, leaf, monkeypatch):
    monkeypatch.setattr(dissection, "LEAF", leaf)
    cholesky = Cholesky(dissect(graph))
    for seed in range(2):  # the second in the place of the first
        matrix = positive(graph, seed)
        cholesky.factorise(matrix)
        right = np.random.default_rng(seed).normal(size=(matrix.shape[0], 2))
        exact = np.linalg.solve(matrix.toarray(), right)
        np.testing.assert_allclose(cholesky.solve(right), exact, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(cholesky.solve(right[:, 1]), exact[:, 1], rtol=1e-9, atol=1e-12)


@settings(max_examples=40)
@given(st.integers(1, 40), st.floats(0.0, 0.3), st.integers(0, 1000))
def test_factors_of_any_graph(n, density, seed):
    rng = np.random.default_rng(seed)
    edges = np.triu(rng.random((n, n)) < density, 1)
    graph = sparse.csr_array((edges | edges.T | np.eye(n, dtype=bool)).astype(float))
    before, dissection.LEAF = dissection.LEAF, 3
    try:
        found = dissect(graph)
    finally:
        dissection.LEAF = before
    assert sorted(found.order.tolist()) == list(range(n))
    cholesky, matrix = Cholesky(found), positive(graph, seed)
    cholesky.factorise(matrix)
    right = rng.normal(size=n)
    np.testing.assert_allclose(matrix @ cholesky.solve(right), right, atol=1e-8)


def test_what_factors_cost_is_told_before(monkeypatch):
    monkeypatch.setattr(dissection, "LEAF", 8)
    found = dissect(grid(20))
    assert found.entries < 400 * 40 / 2  # a band takes as much
    dense = dissect(sparse.csr_array(np.ones((30, 30))))
    assert dense.entries == 30 * 31 / 2
    assert dense.operations == 30**3 / 3
    assert dissect(grid(20), found.operations) is not None
    assert dissect(grid(20), found.operations - 1) is None
    assert dissect(sparse.csr_array(np.ones((30, 30))), 100.0) is None


def test_a_matrix_that_is_not_definite_is_told():
    matrix = sparse.csc_array(np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    with pytest.raises(NotDefinite):
        Cholesky(dissect(matrix)).factorise(matrix)

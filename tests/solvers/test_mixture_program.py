"""The program over columns, against scipy's and against answers known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from occlp.solvers.mixture_program import MixtureProgram


def by_scipy(objectives, excesses, equal, penalty):
    """Optimum of the same program by another method."""
    rows = np.column_stack([excesses, -excesses[:, equal]]).T  # [rows, columns]
    answer = linprog(
        np.append(-objectives, penalty),
        A_ub=np.column_stack([rows, -np.ones(len(rows))]), b_ub=np.zeros(len(rows)),
        A_eq=[np.append(np.ones(len(objectives)), 0.0)], b_eq=[1.0], method="highs-ds",
    )  # fmt: skip
    return -answer.fun


def program_of(objectives, excesses, equal, penalty):
    program = MixtureProgram(np.asarray(equal), penalty)
    for objective, excess in zip(objectives, excesses, strict=True):
        program.add(objective, excess)
    return program


@pytest.mark.parametrize("seed", range(30))
def test_random_programs(seed):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 40)), int(rng.integers(1, 8))
    objectives, excesses, equal = rng.normal(size=n), rng.normal(size=(n, k)), rng.random(k) < 0.3
    if seed % 3 == 0:  # many ties
        objectives, excesses = objectives.round(), excesses.round()
    program = MixtureProgram(equal, 2.0)
    for j in range(n):  # the answer is optimal after every column, from the last basis
        program.add(objectives[j], excesses[j])
        mixture = program.solve()
        best = by_scipy(objectives[: j + 1], excesses[: j + 1], equal, 2.0)
        assert mixture.level == pytest.approx(best, abs=1e-9)
        assert (mixture.weights >= 0).all()
        assert mixture.weights.sum() == pytest.approx(1.0, abs=1e-15)
        assert (mixture.weights > 0).sum() <= k + 1
        assert mixture.objective - 2.0 * mixture.excess == pytest.approx(best, abs=1e-9)
        assert (mixture.prices[~equal] >= 0).all()
        assert np.abs(mixture.prices).sum() <= 2.0 + 1e-12
        assert (objectives[: j + 1] - excesses[: j + 1] @ mixture.prices <= mixture.level + 1e-9).all()  # duality
    for penalty, weight in ((50.0, 1.0), (1.0, 0.0), (0.5, 3.0)):
        program.reprice(weight, penalty, objectives)
        best = by_scipy(weight * objectives, excesses, equal, penalty)
        assert program.solve().level == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("budget", [1e-3, 1e-9, 1e-15])
def test_weights_of_any_size(budget):
    """Safe and nothing earned, or one earned and one worn: the weight is the budget."""
    mixture = program_of([0.0, 1.0], np.array([[-budget], [1.0]]), [False], 10.0).solve()
    assert mixture.weights[1] == pytest.approx(budget / (1 + budget), rel=1e-12, abs=0)
    assert mixture.excess <= 1e-30
    assert mixture.prices == pytest.approx([1 / (1 + budget)])


def test_copies_are_independent():
    program = program_of([0.0], np.array([[0.0]]), [False], 1.0)
    other = program.copy()
    other.add(1.0, np.array([-1.0]))
    assert other.solve().level == 1.0
    assert program.solve().level == 0.0
    assert program.n_columns == 1


def test_without_constraints_the_best_column_is_taken():
    mixture = program_of([1.0, 3.0, 2.0], np.zeros((3, 0)), np.zeros(0, dtype=bool), 1.0).solve()
    assert mixture.weights.tolist() == [0.0, 1.0, 0.0]
    assert mixture.level == 3.0


def test_equal_columns_do_not_cycle():
    excesses = np.tile([[1.0, -1.0, 0.0]], (30, 1))
    mixture = program_of(np.ones(30), excesses, [False, True, True], 0.25).solve()
    assert mixture.level == pytest.approx(0.75)

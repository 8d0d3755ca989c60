"""Concave functions of a few expectations by decomposition: known optima, another method, and wrong claims."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from polytope import random_model, vertices

import occlp as oc
from occlp.evaluation import formulate
from occlp.solvers.base import Iterate
from occlp.solvers.concave_program import ConcaveProgram, program_for
from occlp.solvers.expansion import expand
from occlp.solvers.mixture_program import MixtureProgram
from occlp.terms.utilities import equalizing
from occlp.tracking import Tracker


def bandit(earned):
    """One state; action i earns earned[i] of the cost i."""
    count = len(earned)
    costs = {f"c{i}": np.eye(count)[i][None, :] * earned[i] for i in range(count)}
    return oc.MDP.from_arrays(np.ones((1, count, 1)), np.zeros((1, count)), discount=0.9, costs=costs)


def question(seed):
    """A concave objective or limit beside none, one or two linear limits."""
    mdp, rng = random_model(seed, discount=[0.5, 0.9, 0.99][seed % 3]), np.random.default_rng(seed)
    count = int(rng.integers(2, 5))
    means = [oc.expected(rng.random((mdp.n_states, mdp.n_actions))) for _ in range(count)]
    concave = oc.LogSum(means, rng.random(count) + 0.1) if seed % 2 else oc.WorstCase(means)
    linear = [oc.expected("wear") <= 0.45, oc.expected("fuel") == 0.5][: seed // 2 % 3]
    if seed % 5 < 3:
        return oc.Problem(mdp, utility=concave, constraints=linear)
    level = oc.evaluate(oc.Problem(mdp, utility=concave), oc.Policy.uniform(mdp)).objective
    return oc.Problem(mdp, constraints=[*linear, concave >= level - 0.1])


def test_proportional_fairness_shares_by_weight():
    """max Σ w log(a d) has d = w / Σ w, whatever the a (Kelly 1997)."""
    weights = np.array([1.0, 2.0, 5.0])
    problem = oc.Problem(bandit([1.0, 1e-3, 1e4]), utility=oc.LogSum(["c0", "c1", "c2"], weights))
    result = oc.solve(problem, oc.Decomposition())
    assert result.status is oc.Status.CERTIFIED
    assert result.pair_occupancy == pytest.approx(weights / 8, abs=1e-5)  # the optimum is flat
    assert result.objective == pytest.approx(weights @ np.log([1.0 / 8, 1e-3 / 4, 1e4 * 5 / 8]), abs=1e-9)


def test_the_worst_case_equalizes():
    """max min a d has d in proportion to 1 / a."""
    earned = np.array([1.0, 4.0, 0.1])
    problem = oc.Problem(bandit(earned), utility=oc.WorstCase(["c0", "c1", "c2"]))
    result = oc.solve(problem, oc.Decomposition())
    assert result.pair_occupancy == pytest.approx((1 / earned) / (1 / earned).sum(), abs=1e-12)
    assert result.objective == pytest.approx(1 / (1 / earned).sum(), abs=1e-12)
    assert oc.verify(problem, result)


@pytest.mark.parametrize("seed", range(30))
def test_another_method_agrees(seed):
    problem = question(seed)
    ours, theirs = (
        oc.solve(problem, solver, check=False) for solver in (oc.Decomposition(), oc.OccupancyProgram("CLARABEL"))
    )
    assert ours.status is theirs.status
    assert oc.verify(problem, ours)
    if ours.status is oc.Status.CERTIFIED:
        assert ours.objective == pytest.approx(theirs.objective, abs=1e-7)
        assert ours.certificate.violation <= 1e-10
        assert ours.certificate.multipliers.keys() == theirs.certificate.multipliers.keys()


def test_units_and_repetitions_change_nothing():
    mdp = random_model(3)
    one, two = oc.expected("wear"), oc.expected("fuel")
    worst = [oc.solve(oc.Problem(mdp, utility=oc.WorstCase(parts))) for parts in ([one, two], [two, one, two])]
    assert worst[0].objective == pytest.approx(worst[1].objective, abs=1e-10)
    plain, scaled = (oc.solve(oc.Problem(mdp, utility=oc.LogSum([a * one, two]))) for a in (1.0, 1e3))
    assert scaled.objective == pytest.approx(plain.objective + np.log(1e3), abs=1e-8)
    assert "Decomposition" in plain.solver
    tripled = oc.solve(oc.Problem(mdp, utility=oc.LogSum([one, two], [3.0, 3.0])))
    assert tripled.objective == pytest.approx(3 * plain.objective, abs=1e-8)


def test_a_limit_beyond_the_optimum_is_disproved_and_one_below_is_kept():
    mdp = random_model(5)
    fair = oc.LogSum(["wear", "fuel"])
    best = oc.solve(oc.Problem(mdp, utility=fair), oc.Decomposition()).certificate
    problem = oc.Problem(mdp, constraints={"fair": fair >= best.upper + 1e-5})
    with pytest.raises(oc.Infeasible, match="fair") as caught:
        oc.solve(problem, oc.Decomposition())
    assert oc.verify(problem, caught.value.result)
    near = oc.solve(oc.Problem(mdp, constraints={"fair": fair >= best.lower - 1e-5}), oc.Decomposition())
    assert near.status is oc.Status.CERTIFIED


@pytest.mark.parametrize("seed", [1, 3, 7])
def test_the_small_program_attains_what_its_prices_bound(seed):
    """Weak duality for the columns given, and the weights that attain it: nothing is left."""
    problem = question(seed)
    expansion, rng = expand(formulate(problem)), np.random.default_rng(seed)
    program = program_for(expansion, 10.0)
    assert isinstance(program, ConcaveProgram)
    points = vertices(problem.mdp)[rng.permutation(len(vertices(problem.mdp)))[:20]]
    measures = points @ np.vstack([expansion.form.rewards, expansion.form.limits.rows]).T
    for column in measures:
        program.add(column[0], column[1:])
    mixture = program.solve()
    rest = mixture.level - mixture.offset
    assert (measures[:, 0] - measures[:, 1:] @ mixture.prices <= rest + 1e-10).all()
    assert mixture.objective - mixture.level == pytest.approx(0.0, abs=1e-10 + 10 * mixture.excess)
    assert mixture.weights.sum() == pytest.approx(1.0)
    assert program.alone(1.0, 10.0).n_columns == 0
    other = program.copy()
    other.add(0.0, measures[0, 1:])
    assert program.n_columns == len(measures)


def test_the_program_of_a_worst_case_is_linear_and_takes_any_columns():
    expansion = expand(formulate(oc.Problem(random_model(0), utility=oc.WorstCase(["wear", "fuel"]))))
    program = program_for(expansion, 1.0)
    assert isinstance(program, MixtureProgram)
    program.add(0.0, np.array([2.0, -1.0]))  # further below than any occupancy is
    assert program.solve().level == pytest.approx(-2.0)
    program.add(0.0, np.array([-1.0, 3.0]))
    assert program.solve().level == pytest.approx(-(2 * 4 - 1 * 3) / 7, abs=1e-14)


def test_wrong_slopes_and_prices_never_prove_too_much():
    """Whatever is claimed of a concave limit, the bound stays above the optimum."""
    mdp, fair = random_model(5), oc.LogSum(["wear", "fuel"])
    level = oc.solve(oc.Problem(mdp, utility=fair)).objective - 1e-2
    problem = oc.Problem(mdp, constraints=[fair >= level])
    best, rng = oc.solve(problem, oc.Decomposition()), np.random.default_rng(0)
    assert best.multipliers["LogSum"] > 0
    for size in (1e-9, 1e-3, 1.0):
        tracker, pairs = Tracker(problem, 1e-8, None), problem.mdp.n_pairs
        slope = np.abs(rng.normal(size=pairs))
        claim = Iterate(
            best.policy, best.certificate.values + size * rng.normal(size=problem.mdp.n_states),
            multipliers={name: price + size * rng.normal() for name, price in best.multipliers.items()},
            slopes={"LogSum": slope},
        )  # fmt: skip
        tracker.record(claim, 1, 0.0)
        assert tracker.final()[1].value >= formulate(problem).from_user(best.certificate.lower) - 1e-12
    majorants = best.certificate.majorants
    wrong = {name: replace(one, offset=one.offset - 1e-3) for name, one in majorants.items()}
    with pytest.raises(oc.AuditFailed, match="majorant"):
        oc.verify(problem, replace(best, certificate=replace(best.certificate, majorants=wrong)))


def test_duals_are_found_that_make_used_pairs_equal():
    rng = np.random.default_rng(0)
    rows, dual, mass = rng.random((3, 12)), np.array([1.0, 2.0, 0.5]), rng.random(12)
    found = equalizing(rows, 0.7 - dual @ rows, mass, np.ones(3))
    assert found == pytest.approx(dual, abs=1e-9)


def test_a_slow_grid_with_a_fair_share_for_each_region():
    grid = oc.instances.get("slippery-gridworld", n=20, seed=1, discount=0.999)
    regions = [oc.expected(np.repeat(np.arange(400) % 20 // 7 == i, 4).reshape(400, 4).astype(float)) for i in range(3)]
    limits = [oc.expected("hazard") <= 0.01]
    problem = oc.Problem(grid, utility=oc.LogSum(regions), constraints=limits)
    result = oc.solve(problem)
    assert result.solver == "Decomposition()"
    assert result.status is oc.Status.CERTIFIED
    assert oc.verify(problem, result)
    worst = oc.solve(replace(problem, utility=oc.WorstCase(regions)))
    means = [float(part.coefficients(grid, 0.0) @ worst.pair_occupancy) for part in regions]
    assert worst.objective == pytest.approx(min(means), abs=1e-12)
    assert worst.objective <= 1 / 3 + 1e-12


@pytest.mark.parametrize(("least", "binds"), [(0.2, False), (0.55, True)])
def test_worst_cases_under_a_concave_limit(least, binds):
    """The least of two costs, as long as the sum of their logarithms does not fall too low; against CLARABEL."""
    mdp = oc.instances.get("machine-repair")
    logs = oc.LogSum(["reward", oc.expected("wear") + oc.expected(np.full((3, 2), 0.1))])
    worst = oc.WorstCase(["reward", oc.expected(mdp.n_actions * np.array([[1.0, 2.0], [0.5, 4.0], [0.0, 3.0]]))])
    free = oc.solve(oc.Problem(mdp, utility=worst))
    height = oc.evaluate(oc.Problem(mdp, utility=logs), free.policy).objective
    problem = oc.Problem(mdp, utility=worst, constraints=[logs >= height - 1.0 + least + (1.0 if binds else 0.0)])
    ours, other = (oc.solve(problem, solver, check=False) for solver in (oc.Decomposition(), oc.OccupancyProgram()))
    assert ours.status is oc.Status.CERTIFIED
    assert ours.objective == pytest.approx(other.objective, rel=1e-6)
    assert (abs(ours.objective - free.objective) > 1e-4) == binds
    assert oc.verify(problem, ours)

"""First-order steps on the saddle point of the linear program: published rates, prices, starts and samples."""

from __future__ import annotations

import numpy as np
import pytest

import occlp as oc
from occlp.errors import InvalidProblem, Unsupported
from occlp.evaluation import formulate
from occlp.solvers.hybrid_gradient import EquilibratedProgram
from occlp.solvers.saddle_point import Program
from occlp.solvers.sampled_saddle_point import _Game
from occlp.standard import flow_matrix

MACHINE = oc.instances.get("machine-repair")
LIMITED = oc.Problem(MACHINE, constraints={"wear": oc.expected("wear") <= 0.25})
PROBLEMS = {
    "plain": oc.Problem(MACHINE),
    "limited": LIMITED,
    "costs": oc.Problem(
        MACHINE.replace(rewards=-100 * MACHINE.pair_rewards),
        sense="minimize",
        constraints={"wear": oc.expected("wear") <= 0.25},
    ),
    "at least": oc.Problem(MACHINE, constraints={"wear": oc.expected("wear") >= 0.5}),
    "average": oc.Problem(
        MACHINE.replace(discount=None), criterion="average", constraints={"wear": oc.expected("wear") <= 0.25}
    ),
    "random": oc.Problem(oc.instances.get("garnet", n_states=12, n_actions=3, branching=3, seed=2, discount=0.9)),
}
NO_RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_runs_are_certified_and_find_the_prices(name):
    problem = PROBLEMS[name]
    result, best = oc.solve(problem, oc.SaddlePoint(), tol=1e-5), oc.solve(problem)
    size = np.ptp(problem.mdp.pair_rewards)
    assert result.status is oc.Status.CERTIFIED
    assert abs(result.objective - best.objective) <= 1e-5 * size
    assert oc.verify(problem, result)
    for name_, price in best.multipliers.items():
        assert result.multipliers[name_] == pytest.approx(price, abs=1e-3 * size)


def test_an_equality_is_hit_by_the_average():
    """A single point is kept by no iterate to the last digit; its price is the optimum's."""
    problem = oc.Problem(MACHINE, constraints={"wear": oc.expected("wear") == 0.3})
    *_, last = oc.SaddlePoint(steps=1000).iterate(problem, tol=0, rng=NO_RNG)
    assert oc.evaluate(MACHINE, last.policy).expected["wear"] == pytest.approx(0.3, abs=1e-6)
    assert last.multipliers["wear"] == pytest.approx(oc.solve(problem).multipliers["wear"], abs=1e-4)


def saddle(form, values, prices, occupancy):
    """L(V, y, d), written out."""
    advantage = form.rewards - values @ flow_matrix(form) - prices @ form.limits.rows
    return form.rest * form.initial @ values + occupancy @ advantage


@pytest.mark.parametrize("name", ["plain", "limited", "random", "average"])
@pytest.mark.parametrize("ratio", [0.3, 3.0])
def test_the_rate_of_chambolle_and_pock(name, ratio):
    """Theorem 1: (1/N) (‖x − x0‖²/2τ + KL(d ‖ d0)/σ − ⟨K(x − x0), d − d0⟩), for every x and d."""
    problem = PROBLEMS[name]
    form = formulate(problem)
    program, rng = Program(problem), np.random.default_rng(0)
    matrix = np.hstack([-flow_matrix(form).T.toarray(), -form.limits.rows.T])  # [pairs, S + k]
    size = np.linalg.norm(matrix, axis=1).max()
    first = np.full(form.n_pairs, 1 / form.n_pairs)
    opponents = []
    for k in range(6):
        prices = np.abs(rng.normal(size=len(form.limits.names)))
        vertex = np.eye(form.n_pairs)[rng.integers(form.n_pairs)] if k % 2 else rng.dirichlet(np.ones(form.n_pairs))
        opponents.append((rng.normal(size=form.n_states) * 10 ** rng.uniform(-1, 1), prices, vertex))
    point, mean = program.first(None), 0.0
    for count in range(1, 201):
        point = program.step(point, ratio)
        mean = mean + np.concatenate([point.values, point.prices, point.occupancy])
        if count not in (1, 5, 20, 80, 200):
            continue
        values, prices, occupancy = np.split(mean / count, np.cumsum([form.n_states, len(point.prices)]))
        for other, price, mass in opponents:
            x, seen = np.append(other, price), mass > 0
            divergence = (mass[seen] * np.log(mass[seen] / first[seen])).sum()
            promised = size * (x @ x) / (2 * ratio) + ratio * size * divergence - (mass - first) @ (matrix @ x)
            gap = saddle(form, values, prices, mass) - saddle(form, other, price, occupancy)
            assert gap <= promised / count + 1e-10


@pytest.mark.parametrize("name", ["plain", "random"])
def test_the_certified_gap_falls_as_the_theorem_says(name):
    """L(V^π, d̄) = J(π) for the policy of d̄, so that its gap is at most that of the saddle point."""
    problem = PROBLEMS[name]
    form = formulate(problem)
    size = np.sqrt((flow_matrix(form).toarray() ** 2).sum(axis=0).max())
    steps = oc.SaddlePoint(restarts=False, steps=400, geometry="entropic").iterate(problem, tol=0, rng=NO_RNG)
    for count, step in enumerate(steps, 1):
        if count not in (10, 50, 400):
            continue
        found = oc.evaluate(problem, step.policy)
        values = (found.state_values - found.state_values.mean()) / form.scale
        shown = step.values / form.scale
        scores = form.rewards - shown @ flow_matrix(form)
        upper = form.rest * form.initial @ shown + scores.max()
        promised = size * (values @ values) / 2 + size * np.log(form.n_pairs)
        difference = np.eye(form.n_pairs)[np.argmax(scores)] - 1 / form.n_pairs
        promised += (values @ flow_matrix(form)) @ difference
        assert upper - form.from_user(found.objective) <= promised / count + 1e-10
        assert upper >= form.from_user(oc.solve(problem).objective) - 1e-10


def test_restarts_converge_where_averages_crawl():
    problem = PROBLEMS["plain"]
    gaps = [oc.solve(problem, oc.SaddlePoint(restarts=restarts, steps=500)).gap for restarts in (True, False)]
    assert gaps[0] < 1e-6
    assert 1e-4 < gaps[1] < 0.1


def test_a_run_goes_on_from_a_result():
    """Policy, values and prices of a result are where the next run begins."""
    near = oc.solve(LIMITED, oc.SaddlePoint(), tol=1e-7)
    on, anew = (oc.solve(LIMITED, oc.SaddlePoint(steps=20), start=start) for start in (near, None))
    assert on.gap < 0.05 * anew.gap
    policy = oc.Policy.deterministic(MACHINE, ["run", "run", "repair"])
    (shown,) = oc.SaddlePoint(steps=0).iterate(LIMITED, tol=0, rng=NO_RNG, start=policy)
    assert np.abs(shown.policy.pair_probabilities - policy.pair_probabilities).max() < 0.1


def test_samples_are_right_on_average():
    """∂L/∂V = (1 − γ) μ0 − F d, −∂L/∂y = G d and ∂L/∂d = r − Gᵀy + γPV − V, each within five standard errors."""
    form, rng = formulate(LIMITED), np.random.default_rng(1)
    program, game = Program(LIMITED), _Game(form, 5)
    point = program.step(program.step(program.first(None), 1.0), 5.0)
    draws = [np.concatenate(game.draw(point, rng)) for _ in range(4000)]
    exact = [
        form.rest * form.initial - program.flow @ point.occupancy,
        form.limits.rows @ point.occupancy,
        form.rewards - point.values @ program.flow - point.prices @ form.limits.rows,
    ]
    error = np.mean(draws, axis=0) - np.concatenate(exact)
    assert (np.abs(error) <= 5 * np.std(draws, axis=0) / np.sqrt(len(draws)) + 1e-12).all()
    assert np.std(draws, axis=0).min() > 0


def test_the_rate_of_stochastic_mirror_descent():
    """2M√(2S/T) + 4(R + 2M)√((n/m + 1) log n / T) in expectation; here over three seeds."""
    problem, batch = oc.Problem(MACHINE.replace(discount=0.3)), 256
    form = formulate(problem)
    n, size = form.n_pairs, np.ptp(MACHINE.pair_rewards)
    steps = 800
    assert steps >= n**2 * np.log(n)
    half = 0.5 / 0.7
    promised = 2 * half * np.sqrt(2 * form.n_states / steps)
    promised += 4 * (1 + 2 * half) * np.sqrt((n / batch + 1) * np.log(n) / steps)
    solver = oc.SampledSaddlePoint(batch=batch, steps=steps, step_scale=1.0)
    gaps = []
    for seed in range(3):
        *_, last = solver.iterate(problem, tol=0, rng=np.random.default_rng(seed))
        scores = form.rewards - last.values / form.scale @ flow_matrix(form)
        upper = form.rest * form.initial @ last.values / form.scale + scores.max()
        gaps.append(upper - form.from_user(oc.evaluate(problem, last.policy).objective))
    assert 0 < np.mean(gaps) <= promised * size / form.scale
    assert promised < 0.7  # of the range of the rewards: it says something


@pytest.mark.parametrize("name", ["limited", "costs", "average"])
def test_samples_in_the_place_of_the_model(name):
    problem = PROBLEMS[name]
    solver = oc.SampledSaddlePoint(batch=64, steps=250, step_scale=10.0, value_bound=3.0)
    result, best = oc.solve(problem, solver, rng=0, tol=1e-3), oc.solve(problem)
    size = np.ptp(problem.mdp.pair_rewards)
    assert result.samples == 2 * 64 * 250
    assert result.gap < 0.25 * size
    assert result.gap >= abs(result.objective - best.objective) - 1e-3 * size
    again = oc.solve(problem, solver, rng=0, tol=1e-3)
    assert np.array_equal(again.policy.pair_probabilities, result.policy.pair_probabilities)


def test_constant_rewards_and_single_pairs():
    flat = oc.Problem(MACHINE.replace(rewards=np.ones(6)), constraints={"wear": oc.expected("wear") <= 0.25})
    one = oc.MDP.from_arrays([[[1.0]]], [[2.0]], discount=0.5)
    for solver in (oc.SaddlePoint(steps=2000), oc.SampledSaddlePoint(steps=200)):
        assert oc.solve(one, solver, rng=0).objective == 2.0
        assert oc.solve(flat, solver, rng=0).objective == pytest.approx(1.0)


def test_what_they_do_not_answer():
    average, total = PROBLEMS["average"], oc.Problem(MACHINE.unrolled(3), criterion="total")
    entropy = oc.Problem(MACHINE, regularizer=oc.PolicyEntropy(strength=1.0))
    concave = oc.Problem(MACHINE, constraints={"spread": oc.StateEntropy() >= 0.1})
    for solver in (oc.SaddlePoint(), oc.SampledSaddlePoint()):
        for problem, words in ((total, "sum to one"), (entropy, "linear program"), (concave, "linear constraints")):
            with pytest.raises(Unsupported, match=words):
                oc.solve(problem, solver)
    with pytest.raises(Unsupported, match="value_bound"):
        oc.solve(average, oc.SampledSaddlePoint())


@pytest.mark.parametrize(
    "build",
    [
        lambda: oc.SaddlePoint(step_ratio=0.0),
        lambda: oc.SaddlePoint(steps=-1),
        lambda: oc.SampledSaddlePoint(batch=0),
        lambda: oc.SampledSaddlePoint(steps=0),
        lambda: oc.SampledSaddlePoint(step_scale=np.inf),
        lambda: oc.SampledSaddlePoint(value_bound=-1.0),
    ],
)
def test_settings_that_are_refused(build):
    with pytest.raises(InvalidProblem):
        build()


def test_grids_that_mix_slowly():
    """Scaled projected steps with adaptive restarts get there; exponentiated ones hardly begin in as many steps."""
    problem = oc.Problem(oc.instances.get("bumpy-gridworld", n=6))
    size = np.ptp(problem.mdp.pair_rewards)
    done = oc.solve(problem, oc.SaddlePoint(steps=4000), tol=1e-6)
    assert done.status is oc.Status.CERTIFIED
    slow = oc.solve(problem, oc.SaddlePoint(steps=4000, geometry="entropic"), tol=1e-6)
    assert slow.gap > 1e-4 * size


@pytest.mark.parametrize("name", ["plain", "limited", "at least", "average", "random"])
def test_scaling_changes_units_only(name):
    """The residuals of the scaled program are those of the linear program, row by row and column by column."""
    form, rng = formulate(PROBLEMS[name]), np.random.default_rng(3)
    scaled = EquilibratedProgram(form)
    occupancy, values = rng.dirichlet(np.ones(form.n_pairs)), rng.normal(size=form.n_states)
    prices = rng.random(len(form.limits.names))
    point = scaled.begin(occupancy, values, prices, 1.0).point
    for found, given in zip(scaled.unscaled(point), (occupancy, values, prices), strict=True):
        np.testing.assert_allclose(found, given, rtol=1e-12)
    missed = (point.forward - scaled.target) / scaled.of_rows
    flow = flow_matrix(form) @ occupancy - form.rest * form.initial
    np.testing.assert_allclose(missed, np.concatenate([flow, [0.0], form.limits.rows @ occupancy]), atol=1e-12)
    scores = form.rewards - values @ flow_matrix(form) - prices @ form.limits.rows
    np.testing.assert_allclose((scaled.cost - point.backward) / scaled.of_columns, scores.max() - scores, atol=1e-12)
    assert scaled.error(point, 1.0) > 0


def test_the_error_vanishes_at_the_optimum_and_nowhere_else():
    problem = PROBLEMS["limited"]
    best, form = oc.solve(problem), formulate(problem)
    scaled = EquilibratedProgram(form)
    prices = np.array([best.multipliers["wear"]]) * form.units / form.scale
    values = best.certificate.values / (form.sign * form.scale)
    there = scaled.begin(best.pair_occupancy, values, prices, 1.0)
    assert there.error < 1e-9
    for step in (np.ones(form.n_states), np.eye(form.n_states)[0]):  # a constant is free, for the level takes it up
        away = scaled.begin(best.pair_occupancy, values + 0.01 * step, prices, 1.0)
        assert (away.error < 1e-9) == bool(step.all())
    assert scaled.begin(np.full(form.n_pairs, 1 / form.n_pairs), values, prices, 1.0).error > 1e-3

"""Constraints by gradients: near the optimum of column generation, feasible, and averages that settle."""

from __future__ import annotations

import numpy as np
import pytest

import occlp as oc
from occlp.errors import InvalidProblem, Unsupported

MACHINE = oc.instances.get("machine-repair")
GARNET = oc.instances.get("garnet", n_states=8, n_actions=3, branching=3, n_costs=2, seed=4, discount=0.9)


def garnet_problem(**settings):
    """Two limits somewhat below what the optimum uses."""
    best = oc.solve(GARNET)
    limits = {}
    for name in ("cost0", "cost1"):
        cost = GARNET.replace(rewards=GARNET.costs[name])
        least = oc.solve(oc.Problem(cost, sense="minimize")).objective
        limits[name] = oc.expected(name) <= 0.25 * least + 0.75 * best.expected[name]
    return oc.Problem(GARNET, constraints=limits, **settings)


PROBLEMS = {
    "machine": oc.Problem(MACHINE, constraints=[oc.expected("wear") <= 0.25]),
    "costs": oc.Problem(
        MACHINE.replace(rewards=-100 * MACHINE.pair_rewards),
        sense="minimize",
        constraints=[oc.expected("wear") <= 0.25],
    ),
    "at least": oc.Problem(MACHINE, constraints=[oc.expected("wear") >= 0.5]),
    "exactly": oc.Problem(MACHINE, constraints=[oc.expected("wear") == 0.3]),
    "average": oc.Problem(
        MACHINE.replace(discount=None), criterion="average", constraints=[oc.expected("wear") <= 0.25]
    ),
    "entropy": oc.Problem(
        MACHINE, constraints=[oc.expected("wear") <= 0.25], regularizer=oc.PolicyEntropy(strength=0.5)
    ),
    "utility": oc.Problem(MACHINE, constraints=[oc.expected("wear") <= 0.15], utility=oc.StateEntropy()),
}


@pytest.mark.parametrize("name", ["machine", "costs", "at least", "average", "entropy", "utility"])
def test_averages_approach_the_optimum_and_its_prices(name):
    problem = PROBLEMS[name]
    result, best = oc.solve(problem, oc.PrimalDualGradient(steps=250)), oc.solve(problem)
    size = np.ptp(problem.mdp.pair_rewards)
    assert result.certificate.violation <= 1e-7
    assert abs(result.objective - best.objective) < 0.005 * size
    assert result.gap >= abs(best.objective - result.objective) - 1e-7 * size
    assert result.status in (oc.Status.BOUNDED, oc.Status.CERTIFIED)


def test_averages_are_moved_just_inside_the_limits():
    """Every average of this run breaks the limit; what is shown keeps it, with the limit met exactly."""
    problem = PROBLEMS["utility"]
    for step in list(oc.PrimalDualGradient(steps=40).iterate(problem, tol=0, rng=None))[10:]:
        assert oc.evaluate(MACHINE, step.policy).expected["wear"] == pytest.approx(0.15, abs=1e-12)


def test_several_constraints():
    problem = garnet_problem()
    result, best = oc.solve(problem, oc.PrimalDualGradient(steps=250)), oc.solve(problem)
    assert best.objective - result.objective < 0.02
    assert result.certificate.violation <= 1e-8


def test_prices_are_those_of_the_optimum():
    problem = PROBLEMS["machine"]
    *_, last = oc.PrimalDualGradient(steps=600).iterate(problem, tol=0.0, rng=np.random.default_rng(0))
    assert last.multipliers["wear"] == pytest.approx(oc.solve(problem).multipliers["wear"], rel=0.05)


def test_equalities_are_met():
    """No average hits a single point, but a mixture with iterates on its other side does."""
    *_, last = oc.PrimalDualGradient(steps=100).iterate(PROBLEMS["exactly"], tol=0.0, rng=np.random.default_rng(0))
    assert oc.evaluate(MACHINE, last.policy).expected["wear"] == pytest.approx(0.3, abs=1e-12)


def test_last_iterates_cycle_where_averages_settle():
    problem, spreads = PROBLEMS["machine"], []
    for average in (True, False):
        steps = oc.PrimalDualGradient(steps=150, average=average).iterate(problem, tol=0, rng=np.random.default_rng(0))
        wear = [oc.evaluate(MACHINE, step.policy).expected["wear"] for step in steps]
        spreads.append(np.ptp(wear[75:]))
    assert spreads[1] > 4 * spreads[0]
    assert spreads[1] > 0.05


def test_samples_in_the_place_of_the_model():
    estimator = oc.estimators.MonteCarlo(trajectories=64)
    solver = oc.PrimalDualGradient(step_size=0.2, price_step=0.2, steps=300, estimator=estimator)
    result, best = oc.solve(PROBLEMS["machine"], solver, rng=0), oc.solve(PROBLEMS["machine"])
    assert result.samples > 100_000
    assert result.certificate.violation <= 1e-7
    assert best.objective - result.objective < 0.5
    assert result.gap >= best.objective - result.objective - 1e-7


@pytest.mark.parametrize(
    "estimator",
    [
        oc.estimators.MonteCarlo(trajectories=1000, horizon="geometric", baseline="average"),
        oc.estimators.GAE(trajectories=64, horizon=150, lam=1.0),
    ],
)
def test_what_is_learnt_lasts_while_prices_move(estimator):
    """Where policy and prices hardly move, baseline and critic approach the values of the policy."""
    solver = oc.PrimalDualGradient(step_size=1e-9, price_step=1e-9, steps=40, estimator=estimator)
    *_, last = solver.iterate(PROBLEMS["machine"], tol=0, rng=np.random.default_rng(0))
    learnt, visits, *_ = last.state.content[-1]
    assert visits.sum() == last.samples
    exact = oc.evaluate(MACHINE, oc.Policy.uniform(MACHINE)).state_values
    np.testing.assert_allclose(learnt, exact, rtol=0.1)


def test_features_in_the_place_of_tables():
    features = np.eye(6).reshape(3, 2, 6)[:, :, :5]
    solver = oc.PrimalDualGradient(steps=300, parametrization=oc.parametrizations.LogLinear(features))
    result, best = oc.solve(PROBLEMS["machine"], solver), oc.solve(PROBLEMS["machine"])
    assert best.objective - result.objective < 0.1


def test_without_constraints_it_is_the_natural_gradient():
    first = list(
        oc.PrimalDualGradient(0.3, steps=3, average=False).iterate(
            oc.Problem(MACHINE), tol=0, rng=np.random.default_rng(0)
        )
    )
    unit = 0.3 * (1 - 0.95) / 16  # rewards of size one are the machine's divided by 16
    other = list(oc.NaturalPolicyGradient(unit, 3).iterate(oc.Problem(MACHINE), tol=0, rng=np.random.default_rng(0)))
    for one, two in zip(first, other, strict=True):
        np.testing.assert_allclose(one.policy.pair_probabilities, two.policy.pair_probabilities, rtol=1e-9)


def test_totals_from_samples():
    """Whole episodes of five steps, and the price of wearing the machine out."""
    mdp, limits = MACHINE.unrolled(5), {"wear": oc.expected_total("wear") <= 1.2}
    problem = oc.Problem(mdp, criterion="total", goal=[mdp.states[-1]], constraints=limits)
    estimator = oc.estimators.MonteCarlo(trajectories=256)
    solver = oc.PrimalDualGradient(step_size=0.3, price_step=0.3, steps=100, estimator=estimator)
    result, best = oc.solve(problem, solver, rng=0), oc.solve(problem)
    assert result.samples == 101 * 256 * 5
    assert result.certificate.violation <= 1e-7
    assert 0 <= best.objective - result.objective <= 0.2 * best.objective  # estimates of wear miss by a few per cent
    assert result.gap >= best.objective - result.objective - 1e-7


def test_a_total_that_need_not_end():
    """The uniform policy may fall into a trap that costs for ever; one that ends is a start."""
    mdp = oc.MDP.from_function(
        lambda s, a: [(1.0, {"go": "end", "stay": s, "fall": "trap"}[a] if s == "home" else s, float(s == "trap"))],
        "home",
        lambda s: ["go", "stay", "fall"] if s == "home" else ["stay"],
    )
    limits = {"stays": oc.visits("home", "stay") <= 1}
    problem = oc.Problem(mdp, "minimize", "total", goal=["end"], constraints=limits)
    with pytest.raises(oc.NotCertified, match="give start= a policy that ends"):
        oc.solve(problem, oc.PrimalDualGradient())
    solver = oc.PrimalDualGradient(parametrization=oc.parametrizations.Direct(), steps=5)
    ends = oc.Policy.deterministic(mdp, {"home": "go", "end": "stay", "trap": "stay"})
    assert oc.solve(problem, solver, start=ends).objective == 0


def test_what_it_does_not_answer():
    concave = oc.Problem(MACHINE, constraints={"spread": oc.StateEntropy() >= 0.1})
    sampled = oc.PrimalDualGradient(estimator=oc.estimators.MonteCarlo())
    with pytest.raises(Unsupported, match="need the occupancy itself"):
        oc.solve(concave, sampled)
    model = MACHINE.unrolled(3)
    goal = [model.states[-1]]
    limits = [oc.expected_total("wear") <= 1]
    reach = oc.Problem(model, criterion="total", goal=goal, objective="reach", constraints=limits)
    with pytest.raises(Unsupported, match="'reach' has none"):
        oc.solve(reach, sampled)
    with pytest.raises(Unsupported, match="a term besides"):
        oc.solve(PROBLEMS["entropy"], sampled)
    for settings in ({"step_size": 0}, {"price_step": -1}, {"steps": -1}):
        with pytest.raises(InvalidProblem):
            oc.PrimalDualGradient(**settings)

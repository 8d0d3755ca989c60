"""The master program of the decomposition, to the last digit."""

from __future__ import annotations

import numpy as np
import pytest
import scipy
from polytope import best_mixture, random_model, vertices

import occlp as oc
from occlp.bounds.lower import distance_from_claim
from occlp.evaluation import formulate
from occlp.solvers.base import Iterate
from occlp.standard import flow_matrix
from occlp.tracking import Tracker


@pytest.mark.parametrize("budget", [1e-6, 1e-9, 1e-10, 1e-12, 1e-14])
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("others", [0, 1])
def test_budgets_that_only_a_tiny_weight_meets(budget, unit, others):
    """One state, safe (0) or risky (1, which costs 1): the optimum is the budget itself."""
    wear = np.array([[0.0, unit, 0.5 * unit]])
    mdp = oc.MDP.from_arrays(np.ones((1, 3, 1)), [[0.0, 1.0, 0.3]], discount=0.9, costs={"wear": wear})
    limits = {"wear": oc.expected("wear") <= budget * unit, "slack": [oc.expected("wear") >= -unit][:others]}
    result = oc.solve(oc.Problem(mdp, constraints=limits), oc.Decomposition())
    assert result.status is oc.Status.CERTIFIED
    assert result.objective == pytest.approx(budget, abs=1e-15)
    assert result.policy.pair_probabilities[1] == pytest.approx(budget, abs=1e-15)
    assert result.multipliers["wear"] == pytest.approx(1 / unit)


def test_a_tiny_weight_on_the_way_to_a_state_for_good():
    """From state 0 one may leave for ever, earning and wearing 1 a step from then on: d(1) = budget."""
    mdp = oc.MDP.from_arrays(
        [[[1, 0], [0, 1]], [[0, 1], [0, 1]]], [[0.0, 0.0], [1.0, 1.0]], discount=0.99, initial=0,
        costs={"wear": [[0, 0], [1, 1]]},
    )  # fmt: skip
    result = oc.solve(oc.Problem(mdp, constraints=[oc.expected("wear") <= 1e-10]), oc.Decomposition())
    assert result.status is oc.Status.CERTIFIED
    assert result.occupancy[1].sum() == pytest.approx(1e-10, rel=1e-4)


def limits_of(mdp, rng, kind):
    """One to five random limits: kept with room, kept just, or by one policy only, some of them equalities."""
    points = vertices(mdp)
    inside = rng.dirichlet(np.full(len(points), 0.02)) @ points
    if kind == "tight":
        inside = points[rng.integers(len(points))]
    limits = []
    for _ in range(int(rng.integers(1, 6))):
        cost = rng.normal(size=mdp.n_pairs)
        room = 0.0 if kind == "tight" else 0.1 * rng.random()
        relation = rng.choice(["<=", ">=", "=="])
        sign = {"<=": 1.0, ">=": -1.0, "==": 0.0}[relation]
        limits.append((cost, relation, float(cost @ inside) + sign * room))
    return limits


def as_constraints(mdp, limits):
    for cost, relation, bound in limits:
        expression = oc.expected(mdp.pairs.table(cost, 0.0))
        yield {"<=": expression <= bound, ">=": expression >= bound, "==": expression == bound}[relation]


@pytest.mark.parametrize("kind", ["room", "tight"])
@pytest.mark.parametrize("seed", range(12))
def test_random_sets_of_limits(seed, kind):
    """Against a linear program over the occupancies of all deterministic policies."""
    rng = np.random.default_rng([seed, kind == "tight"])
    mdp = random_model(seed, discount=[0.5, 0.9, 0.999][seed % 3])
    limits = limits_of(mdp, rng, kind)
    problem = oc.Problem(mdp, sense="maximize", constraints=list(as_constraints(mdp, limits)))
    result = oc.solve(problem, oc.Decomposition())
    assert result.status is oc.Status.CERTIFIED
    assert result.objective == pytest.approx(best_mixture(vertices(mdp), mdp.pair_rewards, limits), abs=1e-8)
    assert result.certificate.violation <= 1e-12
    assert oc.verify(problem, result)


@pytest.mark.parametrize("seed", range(6))
def test_limits_that_cannot_be_kept_together(seed):
    rng = np.random.default_rng(seed)
    mdp = random_model(seed)
    [(cost, *_), *others] = limits_of(mdp, rng, "room")
    least = float((vertices(mdp) @ cost).min())
    short = [0.3, 1e-3, 1e-6][seed % 3]
    problem = oc.Problem(mdp, constraints=list(as_constraints(mdp, [(cost, "<=", least - short), *others])))
    with pytest.raises(oc.Infeasible) as caught:
        oc.solve(problem, oc.Decomposition())
    assert caught.value.result.certificate.infeasible_by > 0
    assert oc.verify(problem, caught.value.result)


def test_prices_far_above_the_first_penalty():
    """A budget of which a unit is worth a million."""
    mdp = oc.MDP.from_arrays(
        np.ones((1, 2, 1)), [[0.0, 1.0]], discount=0.9, costs={"wear": [[0.0, 1e-6]], "other": [[0.0, 1.0]]}
    )
    limits = {"wear": oc.expected("wear") <= 0.25e-6, "other": oc.expected("other") >= -1}
    result = oc.solve(oc.Problem(mdp, constraints=limits), oc.Decomposition())
    assert result.objective == pytest.approx(0.25, abs=1e-12)
    assert result.multipliers["wear"] == pytest.approx(1e6)


def test_a_slow_model_is_answered_with_the_local_model():
    """A grid too large for elimination; the limit is kept to rounding, and another method agrees."""
    grid = oc.instances.get("slippery-gridworld", n=24, seed=1, discount=0.999)
    problem = oc.Problem(grid, constraints=[oc.expected("hazard") <= 2e-4, oc.visits(states=range(30)) <= 3])
    result = oc.solve(problem, oc.Decomposition())
    assert result.status is oc.Status.CERTIFIED
    assert result.certificate.violation <= 1e-12
    assert oc.verify(problem, result)
    resumed = oc.solve(problem, oc.Decomposition(), start=result)
    assert resumed.objective == pytest.approx(result.objective, abs=1e-8)
    program = oc.solve(problem, oc.OccupancyProgram(), check=False)
    assert program.objective == pytest.approx(result.objective, abs=1e-5)


def test_bounds_are_near_from_the_first_prices_on():
    """On a slow grid: each bound is above the optimum, and what sweeps make of the first prices proves two digits."""
    grid = oc.instances.get("bumpy-gridworld", n=40, n_costs=2, seed=1, discount=0.999)
    limits = [oc.expected(name) <= 0.9 * spent for name, spent in oc.solve(grid).expected.items() if name != "reward"]
    problem = oc.Problem(grid, constraints=limits)
    best = oc.solve(problem, oc.Decomposition())
    assert best.status is oc.Status.CERTIFIED
    assert best.certificate.violation <= 1e-10
    early = oc.solve(problem, oc.Decomposition(), limit=oc.Limit(iterations=2), check=False)
    assert best.objective - 1e-12 <= early.certificate.upper <= best.objective + 0.01


def test_as_many_limits_as_fit():
    """Budgets on the visits of a third of the states, against scipy's linear program."""
    mdp = oc.instances.get("garnet", n_states=90, n_actions=4, branching=4, seed=3, discount=0.95)
    most = oc.solve(mdp).state_occupancy, oc.evaluate(mdp, oc.Policy.uniform(mdp)).state_occupancy
    budgets = {int(s): float(most[0][s] + most[1][s]) / 2 for s in np.argsort(most[1] - most[0])[:30]}
    scale = 1 - mdp.discount
    limits = {str(s): oc.visits(states=[s]) <= bound / scale for s, bound in budgets.items()}
    result = oc.solve(oc.Problem(mdp, constraints=limits), oc.Decomposition())
    form = formulate(oc.Problem(mdp))
    visits = np.zeros((30, mdp.n_pairs))
    for row, s in zip(visits, budgets, strict=True):
        row[mdp.pairs.states == s] = 1.0
    known = scipy.optimize.linprog(
        -mdp.pair_rewards, A_ub=visits, b_ub=list(budgets.values()), A_eq=flow_matrix(form), b_eq=scale * form.initial
    )
    assert result.status is oc.Status.CERTIFIED
    assert result.objective == pytest.approx(-known.fun, abs=1e-8)
    assert result.certificate.violation <= 1e-12


def test_a_claimed_occupancy_is_checked():
    """The distance that one pass proves bounds the true one, and grows with the error of the claim."""
    grid = oc.instances.get("slippery-gridworld", n=12, seed=1, discount=0.99)
    form, policy = formulate(oc.Problem(grid)), oc.Policy.uniform(grid)
    true = oc.evaluate(grid, policy).pair_occupancy
    assert distance_from_claim(form, true) <= 1e-10
    rng = np.random.default_rng(0)
    for error in (1e-8, 1e-3, 1.0):
        mass = (1 + error * rng.random(grid.n_states)) * np.add.reduceat(true, grid.pair_start[:-1])
        claimed = (mass / mass.sum())[grid.pairs.states] * policy.pair_probabilities
        assert np.abs(claimed - true).sum() <= distance_from_claim(form, claimed) <= 1e3 * error


@pytest.mark.parametrize("wrong", ["mass", "negative", "shape", "none"])
def test_wrong_claims_change_nothing(wrong):
    """A large model, whose claims are looked at: the policy is evaluated where its claim fails."""
    grid = oc.instances.get("slippery-gridworld", n=75, seed=1, discount=0.9)
    problem = oc.Problem(grid, constraints=[oc.expected("hazard") <= 0.03])
    policy = oc.Policy.deterministic(grid, ["east"] * grid.n_states)
    true = oc.evaluate(problem, policy).state_occupancy
    claims = {"mass": true[::-1], "negative": -true, "shape": true[1:], "none": None}
    tracker, honest = Tracker(problem, 1e-8, None), Tracker(problem, 1e-8, None)
    tracker.record(Iterate(policy, state_occupancy=claims[wrong]), 1, 0.0)
    honest.record(Iterate(policy, state_occupancy=true), 1, 0.0)
    assert tracker.final()[0].objective == pytest.approx(honest.final()[0].objective, abs=1e-13)
    assert tracker.history()["objective"] == pytest.approx(honest.history()["objective"], abs=1e-9)


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
@pytest.mark.parametrize("limit", [oc.expected("wear") >= 0.1, oc.expected("wear") <= 0.25, oc.expected("wear") == 0.2])
def test_averages_whose_policies_may_have_several_classes(sense, limit):
    """To minimise the reward is to repair for ever in one state or in another: classes that no policy combines."""
    mdp = oc.instances.get("machine-repair").replace(discount=None)
    problem = oc.Problem(mdp, criterion="average", sense=sense, constraints=[limit])
    ours = oc.solve(problem, oc.Decomposition(), check=False)
    program = oc.solve(problem, oc.OccupancyProgram(), check=False)
    assert ours.status is program.status
    assert ours.status in (oc.Status.CERTIFIED, oc.Status.BOUNDED)
    for end in ("upper",) if sense == "maximize" else ("lower",):
        assert getattr(ours.certificate, end) == pytest.approx(getattr(program.certificate, end), abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_small_models_are_answered_to_rounding(seed):
    """Within the tolerance would do; but a vertex randomises in one state at most where there is one limit."""
    rng = np.random.default_rng(seed)
    transitions, rewards, wear = rng.dirichlet(np.ones(4), size=(4, 3)), rng.normal(size=(4, 3)), rng.random((4, 3))
    mdp = oc.MDP.from_arrays(transitions, rewards, discount=0.9, costs={"wear": wear})
    least = oc.solve(oc.Problem(mdp.replace(rewards=wear), sense="minimize")).objective
    free = oc.solve(mdp).expected["wear"]
    problem = oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.5 * (least + free)])
    result = oc.solve(problem, oc.Decomposition())
    assert result.gap <= 1e-12 * (1.0 + result.multipliers["wear"])
    mixed = (result.policy.probabilities > 1e-10).sum(axis=1)
    assert np.sort(mixed).tolist() == [1, 1, 1, 2]

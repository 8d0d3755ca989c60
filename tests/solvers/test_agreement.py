"""Every solver on every named model: answers agree within their certified gaps."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import random_policy

import occlp as oc

#: Parameters of the named models that are large by default.
SMALLER = {
    "garnet": {"n_states": 40, "n_actions": 3, "branching": 3},
    "bumpy-gridworld": {"n": 5},
    "slippery-gridworld": {"n": 7},
    "howard-automobile": {},
    "vanishing-gradient-chain": {"horizon": 8},
}
#: Models that say how they discount; the others are asked for averages or totals.
DISCOUNTED = [name for name in oc.instances.names() if oc.instances.get(name).discount is not None]
UNDISCOUNTED = {
    "die-stopping": "total", "secretary": "total", "hillier-lieberman-employment": "average",
    "tijms-maintenance": "average",
}  # fmt: skip
#: Solvers that promise the tolerance on plain questions.
EXACT = {
    "PolicyIteration": oc.PolicyIteration(),
    "Howard": oc.PolicyIteration(warm_up=0),
    "ValueIteration": oc.ValueIteration(),
    "ModifiedPolicyIteration": oc.ModifiedPolicyIteration(),
    "HIGHS": oc.OccupancyProgram("HIGHS"),
    "CLARABEL": oc.OccupancyProgram("CLARABEL"),
    "SCS": oc.OccupancyProgram("SCS", options={"max_iters": 5000}),
    "Decomposition": oc.Decomposition(),
}
#: Solvers that end by their own rule.
APPROXIMATE = {
    "NaturalPolicyGradient": oc.NaturalPolicyGradient(steps=60),
    "PolicyGradient": oc.PolicyGradient(steps=60),
}
WITH_KL = {"KLDual": oc.KLDual(), "CLARABEL": oc.OccupancyProgram("CLARABEL")}


def model(name):
    return oc.instances.get(name, **SMALLER.get(name, {}))


def scale_of(mdp):
    return float(np.ptp(mdp.pair_rewards)) or 1.0


@pytest.fixture(scope="module")
def answers():
    """The optimum of each model and sense, by one method: what the others are compared with."""
    found = {}
    for name in DISCOUNTED:
        sense = oc.instances.describe(name).sense
        for problem in (oc.Problem(model(name), sense=sense), oc.Problem(model(name), sense=other(sense))):
            found[name, problem.sense] = problem, oc.solve(problem)
    return found


def other(sense):
    return "minimize" if sense == "maximize" else "maximize"


def assert_agree(first, second, scale):
    """Bounds overlap, and objectives differ by no more than the two gaps."""
    rounding = 1e-12 * scale
    assert first.certificate.lower <= second.certificate.upper + rounding
    assert second.certificate.lower <= first.certificate.upper + rounding
    assert abs(first.objective - second.objective) <= first.gap + second.gap + rounding


@pytest.mark.parametrize("name", DISCOUNTED)
@pytest.mark.parametrize("solver", EXACT)
def test_exact_methods(solver, name, answers):
    sense = oc.instances.describe(name).sense
    problem, expected = answers[name, sense]
    result = oc.solve(problem, EXACT[solver])
    assert result.status is oc.Status.CERTIFIED
    assert result.gap <= result.certificate.allowed_gap(1e-8)
    assert_agree(result, expected, scale_of(problem.mdp))
    assert result.solver.startswith(type(EXACT[solver]).__name__)


@pytest.mark.parametrize("name", DISCOUNTED)
@pytest.mark.parametrize("solver", ["PolicyIteration", "ModifiedPolicyIteration", "HIGHS"])
def test_exact_methods_in_the_other_sense(solver, name, answers):
    problem, expected = answers[name, other(oc.instances.describe(name).sense)]
    result = oc.solve(problem, EXACT[solver])
    assert result.status is oc.Status.CERTIFIED
    assert_agree(result, expected, scale_of(problem.mdp))


@pytest.mark.parametrize("name", DISCOUNTED)
@pytest.mark.parametrize("solver", APPROXIMATE)
def test_gradients(solver, name, answers):
    """Wherever a run of gradients stops, its gap is the true one."""
    problem, best = answers[name, oc.instances.describe(name).sense]
    result = oc.solve(problem, APPROXIMATE[solver])
    assert result.status in (oc.Status.CERTIFIED, oc.Status.BOUNDED)
    scale = scale_of(problem.mdp)
    assert_agree(result, best, scale)
    assert abs(result.gap - abs(best.objective - result.objective)) <= best.gap + 1e-12 * scale
    started = oc.evaluate(problem, oc.Policy.uniform(problem.mdp)).objective
    assert abs(result.objective - best.objective) <= abs(started - best.objective)


@pytest.mark.parametrize("name", DISCOUNTED)
@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_kl(name, strength):
    """Two methods that share no code, towards a random reference, in the sense of the source."""
    mdp, sense = model(name), oc.instances.describe(name).sense
    kl = oc.KL(strength * scale_of(mdp), random_policy(mdp, np.random.default_rng(0)))
    problem = oc.Problem(mdp, sense=sense, regularizer=kl)
    results = [oc.solve(problem, solver) for solver in WITH_KL.values()]
    assert all(result.status is oc.Status.CERTIFIED for result in results)
    assert_agree(*results, scale_of(mdp))
    first, second = (result.policy.pair_probabilities for result in results)
    seen = results[0].visited[mdp.pairs.states]
    assert np.abs(first - second)[seen].max() <= 1e-3


@pytest.mark.parametrize("solver", ["HIGHS", "PolicyIteration"])
def test_agreement_would_be_noticed_where_it_is_missing(solver, answers):
    """The comparison fails for an answer to another question."""
    problem, expected = answers["howard-toymaker", "maximize"]
    result = oc.solve(oc.Problem(problem.mdp.replace(rewards=problem.mdp.pair_rewards + 1e-6)), EXACT[solver])
    with pytest.raises(AssertionError):
        assert_agree(result, expected, scale_of(problem.mdp))


def test_every_model_is_asked_under_some_criterion():
    assert {*DISCOUNTED, *UNDISCOUNTED} == set(oc.instances.names())


@pytest.mark.parametrize("name", UNDISCOUNTED)
def test_averages_and_totals(name):
    problem = oc.Problem(oc.instances.get(name), oc.instances.describe(name).sense, UNDISCOUNTED[name])
    expected, result = oc.solve(problem), oc.solve(problem, oc.OccupancyProgram("HIGHS"))
    assert result.status is expected.status is oc.Status.CERTIFIED
    assert_agree(result, expected, scale_of(problem.mdp))
    assert oc.verify(problem, result)

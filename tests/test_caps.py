"""Methods stopped by their own caps: what they return then is still true, and says that it is less than was asked for.

No question here takes so many steps, so the caps are lowered. The truth is the answer without that.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from test_verify_kinds import answer as known

import occlp as oc
from benchmarks.lie_questions import MACHINE, QUESTIONS, WALK

PROGRAM, COLUMNS = oc.OccupancyProgram("CLARABEL"), oc.Decomposition()
HIGHS, SOFT = oc.OccupancyProgram("HIGHS"), oc.SoftPolicyIteration()


def drifting():
    """Four states that come and go by probabilities that are rounded, and two that keep what they have."""
    rng, rows = np.random.default_rng(0), np.zeros((6, 2, 6))
    rows[:4] = rng.dirichlet(np.ones(6), size=(4, 2))
    rows[[4, 5], :, [4, 5]] = 1.0
    return oc.MDP.from_arrays(rows, rng.normal(size=(6, 2)))


OWN = {
    "policy entropy with a limit": oc.Problem(
        MACHINE, regularizer=oc.PolicyEntropy(0.5), constraints=[oc.expected("wear") <= 0.2]
    ),
    "rounded averages": oc.Problem(drifting(), criterion="average"),
}
QUESTIONS = {**QUESTIONS, **OWN}


def answer(kind):
    """The truth: the answer without a cap."""
    return oc.solve(OWN[kind]) if kind in OWN else known(kind)


CAPS = [
    ("solvers.multichain_iteration.MOST_IMPROVEMENTS", 0, "rounded averages", oc.PolicyIteration()),
    ("chains.gains.SHIFTS", (), "averages by state", oc.PolicyIteration()),
    ("chains.gains.EXACT_ENTRIES", -1, "rounded averages", oc.PolicyIteration()),
    ("bounds.averages.MOST_ROUNDS", 0, "rounded averages", oc.PolicyIteration()),
    ("bounds.averages.SHIFTS", (), "rounded averages", oc.PolicyIteration()),
    ("total.improvement.MOST_IMPROVEMENTS", 1, "total", oc.PolicyIteration()),
    ("total.approach.ROUNDS", 0, "total", oc.ModifiedPolicyIteration()),
    ("total.bound.MOST_REPAIRS", 0, "total with a limit", HIGHS),
    ("solvers.total_program.MOVES", (0.0,), "total with a limit", HIGHS),
    ("verdict.MOST_IMPROVEMENTS", 0, "average", oc.ValueIteration(max_sweeps=3)),
    ("solving.MOST_IMPROVEMENTS", 1, "two limits", PROGRAM),
    ("solvers.policy_iteration.ROUNDS", 1, "average", oc.PolicyIteration()),
    ("solvers.slow_rounds.ROUNDS", 1, "average", oc.PolicyIteration()),
    ("solvers.feasibility.MOST_CUTS", 1, "a concave limit", PROGRAM),
    ("solvers.concave_program.MOST_STEPS", 1, "worst case", COLUMNS),
    ("solvers.gibbs_dual.MOST_STEPS", 1, "occupancy entropy", oc.KLDual()),
    ("solvers.column_generation.MOST_CLOSED", 0, "two limits", COLUMNS),
    ("solvers.soft_policy_iteration.PRICE_STEPS", 1, "policy entropy with a limit", SOFT),
    ("solvers.soft_policy_iteration.HALVINGS", 0, "policy entropy with a limit", SOFT),
]


@pytest.mark.parametrize(("cap", "value", "kind", "solver"), CAPS, ids=[f"{cap[0]}, {cap[2]}" for cap in CAPS])
def test_caps_do_not_make_answers_false(cap, value, kind, solver, monkeypatch):
    problem, truth = QUESTIONS[kind], answer(kind)
    assert truth.status is oc.Status.CERTIFIED
    monkeypatch.setattr(f"occlp.{cap}", value)
    result = oc.solve(problem, solver, check=False)
    check(problem, result, truth)


@pytest.mark.parametrize("kind", ["two limits", "an equality", "infeasible", "average with a limit"])
@pytest.mark.parametrize("most", [1, 2])
def test_few_columns(kind, most):
    problem = QUESTIONS[kind]
    result = oc.solve(problem, oc.Decomposition(max_columns=most), check=False)
    if result.status is oc.Status.FAILED:
        assert f"{most} policies" in result.message or f"max_columns={most}" in result.message
    if kind != "infeasible":
        check(problem, result, answer(kind))


FEW = [
    ("total", oc.ValueIteration(max_sweeps=1)),
    ("total", oc.ModifiedPolicyIteration(max_improvements=1)),
    ("average", oc.ValueIteration(max_sweeps=1)),
    ("conditional KL", oc.SoftPolicyIteration(warm_up=0, max_improvements=1)),
    ("policy entropy with a limit", oc.SoftPolicyIteration(warm_up=0, max_improvements=1)),
]


@pytest.mark.parametrize(("kind", "solver"), FEW)
def test_few_sweeps(kind, solver):
    check(QUESTIONS[kind], oc.solve(QUESTIONS[kind], solver, check=False), answer(kind))


def check(problem, result, truth):
    """The enclosure holds the optimum, the audit agrees, and CERTIFIED means what it says."""
    room = 1e-12 * max(1.0, abs(truth.objective))
    assert result.certificate.lower <= truth.certificate.upper + room
    assert result.certificate.upper >= truth.certificate.lower - room
    assert oc.verify(problem, result)
    if result.status is oc.Status.CERTIFIED:
        assert result.objective == pytest.approx(truth.objective, abs=1e-7)
    else:
        assert result.message


def test_entropies_of_ties_that_are_not_finished_are_enclosed(monkeypatch):
    rows = [[1, 0], [0, 1], [1, 0]]  # the second state offers no choice, so that it pays to stay in the first
    mdp = oc.MDP.from_pairs([0, 0, 1], [0, 1, 0], rows, [0, 0, 0], discount=0.9, initial=0)
    full = oc.tie_break(mdp, oc.solve(mdp), maximize="entropy")
    monkeypatch.setattr("occlp.postoptimal.tie_breaking.MOST_STEPS", 1)
    short = oc.tie_break(mdp, oc.solve(mdp), maximize="entropy")
    assert short.second_lower <= full.second <= short.second_upper
    assert short.second < full.second - 1e-3


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("MOST_CUTS", 0, "with 0 cuts"), ("linprog", lambda *_, **__: Failed(), "the backend is tired")],
)
def test_prices_that_are_not_found_are_an_error(name, value, words, monkeypatch):
    problem = oc.Problem(MACHINE, constraints=[oc.expected("wear") <= 0.25])
    result = oc.solve(problem)
    monkeypatch.setattr(f"occlp.postoptimal.prices.{name}", value)
    with pytest.raises(oc.OccupancyError, match=words):
        _ = oc.sensitivity(problem, result).bounds["wear"]


class Failed:
    """What a linear program says that has not been solved."""

    x, message = None, "the backend is tired"


def test_comparisons_without_a_reference_are_judged_by_each_run(monkeypatch):
    """Where the methods that find the common bound are stopped, the table stands all the same."""
    monkeypatch.setattr("occlp.solving.MOST_REFERENCE_ITERATIONS", 0)
    problem = QUESTIONS["total"]
    (row,) = oc.compare(problem, [oc.ValueIteration()])
    assert row.result.status is oc.Status.CERTIFIED


@dataclasses.dataclass(frozen=True)
class Garbage:
    """Yields what makes no sense for a total, and then policies that break its limit, ever less."""

    promises_tol = False

    def unsupported(self, problem):
        return None

    def iterate(self, problem, *, tol, rng, start=None):
        uniform = oc.Policy.uniform(problem.mdp)
        yield oc.Iterate(dataclasses.replace(uniform, pair_probabilities=np.full(problem.mdp.n_pairs, np.nan)))
        for toll in (0.1, 0.5, 0.3):
            table = np.tile([1 - toll, toll], (4, 1))
            yield oc.Iterate(oc.Policy.from_table(problem.mdp, table), values=np.zeros(2))


def test_garbage_for_totals_counts_for_nothing():
    problem = oc.Problem(WALK, criterion="total", goal=3, constraints=[oc.expected_total("toll") >= 50])
    result = oc.solve(problem, Garbage(), check=False)
    assert result.status is not oc.Status.CERTIFIED
    assert result.certificate.lower == -np.inf
    tolls = [oc.evaluate(problem, oc.Policy.from_table(WALK, np.tile([1 - p, p], (4, 1)))) for p in (0.1, 0.3, 0.5)]
    assert result.expected_total["toll"] == max(found.expected_total["toll"] for found in tolls)
    assert oc.verify(problem, result)


@dataclasses.dataclass(frozen=True)
class Boastful:
    """Claims gains that no arithmetic survives."""

    several_classes = True

    promises_tol = False

    def unsupported(self, problem):
        return None

    def iterate(self, problem, *, tol, rng, start=None):
        n = problem.mdp.n_states
        for gain in (1e308, np.nan, -np.inf):
            yield oc.Iterate(oc.Policy.uniform(problem.mdp), values=np.zeros(n), gains=np.full(n, gain))


def test_gains_out_of_this_world_prove_nothing():
    problem = QUESTIONS["averages by state"]
    check(problem, oc.solve(problem, Boastful(), check=False), answer("averages by state"))


def test_a_circle_that_pays_next_to_nothing_is_not_taken_for_rounding():
    """Round and round for 1 and then 1e-12 less: the total has no bound, and none is claimed."""
    mdp = oc.MDP.from_arrays(
        [[[0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1]], [[0, 0, 1]] * 2], [[1, 0], [1e-12 - 1, 0], [0, 0]], initial=0
    )
    for problem in (oc.Problem(mdp, criterion="total"), oc.Problem(mdp, criterion="total", goal=2)):
        result = oc.solve(problem, check=False)
        assert result.certificate.upper == np.inf
        assert oc.verify(problem, result)


def test_long_histories_are_thinned_evenly(monkeypatch):
    monkeypatch.setattr("occlp.tracking.HISTORY_ROWS", 5)
    history = oc.solve(MACHINE, oc.NaturalPolicyGradient(1e-3, steps=20), tol=1e-15).history
    assert history["iteration"].tolist() == [1, 6, 11, 16, 21]
    assert repr(history).startswith("History(5 rows: ")

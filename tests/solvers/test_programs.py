"""Compiled programs: compiled once for a sequence of questions, with the answers of programs compiled anew."""

from __future__ import annotations

import gc
from dataclasses import replace

import cvxpy
import numpy as np
import pytest
from helpers import random_policy
from scipy import sparse

import occlp as oc
from occlp.solvers import programs
from occlp.solvers.backends import Backend
from occlp.solvers.programs import borrowed, digest
from occlp.terms.base import Term

#: Questions of each kind of program on a model with the costs "wear" and "risk"; the number says how large a bound is.
MODEL = oc.instances.get("garnet", n_states=15, n_actions=3, branching=3, seed=4, discount=0.9)
MODEL = MODEL.replace(
    costs={
        "wear": np.random.default_rng(2).random(MODEL.n_pairs),
        "risk": np.random.default_rng(3).random(MODEL.n_pairs),
    }
)
UNIFORM, RNG = oc.Policy.uniform(MODEL), np.random.default_rng(8)


def two_classes():
    """Two absorbing choices with a cost each: averages depend on the start."""
    transitions = np.zeros((3, 2, 3))
    transitions[0, 0, 1] = transitions[0, 1, 2] = 1.0
    transitions[1, :, 1] = transitions[2, :, 2] = 1.0
    rewards = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 1.5]])
    costs = {"wear": np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.5]])}
    return oc.MDP.from_arrays(transitions, rewards, initial=0, costs=costs)


def stopping():
    """A chain of ten states to a goal, fast and dear or slow and cheap."""
    rows, states, actions = [], np.repeat(np.arange(10), 2), np.tile([0, 1], 10)
    for s in range(10):
        for fast in (0, 1):
            row = np.zeros(11)
            row[s + 1], row[s] = (0.9, 0.1) if fast else (0.4, 0.6)
            rows.append(row)
    transitions = np.vstack([rows, np.eye(11)[10]])
    states, actions = np.append(states, 10), np.append(actions, 0)
    time, fuel = np.append(np.ones(20), 0.0), np.append(np.tile([1.0, 3.0], 10), 0.0)
    return oc.MDP.from_pairs(states, actions, transitions, time, costs={"fuel": fuel}, initial=0)


def scaled(k):
    limits = [oc.expected("wear") <= 0.4 + 0.002 * k, oc.expected("risk") >= 0.42 + 0.001 * k]
    return oc.Problem(MODEL, sense="minimize", constraints=limits)


def rewarded(k):
    mdp = MODEL.replace(rewards=(1 + k) * MODEL.pair_rewards + k * MODEL.pair_costs["risk"])
    return oc.Problem(mdp, constraints=[oc.expected("wear") == 0.5])


def started(k):
    return oc.Problem(MODEL.replace(initial=k % 15), constraints=[oc.expected("wear") <= 0.5])


def conditional(k):
    limits = [oc.expected("wear") <= 0.5]
    return oc.Problem(MODEL, constraints=limits, regularizer=oc.ConditionalKL(0.1 * 1.2**k, UNIFORM))


def joint(k):
    return oc.Problem(MODEL, sense="minimize", regularizer=oc.KL(0.05 * (k + 1), UNIFORM))


def visited(k):
    return oc.Problem(MODEL, constraints={"spread": oc.StateEntropy(2.0) >= 4.0 + 0.05 * k})


def fair(k):
    wear, risk = oc.expected("wear"), oc.expected("risk")
    return oc.Problem(MODEL, utility=oc.WorstCase([wear, risk]), constraints=[oc.expected("reward") >= 0.3 + 0.01 * k])


def reached(k):
    return oc.Problem(
        STOPPING,
        sense="minimize",
        criterion="total",
        goal=[10],
        constraints=[oc.expected_total("fuel") <= 27.0 + k / 8],
    )


def averaged(k):
    limits = [oc.expected("wear") <= 0.6 + 0.05 * k]
    return oc.Problem(CLASSES, criterion="average", constraints=limits)


STOPPING, CLASSES = stopping(), two_classes()
QUESTIONS = [scaled, rewarded, started, conditional, joint, visited, fair, reached]


@pytest.fixture
def compilations(monkeypatch):
    """Counts how often cvxpy puts a program into the form of a backend."""
    counted = []
    original = cvxpy.Problem._construct_chain

    def counting(self, *arguments, **options):
        counted.append(self)
        return original(self, *arguments, **options)

    monkeypatch.setattr(cvxpy.Problem, "_construct_chain", counting)
    monkeypatch.setattr(programs, "_KEPT", {})
    return counted


def bounds(result):
    return result.certificate.lower, result.certificate.upper


@pytest.mark.parametrize(("ask", "count"), [(scaled, 20), *((ask, 6) for ask in QUESTIONS[1:])])
def test_questions_of_one_structure_are_compiled_once(ask, count, compilations):
    results = [oc.solve(ask(k), oc.OccupancyProgram()) for k in range(count)]
    assert len({id(program) for program in compilations}) == len(compilations) == 1
    assert all(result.status is oc.Status.CERTIFIED for result in results)
    assert len({result.objective for result in results}) > 1
    for k in (0, 3, count - 1):  # as if nothing had been asked before
        programs._KEPT.clear()
        alone = oc.solve(ask(k), oc.OccupancyProgram())
        assert bounds(alone) == bounds(results[k])
        np.testing.assert_array_equal(alone.policy.pair_probabilities, results[k].policy.pair_probabilities)


def test_averages_that_depend_on_the_start_are_compiled_once(compilations):
    solver = oc.OccupancyProgram("HIGHS")
    results = [oc.solve(averaged(k), solver, check=False) for k in range(4)]
    assert len({id(program) for program in compilations if len(program.parameters()) == 4}) == 1
    programs._KEPT.clear()
    alone = oc.solve(averaged(3), solver, check=False)
    assert (alone.status, alone.message) == (results[3].status, results[3].message)


def test_a_curve_of_twenty_points_is_compiled_once(compilations):
    """The points of a front are questions with other rewards."""
    problem = oc.Problem(MODEL, constraints={"wear": oc.expected("wear") <= 0.5, "risk": oc.expected("risk") <= 0.6})
    curve = oc.limit_curve(problem, "wear", solver=oc.OccupancyProgram())
    assert len(curve) > 5
    assert len(compilations) <= 3  # without the limit where the curve ends, and with it
    reference = oc.limit_curve(problem, "wear")
    at = np.linspace(*reference.feasible, 9)[1:-1] if np.isfinite(reference.feasible).all() else reference.bounds
    np.testing.assert_allclose(curve(at), reference(at), atol=1e-8)


def test_a_path_of_strengths_is_compiled_once(compilations):
    problem = oc.Problem(MODEL, constraints=[oc.expected("wear") <= 0.5], regularizer=oc.StateEntropy(1.0))
    strengths = np.geomspace(0.01, 10.0, 20)
    path = oc.path(problem, strengths, solver=oc.OccupancyProgram())
    assert len(compilations) == 1
    for strength, result in list(zip(strengths, path, strict=True))[::6]:
        alone = oc.solve(replace(problem, regularizer=oc.StateEntropy(strength)), oc.OccupancyProgram())
        assert result.objective == pytest.approx(alone.objective, abs=2e-8)


def test_proofs_of_infeasibility_use_one_program_a_structure(compilations):
    def ask(k):
        limits = {"few": oc.StateEntropy() >= 2.6, "dear": oc.expected("wear") <= 0.2 + 0.001 * k}
        return oc.Problem(MODEL, constraints=limits)

    first = oc.solve(ask(0), check=False)
    known = len(compilations)
    assert first.status is oc.Status.INFEASIBLE
    for k in range(1, 5):
        assert oc.solve(ask(k), check=False).message.replace("0.20", "")[:20] == first.message[:20]
    assert len(compilations) == known


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("backend", ["HIGHS", "SCS", "OSQP", "CLARABEL"])
def test_a_warm_start_changes_time_and_not_the_answer(backend, warm):
    solver = oc.OccupancyProgram(backend)
    start = None
    for k in (0, 1, 5):
        result = oc.solve(scaled(k), solver, start=start)
        start = result if warm else None
        assert result.status is oc.Status.CERTIFIED
        assert result.objective == pytest.approx(oc.solve(scaled(k)).objective, abs=1e-8)


def test_only_a_start_makes_a_backend_go_on(monkeypatch):
    seen = []
    original = cvxpy.Problem.solve

    def spy(self, *arguments, **options):
        seen.append(options["warm_start"])
        return original(self, *arguments, **options)

    monkeypatch.setattr(cvxpy.Problem, "solve", spy)
    first = oc.solve(scaled(0), oc.OccupancyProgram("HIGHS"))
    oc.solve(scaled(1), oc.OccupancyProgram("HIGHS"), start=first)
    oc.solve(scaled(1), oc.OccupancyProgram("CLARABEL"), start=first)
    assert seen == [False, True, False]


# What tells programs apart -----------------------------------------------------------------------------------


def other_transitions(problem):
    mdp = oc.instances.get("garnet", n_states=15, n_actions=3, branching=3, seed=5, discount=0.9)
    return replace(problem, mdp=mdp.replace(costs=dict(MODEL.pair_costs)))


DIFFERENT = {
    "discount": lambda problem: replace(problem, mdp=problem.mdp.replace(discount=0.8)),
    "transitions": other_transitions,
    "relation": lambda problem: replace(problem, constraints=[oc.expected("wear") == 0.5]),
    "fewer": lambda problem: replace(problem, constraints=None),
    "term": lambda problem: replace(problem, regularizer=oc.StateEntropy(0.1)),
    "reference": lambda problem: replace(problem, regularizer=oc.ConditionalKL(0.1, random_policy(problem.mdp, RNG))),
}


@pytest.mark.parametrize("change", DIFFERENT)
def test_another_structure_is_another_program(change, compilations):
    problem = oc.Problem(MODEL, constraints=[oc.expected("wear") <= 0.5])
    oc.solve(problem, oc.OccupancyProgram("CLARABEL"))
    result = oc.solve(DIFFERENT[change](problem), oc.OccupancyProgram("CLARABEL"))
    assert len(compilations) == 2
    assert result.status is oc.Status.CERTIFIED


def test_functions_of_users_are_compiled_each_time(compilations):
    """They may hold parameters of their own, whose values nobody sees change."""
    weight = cvxpy.Parameter(nonneg=True)
    objectives = []
    for value in (1.0, 3.0):
        weight.value = value
        utility = oc.Utility(lambda d: weight * (MODEL.pair_rewards @ d) + 0.1 * cvxpy.sum(cvxpy.entr(d)))
        objectives.append(oc.solve(oc.Problem(MODEL, utility=utility)).objective)
    assert objectives[1] > objectives[0] + 0.1
    assert len(compilations) >= 2


def test_a_term_that_does_not_say_what_it_is_made_of_is_refused():
    class Odd(Term):
        def __init__(self):
            self.table = {"a": 1}

    with pytest.raises(TypeError, match="no digest is known for dict"):
        digest(*Odd().identity())


def test_digests_tell_numbers_apart():
    parts = [
        (), (1,), (1.0,), ("1",), (True,), (None,), (np.ones(3),), (np.ones((3, 1)),), (np.ones(3, dtype=np.int32),),
        (sparse.csr_array(np.eye(3)),), (sparse.csr_array(2 * np.eye(3)),), (sparse.csr_array(np.eye(3, 4)),),
    ]  # fmt: skip
    assert len({digest(*part) for part in parts}) == len(parts)
    assert digest(np.arange(6)[::2]) == digest(np.array([0, 2, 4]))


# Keeping -----------------------------------------------------------------------------------------------------


class Program:
    """Something to keep."""


def test_a_program_that_is_in_use_is_not_given_to_another():
    owner = np.ones(2)
    with borrowed(owner, b"key", Program) as first, borrowed(owner, b"key", Program) as second:
        assert first is not second
    with borrowed(owner, b"key", Program) as third:
        assert third in (first, second)


def test_a_program_that_broke_is_not_kept():
    owner = np.ones(2)
    with pytest.raises(ValueError, match="broken"), borrowed(owner, b"key", Program) as first:
        raise ValueError("broken")
    with borrowed(owner, b"key", Program) as second:
        assert second is not first


def test_programs_make_room_for_others_and_die_with_their_model():
    owner = np.ones(2)
    address = id(owner)
    for k in range(programs.MOST_PROGRAMS + 3):
        with borrowed(owner, k, Program):
            pass
    assert len(programs._KEPT[address]) == programs.MOST_PROGRAMS
    del owner
    gc.collect()
    assert address not in programs._KEPT


def test_a_program_without_a_key_is_not_kept():
    owner = np.ones(2)
    with borrowed(owner, None, Program) as first, borrowed(owner, None, Program) as second:
        assert first is not second
    assert id(owner) not in programs._KEPT


# Time --------------------------------------------------------------------------------------------------------


def test_the_time_that_is_left_reaches_each_backend(monkeypatch):
    seen = {}
    original = cvxpy.Problem.solve

    def spy(self, *arguments, **options):
        seen.update(options)
        return original(self, *arguments, **options)

    monkeypatch.setattr(cvxpy.Problem, "solve", spy)
    named = {"CLARABEL": "time_limit", "HIGHS": "time_limit", "OSQP": "time_limit", "SCS": "time_limit_secs"}
    for backend, option in named.items():
        oc.solve(scaled(0), oc.OccupancyProgram(backend), limit=oc.Limit(seconds=1000))
        assert 900 < seen[option] <= 1000
    oc.solve(scaled(0), oc.OccupancyProgram("SCIPY"), limit=oc.Limit(seconds=1000))
    assert 900 < seen["scipy_options"]["time_limit"] <= 1000
    oc.solve(scaled(0), oc.OccupancyProgram("HIGHS", {"time_limit": 7.0}), limit=oc.Limit(seconds=1000))
    assert seen["time_limit"] == 7.0
    oc.solve(scaled(0), oc.OccupancyProgram("HIGHS", seconds=11.0), limit=oc.Limit(seconds=1000))
    assert 10 < seen["time_limit"] <= 11.0
    oc.solve(scaled(0), oc.DeterministicProgram(), limit=oc.Limit(seconds=1000))
    assert 900 < seen["time_limit"] <= 1000


@pytest.fixture(scope="module")
def large():
    """A second of work for every backend, and the answer."""
    mdp = oc.instances.get("garnet", n_states=500, n_actions=10, branching=5, seed=1, discount=0.99)
    mdp = mdp.replace(costs={"wear": np.random.default_rng(0).random(mdp.n_pairs)})
    problem = oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.45])
    return problem, oc.solve(problem)


@pytest.mark.parametrize("backend", ["CLARABEL", "SCS", "HIGHS", "OSQP", "SCIPY"])
def test_a_run_that_is_cut_short_has_an_honest_gap(large, backend):
    problem, best = large
    result = oc.solve(problem, oc.OccupancyProgram(backend), limit=oc.Limit(seconds=0.08))
    assert result.status is oc.Status.LIMIT
    assert "Stopped by the time limit of 0.08 s" in result.message
    assert result.certificate.upper >= best.certificate.lower
    if result.certificate.violation <= 1e-8:
        assert result.objective <= best.certificate.upper + 1e-12
    assert oc.verify(problem, result)


@pytest.mark.parametrize("ask", [scaled, visited, reached])
def test_no_time_at_all(ask):
    problem = ask(3)
    result = oc.solve(problem, oc.OccupancyProgram(), limit=oc.Limit(seconds=0))
    assert result.status is oc.Status.LIMIT
    assert oc.verify(problem, result)


def test_a_backend_that_is_late_without_an_answer(monkeypatch):
    def late(self, *arguments, **options):
        import time

        time.sleep(0.02)
        raise cvxpy.error.SolverError("nothing")

    monkeypatch.setattr(cvxpy.Problem, "solve", late)
    result = oc.solve(scaled(0), oc.OccupancyProgram("HIGHS", seconds=0.01))
    assert result.status is oc.Status.LIMIT
    assert "Stopped by the time of the method" in result.message
    assert "It was the time of the backend HIGHS: a program of 45 variables" in result.message
    with pytest.raises(oc.NotCertified, match="HIGHS failed: nothing"):
        oc.solve(scaled(0), oc.OccupancyProgram("HIGHS"))


def test_a_backend_without_an_option_for_time_is_not_told():
    assert Backend("NAG", deadline=1.0)._told() == {}

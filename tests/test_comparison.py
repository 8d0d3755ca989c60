"""`compare`: the same answers on every executor, one stream for each run, and failures that are rows."""

from __future__ import annotations

import multiprocessing
import pickle
import warnings
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from helpers import Exact, Sampled, encloses

import occlp as oc
from occlp.errors import InvalidProblem

SOLVERS = {
    "policy iteration": oc.PolicyIteration(),
    "program": oc.OccupancyProgram("HIGHS"),
    "natural": oc.NaturalPolicyGradient(steps=20),
    "sampled": Sampled(),
}


@dataclass(frozen=True)
class Faulty:
    """A method that raises an error, in one place or another."""

    where: str
    error: Any = field(default=RuntimeError("no such luck"), compare=False, repr=False)
    promises_tol: bool = True

    def unsupported(self, problem):
        if self.where == "unsupported":
            raise self.error
        return "it never can" if self.where == "reason" else None

    def iterate(self, problem, *, tol, rng, start=None):
        if self.where == "call":
            raise self.error
        return self._steps(problem)

    def _steps(self, problem):
        yield oc.Iterate(oc.Policy.uniform(problem.mdp))
        if self.where == "step":
            raise self.error


@dataclass(frozen=True)
class WithFunction:
    """A method that cannot be pickled when its function is a lambda."""

    function: Any
    promises_tol: bool = False

    def unsupported(self, problem):
        return None

    def iterate(self, problem, *, tol, rng, start=None):
        yield oc.Iterate(self.function(problem.mdp))


class Recording(Executor):
    """An executor that runs at once, in this thread, and keeps count."""

    def __init__(self) -> None:
        self.submitted: list[Any] = []

    def submit(self, function, /, *arguments, **options):
        self.submitted.append(arguments)
        future: Future[Any] = Future()
        future.set_result(pickle.loads(pickle.dumps(function(*pickle.loads(pickle.dumps(arguments)), **options))))
        return future


@pytest.fixture(scope="module")
def problem():
    return oc.Problem(oc.instances.get("garnet", n_states=12, n_actions=3, branching=3, seed=4))


@pytest.fixture(scope="module")
def serial(problem):
    return oc.compare(problem, SOLVERS, seeds=3, rng=7)


def answers(table):
    """Everything of a comparison but its timings and its work (what others hold is not computed again), bit for bit."""
    rows, differs = [], ("seconds", "backups", "factorizations")
    for row in table:
        record = {key: value for key, value in row.record().items() if key not in differs}
        result = row.result
        if result is not None:
            history = {name: result.history[name].tobytes() for name in result.history if name != "seconds"}
            record |= {
                "policy": result.policy.pair_probabilities.tobytes(), "certificate": result.certificate.to_json(),
                "occupancy": result.pair_occupancy.tobytes(), "values": result.state_values.tobytes(), **history,
            }  # fmt: skip
        rows.append(record)
    return rows


# Executors ---------------------------------------------------------------------------------------------------


def test_threads_and_pickled_jobs_change_nothing(problem, serial):
    with ThreadPoolExecutor(3) as pool:
        assert answers(oc.compare(problem, SOLVERS, seeds=3, rng=7, executor=pool)) == answers(serial)
    recording = Recording()
    assert answers(oc.compare(problem, SOLVERS, seeds=3, rng=7, executor=recording)) == answers(serial)
    assert len(recording.submitted) == len(serial) == 6


@pytest.mark.slow
def test_spawned_processes_change_nothing(problem, serial):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert answers(oc.compare(problem, SOLVERS, seeds=3, rng=7, executor=pool)) == answers(serial)


@pytest.mark.slow
def test_a_dask_cluster_changes_nothing(problem, serial):
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
        with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
            executor = client.get_executor(pure=False)
            found = answers(oc.compare(problem, SOLVERS, seeds=3, rng=7, executor=executor))
    assert found == answers(serial)


def test_answers_that_differ_would_be_noticed(problem, serial):
    assert answers(oc.compare(problem, SOLVERS, seeds=3, rng=8)) != answers(serial)
    again = oc.compare(problem, SOLVERS, seeds=3, rng=7)
    assert answers(again) == answers(serial)


@pytest.mark.parametrize("executor", [ThreadPoolExecutor, Recording])
def test_the_order_of_rows_is_that_of_solvers_and_seeds(problem, serial, executor):
    with executor() as pool:
        table = oc.compare(problem, SOLVERS, seeds=3, rng=7, executor=pool)
    order = [(row.name, row.seed) for row in table]
    assert order == [(row.name, row.seed) for row in serial]
    assert order[:3] == [("policy iteration", 0), ("program", 0), ("natural", 0)]
    assert order[3:] == [("sampled", 0), ("sampled", 1), ("sampled", 2)]


# Seeds -------------------------------------------------------------------------------------------------------


def test_sampled_methods_run_once_a_seed_and_exact_ones_once(problem):
    table = oc.compare(problem, SOLVERS, seeds=4)
    assert [row.name for row in table].count("sampled") == 4
    assert len(table) == 3 + 4
    policies = {row.result.policy.pair_probabilities.tobytes() for row in table if row.name == "sampled"}
    assert len(policies) == 4  # a stream of its own for each


def test_streams_go_by_position_and_seed(problem):
    """More seeds, or more methods after, do not change the runs that were there."""
    few = oc.compare(problem, [Sampled()], seeds=2, rng=5)
    more = oc.compare(problem, [Sampled(), Sampled(steps=2)], seeds=3, rng=5)
    assert answers(more)[:2] == [dict(row, name=row["name"]) for row in answers(few)]
    same = oc.compare(problem, {"first": Sampled(), "second": Sampled()}, seeds=1, rng=5)
    first, second = (row.result.policy.pair_probabilities for row in same)
    assert not np.array_equal(first, second)


def test_roots_of_the_streams(problem):
    by_number = oc.compare(problem, [Sampled()], rng=5)
    assert answers(oc.compare(problem, [Sampled()], rng=np.random.default_rng(5))) != answers(by_number)
    first, second = (oc.compare(problem, [Sampled()], rng=np.random.default_rng(9)) for _ in range(2))
    assert answers(first) == answers(second)
    assert answers(oc.compare(problem, [Sampled()])) == answers(oc.compare(problem, [Sampled()], rng=0))


@pytest.mark.parametrize("seeds", [0, -1])
def test_numbers_of_seeds_that_are_refused(problem, seeds):
    with pytest.raises(InvalidProblem, match="at least 1"):
        oc.compare(problem, [Sampled()], seeds=seeds)


# Names -------------------------------------------------------------------------------------------------------


def test_names_are_those_of_the_dict_or_the_solvers_themselves(problem):
    table = oc.compare(problem, {"exact": oc.PolicyIteration(), "fast": oc.ModifiedPolicyIteration()})
    assert [row.name for row in table] == ["exact", "fast"]
    assert [row.solver for row in table] == ["PolicyIteration()", "ModifiedPolicyIteration()"]
    assert table["fast"].status is oc.Status.CERTIFIED
    with pytest.raises(KeyError, match="exact, fast"):
        table["slow"]
    twice = oc.compare(problem, [oc.PolicyIteration(), oc.PolicyIteration(), oc.PolicyIteration(warm_up=0)])
    assert [row.name for row in twice] == ["PolicyIteration()", "PolicyIteration() (2)", "PolicyIteration(warm_up=0)"]


@pytest.mark.parametrize("solvers", [[], {}])
def test_nothing_to_compare(problem, solvers):
    with pytest.raises(InvalidProblem, match="at least one solver"):
        oc.compare(problem, solvers)


@pytest.mark.parametrize("solvers", [["PolicyIteration"], {"a": 3}, [None]])
def test_what_is_not_a_solver(problem, solvers):
    with pytest.raises(InvalidProblem, match="is not a solver"):
        oc.compare(problem, solvers)


# Rows --------------------------------------------------------------------------------------------------------


def test_rows_agree_with_solves_and_share_the_best_bound(problem, serial):
    optimum = oc.solve(problem).objective
    for row in serial:
        assert encloses(row.result.certificate, Exact.of(problem.mdp).optimum())
        assert row.result.gap == pytest.approx(optimum - row.result.objective, abs=1e-12)
    record = serial.to_records()[0]
    for key in ("name", "solver", "seed", "status", "objective", "expected_return", "gap", "iterations", "seconds"):
        assert key in record
    assert serial["policy iteration"].objective == optimum
    assert serial["natural"].status in (oc.Status.CERTIFIED, oc.Status.BOUNDED)
    assert len(serial.results) == 6


def test_tables(serial):
    pandas = pytest.importorskip("pandas")
    frame = serial.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["name"].tolist() == [row.name for row in serial]
    assert frame["objective"].tolist() == [row.result.objective for row in serial]
    assert serial.facts["states"] == 12
    assert "policy iteration" in str(serial)


@pytest.mark.parametrize("where", ["reason", "step"])
def test_a_failure_is_a_row(problem, where):
    table = oc.compare(problem, {"good": oc.PolicyIteration(), "bad": Faulty(where), "last": oc.PolicyIteration()})
    rows = {row["name"]: row for row in table.to_records()}
    assert [rows[name]["status"] for name in ("good", "bad", "last")] == ["CERTIFIED", "FAILED", "CERTIFIED"]
    words = "it never can" if where == "reason" else "no such luck"
    assert words in rows["bad"]["message"]
    assert str(table)


@pytest.mark.parametrize("where", ["call", "unsupported"])
def test_a_failure_before_the_first_step_is_a_row(problem, where):
    table = oc.compare(problem, {"good": oc.PolicyIteration(), "bad": Faulty(where)})
    assert [row["status"] for row in table.to_records()] == ["CERTIFIED", "FAILED"]


def test_a_missing_backend_and_a_question_that_is_not_answered_are_rows(problem):
    kl = oc.Problem(problem.mdp, regularizer=oc.KL(0.1, oc.Policy.uniform(problem.mdp)))
    table = oc.compare(
        kl, {"dual": oc.KLDual(), "plain": oc.PolicyIteration(), "missing": oc.OccupancyProgram("GUROBI_OF_MARS")}
    )
    rows = table.to_records()
    assert [row["status"] for row in rows] == ["CERTIFIED", "FAILED", "FAILED"]
    assert "cannot answer" in rows[1]["message"]
    assert "not installed" in rows[2]["message"]
    assert table.rows[1].result is None
    assert np.isnan(rows[1]["objective"])
    with pytest.raises(KeyError):
        table["plain"]


def test_limits_hold_for_each_run():
    grid = oc.instances.get("slippery-gridworld", n=8)
    solvers = {"natural": oc.NaturalPolicyGradient(), "values": oc.ValueIteration()}
    table = oc.compare(grid, solvers, limit=oc.Limit(iterations=4))
    assert [row.result.iterations for row in table] == [4, 4]
    assert {row.result.status for row in table} == {oc.Status.LIMIT}


def test_progress_counts_the_runs(problem):
    told = []
    oc.compare(problem, SOLVERS, seeds=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 5) for n in range(1, 6)]


def test_minimising_and_models_themselves(problem):
    table = oc.compare(problem.mdp, [oc.PolicyIteration()])
    assert answers(table) == answers(oc.compare(problem, [oc.PolicyIteration()]))
    costs = oc.compare(
        oc.Problem(problem.mdp, sense="minimize"), [oc.PolicyIteration(), oc.NaturalPolicyGradient(steps=50)]
    )
    exact, natural = (row.result for row in costs)
    assert exact.objective <= natural.objective + 1e-14
    assert natural.gap == pytest.approx(natural.objective - exact.objective, abs=1e-12)


# Pickling ----------------------------------------------------------------------------------------------------


def test_what_cannot_be_pickled_is_refused_before_the_fan_out(problem):
    solvers = {"good": oc.PolicyIteration(), "local": WithFunction(lambda mdp: oc.Policy.uniform(mdp))}
    recording = Recording()
    with pytest.raises(InvalidProblem, match=r"local cannot be sent to another process.*top level"):
        oc.compare(problem, solvers, executor=recording)
    assert recording.submitted == []
    for executor in (None, ThreadPoolExecutor(1)):  # nothing is sent anywhere
        table = oc.compare(problem, solvers, executor=executor)
        assert [row.result.status for row in table] == [oc.Status.CERTIFIED, oc.Status.BOUNDED]


def test_comparisons_are_pickled_whole(serial):
    again = pickle.loads(pickle.dumps(serial))
    assert answers(again) == answers(serial)
    assert again.title == serial.title

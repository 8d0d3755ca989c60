"""What a run counts of its own work: transitions read, whatever the threads, and runs within runs."""

import threading

import numpy as np
import pytest

import occlp as oc
from occlp import parallel, tracking
from occlp.evaluation import formulate
from occlp.residuals import improve, residuals_of
from occlp.work import Work, count_factorization, count_transitions, tallied, work_so_far


def model(n_states=300, seed=1):
    return oc.instances.get("garnet", n_states=n_states, n_actions=3, branching=4, seed=seed, discount=0.9)


def test_a_run_within_a_run_counts_for_both():
    with tallied():
        count_transitions(10)
        with tallied():
            count_transitions(5)
            count_factorization()
            assert work_so_far(5) == Work(1.0, 1)
        assert work_so_far(10) == Work(1.5, 1)
    with tallied():
        assert work_so_far(10) == Work(0.0, 0)


@tallied()
def fail():
    count_transitions(3)
    raise ZeroDivisionError


def test_what_failed_counts_as_well():
    with tallied():
        with pytest.raises(ZeroDivisionError):
            fail()
        assert work_so_far(3) == Work(1.0, 0)


def test_threads_count_apart():
    found = {}

    def run(name, read):
        with tallied():
            for _ in range(100):
                count_transitions(read)
            found[name] = work_so_far(100).backups

    threads = [threading.Thread(target=run, args=(name, name)) for name in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {1: 1.0, 2: 2.0, 3: 3.0}


def test_a_backup_is_one_backup():
    mdp = model()
    form = formulate(oc.Problem(mdp))
    with tallied():
        improve(form, np.zeros(form.n_states))
        assert work_so_far(mdp.transitions.nnz) == Work(1.0, 0)
        kept = residuals_of(form, np.ones(form.n_states))
        assert residuals_of(form, np.ones(form.n_states)) is kept  # known already: nothing is read
        assert work_so_far(mdp.transitions.nnz) == Work(2.0, 0)


def test_value_iteration_takes_as_many_backups_as_sweeps(monkeypatch):
    monkeypatch.setattr(tracking, "EXACT_STATES", 0)  # policies are judged by the values at hand
    result = oc.solve(model(), oc.ValueIteration(), limit=oc.Limit(iterations=50), tol=0.0, check=False)
    again = oc.solve(model(), oc.ValueIteration(), limit=oc.Limit(iterations=20), tol=0.0, check=False)
    # A sweep backs up all pairs, its judgement does again, and reads one row of the three of a state for the policy.
    assert result.work.backups - again.work.backups == pytest.approx(30 * (1 + 1 + 1 / 3))
    assert result.work.factorizations == again.work.factorizations == 1  # the policy returned is evaluated


def test_counts_do_not_depend_on_threads(monkeypatch):
    alone = oc.solve(model()).work
    monkeypatch.setattr(parallel, "SERIAL_SIZE", 1)
    monkeypatch.setenv("OCCLP_THREADS", "3")
    assert oc.solve(model()).work == alone
    assert alone.backups > 2


def test_elimination_is_a_factorization_and_what_it_saves_are_backups():
    grid = oc.instances.get("bumpy-gridworld", n=12, discount=0.999)
    exact = oc.solve(grid, oc.PolicyIteration(warm_up=0)).work
    assert exact.factorizations >= 1
    assert exact.backups < oc.solve(grid, oc.ModifiedPolicyIteration(), check=False).work.backups


def test_results_tell():
    result = oc.solve(model())
    assert f"{result.work.backups:.3g} backups" in str(result)
    row = result.summary()
    assert (row["backups"], row["factorizations"]) == (result.work.backups, result.work.factorizations)
    table = oc.compare(model(), [oc.PolicyIteration()])
    assert table.to_records()[0]["backups"] > 0
    assert "backups" in str(table)

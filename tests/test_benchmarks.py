"""The benchmarks: their models are what they say, the clock gives up in time, and the judge is not deceived."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest

import occlp as oc
from benchmarks import entrants, measure, run, trial, workloads
from benchmarks.cases import CASES, SERIES, Case
from benchmarks.entrants import BASE, Entrant
from benchmarks.measure import Rules
from benchmarks.peers import Answered
from benchmarks.records import Records


@pytest.fixture
def case():
    return next(one for one in CASES if one.name == "garnet-1e3")


class TestWorkloads:
    @pytest.mark.parametrize("n", [2, 7, 40])
    def test_the_queue_is_the_instance(self, n):
        ours, named = workloads.queue(n, 0.99), oc.instances.get("queue-admission", capacity=n, discount=0.99)
        assert abs(ours.transitions - named.transitions).max() <= 1e-16
        np.testing.assert_allclose(ours.pair_rewards, named.pair_rewards, atol=1e-15)
        for name in ("queue", "rejected"):
            np.testing.assert_array_equal(ours.pair_costs[name], named.pair_costs[name])
        np.testing.assert_array_equal(ours.initial, named.initial)

    @pytest.mark.parametrize("n", [2, 7, 40])
    def test_the_forest_is_the_instance(self, n):
        ours, named = workloads.forest(n, 0.9), oc.instances.get("forest", n_states=n, discount=0.9)
        assert abs(ours.transitions - named.transitions).max() <= 1e-16
        np.testing.assert_array_equal(ours.pair_rewards, named.pair_rewards)

    def test_the_inventory_by_hand(self):
        """Stock 3, a lot of 5: level 8; E[sold] = E[min(8, D)] with D binomial(9, 1/2)."""
        mdp = workloads.inventory(20)
        pair = next(k for k in range(mdp.n_pairs) if mdp.pairs.states[k] == 3 and mdp.pairs.actions[k] == 1)
        assert mdp.transitions[pair].toarray().ravel()[8] == 1 / 512  # no demand
        assert mdp.transitions[pair].toarray().ravel()[0] == 10 / 512  # a demand of 8 or 9
        sold = 4.5 - 1 / 512
        assert mdp.pair_rewards[pair] == pytest.approx(8 * sold - 4 - 2 * 5 - 4 * 8 / 20)
        assert mdp.n_pairs == 21 * 5 - (5 + 10 + 15 + 20)

    def test_limits_bind_and_can_be_kept(self):
        problem = workloads.limited(workloads.garnet(30, n_costs=3), ["cost0", "cost1", "cost2"])
        result = oc.solve(problem)
        assert result.status is oc.Status.CERTIFIED
        assert max(result.multipliers.values()) > 0


def test_cases_are_named_once_and_described():
    names = [one.name for one in CASES]
    assert len(set(names)) == len(names)
    assert {one.series for one in CASES} == set(SERIES)
    assert {one.kind for one in CASES} == {"plain", "limits", "kl"}


class TestMeasuring:
    def test_a_record(self, case, tmp_path):
        found = measure.measure(case, Rules(repeat=2, peers=["scipy highs-ds"]), small=True)
        assert [row["entrant"] for row in found["rows"]] == ["occlp", "scipy highs-ds"]
        assert all(row["certified"] and row["runs"] >= 2 and row["ratio"] > 0 for row in found["rows"])
        assert found["rows"][0]["ratio"] == 1
        records = Records(tmp_path / "results.jsonl")
        records.add(found)
        assert Records(records.path).row(case.name, "occlp", small=True) == found["rows"][0]
        assert Records(records.path).get("case", case.name) is None  # the full size was not measured

    def test_a_later_record_replaces_an_earlier_one(self, tmp_path):
        records = Records(tmp_path / "results.jsonl")
        for value in (1.0, math.nan):
            records.add({"kind": "bandwidth", "rate": value})
        assert math.isnan(Records(records.path).get("bandwidth")["rate"])
        records.tidy()
        assert records.path.read_text() == '{"kind": "bandwidth", "rate": null}\n'

    def test_a_wrong_policy_is_not_certified(self, case, monkeypatch):
        def lazy(problem, accuracy):
            return lambda: Answered(oc.Policy.uniform(problem.mdp).pair_probabilities)

        others = (BASE, Entrant("lazy", "occlp", {"plain": lazy}))
        monkeypatch.setattr(entrants, "ENTRANTS", others)
        rows = measure.measure(case, Rules(repeat=1), small=True, isolate=False)["rows"]
        assert [row["certified"] for row in rows] == [True, False]
        problem = case.small()
        lost = oc.solve(problem).certificate.upper - oc.evaluate(problem, oc.Policy.uniform(problem.mdp)).objective
        assert rows[1]["gap"] == pytest.approx(lost)

    def test_a_broken_limit_is_seen(self):
        limited = workloads.limited(workloads.garnet(30, n_costs=1), ["cost0"])
        free = oc.solve(limited.mdp)
        bound = vars(oc.solve(limited).certificate)
        _, violation = measure._distance(limited, bound, free.policy.pair_probabilities)
        limit = limited.limits["cost0"].bound
        assert violation == pytest.approx((free.expected["cost0"] - limit) / np.ptp(limited.mdp.pair_costs["cost0"]))
        assert violation > 1e-3

    def test_what_is_slow_is_not_tried_at_larger_sizes(self, case):
        small, large = (SimpleNamespace(**vars(one)) for one in CASES[:2])
        row = {"late": False, "seconds": 3.0, "entrant": "slow"}
        late = {"late": True, "seconds": math.nan, "entrant": "late"}
        quick = {"late": False, "seconds": 0.5, "entrant": "quick"}
        known = {small.name: {"nnz": 100, "rows": [row, late, quick]}}
        records = SimpleNamespace(get=lambda kind, name, small: known.get(name))
        assert run.slower(large, records, small=False) == {"slow": 0.03, "late": small.limit / 100}
        assert run.slower(small, records, small=False) == {}


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of forks beside threads, from 3.12 on
@pytest.mark.skipif(not trial.can_fork(), reason="trials are forks")
class TestTrials:
    def attempt(self, answer, limit=20.0, prepare=lambda: None):
        def form(problem, accuracy):
            if problem.mdp.n_states == 3:  # the small question, which warms up
                return lambda: Answered(None)
            prepare()
            return answer

        problem = oc.Problem(oc.instances.get("forest", n_states=4))
        warm = oc.Problem(oc.instances.get("forest", n_states=3))
        return trial.attempt(Entrant("one", "occlp", {"plain": form}), "plain", problem, warm, 1e-8, limit)

    def test_memory_and_time(self):
        def answer():
            time.sleep(0.05)
            return Answered(np.ones(50_000_000 // 8), {"word": 1})

        found = self.attempt(answer)
        assert found.failure == ""
        assert found.seconds >= 0.05
        assert 45e6 < found.extra < 90e6
        assert found.notes == {"word": 1}

    def test_what_takes_too_long_is_given_up(self):
        found = self.attempt(lambda: time.sleep(60), limit=0.2)
        assert found.late
        assert "0.2 s" in found.failure

    def test_an_error_is_a_result(self):
        def answer():
            raise RuntimeError("no\nluck")

        assert self.attempt(answer).failure == "RuntimeError: no"

    def test_a_crash_is_a_result(self):
        import os

        assert "code 3" in self.attempt(lambda: os._exit(3)).failure

    def test_memory_is_limited(self):
        assert "GB of memory" in self.attempt(lambda: Answered(np.ones(trial.MEMORY // 8))).failure


def test_entrants_are_chosen_by_kind_and_pattern():
    assert [one.name for one in entrants.chosen("kl", ["none"])] == ["occlp"]
    assert "cvxpy CLARABEL" in [one.name for one in entrants.chosen("kl")]
    assert "scipy highs-ds" not in [one.name for one in entrants.chosen("kl")]


def test_a_case_has_two_sizes(case):
    assert isinstance(case, Case)
    assert case.build(small=True).mdp.n_states < 200

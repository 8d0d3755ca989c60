"""The benchmarks: their models are what they say, the clock gives up in time, and the judge is not deceived."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest

import occlp as oc
from benchmarks import (
    bandwidth,
    entrants,
    goals,
    gradient_cost,
    kernel_profile,
    measure,
    page,
    plan,
    plots,
    run,
    trial,
    workloads,
)
from benchmarks.cases import CASES, SERIES
from benchmarks.entrants import BASE, Entrant
from benchmarks.measure import Rules
from benchmarks.peers import Answered
from benchmarks.records import FILE, Records


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


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_small_questions_are_of_their_kind(one):
    problem = one.build(small=True)
    assert problem.mdp.n_states < 250
    assert (problem.regularizer is not None) == (one.kind == "kl")
    assert bool(problem.limits) == (one.kind == "limits")


class TestMeasuring:
    def test_a_record(self, case, tmp_path):
        found = measure.measure(case, Rules(repeat=2, peers=["scipy highs-ds"]), small=True)
        assert [row["entrant"] for row in found["rows"]] == ["occlp", "scipy highs-ds"]
        assert all(row["certified"] and row["runs"] >= 2 and row["ratio"] > 0 for row in found["rows"])
        assert found["rows"][0]["ratio"] == 1
        records = Records(tmp_path / "results.jsonl")
        records.add(found)
        kept = Records(records.path).row(case.name, "occlp", small=True)
        assert math.isnan(kept.pop("gave"))
        assert math.isnan(found["rows"][0].pop("gave"))
        assert kept == found["rows"][0]
        assert Records(records.path).get("case", case.name) is None  # the full size was not measured

    def test_a_later_record_replaces_an_earlier_one(self, tmp_path):
        records = Records(tmp_path / "results.jsonl")
        for value in (1.0, math.nan):
            records.add({"kind": "bandwidth", "rate": value})
        assert math.isnan(Records(records.path).get("bandwidth")["rate"])
        records.tidy()
        assert records.path.read_text() == '{"kind": "bandwidth", "rate": null}\n'
        records.forget()
        assert Records(records.path).get("bandwidth") is None

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
        late = {"late": True, "gave": 30.0, "entrant": "late"}
        quick = {"late": False, "seconds": 0.5, "entrant": "quick"}
        known = {small.name: {"nnz": 100, "rows": [row, late, quick]}}
        records = SimpleNamespace(get=lambda kind, name, small: known.get(name))
        assert plan.slower(large, records, small=False) == {"slow": 0.03, "late": 0.3}
        assert plan.slower(small, records, small=False) == {}


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


@pytest.fixture
def known():
    """Measurements as a run might take them: two entrants on three questions, a machine, and a first use."""
    records = Records(None)
    records.add({"kind": "machine", "facts": {"date": "2026-01-02", "processors": "2", "scipy": "1"}, "load": 0.2,
                 "repeat": 5, "once": 10.0})  # fmt: skip
    records.add({"kind": "bandwidth", "threads": 2, "one": 8e9, "all": 1e10})
    records.add({"kind": "first use", "import": [0.05, 0.1], "others": [0.5, 0.6], "solve": [1.1, 1.2],
                 "compile": 20.0, "kernels": 60})  # fmt: skip
    kernels = [{"model": f"garnet-{n}", "kernel": "backup of all pairs", "states": n // 50, "nnz": n, "seconds": n**1.2,
                "bytes": 16 * n, "reads": n} for n in (1000, 100_000)]  # fmt: skip
    records.add({"kind": "kernels", "rows": kernels})
    for name, theirs in (("garnet-1e3", 0.5), ("garnet-1e4", 4.0), ("bumpy-1000-.999", math.nan)):
        rows = [vars(measured("occlp", 1.0, ratio=1.0)), vars(measured("quantecon mpi", theirs, ratio=theirs))]
        if name == "bumpy-1000-.999":
            rows[1] |= {"late": True, "gave": 20.0, "why": "no answer within 20 s"}
        size = {"states": 10_000, "pairs": 40_000, "nnz": 120_000}
        records.add({"kind": "case", "case": name, **size, "rows": [row | {"certified": True} for row in rows]})
    return records


def measured(entrant, seconds, **figures):
    notes = {"method": "PolicyIteration()", "iterations": 3, "backups": 1234.5, "factorizations": 2, "gap": 1e-12}
    found = {"seconds": seconds, "processor": seconds, "runs": 5, "peak": 1e9, "extra": 1e6, "gap": 1e-12}
    return measure.Measurement(entrant, notes=notes, **found | {"allowed": 1e-8, "violation": 0.0} | figures)


class TestGoals:
    def verdict(self, records, words):
        return next(goal.verdict(records) for goal in goals.GOALS if words in goal.words)

    def test_who_is_ahead_anywhere_fails_the_goal(self, known):
        found = self.verdict(known, "never slower than anybody")
        assert found.met is False
        assert found.words.startswith("1 of 2 ")
        assert "quantecon mpi on garnet-1e3, 0.5 ×" in found.words

    @pytest.mark.parametrize(("times", "met"), [(5.0, True), (4.9, False)])
    def test_a_factor(self, known, times, met):
        rows = [vars(measured("occlp", 1.0)), vars(measured("quantecon mpi", times, ratio=times))]
        known.add({"kind": "case", "case": "bumpy-200-.999", "rows": [row | {"certified": True} for row in rows]})
        assert self.verdict(known, "bumpy-200-.999: at least 5 ×").met is met

    def test_an_answer_that_is_not_certified_meets_no_goal(self, known):
        rows = [vars(measured("occlp", 1.0)), vars(measured("quantecon mpi", 9.0, ratio=9.0))]
        known.add({"kind": "case", "case": "bumpy-200-.999", "rows": [row | {"certified": False} for row in rows]})
        assert self.verdict(known, "bumpy-200-.999: at least 5 ×").met is False

    @pytest.mark.parametrize(("gave", "met"), [(6.0, True), (4.0, None)])
    def test_an_entrant_that_was_given_up_bounds_the_factor(self, known, gave, met):
        other = {"late": True, "gave": gave, "why": "late"}
        rows = [vars(measured("occlp", 1.0)), vars(measured("quantecon mpi", math.nan)) | other]
        known.add({"kind": "case", "case": "bumpy-200-.999", "rows": [row | {"certified": True} for row in rows]})
        found = self.verdict(known, "bumpy-200-.999: at least 5 ×")
        assert found.met is met
        assert "more than" in found.words

    def test_backups_are_counted_at_the_bandwidth(self, known):
        one = (12 * 120_000 + 8 * (2 * 40_000 + 3 * 10_000)) / 1e10
        assert goals.backups(known, "bumpy-1000-.999") == pytest.approx(1 / one)
        assert self.verdict(known, "within 2,000 full backups").met is False

    def test_growth_is_a_slope(self, known):
        record = known.get("kernels")
        dear = [row | {"kernel": "backup in place", "seconds": 9 * row["nnz"] ** 1.1} for row in record["rows"]]
        known.add(record | {"rows": [*record["rows"], *dear]})
        # Each kernel is compared with itself.
        assert goals.growth(known) == {"garnet": pytest.approx(1.2), "garnet in place": pytest.approx(1.1)}
        assert self.verdict(known, "grows no faster").met is False

    def test_first_use(self, known):
        assert self.verdict(known, "import occlp").met is True
        assert self.verdict(known, "The first solve").met is False

    def test_nothing_known_is_not_measured(self):
        assert {goal.verdict(Records(None)).met for goal in goals.GOALS} == {None}

    def test_goals_are_about_questions_that_there_are(self):
        names = {one.name for one in CASES}
        assert all(set(goal.cases) <= names for goal in goals.GOALS)
        assert all(set(goal.entrants) <= {one.name for one in entrants.ENTRANTS} for goal in goals.GOALS)


class TestThePage:
    def test_tables(self, known):
        text = page.page(known)
        assert "| **occlp** | 1 s | 1 s |" in text
        assert "| quantecon mpi | 0.5 s (0.5) | 4 s (4) |" in text
        assert "| quantecon mpi | > 20 s |" in text
        assert "* garnet-1e3: quantecon mpi takes 0.50 of our time." in text
        assert "The triad of STREAM moves 8.0 GB/s on one thread" in text
        assert "Not installed, and so left out: quantecon, mdpsolver." in text
        assert "shared" not in text

    def test_a_loaded_machine_is_told(self, known):
        known.add(known.get("machine") | {"load": 3.0})
        assert "its load was 3.0" in page.page(known)

    def test_figures_that_are_not_certified_are_marked(self, known):
        row = vars(measured("cvxpy CLARABEL", 2.0, ratio=2.0, gap=1.0, runs=1)) | {"certified": False}
        assert page.cell(row) == "2 s\\* † (2)"

    def test_pictures(self, known, tmp_path):
        [path] = plots.save(known, tmp_path)
        assert path.name == "benchmarks-plain.png"
        assert 1000 < path.stat().st_size < 200_000
        assert "images/benchmarks-plain.png" in page.page(known)
        assert plots.save(Records(None), tmp_path) == []

    def test_what_is_missing_is_said(self, known):
        known.add({"kind": "case", "case": "garnet-1e5", "complete": True, "failure": "given up after 9 s", "rows": []})
        known.add(known.get("case", "garnet-1e4") | {"complete": False})
        text = page.page(known)
        assert "* garnet-1e5: given up after 9 s." in text
        assert "some entrants are missing when the time of the run was up: garnet-1e4." in text
        unbegun = next(line for line in text.splitlines() if line.startswith("* Not begun"))
        assert "garnet-1e6, bumpy-50-.99," in unbegun
        assert "| | garnet-1e3 | garnet-1e4 |" in text

    def test_where_ours_has_no_answer_is_said(self, known):
        known.row("bumpy-1000-.999", "occlp")["why"] = "NotCertified: the gap is 1."
        assert "* bumpy-1000-.999: ours has none: NotCertified: the gap is 1.\n" in page.page(known)

    def test_the_page_of_the_documentation_is_what_the_measurements_say(self):
        docs = FILE.parent / "benchmarks.md"
        assert docs.read_text(encoding="utf-8") == page.page(Records(FILE)), (
            "write it anew: python -m benchmarks.run --write docs/benchmarks.md --render"
        )


class TestThePlan:
    def test_goals_and_one_question_of_each_series_come_first(self):
        names = [one.name for one in plan.ordered(list(CASES))]
        assert sorted(names) == sorted(one.name for one in CASES)
        assert names.index("bumpy-50-.999") < names.index("bumpy-200-.999") < names.index("bumpy-200-.99")
        assert names.index("bumpy-50-limits1") < names.index("bumpy-200-limits1") < names.index("queue-1e5")
        series = {one.name: one.series for one in CASES}
        goals_end = max(names.index(name) for goal in goals.GOALS if len(goal.cases) == 1 for name in goal.cases)
        assert {series[name] for name in names[: goals_end + 1]} == set(SERIES)

    def test_what_may_not_end_comes_after_what_goals_are_about(self):
        names = [one.name for one in plan.ordered(list(CASES))]
        before = names[: names.index(plan.LONGEST[0])]
        assert {name for goal in goals.GOALS if len(goal.cases) == 1 for name in goal.cases} <= {*before, *plan.LONGEST}

    def test_a_question_that_does_not_end_is_ended(self, monkeypatch):
        monkeypatch.setattr(plan, "GRACE", 0.01)
        record = plan.apart(CASES[0], Rules(deadline=0.0), small=True)
        assert (record["rows"], record["complete"]) == ([], True)
        assert record["failure"] == "the question was given up after 0 s"

    def test_who_is_slow_by_nature_takes_part_once(self, case):
        first = plan.rules(case, Records(None), Rules(), small=False)
        later = plan.rules(CASES[1], Records(None), Rules(), small=False)
        assert first.peers is None
        assert "quantecon mpi" in later.peers
        assert "cvxpy SCS" not in later.peers
        assert plan.rules(CASES[1], Records(None), Rules(peers=["x"]), small=False).peers == ["x"]

    def test_who_is_named_by_a_goal_has_until_it_is_decided(self):
        slow = next(one for one in CASES if one.name == "bumpy-200-limits1")
        rules = plan.rules(slow, Records(None), Rules(), small=False)
        assert rules.patient == {"cvxpy CLARABEL": 20}
        limits = [measure._limit("cvxpy CLARABEL", slow, rules, ours) for ours in (0.1, 2.0, 1e3, math.nan)]
        assert limits == [30.0, 50.0, 30.0, 30.0]  # what would take too long to decide is not waited for
        assert measure._limit("scipy highs-ipm", slow, rules, 2.0) == rules.limit


def test_a_run_goes_on_where_it_was(tmp_path, capsys, monkeypatch):
    taken = []

    def apart(case, rules, *, small):
        taken.append(case.name)
        return {"kind": "case", "case": case.name, "small": small, "complete": case.name != "forest-1e4", "rows": []}

    monkeypatch.setattr(plan, "apart", apart)
    words = ["--only", "garnet-1e[34]", "--sizes", "small", "--results", str(tmp_path / "known.jsonl")]
    assert run.main([*words, "--only", "forest-1e4"]) == 0
    assert run.main([*words, "--only", "queue-1e4"]) == 0
    assert taken == ["garnet-1e3", "forest-1e4", "garnet-1e4", "queue-1e4"]
    assert run.main([*words, "--only", "forest-1e4"]) == 0  # the deadline came first there, so it is measured again
    assert taken[4:] == ["forest-1e4"]


def test_kernels_can_be_called_as_the_profile_calls_them(monkeypatch):
    monkeypatch.setattr(kernel_profile, "SECONDS", 0.0)
    rows = kernel_profile.record(small=True)["rows"]
    assert all(row["seconds"] >= 0 and row["bytes"] >= 12 * row["reads"] > 0 for row in rows)
    assert len({row["kernel"] for row in rows}) == len(rows) / len(kernel_profile.SMALL)


def test_the_triad_has_a_bandwidth():
    found = bandwidth.record(size=10_000)
    assert min(found["one"], found["all"]) > 1e6


def test_entrants_are_chosen_by_kind_and_pattern():
    assert [one.name for one in entrants.chosen("kl", ["none"])] == ["occlp"]
    assert "cvxpy CLARABEL" in [one.name for one in entrants.chosen("kl")]
    assert "scipy highs-ds" not in [one.name for one in entrants.chosen("kl")]


def test_the_cost_of_a_gradient_is_measured(capsys):
    assert gradient_cost.main(["--case", "grid 50 × 50", "--repeat", "1"]) == 0
    assert "sparse LU" in capsys.readouterr().out


def test_an_evaluation_is_right_in_both_ways():
    mdp = oc.instances.get("bumpy-gridworld", n=8)
    policy = oc.Policy.uniform(mdp)
    truth = oc.evaluate(mdp, policy).state_values
    for direct in (True, False):
        found = gradient_cost.evaluation(mdp, policy.pair_probabilities, direct=direct)
        np.testing.assert_allclose(found, truth, atol=1e-8)

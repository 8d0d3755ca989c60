"""The audit is lied to: a share of the 10,000 lies of ``python -m benchmarks.lies``, and whether their judge sees."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest

import occlp as oc
from benchmarks import lies
from benchmarks.lie_questions import QUESTIONS, answers
from benchmarks.lie_truth import Truth

SOLVED = [name for name in QUESTIONS if not name.startswith(("infeasible", "a goal", "unbounded", "losing"))]


@pytest.mark.parametrize("name", QUESTIONS)
def test_honest_answers_pass_and_are_true(name):
    for result in answers(name):
        assert oc.verify(QUESTIONS[name], result)
        assert Truth(QUESTIONS[name]).denies(result) is None


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_no_lie_gets_a_false_bound_past_the_audit(name, count):
    rng, score = np.random.default_rng(zlib.crc32(name.encode()) + count), lies.Score()
    with np.errstate(all="ignore"):
        for _ in range(count):
            score.hear(name, lies.tell(rng, name))
    assert not score.false, score.false
    assert score.told == count
    assert score.refused >= count // 2


@pytest.mark.parametrize("name", SOLVED)
def test_the_judge_comes_within_rounding_of_the_optimum(name):
    """Its witnesses are as good as the best policy, so a bound below them is seen."""
    truth, certificate = Truth(QUESTIONS[name]), answers(name)[0].certificate
    low, high = sorted((truth.sign * certificate.lower, truth.sign * certificate.upper))
    curved = truth.setting is not None or truth.problem.concave_limits
    slack = (1e-8 if curved else 1e-12) * truth.size
    assert low - slack <= truth.optimum <= high + slack


@pytest.mark.parametrize("name", SOLVED)
def test_the_judge_denies_what_is_false(name):
    """Either bound moved by a millionth past the optimum, and a gap of nothing for a policy that is not optimal."""
    problem, honest = QUESTIONS[name], answers(name)[0]
    truth, far = Truth(problem), 1e-6 * Truth(problem).size
    low, high = honest.certificate.lower, honest.certificate.upper
    sides = ["bound on the policy", "bound on every policy"][:: 1 if problem.sense == "maximize" else -1]
    for claims, words in (
        ({"lower": high + far, "upper": high + 2 * far}, sides[0]),
        ({"lower": low - 2 * far, "upper": low - far}, sides[1]),
        ({"unending": True}, "proof that there is no bound"),
        ({"infeasible_by": 1.0}, "proof that limits cannot be kept"),
    ):
        assert truth.denies(replace(honest, certificate=replace(honest.certificate, **claims))) == words


@pytest.mark.parametrize("name", ["infeasible", "infeasible total"])
def test_the_judge_knows_how_much_is_missing(name):
    honest = answers(name)[0]
    short = honest.certificate.infeasible_by
    for claim, words in ((short, None), (short / 2, None), (short * 1.001 + 1e-5, "amount of the violation")):
        told = replace(honest, certificate=replace(honest.certificate, infeasible_by=claim))
        assert Truth(QUESTIONS[name]).denies(told) == words


def test_the_judge_denies_gaps():
    poor = answers("rewards")[-1]
    assert poor.gap > 0.1
    told = replace(poor, certificate=replace(poor.certificate, gap=poor.gap / 2))
    assert Truth(QUESTIONS["rewards"]).denies(told) == "gap"


def test_a_goal_that_is_missed_and_a_circle_that_loses():
    for name in ("a goal out of reach", "losing for ever"):
        assert Truth(QUESTIONS[name]).optimum == -np.inf
    assert Truth(QUESTIONS["unbounded"]).optimum == np.inf
    told = replace(answers("total")[0].certificate, lower=-np.inf, upper=-np.inf)
    assert Truth(QUESTIONS["total"]).denies(replace(answers("total")[0], certificate=told)) == "bound on every policy"


def test_every_kind_of_change_is_made():
    rng, made = np.random.default_rng(0), set()
    with np.errstate(all="ignore"):
        for name in [*QUESTIONS] * 3:
            lie = lies.tell(rng, name)
            made |= set(lie.words)
            assert 1 <= len(lie.words) <= 3
    assert made == {change.__name__ for change in lies.CHANGES}


def test_the_score_counts_what_passes(monkeypatch):
    """An audit that believes everything is found out."""
    monkeypatch.setattr(oc, "verify", lambda problem, told: True)
    score = lies.score(66, 1)
    assert score.told == 66
    assert len(score.false) > 20
    assert str(score).endswith(f"{len(score.false)} accepted with a false bound")

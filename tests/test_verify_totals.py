"""The audit of totals: each of its refusals, with a claim that only it gives away."""

from __future__ import annotations

import dataclasses
import sys
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

import occlp as oc
from benchmarks.lie_questions import CIRCLE, LOSING, PIT, WALK
from occlp.errors import AuditFailed
from occlp.verify import check_certificate

TOLL = oc.expected_total("toll") >= 1
#: A circle that pays, beside the way to the goal; and one that pays in a trap.
TEMPTING = oc.MDP.from_arrays([[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 0]] * 3, [[0, 0, 1]] * 3],
                              [[1, 0, 0], [0, 0, 0], [1, 1, 1]], initial=0)  # fmt: skip
#: Rest, or a circle that loses; paid at the gate.
RESTING = oc.MDP.from_arrays([[[0, 1, 0], [0, 0, 1]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2], [[1, 0], [0, 0], [-1, -1]],
                             initial=0, costs={"toll": [[1, 0], [0, 0], [0, 0]]})  # fmt: skip
QUESTIONS = {
    "goal": oc.Problem(WALK, criterion="total", goal=3),
    "limit": oc.Problem(WALK, criterion="total", goal=3, constraints=[TOLL]),
    "free": oc.Problem(WALK, criterion="total"),
    "pit": oc.Problem(PIT, criterion="total", goal=3),
    "out of reach": oc.Problem(CIRCLE.replace(initial=1), criterion="total", goal=0),
    "losing": oc.Problem(LOSING, criterion="total"),
    "tempting": oc.Problem(TEMPTING, criterion="total", goal=1),
    "resting": oc.Problem(RESTING, criterion="total", constraints=[oc.expected_total("toll") <= 1]),
}


@cache
def answer(kind):
    return oc.solve(QUESTIONS[kind], check=False)


def refused(kind, words, policy=None, **claims):
    result = answer(kind)
    certificate = dataclasses.replace(result.certificate, **claims)
    with pytest.raises(AuditFailed, match=words):
        check_certificate(QUESTIONS[kind], policy or result.policy, certificate)


def moved(array, amount, state):
    array = np.array(array, dtype=float)
    array[state] += amount
    return array


@pytest.mark.parametrize("kind", QUESTIONS)
def test_honest_answers_pass(kind):
    assert oc.verify(QUESTIONS[kind], answer(kind))


@pytest.mark.parametrize("name", ["values", "policy_values"])
def test_values_are_one_number_a_state(name):
    values = getattr(answer("goal").certificate, name)
    for bad in (values[:-1], moved(values, np.nan, 0)):
        refused("goal", "one number a state", **{name: bad})


def test_infinite_values():
    certificate = answer("goal").certificate
    refused("goal", "not excluded", values=moved(certificate.values, np.inf, 0))
    refused("goal", "does not attain", policy_values=moved(certificate.policy_values, -np.inf, 0))
    inner = 1 if answer("goal").visited[1] else 2
    refused("goal", "infinite where it goes", policy_values=moved(certificate.policy_values, -np.inf, inner))


def test_values_are_too_low():
    values = answer("goal").certificate.values
    refused("goal", "V bounds nothing", values=moved(values, -0.1, 1))
    refused("goal", "not 0 at the goal", values=moved(values, -0.1, 3))
    refused("free", "stay for ever, at no loss", values=moved(answer("free").certificate.values, -0.1, 3))


def test_values_where_the_policy_has_ended():
    for kind in ("goal", "free"):
        own = answer(kind).certificate.policy_values
        refused(kind, "not those of the end", policy_values=moved(own, 0.1, 3))


def test_a_policy_that_does_not_end():
    still = oc.Policy.from_table(PIT, [[0, 1], [1, 0], [1, 0], [1, 0]])
    refused("pit", "does not end almost surely", policy=still)
    refused("resting", "does not end almost surely", policy=oc.Policy.from_table(RESTING, [[0, 1], [1, 0], [1, 0]]))


def test_nothing_that_ends_is_worth_minus_infinity():
    values = answer("resting").certificate.values
    assert values[2] == -np.inf
    refused("resting", "−∞ where some policy ends well", values=moved(values, -np.inf, 1))
    refused("limit", "−∞ where some policy ends well", values=moved(answer("limit").certificate.values, -np.inf, 1))


@pytest.mark.parametrize("kind", ["out of reach", "losing"])
def test_gaps_that_make_no_sense(kind):
    assert answer(kind).certificate.lower == answer(kind).certificate.upper
    for gap in (-1.0, np.nan):
        refused(kind, "makes no sense", gap=gap)


@pytest.mark.parametrize(("prices", "words"), [
    ({}, "not those of the problem"), ({"toll": 1.0, "other": 0.0}, "not those of the problem"),
    ({"toll": -1.0}, "must not be negative"), ({"toll": np.nan}, "must not be negative"),
    ({"toll": np.inf}, "must not be negative"),
])  # fmt: skip
def test_prices(prices, words):
    refused("limit", words, multipliers=prices)


def test_only_prices_prove_that_nothing_is_feasible():
    refused("goal", "from prices of constraints", infeasible_by=1.0)
    refused("resting", "from prices of constraints", infeasible_by=1.0)


def test_what_earns_for_ever_has_the_goal_within_reach():
    """Circling beside the goal earns without end; in the trap it does too, but never comes to the goal."""
    result = answer("tempting")
    assert result.status is oc.Status.UNBOUNDED
    refused("tempting", "nothing is unbounded", policy=oc.Policy.from_table(TEMPTING, [[0, 0, 1]] + [[1, 0, 0]] * 2))
    refused("tempting", "nothing is unbounded", policy=oc.Policy.from_table(TEMPTING, [[0, 1, 0]] + [[1, 0, 0]] * 2))


def test_a_circle_that_earns_beside_one_that_does_not():
    mdp = oc.MDP.from_arrays([[[0, 0.5, 0.5]], [[0, 1, 0]], [[0, 0, 1]]], [0, 0, 1], initial=0)
    problem = oc.Problem(mdp, criterion="total")
    result = oc.solve(problem, check=False)
    assert result.status is oc.Status.UNBOUNDED
    assert oc.verify(problem, result)


def test_losses_that_the_program_finds_no_values_for(monkeypatch):
    """Then it is not shown that every circle loses, and the claim is refused rather than believed."""
    monkeypatch.setattr(sys.modules["occlp.verify.total"], "linprog", lambda *_, **__: SimpleNamespace(x=None))
    refused("losing", "may earn for ever")


def test_figures_beside_a_certificate():
    problem, result = QUESTIONS["goal"], answer("goal")
    totals = dict(result.expected_total)
    for changes, words in (
        ({"pair_occupancy": moved(result.pair_occupancy, np.nan, 0)}, "not one number a pair"),
        ({"pair_occupancy": -result.pair_occupancy}, "not one number a pair"),
        ({"pair_occupancy": result.pair_occupancy[1:]}, "not one number a pair"),
        ({"visited": ~result.visited}, "visited states"),
        ({"pair_occupancy": moved(result.pair_occupancy, 1.0, 6)}, "zero in the goal"),
        ({"pair_occupancy": moved(result.pair_occupancy, np.inf, 0)}, "infinite where the process stays"),
        ({"totals": {"reward": totals["reward"]}}, "lacks 'toll'"),
    ):
        with pytest.raises(AuditFailed, match=words):
            oc.verify(problem, dataclasses.replace(result, **changes))

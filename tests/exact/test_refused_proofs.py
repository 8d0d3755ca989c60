"""Proofs in fractions of every kind, with one part of each told otherwise: the audit names it."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from test_verify_boundaries import DRIFT
from test_verify_totals import TEMPTING

import occlp as oc
from benchmarks.lie_questions import CIRCLE, MACHINE, PIT, WALK
from occlp.verify import check_certificate
from occlp.verify.fractions import check_proof

pytest.importorskip("flint")

#: The first state leads to either of two for good; the second of them costs a toll.
FORK = oc.MDP.from_arrays(
    [[[0, 1, 0], [0, 0, 1]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2], [[0, 0], [1, 1], [2, 2]], initial=0,
    costs={"toll": [[0, 0], [0, 0], [1, 1]]},
)  # fmt: skip
QUESTIONS = {
    "plain": oc.Problem(MACHINE),
    "gains": oc.Problem(DRIFT, criterion="average"),
    "fork": oc.Problem(FORK, criterion="average", constraints=[oc.expected("toll") <= 2]),
    "infeasible": oc.Problem(MACHINE, constraints=[oc.expected("wear") <= -1]),
    "pit": oc.Problem(PIT, criterion="total", goal=3),
    "free": oc.Problem(WALK, criterion="total"),
    "reaching": oc.Problem(WALK, criterion="total", goal=1, objective="reach",
                           constraints=[oc.expected_total("toll") <= 1]),
    "circle": oc.Problem(CIRCLE, criterion="total"),
    "tempting": oc.Problem(TEMPTING, criterion="total", goal=1),
    "trapped": oc.Problem(TEMPTING.replace(initial=2), criterion="total", goal=1),
}  # fmt: skip


@cache
def answer(kind):
    return oc.solve(QUESTIONS[kind], certify="exact", check=False)


def refused(kind, words, *, policy=None, claims=None, **changes):
    """The certificate of an answer, with its proof and claims changed, is refused in these words."""
    result = answer(kind)
    proof = replace(result.certificate.proof or oc.ExactProof(None, ()), **changes)
    told = replace(result.certificate, level="exact", proof=proof, **(claims or {}))
    with pytest.raises(oc.AuditFailed, match=words):
        check_certificate(QUESTIONS[kind], policy or result.policy, told)


def choosing(kind, actions):
    return oc.Policy.deterministic(QUESTIONS[kind].mdp, actions)


@pytest.mark.parametrize("kind", [kind for kind in QUESTIONS if kind not in ("trapped", "fork")])
def test_honest_proofs_pass(kind):
    assert answer(kind).certificate.exact, answer(kind).message
    assert oc.verify(QUESTIONS[kind], answer(kind))


def test_values_and_gains_belong_to_the_question():
    none = (None,) * 3
    refused("plain", "gains prove something of averages only", gains=(Fraction(0),) * 3)
    refused("plain", "lacks values, which only totals may", values=none)
    refused("plain", "not one fraction a state", values=answer("plain").certificate.proof.values[:2])
    refused("gains", "gains are not one fraction a state", gains=answer("gains").certificate.proof.gains[:2])


def test_doubles_beside_gains():
    values = answer("gains").certificate.values
    refused("gains", "not one number a state", claims={"values": values[:-1]})
    for costs in (np.full(6, np.nan), np.zeros(5)):
        refused("gains", "reduced costs are not one finite number a pair", claims={"reduced_costs": costs})


def test_how_much_is_missing():
    certificate = answer("infeasible").certificate
    for short in (2 * certificate.infeasible_by, -1.0):
        refused("infeasible", "priced violation is at least", claims={"infeasible_by": short})
    refused("infeasible", "multipliers are not those of the proof", claims={"multipliers": {"wear": 7.0}})


def test_an_occupancy_where_the_policy_does_not_end_up():
    """By hand: to stay in the last state earns 2 and nothing earns more; the policy has to go there."""
    problem, result = QUESTIONS["fork"], answer("fork")
    assert "one met has 2" in result.message  # several places to stay have no proof of their own
    proof = oc.ExactProof(Fraction(2), (Fraction(0),) * 3, {"toll": Fraction(0)}, {4: Fraction(1)})
    told = replace(
        result.certificate, level="exact", proof=proof, lower=2.0, upper=2.0, gap=0.0, multipliers={"toll": 0.0}
    )
    check_proof(problem, choosing("fork", [1, 0, 0]), told)
    with pytest.raises(oc.AuditFailed, match="not where the policy ends up"):
        check_proof(problem, choosing("fork", [0, 0, 0]), told)


def test_an_occupancy_that_reaches_less():
    optimum = answer("reaching").certificate.optimum
    assert 0 < optimum <= 1
    proof = answer("reaching").certificate.proof
    less = {pair: mass for pair, mass in proof.occupancy.items() if pair != max(proof.occupancy)}
    refused("reaching", "flow equations|does not earn", occupancy=less)


def test_states_without_a_value():
    values = answer("pit").certificate.proof.values
    assert values[2] is None
    refused("pit", "where some policy reaches the goal", values=(values[0], None, None, values[3]))
    refused(
        "pit",
        "finite where no policy reaches",
        claims={"values": np.where(np.arange(4) == 2, 0.0, answer("pit").certificate.values)},
    )
    free = answer("free").certificate.proof.values
    refused("free", "no goal that must be reached", values=(free[0], None, *free[2:]))
    nothing = (None, Fraction(0), None)
    claims = {"infeasible_by": None, "lower": 0.0, "upper": 0.0}
    refused("trapped", "no value for a state to begin in", optimum=Fraction(0), values=nothing, claims=claims)


def test_circles_that_prove_nothing():
    one, endless = Fraction(1), {"unending": True, "lower": np.inf, "upper": np.inf, "infeasible_by": None}
    assert answer("tempting").certificate.proof.occupancy.keys() == {0}
    refused("tempting", "not one of a total without a bound", values=(Fraction(0),) * 3)
    refused("tempting", "masses that are not positive", occupancy={0: -one})
    refused("tempting", "do not flow in a circle", occupancy={1: one})
    refused("tempting", "outside the goal", occupancy={3: one})
    refused("tempting", "cannot be reached", occupancy={6: one})
    refused("tempting", "does not end up in the proof's circle", policy=choosing("tempting", [1, 0, 0]))
    refused("circle", "earns nothing", occupancy={2: one})
    refused("trapped", "no policy reaches the goal", occupancy={6: one}, claims=endless)


@pytest.mark.parametrize("change", [
    {"gains": {"unit": "1", "tops": [None]}}, {"values": {"unit": "0", "tops": ["1"]}},
    {"values": {"unit": "-3", "tops": ["1"]}}, {"values": {"unit": "1", "tops": [" 1"]}},
    {"values": {"unit": "1", "tops": ["1_0"]}}, {"values": {"unit": 1, "tops": ["1"]}},
])  # fmt: skip
def test_damaged_lists_of_fractions(change):
    plain = json.loads(answer("plain").certificate.to_json())
    plain["proof"] |= change
    with pytest.raises(ValueError, match="incomplete or altered"):
        oc.Certificate.from_json(json.dumps(plain))


def test_a_proof_says_what_it_proves():
    assert "the optimum is 1/2" in str(
        oc.solve(oc.MDP.from_arrays([[[1]]], [["1/2"]], discount=0), certify="exact").certificate
    )

"""Totals in fractions: published optima to the last digit, brute force, and proofs that are damaged."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strategies import sketches
from tables import INFEASIBLE, INFINITE, LOTTERY, written
from test_total import brute_force

import occlp as oc

pytest.importorskip("flint")

#: Questions with a state from which no policy ends well have no fraction; constraints have none in this version.
NO_PROOF = ("S05", "R20", "N05")
ANSWERED = [
    case
    for case in written()
    if case.answer not in (INFINITE, INFEASIBLE, LOTTERY) and not case.limited and case.id not in NO_PROOF
]


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_published_optima_digit_for_digit(case):
    problem = case.build()
    result = oc.solve(problem, certify="exact")
    assert result.certificate.level == "exact"
    assert result.certificate.optimum == case.answer
    assert result.objective == float(case.answer)
    assert oc.verify(problem, result)


def circling(steps, up="1/2"):
    """A walk that begins anew with probability `up` at each of its steps: 2^(steps + 1) − 2 steps for 1/2."""
    states = range(steps + 1)
    return oc.MDP.from_function(
        lambda s, a: [(1, s, 0)] if s == steps else [(Fraction(up), 0, 1), (1 - Fraction(up), s + 1, 1)], 0, states[:1]
    )


def test_where_doubles_prove_nothing():
    mdp = circling(100)
    problem = oc.Problem(mdp, "minimize", "total", goal=100)
    with pytest.raises(oc.NotCertified, match="double precision proves no bound"):
        oc.solve(problem)
    result = oc.solve(problem, certify="exact")
    assert result.certificate.optimum == 2**101 - 2
    assert result.objective == float(2**101 - 2)
    assert oc.verify(problem, result)
    assert oc.Certificate.from_json(result.certificate.to_json()).proof == result.certificate.proof


@st.composite
def questions(draw):
    """Small totals of exact models, with and without a goal."""
    mdp = draw(sketches(max_states=4, max_actions=2, max_costs=0)).mdp(exact=True).replace(discount=None)
    goal = draw(st.sampled_from([None, *mdp.states]))
    objective = "reward" if goal is None else draw(st.sampled_from(["reward", "reach"]))
    return oc.Problem(
        mdp, draw(st.sampled_from(["maximize", "minimize"])), "total", goal=None if goal is None else [goal],
        objective=objective,
    )  # fmt: skip


@given(questions())
@settings(max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
def test_brute_force(problem):
    try:
        result = oc.solve(problem, certify="exact")
    except (oc.Infeasible, oc.Unbounded, oc.NotCertified, oc.Unsupported):
        assume(False)
    assume(result.certificate.level == "exact")
    best, _ = brute_force(problem)
    sign = 1 if problem.sense == "maximize" else -1
    assert sign * result.certificate.optimum == best
    assert oc.verify(problem, result)


def test_gains_and_losses_for_ever():
    """+∞ from one start and −∞ from the other: the total of both is undefined, and no number is made of it."""
    mdp = oc.MDP.from_arrays(np.eye(2)[:, None], [[1.0], [-1.0]])
    with pytest.raises(oc.Unbounded) as caught:
        oc.solve(oc.Problem(mdp, criterion="total"), certify="exact")
    assert not np.isfinite(caught.value.result.objective)


def small():
    """Storm issue 940: circling in state 1 looks as good as going on, and is worth nothing."""
    (case,) = [case for case in written() if case.id == "N02"]
    problem = case.build()
    return problem, oc.solve(problem, certify="exact")


class TestDamagedProofs:
    def forged(self, problem, result, **changes):
        proof = replace(result.certificate.proof, **changes)
        return replace(result, certificate=replace(result.certificate, proof=proof))

    def test_a_policy_that_does_not_go_on(self):
        problem, result = small()
        actions = {**result.policy.actions, 1: "cycle"}
        circle = oc.Policy.deterministic(problem.mdp, [actions[s] for s in problem.mdp.states])
        with pytest.raises(oc.AuditFailed, match="does not end"):
            oc.verify(problem, replace(result, policy=circle))

    @pytest.mark.parametrize("state", range(5))
    @pytest.mark.parametrize("by", [Fraction(1, 10**40), Fraction(-1, 10**40)])
    def test_another_value(self, state, by):
        problem, result = small()
        values = list(result.certificate.proof.values)
        values[state] += by
        with pytest.raises(oc.AuditFailed):
            oc.verify(problem, self.forged(problem, result, values=tuple(values)))

    def test_another_optimum(self):
        problem, result = small()
        with pytest.raises(oc.AuditFailed, match="amount to"):
            oc.verify(problem, self.forged(problem, result, optimum=Fraction(1, 2) + Fraction(1, 10**40)))

    def test_a_fixed_point_that_is_not_the_least(self):
        """Minimising the probability of the goal where it can be avoided: 1 everywhere solves the equations as well."""
        mdp = oc.MDP.from_pairs([0, 0, 1], [0, 1, 0], [[1, 0], [0, 1], [0, 1]], [0, 0, 0], initial=0)
        problem = oc.Problem(mdp, "minimize", "total", goal=1, objective="reach")
        result = oc.solve(problem, certify="exact")
        assert result.certificate.optimum == 0
        one = replace(result.certificate, lower=1.0, upper=1.0, values=np.ones(2))
        going = oc.Policy.deterministic(mdp, [1, 0])
        lie = self.forged(problem, replace(result, certificate=one, policy=going), optimum=Fraction(1), values=(1, 1))
        with pytest.raises(oc.AuditFailed, match="stay for ever"):
            oc.verify(problem, lie)

    def test_a_proof_of_another_kind(self):
        problem, result = small()
        with pytest.raises(oc.AuditFailed, match="constraints"):
            oc.verify(problem, self.forged(problem, result, occupancy={0: Fraction(1)}))


def test_what_has_no_fraction_says_so():
    (case,) = [case for case in written() if case.id == "S05"]
    result = oc.solve(case.build(), certify="exact")
    assert result.certificate.level == "float"
    assert "No exact proof: from some states no policy ends well" in result.message
    (case,) = [case for case in written() if str(case) == "M01 f3"]
    assert "totals with constraints" in oc.solve(case.build(), certify="exact").message
    with pytest.raises(oc.Unsupported, match="totals have 'exact'"):
        oc.solve(case.build(), certify="interval")

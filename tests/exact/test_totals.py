"""Totals in fractions: published optima to the last digit, brute force, and proofs that are damaged."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strategies import sketches
from tables import INFEASIBLE, INFINITE, LOTTERY, written
from test_total import brute_force

import occlp as oc

pytest.importorskip("flint")

ANSWERED = [case for case in written() if case.answer not in (INFINITE, INFEASIBLE, LOTTERY) and not case.limited]


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
        with pytest.raises(oc.AuditFailed, match="where there are constraints"):
            oc.verify(problem, self.forged(problem, result, occupancy={0: Fraction(1)}))
        with pytest.raises(oc.AuditFailed, match="does not belong"):
            oc.verify(problem, self.forged(problem, result, optimum=None, infeasible_by=Fraction(1)))


def test_losses_without_end_have_no_fraction():
    (case,) = [case for case in written() if str(case) == "N03 min"]
    with pytest.raises(oc.Unbounded, match="The level 'exact' was not reached: that no policy ends well"):
        oc.solve(case.build(), certify="exact")


UNENDING = [case for case in written() if case.answer == INFINITE]


@pytest.mark.parametrize("case", UNENDING, ids=str)
def test_totals_without_a_bound(case):
    problem = case.build()
    result = oc.solve(problem, certify="exact", check=False)
    assert result.certificate.level in ("exact", "float")
    assert result.certificate.exact == result.certificate.unending
    assert oc.verify(problem, result)
    if result.certificate.exact:  # a circle that earns is no circle with one of its masses changed, or somewhere else
        proof = result.certificate.proof
        assert proof.optimum is None
        pair, mass = next(iter(proof.occupancy.items()))
        for masses in ({**proof.occupancy, pair: -mass}, {problem.mdp.n_pairs: mass}, {}):
            told = replace(result.certificate, proof=replace(proof, occupancy=masses))
            with pytest.raises(oc.AuditFailed):
                oc.verify(problem, replace(result, certificate=told))


LIMITED = {
    "M01 f3": "1/4", "M03 reward": "11/6", "R05 both": "1", "R06 R1": "3", "R08 R1 max": "3", "R16 R1 max": "3",
    "T10 y=1": "7/8", "T10 y=1 and y=2": "3/8", "T12 one": "9/10", "N05 min": "937/935",
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITED)
def test_limits_digit_for_digit(name):
    (case,) = [case for case in written() if str(case) == name]
    problem = case.build()
    result = oc.solve(problem, certify="exact")
    assert result.certificate.optimum == Fraction(LIMITED[name]) == case.answer
    assert oc.verify(problem, result)


WALK = oc.MDP.from_arrays(
    [[["1/2", "1/2", 0], [0, 0, 1]], [[0, "1/2", "1/2"], ["1/2", 0, "1/2"]], [[0, 0, 1]] * 2],
    [[-1, -4], [-1, "-1/3"], [0, 0]], initial=0, costs={"toll": [[0, 1], [1, 0], [0, 0]]},
)  # fmt: skip


class TestLimitsWithAGoal:
    problem = oc.Problem(WALK, criterion="total", goal=2, constraints={"toll": oc.expected_total("toll") <= 0.5})

    def test_against_lotteries_over_all_policies(self):
        """One limit: the optimum is the best mixture of two deterministic policies, each evaluated by hand."""
        half, points = Fraction(1, 2), []
        for first, second in ((0, 0), (0, 1), (1, 0), (1, 1)):
            if first:  # straight to the goal
                points.append((Fraction(-4), Fraction(1)))
                continue
            # v0 = -1 + (v0 + v1) / 2, so v0 = v1 - 2; v1 = -1 + v1 / 2, or -1/3 + v0 / 2
            v1 = Fraction(-2) if second == 0 else (Fraction(-1, 3) - 1) / half
            c1 = Fraction(2) if second == 0 else Fraction(0)
            points.append((v1 - 2, c1))
        best = max(v for v, c in points if c <= half)
        for (v, c), (w, d) in product(points, points):
            if c <= half < d:
                share = (half - c) / (d - c)
                best = max(best, v + share * (w - v))
        result = oc.solve(self.problem, certify="exact")
        assert result.certificate.optimum == best
        assert oc.verify(self.problem, result)

    @pytest.mark.parametrize("part", ["optimum", "values", "multipliers", "occupancy"])
    def test_no_part_may_change(self, part):
        result, tiny = oc.solve(self.problem, certify="exact"), Fraction(1, 10**40)
        proof = result.certificate.proof
        changes = {
            "optimum": proof.optimum + tiny,
            "values": (proof.values[0] - tiny, *proof.values[1:]),
            "multipliers": {name: price + tiny for name, price in proof.multipliers.items()},
            "occupancy": {pair: mass + tiny for pair, mass in proof.occupancy.items()},
        }
        forged = replace(proof, **{part: changes[part]})
        with pytest.raises(oc.AuditFailed):
            oc.verify(self.problem, replace(result, certificate=replace(result.certificate, proof=forged)))

    def test_a_circle_beside_the_way_is_no_visit(self):
        """Masses that flow in a circle of their own balance; no policy that begins elsewhere attains them."""
        mdp = oc.MDP.from_arrays(
            [[[0, 0, 1], [0, 0, 1]], [[0, 1, 0], [0, 0, 1]], [[0, 0, 1]] * 2], [[0, 0], [1, 0], [0, 0]],
            initial=0, costs={"toll": [[0, 0], [1, 0], [0, 0]]},
        )  # fmt: skip
        problem = oc.Problem(mdp, criterion="total", goal=2, constraints={"toll": oc.expected_total("toll") <= 1})
        result = oc.solve(problem, certify="exact")
        assert result.certificate.upper == 0  # found by leaving out what cannot be reached
        proof = oc.ExactProof(Fraction(1), (Fraction(0),) * 3, {"toll": Fraction(1)}, {0: Fraction(1), 2: Fraction(1)})
        lie = replace(result.certificate, level="exact", proof=proof, lower=1.0, upper=1.0, multipliers={"toll": 1.0})
        policy = oc.Policy.deterministic(mdp, [0, 0, 0])
        with pytest.raises(oc.AuditFailed, match="stays for ever"):
            oc.verify(problem, replace(result, certificate=lie, policy=policy))


def test_a_policy_that_ends_but_earns_less():
    """Every policy of this walk ends; only one attains the optimum, and without a hair's breadth."""
    mdp = oc.MDP.from_arrays([[[0, 1], [0, 1]], [[0, 1], [0, 1]]], [["1", "2"], ["0", "0"]], initial=0)
    for sense, action in (("maximize", 1), ("minimize", 0)):
        problem = oc.Problem(mdp, sense, "total", goal=1)
        result = oc.solve(problem, certify="exact")
        assert result.certificate.optimum == action + 1
        assert oc.verify(problem, result)
        other = oc.Policy.deterministic(mdp, [1 - action, 0])
        mixed = oc.Policy.from_table(mdp, [[1e-12, 1 - 1e-12], [1, 0]])
        for policy in (other, mixed):
            with pytest.raises(oc.AuditFailed, match="does not attain"):
                oc.verify(problem, replace(result, policy=policy))


def test_a_total_without_a_bound_where_nobody_comes():
    """From the last state one could earn 1 for ever before going to the goal; the process begins elsewhere."""
    rows = np.array([[0, 1.0, 0], [0, 1.0, 0], [0, 0, 1.0], [0, 1.0, 0]])
    mdp = oc.MDP.from_pairs([0, 1, 2, 2], [0, 0, 0, 1], rows, [5, 0, 1, 0], initial=0)
    problem = oc.Problem(mdp, criterion="total", goal=[1])
    result = oc.solve(problem, certify="exact")
    assert result.certificate.optimum == 5
    assert oc.verify(problem, result)
    elsewhere = oc.Problem(mdp.replace(initial=[0.5, 0, 0.5]), criterion="total", goal=[1])
    with pytest.raises(oc.Unbounded):
        oc.solve(elsewhere, certify="exact")
    with pytest.raises(oc.AuditFailed):
        oc.verify(elsewhere, result)

"""Every kind of question at every level: what each gives, known answers, and proofs that are damaged."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from golden.test_average import CASES, IDS, build, gains_of
from helpers import encloses
from hypothesis import given, settings
from strategies import sketches

import occlp as oc
from benchmarks.lie_questions import QUESTIONS

pytest.importorskip("flint")

#: What certify="exact" gives where it is not a proof in fractions.
OTHERWISE = dict.fromkeys(
    ["KL", "KL of costs, with a limit",
     "conditional KL", "policy entropy of costs", "occupancy entropy", "state entropy", "total variation", "log sum",
     "worst case", "a concave limit"], "interval",
) | {"a goal out of reach": "float", "losing for ever": "float"}  # fmt: skip


@cache
def answer(kind: str, level: str) -> oc.Result:
    return oc.solve(QUESTIONS[kind], certify=level, check=False)


@pytest.mark.parametrize("kind", QUESTIONS)
def test_the_levels_of_every_kind(kind):
    problem, plain = QUESTIONS[kind], answer(kind, "float")
    for level in ("interval", "exact"):
        result = answer(kind, level)
        found = result.certificate.level
        expected = OTHERWISE.get(kind, level)
        assert found == ("float" if expected == "float" else "exact" if kind == "unbounded" else expected)
        assert result.status is plain.status
        assert oc.verify(problem, result)
        if found != level and kind != "unbounded":
            assert "No exact proof" in result.message or "was not reached" in result.message
        if result.status is oc.Status.CERTIFIED:
            slack = 1e-9 * (1 + abs(plain.objective))
            assert plain.certificate.lower - slack <= result.certificate.lower <= result.certificate.upper
            assert result.certificate.upper <= plain.certificate.upper + slack
            exact = answer(kind, "exact").certificate.optimum
            assert exact is None or encloses(result.certificate, exact)


@pytest.mark.parametrize("kind", QUESTIONS)
def test_proofs_keep_every_digit_in_json(kind):
    certificate = answer(kind, "exact").certificate
    again = oc.Certificate.from_json(certificate.to_json())
    assert again.proof == certificate.proof
    assert again.to_json() == certificate.to_json()


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_published_gains_of_every_state(case):
    problem, gains = build(case), gains_of(case)
    for solver in (None, oc.ExactPolicyIteration()):
        certificate = oc.solve(problem, solver, certify="exact").certificate
        assert certificate.optimum == sum(gains) / len(gains)
        assert list(certificate.proof.gains or [certificate.optimum] * len(gains)) == gains
    enclosed = oc.solve(problem, certify="interval")
    assert enclosed.certificate.level == "interval"
    assert encloses(enclosed.certificate, sum(gains) / len(gains))


@settings(max_examples=25, deadline=None)
@given(sketch=sketches(max_states=4, max_costs=0))
def test_averages_by_brute_force(sketch):
    """Against the long-run averages of all deterministic policies, by Cesàro limits of doubles in high powers."""
    mdp = sketch.mdp(exact=True).replace(discount=None)
    for sense in ("maximize", "minimize"):
        problem = oc.Problem(mdp, sense=sense, criterion="average")
        result = oc.solve(problem, certify="exact")
        assert result.certificate.exact, result.message
        assert oc.verify(problem, result)
        best = max if sense == "maximize" else min
        assert float(result.certificate.optimum) == pytest.approx(best(_averages(mdp)), abs=1e-9)
        assert encloses(oc.solve(problem, certify="interval").certificate, result.certificate.optimum)


def _averages(mdp: oc.MDP) -> list[float]:
    found = []
    for choice in np.ndindex(*np.diff(mdp.pairs.start)):
        pairs = mdp.pairs.start[:-1] + np.array(choice)
        chain = 0.5 * (mdp.transitions[pairs].toarray() + np.eye(mdp.n_states))  # lazy: aperiodic, the same averages
        for _ in range(60):
            chain = chain @ chain
            chain /= chain.sum(axis=1, keepdims=True)
        found.append(float(mdp.initial @ chain @ mdp.pair_rewards[pairs]))
    return found


class TestGains:
    """Going on from the first state loses gain: 1/3 of the way to an average of 1, else to 0; or 1/4 for certain."""

    mdp = oc.MDP.from_pairs(
        [0, 0, 1, 2, 3], [0, 1, 0, 0, 0],
        [["0", "1/3", "2/3", "0"], ["0", "0", "0", "1"], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
        ["5", "0", "1", "0", "1/4"], initial=0,
    )  # fmt: skip
    problem = oc.Problem(mdp, criterion="average")

    def test_the_optimum_is_a_third(self):
        result = oc.solve(self.problem, certify="exact")
        assert result.certificate.optimum == Fraction(1, 3)
        assert result.certificate.proof.gains == (Fraction(1, 3), 1, 0, Fraction(1, 4))
        least = oc.solve(oc.Problem(self.mdp, "minimize", "average"), certify="exact")
        assert least.certificate.optimum == Fraction(1, 4)

    def test_doubles_that_rise_are_replaced_by_fractions(self):
        """A third as a double is less than 1/3: it rises for the fractions. The enclosure is right all the same."""
        result = oc.solve(self.problem, certify="interval")
        assert result.certificate.level == "interval"
        assert encloses(result.certificate, Fraction(1, 3))
        assert result.gap < 1e-14

    @pytest.mark.parametrize(("part", "state"), [("gains", 0), ("gains", 1), ("gains", 2), ("gains", 3),
                                                 ("values", 0), ("values", 1), ("values", 2)])  # fmt: skip
    @pytest.mark.parametrize("by", [Fraction(1, 10**40), Fraction(-1, 10**40)])
    def test_no_part_may_change(self, part, state, by):
        result = oc.solve(self.problem, certify="exact")
        numbers = list(getattr(result.certificate.proof, part))
        numbers[state] += by
        told = replace(result.certificate, proof=replace(result.certificate.proof, **{part: tuple(numbers)}))
        with pytest.raises(oc.AuditFailed):
            oc.verify(self.problem, replace(result, certificate=told))

    @pytest.mark.parametrize("name", ["gain_values", "policy_gain_values", "reduced_costs", "values", "policy_values"])
    def test_doubles_beside_the_proof(self, name):
        result = oc.solve(self.problem, certify="exact")
        told = replace(result.certificate, **{name: getattr(result.certificate, name) + 1e-6})
        with pytest.raises(oc.AuditFailed):
            oc.verify(self.problem, replace(result, certificate=told))

    def test_another_policy(self):
        result = oc.solve(self.problem, certify="exact")
        other = oc.Policy.deterministic(self.mdp, [1, 0, 0, 0])
        with pytest.raises(oc.AuditFailed, match="attain"):
            oc.verify(self.problem, replace(result, policy=other))


class TestInfeasible:
    """One state, costs 1/4 and 3/4: no policy pays less than 1/4 on average."""

    mdp = oc.MDP.from_arrays([[[1], [1]]], [[0, 1]], costs={"wear": [["1/4", "3/4"]]}, discount="0.9")

    @pytest.mark.parametrize("criterion", ["discounted", "average"])
    @pytest.mark.parametrize("sense", ["maximize", "minimize"])
    def test_by_how_much(self, criterion, sense):
        mdp = self.mdp if criterion == "discounted" else self.mdp.replace(discount=None)
        problem = oc.Problem(mdp, sense, criterion, {"budget": oc.expected("wear") <= 0.125})
        certificate = oc.solve(problem, certify="exact", check=False).certificate
        price = certificate.proof.multipliers["budget"]
        assert price > 0
        assert certificate.proof.infeasible_by == price / 8
        assert certificate.optimum is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"infeasible_by": Fraction(1)},
            {"infeasible_by": Fraction(0)},
            {"values": (Fraction(-1),)},
            {"multipliers": {"budget": Fraction(-1)}},
            {"multipliers": {}},
            {"optimum": Fraction(1)},
            {"occupancy": {0: Fraction(1)}},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("kind", ["infeasible", "infeasible total"])
    def test_damaged_proofs(self, kind, changes):
        if kind == "infeasible":
            problem = oc.Problem(self.mdp, constraints={"budget": oc.expected("wear") <= 0.125})
        else:
            walk = QUESTIONS["infeasible total"].mdp
            limits = {"budget": oc.expected_total("toll") <= -1}
            problem = oc.Problem(walk, criterion="total", goal=3, constraints=limits)
        result = oc.solve(problem, certify="exact", check=False)
        assert result.certificate.exact
        assert oc.verify(problem, result)
        proof = replace(result.certificate.proof, **changes)
        with pytest.raises(oc.AuditFailed):
            oc.verify(problem, replace(result, certificate=replace(result.certificate, proof=proof)))

    def test_a_feasible_question_cannot_be_disproved(self):
        problem = oc.Problem(self.mdp, constraints={"budget": oc.expected("wear") <= 0.3})
        honest = oc.solve(oc.Problem(self.mdp, constraints={"budget": oc.expected("wear") <= 0.125}), certify="exact",
                          check=False)  # fmt: skip
        told = replace(honest.certificate, fingerprint=problem.fingerprint)
        with pytest.raises(oc.AuditFailed):
            oc.verify(problem, replace(honest, certificate=told))

"""Certificates above doubles: fractions reproduced digit for digit, intervals that enclose, forgeries refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import product
from pathlib import Path

import cvxpy
import numpy as np
import pytest
from helpers import Exact, encloses, exact_objective
from hypothesis import given, settings
from polytope import random_model
from strategies import sketches

import occlp as oc

pytest.importorskip("flint")

GOLDEN = Path(__file__).parents[1] / "golden"
DISCOUNTED = json.loads((GOLDEN / "discounted.json").read_text())
AVERAGE = json.loads((GOLDEN / "average.json").read_text())


def build(case: dict) -> oc.Problem:
    """A published case in fractions."""
    transitions = np.zeros((len(case["rows"]), case["n_states"]), dtype=object)
    for i, (_, _, successors, _) in enumerate(case["rows"]):
        for state, probability in successors:
            transitions[i, state] += Fraction(probability)
    mdp = oc.MDP.from_pairs(
        [row[0] for row in case["rows"]],
        [row[1] for row in case["rows"]],
        transitions,
        np.array([Fraction(row[3]) for row in case["rows"]], dtype=object),
        discount=case.get("discount"),
        actions=list(dict.fromkeys(row[1] for row in case["rows"])),
    )
    if "initial" in case:
        mdp = mdp.replace(initial=np.array([Fraction(x) for x in case["initial"]], dtype=object))
    return oc.Problem(mdp, sense=case["sense"], criterion="discounted" if "discount" in case else "average")


@pytest.mark.parametrize("case", DISCOUNTED, ids=[f"{case['name']} ({case['discount']})" for case in DISCOUNTED])
def test_published_values_digit_for_digit(case):
    problem = build(case)
    result = oc.solve(problem, oc.ExactPolicyIteration())
    certificate = result.certificate
    assert certificate.exact
    assert result.status is oc.Status.CERTIFIED
    assert result.gap == 0
    if "state_values" in case:
        assert list(certificate.proof.values) == [Fraction(value) for value in case["state_values"]]
    else:
        assert certificate.optimum == (1 - Fraction(case["discount"])) * Fraction(case["start_value"])
    assert Fraction(certificate.lower) <= certificate.optimum <= Fraction(certificate.upper)
    assert certificate.upper <= np.nextafter(certificate.lower, np.inf)
    assert result.objective == float(certificate.optimum)
    assert oc.verify(problem, result)


@pytest.mark.parametrize("case", AVERAGE, ids=[case["name"] for case in AVERAGE])
def test_published_gains_digit_for_digit(case):
    problem = build(case)
    result = oc.solve(problem, certify="exact")
    assert result.certificate.optimum == Fraction(case["gain"])
    assert oc.verify(problem, result)


def test_howard_replacement():
    """Forty states; the gain of the marmote example 22, recomputed in fractions."""
    mdp = oc.instances.get("howard-automobile").replace(discount=None)
    problem = oc.Problem(mdp, sense="minimize", criterion="average")
    found = oc.solve(problem, certify="exact").certificate.optimum
    assert found == Fraction(3116406523506347001151057430, 20645859466135059605927897)


@settings(max_examples=25, deadline=None)
@given(sketch=sketches(max_states=4, max_costs=0))
def test_brute_force(sketch):
    """Against all deterministic policies, by linear algebra that shares nothing."""
    for mdp in (sketch.mdp(exact=True), sketch.mdp()):
        exact = Exact.of(mdp)
        for sense in ("maximize", "minimize"):
            problem = oc.Problem(mdp, sense=sense)
            truth = exact.brute_force(sense)
            cold = oc.solve(problem, oc.ExactPolicyIteration(warm_start=False))
            assert cold.certificate.optimum == truth
            assert oc.verify(problem, cold)
            for level in ("float", "interval", "exact"):
                result = oc.solve(problem, certify=level)
                assert encloses(result.certificate, truth)
                assert result.certificate.level == level
                assert oc.verify(problem, result)


@settings(max_examples=15, deadline=None)
@given(sketch=sketches(max_states=3))
def test_intervals_of_a_divergence(sketch):
    mdp = sketch.mdp(exact=True)
    problem = oc.Problem(mdp, regularizer=oc.KL(strength=0.5, reference=oc.Policy.uniform(mdp)))
    result = oc.solve(problem, certify="exact")
    certificate = result.certificate
    assert (certificate.level, certificate.optimum) == ("interval", None)
    assert "in general no fraction" in result.message
    truth = exact_objective(problem, result.policy)
    assert Fraction(certificate.lower) <= truth
    assert truth <= Fraction(certificate.upper)
    assert certificate.gap <= oc.solve(problem).gap + 1e-60
    assert oc.verify(problem, result)


@pytest.mark.parametrize("discount", ["0", "0.9", None])
@pytest.mark.parametrize("setting", [oc.PolicyEntropy(0.5), oc.OccupancyEntropy(0.5)])
def test_intervals_of_the_log_sum_exp(discount, setting):
    """One state: the optimum is τ log Σ exp(r / τ), to thirty digits by decimals."""
    mdp = oc.MDP.from_arrays([[[1], [1], [1]]], [["1/3", "1", "2.5"]], discount=discount)
    criterion = "discounted" if discount else "average"
    result = oc.solve(oc.Problem(mdp, criterion=criterion, regularizer=setting), certify="interval")
    with localcontext() as context:
        context.prec = 40
        terms = [(Decimal(r.numerator) / r.denominator * 2).exp() for r in mdp.exact.rewards]
        truth = Fraction(sum(terms).ln() / 2)
    assert encloses(result.certificate, truth)
    assert result.gap < 1e-13


def test_intervals_of_uniform_entropy():
    """Every state in one step: the best entropy is log 5 (Hazan et al. 2019)."""
    stay = [[[float(j == a) for j in range(5)] for a in range(5)] for _ in range(5)]
    mdp = oc.MDP.from_arrays(stay, np.zeros((5, 5)), discount="1/2")
    with localcontext() as context:
        context.prec = 40
        truth = Fraction(Decimal(5).ln())
    result = oc.solve(oc.Problem(mdp, utility=oc.StateEntropy()), certify="interval")
    assert encloses(result.certificate, truth)


class TestConstraints:
    def test_by_hand(self):
        """One state, rewards 0 and 1, costs 0 and 1, at most 0.3 on average: the optimum is the double 0.3."""
        mdp = oc.MDP.from_arrays([[[1], [1]]], [[0, 1]], costs={"wear": [[0, 1]]}, discount="0.9")
        problem = oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.3])
        result = oc.solve(problem, certify="exact")
        proof = result.certificate.proof
        assert proof.optimum == Fraction(0.3)
        assert dict(proof.multipliers) == {"wear": 1}
        assert dict(proof.occupancy) == {0: 1 - Fraction(0.3), 1: Fraction(0.3)}
        assert oc.verify(problem, result)

    def test_the_best_lottery_of_two(self):
        """One limit: the optimum is the best mixture of two deterministic policies, all of them looked at."""
        mdp, bound = oc.instances.get("machine-repair"), Fraction(1, 4)
        exact, points = Exact.of(mdp), []
        wear = [Fraction(x) for x in mdp.pair_costs["wear"].tolist()]
        for choice in exact.choices():
            mass = exact.occupancy(choice)
            points.append([sum(d * x for d, x in zip(mass, row, strict=True)) for row in (exact.rewards, wear)])
        best = max(p[0] for p in points if p[1] <= bound)
        for p, q in product(points, points):
            if p[1] <= bound < q[1]:
                best = max(best, p[0] + (bound - p[1]) / (q[1] - p[1]) * (q[0] - p[0]))
        problem = oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.25])
        assert best == oc.solve(problem, certify="exact").certificate.optimum == Fraction(351817, 47600)

    @pytest.mark.parametrize("criterion", ["discounted", "average"])
    @pytest.mark.parametrize("sense", ["maximize", "minimize"])
    @pytest.mark.parametrize("seed", range(6))
    def test_two_limits(self, seed, sense, criterion):
        mdp = random_model(seed, discount=0.9 if criterion == "discounted" else None)
        free = oc.evaluate(oc.Problem(mdp, criterion=criterion), oc.Policy.uniform(mdp)).expected
        limits = {"wear": oc.expected("wear") <= free["wear"], "fuel": oc.expected("fuel") >= free["fuel"]}
        if seed % 2:
            limits["fuel"] = oc.expected("fuel") == free["fuel"]
        problem = oc.Problem(mdp, sense, criterion, limits)
        plain, result = oc.solve(problem), oc.solve(problem, certify="exact")
        assert result.certificate.exact, result.message
        assert encloses(plain.certificate, result.certificate.optimum)
        assert oc.verify(problem, result)
        enclosed = oc.solve(problem, certify="interval")
        assert encloses(enclosed.certificate, result.certificate.optimum)

    def test_a_limit_that_does_not_bind(self):
        mdp = oc.instances.get("machine-repair")
        problem = oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.9])
        exact = oc.solve(problem, certify="exact").certificate
        assert exact.optimum == oc.solve(mdp, certify="exact").certificate.optimum
        assert dict(exact.multipliers) == {"wear": 0.0}

    def test_a_bound_exactly_at_a_vertex(self):
        """The unconstrained optimum just keeps the limit: the basis is degenerate, the optimum is the same."""
        mdp = oc.MDP.from_arrays([[[1], [1]]], [[0, 1]], costs={"wear": [[0, 1]]}, discount=0.5)
        problem = oc.Problem(mdp, constraints=[oc.expected("wear") <= 1])
        assert oc.solve(problem, certify="exact").certificate.optimum == 1

    def test_an_infeasible_question_keeps_its_proof(self):
        mdp = oc.instances.get("machine-repair")
        problem = oc.Problem(mdp, constraints=[oc.expected("wear") <= -1])
        with pytest.raises(oc.Infeasible) as caught:
            oc.solve(problem, certify="exact")
        assert oc.verify(problem, caught.value.result)


class TestHowNumbersAreRead:
    def test_rows_of_doubles(self):
        """Thirds as doubles miss 1 by 2^-54 a row: staying takes it up, and the certificate says so."""
        rows = np.full((3, 3), 1 / 3)
        mdp = oc.MDP.from_arrays(rows[:, None, :], [[0.1], [0.2], [0.3]], discount=0.9)
        certificate = oc.solve(mdp, certify="exact").certificate
        assert any("3 of 3 rows do not sum to exactly 1" in text for text in certificate.assumptions)
        assert any("initial probabilities miss 1" in text for text in certificate.assumptions)
        assert certificate.optimum == Exact.of(mdp).optimum()
        assert certificate.optimum != Fraction(1, 5)

    def test_strings_are_what_they_say(self):
        mdp = oc.MDP.from_arrays([[["1/3"] * 3]] * 3, [["0.1"], ["0.2"], ["0.3"]], discount="0.9")
        certificate = oc.solve(mdp, certify="exact").certificate
        assert certificate.optimum == Fraction(1, 5)
        assert certificate.assumptions == (
            "fractions, nothing rounded",
            "the model's numbers are fractions as given",
        )

    def test_near_one(self):
        mdp = oc.instances.get("howard-toymaker", discount="0.999999999999")
        result = oc.solve(mdp, certify="exact")
        assert result.certificate.optimum == Exact.of(mdp).optimum()

    def test_a_near_tie_that_doubles_cannot_see(self):
        """The second action is better by 1e-30: only fractions find it."""
        tiny = f"1.{'0' * 29}1"
        mdp = oc.MDP.from_arrays([[[1], [1]]], [["1", tiny]], discount="0.9")
        assert oc.solve(mdp).policy.choice.tolist() == [0]
        result = oc.solve(mdp, certify="exact")
        assert result.policy.choice.tolist() == [1]
        assert result.certificate.optimum == Fraction(tiny)
        assert "1 improvements in fractions" in result.message


class TestLimitsOfTheLevels:
    def test_without_flint(self, monkeypatch):
        mdp = oc.instances.get("howard-toymaker")
        monkeypatch.setitem(sys.modules, "flint", None)
        for arguments in ({"certify": "exact"}, {"certify": "interval"}, {"solver": oc.ExactPolicyIteration()}):
            with pytest.raises(oc.BackendMissing, match=r"pip install 'occlp\[exact\]'"):
                oc.solve(mdp, **arguments)
        assert oc.solve(mdp).status is oc.Status.CERTIFIED

    @pytest.mark.parametrize("level", ["interval", "exact"])
    def test_functions_of_the_user_are_refused(self, level):
        mdp = oc.instances.get("machine-repair")
        problem = oc.Problem(mdp, utility=oc.Utility(lambda d: cvxpy.sum(cvxpy.sqrt(d))))
        with pytest.raises(oc.Unsupported, match="Use certify='float'"):
            oc.solve(problem, certify=level)

    def test_methods_without_a_promise_keep_their_policy(self):
        mdp = oc.instances.get("howard-toymaker")
        limit = oc.Limit(iterations=3)
        plain = oc.solve(mdp, oc.NaturalPolicyGradient(), limit=limit)
        result = oc.solve(mdp, oc.NaturalPolicyGradient(), limit=limit, certify="exact")
        assert result.certificate.level == "interval"
        assert np.array_equal(plain.policy.pair_probabilities, result.policy.pair_probabilities)
        assert encloses(result.certificate, Exact.of(mdp).optimum())
        assert oc.verify(mdp, result)

    def test_large_systems_fall_back_to_intervals(self, monkeypatch):
        monkeypatch.setattr("occlp.exact.chain.MOST_DENSE", 20)
        dense = np.eye(30)[:, None, :] * 0.5 + 0.5 / 30
        mdp = oc.MDP.from_arrays(dense, np.arange(30.0), discount=0.5)
        result = oc.solve(mdp, certify="exact")
        assert result.certificate.level == "interval"
        assert "goes up to 20" in result.message

    def test_what_exact_policy_iteration_leaves_to_others(self):
        mdp = oc.instances.get("machine-repair")
        for problem in (
            oc.Problem(mdp, regularizer=oc.PolicyEntropy(1.0)),
            oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.3]),
        ):
            with pytest.raises(oc.Unsupported):
                oc.solve(problem, oc.ExactPolicyIteration())


def small() -> tuple[oc.Problem, oc.Result]:
    problem = oc.Problem(oc.instances.get("machine-repair"))
    return problem, oc.solve(problem, certify="exact")


def limited() -> tuple[oc.Problem, oc.Result]:
    problem = oc.Problem(oc.instances.get("machine-repair"), constraints=[oc.expected("wear") <= 0.25])
    return problem, oc.solve(problem, certify="exact")


class TestTheAudit:
    @pytest.mark.parametrize("make", [small, limited])
    def test_json_keeps_every_digit(self, make):
        problem, result = make()
        again = oc.Certificate.from_json(result.certificate.to_json())
        assert again.proof == result.certificate.proof
        assert oc.verify(problem, replace(result, certificate=again))

    def test_long_numbers(self):
        proof = oc.ExactProof(Fraction(10**5000 + 1, 7), (Fraction(1, 3**9000), Fraction(-5)))
        assert oc.ExactProof.from_plain(json.loads(json.dumps(proof.to_plain()))) == proof

    @pytest.mark.parametrize("make", [small, limited])
    @pytest.mark.parametrize("part", ["optimum", "values", "multipliers", "occupancy"])
    def test_no_part_may_change(self, make, part):
        problem, result = make()
        proof, tiny = result.certificate.proof, Fraction(1, 10**40)
        changes = {
            "optimum": proof.optimum + tiny,
            "values": (proof.values[0] - tiny, *proof.values[1:]),
            "multipliers": {name: price + tiny for name, price in proof.multipliers.items()} or {"other": Fraction(1)},
            "occupancy": {pair: mass + tiny for pair, mass in proof.occupancy.items()} or {0: Fraction(1)},
        }
        forged = replace(proof, **{part: changes[part]})
        with pytest.raises(oc.AuditFailed):
            oc.verify(problem, replace(result, certificate=replace(result.certificate, proof=forged)))

    def test_another_policy(self):
        problem, result = small()
        other = oc.Policy.uniform(problem.mdp)
        with pytest.raises(oc.AuditFailed, match="attain"):
            oc.verify(problem, replace(result, policy=other))

    @pytest.mark.parametrize(
        "change",
        [{"lower": -1.0}, {"upper": np.inf}, {"lower": np.nan}, {"gap": 1e-9}, {"level": "float"}, {"proof": None}],
    )
    def test_other_claims(self, change):
        problem, result = small()
        with pytest.raises(oc.AuditFailed):
            oc.verify(problem, replace(result, certificate=replace(result.certificate, **change)))

    @pytest.mark.parametrize(
        "change",
        [
            {"optimum": 3}, {"optimum": "1/0"}, {"optimum": "1e3"}, {"unit": "-1"}, {"values": "12"}, {"values": [1]},
            {"multipliers": []}, {"occupancy": {"x": "1"}}, {"unit": "1_0"}, {"more": 1},
        ],
    )  # fmt: skip
    def test_damaged_proofs(self, change):
        plain = json.loads(small()[1].certificate.to_json())
        plain["proof"] |= change
        with pytest.raises(ValueError, match="incomplete or altered"):
            oc.Certificate.from_json(json.dumps(plain))

"""Bounds of limits, weights and tables written in fractions: kept as they are, down to the proof and the file."""

import json
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from helpers import Exact

import occlp as oc
from occlp.errors import AuditFailed

THIRD = Fraction(1, 3)


@pytest.fixture(scope="module")
def model():
    return oc.MDP.from_arrays(
        [[["1/3", "2/3"], ["1/2", "1/2"]], [["2/3", "1/3"], ["1/7", "6/7"]]],
        [["1", "0"], ["1/5", "1/3"]],
        discount="9/10",
        costs={"wear": [["1/3", "0"], ["1", "2/7"]]},
    )


def points(mdp, costs):
    """Reward and cost per step of every deterministic policy, in fractions."""
    exact = Exact.of(mdp)
    mass = [exact.occupancy(choice) for choice in exact.choices()]
    return [tuple(sum((d * x for d, x in zip(m, row, strict=True)), Fraction(0)) for row in (exact.rewards, costs))
            for m in mass]  # fmt: skip


def best(mdp, bound):
    """The greatest reward of a mixture of two deterministic policies with cost ≤ bound: one limit needs no more."""
    found = points(mdp, mdp.exact.costs["wear"])
    kept = [reward for reward, cost in found if cost <= bound]
    for low_reward, low in found:
        for high_reward, high in found:
            if low < bound < high:
                share = (bound - low) / (high - low)
                kept.append((1 - share) * low_reward + share * high_reward)
    return max(kept)


@pytest.mark.parametrize(
    ("bound", "meant"),
    [
        ("1/3", THIRD),
        ("0.3", Fraction(3, 10)),
        (0.3, Fraction(0.3)),
        (np.float32(0.3), Fraction(float(np.float32(0.3)))),
        (THIRD, THIRD),
        (Decimal("0.3"), Fraction(3, 10)),
        ("2/5", Fraction(2, 5)),
    ],
)
def test_the_optimum_is_that_of_the_bound_as_written(model, bound, meant):
    problem = oc.Problem(model, constraints=[oc.expected("wear") <= bound])
    limit = problem.limits["wear"]
    assert (limit.exact_bound, limit.bound) == (meant, float(meant))
    result = oc.solve(problem, certify="exact")
    assert result.certificate.optimum == best(model, meant)
    assert oc.verify(problem, result)


def test_a_bound_that_is_just_kept_has_a_proof_and_one_beyond_it_none(model):
    most = max(cost for _, cost in points(model, model.exact.costs["wear"]))
    assert float(most) > most or float(most) < most  # no double
    at = oc.Problem(model, constraints=[oc.expected("wear") >= most])
    result = oc.solve(at, certify="exact")
    assert result.certificate.level == "exact"
    assert oc.verify(at, result)
    above = oc.Problem(model, constraints=[oc.expected("wear") >= most + Fraction(1, 10**12)])
    refused = oc.solve(above, certify="exact", check=False)
    assert (refused.status.name, refused.certificate.level) == ("INFEASIBLE", "exact")
    assert oc.verify(above, refused)
    with pytest.raises(AuditFailed, match="do not bound every policy"):  # the same proof for the bound that is kept
        oc.verify(at, replace(refused, certificate=replace(refused.certificate, fingerprint=at.fingerprint)))


def test_the_proof_of_a_double_is_none_of_the_fraction_beside_it(model):
    written, double = (oc.Problem(model, constraints=[oc.expected("wear") <= bound]) for bound in ("0.3", 0.3))
    assert written.fingerprint != double.fingerprint
    result = oc.solve(double, certify="exact")
    moved = replace(result, certificate=replace(result.certificate, fingerprint=written.fingerprint))
    with pytest.raises(AuditFailed, match=r"break|optimum|bound"):
        oc.verify(written, moved)


@pytest.mark.parametrize(
    "limit",
    [
        "1/3" * oc.expected("wear") <= "1/10",
        oc.expected("wear") / 3 <= "1/10",
        oc.expected("wear") / "7/3" <= Fraction(9, 70),
        oc.expected([["1/3", "0"], ["1", "2/7"]]) <= "3/10",
        oc.expected_total("wear") <= 3,
        oc.ratio("wear", oc.expected(np.ones((2, 2)))) <= "0.3",
    ],
)
def test_weights_tables_totals_and_ratios_are_exact(model, limit):
    problem = oc.Problem(model, constraints={"wear": limit})
    result = oc.solve(problem, certify="exact")
    assert result.certificate.optimum == best(model, Fraction(3, 10))
    assert oc.verify(problem, result)


def test_averages_and_totals_keep_the_bound(model):
    average = oc.Problem(model.replace(discount=None), criterion="average", constraints=[oc.expected("wear") <= "0.3"])
    result = oc.solve(average, certify="exact")
    exact = Exact.of(average.mdp)
    masses = []
    for choice in exact.choices():  # the stationary distribution of two states
        used = [k for k, chance in enumerate(choice) if chance]
        out, back = exact.rows[used[0]].get(1, Fraction(0)), exact.rows[used[1]].get(0, Fraction(0))
        masses.append(((used[0], back / (out + back)), (used[1], out / (out + back))))
    found = [
        tuple(sum(mass * row[pair] for pair, mass in one) for row in (exact.rewards, average.mdp.exact.costs["wear"]))
        for one in masses
    ]
    lottery = [
        r + (Fraction(3, 10) - c) / (d - c) * (q - r)
        for r, c in found for q, d in found if c <= Fraction(3, 10) < d
    ]  # fmt: skip
    assert result.certificate.optimum == max(lottery)
    assert oc.verify(average, result)
    stop = oc.MDP.from_arrays(
        [[["1", "0"], ["9/10", "1/10"]], [["0", "1"], ["0", "1"]]], [["-1", "0"], ["0", "0"]], initial=0
    )
    total = oc.Problem(stop, criterion="total", goal=1, constraints=[oc.visits(states=0, actions=0) >= "1/3"])
    result = oc.solve(total, certify="exact")
    assert result.certificate.optimum == -THIRD
    assert oc.verify(total, result)


def test_intervals_enclose_the_limit_as_written(model):
    concave = oc.Problem(model, constraints=[oc.StateEntropy() >= "2/5", oc.expected("wear") <= "0.3"])
    result = oc.solve(concave, certify="interval")
    assert result.certificate.level == "interval"
    assert oc.verify(concave, result)
    assert concave.concave_limits["StateEntropy"].exact_bound == Fraction(2, 5)


def test_files_keep_what_no_double_holds(model, tmp_path):
    limits = {
        "text": oc.expected("wear") <= "1/3",
        "double": oc.expected("wear") <= 0.4,
        "weight": "1/3" * oc.expected("wear") + oc.expected("reward") >= 0,
        "table": oc.expected([["1/3", "0"], ["1", "2/7"]]) <= "2/3",
    }
    problem = oc.Problem(model, constraints=limits)
    result = oc.solve(problem, certify="exact")
    oc.save_answer(problem, result, tmp_path / "answer.json")
    answer = oc.load_answer(tmp_path / "answer.json")
    assert answer.verify()
    assert answer.problem.fingerprint == problem.fingerprint
    assert answer.certificate.optimum == result.certificate.optimum
    plain = json.loads((tmp_path / "answer.json").read_text())["question"]["constraints"]
    assert (plain["text"]["bound"], plain["double"]["bound"]) == ("1/3", 0.4)
    for bad in ("1/0", "inf", "0x1", "1e5", None, True, [1], "9" * 400):
        content = json.loads((tmp_path / "answer.json").read_text())
        content["question"]["constraints"]["text"]["bound"] = bad
        (tmp_path / "bad.json").write_text(json.dumps(content))
        with pytest.raises(oc.InvalidProblem):
            oc.load_answer(tmp_path / "bad.json")


@pytest.mark.parametrize("change", ["1/3", "0.1"])
def test_fingerprints_tell_numbers_apart_that_round_to_one_double(change):
    def asked(reward, bound, weight, entry):
        mdp = oc.MDP.from_arrays([[["1", "0"]], [["0", "1"]]], [[reward], ["0"]], discount="1/2")
        limits = {"all": weight * oc.expected([[entry], [0]]) <= bound}
        return oc.Problem(mdp, constraints=limits).fingerprint

    near = float(Fraction(change))
    assert len({asked(*(change if k == n else near for k in range(4))) for n in range(5)}) == 5
    assert asked(*["1/2"] * 4) == asked(*[0.5] * 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda e: e <= "wear", "the bound holds 'wear', which is not a number"),
        (lambda e: e <= "1/0", "not a number"),
        (lambda e: e <= "1e-400", "beyond the range of doubles"),
        (lambda e: e <= "nan", "not finite"),
        (lambda e: e <= "inf", "not finite"),
        (lambda e: e <= 10**400, "beyond the range of doubles"),
        (lambda e: e * "many", "a factor of an expression holds 'many'"),
        (lambda e: e / "0", "divided by 0"),
        (lambda e: 1e200 * e * 1e200, "beyond the range of doubles"),
        (lambda e: oc.expected([["1/3", "x"]]), r"the array in expected\(\)\[0, 1\] holds 'x'"),
    ],
)
def test_text_that_is_no_number_is_refused(make, message):
    with pytest.raises(oc.InvalidProblem, match=message):
        make(oc.expected("wear"))

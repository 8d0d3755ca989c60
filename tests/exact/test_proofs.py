"""Exact proofs written by hand, and every way in which each could be damaged: the audit knows no tolerance.

One state, γ = 9/10, rewards (0, ±1) and costs (0, 1); the cost must be at most, at least, or just 1/4. So the second
action is taken with probability 1/4, the optimum is ±1/4, V = 10 · optimum, and the price is ±1 by substitution.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

import occlp as oc
from occlp.verify.fractions import check_proof

pytest.importorskip("flint")

QUARTER, TINY = Fraction(1, 4), Fraction(1, 10**40)
LIMITS = {
    "<=": oc.expected("wear") <= 0.25, ">=": oc.expected("wear") >= 0.25, "==": oc.expected("wear") == 0.25,
    "slack": oc.expected("wear") <= 2,
}  # fmt: skip
#: Relation, sense, reward of the second action, and by hand: optimum, price.
CASES = {
    "at most": ("<=", "maximize", 1, QUARTER, 1),
    "at least": (">=", "maximize", -1, -QUARTER, 1),
    "at least, of costs": (">=", "minimize", 1, QUARTER, 1),
    "at most, of gains as costs": ("<=", "minimize", -1, -QUARTER, 1),
    "just so much": ("==", "maximize", 1, QUARTER, 1),
    "just so much, though it costs": ("==", "maximize", -1, -QUARTER, -1),
    "a limit that does not bind": ("slack", "maximize", 1, Fraction(1), 0),
}


@cache
def solved(name):
    relation, sense, reward, _, _ = CASES[name]
    mdp = oc.MDP.from_arrays([[[1], [1]]], [[0, reward]], costs={"wear": [[0, 1]]}, discount="9/10")
    problem = oc.Problem(mdp, sense, constraints=[LIMITS[relation]])
    return problem, oc.solve(problem, certify="exact")


@cache
def journey(criterion):
    """From 0 to 1 and back to 0 by either action, one of which wears; state 2 is never reached."""
    rows = [[[0, 1, 0]] * 2, [[1, 0, 0]] * 2, [[1, 0, 0]] * 2]
    mdp = oc.MDP.from_arrays(rows, [[0, 1], [0, 3], [7, 7]], costs={"wear": [[0, 1]] * 3}, initial=0,
                             discount="1/2" if criterion == "discounted" else None)  # fmt: skip
    problem = oc.Problem(mdp, criterion=criterion, constraints=[oc.expected("wear") <= 0.25])
    return problem, oc.solve(problem, certify="exact")


def forged(result, words, problem, policy=None, claims=None, **changes):
    """A result with another proof, policy or claim is refused in these words."""
    proof = replace(result.certificate.proof, **changes)
    told = replace(result, certificate=replace(result.certificate, proof=proof, **(claims or {})))
    with pytest.raises(oc.AuditFailed, match=words):
        oc.verify(problem, told if policy is None else replace(told, policy=policy))


def mixed(problem, second):
    return oc.Policy(problem.mdp.pairs, np.array([1 - second, second]))


@pytest.mark.parametrize("name", CASES)
def test_the_proof_is_the_one_by_hand(name):
    problem, result = solved(name)
    proof, (_, _, _, optimum, price) = result.certificate.proof, CASES[name]
    assert (proof.optimum, proof.values) == (optimum, (10 * optimum,))
    assert dict(proof.multipliers) == {"wear": price}
    share = Fraction(1) if price == 0 else QUARTER
    assert dict(proof.occupancy) == {pair: mass for pair, mass in ((0, 1 - share), (1, share)) if mass}
    assert oc.verify(problem, result)


@pytest.mark.parametrize("name", CASES)
def test_every_number_of_it_is_needed(name):
    problem, result = solved(name)
    proof = result.certificate.proof
    price, value = proof.multipliers["wear"], proof.values[0]
    for off in (TINY, -TINY):
        forged(result, "do not bound", problem, optimum=proof.optimum + off)
        forged(result, "do not bound", problem, values=(value + off,))
        words = (
            "must not be negative" if price + off < 0 and name != "just so much, though it costs" else "do not bound"
        )
        forged(result, words, problem, multipliers={"wear": price + off})
    for multipliers in ({}, {"wear": price, "more": Fraction(0)}, {"tear": price}):
        forged(result, "multipliers are not those", problem, multipliers=multipliers)
    forged(result, "one fraction a state", problem, values=(value, value))
    forged(result, "one fraction a state", problem, values=())


@pytest.mark.parametrize("name", CASES)
def test_doubles_beside_it(name):
    problem, result = solved(name)
    optimum, price = result.certificate.lower, result.certificate.multipliers["wear"]
    above, below = np.nextafter(optimum, np.inf), np.nextafter(optimum, -np.inf)
    far = np.nextafter(above, np.inf)
    for ends in ((above, above), (below, below), (above, far), (optimum, far), (np.nan, optimum), (optimum, np.inf)):
        forged(result, "doubles next to", problem, claims={"lower": ends[0], "upper": ends[1]})
    forged(result, "a gap of 0", problem, claims={"gap": 1e-300})
    forged(result, "not those of the proof", problem, claims={"multipliers": {"wear": price + 1e-15}})


@pytest.mark.parametrize("name", CASES)
def test_occupancies_that_are_none(name):
    problem, result = solved(name)
    mass = dict(result.certificate.proof.occupancy)
    last = {pair: share for pair, share in mass.items() if pair != 1} | {
        -1: mass[1]
    }  # the same pair, counted backwards
    for lie in (last, {**mass, 2: TINY}, {**mass, 1: -mass[1]}, {0: 1 - QUARTER, 1: QUARTER, 2: Fraction(0)}):
        forged(result, "pairs that do not exist", problem, occupancy=lie)
    forged(result, "pairs that do not exist", problem, occupancy={0: Fraction(0), 1: Fraction(1)})
    forged(result, "flow equations", problem, occupancy={pair: share + TINY for pair, share in mass.items()})
    forged(result, "flow equations", problem, occupancy={})


@pytest.mark.parametrize("name", CASES)
def test_occupancies_beside_the_limit(name):
    """Not a hair beyond it; an equality not on either side; within it, it must earn the optimum."""
    problem, result = solved(name)
    relation = CASES[name][0]
    more, less = ({0: 1 - QUARTER - off, 1: QUARTER + off} for off in (TINY, -TINY))
    beyond = {"<=": [more], ">=": [less], "==": [more, less], "slack": []}[relation]
    for lie in (more, less):
        words = "breaks 'wear'" if lie in beyond else "does not earn"
        forged(result, words, problem, occupancy=lie)


@pytest.mark.parametrize("name", ["at most", "at least, of costs", "just so much"])
def test_policies_that_are_not_its_ratios(name):
    problem, result = solved(name)
    check_proof(problem, mixed(problem, 0.25 + 0.9e-12), result.certificate)
    check_proof(problem, mixed(problem, 0.25 - 0.9e-12), result.certificate)
    with pytest.raises(oc.AuditFailed, match="not that of the proof in state 0, action 0"):
        oc.verify(problem, replace(result, policy=mixed(problem, 0.25 + 1.1e-12)))


def test_a_price_of_the_wrong_sign_would_prove_a_false_optimum():
    """Rewards (0, −1) and wear at most 2: with the price −1/2 the second action looks as good as any."""
    mdp = oc.MDP.from_arrays([[[1], [1]]], [[0, -1]], costs={"wear": [[0, 1]]}, discount="9/10")
    problem = oc.Problem(mdp, constraints=[oc.expected("wear") <= 2])
    result = oc.solve(problem, certify="exact")
    assert result.certificate.optimum == 0
    half, one = Fraction(1, 2), Fraction(1)
    claims = {"lower": -1.0, "upper": -1.0, "multipliers": {"wear": -0.5}}
    forged(result, "must not be negative", problem, policy=mixed(problem, 1.0), claims=claims, optimum=-one,
           values=(Fraction(-10),), multipliers={"wear": -half}, occupancy={1: one})  # fmt: skip
    equal = oc.Problem(mdp, constraints=[oc.expected("wear") == 1])  # of an equality it may have any sign
    assert oc.verify(equal, oc.solve(equal, certify="exact"))


@pytest.mark.parametrize("criterion", ["discounted", "average"])
def test_flows(criterion):
    problem, result = journey(criterion)
    mass = dict(result.certificate.proof.occupancy)
    assert oc.verify(problem, result)
    assert not {4, 5} & set(mass)  # what is never reached has no mass
    # Fraction 2/3 of the discounted time is spent in state 0, one half of the undiscounted.
    share = Fraction(2, 3) if criterion == "discounted" else Fraction(1, 2)
    assert sum(mass.get(pair, 0) for pair in (0, 1)) == share
    first, second = min(mass), max(mass)
    swapped = {**mass, first: mass[first] - TINY, second: mass[second] + TINY}
    forged(result, "flow equations", problem, occupancy=swapped)  # from one state to another; the third is in order
    forged(result, "flow equations", problem, occupancy={pair: 2 * share for pair, share in mass.items()})
    forged(result, "flow equations", problem, occupancy={pair: share / 2 for pair, share in mass.items()})


def test_initial_probabilities_are_divided_by_their_exact_sum():
    """Thirds as doubles sum to 1 − 2^−54: the flow equations hold for their shares."""
    rows = np.full((3, 2, 3), 1 / 3)
    mdp = oc.MDP.from_arrays(rows, [[0, 1], [0, 2], [0, 3]], costs={"wear": [[0, 1]] * 3}, discount="9/10")
    problem = oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.25])
    result = oc.solve(problem, certify="exact")
    assert sum(Fraction(p) for p in mdp.initial.tolist()) != 1
    assert result.certificate.exact
    assert oc.verify(problem, result)


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_averages(sense, limited):
    """The optimum is in no values here: it stands by itself, on either side of nought."""
    mdp = journey("average")[0].mdp
    for offset in (-10, 10):
        shifted = mdp.replace(rewards=mdp.pair_rewards + offset)
        problem = oc.Problem(shifted, sense, "average", [oc.expected("wear") <= 0.25] if limited else [])
        result = oc.solve(problem, certify="exact")
        assert oc.verify(problem, result)
        optimum = result.certificate.proof.optimum
        for lie in (optimum + TINY, optimum - TINY, 2 * optimum, Fraction(0)):
            forged(result, "do not bound|does not attain|does not earn", problem, optimum=lie)


def test_there_are_no_proofs_for_terms():
    problem, result = solved("at most")
    soft = oc.Problem(problem.mdp, regularizer=oc.PolicyEntropy(1.0))
    plain = oc.solve(soft)
    told = replace(plain.certificate, level="exact", proof=result.certificate.proof)
    with pytest.raises(oc.AuditFailed, match="objectives with a term"):
        oc.verify(soft, replace(plain, certificate=told))
    with pytest.raises(oc.AuditFailed, match="objectives with a term"):
        check_proof(oc.Problem(problem.mdp, utility=oc.StateEntropy()), plain.policy, told)


def test_plain_proofs_have_no_occupancy_and_no_prices():
    mdp = oc.MDP.from_arrays([[[1], [1]]], [[0, 1]], discount="9/10")
    problem, result = oc.Problem(mdp), oc.solve(mdp, certify="exact")
    forged(result, "does not attain", problem, occupancy={1: Fraction(1)})
    forged(result, "multipliers are not those", problem, multipliers={"wear": Fraction(0)})
    forged(result, "does not attain", problem, policy=mixed(problem, 1 - 1e-16))
    for level in ("float", "interval"):
        forged(result, "does not fit the proof", problem, claims={"level": level})
    with pytest.raises(oc.AuditFailed, match="does not fit the proof"):
        oc.verify(problem, replace(result, certificate=replace(result.certificate, proof=None)))

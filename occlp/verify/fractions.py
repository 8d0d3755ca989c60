"""Audit of exact proofs, in fractions of the standard library and without any tolerance.

For the model exactly as given, with ρ = r − y·g + γPV − V from the fractions of the proof (g = c − b of the
limits, rows read as generators, the initial probabilities divided by their sum), an optimum λ is proved by

* ρ ≤ 0 on every pair and λ = (1 − γ) μ0·V: nobody earns more (for the average, ρ ≤ λ);
* without limits: equality on every pair that the policy uses, so that it earns λ from every state;
* with limits: an occupancy d ≥ 0 that satisfies the flow equations and the limits and has d·r = λ.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from math import lcm
from typing import TYPE_CHECKING

from occlp.errors import AuditFailed
from occlp.model.exact import ExactNumbers, exact_numbers
from occlp.verify.total_fractions import check_total_proof

if TYPE_CHECKING:
    from occlp.certificate import Certificate
    from occlp.policy import Policy
    from occlp.problem import Problem
    from occlp.proof import ExactProof

#: How far the policy in doubles may be from the ratios of an exact occupancy.
ROUNDED = Fraction(1, 10**12)


def check_proof(problem: Problem, policy: Policy, certificate: Certificate) -> None:
    """Check an exact proof, and the doubles beside it; raises `AuditFailed`."""
    proof = certificate.proof
    if (certificate.level == "exact") != (proof is not None):
        raise AuditFailed(f"the level is {certificate.level!r}, which does not fit the proof that there is or is not.")
    if proof is None:
        return
    if problem.regularizer is not None or problem.utility is not None:
        raise AuditFailed("there are no exact proofs for objectives with a term.")
    if len(proof.values) != problem.mdp.n_states:
        raise AuditFailed("the proof's values are not one fraction a state.")
    if problem.criterion == "total":
        check_total_proof(problem, policy, proof)
        _check_doubles(certificate, proof)
        return
    numbers, sign = exact_numbers(problem.mdp), 1 if problem.sense == "maximize" else -1
    gamma = Fraction(1) if problem.criterion == "average" or numbers.discount is None else numbers.discount
    limits = _limits(problem, numbers, 1 - gamma)
    scores = _scores(problem, numbers, proof, gamma, limits)
    optimum = sign * proof.optimum
    if gamma < 1:
        mass = sum(numbers.initial, Fraction(0))
        weighted = zip(numbers.initial, proof.values, strict=True)
        top, bound = Fraction(0), (1 - gamma) * sign * sum((p * v for p, v in weighted), Fraction(0)) / mass
    else:
        top = bound = optimum
    if max(scores) > top or bound != optimum:
        raise AuditFailed("the proof's values do not bound every policy by the optimum claimed.")
    if limits:
        _check_occupancy(problem, policy, proof, numbers, gamma, limits)
    else:
        used = (k for k, p in enumerate(policy.pair_probabilities.tolist()) if p)
        if proof.occupancy or any(scores[pair] != top for pair in used):
            raise AuditFailed("the policy does not attain the optimum claimed.")
    _check_doubles(certificate, proof)


def _check_doubles(certificate: Certificate, proof: ExactProof) -> None:
    """The doubles are those next to the fractions."""
    if not (math.isfinite(certificate.lower) and math.isfinite(certificate.upper)):
        raise AuditFailed("lower and upper are not finite, and so not the doubles next to the optimum.")
    lower, upper = Fraction(certificate.lower), Fraction(certificate.upper)
    near = upper == lower or certificate.upper == math.nextafter(certificate.lower, math.inf)
    if not lower <= proof.optimum <= upper or not near or certificate.gap != 0:
        raise AuditFailed("lower and upper are not the doubles next to the optimum, with a gap of 0.")
    if {name: float(price) for name, price in proof.multipliers.items()} != dict(certificate.multipliers):
        raise AuditFailed("the multipliers are not those of the proof.")


def _limits(problem: Problem, numbers: ExactNumbers, rest: Fraction) -> dict[str, list[Fraction]]:
    """The rows g of the limits, g·d ≤ 0 (or = 0), [pairs] each."""
    rows = {}
    for name, limit in problem.limits.items():
        side, bound = -1 if limit.relation == ">=" else 1, Fraction(limit.bound)
        rows[name] = [side * (c - bound) for c in limit.expression.fractions(problem.mdp, numbers, rest)]
    return rows


def _scores(
    problem: Problem, numbers: ExactNumbers, proof: ExactProof, gamma: Fraction, limits: dict[str, list[Fraction]]
) -> list[Fraction]:
    """ρ of every pair, [pairs], to be maximised; raises for prices of the wrong sign."""
    if set(proof.multipliers) != set(limits):
        raise AuditFailed("the proof's multipliers are not those of the problem's constraints.")
    for name, price in proof.multipliers.items():
        if price < 0 and problem.limits[name].relation != "==":
            raise AuditFailed(f"the multiplier of {name!r} is {float(price)}; it must not be negative.")
    matrix, sign = problem.mdp.transitions, 1 if problem.sense == "maximize" else -1
    unit = lcm(*(value.denominator for value in proof.values))
    values = [sign * value.numerator * (unit // value.denominator) for value in proof.values]
    targets, states = matrix.indices.tolist(), problem.mdp.pairs.states.tolist()
    scores = []
    for pair, (first, last) in enumerate(pairwise(matrix.indptr.tolist())):
        here = values[states[pair]]
        row = [(targets[k], numbers.transitions[k]) for k in range(first, last)]
        common = lcm(*(p.denominator for _, p in row))
        moved = sum(p.numerator * (common // p.denominator) * (values[t] - here) for t, p in row)
        earned = sign * numbers.rewards[pair] - sum(
            (proof.multipliers[name] * limits[name][pair] for name in limits), Fraction(0)
        )
        scores.append(earned + gamma * Fraction(moved, common * unit) - (1 - gamma) * Fraction(here, unit))
    return scores


def _check_occupancy(
    problem: Problem,
    policy: Policy,
    proof: ExactProof,
    numbers: ExactNumbers,
    gamma: Fraction,
    limits: dict[str, list[Fraction]],
) -> None:
    """The occupancy is one, keeps the limits, earns the optimum, and is that of the policy but for rounding."""
    mdp, occupancy = problem.mdp, proof.occupancy
    if not all(0 <= pair < mdp.n_pairs and mass > 0 for pair, mass in occupancy.items()):
        raise AuditFailed("the proof's occupancy names pairs that do not exist, or masses that are not positive.")
    states, indptr = mdp.pairs.states.tolist(), mdp.transitions.indptr.tolist()
    targets = mdp.transitions.indices.tolist()
    total = sum(numbers.initial, Fraction(0))
    surplus = [(1 - gamma) * p / total for p in numbers.initial]
    by_state = [Fraction(0)] * mdp.n_states
    for pair, mass in occupancy.items():
        here = states[pair]
        by_state[here] += mass
        surplus[here] -= (1 - gamma) * mass
        for k in range(indptr[pair], indptr[pair + 1]):  # what stays neither leaves nor arrives
            flow = gamma * mass * numbers.transitions[k]
            surplus[targets[k]] += flow
            surplus[here] -= flow
    if any(surplus) or sum(by_state, Fraction(0)) != 1:
        raise AuditFailed("the proof's occupancy breaks the flow equations.")
    for name, row in limits.items():
        excess = sum((mass * row[pair] for pair, mass in occupancy.items()), Fraction(0))
        if excess > 0 or (excess and problem.limits[name].relation == "=="):
            raise AuditFailed(f"the proof's occupancy breaks {name!r} by {float(excess)}.")
    if sum((mass * numbers.rewards[pair] for pair, mass in occupancy.items()), Fraction(0)) != proof.optimum:
        raise AuditFailed("the proof's occupancy does not earn the optimum claimed.")
    for pair, probability in enumerate(policy.pair_probabilities.tolist()):
        mass, of_state = occupancy.get(pair, Fraction(0)), by_state[states[pair]]
        if of_state and abs(mass / of_state - Fraction(probability)) > ROUNDED:
            raise AuditFailed(f"the policy is not that of the proof in {mdp.pairs.describe(pair)}.")

"""Optima as fractions with their proofs, put into certificates."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from occlp._typing import FloatArray, frozen
from occlp.certificate import Certificate, to_sensitivity
from occlp.evaluation import Evaluation, assess, formulate, to_evaluation, to_total_evaluation
from occlp.exact.basis import prove_basis
from occlp.exact.form import ExactForm, Number, exact_form
from occlp.exact.gains import gain_residuals, optimal_gains
from occlp.exact.policies import exact_policy_iterations
from occlp.exact.totals import optimal_total
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.proof import ExactProof
from occlp.rationals import to_fraction
from occlp.residuals import pair_residuals
from occlp.total.assessment import assess_total
from occlp.total.form import formulate_total


def prove(problem: Problem, certificate: Certificate, evaluation: Evaluation) -> tuple[Certificate, Evaluation, str]:
    """The optimum of rewards as a fraction, an optimal policy, and words on what fractions changed.

    Raises `Unsupported` where no proof is found.
    """
    form, pairs = exact_form(problem), evaluation.policy.pairs
    if form.limits:
        basis = prove_basis(form, certificate, evaluation)
        policy = Policy.from_pairs(pairs, np.array(basis.probabilities))
        if form.total:
            return *_of_total(problem, certificate, policy, basis.proof), ""
        return *_exactly(problem, certificate, policy, basis.proof, basis.residuals), ""
    if form.total:
        total = optimal_total(problem)
        policy = Policy.from_choice(pairs, np.array(total.choice))
        values = tuple(None if value is None else to_fraction(form.sign * value) for value in total.values)
        proof = ExactProof(to_fraction(form.sign * total.optimum), values)
        return *_of_total(problem, certificate, policy, proof), changed(total.changes)
    choice, changes, proof, scores = best_of_rewards(form, form.rewards, evaluation.policy.choice.tolist())
    policy = Policy.from_choice(pairs, np.array(choice))
    return *_exactly(problem, certificate, policy, proof, [float(to_fraction(x)) for x in scores]), changed(changes)


def best_of_rewards(
    form: ExactForm, rewards: list[Number], choice: list[int]
) -> tuple[list[int], int, ExactProof, list[Number]]:
    """The best policy for some rewards [pairs], how often it changed, its proof and the residuals of the pairs."""
    if form.average:
        best = optimal_gains(form, rewards, choice)
        gains = [to_fraction(form.sign * gain) for gain in best.gains]
        optimum = sum((to_fraction(p) * g for p, g in zip(form.initial, gains, strict=True)), Fraction(0))
        values = tuple(to_fraction(form.sign * value) for value in best.values)
        proof = ExactProof(optimum, values, gains=() if min(gains) == max(gains) else tuple(gains))
        return best.choice, best.changes, proof, gain_residuals(form, rewards, best.gains, best.values)
    own = form if rewards is form.rewards else replace(form, rewards=rewards)
    for changes, found in enumerate(exact_policy_iterations(own, choice)):
        last, improvements = found, changes
    values = tuple(to_fraction(form.sign * value) for value in last.worth.values)
    return last.choice, improvements, ExactProof(to_fraction(form.sign * last.worth.gain), values), last.residuals


def changed(times: int) -> str:
    """Words on how often fractions mended what doubles had found."""
    return f" {times} improvements in fractions changed the policy." if times else ""


def _of_total(
    problem: Problem, certificate: Certificate, policy: Policy, proof: ExactProof
) -> tuple[Certificate, Evaluation]:
    """Put the proof of a total into a certificate; a state without a value is worth minus infinity."""
    total = formulate_total(problem)
    form, worth = total.base, float(_optimum(proof))
    found = assess_total(total, policy.pair_probabilities)
    evaluation = to_total_evaluation(problem, policy, found)
    totals = dict(evaluation.expected_total)
    if problem.objective == "reward":
        totals["reward"] = worth
    lost = -form.sign * math.inf
    values = np.array([lost if value is None else float(value) for value in proof.values])
    low = np.array(
        [0.0 if v is None else float(v - Fraction(high)) for v, high in zip(proof.values, values.tolist(), strict=True)]
    )
    prices = np.array([float(proof.multipliers[name]) for name in form.limits.names])
    standard = form.sign * np.where(np.isfinite(values), values, 0.0) / form.scale
    charge = prices * form.limits.units / form.scale @ form.limits.rows if len(prices) else 0.0
    short = pair_residuals(form, standard, None, form.rewards - charge)[0]
    certificate = _filled(certificate, proof, form.violation(found.visits))
    return replace(
        certificate,
        values=frozen(values), values_low=frozen(low), policy_values=frozen(values), policy_values_low=frozen(low),
        reduced_costs=frozen(form.scale * np.abs(short)), sensitivity=to_sensitivity(form, certificate.multipliers),
        assumptions=_assumed(problem),
    ), replace(evaluation, objective=worth, totals=totals)  # fmt: skip


def _exactly(
    problem: Problem, certificate: Certificate, policy: Policy, proof: ExactProof, residuals: list[float]
) -> tuple[Certificate, Evaluation]:
    """Put the proof into a certificate, and the doubles beside it that round its numbers."""
    form = formulate(problem)
    found = assess(form, policy.pair_probabilities)
    evaluation = replace(to_evaluation(problem, form, policy, found), objective=float(_optimum(proof)))
    values, values_low = two_doubles([value or Fraction(0) for value in proof.values])
    gains = frozen(np.array([float(gain) for gain in proof.gains]))
    # With prices no policy of doubles attains the optimum to the last digit; its own values prove what it attains.
    factor = form.sign * form.scale
    high, low = found.bracket.high, found.bracket.low
    own = (factor * high, factor * low) if form.limits.names else (values, values_low)
    certificate = _filled(certificate, proof, form.violation(found.pair_occupancy))
    return replace(
        certificate,
        values=frozen(values),
        values_low=frozen(values_low),
        policy_values=frozen(own[0]),
        policy_values_low=frozen(own[1]),
        gain_values=gains,
        policy_gain_values=gains,
        reduced_costs=frozen(np.abs(np.array(residuals))),
        sensitivity=to_sensitivity(form, certificate.multipliers),
        assumptions=_assumed(problem),
    ), evaluation


def _filled(certificate: Certificate, proof: ExactProof, violation: float) -> Certificate:
    """The certificate with the optimum of a proof."""
    lower, upper = outward(_optimum(proof))
    return replace(
        certificate,
        lower=lower,
        upper=upper,
        gap=0.0,
        rounding=0.0,
        violation=violation,
        multipliers={name: float(price) for name, price in proof.multipliers.items()},
        level="exact",
        proof=proof,
    )


def _optimum(proof: ExactProof) -> Fraction:
    assert proof.optimum is not None
    return proof.optimum


def _assumed(problem: Problem) -> tuple[str, ...]:
    return ("fractions, nothing rounded", *exact_form(problem).notes)


def outward(number: Fraction) -> tuple[float, float]:
    """The doubles next to a fraction, below and above; the same one twice where it is a double."""
    near = float(number)
    if near == number:
        return near, near
    return (near, math.nextafter(near, math.inf)) if near < number else (math.nextafter(near, -math.inf), near)


def two_doubles(values: list[Fraction]) -> tuple[FloatArray, FloatArray]:
    """Values as sums of two doubles each; a common offset is taken off first, so that differences keep their digits."""
    offset = min(values)
    high = np.array([float(value - offset) for value in values])
    low = np.array([float(value - offset - Fraction(top)) for value, top in zip(values, high.tolist(), strict=True)])
    return high, low

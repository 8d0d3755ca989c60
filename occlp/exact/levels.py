"""Raising a certificate above doubles: to intervals, or to the optimum as a fraction with its proof."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from occlp._typing import FloatArray, frozen
from occlp.certificate import Certificate, to_sensitivity
from occlp.errors import Unsupported
from occlp.evaluation import Evaluation, assess, formulate, to_evaluation, to_total_evaluation
from occlp.exact.balls import check_enclosable
from occlp.exact.basis import prove_basis
from occlp.exact.form import exact_form
from occlp.exact.intervals import enclose_bounds
from occlp.exact.policies import exact_policy_iterations
from occlp.exact.totals import optimal_total
from occlp.multichain import has_several
from occlp.policy import Policy
from occlp.problem import Problem, refuse_concave
from occlp.proof import ExactProof
from occlp.rationals import load_flint, to_fraction
from occlp.residuals import pair_residuals
from occlp.total.assessment import assess_total
from occlp.total.form import formulate_total


def check_level(problem: Problem, level: str) -> None:
    """Refuse a level that cannot be had: `Unsupported`, or `BackendMissing` without python-flint."""
    if level != "float":
        load_flint()
        if problem.criterion == "total" and level == "interval":
            raise Unsupported("certify='interval' is for discounted and average questions; totals have 'exact'.")
        if has_several(problem):
            raise Unsupported(f"certify={level!r} needs averages that do not depend on the start; these have 'float'.")
        refuse_concave(problem, f"certify={level!r} takes")
        check_enclosable(problem)


def raise_level(
    problem: Problem, certificate: Certificate, evaluation: Evaluation, level: str
) -> tuple[Certificate, Evaluation, str]:
    """Return the certificate at the level asked for, the evaluation that belongs to it, and words on the way.

    Where the optimum is no fraction that can be proved, an exact certificate becomes one of intervals,
    and the words say so.

    Raises `BackendMissing` without python-flint.
    """
    if level == "float" or certificate.infeasible_by is not None:
        return certificate, evaluation, ""
    if problem.criterion == "total":
        if level == "interval":  # what an unfinished run falls back to; totals have no intervals
            return certificate, evaluation, " The level 'exact' was not reached."
        return _prove_total(problem, certificate, evaluation)
    if level == "exact":
        reason = _beyond(problem)
        if reason is None:
            try:
                return _prove(problem, certificate, evaluation)
            except Unsupported as error:
                reason = str(error)
        certificate, evaluation = _enclose(problem, certificate, evaluation)
        return certificate, evaluation, f" No exact proof: {reason.rstrip('.')}. The bounds are those of intervals."
    return *_enclose(problem, certificate, evaluation), ""


def _enclose(problem: Problem, certificate: Certificate, evaluation: Evaluation) -> tuple[Certificate, Evaluation]:
    """Intervals, and the objective that lies between the ends."""
    certificate = enclose_bounds(problem, certificate, evaluation)
    kept = math.isfinite(certificate.gap) and not certificate.violation
    objective = min(max(evaluation.objective, certificate.lower), certificate.upper) if kept else evaluation.objective
    return certificate, replace(evaluation, objective=objective)


def _beyond(problem: Problem) -> str | None:
    """Why the optimum is no fraction, or None."""
    if problem.regularizer is None and problem.utility is None:
        return None
    return "the optimum of an objective with a term is in general no fraction"


def _prove(problem: Problem, certificate: Certificate, evaluation: Evaluation) -> tuple[Certificate, Evaluation, str]:
    form = exact_form(problem)
    if form.limits:
        basis = prove_basis(form, certificate, evaluation)
        policy = Policy.from_pairs(evaluation.policy.pairs, np.array(basis.probabilities))
        return *_exactly(problem, certificate, policy, basis.proof, basis.residuals), ""
    for changes, found in enumerate(exact_policy_iterations(form, evaluation.policy.choice.tolist())):
        last, improvements = found, changes
    policy = Policy.from_choice(evaluation.policy.pairs, np.array(last.choice))
    proof = ExactProof(
        optimum=to_fraction(form.sign * last.worth.gain),
        values=tuple(to_fraction(form.sign * value) for value in last.worth.values),
    )
    words = f" {improvements} improvements in fractions changed the policy." if improvements else ""
    return *_exactly(problem, certificate, policy, proof, [float(to_fraction(x)) for x in last.residuals]), words


def _prove_total(
    problem: Problem, certificate: Certificate, evaluation: Evaluation
) -> tuple[Certificate, Evaluation, str]:
    """The optimum of a total as a fraction; where there is none, the certificate as it is."""
    try:
        found = optimal_total(problem)
    except Unsupported as error:
        return certificate, evaluation, f" No exact proof: {str(error).rstrip('.')}. The bounds are those of doubles."
    sign = 1 if problem.sense == "maximize" else -1
    proof = ExactProof(
        optimum=sign * to_fraction(found.optimum), values=tuple(sign * to_fraction(value) for value in found.values)
    )
    policy = Policy.from_choice(evaluation.policy.pairs, np.array(found.choice))
    total = formulate_total(problem)
    worth = float(proof.optimum)
    evaluation = to_total_evaluation(problem, policy, assess_total(total, policy.pair_probabilities))
    totals = dict(evaluation.expected_total)
    if problem.objective == "reward":
        totals["reward"] = worth
    values = frozen(np.array([float(value) for value in proof.values]))
    zeros = frozen(np.zeros(len(values)))
    lower, upper = outward(proof.optimum)
    certificate = replace(
        certificate, lower=lower, upper=upper, gap=0.0, rounding=0.0, size=min(certificate.spread, abs(worth)),
        values=values, values_low=zeros, policy_values=values, policy_values_low=zeros,
        reduced_costs=frozen(np.abs(pair_residuals(total.base, total.base.sign * values / total.base.scale, None)[0])),
        violation=0.0, multipliers={}, sensitivity={}, level="exact", proof=proof,
        assumptions=("fractions, nothing rounded", *exact_form(problem).notes),
    )  # fmt: skip
    words = f" {found.changes} improvements in fractions changed the policy." if found.changes else ""
    return certificate, replace(evaluation, objective=worth, totals=totals), words


def _exactly(
    problem: Problem, certificate: Certificate, policy: Policy, proof: ExactProof, residuals: list[float]
) -> tuple[Certificate, Evaluation]:
    """Put the proof into a certificate, and the doubles beside it that round its numbers."""
    form = formulate(problem)
    found = assess(form, policy.pair_probabilities)
    evaluation = replace(to_evaluation(problem, form, policy, found), objective=float(proof.optimum))
    values, values_low = _two_doubles(proof.values)
    lower, upper = outward(proof.optimum)
    multipliers = {name: float(price) for name, price in proof.multipliers.items()}
    # With prices no policy of doubles attains the optimum to the last digit; its own values prove what it attains.
    factor = form.sign * form.scale
    high, low = found.bracket.high, found.bracket.low
    own = (factor * high, factor * low) if form.limits.names else (values, values_low)
    return replace(
        certificate,
        lower=lower,
        upper=upper,
        gap=0.0,
        rounding=0.0,
        size=min(certificate.spread, abs(float(proof.optimum))),
        values=frozen(values),
        values_low=frozen(values_low),
        policy_values=frozen(own[0]),
        policy_values_low=frozen(own[1]),
        reduced_costs=frozen(np.abs(np.array(residuals))),
        violation=form.violation(found.pair_occupancy),
        multipliers=multipliers,
        sensitivity=to_sensitivity(form, multipliers),
        level="exact",
        proof=proof,
        assumptions=("fractions, nothing rounded", *exact_form(problem).notes),
    ), evaluation


def outward(number: Fraction) -> tuple[float, float]:
    """The doubles next to a fraction, below and above; the same one twice where it is a double."""
    near = float(number)
    if near == number:
        return near, near
    return (near, math.nextafter(near, math.inf)) if near < number else (math.nextafter(near, -math.inf), near)


def _two_doubles(values: tuple[Fraction, ...]) -> tuple[FloatArray, FloatArray]:
    """Values as sums of two doubles each; a common offset is taken off first, so that differences keep their digits."""
    offset = min(values)
    high = np.array([float(value - offset) for value in values])
    low = np.array([float(value - offset - Fraction(top)) for value, top in zip(values, high.tolist(), strict=True)])
    return high, low

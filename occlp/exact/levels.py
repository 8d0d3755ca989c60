"""Raising a certificate above doubles: to intervals, or to fractions that prove it."""

from __future__ import annotations

import math
from dataclasses import replace

from occlp.certificate import Certificate, tolerance_size
from occlp.errors import Unsupported
from occlp.evaluation import Evaluation, formulate
from occlp.exact.balls import check_enclosable
from occlp.exact.disproofs import disprove_exactly
from occlp.exact.intervals import enclose_bounds, enclose_infeasible
from occlp.exact.proofs import prove
from occlp.exact.total_intervals import enclose_infeasible_total, enclose_total
from occlp.problem import Problem
from occlp.rationals import load_flint
from occlp.total.form import formulate_total


def check_level(problem: Problem) -> None:
    """Refuse a level above doubles that cannot be had: `Unsupported`, or `BackendMissing` without python-flint."""
    load_flint()
    check_enclosable(problem)


def raise_level(
    problem: Problem, certificate: Certificate, evaluation: Evaluation, level: str
) -> tuple[Certificate, Evaluation, str]:
    """Return the certificate at the level asked for, the evaluation that belongs to it, and words on the way.

    Where the optimum is no fraction that can be proved, an exact certificate becomes one of intervals; where even
    these prove nothing it stays as it is. The words say so.
    """
    words = ""
    if level == "exact":
        try:
            _refuse_curved(problem)
            certificate, evaluation, words = prove(problem, certificate, evaluation)
            return _sized(problem, certificate), evaluation, words
        except Unsupported as error:
            words = f" No exact proof: {str(error).rstrip('.')}. The bounds are those of intervals."
    try:
        return *_enclose(problem, certificate, evaluation), words
    except Unsupported as error:
        words = words.removesuffix(" The bounds are those of intervals.")
        words += f" The level 'interval' was not reached: {str(error).rstrip('.')}. The bounds are those of doubles."
    return certificate, evaluation, words


def raise_disproof(
    problem: Problem, certificate: Certificate, evaluation: Evaluation, level: str
) -> tuple[Certificate, str]:
    """The same for the claim that there is no optimum: constraints that cannot be kept, totals without a bound."""
    try:
        if level == "interval" and certificate.infeasible_by is not None:
            total = problem.criterion == "total"
            return (enclose_infeasible_total if total else enclose_infeasible)(problem, certificate), ""
        if problem.concave_limits:  # prices and majorants are enclosed
            return enclose_infeasible(problem, certificate), " Concave constraints have intervals, not fractions."
        return disprove_exactly(problem, certificate, evaluation.policy), ""
    except Unsupported as error:
        return certificate, f" The level {level!r} was not reached: {str(error).rstrip('.')}."


def _enclose(problem: Problem, certificate: Certificate, evaluation: Evaluation) -> tuple[Certificate, Evaluation]:
    """Intervals, and the objective that lies between the ends."""
    if problem.criterion == "total":
        certificate = enclose_total(problem, certificate, evaluation)
    else:
        certificate = enclose_bounds(problem, certificate, evaluation)
    kept = math.isfinite(certificate.gap) and not certificate.violation
    objective = min(max(evaluation.objective, certificate.lower), certificate.upper) if kept else evaluation.objective
    return _sized(problem, certificate), replace(evaluation, objective=objective)


def _sized(problem: Problem, certificate: Certificate) -> Certificate:
    """The certificate with the size of its own ends."""
    total = problem.criterion == "total"
    form = formulate_total(problem).base if total else formulate(problem)
    return replace(certificate, size=tolerance_size(form, (certificate.lower, certificate.upper), total=total))


def _refuse_curved(problem: Problem) -> None:
    """Raise `Unsupported` where the optimum is in general no fraction."""
    if problem.regularizer is not None or problem.utility is not None:
        raise Unsupported("the optimum of an objective with a term is in general no fraction")
    if problem.concave_limits:
        raise Unsupported("the optimum of a question with a concave constraint is in general no fraction")

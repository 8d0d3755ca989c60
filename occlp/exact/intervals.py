"""Both bounds of a certificate in ball arithmetic: rigorous enclosures for the model exactly as given.

The formulas are those of docs/conventions.md, section 6, evaluated by Arb (Johansson 2017) on the model's
fractions with the values, prices and policy that the certificate holds; every ball is rounded outwards.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from occlp._typing import FloatArray
from occlp.certificate import Certificate
from occlp.evaluation import Evaluation
from occlp.exact.balls import enclosed_bonus, enclosed_bound, enclosed_value
from occlp.exact.form import ExactForm, exact_form
from occlp.problem import Problem
from occlp.rationals import load_flint, to_rational

#: Bits of the arithmetic: doubles have 53.
BITS = 256


def enclose_bounds(problem: Problem, certificate: Certificate, evaluation: Evaluation) -> Certificate:
    """Return the certificate with both bounds enclosed by intervals; see `check_enclosable`."""
    form, flint = exact_form(problem), load_flint()
    with flint.ctx.workprec(BITS):
        above = _above(problem, form, certificate)
        below = _below(problem, form, certificate, evaluation)
        if not math.isfinite(certificate.gap):  # the policy breaks the constraints: it proves nothing
            below = flint.arb.neg_inf()
        # What a violation within the tolerance has gained is taken off again, at the prices known.
        prices = sum(abs(flint.arb(price)) for price in certificate.multipliers.values())
        below = below - prices * flint.arb(certificate.violation)
        gap, noise = _rounded(above - below, up=True), 4.0 * float((above - below).rad())
        ends = sorted((form.sign * _rounded(below, up=False), form.sign * _rounded(above, up=True)))
    return replace(
        certificate,
        lower=ends[0],
        upper=ends[1],
        gap=max(gap, 0.0),
        rounding=max(certificate.rounding, noise),  # the values themselves are doubles
        level="interval",
        assumptions=(f"intervals of {BITS} bits, rounded outwards", *form.notes),
    )


def _rounded(ball: Any, *, up: bool) -> float:
    """The nearest double that is not inside the end of a ball."""
    arb = load_flint().arb
    end = ball.upper() if up else ball.lower()
    near = float(end)
    if (arb(near) >= end) if up else (arb(near) <= end):
        return near + 0.0
    return math.nextafter(near, math.inf if up else -math.inf) + 0.0


def _above(problem: Problem, form: ExactForm, certificate: Certificate) -> Any:
    """(1 − γ) μ0·V + bound(ρ) with the rewards less the prices."""
    values = _values(form, certificate.values, certificate.values_low)
    prices = [to_rational(certificate.multipliers[limit.name]) for limit in form.limits]
    charge = [
        sum((y * limit.row[pair] for y, limit in zip(prices, form.limits, strict=True)), 0 * form.rest)
        for pair in range(len(form.rows))
    ]
    rewards = [reward - paid for reward, paid in zip(form.rewards, charge, strict=True)]
    return _base(form, values) + enclosed_bound(problem, form, _residuals(form, rewards, values))


def _below(problem: Problem, form: ExactForm, certificate: Certificate, evaluation: Evaluation) -> Any:
    """(1 − γ) μ0·W + min Σ_a π ρ + f(d) of the policy."""
    arb = load_flint().arb
    values = _values(form, certificate.policy_values, certificate.policy_values_low)
    policy = evaluation.policy
    bonus = enclosed_bonus(problem, form, policy)
    scores = _residuals(form, form.rewards, values)
    means = []
    for state, (first, last) in enumerate(zip(form.start[:-1], form.start[1:], strict=True)):
        chances = [arb(p) for p in policy.pair_probabilities[first:last].tolist()]
        earned = sum((p * q for p, q in zip(chances, scores[first:last], strict=True)), arb(0))
        means.append(earned / sum(chances, arb(0)) + bonus[state])
    return _base(form, values) + _least(means) + enclosed_value(problem, form, policy)


def _values(form: ExactForm, high: FloatArray, low: FloatArray) -> list[Any]:
    """V, [S], of the maximised question."""
    arb = load_flint().arb
    return [form.sign * (arb(x) + arb(y)) for x, y in zip(high.tolist(), low.tolist(), strict=True)]


def _base(form: ExactForm, values: list[Any]) -> Any:
    arb = load_flint().arb
    return arb(form.rest) * sum((arb(p) * v for p, v in zip(form.initial, values, strict=True) if p), arb(0))


def _residuals(form: ExactForm, rewards: list[Any], values: list[Any]) -> list[Any]:
    """ρ = r + γ Σ p (V' − V) − (1 − γ) V as balls, [pairs]."""
    arb = load_flint().arb
    gamma, rest = arb(form.discount), arb(form.rest)
    out = []
    for pair, (targets, weights, unit) in enumerate(form.rows):
        here = values[form.states[pair]]
        moved = sum((arb(w) * (values[t] - here) for t, w in zip(targets, weights, strict=True)), arb(0))
        out.append(arb(rewards[pair]) + gamma * moved / arb(unit) - rest * here)
    return out


def _least(balls: list[Any]) -> Any:
    least = balls[0]
    for ball in balls[1:]:
        least = least.min(ball)
    return least

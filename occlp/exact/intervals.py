"""Both bounds of a certificate in ball arithmetic: rigorous enclosures for the model exactly as given.

The formulas are those of docs/conventions.md, section 6, evaluated by Arb (Johansson 2017) on the model's
fractions with the values, prices and policy that the certificate holds; every ball is rounded outwards.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

from occlp._typing import FloatArray
from occlp.certificate import Certificate
from occlp.errors import Unsupported
from occlp.evaluation import Evaluation
from occlp.exact.balls import enclosed_bonus, enclosed_bound, enclosed_majorant, enclosed_value, greatest
from occlp.exact.form import ExactForm, exact_form
from occlp.exact.never_rising import best_gains, policy_gains
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.rationals import load_flint

#: Bits of the arithmetic: doubles have 53.
BITS = 256


def enclose_bounds(problem: Problem, certificate: Certificate, evaluation: Evaluation) -> Certificate:
    """Return the certificate with both bounds enclosed by intervals.

    Raises `Unsupported` where gains are needed in fractions and cannot be had.
    """
    form, flint = exact_form(problem), load_flint()
    with flint.ctx.workprec(BITS):
        above = _above(problem, form, certificate)
        below = _below(problem, form, certificate, evaluation.policy)
        if not math.isfinite(certificate.gap):  # the policy breaks the constraints: it proves nothing
            below = flint.arb.neg_inf()
        return enclosed(form, certificate, below, above)


def enclosed(form: ExactForm, certificate: Certificate, below: Any, above: Any) -> Certificate:
    """The certificate with the ends of two balls, to be maximised, as its bounds."""
    arb = load_flint().arb
    # What a violation within the tolerance has gained is taken off again, at the prices known.
    prices = sum((abs(arb(price)) for price in certificate.multipliers.values()), arb(0))
    below = below - prices * arb(certificate.violation)
    ends = sorted((form.sign * rounded(below, up=False), form.sign * rounded(above, up=True)))
    equal = ends[0] == ends[1]  # both may be infinite
    gap, noise = (0.0, 0.0) if equal else (rounded(above - below, up=True), 4.0 * float((above - below).rad()))
    return replace(
        certificate,
        lower=ends[0],
        upper=ends[1],
        gap=max(gap, 0.0),
        rounding=max(certificate.rounding, noise if math.isfinite(noise) else 0.0),  # the values are doubles
        level="interval",
        assumptions=enclosing_words(form, certificate),
    )


def enclosing_words(form: ExactForm, certificate: Certificate) -> tuple[str, ...]:
    """What intervals take for granted: how the numbers were read, and what is said of a user's functions."""
    users = (text for text in certificate.assumptions if "utility" in text)
    return (f"intervals of {BITS} bits, rounded outwards", *form.notes, *users)


def enclose_infeasible(problem: Problem, certificate: Certificate) -> Certificate:
    """The certificate that no policy keeps the constraints, with the priced violation enclosed.

    Raises `Unsupported` where the enclosure proves nothing.
    """
    form, flint = exact_form(problem), load_flint()
    with flint.ctx.workprec(BITS):
        values = _values(replace(form, sign=1), certificate.values, certificate.values_low)
        nothing = [flint.arb(0)] * len(form.rows)
        scores = _residuals(form, priced_balls(problem, form, certificate, nothing), values)
        short = rounded(-_base(form, values) - greatest(scores), up=False)
    if not short > 0:
        raise Unsupported("intervals do not prove that the constraints cannot be kept")
    return replace(certificate, infeasible_by=short, level="interval", assumptions=enclosing_words(form, certificate))


def rounded(ball: Any, *, up: bool) -> float:
    """The nearest double that is not inside the end of a ball."""
    arb = load_flint().arb
    end = ball.upper() if up else ball.lower()
    near = float(end)
    if (arb(near) >= end) if up else (arb(near) <= end):
        return near + 0.0
    return math.nextafter(near, math.inf if up else -math.inf) + 0.0


def _above(problem: Problem, form: ExactForm, certificate: Certificate) -> Any:
    """(1 − γ) μ0·V + bound(ρ) with the rewards less the prices; μ0·G more, and G less in ρ, where there are gains."""
    values = _values(form, certificate.values, certificate.values_low)
    rewards = priced_balls(problem, form, certificate, form.rewards)
    gains = best_gains(form, certificate)
    scores = _residuals(form, rewards, values)
    if gains:
        scores = [score - load_flint().arb(gains[state]) for score, state in zip(scores, form.states, strict=True)]
    setting = problem.regularizer or problem.utility
    return _base(form, values) + _mean(form, gains) + enclosed_bound(problem, form, setting, scores, certificate.dual)


def priced_balls(problem: Problem, form: ExactForm, certificate: Certificate, rewards: list[Any]) -> list[Any]:
    """Rewards less the prices of the limits, [pairs]; those of concave limits weigh their majorants."""
    arb, out = load_flint().arb, form.priced(rewards, certificate.multipliers)
    for name, concave in problem.concave_limits.items():
        price = arb(certificate.multipliers[name])
        if price > 0:
            charge = enclosed_majorant(problem, form, concave, certificate.majorants[name])
            out = [arb(before) - price * cost for before, cost in zip(out, charge, strict=True)]
    return out


def _below(problem: Problem, form: ExactForm, certificate: Certificate, policy: Policy) -> Any:
    """(1 − γ) μ0·W + min Σ_a π ρ + f(d) of the policy."""
    values = _values(form, certificate.policy_values, certificate.policy_values_low)
    gains = policy_gains(form, certificate, policy)
    bonus = enclosed_bonus(problem, form, policy)
    means = policy_means(form, policy, _residuals(form, form.rewards, values))
    means = [mean + more for mean, more in zip(means, bonus, strict=True)]
    if gains:
        means = [mean - load_flint().arb(gain) for mean, gain in zip(means, gains, strict=True)]
    attained = enclosed_value(problem, form, policy)
    return _base(form, values) + _mean(form, gains) + least(means) + attained


def policy_means(form: ExactForm, policy: Policy, scores: list[Any]) -> list[Any]:
    """Σ_a π(a | s) q(s, a), [S]; probabilities are divided by their sum."""
    arb, means = load_flint().arb, []
    for first, last in pairwise(form.start):
        chances = [arb(p) for p in policy.pair_probabilities[first:last].tolist()]
        used = [(p, q) for p, q in zip(chances, scores[first:last], strict=True) if p != 0]
        means.append(sum((p * q for p, q in used), arb(0)) / sum(chances, arb(0)))
    return means


def _mean(form: ExactForm, gains: list[Any]) -> Any:
    """μ0·G."""
    arb = load_flint().arb
    return sum((arb(p * gain) for p, gain in zip(form.initial, gains, strict=True)), arb(0)) if gains else arb(0)


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


def least(balls: list[Any]) -> Any:
    """The least of some balls."""
    return -greatest([-ball for ball in balls])

"""Both bounds of a total in ball arithmetic, for the model exactly as given.

The values of the certificate were raised, and those of its policy lowered, beyond the rounding of doubles. So the
inequalities that they prove the bounds with hold strictly, and balls confirm them pair by pair.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from occlp._typing import BoolArray, FloatArray
from occlp.certificate import Certificate
from occlp.errors import Unsupported
from occlp.evaluation import Evaluation
from occlp.exact.disproofs import charged
from occlp.exact.form import ExactForm, exact_form
from occlp.exact.intervals import BITS, enclosed, enclosing_words, policy_means, rounded
from occlp.graph import certain_for_some, closed_classes, maximal_end_components, reachable
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.rationals import load_flint


def enclose_total(problem: Problem, certificate: Certificate, evaluation: Evaluation) -> Certificate:
    """Return the certificate of a total with both bounds enclosed by intervals.

    Raises `Unsupported` where balls do not confirm them.
    """
    form, flint = exact_form(problem), load_flint()
    with flint.ctx.workprec(BITS):
        above = below = flint.arb.neg_inf()
        if not np.isposinf(form.sign * np.asarray(certificate.values)).any():
            above = _above(form, certificate, nothing=False)
        else:
            above = flint.arb.pos_inf()
        attained = form.sign * (certificate.lower if form.sign > 0 else certificate.upper)
        if math.isfinite(attained):
            below = _below(form, certificate, evaluation.policy)
        return enclosed(form, certificate, below, above)


def enclose_infeasible_total(problem: Problem, certificate: Certificate) -> Certificate:
    """The certificate that no policy keeps the constraints of a total, with the priced violation enclosed.

    Raises `Unsupported` where the enclosure proves nothing.
    """
    form = replace(exact_form(problem), sign=1)
    with load_flint().ctx.workprec(BITS):
        short = rounded(-_above(form, certificate, nothing=True), up=False)
    if not (short > 0 and math.isfinite(short)):
        raise Unsupported("intervals do not prove that the constraints cannot be kept")
    return replace(certificate, infeasible_by=short, level="interval", assumptions=enclosing_words(form, certificate))


def _above(form: ExactForm, certificate: Certificate, *, nothing: bool) -> Any:
    """μ0·V + y·b, once V ≥ r − y·C + PV is confirmed; with the rewards left out where `nothing` is earned."""
    arb = load_flint().arb
    values = form.sign * (np.asarray(certificate.values) + 0.0)
    lost = np.isneginf(values)
    needed = np.array([bool(p) for p in form.initial])
    if lost.any() and (not form.must_end or (lost & (needed | _certain(form))).any()):
        raise Unsupported("that no policy ends well from some states is known in doubles only")
    rewards, credit = charged(form, certificate)
    if not nothing:
        rewards = [price + earned for price, earned in zip(rewards, form.rewards, strict=True)]
    held = _held(form, np.where(lost, 0.0, values), certificate.values_low)
    scores = _residuals(form, rewards, held)
    counted = ~(lost[form.graph.pair_states] | form.graph.some(lost) | form.goal[form.graph.pair_states])
    if any(not scores[pair] <= 0 for pair in np.flatnonzero(counted).tolist()):
        raise Unsupported("for the model exactly as given the values bound nothing")
    if not form.must_end:
        tight = counted & np.array([not score < 0 for score in scores])
        staying = maximal_end_components(form.graph, tight).component >= 0
        if any(not held[s] >= 0 for s in np.flatnonzero(staying).tolist()):
            raise Unsupported("a policy may stay for ever where the values are negative")
    mean = sum((arb(p) * v for p, v in zip(form.initial, held, strict=True) if p), arb(0))
    return mean + arb(credit) + (arb(0) if nothing else _already(form))


def _below(form: ExactForm, certificate: Certificate, policy: Policy) -> Any:
    """μ0·W, once W ≤ r + PW is confirmed under a policy that ends."""
    arb, used = load_flint().arb, policy.pair_probabilities > 0
    start = np.array([bool(p) for p in form.initial])
    reached = reachable(form.graph, start, used & ~form.goal[form.graph.pair_states])
    ends = (closed_classes(form.graph, used).label >= 0) & reached
    stays = ends & ~form.goal
    earning = np.array([bool(r) for r in form.rewards]) & used & stays[form.graph.pair_states]
    if stays.any() and (form.must_end or earning.any()):
        raise Unsupported("the policy does not end almost surely")
    inner = reached & ~ends & ~form.goal
    values = form.sign * (np.asarray(certificate.policy_values) + 0.0)
    usable = np.where(np.isfinite(values) & inner, values, 0.0)
    low = np.where(inner, certificate.policy_values_low, 0.0)
    held = _held(form, usable, low)
    means = policy_means(form, policy, _residuals(form, form.rewards, held))
    if not np.isfinite(values[inner]).all() or any(not means[s] >= 0 for s in np.flatnonzero(inner).tolist()):
        raise Unsupported("for the model exactly as given the policy's values prove nothing")
    return sum((arb(p) * v for p, v in zip(form.initial, held, strict=True) if p), arb(0)) + _already(form)


def _already(form: ExactForm) -> Any:
    """What the goal is worth to those who begin there."""
    arb = load_flint().arb
    return sum((arb(p * form.boundary) for p, end in zip(form.initial, form.goal, strict=True) if end), arb(0))


def _held(form: ExactForm, values: FloatArray, low: FloatArray) -> list[Any]:
    """Values as balls, [S]; 0 in the goal, where rewards are counted on the way in."""
    arb = load_flint().arb
    pairs = zip(values.tolist(), (form.sign * np.asarray(low)).tolist(), form.goal.tolist(), strict=True)
    return [arb(0) if end else arb(high) + arb(more) for high, more, end in pairs]


def _residuals(form: ExactForm, rewards: list[Any], values: list[Any]) -> list[Any]:
    """r + Σ p (V' − V) as balls, [pairs]."""
    arb, out = load_flint().arb, []
    for pair, (targets, weights, unit) in enumerate(form.rows):
        here = values[form.states[pair]]
        moved = sum((arb(w) * (values[t] - here) for t, w in zip(targets, weights, strict=True)), arb(0))
        out.append(arb(rewards[pair]) + moved / arb(unit))
    return out


def _certain(form: ExactForm) -> BoolArray:
    """States, [S], that the start may lead to, and from which some policy reaches the goal almost surely."""
    live = ~form.goal[form.graph.pair_states]
    reached = reachable(form.graph, np.array([bool(p) for p in form.initial]), live)
    return reached & certain_for_some(form.graph, form.goal, live)

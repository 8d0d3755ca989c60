"""Concave terms in balls: their bounds, and their values at the occupancy of a policy.

q are the scores r + γPV − V of the pairs, d the occupancy; the formulas are those of `occlp.terms`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from occlp.errors import Unsupported
from occlp.exact.chain import ExactChain, pair_flow
from occlp.exact.form import ExactForm
from occlp.graph import reachable
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.rationals import load_flint
from occlp.terms import KL, ConditionalKL, OccupancyEntropy, PolicyEntropy, StateEntropy

Ball = Any  # an arb of python-flint


def check_enclosable(problem: Problem) -> None:
    """Raise `Unsupported` for an objective that has no enclosure."""
    setting = problem.regularizer or problem.utility
    if not isinstance(setting, KL | ConditionalKL | PolicyEntropy | StateEntropy | OccupancyEntropy | None):
        raise Unsupported(
            f"certify='interval' encloses rewards, KL and entropies, not {type(setting).__name__}. Use certify='float'."
        )


def enclosed_bound(problem: Problem, form: ExactForm, scores: list[Ball]) -> Ball:
    """Enclose the bound on sup q·d + f(d) over the simplex."""
    setting: Any = problem.regularizer or problem.utility
    if setting is None:
        return _greatest(scores)
    strength = _strength(setting)
    spans = [range(first, last) for first, last in pairwise(form.start)]
    one = load_flint().arb(1)
    if isinstance(setting, KL):
        return _soft(scores, occupancy(form, setting.reference), strength)
    if isinstance(setting, OccupancyEntropy):
        return _soft(scores, [one] * len(scores), strength)
    if isinstance(setting, StateEntropy):
        return _soft([_greatest([scores[k] for k in span]) for span in spans], [one] * len(spans), strength)
    base = _reference(setting, len(scores))
    return _greatest([_soft([scores[k] for k in span], [base[k] for k in span], strength) for span in spans])


def enclosed_bonus(problem: Problem, form: ExactForm, policy: Policy) -> list[Ball]:
    """What a state earns beside its reward, [S], for terms that are linear in d at a fixed policy."""
    setting: Any = problem.regularizer
    arb = load_flint().arb
    if not isinstance(setting, ConditionalKL | PolicyEntropy):
        return [arb(0)] * form.n_states
    base, shares = _reference(setting, len(form.rows)), _shares(form, policy)
    return [
        -_strength(setting) * sum((_log_ratio(shares[k], base[k]) for k in range(first, last)), arb(0))
        for first, last in pairwise(form.start)
    ]


def enclosed_value(problem: Problem, form: ExactForm, policy: Policy) -> Ball:
    """Enclose f(d) of the other terms at the occupancy of a policy."""
    setting: Any = problem.regularizer or problem.utility
    arb = load_flint().arb
    if setting is None or isinstance(setting, ConditionalKL | PolicyEntropy):
        return arb(0)
    mass = occupancy(form, policy)
    if isinstance(setting, KL):
        pairs = zip(mass, occupancy(form, setting.reference), strict=True)
        return -_strength(setting) * sum((_log_ratio(d, prior) for d, prior in pairs), arb(0))
    if isinstance(setting, StateEntropy):
        mass = [sum(mass[first:last], arb(0)) for first, last in pairwise(form.start)]
    return -_strength(setting) * sum((_log_ratio(d, arb(1)) for d in mass), arb(0))


def occupancy(form: ExactForm, policy: Policy) -> list[Ball]:
    """d^π as balls, [pairs]; exactly zero where the policy never is.

    Raises `Unsupported` for chains too large to solve.
    """
    arb, shares = load_flint().arb, _shares(form, policy)
    flows: list[dict[int, Ball]] = []
    for first, last in pairwise(form.start):
        flow: dict[int, Ball] = {}
        for pair in range(first, last):
            if shares[pair] != 0:
                for target, rate in pair_flow(form, pair).items():
                    flow[target] = flow.get(target, arb(0)) + shares[pair] * rate
        flows.append(flow)
    used = np.asarray(policy.pair_probabilities) > 0
    visited = np.array([bool(p) for p in form.initial])
    if form.discount:
        visited = reachable(form.graph, visited, used)
    mass = ExactChain(form, flows, used).occupancy()
    return [mass[s] * share if visited[s] else arb(0) for s, share in zip(form.states, shares, strict=True)]


def _shares(form: ExactForm, policy: Policy) -> list[Ball]:
    """π(a | s) divided by their sum in each state, [pairs]."""
    arb = load_flint().arb
    given = [arb(p) for p in policy.pair_probabilities.tolist()]
    sums = [sum(given[first:last], arb(0)) for first, last in pairwise(form.start)]
    return [p / sums[s] for p, s in zip(given, form.states, strict=True)]


def _strength(setting: Any) -> Ball:
    return load_flint().arb(setting.strength)


def _reference(setting: Any, n_pairs: int) -> list[Ball]:
    arb = load_flint().arb
    if isinstance(setting, PolicyEntropy):
        return [arb(1)] * n_pairs
    return [arb(p) for p in setting.reference.pair_probabilities.tolist()]


def _soft(scores: list[Ball], base: list[Ball], strength: Ball) -> Ball:
    """τ log Σ base exp(q / τ)."""
    used = [(q, b) for q, b in zip(scores, base, strict=True) if b != 0]
    top = max((q.mid() for q, _ in used), default=load_flint().arb(0))
    return top + strength * sum(b * ((q - top) / strength).exp() for q, b in used).log()


def _log_ratio(mass: Ball, prior: Ball) -> Ball:
    """Enclose m log(m / p); 0 for no mass, +inf where there is no prior."""
    arb = load_flint().arb
    if mass == 0:
        return arb(0)
    if prior == 0:
        return arb.pos_inf()
    if mass > 0:
        return mass * (mass / prior).log()
    # The ball reaches 0, where m log m has a limit but no logarithm: it falls until 1/e.
    end = arb(mass.upper())
    if not end < 0.3:
        return arb.nan()
    return arb(0).union(end * end.log()) - arb(0).union(end) * prior.log()


def _greatest(balls: list[Ball]) -> Ball:
    greatest = balls[0]
    for ball in balls[1:]:
        greatest = greatest.max(ball)
    return greatest

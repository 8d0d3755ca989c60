"""Concave terms in balls: their bounds, and their values at the occupancy of a policy.

q are the scores r + γPV − V of the pairs, d the occupancy; the formulas are those of `occlp.terms`.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.constraints import ConcaveConstraint, expected
from occlp.errors import Unsupported
from occlp.exact.chain import ExactChain, pair_flow
from occlp.exact.form import ExactForm
from occlp.graph import reachable
from occlp.model.exact import exact_numbers
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.rationals import load_flint, to_rational
from occlp.terms import (
    KL,
    ConditionalKL,
    LogSum,
    Majorant,
    OccupancyEntropy,
    PolicyEntropy,
    StateEntropy,
    TotalVariation,
    Utility,
    WorstCase,
)

Ball = Any  # an arb of python-flint


def check_enclosable(problem: Problem) -> None:
    """Raise `Unsupported` for an objective that has no enclosure."""
    if isinstance(problem.utility, Utility):
        raise Unsupported(
            "certify='interval' and 'exact' enclose rewards and the terms of the library; of a user's oc.Utility only "
            "doubles are known. Use certify='float'."
        )


def enclosed_bound(problem: Problem, form: ExactForm, setting: Any, scores: list[Ball], dual: FloatArray) -> Ball:
    """Enclose the bound on sup q·d + f(d) over the simplex, f being that of a setting (None: no f)."""
    if setting is None:
        return greatest(scores)
    if isinstance(setting, TotalVariation | LogSum | WorstCase):
        return _bound_of_expectations(problem, form, setting, scores, dual)
    strength = _strength(setting)
    spans = [range(first, last) for first, last in pairwise(form.start)]
    one = load_flint().arb(1)
    if isinstance(setting, KL):
        return _soft(scores, occupancy(form, setting.reference), strength)
    if isinstance(setting, OccupancyEntropy):
        return _soft(scores, [one] * len(scores), strength)
    if isinstance(setting, StateEntropy):
        return _soft([greatest([scores[k] for k in span]) for span in spans], [one] * len(spans), strength)
    base = _reference(setting, len(scores))
    return greatest([_soft([scores[k] for k in span], [base[k] for k in span], strength) for span in spans])


def _bound_of_expectations(
    problem: Problem, form: ExactForm, setting: Any, scores: list[Ball], dual: FloatArray
) -> Ball:
    """The bounds of total variation, of log sums and of the worst case."""
    arb = load_flint().arb
    if isinstance(setting, TotalVariation):
        top = greatest(scores)
        excess = ((q + 1 - top).max(arb(0)) for q in scores)
        target = _target(form, problem, setting)
        return top - 1 + sum((m * x for m, x in zip(target, excess, strict=True)), arb(0))
    weights = [arb(y) for y in dual.tolist()]
    if isinstance(setting, WorstCase):
        total = sum(weights, arb(0))
        weights = [y / total for y in weights]
    rows = _rows(problem, setting)
    moved = [
        arb(q) + sum((y * row[pair] for y, row in zip(weights, rows, strict=True)), arb(0))
        for pair, q in enumerate(scores)
    ]
    if isinstance(setting, WorstCase):
        return greatest(moved)
    shares = [arb(w) for w in setting.weights or [1.0] * len(rows)]
    return greatest(moved) - sum((w * (1 + (y / w).log()) for y, w in zip(weights, shares, strict=True)), arb(0))


def enclosed_majorant(problem: Problem, form: ExactForm, limit: ConcaveConstraint, majorant: Majorant) -> list[Ball]:
    """b − offset − slope of every pair: what a concave limit costs at a price of one.

    The offset is the supremum of f(d) − slope·d, enclosed anew; that of a user's function is the one stored.
    """
    arb = load_flint().arb
    slope = [arb(x) for x in majorant.slope.tolist()]
    offset = arb(majorant.offset)
    if not isinstance(limit.utility, Utility):
        offset = enclosed_bound(problem, form, limit.utility, [-x for x in slope], majorant.dual)
    return [arb(to_rational(limit.exact_bound)) - offset - x for x in slope]


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
    if isinstance(setting, TotalVariation):
        pairs = zip(mass, _target(form, problem, setting), strict=True)
        return -sum((abs(d - m) for d, m in pairs), arb(0)) / 2
    if isinstance(setting, LogSum | WorstCase):
        means = [sum((d * c for d, c in zip(mass, row, strict=True)), arb(0)) for row in _rows(problem, setting)]
        if isinstance(setting, WorstCase):
            return -greatest([-mean for mean in means])
        weights = setting.weights or [1.0] * len(means)
        return sum((arb(w) * mean.log() for w, mean in zip(weights, means, strict=True)), arb(0))
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


def greatest(balls: list[Ball]) -> Ball:
    """The greatest of some balls."""
    greatest = balls[0]
    for ball in balls[1:]:
        greatest = greatest.max(ball)
    return greatest


def _rows(problem: Problem, setting: Any) -> list[list[Ball]]:
    """What the expectations of a utility weigh the pairs with, [k][pairs]."""
    arb, numbers = load_flint().arb, exact_numbers(problem.mdp)
    listed = [expected(what) if isinstance(what, str) else what for what in setting.expectations]
    rows = (what.fractions(problem.mdp, numbers, Fraction(1)) for what in listed)
    return [[arb(to_rational(cost)) for cost in row] for row in rows]


def _target(form: ExactForm, problem: Problem, setting: Any) -> list[Ball]:
    """The distribution that total variation is measured from, [pairs]."""
    if isinstance(setting.target, Policy):
        return occupancy(form, setting.target)
    pairs, arb = problem.mdp.pairs, load_flint().arb
    given = [arb(x) for x in np.asarray(setting.target, dtype=np.float64)[pairs.states, pairs.actions].tolist()]
    total = sum(given, arb(0))
    return [x / total for x in given]

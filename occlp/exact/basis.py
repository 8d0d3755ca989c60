"""Constrained optima in rationals: a basis of the occupancy program, taken from an answer in doubles and proved.

A basis is a deterministic policy and as many further pairs as there are limits that bind. All that is
needed of it follows from the values of the reward and of each limit's row along the chain of that policy:
an occupancy that gives the further pairs the masses x earns gain + Σ x(e) · advantage(e), for rewards and
for limits alike, and the prices make the advantages of the further pairs vanish.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, islice, pairwise, product

import numpy as np

from occlp.certificate import Certificate
from occlp.errors import Unsupported
from occlp.evaluation import Evaluation
from occlp.exact.chain import ExactChain, residuals
from occlp.exact.form import ExactForm, Number
from occlp.proof import ExactProof
from occlp.rationals import load_flint, to_fraction

#: Bases tried before the search is given up.
MOST_BASES = 200
#: Pairs that cost less than this (of the spread) may belong to the basis although the policy does not use them.
NEARLY_FREE = 1e-9
#: How often the actions of states without mass are mended.
MOST_REPAIRS = 50


@dataclass(frozen=True, eq=False)
class ProvedBasis:
    """An optimal basis with its proof.

    Attributes
    ----------
    proof : ExactProof
    probabilities : list of float [pairs]
        The optimal policy, rounded.
    residuals : list of float [pairs]
        By how much each pair falls short at the prices; not positive.
    """

    proof: ExactProof
    probabilities: list[float]
    residuals: list[float]


def prove_basis(form: ExactForm, certificate: Certificate, evaluation: Evaluation) -> ProvedBasis:
    """Find an optimal basis near an answer in doubles, and prove it.

    Raises `Unsupported` when none of those tried is optimal.
    """
    choice = evaluation.policy.choice.tolist()
    for extras, binding in islice(_guesses(form, certificate, evaluation, choice), MOST_BASES):
        proved = _try(form, list(choice), extras, binding)
        if proved is not None:
            return proved
    raise Unsupported("none of the bases near the answer is optimal in fractions")


def _guesses(
    form: ExactForm, certificate: Certificate, evaluation: Evaluation, choice: list[int]
) -> Iterator[tuple[list[int], list[int]]]:
    """Further pairs and binding limits, equally many; the most likely first."""
    chosen = np.zeros(len(form.rows), dtype=np.bool_)
    chosen[choice] = True
    used = np.flatnonzero((evaluation.pair_occupancy > 0) & ~chosen).tolist()
    cheap = (certificate.reduced_costs <= NEARLY_FREE * certificate.spread) & ~chosen
    free = [pair for pair in np.flatnonzero(cheap).tolist() if pair not in used][:8]
    prices = [certificate.multipliers[limit.name] for limit in form.limits]
    order = sorted(range(len(prices)), key=lambda k: (not form.limits[k].equal, -abs(prices[k])))
    for size in sorted(range(len(order) + 1), key=lambda n: abs(n - len(used))):
        for binding, extras in product(combinations(order, size), combinations([*used, *free], size)):
            yield list(extras), list(binding)


def _try(form: ExactForm, choice: list[int], extras: list[int], binding: list[int]) -> ProvedBasis | None:
    """Solve a basis and check every condition of optimality; states without mass may change their action."""
    for _ in range(MOST_REPAIRS):
        chain = ExactChain.of_choice(form, choice)
        rows = [form.rewards, *(limit.row for limit in form.limits)]
        worths = [chain.worth([row[pair] for pair in choice]) for row in rows]
        falls = [residuals(form, row, worth) for row, worth in zip(rows, worths, strict=True)]
        masses = _solve([[falls[k + 1][e] for e in extras] for k in binding], [-worths[k + 1].gain for k in binding])
        prices = _solve([[falls[k + 1][e] for k in binding] for e in extras], [falls[0][e] for e in extras])
        if masses is None or prices is None or any(mass < 0 for mass in masses):
            return None
        if any(price < 0 and not form.limits[k].equal for k, price in zip(binding, prices, strict=True)):
            return None
        for k, limit in enumerate(form.limits):
            excess = worths[k + 1].gain + sum(x * falls[k + 1][e] for x, e in zip(masses, extras, strict=True))
            if excess > 0 or (limit.equal and excess != 0):
                return None
        charged = [list(falls[k + 1]) for k in binding]
        short = [
            falls[0][pair] - sum(y * fall[pair] for y, fall in zip(prices, charged, strict=True))
            for pair in range(len(form.rows))
        ]
        fixed = dict(zip(extras, masses, strict=True))
        occupancy = {**dict(zip(choice, chain.occupancy(fixed), strict=True)), **fixed}
        if min(occupancy.values()) < 0:
            return None
        better = _mended(form, choice, short, occupancy)
        if better is None:
            return None
        if better == choice:
            values = [
                v - sum(y * worths[k + 1].values[s] for y, k in zip(prices, binding, strict=True))
                for s, v in enumerate(worths[0].values)
            ]
            optimum = worths[0].gain - sum(y * worths[k + 1].gain for y, k in zip(prices, binding, strict=True))
            multipliers = {limit.name: Fraction(0) for limit in form.limits}
            multipliers |= {form.limits[k].name: to_fraction(y) for k, y in zip(binding, prices, strict=True)}
            found = {pair: to_fraction(mass) for pair, mass in occupancy.items() if mass}
            proof = ExactProof(
                to_fraction(form.sign * optimum), tuple(to_fraction(form.sign * v) for v in values), multipliers, found
            )
            return ProvedBasis(proof, _policy(form, choice, found), [float(to_fraction(x)) for x in short])
        choice = better
    return None


def _solve(rows: list[list[Number]], rhs: list[Number]) -> list[Number] | None:
    """Solve a small system; None where it is singular."""
    if not rows:
        return []
    size, matrix = len(rows), load_flint().fmpq_mat
    try:
        return list(matrix(size, size, [x for row in rows for x in row]).solve(matrix(size, 1, rhs)).entries())
    except ZeroDivisionError:
        return None


def _mended(form: ExactForm, choice: list[int], short: list[Number], occupancy: dict[int, Number]) -> list[int] | None:
    """The choice with better actions where there is no mass; None where a state with mass could do better."""
    better = list(choice)
    for state, (first, last) in enumerate(pairwise(form.start)):
        best = max(range(first, last), key=short.__getitem__)
        if short[best] > 0:
            if any(occupancy.get(pair, 0) for pair in range(first, last)):
                return None
            better[state] = best
    return better


def _policy(form: ExactForm, choice: list[int], occupancy: dict[int, Fraction]) -> list[float]:
    """Probabilities [pairs] of an occupancy, rounded; the choice where there is no mass."""
    probabilities = [0.0] * len(form.rows)
    for state, (first, last) in enumerate(pairwise(form.start)):
        masses = {pair: occupancy[pair] for pair in range(first, last) if pair in occupancy}
        total = sum(masses.values(), Fraction(0))
        for pair, mass in (masses or {choice[state]: Fraction(1)}).items():
            probabilities[pair] = float(mass / (total or 1))
    return probabilities

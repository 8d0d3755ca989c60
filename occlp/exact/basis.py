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

from occlp._typing import IntArray
from occlp.certificate import Certificate
from occlp.errors import Unsupported
from occlp.evaluation import Evaluation
from occlp.exact.chain import ExactChain, residuals
from occlp.exact.form import ExactForm, Number
from occlp.graph import maximal_end_components, reachable, steps_to
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

    Raises `Unsupported` when none of those tried is optimal, and for totals that need not reach a goal.
    """
    choice = (_ending_choice(form, evaluation) if form.total else evaluation.policy.choice).tolist()
    for extras, binding in islice(_guesses(form, certificate, evaluation, choice), MOST_BASES):
        proved = _try(form, list(choice), extras, binding)
        if proved is not None:
            return proved
    raise Unsupported("none of the bases near the answer is optimal")


def _ending_choice(form: ExactForm, evaluation: Evaluation) -> IntArray:
    """A pair for each state, [S], of the policy's where it can be, that leads to the goal."""
    used = evaluation.policy.pair_probabilities > 0
    reached, main = reachable(form.graph, np.array([bool(p) for p in form.initial]), used), evaluation.policy.choice
    usual = np.zeros(len(form.rows), dtype=np.bool_)
    usual[main] = True
    for among in (usual, used | ~reached[form.graph.pair_states], np.ones(len(form.rows), dtype=np.bool_)):
        lengths, choice = steps_to(form.graph, form.ended, among)
        if (lengths >= 0).all():
            return np.where(form.ended, main, choice)
    raise Unsupported("from some states no policy comes to an end")


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
    """Solve a basis and check every condition of optimality.

    States without mass may change their action, and limits that are just kept may come to bind: steps of the simplex
    method that leave the occupancy as it is.
    """
    for _ in range(MOST_REPAIRS):
        try:
            basis = _Basis.of(form, choice, extras, binding)
        except ZeroDivisionError:  # the mended choice never reaches the goal
            return None
        if basis is None:
            return None
        better = _mended(form, choice, basis.short, basis.occupancy)
        entering = max(range(len(basis.short)), key=basis.short.__getitem__)
        if better != choice:
            choice = better
        elif basis.short[entering] <= 0:
            return None if basis.pays_to_stay() else basis.proved(choice)
        elif (turned := basis.pivoted(extras, binding, entering)) is not None:
            extras, binding = turned
        else:
            return None
    return None


@dataclass(frozen=True, eq=False)
class _Basis:
    """What a basis amounts to: the numbers that its proof consists of."""

    form: ExactForm
    optimum: Number
    values: list[Number]  # [S]
    prices: dict[str, Number]  # of the limits that bind
    occupancy: dict[int, Number]
    short: list[Number]  # [pairs]
    falls: list[list[Number]]  # rewards and limits, [1 + limits, pairs]: advantages along the chain of the choice
    room: list[Number]  # of each limit

    @classmethod
    def of(cls, form: ExactForm, choice: list[int], extras: list[int], binding: list[int]) -> _Basis | None:
        """Solve for masses and prices; None where they are not those of an occupancy that keeps the limits."""
        chain = ExactChain.of_choice(form, choice)
        rows = [form.rewards, *(limit.row for limit in form.limits)]
        worths = [chain.worth([row[pair] for pair in choice]) for row in rows]
        falls = [residuals(form, row, worth) for row, worth in zip(rows, worths, strict=True)]
        over = [worth.gain - limit.bound for worth, limit in zip(worths[1:], form.limits, strict=True)]
        masses = _solve([[falls[k + 1][e] for e in extras] for k in binding], [-over[k] for k in binding])
        prices = _solve([[falls[k + 1][e] for k in binding] for e in extras], [falls[0][e] for e in extras])
        if masses is None or prices is None or any(mass < 0 for mass in masses):
            return None
        if any(price < 0 and not form.limits[k].equal for k, price in zip(binding, prices, strict=True)):
            return None
        added = [sum(x * fall[e] for x, e in zip(masses, extras, strict=True)) for fall in falls[1:]]
        room = [-start - more for start, more in zip(over, added, strict=True)]
        if any(left < 0 or (limit.equal and left != 0) for limit, left in zip(form.limits, room, strict=True)):
            return None
        fixed = dict(zip(extras, masses, strict=True))
        occupancy = {**dict(zip(choice, chain.occupancy(fixed), strict=True)), **fixed}
        if min(occupancy.values()) < 0:
            return None

        def priced(own: Number, others: list[Number]) -> Number:
            return own - sum(y * other for y, other in zip(prices, others, strict=True))

        short = [
            0 * form.rest if form.ended[state] else priced(falls[0][pair], [falls[k + 1][pair] for k in binding])
            for pair, state in enumerate(form.states)
        ]
        values = [priced(v, [worths[k + 1].values[s] for k in binding]) for s, v in enumerate(worths[0].values)]
        named = {form.limits[k].name: y for k, y in zip(binding, prices, strict=True)}
        optimum = priced(worths[0].gain, [over[k] for k in binding])
        return cls(form, optimum, values, named, occupancy, short, falls, room)

    def pivoted(self, extras: list[int], binding: list[int], entering: int) -> tuple[list[int], list[int]] | None:
        """The basis once a pair that pays has come in without mass, in the place of what keeps it out.

        That is another pair without mass, which would fall below zero, or a limit without room, which would be
        broken. None where nothing keeps the pair out.
        """
        falls = self.falls[1:]
        moves = _solve([[falls[k][e] for e in extras] for k in binding], [-falls[k][entering] for k in binding])
        if moves is None:
            return None
        for place, (pair, move) in enumerate(zip(extras, moves, strict=True)):
            if move < 0 and not self.occupancy[pair]:
                return [*extras[:place], entering, *extras[place + 1 :]], binding
        for k, (limit, fall) in enumerate(zip(self.form.limits, falls, strict=True)):
            use = fall[entering] + sum(move * fall[e] for move, e in zip(moves, extras, strict=True))
            if k not in binding and not self.room[k] and (use > 0 or (limit.equal and use)):
                return [*extras, entering], [*binding, k]
        return None

    def pays_to_stay(self) -> bool:
        """Whether a policy may stay for ever at no loss where the values are negative, which then bound nothing."""
        form = self.form
        if not form.total or form.must_end:
            return False
        tight = np.array([not x for x in self.short]) & ~form.ended[form.graph.pair_states]
        staying = maximal_end_components(form.graph, tight).component >= 0
        return any(self.values[state] < 0 for state in np.flatnonzero(staying).tolist())

    def proved(self, choice: list[int]) -> ProvedBasis:
        """The proof, where no pair could do better."""
        form, states = self.form, self.form.states
        multipliers = {limit.name: to_fraction(self.prices.get(limit.name, 0 * form.rest)) for limit in form.limits}
        found = {pair: to_fraction(x) for pair, x in self.occupancy.items() if x and not form.ended[states[pair]]}
        values = [
            to_fraction(form.sign * form.boundary if end else form.sign * value)
            for value, end in zip(self.values, form.goal, strict=True)
        ]
        proof = ExactProof(to_fraction(form.sign * self.optimum), tuple(values), multipliers, found)
        return ProvedBasis(proof, _policy(form, choice, found), [float(to_fraction(x)) for x in self.short])


def _solve(rows: list[list[Number]], rhs: list[Number]) -> list[Number] | None:
    """Solve a small system; None where it is singular."""
    if not rows:
        return []
    size, matrix = len(rows), load_flint().fmpq_mat
    try:
        return list(matrix(size, size, [x for row in rows for x in row]).solve(matrix(size, 1, rhs)).entries())
    except ZeroDivisionError:
        return None


def _mended(form: ExactForm, choice: list[int], short: list[Number], occupancy: dict[int, Number]) -> list[int]:
    """The choice with better actions in states without mass."""
    better = list(choice)
    for state, (first, last) in enumerate(pairwise(form.start)):
        best = max(range(first, last), key=short.__getitem__)
        if short[best] > 0 and not any(occupancy.get(pair, 0) for pair in range(first, last)):
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

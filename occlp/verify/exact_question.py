"""A question in fractions of the standard library, for the audit of exact proofs: nothing is rounded.

To be maximised. The discounted occupancy and that of the average sum to one, so a limit c·d ≤ b is the row c − b;
for totals, whose visits have no such sum, bounds stand beside the rows. Only what leaves a state is written down
(rows are read as generators): what a row misses of one, or has beyond it, stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import lcm
from typing import TYPE_CHECKING

from occlp.errors import AuditFailed
from occlp.model.exact import exact_numbers

if TYPE_CHECKING:
    from occlp.problem import Problem

ZERO = Fraction(0)


@dataclass(frozen=True)
class ExactLimit:
    """A constraint as row·d ≤ bound, or = bound."""

    row: list[Fraction]  # [pairs]
    bound: Fraction
    equal: bool


@dataclass(frozen=True)
class ExactQuestion:
    """The numbers of a question.

    Attributes
    ----------
    sign : int
        −1 when the user minimises: rewards, values and optimum are the user's times this.
    states : list of int [pairs]
    moves : list of list of (state, probability) [pairs]
        Where a pair leads to, other than its own state.
    rewards : list of Fraction [pairs]
    initial : list of Fraction [S]
        Divided by its sum.
    discount : Fraction
        γ; 1 for averages and totals.
    goal : list of bool [S]
        Where totals end; no pair of these states counts.
    limits : mapping of str to ExactLimit
    """

    sign: int
    states: list[int]
    moves: list[list[tuple[int, Fraction]]]
    rewards: list[Fraction]
    initial: list[Fraction]
    discount: Fraction
    goal: list[bool]
    limits: Mapping[str, ExactLimit]

    @classmethod
    def of(cls, problem: Problem) -> ExactQuestion:
        """Read a question."""
        mdp, numbers = problem.mdp, exact_numbers(problem.mdp)
        sign = 1 if problem.sense == "maximize" else -1
        states, targets = mdp.pairs.states.tolist(), mdp.transitions.indices.tolist()
        goal, mass = problem.goal_states.tolist(), sum(numbers.initial, ZERO)
        discounted = problem.criterion == "discounted" and numbers.discount is not None
        gamma = numbers.discount if discounted and numbers.discount is not None else Fraction(1)
        moves = [
            [(targets[k], numbers.transitions[k]) for k in range(first, last) if targets[k] != state]
            for state, (first, last) in zip(states, pairwise(mdp.transitions.indptr.tolist()), strict=True)
        ]
        nothing = problem.objective == "reach" or problem.utility is not None
        earned = [ZERO] * mdp.n_pairs if nothing else [sign * reward for reward in numbers.rewards]
        limits = {}
        for name, limit in problem.limits.items():
            side, bound = -1 if limit.relation == ">=" else 1, limit.exact_bound
            total = problem.criterion == "total"
            row = limit.expression.fractions(mdp, numbers, Fraction(1) if total else 1 - gamma)
            row = [side * (cost if total else cost - bound) for cost in row]
            row = [ZERO if goal[state] else cost for state, cost in zip(states, row, strict=True)]
            limits[name] = ExactLimit(row, side * bound if total else ZERO, limit.relation == "==")
        return cls(sign, states, moves, earned, [p / mass for p in numbers.initial], gamma, goal, limits)

    def mean(self, values: Iterable[Fraction | None]) -> Fraction:
        """μ0·V; raises where a state to begin in has no value."""
        found = ZERO
        for p, value in zip(self.initial, values, strict=True):
            if p and value is None:
                raise AuditFailed("the proof has no value for a state to begin in.")
            found += p * (value or ZERO)
        return found

    def drifts(self, values: list[Fraction | None]) -> list[Fraction | None]:
        """Σ p (V' − V) of every pair, [pairs]; None where a value of −∞ (None) is met."""
        unit = lcm(*(value.denominator for value in values if value is not None))
        tops = [None if value is None else value.numerator * (unit // value.denominator) for value in values]
        found: list[Fraction | None] = []
        for state, row in zip(self.states, self.moves, strict=True):
            here, ends = tops[state], [tops[target] for target, p in row if p]
            if here is None or None in ends:
                found.append(None)
                continue
            common = lcm(*(p.denominator for _, p in row))
            moved = sum(p.numerator * (common // p.denominator) * ((tops[t] or 0) - here) for t, p in row)
            found.append(Fraction(moved, common * unit))
        return found

    def priced(self, multipliers: Mapping[str, Fraction], rewards: list[Fraction]) -> tuple[list[Fraction], Fraction]:
        """Rewards less the prices of the limits, r − y·g, [pairs], and y·b; raises for prices that prove nothing."""
        if set(multipliers) != set(self.limits):
            raise AuditFailed("the proof's multipliers are not those of the problem's constraints.")
        credit, charged = ZERO, list(rewards)
        for name, limit in self.limits.items():
            price = multipliers[name]
            if price < 0 and not limit.equal:
                raise AuditFailed(f"the multiplier of {name!r} is {float(price)}; it must not be negative.")
            credit += price * limit.bound
            charged = [earned - price * cost for earned, cost in zip(charged, limit.row, strict=True)]
        return charged, credit

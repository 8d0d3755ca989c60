"""A question in rationals: to be maximised, nothing rounded, nothing scaled.

Rows are kept as generators (docs/conventions.md, section 3): only what leaves a state is written down,
as integers over one denominator, and the probability of staying is what the others leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from math import lcm
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from occlp._typing import BoolArray
from occlp.graph import TransitionGraph, positive_for_some
from occlp.model.exact import exact_numbers
from occlp.problem import Problem
from occlp.rationals import load_flint, to_rational

#: An fmpq or fmpz of python-flint.
Number: TypeAlias = Any

_FORMS: WeakKeyDictionary[Problem, ExactForm] = WeakKeyDictionary()


class Row(NamedTuple):
    """Where a pair leads to, other than its own state: weights[i] / unit is the probability of targets[i]."""

    targets: tuple[int, ...]
    weights: tuple[Number, ...]  # fmpz
    unit: Number  # fmpz


@dataclass(frozen=True, eq=False)
class ExactLimit:
    """A constraint as a row g·d ≤ b (or = b), in the user's units; b is 0 where occupancies sum to one."""

    name: str
    row: list[Number]  # [pairs]
    bound: Number
    equal: bool


@dataclass(frozen=True, eq=False)
class ExactForm:
    """The numbers of a question as rationals.

    Attributes
    ----------
    sign : int
        −1 when the user minimises: `rewards` are the user's times this.
    start, states : list of int [S + 1], [pairs]
    rows : list of Row [pairs]
    rewards : list of fmpq [pairs]
        Nothing in a goal; where the question is whether it is reached, the probability of moving into it.
    discount, rest : fmpq
        γ and 1 − γ; 1 and 0 for averages and totals.
    initial : list of fmpq [S]
        Divided by its sum.
    total : bool
        Whether visits are counted until the goal is reached.
    goal : BoolArray [S]
    must_end : bool
        Whether the goal must be reached.
    boundary : fmpq
        What the goal is worth to those who begin there: ±1 where the question is whether it is reached, else 0.
    limits : list of ExactLimit
    notes : tuple of str
        How the numbers given were read where they leave a choice.
    """

    sign: int
    start: list[int]
    states: list[int]
    rows: list[Row]
    rewards: list[Number]
    discount: Number
    rest: Number
    initial: list[Number]
    total: bool
    goal: BoolArray
    must_end: bool
    boundary: Number
    limits: list[ExactLimit]
    notes: tuple[str, ...]

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.initial)

    @cached_property
    def graph(self) -> TransitionGraph:
        """Which pairs may lead where, staying aside."""
        lengths = [len(row.targets) for row in self.rows]
        targets = np.fromiter((t for row in self.rows for t in row.targets), np.int32, sum(lengths))
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return TransitionGraph(np.array(self.states, dtype=np.int32), indptr, targets, self.n_states)

    @cached_property
    def ended(self) -> BoolArray:
        """States, [S], where a total has ended: the goal; if it may be missed, also where nothing counts again."""
        if not self.total or self.must_end:
            return self.goal
        rows = zip(self.rewards, *(limit.row for limit in self.limits), strict=True)
        idle = np.array([not any(numbers) for numbers in rows]) & ~self.goal[self.graph.pair_states]
        return np.asarray(self.goal | ~positive_for_some(self.graph, self._touched(idle)))

    def _touched(self, idle: BoolArray) -> BoolArray:
        """States, [S], with a pair that is not idle."""
        touched = np.zeros(self.n_states, dtype=np.bool_)
        touched[self.graph.pair_states[~idle]] = True
        return touched

    def priced(self, rewards: list[Any], multipliers: Mapping[str, float]) -> list[Any]:
        """Rewards less the prices of the limits, [pairs]; the doubles are the dyadic rationals that they are."""
        for limit in self.limits:
            price = to_rational(multipliers[limit.name])
            if price:
                rewards = [before - price * cost for before, cost in zip(rewards, limit.row, strict=True)]
        return rewards

    @property
    def average(self) -> bool:
        """Whether rewards are averaged over the periods."""
        return not self.rest and not self.total


def exact_form(problem: Problem) -> ExactForm:
    """Return a question in rationals; kept while the problem lives.

    Raises `BackendMissing` without python-flint.
    """
    form = _FORMS.get(problem)
    if form is None:
        form = _FORMS[problem] = _read(problem)
    return form


def exact_discount(problem: Problem) -> Fraction:
    """γ as a fraction: the model's own, 1 for the average."""
    discount = exact_numbers(problem.mdp).discount
    return Fraction(1) if problem.criterion == "average" or discount is None else discount


def _read(problem: Problem) -> ExactForm:
    flint, mdp = load_flint(), problem.mdp
    numbers, sign = exact_numbers(mdp), 1 if problem.sense == "maximize" else -1
    gamma = exact_discount(problem)
    states, indptr = mdp.pairs.states.tolist(), mdp.transitions.indptr.tolist()
    targets = mdp.transitions.indices.tolist()
    rows, defects = [], []
    for pair, state in enumerate(states):
        span = range(indptr[pair], indptr[pair + 1])
        defects.append(sum((numbers.transitions[k] for k in span), Fraction(0)) - 1)
        away = [(targets[k], numbers.transitions[k]) for k in span if targets[k] != state and numbers.transitions[k]]
        unit = lcm(*(p.denominator for _, p in away))
        weights = (flint.fmpz(p.numerator * (unit // p.denominator)) for _, p in away)
        rows.append(Row(tuple(target for target, _ in away), tuple(weights), flint.fmpz(unit)))
    mass = sum(numbers.initial, Fraction(0))
    rewards = list(numbers.rewards)
    if problem.utility is not None:
        rewards = [Fraction(0)] * mdp.n_pairs
    elif problem.objective == "reach":  # what is earned is the probability of moving into the goal
        goal, moves = problem.goal_states, numbers.transitions
        spans = (range(first, last) for first, last in pairwise(indptr))
        rewards = [sum((moves[k] for k in span if goal[targets[k]]), Fraction(0)) for span in spans]
    if problem.goal is not None:  # and nothing any more in the goal
        rewards = [Fraction(0) if problem.goal_states[s] else r for s, r in zip(states, rewards, strict=True)]
    return ExactForm(
        sign=sign,
        start=mdp.pairs.start.tolist(),
        states=states,
        rows=rows,
        rewards=[to_rational(sign * reward) for reward in rewards],
        discount=to_rational(gamma),
        rest=to_rational(1 - gamma),
        initial=[to_rational(p / mass) for p in numbers.initial],
        total=problem.criterion == "total",
        goal=problem.goal_states,
        must_end=problem.goal is not None and problem.objective == "reward",
        boundary=to_rational(sign * Fraction(problem.objective == "reach")),
        limits=_limits(problem, 1 - gamma),
        notes=_notes(problem, defects, mass),
    )


def _limits(problem: Problem, rest: Fraction) -> list[ExactLimit]:
    numbers, limits = exact_numbers(problem.mdp), []
    total = problem.criterion == "total"
    ended = problem.goal_states[problem.mdp.pairs.states].tolist()
    for name, limit in problem.limits.items():
        side, bound = -1 if limit.relation == ">=" else 1, limit.exact_bound
        costs = limit.expression.fractions(problem.mdp, numbers, Fraction(1) if total else rest)
        row = [Fraction(0) if end else c - (0 if total else bound) for c, end in zip(costs, ended, strict=True)]
        beside = to_rational(side * bound if total else Fraction(0))
        limits.append(ExactLimit(name, [to_rational(side * c) for c in row], beside, limit.relation == "=="))
    return limits


def _notes(problem: Problem, defects: list[Fraction], mass: Fraction) -> tuple[str, ...]:
    """What the reading of the numbers had to decide, in words."""
    read = "fractions as given" if problem.mdp.exact is not None else "doubles as the dyadic rationals that they are"
    notes = [f"the model's numbers are {read}"]
    broken = [defect for defect in defects if defect]
    if broken:
        worst = float(max(broken, key=abs))
        notes.append(
            f"{len(broken)} of {len(defects)} rows do not sum to exactly 1 (the most: by {worst:.2g}); "
            "the probability of staying takes up the difference"
        )
    if mass != 1:
        notes.append(f"the initial probabilities miss 1 by {float(mass - 1):.2g} and are divided by their sum")
    return tuple(notes)

"""Total rewards by brute force: every deterministic policy, in fractions, with infinite totals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from helpers import Exact, solve_fractions

import occlp as oc

#: The totals of a policy whose gains and losses for ever cancel, or come together.
UNDEFINED = math.nan


@dataclass(frozen=True)
class Question:
    """A total-reward question in fractions, to be maximised."""

    exact: Exact
    goal: frozenset[int]
    proper: bool  # the goal must be reached almost surely
    reach: bool
    sign: int

    @classmethod
    def of(cls, problem: oc.Problem) -> Question:
        """Read a problem."""
        goal = frozenset(s for s, inside in enumerate(problem.goal_states.tolist()) if inside)
        reach = problem.objective == "reach"
        sign = 1 if problem.sense == "maximize" else -1
        return cls(Exact.of(problem.mdp), goal, bool(goal) and not reach, reach, sign)

    def reward(self, pair: int) -> Fraction:
        """What a pair earns; reaching the goal is paid for on entering it."""
        if self.exact.states[pair] in self.goal:
            return Fraction(0)
        if self.reach:
            return self.sign * sum((p for j, p in self.exact.rows[pair].items() if j in self.goal), start=Fraction(0))
        return self.sign * self.exact.rewards[pair]

    def row(self, pair: int) -> dict[int, Fraction]:
        """Successors of positive probability; the goal is never left."""
        state = self.exact.states[pair]
        if state in self.goal:
            return {state: Fraction(1)}
        return {j: p for j, p in self.exact.rows[pair].items() if p > 0}

    def values(self, chosen: list[int]) -> list[Fraction | float]:
        """Total of a deterministic policy (a pair for each state) from each state, [S]."""
        n = self.exact.n_states
        rows, rewards = [self.row(k) for k in chosen], [self.reward(k) for k in chosen]
        reach = [closure(s, rows) for s in range(n)]
        worth: dict[int, float] = {}
        for s in range(n):
            inside = {j for j in reach[s] if s in reach[j]}
            if s in reach[s] and inside == reach[s]:  # recurrent
                worth[s] = self._worth(inside, rows, rewards)
        out: list[Fraction | float] = [Fraction(0)] * n
        bad = [s for s in worth if worth[s] != 0]
        inner = [s for s in range(n) if s not in worth and not (reach[s] & set(bad))]
        for s in range(n):
            kinds = {worth[j] for j in (reach[s] | {s}) & set(bad)}
            if kinds:
                out[s] = kinds.pop() if len(kinds) == 1 else UNDEFINED
        position = {s: i for i, s in enumerate(inner)}
        system = [[Fraction(int(i == j)) - rows[i].get(j, Fraction(0)) for j in inner] for i in inner]
        if inner:
            for s, value in zip(inner, solve_fractions(system, [rewards[s] for s in inner]), strict=True):
                out[s] = value
        assert len(position) == len(inner)
        return out

    def objective(self, chosen: list[int]) -> Fraction | float:
        """Total from the initial distribution; in the goal the probability of reaching it is one."""
        values = self.values(chosen)
        parts = [(p, values[s]) for s, p in enumerate(self.exact.initial) if p > 0]
        infinite = {v for _, v in parts if not isinstance(v, Fraction)}
        if infinite:
            return infinite.pop() if len(infinite) == 1 else UNDEFINED
        start = sum((p for s, p in enumerate(self.exact.initial) if s in self.goal), start=Fraction(0))
        return sum((p * v for p, v in parts), start=Fraction(0)) + self.sign * start * self.reach

    def _worth(self, states: set[int], rows: list[dict[int, Fraction]], rewards: list[Fraction]) -> float:
        """0, ±∞ or NaN: what staying in a recurrent class for ever is worth."""
        if states <= self.goal:
            return 0.0
        if self.proper:
            return -math.inf
        if all(rewards[s] == 0 for s in states):
            return 0.0
        order = sorted(states)
        system = [[Fraction(int(i == j)) - rows[j].get(i, Fraction(0)) for j in order] for i in order]
        system[0] = [Fraction(1)] * len(order)
        mass = solve_fractions(system, [Fraction(int(i == 0)) for i in range(len(order))])
        gain = sum(m * rewards[s] for m, s in zip(mass, order, strict=True))
        return math.copysign(math.inf, gain) if gain else UNDEFINED


def closure(state: int, rows: list[dict[int, Fraction]]) -> set[int]:
    """States that a chain reaches in one step or more."""
    found: set[int] = set()
    todo = list(rows[state])
    while todo:
        j = todo.pop()
        if j not in found:
            found.add(j)
            todo += rows[j]
    return found

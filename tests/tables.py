"""Models written down row by row in fractions, and questions about them with exact answers.

A `Table` holds a model; `reach`, `earn`, `total`, `average` and `several` ask about it; a `Case` is a question with
its answer. `written` reads the cases of golden/total.json.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import occlp as oc

GOLDEN = Path(__file__).resolve().parent / "golden"
#: Answers that are no numbers.
INFINITE, INFEASIBLE, LOTTERY = "inf", "infeasible", "lottery"


@dataclass(frozen=True, eq=False)
class Table:
    """A model row by row."""

    n_states: int
    rows: list[tuple[int, str, list[tuple[int, Fraction]]]]  # (state, action, successors)
    rewards: dict[str, list[Fraction]]  # [rows] each
    initial: int
    labels: dict[str, list[int]] = field(default_factory=dict)

    def at(self) -> list[dict[str, int]]:
        """The row of each action, state by state."""
        found: list[dict[str, int]] = [{} for _ in range(self.n_states)]
        for i, (s, a, _) in enumerate(self.rows):
            found[s][a] = i
        return found

    def mdp(self, reward: str | None = None, *, closed: frozenset[int] = frozenset()) -> oc.MDP:
        """The part that can be reached; states in `closed` are made absorbing, and earn nothing."""
        at = self.at()
        earned = self.rewards[reward] if reward is not None else [Fraction(0)] * len(self.rows)

        def step(s: int, a: str) -> list[tuple[Fraction, int, Fraction]]:
            if s in closed:
                return [(Fraction(1), s, Fraction(0))]
            return [(p, t, earned[at[s][a]]) for t, p in self.rows[at[s][a]][2]]

        return oc.MDP.from_function(step, self.initial, lambda s: ["stop"] if s in closed else list(at[s]))

    def with_events(self, reward: str, events: dict[str, frozenset[int]]) -> oc.MDP:
        """The model with a memory of which sets of states it has been in, each the cost of entering it first.

        States are (state, names of the events so far). The reward is that of the name given, or the event of it;
        the others are costs.
        """
        at = self.at()

        def moves(state: Any, action: str) -> list[tuple[Fraction, int]]:
            if state == "start":
                return [(Fraction(1), self.initial)]
            return [(p, t) for t, p in self.rows[at[state[0]][action]][2]]

        def happened(state: Any, t: int) -> frozenset[str]:
            before = frozenset() if state == "start" else state[1]
            return before | {name for name, states in events.items() if t in states}

        def chance(name: str) -> Callable[[Any, str], Fraction]:
            def probability(state: Any, action: str) -> Fraction:
                if state != "start" and name in state[1]:
                    return Fraction(0)
                return sum((p for p, t in moves(state, action) if t in events[name]), Fraction(0))

            return probability

        def earned(name: str) -> Callable[[Any, str], Fraction]:
            values = self.rewards[name]
            return lambda state, action: Fraction(0) if state == "start" else values[at[state[0]][action]]

        costs = {name: chance(name) for name in events} | {name: earned(name) for name in self.rewards}
        gain = costs.pop(reward)
        costs.pop("reward", None)
        return oc.MDP.from_function(
            lambda state, action: [(p, (t, happened(state, t)), gain(state, action)) for p, t in moves(state, action)],
            "start",
            lambda state: ["go"] if state == "start" else list(at[state[0]]),
            costs=costs,
        )


@dataclass(frozen=True)
class Case:
    """A question with its answer: a number, or that nothing bounds it, no policy keeps it, or it takes a lottery."""

    id: str
    name: str
    build: Callable[[], oc.Problem]
    answer: Fraction | str
    n_rows: int = 0
    tol: float = 0.0  # of a published decimal
    proved: bool = True  # whether double precision suffices for bounds
    limited: bool = False  # whether there are constraints

    def __str__(self) -> str:
        return f"{self.id} {self.name}"


def read_answer(text: Any) -> Fraction | str:
    """Read an answer."""
    if text is True:
        return Fraction(1)
    return text if text in (INFINITE, INFEASIBLE, LOTTERY) else Fraction(str(text))


def reach(table: Table, goal: Any, sense: str, *, safe: Any = None) -> oc.Problem:
    """The probability of reaching a goal, through safe states only."""
    goal = frozenset(goal)
    unsafe = frozenset() if safe is None else frozenset(range(table.n_states)) - frozenset(safe) - goal
    mdp = table.mdp(closed=unsafe | goal)
    return oc.Problem(mdp, sense, "total", goal=_met(mdp, goal), objective="reach")


def earn(table: Table, reward: str, goal: Any, sense: str) -> oc.Problem:
    """The reward until a goal, which must be reached."""
    mdp = table.mdp(reward, closed=frozenset(goal))
    return oc.Problem(mdp, sense, "total", goal=_met(mdp, goal))


def total(table: Table, reward: str, sense: str) -> oc.Problem:
    """The reward for ever."""
    return oc.Problem(table.mdp(reward), sense, "total")


def average(table: Table, reward: str, sense: str) -> oc.Problem:
    """The long-run average reward."""
    return oc.Problem(table.mdp(reward), sense, "average")


def several(
    table: Table, reward: str, sense: str, events: dict[str, Any], limits: list[tuple[str, str, str]]
) -> oc.Problem:
    """A total or the probability of an event, subject to limits (name, "<=" or ">=", number) on others."""
    mdp = table.with_events(reward, {name: frozenset(states) for name, states in events.items()})
    compared = {"<=": operator.le, ">=": operator.ge}
    constraints = {}
    for i, (name, sign, bound) in enumerate(limits):
        expression = oc.expected_total("reward" if name == reward else name)
        constraints[f"{name} {i}"] = compared[sign](expression, float(Fraction(bound)))
    return oc.Problem(mdp, sense, "total", constraints=constraints)


def ask(table: Table, question: dict[str, Any]) -> oc.Problem:
    """Build the problem of a question as golden/total.json holds it."""
    start, sense, reward = question.get("start", table.initial), question["sense"], question.get("reward")
    table = replace(table, initial=start)
    if question["kind"] == "reach":
        return reach(table, question["goal"], sense)
    if question["kind"] == "earn":
        return earn(table, reward, question["goal"], sense)
    if question["kind"] == "several":
        return several(table, reward, sense, question["events"], question["limits"])
    return (total if question["kind"] == "total" else average)(table, reward, sense)


def written() -> Iterator[Case]:
    """The cases of golden/total.json."""
    for model in json.loads((GOLDEN / "total.json").read_text(encoding="utf-8")):
        rows = [(s, a, [(t, Fraction(p)) for t, p in row]) for s, a, row in model["rows"]]
        rewards = {name: [Fraction(x) for x in values] for name, values in model["rewards"].items()}
        rewards.setdefault("reward", [Fraction(0)] * len(rows))
        table = Table(model["n_states"], rows, rewards, model["initial"])
        for question in model["questions"]:
            yield Case(
                model["id"], question["name"], lambda t=table, q=question: ask(t, q),
                read_answer(question["answer"]), limited="limits" in question,
            )  # fmt: skip


def check(case: Case, solver: oc.Solver | None = None, **options: object) -> None:
    """Solve and compare: the exact answer lies within the bounds, the policy is worth it, and the audit agrees."""
    problem = case.build()
    if case.answer == INFINITE:
        with pytest.raises((oc.Infeasible, oc.Unbounded)):
            oc.solve(problem, solver, **options)
    elif case.answer == INFEASIBLE:
        with pytest.raises(oc.Infeasible):
            oc.solve(problem, solver, **options)
    elif case.answer == LOTTERY:
        with pytest.raises(oc.NotCertified, match="lottery"):
            oc.solve(problem, solver, **options)
    elif not case.proved:
        with pytest.raises(oc.NotCertified, match="double precision proves no bound") as caught:
            oc.solve(problem, solver, **options)
        found = Fraction(caught.value.result.objective)
        assert abs(found - case.answer) <= Fraction(1, 10**13) * abs(case.answer)
        pytest.importorskip("flint")
        exact = oc.solve(problem, solver, certify="exact", **options)
        assert exact.certificate.optimum == case.answer
        assert oc.verify(problem, exact)
    else:
        result = oc.solve(problem, solver, **options)
        answer, slack = Fraction(case.answer), Fraction(case.tol)
        assert result.status is oc.Status.CERTIFIED
        assert Fraction(result.certificate.lower) - slack <= answer <= Fraction(result.certificate.upper) + slack
        assert abs(Fraction(result.objective) - answer) <= slack + Fraction(1, 10**11) * max(1, abs(answer))
        assert oc.verify(problem, result)


def _met(mdp: oc.MDP, states: Any) -> list[int]:
    """Those of the states that the model has; where it has none, one that is never reached will not do."""
    known = set(mdp.states)
    return [s for s in sorted(states) if s in known]

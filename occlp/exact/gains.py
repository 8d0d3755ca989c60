"""Averages that depend on the start, in rationals: gains and relative values of a policy, and the best ones.

Howard (1960), chapter 6; Puterman (2005), section 9.2. A policy has gains g = Pg and values h with g + h = r + Ph.
It is optimal from every state at once if g ≥ Pg on all pairs, and g + h ≥ r + Ph on those that keep the gain. A
multiple of g added to h makes the second hold on all pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np

from occlp._typing import BoolArray
from occlp.exact.chain import drifts, pair_flow, solve_dense
from occlp.exact.elimination import SparseElimination
from occlp.exact.form import ExactForm, Number
from occlp.graph import closed_classes


@dataclass(frozen=True, eq=False)
class ExactGains:
    """A deterministic policy, its gains and its relative values.

    Attributes
    ----------
    choice : list of int [S]
    gains, values : list of fmpq [S]
    changes : int
        How often the policy was improved on the way.
    """

    choice: list[int]
    gains: list[Number]
    values: list[Number]
    changes: int


def optimal_gains(form: ExactForm, rewards: list[Number], choice: list[int]) -> ExactGains:
    """The best gains from every state at once, and values that prove it on all pairs.

    Raises `Unsupported` for systems too large to solve.
    """
    *_, last = exact_gain_iterations(form, rewards, list(choice))
    falls = drifts(form, last.gains)
    scores = gain_residuals(form, rewards, last.gains, last.values)
    needed = max((score / -fall for score, fall in zip(scores, falls, strict=True) if score > 0), default=0 * form.rest)
    multiple = -(-needed.p // needed.q)  # the next integer
    values = [h + multiple * g for h, g in zip(last.values, last.gains, strict=True)]
    return ExactGains(last.choice, last.gains, values, last.changes)


def gain_residuals(form: ExactForm, rewards: list[Number], gains: list[Number], values: list[Number]) -> list[Number]:
    """r − G + Ph − h of every pair, [pairs]."""
    moved = zip(rewards, form.states, drifts(form, values), strict=True)
    return [earned - gains[state] + drift for earned, state, drift in moved]


def gains_of_flows(
    form: ExactForm, flows: list[dict[int, Number]], earned: list[Number], used: BoolArray
) -> tuple[list[Number], list[Number]]:
    """Gains and relative values, both [S], of the chain with these flows between different states.

    `used` [pairs] are the pairs that its policy takes.
    """
    classes, zero = closed_classes(form.graph, used), 0 * form.rest
    gates = {int(np.argmax(classes.label == n)) for n in range(classes.count)}
    others = [s for s in range(form.n_states) if s not in gates]
    position = {state: i for i, state in enumerate(others)}
    inner = [{position[t]: p for t, p in flows[s].items() if t in position} for s in others]
    leave = [sum((p for t, p in flows[s].items() if t in gates), zero) for s in others]
    factors = SparseElimination(inner, leave, solve_dense) if others else None

    def spread(source: list[Number]) -> list[Number]:
        """What is collected until the first gate, [S]."""
        out = [zero] * form.n_states
        for state, value in zip(others, factors.columns(source) if factors else [], strict=True):
            out[state] = value
        return out

    sums, times = spread([earned[s] for s in others]), spread([zero + 1 for _ in others])
    gains = [zero] * form.n_states
    for gate in gates:
        cycle = earned[gate] + sum((p * sums[t] for t, p in flows[gate].items()), zero)
        gains[gate] = cycle / (1 + sum((p * times[t] for t, p in flows[gate].items()), zero))
    onward = spread([sum((p * gains[t] for t, p in flows[s].items() if t in gates), zero) for s in others])
    for state in others:
        gains[state] = onward[state]
    return gains, spread([earned[s] - gains[s] for s in others])


def exact_gain_iterations(form: ExactForm, rewards: list[Number], choice: list[int]) -> Iterator[ExactGains]:
    """Yield policies until neither a gain nor, at equal gains, a value can be improved.

    No policy comes back, since values are relative to the first state of each class (Puterman 1994, section 9.2.4).
    """
    for changes in count():
        used = np.zeros(len(form.rows), dtype=np.bool_)
        used[choice] = True
        flows = [pair_flow(form, pair) for pair in choice]
        gains, values = gains_of_flows(form, flows, [rewards[pair] for pair in choice], used)
        yield ExactGains(choice, gains, values, changes)
        rises = drifts(form, gains)
        better = _better(form, choice, rises)
        if better == choice:  # with higher gains elsewhere, relative values say nothing yet
            scores = gain_residuals(form, rewards, gains, values)
            better = _better(form, choice, [x if rise == 0 else -1 for x, rise in zip(scores, rises, strict=True)])
        if better == choice:
            return
        choice = better


def _better(form: ExactForm, choice: list[int], scores: list[Number]) -> list[int]:
    """The choice with the best pair of each state where that has a positive score."""
    better = list(choice)
    for state, (first, last) in enumerate(pairwise(form.start)):
        best = max(range(first, last), key=scores.__getitem__)
        if scores[best] > 0:
            better[state] = best
    return better

"""The chain of a policy in rationals: values, gain, occupancy, and how far pairs fall short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np

from occlp._typing import BoolArray
from occlp.errors import Unsupported
from occlp.exact.elimination import SparseElimination
from occlp.exact.form import ExactForm, Number
from occlp.graph import closed_classes
from occlp.rationals import load_flint

#: Systems larger than this, once all states of few neighbours are eliminated, are not solved in rationals.
MOST_DENSE = 600


@dataclass(frozen=True, eq=False)
class Worth:
    """What rewards amount to along a chain.

    Attributes
    ----------
    gain : fmpq
        The objective: (1 − γ) μ0·V, the average per period, or the total μ0·V.
    values : list of fmpq [S]
        V; relative values h for the average.
    """

    gain: Number
    values: list[Number]


class ExactChain:
    """A Markov chain on the states of a question, in rationals or in balls.

    Parameters
    ----------
    form : ExactForm
    flows : list of dict of int to number [S]
        γ times the probability of moving from each state to each other one.
    used : BoolArray [pairs]
        The pairs that the policy of the chain uses.

    Raises
    ------
    Unsupported
        Undiscounted with several recurrent classes, and for systems too large to solve.
    """

    def __init__(self, form: ExactForm, flows: list[dict[int, Number]], used: BoolArray) -> None:
        self.form, self.flows = form, flows
        self._pinned = _recurrent_state(form, used) if form.average else None

    @classmethod
    def of_choice(cls, form: ExactForm, choice: list[int]) -> ExactChain:
        """The chain of the deterministic policy that takes these pairs, [S]."""
        used = np.zeros(len(form.rows), dtype=np.bool_)
        used[choice] = True
        return cls(form, [pair_flow(form, pair) for pair in choice], used)

    @cached_property
    def _others(self) -> list[int]:
        """The states solved for: all, but for the pinned one of an undiscounted chain and those where it has ended."""
        ended = self.form.ended
        return [s for s in range(self.form.n_states) if s != self._pinned and not ended[s]]

    @cached_property
    def _factors(self) -> SparseElimination:
        position = {state: i for i, state in enumerate(self._others)}
        flows, leave = [], []
        for state in self._others:
            flow = dict(self.flows[state])
            gone = sum((rate for target, rate in flow.items() if target not in position), self.form.rest)
            flows.append({position[target]: rate for target, rate in flow.items() if target in position})
            leave.append(gone)
        return SparseElimination(flows, leave, solve_dense)

    def worth(self, earned: list[Number]) -> Worth:
        """What rewards [S] amount to."""
        if self._pinned is None:
            values = self._spread(self._factors.columns([earned[s] for s in self._others]))
            gain = _dot(self.form.initial, values)
            return Worth(gain if self.form.total else self.form.rest * gain, values)
        sums = self._spread(self._factors.columns([earned[s] for s in self._others]))
        times = self._spread(self._factors.columns([self.form.discount for _ in self._others]))
        onward = self.flows[self._pinned]
        cycle = earned[self._pinned] + sum(rate * sums[t] for t, rate in onward.items())
        gain = cycle / (1 + sum(rate * times[t] for t, rate in onward.items()))
        return Worth(gain, [x - gain * t for x, t in zip(sums, times, strict=True)])

    def occupancy(self, fixed: Mapping[int, Number] = MappingProxyType({})) -> list[Number]:
        """Mass of each state, [S], on the chain, when pairs outside of it have the masses given."""
        form, zero = self.form, 0 * self.form.discount
        source = [p if form.total else form.rest * p for p in form.initial]
        for pair, mass in fixed.items():
            flow = pair_flow(form, pair)
            source[form.states[pair]] = source[form.states[pair]] - mass * (form.rest + sum(flow.values()))
            for target, rate in flow.items():
                source[target] = source[target] + mass * rate
        if self._pinned is None:
            return self._spread(self._factors.rows([source[s] for s in self._others]))
        onward = self.flows[self._pinned]
        again = self._spread(self._factors.rows([onward.get(s, zero) for s in self._others]))
        own = self._spread(self._factors.rows([source[s] for s in self._others]))
        mass = (1 - sum(fixed.values(), zero) - sum(own, zero)) / (1 + sum(again, zero))
        found = [x + mass * y for x, y in zip(own, again, strict=True)]
        found[self._pinned] = mass
        return found

    def _spread(self, solved: list[Number]) -> list[Number]:
        """Put the states back that were not solved for, with zero."""
        out = [0 * self.form.discount] * self.form.n_states
        for state, value in zip(self._others, solved, strict=True):
            out[state] = value
        return out


def residuals(form: ExactForm, rewards: list[Number], worth: Worth) -> list[Number]:
    """r + γPV − V of every pair (for the average r − λ + Ph − h), [pairs]."""
    base = [worth.gain if form.average else form.rest * value for value in worth.values]
    moved = drifts(form, worth.values)
    return [
        earned - base[state] + form.discount * drift
        for earned, state, drift in zip(rewards, form.states, moved, strict=True)
    ]


def drifts(form: ExactForm, values: list[Number]) -> list[Number]:
    """Σ p (V' − V) of every pair, [pairs]; differences over one denominator."""
    flint = load_flint()
    fmpq, unit = flint.fmpq, flint.fmpz(1)
    for value in values:
        unit = unit.lcm(value.q)
    tops = [value.p * (unit // value.q) for value in values]
    out = []
    for state, (targets, weights, row_unit) in zip(form.states, form.rows, strict=True):
        here = tops[state]
        moved = sum((w * (tops[t] - here) for t, w in zip(targets, weights, strict=True)), flint.fmpz(0))
        out.append(fmpq(moved, row_unit * unit))
    return out


def _dot(left: list[Number], right: list[Number]) -> Number:
    return sum((x * y for x, y in zip(left, right, strict=True)), 0 * left[0])


def solve_dense(rows: list[list[Number]], rhs: list[Number]) -> list[Number]:
    """Solve a dense system in the arithmetic of its numbers; raises `Unsupported` where it is too large."""
    size, flint = len(rows), load_flint()
    matrix = flint.arb_mat if isinstance(rhs[0], flint.arb) or isinstance(rows[0][0], flint.arb) else flint.fmpq_mat
    if size > MOST_DENSE:
        raise Unsupported(
            f"exact arithmetic has to solve {size} equations at once here, and goes up to {MOST_DENSE}. "
            "Use certify='interval' for this model."
        )
    return list(matrix(size, size, [x for row in rows for x in row]).solve(matrix(size, 1, rhs)).entries())


def pair_flow(form: ExactForm, pair: int) -> dict[int, Number]:
    """γ P of a pair, without what stays."""
    if not form.discount:
        return {}
    row, fmpq = form.rows[pair], load_flint().fmpq
    return {t: form.discount * fmpq(w, row.unit) for t, w in zip(row.targets, row.weights, strict=True)}


def _recurrent_state(form: ExactForm, used: BoolArray) -> int:
    """A state of the only recurrent class of a chain; raises `Unsupported` where there are several."""
    classes = closed_classes(form.graph, used)
    if classes.count > 1:
        raise Unsupported(
            "averages with constraints have proofs in fractions where policies have one recurrent class; one met has "
            f"{classes.count}."
        )
    return int(np.argmax(classes.label == 0))

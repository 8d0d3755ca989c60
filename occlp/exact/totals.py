"""Totals in rationals: policy iteration on the reduced form, whose comparisons are exact.

The structure of the reduction (which states end well, what earns nothing) follows from which numbers are zero, so
that it holds for the fractions as well. Elimination without subtraction needs no more digits where a policy takes
10^30 steps; fractions have them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from occlp.errors import Unsupported
from occlp.exact.chain import solve_dense
from occlp.exact.elimination import SparseElimination
from occlp.exact.form import ExactForm, Number, exact_form
from occlp.problem import Problem
from occlp.rationals import load_flint
from occlp.total.form import formulate_total
from occlp.total.improvement import Unending, improvements
from occlp.total.reduction import Reduction, is_proper, reduction_of


@dataclass(frozen=True, eq=False)
class ExactTotal:
    """An optimal policy of a total, with its values; to be maximised.

    Attributes
    ----------
    choice : list of int [S]
        The pair taken in each state.
    optimum : fmpq
    values : list of (fmpq or None) [S]
        None where the goal cannot be reached almost surely.
    changes : int
        How often fractions changed the policy that doubles had found.
    """

    choice: list[int]
    optimum: Number
    values: list[Number | None]
    changes: int


def optimal_total(problem: Problem) -> ExactTotal:
    """Solve a total without constraints in rationals.

    Raises `Unsupported` where policies never end, and where a state has no finite value although there is no goal
    that must be reached.
    """
    total = formulate_total(problem)
    reduction = reduction_of(total)
    kept = reduction.kept.tolist()
    if reduction.losing.any() or not (total.proper or all(kept)):
        raise Unsupported("from some states no policy ends well; they are worth minus infinity, which is no fraction.")
    form = exact_form(problem)
    nodes = _Nodes.of(form, reduction, reach=problem.objective == "reach")
    steps = list(nodes.improve(_nearly(reduction)))
    values, choice = steps[-1]
    found = [values[node] if good else None for node, good in zip(reduction.quotient.nodes, kept, strict=True)]
    optimum = sum((p * v for p, v in zip(form.initial, found, strict=True) if p), 0 * form.rest)
    return ExactTotal(reduction.lift(np.array(choice, dtype=np.int32)).tolist(), optimum, found, len(steps) - 1)


def _nearly(reduction: Reduction) -> list[int]:
    """The policy of nodes that doubles find."""
    choice = reduction.proper_choice
    try:
        for step in improvements(reduction, reduction.form.rewards):
            choice = step.choice
    except Unending:
        raise Unsupported("the total has no upper bound.") from None
    return [int(pair) for pair in choice]


@dataclass(frozen=True, eq=False)
class _Nodes:
    """The reduced form in rationals: from each pair to other nodes, and what it earns."""

    reduction: Reduction
    flows: list[dict[int, Number]]  # [pairs of the form]
    earned: list[Number]  # [pairs of the form]
    ends: list[Number]  # [nodes]

    @classmethod
    def of(cls, form: ExactForm, reduction: Reduction, *, reach: bool) -> _Nodes:
        flint = load_flint()
        nodes = reduction.quotient.nodes.tolist()
        flows: list[dict[int, Number]] = []
        earned = []
        for pair, node in zip(reduction.pairs.tolist(), reduction.form.states.tolist(), strict=True):
            flow: dict[int, Number] = {}
            if pair >= 0:
                row = form.rows[pair]
                for target, weight in zip(row.targets, row.weights, strict=True):
                    if nodes[target] != node:
                        flow[nodes[target]] = flow.get(nodes[target], 0) + flint.fmpq(weight, row.unit)
            elif pair == -2:  # stopping leads to the last node
                flow[reduction.form.n_states - 1] = flint.fmpq(1)
            flows.append(flow)
            earned.append(flint.fmpq(0) if pair < 0 or reach else form.rewards[pair])
        ends = [flint.fmpq(*float(end).as_integer_ratio()) for end in reduction.ends]
        return cls(reduction, flows, earned, ends)

    def improve(self, choice: list[int]) -> Iterator[tuple[list[Number], list[int]]]:
        """Yield the values of a policy and the next policy, until the two are the same."""
        start = self.reduction.form.start.tolist()
        while True:
            if not is_proper(self.reduction, np.array(choice, dtype=np.int32)):
                raise Unsupported("an improvement in fractions never ends; doubles do not see by how much.")
            values = self.evaluate(choice)
            better = list(choice)
            for node, (first, last) in enumerate(pairwise(start)):
                if not self.reduction.fixed[node]:
                    scores = [self.score(pair, node, values) for pair in range(first, last)]
                    top = max(scores)
                    if top > 0:
                        better[node] = first + scores.index(top)
            yield values, better
            if better == choice:
                return
            choice = better

    def score(self, pair: int, node: int, values: list[Number]) -> Number:
        """r + PV − V of a pair."""
        here = values[node]
        return sum((rate * (values[t] - here) for t, rate in self.flows[pair].items()), self.earned[pair])

    def evaluate(self, choice: list[int]) -> list[Number]:
        """Values of all nodes under a policy that ends."""
        fixed = self.reduction.fixed
        inner = np.flatnonzero(~fixed).tolist()
        position = {node: i for i, node in enumerate(inner)}
        flows, leave, rhs = [], [], []
        for node in inner:
            flow, total = self.flows[choice[node]], self.earned[choice[node]]
            flows.append({position[t]: rate for t, rate in flow.items() if not fixed[t]})
            leave.append(sum((rate for t, rate in flow.items() if fixed[t]), 0 * total))
            rhs.append(sum((rate * self.ends[t] for t, rate in flow.items() if fixed[t]), total))
        values = list(self.ends)
        if inner:
            for node, value in zip(inner, SparseElimination(flows, leave, solve_dense).columns(rhs), strict=True):
                values[node] = value
        return values

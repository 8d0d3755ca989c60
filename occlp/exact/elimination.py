"""Solves with the matrix of a chain in any arithmetic: states are eliminated one by one, without subtraction.

The chain is given by what flows from state to state and by what leaves it altogether, both not negative:

    A x = b   means   (leave_s + Σ_j flow_sj) x_s − Σ_j flow_sj x_j = b_s.

Eliminating a state sends its flow on (Grassmann, Taksar and Heyman 1985). States of few neighbours go
first; what is left when the rest has filled up is one dense system.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from occlp.exact.form import Number

#: A state is eliminated by itself while predecessors times successors do not exceed this.
MOST_FILL = 256


class SparseElimination:
    """Factors of one chain, for solves from the right and from the left.

    Parameters
    ----------
    flows : list of dict of int to number [S]
        From each state to others, positive.
    leave : list of number [S]
        Rates at which the chain is left; not all zero, and reachable from everywhere.
    dense : callable
        ``dense(rows, columns)`` solves the dense rest.
    """

    def __init__(self, flows: list[dict[int, Number]], leave: list[Number], dense: Callable[..., list[Number]]) -> None:
        self._flows = [dict(flow) for flow in flows]
        self._leave, self._dense = list(leave), dense
        self._into: list[dict[int, Number]] = [{} for _ in flows]  # flow into a state at the time it is eliminated
        self._pivots: list[Number] = [None] * len(flows)
        self._order: list[int] = []
        self._core = self._eliminate()

    def columns(self, rhs: list[Number]) -> list[Number]:
        """Solve A x = b."""
        x = list(rhs)
        for k in self._order:
            share = x[k] / self._pivots[k]
            for i, flow in self._into[k].items():
                x[i] = x[i] + flow * share
        self._solve_core(x, transposed=False)
        for k in reversed(self._order):
            total = x[k]
            for j, flow in self._flows[k].items():
                total = total + flow * x[j]
            x[k] = total / self._pivots[k]
        return x

    def rows(self, rhs: list[Number]) -> list[Number]:
        """Solve d A = c."""
        d = list(rhs)
        for k in self._order:
            share = d[k] / self._pivots[k]
            for j, flow in self._flows[k].items():
                d[j] = d[j] + flow * share
        self._solve_core(d, transposed=True)
        for k in reversed(self._order):
            total = d[k]
            for i, flow in self._into[k].items():
                total = total + flow * d[i]
            d[k] = total / self._pivots[k]
        return d

    def _eliminate(self) -> list[int]:
        flows = self._flows
        before: list[set[int]] = [set() for _ in flows]
        for i, flow in enumerate(flows):
            for j in flow:
                before[j].add(i)
        heap = [(len(before[k]) * len(flow), k) for k, flow in enumerate(flows)]
        heapq.heapify(heap)
        left = set(range(len(flows)))
        while heap:
            fill, k = heapq.heappop(heap)
            if k not in left:
                continue
            now = len(before[k]) * len(flows[k])
            if now > fill:
                heapq.heappush(heap, (now, k))
                continue
            if now > MOST_FILL:
                break
            left.remove(k)
            self._order.append(k)
            self._remove(k, before)
            for neighbour in {*before[k], *flows[k]}:
                heapq.heappush(heap, (len(before[neighbour]) * len(flows[neighbour]), neighbour))
        return sorted(left)

    def _remove(self, k: int, before: list[set[int]]) -> None:
        flows, leave = self._flows, self._leave
        pivot = leave[k] + sum(flows[k].values())
        self._pivots[k] = pivot
        for j in flows[k]:
            before[j].discard(k)
        for i in before[k]:
            flow = self._into[k][i] = flows[i].pop(k)
            share = flow / pivot
            leave[i] = leave[i] + share * leave[k]
            for j, onward in flows[k].items():
                if j != i:
                    flows[i][j] = flows[i][j] + share * onward if j in flows[i] else share * onward
                    before[j].add(i)

    def _solve_core(self, x: list[Number], *, transposed: bool) -> None:
        """Solve the dense rest in place."""
        core = self._core
        if not core:
            return
        position = {state: i for i, state in enumerate(core)}
        matrix = [[0 * self._leave[core[0]]] * len(core) for _ in core]
        for i, state in enumerate(core):
            matrix[i][i] = self._leave[state] + sum(self._flows[state].values())
            for j, flow in self._flows[state].items():
                matrix[i][position[j]] = -flow
        if transposed:
            matrix = [list(column) for column in zip(*matrix, strict=True)]
        for state, value in zip(core, self._dense(matrix, [x[state] for state in core]), strict=True):
            x[state] = value

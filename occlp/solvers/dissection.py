"""Nested dissection: an order of elimination in which the factors of a sparse symmetric matrix stay sparse.

A level of a breadth-first search splits the graph in two; the rows of the parts are eliminated first, those of the
level last, and the parts are split again. Source: George (1973); the levels as separators: George and Liu (1978).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from occlp._typing import AnyArray, IntArray

#: Parts of up to this many rows are not split.
LEAF = 96
#: A level splits off at least this share of the rows.
LEAST_SHARE = 0.35


@dataclass(frozen=True, eq=False)
class Dissection:
    """Fronts: rows that are eliminated together, each with the later rows that this touches.

    Attributes
    ----------
    order : IntArray [n]
        The rows as they are eliminated.
    starts : IntArray [fronts + 1]
        Where the own rows of each front begin in this order.
    borders : list of IntArray
        The later rows of each front, as positions in the order, sorted.
    """

    order: IntArray
    starts: IntArray
    borders: list[IntArray]

    @cached_property
    def front_of(self) -> IntArray:
        """The front of each position, [n]."""
        own = np.diff(self.starts)
        return np.repeat(np.arange(len(own), dtype=np.int32), own)

    @cached_property
    def sizes(self) -> tuple[AnyArray, AnyArray]:
        """Own rows and border rows of each front."""
        return np.diff(self.starts).astype(np.float64), np.array([len(rows) for rows in self.borders], dtype=np.float64)

    @property
    def entries(self) -> float:
        """Entries of the factor."""
        own, border = self.sizes
        return float((own * (own + 1) / 2 + own * border).sum())

    @property
    def operations(self) -> float:
        """Multiplications to find the factor."""
        own, border = self.sizes
        return float((((own + border) ** 3 - border**3) / 3).sum())


def dissect(graph: Any, most_operations: float = np.inf) -> Dissection | None:
    """Split a symmetric sparse graph [n, n]; None where separators are so large that factors take more operations."""
    graph = sparse.csr_array(graph)
    n = graph.shape[0]
    parts: list[AnyArray] = []  # from the last to the first
    waiting = [(graph, np.arange(n))]
    while waiting:
        part, names = waiting.pop()
        split = _split(part) if len(names) > LEAF else None
        last = names if split is None else names[split == 0]
        if len(last) ** 3 / 3 > most_operations:
            return None
        if len(last):
            parts.append(last)
        for side in (-1, 1) if split is not None else ():
            inside = np.flatnonzero(split == side)
            waiting.append((part[inside][:, inside], names[inside]))
    parts.reverse()
    order = np.concatenate([np.zeros(0, dtype=np.int64), *parts]).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int32)
    found = Dissection(order, starts, _borders(graph, order, starts))
    return found if found.operations <= most_operations else None


def _split(graph: Any) -> AnyArray | None:
    """−1 and 1 for the two sides and 0 for what separates them, [n]; None where no level does."""
    reached = csgraph.breadth_first_order(graph, 0, return_predecessors=False)
    sides = np.ones(graph.shape[0], dtype=np.int8)
    if len(reached) < len(sides):  # nothing joins the sides
        sides[reached] = -1
        return sides
    nodes, before = csgraph.breadth_first_order(graph, int(reached[-1]))
    place = np.empty(len(nodes), dtype=np.int64)
    place[nodes] = np.arange(len(nodes))
    found_from, ends = place[before[nodes[1:]]], [0, 1]
    while ends[-1] < len(nodes):
        ends.append(int(np.searchsorted(found_from, ends[-1])) + 1)
    widths, share = np.diff(ends), np.array(ends[:-1]) / len(nodes)
    middle = (share >= LEAST_SHARE) & (share + widths / len(nodes) <= 1 - LEAST_SHARE)
    if not middle.any():
        halves = int(np.searchsorted(share, 0.5)) - 1
        middle[max(1, min(halves, len(widths) - 2))] = True
    if len(widths) < 3:
        return None
    level = int(np.argmin(np.where(middle, widths, len(nodes) + 1)))
    sides[nodes[: ends[level]]] = -1
    separator = nodes[ends[level] : ends[level + 1]]
    sides[separator] = 0
    beyond = (sides > 0).astype(np.float64)
    touches = np.asarray(abs(graph[separator]) @ beyond)
    sides[separator[touches == 0]] = -1
    return sides


def _borders(graph: Any, order: AnyArray, starts: AnyArray) -> list[IntArray]:
    """For each front, the later rows that its elimination touches."""
    permuted = sparse.csr_array(graph[order][:, order])
    count = len(starts) - 1
    front_of = np.repeat(np.arange(count), np.diff(starts))
    touched: list[list[AnyArray]] = [[] for _ in range(count)]
    borders = []
    for front, end in enumerate(starts[1:].tolist()):
        own = permuted.indices[permuted.indptr[starts[front]] : permuted.indptr[end]]
        rows = np.unique(np.concatenate([own, *touched[front]])).astype(np.int32)
        rows = rows[rows >= end]
        borders.append(rows)
        touched[front] = []
        if len(rows):
            touched[front_of[rows[0]]].append(rows)
    return borders

"""Concave functions of a few expectations as further rows, so that a decomposition meets them as it meets limits.

`LogSum` and `WorstCase` depend on the occupancy through the expectations c·d alone. Each of these becomes a row −c
beside the rows of the limits; what the rows are worth together is the business of the small program over the
columns. A worst case that is a limit is nothing but linear limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from occlp._typing import BoolArray, FloatArray
from occlp.problem import Problem
from occlp.standard import ConcaveLimit, StandardForm
from occlp.terms import LogSum, LogTerm, Term, WorstCase, WorstTerm


@dataclass(frozen=True, eq=False)
class Logarithms:
    """Σ w log x for some of the rows, which are −x: a part of the objective, or at least `least`."""

    rows: slice  # among all rows
    weights: FloatArray  # [rows], summing to one
    least: float | None = None  # None for the objective
    position: int = -1  # among the concave limits
    size: float = 1.0  # the sum of the weights in the user's units


@dataclass(frozen=True, eq=False)
class Expansion:
    """A form without concave parts, and what its further rows stand for.

    Attributes
    ----------
    original, form : StandardForm
        With the concave parts, and with rows in their place.
    logarithms : tuple of Logarithms
    worst : slice or None
        Rows of the worst case that is the objective: what the worst is above a floor is added to them.
    size : float
        Units of the objective per unit of what is maximised in its place.
    limits : mapping of int to (slice, float)
        Rows of the worst cases that are limits, by position among the concave limits, and their unit.
    """

    original: StandardForm
    form: StandardForm
    logarithms: tuple[Logarithms, ...]
    worst: slice | None
    size: float
    limits: Mapping[int, tuple[slice, float]]

    @property
    def raised(self) -> BoolArray:
        """Which rows are those of the worst case to be maximised, [rows]."""
        marked = np.zeros(len(self.form.limits.names), dtype=np.bool_)
        if self.worst is not None:
            marked[self.worst] = True
        return marked

    def prices(self, prices: FloatArray, concave: FloatArray) -> FloatArray:
        """Prices of the original's constraints, over `size`, from those of all rows and of limits on logarithms."""
        count = len(self.original.limits.names)
        found = np.zeros(len(self.original.names))
        found[:count] = prices[:count]
        for position, (rows, unit) in self.limits.items():
            found[count + position] = prices[rows].sum() / unit
        for price, part in zip(concave, self.limited, strict=True):
            found[count + part.position] = price / part.size
        return self.original.feasible_prices(found)

    def slopes(self, prices: FloatArray, concave: FloatArray) -> dict[str, FloatArray]:
        """Supergradients of the concave limits that have a price, [pairs] each."""
        found, limits = {}, self.original.concave
        for position, (rows, _) in self.limits.items():
            term, total = limits[position].term, float(prices[rows].sum())
            assert isinstance(term, WorstTerm)
            if total > 0:
                found[limits[position].name] = (prices[rows] / total) @ term.rows
        for price, part in zip(concave, self.limited, strict=True):
            if price > 0:
                weights = -(part.size / price) * prices[part.rows]
                found[limits[part.position].name] = weights @ self.form.limits.rows[part.rows]
        return found

    @property
    def limited(self) -> list[Logarithms]:
        """The logarithms that are limits."""
        return [part for part in self.logarithms if part.least is not None]


def is_expandable(problem: Problem) -> bool:
    """Whether all concave parts of a problem depend on a few expectations."""
    parts = [problem.regularizer, problem.utility, *(limit.utility for limit in problem.concave_limits.values())]
    return all(part is None or isinstance(part, LogSum | WorstCase) for part in parts)


def expand(form: StandardForm) -> Expansion:
    """Put rows in the place of the concave parts of a form, all of which depend on a few expectations."""
    builder = _Builder(form)
    if form.term is not None:
        builder.maximize(form.term)
    for position, limit in enumerate(form.concave):
        builder.keep(position, limit)
    rows = np.vstack([form.limits.rows, *builder.rows])
    names = tuple(f"row {k}" for k in range(len(form.limits.names), len(rows)))
    limits = form.limits.extended(names, rows[len(form.limits.names) :], np.ones(len(names)))
    plain = replace(form, term=None, concave=(), limits=limits)
    return Expansion(form, plain, tuple(builder.logarithms), builder.worst, builder.size, builder.limits)


class _Builder:
    """Rows and what they stand for, one concave part after the other."""

    def __init__(self, form: StandardForm) -> None:
        self.form = form
        self.rows: list[FloatArray] = []
        self.logarithms: list[Logarithms] = []
        self.worst: slice | None = None
        self.size = 1.0
        self.limits: dict[int, tuple[slice, float]] = {}
        self._used = len(form.limits.names)

    def maximize(self, term: Term) -> None:
        """The objective."""
        if isinstance(term, LogTerm):
            part, _ = self._logarithms(term)
            self.size = part.size
            self.logarithms.append(part)
        else:
            assert isinstance(term, WorstTerm)
            self.size = term.spread
            self.worst = self._add((float(term.rows.min()) - term.rows) / self.size)

    def keep(self, position: int, limit: ConcaveLimit) -> None:
        """A limit from below."""
        if isinstance(limit.term, LogTerm):
            part, shift = self._logarithms(limit.term)
            least = (limit.bound - shift) / part.size
            self.logarithms.append(replace(part, least=least, position=position))
        else:
            assert isinstance(limit.term, WorstTerm)
            rows = limit.bound - limit.term.rows
            unit = float(np.abs(rows).max()) or 1.0
            self.limits[position] = self._add(rows / unit), unit

    def _logarithms(self, term: LogTerm) -> tuple[Logarithms, float]:
        """The part and what its sum lacks for the units of the rows."""
        units = np.abs(term.rows).max(axis=1)
        rows, size = self._add(-term.rows / units[:, None]), float(term.weights.sum())
        return Logarithms(rows, term.weights / size, size=size), float(term.weights @ np.log(units))

    def _add(self, rows: FloatArray) -> slice:
        self.rows.append(rows)
        first, self._used = self._used, self._used + len(rows)
        return slice(first, self._used)

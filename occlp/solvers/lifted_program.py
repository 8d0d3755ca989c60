"""Occupancy programs in which every concave part is linear, separable, or curved by blocks of states.

The distance to a target is piecewise linear in the mass of each pair, Σ min(d, t) − 1: a pair has a column for the mass
up to its target, which is capped, and one for the mass beyond. Logarithms of expectations and worst cases get a
variable each (`expansion`). Entropies stay what they are: their second derivative is diagonal but for one number that
the pairs of a state have in common. With slacks for the limits the program reads: minimise a convex function of x ≥ 0
subject to flow rows, linear rows, and rows b − f(x) + slack = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from occlp._typing import AnyArray, FloatArray
from occlp.solvers.expansion import expand
from occlp.standard import StandardForm
from occlp.terms import JointTerm, LogTerm, PolicyTerm, StateTerm, Term, VariationTerm, WorstTerm

#: Terms with `blocks`: curved by blocks of states.
BlockTerm: TypeAlias = JointTerm | PolicyTerm | StateTerm
#: Targets below this have no column of their own.
NO_TARGET = 1e-18
#: Slopes of entropies where nothing can be are those of this mass.
NO_MASS = 1e-25


@dataclass(frozen=True, eq=False)
class Curve:
    """factor · f(d) of an entropy or a divergence f."""

    term: BlockTerm
    factor: float


@dataclass(frozen=True, eq=False)
class Meaning:
    """What a point of the program says of its form."""

    occupancy: FloatArray  # [pairs]
    prices: FloatArray  # [k], of all limits
    slopes: dict[str, FloatArray]  # [pairs] each, of the concave limits


def unliftable(form: StandardForm) -> str | None:
    """Why a form has no such program, or None."""
    terms = [form.term, *(limit.term for limit in form.concave)]
    if not all(isinstance(term, BlockTerm | LogTerm | WorstTerm | VariationTerm | None) for term in terms):
        return "a function of your own has no structure that it knows"
    if sum(isinstance(term, VariationTerm) for term in terms) > 1:
        return "it measures the distance to one target only"
    return None


class LiftedProgram:
    """The program of a form over some of its pairs.

    Parameters
    ----------
    form : StandardForm
    pairs : AnyArray
        The pairs that may carry mass, sorted.
    elastic : bool
        Whether the limits may be broken: by one number of sizes of costs and utilities, which is minimised (and
        equalities by numbers of their own). Nothing else then counts.

    Attributes
    ----------
    pair_of : AnyArray [columns]
        The (kept) pair of each column: all pairs first, then those with a second column, which is capped.
    caps : FloatArray [capped columns]
    costs : FloatArray [columns + others]
        The linear part of what is minimised; the others are variables beside the columns.
    logs : FloatArray [others]
        Weights of −log x in it.
    curve : Curve or None
        What is taken off it.
    matrix, right : FloatArray [rows, columns + others], [rows]
        The linear part of the rows: first Σ d = 1.
    row_logs : FloatArray [rows, others]
        Weights of −log x in them.
    row_curves : dict of int to Curve
        What is taken off them.
    """

    def __init__(self, form: StandardForm, pairs: AnyArray, *, elastic: bool = False) -> None:
        term = None if elastic else form.term
        self.form, self.pairs, self.elastic = form, pairs, elastic
        self.size = 1.0
        if term is not None:
            self.size = max(term.spread, 1.0 if form.reward_range else 0.0)
        self._split(term)
        expandable = tuple(limit for limit in form.concave if isinstance(limit.term, LogTerm | WorstTerm))
        kept = term if isinstance(term, LogTerm | WorstTerm) else None
        self.expansion = expand(replace(form, term=kept, concave=expandable))
        self.others = [limit for limit in form.concave if limit not in expandable]
        self.curve = Curve(term, 1.0 / self.size) if isinstance(term, BlockTerm) else None
        self._write_rows()
        if not elastic:
            self.costs[: self.n_columns] = -form.rewards[pairs][self.pair_of] / self.size
        if isinstance(term, VariationTerm):
            self.costs[len(pairs) : self.n_columns] -= 1.0 / self.size

    @property
    def n_columns(self) -> int:
        """Columns of pairs."""
        return len(self.pair_of)

    def _split(self, term: Term | None) -> None:
        """Give pairs with a target a second column."""
        terms = [term, *(limit.term for limit in self.form.concave)]
        targets = [found.target[self.pairs] for found in terms if isinstance(found, VariationTerm)]
        target = targets[0] if targets else np.zeros(len(self.pairs))
        split = np.flatnonzero(target > NO_TARGET)
        self.pair_of: AnyArray = np.append(np.arange(len(self.pairs)), split)
        self.caps: FloatArray = target[split]

    def _write_rows(self) -> None:
        """The mass, linear rows, limits on logarithms, and the other concave limits."""
        limits, n = self.expansion.form.limits, self.n_columns
        linear = limits.rows[:, self.pairs][:, self.pair_of]
        self.first_log = 1 + len(linear)
        self.first_other = self.first_log + len(self.expansion.limited)
        rows = self.first_other + len(self.others)
        self._variables = _Variables(rows)
        self.right = np.append(1.0, np.zeros(rows - 1))
        kinds = self._place_expectations(len(linear))
        sizes = np.ones(len(linear))
        for position, (at, unit) in self.expansion.limits.items():
            sizes[at] = self.expansion.original.concave[position].term.spread / unit
        for k in np.flatnonzero(kinds != 1).tolist():
            self._variables.slack(1 + k, sizes[k], equal=kinds[k] == 0 and bool(limits.equal[k]))
        own = np.zeros((len(self.others), n))
        self.row_curves: dict[int, Curve] = {}
        for row, limit in enumerate(self.others, self.first_other):
            self._variables.slack(row)
            if isinstance(limit.term, BlockTerm):
                self.row_curves[row] = Curve(limit.term, 1.0 / limit.term.spread)
                self.right[row] = -limit.bound / limit.term.spread
            else:
                own[row - self.first_other, len(self.pairs) :] = -1.0
                self.right[row] = -limit.bound - 1.0
        for k, part in enumerate(self.expansion.limited):
            assert part.least is not None
            self._variables.slack(self.first_log + k)
            self.right[self.first_log + k] = -part.least
        if self.elastic:
            self._variables.loosen()
        left = np.vstack([np.ones(n), linear, np.zeros((len(self.expansion.limited), n)), own])
        self.matrix = np.hstack([left, self._variables.matrix])
        self.costs = np.append(np.zeros(n), self._variables.costs)
        self.logs, self.row_logs = self._variables.logs, self._variables.row_logs

    def _place_expectations(self, count: int) -> AnyArray:
        """Variables for logarithms and worst cases; returns what each linear row is: 0 limit, 1 logarithm, 2 raised."""
        kinds, limited = np.zeros(count, dtype=np.int8), 0
        for part in self.expansion.logarithms:
            kinds[part.rows] = 1
            own = part.least is None
            row = None if own else self.first_log + limited
            limited += not own
            for k, weight in zip(range(part.rows.start, part.rows.stop), part.weights, strict=True):
                self._variables.logarithm(1 + k, weight * part.size / self.size if own else weight, row)
        raised = np.flatnonzero(self.expansion.raised)
        if len(raised):
            kinds[raised] = 2
            self._variables.add(1 + raised, cost=-self.expansion.size / self.size)
        return kinds

    def meaning(self, x: FloatArray, z: FloatArray, y: FloatArray) -> Meaning:
        """Translate a point: x and z [columns + others] and the prices y [rows]."""
        form, n, size = self.form, self.n_columns, self.size
        occupancy = np.zeros(form.n_pairs)
        occupancy[self.pairs] = x[: len(self.pairs)]
        occupancy[self.pairs[self.pair_of[len(self.pairs) :]]] += x[len(self.pairs) : n]
        linear, logs = size * y[1 : self.first_log], size * np.maximum(y[self.first_log : self.first_other], 0.0)
        expanded = self.expansion.original
        by_name = dict(zip(expanded.names, self.expansion.prices(linear, logs), strict=True))
        slopes = self.expansion.slopes(np.maximum(linear, 0.0), logs)
        for row, limit in enumerate(self.others, self.first_other):
            price = max(size * float(y[row]), 0.0)
            if isinstance(limit.term, BlockTerm):
                by_name[limit.name] = price / limit.term.spread
                slopes[limit.name] = limit.term.gradient(np.maximum(occupancy, NO_MASS))
                continue
            by_name[limit.name] = price
            slope = np.ones(form.n_pairs)
            slope[self.pairs] = np.clip(size * z[: len(self.pairs)] / max(price, 1e-300), 0.0, 1.0)
            slopes[limit.name] = slope
        return Meaning(occupancy, np.array([by_name[name] for name in form.names]), slopes)


class _Variables:
    """The variables beside the columns, as they are added."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._columns: list[FloatArray] = []
        self._costs: list[float] = []
        self._logs: list[float] = []
        self._row_logs: list[tuple[int, int, float]] = []
        self._limits: list[tuple[int, float, bool]] = []

    def add(self, rows: Any, *, sign: Any = 1.0, cost: float = 0.0, log: float = 0.0) -> None:
        """A variable with these coefficients in some rows."""
        column = np.zeros(self._rows)
        column[rows] = sign
        self._columns.append(column)
        self._costs.append(cost)
        self._logs.append(log)

    def slack(self, row: int, size: float = 1.0, *, equal: bool = False) -> None:
        """What a limit has to spare, whose range is this many units of the row; equalities have nothing."""
        self._limits.append((row, size, equal))
        if not equal:
            self.add(row)

    def loosen(self) -> None:
        """What all limits may be broken by in common, and each equality by itself."""
        loose = [(row, -size) for row, size, equal in self._limits if not equal]
        if loose:
            self.add([row for row, _ in loose], sign=[sign for _, sign in loose], cost=1.0)
        for row, size, equal in self._limits:
            for sign in (1.0, -1.0) if equal else ():
                self.add(row, sign=sign, cost=1.0 / size)

    def logarithm(self, row: int, weight: float, limit: int | None) -> None:
        """An expectation, minus the linear part of a row, whose logarithm counts in the objective or in a limit."""
        if limit is not None:
            self._row_logs.append((limit, len(self._columns), weight))
        self.add(row, log=weight if limit is None else 0.0)

    @property
    def matrix(self) -> FloatArray:
        """Their coefficients, [rows, variables]."""
        return np.array(self._columns).reshape(-1, self._rows).T

    @property
    def costs(self) -> FloatArray:
        """Their costs, [variables]."""
        return np.array(self._costs)

    @property
    def logs(self) -> FloatArray:
        """Their logarithms in the objective, [variables]."""
        return np.array(self._logs)

    @property
    def row_logs(self) -> FloatArray:
        """Their logarithms in the rows, [rows, variables]."""
        found = np.zeros((self._rows, len(self._columns)))
        for row, column, weight in self._row_logs:
            found[row, column] = weight
        return found

"""Primal–dual hybrid gradients on the linear program of occupancies: scaled, with adaptive steps and restarts.

min c·x over x ≥ 0 with K x = b (≤ for limits), where x is the occupancy and K holds flow, normalisation and limits, all
scaled. The normalisation is what conditions the program. Steps, restarts and weight are those of PDLP: Applegate, Díaz,
Hinder, Lu, Lubin, O'Donoghue and Schudy (2021).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from occlp._typing import BoolArray, FloatArray
from occlp.parallel import inner_product
from occlp.standard import StandardForm, flow_matrix
from occlp.work import count_transitions

#: Rounds of scaling by the largest entries (Ruiz 2001), before one by sums (Pock and Chambolle 2011).
RUIZ_ROUNDS = 10
#: Restarts are looked for after so many steps; the errors of two points cost as much as two steps.
LOOK = 10
#: The error must have fallen to this part of that of the last restart, ...
SUFFICIENT = 0.2
#: ... or to this part, and have begun to grow, ...
NECESSARY = 0.8
#: ... or this part of all steps has been taken since.
ARTIFICIAL = 0.36


@dataclass(frozen=True, eq=False)
class Point:
    """Occupancy and prices in the scaled program, with their products with K."""

    x: FloatArray  # [pairs]
    y: FloatArray  # [S + 1 + k]
    forward: FloatArray  # K x
    backward: FloatArray  # Kᵀ y


@dataclass(frozen=True, eq=False)
class Stretch:
    """Where a run is: the last point, and the weighted sums since the last restart.

    Attributes
    ----------
    point, origin : Point
        The last one, and that of the restart.
    sums : Point
    weight : float
        Of the sums.
    step, balance : float
        η and ω: x moves by η/ω, y by η ω.
    error, before : float
        At the origin, and when it was last looked at.
    taken, total : int
        Steps since the restart, and of the run.
    """

    point: Point
    origin: Point
    sums: Point
    step: float
    balance: float
    error: float
    before: float
    weight: float = 0.0
    taken: int = 0
    total: int = 0

    @property
    def average(self) -> Point:
        """The weighted mean since the restart; the restart itself where no step was taken."""
        return self.origin if self.weight == 0 else _scaled(self.sums, 1.0 / self.weight)


class EquilibratedProgram:
    """The program of a standard form with rows and columns scaled, and the steps on it."""

    def __init__(self, form: StandardForm) -> None:
        self.form, self.flow, self.linear = form, flow_matrix(form), len(form.limits.names)
        rows = [self.flow, np.ones((1, form.n_pairs))] + ([form.limits.rows] if self.linear else [])
        matrix = sparse.csr_array(sparse.vstack([sparse.csr_array(row) for row in rows]))
        self.matrix, self.of_rows, self.of_columns = _equilibrated(matrix)
        self.transposed = sparse.csr_array(self.matrix.T)
        target = np.concatenate([form.rest * form.initial, [1.0], np.zeros(self.linear)])
        self.target, self.cost = self.of_rows * target, -self.of_columns * form.rewards
        free = np.ones(form.n_states + 1, dtype=np.bool_)
        self.equal: BoolArray = np.append(free, form.limits.equal)

    def point(self, x: FloatArray, y: FloatArray) -> Point:
        """A point with its products."""
        count_transitions(2 * self.matrix.nnz)
        return Point(x, y, self.matrix @ x, self.transposed @ y)

    def begin(self, occupancy: FloatArray, values: FloatArray, prices: FloatArray, ratio: float) -> Stretch:
        """The first stretch, from a point of the program as it was; values or prices of zero are a start as well."""
        form = self.form
        top = 0.0
        if values.any() or prices.any():
            top = float((form.rewards - prices @ form.limits.rows - values @ self.flow).max())
        point = self.point(occupancy / self.of_columns, -np.concatenate([values, [top], prices]) / self.of_rows)
        sizes = _length(self.cost), _length(self.target)
        balance = ratio * (sizes[0] / sizes[1] if min(sizes) > 0 else 1.0)
        step = 1.0 / float(np.abs(self.matrix.data).max())
        error = self.error(point, balance)
        return Stretch(point, point, _scaled(point, 0.0), step, balance, error, error)

    def advance(self, now: Stretch) -> Stretch:
        """One step, as long as the last move allows (PDLP, algorithm 3); shorter ones are tried until it is."""
        point, step, count = now.point, now.step, now.total
        while True:
            count += 1
            x = np.maximum(point.x - step / now.balance * (self.cost - point.backward), 0.0)
            count_transitions(self.matrix.nnz)
            forward = self.matrix @ x
            y = point.y + step * now.balance * (self.target - 2.0 * forward + point.forward)
            y = np.where(self.equal, y, np.minimum(y, 0.0))
            moved, priced = x - point.x, y - point.y
            size = now.balance * inner_product(moved, moved) + inner_product(priced, priced) / now.balance
            across = 2.0 * abs(inner_product(priced, forward - point.forward))
            allowed = float(size / across) if across > 0 else np.inf
            used, step = step, float(min((1.0 - (count + 1.0) ** -0.3) * allowed, (1.0 + (count + 1.0) ** -0.6) * step))
            if used <= allowed:
                break
        count_transitions(self.matrix.nnz)
        found = Point(x, y, forward, self.transposed @ y)
        sums = _sum(now.sums, _scaled(found, used))
        return replace(
            now, point=found, sums=sums, weight=now.weight + used, step=step, taken=now.taken + 1, total=count
        )

    def restarted(self, now: Stretch) -> Stretch:
        """The same, or a stretch anew from the better of average and last point, once that has come far enough."""
        if now.taken % LOOK:
            return now
        best, error = now.point, self.error(now.point, now.balance)
        average = now.average
        of_average = self.error(average, now.balance)
        if of_average < error:
            best, error = average, of_average
        enough = error <= SUFFICIENT * now.error or (error <= NECESSARY * now.error and error > now.before)
        if not enough and now.taken < ARTIFICIAL * now.total:
            return replace(now, before=error)
        shifts = _length(best.x - now.origin.x), _length(best.y - now.origin.y)
        balance = now.balance
        if min(shifts) > 1e-10:  # the geometric mean of the last one and of the one for which both moved equally far
            balance = float(np.sqrt(balance * shifts[1] / shifts[0]))
        best = self.point(best.x, best.y)
        error = self.error(best, balance)
        return Stretch(best, best, _scaled(best, 0.0), now.step, balance, error, error, total=now.total)

    def error(self, point: Point, balance: float) -> float:
        """How far a point is from optimal: residuals of both programs and the difference of their objectives."""
        missed = point.forward - self.target
        missed = np.where(self.equal, missed, np.maximum(missed, 0.0))
        reduced = np.minimum(self.cost - point.backward, 0.0)
        gap = inner_product(self.cost, point.x) - inner_product(self.target, point.y)
        return float(np.sqrt((balance * _length(missed)) ** 2 + (_length(reduced) / balance) ** 2 + gap**2))

    def unscaled(self, point: Point) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Occupancy [pairs], values [S] and prices [k] of a point."""
        prices = -point.y * self.of_rows
        states = self.form.n_states
        return point.x * self.of_columns, prices[:states], prices[states + 1 :]


def _equilibrated(matrix: Any) -> tuple[Any, FloatArray, FloatArray]:
    """The matrix with factors taken off its rows and columns, and the factors that scale it."""
    of_rows, of_columns = np.ones(matrix.shape[0]), np.ones(matrix.shape[1])
    for turn in range(RUIZ_ROUNDS + 1):
        sizes = abs(matrix)
        if turn < RUIZ_ROUNDS:
            parts = [np.asarray(sizes.max(axis=axis).toarray()).ravel() for axis in (1, 0)]
        else:
            parts = [np.asarray(sizes.sum(axis=axis)).ravel() for axis in (1, 0)]
        rows, columns = (np.where(part > 0, 1.0 / np.sqrt(np.where(part > 0, part, 1.0)), 1.0) for part in parts)
        of_rows, of_columns = of_rows * rows, of_columns * columns
        matrix = sparse.csr_array(sparse.diags_array(rows) @ matrix @ sparse.diags_array(columns))
    return matrix, of_rows, of_columns


def _scaled(point: Point, factor: float) -> Point:
    return Point(factor * point.x, factor * point.y, factor * point.forward, factor * point.backward)


def _sum(one: Point, two: Point) -> Point:
    return Point(one.x + two.x, one.y + two.y, one.forward + two.forward, one.backward + two.backward)


def _length(vector: FloatArray) -> float:
    return float(np.sqrt(inner_product(vector, vector)))

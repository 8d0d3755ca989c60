"""The small concave program of a decomposition: the best mixture of columns where logarithms count.

Maximise Σ w·objective + φ(x) over weights w ≥ 0 with Σ w = 1, where x = Σ w·expectations and the rows of the limits
are kept; φ is a sum of logarithms, and sums of logarithms may be limits. Broken constraints cost a penalty instead
of being forbidden. A primal-dual interior-point method (Mehrotra 1992) on as many dense equations as there are rows
ends near the rounding of the arithmetic in some twenty steps, however many columns there are.
"""

from __future__ import annotations

from copy import copy

import numpy as np
from scipy.linalg.lapack import dgetrf, dgetrs

from occlp._typing import AnyArray, BoolArray, FloatArray
from occlp.solvers.expansion import Expansion, Logarithms
from occlp.solvers.mixture_program import DUST, NOTHING, Mixture, MixtureProgram

#: Steps before the method ends where it is.
MOST_STEPS = 60
#: What may be missing from optimality, objectives having size one.
ENOUGH = 1e-15
#: Steps in which what is missing does not become less, after which it will not.
PATIENCE = 4
#: What keeps scaled matrices regular.
REGULAR = 1e-15
#: Share of the way to the boundary that a step may go.
SHORT_OF_BOUNDARY = 0.995
#: What raised rows are lowered by, so that u is positive.
FLOOR = 10.0
#: By how much an expectation that is missing in a logarithm costs more than a broken limit.
DEARER = 1e3


def program_for(expansion: Expansion, penalty: float) -> MixtureProgram | ConcaveProgram:
    """The program over columns for an expansion: linear where no logarithm counts."""
    if expansion.logarithms:
        return ConcaveProgram(expansion, penalty)
    return MixtureProgram(expansion.form.limits.equal, penalty, expansion.raised)


class ConcaveProgram:
    """A program over columns with logarithms of some of the rows; the interface is that of `MixtureProgram`.

    Parameters
    ----------
    expansion : Expansion
    penalty : float
        Bound on the price of each limit.
    """

    #: As those of `MixtureProgram`.
    rounding, kept = 1e-13, 1e-11

    def __init__(self, expansion: Expansion, penalty: float) -> None:
        self.expansion, self.penalty, self.weight = expansion, penalty, 1.0
        self._rows = _Rows(expansion)
        self._columns = np.zeros((len(self._rows.kinds), 0))
        self._objectives = np.zeros(0)

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self._objectives)

    def alone(self, weight: float, penalty: float) -> ConcaveProgram:
        """A program of the same kind without columns."""
        program = ConcaveProgram(self.expansion, penalty)
        program.reprice(weight, penalty, NOTHING)
        return program

    def copy(self) -> ConcaveProgram:
        """An independent copy; columns added to it leave this one alone."""
        return copy(self)

    def reprice(self, weight: float, penalty: float, objectives: FloatArray) -> None:
        """Set the penalty, the weight of the concave objective, and that of each column to weight · objective."""
        self.weight, self.penalty, self._objectives = weight, penalty, weight * objectives

    def add(self, objective: float, excess: FloatArray) -> None:
        """Add a column with these measures, the second [rows]."""
        self._columns = np.column_stack([self._columns, excess])
        self._objectives = np.append(self._objectives, objective)

    def solve(self) -> Mixture:
        """Follow the central path to its end."""
        run = _Run(self._rows, self._columns, self._objectives, self.weight, self.penalty)
        run.approach()
        return run.mixture()


class _Rows:
    """What every row is, and the places of the variables beside the weights of the columns.

    For a row g: g·w + x = e where a logarithm of x is taken, g·w − p + q = 0 elsewhere; with e, p, q ≥ 0. Raised rows
    have a common u ≥ 0 and a floor beside that. A limit on logarithms is least − Σ weights·log x − p + q = 0.
    """

    def __init__(self, expansion: Expansion) -> None:
        form = expansion.form
        self.parts: list[Logarithms] = list(expansion.logarithms)
        self.limited = expansion.limited
        self.kinds = np.zeros(len(form.limits.names), dtype=np.int8)  # 0 limit, 1 logarithm, 2 raised
        for part in self.parts:
            self.kinds[part.rows] = 1
        self.kinds[expansion.raised] = 2
        self.equal: BoolArray = form.limits.equal
        self.logs: AnyArray = np.flatnonzero(self.kinds == 1)
        self.plain: AnyArray = np.flatnonzero(self.kinds != 1)
        self.raises = bool((self.kinds == 2).any())
        ends = np.cumsum([0, len(self.logs), len(self.logs), *2 * [len(self.plain)], *2 * [len(self.limited)], 1])
        names = ("x", "missing", "over", "under", "short", "spare", "raise")
        self.place = {name: slice(int(a), int(b)) for name, a, b in zip(names, ends[:-1], ends[1:], strict=True)}
        self.n_own = int(ends[-1])
        self.matrix = self._matrix()

    def among_logs(self, part: Logarithms) -> slice:
        """The places of a part among the logarithms."""
        first = int(np.searchsorted(self.logs, part.rows.start))
        return slice(first, first + part.rows.stop - part.rows.start)

    def _matrix(self) -> FloatArray:
        """Coefficients of the variables that are not columns; rows: the mass, all rows, limited logarithms."""
        matrix = np.zeros((1 + len(self.kinds) + len(self.limited), self.n_own))
        last = len(self.kinds) + np.arange(len(self.limited))
        entries = (("x", self.logs, 1), ("missing", self.logs, -1), ("over", self.plain, -1), ("under", self.plain, 1),
                   ("short", last, -1), ("spare", last, 1))  # fmt: skip
        for name, rows, sign in entries:
            matrix[1 + rows, self.place[name].start + np.arange(len(rows))] = sign
        matrix[1 + np.flatnonzero(self.kinds == 2), self.place["raise"].start] = 1.0
        return matrix


class _Run:
    """Primal variables v = (own, weights) and dual ones y and z ≥ 0 on their way to the optimum."""

    def __init__(self, rows: _Rows, columns: FloatArray, objectives: FloatArray, weight: float, penalty: float) -> None:
        self.rows, self.columns, self.objectives, self.weight, self.penalty = rows, columns, objectives, weight, penalty
        count = columns.shape[1]
        lowered = columns - FLOOR * (rows.kinds == 2)[:, None]
        mixed = np.vstack([np.ones(count), lowered, np.zeros((len(rows.limited), count))])
        self.matrix = np.hstack([rows.matrix, mixed])
        self.costs = self._costs()
        #: Weights of the logarithms: of the objective, and of each limit.
        self.logs = np.zeros(len(rows.logs))
        self.limits = np.zeros((len(rows.limited), len(rows.logs)))
        for part in rows.parts:
            if part.least is None:
                self.logs[rows.among_logs(part)] += weight * part.weights
        for k, part in enumerate(rows.limited):
            self.limits[k, rows.among_logs(part)] = part.weights
        self.least = np.array([part.least for part in rows.limited])
        self._start()

    def _costs(self) -> FloatArray:
        rows, at = self.rows, self.rows.place
        costs = np.zeros(rows.n_own)
        costs[at["missing"]] = DEARER * self.penalty
        costs[at["over"]] = self.penalty + 2.0 * (rows.kinds[rows.plain] == 2)
        costs[at["under"]] = self.penalty * rows.equal[rows.plain]
        costs[at["short"]] = self.penalty
        costs[at["raise"]] = -self.weight if rows.raises else 1.0
        return np.append(costs, -self.objectives)

    def _start(self) -> None:
        rows, count = self.rows, len(self.objectives)
        self.v = np.full(rows.n_own + count, 0.1)
        self.v[rows.n_own :] = 1.0 / count
        self.v[rows.place["x"]] = np.maximum(-self.columns[rows.logs].mean(axis=1), 1e-2)
        self.y = np.zeros(len(self.matrix))
        self.z = np.maximum(self._gradient(), 1.0)

    def _gradient(self) -> FloatArray:
        slope, x = self.costs.copy(), self.rows.place["x"]
        slope[x] -= self.logs / self.v[x]
        return slope

    def _jacobian(self) -> FloatArray:
        if not len(self.limits):
            return self.matrix
        x, found = self.rows.place["x"], self.matrix.copy()
        found[-len(self.limits) :, x] = -self.limits / self.v[x]
        return found

    def _missing(self) -> FloatArray:
        found: FloatArray = self.matrix @ self.v
        found[0] -= 1.0
        if len(self.limits):
            found[-len(self.limits) :] += self.least - self.limits @ np.log(self.v[self.rows.place["x"]])
        return found

    def approach(self) -> None:
        """Step until nothing is missing, or it does not become less; the best point is kept."""
        with np.errstate(all="ignore"):  # steps that are no numbers are not taken
            self._approach()

    def _approach(self) -> None:
        best, kept, idle = np.inf, (self.v, self.y, self.z), 0
        for _ in range(MOST_STEPS):
            jacobian, missing = self._jacobian(), self._missing()
            residual = self._gradient() + self.y @ jacobian - self.z
            size = 1.0 + float(np.abs(self.y).max())
            lacking = float(self.v @ (self.z + np.abs(residual))) / size + float(np.abs(missing).max())
            idle = 0 if lacking < 0.9 * best else idle + 1
            if lacking < best:
                best, kept = lacking, (self.v, self.y, self.z)
            if best <= ENOUGH or idle > PATIENCE or not self._step(jacobian, residual, missing):
                break
        self.v, self.y, self.z = kept

    def _step(self, jacobian: FloatArray, residual: FloatArray, missing: FloatArray) -> bool:
        """Mehrotra's predictor and corrector; False where they are no numbers."""
        v, z, x = self.v, self.z, self.rows.place["x"]
        curvature = z / v
        curved = self.logs
        if len(self.limits):
            curved = curved + np.maximum(self.y[-len(self.limits) :], 0.0) @ self.limits
        curvature[x] += curved / v[x] ** 2
        normal = (jacobian / curvature) @ jacobian.T
        units = 1.0 / np.sqrt(np.maximum(normal.diagonal(), 1e-300))
        normal = units[:, None] * normal * units
        gap = v * z

        def direction(target: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
            dual = np.zeros(len(missing))
            primal = (target / v - residual) / curvature
            for _ in range(3):  # again for the digits of the constraints, and of what makes the matrix regular
                change = units * dgetrs(*factors, units * (jacobian @ primal + missing))[0]
                dual = dual + change
                primal = primal - (change @ jacobian) / curvature
            return primal, dual, (target - z * primal) / v

        *factors, singular = dgetrf(normal + REGULAR * np.eye(len(normal)))
        first, _, second = direction(-gap)
        length = self._longest(first, second)
        ahead = float((v + length * first) @ (z + length * second)) / float(gap.sum())
        primal, dual, slack = direction(ahead**3 * float(gap.mean()) - gap - first * second)
        if singular or not all(np.isfinite(part).all() for part in (primal, dual, slack)):
            return False
        length = min(1.0, SHORT_OF_BOUNDARY * self._longest(primal, slack))
        self.v, self.y, self.z = v + length * primal, self.y + length * dual, z + length * slack
        return True

    def _longest(self, primal: FloatArray, slack: FloatArray) -> float:
        falling = max(float((-primal / self.v).max()), float((-slack / self.z).max()))
        return 1.0 if falling <= 1.0 else 1.0 / falling

    def mixture(self) -> Mixture:
        """The point as a mixture, judged by its weights alone."""
        rows, count = self.rows, len(self.rows.kinds)
        weights = self.v[rows.n_own :] / self.v[rows.n_own :].sum()
        weights = np.where(weights < DUST, 0.0, weights)
        means = self.columns @ weights
        prices, concave = self.y[1 : 1 + count], np.maximum(self.y[1 + count :], 0.0)
        prices = np.where(rows.equal, prices, np.maximum(prices, 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(np.maximum(-means[rows.logs], 0.0))
            objective = float(self.objectives @ weights)
            if self.logs.any():
                objective += float(self.logs @ logs)
            if rows.raises:
                objective += self.weight * float(-means[rows.kinds == 2].max())
        paid = [rows.place[name] for name in ("missing", "over", "under", "short")]
        broken = [self.v[part] * (self.costs[part] > 0) for part in paid]
        excess = float(np.max(np.concatenate(broken)))
        offset = self._offset(prices, concave)
        level = float(self.y[0]) - FLOOR * float(prices[rows.kinds == 2].sum()) + offset
        return Mixture(weights, prices, objective, excess, level, offset, concave)

    def _offset(self, prices: FloatArray, concave: FloatArray) -> float:
        """What the concave parts are at most beyond their slopes: sup a·log x − z·x for each logarithm."""
        rows = self.rows
        shares, slopes = self.logs + concave @ self.limits, prices[rows.logs]
        used = shares > 0
        with np.errstate(divide="ignore"):
            found = float((shares[used] * (np.log(shares[used] / slopes[used]) - 1.0)).sum())
        if rows.raises:
            found += FLOOR * max(self.weight - float(prices[rows.kinds == 2].sum()), 0.0)
        return found - float(concave @ self.least)

"""The small linear program of a decomposition: the best mixture of columns that keeps the constraints.

A primal simplex method on few rows, to rounding: columns are added one at a time, and the last basis stays
feasible, so that a few pivots answer each program. Broken constraints cost a penalty instead of being
forbidden; so any first column will do, and the prices stay bounded until more is known.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field

import numpy as np

from occlp._typing import BoolArray, FloatArray

#: Reduced costs below this share of the terms that they are the difference of are rounding.
ROUNDING = 1e-14
#: By how much a variable may become negative for the sake of a larger pivot (Harris 1973); it is then zero.
SLACK = 1e-15
#: Weights below this do not change the sum of all, which is one.
DUST = 2.0**-53
#: Pivots between two inversions of the basis.
FRESH = 30
#: Pivots without progress after which the first candidate is taken instead of the best (Bland 1977).
STALLED = 20


NOTHING = np.zeros(0)


@dataclass(frozen=True, eq=False)
class Mixture:
    """An optimal mixture: weights of the columns, prices of the constraints and the penalised objective."""

    weights: FloatArray  # [columns], summing to one
    prices: FloatArray  # [k]
    objective: float  # of the mixture, without the penalty
    excess: float  # by how much it breaks a constraint at most
    level: float  # objective less penalty: what no column may exceed at the prices, `offset` added
    offset: float = 0.0  # of a concave objective: what it is at most beyond its slope
    concave: FloatArray = field(default_factory=lambda: NOTHING)  # prices of further limits that are not linear


class MixtureProgram:
    """Maximise Σ w·objective − penalty·t with Σ w = 1 and Σ w·excess ≤ t (both signs where equal), w and t ≥ 0.

    Parameters
    ----------
    equal : BoolArray [k]
    penalty : float
        Bound on the sum of the prices of the rows that are not raised.
    raised : BoolArray [k], optional
        Rows of which the largest counts instead: u of any sign is added to the objective, with Σ w·excess + u ≤ 0.
    """

    #: What columns may exceed the level by without any gain, and violations that are nothing but rounding.
    rounding, kept = 1e-15, 1e-13

    def __init__(self, equal: BoolArray, penalty: float, raised: BoolArray | None = None) -> None:
        self.equal, self.raised, self._k = equal, raised, len(equal)
        rows = 1 + self._k + int(equal.sum())
        lifted = np.zeros(rows)
        if raised is not None:
            lifted[1 : 1 + self._k] = raised
        excess = np.append(0.0, lifted[1:] - 1.0)
        extra = [lifted, -lifted] if lifted.any() else []
        self._matrix = np.column_stack([excess, np.eye(rows)[:, 1:], *extra])  # t, slacks, both parts of u, columns
        self._first, self._lifted = rows + len(extra), lifted > 0
        self._costs = np.concatenate([[-penalty], np.zeros(rows - 1), [1.0, -1.0][: len(extra)]])
        self._basis = np.zeros(0, dtype=np.intp)
        self._inverse = np.zeros((rows, rows))

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self._costs) - self._first

    def alone(self, weight: float, penalty: float) -> MixtureProgram:
        """A program of the same kind without columns."""
        program = MixtureProgram(self.equal, penalty, self.raised)
        program.reprice(weight, penalty, NOTHING)
        return program

    def copy(self) -> MixtureProgram:
        """An independent copy; columns added to it leave this one alone."""
        other = copy(self)
        other._costs, other._basis, other._inverse = self._costs.copy(), self._basis.copy(), self._inverse.copy()
        return other

    def reprice(self, weight: float, penalty: float, objectives: FloatArray) -> None:
        """Set the penalty, and the objective of each column to weight · objective."""
        self._costs[0] = -penalty
        self._costs[len(self._matrix) : self._first] = weight * np.array([1.0, -1.0])[: self._first - len(self._matrix)]
        self._costs[self._first :] = weight * objectives

    def add(self, objective: float, excess: FloatArray) -> None:
        """Add a column with these measures, the second [k]."""
        column = np.concatenate([[1.0], excess, -excess[self.equal]])
        self._matrix = np.column_stack([self._matrix, column])
        self._costs = np.append(self._costs, objective)
        if not len(self._basis):
            self._begin(column)

    def solve(self) -> Mixture:
        """Pivot to an optimal vertex."""
        rows, best, idle = len(self._matrix), -np.inf, 0
        size = np.abs(self._matrix)
        for pivot in range(most := 200 + 10 * (rows + self.n_columns)):
            if pivot % FRESH == 0:
                self._invert()
            duals = self._costs[self._basis] @ self._inverse
            reduced = self._costs - duals @ self._matrix
            reduced[self._basis] = 0.0
            gaining = reduced > ROUNDING * (np.abs(self._costs) + np.abs(duals) @ size)
            if not gaining.any() or pivot == most - 1:  # columns that differ by rounding only may go round
                break
            idle = idle + 1 if duals[0] <= best else 0
            best = max(best, float(duals[0]))
            entering = int(np.argmax(gaining) if idle > STALLED else np.argmax(np.where(gaining, reduced, -np.inf)))
            self._pivot(entering, first=idle > STALLED)
        return self._mixture(duals)

    def _invert(self) -> None:
        """Compute the inverse of the basis afresh; start over where rounding has made it singular."""
        try:
            self._inverse = np.linalg.inv(self._matrix[:, self._basis])
        except np.linalg.LinAlgError:
            self._begin(self._matrix[:, self._first])
            self._inverse = np.linalg.inv(self._matrix[:, self._basis])

    def _begin(self, column: FloatArray) -> None:
        """The basis of the first column alone: with t, and u < 0, for the worst rows, and slacks elsewhere."""
        rows = len(column)
        self._basis = np.append(np.arange(1, rows), self._first)
        for own, kind in ((0, ~self._lifted), (rows + 1, self._lifted)):
            worst = int(np.argmax(np.where(kind, column, -np.inf)[1:])) if kind[1:].any() else 0
            if kind[1:].any() and column[1 + worst] > 0:
                self._basis[worst] = own

    def _pivot(self, entering: int, *, first: bool) -> None:
        """Exchange a variable of the basis for the entering one, so that all stay ≥ 0."""
        levels = np.maximum(self._inverse[:, 0], 0.0)
        direction = self._inverse @ self._matrix[:, entering]
        falling = direction > 1e-13 * np.abs(direction).max()
        slope = np.where(falling, direction, 1.0)
        longest = np.where(falling, (levels + SLACK) / slope, np.inf).min()  # two passes, the second for stability
        ties = np.flatnonzero(falling & (levels / slope <= longest))
        leaving = ties[np.argmin(self._basis[ties]) if first else np.argmax(direction[ties])]
        self._basis[leaving] = entering
        row = self._inverse[leaving] / direction[leaving]
        self._inverse -= np.outer(direction, row)
        self._inverse[leaving] = row

    def _mixture(self, duals: FloatArray) -> Mixture:
        rows = len(self._matrix)
        levels = np.zeros(len(self._costs))
        basis, target = self._matrix[:, self._basis], np.eye(rows)[0]
        solution = self._inverse @ target
        for _ in range(2):  # digits of small weights, too
            solution += self._inverse @ (target - basis @ solution)
        levels[self._basis] = np.maximum(solution, 0.0)
        weights = levels[self._first :] / levels[self._first :].sum()
        weights[weights < DUST] = 0.0
        prices = np.maximum(duals[1 : 1 + self._k], 0.0)
        prices[self.equal] -= np.maximum(duals[1 + self._k :], 0.0)
        held = ~self._lifted[1:]
        excess = float((self._matrix[1:, self._first :] @ weights)[held].max(initial=0.0))
        objective = float(
            self._costs[self._first :] @ weights + self._costs[rows : self._first] @ levels[rows : self._first]
        )
        return Mixture(weights, prices, objective, excess, float(duals[0]))

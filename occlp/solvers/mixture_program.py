"""The small linear program of a decomposition: the best mixture of columns that keeps the constraints.

A primal simplex method on few rows, to rounding: columns are added one at a time, and the last basis stays
feasible, so that a few pivots answer each program. Broken constraints cost a penalty instead of being
forbidden; so any first column will do, and the prices stay bounded until more is known.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class Mixture:
    """An optimal mixture: weights of the columns, prices of the constraints and the penalised objective."""

    weights: FloatArray  # [columns], summing to one
    prices: FloatArray  # [k]
    objective: float  # of the mixture, without the penalty
    excess: float  # by how much it breaks a constraint at most
    level: float  # objective less penalty: what no column may exceed at the prices


class MixtureProgram:
    """Maximise Σ w·objective − penalty·t with Σ w = 1 and Σ w·excess ≤ t (both signs where equal), w and t ≥ 0.

    Parameters
    ----------
    equal : BoolArray [k]
    penalty : float
        Bound on the sum of the prices.
    """

    def __init__(self, equal: BoolArray, penalty: float) -> None:
        self.equal, self._k = equal, len(equal)
        rows = 1 + self._k + int(equal.sum())
        excess = np.zeros((rows, 1))
        excess[1:] = -1.0
        self._matrix = np.hstack([excess, np.eye(rows)[:, 1:]])  # t, slacks, columns
        self._costs = np.zeros(rows)
        self._costs[0] = -penalty
        self._basis = np.zeros(0, dtype=np.intp)
        self._inverse = np.zeros((rows, rows))

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self._costs) - len(self._matrix)

    def copy(self) -> MixtureProgram:
        """An independent copy; columns added to it leave this one alone."""
        other = copy(self)
        other._costs, other._basis, other._inverse = self._costs.copy(), self._basis.copy(), self._inverse.copy()
        return other

    def reprice(self, weight: float, penalty: float, objectives: FloatArray) -> None:
        """Set the penalty, and the objective of each column to weight · objective."""
        self._costs[0] = -penalty
        self._costs[len(self._matrix) :] = weight * objectives

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
            self._begin(self._matrix[:, len(self._matrix)])
            self._inverse = np.linalg.inv(self._matrix[:, self._basis])

    def _begin(self, column: FloatArray) -> None:
        """The basis of the first column alone: with t if it breaks a constraint, else with slacks only."""
        rows = len(column)
        self._basis = np.append(np.arange(1, rows), rows)
        worst = int(np.argmax(column[1:])) if rows > 1 else 0
        if rows > 1 and column[1 + worst] > 0:
            self._basis[worst] = 0

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
        weights = levels[rows:] / levels[rows:].sum()
        weights[weights < DUST] = 0.0
        prices = np.maximum(duals[1 : 1 + self._k], 0.0)
        prices[self.equal] -= np.maximum(duals[1 + self._k :], 0.0)
        excess = float((self._matrix[1:, rows:] @ weights).max(initial=0.0))
        return Mixture(weights, prices, float(self._costs[rows:] @ weights), excess, float(duals[0]))

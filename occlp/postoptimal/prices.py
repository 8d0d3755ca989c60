"""One-sided derivatives of the optimum in the bounds of the constraints.

The optimum is concave in the bounds (of a maximisation), with the set of optimal prices as its
superdifferential; at a degenerate vertex that set is more than a point. Its extremes in one price are
linear programs over the dual optimal face,

    minimise or maximise y(i)  subject to  y·G d ≥ r·d − J*  for every occupancy d,

solved by cutting planes: each cut is the occupancy of an ordinary MDP at the prices tried. Sources:
Dantzig and Wolfe (1960); Rockafellar (1970), theorem 29.1 and corollary 29.1.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from occlp._typing import FloatArray
from occlp.errors import OccupancyError
from occlp.postoptimal.face import OptimalFace, best_occupancy

#: Feasibility tolerance of the programs, and what rounding adds to it per unit of the prices.
FEASIBLE, ROUNDING = 1e-10, 1e-12
#: Prices are first looked for below this; rows and rewards have size one.
BOX = 1e9
#: Cutting planes before the method gives up.
MOST_CUTS = 2000


@dataclass(frozen=True)
class OneSided:
    """Derivatives of an optimum from both sides, in the user's units and sense.

    Attributes
    ----------
    left, right : float
        d(objective) / d(bound) as the bound decreases and as it increases. Infinite where moving the
        bound makes the constraints impossible to keep.
    """

    left: float
    right: float


def bound_derivatives(face: OptimalFace) -> dict[str, OneSided]:
    """One-sided derivatives of the optimum in each constraint's bound, by name."""
    form = face.form
    search = _PriceSearch(face)
    found = {}
    for k, name in enumerate(form.limits.names):
        low, high = search.extreme(k, 1.0), search.extreme(k, -1.0)
        unit = form.scale / form.limits.units[k]
        # Raising the bound of ≤ relaxes it, and of a concave optimum the right derivative is the smaller one.
        ends = [float(form.sign * form.limits.signs[k] * unit * price) + 0.0 for price in (high, low)]
        found[name] = OneSided(*(ends if form.limits.signs[k] > 0 else reversed(ends)))
    return found


class _PriceSearch:
    """The linear programs over optimal prices, with the cuts found so far."""

    def __init__(self, face: OptimalFace) -> None:
        self.face, self.form, self.pairs = face, face.form, face.problem.mdp.pairs
        self.best = float(face.pair_occupancy @ face.form.rewards)
        self._columns: list[FloatArray] = [face.pair_occupancy]

    def extreme(self, k: int, sense: float) -> float:
        """The least (sense 1) or greatest (sense −1) optimal price of a constraint, standard form."""
        goal = np.zeros(len(self.form.limits.names))
        goal[k] = sense
        if self._minimum(goal, recession=True) < -1e-6:
            return -sense * float(np.inf)
        return sense * self._minimum(goal, recession=False) + 0.0

    def _minimum(self, goal: FloatArray, *, recession: bool) -> float:
        """Minimise goal·y over the optimal prices, or over their directions of recession (of size one)."""
        limits, weight = self.form.limits, 0.0 if recession else 1.0
        size = 1.0 if recession else BOX
        bounds = [(-size if equal else 0.0, size) for equal in limits.equal]
        for _ in range(MOST_CUTS):
            left, right = self._cuts(weight)
            answer = linprog(
                goal, A_ub=-left, b_ub=-right, bounds=bounds, method="highs-ds",
                options={"primal_feasibility_tolerance": FEASIBLE, "dual_feasibility_tolerance": FEASIBLE},
            )  # fmt: skip
            if answer.x is None:
                raise OccupancyError(f"the program over optimal prices failed: {answer.message}")
            prices = answer.x
            rewards = weight * self.form.rewards - prices @ limits.rows
            occupancy = best_occupancy(self.form, self.pairs, rewards)
            broken = float(rewards @ occupancy) - weight * self.best
            known = any(np.abs(occupancy - column).max() <= ROUNDING for column in self._columns)
            if known or broken <= FEASIBLE + ROUNDING * float(np.abs(prices).sum()):
                return float(goal @ prices)
            self._columns.append(occupancy)
        raise OccupancyError(f"the program over optimal prices was not solved with {MOST_CUTS} cuts.")

    def _cuts(self, weight: float) -> tuple[FloatArray, FloatArray]:
        columns = np.array(self._columns)
        return columns @ self.form.limits.rows.T, weight * (columns @ self.form.rewards - self.best)

"""Averages of occupancies that break limits a little, mixed with iterates that keep them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from occlp._typing import BoolArray, FloatArray

#: Of the small program that mixes; the tolerance of limits is coarser.
FEASIBILITY = 1e-10


@dataclass(frozen=True, eq=False)
class Anchors:
    """Iterates to mix with: the one that keeps all limits best, and for each limit those that are farthest inside.

    Of an equality there is one on either side.

    Attributes
    ----------
    occupancies : FloatArray [m, pairs]
    excesses : FloatArray [m, k]
        g(d) of each, for limits g(d) ≤ 0, or = 0 where `equal`.
    """

    occupancies: FloatArray  # [m, pairs]
    excesses: FloatArray  # [m, k]

    def join(self, occupancy: FloatArray, excess: FloatArray, equal: BoolArray) -> Anchors:
        """Take one more iterate in, in the place of those that it outdoes."""
        if not len(excess) or not np.isfinite(excess).all():
            return self
        if not len(self.excesses):
            count = 1 + len(excess) + int(equal.sum())
            return Anchors(np.tile(occupancy, (count, 1)), np.tile(excess, (count, 1)))
        better = _marks(excess, equal) < np.diagonal([_marks(known, equal) for known in self.excesses])
        if not better.any():
            return self
        return Anchors(
            np.where(better[:, None], occupancy, self.occupancies), np.where(better[:, None], excess, self.excesses)
        )

    def mend(self, occupancy: FloatArray, excess: FloatArray, equal: BoolArray) -> FloatArray:
        """The occupancy, moved towards the anchors as little as the limits ask for; itself, if they cannot help.

        Limits are convex: a mixture keeps them where the mixture of the excesses does.
        """
        if not len(excess) or not len(self.excesses) or (~equal & (excess <= 0)).all():
            return occupancy
        safest = self.excesses[0]
        if not equal.any() and (safest < 0).all():
            broken = excess > 0
            share = float((1.0 / (1.0 - safest[broken] / excess[broken])).max())
            return np.asarray((1.0 - share) * occupancy + share * self.occupancies[0])
        weights = _fewest(excess, self.excesses, equal)
        if weights is None:
            return occupancy
        return np.asarray(weights[0] * occupancy + weights[1:] @ self.occupancies)


NO_ANCHORS = Anchors(np.zeros((0, 0)), np.zeros((0, 0)))


def _marks(excess: FloatArray, equal: BoolArray) -> FloatArray:
    """What each anchor is chosen for, the smaller the better."""
    largest = np.where(equal, np.abs(excess), excess).max()
    return np.concatenate([[largest], excess, -excess[equal]])


def _fewest(excess: FloatArray, others: FloatArray, equal: BoolArray) -> FloatArray | None:
    """Weights [1 + m] of a mixture that keeps the limits, with as much of the first as possible, or None."""
    if not np.isfinite(excess).all():
        return None
    rows = np.column_stack([excess, others.T])  # [k, 1 + m]
    size = np.abs(rows).max(axis=1, keepdims=True)
    rows = rows / np.where(size > 0, size, 1.0)
    sums = np.ones((1, rows.shape[1]))
    found = linprog(
        np.append(0.0, np.ones(len(others))),
        A_ub=rows[~equal], b_ub=np.zeros(int((~equal).sum())),
        A_eq=np.vstack([sums, rows[equal]]), b_eq=np.append(1.0, np.zeros(int(equal.sum()))),
        method="highs-ds", options={"primal_feasibility_tolerance": FEASIBILITY},
    )  # fmt: skip
    if found.x is None:
        return None
    weights = np.maximum(found.x, 0.0)
    return np.asarray(weights / weights.sum())

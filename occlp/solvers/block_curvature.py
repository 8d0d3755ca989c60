"""Inverses of second derivatives in two levels of blocks: columns of a pair, and pairs of a state.

H = diag(1 / D) + Σ_p h_p 1_p 1_pᵀ + Σ_s w_s 1_s 1_sᵀ, where 1_p marks the columns of a pair and 1_s those of a state.
Each level is a change of rank one in each block (Sherman and Morrison 1950). Deviations from the means of the blocks
are kept apart from the means, since near a vertex the curvatures of the two differ by many powers of ten.
"""

from __future__ import annotations

import numpy as np

from occlp._typing import AnyArray, FloatArray

#: What 1 + w ΣD is at least; it is positive but for rounding.
LEAST = 1e-16


class BlockCurvature:
    """H⁻¹ and the parts of it that normal equations need.

    Parameters
    ----------
    spread : FloatArray [columns]
        D.
    pair_of : AnyArray [columns]
        The pair of each column; the first columns are those of all pairs in their order.
    bend : FloatArray [pairs]
        h.
    firsts : AnyArray [states]
        The first pair of each state.
    within : FloatArray [states]
        w.

    Attributes
    ----------
    weights : FloatArray [pairs]
        How far the mass of a pair gives way to a force on all its columns.
    means : FloatArray [states]
        How far the mass of a state gives way to a force on all its pairs.
    """

    def __init__(
        self, spread: FloatArray, pair_of: AnyArray, bend: FloatArray, *, firsts: AnyArray, within: FloatArray
    ) -> None:
        self._spread, self._pair_of, self._firsts, self._bend = spread, pair_of, firsts, bend
        self._sums = self.by_pair(spread)
        self.weights = self._sums / (1.0 + bend * self._sums)
        self._state_of = np.repeat(np.arange(len(firsts)), np.diff(np.append(firsts, len(bend))))
        self._totals = np.add.reduceat(self.weights, firsts)
        self._shrink = 1.0 / np.maximum(1.0 + within * self._totals, LEAST)
        self.means = self._totals * self._shrink

    def by_pair(self, numbers: FloatArray) -> FloatArray:
        """Sums over the columns of each pair, [pairs]."""
        n = len(self._bend)
        found: FloatArray = numbers[:n].copy()
        found[self._pair_of[n:]] += numbers[n:]  # each pair once
        return found

    def solve(self, force: FloatArray) -> FloatArray:
        """H⁻¹ times a force, [columns]."""
        mean = self.by_pair(self._spread * force) / self._sums
        common = np.add.reduceat(self.weights * mean, self._firsts) / self._totals
        moved = self.weights * ((mean - common[self._state_of]) + (common * self._shrink)[self._state_of])
        share: FloatArray = (moved / self._sums)[self._pair_of]
        return self._spread * (force - mean[self._pair_of]) + self._spread * share

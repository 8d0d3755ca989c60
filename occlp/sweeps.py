"""Sweeps for the values and the occupancy of a chain that mixes fast, and the rule that gives them up for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from occlp._typing import FloatArray, IntArray
from occlp.kernels import relaxation

if TYPE_CHECKING:
    from occlp.chain import Chain

#: Sweeps that may be taken before other ways are.
SWEEP_BUDGET = 200
#: Sweeps between two looks at the residual.
SWEEPS = 4
#: Spread of the residual (rewards have size one) at which sweeps stop.
SWEEP_TARGET = 1e-14
#: Sweeps after which their pace is believed.
TRIED = 20


class Sweeps:
    """Sweeps with a policy fixed: plain ones, and Gauss–Seidel (`relaxing`) where those are too slow.

    Parameters
    ----------
    matrix : csr_array [rows, S]
    rewards : FloatArray [rows]
    discount, rest : float
        γ and 1 − γ.
    """

    def __init__(self, matrix: Any, rewards: FloatArray, discount: float, rest: float) -> None:
        self.relaxing = False
        self._rows = (matrix.indptr, matrix.indices, matrix.data, rewards, discount, rest)
        self._room = np.empty(matrix.shape[1])

    def run(self, chosen: IntArray, values: FloatArray) -> None:
        """A few sweeps with the chosen row of each state, [S]; values [S] change in place and stay centred."""
        if self.relaxing:
            relaxation.relax_values(SWEEPS, chosen, *self._rows, int(np.argmax(values)), values)
            values -= values.mean()  # so they keep their digits
        else:
            relaxation.sweep_values(SWEEPS, chosen, *self._rows, values, self._room)


def sweep_values(chain: Chain, values: FloatArray) -> tuple[FloatArray, bool]:
    """Sweeps for the values of one policy; gives up, with the best values met, when they contract too slowly."""
    sweeps = Sweeps(chain.matrix, chain.rewards, chain.discount, chain.rest)
    states = np.arange(chain.n_states, dtype=np.int32)
    best, least, values = values, np.inf, values.copy()
    last = spread = np.inf
    for done in range(0, SWEEP_BUDGET, SWEEPS):
        rho, error = chain.residuals(values)
        last, spread = spread, float(rho.max() - rho.min())
        grain = min(8 * float(np.spacing(np.abs(values).max())), 1e-13)  # what one double of this size can resolve
        if spread <= max(SWEEP_TARGET, grain, 2 * float(error.max())):
            return values, True
        if spread < least:
            best, least = values.copy(), spread
        if done >= TRIED and not _on_track(spread, last, SWEEP_BUDGET - done):
            break
        sweeps.run(states, values)
    return best, False


def sweep_occupancy(chain: Chain) -> tuple[FloatArray, bool]:
    """Sweeps for d = (1 − γ) μ0 + γ dP; gives up when they contract too slowly."""
    transposed = sparse.csr_array(chain.matrix.T)
    leaving = np.asarray(chain.matrix.sum(axis=1)).ravel() - chain.matrix.diagonal()
    links = (transposed.indptr, transposed.indices, transposed.data, leaving)
    rows = (*links, chain.discount, chain.rest, chain.initial)
    mass, defect = chain.initial.copy(), np.inf
    for done in range(0, SWEEP_BUDGET, SWEEPS):
        last, defect = defect, relaxation.relax_occupancy(SWEEPS, *rows, mass)
        if defect <= SWEEP_TARGET:
            return mass, True
        if done >= TRIED and not _on_track(defect, last, SWEEP_BUDGET - done):
            break
    return mass, False


def _on_track(now: float, before: float, left: int) -> bool:
    """Whether a geometric decrease, from `before` to `now` in some sweeps, reaches the target in the sweeps left."""
    rate = now / before
    return rate < 1 and now * rate ** (left / SWEEPS) <= SWEEP_TARGET

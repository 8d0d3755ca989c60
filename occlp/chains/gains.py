"""Gains of chains with several recurrent classes: what each state earns in the long run, and brackets of it.

Letters: ``g`` gains, ``h`` relative values, ``P`` the chain. For any g with g ≤ Pg and any h, the chain earns at
least μ0·g + min (r − g + Ph − h); with ≥ and max for at most (Puterman 2005, theorem 9.1.2, for one policy). The
first condition allows no tolerance: where it is broken by 1e-12, it is broken without end. So it is checked
exactly, and gains that fail for their rounding are moved by a multiple of the expected number of moves.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, BoolArray, FloatArray
from occlp.chains.resolvent import Recurrent
from occlp.kernels import backup
from occlp.kernels.backup import EPS
from occlp.parallel import run_rows
from occlp.work import count_transitions

if TYPE_CHECKING:
    from occlp.chains.chain import Chain

#: Entries of rows that may be looked at in fractions, where doubles leave a sign open.
EXACT_ENTRIES = 200_000
#: Values beyond this have their residuals computed in double-double arithmetic.
LARGE = 1e3
#: Gains that differ by less than this share of the largest are taken for equal.
ROUNDING = 1e-13
#: By how many roundings gains are moved, one after the other, until their condition holds.
SHIFTS = (0.0, 8.0, 64.0, 1024.0, 32768.0)


def bracket_gains(chain: Chain) -> tuple[FloatArray, FloatArray, float, float]:
    """Relative values h [S], gains that never fall along the chain [S], and both ends of its objective."""
    gain, values = solve_gains(chain)
    low, high = (_settle(chain, _recurrent(chain), gain, sign) for sign in (1.0, -1.0))
    return values, low, _end(chain, values, low, 1.0), _end(chain, values, high, -1.0)


def solve_gains(chain: Chain) -> tuple[FloatArray, FloatArray]:
    """Gains g = P*r, equal within a class, and h = r − g + Ph with h = 0 in the first state of each class; both [S]."""
    resolvent = _recurrent(chain)
    gain = refine_gains(chain, resolvent, resolvent.gains(chain.rewards))
    values = resolvent.until_pinned(chain.rewards - gain)
    return gain, _refine_values(chain, resolvent, gain, values)


def _recurrent(chain: Chain) -> Recurrent:
    assert isinstance(chain.resolvent, Recurrent)
    return chain.resolvent


def refine_gains(chain: Chain, resolvent: Recurrent, gain: FloatArray) -> FloatArray:
    """One step of iterative refinement on the transient states, where it makes Pg − g smaller."""
    transient = resolvent.classes < 0
    if not transient.any():
        return gain
    drift, _ = _drift(chain, gain)
    better = gain + np.where(transient, resolvent.until_pinned(np.where(transient, drift, 0.0)), 0.0)
    after, _ = _drift(chain, better)
    return better if np.abs(after).max() < np.abs(drift).max() else gain


def drifts(matrix: Any, states: AnyArray, gain: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Σ p (g' − g) of every row, and a bound on its rounding, which is zero where all gains are equal; both [rows]."""
    n_rows = len(states)
    out, error = np.empty(n_rows), np.empty(n_rows)
    rows = (matrix.indptr, matrix.indices, matrix.data, states, np.zeros(n_rows), 1.0, 0.0)
    count_transitions(matrix.nnz)
    run_rows(backup.residuals, n_rows, matrix.nnz, *rows, gain, out, error)
    return out, error


def snapped(gain: FloatArray) -> FloatArray:
    """Gains with those made equal, to the largest, that differ by no more than rounding."""
    order = np.argsort(gain, kind="stable")
    ordered = gain[order]
    last = np.append(np.diff(ordered) > ROUNDING * float(np.abs(gain).max()), True)
    out = np.empty_like(gain)
    out[order] = ordered[last][np.cumsum(last) - last]
    return out


def differing(matrix: Any, states: AnyArray, gain: FloatArray) -> FloatArray:
    """Probability of moving to a state of another gain, of every row, [rows]."""
    rows = np.repeat(np.arange(len(states)), np.diff(matrix.indptr))
    other = gain[matrix.indices] != gain[states[rows]]
    return np.asarray(np.bincount(rows[other], matrix.data[other], len(states)), dtype=np.float64)


def certain_sign(matrix: Any, states: AnyArray, gain: FloatArray, found: tuple[FloatArray, FloatArray]) -> bool:
    """Whether Σ p (g' − g) ≥ 0 in every row, exactly; `found` holds these sums and bounds on their rounding."""
    drift, error = found
    doubtful = np.flatnonzero(drift < error)
    if (drift[doubtful] < -error[doubtful]).any():
        return False
    if np.diff(matrix.indptr)[doubtful].sum() > EXACT_ENTRIES:
        return False
    return all(_exact_drift(matrix, int(states[row]), gain, int(row)) >= 0 for row in doubtful)


def _exact_drift(matrix: Any, state: int, gain: FloatArray, row: int) -> Fraction:
    """Σ p (g' − g) of one row, nothing rounded."""
    entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
    here = Fraction(float(gain[state]))
    steps = zip(matrix.data[entries].tolist(), gain[matrix.indices[entries]].tolist(), strict=True)
    return sum((Fraction(p) * (Fraction(there) - here) for p, there in steps), start=Fraction(0))


def _drift(chain: Chain, gain: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pg − g and a bound on its rounding, exactly zero where all gains are equal; both [S]."""
    zero = np.zeros(chain.n_states)
    mixed = None if chain.mixed is None else zero
    return replace(chain, rewards=zero, mixed=mixed).residuals(gain)


def _settle(chain: Chain, resolvent: Recurrent, gain: FloatArray, sign: float) -> FloatArray:
    """Gains that never fall (sign 1) or never rise (sign −1) along the chain; the same number everywhere if need be."""
    states = np.arange(chain.n_states)
    moves: BoolArray | FloatArray = resolvent.classes < 0
    steps = np.zeros(chain.n_states)
    if moves.any():
        away = sparse.csr_array(chain.matrix, copy=True)
        away.setdiag(0.0)
        steps = np.where(moves, resolvent.until_pinned(np.where(moves, np.asarray(away.sum(axis=1)).ravel(), 0.0)), 0.0)
    size = float(np.ptp(gain))
    for factor in SHIFTS:
        trial = gain - sign * factor * EPS * size * steps
        drift, error = _drift(chain, trial)
        if chain.mixed is not None:  # the rows themselves are rounded: nothing is left to fractions
            if (sign * drift >= error).all():
                return trial
        elif certain_sign(chain.matrix, states, sign * trial, (sign * drift, error)):
            return trial
    return np.full(chain.n_states, float(gain.min() if sign > 0 else gain.max()))


def _end(chain: Chain, values: FloatArray, gain: FloatArray, sign: float) -> float:
    """μ0·g + min (r − g + Ph − h), or the maximum for sign −1, rounded outwards."""
    flat = replace(chain, rewards=chain.rewards - gain)
    rho, error = flat.residuals(values, np.zeros_like(values) if np.abs(values).max() > LARGE else None)
    error = error + EPS * (np.abs(chain.rewards) + np.abs(gain))
    base, slack = mean_gain(chain.initial, gain)
    return base + sign * (float((sign * rho - error).min()) - slack)


def mean_gain(initial: FloatArray, gain: FloatArray) -> tuple[float, float]:
    """μ0·g and a bound on its rounding, that of a μ0 which sums to one up to rounding included."""
    base = float(gain[0])
    beyond = initial * (gain - base)
    slack = (np.log2(len(initial) + 1) + 12) * EPS * (abs(base) + float(np.abs(beyond).sum()))
    return base + float(beyond.sum()), slack


def _refine_values(chain: Chain, resolvent: Recurrent, gain: FloatArray, values: FloatArray) -> FloatArray:
    flat = replace(chain, rewards=chain.rewards - gain)
    rho, _ = flat.residuals(values)
    for _ in range(3):
        trial = values + resolvent.columns(rho)
        after, _ = flat.residuals(trial)
        if not np.abs(after).max() < np.abs(rho).max():
            break
        values, rho = trial, after
    return values

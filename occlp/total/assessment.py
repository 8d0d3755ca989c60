"""What a policy earns in total: where it ends, how often it takes each pair, and proof from below."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, BoolArray, FloatArray
from occlp.chains.chain import Chain, policy_chain, reached_from
from occlp.chains.resolvent import closed_labels
from occlp.residuals import base_value
from occlp.total.form import TotalForm
from occlp.total.transient import Transient


@dataclass(frozen=True, eq=False)
class TotalAssessment:
    """A policy on a total-reward form; numbers of the form, to be maximised.

    Attributes
    ----------
    total : TotalForm
    probabilities : FloatArray [pairs]
    chain : Chain
    values : FloatArray [S]
        Expected total from each state; infinite where it is, NaN where gains and losses for ever cancel.
    objective, lower : float
        The total from the initial distribution, and a rigorous lower bound of it.
    proof : FloatArray [S]
        Values with residuals that are not negative, which prove the lower bound.
    trapped : BoolArray [S]
        States of recurrent classes outside the goal that the policy reaches.
    """

    total: TotalForm
    probabilities: FloatArray  # [pairs]
    chain: Chain
    values: FloatArray  # [S]
    objective: float
    lower: float
    proof: FloatArray  # [S]
    trapped: BoolArray  # [S]
    passed: Transient | None  # the states that are left for good, where they are those of the values

    @cached_property
    def visits(self) -> FloatArray:
        """Expected number of times that each pair is taken, [pairs]; infinite where the process stays for ever."""
        base, chain = self.total.base, self.chain
        passed = self.passed
        if passed is None:
            labels, closed = closed_labels(chain.matrix)
            passed = Transient(chain.matrix, ~closed[labels])
        visits = np.where(chain.visited, passed.visits(base.initial), 0.0)
        visits[self.trapped] = math.inf
        taken = self.probabilities > 0
        out = np.zeros(base.n_pairs)
        out[taken] = visits[base.states[taken]] * self.probabilities[taken]
        return out


def assess_total(total: TotalForm, probabilities: FloatArray, near: FloatArray | None = None) -> TotalAssessment:
    """Evaluate pair probabilities, [pairs]; values of states that may be near theirs save iterations."""
    base = total.base
    chain = policy_chain(base, probabilities)
    labels, closed = closed_labels(chain.matrix)
    recurrent = closed[labels]
    ends = _end_values(total, probabilities, chain, labels, recurrent)
    # Where an end worth −∞ (or an undefined one) may be reached, so is the total.
    tainted = _may_reach(chain.matrix, ~np.isfinite(ends))
    inner = ~recurrent & ~tainted
    transient = Transient(chain.matrix, inner)
    settled = np.where(np.isfinite(ends), ends, 0.0)
    outside = np.where(recurrent, settled, 0.0)
    if near is not None and transient.iterates and np.isfinite(near[inner]).all():
        values = np.where(inner, near, outside)
    else:
        values = transient.values(chain.rewards, outside)
    values = transient.refined(values, chain.residuals)
    proof, lower_known = _subharmonic(chain, transient, values)
    objective, lower = _from_start(base.initial, values, proof)
    if not lower_known:
        lower = -math.inf
    worth = _spread_of(chain.matrix, ends, tainted, values)
    if (tainted & (base.initial > 0)).any():
        with np.errstate(invalid="ignore"):  # ∞ − ∞: the total is undefined
            objective = lower = float(worth[tainted & (base.initial > 0)].sum())
        lower = -math.inf if math.isnan(lower) else lower
    trapped = recurrent & chain.visited & ~total.goal
    passed = transient if not tainted[~recurrent].any() else None
    return TotalAssessment(total, probabilities, chain, worth, objective, lower, proof, trapped, passed)


def _end_values(
    total: TotalForm, probabilities: FloatArray, chain: Chain, labels: AnyArray, recurrent: BoolArray
) -> FloatArray:
    """Worth of each recurrent state, [S]: the goal's value, 0, ±∞ or NaN; 0 at transient states."""
    base = total.base
    out = np.zeros(base.n_states)
    out[total.goal] = total.boundary
    ends = recurrent & ~total.goal
    if total.proper:
        out[ends] = -math.inf
        return out
    taken = probabilities > 0
    low, high = np.zeros(labels.max() + 1), np.zeros(labels.max() + 1)
    np.minimum.at(low, labels[base.states[taken]], base.rewards[taken])
    np.maximum.at(high, labels[base.states[taken]], base.rewards[taken])
    worth = np.where(low < 0, -math.inf, np.where(high > 0, math.inf, 0.0))
    for mixed in np.unique(labels[ends & (low < 0)[labels] & (high > 0)[labels]]):
        sign = gain_sign(chain.matrix, chain.rewards, np.flatnonzero(labels == mixed))
        worth[mixed] = sign * math.inf  # 0 · ∞ is NaN
    out[ends] = worth[labels[ends]]
    return out


def gain_sign(matrix: Any, rewards: FloatArray, states: AnyArray) -> float:
    """Sign of the average reward over a closed class of states; 0 where rounding leaves it open."""
    inside = matrix[states][:, states]
    onward = np.asarray(inside[[0]].toarray()).ravel()
    mass = Transient(inside, np.arange(len(states)) > 0).visits(onward)  # between two visits of the first state
    mass[0] = 1.0
    gain, doubt = float(mass @ rewards[states]), 1e-9 * float(mass @ np.abs(rewards[states]))
    return math.copysign(1.0, gain) if abs(gain) > doubt else 0.0


def _may_reach(matrix: AnyArray, seeds: BoolArray) -> BoolArray:
    """States from which the chain reaches one of the seeds with positive probability, [S]."""
    if not seeds.any():
        return seeds
    backward = sparse.csr_array(matrix.T)
    backward.eliminate_zeros()
    return reached_from(backward, seeds)


def _spread_of(matrix: AnyArray, ends: FloatArray, tainted: BoolArray, values: FloatArray) -> FloatArray:
    """Values with those that are infinite or undefined written in, [S]."""
    if not tainted.any():
        return values
    out = values.copy()
    kinds = (ends == math.inf, ends == -math.inf, np.isnan(ends))
    best, worst, undefined = (_may_reach(matrix, kind) for kind in kinds)
    out[best], out[worst] = math.inf, -math.inf
    out[undefined | (best & worst)] = math.nan
    return out


def _subharmonic(chain: Chain, transient: Transient, values: FloatArray) -> tuple[FloatArray, bool]:
    """V − δ w with residuals that are not negative on the inner states, rounding included; and whether it is."""
    rho, error = chain.residuals(values)
    inner = transient.inner
    short = float(np.max((error - rho)[inner], initial=0.0))
    if short <= 0:
        return values, True
    steps = np.where(inner, transient.steps(), 0.0)
    if not np.isfinite(steps).all():
        return values, False
    # Residuals are differences and may be far more exact than V − δ w can be written down.
    short = max(short, float(np.spacing(np.abs(values[inner]).max())))
    for factor in (2.0, 8.0, 64.0, 1024.0):
        with np.errstate(over="ignore"):
            trial = values - factor * short * steps
        if not np.isfinite(trial).all():  # values near the end of the doubles cannot be mended
            return values, False
        rho, error = chain.residuals(trial)
        if (rho >= error)[inner].all():
            return trial, True
    return values, False


def _from_start(initial: FloatArray, values: FloatArray, proof: FloatArray) -> tuple[float, float]:
    """μ0·V, and the rigorous lower end from the proof."""
    objective, _ = base_value(initial, 1.0, values, None)
    lower, slack = base_value(initial, 1.0, proof, None)
    return max(objective, lower - slack), lower - slack

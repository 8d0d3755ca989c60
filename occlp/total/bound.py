"""Upper bounds of totals: values V ≥ r + PV, rounding included."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from occlp._typing import FloatArray
from occlp.graph import maximal_end_components
from occlp.kernels.backup import EPS
from occlp.residuals import base_value, pair_residuals
from occlp.standard import StandardForm
from occlp.total.form import TotalForm
from occlp.total.improvement import loses_without_end
from occlp.total.reduction import Reduction, greedy, is_proper, priced_reduction
from occlp.total.transient import Transient

#: Rounds in which raised values are repaired, by one factorisation each.
MOST_REPAIRS = 60


@dataclass(frozen=True, eq=False)
class TotalBound:
    """An upper bound on the total of every policy that keeps the constraints, with what proves it."""

    value: float
    rounding: float
    values: FloatArray  # [S]; −∞ where no policy ends well
    prices: FloatArray  # [k]
    scores: FloatArray  # [pairs], r − Gᵀy + PV − V; −∞ for pairs that lead where no policy ends well


def bound_total(
    total: TotalForm, values: FloatArray, prices: FloatArray, *, worthwhile: float = math.inf
) -> TotalBound:
    """Upper bound from any values of states, [S], and any prices, [k].

    Infinite where the values cannot be raised to V ≥ r + PV by some multiple of expected steps. That takes some
    factorisations: values with residuals above `worthwhile` are not raised.
    """
    base, limits = total.base, total.base.limits
    prices = limits.feasible_prices(prices)
    reduction = priced_reduction(total, prices)
    doubt = _charge_error(base, prices)
    nodes = reduction.to_nodes(values)
    raised = _raise(reduction, doubt, nodes, worthwhile)
    states = reduction.to_states(nodes if raised is None else raised)
    scores, error = _user_scores(reduction, states, doubt)
    broken = raised is None or bool((scores + error > 0).any()) or not _ends_well(reduction, states, scores, error)
    finite = np.where(np.isfinite(states), states, 0.0)
    high, slack = base_value(base.initial, 1.0, finite, None)
    lifted = 0.0 if raised is None else float(reduction.form.initial @ (raised - nodes))
    slack += 4 * EPS * float(np.abs(prices) @ np.abs(limits.bounds))
    value = math.inf if broken else high + float(prices @ limits.bounds) + slack
    if reduction.losing.any():
        value, slack = (-math.inf, 0.0) if loses_without_end(reduction) else (math.inf, slack)
    return TotalBound(value, slack + max(lifted, 0.0), states, prices, scores)


def _charge_error(form: StandardForm, prices: FloatArray) -> FloatArray:
    """Bound on the rounding of r − Gᵀy, [pairs]."""
    if not len(prices):
        return np.zeros(form.n_pairs)
    return np.asarray((len(prices) + 4) * EPS * (np.abs(form.rewards) + np.abs(prices) @ np.abs(form.limits.rows)))


def _user_scores(reduction: Reduction, states: FloatArray, doubt: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Residuals of the question's own pairs for values of states, and their rounding; 0 in the goal; both [pairs]."""
    base = reduction.total.base
    scores, error = pair_residuals(base, np.where(np.isfinite(states), states, 0.0), None)
    scores = np.where(reduction.usable, scores, np.where(reduction.total.goal[base.states], 0.0, -math.inf))
    return scores, np.where(reduction.usable, error + doubt, 0.0)


def _raise(reduction: Reduction, doubt: FloatArray, values: FloatArray, worthwhile: float) -> FloatArray | None:
    """V + δ w with residuals below zero by more than their rounding, or None.

    w counts steps: it need only fall by a half a step on the pairs whose residuals are not safely negative.
    These are collected as they show; the pair among them that takes longest is what w is computed with.
    """
    form, live = reduction.form, reduction.pairs != -1
    charge_error = np.where(reduction.pairs >= 0, doubt[np.maximum(reduction.pairs, 0)], 0.0)
    scores, error = pair_residuals(form, values, None)
    worst = float(np.max((scores + error + charge_error)[live], initial=0.0))
    if worst <= 0:
        return values
    if worst > worthwhile:
        return None
    choice, steps = greedy(form, scores), None
    watched = np.zeros(form.n_pairs, dtype=np.bool_)
    watched[choice] = True
    delta = 2.0 * worst
    for _ in range(MOST_REPAIRS):
        if steps is None:
            if not is_proper(reduction, choice):
                return None
            steps = Transient(form.transitions[choice], ~reduction.fixed).steps()
        trial = values + delta * steps
        scores, error = pair_residuals(form, trial, None)
        failing = live & (scores + error + charge_error > 0)
        if not failing.any():
            return trial
        if not (watched | ~failing).all():
            watched |= failing
        longer = pair_residuals(form, steps, None, np.ones(form.n_pairs))[0]  # 1 + Pw − w
        longer = np.where(watched & live, longer, -math.inf)
        best = greedy(form, longer)
        switch = longer[best] > 0.5
        if switch.any():
            choice, steps = np.where(switch, best, choice).astype(np.int32), None
        else:
            delta *= 2.0
    return None


def _ends_well(reduction: Reduction, states: FloatArray, scores: FloatArray, error: FloatArray) -> bool:
    """Without a goal that must be reached: whether V ≥ 0 wherever a policy may stay for ever at no loss."""
    if reduction.total.proper:
        return True
    tight = reduction.usable & (scores + error >= -error)
    inside = maximal_end_components(reduction.total.graph, tight).component >= 0
    return bool((states[inside] >= 0).all())

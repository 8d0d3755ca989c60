"""Upper bounds on the objective of every policy, from any values and any prices.

For any values V (docs/conventions.md, section 6), with ρ = r + γPV − V, no policy earns more than
``(1 − γ) μ0·V + bound(ρ)``, where bound is the maximum over the pairs for a linear objective and that of the term,
such as the log-sum-exp of a KL penalty, for the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from occlp._typing import FloatArray
from occlp.bounds.relaxation import Slopes, Values, relaxations
from occlp.kernels.backup import EPS
from occlp.residuals import PairResiduals, base_value, pair_residuals, residuals_of
from occlp.standard import StandardForm
from occlp.terms import Majorant

#: What may prove a bound: values, prices of the constraints, an occupancy to make it tight at, slopes of the concave.
Candidate = tuple[Values, FloatArray | None, FloatArray | None, Slopes | None]


@dataclass(frozen=True, eq=False)
class UpperBound:
    """The best upper bound known for a standard form, with the values that prove it."""

    value: float
    rounding: float
    values: Values
    scores: FloatArray  # [pairs], the residuals of the priced rewards
    prices: FloatArray  # [k], of the constraints
    dual: FloatArray | None = None  # parameter of the term's bound, where it has one
    majorants: Mapping[str, Majorant] = field(default_factory=dict)  # of the concave constraints that are priced
    gain: FloatArray | None = None  # [S], gains that differ from state to state
    source: PairResiduals | None = None  # what the scores are from, held on to for those who ask for it again


def priced(form: StandardForm, prices: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rewards less the price of the constraints, r − Gᵀy, and a bound on the rounding; both [pairs]."""
    if not len(prices):
        return form.rewards, np.zeros(1)
    charge = prices @ form.limits.rows
    size = np.abs(prices) @ np.abs(form.limits.rows)
    return form.rewards - charge, (len(prices) + 4) * EPS * (np.abs(form.rewards) + size)


def bound_above(
    form: StandardForm,
    values: Values,
    prices: FloatArray | None = None,
    occupancy: FloatArray | None = None,
    slopes: Slopes | None = None,
) -> UpperBound:
    """Upper bound on the objective of every feasible policy, from any values and any prices.

    Prices of the wrong sign are set to zero first: they would prove nothing. The occupancy is where
    the bound of a term with a parameter, and of constraints on concave utilities, is made tight; `slopes` of
    the latter are tried beside their supergradients there.
    """
    if form.term is None and not form.names:
        return _plain_bound(form, values)
    prices = np.zeros(len(form.names)) if prices is None else form.feasible_prices(prices)
    point = np.full(form.n_pairs, 1.0 / form.n_pairs) if occupancy is None else occupancy
    if not form.concave:
        return _linear_bound(form, values, prices, point)
    found = [
        replace(_linear_bound(linear, values, prices, point), majorants=majorants)
        for linear, majorants in relaxations(form, values, prices, point, slopes)
        if all(np.isfinite(majorant.offset) for majorant in majorants.values())
    ]
    if not found:  # no slope is finite: without the prices of the concave constraints there is a bound all the same
        prices = np.append(prices[: len(form.limits.names)], np.zeros(len(form.concave)))
        return bound_above(form, values, prices, occupancy)
    return min(found, key=lambda bound: bound.value)


def _plain_bound(form: StandardForm, values: Values) -> UpperBound:
    """The bound of the rewards alone, from residuals that others may have asked for already."""
    base, slack = base_value(form.initial, form.rest, *values)
    found = residuals_of(form, *values)
    widest = int(np.argmax(found.ceiling))
    value = base + float(found.ceiling[widest]) + slack
    value = value if np.isfinite(value) else np.inf
    return UpperBound(value, slack + float(found.slack[widest]), values, found.scores, np.zeros(0), source=found)


def _linear_bound(form: StandardForm, values: Values, prices: FloatArray, point: FloatArray) -> UpperBound:
    if form.term is None and not prices.any():
        return replace(_plain_bound(form, values), prices=prices)
    high, low = values
    base, slack = base_value(form.initial, form.rest, high, low)
    rewards, charge_error = priced(form, prices)
    scores, error = pair_residuals(form, high, low, rewards)
    error = error + charge_error
    dual = None
    if form.term is None:
        top = float((scores + error).max())
        rounding = slack + float(error[int(np.argmax(scores + error))])
    else:
        dual = form.term.best_dual(scores, point)
        top = form.term.bound(scores + error, dual)
        highest = float(scores[form.term.support].max())
        slack += 64 * EPS * (abs(highest) + abs(top - highest))  # the log-sum-exp itself
        rounding = slack + (top - form.term.bound(scores, dual) if np.isfinite(top) else 0.0)
    value = base + top + slack
    return UpperBound(value if np.isfinite(value) else np.inf, rounding, values, scores, prices, dual)


def best_bound(form: StandardForm, candidates: Iterable[Candidate], known: UpperBound | None = None) -> UpperBound:
    """Return the least upper bound that the candidates prove; candidates with NaN or inf prove nothing."""
    bounds = [bound_above(form, *candidate) for candidate in candidates if np.isfinite(candidate[0][0]).all()]
    if known is not None:
        bounds.append(known)
    if not bounds:
        bounds.append(bound_above(form, (np.zeros(form.n_states), None)))
    return min(bounds, key=lambda bound: bound.value)

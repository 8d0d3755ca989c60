"""What a policy earns from below: with a concave term, or by an occupancy that is claimed for it."""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray
from occlp.chains.chain import Bracket, Chain, relative_values
from occlp.kernels.backup import EPS
from occlp.standard import StandardForm
from occlp.work import count_transitions


def lower_with_term(
    form: StandardForm, chain: Chain, bracket: Bracket, probabilities: FloatArray, pair_mass: FloatArray
) -> float:
    """A lower bound of d·r + f(d) at the policy's own d, of which the occupancy given may miss some digits.

    To first order f(d) is its value at the occupancy plus slope · (d − occupancy), and what a policy earns with the
    slope as a further reward is enclosed like any other reward.
    """
    assert form.term is not None
    value, slack = form.term.value(pair_mass), _slack_of(form, pair_mass)
    if chain.is_small or not np.isfinite(value):  # elimination has every digit of the occupancy
        return bracket.lower + value - slack
    slope = form.term.gradient(pair_mass)
    slope = np.where((pair_mass > 0) & np.isfinite(slope), slope, 0.0)
    joined = relative_values(chain.with_rewards(form, probabilities, form.rewards + slope), bracket.high)
    return joined.lower + (value - float(slope @ pair_mass)) - slack


def distance_from_claim(form: StandardForm, pair_mass: FloatArray) -> float:
    """How far the occupancy of a policy is at most from one claimed for it, Σ |difference|, in one pass; discounted.

    The pairs of a state share its mass as the policy does. What the claim d misses of the flow equation is e·A for
    the error e and A = (1 − γ) I + γ (D − P), whose inverse has row sums 1 / (1 − γ).
    """
    matrix, first = form.transitions, form.start[:-1]
    count_transitions(2 * matrix.nnz)
    inflow = form.discount * (matrix.T @ pair_mass)
    outflow = form.discount * np.add.reduceat(pair_mass * (matrix @ np.ones(form.n_states)), first)
    mass = form.rest * np.add.reduceat(pair_mass, first)
    source = form.rest * form.initial
    most = int(np.bincount(matrix.indices).max()) + int(np.diff(form.start).max()) + 8
    terms = float((inflow + outflow + mass + source).sum())
    return float(np.abs(source - mass + (inflow - outflow)).sum() + most * EPS * terms) / form.rest


def _slack_of(form: StandardForm, pair_mass: FloatArray) -> float:
    """Rounding of f(d), with the rounding of d itself in it."""
    assert form.term is not None
    slope = form.term.gradient(pair_mass)
    used = (pair_mass > 0) & np.isfinite(slope)
    mass = pair_mass[used]
    slope = slope[used] - mass @ slope[used]  # errors of d sum to zero
    relative = 8 * EPS * (np.log2(form.n_states + 1) + 8)
    return float(relative * (mass * np.abs(slope)).sum()) + form.term.rounding(pair_mass)

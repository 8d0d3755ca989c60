"""The exact estimator: advantages and occupancy from the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.chains.chain import occupancy, policy_chain, relative_values
from occlp.chains.resolvent import Elimination, band_order, fits_elimination
from occlp.evaluation import formulate
from occlp.kernels import elimination
from occlp.problem import Problem
from occlp.residuals import pair_residuals
from occlp.solvers.policy_gradient.estimators.base import Estimate, Estimator
from occlp.standard import StandardForm, transition_graph
from occlp.total.assessment import assess_total
from occlp.total.form import TotalForm, formulate_total

#: Totals and visits beyond this (standard form) count as endless: their products overflow.
LONGEST = 1e150


@dataclass(frozen=True, repr=False)
class Exact(Estimator):
    """The exact advantages and occupancy of the policy.

    Notes
    -----
    Source: the policy gradient theorem, Sutton, McAllester, Singh and Mansour (2000), Theorem 1. With a concave
    term f the reward is r + ∇f(d), by the chain rule (Zhang, Koppel, Bedi, Szepesvári and Wang 2020).
    """

    def prepare(self, problem: Problem, rng: np.random.Generator) -> Callable[[FloatArray], Estimate]:
        """Choose by size: one subtraction-free elimination a policy, or the general evaluation."""
        if problem.criterion == "total":
            return exact_on_total(formulate_total(problem))
        return exact_on(formulate(problem))


def exact_on(form: StandardForm) -> Callable[[FloatArray], Estimate]:
    """Return the exact estimates on a form that is discounted or an average; limits are not looked at."""
    if form.rest > 0 and form.term is None:
        order, width = band_order(transition_graph(form))
        if fits_elimination(form.n_states, width):
            return _SmallModel(form, order, width)
    return lambda probabilities: _general(form, probabilities)


def exact_on_total(total: TotalForm) -> Callable[[FloatArray], Estimate]:
    """Return the exact estimates on a form that is a total; limits are not looked at."""
    return lambda probabilities: _total(total, probabilities)


class _SmallModel:
    """Evaluates policy after policy of one model in a band that fits all of them."""

    def __init__(self, form: StandardForm, order: IntArray, width: int) -> None:
        self.form, self.order, self.width = form, order, width
        self.position = np.empty(form.n_states, dtype=np.int32)
        self.position[order] = np.arange(form.n_states, dtype=np.int32)

    def __call__(self, probabilities: FloatArray) -> Estimate:
        form = self.form
        matrix, first = form.transitions, form.start[:-1]
        band = elimination.fill_policy(
            form.start, matrix.indptr, matrix.indices, matrix.data, probabilities,
            self.order, self.position, self.width, form.discount,
        )  # fmt: skip
        resolvent = Elimination(band, self.order, np.full(form.n_states, form.rest))
        mass = resolvent.rows(form.rest * form.initial)
        mass = mass / mass.sum()
        earned = np.add.reduceat(form.rewards * probabilities, first)
        objective = float(mass @ earned)
        # Relative values, refined once on residuals that do not cancel when 1 − γ is tiny.
        values = resolvent.columns(earned - objective)
        values -= values @ form.initial
        scores, _ = pair_residuals(form, values, None)
        mean = np.add.reduceat(scores * probabilities, first)
        correction = resolvent.columns(mean - mass @ mean)
        values = values + correction - correction @ form.initial
        scores, _ = pair_residuals(form, values, None)
        return _estimate(form, probabilities, objective, mass, scores, values)


def _general(form: StandardForm, probabilities: FloatArray) -> Estimate:
    chain = policy_chain(form, probabilities)
    chain.require_one_class("policy gradients")
    mass = occupancy(chain)
    pair_mass = mass[form.states] * probabilities
    rewards, bonus = form.rewards, 0.0
    if form.term is not None:
        slope = form.term.gradient(pair_mass)
        slope = np.where(np.isfinite(slope), slope, 0.0)  # where a policy has no mass, nothing moves it there
        rewards, bonus = form.rewards + slope, form.term.value(pair_mass) - float(pair_mass @ slope)
        chain = policy_chain(form, probabilities, rewards)
    bracket = relative_values(chain)
    objective = min(max(float(mass @ chain.rewards), bracket.lower), bracket.upper) + bonus
    scores, _ = pair_residuals(form, bracket.high, bracket.low, rewards)
    return _estimate(form, probabilities, objective, mass, scores, bracket.high)


def _total(total: TotalForm, probabilities: FloatArray) -> Estimate:
    form, found = total.base, assess_total(total, probabilities)
    values = np.where(np.isfinite(found.values), found.values, 0.0)
    scores, _ = pair_residuals(form, values, None)
    mass = np.add.reduceat(found.visits, form.start[:-1])
    endless = np.isinf(mass)  # states that are never left for good; they do not matter if no action there does
    if not abs(found.objective) < LONGEST or scores[endless[form.states]].any():
        nothing = np.zeros(form.n_pairs)  # a policy that need not end has no gradient, and loses every comparison
        return Estimate(nothing, nothing, nothing, -np.inf)
    mass[endless] = 0.0
    scores = np.where(mass[form.states] > 0, scores, 0.0)
    return _estimate(form, probabilities, found.objective, mass, scores, values)


def _estimate(
    form: StandardForm,
    probabilities: FloatArray,
    objective: float,
    mass: FloatArray,
    scores: FloatArray,
    values: FloatArray,
) -> Estimate:
    mean = np.add.reduceat(scores * probabilities, form.start[:-1])
    advantages = scores - mean[form.states]
    at_pairs = mass[form.states]
    return Estimate(at_pairs * advantages, advantages, at_pairs * probabilities, objective, values)

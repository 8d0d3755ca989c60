"""The smooth dual of a program with a joint term, and Newton's method on it without a matrix.

Minimise g(V) = (1 − γ) μ0·V + τ log Σ d0 exp((r + γPV − V) / τ). Its gradient is (1 − γ) μ0 − F p and its
Hessian F (diag(p) − p pᵀ) Fᵀ / τ, p being the Gibbs distribution and F = E − γPᵀ. One product with the Hessian
is one pass over the transitions, so Newton's equations are solved by conjugate gradients; where the chains
mix fast, a few products do, whatever the number of states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from occlp._typing import FloatArray
from occlp.kernels import flow
from occlp.parallel import inner_product
from occlp.residuals import base_value, pair_residuals
from occlp.solvers.conjugate_gradients import solve_by_gradients
from occlp.standard import StandardForm
from occlp.terms import JointTerm
from occlp.work import count_transitions

#: The strengths on the way begin at the size of the rewards, and each is this share of the last.
WEAKER = 0.5
#: Squared decrement, in strengths, at which the next strength is taken up.
CLOSE = 1e-2
#: Newton steps at one strength.
MOST_STEPS = 40
#: Newton's equations are solved to these shares of their residual, the better the nearer the optimum is.
LOOSEST, TIGHTEST = 0.1, 1e-6
#: Squared decrement to come, in strengths, below which steps follow the rounding of the gradient.
SETTLED = 1e-17
#: Halvings of a step before it is given up.
HALVINGS = 30
#: Decreases below this share of the value drown in rounding.
DROWNED = 1e-12


@dataclass(frozen=True, eq=False)
class DualPoint:
    """Values and what the dual is there."""

    dual: GibbsDual
    values: FloatArray  # [S]
    value: float  # g(V)
    mass: FloatArray  # [pairs], the Gibbs distribution p

    @property
    def flow(self) -> FloatArray:
        """F p, [S]."""
        return self._sums[0]

    @property
    def squares(self) -> FloatArray:
        """The diagonal of F diag(p) Fᵀ, [S]."""
        return self._sums[1]

    @cached_property
    def _sums(self) -> tuple[FloatArray, FloatArray]:
        out, squares = np.empty(len(self.values)), np.empty(len(self.values))
        count_transitions(len(self.dual.rows[2]))
        flow.flow(*self.dual.rows, self.mass, out, squares)
        return out, squares

    @property
    def gradient(self) -> FloatArray:
        """What F p lacks, [S]."""
        return self.dual.source - self.flow

    def curvature(self, direction: FloatArray) -> FloatArray:
        """τ times the Hessian times a direction, [S]."""
        out = np.empty(len(direction))
        count_transitions(len(self.dual.rows[2]))
        mean = flow.curvature(*self.dual.rows, self.mass, direction, out)
        return out - mean * self.flow


@dataclass(frozen=True, eq=False)
class Step:
    """A Newton step."""

    point: DualPoint | None  # where it leads; None where none was found
    decrement: float  # squared Newton decrement before it, twice what the step was to gain


class GibbsDual:
    """The dual of a form with a joint term and without constraints, at a strength of one's choice."""

    def __init__(self, form: StandardForm, strength: float) -> None:
        assert isinstance(form.term, JointTerm)
        self.form, self.strength, self.term = form, strength, form.term.with_strength(strength)
        matrix = form.transitions
        self.rows = (form.start, matrix.indptr, matrix.indices, matrix.data, form.discount, form.rest)
        self.source = form.rest * form.initial

    def at(self, values: FloatArray) -> DualPoint:
        """The dual at values V, [S]."""
        scores, _ = pair_residuals(self.form, values, None)
        value = base_value(self.form.initial, self.form.rest, values, None)[0] + self.term.bound(scores)
        return DualPoint(self, values, value, self.term.maximizer(scores))

    def step(self, point: DualPoint, accuracy: float, most_products: int) -> Step:
        """One inexact Newton step with a line search."""
        right = -self.strength * point.gradient
        direction = solve_by_gradients(
            point.curvature, point.squares, right, accuracy=accuracy, most_products=most_products
        )
        if direction is None:
            return Step(None, np.inf)
        decrement = -float(inner_product(point.gradient, direction))
        length = 1.0
        for _ in range(HALVINGS if decrement > 0 else 0):
            moved = point.values + length * direction
            trial = self.at(moved - moved.mean())
            drowned = decrement <= DROWNED * (abs(point.value) + self.strength)
            if drowned or trial.value <= point.value - 1e-4 * length * decrement:
                return Step(trial, decrement)
            length *= 0.5
        return Step(None, decrement)


def descend(form: StandardForm, *, enough: float, most_products: int) -> Iterator[DualPoint]:
    """Points near the optimum, ever nearer, by continuation in the strength; ends where it makes no progress.

    Parameters
    ----------
    form : StandardForm
        With a joint term and without constraints.
    enough : float
        What a point may lack to be worth showing.
    most_products : int
        Products with the Hessian that one Newton step may take.
    """
    assert isinstance(form.term, JointTerm)
    strengths = [form.term.strength]
    while strengths[0] < WEAKER * form.reward_range:
        strengths.insert(0, strengths[0] / WEAKER)
    values = slope = np.zeros(form.n_states)
    for position, strength in enumerate(strengths):
        dual = GibbsDual(form, strength)
        # The optimum is a smooth function of the strength: where its last change goes on, it is there already.
        change = strength - strengths[max(position - 1, 0)]
        point = min((dual.at(values), dual.at(values + change * slope)), key=lambda point: point.value)
        if strength == strengths[-1]:
            yield from _finish(dual, point, enough, most_products)
            return
        for _ in range(MOST_STEPS):
            step = dual.step(point, LOOSEST, most_products)
            if step.point is None:
                return
            point = step.point
            if step.decrement <= CLOSE * strength:
                break
        slope = (point.values - values) / change if change else slope
        values = point.values


def _finish(dual: GibbsDual, point: DualPoint, enough: float, most_products: int) -> Iterator[DualPoint]:
    """Newton steps to the optimum, with points that lack no more than what is enough."""
    accuracy = LOOSEST
    for _ in range(MOST_STEPS):
        step = dual.step(point, accuracy, most_products)
        if step.point is None:
            return
        point, share = step.point, step.decrement / dual.strength
        ahead = share * max(accuracy * accuracy, share)
        if ahead * dual.strength <= enough:
            yield point
        if ahead <= SETTLED:
            return
        accuracy = float(np.clip(np.sqrt(share), TIGHTEST, LOOSEST))

"""A primal-dual interior-point method for joint-KL programs: a start for Newton's method on their dual.

Minimise τ Σ d log(d / d0) − r·d subject to A x = b with x = (d, slacks of the limits) ≥ 0. The optimality
conditions are ∇f(x) + Aᵀy = z, A x = b and x z = μ with μ → 0; y holds the values, the gain and the prices.
Weak penalties make the dual nearly a linear program, whose kinks Newton's method cannot cross; this method
follows the central path as it would for the linear program itself. Sources: Mehrotra (1992); Andersen and Ye
(1998) for entropies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occlp._typing import BoolArray, FloatArray
from occlp.solvers.normal_equations import NormalEquations
from occlp.terms import JointTerm

#: Steps before the method gives up.
MOST_STEPS = 150
#: What may be missing from optimality, objectives having size one.
ENOUGH = 1e-14
#: Numbers beyond this are no step.
LARGEST = 1e100
#: Share of the way to the boundary that a step may go.
SHORT_OF_BOUNDARY = 0.99


@dataclass(frozen=True, eq=False)
class _Point:
    """Primal and dual variables."""

    x: FloatArray  # [kept pairs + slacks]
    y: FloatArray  # [rows]
    z: FloatArray  # [kept pairs + slacks]

    def moved(self, length: float, step: _Point) -> _Point:
        """The point after a step of this length."""
        return _Point(self.x + length * step.x, self.y + length * step.y, self.z + length * step.z)

    def longest(self, step: _Point) -> float:
        """How far a step may go before x or z reaches zero; at most 1."""
        ends = [1.0]
        for now, change in ((self.x, step.x), (self.z, step.z)):
            falling = change < 0
            ends.append(float((now[falling] / -change[falling]).min(initial=np.inf)))
        return min(ends)


@dataclass(frozen=True, eq=False)
class NearOptimum:
    """Where the method ended, in the units of the form."""

    occupancy: FloatArray  # [kept pairs]
    values: FloatArray  # of the kept states but one
    prices: FloatArray  # [k], of the limits
    tight: BoolArray  # [k], which of them bind
    missing: float  # from the equations of the program


class InteriorPoint:
    """The program of a form with a joint term."""

    def __init__(self, equations: NormalEquations) -> None:
        form, pairs = equations.form, equations.pairs
        assert isinstance(form.term, JointTerm)
        limits = form.limits.rows[:, pairs]
        self.equations, self.n, self.n_flow = equations, len(pairs), equations.n
        self.size = max(1.0, form.term.strength)
        self.strength = form.term.strength / self.size
        self.rewards, self.prior = form.rewards[pairs] / self.size, form.term.prior[pairs]
        self.slacks = np.flatnonzero(~form.limits.equal)
        self.dense = np.vstack([np.ones(self.n), limits])  # [1 + k, kept pairs]
        self.right = np.concatenate([equations.source, [1.0], np.zeros(len(limits))])

    def solve(self) -> NearOptimum:
        """Follow the central path to its end, or as far as it can be followed."""
        with np.errstate(all="ignore"):  # where no policy is strictly within the limits, prices grow without end
            point = self._approach(self._start())
        prices = self.size * point.y[self.n_flow + 1 :]
        tight = np.ones(len(prices), dtype=np.bool_)
        tight[self.slacks] = point.z[self.n :] > point.x[self.n :]
        missing = float(np.abs(self._times(point.x) - self.right).max())
        return NearOptimum(point.x[: self.n], self.size * point.y[: self.n_flow], prices, tight, missing)

    def _approach(self, point: _Point) -> _Point:
        """Step until nothing is missing, or no step can be made."""
        for _ in range(MOST_STEPS):
            residual = self._gradient(point.x) + self._transposed(point.y) - point.z
            missing = self._times(point.x) - self.right
            # What falls short in the objective: pairs count by their mass, which may be 1e-300 for weak penalties.
            if float(point.x @ (point.z + np.abs(residual))) + float(np.abs(missing).max()) <= ENOUGH:
                break
            step = self._step(point, residual, missing)
            if step is None:
                break
            point = point.moved(min(1.0, SHORT_OF_BOUNDARY * point.longest(step)), step)
        return point

    def _start(self) -> _Point:
        """The reference's own occupancy, and dual variables that satisfy their equations without limits."""
        margin = float(np.ptp(self.rewards)) + self.strength
        top = float(self.rewards.max()) + margin
        slacks = np.maximum(-self.dense[1 + self.slacks] @ self.prior, 0.1)
        y = np.zeros(len(self.right))
        y[self.n_flow] = top - self.strength * (0.0 if self.prior.sum() < 1.5 else 1.0)
        x = np.append(self.prior / self.prior.sum(), slacks)
        y[self.n_flow + 1 + self.slacks] = margin
        z = np.maximum(self._gradient(x) + self._transposed(y), margin)
        return _Point(x, y, z)

    def _gradient(self, x: FloatArray) -> FloatArray:
        slope = np.zeros_like(x)
        slope[: self.n] = self.strength * (np.log(x[: self.n] / self.prior) + 1.0) - self.rewards
        return slope

    def _times(self, x: FloatArray) -> FloatArray:
        mass = x[: self.n]
        dense = self.dense @ mass
        dense[1 + self.slacks] += x[self.n :]
        return np.append(self.equations.flow @ mass, dense)

    def _transposed(self, y: FloatArray) -> FloatArray:
        flowing, dense = y[: self.n_flow], y[self.n_flow :]
        return np.append(self.equations.transposed @ flowing + dense @ self.dense, dense[1 + self.slacks])

    def _step(self, point: _Point, residual: FloatArray, missing: FloatArray) -> _Point | None:
        """Mehrotra's predictor and corrector with one factorisation; None where it fails."""
        curvature = point.z / point.x
        curvature[: self.n] += self.strength / point.x[: self.n]
        try:
            corner = np.zeros(len(self.dense))
            corner[1 + self.slacks] = 1.0 / curvature[self.n :]
            solve = self.equations.solver(1.0 / curvature[: self.n], self.dense, np.diag(corner))
        except RuntimeError:  # exactly singular
            return None
        gap = point.x * point.z
        mean = float(gap.mean())

        def direction(target: FloatArray) -> _Point:
            right = -residual + target / point.x
            dual = solve(self._times(right / curvature) + missing)
            primal = (right - self._transposed(dual)) / curvature
            return _Point(primal, dual, (target - point.z * primal) / point.x)

        affine = direction(-gap)
        ahead = point.moved(point.longest(affine), affine)
        centring = (float(ahead.x @ ahead.z) / len(gap) / mean) ** 3 if mean > 0 else 0.0
        step = direction(centring * mean - gap - affine.x * affine.z)
        usable = all((np.abs(part) < LARGEST).all() for part in (step.x, step.y, step.z))
        return step if usable else None

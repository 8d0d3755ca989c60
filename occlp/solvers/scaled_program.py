"""The occupancy program as a backend sees it: scaled to size one, with concave constraints on copies of d.

Backends work with absolute tolerances near 1e-8, so the mass is the number of pairs and flow rows have size
one. A constraint f(d) ≥ b is put on a copy z of d: the dual of z = d, divided by the price, is a
supergradient of f that goes with the other duals, which the gradient at an inexact answer does not.

Its numbers are parameters, so that one compiled program serves all questions of its structure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from occlp._typing import AnyArray, FloatArray
from occlp.convex import load_cvxpy
from occlp.solvers.backends import ANSWERED, INFEASIBLE, Backend
from occlp.solvers.base import OutOfTime, SolverFailure
from occlp.solvers.programs import LimitRows, borrowed, digest
from occlp.standard import StandardForm, flow_matrix

#: An answer whose flow is off by more than this (of a total mass of one) is not an answer.
GROSS_RESIDUAL = 1e-3
#: Numbers of a backend beyond this are taken for garbage.
LARGEST_NUMBER = 1e150
#: Powers of the number of pairs that masses are.
MASSES = 1.0, 0.5
#: Prices (of constraints of size one) below this are nothing but the backend's tolerance.
NO_PRICE = 1e-12


@dataclass(frozen=True, eq=False)
class Answer:
    """What the backend returned, scaled back to the standard form; nothing here is trusted."""

    occupancy: FloatArray  # [pairs]
    values: FloatArray  # [S]
    prices: FloatArray  # [k], of all constraints
    slopes: Mapping[str, FloatArray]  # [pairs] each, of the concave constraints that have a price
    mass_multiplier: float
    status: str


def solve_scaled(form: StandardForm, backend: Backend) -> Answer | None:
    """The backend's answer, or None where it says that the constraints cannot be met.

    Where it breaks down on something curved, it is given the program once more, with a smaller mass.
    """
    try:
        return _solve_of_mass(form, backend, MASSES[0])
    except SolverFailure as failure:
        if isinstance(failure, OutOfTime) or (form.term is None and not form.concave):
            raise
        return _solve_of_mass(form, backend, MASSES[1])


def _solve_of_mass(form: StandardForm, backend: Backend, power: float) -> Answer | None:
    key = _key(f"optimum {power}", form, backend)
    with borrowed(form.transitions.data, key, lambda: ScaledProgram(form, power=power)) as program:
        status = program.solve(form, backend)
        if form.names and status in INFEASIBLE:
            return None
        if status not in ANSWERED:
            raise backend.failure(
                status,
                f"the backend {backend.name} says {status!r}, but this program always has an optimum. "
                "Try another backend, or PolicyIteration.",
            )
        return program.read(form, backend, status)


def solve_widest(form: StandardForm, backend: Backend, *, strict: bool) -> Answer:
    """The backend's occupancy that keeps all constraints by the most, or breaks them the least."""
    key = _key(f"widest {strict}", form, backend)
    with borrowed(form.transitions.data, key, lambda: ScaledProgram(form, widest=True, strict=strict)) as program:
        status = program.solve(form, backend)
        if status not in ANSWERED:
            words = f"the backend {backend.name} says {status!r}, but this program always has an optimum."
            raise backend.failure(status, words)
        return program.read(form, backend, status)


class ScaledProgram:
    """The compiled program of one structure: maximise r·d + f(d), or, if `widest`, the least margin of the limits."""

    def __init__(self, form: StandardForm, *, power: float = 1.0, widest: bool = False, strict: bool = False) -> None:
        cvxpy = load_cvxpy()
        self.kept, self.states = support(form)
        self.flow = flow_matrix(form)[self.states][:, self.kept].tocsr()
        size, self.mass = len(self.kept), float(len(self.kept)) ** power
        sizes = abs(self.flow).max(axis=1).toarray().ravel()
        self.row_scale = 1.0 / np.where(sizes > 0, sizes, 1.0)  # a state that nothing leaves or enters, undiscounted
        self.variable, self.inflow = cvxpy.Variable(size, name="scaled_occupancy"), cvxpy.Parameter(len(self.states))
        self.flow_rows = self.flow.multiply(self.row_scale[:, None]).tocsr() @ self.variable == self.inflow
        self.total = cvxpy.sum(self.variable) == self.mass
        self.widest, constraints = widest, [self.flow_rows, self.total, self.variable >= 0]
        short = cvxpy.Variable(name="violation") if widest else 0.0  # negative: the margin by which everything is kept
        slack = short * np.ones(max(len(form.limits.names), 1)) if widest else None
        self.rows = LimitRows(form.limits, self.variable, slack, strict=strict)
        self.copies = [cvxpy.Variable(size) for _ in form.concave]
        self.links = [copy == self.variable for copy in self.copies]
        # Concave constraints in sizes of their functions, factor · f(z) − level.
        self.factors = [cvxpy.Parameter(nonneg=True) for _ in form.concave]
        self.levels = [cvxpy.Parameter() for _ in form.concave]
        self.margins = [
            factor * limit.term.unit_expression(copy, self.kept, self.mass) - level >= -short
            for limit, copy, factor, level in zip(form.concave, self.copies, self.factors, self.levels, strict=True)
        ]
        constraints += [*self.links, *self.rows.constraints, *self.margins]
        if widest:
            self.program = cvxpy.Problem(cvxpy.Maximize(-short), [*constraints, short >= -self.mass])
            return
        self.rewards = cvxpy.Parameter(size)
        objective = self.rewards @ self.variable
        if form.term is not None:
            self.strength = cvxpy.Parameter(nonneg=True)
            objective += self.strength * form.term.unit_expression(self.variable, self.kept, self.mass)
        self.program = cvxpy.Problem(cvxpy.Maximize(objective), constraints)

    def solve(self, form: StandardForm, backend: Backend) -> str:
        """Set the numbers of a question and run the backend; returns its status."""
        self.weight = 1.0 if self.widest or form.term is None else 1.0 / max(1.0, form.term.spread)
        self.inflow.value = self.mass * self.row_scale * form.rest * form.initial[self.states]
        self.rows.fill(form.limits.rows[:, self.kept], form.limits.bounds)
        for limit, factor, level in zip(form.concave, self.factors, self.levels, strict=True):
            factor.value = limit.term.strength / limit.term.spread
            level.value = self.mass * limit.bound / limit.term.spread
        if not self.widest:
            self.rewards.value = self.weight * form.rewards[self.kept]
            if form.term is not None:
                self.strength.value = self.weight * form.term.strength
        return backend.solve(self.program)

    def read(self, form: StandardForm, backend: Backend, status: str) -> Answer:
        """Scale the backend's numbers back; raises `SolverFailure` for numbers that are no answer."""
        name = backend.name
        found = [self.variable.value, self.flow_rows.dual_value, self.total.dual_value, self.rows.prices]
        found += [part.dual_value for part in (*self.margins, *self.links)]
        parts = [np.asarray(part, dtype=np.float64) for part in found]
        if any(not (np.abs(part) < LARGEST_NUMBER).all() for part in parts):
            raise backend.failure(status, f"the backend {name} says {status!r} but returned no finite numbers.")
        solution = parts[0] / self.mass
        residual = float(np.abs(self.flow @ solution - form.rest * form.initial[self.states]).sum())
        worst = max(residual, abs(float(solution.sum()) - 1.0), -float(solution.min()))
        if worst > GROSS_RESIDUAL:
            words = f"the backend {name} says {status!r}, but its occupancy breaks the constraints by {worst:.2g}."
            raise backend.failure(status, words)
        occupancy, values = np.zeros(form.n_pairs), np.zeros(form.n_states)
        occupancy[self.kept] = solution
        values[self.states] = self.row_scale * parts[1] / self.weight
        margins = np.array([part.item() for part in parts[4 : 4 + len(self.margins)]])
        prices = form.feasible_prices(np.append(parts[3], margins) / self.weight)
        slopes = self._slopes(form, prices, parts[4 + len(self.margins) :])
        return Answer(occupancy, values, prices, slopes, float(parts[2]) / self.weight, status)

    def _slopes(self, form: StandardForm, prices: FloatArray, duals: list[FloatArray]) -> dict[str, FloatArray]:
        """Supergradients of the concave constraints that have a price; their prices are put into the user's units."""
        slopes = {}
        for position, (limit, dual) in enumerate(zip(form.concave, duals, strict=True), len(form.limits.names)):
            if prices[position] <= NO_PRICE:
                prices[position] = 0.0
                continue
            prices[position] /= limit.term.spread
            slope = dual / (self.weight * prices[position])
            slopes[limit.name] = np.full(form.n_pairs, float(slope.max()))
            slopes[limit.name][self.kept] = slope
        return slopes


def support(form: StandardForm) -> tuple[AnyArray, AnyArray]:
    """Pairs and states of the program: all, or those of the prior of a KL term (a closed set)."""
    if form.term is None:
        return np.arange(form.n_pairs), np.arange(form.n_states)
    kept = np.flatnonzero(form.term.support)
    return kept, np.unique(form.states[kept])


def _key(kind: str, form: StandardForm, backend: Backend) -> bytes | None:
    """All that is fixed in a compiled program; None where a term may change unseen."""
    terms = [*(() if form.term is None else (form.term,)), *(limit.term for limit in form.concave)]
    identities = [term.identity() for term in terms]
    if any(identity is None for identity in identities):
        return None
    fixed = (form.start, form.transitions, form.discount, form.rest, form.limits.equal, form.term is None)
    return digest(kind, backend.name, *fixed, *(part for identity in identities for part in identity or ()))

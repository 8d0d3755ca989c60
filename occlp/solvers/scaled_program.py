"""The occupancy program as a backend sees it: scaled to size one, with concave constraints on copies of d.

Backends work with absolute tolerances near 1e-8, so the mass is the number of pairs and flow rows have size
one. A constraint f(d) ≥ b is put on a copy z of d: the dual of z = d, divided by the price, is a
supergradient of f that goes with the other duals, which the gradient at an inexact answer does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from occlp._typing import AnyArray, FloatArray
from occlp.convex import load_cvxpy
from occlp.solvers.base import SolverFailure
from occlp.standard import StandardForm, flow_matrix

#: Options that ask each backend for the accuracy it can reach.
BACKEND_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "CLARABEL": {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10},
        "HIGHS": {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        "SCS": {"eps_abs": 1e-7, "eps_rel": 1e-7, "max_iters": 20_000},
    }
)
#: Statuses of cvxpy under which an answer exists; whether it is any good is not theirs to say.
ANSWERED = ("optimal", "optimal_inaccurate", "user_limit")
#: An answer whose flow is off by more than this (of a total mass of one) is not an answer.
GROSS_RESIDUAL = 1e-3
#: Numbers of a backend beyond this are taken for garbage.
LARGEST_NUMBER = 1e150
#: Prices (of constraints of size one) below this are nothing but the backend's tolerance.
NO_PRICE = 1e-12


@dataclass(frozen=True)
class Backend:
    """A cvxpy backend and what it is told."""

    name: str
    options: Mapping[str, Any]

    def solve(self, program: Any) -> str:
        """Solve a cvxpy problem; returns the status, raises `SolverFailure` when the backend breaks down."""
        run_program(program, self.name, {**BACKEND_OPTIONS.get(self.name, {}), **self.options})
        return str(program.status)


def run_program(program: Any, backend: str, options: Mapping[str, Any]) -> None:
    """Let a backend solve a cvxpy problem; raises `SolverFailure` when it breaks down."""
    cvxpy = load_cvxpy()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "may be inaccurate": the certificate decides
            program.solve(solver=backend, **options)
    except (cvxpy.error.SolverError, ArithmeticError, ValueError, TypeError, RuntimeError) as error:
        raise SolverFailure(f"the backend {backend} failed: {error}") from error


@dataclass(frozen=True, eq=False)
class Answer:
    """What the backend returned, scaled back to the standard form; nothing here is trusted."""

    occupancy: FloatArray  # [pairs]
    values: FloatArray  # [S]
    prices: FloatArray  # [k], of all constraints
    slopes: Mapping[str, FloatArray]  # [pairs] each, of the concave constraints that have a price
    mass_multiplier: float
    status: str


class ScaledProgram:
    """Variable, flow rows and the values of the constraints, for one standard form."""

    def __init__(self, form: StandardForm) -> None:
        cvxpy = load_cvxpy()
        self.form = form
        self.kept, self.states = support(form)
        self.flow = flow_matrix(form)[self.states][:, self.kept].tocsr()
        self.mass = float(len(self.kept))
        sizes = abs(self.flow).max(axis=1).toarray().ravel()
        self.row_scale = 1.0 / np.where(sizes > 0, sizes, 1.0)  # a state that nothing leaves or enters, undiscounted
        self.variable = cvxpy.Variable(len(self.kept), name="scaled_occupancy")
        inflow = self.mass * self.row_scale * form.rest * form.initial[self.states]
        self.flow_rows = self.flow.multiply(self.row_scale[:, None]).tocsr() @ self.variable == inflow
        self.total = cvxpy.sum(self.variable) == self.mass
        self.copies = [cvxpy.Variable(len(self.kept)) for _ in form.concave]
        self.links = [copy == self.variable for copy in self.copies]

    @property
    def feasible(self) -> list[Any]:
        """What makes the variable an occupancy, and the copies copies of it."""
        return [self.flow_rows, self.total, self.variable >= 0, *self.links]

    @property
    def rows(self) -> list[Any]:
        """Values of the linear constraints, which must not be positive (or vanish)."""
        return [row[self.kept] @ self.variable for row in self.form.limits.rows]

    @property
    def margins(self) -> list[Any]:
        """Values of the concave constraints in sizes of their functions, which must not be negative."""
        return [
            (self.mass / limit.term.spread) * (limit.term.expression(copy / self.mass, self.kept) - limit.bound)
            for limit, copy in zip(self.form.concave, self.copies, strict=True)
        ]

    def read(self, backend: Backend, status: str, duals: Sequence[Any], weight: float) -> Answer:
        """Scale the backend's numbers back; `duals` are those of the constraints, in the form's order.

        Raises `SolverFailure` for numbers that are no answer.
        """
        form, name = self.form, backend.name
        found = [self.variable.value, self.flow_rows.dual_value, self.total.dual_value]
        found += [*duals, *(link.dual_value for link in self.links)]
        parts = [np.asarray(part, dtype=np.float64) for part in found]
        if any(not (np.abs(part) < LARGEST_NUMBER).all() for part in parts):
            raise SolverFailure(f"the backend {name} says {status!r} but returned no finite numbers.")
        solution = parts[0] / self.mass
        residual = float(np.abs(self.flow @ solution - form.rest * form.initial[self.states]).sum())
        worst = max(residual, abs(float(solution.sum()) - 1.0), -float(solution.min()))
        if worst > GROSS_RESIDUAL:
            raise SolverFailure(
                f"the backend {name} says {status!r}, but its occupancy breaks the constraints by {worst:.2g}."
            )
        occupancy, values = np.zeros(form.n_pairs), np.zeros(form.n_states)
        occupancy[self.kept] = solution
        values[self.states] = self.row_scale * parts[1] / weight
        prices = form.feasible_prices(np.array([part.item() for part in parts[3 : 3 + len(duals)]]) / weight)
        slopes = {}
        for k, (limit, dual) in enumerate(zip(form.concave, parts[3 + len(duals) :], strict=True)):
            position = len(form.limits.names) + k
            if prices[position] <= NO_PRICE:
                prices[position] = 0.0
                continue
            prices[position] /= limit.term.spread
            slope = dual / (weight * prices[position])
            slopes[limit.name] = np.full(form.n_pairs, float(slope.max()))
            slopes[limit.name][self.kept] = slope
        return Answer(occupancy, values, prices, slopes, float(parts[2]) / weight, status)


def support(form: StandardForm) -> tuple[AnyArray, AnyArray]:
    """Pairs and states of the program: all, or those of the prior of a KL term (a closed set)."""
    if form.term is None:
        return np.arange(form.n_pairs), np.arange(form.n_states)
    kept = np.flatnonzero(form.term.support)
    return kept, np.unique(form.states[kept])

"""The backends of cvxpy: what each can do, what it is told, and running one with a deadline.

Facts that differ from backend to backend stand here and nowhere else: options for accuracy, the option that limits
the time, and whether it gains from an earlier answer.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from occlp.convex import load_cvxpy
from occlp.errors import BackendMissing
from occlp.solvers.base import OutOfTime, SolverFailure

#: Backends for linear programs.
LINEAR_BACKENDS = ("CBC", "GLOP", "GLPK", "GLPK_MI", "HIGHS", "PDLP", "SCIPY")
#: Those for linear and quadratic programs: they know no logarithms either.
QUADRATIC_BACKENDS = ("DAQP", "OSQP", "PIQP", "PROXQP", "QPALM")
#: Options that ask each backend for the accuracy it can reach. HIGHS by itself drops coefficients below 1e-9, such as
#: 1 − γ may be.
BACKEND_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "CLARABEL": {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10},
        "HIGHS": {
            "primal_feasibility_tolerance": 1e-10,
            "dual_feasibility_tolerance": 1e-10,
            "small_matrix_value": 1e-12,
        },
        "OSQP": {"eps_abs": 1e-7, "eps_rel": 1e-7, "max_iter": 20_000},
        "SCS": {"eps_abs": 1e-7, "eps_rel": 1e-7, "max_iters": 20_000},
    }
)
#: The option of each backend that limits its seconds, and the option that holds it where it is nested.
TIME_OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "CLARABEL": ("time_limit",),
        "GLOP": ("time_limit_sec",),
        "HIGHS": ("time_limit",),
        "OSQP": ("time_limit",),
        "PDLP": ("time_limit_sec",),
        "SCIPY": ("scipy_options", "time_limit"),
        "SCS": ("time_limit_secs",),
    }
)
#: Backends that an earlier answer makes faster (docs/benchmarks.md); an interior point gains nothing from one.
WARM_BACKENDS = ("HIGHS", "OSQP", "SCS")
#: Statuses of cvxpy under which an answer exists; whether it is any good is not theirs to say.
ANSWERED = ("optimal", "optimal_inaccurate", "user_limit", "time_limit")
#: Statuses that say that the constraints cannot be kept; a program that has an optimum for sure knows no others.
INFEASIBLE = ("infeasible", "infeasible_inaccurate", "infeasible_or_unbounded")
#: The status of what a backend had when its time was up.
TIME_LIMIT = "time_limit"
#: What a backend returns after this share of its time was stopped by the clock (its own may run a little ahead).
SPENT = 0.95


@dataclass(frozen=True)
class Backend:
    """A cvxpy backend, what it is told, and until when it may run.

    Attributes
    ----------
    name : str
    options : mapping
        The user's, on top of `BACKEND_OPTIONS`.
    deadline : float, optional
        On the clock of `time.perf_counter`.
    warm : bool
        Whether it may go on from the last answer of the same program.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    deadline: float | None = None
    warm: bool = False

    def solve(self, program: Any) -> str:
        """Solve a cvxpy problem; returns the status, `TIME_LIMIT` where the clock ended the run.

        Raises `OutOfTime` when the deadline leaves nothing, and `SolverFailure` when the backend breaks down.
        """
        cvxpy, options = load_cvxpy(), self._told()
        began = time.perf_counter()
        status, trouble = TIME_LIMIT, None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "may be inaccurate": the certificate decides
                program.solve(solver=self.name, warm_start=self.warm and self.name in WARM_BACKENDS, **options)
            status = str(program.status)
        except (cvxpy.error.SolverError, ArithmeticError, ValueError, TypeError, RuntimeError) as error:
            trouble = error
        ended = self.deadline is not None and time.perf_counter() - began >= SPENT * (self.deadline - began)
        if trouble is not None:
            raise self.failure(TIME_LIMIT if ended else "", f"the backend {self.name} failed: {trouble}") from trouble
        return TIME_LIMIT if ended and status not in ("optimal", *INFEASIBLE) else status

    def failure(self, status: str, words: str) -> SolverFailure:
        """The exception for a run without an answer: `OutOfTime` where the clock ended it, else a failure."""
        if status == TIME_LIMIT:
            return OutOfTime(f"the time of the backend {self.name}")
        return SolverFailure(words)

    def stop_at(self, status: str) -> None:
        """Raise `OutOfTime` after an answer that the clock cut short."""
        if status == TIME_LIMIT:
            raise self.failure(status, "")

    def _told(self) -> dict[str, Any]:
        """All options, with what is left of the time."""
        options = {**BACKEND_OPTIONS.get(self.name, {}), **self.options}
        path = TIME_OPTIONS.get(self.name)
        if self.deadline is None or path is None:
            return options
        left = self.deadline - time.perf_counter()
        if left <= 0:
            raise self.failure(TIME_LIMIT, "")
        *outer, last = path
        inner = dict(options.get(outer[0], {})) if outer else options
        inner[last] = min(left, inner.get(last, left))
        return {**options, outer[0]: inner} if outer else inner


def installed_backend(name: str) -> str:
    """The name in capitals; raises `BackendMissing` for a backend that cvxpy does not find."""
    installed = load_cvxpy().installed_solvers()
    if name.upper() not in installed:
        raise BackendMissing(
            f"the cvxpy backend {name!r} is not installed. Installed are {', '.join(sorted(installed))}."
        )
    return name.upper()

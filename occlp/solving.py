"""`solve`: choose a method, run it under limits, judge it, and return one certified result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from occlp.certificate import Certificate, certify
from occlp.errors import InvalidProblem, NotCertified, OccupancyError, Unsupported
from occlp.evaluation import formulate, to_evaluation
from occlp.model import MDP
from occlp.problem import Problem, as_problem
from occlp.result import Result, Status, Timing
from occlp.solvers import default_solver, polisher
from occlp.solvers.base import Iterate, Solver, SolverFailure, Start
from occlp.tracking import Reference, Tracker

#: Answers further than this from the bound (relative to the spread of the rewards) are not polished:
#: a method that is so wrong has failed, and mending its answer would hide that.
POLISH_LIMIT = 0.05
#: Exact improvements after which polishing gives up.
MOST_IMPROVEMENTS = 1000


@dataclass(frozen=True)
class Limit:
    """When to stop a run early; the answer then has status LIMIT and an honest gap.

    Parameters
    ----------
    seconds : float, optional
        Wall-clock time, looked at between two iterations.
    iterations : int, optional
    samples : int, optional
        Transitions sampled.

    Raises
    ------
    InvalidProblem
        For a limit that is negative or not a number.
    """

    seconds: float | None = None
    iterations: int | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value >= 0:
                raise InvalidProblem(f"Limit({name}={value!r}) must be a number that is not negative.")

    def reached(self, seconds: float, iterations: int, samples: int) -> str | None:
        """Return words for the limit that is reached, or None."""
        if self.seconds is not None and seconds >= self.seconds:
            return f"the time limit of {self.seconds:g} s"
        if self.iterations is not None and iterations >= self.iterations:
            return f"the limit of {self.iterations} iterations"
        if self.samples is not None and samples >= self.samples:
            return f"the limit of {self.samples} samples"
        return None


def solve(
    problem: Problem | MDP,
    solver: Solver | None = None,
    *,
    tol: float = 1e-8,
    atol: float = 0.0,
    certify: str = "float",
    rng: int | np.random.Generator | None = None,
    limit: Limit | None = None,
    start: Start = None,
    check: bool = True,
    progress: Callable[[int, float], None] | None = None,
) -> Result:
    """Answer a question, with a certificate.

    Parameters
    ----------
    problem : Problem or MDP
        An MDP is the plain question about it.
    solver : Solver, optional
        Default: the fastest sound method for the problem; ``result.solver`` names it.
    tol : float
        Relative gap that counts as certified (docs/conventions.md, section 7).
    atol : float
        Absolute gap added to it, in the units of the objective.
    certify : {"float"}
        Arithmetic of the certificate: doubles with rounding bounded.
    rng : int or Generator, optional
        Seed of sampled methods.
    limit : Limit, optional
        When to stop early.
    start : Result or Policy, optional
        Resume from a policy.
    check : bool
        Whether to raise when the method failed or missed a tolerance it promises.
    progress : callable, optional
        Called as ``progress(iterations, gap)`` whenever the run is judged.

    Returns
    -------
    Result

    Raises
    ------
    InvalidProblem
        For a question or an option that makes no sense.
    Unsupported
        When the solver cannot answer this question.
    NotCertified
        When the method failed or missed its tolerance (with ``check=True``); carries ``.result``.

    Examples
    --------
    >>> import occlp as oc
    >>> result = oc.solve(oc.instances.get("howard-toymaker"))
    >>> result.status.name, result.policy.is_deterministic
    ('CERTIFIED', True)
    """
    problem = as_problem(problem)
    _check_options(tol, atol, certify)
    solver = default_solver(problem) if solver is None else solver
    if not isinstance(solver, Solver):
        raise InvalidProblem(f"{solver!r} is not a solver: it lacks iterate(), unsupported() or promises_tol.")
    reason = solver.unsupported(problem)
    if reason is not None:
        raise Unsupported(f"{type(solver).__name__} cannot answer this problem: {reason}.")
    reference = None if solver.promises_tol else find_reference(problem, tol)
    result = run(
        problem, solver, tol=tol, atol=atol, rng=np.random.default_rng(rng), limit=limit, start=start,
        reference=reference, progress=progress,
    )  # fmt: skip
    if check and (result.status is Status.FAILED or (result.status is Status.BOUNDED and solver.promises_tol)):
        raise NotCertified(f"{result.solver}: {result.message}", result)
    return result


def find_reference(problem: Problem, tol: float) -> Reference | None:
    """Solve the problem by the default method, so that other methods are judged against the true optimum."""
    return Reference.from_iterates(problem, default_solver(problem), tol)


def run(
    problem: Problem,
    solver: Solver,
    *,
    tol: float,
    atol: float = 0.0,
    rng: np.random.Generator,
    limit: Limit | None = None,
    start: Start = None,
    reference: Reference | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Result:
    """Run one solver to its end, to a limit or to the tolerance; never raises for a failed run."""
    limit = limit or Limit()
    began = time.perf_counter()
    tracker = Tracker(problem, tol, reference)
    iterations, samples, stopped, failure = 0, 0, None, None
    iterate: Iterate | None = None
    try:
        for iterate in solver.iterate(problem, tol=tol, rng=rng, start=start):
            iterations, samples = iterations + 1, iterate.samples
            seconds = time.perf_counter() - began
            stopped = limit.reached(seconds, iterations, samples)
            if tracker.due(iterations) or stopped is not None:
                gap = tracker.record(iterate, iterations, seconds)
                if progress is not None:
                    progress(iterations, gap)
                if tracker.reached(atol):
                    stopped = None
                    break
            if stopped is not None:
                break
    except KeyboardInterrupt:
        stopped = "the user (Ctrl-C)"
    except MemoryError:
        stopped = "a lack of memory"
    except SolverFailure as error:
        failure = str(error)
    except OccupancyError:
        raise
    except Exception as error:  # a third party's crash is a failed run with a name, not ours to pass on
        failure = f"the method raised {type(error).__name__}: {error}"
    elapsed = time.perf_counter() - began
    if iterate is not None and failure is None:
        tracker.record(iterate, iterations, elapsed)
    tracker.fall_back(start)
    polished = _polish(tracker, solver, limit, began, atol) if failure is None and stopped is None else 0
    certificate, evaluation = _judge(problem, tracker)
    status, message = _verdict(certificate, tol, atol, stopped, failure, polished)
    timing = Timing(time.perf_counter() - began, elapsed, time.perf_counter() - began - elapsed)
    return Result(
        **vars(evaluation),
        status=status,
        message=message,
        certificate=certificate,
        solver=describe(solver),
        history=tracker.history(),
        timing=timing,
        iterations=iterations,
        samples=samples,
    )


def describe(solver: Any) -> str:
    """The solver with the settings that differ from their defaults."""
    if not is_dataclass(solver):
        return type(solver).__name__
    changed = []
    for f in fields(solver):
        value = getattr(solver, f.name)
        default = f.default if f.default_factory is MISSING else f.default_factory()
        if f.repr and value != default:
            changed.append(f"{f.name}={value!r}")
    return f"{type(solver).__name__}({', '.join(changed)})"


def _check_options(tol: Any, atol: Any, certify: str) -> None:
    for name, value in (("tol", tol), ("atol", atol)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
            raise InvalidProblem(f"{name}={value!r} must be a finite number that is not negative.")
    if certify != "float":
        raise Unsupported(f"certify={certify!r} is not available in this version; 'float' is.")


def _polish(tracker: Tracker, solver: Solver, limit: Limit, began: float, atol: float) -> int:
    """Carry the answer of a method of limited accuracy to the last digit; returns the improvements made.

    An exact method starts from the answer, so it also settles the actions of states that are not visited.
    """
    exact = polisher(tracker.problem, solver)
    if exact is None or tracker.gap > POLISH_LIMIT * tracker.form.spread:
        return 0
    smooth = tracker.form.term is not None  # one policy is optimal then, and close is as good as there
    if smooth and tracker.reached(atol):
        return 0
    improvements = -1
    start = tracker.best_policy
    for iterate in exact.iterate(tracker.problem, tol=tracker.tol, rng=np.random.default_rng(0), start=start):
        tracker.record(iterate, None, 0.0, prefer=True)
        improvements += 1
        late = limit.seconds is not None and time.perf_counter() - began >= limit.seconds
        if late or improvements >= MOST_IMPROVEMENTS or (smooth and tracker.reached(atol)):
            break
    return max(improvements, 0)


def _judge(problem: Problem, tracker: Tracker) -> tuple[Certificate, Any]:
    form = formulate(problem)
    found, upper, kept = tracker.final()
    return certify(problem, form, found, upper, kept=kept), to_evaluation(problem, form, tracker.best_policy, found)


def _verdict(
    certificate: Certificate, tol: float, atol: float, stopped: str | None, failure: str | None, polished: int
) -> tuple[Status, str]:
    if failure is not None:
        return Status.FAILED, failure
    allowed = certificate.allowed_gap(tol, atol)
    mended = (
        f" The answer was polished by {polished} exact improvement{'' if polished == 1 else 's'}." if polished else ""
    )
    if certificate.gap <= allowed:
        return Status.CERTIFIED, Status.CERTIFIED.value + mended
    gap = f"the certified gap is {certificate.gap:.3g}, the tolerance {allowed:.3g}"
    if stopped is not None:
        return Status.LIMIT, f"Stopped by {stopped}; {gap}."
    return Status.BOUNDED, f"The method finished, but {gap}.{mended}"

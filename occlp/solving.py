"""`solve`: choose a method, run it under limits, judge it, and return one certified result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice

import numpy as np

from occlp.arguments import check_count, check_tolerance, check_word, read_generator
from occlp.blas import on_one_thread
from occlp.certificate import LEVELS
from occlp.errors import Infeasible, InvalidProblem, NotCertified, OccupancyError, Unbounded, Unsupported
from occlp.limit import Limit
from occlp.model import MDP
from occlp.model.exact import shown
from occlp.problem import Problem, as_problem
from occlp.result import Checkpoint, Result, Status, Timing
from occlp.solvers.base import (
    InfeasibleProof,
    InfeasibleTotal,
    InfiniteProof,
    Iterate,
    OutOfTime,
    Solver,
    SolverFailure,
    Start,
    describe,
    start_policy,
    within,
)
from occlp.solvers.choice import default_solver, polisher, refusal
from occlp.solvers.within_tolerance import iterate_within
from occlp.terms import Utility
from occlp.total.bound import TotalBound
from occlp.total_tracking import TotalTracker
from occlp.tracking import Reference, Tracker
from occlp.verdict import Outcome, begin, close_total, decide, disprove, judge, raised
from occlp.work import tallied, work_so_far

#: Answers further than this from the bound (relative to the spread of the rewards) are not polished:
#: a method that is so wrong has failed, and mending its answer would hide that.
POLISH_LIMIT = 0.05
#: Exact improvements after which polishing gives up.
MOST_IMPROVEMENTS = 1000
#: Iterates of the method that finds the optimum for others, before it is given up.
MOST_REFERENCE_ITERATIONS = 10_000


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
    snapshots: int = 0,
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
    certify : {"float", "interval", "exact"}
        Arithmetic of the certificate (docs/trust.md): doubles with rounding bounded; intervals that enclose
        both bounds for the model exactly as given; or the optimum as a fraction, with a proof, where it is
        one and the method promises the optimum. The last two need python-flint.
    rng : int or Generator, optional
        Seed of sampled methods. Default: the random numbers of ``start``, if it is a result that holds them, else new
        ones.
    limit : Limit, optional
        When to stop early.
    start : Result or Policy, optional
        Where to begin. The answer is never worse than a result given, and its bound is known from the beginning;
        policy gradients and saddle points go on exactly where it stopped, with all that they carry along, if the
        question and the settings (except ``steps``) are the same. Otherwise, and with other methods, a run begins at
        the policy.
    check : bool
        Whether to raise when the method failed or missed a tolerance it promises.
    progress : callable, optional
        Called as ``progress(iterations, gap)`` whenever the run is judged.
    snapshots : int
        Occupancies to keep in ``result.history.snapshots``, the first and the last iterate's among them; for
        `plot_over_time`.

    Returns
    -------
    Result

    Raises
    ------
    InvalidProblem
        For a question or an option that makes no sense.
    Unsupported
        When the solver cannot answer this question.
    Infeasible
        When it is proved that no policy keeps the constraints; names a minimal conflict.
    Unbounded
        When it is proved that a total has no finite optimum; carries ``.result``.
    NotCertified
        When the method failed or missed its tolerance (with ``check=True``); carries ``.result``.
    BackendMissing
        Without python-flint, where a level above "float" is asked for.

    Examples
    --------
    >>> import occlp as oc
    >>> result = oc.solve(oc.instances.get("howard-toymaker"))
    >>> result.status.name, result.policy.is_deterministic
    ('CERTIFIED', True)
    """
    problem = as_problem(problem)
    check_tolerance("tol", tol)
    check_tolerance("atol", atol)
    check_count("snapshots", snapshots, least=0)
    solver = default_solver(problem) if solver is None else solver
    if isinstance(solver, type) or not isinstance(solver, Solver):
        raise InvalidProblem(f"{solver!r} is not a solver: it lacks iterate(), unsupported() or promises_tol.")
    if limit is not None and not isinstance(limit, Limit):
        raise InvalidProblem(f"limit= takes oc.Limit(seconds=..., iterations=..., samples=...), not {shown(limit)}.")
    start_policy(problem, start)  # a start of another model is refused, whether it is used or not
    reason = refusal(problem, solver)
    if reason is not None:
        raise Unsupported(f"{type(solver).__name__} cannot answer this problem: {reason}.")
    check_word(certify, "certify", LEVELS)
    level = getattr(solver, "certifies", certify) if certify == "float" else certify
    if level != "float":
        from occlp.exact.levels import check_level

        check_level(problem)
    reference = None if solver.promises_tol else find_reference(problem, tol)
    result = run(
        problem, solver, tol=tol, atol=atol, rng=_generator(rng, start), limit=limit, start=start,
        reference=reference, progress=progress, level=level, snapshots=snapshots,
    )  # fmt: skip
    if check and result.status is Status.INFEASIBLE:
        raise Infeasible(result.message, result)
    if check and result.status is Status.UNBOUNDED:
        raise Unbounded(result.message, result)
    missed = result.status is Status.BOUNDED and _promised(problem, solver, result)
    if check and (result.status is Status.FAILED or missed):
        raise NotCertified(f"{result.solver}: {result.message}", result)
    return result


def _promised(problem: Problem, solver: Solver, result: Result) -> bool:
    """Whether a gap beyond the tolerance is an error: a user's function is bounded as near as it gets."""
    utilities = [problem.utility, *(limit.utility for limit in problem.concave_limits.values())]
    as_near_as_it_gets = any(isinstance(one, Utility) for one in utilities) and np.isfinite(result.gap)
    return solver.promises_tol and not as_near_as_it_gets


@on_one_thread
def find_reference(problem: Problem, tol: float) -> Reference | TotalBound | None:
    """Solve the problem by the default method, so that other methods are judged against the true optimum.

    It is run to its end and polished, as in a run of its own.
    """
    solver, tracker = default_solver(problem), begin(problem, tol, None, None, 0)
    job = _Job(solver, tracker, Limit(), 0.0, time.perf_counter(), np.random.default_rng(0), False, None)
    try:
        for n, iterate in enumerate(islice(job.iterates(solver, job.rng, None), MOST_REFERENCE_ITERATIONS), 1):
            tracker.record(iterate, n, 0.0)
    except SolverFailure:  # an infeasible problem has no optimum to compare with
        return None
    tracker.fall_back(None)
    job.polish(Outcome())
    return tracker.bound if isinstance(tracker, TotalTracker) else Reference.of(tracker)


@on_one_thread
@tallied()
def run(
    problem: Problem,
    solver: Solver,
    *,
    tol: float,
    atol: float = 0.0,
    rng: np.random.Generator,
    limit: Limit | None = None,
    start: Start = None,
    reference: Reference | TotalBound | None = None,
    progress: Callable[[int, float], None] | None = None,
    level: str = "float",
    snapshots: int = 0,
) -> Result:
    """Run one solver to its end, to a limit or to the tolerance; never raises for a failed run."""
    began = time.perf_counter()
    tracker = begin(problem, tol, reference, start, snapshots)
    job = _Job(solver, tracker, limit or Limit(), atol, began, rng, level == "exact", progress)
    outcome = job.drive(start)
    if outcome.iterations == 0 and isinstance(start, Result):
        outcome.checkpoint = start.checkpoint
    elapsed = time.perf_counter() - began
    if outcome.proof is not None:
        certificate, evaluation, message = disprove(problem, outcome.proof, lambda: job.late)
        status = Status.INFEASIBLE
    elif outcome.ended is not None:
        status, certificate, evaluation, message = close_total(problem, outcome.ended, tracker)
    else:
        tracker.fall_back(start)
        polished = job.polish(outcome) if outcome.failure is None and outcome.stopped is None else 0
        certificate, evaluation = judge(problem, tracker)
        words = ""
        if level != "float" and outcome.failure is None:
            # Exact proofs mend the policy; only a method that was to find the optimum, and nearly did, is mended.
            near = problem.criterion == "total" or tracker.is_near(POLISH_LIMIT)  # the optimum of a total is found anew
            whole = outcome.stopped is None and solver.promises_tol and near
            words = f" The level {level!r} was not reached."
            with _containing(outcome):
                reached = level if whole else "interval"
                certificate, evaluation, words = raised(problem, certificate, evaluation, reached)
        status, message = decide(certificate, tol, atol, outcome, polished)
        message += words
    if level != "float" and (outcome.proof is not None or outcome.ended is not None):
        certificate, evaluation, words = raised(problem, certificate, evaluation, level, disproof=True)
        message += words
    total = time.perf_counter() - began
    return Result(
        **vars(evaluation),
        status=status,
        message=message,
        certificate=certificate,
        solver=describe(solver),
        history=tracker.history(),
        timing=Timing(total, elapsed, total - elapsed),
        iterations=outcome.iterations,
        samples=outcome.samples,
        work=work_so_far(problem.mdp.transitions.nnz),
        checkpoint=outcome.checkpoint,
    )


@dataclass(frozen=True, eq=False)
class _Job:
    """One run: the loop over the iterates, and what is done to the answer afterwards."""

    solver: Solver
    tracker: Tracker | TotalTracker
    limit: Limit
    atol: float
    began: float
    rng: np.random.Generator
    exactly: bool
    progress: Callable[[int, float], None] | None

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self.began

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return self.limit.seconds is not None and self.seconds >= self.limit.seconds

    def drive(self, start: Start) -> Outcome:
        """Judge iterates until the method, a limit, the tolerance or the user ends the run."""
        outcome = Outcome()
        last: Iterate | None = None
        try:
            with _containing(outcome):
                left = None if self.limit.seconds is None else max(0.0, self.limit.seconds - self.seconds)
                for last in self.iterates(within(self.solver, left), self.rng, start):
                    outcome.iterations, outcome.samples = outcome.iterations + 1, last.samples
                    outcome.note = str(last.claims.get("note", ""))
                    if last.state is not None:
                        outcome.checkpoint = Checkpoint(last.state, self.rng.bit_generator.state)
                    if self._finished(last, outcome):
                        break
        except OutOfTime as end:
            outcome.stopped = self.limit.reached(self.limit.seconds or 0.0, 0, 0) or "the time of the method"
            outcome.note = f"It was {end}."
        except InfeasibleProof as proof:
            outcome.proof = proof
        except (InfiniteProof, InfeasibleTotal) as proof:
            outcome.ended, last = proof, None
        except SolverFailure as error:
            outcome.failure = str(error)
        except OccupancyError:
            raise
        except Exception as error:  # a third party's crash is a failed run with a name, not ours to pass on
            outcome.failure = f"the method raised {type(error).__name__}: {error}"
        if last is not None and outcome.failure is None and outcome.judged < outcome.iterations:
            with _containing(outcome):
                self.tracker.record(last, outcome.iterations, self.seconds)
        return outcome

    def iterates(self, solver: Solver, rng: np.random.Generator, start: Start) -> Iterator[Iterate]:
        """What a method yields on the question of the run, where limits count as kept within the tolerance."""
        tracker = self.tracker
        return iterate_within(tracker.problem, solver, tol=tracker.tol, rng=rng, start=start, exactly=self.exactly)

    def _finished(self, iterate: Iterate, outcome: Outcome) -> bool:
        outcome.stopped = self.limit.reached(self.seconds, outcome.iterations, outcome.samples)
        if self.tracker.due(outcome.iterations) or outcome.stopped is not None:
            gap = self.tracker.record(iterate, outcome.iterations, self.seconds)
            outcome.judged = outcome.iterations
            if self.progress is not None:
                self.progress(outcome.iterations, gap)
            # With gains the method goes on to its end, for the states that the initial distribution leaves out.
            if iterate.gains is None and self.tracker.reached(self.atol):
                outcome.stopped = None
                return True
        return outcome.stopped is not None

    def polish(self, outcome: Outcome) -> int:
        """Carry the answer of a method of limited accuracy to the last digit; returns the improvements made.

        An exact method starts from the answer, so it also settles the actions of states that are not visited.
        """
        tracker = self.tracker
        prices = tracker.multipliers if isinstance(tracker, Tracker) else {}
        exact = polisher(tracker.problem, self.solver, prices)
        if exact is None or not tracker.is_near(POLISH_LIMIT):
            return 0
        # With anything that is curved one policy is optimal, and close is as good as there.
        smooth = tracker.form.term is not None or bool(tracker.form.concave)
        if smooth and tracker.reached(self.atol):
            return 0
        improvements = -1
        start = tracker.best_policy
        with _containing(outcome), suppress(SolverFailure):  # what cannot be polished stands as it is
            for iterate in self.iterates(exact, np.random.default_rng(0), start):
                tracker.record(iterate, None, 0.0, prefer=True)
                improvements += 1
                if self.late or improvements >= MOST_IMPROVEMENTS or (smooth and tracker.reached(self.atol)):
                    break
        return max(improvements, 0)


@contextmanager
def _containing(outcome: Outcome) -> Iterator[None]:
    """Let the user's Ctrl-C and a lack of memory end a part of a run, and not the run: its best result stands."""
    try:
        yield
    except KeyboardInterrupt:
        outcome.stopped = "the user (Ctrl-C)"
    except MemoryError:
        outcome.stopped = "a lack of memory"


def _generator(rng: int | np.random.Generator | None, start: Start) -> np.random.Generator:
    """Random numbers as asked for; where nothing is asked, those of the run that is resumed."""
    if rng is None and isinstance(start, Result) and start.checkpoint is not None:
        return start.checkpoint.generator()
    return read_generator(rng)

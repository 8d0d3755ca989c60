"""The battery: what `oc.solve`, `oc.compare` and users rely on, asked of a solver on questions with known answers."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import FrozenInstanceError, dataclass, fields, is_dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import Any, Literal

import numpy as np

from occlp.checking.questions import Question, questions
from occlp.errors import BrokenSolver, Infeasible, OccupancyError, Unsupported
from occlp.limit import Limit
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.result import Result, Status
from occlp.solvers.base import Iterate, Solver
from occlp.solving import solve
from occlp.verify import verify

#: A solver that promises the tolerance gets this much for each question; others show some steps.
LIMIT, STEPS = Limit(seconds=20.0, iterations=2000), Limit(seconds=2.0, iterations=40)
#: Iterates that are looked at one by one.
LOOKED_AT = 5
#: Known answers that are rounded may be off by this.
ROUNDED = 1e-12


@dataclass(frozen=True)
class SolverCheck:
    """One check of a solver on one question.

    Attributes
    ----------
    question : str
        Empty for the checks of the solver itself.
    check : str
        What is asked.
    outcome : {"passed", "failed", "not answered"}
        "not answered" where the solver says that it cannot answer the question.
    message : str
        What is wrong, or the solver's own reason.
    """

    question: str
    check: str
    outcome: Literal["passed", "failed", "not answered"]
    message: str = ""


class _Fault(Exception):
    """A check that failed, in words."""


def check_solver(solver: Solver, *, check: bool = True) -> tuple[SolverCheck, ...]:
    """Put a solver through a battery of questions with known answers.

    The solver must be a frozen dataclass that can be pickled; say honestly what it cannot answer; yield
    iterates of the right kind that follow from ``rng`` alone and can be stopped after any step; leave the
    problem and numpy's global random state alone; resume from a result or a policy; end at an answer whose
    certificate encloses the truth and passes `oc.verify`, CERTIFIED where it promises the tolerance; and
    never answer a question that has no answer.

    Parameters
    ----------
    solver : Solver
    check : bool
        Whether to raise when a check fails.

    Returns
    -------
    tuple of SolverCheck
        Every check with its outcome.

    Raises
    ------
    BrokenSolver
        Naming each check that failed (with ``check=True``); carries ``.checks``.

    Examples
    --------
    >>> import occlp as oc
    >>> checks = oc.check_solver(oc.ModifiedPolicyIteration())
    >>> {check.outcome for check in checks} <= {"passed", "not answered"}
    True
    """
    found = [_run("", name, partial(part, solver)) for name, part in ITSELF.items()]
    for question in questions():
        found += _ask(solver, question)
    failed = [f"{one.check} ({one.question or 'itself'}): {one.message}" for one in found if one.outcome == "failed"]
    if failed and check:
        raise BrokenSolver(
            f"{type(solver).__name__} fails {len(failed)} of {len(found)} checks: " + "; ".join(failed), tuple(found)
        )
    return tuple(found)


def _run(question: str, name: str, part: Callable[[], None]) -> SolverCheck:
    try:
        part()
    except _Fault as fault:
        return SolverCheck(question, name, "failed", str(fault))
    except Exception as error:  # whatever a solver raises is a failed check with a name
        return SolverCheck(question, name, "failed", f"{type(error).__name__}: {error}")
    return SolverCheck(question, name, "passed")


def _ask(solver: Solver, question: Question) -> list[SolverCheck]:
    """All checks on one question; one line where the solver cannot answer it."""
    problem = question.build()
    honest = _run(question.name, "says what it cannot answer", partial(_is_honest, solver, problem))
    if honest.outcome == "failed":
        return [honest]
    reason = solver.unsupported(problem)
    if reason is not None:
        return [SolverCheck(question.name, honest.check, "not answered", reason)]
    return [
        honest, *(_run(question.name, name, partial(part, solver, question)) for name, part in ASKED.items()),
    ]  # fmt: skip


# The solver itself ---------------------------------------------------------------------------------------------


def _is_frozen(solver: Any) -> None:
    if not is_dataclass(solver) or isinstance(solver, type):
        raise _Fault("it is not an instance of a dataclass")
    for name in [field.name for field in fields(solver)][:1] or ["anything"]:
        try:
            setattr(solver, name, None)
        except (FrozenInstanceError, AttributeError, TypeError):
            continue
        raise _Fault(f"its setting {name!r} can be changed: use @dataclass(frozen=True)")


def _has_members(solver: Any) -> None:
    if not isinstance(solver, Solver):
        raise _Fault("it lacks iterate(), unsupported() or promises_tol")
    if not isinstance(solver.promises_tol, bool):
        raise _Fault(f"promises_tol is {solver.promises_tol!r}, not True or False")


def _is_a_value(solver: Any) -> None:
    again = pickle.loads(pickle.dumps(solver))
    if again != solver or deepcopy(solver) != solver:
        raise _Fault("a copy made by pickle is not equal to it")


# On a question -------------------------------------------------------------------------------------------------


def _is_honest(solver: Solver, problem: Problem) -> None:
    reason = solver.unsupported(problem)
    if reason is None:
        return
    if not isinstance(reason, str) or not reason:
        raise _Fault(f"unsupported() returned {reason!r}; return words, or None")
    try:
        solve(problem, solver, limit=STEPS, check=False)
    except Unsupported:
        return
    raise _Fault("it says that it cannot answer, and is asked all the same")


def _iterates(solver: Solver, problem: Problem, seed: int = 0) -> list[Iterate]:
    """The first iterates, up to the solver's own end (a proof that there is no answer ends it as well)."""
    found: list[Iterate] = []
    generator = solver.iterate(problem, tol=1e-8, rng=np.random.default_rng(seed))
    if not isinstance(generator, Iterator):
        raise _Fault("iterate() does not return an iterator")
    try:
        found.extend(islice(generator, LOOKED_AT))
    except Exception as error:
        if not _ends_without_answer(error):
            raise
    close = getattr(generator, "close", None)
    if close is not None:
        close()
    return found


def _ends_without_answer(error: Exception) -> bool:
    return isinstance(error, OccupancyError) or type(error).__module__ == "occlp.solvers.base"


def _yields_iterates(solver: Solver, question: Question) -> None:
    problem = question.build()
    found = _iterates(solver, problem)
    if not found and question.optimum is not None:
        raise _Fault("it yields nothing")
    samples = 0
    for iterate in found:
        if not isinstance(iterate, Iterate) or not isinstance(iterate.policy, Policy):
            raise _Fault(f"it yields {type(iterate).__name__}, not an Iterate with a Policy")
        if not iterate.policy.pairs.same_as(problem.mdp.pairs):
            raise _Fault("a policy belongs to another model")
        Policy.from_pairs(problem.mdp.pairs, iterate.policy.pair_probabilities)
        for values in (iterate.values, iterate.values_low):
            if values is not None and np.shape(values) != (problem.mdp.n_states,):
                raise _Fault(f"values have the shape {np.shape(values)}, not [{problem.mdp.n_states}]")
        if set(iterate.multipliers) - set(problem.limits):
            raise _Fault(f"multipliers name {sorted(set(iterate.multipliers) - set(problem.limits))}")
        if iterate.samples < samples:
            raise _Fault("the number of samples goes down")
        samples = iterate.samples


def _leaves_things_alone(solver: Solver, question: Question) -> None:
    problem = question.build()
    before, state = pickle.dumps(problem.mdp), _global_state()
    _iterates(solver, problem)
    if pickle.dumps(problem.mdp) != before:
        raise _Fault("it changes the model that it is given")
    if _global_state() != state:
        raise _Fault("it draws from numpy's global random state; use the rng that it is given")


def _global_state() -> bytes:
    return pickle.dumps(np.random.get_state())  # noqa: NPY002 (that is the point)


def _is_deterministic(solver: Solver, question: Question) -> None:
    first, second = (_iterates(solver, question.build()) for _ in range(2))
    same = len(first) == len(second) and all(
        np.array_equal(a.policy.pair_probabilities, b.policy.pair_probabilities)
        and np.array_equal(np.asarray(a.values), np.asarray(b.values), equal_nan=a.values is not None)
        for a, b in zip(first, second, strict=True)
    )
    if not same:
        raise _Fault("the same rng gives other iterates")


def _answers(solver: Solver, question: Question) -> None:
    problem = question.build()
    if question.optimum is None:
        _finds_no_answer(solver, problem)
        return
    result = solve(problem, solver, rng=0, limit=LIMIT if solver.promises_tol else STEPS, check=False)
    _is_true(problem, result, question.optimum)
    if result.status is Status.FAILED:
        raise _Fault(f"it failed: {result.message}")
    if solver.promises_tol and result.status is not Status.CERTIFIED:
        raise _Fault(f"it promises the tolerance, and ends as {result.status.name}: {result.message}")


def _finds_no_answer(solver: Solver, problem: Problem) -> None:
    try:
        result = solve(problem, solver, rng=0, limit=LIMIT if solver.promises_tol else STEPS)
    except Infeasible as error:
        verify(problem, error.result)
        return
    except OccupancyError:
        return
    if solver.promises_tol or np.isfinite(result.gap):
        raise _Fault(f"no policy keeps the limit, and the run ends as {result.status.name}, gap {result.gap:.3g}")
    verify(problem, result)  # a method that only approaches may end without a proof, as long as it claims nothing


def _stops(solver: Solver, question: Question) -> None:
    if question.optimum is not None:
        problem = question.build()
        result = solve(problem, solver, rng=0, limit=Limit(iterations=1), check=False)
        _is_true(problem, result, question.optimum)


def _resumes(solver: Solver, question: Question) -> None:
    if question.optimum is None:
        return
    problem = question.build()
    first = solve(problem, solver, rng=0, limit=Limit(iterations=1), check=False)
    for start in (first, first.policy):
        result = solve(problem, solver, rng=0, limit=Limit(seconds=2.0, iterations=3), start=start, check=False)
        _is_true(problem, result, question.optimum)
        if result.status is Status.FAILED:
            raise _Fault(f"it fails when it resumes: {result.message}")


def _is_true(problem: Problem, result: Result, optimum: Fraction | float) -> None:
    """The enclosure holds, and so does everything else that the audit looks at."""
    lower, upper = result.certificate.lower, result.certificate.upper
    doubt = 0.0 if isinstance(optimum, Fraction) else ROUNDED
    if not (lower == -np.inf or Fraction(lower) <= optimum + doubt):
        raise _Fault(f"the optimum is {float(optimum)}, and the certificate says at least {lower}")
    if not (upper == np.inf or Fraction(upper) >= optimum - doubt):
        raise _Fault(f"the optimum is {float(optimum)}, and the certificate says at most {upper}")
    verify(problem, result)


ITSELF = {"is frozen": _is_frozen, "has the three members": _has_members, "is a value": _is_a_value}
ASKED = {
    "yields iterates": _yields_iterates,
    "leaves everything else alone": _leaves_things_alone,
    "follows from its rng": _is_deterministic,
    "ends at the truth": _answers,
    "can be stopped": _stops,
    "can resume": _resumes,
}

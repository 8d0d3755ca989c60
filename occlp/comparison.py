"""`compare`: several methods on one question, judged alike, in one process or on many machines."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from occlp.arguments import check_count
from occlp.errors import InvalidProblem, OccupancyError
from occlp.limit import Limit
from occlp.model import MDP
from occlp.problem import Problem, as_problem
from occlp.result import Result
from occlp.solvers.base import Solver, describe
from occlp.solvers.choice import refusal
from occlp.solvers.dynamic_programming import PolicyIteration
from occlp.solvers.policy_gradient import NaturalPolicyGradient, PolicyGradient, Reinforce
from occlp.solving import find_reference, run
from occlp.total.bound import TotalBound
from occlp.tracking import Reference

if TYPE_CHECKING:
    from occlp.report.grids import Cells


@dataclass(frozen=True, eq=False)
class Row:
    """One run: its result, or why there is none."""

    name: str
    solver: str
    seed: int
    result: Result | None
    error: str | None = None

    def record(self) -> dict[str, Any]:
        """The row as plain numbers and strings."""
        if self.result is None:
            nan = float("nan")
            figures: dict[str, Any] = dict.fromkeys(
                ("objective", "expected_return", "lower", "upper", "gap", "violation", "seconds"), nan
            )
            return {
                "name": self.name, "solver": self.solver, "seed": self.seed, "status": "FAILED",
                **figures, "iterations": 0, "samples": 0, "backups": nan, "factorizations": 0, "message": self.error,
            }  # fmt: skip
        return {"name": self.name, "seed": self.seed, **self.result.summary()}


@dataclass(frozen=True, eq=False)
class Comparison:
    """The rows of a comparison, with tables, a picture and a report made from them.

    Attributes
    ----------
    rows : tuple of Row
        In the order of the solvers, then of the seeds.
    title : str
        Words for the question.
    facts : mapping of str to number or str
        Sizes of the model, and the question in figures.
    """

    rows: tuple[Row, ...]
    title: str
    facts: Mapping[str, Any]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> Result:
        """The result of the first run of a solver, by its name in the comparison."""
        for row in self.rows:
            if row.name == name and row.result is not None:
                return row.result
        raise KeyError(f"{name!r}; the rows are {', '.join(dict.fromkeys(row.name for row in self.rows))}")

    @property
    def results(self) -> list[Result]:
        """Results of the runs that have one."""
        return [row.result for row in self.rows if row.result is not None]

    def to_records(self) -> list[dict[str, Any]]:
        """One dict a row: solver, status, objective, expected_return, gap, iterations, seconds and more."""
        return [row.record() for row in self.rows]

    def to_frame(self) -> Any:
        """A pandas DataFrame of the rows (extra ``occlp[pandas]``); a list of dicts where pandas is missing."""
        from occlp.report.frames import to_frame

        return to_frame(self.to_records())

    def __str__(self) -> str:
        from occlp.report.tables import comparison_text

        return comparison_text(self)

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw the gap of each run against iterations and seconds; returns the matplotlib figure."""
        from occlp.report.figures import plot_convergence

        return plot_convergence(self, path)

    def plot_seeds(self, path: str | Path | None = None, *, against: str = "samples") -> Any:
        """Draw median and band of the seeds' best gaps against samples, iterations or seconds; returns the figure."""
        from occlp.report.seeds import plot_seeds

        return plot_seeds(self, path, against=against)

    def plot_over_time(self, path: str | Path | None = None, *, cells: Cells = None) -> Any:
        """Draw how the occupancy of each method moves over a grid; see `occlp.plot_over_time`."""
        from occlp.report.grids import plot_over_time

        return plot_over_time(self, path, cells=cells)

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML file and return its path."""
        from occlp.report.page import write_report

        return write_report(self, path)


def compare(
    problem: Problem | MDP,
    solvers: Sequence[Solver] | Mapping[str, Solver],
    *,
    seeds: int = 1,
    rng: int | np.random.Generator = 0,
    tol: float = 1e-8,
    limit: Limit | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
    snapshots: int = 0,
) -> Comparison:
    """Run several methods on one question and lay the certified results side by side.

    Parameters
    ----------
    problem : Problem or MDP
    solvers : sequence or mapping of name to solver
    seeds : int
        Runs of each sampled method; exact methods run once.
    rng : int or Generator
        Root of one random stream for each (solver, seed).
    tol : float
        As in `solve`.
    limit : Limit, optional
        For each run.
    executor : concurrent.futures.Executor, optional
        Where the runs go; answers (not timings) are the same on each.
    progress : callable, optional
        Called as ``progress(done, total)`` after each run.
    snapshots : int
        Occupancies to keep along each run, as in `solve`; for `Comparison.plot_over_time` and the report.

    Returns
    -------
    Comparison
        A failed run is a row with its reason; nothing is raised for it.

    Raises
    ------
    InvalidProblem
        For an empty list of solvers, or what cannot be pickled for an executor.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("howard-toymaker")
    >>> table = oc.compare(mdp, [oc.PolicyIteration(), oc.NaturalPolicyGradient()])
    >>> [row["status"] for row in table.to_records()]
    ['CERTIFIED', 'CERTIFIED']
    """
    problem = as_problem(problem)
    named = _named(solvers)
    if seeds < 1:
        raise InvalidProblem(f"seeds={seeds!r} must be at least 1.")
    check_count("snapshots", snapshots, least=0)
    _warm_up()
    reference = find_reference(problem, tol)
    root = _seed_sequence(rng)
    jobs = [
        _Job(problem, name, solver, seed, (position, seed), root, tol, limit, reference, snapshots)
        for position, (name, solver) in enumerate(named.items())
        for seed in range(seeds if is_sampled(solver) else 1)
    ]
    rows = []
    for done, row in enumerate(_fan_out(jobs, executor), 1):
        rows.append(row)
        if progress is not None:
            progress(done, len(jobs))
    mdp = problem.mdp
    facts: dict[str, Any] = {
        "states": mdp.n_states, "actions": mdp.n_actions, "pairs": mdp.n_pairs,
        "transitions": int(mdp.transitions.nnz), "discount": problem.discount, "sense": problem.sense,
        "criterion": problem.criterion, "tolerance": tol,
    }  # fmt: skip
    everything = problem.all_limits
    facts |= {f"constraint {name}": str(limit) for name, limit in everything.items()}
    setting = problem.regularizer or problem.utility
    if setting is not None:
        facts["utility" if problem.utility is not None else "regularizer"] = type(setting).__name__
        facts |= {"strength": setting.strength} if hasattr(setting, "strength") else {}
    what = "cost" if problem.sense == "minimize" else "reward" if problem.utility is None else "utility"
    title = f"{problem.sense} the {problem.criterion} {what} of {mdp.n_states} states"
    return Comparison(tuple(rows), title, facts)


@dataclass(frozen=True, eq=False)
class _Job:
    """Everything that one run needs; picklable."""

    problem: Problem
    name: str
    solver: Solver
    seed: int
    key: tuple[int, int]
    root: np.random.SeedSequence
    tol: float
    limit: Limit | None
    reference: Reference | TotalBound | None
    snapshots: int


def _run_job(job: _Job) -> Row:
    _warm_up()
    if is_sampled(job.solver):
        _warm_up(sampled=True)
    name = describe(job.solver)
    stream = np.random.SeedSequence(job.root.entropy, spawn_key=(*job.root.spawn_key, *job.key))
    try:
        reason = refusal(job.problem, job.solver)
        if reason is not None:
            return Row(job.name, name, job.seed, None, f"{type(job.solver).__name__} cannot answer this: {reason}.")
        result = run(
            job.problem, job.solver, tol=job.tol, rng=np.random.default_rng(stream), limit=job.limit,
            reference=job.reference, snapshots=job.snapshots,
        )  # fmt: skip
    except OccupancyError as error:
        return Row(job.name, name, job.seed, None, str(error))
    return Row(job.name, name, job.seed, result)


def _fan_out(jobs: list[_Job], executor: Executor | None) -> Iterator[Row]:
    if executor is None:
        yield from map(_run_job, jobs)
        return
    if not isinstance(executor, ThreadPoolExecutor):
        for job in jobs:
            _check_picklable(job)
    futures: list[Future[Row]] = [executor.submit(_run_job, job) for job in jobs]
    for future in futures:
        yield future.result()


def _check_picklable(job: _Job) -> None:
    try:
        pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InvalidProblem(
            f"{job.name} cannot be sent to another process: {error}. Define functions at the top level of a module."
        ) from None


def _named(solvers: Sequence[Solver] | Mapping[str, Solver]) -> dict[str, Solver]:
    if isinstance(solvers, Mapping):
        named = dict(solvers)
    else:
        named = {}
        for solver in solvers:
            name, count = describe(solver), 2
            while name in named:
                name, count = f"{describe(solver)} ({count})", count + 1
            named[name] = solver
    if not named:
        raise InvalidProblem("compare needs at least one solver.")
    for name, solver in named.items():
        if not isinstance(solver, Solver):
            raise InvalidProblem(f"{name!r} is not a solver: it lacks iterate(), unsupported() or promises_tol.")
    return named


def is_sampled(solver: Solver) -> bool:
    """Whether runs of a solver depend on the seed; solvers say so with an attribute of this name."""
    return bool(getattr(solver, "is_sampled", False))


def _seed_sequence(rng: int | np.random.Generator) -> np.random.SeedSequence:
    if isinstance(rng, np.random.Generator):
        return np.random.SeedSequence(int(rng.integers(2**63)))
    return np.random.SeedSequence(rng)


@cache
def _warm_up(*, sampled: bool = False) -> None:
    """Load the compiled kernels once a process, so that no row pays for it in its seconds."""
    tiny = Problem(
        MDP.from_arrays([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [1.0, 0.0]]], [[1, 0], [0, 2]], discount=0.5)
    )
    exact = (PolicyIteration(), PolicyGradient(steps=2), NaturalPolicyGradient(steps=2))
    for solver in (Reinforce(steps=1), Reinforce(returns="total", steps=1)) if sampled else exact:
        run(tiny, solver, tol=1e-8, rng=np.random.default_rng(0))

"""What a solver is: frozen settings and one generator. `occlp.solve` owns everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from occlp._typing import FloatArray
from occlp.bounds.upper import UpperBound
from occlp.policy import Policy, read_policy
from occlp.problem import Problem
from occlp.result import Result
from occlp.total.bound import TotalBound

Start: TypeAlias = "Result | Policy | None"

#: What methods for linear constraints say of the others.
LINEAR_ONLY = "it keeps linear constraints only; OccupancyProgram keeps concave ones"


class SolverFailure(Exception):
    """Raised inside `Solver.iterate` when a method cannot go on; `occlp.solve` turns it into FAILED."""


class OutOfTime(SolverFailure):
    """Raised inside `Solver.iterate` when the time that it was given is up; the best answer so far stands."""


class InfeasibleProof(SolverFailure):
    """Raised inside `Solver.iterate` with prices that prove that no policy keeps the constraints.

    Attributes
    ----------
    bound : UpperBound
        Of minus the priced violation over all policies; negative, which is the proof. Its prices weigh
        the rows of the standard form.
    policy : Policy
        The policy that breaks the constraints least.
    """

    def __init__(self, bound: UpperBound, policy: Policy) -> None:
        super().__init__("no policy keeps the constraints")
        self.bound, self.policy = bound, policy


class InfeasibleTotal(SolverFailure):
    """As `InfeasibleProof`, for totals: `bound` is a bound without rewards, negative; `conflict` names constraints."""

    def __init__(self, bound: TotalBound, policy: Policy, conflict: tuple[str, ...]) -> None:
        super().__init__("no policy keeps the constraints")
        self.bound, self.policy, self.conflict = bound, policy, conflict


class InfiniteProof(SolverFailure):
    """Raised inside `Solver.iterate` where a total has no finite optimum.

    Attributes
    ----------
    policy : Policy
        With ``unending``, a policy that earns for ever in a class that it reaches: the total has no bound.
        Otherwise no policy ends well, and this is one of them.
    unending : bool
    """

    def __init__(self, policy: Policy, *, unending: bool) -> None:
        super().__init__("the total has no finite optimum")
        self.policy, self.unending = policy, unending


@dataclass(frozen=True, eq=False)
class Iterate:
    """What a solver shows after a step; only claims, nothing of it is believed.

    Attributes
    ----------
    policy : Policy
        The policy reached.
    values, values_low : FloatArray [S] or None
        Any V = values + values_low in the user's units and sense that may prove a bound; constants
        are free (V + c proves the same).
    gains : FloatArray [S] or None
        Average criterion with several classes: long-run averages that may prove a bound, for the rewards less
        any constant.
    multipliers : mapping of str to float
        Prices of the constraints.
    slopes : mapping of str to FloatArray [pairs]
        Supergradients of the utilities of concave constraints, near the optimum.
    samples : int
        Transitions sampled so far.
    state_occupancy : FloatArray [S] or None
        The occupancy of the policy's states, where it is known: checking it is cheaper than finding it.
    measures : callable, optional
        Returns figures of the method's own for the history, by name; called only when the iterate is judged.
    claims : mapping
        What the method says of itself (a backend's status, say); kept for messages only.
    state : object, optional
        What the method carries along to its next step; a result keeps it, and ``start=result`` brings it back.
    """

    policy: Policy
    values: FloatArray | None = None  # [S]
    values_low: FloatArray | None = None  # [S]
    multipliers: Mapping[str, float] = field(default_factory=dict)
    slopes: Mapping[str, FloatArray] = field(default_factory=dict)
    samples: int = 0
    claims: Mapping[str, Any] = field(default_factory=dict)
    gains: FloatArray | None = None  # [S]
    measures: Callable[[], Mapping[str, float]] | None = None
    state: Any = None
    state_occupancy: FloatArray | None = None  # [S]


@runtime_checkable
class Solver(Protocol):
    """A method: a frozen dataclass of its settings.

    ``promises_tol`` says whether the method finishes only when the tolerance is reached, so that a
    missed tolerance is an error and not an answer.
    """

    @property
    def promises_tol(self) -> bool:
        """Whether a missed tolerance is an error."""

    def unsupported(self, problem: Problem) -> str | None:
        """Return why this solver cannot answer the problem, or None."""

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the state of the method after each step; may end by itself or go on for ever."""


def within(solver: Solver, seconds: float | None) -> Solver:
    """The solver, its own setting `seconds` (where it has one) reduced to the time that a limit leaves."""
    settings: Any = solver
    if seconds is None or not hasattr(settings, "seconds"):
        return solver
    own = settings.seconds
    told: Solver = replace(settings, seconds=seconds if own is None else min(own, seconds))
    return told


def start_policy(problem: Problem, start: Start) -> Policy | None:
    """Return the policy that a run resumes from, or None.

    Raises `InvalidProblem` when it belongs to another model.
    """
    return None if start is None else read_policy(start, problem.mdp.pairs, "start=")


def describe(settings: Any) -> str:
    """The name of a solver, or of a part of one, with the settings that differ from their defaults."""
    if not is_dataclass(settings):
        return type(settings).__name__
    changed = []
    for f in fields(settings):
        value = getattr(settings, f.name)
        default = f.default if f.default_factory is MISSING else f.default_factory()
        if f.repr and (isinstance(value, np.ndarray) or value != default):
            changed.append(f"{f.name}={value!r}")
    return f"{type(settings).__name__}({', '.join(changed)})"

"""The answer of every method: an evaluation, its certificate, and how it was found."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.certificate import Certificate
from occlp.evaluation import Evaluation
from occlp.plain import visible
from occlp.work import Work

#: Histories are thinned to this many rows.
HISTORY_ROWS = 1000


class Status(enum.Enum):
    """How a solve ended; the value is the sentence that says so."""

    CERTIFIED = "The policy is proved optimal within the tolerance."
    BOUNDED = "The method finished by its own rule; the gap proved is larger than the tolerance."
    LIMIT = "The run was stopped by a limit or by the user; the best policy so far is returned with its gap."
    INFEASIBLE = "It is proved that no policy meets the constraints."
    UNBOUNDED = "It is proved that the objective has no finite optimum."
    FAILED = "The method failed; the message says why."

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of the parts of a solve."""

    total: float = 0.0
    solver: float = 0.0
    certificate: float = 0.0


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The occupancy of one iterate.

    Attributes
    ----------
    iteration : int
    gap : float
    pair_occupancy : FloatArray [pairs]
    """

    iteration: int
    gap: float
    pair_occupancy: FloatArray  # [pairs]


class History(Mapping[str, FloatArray]):
    """What happened along a run: named columns of equal length, at most 1,000 rows.

    Columns: ``iteration``, ``objective`` (normalised), ``expected_return``, ``gap`` to the best upper
    bound known, ``suboptimal_mass`` Σ d^π·1[A* < −tol], ``total_variation`` ½‖d* − d^π‖₁ and ``kl``
    KL(d* ‖ d^π) where d* is unique (NaN elsewhere), ``samples`` and ``seconds``. Policy gradients add figures of
    their own (docs/conventions.md, section 8).

    Attributes
    ----------
    snapshots : tuple of Snapshot
        Occupancies along the run, where `solve` was asked to keep some.
    """

    common = (
        "iteration", "objective", "expected_return", "gap", "suboptimal_mass", "total_variation", "kl",
        "samples", "seconds",
    )  # fmt: skip

    def __init__(
        self,
        rows: list[tuple[float, ...]] | None = None,
        extras: list[Mapping[str, float]] | None = None,
        snapshots: tuple[Snapshot, ...] = (),
    ) -> None:
        self.snapshots = snapshots
        extras = [{}] * len(rows or []) if extras is None else extras
        added = tuple(dict.fromkeys(name for extra in extras for name in extra))
        self.names = (*self.common, *added)
        self._rows = [
            (*row, *(extra.get(name, np.nan) for name in added)) for row, extra in zip(rows or [], extras, strict=True)
        ]

    def __getitem__(self, name: str) -> FloatArray:
        """One column, [rows]."""
        if name not in self.names:
            raise KeyError(f"{name!r}; the columns are {', '.join(self.names)}")
        column = self.names.index(name)
        return np.array([row[column] for row in self._rows], dtype=np.float64)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def n_rows(self) -> int:
        """Number of rows kept."""
        return len(self._rows)

    def rows(self) -> list[dict[str, float]]:
        """One dict for each row."""
        return [dict(zip(self.names, row, strict=True)) for row in self._rows]

    def __repr__(self) -> str:
        return f"History({self.n_rows} rows: {', '.join(self.names)})"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where a run stopped, for ``start=``: its last position, which need not be the best, and its random numbers.

    Attributes
    ----------
    state : object
        Whatever the method carries along.
    random : mapping
        State of the bit generator.
    """

    state: Any
    random: Mapping[str, Any]

    def generator(self) -> np.random.Generator:
        """Return a generator that goes on with these random numbers."""
        bits = getattr(np.random, self.random["bit_generator"])()
        bits.state = self.random
        return np.random.Generator(bits)


@dataclass(frozen=True, eq=False, kw_only=True)
class Result(Evaluation):
    """The answer to a question: the returned policy evaluated exactly, with a certificate.

    Everything of `Evaluation` belongs to the returned policy. In addition:

    Attributes
    ----------
    status : Status
    message : str
        One sentence on how the run ended, and whether the answer was polished.
    certificate : Certificate
    history : History
    solver : str
        The solver with its settings.
    timing : Timing
    iterations : int
    samples : int
        Transitions sampled; 0 for exact methods.
    work : Work
        Bellman backups and factorisations that it took, in all.
    checkpoint : Checkpoint or None
        What a run that begins here needs to go on exactly, where the method has it (docs/how-to-choose.md).
    lost : FloatArray [pairs]
        Where the loss J* − J sits: d^π(s, a) · (best − score), pair by pair, normalised scale.
    """

    status: Status
    message: str
    certificate: Certificate
    solver: str
    history: History = field(default_factory=History)
    timing: Timing = field(default_factory=Timing)
    iterations: int = 0
    samples: int = 0
    work: Work = field(default_factory=Work)
    checkpoint: Checkpoint | None = None

    @property
    def gap(self) -> float:
        """Certified distance of the objective to the optimum."""
        return self.certificate.gap

    @property
    def multipliers(self) -> Mapping[str, float]:
        """Prices of the constraints."""
        return self.certificate.multipliers

    @property
    def sensitivity(self) -> Mapping[str, float]:
        """Derivative of the objective with respect to each bound, signed."""
        return self.certificate.sensitivity

    @property
    def lost(self) -> FloatArray:
        """Where the objective falls short of the certified bound: d^π · reduced cost, as an [S, A] table.

        The sum is the certified gap (Kakade and Langford 2002, Lemma 6.1), less what slack constraints
        are priced at; NaN for objectives with a term, where the loss is not a sum over pairs.
        """
        return self.pairs.table(self.pair_occupancy * self.certificate.reduced_costs, 0.0)

    def __str__(self) -> str:
        lines = [
            f"status       {self.status.name}: {self.message}",
            f"objective    {self.objective:.10g}   certified within {self.gap:.2g}",
        ]
        if self.has_return:
            lines.append(f"return       {self.expected_return:.10g}")
        figures = self.expected if self.totals is None else self.totals
        for name, value in figures.items():
            if name != "reward":
                lines.append(f"expected     {visible(' '.join(name.split()))} {value:.6g}")
        states = self.pairs.n_states
        lines += [
            f"policy       {_policy_words(self)}; {int(self.visited.sum())} of {states} states visited",
            f"run          {self.iterations} iterations, {self.work}, {self.timing.total:.3g} s",
        ]
        body = [f"├ {line}" for line in lines[:-1]] + [f"└ {lines[-1]}"]
        return "\n".join([f"Result of {self.solver}", *body])

    def __repr__(self) -> str:
        return (
            f"<Result {self.status.name} objective={self.objective:.6g} gap={self.gap:.2g} "
            f"{f'expected_return={self.expected_return:.6g} ' if self.has_return else ''}solver={self.solver}>"
        )

    def summary(self) -> dict[str, Any]:
        """The figures of one row of a comparison, as plain numbers and strings."""
        return {
            "solver": self.solver,
            "status": self.status.name,
            "objective": self.objective,
            "expected_return": self.expected_return
            if self.has_return and np.isfinite(self.objective)
            else float("nan"),
            "lower": self.certificate.lower,
            "upper": self.certificate.upper,
            "gap": self.gap,
            "violation": self.certificate.violation,
            "iterations": self.iterations,
            "samples": self.samples,
            "backups": self.work.backups,
            "factorizations": self.work.factorizations,
            "seconds": self.timing.total,
            "message": self.message,
        }


def _policy_words(result: Result) -> str:
    if result.policy.is_deterministic:
        return "deterministic"
    return f"randomises in {int(result.policy.randomizing.sum())} states"

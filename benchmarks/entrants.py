"""Who competes: `oc.solve`, and other packages used the way their documentation says.

An entrant turns a problem into its own form (the phase "prepare"), and then answers it (the phase "solve"). It
returns a policy, one probability a pair, which is judged by occlp's exact evaluation whoever made it.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import occlp as oc
from benchmarks import peers, programs
from benchmarks.peers import Answered

#: Turns a problem into what answers it within so much of the optimum (absolute, normalised scale).
Prepare: TypeAlias = Callable[[oc.Problem, float], Callable[[], Answered]]
#: The tolerance that occlp is asked for, and that everybody else is asked for in their own terms.
TOLERANCE = 1e-8


@dataclass(frozen=True)
class Entrant:
    """A competitor.

    Attributes
    ----------
    name : str
    package : str
        Whose version is printed; the entrant is left out where it is not installed.
    prepare : mapping of kind to callable
        For each kind of question that it answers, what turns a problem into the entrant's form.
    returns : str
        What one call gives.
    """

    name: str
    package: str
    prepare: Mapping[str, Prepare] = field(repr=False)
    returns: str = "policy, values"

    @property
    def is_installed(self) -> bool:
        """Whether the package is there."""
        return importlib.util.find_spec(self.package) is not None

    @property
    def version(self) -> str:
        """Version of the package."""
        return importlib.metadata.version(self.package)


def _occlp(solver: oc.Solver | None) -> Prepare:
    def prepare(problem: oc.Problem, accuracy: float) -> Callable[[], Answered]:
        def answer() -> Answered:
            fresh = dataclasses.replace(problem)  # nothing that was computed before is kept
            result = oc.solve(fresh, solver, tol=TOLERANCE)
            bound = result.certificate
            notes = {
                "status": result.status.name,
                "method": result.solver,
                "iterations": result.iterations,
                "backups": result.work.backups,
                "factorizations": result.work.factorizations,
                "lower": bound.lower,
                "upper": bound.upper,
                "gap": bound.gap,
                "allowed": bound.allowed_gap(TOLERANCE) + bound.rounding,
                "violation": bound.violation,
            }
            return Answered(result.policy.pair_probabilities, notes)

        return answer

    return prepare


def _cvxpy(backend: str, **options: Any) -> dict[str, Prepare]:
    prepare = programs.occupancies(backend, **options)
    return {"plain": prepare, "limits": prepare, "kl": prepare}


def _linprog(method: str) -> dict[str, Prepare]:
    return {"plain": peers.linprog_values(method), "limits": programs.linprog_occupancies(method)}


_ALL = "policy, values, occupancy, certificate"
_EVERY = ("plain", "limits", "kl")

#: The first is the one that ratios refer to: what `oc.solve` does by itself.
ENTRANTS = (
    Entrant("occlp", "occlp", dict.fromkeys(_EVERY, _occlp(None)), _ALL),
    Entrant("quantecon mpi", "quantecon", {"plain": peers.quantecon("modified_policy_iteration")}),
    Entrant("quantecon pi", "quantecon", {"plain": peers.quantecon("policy_iteration")}),
    Entrant("quantecon vi", "quantecon", {"plain": peers.quantecon("value_iteration")}),
    Entrant("mdpsolver mpi", "mdpsolver", {"plain": peers.mdpsolver(parallel=True)}),
    Entrant("mdpsolver mpi, one thread", "mdpsolver", {"plain": peers.mdpsolver(parallel=False)}),
    Entrant("scipy highs-ds", "scipy", _linprog("highs-ds")),
    Entrant("scipy highs-ipm", "scipy", _linprog("highs-ipm")),
    Entrant("cvxpy HIGHS", "cvxpy", {kind: _cvxpy("HIGHS")[kind] for kind in ("plain", "limits")}, "policy, values"),
    Entrant("cvxpy CLARABEL", "cvxpy", _cvxpy("CLARABEL")),
    Entrant("cvxpy SCS", "cvxpy", _cvxpy("SCS", eps_abs=TOLERANCE, eps_rel=TOLERANCE)),
    Entrant("occlp OccupancyProgram", "occlp", dict.fromkeys(_EVERY, _occlp(oc.OccupancyProgram())), _ALL),
)
BASE = ENTRANTS[0]


def chosen(kind: str, patterns: list[str] | None = None) -> list[Entrant]:
    """Everybody who answers this kind of question, is installed and is asked for; ours is always the first."""
    return [
        entrant
        for entrant in ENTRANTS
        if kind in entrant.prepare
        and entrant.is_installed
        and (entrant is BASE or patterns is None or any(fnmatch.fnmatch(entrant.name, one) for one in patterns))
    ]

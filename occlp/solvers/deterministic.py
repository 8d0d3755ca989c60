"""The best deterministic policy under constraints, by a mixed-integer program.

Constraints make the best policy randomise; where that cannot be deployed, one action a state has to be
chosen: maximise r·d over the occupancies d with d(s, a) ≤ M(s, a) x(s, a), Σ_a x(s, a) = 1, x binary.
M(s, a) is the largest occupancy that any policy gives the pair. The problem is NP-hard (Feinberg 2000),
so it is for models of tens or hundreds of states. Source: Dolgov and Durfee (2005), section 4.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy import sparse

from occlp._typing import FloatArray, IntArray
from occlp.bounds.upper import bound_above, priced
from occlp.certificate import to_prices
from occlp.convex import load_cvxpy
from occlp.evaluation import assess, formulate
from occlp.model import Pairs
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.residuals import pair_residuals
from occlp.solvers.backends import INFEASIBLE, Backend, installed_backend
from occlp.solvers.base import LINEAR_ONLY, Iterate, SolverFailure, Start
from occlp.solvers.decomposition import Decomposition
from occlp.solvers.dynamic_programming import PolicyIteration
from occlp.solvers.policy_iteration import solve_rewards
from occlp.standard import StandardForm, flow_matrix

#: Options that ask each backend for an exact answer; `DeterministicProgram.options` go on top.
BACKEND_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "HIGHS": {
            "mip_rel_gap": 0.0,
            "mip_abs_gap": 1e-9,
            "mip_feasibility_tolerance": 1e-9,
            "primal_feasibility_tolerance": 1e-9,
            "dual_feasibility_tolerance": 1e-9,
            "small_matrix_value": 1e-12,
        }
    }
)
#: Pairs up to which the largest occupancy of each is computed; beyond, it is taken to be 1.
TIGHT_PAIRS = 600
#: Answers of the backend that break the constraints and are cut off, before the method gives up.
MOST_CUTS = 200
#: Cuts that a program has room for once there is one; the room doubles when it is full.
FIRST_ROOM = 8


@dataclass(frozen=True)
class DeterministicProgram:
    """The best deterministic policy under constraints: a mixed-integer program over occupancies.

    Parameters
    ----------
    backend : str
        A cvxpy backend for mixed-integer linear programs.
    options : mapping, optional
        Passed to the backend, on top of the accuracies set here.
    seconds : float, optional
        Wall-clock time for the backend; `solve` puts what its own limit leaves here.

    Notes
    -----
    What is proved is the gap to the best **randomised** policy (status BOUNDED, or CERTIFIED where the
    gap closes). That no deterministic policy is better is a claim of the backend, and is reported as one:
    in ``Iterate.claims``, with the backend's own bound. The policy itself is evaluated exactly; one that
    breaks the constraints beyond the tolerance is excluded by a cut, and the program solved again.

    Where policies keep the constraints but no deterministic one does, the run fails with a message that
    says so (and who says it).
    """

    backend: str = "HIGHS"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    seconds: float | None = None

    @property
    def promises_tol(self) -> bool:
        """False: there is a gap to the best randomised policy that no deterministic one can close."""
        return False

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None.

        Raises `BackendMissing` when the backend is not installed.
        """
        if problem.criterion == "total" and problem.limits:
            return "its program is that of discounted and average occupancies; OccupancyProgram answers totals"
        name, cvxpy = installed_backend(self.backend), load_cvxpy()
        able = [solver for solver in cvxpy.installed_solvers() if solver in cvxpy.reductions.solvers.defines.MI_SOLVERS]
        if name not in able:
            return f"the backend {name} takes no binary variables; installed and able are {', '.join(sorted(able))}"
        if formulate(problem).term is not None:
            return "its program is linear; OccupancyProgram keeps concave terms, with randomised policies"
        if problem.concave_limits:
            return LINEAR_ONLY
        return None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield once: the policy of the first answer of the backend that keeps the constraints."""
        if not problem.limits:  # the best policy is deterministic, and dynamic programming finds it
            yield from PolicyIteration().iterate(problem, tol=tol, rng=rng, start=start)
            return
        form, pairs = formulate(problem), problem.mdp.pairs
        for relaxed in Decomposition().iterate(problem, tol=tol, rng=rng):
            best = relaxed
        elsewhere = _greedy(form, best)
        if best.policy.is_deterministic:
            yield best
            return
        name, deadline = self.backend.upper(), None if self.seconds is None else time.perf_counter() + self.seconds
        backend = Backend(name, {**BACKEND_OPTIONS.get(name, {}), **self.options}, deadline)
        program = _Program(form, largest_occupancies(form, pairs), backend)
        for _ in range(MOST_CUTS):
            answer = program.solve()
            probabilities = Policy.from_choice(pairs, answer.choice).pair_probabilities
            found = assess(form, probabilities)
            if not form.kept(found.pair_occupancy, tol):
                program.exclude(answer.choice[found.chain.visited])
                continue
            choice = np.where(found.chain.visited, answer.choice, elsewhere)
            yield replace(best, policy=Policy.from_choice(pairs, choice), claims=self._claims(form, answer))
            backend.stop_at(answer.status)
            return
        raise SolverFailure(f"the backend {self.backend} broke the constraints with {MOST_CUTS} policies in a row.")

    def _claims(self, form: StandardForm, answer: _Answer) -> dict[str, Any]:
        bound = form.to_user(answer.bound)
        note = f"{self.backend} claims, without a proof, that no deterministic policy does better than {bound:.9g}."
        return {"backend": self.backend, "status": answer.status, "bound": bound, "note": note}


def largest_occupancies(form: StandardForm, pairs: Pairs) -> FloatArray:
    """Bounds on the occupancy that any policy can give each pair, [pairs]: one ordinary MDP a pair.

    They are rigorous (each is a dual bound), at most 1, and 1 throughout beyond `TIGHT_PAIRS`.
    """
    largest = np.ones(form.n_pairs)
    if form.n_pairs > TIGHT_PAIRS:
        return largest
    for pair in range(form.n_pairs):
        rewards = (np.arange(form.n_pairs) == pair).astype(np.float64)
        _, high, low = solve_rewards(form, pairs, rewards)
        goal = replace(form, rewards=rewards)
        largest[pair] = min(1.0, bound_above(goal, (high, low), np.zeros(len(form.limits.names))).value)
    return largest


@dataclass(frozen=True, eq=False)
class _Answer:
    """What the backend returned; nothing here is trusted."""

    choice: IntArray  # [S], a pair each
    bound: float  # its bound on the objective of deterministic policies, standard form
    status: str


class _Program:
    """The mixed-integer program of a standard form, with the cuts made so far.

    Cuts are parameters, in a table with room for more of them: cvxpy compiles it anew only where it is full.
    """

    def __init__(self, form: StandardForm, most: FloatArray, backend: Backend) -> None:
        cvxpy = load_cvxpy()
        self.form, self.backend = form, backend
        mass = float(form.n_states)  # an average state has mass one
        self._occupancy = cvxpy.Variable(form.n_pairs, name="scaled_occupancy", nonneg=True)
        self._choice = cvxpy.Variable(form.n_pairs, name="choice", boolean=True)
        one_each = sparse.csr_array((np.ones(form.n_pairs), np.arange(form.n_pairs), form.start))
        self._constraints = [
            flow_matrix(form).tocsr() @ self._occupancy == mass * form.rest * form.initial,
            cvxpy.sum(self._occupancy) == mass,
            self._occupancy <= cvxpy.multiply(mass * (most + 1e-9), self._choice),
            one_each @ self._choice == 1,
        ]
        for row, equal in zip(form.limits.rows, form.limits.equal, strict=True):
            value = row @ self._occupancy
            self._constraints.append(value == 0 if equal else value <= 0)
        self._objective = cvxpy.Maximize(form.rewards @ self._occupancy)
        self._mass, self._excluded = mass, list[IntArray]()
        self._write(0)

    def _write(self, room: int) -> None:
        """Write the program anew, with room for so many cuts."""
        cvxpy = load_cvxpy()
        self._room, constraints = room, self._constraints
        if room:
            self._cuts, self._most = cvxpy.Parameter((room, self.form.n_pairs)), cvxpy.Parameter(room)
            constraints = [*constraints, self._cuts @ self._choice <= self._most]
        self._program = cvxpy.Problem(self._objective, constraints)

    def exclude(self, chosen: IntArray) -> None:
        """Cut off all policies that choose these pairs in these states."""
        self._excluded.append(chosen)
        if len(self._excluded) > self._room:
            self._write(max(FIRST_ROOM, 2 * self._room))
        cuts, most = np.zeros((self._room, self.form.n_pairs)), np.zeros(self._room)
        for row, pairs in enumerate(self._excluded):
            cuts[row, pairs], most[row] = 1.0, len(pairs) - 1.0
        self._cuts.value, self._most.value = cuts, most

    def solve(self) -> _Answer:
        """Run the backend; raises `SolverFailure` with its reason where there is no policy."""
        status = self.backend.solve(self._program)
        if status in INFEASIBLE:
            raise SolverFailure(
                f"no deterministic policy keeps the constraints, says {self.backend.name} (a claim, not a proof), "
                "although randomised policies do. Relax a bound, or let the policy randomise: Decomposition()."
            )
        values = np.zeros(self.form.n_pairs) if self._choice.value is None else np.asarray(self._choice.value, float)
        sums = np.add.reduceat(values, self.form.start[:-1])
        if not np.abs(sums - 1.0).max() <= 1e-3:  # not even a policy (or NaN): it was stopped before it had one
            words = f"the backend {self.backend.name} stopped with {status!r} and no policy."
            raise self.backend.failure(status, words)
        return _Answer(_largest(self.form, values), self._bound(), status)

    def _bound(self) -> float:
        """The backend's own bound where it tells one (HiGHS does), else what it calls the optimum."""
        info = self._program.solver_stats.extra_stats
        told = getattr(info, "mip_dual_bound", None)
        return float(self._program.value if told is None else -told) / self._mass


def _largest(form: StandardForm, values: FloatArray) -> IntArray:
    """The first pair of each state with the largest value, [S]."""
    first = form.start[:-1]
    top = np.flatnonzero(values == np.maximum.reduceat(values, first)[form.states])
    return np.asarray(top[np.searchsorted(top, first)], dtype=np.int32)


def _greedy(form: StandardForm, iterate: Iterate) -> IntArray:
    """The best pair of each state by the values and prices of an iterate, [S]."""
    assert iterate.values is not None
    factor = form.sign * form.scale
    low = None if iterate.values_low is None else iterate.values_low / factor
    rewards, _ = priced(form, form.limits.feasible_prices(to_prices(form, iterate.multipliers)))
    return _largest(form, pair_residuals(form, iterate.values / factor, low, rewards)[0])

"""The occupancy program through cvxpy: maximise r·d + f(d) over the occupancy polytope.

Primal: F d = (1 − γ) μ0, 1ᵀd = 1, d ≥ 0. The duals of the flow rows are values, those of d ≥ 0 the
reduced costs, which are minus the advantages at the optimum (Puterman 2005, section 6.9).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, ClassVar

import numpy as np

from occlp.bounds.averages import has_several
from occlp.certificate import to_multipliers
from occlp.convex import load_cvxpy
from occlp.errors import Unsupported
from occlp.evaluation import formulate
from occlp.graph import graph_of, proper_choice
from occlp.model import MDP
from occlp.policy import Policy
from occlp.problem import Problem, as_problem
from occlp.residuals import pair_residuals
from occlp.solvers.backends import LINEAR_BACKENDS, QUADRATIC_BACKENDS, Backend, installed_backend
from occlp.solvers.base import Iterate, OutOfTime, SolverFailure, Start
from occlp.solvers.decomposition import Decomposition
from occlp.solvers.feasibility import closest, mended
from occlp.solvers.forecast import Forecast, check_memory, forecast
from occlp.solvers.joining import joined_policy
from occlp.solvers.kl_dual import reference_of, soft_policy
from occlp.solvers.multichain_program import build_program, multichain_program
from occlp.solvers.scaled_program import Answer, solve_scaled, support
from occlp.solvers.total_program import total_program
from occlp.standard import StandardForm, flow_matrix
from occlp.terms import JointTerm, PolicyTerm, TotalVariation, Utility, WorstCase

#: Utilities (or none) that make no more than a linear program.
POLYHEDRAL = (NoneType, TotalVariation, WorstCase)
#: States with less mass than this count as not visited by the program's own occupancy.
NO_MASS = 1e-9


@dataclass(frozen=True)
class OccupancyProgram:
    """The linear (or, with KL, exponential-cone) program over d(s, a), solved by a cvxpy backend.

    Parameters
    ----------
    backend : str, optional
        "HIGHS", "CLARABEL", "SCS" or any other that cvxpy has installed. Default: HIGHS for linear
        programs up to 2,000 pairs (a vertex: a deterministic policy), else CLARABEL.
    options : mapping, optional
        Passed to the backend, on top of the accuracies set here.
    seconds : float, optional
        Wall-clock time for the backend; `solve` puts what its own limit leaves here. What the backend has when the
        time is up is judged like any answer.

    Notes
    -----
    What cvxpy makes of a program is kept as long as the model lives: a question with the same transitions and
    constraints of the same kind, but other rewards, bounds, strengths or start, is not compiled again. With
    ``start=`` a backend that can goes on from its last answer; the last digits then depend on what that was.

    The program is scaled before the backend sees it (rewards to size one, mass to the number of pairs,
    flow rows to size one), because backends work with absolute tolerances near 1e-8. Whatever the
    backend says, the answer is judged by the certificate and, where its last digits are missing,
    polished by an exact method.
    """

    backend: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    seconds: float | None = None

    several_classes: ClassVar[bool] = True
    is_polished: ClassVar[bool] = True

    @property
    def promises_tol(self) -> bool:
        """True: a missed tolerance is an error."""
        return True

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the backend cannot answer the problem, or None: every question is a convex program.

        Raises `BackendMissing` when the backend is not installed.
        """
        settings = [problem.regularizer, problem.utility, *(one.utility for one in problem.concave_limits.values())]
        linear = all(isinstance(setting, (*POLYHEDRAL, Utility)) for setting in settings)
        if self.backend_for(problem) in (*LINEAR_BACKENDS, *QUADRATIC_BACKENDS) and not linear:
            return f"the backend {self.backend} has no logarithms; CLARABEL has"
        return None

    def program(self, problem: Problem) -> Any:
        """Return the cvxpy Problem in the user's units and sense, unscaled.

        Its variable is named ``occupancy`` [pairs]; its constraints are labelled ``flow`` [S],
        ``mass``, ``nonnegative`` [pairs] and the names of the problem's own. Pairs that a KL term
        excludes are not in it. Averages that depend on the start have a second variable, ``transient`` [pairs].
        """
        if has_several(problem):
            return build_program(problem)
        cvxpy = load_cvxpy()
        form = formulate(problem)
        kept, states = support(form)
        occupancy = cvxpy.Variable(len(kept), name="occupancy")
        constraints = [
            (flow_matrix(form)[states][:, kept] @ occupancy == form.rest * form.initial[states]).set_label("flow"),
            (cvxpy.sum(occupancy) == 1).set_label("mass"),
            (occupancy >= 0).set_label("nonnegative"),
        ]
        for name, limit in problem.limits.items():
            value = problem.coefficients(limit)[kept] @ occupancy
            relations = {"<=": value <= limit.bound, ">=": value >= limit.bound, "==": value == limit.bound}
            constraints.append(relations[limit.relation].set_label(name))
        constraints += [
            (bound.term.expression(occupancy, kept) >= bound.bound).set_label(bound.name) for bound in form.concave
        ]
        objective = problem.mdp.pair_rewards[kept] @ occupancy
        if form.term is not None:
            objective += form.sign * form.scale * form.term.expression(occupancy, kept)
        sense = cvxpy.Maximize if problem.sense == "maximize" else cvxpy.Minimize
        return cvxpy.Problem(sense(objective), constraints)

    def forecast(self, problem: Problem | MDP) -> Forecast:
        """Tell how large the program of a question is and what its backend will need, without writing it.

        The size is exact; seconds and bytes are right within a factor of ten.

        Raises
        ------
        Unsupported
            For totals and for averages that depend on the start: their programs depend on what a reduction leaves.
        BackendMissing
            When the backend is not installed.

        Examples
        --------
        >>> import occlp as oc
        >>> found = oc.OccupancyProgram().forecast(oc.instances.get("machine-repair"))
        >>> found.backend, found.variables, found.rows, found.nonzeros
        ('HIGHS', 6, 10, 22)
        """
        problem = as_problem(problem)
        if problem.criterion == "total" or has_several(problem):
            raise Unsupported("the size of a program is told for occupancies that sum to one, before any reduction.")
        return forecast(formulate(problem), self.backend_for(problem))

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield once: the policy of the backend's occupancy, with its duals as values."""
        deadline = None if self.seconds is None else time.perf_counter() + self.seconds
        backend = Backend(self.backend_for(problem), self.options, deadline, warm=start is not None)
        if problem.criterion == "total":
            yield from total_program(problem, backend)
        elif has_several(problem):
            yield from multichain_program(problem, backend)
        else:
            try:
                yield from self._normalized(problem, backend, tol, rng)
            except OutOfTime as end:
                raise OutOfTime(f"{end}: {forecast(formulate(problem), backend.name)}") from end

    def _normalized(
        self, problem: Problem, backend: Backend, tol: float, rng: np.random.Generator
    ) -> Iterator[Iterate]:
        """Yield the answer of the program of occupancies that sum to one."""
        form = formulate(problem)
        check_memory(form, backend.name)
        if form.concave:
            yield from self._concave(problem, form, backend, tol)
            return
        answer = solve_scaled(form, backend)
        if answer is None:  # the backend says that the constraints cannot be met; the proof is not left to it
            if form.term is not None:
                Decomposition().require_feasible(problem)
                raise SolverFailure(f"the backend {backend.name} says 'infeasible', but the constraints can be met.")
            yield from Decomposition().iterate(problem, tol=tol, rng=rng)
            return
        yield _iterate(problem, form, backend, answer)
        backend.stop_at(answer.status)

    def _concave(self, problem: Problem, form: StandardForm, backend: Backend, tol: float) -> Iterator[Iterate]:
        """Yield the answer of the backend, then what can be mended of it; raises the proof where there is none."""
        try:
            answer = solve_scaled(form, backend)
        except SolverFailure:
            closest(problem, backend).raise_proof()
            raise
        if answer is None:
            found = closest(problem, backend)
            found.raise_proof()
            yield Iterate(found.policy, claims={"note": f"{backend.name} claims that no policy does."})
            return
        first = _iterate(problem, form, backend, answer)
        yield first
        backend.stop_at(answer.status)
        yield from mended(problem, backend, first, tol)

    def backend_for(self, problem: Problem) -> str:
        """Name of the backend; raises `BackendMissing` when it is not installed."""
        if self.backend is not None:
            return installed_backend(self.backend)
        utilities = [problem.utility, *(limit.utility for limit in problem.concave_limits.values())]
        linear = problem.regularizer is None and all(isinstance(one, POLYHEDRAL) for one in utilities)
        small = linear and problem.mdp.n_pairs <= 2000
        return "HIGHS" if small and "HIGHS" in load_cvxpy().installed_solvers() else "CLARABEL"


def _iterate(problem: Problem, form: StandardForm, backend: Backend, answer: Answer) -> Iterate:
    factor = form.sign * form.scale
    return Iterate(
        policy=_policy(problem, form, answer),
        values=factor * answer.values,
        multipliers=to_multipliers(form, answer.prices),
        slopes=answer.slopes,
        claims={"backend": backend.name, "status": answer.status, "mass_multiplier": factor * answer.mass_multiplier},
    )


def _policy(problem: Problem, form: StandardForm, answer: Answer) -> Policy:
    """Policy of an answer: from the occupancy, greedy in the values where there is none; with KL from the duals."""
    pairs = problem.mdp.pairs
    rewards = form.rewards - answer.prices[: len(form.limits.names)] @ form.limits.rows
    for limit, price in zip(form.concave, answer.prices[len(form.limits.names) :], strict=True):
        rewards = rewards + price * answer.slopes.get(limit.name, 0.0)
    scores, _ = pair_residuals(form, answer.values, None, rewards)
    if isinstance(form.term, JointTerm):
        return soft_policy(form, form.term, scores, reference_of(problem))
    if isinstance(form.term, PolicyTerm):
        return Policy.from_pairs(pairs, form.term.policy(scores))
    if form.term is not None:
        scores = scores + np.nan_to_num(form.term.gradient(answer.occupancy), nan=0.0, posinf=1e300, neginf=-1e300)
    first = form.start[:-1]
    top = np.maximum.reduceat(scores, first)
    best = np.flatnonzero(scores == top[form.states])
    choice = best[np.searchsorted(best, first)]
    occupancy = np.maximum(answer.occupancy, 0.0)
    visited = np.add.reduceat(occupancy, first) > NO_MASS
    if form.rest == 0:  # undiscounted: states without mass are passed through, on the way to those that have some
        way = proper_choice(graph_of(problem.mdp), visited)
        choice = np.where(way >= 0, way, choice)
    elsewhere = Policy.from_choice(pairs, choice)
    return joined_policy(form, np.where(visited[form.states], occupancy, 0.0), elsewhere)

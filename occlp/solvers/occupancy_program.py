"""The occupancy program through cvxpy: maximise r·d + f(d) over the occupancy polytope.

Primal: F d = (1 − γ) μ0, 1ᵀd = 1, d ≥ 0. The duals of the flow rows are values, those of d ≥ 0 the
reduced costs, which are minus the advantages at the optimum (Puterman 2005, section 6.9).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, ClassVar

import numpy as np

from occlp.certificate import to_multipliers
from occlp.convex import load_cvxpy
from occlp.errors import BackendMissing
from occlp.evaluation import formulate, pair_residuals
from occlp.multichain import has_several
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.base import Iterate, SolverFailure, Start
from occlp.solvers.decomposition import Decomposition
from occlp.solvers.feasibility import closest, mended
from occlp.solvers.kl_dual import reference_of, soft_policy
from occlp.solvers.multichain_program import build_program, multichain_program
from occlp.solvers.scaled_program import ANSWERED, BACKEND_OPTIONS, Answer, Backend, ScaledProgram, support
from occlp.solvers.total_program import total_program
from occlp.standard import StandardForm, flow_matrix
from occlp.terms import JointTerm, PolicyTerm, TotalVariation, Utility, WorstCase

#: Utilities (or none) that make no more than a linear program.
POLYHEDRAL = (NoneType, TotalVariation, WorstCase)
#: Backends for linear programs.
LINEAR_BACKENDS = ("CBC", "GLOP", "GLPK", "GLPK_MI", "HIGHS", "PDLP", "SCIPY")
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

    Notes
    -----
    The program is scaled before the backend sees it (rewards to size one, mass to the number of pairs,
    flow rows to size one), because backends work with absolute tolerances near 1e-8. Whatever the
    backend says, the answer is judged by the certificate and, where its last digits are missing,
    polished by an exact method.
    """

    backend: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    several_classes: ClassVar[bool] = True

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
        if self._backend(problem) in LINEAR_BACKENDS and not linear:
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

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield once: the policy of the backend's occupancy, with its duals as values."""
        backend = Backend(self._backend(problem), self.options)
        options = {**BACKEND_OPTIONS.get(backend.name, {}), **self.options}
        if problem.criterion == "total":
            yield from total_program(problem, backend.name, options)
            return
        if has_several(problem):
            yield from multichain_program(problem, backend.name, options)
            return
        form = formulate(problem)
        if form.concave:
            yield from self._concave(problem, form, backend, tol)
            return
        answer = _solve_scaled(form, backend)
        if answer is None:  # the backend says that the constraints cannot be met; the proof is not left to it
            if form.term is not None:
                Decomposition().feasible_start(problem)
                raise SolverFailure(f"the backend {backend.name} says 'infeasible', but the constraints can be met.")
            yield from Decomposition().iterate(problem, tol=tol, rng=rng)
            return
        yield _iterate(problem, form, backend, answer)

    def _concave(self, problem: Problem, form: StandardForm, backend: Backend, tol: float) -> Iterator[Iterate]:
        """Yield the answer of the backend, then what can be mended of it; raises the proof where there is none."""
        try:
            answer = _solve_scaled(form, backend)
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
        yield from mended(problem, backend, first, tol)

    def _backend(self, problem: Problem) -> str:
        """Name of the backend; raises `BackendMissing` when it is not installed."""
        cvxpy = load_cvxpy()
        installed = cvxpy.installed_solvers()
        if self.backend is None:
            utilities = [problem.utility, *(limit.utility for limit in problem.concave_limits.values())]
            linear = problem.regularizer is None and all(isinstance(one, POLYHEDRAL) for one in utilities)
            small = linear and problem.mdp.n_pairs <= 2000
            return "HIGHS" if small and "HIGHS" in installed else "CLARABEL"
        name = self.backend.upper()
        if name not in installed:
            raise BackendMissing(
                f"the cvxpy backend {self.backend!r} is not installed. Installed are {', '.join(sorted(installed))}."
            )
        return name


def _solve_scaled(form: StandardForm, backend: Backend) -> Answer | None:
    """The backend's answer, or None where it says that the constraints cannot be met."""
    cvxpy = load_cvxpy()
    program = ScaledProgram(form)
    objective, weight = form.rewards[program.kept] @ program.variable, 1.0
    if form.term is not None:
        objective = objective + program.mass * form.term.expression(program.variable / program.mass, program.kept)
        weight = 1.0 / max(1.0, form.term.spread)
    limits = [row == 0 if same else row <= 0 for row, same in zip(program.rows, form.limits.equal, strict=True)]
    limits += [margin >= 0 for margin in program.margins]
    status = backend.solve(cvxpy.Problem(cvxpy.Maximize(weight * objective), [*program.feasible, *limits]))
    if limits and status in ("infeasible", "infeasible_inaccurate", "infeasible_or_unbounded"):
        return None
    if status not in ANSWERED:
        raise SolverFailure(
            f"the backend {backend.name} says {status!r}, but this program always has an optimum. "
            "Try another backend, or PolicyIteration."
        )
    return program.read(backend, status, [limit.dual_value for limit in limits], weight)


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
    """Policy of an answer: from the occupancy, greedy in the values where there is no mass; with KL from the duals."""
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
    greedy = Policy.from_choice(pairs, best[np.searchsorted(best, first)])
    occupancy = np.maximum(answer.occupancy, 0.0)
    sums = np.add.reduceat(occupancy, first)[form.states]
    return Policy.from_occupancy(pairs, np.where(sums > NO_MASS, occupancy, 0.0), greedy)

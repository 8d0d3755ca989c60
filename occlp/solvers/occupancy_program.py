"""The occupancy program through cvxpy: maximise r·d + f(d) over the occupancy polytope.

Primal: F d = (1 − γ) μ0, 1ᵀd = 1, d ≥ 0. The duals of the flow rows are values, those of d ≥ 0 the
reduced costs, which are minus the advantages at the optimum (Puterman 2005, section 6.9).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, NoneType
from typing import Any

import numpy as np

from occlp._typing import AnyArray, FloatArray
from occlp.certificate import priced, to_multipliers
from occlp.convex import load_cvxpy
from occlp.errors import BackendMissing
from occlp.evaluation import formulate, pair_residuals
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.base import Iterate, SolverFailure, Start
from occlp.solvers.decomposition import Decomposition
from occlp.solvers.total_program import total_program
from occlp.standard import StandardForm, flow_matrix
from occlp.terms import KL, JointTerm, PolicyTerm, TotalVariation, WorstCase

#: Options that ask each backend for the accuracy it can reach; `OccupancyProgram.options` go on top.
BACKEND_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "CLARABEL": {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10},
        "HIGHS": {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        "SCS": {"eps_abs": 1e-7, "eps_rel": 1e-7, "max_iters": 20_000},
    }
)
#: Statuses of cvxpy under which an answer exists; whether it is any good is not theirs to say.
ANSWERED = ("optimal", "optimal_inaccurate", "user_limit")
#: An answer whose flow is off by more than this (of a total mass of one) is not an answer.
GROSS_RESIDUAL = 1e-3
#: Numbers of a backend beyond this are taken for garbage.
LARGEST_NUMBER = 1e150
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

    @property
    def promises_tol(self) -> bool:
        """True: a missed tolerance is an error."""
        return True

    def unsupported(self, problem: Problem) -> str | None:
        """Return None: every question of this version is a convex program.

        Raises `BackendMissing` when the backend is not installed.
        """
        self._backend(problem)
        return None

    def program(self, problem: Problem) -> Any:
        """Return the cvxpy Problem in the user's units and sense, unscaled.

        Its variable is named ``occupancy`` [pairs]; its constraints are labelled ``flow`` [S],
        ``mass``, ``nonnegative`` [pairs] and the names of the problem's own. Pairs that a KL term
        excludes are not in it.
        """
        cvxpy = load_cvxpy()
        form = formulate(problem)
        kept, states = _support(form)
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
        objective = problem.mdp.pair_rewards[kept] @ occupancy
        if form.term is not None:
            objective += form.sign * form.scale * form.term.expression(occupancy, kept)
        sense = cvxpy.Maximize if problem.sense == "maximize" else cvxpy.Minimize
        return cvxpy.Problem(sense(objective), constraints)

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield once: the policy of the backend's occupancy, with its duals as values."""
        backend = self._backend(problem)
        if problem.criterion == "total":
            yield from total_program(problem, backend, {**BACKEND_OPTIONS.get(backend, {}), **self.options})
            return
        form = formulate(problem)
        answer = _solve_scaled(form, backend, {**BACKEND_OPTIONS.get(backend, {}), **self.options})
        if answer is None:  # the backend says that the constraints cannot be met; the proof is not left to it
            if form.term is not None:
                Decomposition().feasible_start(problem)
                raise SolverFailure(f"the backend {backend} says 'infeasible', but the constraints can be met.")
            yield from Decomposition().iterate(problem, tol=tol, rng=rng)
            return
        factor = form.sign * form.scale
        yield Iterate(
            policy=_policy(problem, form, answer),
            values=factor * answer.values,
            multipliers=to_multipliers(form, form.limits.feasible_prices(answer.prices)),
            claims={"backend": backend, "status": answer.status, "mass_multiplier": factor * answer.mass_multiplier},
        )

    def _backend(self, problem: Problem) -> str:
        cvxpy = load_cvxpy()
        installed = cvxpy.installed_solvers()
        if self.backend is None:
            linear = problem.regularizer is None and isinstance(problem.utility, NoneType | TotalVariation | WorstCase)
            small = linear and problem.mdp.n_pairs <= 2000
            return "HIGHS" if small and "HIGHS" in installed else "CLARABEL"
        name = self.backend.upper()
        if name not in installed:
            raise BackendMissing(
                f"the cvxpy backend {self.backend!r} is not installed. Installed are {', '.join(sorted(installed))}."
            )
        return name


@dataclass(frozen=True, eq=False)
class _Answer:
    """What the backend returned, scaled back to the standard form; nothing here is trusted."""

    occupancy: FloatArray  # [pairs]
    values: FloatArray  # [S]
    prices: FloatArray  # [k]
    mass_multiplier: float
    status: str


def _support(form: StandardForm) -> tuple[AnyArray, AnyArray]:
    """Pairs and states of the program: all, or those of the prior of a KL term (a closed set)."""
    if form.term is None:
        return np.arange(form.n_pairs), np.arange(form.n_states)
    kept = np.flatnonzero(form.term.support)
    return kept, np.unique(form.states[kept])


def _solve_scaled(form: StandardForm, backend: str, options: Mapping[str, Any]) -> _Answer | None:
    cvxpy = load_cvxpy()
    kept, states = _support(form)
    flow = flow_matrix(form)[states][:, kept].tocsr()
    mass = float(len(kept))
    row_scale = 1.0 / abs(flow).max(axis=1).toarray().ravel()
    scaled = cvxpy.Variable(len(kept), name="scaled_occupancy")
    flow_rows = (
        flow.multiply(row_scale[:, None]).tocsr() @ scaled == mass * row_scale * form.rest * form.initial[states]
    )
    total = cvxpy.sum(scaled) == mass
    objective = form.rewards[kept] @ scaled
    weight = 1.0
    if form.term is not None:
        objective = objective + mass * form.term.expression(scaled / mass, kept)
        weight = 1.0 / max(1.0, form.term.spread)
    limits = [(row[kept] @ scaled == 0) if same else (row[kept] @ scaled <= 0) for row, same in _rows(form)]
    program = cvxpy.Problem(cvxpy.Maximize(weight * objective), [flow_rows, total, scaled >= 0, *limits])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "may be inaccurate": the certificate decides
            program.solve(solver=backend, **options)
    except (cvxpy.error.SolverError, ArithmeticError, ValueError, TypeError, RuntimeError) as error:
        raise SolverFailure(f"the backend {backend} failed: {error}") from error
    if limits and program.status in ("infeasible", "infeasible_inaccurate", "infeasible_or_unbounded"):
        return None
    if program.status not in ANSWERED:
        raise SolverFailure(
            f"the backend {backend} says {program.status!r}, but this program always has an optimum. "
            "Try another backend, or PolicyIteration."
        )
    found = [scaled.value, flow_rows.dual_value, total.dual_value, *(limit.dual_value for limit in limits)]
    parts = [np.asarray(part, dtype=np.float64) for part in found]
    if any(not (np.abs(part) < LARGEST_NUMBER).all() for part in parts):
        raise SolverFailure(f"the backend {backend} says {program.status!r} but returned no finite numbers.")
    solution = parts[0] / mass
    residual = float(np.abs(flow @ solution - form.rest * form.initial[states]).sum())
    worst = max(residual, abs(float(solution.sum()) - 1.0), -float(solution.min()))
    if worst > GROSS_RESIDUAL:
        raise SolverFailure(
            f"the backend {backend} says {program.status!r}, but its occupancy breaks the constraints by {worst:.2g}."
        )
    occupancy, values = np.zeros(form.n_pairs), np.zeros(form.n_states)
    occupancy[kept] = solution
    values[states] = row_scale * parts[1] / weight
    prices = np.array([float(part) for part in parts[3:]]) / weight
    return _Answer(occupancy, values, prices, float(parts[2]) / weight, str(program.status))


def _rows(form: StandardForm) -> list[tuple[FloatArray, bool]]:
    return list(zip(form.limits.rows, form.limits.equal.tolist(), strict=True))


def _policy(problem: Problem, form: StandardForm, answer: _Answer) -> Policy:
    """Policy of an answer: from the occupancy, greedy in the values where there is no mass; with KL from the duals."""
    pairs = problem.mdp.pairs
    rewards, _ = priced(form, form.limits.feasible_prices(answer.prices))
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


def reference_of(problem: Problem) -> Policy:
    """Where a joint term has no mass, its reference policy is followed."""
    if isinstance(problem.regularizer, KL):
        return problem.regularizer.reference
    return Policy.uniform(problem.mdp)


def soft_policy(form: StandardForm, term: JointTerm, scores: FloatArray, reference: Policy) -> Policy:
    """π(a | s) of the Gibbs occupancy d0 exp(score / τ); the reference where it has no mass."""
    keep, first = term.support, form.start[:-1]
    top = np.maximum.reduceat(np.where(keep, scores, -np.inf), first)[form.states]
    weights = np.zeros(form.n_pairs)
    weights[keep] = term.prior[keep] * np.exp((scores[keep] - top[keep]) / term.strength)
    sums = np.add.reduceat(weights, first)[form.states]
    shares = np.where(sums > 0, weights / np.where(sums > 0, sums, 1.0), 0.0)
    return Policy.from_occupancy(reference.pairs, shares, reference)

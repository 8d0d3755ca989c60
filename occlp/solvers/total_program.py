"""The linear program of totals: expected visits x ≥ 0 with x(s) = μ0(s) + Σ x p, maximise r·x.

Source: Altman (1999), chapter 9; Puterman (2005), section 7.2.7. Its duals are values; given the prices of
the constraints, policy iteration on the priced rewards finds the values that prove the bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from occlp._typing import AnyArray, FloatArray, IntArray
from occlp.certificate import to_multipliers
from occlp.convex import load_cvxpy
from occlp.graph import reachable
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.backends import ANSWERED, INFEASIBLE, Backend
from occlp.solvers.base import InfeasibleTotal, Iterate, SolverFailure
from occlp.solvers.programs import LimitRows, borrowed, digest
from occlp.solvers.total_iteration import begin, lift, unending_proof
from occlp.standard import Limits
from occlp.total.bound import TotalBound, bound_total
from occlp.total.form import TotalForm, without_rewards
from occlp.total.improvement import Unending, improvements
from occlp.total.reduction import Reduction, priced_reduction
from occlp.total.routing import policy_of_visits

#: By what share prices are moved, nearer to zero or further away, until they prove a bound.
MOVES = (0.0, -1e-11, 1e-11, -1e-10, 1e-10, -1e-9, 1e-9, -5e-9, 5e-9)


@dataclass(frozen=True, eq=False)
class _Answer:
    visits: FloatArray  # [pairs of the form]
    prices: FloatArray  # [k]
    status: str


def total_program(problem: Problem, backend: Backend) -> Iterator[Iterate]:
    """Yield once: the policy of the program's visits, with values and prices that prove it."""
    reduction, _ = begin(problem, None)
    flow = _Flow.of(reduction, problem.mdp.transitions.data)
    try:
        answer = _solve(flow, backend, reduction.form.limits)
    except Unending as trap:
        raise unending_proof(problem, reduction, trap) from None
    if answer is None:
        raise _infeasible(problem, flow, backend)
    form = reduction.total.base
    answer = _sharpen(flow, answer)
    elsewhere, values, bound = _proof(reduction.total, answer.prices)
    probabilities = policy_of_visits(reduction, answer.visits, elsewhere)
    if probabilities is None:
        raise SolverFailure(
            "the optimum stops with some probability in states that it also leaves, which takes a lottery over "
            "policies at the start; no stationary policy attains it."
        )
    factor = form.sign * form.scale
    yield Iterate(
        Policy.from_pairs(problem.mdp.pairs, probabilities),
        values=factor * values,
        multipliers=to_multipliers(form, bound.prices),
        claims={"backend": backend.name, "status": answer.status},
    )
    backend.stop_at(answer.status)


@dataclass(frozen=True, eq=False)
class _Flow:
    """The flow equations of a question, x(s) − Σ x p = μ0(s), on the part that is reached and lasts."""

    reduction: Reduction
    model: FloatArray  # probabilities of the model, to which compiled programs belong
    matrix: Any  # csr_array [nodes, flow pairs]
    source: FloatArray  # [nodes]
    pairs: AnyArray  # [flow pairs], positions in the form
    nodes: AnyArray  # [nodes]

    @classmethod
    def of(cls, reduction: Reduction, model: FloatArray) -> _Flow:
        """The equations of a reduced question."""
        form = reduction.form
        # Elsewhere visits could go round in circles that no policy enters.
        live = ~reduction.fixed & reachable(reduction.graph, form.initial > 0)
        nodes, pairs = np.flatnonzero(live), np.flatnonzero(live[form.states])
        own = sparse.csr_array(
            (np.ones(len(pairs)), (np.arange(len(pairs)), form.states[pairs])), shape=(len(pairs), form.n_states)
        )
        matrix = sparse.csr_array((own - form.transitions[pairs]).T)[nodes]
        return cls(reduction, model, matrix, form.initial[nodes], pairs, nodes)

    @property
    def earned(self) -> FloatArray:
        """Rewards with what the end is worth paid on entering it, [flow pairs]."""
        form, ends = self.reduction.form, np.where(self.reduction.fixed, self.reduction.ends, 0.0)
        return np.asarray(form.rewards + form.transitions @ ends)[self.pairs]


class _Program:
    """The compiled program of some flow equations; if `elastic`, it minimises the violation of the limits instead."""

    def __init__(self, matrix: Any, limits: Limits, *, elastic: bool) -> None:
        cvxpy = load_cvxpy()
        size = matrix.shape[1]
        self.visits = cvxpy.Variable(size, nonneg=True)
        self.source, self.rewards = cvxpy.Parameter(matrix.shape[0]), cvxpy.Parameter(size)
        broken = cvxpy.Variable(len(limits.names), nonneg=True) if elastic else None
        self.rows = LimitRows(limits, self.visits, broken)
        objective = self.rewards @ self.visits if broken is None else -cvxpy.sum(broken)
        rules = [matrix @ self.visits == self.source, *self.rows.constraints]
        self.program = cvxpy.Problem(cvxpy.Maximize(objective), rules)

    def solve(self, flow: _Flow, limits: Limits, backend: Backend) -> str:
        """Set the numbers of a question and run the backend; returns its status."""
        self.source.value, self.rewards.value = flow.source, flow.earned
        self.rows.fill(limits.rows[:, flow.pairs], limits.bounds)
        return backend.solve(self.program)


def _solve(flow: _Flow, backend: Backend, limits: Limits, *, elastic: bool = False) -> _Answer | None:
    """Solve the program; with `elastic`, minimise the violation of the constraints instead. None: infeasible."""
    form = flow.reduction.form
    if not len(flow.pairs):  # the process ends at once
        return _Answer(np.zeros(form.n_pairs), np.zeros(len(limits.names)), "optimal")
    key = digest("total", elastic, backend.name, flow.matrix, limits.equal)
    with borrowed(flow.model, key, lambda: _Program(flow.matrix, limits, elastic=elastic)) as program:
        status = program.solve(flow, limits, backend)
        visits, prices = program.visits.value, program.rows.prices
    if limits.names and status in INFEASIBLE:
        return None
    if status in ("unbounded", "unbounded_inaccurate") and not limits.names:
        for _ in improvements(flow.reduction, form.rewards):  # raises with the proof, where there is one
            pass
    if status not in ANSWERED or visits is None:
        raise backend.failure(status, f"the backend {backend.name} says {status!r}. Try another backend.")
    found = np.zeros(form.n_pairs)
    found[flow.pairs] = np.maximum(np.asarray(visits, dtype=np.float64), 0.0)
    if not (np.isfinite(found).all() and np.isfinite(prices).all()):
        words = f"the backend {backend.name} says {status!r} but returned no finite numbers."
        raise backend.failure(status, words)
    return _Answer(found, prices, status)


def _sharpen(flow: _Flow, answer: _Answer) -> _Answer:
    """Recompute a vertex from its basis, where the answer shows one: backends stop near 1e-9."""
    form, pairs = flow.reduction.form, flow.pairs
    limits = form.limits
    used = np.flatnonzero(answer.visits[pairs] > 1e-9 * max(1.0, float(answer.visits.max(initial=0.0))))
    tight = np.flatnonzero(limits.equal | (np.abs(answer.prices) > 1e-9))
    seen = np.unique(form.states[pairs[used]])
    rows = np.searchsorted(flow.nodes, seen)
    if not len(used) or len(used) != len(seen) + len(tight):
        return answer
    binding = sparse.csr_array(limits.rows[tight][:, pairs[used]])
    system = sparse.vstack([flow.matrix[rows][:, used], binding], format="csc")
    try:
        factors: Any = splu(system)
    except RuntimeError:  # singular
        return answer
    exact = factors.solve(np.concatenate([flow.source[rows], limits.bounds[tight]]))
    duals = factors.solve(flow.earned[used], "T")
    before = answer.visits[pairs[used]]
    if not (np.isfinite(exact).all() and np.abs(exact - before).max() <= 1e-5 * max(1.0, float(before.max()))):
        return answer
    visits, prices = np.zeros_like(answer.visits), np.zeros_like(answer.prices)
    visits[pairs[used]] = np.maximum(exact, 0.0)
    prices[tight] = duals[len(rows) :]
    close = np.abs(prices - answer.prices).max(initial=0.0) <= 1e-4 * (1.0 + np.abs(answer.prices).max(initial=0.0))
    return _Answer(visits, prices if close else answer.prices, answer.status)


def _proof(total: TotalForm, prices: FloatArray) -> tuple[IntArray, FloatArray, TotalBound]:
    """A pair for each state and values, [S], that are optimal at some prices, and the best bound that they prove.

    Where the constraints make a policy go round in circles, or keep it from that, the exact prices leave these
    circles without a loss, and no values prove a bound beyond rounding. Prices beside them do.
    """
    best: tuple[IntArray, FloatArray, TotalBound] | None = None
    for move in MOVES:
        tried = total.base.limits.feasible_prices((1.0 + move) * prices)
        choice, values = _priced_optimum(total, tried)
        bound = bound_total(total, values, tried)
        if best is None or bound.value < best[2].value:
            best = choice, values, bound
        if np.isfinite(bound.value) or not prices.any():
            break
    assert best is not None
    return best


def _priced_optimum(total: TotalForm, prices: FloatArray) -> tuple[IntArray, FloatArray]:
    """Optimal pairs and values of states, [S], for the rewards less the price of the constraints."""
    reduction = priced_reduction(total, prices)
    choice, values = reduction.proper_choice, np.zeros(reduction.form.n_states)
    try:
        for step in improvements(reduction, reduction.form.rewards):
            choice, values = step.choice, step.values
    except Unending:  # prices that are a little too low: they prove nothing
        pass
    return reduction.lift(choice), reduction.to_states(values)


def _infeasible(problem: Problem, flow: _Flow, backend: Backend) -> SolverFailure:
    """The proof that no policy keeps the constraints, by the prices of the least violation; or a failure."""
    reduction, names = flow.reduction, flow.reduction.form.limits.names
    answer, proof = _least_violation(flow, backend, np.arange(len(names)))
    if proof is None:
        return SolverFailure(f"the backend {backend.name} says 'infeasible', but its prices do not prove it.")
    found = policy_of_visits(reduction, answer.visits, reduction.lift(reduction.proper_choice))
    nearest = lift(problem, reduction, reduction.proper_choice)
    policy = nearest if found is None else Policy.from_pairs(problem.mdp.pairs, found)
    conflict = list(range(len(names)))
    for k in list(conflict):
        fewer = np.array([other for other in conflict if other != k], dtype=np.int64)
        if len(fewer) and _least_violation(flow, backend, fewer)[1] is not None:
            conflict.remove(k)
    return InfeasibleTotal(proof, policy, tuple(names[k] for k in conflict))


def _least_violation(flow: _Flow, backend: Backend, among: AnyArray) -> tuple[_Answer, TotalBound | None]:
    """The visits that break some of the constraints least, and the proof that they cannot be kept, if there is one."""
    limits = flow.reduction.form.limits
    answer = _solve(flow, backend, limits.subset(among), elastic=True)
    if answer is None:
        raise SolverFailure(f"the backend {backend.name} says 'infeasible' of a program that relaxes every constraint.")
    prices = np.zeros(len(limits.names))
    prices[among] = answer.prices
    bare = without_rewards(flow.reduction.total)
    _, _, bound = _proof(bare, prices)
    return answer, bound if bound.value < 0 else None

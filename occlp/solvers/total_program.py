"""The linear program of totals: expected visits x ≥ 0 with x(s) = μ0(s) + Σ x p, maximise r·x.

Source: Altman (1999), chapter 9; Puterman (2005), section 7.2.7. Its duals are values; given the prices of
the constraints, policy iteration on the priced rewards finds the values that prove the bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
from occlp.solvers.base import InfeasibleTotal, InfiniteProof, Iterate, SolverFailure
from occlp.solvers.scaled_program import ANSWERED, run_program
from occlp.solvers.total_iteration import begin, lift
from occlp.total.bound import TotalBound, bound_total
from occlp.total.form import TotalForm, without_rewards
from occlp.total.improvement import Unending, improvements
from occlp.total.reduction import Reduction, priced_reduction
from occlp.total.routing import policy_of_visits

#: By what share prices are taken nearer to zero until they prove a bound.
SHRINKS = (0.0, 1e-11, 1e-10, 1e-9, 5e-9)


@dataclass(frozen=True, eq=False)
class _Answer:
    visits: FloatArray  # [pairs of the form]
    prices: FloatArray  # [k]
    status: str


def total_program(problem: Problem, backend: str, options: Mapping[str, Any]) -> Iterator[Iterate]:
    """Yield once: the policy of the program's visits, with values and prices that prove it."""
    reduction, _ = begin(problem, None)
    try:
        answer = _solve(reduction, backend, options, reduction.form.rewards)
    except Unending as trap:
        raise InfiniteProof(lift(problem, reduction, trap.choice), unending=True) from None
    if answer is None:
        raise _infeasible(problem, reduction, backend, options)
    form = reduction.total.base
    answer = _sharpen(reduction, answer)
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
        claims={"backend": backend, "status": answer.status},
    )


def _program(reduction: Reduction) -> tuple[Any, FloatArray, AnyArray, AnyArray]:
    """Flow matrix, right-hand side, and the pairs and nodes of the program."""
    form = reduction.form
    # Elsewhere visits could go round in circles that no policy enters.
    live = ~reduction.fixed & reachable(reduction.graph, form.initial > 0)
    nodes, pairs = np.flatnonzero(live), np.flatnonzero(live[form.states])
    own = sparse.csr_array(
        (np.ones(len(pairs)), (np.arange(len(pairs)), form.states[pairs])), shape=(len(pairs), form.n_states)
    )
    flow = sparse.csr_array((own - form.transitions[pairs]).T)[nodes]
    return flow, form.initial[nodes], pairs, nodes


def _earned(reduction: Reduction, rewards: FloatArray) -> FloatArray:
    """Rewards with what the end is worth paid on entering it, [pairs]."""
    return np.asarray(rewards + reduction.form.transitions @ np.where(reduction.fixed, reduction.ends, 0.0))


def _solve(
    reduction: Reduction, backend: str, options: Mapping[str, Any], rewards: FloatArray, *, elastic: bool = False
) -> _Answer | None:
    """Solve the program; with `elastic`, minimise the violation of the constraints instead. None: infeasible."""
    cvxpy = load_cvxpy()
    form, limits = reduction.form, reduction.form.limits
    flow, source, pairs, _ = _program(reduction)
    if not len(pairs):  # the process ends at once
        return _Answer(np.zeros(form.n_pairs), np.zeros(len(limits.names)), "optimal")
    visits = cvxpy.Variable(len(pairs), nonneg=True)
    rules = [flow @ visits == source]
    broken = cvxpy.Variable(len(limits.names), nonneg=True) if elastic else np.zeros(len(limits.names))
    rows = []
    for k, row in enumerate(limits.rows):
        value = row[pairs] @ visits - limits.bounds[k]
        rows.append([value <= broken[k], -value <= broken[k]] if limits.equal[k] else [value <= broken[k]])
    objective = -cvxpy.sum(broken) if elastic else _earned(reduction, rewards)[pairs] @ visits
    program = cvxpy.Problem(cvxpy.Maximize(objective), [*rules, *(one for pair in rows for one in pair)])
    run_program(program, backend, options)
    if rows and program.status in ("infeasible", "infeasible_inaccurate", "infeasible_or_unbounded"):
        return None
    if program.status in ("unbounded", "unbounded_inaccurate") and not rows:
        for _ in improvements(reduction, rewards):  # raises with the proof, where there is one
            pass
    if program.status not in ANSWERED or visits.value is None:
        raise SolverFailure(f"the backend {backend} says {program.status!r}. Try another backend.")
    found = np.zeros(form.n_pairs)
    found[pairs] = np.maximum(np.asarray(visits.value, dtype=np.float64), 0.0)
    duals = [[float(np.asarray(one.dual_value)) for one in pair] for pair in rows]
    prices = np.array([pair[0] - (pair[1] if len(pair) > 1 else 0.0) for pair in duals])
    if not (np.isfinite(found).all() and np.isfinite(prices).all()):
        raise SolverFailure(f"the backend {backend} says {program.status!r} but returned no finite numbers.")
    return _Answer(found, prices, str(program.status))


def _sharpen(reduction: Reduction, answer: _Answer) -> _Answer:
    """Recompute a vertex from its basis, where the answer shows one: backends stop near 1e-9."""
    form, limits = reduction.form, reduction.form.limits
    flow, source, pairs, nodes = _program(reduction)
    used = np.flatnonzero(answer.visits[pairs] > 1e-9 * max(1.0, float(answer.visits.max(initial=0.0))))
    tight = np.flatnonzero(limits.equal | (np.abs(answer.prices) > 1e-9))
    seen = np.unique(form.states[pairs[used]])
    rows = np.searchsorted(nodes, seen)
    if not len(used) or len(used) != len(seen) + len(tight):
        return answer
    system = sparse.vstack([flow[rows][:, used], sparse.csr_array(limits.rows[tight][:, pairs[used]])], format="csc")
    try:
        factors: Any = splu(system)
    except RuntimeError:  # singular
        return answer
    exact = factors.solve(np.concatenate([source[rows], limits.bounds[tight]]))
    duals = factors.solve(_earned(reduction, form.rewards)[pairs[used]], "T")
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

    Where the constraints make a policy go round in circles, the exact prices leave these circles without a loss,
    and no values prove a bound beyond rounding. Prices a little nearer to zero do.
    """
    best: tuple[IntArray, FloatArray, TotalBound] | None = None
    for shrink in SHRINKS:
        tried = total.base.limits.feasible_prices((1.0 - shrink) * prices)
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


def _infeasible(problem: Problem, reduction: Reduction, backend: str, options: Mapping[str, Any]) -> SolverFailure:
    """The proof that no policy keeps the constraints, by the prices of the least violation; or a failure."""
    answer, proof = _least_violation(reduction, backend, options, np.arange(len(reduction.form.limits.names)))
    if proof is None:
        return SolverFailure(f"the backend {backend} says 'infeasible', but its prices do not prove it.")
    found = policy_of_visits(reduction, answer.visits, reduction.lift(reduction.proper_choice))
    nearest = lift(problem, reduction, reduction.proper_choice)
    policy = nearest if found is None else Policy.from_pairs(problem.mdp.pairs, found)
    conflict = list(range(len(reduction.form.limits.names)))
    for k in list(conflict):
        fewer = np.array([other for other in conflict if other != k], dtype=np.int64)
        if len(fewer) and _least_violation(reduction, backend, options, fewer)[1] is not None:
            conflict.remove(k)
    return InfeasibleTotal(proof, policy, tuple(reduction.form.limits.names[k] for k in conflict))


def _least_violation(
    reduction: Reduction, backend: str, options: Mapping[str, Any], among: AnyArray
) -> tuple[_Answer, TotalBound | None]:
    """The visits that break some of the constraints least, and the proof that they cannot be kept, if there is one."""
    limits = reduction.form.limits
    some = replace(reduction, form=replace(reduction.form, limits=limits.subset(among)))
    answer = _solve(some, backend, options, np.zeros(some.form.n_pairs), elastic=True)
    if answer is None:
        raise SolverFailure(f"the backend {backend} says 'infeasible' of a program that relaxes every constraint.")
    prices = np.zeros(len(limits.names))
    prices[among] = answer.prices
    bare = without_rewards(reduction.total)
    _, _, bound = _proof(bare, prices)
    return answer, bound if bound.value < 0 else None

"""The program of averages that depend on the start: long-run frequencies x and the way there, y.

Hordijk and Kallenberg (1979); Puterman 2005, section 9.3: maximise r·x with x(s) = Σ x p and
x(s) + y(s) = μ0(s) + Σ y p. The duals of the first rows are relative values, those of the second the gains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from occlp._typing import AnyArray, FloatArray
from occlp.certificate import priced, to_multipliers
from occlp.convex import load_cvxpy
from occlp.errors import OccupancyError
from occlp.evaluation import formulate
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.base import Iterate, SolverFailure
from occlp.solvers.multichain_iteration import Step, multichain_iterations
from occlp.solvers.scaled_program import ANSWERED, run_program
from occlp.standard import StandardForm, flow_matrix

#: Frequencies below this (of a total of one) are taken for zero.
NO_MASS = 1e-9


@dataclass(frozen=True, eq=False)
class _Answer:
    frequencies: FloatArray  # [pairs], x
    ways: FloatArray  # [pairs], y
    prices: FloatArray  # [k]
    status: str


def build_program(problem: Problem) -> Any:
    """Return the cvxpy Problem in the user's units and sense: variables ``occupancy`` and ``transient`` [pairs].

    Its constraints are labelled ``stationary`` [S], ``flow`` [S], ``nonnegative`` and the names of the problem's own.
    """
    cvxpy = load_cvxpy()
    form = formulate(problem)
    occupancy = cvxpy.Variable(form.n_pairs, name="occupancy")
    transient = cvxpy.Variable(form.n_pairs, name="transient")
    constraints = [
        (flow_matrix(form) @ occupancy == 0).set_label("stationary"),
        (_owners(form) @ occupancy + flow_matrix(form) @ transient == form.initial).set_label("flow"),
        (occupancy >= 0).set_label("nonnegative"),
        (transient >= 0).set_label("nonnegative_transient"),
    ]
    for name, limit in problem.limits.items():
        value = problem.coefficients(limit) @ occupancy
        relations = {"<=": value <= limit.bound, ">=": value >= limit.bound, "==": value == limit.bound}
        constraints.append(relations[limit.relation].set_label(name))
    sense = cvxpy.Maximize if problem.sense == "maximize" else cvxpy.Minimize
    return cvxpy.Problem(sense(problem.mdp.pair_rewards @ occupancy), constraints)


def multichain_program(problem: Problem, backend: str, options: Mapping[str, Any]) -> Iterator[Iterate]:
    """Yield once: the policy of the program's frequencies, with gains, values and prices that prove it."""
    form = formulate(problem)
    answer = _solve(form, backend, options)
    rewards, _ = priced(form, form.limits.feasible_prices(answer.prices))
    proof = _best(problem, replace(form, rewards=rewards))
    policy = _policy(form, answer, proof.policy)
    if policy is None and problem.limits:
        earned = form.to_user(float(form.rewards @ answer.frequencies))
        raise SolverFailure(
            "the best long-run frequencies take a lottery over policies at the start; no stationary policy has them. "
            f"They would earn {earned:.6g}. Relax a constraint, or ask a discounted question with a discount near 1."
        )
    factor = form.sign * form.scale
    yield Iterate(
        proof.policy if policy is None else policy,
        values=factor * proof.values,
        multipliers=to_multipliers(form, form.limits.feasible_prices(answer.prices)),
        claims={"backend": backend, "status": answer.status},
        gains=factor * proof.gain,
    )


def _best(problem: Problem, form: StandardForm) -> Step:
    """The end of policy iteration on priced rewards: the gains and values that prove a bound at these prices."""
    step: Step | None = None
    for step in multichain_iterations(form, problem.mdp.pairs):  # noqa: B007 - only the last one counts
        pass
    assert step is not None
    return step


def _owners(form: StandardForm) -> Any:
    """E: csr_array [S, pairs] that adds up the pairs of each state."""
    shape = (form.n_states, form.n_pairs)
    return sparse.csr_array((np.ones(form.n_pairs), (form.states, np.arange(form.n_pairs))), shape=shape)


def _solve(form: StandardForm, backend: str, options: Mapping[str, Any]) -> _Answer:
    cvxpy = load_cvxpy()
    mass, flow = float(form.n_pairs), sparse.csr_array(flow_matrix(form))
    x, y = (cvxpy.Variable(form.n_pairs, nonneg=True) for _ in range(2))
    rules = [flow @ x == 0, _owners(form) @ x + flow @ y == mass * form.initial]
    limits = form.limits
    rows = [(row @ x == 0) if same else (row @ x <= 0) for row, same in zip(limits.rows, limits.equal, strict=True)]
    program = cvxpy.Problem(cvxpy.Maximize(form.rewards @ x), [*rules, *rows])
    run_program(program, backend, options)
    if rows and program.status in ("infeasible", "infeasible_inaccurate", "infeasible_or_unbounded"):
        raise SolverFailure(
            f"the backend {backend} says that no frequencies keep the constraints; where averages depend on the start "
            "this version has no proof of that. Ask a discounted question with a discount near 1."
        )
    if program.status not in ANSWERED or x.value is None or y.value is None:
        raise SolverFailure(f"the backend {backend} says {program.status!r}. Try another backend, or PolicyIteration.")
    found = [np.maximum(np.asarray(part.value, dtype=np.float64), 0.0) / mass for part in (x, y)]
    prices = np.array([float(np.asarray(row.dual_value)) for row in rows])
    if not (np.isfinite(found).all() and np.isfinite(prices).all()):
        raise SolverFailure(f"the backend {backend} says {program.status!r} but returned no finite numbers.")
    return _Answer(found[0], found[1], prices, str(program.status))


def _policy(form: StandardForm, answer: _Answer, elsewhere: Policy) -> Policy | None:
    """The stationary policy with these frequencies, or None where there is none.

    The frequencies make their states a union of closed classes. What remains is a way from the start which enters
    each class as often as it is visited in the long run, without leaving any.
    """
    frequencies = np.where(answer.frequencies > NO_MASS, answer.frequencies, 0.0)
    first = form.start[:-1]
    visited = np.add.reduceat(frequencies, first) > 0
    labels = _classes(form, frequencies, visited)
    if labels is None:
        return None
    ways = _route(form, labels, np.add.reduceat(answer.frequencies, first))
    if ways is None:
        return None
    try:
        chosen = np.where(visited[form.states], frequencies, ways)
        return Policy.from_occupancy(elsewhere.pairs, chosen, elsewhere)
    except OccupancyError:
        return None


def _classes(form: StandardForm, frequencies: FloatArray, visited: AnyArray) -> AnyArray | None:
    """Class of each visited state, [S], −1 elsewhere; None where the frequencies leave their own states."""
    used = np.flatnonzero(frequencies)
    entries = sparse.coo_array(form.transitions[used])
    tails, heads = form.states[used][entries.row], entries.col
    if not visited[heads].all():
        return None
    shape = (form.n_states, form.n_states)
    graph = sparse.coo_array((np.ones(len(tails)), (tails, heads)), shape=shape)
    _, labels = csgraph.connected_components(graph, directed=True, connection="strong")
    if (labels[tails] != labels[heads]).any():
        return None
    return np.where(visited, np.unique(labels, return_inverse=True)[1], -1)


def _route(form: StandardForm, labels: AnyArray, mass: FloatArray) -> FloatArray | None:
    """The shortest way y ≥ 0, [pairs], on states outside the classes that enters each class as often as needed."""
    cvxpy = load_cvxpy()
    outside = labels < 0
    pairs, states = np.flatnonzero(outside[form.states]), np.flatnonzero(outside)
    ways = np.zeros(form.n_pairs)
    count = int(labels.max()) + 1
    sums = np.bincount(labels[~outside], mass[~outside], count)
    short = sums - np.bincount(labels[~outside], form.initial[~outside], count)
    if not len(pairs):
        return ways if np.abs(short).max() <= 1e3 * NO_MASS else None
    inside = np.flatnonzero(~outside)
    shape = (count, form.n_states)
    onto = sparse.csr_array((np.ones(len(inside)), (labels[inside], inside)), shape=shape)
    entering = sparse.csr_array(onto @ form.transitions[pairs].T)
    y = cvxpy.Variable(len(pairs), nonneg=True)
    flow = sparse.csr_array(flow_matrix(form))[states][:, pairs]
    used = np.flatnonzero((sums > 0) | (np.bincount(labels[~outside], minlength=count) > 0))
    missed = cvxpy.norm1(entering[used] @ y - short[used])
    program = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(y)), [flow @ y == form.initial[states], missed <= 1e2 * NO_MASS])
    run_program(program, "CLARABEL" if len(pairs) > 2000 else "HIGHS", {})
    if program.status not in ANSWERED or y.value is None:
        return None
    ways[pairs] = np.where(y.value > 1e-12, y.value, 0.0)
    return ways

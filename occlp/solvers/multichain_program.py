"""The program of averages that depend on the start: long-run frequencies x and the way there, y.

Hordijk and Kallenberg (1979); Puterman 2005, section 9.3: maximise r·x with x(s) = Σ x p and
x(s) + y(s) = μ0(s) + Σ y p. The duals of the first rows are relative values, those of the second the gains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from occlp._typing import AnyArray, FloatArray
from occlp.bounds.upper import priced
from occlp.certificate import to_multipliers
from occlp.convex import load_cvxpy
from occlp.errors import OccupancyError
from occlp.evaluation import formulate
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.backends import ANSWERED, INFEASIBLE, Backend
from occlp.solvers.base import Iterate, SolverFailure
from occlp.solvers.multichain_iteration import Step, multichain_iterations
from occlp.solvers.programs import LimitRows, borrowed, digest
from occlp.standard import StandardForm, flow_matrix

#: Frequencies below this (of a total of one) are taken for zero.
NO_MASS = 1e-9
#: What a step of the way from the start is worth, in mass that misses its class.
SHORTNESS = 1e-6
#: By what prices are multiplied to find policies that keep the constraints.
RAISED = (1.0 + 1e-6, 2.0, 16.0)


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


def multichain_program(problem: Problem, backend: Backend) -> Iterator[Iterate]:
    """Yield the policy of the program's frequencies, with gains, values and prices that prove it.

    Where only a lottery over policies has these frequencies, yield stationary policies that come near them, beside the
    bound that the prices prove of all policies, lotteries included.
    """
    form = formulate(problem)
    answer = _solve(form, backend)
    rewards, _ = priced(form, form.limits.feasible_prices(answer.prices))
    proof = _best(problem, replace(form, rewards=rewards))
    policy = _policy(form, answer, proof.policy, backend.deadline)
    claims, policies = {"backend": backend.name, "status": answer.status}, [proof.policy if policy is None else policy]
    if policy is None and problem.limits:
        earned = form.to_user(float(form.rewards @ answer.frequencies))
        claims["note"] = (
            "The best long-run frequencies take a lottery over policies at the start; no stationary policy has them. "
            f"They would earn {earned:.6g}. Hold the lottery (oc.Mixture), or relax a constraint."
        )
        policies += _thriftier(problem, form, answer.prices)
    factor = form.sign * form.scale
    for policy in policies:
        yield Iterate(
            policy,
            values=factor * proof.values,
            multipliers=to_multipliers(form, form.limits.feasible_prices(answer.prices)),
            claims=claims,
            gains=factor * proof.gain,
        )
    backend.stop_at(answer.status)


def _thriftier(problem: Problem, form: StandardForm, prices: FloatArray) -> list[Policy]:
    """Policies that are best at higher and higher prices, and where nothing but the constraints counts."""
    found = []
    for raised in RAISED:
        rewards, _ = priced(form, form.limits.feasible_prices(raised * prices))
        found.append(_best(problem, replace(form, rewards=rewards)).policy)
    broken = prices @ form.limits.rows
    return [*found, _best(problem, replace(form, rewards=-broken)).policy]


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


class _Program:
    """The compiled program of frequencies x and ways y of one model."""

    def __init__(self, form: StandardForm) -> None:
        cvxpy = load_cvxpy()
        flow = sparse.csr_array(flow_matrix(form))
        self.frequencies, self.ways = (cvxpy.Variable(form.n_pairs, nonneg=True) for _ in range(2))
        self.rewards, self.initial = cvxpy.Parameter(form.n_pairs), cvxpy.Parameter(form.n_states)
        self.rows = LimitRows(form.limits, self.frequencies)
        reached = _owners(form) @ self.frequencies + flow @ self.ways == self.initial
        rules = [flow @ self.frequencies == 0, reached, *self.rows.constraints]
        self.program = cvxpy.Problem(cvxpy.Maximize(self.rewards @ self.frequencies), rules)

    def solve(self, form: StandardForm, backend: Backend) -> str:
        """Set the numbers of a question, with the number of pairs as its mass, and run the backend."""
        self.rewards.value, self.initial.value = form.rewards, float(form.n_pairs) * form.initial
        self.rows.fill(form.limits.rows, form.limits.bounds)
        return backend.solve(self.program)


def _solve(form: StandardForm, backend: Backend) -> _Answer:
    key = digest("multichain", backend.name, form.start, form.transitions, form.limits.equal)
    with borrowed(form.transitions.data, key, lambda: _Program(form)) as program:
        status = program.solve(form, backend)
        parts, prices = (program.frequencies.value, program.ways.value), program.rows.prices
    if form.limits.names and status in INFEASIBLE:
        raise SolverFailure(
            f"the backend {backend.name} says that no frequencies keep the constraints; where averages depend on the "
            "start this version has no proof of that. Ask a discounted question with a discount near 1."
        )
    if status not in ANSWERED or any(part is None for part in parts):
        words = f"the backend {backend.name} says {status!r}. Try another backend, or PolicyIteration."
        raise backend.failure(status, words)
    x, y = (np.maximum(np.asarray(part, dtype=np.float64), 0.0) / form.n_pairs for part in parts)
    if not (np.isfinite(x).all() and np.isfinite(y).all() and np.isfinite(prices).all()):
        words = f"the backend {backend.name} says {status!r} but returned no finite numbers."
        raise backend.failure(status, words)
    return _Answer(x, y, prices, status)


def _policy(form: StandardForm, answer: _Answer, elsewhere: Policy, deadline: float | None) -> Policy | None:
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
    ways = _route(form, labels, np.add.reduceat(answer.frequencies, first), deadline)
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


def _route(form: StandardForm, labels: AnyArray, mass: FloatArray, deadline: float | None) -> FloatArray | None:
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
    # Frequencies have the accuracy of their backend; what it leaves is missed, and not a shorter way bought with it.
    least = cvxpy.Minimize(missed + SHORTNESS * cvxpy.sum(y))
    program = cvxpy.Problem(least, [flow @ y == form.initial[states], missed <= 1e2 * NO_MASS])
    status = Backend("CLARABEL" if len(pairs) > 2000 else "HIGHS", deadline=deadline).solve(program)
    if status not in ANSWERED or y.value is None:
        return None
    ways[pairs] = np.where(y.value > 1e-12, y.value, 0.0)
    return ways

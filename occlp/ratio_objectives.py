"""Objectives that are ratios of expectations: output per hour, cost per item, reward per unit of wear.

Maximise E[r] / E[c] with E[c] > 0. As an occupancy program this is linear-fractional, and the transform of
Charnes and Cooper (1962) makes it a linear program again. Here it is solved by Dinkelbach's method (1967): with
F(λ) the maximum of E[r] − λ E[c], the optimal ratio is the root of F, and each step is an ordinary
question with a certificate. If U bounds F(λ) from above and c0 > 0 bounds E[c] from below, no ratio exceeds
λ + U / c0; and the ratio of any policy is a bound from the other side. The steps converge superlinearly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.constraints import LinearExpression, expected
from occlp.errors import Infeasible, InvalidProblem, NotCertified
from occlp.evaluation import Evaluation, evaluate
from occlp.model import MDP
from occlp.policy import Policy
from occlp.problem import Problem, as_problem, refuse_total
from occlp.result import Result, Status
from occlp.solvers.base import Solver
from occlp.solving import solve

#: Tolerance asked of each linear question; rounding is its floor.
QUESTION_TOL = 1e-11
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False, kw_only=True)
class ParametricResult:
    """The answer to a question that was put as a sequence of linear ones, with bounds from both sides.

    Attributes
    ----------
    value : float
        The objective of the returned policy, in the user's units.
    lower, upper : float
        They enclose the optimum over all policies that keep the constraints.
    status : Status
        CERTIFIED when upper − lower is within the tolerance, else BOUNDED.
    evaluation : Evaluation
        Of the returned policy on the model as it was given.
    violation : float
        By how much the policy breaks a constraint (within the feasibility tolerance).
    steps : tuple of mapping
        The linear questions asked, in order: ``parameter``, ``value`` of the policy found and ``upper``
        bound proved so far.
    """

    value: float
    lower: float
    upper: float
    status: Status
    evaluation: Evaluation
    violation: float
    steps: tuple[Mapping[str, float], ...]

    @property
    def policy(self) -> Policy:
        """The returned policy."""
        return self.evaluation.policy

    @property
    def gap(self) -> float:
        """upper − lower."""
        return self.upper - self.lower

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.status.name} value={self.value:.6g} gap={self.gap:.2g} "
            f"questions={len(self.steps)}>"
        )


def maximize_ratio(
    question: MDP | Problem,
    numerator: LinearExpression | str | Any,
    denominator: LinearExpression | str | Any,
    *,
    tol: float = 1e-8,
    max_solves: int = 100,
    solver: Solver | None = None,
) -> ParametricResult:
    """Maximise the ratio of two expectations, E[numerator] / E[denominator].

    Parameters
    ----------
    question : MDP or Problem
        A model (discounted), or a problem whose criterion and constraints are kept; its reward and sense
        play no part unless they are named.
    numerator, denominator : str, array [S, A] or LinearExpression
        "reward", names of costs, numbers of your own, or expressions. To minimise a ratio, negate the
        numerator: ``-oc.expected("cost")``.
    tol : float
        Gap that counts as certified, relative to the ratio.
    max_solves : int
        Linear questions after which the method ends with the gap it has.
    solver : Solver, optional
        For the linear questions; default as in `solve`.

    Returns
    -------
    ParametricResult
        Its ``steps`` show the method of Dinkelbach: ``parameter`` is λ.

    Raises
    ------
    InvalidProblem
        When the denominator is not positive under every policy that keeps the constraints.
    Infeasible
        When no policy keeps the constraints.
    NotCertified
        When a linear question failed.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("queue-admission")
    >>> per_period, customers = oc.expected([[1, 1]] * 11), oc.expected("queue")
    >>> answer = oc.maximize_ratio(mdp, "reward", per_period + customers)
    >>> answer.status.name, answer.lower <= answer.value <= answer.upper
    ('CERTIFIED', True)
    """
    problem = linear_question(question)
    above, below = coefficients(problem, numerator), coefficients(problem, denominator)
    floor, best = _floor(problem, below, solver)
    ratio = float(above @ best.pair_occupancy) / float(below @ best.pair_occupancy)
    size = float(np.abs(above).max()) / floor
    upper = np.inf
    steps: list[Mapping[str, float]] = []
    while len(steps) < max_solves:
        parameter = ratio
        found = ask(problem, above - parameter * below, solver)
        upper = float(min(upper, parameter + max(found.certificate.upper, 0.0) / floor))
        ratio = float(above @ found.pair_occupancy) / float(below @ found.pair_occupancy)
        steps.append({"parameter": parameter, "value": ratio, "upper": upper})
        if ratio > parameter:
            best = found
        ratio = max(ratio, parameter)
        if ratio == parameter or upper - ratio <= _allowed(tol, ratio, upper, size):
            break
    lower = ratio - 16 * EPS * (size + abs(ratio) * float(np.abs(below).max()) / floor)
    upper = max(upper, lower)
    certified = upper - lower <= _allowed(tol, ratio, upper, size)
    return ParametricResult(
        value=ratio,
        lower=lower,
        upper=upper,
        status=Status.CERTIFIED if certified else Status.BOUNDED,
        evaluation=evaluate(problem, best.policy),
        violation=best.certificate.violation,
        steps=tuple(steps),
    )


def linear_question(question: MDP | Problem) -> Problem:
    """The problem asked about; raises `InvalidProblem` where its objective is not linear."""
    problem = as_problem(question)
    refuse_total(problem, "this analysis is of")
    if problem.regularizer is not None or problem.utility is not None:
        raise InvalidProblem("this question is one of expectations; leave the regularizer or utility out.")
    return problem


def coefficients(problem: Problem, what: LinearExpression | str | Any) -> FloatArray:
    """The numbers of an expression, a name or an array, [pairs]."""
    expression = what if isinstance(what, LinearExpression) else expected(what)
    return expression.coefficients(problem.mdp, problem.rest)


def ask(problem: Problem, rewards: FloatArray, solver: Solver | None = None) -> Result:
    """Maximise other rewards [pairs] under the constraints and the criterion of a problem.

    Raises `Infeasible`, and `NotCertified` when no policy was found that keeps the constraints.
    """
    limits = {name: limit.in_numbers(problem.mdp, problem.rest) for name, limit in problem.all_limits.items()}
    asked = Problem(problem.mdp.replace(rewards=rewards), criterion=problem.criterion, constraints=limits)
    result = solve(asked, solver, tol=QUESTION_TOL, check=False)
    if result.status is Status.INFEASIBLE:
        raise Infeasible(result.message, result)
    if result.status is Status.FAILED or not np.isfinite(result.gap):
        raise NotCertified(f"one of the linear questions failed: {result.message}", result)
    return result


def _floor(problem: Problem, below: FloatArray, solver: Solver | None) -> tuple[float, Result]:
    """A positive lower bound on the denominator under every policy, and the policy that comes closest."""
    least = ask(problem, -below, solver)
    floor = -least.certificate.upper
    if not floor > 0:
        raise InvalidProblem(
            f"the denominator of a ratio has to be positive under every policy, but it can be {-least.objective:.6g}. "
            "Add a constraint that keeps it away from zero."
        )
    return floor, least


def _allowed(tol: float, lower: float, upper: float, size: float) -> float:
    return max(tol * max(abs(lower), abs(upper)), 64 * EPS * size)

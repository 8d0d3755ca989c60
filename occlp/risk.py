"""Risk of the reward of one period: its CVaR, and its variance.

A period is drawn at random with the discounted (or long-run) frequencies; X is its reward r(s, a), so that
P(X = x) is the occupancy of the pairs with r = x. Both measures here are about this X. They say nothing of the
risk of the *return*, the sum over time, which needs a state that remembers the sum; and the chance in the
next state is averaged out already, because r(s, a) is an expectation.

CVaR and mean less variance are convex in the occupancy, so that maximising them is no convex program: mixing
two policies can only make X riskier. But for each level, or each mean, the question is linear, and their number
is finite or their path piecewise linear. So both are solved globally, with bounds, by ordinary questions.
Sources: Rockafellar and Uryasev (2000); Filar, Kallenberg and Lee (1989).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.constraints import LinearExpression
from occlp.errors import InvalidProblem
from occlp.evaluation import evaluate, formulate
from occlp.model import MDP
from occlp.pareto import pareto
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.ratio_objectives import EPS, ParametricResult, ask, coefficients, linear_question
from occlp.result import Status
from occlp.solvers.base import Solver


def cvar_per_step(
    question: MDP | Problem,
    level: float,
    *,
    of: LinearExpression | str | Any = "reward",
    tol: float = 1e-8,
    solver: Solver | None = None,
) -> ParametricResult:
    """Optimise the mean of the worst share of periods: the conditional value at risk of the reward of a period.

    Maximising, it is the mean of the lowest rewards that make up a share `level` of all periods,
    max over t of t − E[(t − X)⁺] / level; minimising, that of the highest costs. For each of the distinct
    rewards t the question is linear; those that bounds exclude are not asked.

    This is **not** the CVaR of the return: periods are pooled, whichever run they belong to (see `occlp.risk`).

    Parameters
    ----------
    question : MDP or Problem
        A model, or a problem whose sense, criterion and constraints are kept.
    level : float
        The share of periods, in (0, 1]; 1 is the plain expectation.
    of : str, array [S, A] or LinearExpression
        What X is, one number a pair; default the reward.
    tol : float
        Gap that counts as certified, relative to the range of X.
    solver : Solver, optional
        For the linear questions; default as in `solve`.

    Returns
    -------
    ParametricResult
        ``steps`` hold the levels t that were asked, as ``parameter``.

    Raises
    ------
    InvalidProblem
        For a level outside (0, 1].
    Infeasible, NotCertified
        As `maximize_ratio`.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> careful = oc.cvar_per_step(mdp, 0.2)
    >>> careful.status.name, careful.policy.actions["worn"]
    ('CERTIFIED', 'run')
    """
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level <= 1:
        raise InvalidProblem(f"level={level!r} is the share of periods that count, in (0, 1].")
    problem = linear_question(question)
    sign = 1.0 if problem.sense == "maximize" else -1.0
    values = sign * coefficients(problem, of)
    levels = np.unique(values)
    bounds = np.full(len(levels), np.inf)
    best, value, steps = None, -np.inf, []
    chosen = len(levels) // 2
    asked = np.zeros(len(levels), dtype=np.bool_)
    allowed = max(tol, 64 * EPS) * float(np.ptp(levels))
    while True:
        t = float(levels[chosen])
        found = ask(problem, t - np.maximum(t - values, 0.0) / level, solver)
        asked[chosen] = True
        # The objective as a function of t has slopes between 1 − 1/level and 1.
        steps_up, steps_down = np.maximum(levels - t, 0.0), np.maximum(t - levels, 0.0)
        bounds = np.minimum(bounds, found.certificate.upper + steps_up + (1.0 / level - 1.0) * steps_down)
        attained = _cvar(levels, values, found.pair_occupancy, level)
        if attained > value:
            best, value = found, attained
        steps.append({"parameter": sign * t, "value": sign * attained, "upper": sign * float(bounds.max())})
        left = np.where(asked, -np.inf, bounds)
        chosen = int(np.argmax(left))
        if left[chosen] <= value + allowed / 2:
            break
    assert best is not None
    rounding = 16 * EPS * float(np.abs(levels).max()) / level
    ends = value - rounding, max(float(bounds.max()), value)
    return _answer(problem, sign, value, ends, allowed, best.policy, steps)


def mean_variance(
    question: MDP | Problem,
    aversion: float,
    *,
    of: LinearExpression | str | Any = "reward",
    tol: float = 1e-8,
) -> ParametricResult:
    """Optimise the mean of the reward of a period less its variance, E[X] − aversion · Var[X].

    Var[X] = E[X²] − E[X]², so that both moments are linear in the occupancy and the objective is convex in
    them: the optimum is a vertex of the front of E[X] against E[X²], which the parametric linear program
    `pareto` finds. Minimising, it is E[X] + aversion · Var[X]. X is the reward of a period drawn at random:
    this is not the variance of the return.

    Parameters
    ----------
    question : MDP or Problem
        A model, or a problem whose sense, criterion and constraints are kept.
    aversion : float
        Price of a unit of variance, not negative.
    of : str, array [S, A] or LinearExpression
        What X is, one number a pair; default the reward.
    tol : float
        Gap that counts as certified, relative to the range of X (and of aversion · X²).

    Returns
    -------
    ParametricResult
        ``steps`` hold the vertices of the front, the mean as ``parameter``.

    Raises
    ------
    InvalidProblem
        For an aversion that is negative or not finite.
    Infeasible, NotCertified
        As `maximize_ratio`.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> oc.mean_variance(mdp, 0.0).policy.actions == oc.solve(mdp).policy.actions
    True
    """
    if isinstance(aversion, bool) or not isinstance(aversion, int | float) or not 0 <= aversion < np.inf:
        raise InvalidProblem(f"aversion={aversion!r} must be a finite number that is not negative.")
    problem = linear_question(question)
    sign = 1.0 if problem.sense == "maximize" else -1.0
    values = sign * coefficients(problem, of)
    low, size = float(values.min()), float(np.ptp(values)) or 1.0
    moved = (values - low) / size  # in [0, 1]: the variance does not mind, and weights of the mean are positive
    price = aversion * size
    model = problem.mdp.replace(costs={"mean": moved, "square": moved**2})
    limits = {name: limit.in_numbers(problem.mdp, problem.rest) for name, limit in problem.all_limits.items()}
    asked = Problem(model, criterion=problem.criterion, constraints=limits)
    front = pareto(asked, maximize=["mean"], minimize=["square"])

    def utility(mean: Any, square: Any) -> Any:
        return low + size * (mean - price * (square - mean**2))

    attained = np.asarray(utility(front.points[:, 0], front.points[:, 1]))
    best = int(np.argmax(attained))
    corners = _corners(front.bound_weights * front.signs, front.bounds)
    upper = float(np.max(utility(corners[:, 0], corners[:, 1]), initial=attained[best]))
    rounding = 32 * EPS * (abs(low) + size * (1.0 + price))
    steps = [
        {"parameter": sign * (low + size * mean), "value": sign * value, "upper": sign * upper}
        for mean, value in zip(front.points[:, 0].tolist(), attained.tolist(), strict=True)
    ]
    allowed = max(tol, 64 * EPS) * size * (1.0 + price)
    ends = float(attained[best]) - rounding, upper + rounding
    return _answer(problem, sign, float(attained[best]), ends, allowed, front.policies[best], steps)


def _answer(
    problem: Problem,
    sign: float,
    value: float,
    ends: tuple[float, float],
    allowed: float,
    policy: Policy,
    steps: Sequence[Mapping[str, float]],
) -> ParametricResult:
    """Put an answer together; `value` and `ends` are those of a maximisation."""
    evaluation = evaluate(problem, policy)
    return ParametricResult(
        value=sign * value,
        lower=min(sign * ends[0], sign * ends[1]),
        upper=max(sign * ends[0], sign * ends[1]),
        status=Status.CERTIFIED if ends[1] - ends[0] <= allowed else Status.BOUNDED,
        evaluation=evaluation,
        violation=formulate(problem).violation(evaluation.pair_occupancy),
        steps=tuple(steps),
    )


def _cvar(levels: FloatArray, values: FloatArray, occupancy: FloatArray, level: float) -> float:
    """max over t of t − E[(t − X)⁺] / level for one occupancy, by its cumulated distribution over the levels."""
    mass = np.bincount(np.searchsorted(levels, values), weights=occupancy, minlength=len(levels))
    below = np.concatenate([[0.0], np.cumsum(np.cumsum(mass)[:-1] * np.diff(levels))])  # E[(t − X)⁺] at each level
    return float((levels - below / level).max())


def _corners(normals: FloatArray, bounds: FloatArray) -> FloatArray:
    """Corners of the intersection of half-planes w·z ≤ b, [n, 2]: intersections of two that all others allow."""
    found = []
    for n, normal in enumerate(normals):
        others = np.flatnonzero(np.abs(normals[:n] @ [normal[1], -normal[0]]) > 1e-12)  # parallel lines do not meet
        lines = np.stack([normals[others], np.broadcast_to(normal, (len(others), 2))], axis=1)  # [m, 2, 2]
        ends = np.stack([bounds[others], np.full(len(others), bounds[n])], axis=1)
        met = np.linalg.solve(lines, ends[:, :, None])[:, :, 0]
        found.append(met[(met @ normals.T <= bounds + 1e-9).all(axis=1)])
    return np.concatenate(found)

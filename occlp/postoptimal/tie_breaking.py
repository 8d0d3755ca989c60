"""A second objective among the optimal policies: least wear, most entropy, or anything linear.

The optimal occupancies are those of a smaller model (`face`), so the second question is an ordinary one
about that model. Entropy is Σ d(s) H(π(· | s)), in nats: its optimum satisfies the soft Bellman equation
V = log Σ_a exp(γPV) of the smaller model, solved by soft policy iteration (which is Newton's method).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from occlp._typing import FloatArray
from occlp.certificate import to_multipliers
from occlp.chains.chain import policy_chain, relative_values
from occlp.constraints import LinearExpression, expected
from occlp.errors import InvalidProblem, Unsupported
from occlp.evaluation import formulate
from occlp.model import MDP
from occlp.policy import Policy
from occlp.postoptimal.face import OptimalFace, best_on_face, optimal_face
from occlp.problem import Problem, as_problem
from occlp.residuals import base_value, pair_residuals
from occlp.result import Result
from occlp.solvers.base import Iterate, Start
from occlp.solving import solve
from occlp.standard import StandardForm

#: Steps of soft policy iteration before it gives up; it converges quadratically.
MOST_STEPS = 200


@dataclass(frozen=True, eq=False, kw_only=True)
class TieBroken(Result):
    """An optimal policy that is also the best of the optimal ones for a second objective.

    Everything of `Result` is that of the first objective, certified for it. In addition:

    Attributes
    ----------
    second : float
        The second objective of the returned policy, normalised.
    second_lower, second_upper : float
        They enclose the best second objective of all optimal policies.
    """

    second: float
    second_lower: float
    second_upper: float


@dataclass(frozen=True)
class TieBreak:
    """The solver behind `tie_break`: it yields a policy that is there already, to be judged like any other."""

    maximize: str | None = None
    minimize: str | None = None
    answer: Iterate | None = field(default=None, repr=False)

    @property
    def promises_tol(self) -> bool:
        """True: optimal policies only."""
        return True

    def unsupported(self, problem: Problem) -> str | None:
        """Return None: the problem has been answered already."""
        return None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the policy."""
        assert self.answer is not None
        yield self.answer


def tie_break(
    problem: Problem | MDP,
    result: Result,
    *,
    minimize: LinearExpression | str | Any = None,
    maximize: LinearExpression | str | Any = None,
    tol: float = 1e-8,
) -> TieBroken:
    """Choose among the optimal policies by a second objective.

    Parameters
    ----------
    problem : Problem or MDP
        A linear question, with or without constraints.
    result : Result
        Its certified answer.
    minimize, maximize : str, array [S, A] or LinearExpression
        The second objective (one of the two): a cost by name, numbers of your own, or an expression.
        ``maximize="entropy"`` asks for the most random optimal policy, Σ d(s) H(π(· | s)), unless the model
        has a cost of that name; not with constraints.
    tol : float
        Pairs whose advantage is at least −tol/10 · spread count as optimal, so the first objective is kept
        within tol/10 · spread; the result is certified for it with `tol`.

    Returns
    -------
    TieBroken
        A `Result` of the first question, with the second objective and what bounds it.

    Raises
    ------
    InvalidProblem
        When the result is not certified or answers another question, or for no second objective.
    Unsupported
        For entropy with constraints, and with a concave term in the objective.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.MDP.from_arrays([[[1.0], [1.0]]], [[2, 2]], discount=0.9, costs={"wear": [[3, 1]]})
    >>> best = oc.solve(mdp)
    >>> oc.tie_break(mdp, best, minimize="wear").expected["wear"]
    1.0
    >>> oc.tie_break(mdp, best, maximize="entropy").policy.probabilities
    array([[0.5, 0.5]])
    """
    problem = as_problem(problem)
    if (minimize is None) == (maximize is None):
        raise InvalidProblem("tie_break() takes one second objective: minimize= or maximize=.")
    face = optimal_face(problem, result)
    what = maximize if minimize is None else minimize
    if isinstance(what, str) and what == "entropy" and "entropy" not in problem.mdp.pair_costs:
        policy, ends = _most_entropy(face, tol / 10, minimized=maximize is None)
    else:
        policy, ends = _best_linear(face, tol / 10, what, "minimize" if maximize is None else "maximize")
    factor = face.form.sign * face.form.scale
    answer = Iterate(
        policy, factor * face.values, factor * face.values_low, multipliers=to_multipliers(face.form, face.prices)
    )
    name = what if isinstance(what, str) else str(what) if isinstance(what, LinearExpression) else "array"
    solver = TieBreak(answer=answer, **{"minimize" if maximize is None else "maximize": name})
    judged = solve(problem, solver, tol=tol)
    second, lower, upper = ends
    return TieBroken(**vars(judged), second=second, second_lower=lower, second_upper=upper)


def _best_linear(
    face: OptimalFace, tol: float, what: Any, sense: Literal["minimize", "maximize"]
) -> tuple[Policy, tuple[float, float, float]]:
    expression = what if isinstance(what, LinearExpression) else expected(what)
    rewards = expression.coefficients(face.problem.mdp, face.problem.rest)
    question, kept = face.restricted(tol, rewards, sense)
    found = best_on_face(question)
    ends = found.objective, found.certificate.lower, found.certificate.upper
    return _extended(face, kept, found.policy.pair_probabilities), ends


def _most_entropy(face: OptimalFace, tol: float, *, minimized: bool) -> tuple[Policy, tuple[float, float, float]]:
    if minimized:
        raise InvalidProblem("the least entropy needs no second objective: policies of vertices are deterministic.")
    if face.problem.limits:
        raise Unsupported("entropy on the optimal face is answered without constraints only.")
    question, kept = face.restricted(tol, np.zeros(face.form.n_pairs))
    form, pairs = formulate(question), question.mdp.pairs
    policy, values, lower, upper = Policy.uniform(pairs), np.zeros(form.n_states), 0.0, np.inf
    for _ in range(MOST_STEPS):
        chances = policy.pair_probabilities
        chain = policy_chain(form, chances, -np.log(np.where(chances > 0, chances, 1.0)))
        bracket = relative_values(chain, values)
        values, last = bracket.high, lower
        lower = max(lower, bracket.lower)
        soft, step = _soft_bound(form, values)
        upper = min(upper, soft)
        if upper - lower <= 1e-14 or (bracket.lower <= last and upper - lower <= 1e-10):
            break
        policy = Policy.from_pairs(pairs, step)
    value = 0.5 * (bracket.lower + bracket.upper)
    return _extended(face, kept, chances), (value, lower, upper)


def _soft_bound(form: StandardForm, values: FloatArray) -> tuple[float, FloatArray]:
    """Bound on the entropy of every policy, (1 − γ) μ0·V + max_s log Σ_a exp(γPV − V), and the soft-greedy policy."""
    scores, error = pair_residuals(form, values, None)
    first = form.start[:-1]
    top = np.maximum.reduceat(scores, first)
    weights = np.exp(scores - top[form.states])
    sums = np.add.reduceat(weights, first)
    base, slack = base_value(form.initial, form.rest, values, None)
    bound = base + slack + float((top + np.log(sums)).max() + error.max()) + 1e-15
    return bound, weights / sums[form.states]


def _extended(face: OptimalFace, kept: Any, probabilities: FloatArray) -> Policy:
    """A policy of the smaller model as one of the whole model."""
    spread = np.zeros(face.form.n_pairs)
    spread[kept] = probabilities
    return Policy.from_pairs(face.problem.mdp, spread)

"""The optimal face: all optimal occupancies of a linear question, by complementary slackness.

With optimal values and prices at hand, an occupancy that keeps the constraints is optimal exactly when it
has mass on pairs of zero advantage only (of the priced rewards) and keeps priced constraints with
equality. So the face is the occupancy polytope of a smaller model.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import compress
from typing import Literal

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, BoolArray, FloatArray, frozen
from occlp.bounds.averages import refuse_several
from occlp.bounds.upper import priced
from occlp.certificate import to_prices
from occlp.chains.chain import occupancy, policy_chain
from occlp.errors import InvalidProblem, NotCertified, Unsupported
from occlp.evaluation import formulate
from occlp.model import MDP, Pairs
from occlp.policy import Policy
from occlp.problem import Problem, refuse_concave, refuse_total
from occlp.residuals import pair_residuals
from occlp.result import Result, Status
from occlp.solvers.policy_iteration import solve_rewards
from occlp.solving import solve
from occlp.standard import StandardForm

#: Prices (rows and rewards have size one) above which a constraint has to be tight at every optimum.
PRICED = 1e-9


@dataclass(frozen=True, eq=False)
class OptimalFace:
    """An optimal policy with the exact values and prices that prove it, in the units of the standard form.

    Attributes
    ----------
    problem : Problem
    form : StandardForm
    policy : Policy
        The returned policy, completed optimally where it never goes.
    intact : bool
        Whether `policy` still is the returned one in all states that it visits.
    prices : FloatArray [k]
    rewards : FloatArray [pairs]
        Less the prices.
    values, values_low : FloatArray [S]
        Optimal values of these rewards, up to a constant.
    advantages : FloatArray [pairs]
        Of these values; 0 on the best pair of each state.
    pair_occupancy : FloatArray [pairs]
        Of the returned policy.
    visited : BoolArray [S]
        States that it reaches.
    """

    problem: Problem
    form: StandardForm
    policy: Policy
    intact: bool
    prices: FloatArray  # [k]
    rewards: FloatArray  # [pairs]
    values: FloatArray  # [S]
    values_low: FloatArray  # [S]
    advantages: FloatArray  # [pairs]
    pair_occupancy: FloatArray  # [pairs]
    visited: BoolArray  # [S]

    def optimal_pairs(self, tol: float) -> BoolArray:
        """Mask [pairs] of the pairs that an optimal policy may use: advantage at least −tol · spread."""
        return np.asarray(self.advantages >= -tol * (self.form.spread or 1.0))

    def restricted(
        self, tol: float, rewards: FloatArray, sense: Literal["maximize", "minimize"] = "maximize"
    ) -> tuple[Problem, AnyArray]:
        """The question whose feasible occupancies are the optimal ones of this face.

        Parameters
        ----------
        tol : float
            See `optimal_pairs`.
        rewards : FloatArray [pairs]
            What is optimised on the face, user's units.
        sense : {"maximize", "minimize"}

        Returns
        -------
        Problem, array of the positions of its pairs among all pairs
        """
        problem, limits = self.problem, {}
        kept = np.flatnonzero(self.optimal_pairs(tol))
        for (name, limit), price in zip(problem.limits.items(), self.prices, strict=True):
            limit = limit.in_numbers(problem.mdp, problem.rest)  # it may speak of the reward, which is replaced
            limits[name] = replace(limit, relation="==") if abs(price) > PRICED else limit
        smaller = _submodel(problem.mdp, kept, rewards)
        return Problem(smaller, sense=sense, criterion=problem.criterion, constraints=limits), kept

    def describe(self, pair: int) -> tuple[Hashable, Hashable]:
        """Labels of state and action of a pair."""
        pairs = self.problem.mdp.pairs
        return pairs.state_name(int(pairs.states[pair])), pairs.action_name(int(pairs.actions[pair]))


def _submodel(mdp: MDP, kept: AnyArray, rewards: FloatArray) -> MDP:
    """The model with these pairs only (some of every state) and other rewards [pairs of `mdp`]."""
    counts = np.bincount(mdp.pairs.states[kept], minlength=mdp.n_states)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    labels = mdp.pairs.state_labels, mdp.pairs.action_labels
    pairs = Pairs(frozen(start), frozen(mdp.pairs.actions[kept]), mdp.n_actions, *labels)
    matrix = sparse.csr_array(mdp.transitions[kept])
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)
    costs = {name: frozen(cost[kept]) for name, cost in mdp.pair_costs.items()}
    exact = mdp.exact
    if exact is not None:  # 1 − γ is read from there
        inside = np.isin(np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.transitions.indptr)), kept)
        exact = replace(
            exact,
            transitions=tuple(compress(exact.transitions, inside)),
            rewards=tuple(map(Fraction, rewards[kept].tolist())),
            costs={name: tuple(numbers[k] for k in kept) for name, numbers in exact.costs.items()},
        )
    return MDP(pairs, matrix, frozen(rewards[kept]), costs, mdp.discount, mdp.initial, (), exact)


def optimal_face(problem: Problem, result: Result) -> OptimalFace:
    """Return the optimal face that a certified result lies on.

    Raises
    ------
    InvalidProblem
        When the result is not certified, or answers another question.
    Unsupported
        With a concave term or constraint, whose optimum is a single point of no such structure.
    """
    refuse_total(problem, "this analysis is of")
    refuse_several(problem, "this analysis is of")
    form = formulate(problem)
    if result.certificate.fingerprint != problem.fingerprint:
        raise InvalidProblem("the result answers another question: the fingerprints differ.")
    if form.term is not None:
        raise Unsupported("this analysis is one of linear questions; with a concave term the optimum is unique.")
    refuse_concave(problem, "this analysis takes")
    if result.status is not Status.CERTIFIED:
        raise InvalidProblem(f"this analysis needs an optimal policy; the result is {result.status.name}.")
    pairs = problem.mdp.pairs
    prices = form.limits.feasible_prices(to_prices(form, result.multipliers))
    rewards, _ = priced(form, prices)
    policy, values, low = solve_rewards(form, pairs, rewards, start=result.policy)
    scores, _ = pair_residuals(form, values, low, rewards)
    advantages = scores - np.maximum.reduceat(scores, form.start[:-1])[form.states]
    seen = result.visited[form.states]
    same = np.abs(policy.pair_probabilities - result.policy.pair_probabilities)[seen].max(initial=0.0) <= 1e-12
    return OptimalFace(
        problem, form, policy, bool(same), prices, rewards, values, low, advantages,
        result.pair_occupancy, result.visited,
    )  # fmt: skip


def best_on_face(question: Problem) -> Result:
    """Answer a question that `OptimalFace.restricted` made; raises `NotCertified` where nothing was found.

    Such questions have an answer, the occupancy that the face was made from; but they may have only that one.
    """
    result = solve(question, check=False)
    if not np.isfinite(result.gap):
        raise NotCertified(f"the optimal face could not be searched: {result.message}", result)
    return result


def best_occupancy(form: StandardForm, pairs: Pairs, rewards: FloatArray, start: Policy | None = None) -> FloatArray:
    """An optimal occupancy of other rewards, [pairs]."""
    policy, _, _ = solve_rewards(form, pairs, rewards, start=start)
    return policy_occupancy(form, policy)


def policy_occupancy(form: StandardForm, policy: Policy) -> FloatArray:
    """d^π(s, a), [pairs]."""
    chain = policy_chain(form, policy.pair_probabilities)
    chain.require_one_class("analyses of the optimum")
    return np.asarray(occupancy(chain)[form.states] * policy.pair_probabilities)

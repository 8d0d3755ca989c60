"""A policy's chain, prepared once: values of many rewards and occupancies of many starts, for loops of other code."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import read_numbers
from occlp.chains.chain import Chain, occupancy, policy_chain, relative_values
from occlp.errors import InvalidProblem, Unsupported
from occlp.evaluation import formulate
from occlp.model import MDP
from occlp.policy import Policy, read_policy
from occlp.problem import Problem, as_problem


class PolicyFactors:
    """The system (I − γP) of one policy, ready to be solved for many right-hand sides; made by `factorize`.

    Attributes
    ----------
    policy : Policy
    """

    def __init__(self, problem: Problem, policy: Policy, chain: Chain) -> None:
        self.policy = policy
        self._form, self._chain = formulate(problem), chain
        self._named = {"reward": problem.mdp.pair_rewards, **problem.mdp.pair_costs}

    def values(self, rewards: Any = "reward") -> FloatArray:
        """Solve V = r + γPV: the expected discounted sum from each state.

        Parameters
        ----------
        rewards : str, or array [S], [pairs], [S, k] or [pairs, k]
            The name of a cost, or ``"reward"``; or numbers of states or of pairs, k at once.

        Returns
        -------
        FloatArray [S] or [S, k]

        Raises
        ------
        InvalidProblem
            For unknown names, other shapes, and numbers that are not finite.
        """
        table = self._read_rewards(rewards)
        columns = table.reshape(len(table), -1)
        found = np.empty((self._form.n_states, columns.shape[1]))
        for k in range(columns.shape[1]):
            found[:, k] = self._values(columns[:, k])
        return found.reshape(-1, *table.shape[1:])

    def state_occupancy(self, initial: Any = None) -> FloatArray:
        """Solve d = (1 − γ) μ0 + γ dP: the discounted share of time in each state.

        Parameters
        ----------
        initial : array [S] or [S, k], optional
            One initial distribution, or k of them as columns; default that of the model.

        Returns
        -------
        FloatArray [S] or [S, k]
            Each column sums to one.

        Raises
        ------
        InvalidProblem
            For other shapes and for what is no distribution.
        """
        table = self._form.initial if initial is None else self._read_initial(initial)
        columns = table.reshape(len(table), -1)
        found = np.empty(columns.shape)
        for k in range(columns.shape[1]):
            found[:, k] = occupancy(replace(self._chain, initial=np.ascontiguousarray(columns[:, k])))
        return found.reshape(table.shape)

    def pair_occupancy(self, initial: Any = None) -> FloatArray:
        """The discounted share of time of each pair, d(s) π(a | s), [pairs] or [pairs, k]; see `state_occupancy`."""
        mass = self.state_occupancy(initial)[self._form.states]
        found: FloatArray = (mass.T * self.policy.pair_probabilities).T
        return found

    def _values(self, rewards: FloatArray) -> FloatArray:
        chain, size = self._chain, float(np.abs(rewards).max(initial=0.0))
        scale = math.ldexp(1.0, min(math.frexp(size)[1], 1023)) if size > 0 else 1.0
        if chain.is_small:
            return scale * chain.resolvent.columns(self._mixed(rewards / scale))
        bracket = relative_values(chain.with_rewards(self._form, self.policy.pair_probabilities, rewards / scale))
        relative, rest = bracket.high + bracket.low, chain.rest
        level = 0.5 * (bracket.lower + bracket.upper) - rest * float(chain.initial @ relative)
        return np.asarray(scale * (relative + level / rest))

    def _mixed(self, rewards: FloatArray) -> FloatArray:
        found: FloatArray = np.add.reduceat(self.policy.pair_probabilities * rewards, self._form.start[:-1])
        return found

    def _read_rewards(self, rewards: Any) -> FloatArray:
        if isinstance(rewards, str):
            if rewards not in self._named:
                raise InvalidProblem(f"there is no cost {rewards!r}. The names are {', '.join(sorted(self._named))}.")
            return self._named[rewards]
        table = read_numbers(rewards, "values(rewards)")
        states, pairs = self._form.n_states, self._form.n_pairs
        if table.ndim not in (1, 2) or len(table) not in (states, pairs):
            raise InvalidProblem(
                f"values(rewards) takes [S], [pairs], [S, k] or [pairs, k] with {states} states and {pairs} pairs, not "
                f"shape {list(table.shape)}."
            )
        if not np.isfinite(table).all():
            raise InvalidProblem("values(rewards) takes finite numbers.")
        return table if len(table) == pairs else table[self._form.states]

    def _read_initial(self, initial: Any) -> FloatArray:
        table = read_numbers(initial, "initial")
        if table.ndim not in (1, 2) or len(table) != self._form.n_states:
            raise InvalidProblem(
                f"initial= takes [S] or [S, k] with {self._form.n_states} states, not shape {list(table.shape)}."
            )
        off = np.abs(table.sum(axis=0) - 1.0) if np.isfinite(table).all() else np.inf
        if not (table >= 0).all() or np.max(off, initial=0.0) > 1e-9:
            raise InvalidProblem("initial= takes distributions: numbers not below 0, with sum 1 in each column.")
        return table


def factorize(problem: Problem | MDP, policy: Policy) -> PolicyFactors:
    """Prepare the chain of a policy for many right-hand sides.

    What takes long is done once: the rows of the policy are put side by side, and where the chain mixes slowly its
    matrix is factored. `evaluate` tells more of one policy; this is for loops.

    Parameters
    ----------
    problem : Problem or MDP
        A discounted question; only its model counts.
    policy : Policy
        Or a result that has one.

    Returns
    -------
    PolicyFactors

    Raises
    ------
    InvalidProblem
        When the policy belongs to another model.
    Unsupported
        For averages and totals, where (I − P) is singular.

    Examples
    --------
    >>> import numpy as np
    >>> import occlp as oc
    >>> mdp = oc.instances.get("howard-toymaker", discount=0.9)
    >>> factors = oc.factorize(mdp, oc.Policy.uniform(mdp))
    >>> factors.values(np.eye(2)).sum(axis=1).round(9).tolist()
    [10.0, 10.0]
    >>> factors.state_occupancy(np.eye(2)).sum(axis=0).round(9).tolist()
    [1.0, 1.0]
    """
    problem = as_problem(problem)
    if problem.criterion != "discounted":
        raise Unsupported(f"factorize answers discounted questions, not {problem.criterion!r}; see oc.evaluate.")
    policy = read_policy(policy, problem.mdp.pairs)
    chain = policy_chain(formulate(problem), policy.pair_probabilities)
    if chain.moves.is_banded:
        chain.resolvent  # noqa: B018 - factored here, not at the first solve
    else:
        relative_values(chain)
        if chain.moves.is_factored:  # sweeps have failed
            chain.moves.factor()
    return PolicyFactors(problem, policy, chain)

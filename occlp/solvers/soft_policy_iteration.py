"""Soft policy iteration: Newton's method on the soft Bellman equation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from occlp._typing import FloatArray
from occlp.chain import policy_chain, relative_values
from occlp.evaluation import formulate, pair_residuals
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.base import Iterate, Start, start_policy
from occlp.terms import ConditionalKL, PolicyEntropy, PolicyTerm


@dataclass(frozen=True)
class SoftPolicyIteration:
    """Policy iteration for `ConditionalKL` and `PolicyEntropy`.

    Parameters
    ----------
    warm_up : int
        Sweeps of soft value iteration before the first exact evaluation.
    max_improvements : int
        The method gives up after this many.

    Notes
    -----
    π ∝ base exp(Q / τ) with Q exact for the last policy, its term included: monotone, and quadratically
    convergent as Newton's method on V = τ log Σ_a base exp((r + γPV) / τ) (Geist, Scherrer and Pietquin
    2019; Cen et al. 2022 for its linear rate as a natural policy gradient).
    """

    warm_up: int = 100
    max_improvements: int = 1000

    @property
    def promises_tol(self) -> bool:
        """True: a missed tolerance is an error."""
        return True

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if not isinstance(problem.regularizer, ConditionalKL | PolicyEntropy):
            return "it is for ConditionalKL and PolicyEntropy; oc.solve without a solver chooses for the others"
        if problem.limits:
            return "it cannot keep constraints; OccupancyProgram can"
        return None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield after each exact evaluation."""
        form = formulate(problem)
        assert isinstance(form.term, PolicyTerm)
        policy = start_policy(problem, start)
        values, low, last = np.zeros(form.n_states), None, -np.inf
        if policy is None:
            for _ in range(self.warm_up):
                gain = form.term.soft_maximum(pair_residuals(form, values, None)[0])
                values = values + (gain - gain.mean())
                if gain.max() - gain.min() <= 1e-14:
                    break
            policy = self._soft(problem, form.term, pair_residuals(form, values, None)[0])
        for _ in range(self.max_improvements):
            probabilities = policy.pair_probabilities
            rewards = form.rewards + form.term.pair_bonus(probabilities)
            bracket = relative_values(policy_chain(form, probabilities, rewards), values)
            values, low = bracket.high, bracket.low if bracket.low.any() else None
            factor = form.sign * form.scale
            yield Iterate(policy, factor * values, None if low is None else factor * low)
            if bracket.upper <= last:  # no progress beyond rounding
                return
            last = bracket.lower
            policy = self._soft(problem, form.term, pair_residuals(form, values, low)[0])

    @staticmethod
    def _soft(problem: Problem, term: PolicyTerm, scores: FloatArray) -> Policy:
        return Policy.from_pairs(problem.mdp.pairs, term.policy(scores))

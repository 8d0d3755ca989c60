"""Audit of exact proofs of totals, in fractions and without any tolerance.

With ρ = r + PV − V from the fractions of the proof, for rewards to be maximised and V at the goal fixed:

* ρ ≤ 0 on every pair outside the goal, and μ0·V = λ: no policy that ends earns more. Without a goal that must be
  reached a policy may also stay where ρ = 0 for ever; there V ≥ 0 is asked.
* ρ = 0 wherever the policy goes, until it ends: in the goal, or where it earns nothing and V = 0. So it earns λ.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from occlp.errors import AuditFailed
from occlp.model.exact import exact_numbers
from occlp.verify.total import _end_components, _proper, chain_of, reached_from

if TYPE_CHECKING:
    from occlp.policy import Policy
    from occlp.problem import Problem
    from occlp.proof import ExactProof


def check_total_proof(problem: Problem, policy: Policy, proof: ExactProof) -> None:
    """Check an exact proof of a total; raises `AuditFailed`."""
    if problem.limits or proof.multipliers or proof.occupancy:
        raise AuditFailed("there are no exact proofs for totals with constraints.")
    mdp, goal = problem.mdp, problem.goal_states
    numbers, sign = exact_numbers(mdp), 1 if problem.sense == "maximize" else -1
    boundary = Fraction(problem.objective == "reach")
    values = [sign * value for value in proof.values]
    if any(values[s] != sign * boundary for s in np.flatnonzero(goal).tolist()):
        raise AuditFailed(f"the proof's values are not {boundary} at the goal.")
    mass = sum(numbers.initial, Fraction(0))
    if sum((p * v for p, v in zip(numbers.initial, proof.values, strict=True)), Fraction(0)) != proof.optimum * mass:
        raise AuditFailed("the proof's values do not amount to the optimum claimed.")
    live = ~goal[mdp.pairs.states]
    scores = _scores(problem, values, sign)
    if any(scores[pair] > 0 for pair in np.flatnonzero(live).tolist()):
        raise AuditFailed("the proof's values do not bound every policy by the optimum claimed.")
    tight = live & np.array([score == 0 for score in scores])
    if not _proper(problem):
        staying = np.flatnonzero(_end_components(mdp, tight)).tolist()
        if any(values[s] < 0 for s in staying):
            raise AuditFailed("a policy may stay for ever, at no loss, where the proof's values are negative.")
    _check_attained(problem, policy, values, tight)


def _scores(problem: Problem, values: list[Fraction], sign: int) -> list[Fraction]:
    """ρ of every pair, [pairs]; what does not leave a state stays."""
    mdp = problem.mdp
    numbers, targets = exact_numbers(mdp), mdp.transitions.indices.tolist()
    states, scores = mdp.pairs.states.tolist(), []
    for pair, (first, last) in enumerate(pairwise(mdp.transitions.indptr.tolist())):
        here = values[states[pair]]
        earned = Fraction(0) if problem.objective == "reach" else sign * Fraction(numbers.rewards[pair])
        moves = (numbers.transitions[k] * (values[targets[k]] - here) for k in range(first, last))
        scores.append(sum(moves, earned))
    return scores


def _check_attained(problem: Problem, policy: Policy, values: list[Fraction], tight: np.ndarray) -> None:
    """The policy goes where the values are equations, and ends where they are what the end is worth."""
    mdp, goal = problem.mdp, problem.goal_states
    chain, labels, closed = chain_of(problem, policy)
    reached = reached_from(chain, mdp.initial > 0) & ~goal
    used = np.asarray(policy.pair_probabilities) > 0
    if (used & reached[mdp.pairs.states] & ~tight).any():
        raise AuditFailed("the policy does not attain the optimum claimed.")
    stays = np.flatnonzero(reached & closed[labels])
    if len(stays) and (_proper(problem) or any(values[s] != 0 for s in stays.tolist())):
        raise AuditFailed("the policy does not end almost surely: it stays for ever outside the goal.")

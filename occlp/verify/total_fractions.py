"""Audit of exact proofs of totals, in fractions and without any tolerance.

With ρ = r − y·g + PV − V from the fractions of the proof, for rewards to be maximised and V at the goal fixed:

* ρ ≤ 0 on every pair outside the goal: no policy that ends earns more than μ0·V. V may be −∞ (none) where a search
  of the graph finds that the goal cannot be reached almost surely. Without a goal that must be reached a policy
  may also stay where ρ = 0 for ever; there V ≥ 0 is asked.
* ρ = 0 wherever the policy goes, until it ends: in the goal, or where it earns nothing and V = 0. So it earns μ0·V.
* that there is no bound: masses that flow in a circle, which some policy reaches, and which earns.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from occlp.errors import AuditFailed
from occlp.verify.exact_question import ZERO, ExactQuestion
from occlp.verify.paths import (
    certain_to_reach,
    chain_of,
    end_components,
    forward,
    is_proper,
    leads_into,
    reached_from,
)

if TYPE_CHECKING:
    from occlp.policy import Policy
    from occlp.problem import Problem
    from occlp.proof import ExactProof


def total_scores(
    problem: Problem, question: ExactQuestion, values: list[Fraction | None], charged: list[Fraction], *, ends: bool
) -> list[Fraction | None]:
    """ρ of every pair, None where it does not count, [pairs]; raises where V can bound nothing.

    `ends` is false where only the limits matter, and an end is worth nothing.
    """
    boundary = question.sign * Fraction(ends and problem.objective == "reach")
    if any(value != boundary for value, ended in zip(values, question.goal, strict=True) if ended):
        raise AuditFailed(f"the proof's values are not {boundary} at the goal.")
    _check_lost(problem, np.array([value is None for value in values]))
    scores: list[Fraction | None] = [None] * len(charged)
    for pair, drift in enumerate(question.drifts(values)):
        if drift is not None and not question.goal[question.states[pair]]:
            scores[pair] = charged[pair] + drift
    if not is_proper(problem):
        staying = end_components(problem.mdp, np.array([score == 0 for score in scores]))
        if any((values[s] or ZERO) < 0 for s in np.flatnonzero(staying).tolist()):
            raise AuditFailed("a policy may stay for ever, at no loss, where the proof's values are negative.")
    return scores


def _check_lost(problem: Problem, lost: Any) -> None:
    """Raise unless no policy reaches the goal almost surely from the states without a value.

    States that no policy comes to have no part in a bound on what is earned from the start.
    """
    live = ~problem.goal_states[problem.mdp.pairs.states]
    if lost.any():
        lost = lost & forward(problem.mdp, problem.mdp.initial > 0, live)
    if not lost.any():
        return
    if not is_proper(problem):
        raise AuditFailed("the proof lacks values, and there is no goal that must be reached.")
    if (lost & _certain(problem)).any():
        raise AuditFailed("the proof lacks values where some policy reaches the goal.")


def check_ending(problem: Problem, policy: Policy, question: ExactQuestion, proof: ExactProof, tight: Any) -> None:
    """The policy goes where the values are equations, and ends where they are what the end is worth."""
    mdp, goal = problem.mdp, problem.goal_states
    chain, labels, closed = chain_of(problem, policy)
    reached = reached_from(chain, mdp.initial > 0) & ~goal
    used = np.asarray(policy.pair_probabilities) > 0
    if (used & reached[mdp.pairs.states] & ~tight).any():
        raise AuditFailed("the policy does not attain the optimum claimed.")
    stays = np.flatnonzero(reached & closed[labels])
    if len(stays) and (is_proper(problem) or any(proof.values[s] != 0 for s in stays.tolist())):
        raise AuditFailed("the policy does not end almost surely: it stays for ever outside the goal.")


def check_circulation(problem: Problem, policy: Policy, proof: ExactProof, question: ExactQuestion) -> None:
    """That a total has no bound: masses that flow in a circle and earn, on pairs that some policy reaches.

    Where a goal must be reached, on the way to the circle and in it the goal stays within reach.
    """
    mdp, masses = problem.mdp, proof.occupancy
    if problem.criterion != "total" or problem.objective == "reach" or proof.values or proof.multipliers:
        raise AuditFailed("the proof is not one of a total without a bound.")
    if not masses or not all(0 <= pair < mdp.n_pairs and mass > 0 for pair, mass in masses.items()):
        raise AuditFailed("the proof's circle names pairs that do not exist, or masses that are not positive.")
    surplus = [ZERO] * mdp.n_states
    for pair, mass in masses.items():
        for target, p in question.moves[pair]:
            surplus[target] += mass * p
            surplus[question.states[pair]] -= mass * p
    live = ~problem.goal_states[mdp.pairs.states]
    if any(surplus) or not live[list(masses)].all():
        raise AuditFailed("the proof's masses do not flow in a circle outside the goal.")
    if not sum((mass * question.rewards[pair] for pair, mass in masses.items()), ZERO) > 0:
        raise AuditFailed("the proof's circle earns nothing.")
    usable = live.copy()
    if is_proper(problem):
        certain = _certain(problem)
        usable &= certain[mdp.pairs.states] & ~leads_into(mdp, ~certain)
        if (~certain & (mdp.initial > 0)).any():
            raise AuditFailed("no policy reaches the goal: there is no total without a bound.")
    reached = forward(mdp, mdp.initial > 0, usable)
    if not (reached[mdp.pairs.states] & usable)[list(masses)].all():
        raise AuditFailed("the proof's circle cannot be reached.")
    chain, labels, closed = chain_of(problem, policy)
    own = closed[labels] & reached_from(chain, mdp.initial > 0)
    if not own[mdp.pairs.states[list(masses)]].any():
        raise AuditFailed("the policy does not end up in the proof's circle.")


def _certain(problem: Problem) -> Any:
    """States, [S], from which some policy reaches the goal almost surely."""
    mdp = problem.mdp
    return certain_to_reach(mdp, problem.goal_states, ~problem.goal_states[mdp.pairs.states])

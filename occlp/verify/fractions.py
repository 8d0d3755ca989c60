"""Audit of exact proofs, in fractions of the standard library and without any tolerance.

For the model exactly as given and to be maximised, with ρ = r − y·g + γPV − V from the fractions of a proof:

* **a bound on all policies**: ρ ≤ 0 on every pair, and so nobody who keeps the limits earns more than
  (1 − γ) μ0·V; for the average ρ ≤ G with gains G ≥ PG, and μ0·G; totals are in `occlp.verify.total_fractions`;
* **that it is attained**: without limits ρ = 0 (and G = PG) on every pair that the policy uses; with limits
  there is an occupancy d ≥ 0 that satisfies the flow equations and the limits and has d·r equal to the bound;
* **or that no policy keeps the limits**: with the rewards left out, the bound is negative.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from occlp.errors import AuditFailed
from occlp.verify.exact_question import ZERO, ExactQuestion
from occlp.verify.paths import chain_of, idle_for_ever, is_proper, leads_to, reached_from
from occlp.verify.total_fractions import check_circulation, check_ending, total_scores

if TYPE_CHECKING:
    from occlp.certificate import Certificate
    from occlp.policy import Policy
    from occlp.problem import Problem
    from occlp.proof import ExactProof

#: How far the policy in doubles may be from the ratios of an exact occupancy.
ROUNDED = Fraction(1, 10**12)
#: How far doubles beside a proof may be from its fractions, relative to the largest.
NEAR = Fraction(1, 10**12)


def check_proof(problem: Problem, policy: Policy, certificate: Certificate) -> None:
    """Check an exact proof, and the doubles beside it; raises `AuditFailed`."""
    proof = certificate.proof
    if (certificate.level == "exact") != (proof is not None):
        raise AuditFailed(f"the level is {certificate.level!r}, which does not fit the proof that there is or is not.")
    if proof is None:
        return
    if problem.regularizer is not None or problem.utility is not None or problem.concave_limits:
        raise AuditFailed("there are no exact proofs for objectives with a term and for concave constraints.")
    question = ExactQuestion.of(problem)
    claims = (proof.optimum is not None, proof.infeasible_by is not None, certificate.unending)
    if sum(claims) != 1 or (certificate.infeasible_by is not None) != (proof.infeasible_by is not None):
        raise AuditFailed("the proof does not belong to what the certificate claims.")
    if proof.gains and problem.criterion != "average":
        raise AuditFailed("gains prove something of averages only.")
    if certificate.unending:
        check_circulation(problem, policy, proof, question)
        return
    if len(proof.values) != problem.mdp.n_states:
        raise AuditFailed("the proof's values are not one fraction a state.")
    bound, scores = _bound(problem, question, proof)
    if proof.infeasible_by is not None:
        _check_infeasible(certificate, proof, bound)
        return
    if bound != question.sign * (proof.optimum or 0):
        raise AuditFailed(f"the proof's values amount to {float(bound)}: they do not bound by the optimum claimed.")
    if question.limits:
        _check_occupancy(problem, policy, proof, question)
    else:
        _check_attained(problem, policy, proof, question, scores)
    _check_doubles(certificate, proof)
    if proof.gains:
        _check_reduced_costs(certificate, scores)
    if proof.gains or problem.criterion == "total":  # of other questions the audit in doubles looks at them
        _check_values(certificate, proof)


def _bound(problem: Problem, question: ExactQuestion, proof: ExactProof) -> tuple[Fraction, list[Fraction | None]]:
    """The bound on all policies, and ρ of every pair (None where it does not matter); raises where it is none."""
    nothing = proof.infeasible_by is not None  # that limits cannot be kept does not depend on the rewards
    rewards = [ZERO] * len(question.rewards) if nothing else question.rewards
    sign = 1 if nothing else question.sign
    values = [None if value is None else sign * value for value in proof.values]
    charged, credit = question.priced(proof.multipliers, rewards)
    if problem.criterion == "total":
        scores = total_scores(problem, question, values, charged, ends=not nothing)
        base = question.mean(values)
    else:
        if None in values:
            raise AuditFailed("the proof lacks values, which only totals may.")
        scores, base = _scores(question, proof, values, charged)
    if any(score is not None and score > 0 for score in scores):
        raise AuditFailed("the proof's values do not bound every policy by the optimum claimed.")
    return base + credit, scores


def _scores(
    question: ExactQuestion, proof: ExactProof, values: list[Fraction | None], charged: list[Fraction]
) -> tuple[list[Fraction | None], Fraction]:
    """ρ of every pair less what the bound has already, and that bound: discounted questions and averages."""
    gamma, rest, known = question.discount, 1 - question.discount, [value or ZERO for value in values]
    if rest:
        levels, base = [rest * value for value in known], rest * question.mean(values)
    else:
        levels = _gains(question, proof)
        base = question.mean(levels)
    moved = question.drifts(values)
    scores: list[Fraction | None] = [
        earned + gamma * (drift or ZERO) - levels[state]
        for earned, drift, state in zip(charged, moved, question.states, strict=True)
    ]
    return scores, base


def _gains(question: ExactQuestion, proof: ExactProof) -> list[Fraction]:
    """G of every state, [S], once G ≥ PG is shown; one number where the proof has no gains."""
    if not proof.gains:
        found = -proof.infeasible_by if proof.infeasible_by is not None else question.sign * (proof.optimum or ZERO)
        return [Fraction(found)] * len(question.initial)
    sign = 1 if proof.infeasible_by is not None else question.sign
    if len(proof.gains) != len(question.initial):
        raise AuditFailed("the proof's gains are not one fraction a state.")
    gains = [sign * gain for gain in proof.gains]
    if any(drift is not None and drift > 0 for drift in question.drifts(list(gains))):
        raise AuditFailed("the proof's gains rise along a pair.")
    return gains


def _check_infeasible(certificate: Certificate, proof: ExactProof, bound: Fraction) -> None:
    """The bound without rewards is negative: priced, the limits are broken by at least that much."""
    if not bound < 0 or proof.infeasible_by != -bound or proof.occupancy:
        raise AuditFailed(f"the prices do not prove infeasibility: {float(-bound)} is not positive, or not as claimed.")
    claimed = certificate.infeasible_by
    if claimed is None or not 0 < claimed <= float(-bound) * (1 + 1e-12):
        raise AuditFailed(f"the priced violation is at least {float(-bound)}, not {claimed}.")
    if {name: float(price) for name, price in proof.multipliers.items()} != dict(certificate.multipliers):
        raise AuditFailed("the multipliers are not those of the proof.")


def _check_attained(
    problem: Problem, policy: Policy, proof: ExactProof, question: ExactQuestion, scores: list[Fraction | None]
) -> None:
    """Without limits: the policy uses only pairs that lose nothing."""
    if proof.occupancy:
        raise AuditFailed(
            "that a policy does not attain less is shown by an occupancy only where there are constraints."
        )
    tight = [score == 0 for score in scores]
    if proof.gains:
        falls = question.drifts([*proof.gains])
        tight = [fits and fall == 0 for fits, fall in zip(tight, falls, strict=True)]
    if problem.criterion == "total":
        check_ending(problem, policy, question, proof, np.array(tight))
    elif not all(tight[pair] for pair in np.flatnonzero(policy.pair_probabilities).tolist()):
        raise AuditFailed("the policy does not attain the optimum claimed.")


def _check_occupancy(problem: Problem, policy: Policy, proof: ExactProof, question: ExactQuestion) -> None:
    """With limits: the occupancy is one, keeps them, earns the optimum, and is that of the policy but for rounding."""
    mdp, masses, states = problem.mdp, proof.occupancy, problem.mdp.pairs.states
    if not all(0 <= pair < mdp.n_pairs and mass > 0 for pair, mass in masses.items()):
        raise AuditFailed("the proof's occupancy names pairs that do not exist, or masses that are not positive.")
    gamma, total = question.discount, problem.criterion == "total"
    surplus = [p if total else (1 - gamma) * p for p in question.initial]
    by_state = [ZERO] * mdp.n_states
    for pair, mass in masses.items():
        here = states[pair]
        by_state[here] += mass
        surplus[here] -= (1 - gamma) * mass
        for target, p in question.moves[pair]:  # what stays neither leaves nor arrives
            surplus[target] += gamma * mass * p
            surplus[here] -= gamma * mass * p
    arrived = sum((left for left, ended in zip(surplus, question.goal, strict=True) if ended), ZERO)
    over = _over(problem, question)
    lost = any(left and not ended for left, ended in zip(surplus, over, strict=True))
    if lost or over[states[list(masses)]].any() or not (total or sum(by_state, ZERO) == 1):
        raise AuditFailed("the proof's occupancy breaks the flow equations.")
    _check_reached(problem, policy, proof, over)
    for name, limit in question.limits.items():
        excess = sum((mass * limit.row[pair] for pair, mass in masses.items()), ZERO) - limit.bound
        if excess > 0 or (excess and limit.equal):
            raise AuditFailed(f"the proof's occupancy breaks {name!r} by {float(excess)}.")
    earned = sum((mass * question.rewards[pair] for pair, mass in masses.items()), ZERO)
    if problem.objective == "reach":
        earned += question.sign * arrived
    if earned != question.sign * (proof.optimum or ZERO):
        raise AuditFailed("the proof's occupancy does not earn the optimum claimed.")
    for pair, probability in enumerate(policy.pair_probabilities.tolist()):
        mass, of_state = masses.get(pair, ZERO), by_state[states[pair]]
        if of_state and abs(mass / of_state - Fraction(probability)) > ROUNDED:
            raise AuditFailed(f"the policy is not that of the proof in {mdp.pairs.describe(pair)}.")


def _over(problem: Problem, question: ExactQuestion) -> Any:
    """States, [S], where a total has ended: the goal; where it need not be reached, also where nothing counts again."""
    goal = np.array(question.goal)
    if problem.criterion != "total" or is_proper(problem):
        return goal
    rows = [question.rewards, *(limit.row for limit in question.limits.values())]
    idle = np.array([not any(numbers) for numbers in zip(*rows, strict=True)])
    return goal | idle_for_ever(problem.mdp, idle & ~goal[problem.mdp.pairs.states])


def _check_reached(problem: Problem, policy: Policy, proof: ExactProof, over: Any) -> None:
    """Undiscounted flow equations have solutions that no policy attains from where it starts; they are excluded."""
    masses = list(proof.occupancy)
    inside = np.zeros(problem.mdp.n_states, dtype=np.bool_)
    inside[problem.mdp.pairs.states[masses]] = True
    if problem.criterion == "total" and not leads_to(problem.mdp, over, masses)[inside].all():
        raise AuditFailed("the proof's occupancy stays for ever where it counts.")
    if problem.criterion == "average":
        chain, labels, closed = chain_of(problem, policy)
        ends = np.unique(labels[closed[labels] & reached_from(chain, problem.mdp.initial > 0)])
        if len(ends) != 1 or not (labels[inside] == ends[0]).all():
            raise AuditFailed("the proof's occupancy is not where the policy ends up.")


def _check_doubles(certificate: Certificate, proof: ExactProof) -> None:
    """The doubles are those next to the fractions."""
    if not (math.isfinite(certificate.lower) and math.isfinite(certificate.upper)):
        raise AuditFailed("lower and upper are not finite, and so not the doubles next to the optimum.")
    lower, upper = Fraction(certificate.lower), Fraction(certificate.upper)
    near = upper == lower or certificate.upper == math.nextafter(certificate.lower, math.inf)
    if not lower <= (proof.optimum or ZERO) <= upper or not near or certificate.gap != 0:
        raise AuditFailed("lower and upper are not the doubles next to the optimum, with a gap of 0.")
    if {name: float(price) for name, price in proof.multipliers.items()} != dict(certificate.multipliers):
        raise AuditFailed("the multipliers are not those of the proof.")
    gains = [float(gain) for gain in proof.gains]
    if proof.gains and not gains == certificate.gain_values.tolist() == certificate.policy_gain_values.tolist():
        raise AuditFailed("the gains are not those of the proof.")


def _check_values(certificate: Certificate, proof: ExactProof) -> None:
    """The values beside a proof are those of the proof, but for rounding and, for averages, a common offset."""
    known = np.array([value is not None for value in proof.values])
    exact = [value for value in proof.values if value is not None]
    offset = min(exact) if proof.gains else ZERO
    size = NEAR * max((abs(value - offset) for value in exact), default=ZERO)
    for high, low in (
        (certificate.values, certificate.values_low),
        (certificate.policy_values, certificate.policy_values_low),
    ):
        if high.shape != known.shape or low.shape != known.shape or not np.isfinite(high[known] + low[known]).all():
            raise AuditFailed("the values are not one number a state.")
        claimed = [Fraction(x) + Fraction(y) for x, y in zip(high[known].tolist(), low[known].tolist(), strict=True)]
        if any(abs(one - (value - offset)) > size for one, value in zip(claimed, exact, strict=True)):
            raise AuditFailed("the values are not those of the proof.")
        if np.isfinite(high[~known]).any():
            raise AuditFailed("the values are finite where no policy reaches the goal.")


def _check_reduced_costs(certificate: Certificate, scores: list[Fraction | None]) -> None:
    """With gains: by how much each pair falls short."""
    exact = [-(score or ZERO) for score in scores]
    claimed = certificate.reduced_costs
    if claimed.shape != (len(exact),) or not np.isfinite(claimed).all():
        raise AuditFailed("the reduced costs are not one finite number a pair.")
    allowed = NEAR * max(exact)
    if any(abs(Fraction(one) - other) > allowed for one, other in zip(claimed.tolist(), exact, strict=True)):
        raise AuditFailed("the reduced costs are not those of the proof.")

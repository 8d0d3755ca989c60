"""Audit of certificates: discounted and average questions, plain, constrained, or with a joint KL term.

Two inequalities, for any V (docs/conventions.md, section 6), each recomputed here in extended precision
from the user's model, with ρ = r − c + γPV − V and c the offset of the certificate:

* every policy that keeps the constraints earns at most  c + (1 − γ) μ0·V + max ρ  (KL: τ log Σ d0 exp(ρ/τ)
  for max ρ), where the rewards in ρ are less y·(C − b) for prices y of the right sign;
* the policy earns at least  c + (1 − γ) μ0·W + min Σ_a π ρ_W  (KL: less τ KL(d ‖ d0)).

With gains G (`occlp.verify.gain`) for averages that depend on the start, μ0·G is added and G taken off in ρ.

The first, with the rewards left out, proves that constraints cannot be met. When minimising, the two
swap sides. The audit trusts the model, the policy and the prior's definition, and takes from the
certificate only V, W, the prices and the claims that it checks.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from occlp.errors import AuditFailed, InvalidProblem
from occlp.problem import as_problem
from occlp.verify.figures import check_figures, occupancy_of
from occlp.verify.fractions import check_proof
from occlp.verify.gain import gains_of, mean_gain
from occlp.verify.limits import UNIT, charge_of, check_sensitivity, check_violation
from occlp.verify.terms import Real, bonus_of, size_of, upper_of, value_of
from occlp.verify.tolerance import check_tolerance
from occlp.verify.total import check_total
from occlp.verify.total_figures import check_total_figures

if TYPE_CHECKING:
    from occlp.certificate import Certificate
    from occlp.model import MDP
    from occlp.policy import Policy
    from occlp.problem import Problem
    from occlp.result import Result

#: Values beyond so many times the range of the rewards are audited in fractions, in models up to so many transitions.
LARGE_VALUES = 1e4
EXACT_WORK = 200_000
#: Rounding allowed for, relative to the rewards, beyond which nothing is decided.
MOST_DOUBT = 1e-7


def verify(problem: Problem | MDP, result: Result) -> bool:
    """Check that a result follows from its certificate, independently of what made it.

    Parameters
    ----------
    problem : Problem or MDP
        The question, with the model.
    result : Result
        What `occlp.solve` returned.

    Returns
    -------
    bool
        True; anything else is raised.

    Raises
    ------
    AuditFailed
        Saying which claim does not hold, and by how much.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("howard-toymaker")
    >>> oc.verify(mdp, oc.solve(mdp))
    True
    """
    problem = as_problem(problem)
    check_certificate(problem, result.policy, result.certificate)
    try:
        (check_total_figures if problem.criterion == "total" else check_figures)(problem, result)
    except InvalidProblem as error:  # what a result has depends on its other fields
        raise AuditFailed(f"the result contradicts itself: {error}") from None
    return True


def check_certificate(problem: Problem, policy: Policy, certificate: Certificate) -> None:
    """Check the two bounds, the gap, the reduced costs and the size of a certificate; raises `AuditFailed`."""
    if certificate.fingerprint != problem.fingerprint:
        raise AuditFailed("the certificate belongs to another problem: the fingerprints differ.")
    _check_policy(problem.mdp, policy)
    check_proof(problem, policy, certificate)
    proof = certificate.proof
    if problem.criterion != "total":
        _check_plain_claims(problem, certificate)
        if proof is None or not proof.gains:
            _check_bounds(problem, policy, certificate)
        else:  # the doubles beside it are those of the proof, which says more
            check_sensitivity(problem, certificate)
    elif proof is None or certificate.unending:
        check_total(problem, policy, certificate)
    check_tolerance(problem, certificate)


def _check_bounds(problem: Problem, policy: Policy, certificate: Certificate) -> None:
    """The two bounds of a discounted question or an average, recomputed from the certificate's values."""
    mdp = problem.mdp
    sign = 1 if problem.sense == "maximize" else -1
    values = _signed(sign, certificate.values, certificate.values_low, mdp.n_states)
    own = _signed(sign, certificate.policy_values, certificate.policy_values_low, mdp.n_states)
    charge = charge_of(problem, certificate)
    slack = _allowance(problem, certificate, charge, (values, own))
    if not set(certificate.majorants) <= set(problem.concave_limits):
        raise AuditFailed("the certificate's majorants are not those of the problem's constraints.")
    check_violation(problem, policy, certificate)
    if certificate.infeasible_by is not None:
        _check_infeasible(problem, certificate, charge, slack)
        return
    shift = Real(sign * certificate.shift)
    earned = np.zeros(mdp.n_pairs, dtype=Real) if problem.utility is not None else sign * mdp.pair_rewards.astype(Real)
    earned = earned - shift
    gain, own_gain = gains_of(problem, policy, certificate)
    states = mdp.pairs.states
    scores = _residuals(problem, earned - charge - gain[states], values)
    setting = problem.regularizer or problem.utility
    above = shift + _base(problem, values) + mean_gain(problem, gain)
    above += upper_of(problem, setting, scores, certificate.dual, occupancy_of)
    means = _means(problem, policy, earned + bonus_of(problem, policy) - own_gain[states], own)
    below = _lower(problem, policy, shift + mean_gain(problem, own_gain) + means.min(), certificate, own)
    claims = sorted((sign * certificate.lower, sign * certificate.upper))
    if not above <= claims[1] + slack:
        raise AuditFailed(f"policies better than the certificate's bound are not excluded: {above} > {claims[1]}.")
    if not below >= claims[0] - slack:
        raise AuditFailed(f"the policy does not attain what the certificate claims: {below} < {claims[0]}.")
    if not certificate.lower <= certificate.upper + slack:
        raise AuditFailed(f"lower={certificate.lower} exceeds upper={certificate.upper}.")
    if not certificate.gap >= 0 or (np.isfinite(certificate.gap) and certificate.gap < float(above - below) - slack):
        raise AuditFailed(f"the gap is {float(above - below)}, not {certificate.gap} as claimed.")
    if problem.regularizer is None and problem.utility is None:
        if certificate.reduced_costs.shape != scores.shape:
            raise AuditFailed("the reduced costs are not one number a pair.")
        short = scores.max() - scores
        difference = (np.abs(short - certificate.reduced_costs) - 1e-12 * np.abs(short)).max()
        if not difference <= slack:
            raise AuditFailed(f"the reduced costs are off by up to {float(difference)}.")
    check_sensitivity(problem, certificate)


def _check_plain_claims(problem: Problem, certificate: Certificate) -> None:
    """Claims that follow from the problem alone, or cannot be true."""
    if certificate.unending:
        raise AuditFailed("a total without a bound is claimed, and the question asks for none.")
    numbers = (certificate.shift, certificate.rounding, certificate.violation)
    if not np.isfinite(numbers).all():
        raise AuditFailed(f"the certificate holds numbers that are not finite: {numbers}.")
    spread = certificate.spread
    ends = [abs(end - certificate.shift) for end in (certificate.lower, certificate.upper) if np.isfinite(end)]
    largest = max(spread, min(ends, default=0.0) if problem.regularizer is not None else 0.0)
    if spread > 0 and not 0 <= certificate.rounding <= max(1e-6 * largest, 1e-300):
        raise AuditFailed(f"a rounding of {certificate.rounding} would excuse any gap.")


def _check_infeasible(problem: Problem, certificate: Certificate, charge: Any, slack: float) -> None:
    high, low = certificate.values, certificate.values_low
    values = high.astype(Real) + low.astype(Real), high, low
    most = _base(problem, values) + _residuals(problem, -charge, values).max()
    if not (certificate.infeasible_by is not None and certificate.infeasible_by > 0 and most < 0):
        raise AuditFailed(f"the prices do not prove infeasibility: {float(-most)} is not positive.")
    if not float(-most) >= certificate.infeasible_by - slack:
        raise AuditFailed(f"the priced violation is at least {float(-most)}, not {certificate.infeasible_by}.")


def _check_policy(mdp: MDP, policy: Policy) -> None:
    probabilities = np.asarray(policy.pair_probabilities)
    if probabilities.shape != (mdp.n_pairs,) or not policy.pairs.same_as(mdp.pairs):
        raise AuditFailed("the policy belongs to another model.")
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all()):
        raise AuditFailed("the policy holds numbers that are not probabilities.")
    sums = np.add.reduceat(probabilities, mdp.pairs.start[:-1])
    if not np.abs(sums - 1).max() <= 1e-9:
        raise AuditFailed(f"the policy's probabilities sum to {sums[np.argmax(np.abs(sums - 1))]} in a state.")


def _signed(sign: int, high: Any, low: Any, n_states: int) -> Any:
    for array in (high, low):
        if array.shape != (n_states,) or not np.isfinite(array).all():
            raise AuditFailed("the certificate's values are not one finite number a state.")
    return sign * (high.astype(Real) + low.astype(Real)), sign * high, sign * low


def _residuals(problem: Problem, rewards: Any, values: Any) -> Any:
    """ρ = r + γ Σ p (V' − V) − (1 − γ) V of every pair."""
    return rewards + _real(_drifts(problem, values))


def _means(problem: Problem, policy: Policy, rewards: Any, values: Any) -> Any:
    """Σ_a π ρ of every state; what is large cancels before it is rounded."""
    first, number = problem.mdp.pairs.start[:-1], _number(problem, values)
    shares = policy.pair_probabilities
    moved = _real(np.add.reduceat(number(shares) * _drifts(problem, values), first))
    return moved + np.add.reduceat(shares.astype(Real) * rewards, first)


def _drifts(problem: Problem, values: Any) -> Any:
    """γ Σ p (V' − V) − (1 − γ) V of every pair; the diagonal is what the other entries leave.

    In extended precision, or in fractions where the values are so large that their differences would round.
    """
    mdp, (_, high, low) = problem.mdp, values
    matrix, states = mdp.transitions, mdp.pairs.states
    rows = np.repeat(np.arange(mdp.n_pairs), np.diff(matrix.indptr))
    here = states[rows]
    number = _number(problem, values)
    # High parts first: they are equal within a class, where their difference is exactly zero.
    tops, tails, weights = number(high), number(low), number(matrix.data)
    steps = (tops[matrix.indices] - tops[here]) + (tails[matrix.indices] - tails[here])
    moved = np.add.reduceat(weights * steps, matrix.indptr[:-1])
    gamma, rest = number(np.array([problem.discount, problem.rest]))
    return gamma * moved - rest * (tops + tails)[states]


def _is_large(problem: Problem, values: Any) -> bool:
    """Whether values are so large beside the rewards that their differences are taken in fractions."""
    rewards = problem.mdp.pair_rewards
    size = float(np.ptp(rewards)) or float(np.abs(rewards).max())
    largest = float(np.abs(values[1]).max(initial=0.0))
    return largest > LARGE_VALUES * (size + size_of(problem)) and problem.mdp.transitions.nnz <= EXACT_WORK


def _number(problem: Problem, values: Any) -> Callable[[Any], Any]:
    """How numbers are held: extended precision, or fractions for large values of small models."""
    if not _is_large(problem, values):
        return lambda array: np.asarray(array).astype(Real)
    return lambda array: np.array([Fraction(float(x)) for x in np.asarray(array)], dtype=object)


def _real(numbers: Any) -> Any:
    """Round fractions to extended precision; leave the rest."""
    if numbers.dtype != object:
        return numbers
    return np.array([Real(float(x)) + Real(float(x - Fraction(float(x)))) for x in numbers], dtype=Real)


def _base(problem: Problem, values: Any) -> Any:
    number = _number(problem, values)
    mean = (number(problem.mdp.initial) * (number(values[1]) + number(values[2]))).sum()
    return _real(np.array([number(np.array([problem.rest]))[0] * mean]))[0]


def _lower(problem: Problem, policy: Policy, least: Any, certificate: Certificate, own: Any) -> Any:
    bound = least + _base(problem, own)
    setting = problem.regularizer or problem.utility
    if setting is not None:
        bound += value_of(problem, setting, occupancy_of(problem, policy), certificate.dual, occupancy_of)
    return bound


def _allowance(problem: Problem, certificate: Certificate, charge: Any, arrays: Any) -> float:
    """What rounding may do: in the audit itself, and in the claims written as doubles."""
    size = float(np.abs(problem.mdp.pair_rewards - certificate.shift).max()) + float(np.abs(charge).max())
    size += size_of(problem)
    rounded = [float(np.abs(values[1]).max(initial=0.0)) for values in arrays if not _is_large(problem, values)]
    working = float(np.finfo(Real).eps) * max(rounded, default=0.0) * 64
    ends = [abs(end) for end in (certificate.lower, certificate.upper) if np.isfinite(end)]
    written = UNIT * (sum(ends) + abs(certificate.shift)) * 4
    width = 64 + int(np.diff(problem.mdp.transitions.indptr).max())
    honest = float(np.abs(problem.mdp.pair_rewards).max()) + size_of(problem) + float(np.abs(charge).max())
    allowed = UNIT * width * size + working + written
    if not allowed <= MOST_DOUBT * max(honest, 1e-300):
        raise AuditFailed(
            f"the certificate's numbers are too large to decide anything: rounding alone is {allowed:.2g}."
        )
    return allowed

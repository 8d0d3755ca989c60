"""Audit of certificates: discounted and average questions, plain, constrained, or with a joint KL term.

Two inequalities, for any V (docs/conventions.md, section 6), each recomputed here in extended precision
from the user's model, with ρ = r − c + γPV − V and c the offset of the certificate:

* every policy that keeps the constraints earns at most  c + (1 − γ) μ0·V + max ρ  (KL: τ log Σ d0 exp(ρ/τ)
  for max ρ), where the rewards in ρ are less y·(C − b) for prices y of the right sign;
* the policy earns at least  c + (1 − γ) μ0·W + min Σ_a π ρ_W  (KL: less τ KL(d ‖ d0)).

The first, with the rewards left out, proves that constraints cannot be met. When minimising, the two
swap sides. The audit trusts the model, the policy and the prior's definition, and takes from the
certificate only V, W, the prices and the claims that it checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from occlp.errors import AuditFailed
from occlp.problem import as_problem
from occlp.verify.terms import bonus_of, size_of, upper_of, value_of

if TYPE_CHECKING:
    from occlp.certificate import Certificate
    from occlp.model import MDP
    from occlp.policy import Policy
    from occlp.problem import Problem
    from occlp.result import Result

#: Extended precision where the platform has it (80-bit on x86), else double.
Real = np.longdouble
#: Rows of the model may miss one by this much; the diagonal takes up the rest.
UNIT = float(np.finfo(np.float64).eps)


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
    _check_figures(problem, result)
    return True


def check_certificate(problem: Problem, policy: Policy, certificate: Certificate) -> None:
    """Check the two bounds, the gap and the reduced costs of a certificate; raises `AuditFailed`."""
    mdp = problem.mdp
    if certificate.fingerprint != problem.fingerprint:
        raise AuditFailed("the certificate belongs to another problem: the fingerprints differ.")
    _check_policy(mdp, policy)
    sign = 1 if problem.sense == "maximize" else -1
    values = _signed(sign, certificate.values, certificate.values_low, mdp.n_states)
    own = _signed(sign, certificate.policy_values, certificate.policy_values_low, mdp.n_states)
    charge = _charge(problem, certificate)
    slack = _allowance(problem, certificate, charge, (values, own))
    _check_violation(problem, policy, certificate)
    if certificate.infeasible_by is not None:
        _check_infeasible(problem, certificate, charge, slack)
        return
    shift = Real(sign * certificate.shift)
    earned = np.zeros(mdp.n_pairs, dtype=Real) if problem.utility is not None else sign * mdp.pair_rewards.astype(Real)
    earned = earned - shift
    scores = _residuals(problem, earned - charge, values)
    above = shift + _base(problem, values) + upper_of(problem, scores, certificate.dual, _occupancy)
    residuals = _residuals(problem, earned + bonus_of(problem, policy), own)
    below = _lower(problem, policy, shift, residuals, certificate, own)
    claims = sorted((sign * certificate.lower, sign * certificate.upper))
    if not above <= claims[1] + slack:
        raise AuditFailed(f"policies better than the certificate's bound are not excluded: {above} > {claims[1]}.")
    if not below >= claims[0] - slack:
        raise AuditFailed(f"the policy does not attain what the certificate claims: {below} < {claims[0]}.")
    if not certificate.lower <= certificate.upper + slack:
        raise AuditFailed(f"lower={certificate.lower} exceeds upper={certificate.upper}.")
    if np.isfinite(certificate.gap) and not certificate.gap >= float(above - below) - slack:
        raise AuditFailed(f"the gap is {float(above - below)}, not {certificate.gap} as claimed.")
    if problem.regularizer is None and problem.utility is None:
        difference = np.abs(scores.max() - scores - certificate.reduced_costs).max()
        if not difference <= slack:
            raise AuditFailed(f"the reduced costs are off by up to {float(difference)}.")


def _charge(problem: Problem, certificate: Certificate) -> Any:
    """y·(C − b) of every pair; raises for a price of the wrong sign."""
    charge = np.zeros(problem.mdp.n_pairs, dtype=Real)
    if set(certificate.multipliers) != set(problem.limits):
        raise AuditFailed("the certificate's multipliers are not those of the problem's constraints.")
    for name, limit in problem.limits.items():
        price = certificate.multipliers[name]
        if not np.isfinite(price) or (price < 0 and limit.relation != "=="):
            raise AuditFailed(f"the multiplier of {name!r} is {price}; it must not be negative.")
        cost = limit.expression.coefficients(problem.mdp, problem.rest).astype(Real) - Real(limit.bound)
        charge += Real(price) * (-cost if limit.relation == ">=" else cost)
    return charge


def _check_violation(problem: Problem, policy: Policy, certificate: Certificate) -> None:
    if not problem.limits:
        return
    occupancy = _occupancy(problem, policy)
    for name, limit in problem.limits.items():
        cost = limit.expression.coefficients(problem.mdp, problem.rest).astype(Real)
        excess = float(occupancy @ cost - Real(limit.bound))
        broken = {"<=": excess, ">=": -excess, "==": abs(excess)}[limit.relation]
        size = float(np.abs(cost).max()) + abs(limit.bound)
        if not broken <= certificate.violation + 64 * UNIT * size * 16:
            raise AuditFailed(f"constraint {name!r} is broken by {broken}, not {certificate.violation} as claimed.")


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
    """ρ = r + γ Σ p (V' − V) − (1 − γ) V of every pair; the diagonal is what the other entries leave."""
    mdp, (total, high, low) = problem.mdp, values
    matrix, states = mdp.transitions, mdp.pairs.states
    rows = np.repeat(np.arange(mdp.n_pairs), np.diff(matrix.indptr))
    here = states[rows]
    # High parts first: they are equal within a class, where their difference is exactly zero.
    steps = (high[matrix.indices].astype(Real) - high[here]) + (low[matrix.indices].astype(Real) - low[here])
    moved = np.add.reduceat(matrix.data.astype(Real) * steps, matrix.indptr[:-1])
    return rewards + Real(problem.discount) * moved - Real(problem.rest) * total[states]


def _base(problem: Problem, values: Any) -> Any:
    return Real(problem.rest) * (problem.mdp.initial.astype(Real) @ values[0])


def _lower(problem: Problem, policy: Policy, shift: Any, scores: Any, certificate: Certificate, own: Any) -> Any:
    first = problem.mdp.pairs.start[:-1]
    mean = np.add.reduceat(policy.pair_probabilities.astype(Real) * scores, first)
    bound = shift + _base(problem, own) + mean.min()
    if problem.regularizer is not None or problem.utility is not None:
        bound += value_of(problem, _occupancy(problem, policy), certificate.dual, _occupancy)
    return bound


def _occupancy(problem: Problem, policy: Policy) -> Any:
    """d^π, [pairs]: a sparse LU in doubles, refined on residuals of d ((1 − γ) I + γ (D − P)) = (1 − γ) μ0."""
    mdp = problem.mdp
    states, weights = mdp.pairs.states, policy.pair_probabilities
    shape = (mdp.n_states, mdp.n_pairs)
    chain = sparse.csr_array((weights, np.arange(mdp.n_pairs), mdp.pairs.start), shape=shape) @ mdp.transitions
    entries = sparse.coo_array(chain)
    away = entries.row != entries.col
    source, target, flow = entries.row[away], entries.col[away], problem.discount * entries.data[away]
    leaving = problem.rest + np.bincount(source, weights=flow, minlength=mdp.n_states)
    staying = sparse.coo_array((flow, (source, target)), shape=chain.shape)
    pinned = int(np.argmax(np.bincount(target, weights=flow, minlength=mdp.n_states))) if problem.rest == 0 else -1
    system = sparse.lil_array(sparse.diags_array(leaving) - staying)
    if pinned >= 0:  # undiscounted: d is the same up to a factor; one column is replaced by its value
        system[:, [pinned]] = 0.0
        system[pinned, pinned] = 1.0
    factors: Any = splu(sparse.csc_array(system))
    begin = Real(problem.rest) * mdp.initial.astype(Real)
    mass = np.full(mdp.n_states, Real(0))
    for _ in range(4):
        # Net flow out of each state, from differences along its transitions.
        moved = flow.astype(Real) * mass[source]
        defect = begin - Real(problem.rest) * mass
        np.add.at(defect, target, moved)
        np.subtract.at(defect, source, moved)
        if pinned >= 0:
            defect[pinned] = 1 - mass[pinned]
        mass = mass + factors.solve(defect.astype(np.float64), "T")
        if problem.rest > 0:
            mass = np.maximum(mass, 0)
            mass /= mass.sum()
    mass = np.maximum(mass, 0)
    mass /= mass.sum()
    occupancy = mass[states] * weights.astype(Real)
    return occupancy / occupancy.sum()


def _allowance(problem: Problem, certificate: Certificate, charge: Any, arrays: Any) -> float:
    """What rounding may do: in the audit itself, and in the claims written as doubles."""
    size = float(np.abs(problem.mdp.pair_rewards - certificate.shift).max()) + float(np.abs(charge).max())
    largest = max(float(np.abs(high).max(initial=0.0)) for _, high, _ in arrays)
    size += size_of(problem)
    working = float(np.finfo(Real).eps) * largest * 64
    ends = [abs(end) for end in (certificate.lower, certificate.upper) if np.isfinite(end)]
    written = UNIT * (sum(ends) + abs(certificate.shift)) * 4
    width = 64 + int(np.diff(problem.mdp.transitions.indptr).max())
    return UNIT * width * size + working + written


def _check_figures(problem: Problem, result: Result) -> None:
    """The figures beside the certificate: occupancy, objective and expectations."""
    occupancy = np.asarray(result.pair_occupancy)
    mdp = problem.mdp
    if occupancy.shape != (mdp.n_pairs,) or not (np.isfinite(occupancy).all() and (occupancy >= 0).all()):
        raise AuditFailed("the occupancy is not one finite number a pair, none negative.")
    if not abs(occupancy.sum() - 1) <= 1e-9:
        raise AuditFailed(f"the occupancy sums to {occupancy.sum()}, not 1.")
    inflow = problem.rest * mdp.initial + problem.discount * (mdp.transitions.T @ occupancy)
    outflow = np.add.reduceat(occupancy, mdp.pairs.start[:-1])
    if not np.abs(inflow - outflow).sum() <= 1e-8:
        raise AuditFailed(f"the occupancy breaks the flow equations by {np.abs(inflow - outflow).sum():.3g}.")
    share = outflow[mdp.pairs.states] * result.policy.pair_probabilities
    if not np.abs(share - occupancy).sum() <= 1e-9:
        raise AuditFailed("the occupancy is not that of the policy.")
    scale = float(np.abs(mdp.pair_rewards).max()) + size_of(problem)
    low, high = sorted((result.certificate.lower, result.certificate.upper))
    if result.certificate.infeasible_by is None and not low - 1e-9 * scale <= result.objective <= high + 1e-9 * scale:
        raise AuditFailed(f"the objective {result.objective} lies outside [{low}, {high}].")
    for name, cost in {"reward": mdp.pair_rewards, **mdp.pair_costs}.items():
        value = float(occupancy @ cost)
        if not abs(value - result.expected[name]) <= 1e-9 * (float(np.abs(cost).max()) + 1e-300):
            raise AuditFailed(f"expected[{name!r}] is {value}, not {result.expected[name]}.")

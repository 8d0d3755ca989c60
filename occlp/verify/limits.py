"""The audit of constraints: prices, what they charge each pair, and by how much the policy breaks a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from occlp.errors import AuditFailed
from occlp.verify.figures import occupancy_of
from occlp.verify.majorants import check_majorant, shortfall
from occlp.verify.terms import Real

if TYPE_CHECKING:
    from occlp.certificate import Certificate
    from occlp.policy import Policy
    from occlp.problem import Problem

#: Rows of the model may miss one by this much; the diagonal takes up the rest.
UNIT = float(np.finfo(np.float64).eps)


def check_sensitivity(problem: Problem, certificate: Certificate) -> None:
    """Signed derivatives follow from the multipliers."""
    sign = 1 if problem.sense == "maximize" else -1
    everything = problem.all_limits
    for name, limit in everything.items():
        side = -1 if limit.relation == ">=" else 1
        price, slope = certificate.multipliers.get(name), certificate.sensitivity.get(name)
        derived = None if price is None else sign * side * price
        if certificate.infeasible_by is None and (slope is None or slope != derived):
            raise AuditFailed(f"the sensitivity of {name!r} is {slope}; its multiplier is {price}.")
    if set(certificate.sensitivity) - set(everything):
        raise AuditFailed("the certificate's sensitivities are not those of the problem's constraints.")


def charge_of(problem: Problem, certificate: Certificate) -> Any:
    """y·(C − b) of every pair; raises for a price of the wrong sign."""
    charge = np.zeros(problem.mdp.n_pairs, dtype=Real)
    everything = problem.all_limits
    if set(certificate.multipliers) != set(everything):
        raise AuditFailed("the certificate's multipliers are not those of the problem's constraints.")
    for name, limit in everything.items():
        price = certificate.multipliers[name]
        if not np.isfinite(price) or (price < 0 and limit.relation != "=="):
            raise AuditFailed(f"the multiplier of {name!r} is {price}; it must not be negative.")
        if name in problem.concave_limits:
            charge += Real(price) * (check_majorant(problem, certificate, name) if price > 0 else 0)
            continue
        cost = problem.coefficients(problem.limits[name]).astype(Real) - Real(limit.bound)
        charge += Real(price) * (-cost if limit.relation == ">=" else cost)
    return charge


def check_violation(problem: Problem, policy: Policy, certificate: Certificate) -> None:
    """The violation claimed is the largest of the policy, up to rounding."""
    if not problem.constraints:
        if certificate.violation != 0:
            raise AuditFailed("there are no constraints to violate.")
        return
    occupancy = occupancy_of(problem, policy)
    worst = 0.0
    for name, limit in problem.limits.items():
        cost = problem.coefficients(limit).astype(Real)
        excess = float(occupancy @ cost - Real(limit.bound))
        broken = {"<=": excess, ">=": -excess, "==": abs(excess)}[limit.relation]
        size = float(np.abs(cost).max()) + abs(limit.bound)
        worst = max(worst, broken + 64 * UNIT * size * 16)
        if not broken <= certificate.violation + 64 * UNIT * size * 16:
            raise AuditFailed(f"constraint {name!r} is broken by {broken}, not {certificate.violation} as claimed.")
    for name in problem.concave_limits:
        broken, doubt = shortfall(problem, certificate, name, occupancy)
        if not broken <= certificate.violation + doubt:
            raise AuditFailed(f"constraint {name!r} is broken by {broken}, not {certificate.violation} as claimed.")
        worst = max(worst, broken + doubt)
    if not certificate.violation <= worst:
        raise AuditFailed(f"no constraint is broken by {certificate.violation}.")

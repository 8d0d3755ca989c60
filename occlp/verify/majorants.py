"""Audit of constraints f(d) ≥ b on concave utilities: their majorants, and by how much they are broken.

Whoever keeps f(d) ≥ b keeps slope·d + offset ≥ b, if slope·d + offset ≥ f(d) everywhere: that is, if the
offset is at least sup f(d) − slope·d over the simplex. For the utilities of the library the supremum is
bounded here once more; the function of a user's ``oc.Utility`` is not run, and its majorant is trusted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from occlp.errors import AuditFailed
from occlp.terms import Utility
from occlp.verify.figures import occupancy_of
from occlp.verify.terms import Real, upper_of, value_of

if TYPE_CHECKING:
    from occlp.certificate import Certificate
    from occlp.problem import Problem

#: Rounding of the audit's own arithmetic on a bound or a value, relative to the numbers in it.
DOUBT = 1e-14


def check_majorant(problem: Problem, certificate: Certificate, name: str) -> Any:
    """Return b − offset − slope of every pair, which is what the constraint costs at a price of one.

    Raises `AuditFailed` where there is no majorant, or where it is none.
    """
    limit, majorant = problem.concave_limits[name], certificate.majorants.get(name)
    if majorant is None:
        raise AuditFailed(f"constraint {name!r} has a price, but the certificate has no majorant of its utility.")
    slope, offset = np.asarray(majorant.slope), majorant.offset
    if slope.shape != (problem.mdp.n_pairs,) or not (np.isfinite(slope).all() and np.isfinite(offset)):
        raise AuditFailed(f"the majorant of constraint {name!r} is not one finite slope a pair and an offset.")
    if not isinstance(limit.utility, Utility):
        dual = np.asarray(majorant.dual)
        least = upper_of(problem, limit.utility, -slope.astype(Real), dual, occupancy_of)
        if not least <= offset + DOUBT * (1.0 + float(np.abs(slope).max())):
            raise AuditFailed(f"the majorant of constraint {name!r} needs an offset of {least}; it has {offset}.")
        offset = min(offset, least)  # what is stored was rounded upwards; intervals do without
    return Real(limit.bound) - Real(offset) - slope.astype(Real)


def shortfall(problem: Problem, certificate: Certificate, name: str, occupancy: Any) -> tuple[float, float]:
    """Return by how much f(d) falls short of b, and the doubt of that.

    Of a user's function only what the majorant says is known: f(d) ≤ slope·d + offset. Beyond it the claimed
    violation is trusted.
    """
    limit = problem.concave_limits[name]
    if not isinstance(limit.utility, Utility):
        value = float(value_of(problem, limit.utility, occupancy, None, occupancy_of))
        doubt = 1e-11 * (1.0 + abs(value) + abs(limit.bound))
        return (limit.bound - value, doubt) if np.isfinite(value) else (np.inf, 0.0)
    majorant = certificate.majorants.get(name)
    if majorant is None:
        return certificate.violation, 0.0
    least = limit.bound - float(np.asarray(majorant.slope, dtype=Real) @ occupancy + Real(majorant.offset))
    return max(least, certificate.violation), DOUBT * (1.0 + float(np.abs(majorant.slope).max()))

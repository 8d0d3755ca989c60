"""Audit of what a tolerance refers to (docs/conventions.md, section 7): the size of a certificate and its spread.

A larger size would let a larger gap pass for a certified optimum, so both are recomputed: the spread from the rewards
or, where these are constant or replaced by a utility, from the term; the size from the spread and the two ends. Whoever
claims a smaller size asks more of the gap, and may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from occlp.errors import AuditFailed
from occlp.terms import LogSum, StateEntropy, TotalVariation, Utility, WorstCase
from occlp.verify.terms import expectation_rows

if TYPE_CHECKING:
    from occlp.certificate import Certificate
    from occlp.problem import Problem

#: The size may be larger by this share of itself: the ends may have been rounded outwards since.
NEAR = 1e-9


def check_tolerance(problem: Problem, certificate: Certificate) -> None:
    """Check spread and size; raises `AuditFailed`."""
    claims = certificate.spread, certificate.size
    if not np.isfinite(claims).all():
        raise AuditFailed(f"the certificate holds numbers that are not finite: spread, size = {claims}.")
    setting, spread = problem.regularizer or problem.utility, _reward_range(problem)
    constant = setting is not None and spread == 0
    if constant:  # of a user's function the audit knows no range
        spread = certificate.spread if isinstance(setting, Utility) else term_spread(problem, setting)
    if not abs(certificate.spread - spread) <= 1e-12 * spread:
        raise AuditFailed(f"the spread of the question is {spread}, not {certificate.spread} as claimed.")
    size = spread if constant else _size(problem, certificate, spread)
    if not 0 <= certificate.size <= size * (1 + NEAR):
        raise AuditFailed(f"tolerances are relative to {size}, not {certificate.size} as claimed.")


def _reward_range(problem: Problem) -> float:
    """The range of the rewards that count; 1 for probabilities."""
    if problem.objective == "reach":
        return 1.0
    rewards = problem.mdp.pair_rewards
    return 0.0 if problem.utility is not None else float(rewards.max() - rewards.min())


def _size(problem: Problem, certificate: Certificate, spread: float) -> float:
    """The spread or the larger end, whichever is less; a strong term may lead further from the offset than that."""
    if certificate.infeasible_by is not None:
        return spread
    ends = np.array([certificate.lower, certificate.upper])
    finite = ends[np.isfinite(ends)]
    if problem.criterion == "total":
        return float(np.abs(finite).max(initial=0.0))
    away = np.abs(finite - certificate.shift).min() if len(finite) else 0.0
    return float(min(max(spread, away), np.abs(ends).max()))


def term_spread(problem: Problem, setting: Any) -> float:
    """How much a term changes over the simplex, which stands for the spread where no rewards count."""
    if isinstance(setting, TotalVariation):
        return 1.0
    if isinstance(setting, StateEntropy):
        return float(setting.strength) * max(float(np.log(problem.mdp.n_states)), 1.0)
    if isinstance(setting, LogSum):
        return float(sum(setting.weights)) if setting.weights is not None else float(len(setting.expectations))
    if isinstance(setting, WorstCase):
        rows = expectation_rows(problem, setting.expectations)
        return float(rows.max() - rows.min()) or 1.0
    return float(setting.strength)

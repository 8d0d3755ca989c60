"""Concave terms of an objective: one small protocol, so that the certificate is one formula.

A *regularizer* is what a user writes (`KL`). Bound to a problem it becomes a *term*: a concave
function f of the occupancy that is added to the linear objective.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.special import logsumexp, rel_entr

from occlp._typing import BoolArray, FloatArray
from occlp.errors import InvalidProblem
from occlp.policy import Policy


class Term(Protocol):
    """A concave function f(d) on occupancies, in the units of the standard form."""

    @property
    def strength(self) -> float:
        """The weight of the term, > 0."""

    @property
    def support(self) -> BoolArray:
        """Pairs [pairs] that may carry mass; f is −inf when another one does."""

    def value(self, occupancy: FloatArray) -> float:
        """Return f(d)."""

    def gradient(self, occupancy: FloatArray) -> FloatArray:
        """Return ∇f(d), [pairs]."""

    def bound(self, scores: FloatArray) -> float:
        """Return sup over the simplex of q·d + f(d)."""

    def maximizer(self, scores: FloatArray) -> FloatArray:
        """Return the d of the simplex that attains `bound`, [pairs]."""

    def expression(self, occupancy: Any, pairs: Any) -> Any:
        """Return f as a cvxpy expression of the variable d over the given pairs (indices or slice)."""


@dataclass(frozen=True)
class KL:
    """Penalty ``strength · Σ d log(d / d0)`` towards the occupancy d0 of a reference policy (joint KL).

    Parameters
    ----------
    strength : float
        Positive, in the units of the reward.
    reference : Policy
        Its occupancy on the same model is d0. Pairs with d0 = 0 are excluded exactly.

    Notes
    -----
    This is the divergence of state-action occupancies, not the policy KL of trust-region methods.

    Raises
    ------
    InvalidProblem
        For a strength that is not positive and finite.
    """

    strength: float
    reference: Policy

    def __post_init__(self) -> None:
        if not (isinstance(self.strength, int | float) and 0 < self.strength < math.inf):
            raise InvalidProblem(f"the strength of a KL term must be positive and finite, not {self.strength!r}.")
        if not isinstance(self.reference, Policy):
            raise InvalidProblem(f"the reference of a KL term is a Policy, not {type(self.reference).__name__}.")

    def bind(self, prior: FloatArray, scale: float) -> KLTerm:
        """Return the term in the units of the standard form (rewards divided by `scale`)."""
        return KLTerm(prior, self.strength / scale)


@dataclass(frozen=True, eq=False)
class KLTerm:
    """f(d) = −τ Σ d log(d / d0) on the standard form (source: the Gibbs variational principle)."""

    prior: FloatArray  # [pairs], d0
    strength: float  # τ

    @property
    def support(self) -> BoolArray:
        """Pairs with positive prior, [pairs]."""
        return self.prior > 0

    def value(self, occupancy: FloatArray) -> float:
        """−τ KL(d ‖ d0); −inf where d is not absolutely continuous with respect to d0."""
        if (occupancy[~self.support] > 0).any():
            return -math.inf
        # Both sum to one, so Σ d0 φ(d/d0) with φ(x) = x log x − x + 1 is the same; its rounding is second order.
        prior, mass = self.prior[self.support], occupancy[self.support]
        excess = (mass - prior) / prior
        with np.errstate(divide="ignore", invalid="ignore"):
            near = (1.0 + excess) * np.log1p(excess) - excess
        terms = np.where(np.abs(excess) < 0.5, prior * near, rel_entr(mass, prior) - mass + prior)
        return -self.strength * float(terms.sum())

    def gradient(self, occupancy: FloatArray) -> FloatArray:
        """−τ (log(d / d0) + 1); +inf at d = 0 < d0, −inf off the support."""
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = -self.strength * (np.log(occupancy) - np.log(self.prior) + 1.0)
        return np.where(self.support, slope, -np.inf)

    def bound(self, scores: FloatArray) -> float:
        """τ log Σ d0 exp(q / τ), the value of the Gibbs variational principle."""
        keep = self.support
        top = float(scores[keep].max())
        shifted, prior = (scores[keep] - top) / self.strength, self.prior[keep]
        excess = float(prior @ np.expm1(shifted))
        if excess > -0.5:  # strong penalties: nothing is lost by taking the logarithm near one
            return top + self.strength * math.log1p(excess)
        return top + self.strength * float(logsumexp(shifted, b=prior))

    def maximizer(self, scores: FloatArray) -> FloatArray:
        """The Gibbs distribution d ∝ d0 exp(q / τ)."""
        keep = self.support
        weights = np.zeros_like(scores)
        weights[keep] = self.prior[keep] * np.exp((scores[keep] - scores[keep].max()) / self.strength)
        return np.asarray(weights / weights.sum())

    def expression(self, occupancy: Any, pairs: Any) -> Any:
        """−τ Σ rel_entr(d, d0) (``rel_entr``, not ``kl_div``: the latter adds d0 − d)."""
        import cvxpy

        return -self.strength * cvxpy.sum(cvxpy.rel_entr(occupancy, self.prior[pairs]))

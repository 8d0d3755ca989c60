"""Kullback-Leibler terms: between occupancies (joint), and between policies state by state (conditional)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from scipy import sparse

from occlp._typing import AnyArray, BoolArray, FloatArray, IntArray
from occlp.convex import load_cvxpy
from occlp.errors import InvalidProblem
from occlp.model import MDP
from occlp.policy import Policy
from occlp.terms.base import (
    EPS,
    LEAST_MASS,
    Binding,
    ProgramSize,
    Regularizer,
    Term,
    block_hessian,
    check_reference,
    check_strength,
    log_of,
)


@dataclass(frozen=True)
class KL(Regularizer):
    """Penalty ``strength · Σ d log(d / d0)`` towards the occupancy d0 of a reference policy (joint KL).

    Parameters
    ----------
    strength : float
        Positive, in the units of the reward.
    reference : Policy
        Its occupancy on the same model is d0. Pairs with d0 = 0 are excluded exactly.

    Notes
    -----
    This is the divergence of state-action occupancies, not the policy KL of trust-region methods
    (`ConditionalKL`).

    Raises
    ------
    InvalidProblem
        For a strength that is not positive and finite.
    """

    strength: float
    reference: Policy

    def __post_init__(self) -> None:
        check_strength(self, "a KL term")
        _check_policy(self.reference, "a KL term")

    def bind(self, binding: Binding) -> JointTerm:
        """Return the term with d0 as its prior."""
        return JointTerm(binding.occupancy_of(self.reference), self.strength / binding.scale)

    def parts(self, mdp: MDP) -> list[Any]:
        """Return name, strength and reference."""
        return ["KL", float(self.strength), self.reference.pair_probabilities]

    def check(self, mdp: MDP) -> None:
        """Raise `InvalidProblem` when the reference belongs to another model."""
        check_reference(self.reference, mdp, "a KL term")


@dataclass(frozen=True)
class ConditionalKL(Regularizer):
    """Penalty ``strength · Σ_s d(s) KL(π(· | s) ‖ π0(· | s))`` towards a reference policy.

    Parameters
    ----------
    strength : float
        Positive, in the units of the reward.
    reference : Policy
        Actions that it never takes are excluded exactly.

    Notes
    -----
    The soft Bellman equation V(s) = τ log Σ_a π0 exp((r + γPV) / τ) belongs to it (Todorov 2006; Neu,
    Jonsson and Gómez 2017).
    """

    strength: float
    reference: Policy

    def __post_init__(self) -> None:
        check_strength(self, "a ConditionalKL term")
        _check_policy(self.reference, "a ConditionalKL term")

    def bind(self, binding: Binding) -> PolicyTerm:
        """Return the term with π0 as its base."""
        pairs = binding.mdp.pairs
        base = np.asarray(self.reference.pair_probabilities)
        return PolicyTerm(pairs.start, pairs.states, base, self.strength / binding.scale, normalized=True)

    def parts(self, mdp: MDP) -> list[Any]:
        """Return name, strength and reference."""
        return ["ConditionalKL", float(self.strength), self.reference.pair_probabilities]

    def check(self, mdp: MDP) -> None:
        """Raise `InvalidProblem` when the reference belongs to another model."""
        check_reference(self.reference, mdp, "a ConditionalKL term")


class JointTerm(Term):
    """f(d) = −τ Σ d log(d / d0); with d0 = 1 the entropy of the occupancy (Gibbs variational principle)."""

    smooth = True

    def __init__(self, prior: FloatArray, strength: float, *, normalized: bool = True) -> None:
        self.prior, self.strength, self.normalized = prior, strength, normalized
        self.support: BoolArray = prior > 0
        self.spread = strength

    def with_strength(self, strength: float) -> JointTerm:
        """Return the same term with another strength."""
        return JointTerm(self.prior, strength, normalized=self.normalized)

    def value(self, occupancy: FloatArray) -> float:
        """−τ KL(d ‖ d0); −inf where d is not absolutely continuous with respect to d0."""
        if (occupancy[~self.support] > 0).any():
            return -math.inf
        prior, mass = self.prior[self.support], occupancy[self.support]
        if not self.normalized:
            return -self.strength * float(scipy.special.rel_entr(mass, prior).sum())
        # Both sum to one, so Σ d0 φ(d/d0) with φ(x) = x log x − x + 1 is the same; its rounding is second order.
        close = np.abs(mass - prior) < 0.5 * prior
        excess = np.where(close, mass - prior, 0.0) / prior
        near = prior * ((1.0 + excess) * np.log1p(excess) - excess)
        terms = np.where(close, near, scipy.special.rel_entr(mass, prior) - mass + prior)
        return -self.strength * float(terms.sum())

    def rounding(self, occupancy: FloatArray) -> float:
        """That of the terms d0 φ(d/d0), and of the prior: its errors count by |d0 − d|."""
        prior, mass = self.prior[self.support], occupancy[self.support]
        parts = np.abs(scipy.special.rel_entr(mass, prior)) + (np.abs(mass - prior) if self.normalized else 0.0)
        return 16.0 * EPS * self.strength * float(parts.sum())

    def gradient(self, occupancy: FloatArray) -> FloatArray:
        """−τ (log(d / d0) + 1); +inf at d = 0 < d0, −inf off the support."""
        with np.errstate(invalid="ignore"):
            slope = -self.strength * (log_of(occupancy) - log_of(self.prior) + 1.0)
        return np.where(self.support, slope, -np.inf)

    def bound(self, scores: FloatArray, dual: FloatArray | None = None) -> float:
        """τ log Σ d0 exp(q / τ), the value of the Gibbs variational principle."""
        keep = self.support
        top = float(scores[keep].max())
        shifted, prior = (scores[keep] - top) / self.strength, self.prior[keep]
        if self.normalized:
            excess = float(prior @ np.expm1(shifted))
            if excess > -0.5:  # strong penalties: nothing is lost by taking the logarithm near one
                return top + self.strength * math.log1p(excess)
        return top + self.strength * float(scipy.special.logsumexp(shifted, b=prior))

    def maximizer(self, scores: FloatArray) -> FloatArray:
        """The Gibbs distribution d ∝ d0 exp(q / τ), which attains the bound, [pairs]."""
        keep = self.support
        weights = np.zeros_like(scores)
        weights[keep] = self.prior[keep] * np.exp((scores[keep] - scores[keep].max()) / self.strength)
        return np.asarray(weights / weights.sum())

    def unit_expression(self, occupancy: Any, pairs: Any, mass: float = 1.0) -> Any:
        """−Σ rel_entr(d, mass · d0) (``rel_entr``, not ``kl_div``: the latter adds d0 − d), with d0 of mass one."""
        cvxpy = load_cvxpy()
        prior = self.prior[pairs]
        total = float(prior.sum())
        return mass * np.log(total) - cvxpy.sum(cvxpy.rel_entr(occupancy, mass / total * prior))

    def program_size(self, pairs: AnyArray) -> ProgramSize:
        """A cone (t, d, d0) for each pair."""
        return ProgramSize(len(pairs), 3 * len(pairs), 2 * len(pairs))

    def hessian(self, occupancy: FloatArray) -> Any:
        """−τ / d on the diagonal."""
        return sparse.diags_array(-self.blocks(occupancy)[0])

    def blocks(self, occupancy: FloatArray) -> tuple[FloatArray, FloatArray]:
        """τ/d, and nothing between the pairs of a state."""
        return self.strength / np.maximum(occupancy, LEAST_MASS), np.zeros(0)


class PolicyTerm(Term):
    """f(d) = −τ Σ_s d(s) Σ_a π log(π / base): conditional KL, or with base 1 the policy's entropy."""

    smooth = True

    def __init__(
        self, start: IntArray, states: IntArray, base: FloatArray, strength: float, *, normalized: bool
    ) -> None:
        self.start, self.states, self.base, self.strength = start, states, base, strength
        self.normalized = normalized
        self.support: BoolArray = base > 0
        self.spread = strength

    def with_strength(self, strength: float) -> PolicyTerm:
        """Return the same term with another strength."""
        return PolicyTerm(self.start, self.states, self.base, strength, normalized=self.normalized)

    def pair_bonus(self, probabilities: FloatArray) -> FloatArray | None:
        """What a pair earns beside its reward under a fixed policy, [pairs]: −τ log(π / base).

        None where the policy takes an action that the base excludes: only `value` knows whether that state
        is visited. With a normalised base every pair of a state is given the state's mean, −τ KL(π ‖ π0), written so
        that its rounding is second order near π0.
        """
        if (probabilities[~self.support] > 0).any():
            return None
        if self.normalized:
            return np.asarray(-self.strength * self._divergence(probabilities)[self.states])
        used = probabilities > 0
        bonus = np.zeros(len(self.base))
        bonus[used] = -self.strength * (np.log(probabilities[used]) - log_of(self.base[used]))
        return bonus

    def _divergence(self, probabilities: FloatArray) -> FloatArray:
        """Σ_a base φ(π / base) with φ(x) = x log x − x + 1, [S]; +inf outside the base's support."""
        base = np.where(self.support, self.base, 1.0)
        excess = (probabilities - base) / base
        with np.errstate(divide="ignore", invalid="ignore"):
            near = (1.0 + excess) * np.log1p(excess) - excess
        far = scipy.special.rel_entr(probabilities, self.base) - probabilities + self.base
        terms = np.where(self.support & (np.abs(excess) < 0.5), base * near, far)
        return np.asarray(np.add.reduceat(terms, self.start[:-1]))

    def value(self, occupancy: FloatArray) -> float:
        """−τ Σ d(s) KL; −inf where the policy takes an action that the base excludes."""
        bonus = self.pair_bonus(self._policy(occupancy))
        return -math.inf if bonus is None else float(occupancy @ bonus)

    def gradient(self, occupancy: FloatArray) -> FloatArray:
        """−τ log(π / base), [pairs]; f is positively homogeneous in each state, so no constant enters."""
        probabilities = self._policy(occupancy)
        with np.errstate(invalid="ignore"):
            slope = -self.strength * (log_of(probabilities) - log_of(self.base))
        return np.where(self.support, slope, -np.inf)

    def bound(self, scores: FloatArray, dual: FloatArray | None = None) -> float:
        """max over states of τ log Σ_a base exp(q / τ)."""
        return float(self.soft_maximum(scores).max())

    def soft_maximum(self, scores: FloatArray) -> FloatArray:
        """τ log Σ_a base exp(q / τ) of each state, [S]."""
        first = self.start[:-1]
        kept = np.where(self.support, scores, -np.inf)
        top = np.maximum.reduceat(kept, first)
        shifted = np.where(self.support, (kept - top[self.states]) / self.strength, -np.inf)
        excess = np.add.reduceat(self.base * np.expm1(shifted), first)
        with np.errstate(divide="ignore"):
            near = np.log1p(np.maximum(excess, -0.75))
            far = np.log(np.add.reduceat(self.base * np.exp(shifted), first))
        return np.asarray(top + self.strength * np.where(self.normalized & (excess > -0.5), near, far))

    def policy(self, scores: FloatArray) -> FloatArray:
        """π ∝ base exp(q / τ), [pairs]."""
        first = self.start[:-1]
        top = np.maximum.reduceat(np.where(self.support, scores, -np.inf), first)[self.states]
        shifted = np.where(self.support, (scores - top) / self.strength, -np.inf)
        weights = self.base * np.exp(shifted)
        return np.asarray(weights / np.add.reduceat(weights, first)[self.states])

    def unit_expression(self, occupancy: Any, pairs: Any, mass: float = 1.0) -> Any:
        """−Σ rel_entr(d(s, a), base · d(s)), the same for every mass."""
        cvxpy = load_cvxpy()
        kept = np.arange(len(self.base))[pairs]
        _, position = np.unique(self.states[kept], return_inverse=True)
        spread = sparse.csr_array((np.ones(len(kept)), (np.arange(len(kept)), position)))
        totals = spread @ (spread.T @ occupancy)
        return -cvxpy.sum(cvxpy.rel_entr(occupancy, cvxpy.multiply(self.base[kept], totals)))

    def program_size(self, pairs: AnyArray) -> ProgramSize:
        """A cone (t, d, base · d(s)) for each pair, the last with an entry for each pair of the state."""
        together = int((np.bincount(self.states[pairs]) ** 2).sum())
        return ProgramSize(len(pairs), 3 * len(pairs), 2 * len(pairs) + together)

    def hessian(self, occupancy: FloatArray) -> Any:
        """−τ (1/d − 1/d(s) within a state)."""
        return block_hessian(self.start, *self.blocks(occupancy))

    def blocks(self, occupancy: FloatArray) -> tuple[FloatArray, FloatArray]:
        """τ/d and −τ/d(s)."""
        mass = np.maximum(occupancy, LEAST_MASS)
        return self.strength / mass, -self.strength / np.add.reduceat(mass, self.start[:-1])

    def _policy(self, occupancy: FloatArray) -> FloatArray:
        totals = np.add.reduceat(occupancy, self.start[:-1])[self.states]
        return np.where(totals > 0, occupancy / np.where(totals > 0, totals, 1.0), self.base)


def _check_policy(reference: Any, name: str) -> None:
    if not isinstance(reference, Policy):
        raise InvalidProblem(f"the reference of {name} is a Policy, not {type(reference).__name__}.")

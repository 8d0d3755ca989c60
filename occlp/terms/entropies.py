"""Entropies: of the policy state by state, of the state occupancy, and of the state-action occupancy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from scipy import sparse

from occlp._typing import AnyArray, FloatArray, IntArray
from occlp.convex import load_cvxpy
from occlp.model import MDP
from occlp.terms.base import (
    LEAST_MASS,
    Binding,
    ConcaveUtility,
    ProgramSize,
    Regularizer,
    Term,
    block_hessian,
    check_strength,
    log_of,
)
from occlp.terms.divergences import JointTerm, PolicyTerm


@dataclass(frozen=True)
class PolicyEntropy(Regularizer):
    """Bonus ``strength · Σ_s d(s) H(π(· | s))``: the expected Shannon entropy of the policy, in nats.

    Parameters
    ----------
    strength : float
        Positive, in the units of the reward.

    Notes
    -----
    Its optimum solves the soft Bellman equation V(s) = τ log Σ_a exp((r + γPV) / τ) (Ziebart 2010).
    Duplicating an action changes it; `ConditionalKL` with split reference mass does not.
    """

    strength: float

    def __post_init__(self) -> None:
        check_strength(self, "PolicyEntropy")

    def bind(self, binding: Binding) -> PolicyTerm:
        """Return the term with the counting measure as its base."""
        pairs = binding.mdp.pairs
        return PolicyTerm(
            pairs.start, pairs.states, np.ones(pairs.n_pairs), self.strength / binding.scale, normalized=False
        )

    def parts(self, mdp: MDP) -> list[Any]:
        """Return name and strength."""
        return ["PolicyEntropy", float(self.strength)]


@dataclass(frozen=True, eq=False)
class OccupancyEntropy(Regularizer, ConcaveUtility):
    """Bonus ``strength · H(d)``, the entropy of the state-action occupancy, in nats.

    Parameters
    ----------
    strength : float
        Positive; as a regularizer in the units of the reward.
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        check_strength(self, "OccupancyEntropy")

    def bind(self, binding: Binding) -> JointTerm:
        """Return the joint KL to the counting measure."""
        return JointTerm(np.ones(binding.mdp.n_pairs), self.strength / binding.scale, normalized=False)

    def parts(self, mdp: MDP) -> list[Any]:
        """Return name and strength."""
        return ["OccupancyEntropy", float(self.strength)]


@dataclass(frozen=True, eq=False)
class StateEntropy(Regularizer, ConcaveUtility):
    """Bonus ``strength · H(d_S)``, the entropy of the state occupancy, in nats.

    Parameters
    ----------
    strength : float
        Positive; as a regularizer in the units of the reward.

    Notes
    -----
    As ``utility=`` it asks for the policy that explores most evenly (Hazan, Kakade, Singh and Van Soest 2019).
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        check_strength(self, "StateEntropy")

    def bind(self, binding: Binding) -> StateTerm:
        """Return the term."""
        return StateTerm(binding.mdp.pairs.start, binding.mdp.pairs.states, self.strength / binding.scale)

    def parts(self, mdp: MDP) -> list[Any]:
        """Return name and strength."""
        return ["StateEntropy", float(self.strength)]


class StateTerm(Term):
    """f(d) = −τ Σ_s d(s) log d(s)."""

    smooth = True

    def __init__(self, start: IntArray, states: IntArray, strength: float) -> None:
        self.start, self.states, self.strength = start, states, strength
        self.support = np.ones(len(states), dtype=np.bool_)
        self.spread = strength * max(float(np.log(len(start) - 1)), 1.0)

    def value(self, occupancy: FloatArray) -> float:
        """τ H(d_S)."""
        return self.strength * float(scipy.special.entr(np.add.reduceat(occupancy, self.start[:-1])).sum())

    def gradient(self, occupancy: FloatArray) -> FloatArray:
        """−τ (log d(s) + 1) for every pair of the state."""
        slope = -self.strength * (log_of(np.add.reduceat(occupancy, self.start[:-1])) + 1.0)
        return np.asarray(slope[self.states])

    def bound(self, scores: FloatArray, dual: FloatArray | None = None) -> float:
        """τ log Σ_s exp(max_a q / τ)."""
        return self.strength * float(
            scipy.special.logsumexp(np.maximum.reduceat(scores, self.start[:-1]) / self.strength)
        )

    def unit_expression(self, occupancy: Any, pairs: Any, mass: float = 1.0) -> Any:
        """Σ entr(d(s)), with the states' masses in sizes of the average."""
        cvxpy = load_cvxpy()
        kept = np.arange(len(self.states))[pairs]
        _, position = np.unique(self.states[kept], return_inverse=True)
        totals = sparse.csr_array((np.ones(len(kept)), (position, np.arange(len(kept))))) @ occupancy
        average = mass / totals.size
        return mass * np.log(totals.size) + average * cvxpy.sum(cvxpy.entr(totals / average))

    def program_size(self, pairs: AnyArray) -> ProgramSize:
        """A cone (t, d(s), 1) for each state."""
        states = len(np.unique(self.states[pairs]))
        return ProgramSize(states, 3 * states, states + len(pairs))

    def hessian(self, occupancy: FloatArray) -> Any:
        """−τ / d(s) within each state."""
        return block_hessian(self.start, *self.blocks(occupancy))

    def blocks(self, occupancy: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Nothing of the pairs alone, and τ / d(s)."""
        totals = np.maximum(np.add.reduceat(occupancy, self.start[:-1]), LEAST_MASS)
        return np.zeros(len(occupancy)), self.strength / totals

    def low_rank(self, occupancy: FloatArray) -> tuple[Any, FloatArray]:
        """Which pair belongs to which state, and τ / d(s)."""
        n, weights = len(occupancy), self.blocks(occupancy)[1]
        return sparse.csr_array((np.ones(n), np.arange(n), self.start), shape=(len(weights), n)), weights

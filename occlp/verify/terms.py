"""The terms of an objective, written down once more for the audit: their bounds and their values.

Every function here takes extended-precision arrays and recomputes what `occlp.terms` claims, from the
definition: q are the scores r + γPV − V of the pairs, d the occupancy of the policy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from occlp.errors import AuditFailed
from occlp.policy import Policy
from occlp.terms import (
    KL,
    ConditionalKL,
    LogSum,
    OccupancyEntropy,
    PolicyEntropy,
    StateEntropy,
    TotalVariation,
    Utility,
    WorstCase,
)
from occlp.verify.paths import forward

if TYPE_CHECKING:
    from occlp.problem import Problem

#: Extended precision where the platform has it (80-bit on x86), else double.
Real = np.longdouble
#: Masses below this, times the logarithm of any other, are nothing beside the rounding of the rest.
UNSEEN = 1e-25
Occupancy = Callable[["Problem", Policy], Any]


def upper_of(problem: Problem, setting: Any, scores: Any, dual: Any, occupancy_of: Occupancy) -> Any:
    """Return the bound on sup q·d + f(d) over the simplex, f being that of a setting (None: no f)."""
    if setting is None:
        return scores.max()
    first = problem.mdp.pairs.start[:-1]
    if isinstance(setting, KL):
        return _soft(scores, occupancy_of(problem, setting.reference), Real(setting.strength))
    if isinstance(setting, OccupancyEntropy):
        return _soft(scores, np.ones(len(scores), dtype=Real), Real(setting.strength))
    if isinstance(setting, ConditionalKL | PolicyEntropy):
        base = _base(setting, len(scores))
        edges = [*first, len(scores)]
        rows = [slice(edges[s], edges[s + 1]) for s in range(len(first))]
        return max(_soft(scores[row], base[row], Real(setting.strength)) for row in rows)
    if isinstance(setting, StateEntropy):
        return _soft(np.maximum.reduceat(scores, first), np.ones(len(first), dtype=Real), Real(setting.strength))
    if isinstance(setting, TotalVariation):
        target = _target(problem, setting, occupancy_of)
        return scores.max() - 1 + target @ np.maximum(scores + 1 - scores.max(), 0)
    if isinstance(setting, LogSum):
        weights = np.ones(len(setting.expectations)) if setting.weights is None else np.array(setting.weights)
        if dual.shape != weights.shape or not (dual > 0).all():
            raise AuditFailed("the dual of LogSum must hold one positive number an expectation.")
        rows = expectation_rows(problem, setting.expectations)
        return (scores + dual.astype(Real) @ rows).max() - weights @ (1 + np.log(dual.astype(Real) / weights))
    if isinstance(setting, WorstCase):
        rows = expectation_rows(problem, setting.expectations)
        if dual.shape != (len(rows),) or not ((dual >= 0).all() and dual.sum() > 0):
            raise AuditFailed("the dual of WorstCase must hold weights, none negative.")
        return (scores + (dual.astype(Real) / dual.astype(Real).sum()) @ rows).max()
    if isinstance(setting, Utility) and dual.shape == (len(scores) + 1,) and np.isfinite(dual).all():
        return (scores + dual[:-1].astype(Real)).max() + Real(dual[-1])
    raise AuditFailed(f"the audit has no bound for {type(setting).__name__} with this certificate.")


def bonus_of(problem: Problem, policy: Policy) -> Any:
    """Return what each pair earns beside its reward, [pairs], for terms that are linear in d at a fixed policy."""
    setting: Any = problem.regularizer
    if not isinstance(setting, ConditionalKL | PolicyEntropy):
        return np.zeros(problem.mdp.n_pairs, dtype=Real)
    first, states = problem.mdp.pairs.start[:-1], problem.mdp.pairs.states
    chosen, base = policy.pair_probabilities.astype(Real), _base(setting, problem.mdp.n_pairs)
    if (chosen[base == 0] > 0).any():
        raise AuditFailed("the policy takes actions that the reference never does: its divergence is infinite.")
    if isinstance(setting, ConditionalKL):
        terms = _excess_terms(chosen, base)
    else:
        terms = np.where(chosen > 0, chosen * np.log(np.where(chosen > 0, chosen, 1)), 0)
    return (-Real(setting.strength) * np.add.reduceat(terms, first))[states]


def value_of(problem: Problem, setting: Any, occupancy: Any, dual: Any, occupancy_of: Occupancy) -> Any:
    """Return f(d) of the other terms."""
    first = problem.mdp.pairs.start[:-1]
    if setting is None or isinstance(setting, ConditionalKL | PolicyEntropy):
        return Real(0)
    if isinstance(setting, KL):
        prior, mdp = occupancy_of(problem, setting.reference), problem.mdp
        taken = setting.reference.pair_probabilities > 0
        lost = (prior == 0) & (occupancy > 0)
        # Masses too small for a number add nothing, if only the reference comes there at all.
        visited = forward(mdp, mdp.initial > 0, taken)[mdp.pairs.states] & taken if lost.any() else taken
        if (lost & ~(visited & (occupancy < UNSEEN))).any():
            raise AuditFailed("the policy visits pairs that the reference never does: its KL divergence is infinite.")
        return -Real(setting.strength) * _divergence(occupancy, prior)
    if isinstance(setting, OccupancyEntropy):
        return Real(setting.strength) * _entropy(occupancy)
    if isinstance(setting, StateEntropy):
        return Real(setting.strength) * _entropy(np.add.reduceat(occupancy, first))
    if isinstance(setting, TotalVariation):
        return -np.abs(occupancy - _target(problem, setting, occupancy_of)).sum() / 2
    if isinstance(setting, LogSum):
        weights = np.ones(len(setting.expectations)) if setting.weights is None else np.array(setting.weights)
        return weights @ np.log(expectation_rows(problem, setting.expectations) @ occupancy)
    if isinstance(setting, WorstCase):
        return (expectation_rows(problem, setting.expectations) @ occupancy).min()
    return dual[:-1].astype(Real) @ occupancy + Real(dual[-1])  # a user's function is not run: the majorant touches it


def size_of(problem: Problem) -> float:
    """Return the size of the numbers that the audit's own rounding refers to."""
    setting: Any = problem.regularizer or problem.utility
    if setting is None:
        return 0.0
    if isinstance(setting, LogSum | WorstCase):
        return float(np.abs(expectation_rows(problem, setting.expectations)).max()) + 1.0
    if isinstance(setting, PolicyEntropy | StateEntropy | OccupancyEntropy):
        return float(setting.strength) * (1.0 + float(np.log(problem.mdp.n_pairs)))
    return 1.0


def _soft(scores: Any, base: Any, strength: Any) -> Any:
    """τ log Σ base exp(q / τ), through log1p where the base sums to one and the penalty is strong."""
    scores, base = scores[base > 0], base[base > 0]
    top = scores.max()
    shifted = (scores - top) / strength
    total = base.sum()
    if abs(total - 1) < 1e-12:
        excess = (base / total) @ np.expm1(shifted)
        if excess > -0.5:
            return top + strength * np.log1p(excess)
    return top + strength * np.log(base @ np.exp(shifted))


def _divergence(occupancy: Any, prior: Any) -> Any:
    """KL(d ‖ d0) of two distributions."""
    return _excess_terms(occupancy, prior).sum()


def _excess_terms(mass: Any, prior: Any) -> Any:
    """d0 φ(d / d0), φ(x) = x log x − x + 1: their sum is the KL of two distributions, and stable near d = d0."""
    base = np.where(prior > 0, prior, 1)
    excess = (mass - base) / base
    inside = np.maximum(excess, Real(-0.5))
    near = (1 + inside) * np.log1p(inside) - inside
    ratio = np.where(mass > 0, mass / base, 1)
    far = np.where(mass > 0, ratio * np.log(ratio) - ratio + 1, 1)
    return np.where(prior > 0, prior * np.where(np.abs(excess) < 0.5, near, far), 0)


def _entropy(mass: Any) -> Any:
    used = mass[mass > 0]
    return -(used * np.log(used)).sum()


def _base(setting: Any, n_pairs: int) -> Any:
    if isinstance(setting, PolicyEntropy):
        return np.ones(n_pairs, dtype=Real)
    return setting.reference.pair_probabilities.astype(Real)


def _target(problem: Problem, setting: TotalVariation, occupancy_of: Occupancy) -> Any:
    if isinstance(setting.target, Policy):
        return occupancy_of(problem, setting.target)
    pairs = problem.mdp.pairs
    target = np.asarray(setting.target, dtype=Real)[pairs.states, pairs.actions]
    return target / target.sum()


def expectation_rows(problem: Problem, expectations: Any) -> Any:
    """The coefficients of the expectations of a utility, [k, pairs]."""
    from occlp.constraints import expected

    listed = [expected(what) if isinstance(what, str) else what for what in expectations]
    return np.array([what.coefficients(problem.mdp, 0.0) for what in listed], dtype=Real)

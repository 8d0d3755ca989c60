"""Estimators: how the quantities of a policy gradient are obtained. Here exactly, from the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

from occlp._typing import FloatArray, IntArray
from occlp.evaluation import assess, pair_residuals
from occlp.kernels import elimination
from occlp.resolvent import Elimination, band_order, fits_elimination
from occlp.standard import StandardForm


@dataclass(frozen=True, eq=False)
class Estimate:
    """What an update needs to know of the current policy, in the units of the standard form.

    Attributes
    ----------
    objective : float
        Normalised objective d·r.
    state_mass : FloatArray [S]
        d^π(s).
    advantages : FloatArray [pairs]
        A^π(s, a) = Q^π − V^π.
    values : FloatArray [S]
        Relative values of the policy.
    samples : int
        Transitions sampled for this estimate.
    """

    objective: float
    state_mass: FloatArray  # [S]
    advantages: FloatArray  # [pairs]
    values: FloatArray  # [S]
    samples: int = 0


class Estimator(Protocol):
    """Prepares a function from pair probabilities to an `Estimate`."""

    def prepare(self, form: StandardForm, rng: np.random.Generator) -> Callable[[FloatArray], Estimate]:
        """Return the function for one model."""


@dataclass(frozen=True)
class Exact:
    """The exact advantages and occupancy of the policy (policy gradient theorem, Sutton et al. 2000)."""

    def prepare(self, form: StandardForm, rng: np.random.Generator) -> Callable[[FloatArray], Estimate]:
        """Choose by size: one subtraction-free elimination a policy, or the general evaluation."""
        order, width = band_order(_union_graph(form))
        if fits_elimination(form.n_states, width):
            return _SmallModel(form, order, width)
        return lambda probabilities: _general(form, probabilities)


class _SmallModel:
    """Evaluates policy after policy of one model in a band that fits all of them."""

    def __init__(self, form: StandardForm, order: IntArray, width: int) -> None:
        self.form, self.order, self.width = form, order, width
        self.position = np.empty(form.n_states, dtype=np.int32)
        self.position[order] = np.arange(form.n_states, dtype=np.int32)

    def __call__(self, probabilities: FloatArray) -> Estimate:
        form = self.form
        matrix, first = form.transitions, form.start[:-1]
        band = elimination.fill_policy(
            form.start, matrix.indptr, matrix.indices, matrix.data, probabilities,
            self.order, self.position, self.width, form.discount,
        )  # fmt: skip
        resolvent = Elimination(band, self.order, np.full(form.n_states, form.rest))
        mass = resolvent.rows(form.rest * form.initial)
        mass = mass / mass.sum()
        earned = np.add.reduceat(form.rewards * probabilities, first)
        objective = float(mass @ earned)
        # Relative values, refined once on residuals that do not cancel when 1 − γ is tiny.
        values = resolvent.columns(earned - objective)
        values -= values @ form.initial
        scores, _ = pair_residuals(form, values, None)
        mean = np.add.reduceat(scores * probabilities, first)
        correction = resolvent.columns(mean - mass @ mean)
        values = values + correction - correction @ form.initial
        scores, _ = pair_residuals(form, values, None)
        mean = np.add.reduceat(scores * probabilities, first)
        return Estimate(objective, mass, scores - mean[form.states], values)


def _general(form: StandardForm, probabilities: FloatArray) -> Estimate:
    found = assess(form, probabilities)
    scores, _ = pair_residuals(form, found.bracket.high, found.bracket.low)
    mean = np.add.reduceat(scores * probabilities, form.start[:-1])
    return Estimate(found.objective, found.state_occupancy, scores - mean[form.states], found.bracket.high)


def _union_graph(form: StandardForm) -> sparse.csr_array:
    """Every transition that some policy can make, [S, S]."""
    shape = (form.n_states, form.n_pairs)
    every = sparse.csr_array((np.ones(form.n_pairs), np.arange(form.n_pairs), form.start), shape=shape)
    return sparse.csr_array(every @ form.transitions)

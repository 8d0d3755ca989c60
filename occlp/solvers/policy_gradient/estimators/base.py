"""What an estimator is, and what it says of a policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from occlp._typing import BoolArray, FloatArray
from occlp.evaluation import formulate
from occlp.problem import Problem
from occlp.rollouts import terminal_states
from occlp.solvers.base import describe
from occlp.standard import StandardForm
from occlp.total.form import formulate_total


@dataclass(frozen=True, eq=False)
class Estimate:
    """What an update needs to know of the current policy; normalised scale, units of the standard form.

    A gradient of a finite model is a measure on its pairs: whatever the parametrization, ∇(d·r) = Σ v(s, a) ∇π(a | s)
    for the slopes v. So an estimator says nothing of parameters.

    Attributes
    ----------
    slopes : FloatArray [pairs]
        v(s, a) = ∂(d·r)/∂π(a | s), up to a constant in each state: exactly d(s) A(s, a).
    advantages : FloatArray [pairs]
        A(s, a); a mean over the visits of a sampled pair, zero where there was none.
    pair_mass : FloatArray [pairs]
        Weight of each pair: exactly d(s) π(a | s), else visits as the estimator counts them, such that the slopes
        are mass · A / π. Sums to about one; for totals to the expected number of steps.
    objective : float
        d·r, for searches along a line; NaN where it is not known.
    values : FloatArray [S], optional
        Values of the policy, up to a constant, that may prove a bound.
    gains : FloatArray [pairs], optional
        The part of the slopes that comes from visits with a positive advantage; default: their positive part.
    parts : callable, optional
        Returns the slopes of single trajectories, [n, pairs], n at most 64; their mean varies like the estimate.
    samples : int
        Transitions sampled for this estimate.
    """

    slopes: FloatArray  # [pairs]
    advantages: FloatArray  # [pairs]
    pair_mass: FloatArray  # [pairs]
    objective: float = np.nan
    values: FloatArray | None = None  # [S]
    gains: FloatArray | None = None  # [pairs]
    parts: Callable[[], FloatArray] | None = None
    samples: int = 0

    @property
    def rises(self) -> FloatArray:
        """The slopes of visits with a positive advantage, [pairs]."""
        return np.maximum(self.slopes, 0.0) if self.gains is None else self.gains

    @property
    def falls(self) -> FloatArray:
        """The slopes of the other visits, [pairs]."""
        return self.slopes - self.rises


class Estimator:
    """Prepares a function from pair probabilities to an `Estimate`; subclasses are frozen dataclasses of settings.

    Attributes
    ----------
    is_sampled : bool
        Whether estimates are random; their objective is then not known, and there are no searches along a line.
    """

    is_sampled: bool = False

    def __repr__(self) -> str:
        """Name and settings that differ from their defaults."""
        return describe(self)

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be estimated, or None."""
        return None

    def prepare(self, problem: Problem, rng: np.random.Generator) -> Callable[[FloatArray], Estimate]:
        """Return the function for one problem; what a run learns (a critic) lives in it.

        If it is an object, its attribute ``memory`` is kept when a run stops, and set when it goes on: plain data.
        """
        raise NotImplementedError


def form_of(problem: Problem) -> StandardForm:
    """The form whose units estimates have."""
    return formulate_total(problem).base if problem.criterion == "total" else formulate(problem)


def ends_of(problem: Problem) -> BoolArray:
    """Mask [S] of the states that end a trajectory: the goal, or states that every action keeps for nothing.

    An average goes on for ever.
    """
    if problem.criterion == "average":
        return np.zeros(problem.mdp.n_states, dtype=np.bool_)
    return problem.goal_states if problem.criterion == "total" else terminal_states(problem.mdp)

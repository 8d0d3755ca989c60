"""Named methods of the literature: thin, each one choice of parametrization, estimator and update."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from occlp.problem import Problem
from occlp.solvers.base import Iterate, Start
from occlp.solvers.policy_gradient.ascent import PolicyGradient
from occlp.solvers.policy_gradient.estimators import Estimator, Exact
from occlp.solvers.policy_gradient.parametrizations import Parametrization, Softmax
from occlp.solvers.policy_gradient.updates import MirrorStep, NaturalStep


class Preset:
    """A solver that is a `PolicyGradient` with its parts chosen; subclasses give `expand`."""

    def __post_init__(self) -> None:
        self.expand()  # checks the settings

    def expand(self) -> PolicyGradient:
        """Return the method as its three parts."""
        raise NotImplementedError

    @property
    def promises_tol(self) -> bool:
        """False: a run ends by its own rule."""
        return False

    @property
    def is_sampled(self) -> bool:
        """Whether runs are random; a comparison repeats them with several seeds."""
        return self.expand().is_sampled

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        return self.expand().unsupported(problem)

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the start and then the policy after each step."""
        return self.expand().iterate(problem, tol=tol, rng=rng, start=start)


@dataclass(frozen=True)
class NaturalPolicyGradient(Preset):
    """Natural policy gradient (Kakade 2001), exact for tabular softmax unless told otherwise.

    Parameters
    ----------
    step_size : float, optional
        Fixed η on the return scale, in the user's units; default: a line search.
    steps : int
        Steps after which the run ends.
    parametrization : Parametrization
        Default tabular softmax.
    estimator : Estimator
        Default exact; a sampled one needs a step size.
    """

    step_size: float | None = None
    steps: int = 1000
    parametrization: Parametrization = Softmax()  # noqa: RUF009 (frozen, without state)
    estimator: Estimator = Exact()  # noqa: RUF009

    def expand(self) -> PolicyGradient:
        """Return the method as its three parts."""
        return PolicyGradient(self.parametrization, self.estimator, NaturalStep(self.step_size), self.steps)


@dataclass(frozen=True)
class MirrorDescent(Preset):
    """Policy mirror descent with the KL divergence (Shani et al. 2020; Lan 2023; Xiao 2022).

    Parameters
    ----------
    step_size : float, optional
        η on the return scale, in the user's units; default: a search. With exact estimates and a fixed η this is the
        natural policy gradient.
    growth : float
        Factor of η after each step.
    steps : int
        Steps after which the run ends.
    parametrization : Parametrization
        Tabular: `Softmax` or `Direct`.
    estimator : Estimator
        Default exact; a sampled one needs a step size.
    """

    step_size: float | None = None
    growth: float = 1.0
    steps: int = 1000
    parametrization: Parametrization = Softmax()  # noqa: RUF009
    estimator: Estimator = Exact()  # noqa: RUF009

    def expand(self) -> PolicyGradient:
        """Return the method as its three parts."""
        update = MirrorStep(self.step_size, growth=self.growth)
        return PolicyGradient(self.parametrization, self.estimator, update, self.steps)

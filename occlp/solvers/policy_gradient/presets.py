"""Named methods of the literature: thin, each one choice of parametrization, estimator and update."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from occlp.problem import Problem
from occlp.solvers.base import Iterate, Start, describe
from occlp.solvers.policy_gradient.ascent import PolicyGradient
from occlp.solvers.policy_gradient.estimators import GAE, Estimator, Exact, MonteCarlo, TemporalDifference
from occlp.solvers.policy_gradient.parametrizations import Parametrization, Softmax
from occlp.solvers.policy_gradient.updates import ClippedRatio, GradientStep, MirrorStep, NaturalStep, TrustRegion


class Preset:
    """A solver that is a `PolicyGradient` with its parts chosen; subclasses give `expand`."""

    def __post_init__(self) -> None:
        self.expand()  # checks the settings

    def __repr__(self) -> str:
        """Name and settings that differ from their defaults."""
        return describe(self)

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


@dataclass(frozen=True, repr=False)
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


@dataclass(frozen=True, repr=False)
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


@dataclass(frozen=True, repr=False)
class Reinforce(Preset):
    """REINFORCE: sampled returns to go times scores (Williams 1992; Sutton and Barto 2018, section 13.3).

    Parameters
    ----------
    baseline : None, "values", "average" or array [S]
        What is subtracted from the returns, as in `oc.estimators.MonteCarlo`.
    returns : {"to_go", "total"}
        "total" weighs every step by the return of its whole trajectory.
    trajectories : int
        Trajectories for one step.
    horizon : int, "geometric", "episode" or None
        As in `oc.estimators.MonteCarlo`.
    discounting : {"keep", "drop"}
        Whether the factor γ^t is kept.
    step_size : float
        η of the update.
    adaptive : bool
        Steps adapted to each parameter (Adam), which need no knowledge of the units of the reward; False is
        Williams' rule θ ← θ + η ∇̂J on the return scale.
    steps : int
        Steps after which the run ends.
    parametrization : Parametrization
        Default tabular softmax.
    """

    baseline: Any = None
    returns: str = "to_go"
    trajectories: int = 16
    horizon: int | str | None = None
    discounting: str = "keep"
    step_size: float = 0.1
    adaptive: bool = True
    steps: int = 300
    parametrization: Parametrization = Softmax()  # noqa: RUF009

    def expand(self) -> PolicyGradient:
        """Return the method as its three parts."""
        estimator = MonteCarlo(
            trajectories=self.trajectories, horizon=self.horizon, discounting=self.discounting,
            returns=self.returns, baseline=self.baseline,
        )  # fmt: skip
        update = GradientStep(self.step_size, adaptive=self.adaptive)
        return PolicyGradient(self.parametrization, estimator, update, self.steps)


@dataclass(frozen=True, repr=False)
class ActorCritic(Preset):
    """One-step actor–critic: temporal differences of a learnt critic (Sutton and Barto 2018, section 13.5).

    Parameters
    ----------
    step_size, adaptive
        Of the actor, as in `Reinforce`.
    critic_step : float
        Of the critic, as in `oc.estimators.TemporalDifference`.
    trajectories, horizon, discounting
        As in `Reinforce`; trajectories that are cut are bootstrapped.
    steps : int
        Steps after which the run ends.
    parametrization : Parametrization
        Default tabular softmax.
    """

    step_size: float = 0.1
    adaptive: bool = True
    critic_step: float = 0.3
    trajectories: int = 16
    horizon: int | str | None = None
    discounting: str = "keep"
    steps: int = 300
    parametrization: Parametrization = Softmax()  # noqa: RUF009

    def expand(self) -> PolicyGradient:
        """Return the method as its three parts."""
        estimator = TemporalDifference(
            trajectories=self.trajectories, horizon=self.horizon, discounting=self.discounting,
            bootstrap=self.horizon != "geometric", critic_step=self.critic_step,
        )  # fmt: skip
        update = GradientStep(self.step_size, adaptive=self.adaptive)
        return PolicyGradient(self.parametrization, estimator, update, self.steps)


@dataclass(frozen=True, repr=False)
class A2C(Preset):
    """Advantage actor–critic: returns of a few steps, bootstrapped and less a learnt critic (Mnih et al. 2016).

    Parameters
    ----------
    step_size, adaptive
        Of the actor, as in `Reinforce`.
    critic_step : float
        Of the critic, as in `oc.estimators.GAE`, here with λ = 1.
    trajectories : int
        Trajectories for one step, where the source has workers.
    horizon : int or None
        Steps of each trajectory; the last state is bootstrapped. All begin in an initial state (in the source
        a worker goes on where it was).
    discounting : {"keep", "drop"}
        Whether the factor γ^t is kept; the source drops it.
    steps : int
        Steps after which the run ends.
    parametrization : Parametrization
        Default tabular softmax.
    """

    step_size: float = 0.1
    adaptive: bool = True
    critic_step: float = 0.3
    trajectories: int = 16
    horizon: int | None = None
    discounting: str = "keep"
    steps: int = 300
    parametrization: Parametrization = Softmax()  # noqa: RUF009

    def expand(self) -> PolicyGradient:
        """Return the method as its three parts."""
        estimator = GAE(
            trajectories=self.trajectories, horizon=self.horizon, discounting=self.discounting,
            lam=1.0, critic_step=self.critic_step,
        )  # fmt: skip
        update = GradientStep(self.step_size, adaptive=self.adaptive)
        return PolicyGradient(self.parametrization, estimator, update, self.steps)


@dataclass(frozen=True, repr=False)
class TRPO(Preset):
    """Trust region policy optimisation (Schulman et al. 2015).

    Parameters
    ----------
    radius : float
        Bound on the mean KL divergence of a step, in nats.
    steps : int
        Steps after which the run ends.
    parametrization : Parametrization
        Default tabular softmax.
    estimator : Estimator
        Default returns less their running average; exact ones make every step an improvement.
    """

    radius: float = 0.01
    steps: int = 300
    parametrization: Parametrization = Softmax()  # noqa: RUF009
    estimator: Estimator = MonteCarlo(baseline="average")  # noqa: RUF009

    def expand(self) -> PolicyGradient:
        """Return the method as its three parts."""
        return PolicyGradient(self.parametrization, self.estimator, TrustRegion(self.radius), self.steps)


@dataclass(frozen=True, repr=False)
class PPO(Preset):
    """Proximal policy optimisation with clipped ratios (Schulman et al. 2017).

    Parameters
    ----------
    clip : float
        ε of the clipped ratio.
    epochs : int
        Steps of Adam on the surrogate for one sample (full batches).
    step_size : float
        Of these steps.
    steps : int
        Samples after which the run ends.
    parametrization : Parametrization
        Default tabular softmax.
    estimator : Estimator
        Default GAE(λ = 0.95) with a learnt critic.
    """

    clip: float = 0.2
    epochs: int = 10
    step_size: float = 0.02
    steps: int = 300
    parametrization: Parametrization = Softmax()  # noqa: RUF009
    estimator: Estimator = GAE()  # noqa: RUF009

    def expand(self) -> PolicyGradient:
        """Return the method as its three parts."""
        update = ClippedRatio(self.clip, self.epochs, self.step_size)
        return PolicyGradient(self.parametrization, self.estimator, update, self.steps)

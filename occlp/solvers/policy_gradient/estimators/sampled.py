"""Estimators from sampled trajectories: returns, temporal differences, and all that lies between."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import check_word
from occlp.errors import InvalidProblem
from occlp.kernels import advantages as kernels
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.rollouts import Rollouts
from occlp.solvers.policy_gradient.estimators.base import Estimate
from occlp.solvers.policy_gradient.estimators.cycles import often_visited, sample_cycles
from occlp.solvers.policy_gradient.estimators.trajectories import TrajectoryEstimator

#: β where none is given.
FADE = 0.95


@dataclass(frozen=True, repr=False)
class MonteCarlo(TrajectoryEstimator):
    """Returns of sampled trajectories, less a baseline.

    Parameters
    ----------
    returns : {"to_go", "total"}
        Ψ_t from the return to go, Σ_l γ^l r_{t+l} (REINFORCE, Williams 1992); or c_t Ψ_t the return of the whole
        trajectory, Σ γ^t r_t, at each of its steps: the same mean with more variance.
    baseline : None, "values", "average" or array [S]
        What is subtracted: nothing; the exact V^π; the average return to go seen from a state in earlier
        samples; or any function of the state. It does not change the mean. From the total return the baseline of
        the first state is subtracted.
    discount : float, optional
        Average criterion: β of the returns to go, Σ_l β^l (r_{t+l} − g), default 0.95. Near 1 there is little bias
        and much variance, which grows like 1/(1 − β).
    reference : hashable, optional
        The state in which cycles begin and end; default: the one that the uniform policy visits most.
    trajectories, horizon, discounting, bootstrap
        As in `TrajectoryEstimator`. Under the average criterion also ``horizon="cycle"``: from the reference state
        until the first return to it, and then β = 1.

    Notes
    -----
    Cutting at a horizon T leaves out the rewards after it, γ^(T − t) V(s_T), unless the baseline takes their place
    (``bootstrap=True``), and the steps after it, which weigh γ^T. A geometric horizon and episodes have no such bias.

    Under the average criterion a number of steps gives GPOMDP (Baxter and Bartlett 2001). For long trajectories its
    mean is Σ d(s) ∇π(a | s) Q_β(s, a), the gradient of a problem discounted by β that begins in the stationary
    distribution, with that distribution held fixed; the bias is of order 1 − β. Cycles give the estimator of Marbach
    and Tsitsiklis (2001, equations 9 to 11): a ratio, whose bias is of order 1/trajectories, besides ∇E[T] (g − ĝ)/E[T]
    for a gain ĝ that is wrong. Unless the baseline is exact, ĝ is the mean reward of the sample before.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> solver = oc.PolicyGradient(
    ...     estimator=oc.estimators.MonteCarlo(baseline="average"),
    ...     update=oc.updates.GradientStep(0.1, adaptive=True),
    ... )
    >>> result = oc.solve(mdp, solver, rng=0, limit=oc.Limit(samples=100_000))
    >>> result.status.name, bool(result.samples >= 100_000)
    ('LIMIT', True)
    """

    returns: str = "to_go"
    baseline: Any = None
    discount: float | None = None
    reference: Hashable | None = None

    horizons = (None, "geometric", "episode", "cycle")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word(self.returns, "returns", ("to_go", "total"))
        if self.returns == "total" and self.discounting == "drop":
            raise InvalidProblem("the total return stands without a factor γ^t already: there is none to drop.")
        _check_base("baseline", self.baseline, (None, "values", "average"))
        if self.bootstrap and (self.baseline is None or self.returns == "total"):
            raise InvalidProblem("bootstrap=True needs a baseline that holds values, and the return to go.")
        self._check_average()

    def _check_average(self) -> None:
        beta, cycle = self.discount, self.horizon == "cycle"
        if beta is not None and (isinstance(beta, bool) or not 0 <= beta <= 1):
            raise InvalidProblem(f"discount={beta!r} must lie between 0 and 1.")
        if cycle and (beta is not None or self.returns == "total" or self.bootstrap):
            raise InvalidProblem("a cycle counts the rewards to go until its end, without a discount or bootstrap.")
        if self.reference is not None and not cycle:
            raise InvalidProblem("reference= is the state of cycles: use it with horizon='cycle'.")

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be estimated, or None."""
        if problem.criterion != "average" and (self.horizon == "cycle" or self.discount is not None):
            return "cycles and a discount of the estimator's own belong to the average criterion"
        return super().unsupported(problem)

    def fade(self, problem: Problem) -> float:
        """β under the average criterion, but 1 for cycles and for total returns; else γ."""
        if problem.criterion != "average" or self.horizon == "cycle" or self.returns == "total":
            return super().fade(problem)
        return FADE if self.discount is None else self.discount

    def origin(self, problem: Problem) -> int | None:
        """The reference state of cycles."""
        if self.horizon != "cycle":
            return None
        return often_visited(problem) if self.reference is None else problem.mdp.pairs.state(self.reference)

    def prepare(self, problem: Problem, rng: np.random.Generator) -> Callable[[FloatArray], Estimate]:
        """Return the function that samples; the reference state of its cycles is chosen once."""
        origin = self.origin(problem)
        chosen = self if origin is None else replace(self, reference=problem.mdp.pairs.state_name(origin))
        return super(MonteCarlo, chosen).prepare(problem, rng)

    def sample(self, problem: Problem, policy: Policy, rng: np.random.Generator) -> Rollouts:
        """Return new trajectories, or cycles."""
        origin = self.origin(problem)
        if origin is None:
            return super().sample(problem, policy, rng)
        return sample_cycles(problem.mdp, policy, origin, self.trajectories, rng)

    @property
    def base(self) -> Any:
        """The baseline."""
        return self.baseline

    def signals(self, problem: Problem, sample: Rollouts, values: FloatArray) -> FloatArray:
        """Return c_t Ψ_t of each step in the user's units, [N, T]; zero after the end."""
        if self.returns == "to_go":
            return super().signals(problem, sample, values)
        bases = values[sample.initial_states]
        found: FloatArray = kernels.total(
            sample.pair_index, sample.lengths, sample.pair_rewards, bases, sample.step_discount
        )
        return found


@dataclass(frozen=True, repr=False)
class GAE(TrajectoryEstimator):
    """Generalised advantage estimation, Ψ_t = Σ_l (γλ)^l δ_{t+l} with δ = r + γ V̂(s') − V̂(s).

    Parameters
    ----------
    lam : float
        λ in [0, 1]: 0 is the temporal difference δ_t, 1 the return to go less V̂(s_t).
    critic : "learned", "values" or array [S]
        V̂: a table moved towards each sample, V̂ ← V̂ + α · (mean of Ψ over the visits of a state), which is
        TD(λ) by batches; the exact V^π; or any fixed values.
    critic_step : float
        α, between 0 and 1.
    trajectories, horizon, discounting, bootstrap
        As in `TrajectoryEstimator`; here trajectories that are cut are bootstrapped by default.

    Notes
    -----
    With the exact V^π the mean of Ψ is the advantage for every λ; with another V̂ only for λ = 1, without
    bootstrapping and without a cut. Source: Schulman, Moritz, Levine, Jordan and Abbeel (2016), equation 16.

    Under the average criterion δ = r − g + V̂(s') − V̂(s) with differential values, and learning is average-reward TD(λ)
    (Tsitsiklis and Van Roy 1999). A constant in g or V̂ changes no mean. With V̂ = 0 this is GPOMDP with β = λ.
    """

    bootstrap: bool = True
    lam: float = 0.95
    critic: Any = "learned"
    critic_step: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.lam, bool) or not 0 <= self.lam <= 1:
            raise InvalidProblem(f"lam={self.lam!r} must lie between 0 and 1.")
        if isinstance(self.critic_step, bool) or not 0 < self.critic_step <= 1:
            raise InvalidProblem(f"critic_step={self.critic_step!r} must lie between 0 and 1.")
        _check_base("critic", self.critic, ("learned", "values"))

    @property
    def trace(self) -> float:
        """λ."""
        return self.lam

    @property
    def base(self) -> Any:
        """The critic."""
        return self.critic

    def rate(self, seen: FloatArray, before: FloatArray) -> FloatArray:
        """α wherever a sample has been."""
        return np.where(seen > 0, self.critic_step, 0.0)


@dataclass(frozen=True, repr=False)
class TemporalDifference(GAE):
    """The temporal difference r + γ V̂(s') − V̂(s) in the place of the advantage: an actor–critic.

    Parameters
    ----------
    critic, critic_step
        As in `GAE`, of which this is λ = 0.
    trajectories, horizon, discounting, bootstrap
        As in `TrajectoryEstimator`.

    Notes
    -----
    Unbiased only with the true V^π: another critic adds γ E V̂(s') − γ E V^π(s') to the advantage of each pair.
    Source: Sutton and Barto (2018), section 13.5.
    """

    lam: float = 0.0


def _check_base(name: str, base: Any, allowed: tuple[str | None, ...]) -> None:
    if (base is None or isinstance(base, str)) and base not in allowed:
        listed = ", ".join(repr(item) for item in allowed)
        raise InvalidProblem(f"{name}={base!r} is unknown. Use {listed}, or an array [S].")

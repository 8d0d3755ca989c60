"""Estimators from sampled trajectories: returns, temporal differences, and all that lies between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import check_word
from occlp.errors import InvalidProblem
from occlp.evaluation import evaluate
from occlp.kernels import advantages as kernels
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.rollouts import Rollouts, rollouts
from occlp.solvers.policy_gradient.estimators.base import Estimate, Estimator, ends_of, form_of

#: Where no horizon is given, trajectories are cut when what follows weighs less than this part, γ^T.
TAIL = 0.01
#: Single trajectories of a batch that its variance is estimated from, at most.
MOST_PARTS = 64


@dataclass(frozen=True, repr=False)
class TrajectoryEstimator(Estimator):
    """What estimators from trajectories have in common; a subclass says what each step contributes.

    Each step gives c_t Ψ_t ∇log π(a_t | s_t); the mean over trajectories of the sums is the estimate of ∇J.

    Parameters
    ----------
    trajectories : int
        Number of trajectories for one estimate.
    horizon : int, "geometric", "episode" or None
        Number of steps; or a random one, with P(length > t) = γ^t and undiscounted sums; or until a
        terminal state. None cuts where γ^T ≤ 1 %, and not at all under the total criterion.
    discounting : {"keep", "drop"}
        Whether c_t = γ^t, as the policy gradient theorem has it, or 1, as is often done: the expectation is
        then another vector (docs/sampled-gradients.md). A geometric horizon has the factor in its lengths.
    bootstrap : bool
        Whether a trajectory that the horizon cuts ends with the value of its last state (of the
        baseline or critic), and not with zero. Terminal states always have the value zero.
    """

    trajectories: int = 16
    horizon: int | str | None = None
    discounting: str = "keep"
    bootstrap: bool = False

    is_sampled = True

    def __post_init__(self) -> None:
        count, horizon = self.trajectories, self.horizon
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InvalidProblem(f"trajectories={count!r} must be a positive integer.")
        check_word(self.discounting, "discounting", ("keep", "drop"))
        number = isinstance(horizon, int) and not isinstance(horizon, bool) and horizon >= 1
        if not number and horizon not in (None, "geometric", "episode"):
            raise InvalidProblem(
                f"horizon={horizon!r} must be a positive number of steps, 'geometric', 'episode', or None."
            )
        if horizon == "geometric" and (self.discounting == "drop" or self.bootstrap):
            raise InvalidProblem(
                "a geometric horizon is the discount: there is no factor to drop, and nothing follows its end."
            )

    @property
    def trace(self) -> float:
        """λ of Σ (γλ)^l δ_{t+l}."""
        return 1.0

    @property
    def base(self) -> Any:
        """What is subtracted in each state: None, "values", "average", "learned" or an array [S]."""
        return None

    @property
    def learns(self) -> bool:
        """Whether what is subtracted is learnt during a run."""
        return isinstance(self.base, str) and self.base != "values"

    def rate(self, seen: FloatArray, before: FloatArray) -> FloatArray:
        """Return how far a learnt value moves towards a sample's mean, [S], by its visits now and before."""
        return seen / np.maximum(seen + before, 1.0)

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be estimated, or None."""
        if problem.regularizer is not None or problem.utility is not None:
            return "trajectories tell of rewards, and this objective has a term besides; use an exact estimator"
        if problem.criterion == "average":
            return "trajectories are sampled for discounted and total rewards, not for the average"
        if problem.criterion == "total" and (self.horizon == "geometric" or problem.objective != "reward"):
            return "totals are sampled as sums of the rewards of whole episodes"
        return None

    def values(self, problem: Problem, policy: Policy) -> FloatArray:
        """Return what is subtracted in each state, [S], user's units; zeros where it is still to be learnt."""
        n_states = problem.mdp.n_states
        if isinstance(self.base, str):
            return evaluate(problem, policy).state_values if self.base == "values" else np.zeros(n_states)
        if self.base is None:
            return np.zeros(n_states)
        values = np.asarray(self.base, dtype=np.float64)
        if values.shape != (n_states,) or not np.isfinite(values).all():
            raise InvalidProblem(
                f"a baseline is a finite array [S] with S = {n_states}, not of shape {list(values.shape)}."
            )
        return values

    def signals(self, problem: Problem, sample: Rollouts, values: FloatArray) -> FloatArray:
        """Return c_t Ψ_t of each step in the user's units, [N, T]; zero after the end."""
        return self._to_go(sample, values, self.weight(problem))

    def weight(self, problem: Problem) -> float:
        """Return γ if c_t = γ^t, and 1 if there is no such factor."""
        return 1.0 if self.discounting == "drop" or self.horizon == "geometric" else problem.discount

    def steps(self, problem: Problem) -> int | str:
        """Return the horizon that trajectories are sampled with."""
        if self.horizon is not None:
            return self.horizon
        if problem.criterion == "total":
            return "episode"
        return max(int(np.ceil(np.log(TAIL) / np.log(problem.discount))), 1) if problem.discount > 0 else 1

    def sample(self, problem: Problem, policy: Policy, rng: np.random.Generator) -> Rollouts:
        """Return new trajectories."""
        ends = [problem.mdp.pairs.state_name(int(s)) for s in np.flatnonzero(ends_of(problem))]
        return rollouts(
            problem.mdp, policy, n_trajectories=self.trajectories, horizon=self.steps(problem), terminal=ends, rng=rng
        )

    def gather(self, problem: Problem, sample: Rollouts, signals: FloatArray, probabilities: FloatArray) -> Estimate:
        """Sum the signals of each pair into an estimate."""
        form = form_of(problem)
        added, positive, mass = kernels.sums(
            sample.pair_index, sample.lengths, signals, self.weight(problem), problem.mdp.n_pairs
        )
        unit = (form.rest or 1.0) / sample.n_trajectories
        if form.sign < 0:
            added, positive = -added, positive - added
        added, positive = added / form.scale, positive / form.scale
        chance = np.where(probabilities > 0, probabilities, 1.0)

        def parts() -> FloatArray:
            taken, count = sample.mask[:MOST_PARTS], min(sample.n_trajectories, MOST_PARTS)
            out = np.zeros((count, problem.mdp.n_pairs))
            rows = np.broadcast_to(np.arange(count)[:, None], taken.shape)
            np.add.at(out, (rows[taken], sample.pair_index[:MOST_PARTS][taken]), signals[:MOST_PARTS][taken])
            return np.asarray(form.sign * (form.rest or 1.0) / form.scale * out / chance)

        return Estimate(
            slopes=unit * added / chance,
            advantages=added / np.where(mass > 0, mass, 1.0),
            pair_mass=unit * mass,
            gains=unit * positive / chance,
            parts=parts,
            samples=sample.n_steps,
        )

    def prepare(self, problem: Problem, rng: np.random.Generator) -> Callable[[FloatArray], Estimate]:
        """Return the function that samples; what is learnt lives in it."""
        return _Sampling(self, problem, rng)

    def learn(
        self, problem: Problem, sample: Rollouts, values: FloatArray, visits: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return values moved towards what a sample shows, and the visits counted so far, [S] each."""
        errors = self._to_go(sample, values, 1.0)
        added, _, seen = kernels.sums(sample.pair_index, sample.lengths, errors, 1.0, problem.mdp.n_pairs)
        first = problem.mdp.pairs.start[:-1]
        added, seen = np.add.reduceat(added, first), np.add.reduceat(seen, first)
        return values + self.rate(seen, visits) * added / np.maximum(seen, 1.0), visits + seen

    def _to_go(self, sample: Rollouts, values: FloatArray, weight: float) -> FloatArray:
        ends = values[sample.final_states] if self.bootstrap else np.zeros(sample.n_trajectories)
        ends = np.where(sample.terminated, 0.0, ends)
        found: FloatArray = kernels.to_go(
            sample.pair_index, sample.lengths, ends, sample.pairs.states, sample.pair_rewards, values,
            sample.step_discount, self.trace, weight,
        )  # fmt: skip
        return found


class _Sampling:
    """Samples policy after policy.

    Attributes
    ----------
    memory : tuple of FloatArray [S]
        Values learnt so far, and the visits behind them; replaced and never changed.
    """

    def __init__(self, estimator: TrajectoryEstimator, problem: Problem, rng: np.random.Generator) -> None:
        self.estimator, self.problem, self.rng = estimator, problem, rng
        self.memory = np.zeros(problem.mdp.n_states), np.zeros(problem.mdp.n_states)

    def __call__(self, probabilities: FloatArray) -> Estimate:
        estimator, problem = self.estimator, self.problem
        policy = Policy.from_pairs(problem.mdp, probabilities)
        sample = estimator.sample(problem, policy, self.rng)
        values = self.memory[0] if estimator.learns else estimator.values(problem, policy)
        signals = estimator.signals(problem, sample, values)
        if estimator.learns:
            self.memory = estimator.learn(problem, sample, *self.memory)
        return estimator.gather(problem, sample, signals, policy.pair_probabilities)


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
    trajectories, horizon, discounting, bootstrap
        As in `TrajectoryEstimator`.

    Notes
    -----
    Cutting at a horizon T leaves out the rewards after it, γ^(T − t) V(s_T), unless the baseline takes their place
    (``bootstrap=True``), and the steps after it, which weigh γ^T. A geometric horizon and episodes have no such bias.

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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word(self.returns, "returns", ("to_go", "total"))
        if self.returns == "total" and self.discounting == "drop":
            raise InvalidProblem("the total return stands without a factor γ^t already: there is none to drop.")
        _check_base("baseline", self.baseline, (None, "values", "average"))
        if self.bootstrap and (self.baseline is None or self.returns == "total"):
            raise InvalidProblem("bootstrap=True needs a baseline that holds values, and the return to go.")

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

"""What estimators from trajectories have in common: sampling, signals, what is learnt, and the sums of each pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

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

#: Where no horizon is given, trajectories are cut when what follows weighs less than this part, γ^T, ...
TAIL = 0.01
#: ... and under the average criterion after so many steps.
AVERAGE_STEPS = 200
#: Single trajectories of a batch that its variance is estimated from, at most.
MOST_PARTS = 64


@dataclass(frozen=True, repr=False)
class TrajectoryEstimator(Estimator):
    """What estimators from trajectories have in common; a subclass says what each step contributes.

    Each step gives c_t Ψ_t ∇log π(a_t | s_t); the mean over trajectories of the sums is the estimate of ∇J. Under the
    average criterion it is the sum over all steps divided by their number, c_t = 1, and rewards count less the gain.

    Parameters
    ----------
    trajectories : int
        Number of trajectories for one estimate.
    horizon : int, "geometric", "episode" or None
        Number of steps; or a random one, with P(length > t) = γ^t and undiscounted sums; or until a
        terminal state. None cuts where γ^T ≤ 1 %, not at all under the total criterion, and after 200 steps under
        the average one, which knows numbers of steps only (and cycles, see `MonteCarlo`).
    discounting : {"keep", "drop"}
        Whether c_t = γ^t, as the policy gradient theorem has it, or 1, as is often done: the expectation is
        then another vector (docs/sampled-gradients.md). A geometric horizon has the factor in its lengths; the
        average criterion has none.
    bootstrap : bool
        Whether a trajectory that the horizon cuts ends with the value of its last state (of the
        baseline or critic), and not with zero. Terminal states always have the value zero.
    """

    trajectories: int = 16
    horizon: int | str | None = None
    discounting: str = "keep"
    bootstrap: bool = False

    is_sampled = True
    #: What a horizon may be besides a number of steps.
    horizons: ClassVar[tuple[str | None, ...]] = (None, "geometric", "episode")

    def __post_init__(self) -> None:
        count, horizon = self.trajectories, self.horizon
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InvalidProblem(f"trajectories={count!r} must be a positive integer.")
        check_word(self.discounting, "discounting", ("keep", "drop"))
        number = isinstance(horizon, int) and not isinstance(horizon, bool) and horizon >= 1
        if not number and horizon not in self.horizons:
            words = ", ".join(repr(word) for word in self.horizons if word)
            raise InvalidProblem(f"horizon={horizon!r} must be a positive number of steps, {words}, or None.")
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
        if problem.criterion == "average" and self.horizon in ("geometric", "episode"):
            return "the average reward knows no end and no discount; give a number of steps, or sample cycles"
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

    def fade(self, problem: Problem) -> float:
        """Return what a reward counts for in Ψ against the one before it."""
        return problem.discount

    def origin(self, problem: Problem) -> int | None:
        """Return the state in which trajectories begin and end, where they are cycles."""
        return None

    def steps(self, problem: Problem) -> int | str:
        """Return the horizon that trajectories are sampled with."""
        if self.horizon is not None:
            return self.horizon
        if problem.criterion == "total":
            return "episode"
        if problem.criterion == "average":
            return AVERAGE_STEPS
        return max(int(np.ceil(np.log(TAIL) / np.log(problem.discount))), 1) if problem.discount > 0 else 1

    def sample(self, problem: Problem, policy: Policy, rng: np.random.Generator) -> Rollouts:
        """Return new trajectories."""
        ends = [problem.mdp.pairs.state_name(int(s)) for s in np.flatnonzero(ends_of(problem))]
        return rollouts(
            problem.mdp, policy, n_trajectories=self.trajectories, horizon=self.steps(problem), terminal=ends, rng=rng
        )

    def gain(self, problem: Problem, policy: Policy, learnt: float) -> float:
        """Return the average reward that rewards count from: exact with exact values, else what is learnt."""
        exact = problem.criterion == "average" and isinstance(self.base, str) and self.base == "values"
        return evaluate(problem, policy).objective if exact else learnt

    def seen(self, problem: Problem, sample: Rollouts, gain: float) -> Rollouts:
        """Return trajectories with the rewards that count; under the average criterion those less the gain."""
        if problem.criterion != "average":
            return sample
        return replace(sample, pair_rewards=sample.pair_rewards - gain, discount=self.fade(problem))

    def gather(self, problem: Problem, sample: Rollouts, signals: FloatArray, probabilities: FloatArray) -> Estimate:
        """Sum the signals of each pair into an estimate."""
        form = form_of(problem)
        added, positive, mass = kernels.sums(
            sample.pair_index, sample.lengths, signals, self.weight(problem), problem.mdp.n_pairs
        )
        parts_of = sample.n_steps if problem.criterion == "average" else sample.n_trajectories
        unit = (form.rest or 1.0) / parts_of
        if form.sign < 0:
            added, positive = -added, positive - added
        added, positive = added / form.scale, positive / form.scale
        chance = np.where(probabilities > 0, probabilities, 1.0)

        def parts() -> FloatArray:
            taken, count = sample.mask[:MOST_PARTS], min(sample.n_trajectories, MOST_PARTS)
            out = np.zeros((count, problem.mdp.n_pairs))
            rows = np.broadcast_to(np.arange(count)[:, None], taken.shape)
            np.add.at(out, (rows[taken], sample.pair_index[:MOST_PARTS][taken]), signals[:MOST_PARTS][taken])
            out *= form.sign / form.scale
            if problem.criterion == "average":  # a ratio of sums varies like this (the delta method)
                out -= np.outer(sample.lengths[:count] - parts_of / sample.n_trajectories, added / parts_of)
            return np.asarray(unit * sample.n_trajectories * out / chance)

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
    memory : tuple of FloatArray [S], FloatArray [S] and float
        Values learnt so far, the visits behind them, and the mean reward of the last sample (average criterion; NaN
        before the first); replaced and never changed.
    """

    def __init__(self, estimator: TrajectoryEstimator, problem: Problem, rng: np.random.Generator) -> None:
        self.estimator, self.problem, self.rng = estimator, problem, rng
        self.memory = np.zeros(problem.mdp.n_states), np.zeros(problem.mdp.n_states), np.nan

    def __call__(self, probabilities: FloatArray) -> Estimate:
        estimator, problem = self.estimator, self.problem
        policy = Policy.from_pairs(problem.mdp, probabilities)
        sample = estimator.sample(problem, policy, self.rng)
        learnt, visits, before = self.memory
        mean = float(sample.pair_rewards @ sample.counts) / sample.n_steps if sample.n_steps else 0.0
        # The gain of the sample before knows nothing of this one, and so biases nothing; a critic may know it.
        gain = estimator.gain(problem, policy, mean if np.isnan(before) else before)
        values = learnt if estimator.learns else estimator.values(problem, policy)
        signals = estimator.signals(problem, estimator.seen(problem, sample, gain), values)
        if estimator.learns:
            learnt, visits = estimator.learn(problem, estimator.seen(problem, sample, mean), learnt, visits)
        self.memory = learnt, visits, mean
        return estimator.gather(problem, sample, signals, policy.pair_probabilities)

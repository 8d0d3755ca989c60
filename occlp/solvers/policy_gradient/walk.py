"""A policy's chain as an estimator walks along it, and the expectation of its signals by recursion.

Letters: w weight of a step against the one before in c_t, g the same for rewards in Ψ, l the trace λ.
"""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray
from occlp.errors import InvalidProblem
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.policy_gradient.estimators import TrajectoryEstimator
from occlp.solvers.policy_gradient.estimators.base import ends_of

#: A recursion without an end stops when what is left weighs less than this.
NOTHING = 1e-17
#: ... or after this many steps.
MOST_STEPS = 100_000


class Walk:
    """The chain with the rewards that count, where it begins and ends, and what its steps weigh.

    Attributes
    ----------
    first : FloatArray [S]
        Where trajectories begin; none begin at an end.
    alive : BoolArray [S]
        Whether a trajectory that enters the state goes on.
    going_on : float
        The chance that a clock lets a trajectory go on after a step.
    is_average : bool
        Whether estimates are sums over all steps, divided by their number.
    """

    def __init__(
        self, problem: Problem, policy: Policy, estimator: TrajectoryEstimator, values: FloatArray, gain: float = 0.0
    ) -> None:
        mdp, clock, origin = problem.mdp, estimator.horizon == "geometric", estimator.origin(problem)
        self.states, self.start, self.matrix = mdp.pairs.states, mdp.pairs.start, mdp.transitions
        self.is_average = problem.criterion == "average"
        self.pi, self.values = policy.pair_probabilities, values
        self.rewards = mdp.pair_rewards - gain if self.is_average else mdp.pair_rewards
        self.alive = ~ends_of(problem)
        self.first = np.where(self.alive, mdp.initial, 0.0)
        if origin is not None:
            self.alive, self.first = np.arange(mdp.n_states) != origin, np.eye(mdp.n_states)[origin]
        self.going_on = problem.discount if clock else 1.0  # a clock stops trajectories; discounts weigh them
        self.g = 1.0 if clock else estimator.fade(problem)
        self.w, self.l = estimator.weight(problem), estimator.trace
        self.horizon, self.bootstrap = estimator.steps(problem), estimator.bootstrap

    def ahead(self, of_state: FloatArray) -> FloatArray:
        """Expectation of something of the next state, zero where there is none, [pairs] or [pairs, k]."""
        alive = self.alive if of_state.ndim == 1 else self.alive[:, None]
        return np.asarray(self.going_on * (self.matrix @ np.where(alive, of_state, 0.0)))

    def mean(self, of_pair: FloatArray) -> FloatArray:
        """Mean over the actions, [S] or [S, k]."""
        weights = self.pi if of_pair.ndim == 1 else self.pi[:, None]
        return np.asarray(np.add.reduceat(weights * of_pair, self.start[:-1]))

    def forward(self, mass: FloatArray) -> FloatArray:
        """Chances of the states after a step, [S]."""
        return np.where(self.alive, self.going_on * ((mass[self.states] * self.pi) @ self.matrix), 0.0)

    def backward(self, signal: FloatArray, *, is_last: bool) -> FloatArray:
        """E Ψ with one more step ahead, [pairs]."""
        base = self.rewards - self.values[self.states]
        if is_last:
            return base + self.g * self.ahead(self.values) if self.bootstrap else base
        return base + self.g * self.ahead(self.values + self.l * self.mean(signal))


def expected_slopes(walk: Walk) -> tuple[FloatArray, float]:
    """Expectation of an estimate as slopes v(s, a), [pairs]: Σ_t c_t P(s_t = s) E Ψ_t; and the mean number of steps.

    On the return scale and in the user's units; under the average criterion divided by the number of steps, which for
    cycles is the limit of many. Rewards before a step have no part in it: they do not depend on its action, and
    Σ_a ∇π = 0. So the total return and the return to go have the same expectation.
    """
    slopes, steps = _fixed(walk, walk.horizon) if isinstance(walk.horizon, int) else _endless(walk)
    return (slopes / steps if walk.is_average else slopes), steps


def _fixed(walk: Walk, horizon: int) -> tuple[FloatArray, float]:
    mass, masses = walk.first, []
    for _ in range(horizon):
        masses.append(mass)
        mass = walk.w * walk.forward(mass)
    signal, out = np.zeros(len(walk.pi)), np.zeros(len(walk.pi))
    for left, mass in enumerate(reversed(masses), 1):
        signal = walk.backward(signal, is_last=left == 1)
        out = out + mass[walk.states] * signal
    return out, float(horizon)


def _endless(walk: Walk) -> tuple[FloatArray, float]:
    signal, mass, total = np.zeros(len(walk.pi)), walk.first, np.zeros(len(walk.first))
    for _ in range(MOST_STEPS):
        total, mass = total + mass, walk.w * walk.forward(mass)
        signal, before = walk.backward(signal, is_last=False), signal
        if mass.sum() < NOTHING and np.abs(signal - before).max() <= NOTHING * np.abs(signal).max():
            return np.asarray(total[walk.states] * signal), float(total.sum())
    raise InvalidProblem(
        f"after {MOST_STEPS} steps some trajectories have not ended, or their returns have not settled: the policy "
        "need not reach an end. Give a horizon."
    )

"""Mean and variance of a sampled gradient without sampling: by recursion, and by listing every trajectory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from occlp._typing import BoolArray, FloatArray, IntArray, frozen
from occlp.errors import InvalidProblem, Unsupported
from occlp.model import MDP
from occlp.policy import Policy
from occlp.problem import Problem, as_problem
from occlp.rollouts import Rollouts
from occlp.solvers.policy_gradient.estimators import Exact, TrajectoryEstimator
from occlp.solvers.policy_gradient.estimators.base import ends_of, form_of
from occlp.solvers.policy_gradient.measures import angle_between
from occlp.solvers.policy_gradient.parametrizations import Parametrization, Softmax
from occlp.solvers.policy_gradient.variance import variance_by_recursion

#: More trajectories than this are not listed.
MOST_TRAJECTORIES = 2_000_000
#: A recursion without an end stops when what is left weighs less than this.
NOTHING = 1e-17
#: ... or after this many steps.
MOST_STEPS = 100_000


@dataclass(frozen=True, eq=False)
class GradientMoments:
    """What an estimator says on average, against the truth; return scale, user's units and sense.

    Attributes
    ----------
    truth : FloatArray [k]
        ∇J with respect to the parameters.
    mean : FloatArray [k]
        Expectation of the estimate.
    variance : float
        E‖estimate − mean‖², the trace of the covariance; NaN for estimators with signals of their own where there are
        too many trajectories to list.
    n_trajectories : int
        Trajectories listed for the variance; 0 where they were not.
    """

    truth: FloatArray  # [k]
    mean: FloatArray  # [k]
    variance: float
    n_trajectories: int

    @property
    def bias(self) -> FloatArray:
        """The mean less the truth, [k]."""
        return self.mean - self.truth

    @property
    def angle(self) -> float:
        """Angle between the mean and the truth, in degrees; NaN if one of them vanishes."""
        return angle_between(self.mean, self.truth)


def gradient_moments(
    problem: Problem | MDP,
    policy: Policy,
    estimator: TrajectoryEstimator,
    *,
    parametrization: Parametrization | None = None,
    parameters: FloatArray | None = None,
    values: FloatArray | None = None,
) -> GradientMoments:
    """Expectation and variance of a sampled gradient, exactly, beside the true gradient.

    The expectation follows from a recursion over the horizon, the variance from a list of all trajectories, or from
    another recursion where there are more than two million of them or they may be endless.

    Parameters
    ----------
    problem : Problem or MDP
        Discounted or total, without terms.
    policy : Policy
        Where the gradient is taken.
    estimator : TrajectoryEstimator
        `MonteCarlo`, `TemporalDifference`, `GAE` or one of your own.
    parametrization : Parametrization, optional
        Default tabular softmax.
    parameters : FloatArray [k], optional
        Of the policy; default those that the parametrization finds for it.
    values : FloatArray [S], optional
        What a baseline or critic that is learnt has reached; default what it begins with, zeros.

    Returns
    -------
    GradientMoments

    Raises
    ------
    InvalidProblem
        When the parameters are not those of the policy.
    Unsupported
        For a problem that the estimator cannot answer.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("kakade-two-state")
    >>> policy = oc.Policy.from_table(mdp, [[0.9, 0.1], [0.2, 0.8]])
    >>> for discounting in ("keep", "drop"):
    ...     estimator = oc.estimators.MonteCarlo(horizon=300, discounting=discounting)
    ...     print(discounting, round(oc.gradient_moments(mdp, policy, estimator).angle, 1))
    keep 0.0
    drop 1.1
    """
    problem = as_problem(problem)
    reason = estimator.unsupported(problem)
    if reason is not None:
        raise Unsupported(f"{type(estimator).__name__} cannot answer this problem: {reason}.")
    pairs, family = problem.mdp.pairs, Softmax() if parametrization is None else parametrization
    theta = family.initial(pairs, policy) if parameters is None else np.asarray(parameters, dtype=np.float64)
    probabilities = family.probabilities(pairs, theta)
    if np.abs(probabilities - policy.pair_probabilities).max() > 1e-9:
        raise InvalidProblem("the parametrization does not give this policy; pass parameters= that do.")
    form = form_of(problem)
    exact = Exact().prepare(problem, np.random.default_rng(0))(probabilities)
    truth = family.pullback(pairs, theta, form.sign * form.scale / (form.rest or 1.0) * exact.slopes)
    base = estimator.values(problem, policy) if values is None else np.asarray(values, dtype=np.float64)
    mean = family.pullback(pairs, theta, expected_slopes(problem, policy, estimator, base))
    scores = np.stack([family.score(pairs, theta, unit) for unit in np.eye(len(theta))], axis=1)
    variance, count = _variance(problem, policy, estimator, base, scores)
    return GradientMoments(frozen(truth), frozen(mean), variance, count)


def expected_slopes(problem: Problem, policy: Policy, estimator: TrajectoryEstimator, values: FloatArray) -> FloatArray:
    """Expectation of an estimate as slopes v(s, a), return scale and user's units, [pairs]: Σ_t c_t P(s_t = s) E Ψ_t.

    Rewards before a step have no part in it: they do not depend on its action, and Σ_a ∇π = 0. So the total return
    and the return to go have the same expectation.
    """
    walk = _Walk(problem, policy, estimator, values)
    horizon = estimator.steps(problem)
    if isinstance(horizon, int):
        mass, masses = walk.first, []
        for _ in range(horizon):
            masses.append(mass)
            mass = walk.forward(mass)
        signal, out = np.zeros(problem.mdp.n_pairs), np.zeros(problem.mdp.n_pairs)
        for left, mass in enumerate(reversed(masses), 1):
            signal = walk.backward(signal, is_last=left == 1)
            out = out + mass[walk.states] * signal
        return out
    signal, mass, total = np.zeros(problem.mdp.n_pairs), walk.first, np.zeros(problem.mdp.n_states)
    for _ in range(MOST_STEPS):
        total, mass = total + mass, walk.forward(mass)
        signal, before = walk.backward(signal, is_last=False), signal
        if mass.sum() < NOTHING and np.abs(signal - before).max() <= NOTHING * np.abs(signal).max():
            return np.asarray(total[walk.states] * signal)
    raise InvalidProblem(
        f"after {MOST_STEPS} steps some trajectories have not ended, or their returns have not settled: the policy "
        "need not reach an end. Give a horizon."
    )


class _Walk:
    """One step of the chain forwards (masses, with their weight c_t) and one of the signal backwards."""

    def __init__(self, problem: Problem, policy: Policy, estimator: TrajectoryEstimator, values: FloatArray) -> None:
        mdp = problem.mdp
        self.states, self.start, self.matrix = mdp.pairs.states, mdp.pairs.start, mdp.transitions
        self.pi, self.alive = policy.pair_probabilities, ~ends_of(problem)
        self.discount, self.trace = problem.discount, estimator.trace
        self.weight = problem.discount if estimator.horizon == "geometric" else estimator.weight(problem)
        self.first = np.where(self.alive, mdp.initial, 0.0)
        alive_values = np.where(self.alive, values, 0.0)
        base = mdp.pair_rewards - values[self.states]
        ahead = self.discount * (self.matrix @ alive_values)
        self.step, self.last = base + ahead, base + (ahead if estimator.bootstrap else 0.0)

    def forward(self, mass: FloatArray) -> FloatArray:
        """Masses of the states after a step, with their weight, [S]."""
        return np.where(self.alive, self.weight * ((mass[self.states] * self.pi) @ self.matrix), 0.0)

    def backward(self, signal: FloatArray, *, is_last: bool) -> FloatArray:
        """E Ψ with one more step ahead, [pairs]."""
        if is_last:
            return self.last
        mean = np.where(self.alive, np.add.reduceat(self.pi * signal, self.start[:-1]), 0.0)
        return np.asarray(self.step + self.discount * self.trace * (self.matrix @ mean))


def all_trajectories(problem: Problem | MDP, policy: Policy, horizon: int) -> tuple[Rollouts, FloatArray]:
    """List every trajectory of a policy, with its probability.

    Parameters
    ----------
    problem : Problem or MDP
        Trajectories end in the goal of a total, or in states that every action keeps for nothing.
    policy : Policy
    horizon : int
        Number of steps.

    Returns
    -------
    trajectories : Rollouts
        As `rollouts` samples them, N of them.
    probabilities : FloatArray [N]
        Their sum is one.

    Raises
    ------
    InvalidProblem
        When there are more than two million.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("kakade-two-state")
    >>> trajectories, chances = oc.all_trajectories(mdp, oc.Policy.uniform(mdp), 5)
    >>> len(chances), round(float(chances.sum()), 12)
    (64, 1.0)
    """
    found = _list_all(as_problem(problem), policy, horizon)
    if found is None:
        raise InvalidProblem(
            f"there are more than {MOST_TRAJECTORIES} trajectories of {horizon} steps. Use a shorter horizon, or "
            "sample them with oc.rollouts."
        )
    return found


def _number(problem: Problem, policy: Policy, horizon: int) -> float:
    """How many trajectories there are, capped beyond what is listed."""
    mdp, terminal = problem.mdp, ends_of(problem)
    possible, used = (mdp.transitions > 0).astype(np.float64), policy.pair_probabilities > 0
    paths = np.ones(mdp.n_states)
    for _ in range(horizon):
        onward = np.add.reduceat(used * (possible @ paths), mdp.pairs.start[:-1])
        paths = np.where(terminal, 1.0, np.minimum(onward, 2.0 * MOST_TRAJECTORIES))
    return float(paths[mdp.initial > 0].sum())


def _list_all(problem: Problem, policy: Policy, horizon: int) -> tuple[Rollouts, FloatArray] | None:
    mdp = problem.mdp
    terminal = ends_of(problem)
    if _number(problem, policy, horizon) > MOST_TRAJECTORIES:
        return None
    start = np.flatnonzero(mdp.initial > 0).astype(np.int32)
    paths = np.full((len(start), horizon), -1, dtype=np.int32)
    listed = _Listed(paths, start, start, mdp.initial[start], np.zeros(len(start), dtype=np.int32))
    for t in range(horizon):
        listed = listed.grow(mdp, policy, terminal, t)
    sample = Rollouts(
        pairs=mdp.pairs, lengths=listed.lengths, terminated=terminal[listed.now], initial_states=listed.first,
        final_states=listed.now, components=np.zeros(len(listed.now), dtype=np.int32), discount=mdp.discount,
        horizon=horizon, flat_pairs=listed.paths[listed.paths >= 0], pair_rewards=mdp.pair_rewards,
        pair_costs=mdp.pair_costs,
    )  # fmt: skip
    return sample, listed.chances


@dataclass(frozen=True, eq=False)
class _Listed:
    """Trajectories so far: their pairs, first and present states, probabilities and lengths."""

    paths: IntArray  # [N, T]
    first: IntArray  # [N]
    now: IntArray  # [N]
    chances: FloatArray  # [N]
    lengths: IntArray  # [N]

    def grow(self, mdp: MDP, policy: Policy, terminal: BoolArray, t: int) -> _Listed:
        """Return what they become in one more step."""
        kernel = sparse.csr_array(
            sparse.diags_array(policy.pair_probabilities) @ mdp.transitions
        )  # chance of (pair, next state)
        pair_of = np.repeat(np.arange(mdp.n_pairs, dtype=np.int32), np.diff(kernel.indptr))
        possible = kernel.data > 0
        entries = np.flatnonzero(possible)
        owner = mdp.pairs.states[pair_of[entries]]
        begin = np.searchsorted(owner, np.arange(mdp.n_states + 1))
        going = ~terminal[self.now]
        counts = np.where(going, (begin[1:] - begin[:-1])[self.now], 1)
        rows = np.repeat(np.arange(len(self.now)), counts)
        offset = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        moved = going[rows]
        entry = entries[np.where(moved, begin[self.now[rows]] + offset, 0)]
        paths = self.paths[rows]
        paths[moved, t] = pair_of[entry[moved]]
        now = np.where(moved, kernel.indices[entry], self.now[rows]).astype(np.int32)
        chances = self.chances[rows] * np.where(moved, kernel.data[entry], 1.0)
        return _Listed(paths, self.first[rows], now, chances, (self.lengths[rows] + moved).astype(np.int32))


def _variance(
    problem: Problem, policy: Policy, estimator: TrajectoryEstimator, values: FloatArray, scores: FloatArray
) -> tuple[float, int]:
    """E‖estimate − mean‖² from all trajectories, and how many there are; by recursion where there are too many."""
    horizon = estimator.steps(problem)
    found = _list_all(problem, policy, horizon) if isinstance(horizon, int) else None
    if found is None:
        return variance_by_recursion(problem, policy, estimator, values, scores), 0
    sample, chances = found
    signals, taken = estimator.signals(problem, sample, values), sample.mask
    rows = np.broadcast_to(np.arange(len(chances))[:, None], taken.shape)[taken]
    weights = sparse.csr_array(
        (signals[taken], (rows, sample.pair_index[taken])), shape=(len(chances), problem.mdp.n_pairs)
    )
    gradients = np.asarray(weights @ scores)
    centred = gradients - chances @ gradients
    return float(chances @ np.square(centred).sum(axis=1)) / estimator.trajectories, len(chances)

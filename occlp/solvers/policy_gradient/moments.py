"""Mean and variance of a sampled gradient without sampling: by recursion, and by listing every trajectory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from occlp._typing import FloatArray, frozen
from occlp.errors import InvalidProblem, Unsupported
from occlp.model import MDP
from occlp.policy import Policy
from occlp.problem import Problem, as_problem
from occlp.solvers.policy_gradient.estimators import Exact, TrajectoryEstimator
from occlp.solvers.policy_gradient.estimators.base import form_of
from occlp.solvers.policy_gradient.listing import list_trajectories
from occlp.solvers.policy_gradient.measures import angle_between
from occlp.solvers.policy_gradient.parametrizations import Parametrization, Softmax
from occlp.solvers.policy_gradient.variance import variance_by_recursion
from occlp.solvers.policy_gradient.walk import Walk, expected_slopes


@dataclass(frozen=True, eq=False)
class GradientMoments:
    """What an estimator says on average, against the truth; return scale, or of the gain; user's units and sense.

    Attributes
    ----------
    truth : FloatArray [k]
        ∇J with respect to the parameters.
    mean : FloatArray [k]
        Expectation of the estimate; for cycles, which are ratios of sums, its limit for many of them.
    variance : float
        E‖estimate − mean‖², the trace of the covariance; NaN for estimators with signals of their own where there are
        too many trajectories to list. For cycles to first order in 1/trajectories.
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
    gain: float | None = None,
) -> GradientMoments:
    """Expectation and variance of a sampled gradient, exactly, beside the true gradient.

    The expectation follows from a recursion over the horizon, the variance from a list of all trajectories, or from
    another recursion where there are more than two million of them or they may be endless.

    Parameters
    ----------
    problem : Problem or MDP
        Without terms.
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
    gain : float, optional
        Average criterion: what has been learnt of the average reward; default the truth.

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
    if problem.criterion == "average" and gain is None:
        gain = form.sign * (form.shift + form.scale * exact.objective)
    walk = Walk(problem, policy, estimator, base, 0.0 if gain is None else float(gain))
    slopes, steps = expected_slopes(walk)
    mean = family.pullback(pairs, theta, slopes)
    scores = np.stack([family.score(pairs, theta, unit) for unit in np.eye(len(theta))], axis=1)
    variance, count = _variance(problem, policy, estimator, walk, scores)
    if walk.is_average:
        variance /= steps**2
    return GradientMoments(frozen(truth), frozen(mean), variance, count)


def _variance(
    problem: Problem, policy: Policy, estimator: TrajectoryEstimator, walk: Walk, scores: FloatArray
) -> tuple[float, int]:
    """E‖sum − mean‖² from all trajectories, and how many there are; by recursion where there are too many."""
    found = list_trajectories(problem, policy, walk.horizon) if isinstance(walk.horizon, int) else None
    if found is None:
        return variance_by_recursion(walk, estimator, scores), 0
    sample, chances = found
    sample = replace(estimator.seen(problem, sample, 0.0), pair_rewards=walk.rewards)
    signals, taken = estimator.signals(problem, sample, walk.values), sample.mask
    rows = np.broadcast_to(np.arange(len(chances))[:, None], taken.shape)[taken]
    weights = sparse.csr_array(
        (signals[taken], (rows, sample.pair_index[taken])), shape=(len(chances), problem.mdp.n_pairs)
    )
    gradients = np.asarray(weights @ scores)
    centred = gradients - chances @ gradients
    return float(chances @ np.square(centred).sum(axis=1)) / estimator.trajectories, len(chances)

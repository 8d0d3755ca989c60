"""Gradients from data of another policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import check_word
from occlp.dataset import Dataset, RatioEstimate, estimate_ratio, score_weights
from occlp.dataset.gradient import METHODS
from occlp.errors import InvalidProblem
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.policy_gradient.estimators.base import Estimate, Estimator, form_of
from occlp.standard import StandardForm


@dataclass(frozen=True, eq=False, repr=False)
class OffPolicy(Estimator):
    """The gradient at any policy from one data set of a behaviour policy; nothing is sampled during the run.

    Parameters
    ----------
    dataset : Dataset
        Must cover every pair that a policy of the run takes; what is missing is named.
    method : {"ratio", "per_decision", "trajectory", "doubly_robust"}
        Ratios of occupancies and action values by DualDICE (Nachum et al. 2019); or importance weights of the actions
        up to each reward, or of whole trajectories (Precup, Sutton and Singh 2000), or those with fitted values as
        control variates (Huang and Jiang 2020), which need trajectories and a known behaviour, and whose variance
        grows with their length.
    features, ratio_features, penalty
        For "ratio": linear DualDICE, as in `oc.estimate_ratio`. Default: tabular.

    Notes
    -----
    The objective of the data is not that of the model, so that there are no searches along a line. Masses of
    states are those of the ratio, or, with importance weights, those of the data.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> acting = oc.Policy.uniform(mdp)
    >>> data = oc.Dataset.from_rollouts(oc.rollouts(mdp, acting, n_trajectories=500, horizon=100, rng=0), acting)
    >>> solver = oc.PolicyGradient(estimator=oc.estimators.OffPolicy(data), update=oc.updates.TrustRegion(0.05))
    >>> result = oc.solve(mdp, solver, limit=oc.Limit(iterations=60))
    >>> bool(result.gap < 0.01), result.samples == len(data)
    (True, True)
    """

    dataset: Dataset = field(repr=False)
    method: str = "ratio"
    features: Any = field(default=None, repr=False)
    ratio_features: Any = field(default=None, repr=False)
    penalty: float = 0.0

    is_sampled = True

    def __post_init__(self) -> None:
        if not isinstance(self.dataset, Dataset):
            raise InvalidProblem(f"OffPolicy needs an oc.Dataset, not {type(self.dataset).__name__}.")
        check_word(self.method, "method", METHODS)
        linear = self.features is not None or self.ratio_features is not None or self.penalty != 0
        if linear and self.method != "ratio":
            raise InvalidProblem(f"features and penalties are those of ratios; method={self.method!r} has none.")

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be estimated, or None."""
        if problem.regularizer is not None or problem.utility is not None:
            return "data tell of rewards, and this objective has a term besides; use an exact estimator"
        if problem.criterion != "discounted":
            return f"data are weighed for the discounted criterion, not for the {problem.criterion} one"
        return None

    def prepare(self, problem: Problem, rng: np.random.Generator) -> Callable[[FloatArray], Estimate]:
        """Return the function that weighs the data; raises `InvalidProblem` for data of another model."""
        data, form, pairs = self.dataset, form_of(problem), problem.mdp.pairs
        if not data.pairs.same_as(pairs):
            raise InvalidProblem("the data belong to another model: their pairs are not those of the problem.")
        if data.discount != problem.discount:
            raise InvalidProblem(f"the data are discounted by {data.discount}, the problem by {problem.discount}.")
        return _Reweighting(self, form)


class _Reweighting:
    """Weighs the data for policy after policy.

    Attributes
    ----------
    memory : int
        Transitions that have not been counted yet: all of them at first, then none.
    """

    def __init__(self, estimator: OffPolicy, form: StandardForm) -> None:
        self.estimator, self.form = estimator, form
        self.memory = len(estimator.dataset)

    def ratio(self, policy: Policy) -> RatioEstimate | None:
        """The ratio of the policy's occupancy to the data, if that is the method."""
        settings = self.estimator
        if settings.method != "ratio":
            return None
        return estimate_ratio(
            settings.dataset, policy, features=settings.features, ratio_features=settings.ratio_features,
            penalty=settings.penalty,
        )  # fmt: skip

    def __call__(self, probabilities: FloatArray) -> Estimate:
        data, form, first = self.estimator.dataset, self.form, self.form.start[:-1]
        policy = Policy.from_pairs(data.pairs, probabilities)
        ratio = self.ratio(policy)
        weights = score_weights(data, policy, method=self.estimator.method, ratio=ratio)
        chance = np.where(probabilities > 0, probabilities, 1.0)
        slopes = form.sign * form.rest / form.scale * weights / chance
        slopes = slopes - np.add.reduceat(probabilities * slopes, first)[form.states]
        seen = data.frequencies if ratio is None else ratio.pair_ratio * data.frequencies
        mass = np.add.reduceat(seen, first)[form.states]
        advantages = np.where(mass > 0, slopes / np.where(mass > 0, mass, 1.0), 0.0)
        samples, self.memory = self.memory, 0
        return Estimate(slopes, advantages, mass * probabilities, samples=samples)

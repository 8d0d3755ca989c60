"""Reweighting transitions by the ratio of occupancies, w = d^π / d^D.

DualDICE (Nachum, Chow, Dai and Li 2019) finds ν with E_D[(ν − γν') ζ − ζ²/2] − (1 − γ) E[ν(s0, a0)] at its saddle
point; then w = ζ. With linear ν = φ·α and ζ = φ·β it is a linear system, Aᵀβ = (1 − γ) E[φ(s0, a0)] with
A = E_D[φ (φ − γφ')ᵀ]. Tabular features give the ratio of the occupancy of the empirical model to d^D, exactly.
Standard errors are those of the doubly robust form, whose correction is zero here (Kallus and Uehara 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occlp._typing import AnyArray, FloatArray, frozen
from occlp.arguments import read_numbers
from occlp.dataset.coverage import name_pairs
from occlp.dataset.data import Dataset
from occlp.dataset.estimate import Estimate, from_contributions
from occlp.errors import InvalidProblem, Unsupported
from occlp.evaluation import evaluate
from occlp.model import MDP, Pairs
from occlp.model.exact import shown
from occlp.policy import Policy

#: A system of features whose condition exceeds this has no trustworthy solution.
WORST_CONDITION = 1e12
#: The method of a ratio that a model gave.
EXACT = "exact occupancy"


@dataclass(frozen=True, eq=False, kw_only=True)
class RatioEstimate:
    """A ratio of occupancies, and the action values that belong to it; arrays are read-only.

    Attributes
    ----------
    pairs : Pairs
    pair_ratio : FloatArray [pairs]
        w(s, a), the density of d^π with respect to the data. Features may make it negative.
    pair_action_values : FloatArray [pairs]
        Q̂ in the same features, or of the empirical model; 0 where the data lack a pair.
    method : str
    """

    pairs: Pairs
    pair_ratio: FloatArray  # [pairs]
    pair_action_values: FloatArray  # [pairs]
    method: str

    @property
    def ratio(self) -> FloatArray:
        """w(s, a) as an [S, A] table, NaN where the pair does not exist."""
        return self.pairs.table(self.pair_ratio, np.nan)


def estimate_ratio(
    dataset: Dataset,
    policy: Policy,
    *,
    features: FloatArray | None = None,
    model: MDP | None = None,
) -> RatioEstimate:
    """Estimate d^π / d^D, the density of a policy's occupancy with respect to data.

    Parameters
    ----------
    dataset : Dataset
        Transitions; their order and the policy that acted do not matter.
    policy : Policy
    features : FloatArray [pairs, k], optional
        φ(s, a) for linear DualDICE. Default: tabular.
    model : MDP, optional
        The true model: then d^π is that of the model, by its own linear system, and nothing but d^D is estimated.

    Returns
    -------
    RatioEstimate

    Raises
    ------
    Unsupported
        Where the data lack pairs that the policy needs (tabular; the pairs are named), where the model's policy
        goes to pairs that the data lack, and where the features' system is singular.
    InvalidProblem
        For γ = 1, both `features` and `model`, or features of a wrong shape.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> acting, judged = oc.Policy.uniform(mdp), oc.solve(mdp).policy
    >>> data = oc.Dataset.from_rollouts(oc.rollouts(mdp, acting, n_trajectories=2000, horizon=50, rng=0), acting)
    >>> found, exact = oc.estimate_ratio(data, judged), oc.estimate_ratio(data, judged, model=mdp)
    >>> bool(abs(found.pair_ratio - exact.pair_ratio).max() < 0.05 * exact.pair_ratio.max())
    True
    """
    dataset.check(policy)
    if dataset.discount >= 1:
        raise InvalidProblem("ratios of occupancies need a discount below 1, so that the restarts are part of them.")
    if features is not None and model is not None:
        raise InvalidProblem("features= estimates the ratio and model= computes it: give one of them.")
    if features is not None:
        return _linear(dataset, policy, read_numbers(features, "features="))
    if model is not None:
        if not isinstance(model, MDP):
            raise InvalidProblem(f"model= takes an oc.MDP, not {shown(model)}.")
        if not model.pairs.same_as(dataset.pairs):
            raise InvalidProblem("the model has other pairs than the data.")
        exact = evaluate(model.replace(discount=dataset.discount), policy)
        return _tabular(dataset, exact.pair_occupancy, exact.pair_action_values, EXACT)
    dataset.coverage(policy).require()
    found = evaluate(dataset.empirical_model, dataset.extend(policy))
    n = dataset.pairs.n_pairs
    return _tabular(dataset, found.pair_occupancy[:n], found.pair_action_values[:n], "tabular DualDICE")


def marginalized_importance_sampling(
    dataset: Dataset, policy: Policy, *, ratio: RatioEstimate | None = None
) -> Estimate:
    """Estimate the expected return of a policy by reweighting transitions, E_D[w r] / (1 − γ).

    Parameters
    ----------
    dataset : Dataset
    policy : Policy
    ratio : RatioEstimate, optional
        Default: tabular DualDICE, `estimate_ratio`.

    Returns
    -------
    Estimate
        Over the infinite horizon. With an estimated ratio its contributions are
        w (r + γV̂(s') − Q̂(s, a)) / (1 − γ), and V̂(s0) if the trajectories tell the initial states, summed over each
        trajectory: this is how the ratio's own error enters. With ``model=`` only the rewards' noise is left.

    Raises
    ------
    Unsupported, InvalidProblem
        As in `estimate_ratio`.

    Notes
    -----
    The variance does not grow with the length of the trajectories, as that of `importance_sampling` does. The
    price is bias: of order 1/n in the tabular case, and whatever the features leave out in the linear one.
    """
    found = estimate_ratio(dataset, policy) if ratio is None else ratio
    weights = found.pair_ratio[dataset.pair_index]
    rest = 1.0 - dataset.discount
    if found.method == EXACT:  # Σ d^π(s, a) r̂(s, a): the rewards alone are estimated
        sums = np.bincount(dataset.pair_index, dataset.rewards, minlength=dataset.pairs.n_pairs)
        errors = dataset.rewards - (sums / np.maximum(dataset.counts, 1))[dataset.pair_index]
        contributions = _per_part(dataset, weights * errors / rest)
    else:
        values = found.pair_action_values
        means = np.add.reduceat(values * policy.pair_probabilities, dataset.pairs.start[:-1])
        following = np.where(dataset.terminated, 0.0, means[dataset.next_states])
        errors = dataset.rewards + dataset.discount * following - values[dataset.pair_index]
        contributions = _per_part(dataset, weights * errors / rest)
        if dataset.starts is not None:
            taken = np.diff(dataset.starts) > 0
            first = dataset.pairs.states[dataset.pair_index[dataset.starts[:-1][taken]]]
            contributions[taken] += means[first]
    value = float((weights * dataset.rewards).mean()) / rest
    contributions = contributions - contributions.mean() + value
    parts = _per_part(dataset, weights)
    return from_contributions(contributions, parts, method=f"reweighted by {found.method}")


def _per_part(dataset: Dataset, terms: FloatArray) -> FloatArray:
    """Sum terms [n] over independent parts, on the scale on which their mean is that of the terms."""
    if dataset.starts is None:
        return terms
    n_parts = dataset.n_trajectories
    owner = np.repeat(np.arange(n_parts), np.diff(dataset.starts))
    sums = np.bincount(owner, terms, minlength=n_parts) * (n_parts / len(terms))
    return np.asarray(sums, dtype=np.float64)


def _tabular(dataset: Dataset, occupancy: FloatArray, values: FloatArray, method: str) -> RatioEstimate:
    lost = np.flatnonzero((occupancy > 0) & (dataset.counts == 0))
    if len(lost):
        raise Unsupported(
            f"d^π has mass {occupancy[lost].sum():.3g} on pairs that the data lack, so no density exists: "
            f"{name_pairs(dataset.pairs, lost)}."
        )
    ratio = np.where(occupancy > 0, occupancy / np.maximum(dataset.frequencies, 1e-300), 0.0)
    return RatioEstimate(
        pairs=dataset.pairs, pair_ratio=frozen(ratio), pair_action_values=frozen(values), method=method
    )


def _linear(dataset: Dataset, policy: Policy, features: FloatArray) -> RatioEstimate:
    pairs = dataset.pairs
    if features.ndim != 2 or len(features) != pairs.n_pairs or not np.isfinite(features).all():
        raise InvalidProblem(
            f"features= is finite and [pairs, k] with {pairs.n_pairs} pairs, not {list(features.shape)}."
        )
    mean = np.add.reduceat(features * policy.pair_probabilities[:, None], pairs.start[:-1])  # [S, k]
    here = features[dataset.pair_index]
    following = np.where(dataset.terminated[:, None], 0.0, mean[dataset.next_states])
    system = here.T @ (here - dataset.discount * following) / len(dataset)
    _refuse_singular(system)
    start = (1.0 - dataset.discount) * (dataset.initial @ mean)
    earned = here.T @ dataset.rewards / len(dataset)
    return RatioEstimate(
        pairs=pairs,
        pair_ratio=frozen(features @ np.linalg.solve(system.T, start)),
        pair_action_values=frozen(features @ np.linalg.solve(system, earned)),
        method=f"linear DualDICE with {features.shape[1]} features",
    )


def _refuse_singular(system: AnyArray) -> None:
    condition = float(np.linalg.cond(system))
    if not condition < WORST_CONDITION:
        raise Unsupported(
            f"the features' system has condition {condition:.1e}: some combination of features never differs from 0 "
            "in the data, or keeps its value along them. Use fewer features, or collect other data."
        )

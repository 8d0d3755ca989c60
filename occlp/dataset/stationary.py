"""Reweighting transitions by the ratio of occupancies, w = d^π / d^D.

DualDICE (Nachum, Chow, Dai and Li 2019) finds ν with E_D[(ν − γν') ζ − ζ²/2] − (1 − γ) E[ν(s0, a0)] at its saddle
point; then w = ζ. With linear ν = φ·α and ζ = ψ·β, and penalties p‖α‖²/2 and −p‖β‖²/2, it is the linear system
(C + pI) β = A α, Aᵀβ + pα = (1 − γ) E[φ(s0, a0)] with A = E_D[ψ (φ − γφ')ᵀ] and C = E_D[ψψᵀ].
Tabular features give the ratio of the occupancy of the empirical model to d^D, exactly.
Standard errors are those of the doubly robust form, whose correction is zero here (Kallus and Uehara 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    ratio_features: FloatArray | None = None,
    penalty: float = 0.0,
    model: MDP | None = None,
) -> RatioEstimate:
    """Estimate d^π / d^D, the density of a policy's occupancy with respect to data.

    Parameters
    ----------
    dataset : Dataset
        Transitions; their order and the policy that acted do not matter.
    policy : Policy
    features : FloatArray [pairs, k], optional
        φ(s, a) of the values ν = φ·α, for linear DualDICE. Default: tabular.
    ratio_features : FloatArray [pairs, l], optional
        ψ(s, a) of the ratio w = ψ·β; default: φ. With l < k a penalty is needed.
    penalty : float
        p ≥ 0: p‖α‖²/2 is added to the saddle point's objective, and p‖β‖²/2 taken away.
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

    Notes
    -----
    What features leave out is a bias. Let B ν = ν − γP^πν and p = 0. Where ψ is tabular, many data give the function
    B φα that is nearest to the true ratio in L²(d^D), so that the bias is that distance. Where ψ is poorer, they give
    the combination of ψ nearest to zero that keeps E_D[w Bφ] = (1 − γ) E[φ(s0, a0)], as the true ratio does for all φ.

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
        return _linear(dataset, policy, features, features if ratio_features is None else ratio_features, penalty)
    if ratio_features is not None or penalty:
        raise InvalidProblem("ratio_features= and penalty= belong to linear DualDICE: give features= as well.")
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


def _linear(dataset: Dataset, policy: Policy, features: Any, ratio_features: Any, penalty: float) -> RatioEstimate:
    if isinstance(penalty, bool) or not 0 <= penalty < np.inf:
        raise InvalidProblem(f"penalty={penalty!r} must be finite and not negative.")
    pairs, n = dataset.pairs, len(dataset)
    phi, psi = _read_features(pairs, features, "features="), _read_features(pairs, ratio_features, "ratio_features=")
    mean = np.add.reduceat(phi * policy.pair_probabilities[:, None], pairs.start[:-1])  # [S, k]
    following = np.where(dataset.terminated[:, None], 0.0, mean[dataset.next_states])
    here = psi[dataset.pair_index]
    cross = here.T @ (phi[dataset.pair_index] - dataset.discount * following) / n  # A, [l, k]
    square = here.T @ here / n + penalty * np.eye(psi.shape[1])
    system = np.block([[square, -cross], [cross.T, penalty * np.eye(phi.shape[1])]])
    _refuse_singular(system)
    start = (1.0 - dataset.discount) * (dataset.initial @ mean)
    earned = here.T @ dataset.rewards / n
    ratio = np.linalg.solve(system, np.append(np.zeros(len(square)), start))[: len(square)]
    values = np.linalg.solve(system, np.append(-earned, np.zeros(len(start))))[len(square) :]
    sizes = "" if ratio_features is features else f" of values and {psi.shape[1]} of ratios"
    return RatioEstimate(
        pairs=pairs, pair_ratio=frozen(psi @ ratio), pair_action_values=frozen(phi @ values),
        method=f"linear DualDICE with {phi.shape[1]} features{sizes}",
    )  # fmt: skip


def _read_features(pairs: Pairs, features: Any, name: str) -> FloatArray:
    found = read_numbers(features, name)
    if found.ndim != 2 or len(found) != pairs.n_pairs or not np.isfinite(found).all():
        raise InvalidProblem(f"{name} is finite and [pairs, k] with {pairs.n_pairs} pairs, not {list(found.shape)}.")
    return found


def _refuse_singular(system: AnyArray) -> None:
    condition = float(np.linalg.cond(system))
    if not condition < WORST_CONDITION:
        raise Unsupported(
            f"the features' system has condition {condition:.1e}: some combination of features never differs from 0 "
            "in the data, or keeps its value along them, or there are more of values than of ratios. Use fewer "
            "features, a penalty, or collect other data."
        )

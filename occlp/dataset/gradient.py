"""Off-policy policy gradients, as one weight a pair."""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray
from occlp.dataset.data import Dataset
from occlp.dataset.importance import weigh
from occlp.dataset.stationary import RatioEstimate, estimate_ratio
from occlp.errors import InvalidProblem
from occlp.policy import Policy


def score_weights(
    dataset: Dataset,
    policy: Policy,
    *,
    method: str = "per_decision",
    behavior: Policy | None = None,
    ratio: RatioEstimate | None = None,
) -> FloatArray:
    """Estimate the weights m with ∇J(θ) = Σ m(s, a) ∇log π_θ(a | s), for any parametrization of the policy.

    The exact weights are d^π(s, a) Q^π(s, a) / (1 − γ), on the return scale, with γ^t kept.

    Parameters
    ----------
    dataset : Dataset
    policy : Policy
        π_θ, at which the gradient is wanted.
    method : {"per_decision", "trajectory", "ratio"}
        Importance weights of the actions up to each reward to go, Σ_t Σ_{u ≥ t} γ^u ρ_{0:u} r_u; or those of the
        whole trajectory with its total return (both unbiased for the horizon of the data, if the behaviour
        is known); or w d^D Q̂ / (1 − γ) of a `RatioEstimate` (no behaviour, no order).
    behavior : Policy, optional
        For the importance weights; default: that of the data.
    ratio : RatioEstimate, optional
        For "ratio"; default: tabular DualDICE.

    Returns
    -------
    FloatArray [pairs]

    Raises
    ------
    Unsupported, InvalidProblem
        As in `importance_sampling` and `estimate_ratio`.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> acting, judged = oc.Policy.uniform(mdp), oc.Policy.from_table(mdp, [[0.6, 0.4]] * 3)
    >>> data = oc.Dataset.from_rollouts(oc.rollouts(mdp, acting, n_trajectories=5000, horizon=40, rng=0), acting)
    >>> exact = oc.evaluate(mdp, judged)
    >>> truth = exact.pair_occupancy * exact.pair_action_values / exact.rest
    >>> bool(abs(oc.score_weights(data, judged, method="ratio") / truth - 1).max() < 0.05)
    True
    """
    if method == "ratio":
        found = estimate_ratio(dataset, policy) if ratio is None else ratio
        mass = found.pair_ratio * dataset.frequencies
        return np.asarray(mass * found.pair_action_values / (1.0 - dataset.discount))
    if method not in ("per_decision", "trajectory"):
        raise InvalidProblem(f'method is "per_decision", "trajectory" or "ratio", not {method!r}.')
    grid = weigh(dataset, policy, behavior)
    earned = grid.rewards * grid.discounts
    if method == "per_decision":
        earned = grid.ratios * earned
        to_go = np.cumsum(earned[:, ::-1], axis=1)[:, ::-1]
    else:
        to_go = np.broadcast_to((grid.ratios[:, -1] * earned.sum(axis=1))[:, None], grid.taken.shape)
    sums = np.bincount(grid.pairs[grid.taken], to_go[grid.taken], minlength=dataset.pairs.n_pairs)
    return np.asarray(sums / len(grid.taken))

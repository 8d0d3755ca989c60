"""Off-policy policy gradients, as one weight a pair."""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import check_word
from occlp.dataset.data import Dataset
from occlp.dataset.importance import Grid, weigh
from occlp.dataset.robust import Control, correct
from occlp.dataset.stationary import RatioEstimate, estimate_ratio
from occlp.evaluation import Evaluation
from occlp.policy import Policy

#: How a gradient is obtained from data.
METHODS = ("ratio", "per_decision", "trajectory", "doubly_robust")


def score_weights(
    dataset: Dataset,
    policy: Policy,
    *,
    method: str = "per_decision",
    behavior: Policy | None = None,
    ratio: RatioEstimate | None = None,
    values: Evaluation | FloatArray | None = None,
) -> FloatArray:
    """Estimate the weights m with ∇J(θ) = Σ m(s, a) ∇log π_θ(a | s), for any parametrization of the policy.

    The exact weights are d^π(s, a) Q^π(s, a) / (1 − γ), on the return scale, with γ^t kept.

    Parameters
    ----------
    dataset : Dataset
    policy : Policy
        π_θ, at which the gradient is wanted.
    method : {"per_decision", "trajectory", "doubly_robust", "ratio"}
        Importance weights of the actions up to each reward to go, Σ_t Σ_{u ≥ t} γ^u ρ_{0:u} r_u; or those of the
        whole trajectory with its total return (both unbiased for the horizon of the data, if the behaviour
        is known); or the derivative of the doubly robust estimate, with Q̂ held fixed; or w d^D Q̂ / (1 − γ) of a
        `RatioEstimate` (no behaviour, no order).
    behavior : Policy, optional
        For the importance weights; default: that of the data.
    ratio : RatioEstimate, optional
        For "ratio"; default: tabular DualDICE.
    values : Evaluation or FloatArray [pairs], optional
        Q̂ for "doubly_robust"; default: fitted, each half of the data judged by the other.

    Returns
    -------
    FloatArray [pairs]

    Raises
    ------
    Unsupported, InvalidProblem
        As in `importance_sampling` and `estimate_ratio`.

    Notes
    -----
    The doubly robust estimate Σ_t γ^t [ρ_{0:t−1} V̂(s_t) + ρ_{0:t} (r_t − Q̂(s_t, a_t))] has the right mean at every
    policy, whatever Q̂ is; so has its derivative with respect to ρ and to π in V̂ = Σ_a π Q̂. Where trajectories are cut
    after T steps, it is the gradient of T steps followed by V̂, and what is left out weighs γ^T. Source: Huang and Jiang
    (2020), section 4, with ∇Q̂ = 0; the efficient form of Kallus and Uehara (2020) would estimate ∇Q̂ as well.

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
    check_word(method, "method", METHODS)
    grid = weigh(dataset, policy, behavior)
    if method == "doubly_robust":
        return _doubly_robust(dataset, policy, grid, Control.of(dataset, policy, values, folds=2))
    earned = grid.rewards * grid.discounts
    if method == "per_decision":
        earned = grid.ratios * earned
        to_go = np.cumsum(earned[:, ::-1], axis=1)[:, ::-1]
    else:
        to_go = np.broadcast_to((grid.ratios[:, -1] * earned.sum(axis=1))[:, None], grid.taken.shape)
    return _mean_of_pairs(dataset, grid, to_go)


def _mean_of_pairs(dataset: Dataset, grid: Grid, signals: FloatArray) -> FloatArray:
    """Sum signals [N, T] over the visits of each pair, per trajectory, [pairs]."""
    sums = np.bincount(grid.pairs[grid.taken], signals[grid.taken], minlength=dataset.pairs.n_pairs)
    return np.asarray(sums / len(grid.taken))


def _doubly_robust(dataset: Dataset, policy: Policy, grid: Grid, control: Control) -> FloatArray:
    """∇ρ_{0:t} = ρ_{0:t} Σ_{u ≤ t} ∇log π(a_u | s_u), and ∇V̂(s) = Σ_a π Q̂ ∇log π(a | s) for each V̂ in the estimate."""
    terms, now = correct(dataset, grid, control)
    later = now + terms[:, 1:]  # V̂(s_{t+1}) has the weight of the actions up to t
    to_go = np.cumsum(later[:, ::-1], axis=1)[:, ::-1]
    pairs, offsets, lengths = dataset.pairs, dataset.offsets, np.diff(dataset.offsets)
    onward = dataset.discount * (grid.ratios * grid.discounts)[grid.taken]
    weights = np.zeros_like(control.means)  # of V̂(s), by the table it comes from
    going = ~dataset.terminated
    owner = np.repeat(control.owner, lengths)
    np.add.at(weights, (owner[going], dataset.next_states[going]), onward[going])
    begun = np.flatnonzero(lengths)
    first = pairs.states[dataset.pair_index[offsets[begun]]]
    np.add.at(weights, (control.owner[begun], first), 1.0)
    slopes = (weights[:, pairs.states] * control.tables).sum(axis=0) * policy.pair_probabilities
    return np.asarray(_mean_of_pairs(dataset, grid, to_go) + slopes / len(lengths))

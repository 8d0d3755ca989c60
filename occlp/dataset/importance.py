"""Reweighting trajectories by how likely another policy is to act so.

Source: Precup, Sutton and Singh (2000) for trajectory-wise and per-decision weights, plain and weighted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occlp._typing import AnyArray, BoolArray, FloatArray
from occlp.dataset.coverage import name_pairs
from occlp.dataset.data import Dataset
from occlp.dataset.estimate import Estimate, from_contributions
from occlp.errors import InvalidProblem, Unsupported
from occlp.policy import Policy


@dataclass(frozen=True, eq=False)
class Grid:
    """Trajectories as rows of one length; what follows an end has reward 0 and the weight of the end.

    Attributes
    ----------
    taken : BoolArray [N, T]
        Whether the step is in the data.
    pairs : array [N, T]
    rewards : FloatArray [N, T]
    discounts : FloatArray [T]
        Weight of step t in a return.
    ratios : FloatArray [N, T]
        Π_{u ≤ t} π / b, the importance weight up to step t.
    """

    taken: BoolArray
    pairs: AnyArray
    rewards: FloatArray
    discounts: FloatArray
    ratios: FloatArray

    @property
    def before(self) -> FloatArray:
        """Importance weight before step t, [N, T]."""
        return np.concatenate([np.ones((len(self.ratios), 1)), self.ratios[:, :-1]], axis=1)


def importance_sampling(
    dataset: Dataset,
    policy: Policy,
    *,
    per_decision: bool = True,
    weighted: bool = False,
    behavior: Policy | None = None,
) -> Estimate:
    """Estimate the expected return of a policy from trajectories of another, by importance weights.

    Parameters
    ----------
    dataset : Dataset
        Trajectories.
    policy : Policy
        The policy that is judged.
    per_decision : bool
        Whether a reward is weighted by the actions up to it, Σ_t γ^t ρ_{0:t} r_t, or the whole return by all
        actions, ρ_{0:T} Σ_t γ^t r_t. Both have the same mean; the first mostly varies less.
    weighted : bool
        Whether to divide by the sum of the weights (at each step, if `per_decision`) rather than by N: biased, of
        lower variance, consistent, and never outside the range of the data.
    behavior : Policy, optional
        Default: that of the data. `dataset.empirical_behavior` is consistent, but no longer unbiased.

    Returns
    -------
    Estimate
        Of the return up to the length of the data: where trajectories were cut after T steps, what follows is
        left out, and a note says by how much it matters at most.

    Raises
    ------
    Unsupported
        Where the policy takes an action that the behaviour policy never takes, in a state of the data; and where
        weights overflow.
    InvalidProblem
        For data without order or without a behaviour policy, and for policies of another model.

    Notes
    -----
    Unbiased (plain forms) when the behaviour policy is the true one. The variance in general grows
    exponentially with the length of the trajectories.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> acting, judged = oc.Policy.uniform(mdp), oc.solve(mdp).policy
    >>> sample = oc.rollouts(mdp, acting, n_trajectories=2000, horizon=10, rng=0)
    >>> estimate = oc.importance_sampling(oc.Dataset.from_rollouts(sample, acting), judged)
    >>> low, high = estimate.interval(0.99)
    >>> bool(low < oc.rollouts(mdp, judged, n_trajectories=2000, horizon=10, rng=1).returns.mean() < high)
    True
    """
    grid = weigh(dataset, policy, behavior)
    last = grid.ratios[:, -1]
    parts = grid.rewards * grid.discounts
    if per_decision:
        parts = grid.ratios * parts
        if weighted:
            contributions = linearized(parts, grid.ratios).sum(axis=1)
        else:
            contributions = parts.sum(axis=1)
    elif weighted:
        contributions = linearized((last * parts.sum(axis=1))[:, None], last[:, None])[:, 0]
    else:
        contributions = last * parts.sum(axis=1)
    form = ("weighted " if weighted else "") + ("per-decision" if per_decision else "trajectory-wise")
    notes = _truncation(dataset) + name_gaps(dataset, policy)
    return from_contributions(contributions, last, method=f"{form} importance sampling", notes=notes)


def weigh(dataset: Dataset, policy: Policy, behavior: Policy | None) -> Grid:
    """Lay trajectories out as a grid with importance weights; refuse where the behaviour has no support."""
    dataset.check(policy)
    acting = behavior if behavior is not None else dataset.behavior
    if acting is None:
        raise InvalidProblem(
            "importance weights need the policy that acted, and it is unknown. Give behavior=, for instance "
            "dataset.empirical_behavior."
        )
    dataset.check(acting)
    visited = np.bincount(dataset.pairs.states, dataset.counts) > 0
    lost = (policy.pair_probabilities > 0) & (acting.pair_probabilities == 0) & visited[dataset.pairs.states]
    if lost.any():
        raise Unsupported(
            "the policy takes what the behaviour policy never takes: "
            f"{name_pairs(dataset.pairs, np.flatnonzero(lost))}. Importance weights would lose what happens there."
        )
    lengths = np.diff(dataset.offsets)
    taken = np.arange(max(int(lengths.max()), 1)) < lengths[:, None]
    index, rewards = np.zeros(taken.shape, dtype=np.int64), np.zeros(taken.shape)
    index[taken], rewards[taken] = dataset.pair_index, dataset.rewards
    ratios = np.ones(taken.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        chosen = policy.pair_probabilities[dataset.pair_index] / acting.pair_probabilities[dataset.pair_index]
        ratios[taken] = chosen
        np.cumprod(ratios, axis=1, out=ratios)
    if not np.isfinite(ratios).all():
        step = int(np.flatnonzero(~np.isfinite(ratios).all(axis=0))[0])
        raise Unsupported(
            f"importance weights overflow after {step} steps. Shorten the trajectories, or use "
            "marginalized_importance_sampling."
        )
    discounts = np.power(dataset.step_discount, np.arange(taken.shape[1], dtype=np.float64))
    return Grid(taken, index, rewards, discounts, ratios)


def linearized(parts: FloatArray, weights: FloatArray) -> FloatArray:
    """Contributions to Σ parts / Σ weights of each column (the delta method); their mean is that ratio. [N, T]."""
    mean = weights.mean(axis=0)
    safe = np.where(mean > 0, mean, 1.0)  # where all weights vanish, so do the parts
    centre = parts.mean(axis=0) / safe
    return np.asarray(centre + (parts - weights * centre) / safe)


def _truncation(dataset: Dataset) -> tuple[str, ...]:
    """Say what cutting trajectories leaves out."""
    offsets = dataset.offsets
    lengths = np.diff(offsets)
    cut = (lengths > 0) & ~dataset.terminated[np.maximum(offsets[1:] - 1, 0)]
    if dataset.step_discount != dataset.discount or not cut.any():
        return ()
    shortest = int(lengths[cut].min())
    words = f"{cut.mean():.0%} of the trajectories are cut, the shortest after {shortest} steps: the rest is left out"
    if dataset.discount < 1:
        rest = dataset.discount**shortest / (1 - dataset.discount)
        words += f", at most {rest:.2g} times the largest reward"
    return (words,)


def name_gaps(dataset: Dataset, policy: Policy) -> tuple[str, ...]:
    """Say which pairs the policy needs and the sample happens to lack."""
    coverage = dataset.coverage(policy)
    if coverage.is_complete:
        return ()
    missing = np.flatnonzero(coverage.needed & (coverage.counts == 0))
    return (f"the sample lacks pairs that the policy needs: {name_pairs(dataset.pairs, missing)}",)

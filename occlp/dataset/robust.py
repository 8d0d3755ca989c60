"""Values as a control variate for importance weights.

Sources: Jiang and Li (2016) for doubly robust estimation, Thomas and Brunskill (2016) for its weighted form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occlp._typing import AnyArray, BoolArray, FloatArray
from occlp.arguments import check_count, read_numbers
from occlp.dataset.data import Dataset
from occlp.dataset.estimate import Estimate, from_contributions
from occlp.dataset.importance import Grid, linearized, name_gaps, weigh
from occlp.errors import InvalidProblem
from occlp.evaluation import Evaluation, evaluate
from occlp.policy import Policy


def doubly_robust(
    dataset: Dataset,
    policy: Policy,
    *,
    values: Evaluation | FloatArray | None = None,
    weighted: bool = False,
    behavior: Policy | None = None,
    folds: int = 2,
) -> Estimate:
    """Estimate the expected return with values as a control variate for importance weights.

    Σ_t γ^t [ρ_{0:t−1} V̂(s_t) + ρ_{0:t} (r_t − Q̂(s_t, a_t))], and γ^T ρ V̂(s_T) where a trajectory was cut. With the
    true behaviour policy the mean is right whatever Q̂ is, up to the tail of cut trajectories, which Q̂ stands for.

    Parameters
    ----------
    dataset : Dataset
        Trajectories.
    policy : Policy
    values : Evaluation or FloatArray [pairs], optional
        Q̂, from elsewhere. Default: that of `Dataset.empirical_model`, each part of the data being judged by the
        values of the others (cross-fitting), so that the mean stays right.
    weighted : bool
        Whether to divide the weights by their sum at each step.
    behavior : Policy, optional
        Default: that of the data.
    folds : int
        Parts for cross-fitting.

    Returns
    -------
    Estimate
        Of the return over the infinite horizon.

    Raises
    ------
    Unsupported, InvalidProblem
        As in `importance_sampling`.
    """
    grid = weigh(dataset, policy, behavior)
    before, now = correct(dataset, grid, Control.of(dataset, policy, values, folds))
    if weighted:
        columns = np.concatenate([before, now], axis=1)
        scales = np.concatenate([grid.before, grid.ratios[:, -1:], grid.ratios], axis=1)
        contributions = linearized(columns, scales).sum(axis=1)
    else:
        contributions = before.sum(axis=1) + now.sum(axis=1)
    method = f"{'weighted ' if weighted else ''}doubly robust"
    return from_contributions(contributions, grid.ratios[:, -1], method=method, notes=name_gaps(dataset, policy))


@dataclass(frozen=True, eq=False)
class Control:
    """Values that a part of the data knows nothing of, for each trajectory.

    Attributes
    ----------
    tables : FloatArray [folds, pairs]
        Q̂.
    means : FloatArray [folds, S]
        V̂ = Σ_a π Q̂.
    owner : IntArray [N]
        Which of the tables a trajectory is judged by.
    """

    tables: FloatArray
    means: FloatArray
    owner: AnyArray

    @classmethod
    def of(cls, dataset: Dataset, policy: Policy, values: Evaluation | FloatArray | None, folds: int) -> Control:
        """Take values over, or fit them to the other parts of the data."""
        n, n_pairs = dataset.n_trajectories, dataset.pairs.n_pairs
        if values is not None:
            given = values.pair_action_values if isinstance(values, Evaluation) else read_numbers(values, "values=")
            if given.shape != (n_pairs,) or not np.isfinite(given).all():
                raise InvalidProblem(f"values= is finite and [pairs] = [{n_pairs}], not {list(given.shape)}.")
            tables, owner = given[None], np.zeros(n, dtype=np.int64)
        else:
            if dataset.discount >= 1:
                raise InvalidProblem(
                    "values are fitted for discounts below 1. Give values=, or use plain importance weights."
                )
            check_count("folds", folds, least=2)
            if folds > n:
                raise InvalidProblem(f"folds is between 2 and the number of trajectories, {n}, not {folds}.")
            owner = np.arange(n) % folds
            tables = np.stack([_fitted(dataset, policy, owner != fold) for fold in range(folds)])
        means = np.add.reduceat(tables * policy.pair_probabilities, dataset.pairs.start[:-1], axis=1)
        return cls(tables, means, owner)


def correct(dataset: Dataset, grid: Grid, control: Control) -> tuple[FloatArray, FloatArray]:
    """Weighted V̂ terms [N, T + 1], the tail last, and weighted r − Q̂ terms [N, T]."""
    pairs, offsets = dataset.pairs, dataset.offsets
    tables, means, owner = control.tables, control.means, control.owner
    rows = owner[:, None]
    baseline = np.where(grid.taken, means[rows, pairs.states[grid.pairs]], 0.0)
    residual = np.where(grid.taken, grid.rewards - tables[rows, grid.pairs], 0.0)
    lengths = np.diff(offsets)
    last = np.maximum(offsets[1:] - 1, 0)
    tail = np.where((lengths > 0) & ~dataset.terminated[last], means[owner, dataset.next_states[last]], 0.0)
    if dataset.step_discount == dataset.discount:  # cut after `lengths` steps
        tail = tail * dataset.discount**lengths * grid.ratios[:, -1]
        after = np.zeros_like(baseline)
    else:  # a clock stopped the trajectory: whether it goes on is known to have probability γ after every step
        after = _expected_continuation(dataset, grid, control)
        tail = np.zeros(len(lengths))
        baseline[:, 1:] = 0.0
    terms = np.concatenate([grid.before * grid.discounts * baseline, tail[:, None]], axis=1)
    return terms, grid.ratios * grid.discounts * (residual + after)


def _expected_continuation(dataset: Dataset, grid: Grid, control: Control) -> FloatArray:
    """γ V̂(s_{t+1}) after every step, 0 where the episode ended, [N, T]."""
    rows = np.repeat(control.owner, np.diff(dataset.offsets))
    following = np.where(dataset.terminated, 0.0, control.means[rows, dataset.next_states])
    out = np.zeros(grid.taken.shape)
    out[grid.taken] = dataset.discount * following
    return out


def _fitted(dataset: Dataset, policy: Policy, kept: BoolArray) -> FloatArray:
    """Q̂ from some of the trajectories, [pairs]."""
    part = dataset.select(kept)
    return evaluate(part.empirical_model, part.extend(policy)).pair_action_values[: dataset.pairs.n_pairs]

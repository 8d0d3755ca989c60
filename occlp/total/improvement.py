"""Policy iteration for totals: from a proper policy, with strict improvements only.

Every policy on the way is proper: a class without an end that strict improvements close has a positive gain,
and then the total has no upper bound (Bertsekas and Tsitsiklis 1991, proposition 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from occlp._typing import BoolArray, FloatArray, IntArray
from occlp.chains.resolvent import closed_labels
from occlp.residuals import pair_residuals
from occlp.total.approach import approach
from occlp.total.assessment import gain_sign
from occlp.total.reduction import Reduction, greedy, is_proper, reduce, trap_of
from occlp.total.transient import Transient

#: Improvements after which the method gives up.
MOST_IMPROVEMENTS = 100_000
#: Nodes up to which policy iteration needs no approach.
FEW_NODES = 1_500
#: Least loss a step, as a share of the largest reward, at which staying for ever is shown to lose without end.
LEAST_LOSS = 1e-6


class Unending(Exception):
    """Raised where a class of nodes that is never left earns more than nothing at every step.

    Attributes
    ----------
    choice : IntArray [nodes]
        The policy.
    trap : BoolArray [nodes]
        The class.
    """

    def __init__(self, choice: IntArray, trap: BoolArray) -> None:
        super().__init__("the total has no upper bound")
        self.choice, self.trap = choice, trap


@dataclass(frozen=True, eq=False)
class Improvement:
    """A policy of nodes on the way, with its values."""

    choice: IntArray  # [nodes]
    values: FloatArray  # [nodes]


def improvements(reduction: Reduction, rewards: FloatArray, start: FloatArray | None = None) -> Iterator[Improvement]:
    """Yield policies and their values until no pair improves.

    Parameters
    ----------
    reduction : Reduction
    rewards : FloatArray [pairs of the form]
        In the place of the form's own.
    start : FloatArray [nodes], optional
        Values whose greedy policy is the first one, where that is proper.

    Raises
    ------
    Unending
        When there is no upper bound.
    """
    form, choice, values = reduction.form, None, start
    if start is not None:
        seeded = greedy(form, pair_residuals(form, start, None, rewards)[0])
        choice = seeded if is_proper(reduction, seeded) else None
    if form.n_states > FEW_NODES:
        values, choice = approach(reduction, rewards, choice, start)
    elif choice is None:
        choice = reduction.proper_choice
    for _ in range(MOST_IMPROVEMENTS):
        values = _evaluate(reduction, choice, rewards, values)
        yield Improvement(choice, values)
        better = _improve(reduction, choice, values, rewards)
        if better is None:
            return
        choice = better


def loses_without_end(reduction: Reduction) -> bool:
    """Whether states from which no policy ends well are worth −∞ for certain.

    Where a goal must be reached they are by definition. Else every policy must lose as long as it stays: shown by
    values with r + PV − V < 0 on all pairs, rounding included. Gains and losses that cancel for ever lose nothing.
    """
    if reduction.total.proper:
        return True
    wider = reduce(reduction.total, stop_anywhere=True)
    form, own = wider.form, wider.pairs >= 0
    if not (form.rewards[own] > 0).any():
        return True  # what earns nothing has been collapsed
    extra = np.where(own, LEAST_LOSS * np.abs(form.rewards).max(), 0.0)
    try:
        *_, last = improvements(wider, form.rewards + extra)
    except Unending:
        return False
    scores, error = pair_residuals(form, last.values, None)
    return bool(((scores + error)[own] < 0).all())


def _evaluate(reduction: Reduction, choice: IntArray, rewards: FloatArray, near: FloatArray | None) -> FloatArray:
    """Values of a proper policy, [nodes]; values that may be near them save iterations."""

    def residuals(values: FloatArray) -> tuple[FloatArray, FloatArray]:
        scores, error = pair_residuals(reduction.form, values, None, rewards)
        return scores[choice], error[choice]

    transient = Transient(reduction.form.transitions[choice], ~reduction.fixed)
    if near is None or not transient.iterates:
        near = transient.values(rewards[choice], reduction.ends)
    return transient.refined(near, residuals)


def _improve(reduction: Reduction, choice: IntArray, values: FloatArray, rewards: FloatArray) -> IntArray | None:
    """Switch every node whose best pair beats its own beyond rounding; None when there is none."""
    form = reduction.form
    scores, error = pair_residuals(form, values, None, rewards)
    best = greedy(form, scores)
    switch = scores[best] - scores[choice] > 2 * (error[best] + error[choice]) + np.abs(scores[choice])
    while switch.any():
        better = np.where(switch, best, choice).astype(np.int32)
        trap = trap_of(reduction, better)
        if not trap.any():
            return better
        if earns(reduction, better, trap, rewards):
            raise Unending(better, trap)
        switch &= ~trap  # an improvement within rounding that never ends: not taken
    return None


def earns(reduction: Reduction, choice: IntArray, trap: BoolArray, rewards: FloatArray) -> bool:
    """Whether one of the classes of a trap [nodes] has a positive gain beyond rounding."""
    matrix = reduction.form.transitions[choice]
    labels, _ = closed_labels(matrix)
    return any(gain_sign(matrix, rewards[choice], np.flatnonzero(labels == n)) > 0 for n in np.unique(labels[trap]))

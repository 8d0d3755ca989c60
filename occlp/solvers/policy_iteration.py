"""Policy iteration: exact evaluations, and rounds of sweeps on the way to the first one and between them.

The rounds carry values a long way for little; what is proved, the exact evaluations prove.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from occlp._typing import BoolArray, FloatArray, IntArray
from occlp.chain import Bracket, pair_residuals, policy_chain, relative_values
from occlp.errors import Unsupported
from occlp.kernels import backup
from occlp.model import Pairs
from occlp.parallel import run_rows
from occlp.policy import Policy
from occlp.standard import StandardForm
from occlp.sweeps import Sweeps

#: Exact evaluations without progress (within rounding) after which policy iteration ends.
MOST_STALLED = 5
#: Undiscounted policies with several recurrent classes after which the method gives up.
MOST_SPLIT = 20
#: After so many rounds that left more than this share of the spread, sweeps are Gauss–Seidel.
SLOW, MOST_SLOW = 0.5, 3
#: Residuals beyond this (rewards have size one) show that Gauss–Seidel sweeps do not settle.
WILD = 1e6


def policy_iterations(
    form: StandardForm, pairs: Pairs, rounds: int, policy: Policy | None = None, values: FloatArray | None = None
) -> Iterator[tuple[Policy, Bracket]]:
    """Yield policies and their exact values until no action improves.

    Parameters
    ----------
    form : StandardForm
    pairs : Pairs
    rounds : int
        Rounds of modified policy iteration between exact evaluations, unless a policy is given.
    policy : Policy, optional
        Where to begin; its randomisation is kept on ties.
    values : FloatArray [S], optional
        Values to begin with.

    Raises
    ------
    Unsupported
        Undiscounted, where policy after policy has several recurrent classes.
    """
    values = np.zeros(form.n_states) if values is None else values
    if policy is None:
        values, policy = approach(form, pairs, values, rounds)
    else:
        rounds = 0
    best, stalled, split, fallback, proved = -np.inf, 0, 0, policy, values
    while stalled < MOST_STALLED:
        bracket = relative_values(policy_chain(form, policy.pair_probabilities), values)
        if policy is not fallback and bracket.upper <= best:  # the rounds have lost what one improvement keeps
            rounds, policy, values = 0, fallback, proved
            continue
        stalled = stalled + 1 if bracket.upper <= best else 0
        best = max(best, bracket.lower)
        values, low = bracket.high, bracket.low if bracket.low.any() else None
        yield policy, bracket
        split += bracket.gain is not None
        if split > MOST_SPLIT:  # their relative values say nothing of the way from one class to a better one
            raise Unsupported(
                "the policies met have several recurrent classes, and this method compares values within one. "
                "Use PolicyIteration for a plain question and OccupancyProgram for the others."
            )
        better = improved(form, policy, values, low)
        if better is None:
            return
        fallback, proved = better, values
        # Far from the optimum sweeps are cheaper than solves; two doubles a value are near it.
        if rounds and low is None:
            values, better = approach(form, pairs, values, rounds)
        policy = better


def improved(
    form: StandardForm, policy: Policy, high: FloatArray, low: FloatArray | None, among: BoolArray | None = None
) -> Policy | None:
    """Switch every state whose best action beats the policy beyond rounding; None when there is none.

    `among` [S] restricts the switches to some states.
    """
    rho, error = pair_residuals(form, high, low)
    first = form.start[:-1]
    probabilities = policy.pair_probabilities
    mean = np.add.reduceat(rho * probabilities, first)
    doubt = 2 * np.maximum.reduceat(error, first) + (mean.max() - mean.min())
    top = np.maximum.reduceat(rho, first)
    # A policy that keeps mass on an inferior action must give it up, even where the mean hides it.
    worst = np.minimum.reduceat(np.where(probabilities > 0, rho, np.inf), first)
    switch = top - worst > doubt
    if among is not None:
        switch &= among
    if not switch.any():
        return None
    attained = np.flatnonzero(rho == top[form.states])
    best = attained[np.searchsorted(attained, first)]
    new = np.where(switch[form.states], 0.0, probabilities)
    new[best[switch]] = 1.0
    return Policy.from_pairs(policy.pairs, new)


def improve(form: StandardForm, values: FloatArray) -> tuple[FloatArray, IntArray]:
    """One Bellman backup: the gain max_a r + γPV − V of each state and the first pair attaining it, [S]."""
    best, choice = np.empty(form.n_states), np.empty(form.n_states, dtype=np.int32)
    matrix = form.transitions
    rows = (form.start, matrix.indptr, matrix.indices, matrix.data, form.rewards, form.discount, form.rest)
    run_rows(backup.improvements, form.n_states, matrix.nnz, *rows, values, best, choice)
    return best, choice


def approach(form: StandardForm, pairs: Pairs, values: FloatArray, rounds: int) -> tuple[FloatArray, Policy]:
    """Some rounds of modified policy iteration; values that prove a bound and their greedy policy.

    They end early when the policy stays the same: what follows evaluates it.
    """
    sweeps, known = Sweeps(form.transitions, form.rewards, form.discount, form.rest), np.zeros(0, dtype=np.int32)
    calm, slow, spread = values, 0.0, np.inf
    values = values.copy()
    best, choice = improve(form, values)
    for _ in range(rounds):
        last, spread = spread, float(best.max() - best.min())
        if spread <= 1e-14 or np.array_equal(choice, known):
            break
        slow += spread > SLOW * last
        if sweeps.relaxing and not spread <= WILD:  # levels that amplify each other: back to plain sweeps, for good
            values, slow = calm.copy(), -np.inf
            choice = improve(form, values)[1]
        elif slow >= MOST_SLOW and not sweeps.relaxing:
            calm = values.copy()
        sweeps.relaxing = slow >= MOST_SLOW
        sweeps.run(choice, values)
        known, (best, choice) = choice, improve(form, values)
    return values, Policy.from_choice(pairs, choice)

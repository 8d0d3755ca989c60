"""Policy iteration: exact evaluations, and rounds of sweeps on the way to the first one and between them.

The rounds carry values a long way for little; what is proved, the exact evaluations prove.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from occlp._typing import BoolArray, FloatArray
from occlp.chain import Bracket, policy_chain, relative_values
from occlp.errors import Unsupported
from occlp.model import Pairs
from occlp.policy import Policy
from occlp.residuals import residuals_of
from occlp.solvers.approach import approach
from occlp.standard import StandardForm

#: Exact evaluations without progress (within rounding) after which policy iteration ends.
MOST_STALLED = 5
#: Undiscounted policies with several recurrent classes after which the method gives up.
MOST_SPLIT = 20


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
        values, policy, chain = approach(form, pairs, values, rounds)
    else:
        rounds = 0
    best, stalled, split, fallback, proved = -np.inf, 0, 0, policy, values
    while stalled < MOST_STALLED:
        chain = policy_chain(form, policy.pair_probabilities)  # held on to: those who judge the policy ask for it
        bracket = relative_values(chain, values)
        if policy is not fallback and bracket.lower <= best:  # the rounds have not kept what one improvement gains
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
            values, better, chain = approach(form, pairs, values, rounds)
        policy = better


def improved(
    form: StandardForm, policy: Policy, high: FloatArray, low: FloatArray | None, among: BoolArray | None = None
) -> Policy | None:
    """Switch every state whose best action beats the policy beyond rounding; None when there is none.

    `among` [S] restricts the switches to some states.
    """
    found, first = residuals_of(form, high, low), form.start[:-1]
    rho, best, probabilities = found.scores, found.best, policy.pair_probabilities
    if policy.is_deterministic:
        mean = worst = rho[policy.choice]
    else:
        mean = np.add.reduceat(rho * probabilities, first)
        # A policy that keeps mass on an inferior action must give it up, even where the mean hides it.
        worst = np.minimum.reduceat(np.where(probabilities > 0, rho, np.inf), first)
    switch = rho[best] - worst > 2 * found.doubt + (mean.max() - mean.min())
    if among is not None:
        switch &= among
    if not switch.any():
        return None
    if policy.is_deterministic:
        return Policy.from_choice(policy.pairs, np.where(switch, best, policy.choice))
    new = np.where(switch[form.states], 0.0, probabilities)
    new[best[switch]] = 1.0
    return Policy.from_pairs(policy.pairs, new)

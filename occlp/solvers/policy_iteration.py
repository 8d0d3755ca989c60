"""Policy iteration: exact evaluations, and rounds of sweeps on the way to the first one and between them.

The rounds carry values a long way for little; what is proved, the exact evaluations prove.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from occlp._typing import BoolArray, FloatArray, frozen
from occlp.chains.chain import Bracket, policy_chain, relative_values
from occlp.model import Pairs
from occlp.policy import Policy
from occlp.residuals import residuals_of
from occlp.solvers.approach import approach
from occlp.solvers.multichain_iteration import multichain_iterations
from occlp.standard import StandardForm

#: Exact evaluations without progress (within rounding) after which policy iteration ends.
MOST_STALLED = 5
#: Rounds of sweeps before each exact evaluation of a model that is solved on the way to something else.
ROUNDS = 60


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

    Notes
    -----
    Relative values say nothing of the way from one recurrent class to a better one: where the bracket of an
    undiscounted policy has gains, `multichain_iterations` go on from there.
    """
    values = np.zeros(form.n_states) if values is None else values
    if policy is None:
        values, policy, chain = approach(form, pairs, values, rounds)
    else:
        rounds = 0
    best, stalled, fallback, proved = -np.inf, 0, policy, values
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
        better = improved(form, policy, values, low)
        if better is None:
            return
        fallback, proved = better, values
        # Far from the optimum sweeps are cheaper than solves; two doubles a value are near it.
        if rounds and low is None:
            values, better, chain = approach(form, pairs, values, rounds)
        policy = better


def solve_rewards(
    form: StandardForm,
    pairs: Pairs,
    rewards: FloatArray,
    *,
    start: Policy | None = None,
    values: FloatArray | None = None,
) -> tuple[Policy, FloatArray, FloatArray]:
    """Solve the plain question with other rewards [pairs]: policy, values and their low parts, both [S].

    It begins with a policy, or with values, where one is given.
    """
    scaled, size = with_rewards(form, rewards)
    begin = None if values is None else values / size
    for policy, bracket in policy_iterations(scaled, pairs, 0 if start is not None else ROUNDS, start, begin):
        if bracket.gain is not None:  # several recurrent classes: the gains come first
            for step in multichain_iterations(scaled, pairs, policy):
                found = step.policy, size * step.values, np.zeros(form.n_states)
            break
        found = policy, size * bracket.high, size * bracket.low
    return found


def with_rewards(form: StandardForm, rewards: FloatArray) -> tuple[StandardForm, float]:
    """The plain form with other rewards [pairs], divided by their size, and that size."""
    size = float(np.abs(rewards).max()) or 1.0
    # Read-only, as those of a form are: kernels need no second version.
    return replace(form, rewards=frozen(rewards / size), term=None, concave=()), size


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

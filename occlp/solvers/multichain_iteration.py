"""Policy iteration for averages that may depend on the start: gains first, then relative values, then the bias.

Howard (1960), chapter 6; Veinott (1966); Puterman 2005, sections 9.2 and 10.4. An action is better if it leads to
higher gains, g < Pg; among those that keep the gain, if it earns more, g + h < r + Ph; and, where the bias is asked
for, among those that keep both, if h + w < Pw for the next term w of the Laurent series.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from occlp._typing import BoolArray, FloatArray, IntArray
from occlp.chains.chain import Chain, policy_chain
from occlp.chains.gains import differing, drifts, snapped, solve_gains
from occlp.model import Pairs
from occlp.policy import Policy
from occlp.residuals import improve, pair_residuals
from occlp.standard import StandardForm

#: Improvements in gain smaller than this (per probability of reaching other gains, of their range) are rounding.
GAIN_TIE = 1e-10
#: Rewards and values that differ by less than this share of the largest value are taken as equal.
VALUE_TIE = 1e-14
#: Sweeps of value iteration that find a policy to start from.
SWEEPS = 100
#: Improvements after which the method gives up.
MOST_IMPROVEMENTS = 10_000


@dataclass(frozen=True, eq=False)
class Step:
    """A policy with its gains and its relative values, standard form."""

    policy: Policy
    gain: FloatArray  # [S]
    values: FloatArray  # [S]


def multichain_iterations(
    form: StandardForm, pairs: Pairs, policy: Policy | None = None, *, bias: bool = False
) -> Iterator[Step]:
    """Yield policies until no action improves; the last one has the best gain from every state at once.

    Parameters
    ----------
    form : StandardForm
        Undiscounted.
    pairs : Pairs
    policy : Policy, optional
        Where to begin.
    bias : bool
        Whether to go on until the bias is the best as well.
    """
    policy = Policy.from_choice(pairs, _sweep(form)) if policy is None else policy
    seen: set[int] = set()
    for _ in range(MOST_IMPROVEMENTS):
        chain = policy_chain(form, policy.pair_probabilities)
        gain, values = solve_gains(chain)
        if bias:
            values = values - chain.averages(values)
        yield Step(policy, snapped(gain), values)
        seen.add(hash(policy.pair_probabilities.tobytes()))
        better = _improved(form, policy, gain, values, chain if bias else None)
        if better is None or hash(better.pair_probabilities.tobytes()) in seen:
            return
        policy = better


def _improved(
    form: StandardForm, policy: Policy, gain: FloatArray, values: FloatArray, chain: Chain | None
) -> Policy | None:
    """Switch every state that an action improves, first by gain, then by value, then (with a chain) by bias."""
    probabilities, first = policy.pair_probabilities, form.start[:-1]
    levels = snapped(gain)
    drift, error = drifts(form.transitions, form.states, levels)
    doubt = error + GAIN_TIE * float(np.ptp(gain)) * differing(form.transitions, form.states, levels)
    rising, tied = _best(form, drift - doubt), np.abs(drift) <= doubt
    switch = (drift - doubt)[rising] > 0
    choice = rising
    if switch.any():  # with higher gains elsewhere, relative values say nothing yet
        return _switched(form, policy, switch, choice)
    scores, score_error = pair_residuals(form, values, None, form.rewards - gain[form.states])
    mean = np.add.reduceat(scores * probabilities, first)
    size = VALUE_TIE * float(np.abs(values).max(initial=1.0))
    tied |= probabilities > 0
    switch, choice = _among_tied(form, probabilities, (scores, score_error + size + np.abs(mean).max(), tied))
    if chain is not None and not switch.any():
        tied &= scores >= mean[form.states] - 1e5 * size
        following = chain.resolvent.columns(-values)
        onward, onward_error = drifts(form.transitions, form.states, following)
        size = VALUE_TIE * float(np.abs(following).max(initial=1.0))
        switch, choice = _among_tied(form, probabilities, (onward, onward_error + 1e5 * size, tied))
    return _switched(form, policy, switch, choice) if switch.any() else None


def _switched(form: StandardForm, policy: Policy, switch: BoolArray, choice: IntArray) -> Policy:
    """Take the chosen pair in the states that switch."""
    new = np.where(switch[form.states], 0.0, policy.pair_probabilities)
    new[choice[switch]] = 1.0
    return Policy.from_pairs(policy.pairs, new)


def _among_tied(
    form: StandardForm, probabilities: FloatArray, found: tuple[FloatArray, FloatArray, BoolArray]
) -> tuple[BoolArray, IntArray]:
    """States that switch, and the pair of each, by scores with their doubts among the tied pairs."""
    scores, doubts, tied = found
    best = _best(form, np.where(tied, scores, -np.inf))
    # A policy that keeps mass on an inferior action must give it up.
    worst = np.minimum.reduceat(np.where(probabilities > 0, scores, np.inf), form.start[:-1])
    return scores[best] - worst > 2.0 * doubts[best], best


def _best(form: StandardForm, scores: FloatArray) -> IntArray:
    """The first pair of each state with the largest score, [S]."""
    first = form.start[:-1]
    attained = np.flatnonzero(scores == np.maximum.reduceat(scores, first)[form.states])
    return attained[np.searchsorted(attained, first)].astype(np.int32)


def _sweep(form: StandardForm) -> IntArray:
    """The greedy choice after some sweeps of undiscounted value iteration, [S]."""
    values = np.zeros(form.n_states)
    for _ in range(SWEEPS):
        best, choice = improve(form, values)
        values = values + best
    return choice

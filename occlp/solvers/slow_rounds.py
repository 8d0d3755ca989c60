"""Rounds for models whose chains mix slowly.

A round evaluates a policy to a digit or so, with iterations on two levels, and improves it in place, state after state,
there and back: a better place is known far away after one round, however slowly the chain mixes.
"""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.aggregation import Aggregation, Stalled
from occlp.kernels import backup, relaxation
from occlp.residuals import improve
from occlp.standard import StandardForm

#: Most rounds, and improvements in place of each.
ROUNDS, PASSES = 100, 4
#: By how much an evaluation makes the residual smaller.
REDUCTION = 0.03
#: Evaluations that may stall.
MOST_STALLED = 2
#: The least 1 − γ on the way: what is left of it is nothing beside the spread of the values.
LEAST_REST = 1e-7


def climb(form: StandardForm, values: FloatArray, choice: IntArray) -> tuple[FloatArray, IntArray]:
    """Values and their greedy choice, [S] each, after rounds that end when the choice stays the same."""
    matrix, rest = form.transitions, max(form.rest, LEAST_REST)
    rows = (form.start, matrix.indptr, matrix.indices, matrix.data)
    leave, there = np.full(form.n_states, rest), np.arange(form.n_states, dtype=np.int32)
    ways = there[::-1].copy(), there
    begin, values, level, stalled = (values, choice), values.copy(), 0.0, 0
    for _ in range(ROUNDS):
        rho = np.empty(form.n_states)
        chosen = (choice, matrix.indptr, matrix.indices, matrix.data, form.rewards, form.discount, rest)
        backup.policy_sweep(0, form.n_states, *chosen, values, rho)
        chain = Aggregation(matrix, leave, discount=form.discount, chosen=choice)
        try:
            values += chain.columns(rho - level, reduction=REDUCTION)
        except Stalled:
            stalled += 1
            if stalled > MOST_STALLED:
                break
        # Centred values keep their digits; what is taken off them is paid at every step instead.
        mean = values.mean()
        values -= mean
        level += rest * mean
        charged = form.rewards - level
        for turn in range(PASSES):
            relaxation.improve_values(ways[turn % 2], *rows, charged, form.discount, rest, values)
        known, (best, choice) = choice, improve(form, values)
        if not np.isfinite(best).all():
            return begin
        if np.array_equal(choice, known):
            break
    return values, choice

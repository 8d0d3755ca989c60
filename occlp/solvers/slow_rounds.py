"""Rounds for models whose chains mix slowly.

A round evaluates a policy, by elimination where that is cheap and else to a digit or so, and improves it in place,
state after state, there and back: a better place is known far away after one round, however slowly the chain mixes.
"""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray, frozen
from occlp.chains.aggregation import Stalled
from occlp.chains.moves import Moves
from occlp.chains.sweeps import ChosenRows
from occlp.kernels import backup
from occlp.residuals import improve
from occlp.standard import StandardForm
from occlp.work import count_transitions

#: Most rounds, and improvements in place of each after an evaluation to a digit, and after an exact one.
ROUNDS, PASSES, EXACT_PASSES = 100, 4, 16
#: By how much an evaluation makes the residual smaller.
REDUCTION = 0.03
#: Evaluations that may stall.
MOST_STALLED = 2
#: The least 1 − γ on the way: what is left of it is nothing beside the spread of the values.
LEAST_REST = 1e-7


def climb(form: StandardForm, values: FloatArray, chosen: ChosenRows) -> tuple[FloatArray, Moves]:
    """Values [S] after rounds that end when the choice stays the same, and the moves of their greedy choice.

    The chosen rows follow the choice.
    """
    matrix, rest, everywhere = form.transitions, max(form.rest, LEAST_REST), np.arange(form.n_states, dtype=np.int32)
    rows = (form.start, matrix.indptr, matrix.indices, matrix.data)
    steps = backup.sojourns(*rows, form.discount, rest)
    ways = everywhere[::-1].copy(), everywhere
    begin, choice, values, level, stalled = values, chosen.choice, values.copy(), 0.0, 0
    for _ in range(ROUNDS):
        moves, rho = Moves(chosen.rows, form.discount, rest), np.empty(form.n_states)
        earned = (chosen.rewards, form.discount, rest)
        count_transitions(len(moves.rows[1]))
        backup.policy_sweep(0, form.n_states, everywhere, *chosen.rows, *earned, values, rho)
        try:
            values += _evaluate(moves, rho - level)
        except Stalled:
            stalled += 1
            if stalled > MOST_STALLED:
                break
        # Centred values keep their digits; what is taken off them is paid at every step instead.
        mean = values.mean()
        values -= mean
        level += rest * mean
        charged = frozen(form.rewards - level)
        greedy, paid = chosen.choice.copy(), (charged, form.discount, rest, steps)
        for turn in range(EXACT_PASSES if moves.is_banded else PASSES):
            count_transitions(matrix.nnz)
            if not backup.improve_in_place(ways[turn % 2], *rows, *paid, values, greedy):
                break  # evaluations carry on better
        best, better = improve(form, values)
        if not np.isfinite(best).all():
            chosen.follow(choice)
            return begin, Moves(chosen.rows, form.discount, form.rest)
        if np.array_equal(better, chosen.choice):
            if rest == form.rest:
                return values, moves  # with its factors
            break
        chosen.follow(better)
    return values, Moves(chosen.rows, form.discount, form.rest)


def _evaluate(moves: Moves, rho: FloatArray) -> FloatArray:
    """What the values of a policy miss by their residual ρ, [S]; raises `Stalled` where no way to tell is cheap."""
    return moves.resolvent.columns(rho) if moves.is_banded else moves.iterations.columns(rho, reduction=REDUCTION)

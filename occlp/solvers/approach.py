"""The way towards the optimal policy by sweeps and improvements, until solves are called for."""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray
from occlp.chains.chain import Chain, chain_of
from occlp.chains.moves import Moves
from occlp.chains.sweeps import SHARE, SWEEPS, ChosenRows, sweep
from occlp.kernels import rounds
from occlp.model import Pairs
from occlp.parallel import run_rows
from occlp.policy import Policy
from occlp.solvers.slow_rounds import climb
from occlp.standard import StandardForm
from occlp.work import count_transitions

#: After so many rounds that left more than this share of the spread, others take over.
SLOW, MOST_SLOW = 0.5, 3


def approach(form: StandardForm, pairs: Pairs, values: FloatArray, most: int) -> tuple[FloatArray, Policy, Chain]:
    """Rounds of modified policy iteration; values, their greedy policy and its chain.

    They end early when the policy stays the same: what follows evaluates it.
    """
    run, slow, spread = _Rounds(form, values), 0, np.inf
    changed = run.improve()
    for _ in range(most):
        low, high = rounds.extent(run.best)
        last, spread = spread, high - low
        if spread <= 1e-14 or not changed:
            break
        slow += spread > SLOW * last
        if slow >= MOST_SLOW:
            run.climb()
            break
        run.sweep(SHARE * spread)
        changed = run.improve()
    policy = Policy.from_choice(pairs, run.choice)
    return run.values, policy, chain_of(form, policy, run.moves())


class _Rounds:
    """Values with their greedy choice.

    Improvements leave out the states in which no pair can have overtaken the best one, since values have not drifted
    apart by its lead: a temporary elimination of actions (Puterman 2005, section 6.7).
    """

    def __init__(self, form: StandardForm, values: FloatArray) -> None:
        self.form, self.values = form, values - values.mean()
        self.choice = rounds.largest(form.start, form.rewards)
        self.best = form.rewards[self.choice]
        # What the lead of each state was, with the drift until then.
        self._leads, self._drift = np.zeros(form.n_states), 0.0
        self._known = np.zeros(form.n_states)
        self._rows = ChosenRows(form, self.choice)
        self._room = np.empty(form.n_states)
        self._moves: Moves | None = None

    def rows(self) -> ChosenRows:
        """The rows of the chosen pairs."""
        if self._rows.choice is not self.choice:
            self._rows.follow(self.choice)
        return self._rows

    def moves(self) -> Moves:
        """Those of the chosen pairs."""
        if self._moves is None:
            self._moves = Moves(self.rows().rows, self.form.discount, self.form.rest)
        return self._moves

    def climb(self) -> None:
        """Go on by rounds for chains that mix slowly, to their end."""
        self.values, self._moves = climb(self.form, self.values, self.rows())
        self.choice = self._rows.choice

    def sweep(self, target: float) -> None:
        """A few sweeps with the chosen pairs, until the spread is within the target; the first one is there already."""
        self.values += self.best
        rows = self.rows()
        earned = (rows.rewards, self.form.discount, self.form.rest)
        sweep(rows.rows, earned, self.values, self._room, SWEEPS - 1, target)

    def improve(self) -> bool:
        """One improvement; whether it changed the choice."""
        form, values = self.form, self.values
        span, size = rounds.moved(values, self._known)
        if size == 0.0:
            return True  # nothing but the rewards counts, and they are what the choice began with
        self._drift += form.discount * span + 1e-13 * (1.0 + size)  # with room for rounding
        choice = self.choice.copy()
        matrix, rows = form.transitions, self.rows()
        arrays = (form.start, matrix.indptr, matrix.indices, matrix.data, form.rewards, form.discount, *rows.rows)
        room = (values, self._drift, self._leads, choice, self.best)
        count_transitions(run_rows(rounds.improve, form.n_states, matrix.nnz, *arrays, *room))
        if np.array_equal(choice, self.choice):
            return False
        self.choice = choice
        return True

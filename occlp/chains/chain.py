"""The Markov chain of one policy: its relative values and its occupancy, without an S x S dense array.

Everything is a solve with A = (1 − γ) I + γ (D − P), D the row sums of P (`Moves`). Four ways, by size and mixing:
subtraction-free elimination (small, or banded), sweeps (fast mixing), iterations on two levels, and sparse LU where
these stall. Each is followed by refinement on residuals that do not cancel: the answer does not depend on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from occlp._typing import BoolArray, FloatArray, Rows
from occlp.chains.gains import bracket_gains
from occlp.chains.moves import Moves
from occlp.chains.resolvent import Recurrent, Resolvent
from occlp.chains.sweeps import (
    SWEEP_TARGET,
    ChosenRows,
    Earned,
    rows_of,
    settle_occupancy,
    settle_values,
)
from occlp.errors import Unsupported
from occlp.kernels import backup
from occlp.parallel import inner_product, run_rows
from occlp.policy import Policy
from occlp.residuals import base_value, two_sum
from occlp.standard import StandardForm
from occlp.work import count_transitions

#: The chains of policies, while somebody holds them.
_IN_USE: WeakValueDictionary[tuple[int, ...], Chain] = WeakValueDictionary()

#: Width of a bracket that is good enough where there are no more digits to be had.
CLOSE = 1e-13
#: Values beyond this do not fit into one double with all the digits that count.
LARGE = 1e3


@dataclass(frozen=True, eq=False)
class Bracket:
    """Values of a chain up to a constant, and what they prove about its normalised objective.

    Attributes
    ----------
    high, low : FloatArray [S]
        Relative values h = high + low; ``low`` is zero unless one double cannot hold them.
    lower, upper : float
        (1 − γ) μ0·h + min and max of the residual, rounded outwards: they enclose J(π).
    gain : FloatArray [S] or None
        With several recurrent classes: gains g ≤ Pg, so that the lower end is μ0·g + min (r − g + Ph − h).
    """

    high: FloatArray  # [S]
    low: FloatArray  # [S]
    lower: float
    upper: float
    gain: FloatArray | None = None  # [S]

    @property
    def width(self) -> float:
        """Upper less lower end."""
        return self.upper - self.lower

    @property
    def is_fine(self) -> bool:
        """Whether both ends agree in nine digits: where they are tiny, sweeps may not tell them apart."""
        return self.width <= 1e-9 * max(abs(self.lower), abs(self.upper))

    def is_of(self, high: FloatArray, low: FloatArray | None) -> bool:
        """Whether it is that of these values."""
        same = self.gain is None and np.array_equal(high, self.high)
        return same and (not self.low.any() if low is None else np.array_equal(low, self.low))


@dataclass(eq=False)
class Chain:
    """The chain of a policy on a standard form.

    Attributes
    ----------
    moves : Moves
        Shared by chains that differ in what follows.
    rewards, initial : FloatArray [S]
    mixed : FloatArray [S] or None
        Size of the terms that a randomised policy has summed; None if it has not.
    widths : FloatArray [S] or None
        How many pairs a state mixes.
    source : Any
        What it was made from, held on to as long as the chain lives.
    bracket : Bracket or None
        What `relative_values` has found.
    """

    moves: Moves
    rewards: FloatArray  # [S]
    initial: FloatArray  # [S]
    mixed: FloatArray | None = None  # [S]
    widths: FloatArray | None = None  # [S]
    source: Any = None
    bracket: Bracket | None = field(default=None, init=False)

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.initial)

    @property
    def rows(self) -> Rows:
        """Of P, a csr_array [S, S]."""
        return self.moves.rows

    @property
    def matrix(self) -> Any:
        """P as a csr_array [S, S]."""
        return self.moves.matrix

    @property
    def discount(self) -> float:
        """γ."""
        return self.moves.discount

    @property
    def rest(self) -> float:
        """1 − γ."""
        return self.moves.rest

    @property
    def earned(self) -> Earned:
        """Rewards, γ and 1 − γ, as the kernels take them."""
        return self.rewards, self.discount, self.rest

    @property
    def resolvent(self) -> Resolvent:
        """The most trustworthy solver that the size allows."""
        return self.moves.resolvent

    @property
    def n_classes(self) -> int:
        """Number of recurrent classes."""
        return self.moves.n_classes

    @property
    def is_small(self) -> bool:
        """Whether subtraction-free elimination is affordable, and called for."""
        return self.moves.is_small

    @cached_property
    def visited(self) -> BoolArray:
        """States reachable from the initial distribution, [S]."""
        if self.discount == 0:
            return self.initial > 0
        if (self.initial > 0).all():
            return np.ones(self.n_states, dtype=np.bool_)
        return reached_from(self.matrix, self.initial > 0)

    def require_one_class(self, what: str) -> None:
        """Raise `Unsupported` for an undiscounted chain with several recurrent classes."""
        if self.rest == 0 and self.n_classes > 1:
            raise Unsupported(
                f"on average, {what} need one recurrent class; a policy met has {self.n_classes}. "
                "Ask a discounted question with a discount near 1."
            )

    def averages(self, rewards: FloatArray) -> FloatArray:
        """Long-run average of rewards [S] from each state, P* r; undiscounted chains only."""
        assert isinstance(self.resolvent, Recurrent)
        return self.resolvent.gains(rewards)

    def with_rewards(self, form: StandardForm, probabilities: FloatArray, rewards: FloatArray) -> Chain:
        """The same chain with other rewards of the pairs, [pairs]; what is known of its transitions is shared."""
        earned = np.add.reduceat(probabilities * rewards, form.start[:-1])
        mixed = None if self.mixed is None else np.add.reduceat(probabilities * np.abs(rewards), form.start[:-1])
        return replace(self, rewards=earned, mixed=mixed)

    def residuals(self, high: FloatArray, low: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Residual r + γPh − h of each state and a bound on its rounding, both [S]."""
        out, error = np.empty(self.n_states), np.empty(self.n_states)
        states = np.arange(self.n_states, dtype=np.int32)
        rows, size = (*self.rows, states, *self.earned), int(self.rows[0][-1])
        count_transitions(size)
        if low is None:
            run_rows(backup.residuals, self.n_states, size, *rows, high, out, error)
        else:
            run_rows(backup.residuals_extended, self.n_states, 8 * size, *rows, high, low, out, error)
        if self.mixed is not None and self.widths is not None:  # rows and rewards were rounded when mixed
            error = error * (1.0 + (self.widths + 2.0) / 8.0) + (self.widths + 4.0) * backup.EPS * self.mixed
        return out, error


def reached_from(matrix: Any, start: BoolArray) -> BoolArray:
    """States that a chain, csr_array [S, S], reaches from those of `start` [S], these included, [S]."""
    n, first = len(start), np.flatnonzero(start)
    # One extra node that leads to every state of the start.
    indptr = np.append(matrix.indptr, matrix.nnz + len(first))
    indices = np.append(matrix.indices, first.astype(matrix.indices.dtype))
    graph = sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=(n + 1, n + 1))
    found = csgraph.breadth_first_order(graph, n, return_predecessors=False)
    mask = np.zeros(n + 1, dtype=np.bool_)
    mask[found] = True
    return mask[:n]


def policy_chain(form: StandardForm, probabilities: FloatArray, rewards: FloatArray | None = None) -> Chain:
    """Return the chain of a policy given by one probability per pair, [pairs].

    While a chain is in use, those who ask for it again get the same one with all that is known of it.
    """
    rewards = form.rewards if rewards is None else rewards
    if any(array.flags.writeable for array in (probabilities, rewards)):
        return _new_chain(form, probabilities, rewards)
    key = (id(form), id(probabilities), id(rewards))
    chain = _IN_USE.get(key)
    if chain is None:
        chain = _IN_USE[key] = _new_chain(form, probabilities, rewards)
    return chain


def _new_chain(form: StandardForm, probabilities: FloatArray, rewards: FloatArray) -> Chain:
    positive = np.flatnonzero(probabilities)
    source = (form, probabilities, rewards)
    if len(positive) == form.n_states:  # deterministic: rows are taken as they are
        chosen = positive.astype(np.int32)
        moves = Moves(ChosenRows(form, chosen).rows, form.discount, form.rest)
        return Chain(moves, rewards[chosen], form.initial, source=source)
    shape = (form.n_states, form.n_pairs)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(form.states[positive], minlength=form.n_states))])
    kernel = sparse.csr_array((probabilities[positive], positive, indptr), shape=shape)
    matrix = sparse.csr_array(kernel @ form.transitions)
    matrix.sort_indices()
    matrix.indices = matrix.indices.astype(np.int32, copy=False)
    matrix.indptr = matrix.indptr.astype(np.int32, copy=False)
    earned, mixed, widths = kernel @ rewards, kernel @ np.abs(rewards), np.diff(indptr).astype(np.float64)
    moves = Moves(rows_of(matrix), form.discount, form.rest)
    return Chain(moves, np.asarray(earned), form.initial, mixed, widths, source)


def chain_of(form: StandardForm, policy: Policy, moves: Moves) -> Chain:
    """The chain of a deterministic policy whose moves are there already."""
    source = (form, policy.pair_probabilities, form.rewards)
    chain = Chain(moves, form.rewards[policy.choice], form.initial, source=source)
    _IN_USE[tuple(map(id, source))] = chain
    return chain


def relative_values(chain: Chain, start: FloatArray | None = None) -> Bracket:
    """Solve h = r − λ + γPh up to a constant, and bracket the objective (docs/conventions.md, section 6).

    Parameters
    ----------
    chain : Chain
        It remembers the answer.
    start : FloatArray [S], optional
        Values to begin with; any will do.
    """
    if chain.bracket is None:
        chain.bracket = _relative_values(chain, start)
    return chain.bracket


def _relative_values(chain: Chain, start: FloatArray | None) -> Bracket:
    if chain.rest == 0 and chain.n_classes > 1:
        found, gain, lower, upper = bracket_gains(chain)
        return Bracket(found, np.zeros_like(found), lower, upper, gain)
    high = np.zeros(chain.n_states) if start is None else np.array(start, dtype=np.float64)
    low: FloatArray | None = None
    if chain.moves.may_settle and settle_values(chain.rows, chain.earned, high):
        best = enclose(chain, high, low)
        if best.is_fine or (best.width <= CLOSE and not chain.is_small):
            chain.moves.note_settling()
            return best
    best = enclose(chain, high, low)
    if start is not None and best.width > SWEEP_TARGET:
        blank = enclose(chain, np.zeros(chain.n_states), None)
        if blank.width < best.width:  # a start further off than nothing costs digits
            best, high = blank, blank.high
    for _ in range(10):
        step = None if best.width <= SWEEP_TARGET else _correction(chain, high, low)
        if step is None:
            break
        width = best.width
        if low is None:
            trial = enclose(chain, high + step, None)
        else:
            trial = enclose(chain, *two_sum(high, low + step))
        if trial.width < width:
            best, high = trial, trial.high
            low = None if low is None else trial.low
        if trial.width < 0.5 * width:
            continue
        if low is not None or width <= CLOSE or np.abs(high).max() <= LARGE:
            break
        low = np.zeros(chain.n_states)  # one double cannot hold values this large: go on with two
    return best


def _correction(chain: Chain, high: FloatArray, low: FloatArray | None) -> FloatArray | None:
    """One step of iterative refinement, pinned where most of the initial mass is; None where only rounding is left."""
    rho, error = chain.residuals(high, low)
    noise, rhs = float(error.max()), rho - 0.5 * (rho.min() + rho.max())
    if low is None and float(rhs.max()) <= noise <= CLOSE:  # two doubles a value have digits beyond that
        return None
    step = chain.resolvent.columns(rhs, noise=noise)
    return np.asarray(step - step[int(np.argmax(chain.initial))])


def occupancy(chain: Chain) -> FloatArray:
    """Return d^π(s), [S], summing to one; exactly zero at states that are never visited.

    Source: d = (1 − γ) μ0 (I − γP)⁻¹.
    """
    settled = None
    if chain.rest > 0 and chain.moves.may_settle:
        settled = settle_occupancy(chain.rows, chain.discount, chain.rest, chain.initial)
    if settled is not None:
        mass = settled
    elif chain.is_small or chain.rest == 0:
        source = chain.initial if chain.rest == 0 else chain.rest * chain.initial
        mass = chain.resolvent.rows(source)  # subtraction-free: componentwise accurate
    else:
        mass = _solve_occupancy(chain)
    mass = np.where(chain.visited, np.maximum(mass, 0.0), 0.0)
    return np.asarray(mass / mass.sum())


def enclose(chain: Chain, high: FloatArray, low: FloatArray | None) -> Bracket:
    """Bracket the objective of a chain from any values, in one pass over its transitions."""
    if chain.bracket is not None and chain.bracket.is_of(high, low):
        return chain.bracket
    rho, error = chain.residuals(high, low)
    base, slack = base_value(chain.initial, chain.rest, high, low)
    tail = np.zeros_like(high) if low is None else low
    return Bracket(high, tail, base + float((rho - error).min()) - slack, base + float((rho + error).max()) + slack)


def _solve_occupancy(chain: Chain) -> FloatArray:
    source, noise = chain.rest * chain.initial, 0.5 * SWEEP_TARGET / chain.n_states
    mass = np.maximum(chain.resolvent.rows(source, noise=noise), 0.0)
    mass /= mass.sum()
    transposed = sparse.csr_array(chain.matrix.T)
    surplus = np.asarray(chain.matrix.sum(axis=1)).ravel() - 1.0
    terms = np.diff(transposed.indptr) + 4.0
    for _ in range(3):
        count_transitions(transposed.nnz)
        defect = source - chain.rest * mass + chain.discount * (transposed @ mass - (1.0 + surplus) * mass)
        if float(np.abs(defect).sum()) <= max(SWEEP_TARGET, backup.EPS * float(inner_product(terms, mass))):
            break
        mass = np.maximum(mass + chain.resolvent.rows(defect, noise=noise), 0.0)
        mass /= mass.sum()
    return mass

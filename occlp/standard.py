"""The standard form of a question: maximise, with rewards shifted and scaled to size one.

All kernels and solvers work here, so that rewards of 1e±9 and offsets of 1e9 cost no digits; what
users see is converted back by the same object. A user reward is ``sign · (shift + scale · reward)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from occlp._typing import BoolArray, FloatArray, IntArray, frozen
from occlp.errors import InvalidProblem
from occlp.problem import Problem
from occlp.terms import Term


@dataclass(frozen=True, eq=False)
class Limits:
    """Constraints as rows g·d ≤ 0 (or = 0): where Σ d = 1, the bound is taken into the row.

    Attributes
    ----------
    names : tuple of str
    rows : FloatArray [k, pairs]
        ``(c − b) / unit`` for c·d ≤ b, its negative for ≥; entries in [−1, 1].
    bounds : FloatArray [k]
        Zero; under the total criterion, where Σ d is not fixed, ``b / unit``, and the rows are ``c / unit``.
    equal : BoolArray [k]
        Rows that must vanish.
    units : FloatArray [k]
        Back to the user's units.
    ranges : FloatArray [k]
        Range of each cost over the pairs, to which the feasibility tolerance refers (user's units).
    signs : FloatArray [k]
        −1 for ≥, else 1.
    """

    names: tuple[str, ...]
    rows: FloatArray  # [k, pairs]
    bounds: FloatArray  # [k]
    equal: BoolArray  # [k]
    units: FloatArray  # [k]
    ranges: FloatArray  # [k]
    signs: FloatArray  # [k]

    def subset(self, kept: IntArray) -> Limits:
        """Return only the constraints at these positions."""
        names = tuple(self.names[k] for k in kept)
        return Limits(
            names, self.rows[kept], self.bounds[kept], self.equal[kept], self.units[kept], self.ranges[kept],
            self.signs[kept],
        )  # fmt: skip

    def extended(self, names: tuple[str, ...], rows: FloatArray, ranges: FloatArray) -> Limits:
        """Return the same limits and then further ones of the kind ≥, with rows in the user's units."""
        more, limits = len(names), self
        return Limits(
            names=limits.names + names,
            rows=np.vstack([limits.rows, rows]),
            bounds=np.append(limits.bounds, np.zeros(more)),
            equal=np.append(limits.equal, np.zeros(more, dtype=np.bool_)),
            units=np.append(limits.units, np.ones(more)),
            ranges=np.append(limits.ranges, ranges),
            signs=np.append(limits.signs, -np.ones(more)),
        )

    def excess(self, occupancy: FloatArray) -> FloatArray:
        """By how much each row is broken, [k], in units of one; 0 where it is kept."""
        if not self.names:
            return np.zeros(0)
        endless = np.isinf(occupancy)  # visits that never end count where a row weighs them, and only there
        values = self.rows[:, ~endless] @ occupancy[~endless] - self.bounds
        if endless.any():
            up, down = ((sign * self.rows[:, endless] > 0).any(axis=1) for sign in (1, -1))
            values = np.select([up & down, up, down], [np.nan, np.inf, -np.inf], values)
        return np.where(self.equal, np.abs(values), np.maximum(values, 0.0))

    def feasible_prices(self, prices: FloatArray) -> FloatArray:
        """Prices with the signs that a bound needs: not negative, but free for equalities."""
        return np.where(self.equal, prices, np.maximum(prices, 0.0))


@dataclass(frozen=True, eq=False)
class ConcaveLimit:
    """A constraint f(d) ≥ b with its function bound to the problem, in the user's units."""

    name: str
    term: Term
    bound: float

    def excess(self, occupancy: FloatArray) -> float:
        """By how much it is broken; 0 where it is kept, inf outside the domain of f."""
        value = self.term.value(occupancy)
        return max(self.bound - value, 0.0) if np.isfinite(value) else math.inf


@dataclass(frozen=True, eq=False)
class StandardForm:
    """Plain arrays of a discounted question, to be maximised.

    Attributes
    ----------
    start, states : IntArray [S + 1], [pairs]
    transitions : csr_array [pairs, S]
    rewards : FloatArray [pairs]
        In [−1, 1]; one side of zero when the user's rewards do not change sign.
    discount, rest : float
        γ and 1 − γ.
    initial : FloatArray [S]
    sign, shift, scale : float
        Back to the user: ``sign · (shift + scale · x)``; the scale is a power of two.
    limits : Limits
        The linear constraints, possibly none.
    term : Term or None
        A concave term of the objective, in these units.
    concave : tuple of ConcaveLimit
        The constraints on concave utilities; prices and violations of all constraints are in the order linear, concave.
    """

    start: IntArray  # [S + 1]
    states: IntArray  # [pairs]
    transitions: Any  # csr_array [pairs, S]
    rewards: FloatArray  # [pairs]
    discount: float
    rest: float
    initial: FloatArray  # [S]
    sign: float
    shift: float
    scale: float
    reward_range: float  # max − min of the rewards, in these units
    limits: Limits
    term: Term | None = None
    concave: tuple[ConcaveLimit, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all constraints."""
        return self.limits.names + tuple(limit.name for limit in self.concave)

    @property
    def units(self) -> FloatArray:
        """User's units of every constraint per unit of its excess, [k]."""
        return np.append(self.limits.units, np.ones(len(self.concave)))

    @property
    def ranges(self) -> FloatArray:
        """What the feasibility tolerance of every constraint refers to, [k]: the range of a cost, the size of f."""
        return np.append(self.limits.ranges, [limit.term.spread for limit in self.concave])

    @property
    def signs(self) -> FloatArray:
        """−1 for ≥, else 1, [k]."""
        return np.append(self.limits.signs, -np.ones(len(self.concave)))

    def excess(self, occupancy: FloatArray) -> FloatArray:
        """By how much each constraint is broken, [k], in units of one; 0 where it is kept."""
        return np.append(self.limits.excess(occupancy), [limit.excess(occupancy) for limit in self.concave])

    def violation(self, occupancy: FloatArray) -> float:
        """The largest violation of a constraint in the user's units."""
        if not self.names:
            return 0.0
        return float((self.excess(occupancy) * self.units).max(initial=0.0))

    def kept(self, occupancy: FloatArray, tol: float) -> bool:
        """Whether every violation is within tol · range."""
        if not self.names:
            return True
        return bool((self.excess(occupancy) * self.units <= tol * self.ranges).all())

    def feasible_prices(self, prices: FloatArray) -> FloatArray:
        """Prices of all constraints with the signs that a bound needs."""
        linear = len(self.limits.names)
        return np.append(self.limits.feasible_prices(prices[:linear]), np.maximum(prices[linear:], 0.0))

    @property
    def n_states(self) -> int:
        """Number of states S."""
        return len(self.initial)

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return len(self.rewards)

    @property
    def spread(self) -> float:
        """What tolerances refer to: the range of the rewards, or the size of a term where they are constant."""
        if self.reward_range > 0 or self.term is None:
            return self.reward_range
        return self.term.spread

    def on_pairs(self, numbers: FloatArray) -> FloatArray:
        """The number of a state for each of its pairs: [S] to a new [pairs]."""
        return np.repeat(numbers, np.diff(self.start))

    def to_user(self, value: float) -> float:
        """Return an objective in the user's units and sense."""
        return self.sign * (self.shift + self.scale * value) + 0.0  # no negative zero

    def from_user(self, value: float) -> float:
        """Return a user's objective in these units."""
        return (self.sign * value - self.shift) / self.scale


def standardize(problem: Problem) -> StandardForm:
    """Return the standard form of a problem, without its term; with a utility the rewards are zero.

    Raises `InvalidProblem` when the spread of the rewards overflows.
    """
    mdp = problem.mdp
    sign = 1.0 if problem.sense == "maximize" else -1.0
    rewards = np.zeros(mdp.n_pairs) if problem.utility is not None else sign * mdp.pair_rewards
    low, high = float(rewards.min()), float(rewards.max())
    # Zeros stay exact: only an offset common to all rewards is taken off, and none from totals.
    shift = min(max(0.0, low), high) if problem.criterion != "total" else 0.0
    size = max(abs(low - shift), abs(high - shift))
    if not math.isfinite(size):
        raise InvalidProblem(f"rewards between {low:g} and {high:g} overflow double precision. Rescale them.")
    scale = math.ldexp(1.0, min(math.frexp(size)[1], 1023)) if size > 0 else 1.0
    rewards -= shift
    rewards /= scale
    return StandardForm(
        start=mdp.pairs.start,
        states=mdp.pairs.states,
        transitions=mdp.transitions,
        rewards=frozen(rewards),
        discount=problem.discount,
        rest=problem.rest,
        initial=mdp.initial,
        sign=sign,
        shift=shift,
        scale=scale,
        reward_range=(high - shift) / scale - (low - shift) / scale,
        limits=_limits(problem),
    )


def _limits(problem: Problem) -> Limits:
    limits, total = list(problem.limits.values()), problem.criterion == "total"
    bounds = np.zeros(len(limits))
    rows = np.zeros((len(limits), problem.mdp.n_pairs))
    units, ranges = np.ones(len(limits)), np.ones(len(limits))
    signs = np.array([-1.0 if limit.relation == ">=" else 1.0 for limit in limits])
    for k, limit in enumerate(limits):
        cost = problem.coefficients(limit)
        difference = signs[k] * (cost if total else cost - limit.bound)
        size = float(np.abs(difference).max())
        ranges[k] = float(cost.max() - cost.min()) or max(float(np.abs(cost).max()), 1.0)
        # A constant cost that misses its bound by rounding is not infeasible.
        units[k] = size if size > 1e-12 * ranges[k] else ranges[k]
        rows[k] = difference / units[k]
        if total:
            bounds[k] = signs[k] * limit.bound / units[k]
            ranges[k] = max(ranges[k], abs(limit.bound))
    equal = np.array([limit.relation == "==" for limit in limits], dtype=np.bool_)
    return Limits(tuple(problem.limits), frozen(rows), bounds, equal, units, ranges, signs)


def transition_graph(form: StandardForm) -> sparse.csr_array:
    """Every transition that some policy can make, [S, S]; entries are positive."""
    shape = (form.n_states, form.n_pairs)
    every = sparse.csr_array((np.ones(form.n_pairs), np.arange(form.n_pairs), form.start), shape=shape)
    return sparse.csr_array(every @ form.transitions)


def flow_matrix(form: StandardForm) -> Any:
    """F = E − γPᵀ as a csc_array [S, pairs], so that F d = (1 − γ) μ0 is the Bellman flow equation.

    The entry of a pair's own state is (1 − γ) + γ · (probability of leaving), which keeps its digits.
    """
    matrix = form.transitions
    rows = np.repeat(np.arange(form.n_pairs), np.diff(matrix.indptr))
    away = matrix.indices != form.states[rows]
    leaving = np.bincount(rows[away], weights=matrix.data[away], minlength=form.n_pairs)
    values = np.concatenate([form.rest + form.discount * leaving, -form.discount * matrix.data[away]])
    states = np.concatenate([form.states, matrix.indices[away]])
    pairs = np.concatenate([np.arange(form.n_pairs), rows[away]])
    return sparse.csc_array((values, (states, pairs)), shape=(form.n_states, form.n_pairs))

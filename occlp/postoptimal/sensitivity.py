"""How the optimum and the optimal policy answer to the numbers of the model.

With an optimal occupancy d, values V and prices y of the constraints, the optimum of a maximisation is
the Lagrangian d·(r − Cᵀy) + b·y + V·((1 − γ) μ0 − F d), whose partial derivatives in the model's
numbers are the derivatives of the optimum where d, V and y are unique (Danskin's theorem; Bertsekas 1999,
proposition B.25). They are the same for V + c.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from occlp._typing import FloatArray, frozen
from occlp.errors import InvalidProblem
from occlp.model import MDP
from occlp.postoptimal.face import OptimalFace, best_on_face, optimal_face
from occlp.postoptimal.prices import OneSided, bound_derivatives
from occlp.postoptimal.ranging import RewardRanging
from occlp.problem import Problem, as_problem
from occlp.result import Result

#: Occupancies that differ by more than this are different.
DISTINCT = 1e-9


@dataclass(frozen=True, eq=False, kw_only=True)
class Sensitivity:
    """What moves the optimum, and what would change the optimal policy; user's units and sense.

    Derivatives are of ``result.objective``, the normalised optimum. They are two-sided where d* is
    unique (`unique`); elsewhere they are those of the returned policy, which bound the one-sided ones: the
    optimum of a maximisation rises at least that fast, and falls at most that fast.

    Attributes
    ----------
    result : Result
    tol : float
        Advantages down to −tol · spread count as zero.
    action_gaps : FloatArray [S]
        By how much the second-best action of each state falls short of the best, on the return scale;
        0 at a tie, inf where there is one action. With constraints: of the rewards less their prices.
    optimal_actions : dict of state to list of actions
        All actions that an optimal policy may take, by label. With constraints an optimal policy may be
        bound to mix them in certain proportions.
    initial : FloatArray [S]
        Derivative of the optimum as the initial distribution moves towards each state, from μ0 to
        (1 − ε) μ0 + ε e_s: (1 − γ) (V(s) − μ0·V).
    discount : float
        Derivative in γ; NaN under the average criterion.
    face : OptimalFace
        What the analysis rests on: exact values, prices and advantages, in the units of the standard form.
    """

    result: Result
    tol: float
    action_gaps: FloatArray  # [S]
    optimal_actions: Mapping[Hashable, list[Hashable]]
    initial: FloatArray  # [S]
    discount: float
    face: OptimalFace = field(repr=False)

    @property
    def unique(self) -> bool:
        """Whether d* is the only optimal occupancy (within the tolerance)."""
        return self._other is None

    @property
    def why_not_unique(self) -> str:
        """A sentence on what else would be optimal; empty where d* is unique."""
        if self._other is None:
            return ""
        difference = np.abs(self._other - self.face.pair_occupancy)
        pair = int(np.argmax(difference))
        state, action = self.face.describe(pair)
        return (
            f"another optimal policy spends {self._other[pair]:.6g} instead of {self.face.pair_occupancy[pair]:.6g} "
            f"of the time on action {action!r} in state {state!r}."
        )

    @cached_property
    def bounds(self) -> Mapping[str, OneSided]:
        """Derivatives from both sides in the bound of each constraint; equal away from degeneracy."""
        return bound_derivatives(self.face)

    def reward_range(self, state: Hashable, action: Hashable) -> tuple[float, float]:
        """The interval of one reward in which the returned policy stays optimal, all else being equal.

        Parameters
        ----------
        state, action : label

        Returns
        -------
        (float, float)
            Ends of the interval, in the units of the reward; infinite where there is no end.

        Raises
        ------
        Unsupported
            With constraints.
        InvalidProblem
            For a pair that does not exist, and when the returned policy is not exactly optimal.
        """
        return self._interval(self._pair(state, action))

    def reward_ranges(self, pairs: Iterable[tuple[Hashable, Hashable]] | None = None) -> dict[Any, tuple[float, float]]:
        """`reward_range` of several pairs (default: all, one linear solve or a few MDPs each)."""
        if pairs is None:
            count = self.result.pairs.n_pairs
            return {self.face.describe(k): self._interval(k) for k in range(count)}
        return {(state, action): self.reward_range(state, action) for state, action in pairs}

    def transition(self, state: Hashable, action: Hashable) -> FloatArray:
        """Derivative in P(s' | state, action) for each s', [S], the probability of staying taking the difference.

        It is γ d(s, a) (V(s') − V(s)).
        """
        face, pair = self.face, self._pair(state, action)
        form, here = face.form, int(face.form.states[pair])
        step = (face.values - face.values[here]) + (face.values_low - face.values_low[here])
        return np.asarray(form.sign * form.scale * form.discount * face.pair_occupancy[pair] * step + 0.0)

    def transitions(self, direction: Any) -> float:
        """Derivative as P moves in a direction: Σ d(s, a) γ Σ_s' direction(s, a, s') V(s').

        Parameters
        ----------
        direction : array or sparse [pairs, S']
            Rows that sum to zero, in the order of the model's pairs.

        Raises
        ------
        InvalidProblem
            For a wrong shape, or a row that does not sum to zero.
        """
        face, form = self.face, self.face.form
        moved = sparse.csr_array(direction)
        if moved.shape != (form.n_pairs, form.n_states):
            raise InvalidProblem(f"a direction is [pairs, S] = [{form.n_pairs}, {form.n_states}], not {moved.shape}.")
        sums = np.abs(np.asarray(moved.sum(axis=1)).ravel())
        if sums.max(initial=0.0) > 1e-9 * max(1.0, float(abs(moved).max())):
            worst = self.result.pairs.describe(int(np.argmax(sums)))
            raise InvalidProblem(f"rows of a direction sum to zero; that of {worst} sums to {sums.max():.3g}.")
        change = moved @ face.values + moved @ face.values_low
        return float(form.sign * form.scale * form.discount * (face.pair_occupancy @ change)) + 0.0

    @cached_property
    def _ranging(self) -> RewardRanging:
        return RewardRanging(self.face)

    @cached_property
    def _other(self) -> FloatArray | None:
        return other_optimum(self.face, self.tol)

    def _interval(self, pair: int) -> tuple[float, float]:
        form = self.face.form
        reward = float(self.face.problem.mdp.pair_rewards[pair])
        fall, rise = self._ranging.interval(pair)
        ends = (float(reward + form.sign * form.scale * step) for step in (fall, rise))
        low, high = sorted(ends)
        return low, high

    def _pair(self, state: Hashable, action: Hashable) -> int:
        pairs = self.result.pairs
        pair = pairs.pair(pairs.state(state), pairs.action(action))
        if pair is None:
            raise InvalidProblem(f"action {action!r} is not admissible in state {state!r}.")
        return pair


def sensitivity(problem: Problem | MDP, result: Result, *, tol: float = 1e-9) -> Sensitivity:
    """Analyse a certified optimum: reward ranges, action gaps, all optimal actions, derivatives.

    Parameters
    ----------
    problem : Problem or MDP
        A linear question, with or without constraints.
    result : Result
        Its certified answer.
    tol : float
        Advantages down to −tol · spread count as zero.

    Returns
    -------
    Sensitivity
        Its costly parts (`unique`, `bounds`, `reward_ranges`) are computed when they are asked for.

    Raises
    ------
    InvalidProblem
        When the result is not certified, or answers another question.
    Unsupported
        With a concave term in the objective.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> analysis = oc.sensitivity(mdp, oc.solve(mdp))
    >>> low, high = analysis.reward_range("worn", "repair")
    >>> f"stays optimal while repairing a worn machine pays at most {high:.4f}"
    'stays optimal while repairing a worn machine pays at most -5.8215'
    """
    problem = as_problem(problem)
    face = optimal_face(problem, result)
    form, pairs = face.form, problem.mdp.pairs
    factor = form.sign * form.scale
    values = face.values + face.values_low
    optimal = face.optimal_pairs(tol)
    actions: dict[Hashable, list[Hashable]] = {state: [] for state in problem.mdp.states}
    for pair in np.flatnonzero(optimal):
        actions[pairs.state_name(int(pairs.states[pair]))].append(pairs.action_name(int(pairs.actions[pair])))
    return Sensitivity(
        result=result,
        tol=tol,
        action_gaps=frozen(form.scale * _action_gaps(face)),
        optimal_actions=actions,
        initial=frozen(factor * form.rest * (values - form.initial @ values) + 0.0),
        discount=float(factor * _discount_derivative(face)) + 0.0 if form.rest else float("nan"),
        face=face,
    )


def other_optimum(face: OptimalFace, tol: float) -> FloatArray | None:
    """An optimal occupancy that differs from the returned one, [pairs]; None where there is none.

    Where every state that is visited has one optimal action there can be none. Otherwise generic weights
    are minimised and maximised on the optimal face: they are constant there only if it is a point.
    """
    optimal = face.optimal_pairs(tol)
    choices = np.add.reduceat(optimal.astype(np.int64), face.form.start[:-1])
    if (choices[face.visited] == 1).all():
        return None
    weights = np.random.default_rng(20).random(face.form.n_pairs)
    far, farthest = None, DISTINCT
    for sign in (1.0, -1.0):
        question, kept = face.restricted(tol, sign * weights)
        found = np.zeros(face.form.n_pairs)
        found[kept] = best_on_face(question).pair_occupancy
        distance = float(np.abs(found - face.pair_occupancy).max())
        if distance > farthest:
            far, farthest = found, distance
    return far


def _action_gaps(face: OptimalFace) -> FloatArray:
    """Best less second-best advantage of each state, [S], standard form."""
    form, first = face.form, face.form.start[:-1]
    best = np.flatnonzero(face.advantages == 0)
    chosen = best[np.searchsorted(best, first)]
    others = face.advantages.copy()
    others[chosen] = -np.inf
    return np.asarray(-np.maximum.reduceat(others, first) + np.zeros(form.n_states))


def _discount_derivative(face: OptimalFace) -> float:
    """Derivative in γ, standard form: d·PV − μ0·V, and what the return scale in the constraints adds."""
    form, problem = face.form, face.problem
    mass, matrix = face.pair_occupancy, form.transitions
    rows = np.repeat(np.arange(form.n_pairs), np.diff(matrix.indptr))
    here = form.states[rows]
    # P(V − V(s)), by differences along the transitions: large common parts cancel exactly.
    high, low = face.values, face.values_low
    steps = (high[matrix.indices] - high[here]) + (low[matrix.indices] - low[here])
    values = face.values + face.values_low
    change = float((mass[rows] * matrix.data) @ steps) + float((mass @ values[form.states]) - form.initial @ values)
    for k, limit in enumerate(problem.limits.values()):
        growth = float(mass @ limit.expression.total_part(problem.mdp)) / form.rest**2
        change -= float(face.prices[k] * form.limits.signs[k] / form.limits.units[k]) * growth
    return change

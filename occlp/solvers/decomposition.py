"""Dantzig-Wolfe decomposition of constrained problems: each step is an ordinary MDP.

The occupancy polytope is the hull of the occupancies of deterministic policies. A small master program
mixes those found so far so that the constraints hold; its prices y make the next MDP, with rewards
r − Gᵀy, whose optimal policy is the next column. Any y ≥ 0 bounds the optimum from above (weak
duality), so the method knows when it is done; with the rewards left out the same bound proves that
the constraints cannot be met. Sources: Dantzig and Wolfe (1960); Altman (1999), chapter 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import linprog, nnls

from occlp._typing import AnyArray, FloatArray
from occlp.certificate import UpperBound, bound_above, to_multipliers
from occlp.chain import Bracket, occupancy, policy_chain
from occlp.evaluation import formulate
from occlp.model import Pairs
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.relaxation import Values
from occlp.solvers.base import LINEAR_ONLY, InfeasibleProof, Iterate, SolverFailure, Start
from occlp.solvers.policy_iteration import policy_iterations
from occlp.standard import StandardForm

#: Rounds of sweeps between the exact evaluations of a priced MDP.
ROUNDS = 20
#: Violations (rows have size one) up to which a mixture counts as feasible: rounding, not tolerance.
ROUNDING = 1e-13


@dataclass(frozen=True)
class Decomposition:
    """Column generation over deterministic policies, for any number of linear constraints.

    Parameters
    ----------
    max_columns : int
        The method gives up after this many policies.

    Notes
    -----
    The answer is a mixture of at most k + 1 deterministic policies for k constraints, turned into the
    one stationary policy that has the mixture's occupancy.
    """

    max_columns: int = 2000

    @property
    def promises_tol(self) -> bool:
        """True: a missed tolerance is an error."""
        return True

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if problem.regularizer is not None or problem.utility is not None:
            return "it answers linear objectives; OccupancyProgram answers the others"
        if problem.criterion == "total":
            return "it mixes discounted and average occupancies; OccupancyProgram answers totals"
        return LINEAR_ONLY if problem.concave_limits else None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the best mixture after each column."""
        run = self.feasible_start(problem)
        for _ in range(self.max_columns):
            master = run.solve_master()
            gained = run.add(master.prices, weight=1.0)
            yield run.iterate(master)
            if gained <= ROUNDING:
                return
        raise SolverFailure(f"no optimum was reached with max_columns={self.max_columns} policies.")

    def feasible_start(self, problem: Problem) -> _Generation:
        """Return columns of which some mixture keeps the constraints; raises `InfeasibleProof` where none can."""
        form = formulate(problem)
        run = _Generation(form, problem.mdp.pairs)
        run.add(np.zeros(len(form.limits.names)), weight=1.0)
        self.reach_feasibility(run)
        return run

    def reach_feasibility(self, run: _Generation) -> None:
        """Add columns until some mixture keeps the constraints; raise a proof where none can."""
        for _ in range(self.max_columns):
            excess, prices = run.solve_feasibility()
            if excess <= ROUNDING:
                run.slack = max(excess, 0.0)
                return
            bound = run.add_for_feasibility(prices)
            tight = excess + bound.value <= 1e-9 or run.stalled  # the smallest relaxation is known, too
            if bound.value < 0 and tight:
                raise InfeasibleProof(bound, run.closest_policy())
            if run.stalled:
                run.slack = excess
                return
        raise SolverFailure(f"feasibility was not decided with max_columns={self.max_columns} policies.")


def minimal_conflict(problem: Problem, proof: InfeasibleProof) -> list[str]:
    """Return names of constraints that cannot be kept together, although all but any one of them can.

    Deletion filter (Chinneck and Dravnieks 1991) over the constraints that the proof uses.
    """
    form, pairs = formulate(problem), problem.mdp.pairs
    kept = np.flatnonzero(proof.bound.prices)
    for candidate in kept.copy():
        fewer = kept[kept != candidate]
        run = _Generation(replace(form, limits=form.limits.subset(fewer)), pairs)
        run.add(np.zeros(len(fewer)), weight=1.0)
        try:
            Decomposition().reach_feasibility(run)
        except InfeasibleProof:
            kept = fewer
    return [form.limits.names[k] for k in kept]


@dataclass(frozen=True, eq=False)
class _Master:
    """Optimal mixture of the columns found so far, and the prices of the rows."""

    weights: FloatArray  # [columns]
    prices: FloatArray  # [k]
    objective: float


class _Generation:
    """Columns (deterministic policies with their occupancies) and the programs over them."""

    def __init__(self, form: StandardForm, pairs: Pairs) -> None:
        self.form, self.pairs = form, pairs
        self.policies: list[Policy] = []
        self.occupancies: list[FloatArray] = []  # [pairs] each
        self.slack = 0.0
        self.stalled = False
        self.values: Values = (np.zeros(form.n_states), None)
        self._warm: FloatArray | None = None

    @property
    def rewards(self) -> FloatArray:
        """Objective of each column."""
        return np.array([d @ self.form.rewards for d in self.occupancies])

    @property
    def excesses(self) -> FloatArray:
        """Rows of each column, [k, columns]."""
        return self.form.limits.rows @ np.column_stack(self.occupancies)

    def add(self, prices: FloatArray, weight: float) -> float:
        """Add the best policy at these prices; returns by how much its bound exceeds the master's objective."""
        rewards = weight * self.form.rewards - prices @ self.form.limits.rows
        policy, bracket, mass = self._best(rewards)
        self.values = (bracket.high, bracket.low)
        value = float(mass @ rewards)
        known = max((float(d @ rewards) for d in self.occupancies), default=-np.inf)
        self.stalled = value <= known + 1e-15 * (1.0 + float(np.abs(prices).sum()))
        if not self.stalled:
            self.policies.append(policy)
            self.occupancies.append(mass)
        return value - known

    def add_for_feasibility(self, prices: FloatArray) -> UpperBound:
        """Add the policy that breaks the priced rows least; returns the bound on how little that can be."""
        self.add(prices, weight=0.0)
        bare = replace(self.form, rewards=np.zeros(self.form.n_pairs), term=None)
        return bound_above(bare, self.values, prices)

    def solve_master(self) -> _Master:
        """Maximise the mixture's objective with every row at most the slack."""
        rewards, rows, limits = self.rewards, self.excesses, self.form.limits
        equal = limits.equal
        inequalities: dict[str, Any] = {"A_ub": rows[~equal], "b_ub": np.full(int((~equal).sum()), self.slack)}
        answer = linprog(
            -rewards, **(inequalities if (~equal).any() else {}),
            A_eq=np.vstack([np.ones(len(rewards)), rows[equal]]), b_eq=np.append(1.0, np.zeros(equal.sum())),
            bounds=(0, None), method="highs-ds",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )  # fmt: skip
        if answer.x is None:
            raise SolverFailure(f"the master program failed: {answer.message}")
        prices = np.zeros(len(equal))
        if (~equal).any():
            prices[~equal] = -answer.ineqlin.marginals
        prices[equal] = -answer.eqlin.marginals[1:]
        return self._sharpen(answer.x, prices)

    def solve_feasibility(self) -> tuple[float, FloatArray]:
        """Smallest t such that a mixture breaks no row by more than t, with the prices that prove it."""
        rows, equal = self.excesses, self.form.limits.equal
        both = np.vstack([rows, -rows[equal]])
        if not len(both):
            return 0.0, np.zeros(0)
        columns = rows.shape[1]
        answer = linprog(
            np.append(np.zeros(columns), 1.0),
            A_ub=np.column_stack([both, -np.ones(len(both))]), b_ub=np.zeros(len(both)),
            A_eq=np.append(np.ones(columns), 0.0)[None, :], b_eq=[1.0],
            bounds=[(0, None)] * columns + [(None, None)], method="highs-ds",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )  # fmt: skip
        if answer.x is None:
            raise SolverFailure(f"the feasibility program failed: {answer.message}")
        marginals = -answer.ineqlin.marginals
        prices = marginals[: len(rows)].copy()
        prices[equal] -= marginals[len(rows) :]
        weights = np.maximum(answer.x[:columns], 0.0)
        weights /= weights.sum()
        self.closest = weights
        return float((both @ weights).max()), prices

    def closest_policy(self) -> Policy:
        """The policy of the mixture that breaks the constraints least."""
        return self._policy(self.closest)

    def iterate(self, master: _Master) -> Iterate:
        """The mixture as one stationary policy, with the values and prices of the last MDP."""
        form = self.form
        factor = form.sign * form.scale
        return Iterate(
            self._policy(master.weights),
            values=factor * self.values[0],
            values_low=None if self.values[1] is None else factor * self.values[1],
            multipliers=to_multipliers(form, form.limits.feasible_prices(master.prices)),
        )

    def _policy(self, weights: FloatArray) -> Policy:
        mixture = np.column_stack(self.occupancies[: len(weights)]) @ weights
        return Policy.from_occupancy(self.pairs, mixture, self.policies[-1])

    def _best(self, rewards: FloatArray) -> tuple[Policy, Bracket, FloatArray]:
        """Solve the MDP with other rewards, scaled to size one; warm from the last values."""
        size = float(np.abs(rewards).max()) or 1.0
        form = replace(self.form, rewards=rewards / size)
        start = None if self._warm is None else self._warm / size
        for policy, bracket in policy_iterations(form, self.pairs, ROUNDS, values=start):
            found = policy, bracket
        policy, bracket = found
        scaled = Bracket(size * bracket.high, size * bracket.low, size * bracket.lower, size * bracket.upper)
        self._warm = scaled.high
        chain = policy_chain(form, policy.pair_probabilities)
        return policy, scaled, occupancy(chain)[form.states] * policy.pair_probabilities

    def _sharpen(self, weights: FloatArray, prices: FloatArray) -> _Master:
        """Recompute a vertex from its basis: the master's own tolerance is 1e-10, this is rounding."""
        rewards, rows, limits = self.rewards, self.excesses, self.form.limits
        tight = np.flatnonzero(limits.equal | (np.abs(prices) > 1e-9))
        target = np.append(1.0, np.where(limits.equal[tight], 0.0, self.slack))
        system = np.vstack([np.ones(len(rewards)), rows[tight]])
        basic: AnyArray = np.flatnonzero(weights > 1e-9)
        exact = np.linalg.lstsq(system[:, basic], target, rcond=None)[0]
        if (exact < 0).any() or np.abs(system[:, basic] @ exact - target).max() > ROUNDING / 100:
            basic, exact = self._with_smaller_weights(weights, prices, system, target)
        dual = np.linalg.lstsq(system[:, basic].T, rewards[basic], rcond=None)[0]
        refined, sharp = np.zeros_like(weights), np.zeros_like(prices)
        refined[basic], sharp[tight] = exact, dual[1:]
        worst = float(np.where(limits.equal, np.abs(rows @ refined), rows @ refined).max(initial=0.0))
        if (exact < -1e-12).any() or worst > self.slack + 1e-12 or abs(refined.sum() - 1.0) > 1e-12:
            refined = np.maximum(weights, 0.0)
        refined = np.maximum(refined, 0.0)
        refined /= refined.sum()
        if np.abs(sharp - prices).max(initial=0.0) > 1e-6 * (1.0 + np.abs(prices).max(initial=0.0)):
            sharp = prices
        return _Master(refined, limits.feasible_prices(sharp), float(rewards @ refined))

    def _with_smaller_weights(
        self, weights: FloatArray, prices: FloatArray, system: FloatArray, target: FloatArray
    ) -> tuple[AnyArray, FloatArray]:
        """Columns and weights that meet the tight rows, from all that are optimal at the prices.

        A budget may be met only with a weight that the master's tolerance leaves out.
        """
        short = prices @ self.excesses - self.rewards
        size = 1.0 + float(np.abs(prices).sum())
        columns = np.flatnonzero((weights > 1e-9) | (short - short.min() <= 1e-9 * size))
        exact, _ = nnls(system[:, columns], target)
        return columns[exact > 0], exact[exact > 0]

"""Soft policy iteration: Newton's method on the soft Bellman equation, and on the prices of constraints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from occlp._typing import FloatArray
from occlp.bounds.relaxation import Values
from occlp.bounds.upper import priced
from occlp.certificate import to_multipliers, to_prices
from occlp.chains.chain import Chain, occupancy, policy_chain, relative_values
from occlp.evaluation import formulate
from occlp.kernels.softmax import relax_soft_values
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.residuals import pair_residuals
from occlp.result import Result
from occlp.solvers.base import LINEAR_ONLY, Iterate, Start, start_policy
from occlp.solvers.decomposition import Decomposition
from occlp.solvers.policy_iteration import solve_rewards
from occlp.standard import StandardForm
from occlp.terms import ConditionalKL, PolicyEntropy, PolicyTerm

#: Gauss–Seidel sweeps of a round.
SWEEPS = 8
#: Spread of the residual at which sweeps end, and the share of the first one that is good enough to go on with.
FLAT, NEARLY_FLAT = 1e-14, 1e-3
#: Newton steps on the prices at each strength.
PRICE_STEPS = 60
#: A step on the prices changes no advantage by more than this many strengths.
REACH = 8.0
#: Halvings of a step before it is given up.
HALVINGS = 40


@dataclass(frozen=True)
class SoftPolicyIteration:
    """Policy iteration for `ConditionalKL` and `PolicyEntropy`.

    Parameters
    ----------
    warm_up : int
        Rounds of Gauss–Seidel sweeps of soft value iteration at most, before the first exact evaluation.
    max_improvements : int
        The method gives up after this many.

    Notes
    -----
    π ∝ base exp(Q / τ) with Q exact for the last policy, its term included: monotone, and quadratically
    convergent as Newton's method on V = τ log Σ_a base exp((r + γPV) / τ) (Geist, Scherrer and Pietquin
    2019; Cen et al. 2022 for its linear rate as a natural policy gradient). It begins with the values of the
    optimum without the term, which is found in less time.

    With constraints the optimum of the priced rewards is a smooth convex function of the prices y. Its
    gradient is minus the constraints' value, its second derivative Σ d A_k A_l / τ with A_k the advantages
    of constraint k: Newton's method, with continuation in τ.
    """

    warm_up: int = 40
    max_improvements: int = 1000

    @property
    def promises_tol(self) -> bool:
        """True: a missed tolerance is an error."""
        return True

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if not isinstance(problem.regularizer, ConditionalKL | PolicyEntropy):
            return "it is for ConditionalKL and PolicyEntropy; oc.solve without a solver chooses for the others"
        return LINEAR_ONLY if problem.concave_limits else None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield after each exact evaluation; with constraints, after each change of the prices."""
        form = formulate(problem)
        assert isinstance(form.term, PolicyTerm)
        if problem.limits:
            yield from self._with_prices(problem, form, form.term, start)
            return
        policy = start_policy(problem, start)
        probabilities = None if policy is None else policy.pair_probabilities
        if probabilities is not None and form.term.pair_bonus(probabilities) is None:
            probabilities = None  # infinitely bad
        values = np.zeros(form.n_states) if probabilities is not None else _hard_values(problem, form, form.term)
        for soft in self._improve(form, form.term, form.rewards, probabilities, values):
            yield _iterate(problem, form, soft)

    def _improve(
        self,
        form: StandardForm,
        term: PolicyTerm,
        rewards: FloatArray,
        probabilities: FloatArray | None,
        values: FloatArray,
    ) -> Iterator[_Soft]:
        """Improve until nothing is gained beyond rounding; without a policy, begin with sweeps from the values."""
        if probabilities is None:
            values = self._sweep(form, term, rewards, values)
            probabilities = term.policy(pair_residuals(form, values, None, rewards)[0])
        last = -np.inf
        for _ in range(self.max_improvements):
            bonus = term.pair_bonus(probabilities)
            assert bonus is not None
            chain = policy_chain(form, probabilities, rewards + bonus)
            bracket = relative_values(chain, values)
            values, low = bracket.high, bracket.low if bracket.low.any() else None
            yield _Soft(probabilities, chain, (values, low), bracket.lower)
            if bracket.lower - last <= bracket.upper - bracket.lower:  # no progress beyond rounding
                return
            last = bracket.lower
            probabilities = term.policy(pair_residuals(form, values, low, rewards)[0])

    def _sweep(self, form: StandardForm, term: PolicyTerm, rewards: FloatArray, values: FloatArray) -> FloatArray:
        """Values near the soft optimum, [S]: of those met on the way the ones with the flattest residual.

        The level that sweeps leave out is the mean residual where chains mix fast, and that of the best state where
        all paths lead there in the end.
        """
        matrix, best, least = form.transitions, values, np.inf
        rows = (form.start, matrix.indptr, matrix.indices, matrix.data, rewards, term.base, term.strength)
        for mixes_fast in (True, False):
            now, spreads = values, [np.inf]
            for _ in range(self.warm_up + 1):
                now = now - now.mean()
                gain = term.soft_maximum(pair_residuals(form, now, None, rewards)[0])
                spread = float(gain.max() - gain.min())
                if spread < least:
                    best, least = now, spread
                if spread <= FLAT or (mixes_fast and spread > 0.5 * spreads[-1]):
                    break
                spreads.append(spread)
                level = float(gain.mean() if mixes_fast else gain[int(np.argmax(now))])
                now = now.copy()
                relax_soft_values(SWEEPS, *rows, form.discount, form.rest, level, now)
            if least <= max(FLAT, NEARLY_FLAT * spreads[min(1, len(spreads) - 1)]):
                break
        return best

    def _with_prices(self, problem: Problem, form: StandardForm, term: PolicyTerm, start: Start) -> Iterator[Iterate]:
        """Newton's method on the prices, at strengths from the size of the rewards down to the one asked for."""
        Decomposition().require_feasible(problem)  # raises a proof where no policy keeps the constraints
        prices = np.zeros(len(form.limits.names))
        strengths = [term.strength]
        if isinstance(start, Result):
            prices = form.limits.feasible_prices(to_prices(form, start.certificate.multipliers))
        else:
            while strengths[0] < 0.5 * form.reward_range:
                strengths.insert(0, 4.0 * strengths[0])
        values = np.zeros(form.n_states)
        for strength in strengths:
            final = strength == term.strength
            dual = _Dual(self, form, term.with_strength(strength))
            point = dual.at(prices, values)
            for _ in range(PRICE_STEPS):
                if final:
                    yield _iterate(problem, form, point.soft, point.prices)
                trial = dual.step(point, 1e-28 if final else 1e-4 * strength)
                if trial is None:
                    break
                point = trial
            prices, values = point.prices, point.soft.values[0]


@dataclass(frozen=True, eq=False)
class _Soft:
    """A policy, its chain with the term in the rewards, its values, and what it earns."""

    probabilities: FloatArray  # [pairs]
    chain: Chain
    values: Values
    lower: float


@dataclass(frozen=True, eq=False)
class _Point:
    """Prices, the soft optimum of the priced rewards, and the derivatives of its value."""

    prices: FloatArray  # [k]
    soft: _Soft
    gradient: FloatArray  # [k]
    hessian: FloatArray  # [k, k]
    advantages: FloatArray  # [k, pairs]


class _Dual:
    """The soft optimum as a function of the prices, to be minimised."""

    def __init__(self, method: SoftPolicyIteration, form: StandardForm, term: PolicyTerm) -> None:
        self.method, self.form, self.term = method, form, term

    def optimum(self, prices: FloatArray, values: FloatArray) -> _Soft:
        """The soft optimum of the rewards less the prices of the constraints."""
        rewards = priced(self.form, prices)[0]
        *_, last = self.method._improve(self.form, self.term, rewards, None, values)
        return last

    def at(self, prices: FloatArray, values: FloatArray, soft: _Soft | None = None) -> _Point:
        """The optimum with its derivatives."""
        form, soft = self.form, self.optimum(prices, values) if soft is None else soft
        probabilities, first = soft.probabilities, form.start[:-1]
        mass = occupancy(soft.chain)[form.states] * probabilities
        advantages = np.empty_like(form.limits.rows)
        for k, row in enumerate(form.limits.rows):
            bracket = relative_values(soft.chain.with_rewards(form, probabilities, row))
            rho, _ = pair_residuals(form, bracket.high, bracket.low, row)
            advantages[k] = rho - np.add.reduceat(rho * probabilities, first)[form.states]
        hessian = (advantages * mass) @ advantages.T / self.term.strength
        return _Point(prices, soft, -(form.limits.rows @ mass), hessian, advantages)

    def step(self, point: _Point, enough: float) -> _Point | None:
        """A Newton step with a line search; None where the decrease promised is below `enough`."""
        direction = self._direction(point)
        slope = -float(point.gradient @ direction)
        moved = float(np.abs(direction @ point.advantages).max())
        length = min(1.0, REACH * self.term.strength / moved) if moved > 0 else 1.0
        for _ in range(HALVINGS):
            if not slope * length > enough:
                return None
            prices = self.form.limits.feasible_prices(point.prices + length * direction)
            soft = self.optimum(prices, point.soft.values[0])
            # Near the optimum the decrease drowns in rounding: the full step is then the right one.
            decreased = soft.lower <= point.soft.lower - 1e-4 * length * slope
            if decreased or length * slope <= 1e-13 * (1.0 + abs(soft.lower)):
                return self.at(prices, soft.values[0], soft)
            length *= 0.5
        return None

    def _direction(self, point: _Point) -> FloatArray:
        """To the least of the quadratic model among prices of the right sign, [k], by a search for those at zero."""
        equal, prices, gradient = self.form.limits.equal, point.prices, point.gradient
        diagonal = np.diag(point.hessian)
        floor = 1e-12 * diagonal.max() + 1e-20
        hessian = point.hessian + np.diag(np.maximum(floor - diagonal, 1e-13 * diagonal))
        direction = np.zeros(len(prices))
        zero = ~equal & (prices == 0) & (gradient >= 0)
        for _ in range(3 * len(prices) + 3):
            direction[zero] = -prices[zero]
            fixed = gradient + hessian[:, zero] @ direction[zero]
            direction[~zero] = np.linalg.solve(hessian[np.ix_(~zero, ~zero)], -fixed[~zero])
            below = ~zero & ~equal & (prices + direction < 0)
            leaving = np.where(zero, gradient + hessian @ direction, 0.0)
            if below.any():
                zero = zero | below
            elif leaving.min() < 0:
                zero[int(np.argmin(leaving))] = False
            else:
                break
        return direction


def _hard_values(problem: Problem, form: StandardForm, term: PolicyTerm) -> FloatArray:
    """Values to begin with, [S]: those of the optimum without the term, unless that is far from the one with it."""
    if term.strength >= form.reward_range or not (term.base > 0).all():
        return np.zeros(form.n_states)
    _, high, _ = solve_rewards(form, problem.mdp.pairs, form.rewards)
    return high


def _iterate(problem: Problem, form: StandardForm, soft: _Soft, prices: FloatArray | None = None) -> Iterate:
    factor, (high, low) = form.sign * form.scale, soft.values
    multipliers = {} if prices is None else to_multipliers(form, prices)
    policy = Policy.from_pairs(problem.mdp.pairs, soft.probabilities)
    return Iterate(policy, factor * high, None if low is None else factor * low, multipliers)

"""Dynamic programming: value iteration, policy iteration and what lies between them.

The discounted values V and the occupancy of the greedy policy are the primal-dual optimal pair of the
occupancy program: a deterministic policy is a basis of it (Puterman 2005, section 6.9).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from occlp._typing import BoolArray, FloatArray, IntArray
from occlp.chain import Bracket, Sweeps, policy_chain, relative_values
from occlp.errors import InvalidProblem, Unsupported
from occlp.evaluation import formulate, pair_residuals
from occlp.kernels import backup
from occlp.model import Pairs
from occlp.multichain import has_several
from occlp.parallel import run_rows
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.base import Iterate, Start, start_policy
from occlp.solvers.multichain_iteration import multichain_iterations
from occlp.solvers.total_iteration import total_policy_iterations, total_value_iterations
from occlp.standard import StandardForm

#: Exact evaluations without progress (within rounding) after which policy iteration ends.
MOST_STALLED = 5
#: Undiscounted policies with several recurrent classes after which the method gives up.
MOST_SPLIT = 20
#: After so many rounds that left more than this share of the spread, sweeps are Gauss–Seidel.
SLOW, MOST_SLOW = 0.5, 3
#: Residuals beyond this (rewards have size one) show that Gauss–Seidel sweeps do not settle.
WILD = 1e6


@dataclass(frozen=True)
class _DynamicProgramming:
    """What the three methods share: they answer plain questions and keep their promise."""

    @property
    def promises_tol(self) -> bool:
        """True: a missed tolerance is an error."""
        return True

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if problem.regularizer is not None or problem.utility is not None:
            return "it answers linear objectives; see SoftPolicyIteration, KLDual and OccupancyProgram"
        if problem.constraints:
            return "it cannot keep constraints; Decomposition and OccupancyProgram can"
        return None


@dataclass(frozen=True)
class ValueIteration(_DynamicProgramming):
    """Value iteration, V ← max_a r + γPV, with greedy policies.

    Parameters
    ----------
    max_sweeps : int
        The method gives up after this many sweeps.

    Notes
    -----
    It stops on the certificate, whose bounds use the spread of the last change (MacQueen 1966;
    Puterman 2005, section 6.6.3), so it is the mixing of the chain that counts and not γ alone.
    """

    max_sweeps: int = 1_000_000

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield after each sweep."""
        if problem.criterion == "total":
            yield from total_value_iterations(problem, start, self.max_sweeps)
            return
        yield from _modified(problem, start, evaluation_sweeps=0, rounds=self.max_sweeps)


@dataclass(frozen=True)
class ModifiedPolicyIteration(_DynamicProgramming):
    """Modified policy iteration: some sweeps with the greedy policy between two improvements.

    Parameters
    ----------
    evaluation_sweeps : int
        Sweeps with the policy fixed after each improvement.
    max_improvements : int
        The method gives up after this many improvements.

    Notes
    -----
    Source: Puterman and Shin (1978); Puterman 2005, section 6.5.
    """

    evaluation_sweeps: int = 20
    max_improvements: int = 100_000

    def __post_init__(self) -> None:
        if self.evaluation_sweeps < 0:
            raise InvalidProblem(f"evaluation_sweeps={self.evaluation_sweeps} must not be negative.")

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield after each improvement."""
        if problem.criterion == "total":
            yield from total_value_iterations(problem, start, self.max_improvements)
            return
        yield from _modified(problem, start, evaluation_sweeps=self.evaluation_sweeps, rounds=self.max_improvements)


@dataclass(frozen=True)
class PolicyIteration(_DynamicProgramming):
    """Policy iteration with exact evaluations, and rounds of modified policy iteration between them.

    Parameters
    ----------
    warm_up : int
        Most rounds of modified policy iteration (4 sweeps each, Gauss–Seidel where the chain mixes slowly)
        before each exact evaluation; not used when a run resumes from a policy. 0 gives the textbook method.
    bias : bool
        Average criterion: whether to look for the policy of best bias among those of best gain.

    Notes
    -----
    Howard (1960). Where averages may depend on the start, the gains of all states are improved first, then the
    relative values (Puterman 2005, section 9.2). A state changes its action only where the gain exceeds the
    rounding of its own computation, so ties do not cycle, and stochastic policies keep their randomisation on ties.
    """

    warm_up: int = 200
    bias: bool = False

    several_classes: ClassVar[bool] = True

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if self.bias and problem.criterion != "average":
            return "the bias belongs to the average criterion; leave bias=True out"
        return super().unsupported(problem)

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield after each exact evaluation; ends when no action improves."""
        if problem.criterion == "total":
            yield from total_policy_iterations(problem, start)
            return
        form, pairs = formulate(problem), problem.mdp.pairs
        policy = start_policy(problem, start)
        if not (self.bias or has_several(problem)):
            for reached, bracket in policy_iterations(form, pairs, self.warm_up, policy):
                yield _iterate(form, reached, bracket.high, bracket.low if bracket.low.any() else None)
                if bracket.gain is not None:  # a policy with several classes: the gains come first
                    policy = reached
                    break
            else:
                return
        factor = form.sign * form.scale
        for step in multichain_iterations(form, pairs, policy, bias=self.bias):
            yield Iterate(step.policy, factor * step.values, gains=factor * step.gain)


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

    Raises
    ------
    Unsupported
        Undiscounted, where policy after policy has several recurrent classes.
    """
    values = np.zeros(form.n_states) if values is None else values
    if policy is None:
        values, policy = _approach(form, pairs, values, rounds)
    else:
        rounds = 0
    best, stalled, split, fallback, proved = -np.inf, 0, 0, policy, values
    while stalled < MOST_STALLED:
        bracket = relative_values(policy_chain(form, policy.pair_probabilities), values)
        if policy is not fallback and bracket.upper <= best:  # the rounds have lost what one improvement keeps
            rounds, policy, values = 0, fallback, proved
            continue
        stalled = stalled + 1 if bracket.upper <= best else 0
        best = max(best, bracket.lower)
        values, low = bracket.high, bracket.low if bracket.low.any() else None
        yield policy, bracket
        split += bracket.gain is not None
        if split > MOST_SPLIT:  # their relative values say nothing of the way from one class to a better one
            raise Unsupported(
                "the policies met have several recurrent classes, and this method compares values within one. "
                "Use PolicyIteration for a plain question and OccupancyProgram for the others."
            )
        better = improved(form, policy, values, low)
        if better is None:
            return
        fallback, proved = better, values
        # Far from the optimum sweeps are cheaper than solves; two doubles a value are near it.
        if rounds and low is None:
            values, better = _approach(form, pairs, values, rounds)
        policy = better


def improve(form: StandardForm, values: FloatArray) -> tuple[FloatArray, IntArray]:
    """One Bellman backup: the gain max_a r + γPV − V of each state and the first pair attaining it, [S]."""
    best, choice = np.empty(form.n_states), np.empty(form.n_states, dtype=np.int32)
    matrix = form.transitions
    rows = (form.start, matrix.indptr, matrix.indices, matrix.data, form.rewards, form.discount, form.rest)
    run_rows(backup.improvements, form.n_states, matrix.nnz, *rows, values, best, choice)
    return best, choice


def _approach(form: StandardForm, pairs: Pairs, values: FloatArray, rounds: int) -> tuple[FloatArray, Policy]:
    """Some rounds of modified policy iteration; values that prove a bound and their greedy policy.

    They end early when the policy stays the same: what follows evaluates it.
    """
    sweeps, known = Sweeps(form.transitions, form.rewards, form.discount, form.rest), np.zeros(0, dtype=np.int32)
    calm, slow, spread = values, 0.0, np.inf
    values = values.copy()
    best, choice = improve(form, values)
    for _ in range(rounds):
        last, spread = spread, float(best.max() - best.min())
        if spread <= 1e-14 or np.array_equal(choice, known):
            break
        slow += spread > SLOW * last
        if sweeps.relaxing and not spread <= WILD:  # levels that amplify each other: back to plain sweeps, for good
            values, slow = calm.copy(), -np.inf
            choice = improve(form, values)[1]
        elif slow >= MOST_SLOW and not sweeps.relaxing:
            calm = values.copy()
        sweeps.relaxing = slow >= MOST_SLOW
        sweeps.run(choice, values)
        known, (best, choice) = choice, improve(form, values)
    return values, Policy.from_choice(pairs, choice)


def _round(form: StandardForm, values: FloatArray, sweeps: int) -> tuple[FloatArray, IntArray, float]:
    """One improvement and some sweeps with its policy; values stay centred, so they keep their digits."""
    best, choice = improve(form, values)
    spread = float(best.max() - best.min())
    values = values + (best - best.mean())
    matrix, out = form.transitions, np.empty(form.n_states)
    work = int(matrix.nnz * form.n_states / max(form.n_pairs, 1))
    for _ in range(sweeps):
        rows = (choice, matrix.indptr, matrix.indices, matrix.data, form.rewards, form.discount, form.rest)
        run_rows(backup.policy_sweep, form.n_states, work, *rows, values, out)
        values = values + (out - out.mean())
    return values, choice, spread


def _modified(problem: Problem, start: Start, *, evaluation_sweeps: int, rounds: int) -> Iterator[Iterate]:
    form, pairs = formulate(problem), problem.mdp.pairs
    policy = start_policy(problem, start)
    values = np.zeros(form.n_states)
    if policy is not None:
        values = relative_values(policy_chain(form, policy.pair_probabilities)).high
    for _ in range(rounds):
        proved = values
        values, choice, _ = _round(form, values, evaluation_sweeps)
        yield _iterate(form, Policy.from_choice(pairs, choice), proved, None)


def improved(
    form: StandardForm, policy: Policy, high: FloatArray, low: FloatArray | None, among: BoolArray | None = None
) -> Policy | None:
    """Switch every state whose best action beats the policy beyond rounding; None when there is none.

    `among` [S] restricts the switches to some states.
    """
    rho, error = pair_residuals(form, high, low)
    first = form.start[:-1]
    probabilities = policy.pair_probabilities
    mean = np.add.reduceat(rho * probabilities, first)
    doubt = 2 * np.maximum.reduceat(error, first) + (mean.max() - mean.min())
    top = np.maximum.reduceat(rho, first)
    # A policy that keeps mass on an inferior action must give it up, even where the mean hides it.
    worst = np.minimum.reduceat(np.where(probabilities > 0, rho, np.inf), first)
    switch = top - worst > doubt
    if among is not None:
        switch &= among
    if not switch.any():
        return None
    attained = np.flatnonzero(rho == top[form.states])
    best = attained[np.searchsorted(attained, first)]
    new = np.where(switch[form.states], 0.0, probabilities)
    new[best[switch]] = 1.0
    return Policy.from_pairs(policy.pairs, new)


def _iterate(form: StandardForm, policy: Policy, high: FloatArray, low: FloatArray | None) -> Iterate:
    factor = form.sign * form.scale
    return Iterate(policy, factor * high, None if low is None else factor * low)

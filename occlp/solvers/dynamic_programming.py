"""Dynamic programming: value iteration, policy iteration and what lies between them.

The discounted values V and the occupancy of the greedy policy are the primal-dual optimal pair of the
occupancy program: a deterministic policy is a basis of it (Puterman 2005, section 6.9).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.bounds.averages import has_several
from occlp.chains.chain import policy_chain, relative_values
from occlp.errors import InvalidProblem
from occlp.evaluation import formulate
from occlp.kernels import backup
from occlp.parallel import run_rows
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.residuals import improve
from occlp.solvers.base import Iterate, Start, start_policy
from occlp.solvers.multichain_iteration import multichain_iterations
from occlp.solvers.policy_iteration import policy_iterations
from occlp.solvers.total_iteration import total_policy_iterations, total_value_iterations
from occlp.standard import StandardForm
from occlp.work import count_transitions


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
        Most rounds of modified policy iteration (4 sweeps each) before each exact evaluation; where the chain mixes
        slowly, rounds that improve in place and evaluate roughly take over. Not used when a run resumes from a
        policy. 0 gives the textbook method.
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


def _round(form: StandardForm, values: FloatArray, sweeps: int) -> tuple[FloatArray, IntArray, float]:
    """One improvement and some sweeps with its policy; values stay centred, so they keep their digits."""
    best, choice = improve(form, values)
    spread = float(best.max() - best.min())
    values = values + (best - best.mean())
    matrix, out = form.transitions, np.empty(form.n_states)
    work = int((matrix.indptr[choice + 1] - matrix.indptr[choice]).sum())
    for _ in range(sweeps):
        rows = (choice, matrix.indptr, matrix.indices, matrix.data, form.rewards, form.discount, form.rest)
        count_transitions(work)
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


def _iterate(form: StandardForm, policy: Policy, high: FloatArray, low: FloatArray | None) -> Iterate:
    factor = form.sign * form.scale
    return Iterate(policy, factor * high, None if low is None else factor * low)

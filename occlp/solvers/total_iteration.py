"""Dynamic programming for totals: what PolicyIteration and ValueIteration do under that criterion."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.graph import steps_to
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.residuals import pair_residuals
from occlp.solvers.base import InfiniteProof, Iterate, Start, start_policy
from occlp.total.assessment import assess_total
from occlp.total.form import TotalForm, formulate_total
from occlp.total.improvement import Unending, earns, improvements, loses_without_end
from occlp.total.reduction import Reduction, greedy, reduce, reduction_of, trap_of


def total_policy_iterations(problem: Problem, start: Start) -> Iterator[Iterate]:
    """Yield after each exact evaluation; ends when no action improves (Bertsekas and Tsitsiklis 1991)."""
    reduction, seed = begin(problem, start)
    try:
        for step in improvements(reduction, reduction.form.rewards, seed):
            yield _iterate(problem, reduction, step.choice, step.values)
    except Unending as trap:
        raise unending_proof(problem, reduction, trap) from None


def total_value_iterations(problem: Problem, start: Start, sweeps: int) -> Iterator[Iterate]:
    """Yield after each sweep V ← max(r + PV), begun with the values of a proper policy, so that V increases.

    An action is changed for a strictly better one only, and never so that the policy does not end: where that would
    be better, it is seen now and then whether such a policy earns for ever.
    """
    reduction, seed = begin(problem, start)
    form = reduction.form
    first = next(improvements(reduction, form.rewards, seed))
    choice, values = first.choice, first.values
    for sweep in range(1, sweeps + 1):
        yield _iterate(problem, reduction, choice, values)
        scores, error = pair_residuals(form, values, None, form.rewards)
        best = greedy(form, scores)
        better = np.where(scores[best] - scores[choice] > 2 * error[best], best, choice).astype(np.int32)
        trap = trap_of(reduction, better)
        if not trap.any():
            choice = better
        elif sweep & (sweep - 1) == 0 and earns(reduction, better, trap, form.rewards):
            raise unending_proof(problem, reduction, Unending(better, trap))
        values = np.where(reduction.fixed, reduction.ends, values + scores[best])


def begin(problem: Problem, start: Start) -> tuple[Reduction, FloatArray | None]:
    """The reduction and the values [nodes] of a policy to start from; raises `InfiniteProof` where none ends well."""
    total = formulate_total(problem)
    reduction = reduction_of(total)
    check_finite(problem, total, reduction)
    policy = start_policy(problem, start)
    if policy is None:
        return reduction, None
    values = assess_total(total, policy.pair_probabilities).values
    usable = np.isfinite(values[reduction.kept]).all()
    return reduction, reduction.to_nodes(values) if usable else None


def check_finite(problem: Problem, total: TotalForm, reduction: Reduction) -> None:
    """Raise `InfiniteProof` when no policy ends well from the initial distribution."""
    if not total.proper and not reduction.kept.all():
        wider = reduce(total, stop_anywhere=True)
        try:
            for _ in improvements(wider, wider.form.rewards):
                pass
        except Unending as trap:
            raise unending_proof(problem, wider, trap) from None
    if reduction.losing.any() and loses_without_end(reduction):
        raise InfiniteProof(lift(problem, reduction, reduction.proper_choice), unending=False)


def unending_proof(problem: Problem, reduction: Reduction, trap: Unending) -> InfiniteProof:
    """The policy that earns for ever in a class, and goes there the shortest way."""
    towards = steps_to(reduction.graph, trap.trap)[1]
    choice = np.where(trap.trap | (towards < 0), trap.choice, towards).astype(np.int32)
    return InfiniteProof(lift(problem, reduction, choice), unending=True)


def lift(problem: Problem, reduction: Reduction, choice: IntArray) -> Policy:
    """The deterministic policy of the question that a pair for each node stands for."""
    return Policy.from_choice(problem.mdp.pairs, reduction.lift(choice))


def _iterate(problem: Problem, reduction: Reduction, choice: IntArray, values: FloatArray) -> Iterate:
    form = reduction.total.base
    return Iterate(lift(problem, reduction, choice), form.sign * form.scale * reduction.to_states(values))

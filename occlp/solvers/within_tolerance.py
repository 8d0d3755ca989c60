"""Runs of a solver, whose constraints count as kept where they can be kept within the tolerance only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from occlp.evaluation import assess, formulate
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.base import InfeasibleProof, Iterate, Solver, Start


def iterate_within(
    problem: Problem,
    solver: Solver,
    *,
    tol: float,
    rng: np.random.Generator,
    start: Start = None,
    exactly: bool = False,
) -> Iterator[Iterate]:
    """Yield a solver's iterates; constraints that can be kept only within the tolerance count as kept.

    A bound that was computed in doubles may be out of reach by its rounding. The limits are then moved to what
    the policy that breaks them least attains; with `exactly` the proof that they cannot be kept stands.
    """
    try:
        yield from solver.iterate(problem, tol=tol, rng=rng, start=start)
    except InfeasibleProof as proof:
        nearly = None if exactly else _moved_limits(problem, proof.policy, tol)
        if nearly is None:
            raise
        yield from solver.iterate(nearly, tol=tol, rng=rng, start=start)


def _moved_limits(problem: Problem, policy: Policy, tol: float) -> Problem | None:
    """The problem with the limits that a policy breaks moved to what it attains; None where that is too far."""
    form = formulate(problem)
    occupancy = assess(form, policy.pair_probabilities).pair_occupancy
    if not form.kept(occupancy, tol):
        return None
    short = form.excess(occupancy)
    linear = len(form.limits.names)
    above = np.append(form.limits.rows @ occupancy - form.limits.bounds, short[linear:])
    amounts = np.where(short > 0, form.signs * above * form.units, 0.0)
    moved = {
        name: replace(limit, bound=limit.bound + amount)
        for (name, limit), amount in zip(problem.all_limits.items(), amounts, strict=True)
    }
    return replace(problem, constraints=moved)

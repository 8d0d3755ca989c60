"""Runs of a solver, whose constraints count as kept where they can be kept within the tolerance only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from occlp.certificate import certify_infeasible
from occlp.errors import Unsupported
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
    the policy that breaks them least attains; with `exactly` only where fractions do not bear out the proof that they
    cannot be kept.
    """
    try:
        yield from solver.iterate(problem, tol=tol, rng=rng, start=start)
    except InfeasibleProof as proof:
        borne_out = exactly and _borne_out(problem, proof)
        nearly = None if borne_out else _moved_limits(problem, proof.policy, tol)
        if nearly is None:
            raise
        yield from solver.iterate(nearly, tol=tol, rng=rng, start=start)


def _borne_out(problem: Problem, proof: InfeasibleProof) -> bool:
    """Whether the prices prove in fractions, too, that the constraints cannot be kept."""
    from occlp.exact.disproofs import disprove_exactly  # for those who ask for fractions

    form = formulate(problem)
    certificate = certify_infeasible(problem, form, assess(form, proof.policy.pair_probabilities), proof.bound)
    try:
        disprove_exactly(problem, certificate, proof.policy)
    except Unsupported:
        return bool(problem.concave_limits)  # which have no proofs in fractions
    return True


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
        name: replace(limit, exact_bound=Fraction(limit.bound + amount)) if amount else limit
        for (name, limit), amount in zip(problem.all_limits.items(), amounts, strict=True)
    }
    return replace(problem, constraints=moved)

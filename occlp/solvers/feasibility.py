"""Constraints on concave utilities: the occupancy that keeps all by the most, proofs that none does, and mending.

Each constraint is measured in sizes of its cost or utility. The occupancy with the largest least margin either
lies strictly inside, so that a little of it mends an answer that breaks a constraint (the feasible set is
convex), or its prices and supergradients prove that no occupancy keeps all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.bounds.relaxation import Values, relaxed
from occlp.bounds.upper import UpperBound, best_bound, bound_above, priced
from occlp.certificate import to_prices
from occlp.constraints import expected
from occlp.errors import Unsupported
from occlp.evaluation import assess, formulate
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.backends import Backend
from occlp.solvers.base import InfeasibleProof, Iterate, Solver, SolverFailure
from occlp.solvers.decomposition import Decomposition
from occlp.solvers.decomposition import minimal_conflict as minimal_linear_conflict
from occlp.solvers.face_newton import FaceNewton
from occlp.solvers.kl_dual import KLDual
from occlp.solvers.policy_iteration import solve_rewards
from occlp.solvers.scaled_program import Answer, solve_widest
from occlp.solvers.soft_policy_iteration import SoftPolicyIteration
from occlp.standard import StandardForm
from occlp.terms import KL, ConditionalKL, CustomTerm, OccupancyEntropy, PolicyEntropy

#: Cuts at most, for utilities with kinks; and what they leave of a violation, in sizes of the utility.
MOST_CUTS = 40
ROUNDING = 1e-13
#: A cut slope·d + offset ≥ f(d): name of the constraint, slope, offset.
_Cut = tuple[str, FloatArray, float]
#: The answer of these decides what can be kept where no backend was asked for.
DEFAULT = Backend("CLARABEL")


@dataclass(frozen=True, eq=False)
class Closest:
    """The occupancy that keeps the constraints by the most, or breaks them the least.

    Attributes
    ----------
    policy : Policy
    bound : UpperBound
        On minus the priced violation over all policies, the rewards left out: negative where it proves that the
        constraints cannot be kept.
    """

    policy: Policy
    bound: UpperBound

    def raise_proof(self) -> None:
        """Raise `InfeasibleProof` where there is one."""
        if self.bound.value < 0:
            raise InfeasibleProof(self.bound, self.policy)


def closest(problem: Problem, backend: Backend, *, strict: bool = False) -> Closest:
    """Find the occupancy with the largest least margin; `strict` keeps equalities, and pairs that a term excludes, out.

    Raises `SolverFailure` when the backend breaks down.
    """
    form = formulate(problem)
    bare = replace(form, rewards=np.zeros(form.n_pairs), term=None)
    answer = solve_widest(form if strict else bare, backend, strict=strict)
    policy = Policy.from_occupancy(problem.mdp.pairs, np.maximum(answer.occupancy, 0.0), Policy.uniform(problem.mdp))
    point = assess(bare, policy.pair_probabilities).pair_occupancy
    values: list[Values] = [(answer.values, None)]
    with suppress(Unsupported):  # undiscounted, and not all policies have one recurrent class
        values.append(_best_values(problem, bare, point, answer))
    return Closest(policy, best_bound(bare, [(own, answer.prices, point, answer.slopes) for own in values]))


def minimal_conflict(problem: Problem, proof: InfeasibleProof, late: Callable[[], bool]) -> list[str]:
    """Return names of constraints that cannot be kept together, although all but any one of them can.

    Deletion filter (Chinneck and Dravnieks 1991) over the constraints that the proof uses. Once it is `late`, what is
    left is returned: still a conflict, but perhaps not the smallest.
    """
    if not problem.concave_limits:
        return minimal_linear_conflict(problem, proof, late)
    everything = problem.all_limits
    names = formulate(problem).names
    kept = [names[k] for k in np.flatnonzero(proof.bound.prices)]
    for candidate in list(kept):
        if late():
            break
        fewer = [name for name in kept if name != candidate]
        if _cannot(replace(problem, constraints={name: everything[name] for name in fewer})):
            kept = fewer
    return kept


def mended(problem: Problem, backend: Backend, first: Iterate, tol: float) -> Iterator[Iterate]:
    """Yield what can be made of a backend's answer: better values and prices, and policies that break nothing.

    With the majorants at the answer the question has linear constraints only, which an exact method answers;
    its values and prices belong to the answer, too. Policies are moved inwards by as much as they break.
    """
    form = formulate(problem)
    point = assess(form, first.policy.pair_probabilities).pair_occupancy
    policies = [first.policy]
    if first.values is not None:
        for exact in _relaxed_answers(problem, form, first, point, tol):
            first = replace(exact, policy=first.policy)
            policies = [first.policy, exact.policy]
            yield first
            yield exact
    broken = [policy for policy in policies if _excess(form, policy).any()]
    if not broken:
        return
    try:
        inside = closest(problem, backend, strict=True).policy
    except SolverFailure:
        return
    for policy in broken:
        moved = _moved_inwards(problem, form, policy, inside)
        if moved is not None:
            yield replace(first, policy=moved)


def _relaxed_answers(
    problem: Problem, form: StandardForm, first: Iterate, point: FloatArray, tol: float
) -> Iterator[Iterate]:
    """Yield exact answers of the question with cuts in the place of concave utilities, where there is a method.

    The first cut of each is its majorant at the answer; utilities with kinks get further ones (Kelley 1960).
    """
    solver = _exact_solver(problem, form)
    values = np.asarray(first.values) / (form.sign * form.scale)
    upper = bound_above(form, (values, None), to_prices(form, first.multipliers), point, first.slopes)
    if solver is None:
        return
    cuts = [(name, majorant.slope, majorant.offset) for name, majorant in upper.majorants.items()]
    for _ in range(MOST_CUTS):
        answer = _answer_with_cuts(problem, solver, cuts, tol, first.policy)
        if answer is None:
            return
        yield answer
        first = answer
        occupancy = assess(form, answer.policy.pair_probabilities).pair_occupancy
        known = len(cuts)
        for limit in form.concave:
            kinked = not limit.term.smooth and not isinstance(limit.term, CustomTerm)  # those have cuts of their own
            if kinked and limit.excess(occupancy) > ROUNDING * limit.term.spread:
                slope = limit.term.gradient(occupancy)
                cuts.append((limit.name, slope, limit.term.value(occupancy) - float(slope @ occupancy)))
        if len(cuts) == known or not all(np.isfinite(slope).all() for _, slope, _ in cuts[known:]):
            return


def _answer_with_cuts(problem: Problem, solver: Solver, cuts: list[_Cut], tol: float, start: Policy) -> Iterate | None:
    """The exact answer with linear limits slope·d + offset ≥ b; the prices of one utility's cuts are put together."""
    limits: dict[str, Any] = dict(problem.limits)
    keys = [f"{name} #{k}" for k, (name, _, _) in enumerate(cuts)]
    for key, (name, slope, offset) in zip(keys, cuts, strict=True):
        limits[key] = expected(problem.mdp.pairs.table(slope, 0.0)) >= problem.concave_limits[name].bound - offset
    answer = None
    try:
        question, rng = replace(problem, constraints=limits), np.random.default_rng(0)
        for found in solver.iterate(question, tol=tol, rng=rng, start=start):
            answer = found
    except (SolverFailure, Unsupported):
        return None
    if answer is None:
        return None
    prices = dict(answer.multipliers)
    slopes: dict[str, FloatArray] = {}
    for key, (name, slope, _) in zip(keys, cuts, strict=True):
        price = prices.pop(key, 0.0)
        slopes[name] = slopes.get(name, 0.0) + price * slope
        prices[name] = prices.get(name, 0.0) + price
    slopes = {name: slope / prices[name] for name, slope in slopes.items() if prices[name] > 0}
    return replace(answer, multipliers=prices, slopes=slopes)


def _exact_solver(problem: Problem, form: StandardForm) -> Solver | None:
    """The exact method for the problem with linear constraints, from a policy nearby; or None."""
    setting = problem.regularizer or problem.utility
    if setting is None:
        return Decomposition()
    if isinstance(setting, KL | OccupancyEntropy):
        return KLDual()
    if isinstance(setting, ConditionalKL | PolicyEntropy):
        return SoftPolicyIteration()
    return FaceNewton() if form.term is not None and form.term.smooth else None


def _best_values(problem: Problem, form: StandardForm, point: FloatArray, answer: Answer) -> Values:
    """The values that make the bound of the answer's prices least: those of the model with priced rewards."""
    upper = bound_above(form, (answer.values, None), answer.prices, point, answer.slopes)
    rewards, _ = priced(relaxed(form, upper.majorants), upper.prices)
    _, high, low = solve_rewards(form, problem.mdp.pairs, rewards)
    return high, low


def _excess(form: StandardForm, policy: Policy) -> FloatArray:
    return form.excess(assess(form, policy.pair_probabilities).pair_occupancy)


def _moved_inwards(problem: Problem, form: StandardForm, policy: Policy, inside: Policy) -> Policy | None:
    """The policy of the mixture of an occupancy with one strictly inside that breaks nothing.

    Its weight is the least that concavity promises to be enough; None where the other is not strictly inside.
    """
    point, target = (assess(form, one.pair_probabilities).pair_occupancy for one in (policy, inside))
    excess = form.excess(point)
    room = np.append(-(form.limits.rows @ target), [limit.term.value(target) - limit.bound for limit in form.concave])
    broken = (excess > 0) & ~np.append(form.limits.equal, np.zeros(len(form.concave), dtype=np.bool_))
    if not broken.any() or not (room[broken] > 0).all():
        return None
    shares = np.where(np.isfinite(excess), excess / (excess + room), 1.0)[broken]
    weight = min(1.0, (1.0 + 1e-9) * float(shares.max()) + 1e-15)
    return Policy.from_occupancy(problem.mdp.pairs, (1.0 - weight) * point + weight * target, policy)


def _cannot(problem: Problem) -> bool:
    """Whether it is proved that the constraints cannot be kept together."""
    try:
        if problem.concave_limits:
            closest(problem, DEFAULT).raise_proof()
        else:
            Decomposition().require_feasible(problem)
    except InfeasibleProof:
        return True
    except SolverFailure:
        return False
    return False

"""What a run has shown: its certificate, its status and the sentence that says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from occlp._typing import BoolArray
from occlp.bounds.averages import has_several
from occlp.certificate import Certificate, certify, certify_infeasible
from occlp.evaluation import Assessment, Evaluation, assess, formulate, to_evaluation
from occlp.model import Pairs
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.result import Checkpoint, Result, Status
from occlp.solvers.base import InfeasibleProof, InfeasibleTotal, InfiniteProof, Iterate, Start
from occlp.solvers.policy_iteration import improved
from occlp.total.assessment import assess_total
from occlp.total.bound import TotalBound
from occlp.total.reduction import reduction_of
from occlp.total_tracking import TotalTracker, certify_infeasible_total, certify_unending
from occlp.tracking import Reference, Tracker

#: Exact improvements after which the actions of states that are not visited are left as they are.
MOST_IMPROVEMENTS = 1000


@dataclass
class Outcome:
    """How the iterations ended."""

    iterations: int = 0
    judged: int = 0  # the last iteration that was judged
    samples: int = 0
    stopped: str | None = None
    failure: str | None = None
    note: str = ""
    proof: InfeasibleProof | None = None
    checkpoint: Checkpoint | None = None
    ended: InfiniteProof | InfeasibleTotal | None = None


def begin(
    problem: Problem, tol: float, reference: Reference | TotalBound | None, start: Start, snapshots: int
) -> Tracker | TotalTracker:
    """Return what judges a run; of a result that the run goes on from it knows already, so that none gets worse."""
    tracker: Tracker | TotalTracker
    if problem.criterion == "total":
        tracker = TotalTracker(problem, tol, reference if isinstance(reference, TotalBound) else None, snapshots)
    else:
        tracker = Tracker(problem, tol, reference if isinstance(reference, Reference) else None, snapshots)
    if isinstance(start, Result) and start.certificate.infeasible_by is None and not start.certificate.unending:
        known = start.certificate
        gains = known.gain_values if known.gain_values.size else None
        tracker.record(Iterate(start.policy, known.values, known.values_low, known.multipliers, gains=gains), None, 0.0)
    return tracker


def judge(problem: Problem, tracker: Tracker | TotalTracker) -> tuple[Certificate, Evaluation]:
    """Return the certificate of a run and the evaluation of its best policy."""
    if isinstance(tracker, TotalTracker):
        return tracker.verdict()
    form = formulate(problem)
    found, upper, kept = tracker.final()
    policy, found = _settle(problem, tracker.best_policy, found)
    return certify(problem, form, found, upper, kept=kept), to_evaluation(problem, form, policy, found)


def _settle(problem: Problem, policy: Policy, found: Assessment) -> tuple[Policy, Assessment]:
    """Make the policy greedy in the states that it never visits; what it earns does not change by that."""
    form, free = formulate(problem), ~found.chain.visited
    several = found.bracket.gain is not None or has_several(problem)
    if form.term is not None or form.names or several or not free.any():
        return policy, found
    for _ in range(MOST_IMPROVEMENTS):
        bracket = found.bracket
        better = improved(form, policy, bracket.high, bracket.low if bracket.low.any() else None, among=free)
        if better is None:
            break
        policy, found = better, assess(form, better.pair_probabilities, bracket.high)
    return policy, found


def close_total(
    problem: Problem, proof: InfiniteProof | InfeasibleTotal, tracker: Tracker | TotalTracker
) -> tuple[Status, Certificate, Evaluation, str]:
    """Status, certificate, evaluation of the witness and words for a total without a finite optimum."""
    assert isinstance(tracker, TotalTracker)
    if isinstance(proof, InfeasibleTotal):
        certificate, evaluation = certify_infeasible_total(problem, proof.bound, proof.policy)
        limits = tracker.form.limits
        broken = limits.excess(evaluation.pair_occupancy) * limits.units
        message = _conflict_words(problem, proof.conflict, dict(zip(limits.names, broken, strict=True)))
        return Status.INFEASIBLE, certificate, replace(evaluation, objective=np.nan), message
    pairs = problem.mdp.pairs
    if proof.unending:
        certificate, evaluation = certify_unending(problem, proof.policy)
        found = assess_total(tracker.total, proof.policy.pair_probabilities)
        earning = found.trapped & (found.values == np.inf)
        where = _some_labels(pairs, earning if earning.any() else found.trapped)
        evaluation = replace(evaluation, objective=certificate.upper)
        words = f"the policy returned earns for ever in a class of states that it never leaves: {where}"
        return Status.UNBOUNDED, certificate, evaluation, f"Proved unbounded: {words}."
    tracker.record(Iterate(proof.policy), None, 0.0)
    certificate, evaluation = tracker.verdict()
    where = _some_labels(pairs, reduction_of(tracker.total).losing)
    if tracker.total.proper:
        return (
            Status.INFEASIBLE, certificate, evaluation,
            f"Proved infeasible: no policy reaches the goal almost surely from {where}.",
        )  # fmt: skip
    words = f"every policy loses without end from {where}"
    return Status.UNBOUNDED, certificate, evaluation, f"Proved unbounded: {words}."


def _some_labels(pairs: Pairs, mask: BoolArray, most: int = 5) -> str:
    states = np.flatnonzero(mask)
    listed = ", ".join(str(pairs.state_name(int(s))) for s in states[:most])
    return listed if len(states) <= most else f"{listed} and {len(states) - most} more"


def disprove(problem: Problem, proof: InfeasibleProof, late: Callable[[], bool]) -> tuple[Certificate, Evaluation, str]:
    """Certificate, evaluation of the policy that comes closest, and words for an infeasible problem.

    The search for the fewest constraints that cannot be kept together ends once it is `late`.
    """
    form = formulate(problem)
    found = assess(form, proof.policy.pair_probabilities)
    certificate = certify_infeasible(problem, form, found, proof.bound)
    evaluation = replace(to_evaluation(problem, form, proof.policy, found), objective=np.nan)
    from occlp.solvers.feasibility import minimal_conflict  # it needs the programs, which others do not wait for

    names = minimal_conflict(problem, proof, late)
    short = form.excess(found.pair_occupancy) * form.units
    words = _conflict_words(problem, names, dict(zip(form.names, short, strict=True)))
    if len(names) > 1 and late():
        words += " Perhaps fewer of them cannot be kept together: the time was up before all were looked at."
    return certificate, evaluation, words


def _conflict_words(problem: Problem, names: Sequence[str], short: Mapping[str, float]) -> str:
    everything = problem.all_limits
    words = [(name, str(everything[name])) for name in names]
    limits = ", ".join(f"{name!r} ({text})" if name != text else name for name, text in words)
    needed = ", ".join(f"{name!r} by {amount:.6g}" for name, amount in short.items() if amount > 0)
    what = f"no policy keeps {limits}" if len(names) == 1 else f"no policy keeps all of {limits}"
    return f"Proved infeasible: {what}. Enough to relax: {needed}."


def raised(
    problem: Problem, certificate: Certificate, evaluation: Evaluation, level: str, *, disproof: bool = False
) -> tuple[Certificate, Evaluation, str]:
    """A certificate with intervals or fractions behind it, the evaluation to match, and words for what was not reached.

    What that needs is imported for those who ask for it.
    """
    from occlp.exact.levels import raise_disproof, raise_level

    if disproof:
        certificate, words = raise_disproof(problem, certificate, evaluation, level)
        return certificate, evaluation, words
    return raise_level(problem, certificate, evaluation, level)


def decide(certificate: Certificate, tol: float, atol: float, outcome: Outcome, polished: int) -> tuple[Status, str]:
    """Return the status of a run that has a certificate, and words for it."""
    if outcome.failure is not None:
        return Status.FAILED, outcome.failure
    allowed = certificate.allowed_gap(tol, atol)
    times = "one exact improvement" if polished == 1 else f"{polished} exact improvements"
    mended = f" The answer was polished by {times}." if polished else ""
    if certificate.gap <= allowed:
        return Status.CERTIFIED, Status.CERTIFIED.value + mended
    gap = f"the certified gap is {certificate.gap:.3g}, the tolerance {allowed:.3g}"
    if not np.isfinite(certificate.gap):
        gap = (
            "double precision proves no bound: too many steps are expected, or a policy may stay where it loses, "
            "or where gains and losses cancel"
        )
        if certificate.violation > 0:
            gap = f"the policy breaks the constraints by {certificate.violation:.3g}"
    note = f" {outcome.note}" if outcome.note else ""
    if outcome.stopped is not None:
        return Status.LIMIT, f"Stopped by {outcome.stopped}; {gap}.{note}"
    return Status.BOUNDED, f"The method finished, but {gap}.{mended}{note}"

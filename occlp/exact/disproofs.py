"""That there is no optimum, in fractions: constraints that no policy keeps, and totals without a bound.

A Farkas vector in doubles is one in fractions as well: its prices are the dyadic rationals that they are, and what
is left to show is that the best policy at these prices still breaks the constraints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from occlp.certificate import Certificate
from occlp.errors import Unsupported
from occlp.exact.chain import drifts, solve_dense
from occlp.exact.elimination import SparseElimination
from occlp.exact.form import ExactForm, Number, exact_form
from occlp.exact.proofs import best_of_rewards
from occlp.graph import closed_classes, reachable
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.proof import ExactProof
from occlp.rationals import load_flint, to_fraction, to_rational


def disprove_exactly(problem: Problem, certificate: Certificate, policy: Policy) -> Certificate:
    """The certificate with its claim, that there is no optimum, proved in fractions.

    Raises `Unsupported` where no proof is found.
    """
    form = replace(exact_form(problem), sign=1)  # minus the priced violation is maximised, whatever the user's sense
    if certificate.unending:
        proof = _unending(exact_form(problem), policy)
    elif certificate.infeasible_by is None:
        raise Unsupported("that no policy ends well is shown by the graph, and by doubles where losses decide")
    elif form.total:
        proof = _infeasible_total(form, certificate)
    else:
        proof = _infeasible(form, certificate, policy)
    return replace(
        certificate, level="exact", proof=proof,
        assumptions=("fractions, nothing rounded", *form.notes),
    )  # fmt: skip


def charged(form: ExactForm, certificate: Certificate) -> tuple[list[Number], Number]:
    """Minus the priced rows of the limits, [pairs], and the priced bounds."""
    zero = 0 * form.rest
    paid = (to_rational(certificate.multipliers[limit.name]) * limit.bound for limit in form.limits)
    return form.priced([zero] * len(form.rows), certificate.multipliers), sum(paid, zero)


def _multipliers(certificate: Certificate) -> dict[str, Fraction]:
    return {name: Fraction(price) for name, price in certificate.multipliers.items()}


def _infeasible(form: ExactForm, certificate: Certificate, policy: Policy) -> ExactProof:
    """The best that any policy can make of the priced limits, which is not enough."""
    _, _, proof, _ = best_of_rewards(form, charged(form, certificate)[0], policy.choice.tolist())
    if proof.optimum is None or not proof.optimum < 0:
        raise Unsupported("in fractions the prices do not prove that the constraints cannot be kept")
    return replace(proof, optimum=None, infeasible_by=-proof.optimum, multipliers=_multipliers(certificate))


def _infeasible_total(form: ExactForm, certificate: Certificate) -> ExactProof:
    """The values of the certificate as the dyadic rationals that they are, checked in fractions."""
    earned, credit = charged(form, certificate)
    finite = np.isfinite(certificate.values)
    values = [to_rational(v) if good else 0 * form.rest for v, good in zip(certificate.values, finite, strict=True)]
    lost = form.graph.some(~finite) | ~finite[form.graph.pair_states] | form.goal[form.graph.pair_states]
    scores = zip(earned, drifts(form, values), lost.tolist(), strict=True)
    least = -sum((p * v for p, v in zip(form.initial, values, strict=True)), credit)
    if any(not away and r + drift > 0 for r, drift, away in scores) or not least > 0:
        raise Unsupported("in fractions the values do not prove that the constraints cannot be kept")
    fractions = tuple(to_fraction(v) if good else None for v, good in zip(values, finite, strict=True))
    return ExactProof(None, fractions, _multipliers(certificate), infeasible_by=to_fraction(least))


def _unending(form: ExactForm, policy: Policy) -> ExactProof:
    """Masses that flow in a circle of the policy and earn."""
    for masses in _circles(form, policy):
        if sum((mass * form.rewards[pair] for pair, mass in masses.items()), 0 * form.rest) > 0:
            return ExactProof(None, (), occupancy={pair: to_fraction(mass) for pair, mass in masses.items()})
    raise Unsupported("in fractions the policy does not earn for ever")


def _circles(form: ExactForm, policy: Policy) -> Iterator[dict[int, Number]]:
    """How often the pairs of each class outside the goal, that the policy reaches, are taken in the long run."""
    used, fmpq = policy.pair_probabilities > 0, load_flint().fmpq
    reached = reachable(form.graph, np.array([bool(p) for p in form.initial]), used)
    classes = closed_classes(form.graph, used)
    shares = [to_rational(p) for p in policy.pair_probabilities.tolist()]
    for n in range(classes.count):
        inside = np.flatnonzero(classes.label == n).tolist()
        if not reached[inside[0]] or form.goal[inside[0]]:
            continue
        first, others = inside[0], inside[1:]
        flows: dict[int, dict[int, Number]] = {}
        for state in inside:
            flow: dict[int, Number] = {}
            for pair in range(form.start[state], form.start[state + 1]):
                row = form.rows[pair]
                for target, weight in zip(row.targets, row.weights, strict=True) if used[pair] else ():
                    flow[target] = flow.get(target, 0) + shares[pair] * fmpq(weight, row.unit)
            flows[state] = flow
        place = {state: i for i, state in enumerate(others)}
        inner = [{place[t]: p for t, p in flows[s].items() if t in place} for s in others]
        leave = [flows[s].get(first, 0 * form.rest) for s in others]
        onward = [flows[first].get(s, 0 * form.rest) for s in others]
        visits = SparseElimination(inner, leave, solve_dense).rows(onward) if others else []
        mass = dict(zip(inside, [0 * form.rest + 1, *visits], strict=True))
        yield {pair: mass[form.states[pair]] * shares[pair] for pair in np.flatnonzero(used).tolist()
               if form.states[pair] in mass}  # fmt: skip

"""The audit of every kind of question: what honest methods return passes, and no lie with a false bound does.

tests/test_verify.py does this in depth for discounted questions, against fractions. Here the truth is the certified
optimum of the question, its proof of infeasibility or its unbounded circle, and what a policy attains is evaluated.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

import occlp as oc
from occlp.errors import AuditFailed

MACHINE = oc.instances.get("machine-repair")
FREE = MACHINE.replace(discount=None)
DRIFT = oc.MDP.from_arrays(
    [[[0.5, 0.5, 0], [0, 0, 1]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2], [[0, 0], [2, 1], [3, 1]], initial=[0.5, 0.25, 0.25]
)
WALK = oc.MDP.from_arrays(
    [[[0.5, 0.5, 0, 0], [0, 0, 1, 0]], [[0, 0.25, 0.5, 0.25]] * 2, [[0.5, 0, 0, 0.5], [0, 0.5, 0, 0.5]],
     [[0, 0, 0, 1]] * 2],
    [[-1, -3], [-2, -2.5], [-1, 0.5], [0, 0]], initial=0, costs={"toll": [[1, 0], [0, 1], [2, 0], [0, 0]]},
)  # fmt: skip
PIT = oc.MDP.from_arrays(
    [[[0, 1, 0, 0], [0, 0, 1, 0]], [[0, 0, 0, 1]] * 2, [[0, 0, 1, 0]] * 2, [[0, 0, 0, 1]] * 2],
    [[-1, 5], [-2, -3], [-1, -2], [0, 0]], initial=0,
)  # fmt: skip
CIRCLE = oc.MDP.from_arrays([[[1, 0], [0, 1]], [[0, 1]] * 2], [[1, 0], [0, 0]], initial=0)
LOSING = oc.MDP.from_arrays([[[0, 1]], [[1, 0]]], [[1], [-2]], initial=0)


def questions() -> Mapping[str, oc.Problem]:
    uniform, wear = oc.Policy.uniform(MACHINE), oc.expected("wear") <= 0.25
    total: dict[str, Any] = {"criterion": "total", "goal": 3}
    return {
        "average": oc.Problem(FREE, criterion="average"),
        "average with a limit": oc.Problem(FREE, criterion="average", constraints=[wear]),
        "averages by state": oc.Problem(DRIFT, criterion="average"),
        "least averages by state": oc.Problem(DRIFT, "minimize", "average"),
        "two limits": oc.Problem(MACHINE, constraints=[wear, oc.visits(actions="repair") <= 5]),
        "an equality": oc.Problem(MACHINE, "minimize", constraints=[oc.expected("wear") == 0.2]),
        "conditional KL": oc.Problem(MACHINE, regularizer=oc.ConditionalKL(1.0, uniform)),
        "policy entropy of costs": oc.Problem(MACHINE, "minimize", regularizer=oc.PolicyEntropy(0.5)),
        "occupancy entropy": oc.Problem(MACHINE, regularizer=oc.OccupancyEntropy(0.5), constraints=[wear]),
        "state entropy": oc.Problem(MACHINE, utility=oc.StateEntropy()),
        "total variation": oc.Problem(MACHINE, utility=oc.TotalVariation(uniform), constraints=[wear]),
        "log sum": oc.Problem(MACHINE, utility=oc.LogSum(["wear", "reward"])),
        "worst case": oc.Problem(MACHINE, utility=oc.WorstCase(["wear", "reward"])),
        "a concave limit": oc.Problem(MACHINE, constraints=[oc.StateEntropy() >= 0.9]),
        "total": oc.Problem(WALK, **total),
        "least total": oc.Problem(WALK.replace(rewards=-WALK.pair_rewards), "minimize", **total),
        "total without a goal": oc.Problem(WALK, criterion="total"),
        "total beside a pit": oc.Problem(PIT, **total),
        "total with a limit": oc.Problem(WALK, constraints=[oc.expected_total("toll") >= 1], **total),
        "reaching": oc.Problem(WALK, criterion="total", goal=1, objective="reach"),
        "infeasible": oc.Problem(MACHINE, constraints=[oc.expected("wear") <= 0, oc.expected("reward") >= 7.4]),
        "infeasible total": oc.Problem(WALK, constraints=[oc.expected_total("toll") <= -1], **total),
        "a goal out of reach": oc.Problem(CIRCLE.replace(initial=1), criterion="total", goal=0),
        "unbounded": oc.Problem(CIRCLE, criterion="total"),
        "losing for ever": oc.Problem(LOSING, criterion="total"),
    }  # fmt: skip


QUESTIONS = questions()


@cache
def answer(kind: str) -> oc.Result:
    return oc.solve(QUESTIONS[kind], check=False)


@pytest.mark.parametrize("kind", QUESTIONS)
def test_honest_answers_pass(kind):
    assert oc.verify(QUESTIONS[kind], answer(kind))


def noise(rng: np.random.Generator) -> float:
    return float(rng.choice([-1, 1]) * 10.0 ** rng.uniform(-9, 2))


def changed(rng: np.random.Generator, value: Any) -> Any:
    """Another number, array, or mapping of numbers in the place of one."""
    if isinstance(value, np.ndarray):
        array = np.array(value)
        if array.size == 0 or rng.random() < 0.1:
            return np.append(array, 0.0)
        if array.dtype == bool:
            array[rng.integers(array.size)] ^= True
        elif rng.random() < 0.2:
            array[rng.integers(array.size)] = rng.choice([np.nan, np.inf, -np.inf])
        elif rng.random() < 0.5:
            array[rng.integers(array.size)] += noise(rng)
        else:
            array = array * (1 + noise(rng)) if rng.random() < 0.5 else array + noise(rng)
        return array
    if isinstance(value, Mapping):
        key = rng.choice(list(value)) if value else "more"
        number = value.get(key)
        if rng.random() < 0.1:
            return {name: number for name, number in value.items() if name != key}
        return {**value, key: changed(rng, number) if isinstance(number, float) else noise(rng)}
    if isinstance(value, bool):
        return not value
    if value is None:
        return abs(noise(rng))
    return float([value + noise(rng), value * (1 + noise(rng)), -value, 0.0, np.nan, np.inf][rng.integers(6)])


CLAIMS = [
    "lower", "upper", "gap", "violation", "shift", "values", "values_low", "policy_values", "policy_values_low",
    "gain_values", "policy_gain_values", "multipliers", "sensitivity", "dual", "infeasible_by", "unending",
    "reduced_costs", "rounding", "spread",
]  # fmt: skip
FIGURES = [field.name for field in dataclasses.fields(oc.Evaluation) if field.name not in ("policy", "discount")]


def lie(rng: np.random.Generator, problem: oc.Problem, result: oc.Result) -> oc.Result:
    """A result with one or two lies in it."""
    certificate = result.certificate
    for _ in range(rng.integers(1, 3)):
        kind = rng.random()
        if kind < 0.6:
            name = str(rng.choice(CLAIMS))
            certificate = dataclasses.replace(certificate, **{name: changed(rng, getattr(certificate, name))})
        elif kind < 0.7:
            ends = certificate.lower + abs(noise(rng)), certificate.upper - abs(noise(rng))
            certificate = dataclasses.replace(certificate, lower=min(ends), upper=max(ends), gap=abs(ends[1] - ends[0]))
        elif kind < 0.85:
            totals = problem.criterion == "total"
            name = str(rng.choice([name for name in FIGURES if not (totals and name == "expected")]))
            result = dataclasses.replace(result, **{name: changed(rng, getattr(result, name))})
        else:
            sums = rng.dirichlet(np.ones(problem.mdp.n_pairs))
            result = dataclasses.replace(result, policy=oc.Policy.from_occupancy(problem.mdp, sums))
    return dataclasses.replace(result, certificate=certificate)


def is_false(problem: oc.Problem, honest: oc.Result, told: oc.Result) -> str | None:
    """What is false in the bounds of a lie, beyond what rounding may do."""
    claim, optimum = told.certificate, honest.objective
    if claim.infeasible_by is not None or claim.unending:
        status = oc.Status.UNBOUNDED if claim.unending else oc.Status.INFEASIBLE
        return None if honest.status is status else "proof of no optimum"
    if honest.status not in (oc.Status.CERTIFIED, oc.Status.BOUNDED):
        return None if claim.lower in (-np.inf, np.inf) or not np.isfinite(claim.gap) else "optimum"
    found = oc.evaluate(problem, told.policy).objective
    slack = 1e-6 * (1 + abs(optimum))
    low, high = (claim.lower, claim.upper)
    if problem.sense == "minimize":
        low, high, optimum, found = -high, -low, -optimum, -found
    if optimum > high + slack:
        return "bound on every policy"
    if found < low - slack:
        return "bound on the policy"
    feasible = claim.violation <= 1e-6
    return "gap" if feasible and np.isfinite(claim.gap) and optimum - found > claim.gap + slack else None


@pytest.mark.parametrize("kind", ["total", "least total", "total beside a pit", "total without a goal", "reaching"])
def test_infinities_prove_nothing(kind):
    """−∞ as the value of a state says that no policy ends well from it; that is looked up in the graph."""
    problem, honest = QUESTIONS[kind], answer(kind)
    certificate = honest.certificate
    for name, sign in (("values", 1), ("values", -1), ("policy_values", 1), ("policy_values", -1)):
        told = dataclasses.replace(certificate, **{name: np.full(problem.mdp.n_states, sign * np.inf)})
        with pytest.raises(AuditFailed):
            oc.verify(problem, dataclasses.replace(honest, certificate=told))
    worst = -np.inf if problem.sense == "maximize" else np.inf
    for state in np.flatnonzero(np.isfinite(certificate.values) & honest.visited):
        values = certificate.values.copy()
        values[state] = worst
        with pytest.raises(AuditFailed):
            oc.verify(problem, dataclasses.replace(honest, certificate=dataclasses.replace(certificate, values=values)))


@pytest.mark.parametrize(
    "claims",
    [{"lower": 5.0}, {"upper": 5.0}, {"gap": 1.0}, {"infeasible_by": 1.0}, {"lower": -np.inf, "upper": -np.inf}],
)
def test_nothing_else_is_claimed_beside_a_total_without_a_bound(claims):
    honest = answer("unbounded")
    told = dataclasses.replace(honest, certificate=dataclasses.replace(honest.certificate, **claims))
    with pytest.raises(AuditFailed, match="a total without a bound is claimed beside"):
        oc.verify(QUESTIONS["unbounded"], told)


def test_a_pit_is_worth_minus_infinity():
    assert answer("total beside a pit").certificate.values[2] == -np.inf


@pytest.mark.parametrize("kind", QUESTIONS)
def test_no_lie_gets_a_false_bound_past_the_audit(kind):
    problem, honest = QUESTIONS[kind], answer(kind)
    rng, counts = np.random.default_rng(2025), Counter()
    with np.errstate(all="ignore"):
        for _ in range(60):
            told = lie(rng, problem, honest)
            try:
                oc.verify(problem, told)
            except AuditFailed:
                counts["rejected"] += 1
                continue
            counts["accepted"] += 1
            assert is_false(problem, honest, told) is None, (is_false(problem, honest, told), told.certificate)
    assert counts["rejected"] >= 15, counts

"""What no certificate of a total may claim: infinities that prove nothing, bounds beside a proof that there is none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import occlp as oc
from benchmarks.lie_questions import QUESTIONS, answers
from occlp.errors import AuditFailed


def answer(kind: str) -> oc.Result:
    return answers(kind)[0]


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

"""Published and exact long-run averages; the tables with their sources are in average.json and multichain.json.

Gains are exact rationals, [S]; a published digit that is wrong (MDPtoolbox prints 3.885 for 35/9) is corrected.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import occlp as oc

HERE = Path(__file__).parent
CASES = [case for name in ("average", "multichain") for case in json.loads((HERE / f"{name}.json").read_text())]
IDS = [case["name"] for case in CASES]
#: Exact relative values, zero in the last state.
BIAS = {
    "MDPtoolbox forest S=3 average reward": ("-38/5", "-4", "0"),
    "MDPtoolbox small average reward": ("55/9", "0"),
    "Howard taxicab average reward": ("-20/17", "1506/119", "0"),
    "Howard toymaker average reward": ("10", "0"),
}
SOLVERS = {
    "policy iteration": oc.PolicyIteration(),
    "textbook policy iteration": oc.PolicyIteration(warm_up=0),
    "bias": oc.PolicyIteration(bias=True),
    "HIGHS": oc.OccupancyProgram("HIGHS"),
    "CLARABEL": oc.OccupancyProgram("CLARABEL"),
    "modified": oc.ModifiedPolicyIteration(),
}
#: Value iteration does not converge on periodic chains.
PERIODIC = ("Storm",)


def build(case: dict) -> oc.Problem:
    actions = list(dict.fromkeys(row[1] for row in case["rows"]))
    transitions = np.zeros((len(case["rows"]), case["n_states"]), dtype=object)
    for i, (_, _, successors, _) in enumerate(case["rows"]):
        for state, probability in successors:
            transitions[i, state] += Fraction(probability)
    rewards = np.array([Fraction(row[3]) for row in case["rows"]], dtype=object)
    columns = [row[0] for row in case["rows"]], [row[1] for row in case["rows"]]
    mdp = oc.MDP.from_pairs(*columns, transitions, rewards, actions=actions)
    return oc.Problem(mdp, sense=case["sense"], criterion="average")


def gains_of(case: dict) -> list[Fraction]:
    """The exact gain of each state; one number in the file serves for all."""
    found = case["gain"]
    return [Fraction(gain) for gain in ([found] * case["n_states"] if isinstance(found, str) else found)]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_exact_gain_lies_within_the_bounds(case):
    problem, gains = build(case), gains_of(case)
    result = oc.solve(problem)
    assert result.status is oc.Status.CERTIFIED
    assert Fraction(result.certificate.lower) <= sum(gains) / len(gains) <= Fraction(result.certificate.upper)
    assert result.gain == pytest.approx(np.array(gains, dtype=float), rel=1e-13, abs=1e-14)
    assert oc.verify(problem, result)
    if case["name"] in BIAS:
        expected = np.array([Fraction(x) for x in BIAS[case["name"]]], dtype=float)
        assert result.bias - result.bias[-1] == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("solver", list(SOLVERS))
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_all_methods_agree(case, solver):
    problem = build(case)
    if solver == "modified" and case["name"].startswith(PERIODIC):
        pytest.skip("periodic, or averages depend on the start")
    result = oc.solve(problem, SOLVERS[solver])
    gains = np.array(gains_of(case), dtype=float)
    assert result.status is oc.Status.CERTIFIED
    assert result.objective == pytest.approx(gains.mean(), rel=1e-9, abs=1e-12)
    assert result.gain == pytest.approx(gains, rel=1e-9, abs=1e-12)


def test_howards_automobile():
    # Howard (1960), pages 55-60: 150.946 a quarter; the exact gain by rational policy iteration.
    problem = oc.Problem(oc.instances.get("howard-automobile", discount=None), sense="minimize", criterion="average")
    result = oc.solve(problem)
    truth = Fraction("3116406523506347001151057430/20645859466135059605927897")
    assert Fraction(result.certificate.lower) <= truth <= Fraction(result.certificate.upper)
    assert result.gap < 1e-9
    assert oc.verify(problem, result)

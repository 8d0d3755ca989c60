"""Published and exact answers of discounted questions; the tables with their sources are in discounted.json.

Values are exact rationals: recomputed by exact policy iteration, they correct some printed digits (a solver's
stopping tolerance shows in several published tables).
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import occlp as oc

CASES = json.loads((Path(__file__).parent / "discounted.json").read_text())
IDS = [f"{case['name']} ({case['discount']})" for case in CASES]
SOLVERS = {
    "default": None,
    "modified": oc.ModifiedPolicyIteration(),
    "HIGHS": oc.OccupancyProgram("HIGHS"),
    "CLARABEL": oc.OccupancyProgram("CLARABEL"),
    "SCS": oc.OccupancyProgram("SCS"),
}


def build(case: dict, *, exact: bool) -> oc.Problem:
    """The case as a problem, with its numbers as strings or rounded to doubles."""
    actions = list(dict.fromkeys(row[1] for row in case["rows"]))
    transitions = np.zeros((len(case["rows"]), case["n_states"]), dtype=object)
    for i, (_, _, successors, _) in enumerate(case["rows"]):
        for state, probability in successors:
            transitions[i, state] += Fraction(probability)
    rewards = np.array([Fraction(row[3]) for row in case["rows"]], dtype=object)
    discount, initial = case["discount"], case.get("initial")
    if not exact:
        transitions, rewards, discount = transitions.astype(float), rewards.astype(float), float(Fraction(discount))
    if initial is not None:
        initial = np.array([Fraction(x) for x in initial], dtype=object)
    mdp = oc.MDP.from_pairs(
        [row[0] for row in case["rows"]],
        [row[1] for row in case["rows"]],
        transitions,
        rewards,
        discount=discount,
        initial=initial,
        actions=actions,
    )
    return oc.Problem(mdp, sense=case["sense"])


def truth(case: dict) -> Fraction:
    """The exact normalised objective."""
    rest = 1 - Fraction(case["discount"])
    if "start_value" in case:
        return rest * Fraction(case["start_value"])
    values = [Fraction(value) for value in case["state_values"]]
    initial = case.get("initial", [Fraction(1, len(values))] * len(values))
    return rest * sum((Fraction(p) * value for p, value in zip(initial, values, strict=True)), Fraction(0))


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_exact_value_is_enclosed(case, solver):
    problem = build(case, exact=True)
    result = oc.solve(problem, solver)
    assert result.status is oc.Status.CERTIFIED
    assert Fraction(result.certificate.lower) <= truth(case) <= Fraction(result.certificate.upper)
    assert oc.verify(problem, result)
    if "state_values" in case:
        values = np.array([float(Fraction(value)) for value in case["state_values"]])
        assert result.state_values == pytest.approx(values, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_floats_give_the_same_answer(case):
    result = oc.solve(build(case, exact=False))
    assert result.status is oc.Status.CERTIFIED
    size = max(abs(float(truth(case))), 1e-3)
    assert result.objective == pytest.approx(float(truth(case)), abs=1e-8 * size)


def test_a_wrong_value_would_be_noticed():
    case = dict(CASES[0], state_values=["6561/250", "7371/250", "8372/250"])
    result = oc.solve(build(case, exact=True))
    assert not Fraction(result.certificate.lower) <= truth(case) <= Fraction(result.certificate.upper)


def test_all_policies_of_the_two_state_model():
    """Kakade 2001: normalised returns of the four deterministic policies, mu0 = (.8, .2)."""
    problem = build(CASES[-1], exact=True)
    expected = {("self", "self"): "6/5", ("self", "go"): "49/50", ("go", "self"): "46/25", ("go", "go"): "0"}
    for actions, value in expected.items():
        policy = oc.Policy.deterministic(problem.mdp, list(actions))
        assert oc.evaluate(problem, policy).objective == pytest.approx(float(Fraction(value)), abs=1e-14)


def test_random_policy_of_the_gridworld():
    """Sutton and Barto 2018, Figure 3.2: values of the equiprobable policy, to the printed digit."""
    case = next(case for case in CASES if "Sutton" in case["name"])
    mdp = build(case, exact=False).mdp
    values = oc.evaluate(mdp, oc.Policy.uniform(mdp)).state_values.reshape(5, 5)
    printed = [
        [3.3, 8.8, 4.4, 5.3, 1.5],
        [1.5, 3.0, 2.3, 1.9, 0.5],
        [0.1, 0.7, 0.7, 0.4, -0.4],
        [-1.0, -0.4, -0.4, -0.6, -1.2],
        [-1.9, -1.3, -1.2, -1.4, -2.0],
    ]
    assert values.round(1) == pytest.approx(np.array(printed), abs=0.051)


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (1e-9, 0), (1e9, 0), (1, 1e9), (1e-12, 0)])
@pytest.mark.parametrize("solver", ["default", "HIGHS", "CLARABEL"])
def test_scaled_and_shifted_rewards(solver, scale, shift):
    """A dense random model on which a value program solved by HiGHS is 46 % off when scaled by 1e-9."""
    rng = np.random.default_rng(0)
    transitions = rng.dirichlet(np.ones(20), 60)
    rewards = rng.random(60)
    mdp = oc.MDP.from_arrays(transitions.reshape(20, 3, 20), rewards.reshape(20, 3) * scale + shift, discount=0.95)
    result = oc.solve(mdp, SOLVERS[solver])
    assert result.status is oc.Status.CERTIFIED
    assert (result.objective - shift) / scale == pytest.approx(0.7732424322281969, rel=1e-9 if shift == 0 else 1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "discount", "value"),
    [
        ("FrozenLake-v1", {"map_name": "4x4"}, 0.9, 0.06889090488900351),
        ("FrozenLake-v1", {"map_name": "4x4"}, 0.95, 0.180471578397202),
        ("FrozenLake-v1", {"map_name": "4x4"}, 0.99, 0.5420259320004736),
        ("FrozenLake-v1", {"map_name": "8x8"}, 0.9, 0.006411114261567718),
        ("FrozenLake-v1", {"map_name": "8x8"}, 0.99, 0.4146403617999881),
        ("Taxi-v4", {}, 0.99, 6.327464314919365),
        ("Taxi-v4", {}, 0.9, -1.2633230990396556),
        ("CliffWalking-v1", {}, 0.99, -12.247897700103204),
    ],
)
def test_gymnasium_models(name, arguments, discount, value):
    gymnasium = pytest.importorskip("gymnasium")
    if name not in gymnasium.registry:
        pytest.skip(f"this Gymnasium has no {name}")
    mdp = oc.interop.from_gymnasium(name, discount=discount, **arguments)
    for solver in (None, oc.OccupancyProgram("HIGHS")):
        assert oc.solve(mdp, solver).expected_return == pytest.approx(value, abs=1e-9)

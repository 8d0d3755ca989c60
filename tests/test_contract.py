"""The names and shapes that users rely on, in one walk through the public interface."""

from __future__ import annotations

import numpy as np
import pytest

import occlp as oc


@pytest.fixture(scope="module")
def mdp() -> oc.MDP:
    transitions = np.array(
        [[[0.8, 0.2, 0], [1, 0, 0]], [[0, 0.7, 0.3], [1, 0, 0]], [[0, 0, 1.0], [1, 0, 0]]], dtype=float
    )
    wear = np.array([[0, 0], [1, 0], [3, 0]], dtype=float)
    return oc.MDP.from_arrays(
        transitions,
        [[10, -8], [8, -8], [0, -10]],
        discount=0.95,
        initial=np.full(3, 1 / 3),
        costs={"wear": wear},
        admissible=np.ones((3, 2), dtype=bool),
        states=["new", "worn", "broken"],
        actions=["run", "repair"],
    )


@pytest.fixture(scope="module")
def result(mdp: oc.MDP) -> oc.Result:
    return oc.solve(oc.Problem(mdp, constraints={"budget": oc.expected("wear") <= 0.25}))


def test_answers_have_the_promised_shapes(mdp, result):
    assert result.status is oc.Status.CERTIFIED
    assert result.status.value.endswith(".")
    assert result.expected_return == pytest.approx(float(mdp.initial @ result.state_values), rel=1e-12)
    assert result.expected["wear"] == pytest.approx(0.25, abs=1e-12)
    assert result.expected_total["wear"] == pytest.approx(5.0, abs=1e-10)
    for table in (
        result.policy.probabilities,
        result.occupancy,
        result.visits,
        result.action_values,
        result.advantages,
    ):
        assert table.shape == (3, 2)
    assert result.policy["worn", "repair"] == pytest.approx(result.policy.probabilities[1, 1])
    assert set(result.policy.actions) == {"new", "worn", "broken"}
    assert result.occupancy.sum() == pytest.approx(1)
    assert np.allclose(result.visits, result.occupancy / 0.05)
    assert result.visited.dtype == bool
    assert result.state_values.shape == result.visited.shape == (3,)
    assert result.multipliers["budget"] == pytest.approx(result.sensitivity["budget"])
    assert result.pair_occupancy.shape == result.policy.pair_probabilities.shape == (6,)
    assert set(result.history) >= {"objective", "gap", "suboptimal_mass", "kl", "samples", "seconds"}
    assert result.solver.startswith("Decomposition")
    assert result.timing.total > 0
    assert result.message


def test_the_certificate_is_plain_data(mdp, result):
    certificate = result.certificate
    assert certificate.lower <= result.objective <= certificate.upper
    assert certificate.gap <= 1e-8
    assert certificate.violation <= 1e-12
    assert certificate.values.shape == (3,)
    assert certificate.reduced_costs.shape == (6,)
    assert certificate.multipliers == result.multipliers
    assert certificate.exact is False
    assert certificate.assumptions
    again = oc.Certificate.from_json(certificate.to_json())
    assert again.upper == certificate.upper
    assert np.array_equal(again.values, certificate.values)


def test_every_question_is_one_line(mdp):
    uniform = oc.Policy.uniform(mdp)
    for problem in (
        oc.Problem(mdp, sense="minimize"),
        oc.Problem(mdp.replace(discount=None), criterion="average"),
        oc.Problem(mdp, regularizer=oc.KL(strength=0.1, reference=uniform)),
        oc.Problem(mdp, regularizer=oc.ConditionalKL(strength=0.1, reference=uniform)),
        oc.Problem(mdp, regularizer=oc.PolicyEntropy(strength=0.1)),
        oc.Problem(mdp, regularizer=oc.StateEntropy(strength=0.1)),
        oc.Problem(mdp, utility=oc.StateEntropy()),
        oc.Problem(mdp, utility=oc.TotalVariation(uniform)),
        oc.Problem(mdp, utility=oc.WorstCase(["wear", oc.expected("reward")])),
        oc.Problem(mdp, utility=oc.LogSum([oc.expected("wear"), oc.expected("reward") + 2 * oc.expected("wear")])),
        oc.Problem(mdp, constraints=[oc.expected("wear") - 0.1 * oc.expected("reward") <= 0.1]),
        oc.Problem(mdp, constraints={"few": oc.visits(states=["new"], actions=["run"]) <= 8}),
    ):
        found = oc.solve(problem)
        assert found.status is oc.Status.CERTIFIED
        assert oc.verify(problem, found)


def test_solvers_are_values_and_evaluation_stands_apart(mdp):
    assert oc.PolicyIteration() == oc.PolicyIteration()
    assert eval(f"oc.{oc.NaturalPolicyGradient(step_size=0.5)!r}") == oc.NaturalPolicyGradient(step_size=0.5)
    evaluation = oc.evaluate(mdp, oc.Policy.uniform(mdp))
    assert isinstance(evaluation, oc.Evaluation)
    assert not isinstance(evaluation, oc.Result)
    resumed = oc.solve(mdp, oc.NaturalPolicyGradient(), start=oc.solve(mdp), limit=oc.Limit(iterations=1), rng=0)
    assert resumed.status is oc.Status.CERTIFIED


def test_program_is_handed_back_in_user_units(mdp):
    problem = oc.Problem(mdp, constraints={"budget": oc.expected("wear") <= 0.25})
    program = oc.OccupancyProgram().program(problem)
    assert {"flow", "mass", "nonnegative", "budget"} <= {constraint.label for constraint in program.constraints}
    program.solve(solver="CLARABEL")
    assert program.value == pytest.approx(oc.solve(problem).objective, abs=1e-5)


def test_comparison_makes_tables(mdp, tmp_path):
    table = oc.compare(
        mdp, {"lp": oc.OccupancyProgram(), "pi": oc.PolicyIteration(), "npg": oc.NaturalPolicyGradient()}, rng=0
    )
    assert [record["name"] for record in table.to_records()] == ["lp", "pi", "npg"]
    assert "CERTIFIED" in str(table)
    table.plot(tmp_path / "convergence.png")
    assert (tmp_path / "convergence.png").stat().st_size > 0
    assert table.report(tmp_path / "comparison.html").read_text().startswith("<!")

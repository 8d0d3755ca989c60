"""Answers in files: they come back whole, are checked without a solver, and damage is an error of ours."""

from __future__ import annotations

import json
from dataclasses import replace

import cvxpy
import numpy as np
import pytest
from typer.testing import CliRunner

import occlp as oc
from benchmarks.lie_questions import QUESTIONS
from occlp.cli import app


def cases():
    machine = oc.instances.get("machine-repair")
    uniform = oc.Policy.uniform(machine)
    undiscounted = machine.replace(discount=None)
    table = np.arange(machine.n_states * machine.n_actions, dtype=float).reshape(machine.n_states, -1)
    limits = {
        "wear": oc.expected("wear") <= 0.4,
        "table": 0.5 * oc.expected(table) - oc.expected_total("wear") <= 3.0,
        "visits": oc.visits(actions="repair") >= 0.1,
    }
    yield "plain", oc.Problem(machine)
    yield "costs", oc.Problem(oc.instances.get("howard-automobile"), sense="minimize")
    yield "limits", oc.Problem(machine, constraints=limits)
    yield "average", oc.Problem(undiscounted, criterion="average")
    yield "kl", oc.Problem(machine, regularizer=oc.KL(3.0, uniform))
    yield "conditional", oc.Problem(machine, regularizer=oc.ConditionalKL(1.0, uniform), sense="minimize")
    yield "entropy", oc.Problem(machine, regularizer=oc.PolicyEntropy(1.0))
    yield "utility", oc.Problem(machine, utility=oc.StateEntropy())
    yield "total", oc.Problem(oc.instances.get("russell-norvig-grid").replace(discount=None), criterion="total")


CASES = dict(cases())


@pytest.mark.parametrize("kind", CASES)
def test_answers_come_back_whole(kind, tmp_path):
    problem, path = CASES[kind], tmp_path / "answer.json"
    result = oc.solve(problem)
    oc.save_answer(problem, result, path)
    answer = oc.load_answer(path)
    assert answer.problem.fingerprint == problem.fingerprint
    assert answer.certificate.to_json() == result.certificate.to_json()
    assert np.array_equal(answer.policy.pair_probabilities, result.policy.pair_probabilities)
    assert answer.verify()


@pytest.mark.parametrize("level", ["interval", "exact"])
@pytest.mark.parametrize("kind", ["plain", "limits", "average"])
def test_levels_come_back(kind, level, tmp_path):
    pytest.importorskip("flint")
    problem, path = CASES[kind], tmp_path / "answer.json"
    oc.save_answer(problem, oc.solve(problem, certify=level), path)
    answer = oc.load_answer(path)
    assert answer.certificate.level == level
    assert answer.verify()


def test_false_claims_are_found(tmp_path):
    problem, path = CASES["plain"], tmp_path / "answer.json"
    result = oc.solve(problem)
    certificate = replace(result.certificate, lower=0.0, upper=1.0)
    oc.save_answer(problem, replace(result, certificate=certificate), path)
    with pytest.raises(oc.AuditFailed):
        oc.load_answer(path).verify()


class Odd(oc.StateEntropy):
    """A utility of somebody else."""


def test_what_is_no_plain_data(tmp_path):
    problem = oc.Problem(CASES["plain"].mdp, utility=Odd())
    with pytest.raises(oc.Unsupported, match="Odd cannot be written"):
        oc.save_answer(problem, oc.solve(problem), tmp_path / "answer.json")


@pytest.mark.parametrize("level", ["float", "exact"])
@pytest.mark.parametrize("kind", QUESTIONS)
def test_every_kind_comes_back(kind, level, tmp_path):
    """Also answers that there is no optimum; and with a lie in the file the audit says so."""
    if level == "exact":
        pytest.importorskip("flint")
    problem, path = QUESTIONS[kind], tmp_path / "answer.json"
    oc.save_answer(problem, oc.solve(problem, certify=level, check=False), path)
    answer = oc.load_answer(path)
    assert answer.problem.fingerprint == problem.fingerprint
    assert answer.verify()
    told = CliRunner().invoke(app, ["verify", str(path)])
    assert told.exit_code == 0
    assert told.stdout.startswith("verified: ")
    content = json.loads(path.read_text())
    content["certificate"]["values"] = [1e3 * (1 + abs(x)) for x in content["certificate"]["values"]]
    content["certificate"] |= {"lower": 17.0, "upper": 17.0, "gap": 0.0}
    path.write_text(json.dumps(content))
    if content["certificate"]["infeasible_by"] is None:
        with pytest.raises(oc.AuditFailed):
            oc.load_answer(path).verify()


def users() -> dict[str, oc.Problem]:
    machine = CASES["plain"].mdp
    spread = oc.Utility(lambda d: -cvxpy.sum_squares(d))
    return {
        "objective": oc.Problem(machine, utility=spread),
        "limit": oc.Problem(machine, constraints={"spread": spread >= -0.4, "wear": oc.expected("wear") <= 0.4}),
        "table": oc.Problem(machine, utility=oc.TotalVariation(np.full((machine.n_states, machine.n_actions), 1 / 6))),
        "weights": oc.Problem(machine, utility=oc.LogSum(["wear", 2 * oc.expected("reward")], [1.0, 3.0])),
    }


@pytest.mark.parametrize("kind", ["objective", "limit", "table", "weights"])
def test_functions_come_back_as_names(kind, tmp_path):
    """No function is in the file: its majorant is, and what is trusted is said."""
    problem, path = users()[kind], tmp_path / "answer.json"
    oc.save_answer(problem, oc.solve(problem), path)
    answer = oc.load_answer(path)
    assert answer.problem.fingerprint == problem.fingerprint
    assert answer.verify()
    told = CliRunner().invoke(app, ["verify", str(path)]).stdout
    assert ("assuming that the utility" in told) == (kind in ("objective", "limit"))
    if kind in ("objective", "limit"):
        with pytest.raises(oc.Unsupported, match="name only"):
            oc.solve(answer.problem)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("answers") / "answer.json"
    oc.save_answer(CASES["limits"], oc.solve(CASES["limits"]), path)
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(60))
def test_damaged_files(seed, written, tmp_path):
    """Truncated, overwritten and shuffled bytes: an error of ours, or an answer that is still true."""
    rng, path = np.random.default_rng(seed), tmp_path / "answer.json"
    data = bytearray(written)
    where = int(rng.integers(len(data)))
    if seed % 3 == 0:
        data = data[:where]
    elif seed % 3 == 1:
        data[where : where + 8] = rng.bytes(8)
    else:
        data[where] = ord(rng.choice(list("0123456789.,:[]{}\"'-eEx")))
    path.write_bytes(bytes(data))
    try:
        answer = oc.load_answer(path)
        answer.verify()
    except (oc.InvalidProblem, oc.AuditFailed):
        return
    truth = oc.solve(answer.problem).objective
    assert answer.certificate.lower - 1e-9 <= truth <= answer.certificate.upper + 1e-9


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"}, {"version": 2}, {"version": None}, {"model": 3}, {"model": "@@"}, {"model": "aGVsbG8="},
        {"policy": [1.0]}, {"policy": "uniform"}, {"policy": None}, {"question": None}, {"question": []},
        {"certificate": {}}, {"certificate": "fine"}, {"certificate": None},
    ],
)  # fmt: skip
def test_altered_files(change, written, tmp_path):
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(json.loads(written) | change))
    with pytest.raises(oc.InvalidProblem, match="cannot be read as an answer"):
        oc.load_answer(path)


@pytest.mark.parametrize(
    "change",
    [
        {"sense": "best"}, {"criterion": "some"}, {"goal": [99]}, {"goal": "x"}, {"constraints": []},
        {"constraints": {"wear": {"terms": [[1, "rust", False]], "relation": "<=", "bound": 1, "label": None}}},
        {"constraints": {"wear": {"terms": [[1, "wear", False]], "relation": "<", "bound": 1, "label": None}}},
        {"constraints": {"wear": {"terms": [[1, "wear", False]], "relation": "<=", "bound": float("inf")}}},
        {"constraints": {"wear": {"terms": [[1, [0.0], False]], "relation": "<=", "bound": 1, "label": None}}},
        {"constraints": {"wear": {"utility": None, "bound": 1}}},
        {"constraints": {"wear": {"utility": {"kind": "PolicyEntropy", "strength": 1, "reference": None}, "bound": 1}}},
        {"regularizer": {"kind": "__import__", "strength": 1, "reference": None}}, {"utility": {"kind": "KL"}},
        {"regularizer": {"kind": "PolicyEntropy", "strength": -1, "reference": None}},
    ],
)  # fmt: skip
def test_hostile_questions(change, written, tmp_path):
    plain, path = json.loads(written), tmp_path / "answer.json"
    plain["question"] |= change
    path.write_text(json.dumps(plain))
    with pytest.raises(oc.InvalidProblem, match="cannot be read as an answer"):
        oc.load_answer(path)


def test_files_that_are_too_large_or_too_deep(tmp_path, monkeypatch):
    path = tmp_path / "answer.json"
    path.write_text("[" * 100_000)
    with pytest.raises(oc.InvalidProblem, match="cannot be read"):
        oc.load_answer(path)
    monkeypatch.setattr("occlp.answers.MOST_BYTES", 10)
    with pytest.raises(oc.InvalidProblem, match="larger than 10 bytes"):
        oc.load_answer(path)
    with pytest.raises(FileNotFoundError):
        oc.load_answer(tmp_path / "nothing.json")


class TestTheCommand:
    def test_solve_and_verify(self, tmp_path):
        pytest.importorskip("flint")
        path = tmp_path / "answer.json"
        run = CliRunner().invoke
        assert run(app, ["solve", "forest", "--certify", "exact", "--save", str(path)]).exit_code == 0
        done = run(app, ["verify", str(path)])
        assert done.exit_code == 0
        assert "verified: the optimum lies in" in done.output
        assert "exactly 22303/7500" in done.output
        plain = json.loads(run(app, ["verify", str(path), "--json"]).output)
        assert plain["optimum"] == "22303/7500"

    def test_false_and_damaged(self, written, tmp_path):
        path = tmp_path / "answer.json"
        plain = json.loads(written)
        plain["certificate"]["upper"] -= 1.0
        path.write_text(json.dumps(plain))
        assert CliRunner().invoke(app, ["verify", str(path)]).exit_code == 1
        path.write_text("{}")
        assert CliRunner().invoke(app, ["verify", str(path)]).exit_code == 2

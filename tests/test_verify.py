"""The audit: it accepts what honest solvers return, and nothing that is false."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import random_policy, sparse_rewards, two_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps, policy_tables

import occlp as oc
from occlp.errors import AuditFailed
from occlp.verify import verify

SOLVERS = {
    "policy iteration": oc.PolicyIteration(),
    "Howard's": oc.PolicyIteration(warm_up=0),
    "value iteration": oc.ValueIteration(),
    "modified policy iteration": oc.ModifiedPolicyIteration(),
    "HIGHS": oc.OccupancyProgram("HIGHS"),
    "CLARABEL": oc.OccupancyProgram("CLARABEL"),
    "SCS": oc.OccupancyProgram("SCS"),
    "decomposition": oc.Decomposition(),
    "natural gradient": oc.NaturalPolicyGradient(steps=3),
    "gradient": oc.PolicyGradient(steps=3),
}
MODELS = {
    "toymaker": lambda: oc.instances.get("howard-toymaker"),
    "labels": lambda: oc.instances.get("machine-repair"),
    "two classes": lambda: two_classes("1e-3"),
    "sparse rewards": lambda: sparse_rewards(1e-6, 4),
    "garnet": lambda: oc.instances.get("garnet", n_states=30, n_actions=3, branching=3, seed=2),
    "large rewards": lambda: oc.instances.get("riverswim"),
    "offset": lambda: oc.instances.get("howard-taxicab").replace(
        rewards=oc.instances.get("howard-taxicab").pair_rewards + 1e9
    ),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_honest_answers_pass(model, solver, sense):
    problem = oc.Problem(MODELS[model](), sense=sense)
    result = oc.solve(problem, SOLVERS[solver], check=False)
    assert oc.verify(problem, result) is True
    assert oc.verify(problem, pickle.loads(pickle.dumps(result))) is True
    if problem.sense == "maximize":
        assert oc.verify(problem.mdp, result) is True  # an MDP is the plain question about it


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("solver", [oc.KLDual(), oc.OccupancyProgram("CLARABEL")])
@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_honest_answers_with_a_kl_term_pass(model, solver, sense):
    mdp = MODELS[model]()
    strength = 0.3 * float(np.ptp(mdp.pair_rewards))
    reference = random_policy(mdp, np.random.default_rng(0))
    problem = oc.Problem(mdp, sense=sense, regularizer=oc.KL(strength, reference))
    assert oc.verify(problem, oc.solve(problem, solver, check=False)) is True


@given(st.data(), mdps(max_states=4), st.sampled_from(["maximize", "minimize"]))
@settings(max_examples=60)
def test_honest_answers_about_every_kind_of_model_pass(data, mdp, sense):
    policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    problem = oc.Problem(mdp, sense=sense)
    assert oc.verify(problem, oc.solve(problem))
    stopped = oc.solve(problem, oc.PolicyIteration(warm_up=0), start=policy, limit=oc.Limit(iterations=1))
    assert oc.verify(problem, stopped)


@pytest.mark.parametrize("solver", [oc.PolicyIteration(), oc.PolicyIteration(warm_up=0), oc.ValueIteration()])
def test_honest_answers_with_classes_of_different_gain_pass(solver):
    mdp = oc.MDP.from_arrays(
        [[[2 / 3, 1 / 3], [1, 0]], [[0, 1], [0, 1]]], [[-5.0, 8.0], [-9.0, 3.0]], discount=1.0 - 1e-6
    )
    assert oc.verify(mdp, oc.solve(mdp))
    assert oc.verify(two_classes("1e-9"), oc.solve(two_classes("1e-9"), solver))


def test_an_honest_answer_with_a_state_between_classes_passes():
    rows = [[0.2, 0, 0.2, 0.6], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]
    mdp = oc.MDP.from_pairs(range(4), [0] * 4, rows, [-1.0, 1.25, -0.25, 0.0], discount=1 - 1e-9, initial=3)
    assert oc.verify(mdp, oc.solve(mdp))


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_honest_answers_at_the_longest_horizons_pass(size):
    rewards = size * np.array([[4.4], [2.5]])
    mdp = oc.MDP.from_arrays([[[1, 0]], [[0, 1]]], rewards, discount=1 - 1e-12, initial=0)
    assert oc.verify(oc.Problem(mdp, sense="minimize"), oc.solve(oc.Problem(mdp, sense="minimize")))


def test_an_honest_answer_with_states_out_of_reach_of_the_prior_passes():
    rows = [[0.5, 0, 0, 0.5], [0, 0.4, 0.2, 0.4], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    mdp = oc.MDP.from_pairs(
        [0, 1, 2, 2, 2, 3], [0, 0, 0, 1, 2, 0], rows, [6.0, 5.0, 0.0, 6.0, 2.0, 6.5],
        discount=1 - 1e-3, initial=[0, 0, 1 / 3, 2 / 3],
    )  # fmt: skip
    reference = oc.Policy.from_pairs(mdp, [1, 1, 0.125, 0.875, 0, 1])
    problem = oc.Problem(mdp, sense="minimize", regularizer=oc.KL(1.0, reference))
    assert oc.verify(problem, oc.solve(problem))


# False claims ------------------------------------------------------------------------------------------------


@pytest.fixture
def oversold():
    """The uniform policy of the toymaker, sold as optimal, with a gap of zero."""
    problem = oc.Problem(oc.instances.get("howard-toymaker"))
    result = oc.solve(problem, oc.NaturalPolicyGradient(steps=0), check=False)
    certificate = dataclasses.replace(result.certificate, upper=result.certificate.lower, gap=0.0)
    return problem, dataclasses.replace(result, certificate=certificate)


def test_an_oversold_policy_is_rejected(oversold):
    with pytest.raises(AuditFailed, match="better than the certificate's bound are not excluded"):
        oc.verify(*oversold)


@pytest.mark.parametrize("name", ["shift", "values", "policy_values"])
@pytest.mark.parametrize("size", [1e20, 1e25])
def test_large_numbers_do_not_buy_an_allowance(oversold, name, size):
    problem, result = oversold
    certificate = dataclasses.replace(result.certificate, **{name: getattr(result.certificate, name) + size})
    with pytest.raises(AuditFailed):
        oc.verify(problem, dataclasses.replace(result, certificate=certificate))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fingerprint": "0" * 64}, "another problem"),
        ({"lower": 1.8, "upper": 1.9, "gap": 0.2}, "does not attain"),
        ({"lower": 2.0, "upper": 1.0}, "exceeds"),
        ({"lower": 1.6, "upper": 1.7}, "not excluded"),
        ({"upper": np.nan}, "not excluded"),
        ({"lower": np.nan}, "does not attain"),
        ({"values": np.zeros(3)}, "one finite number a state"),
        ({"values": np.array([np.nan, 0.0])}, "one finite number a state"),
        ({"values_low": np.array([np.inf, 0.0])}, "one finite number a state"),
        ({"policy_values": np.zeros((2, 1))}, "one finite number a state"),
        ({"policy_values": np.zeros(2)}, "does not attain"),
        ({"reduced_costs": np.zeros(4)}, "reduced costs"),
        ({"reduced_costs": np.full(4, np.nan)}, "reduced costs"),
        ({"shift": np.nan}, ""),
        ({"multipliers": {"wear": 1.0}}, "multipliers"),
        ({"infeasible_by": 1.0}, "infeasibility"),
    ],
)
def test_each_false_claim_of_a_certificate_is_named(changes, words):
    mdp = oc.instances.get("howard-toymaker")
    result = oc.solve(mdp)
    altered = dataclasses.replace(result, certificate=dataclasses.replace(result.certificate, **changes))
    with pytest.raises(AuditFailed, match=words or None):
        oc.verify(mdp, altered)


@pytest.mark.parametrize(
    "changes",
    [
        {"gap": np.nan}, {"gap": -np.inf}, {"spread": 1e300}, {"rounding": 1e300}, {"violation": 1.0},
        {"level": "exact"}, {"reduced_costs": np.zeros(7)}, {"shift": np.inf}, {"sensitivity": {"wear": 1.0}},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_other_false_claims_of_a_certificate_are_rejected(changes):
    mdp = oc.instances.get("howard-toymaker")
    result = oc.solve(mdp)
    altered = dataclasses.replace(result, certificate=dataclasses.replace(result.certificate, **changes))
    with pytest.raises(AuditFailed):
        oc.verify(mdp, altered)


def changed_figures(result):
    """Figures beside the certificate, each with a lie."""
    d = np.array(result.pair_occupancy)
    moved = d.copy()
    moved[0], moved[1] = moved[0] - 1e-6, moved[1] + 1e-6
    yield "shape", {"pair_occupancy": d[:-1]}, "one finite number a pair"
    yield "nan", {"pair_occupancy": np.full_like(d, np.nan)}, "one finite number a pair"
    yield "negative", {"pair_occupancy": np.append(d[:-1] + 1e-3, -3e-3)}, "one finite number a pair"
    yield "mass", {"pair_occupancy": 2 * d}, "not 1"
    yield "flow", {"pair_occupancy": np.full_like(d, 1 / len(d))}, "flow equations"
    yield "policy", {"pair_occupancy": moved}, "not that of the policy|flow equations"
    yield "objective", {"objective": result.objective + 1e-6}, "lies outside"
    yield "no objective", {"objective": np.nan}, "lies outside"
    yield "expected", {"expected": {**result.expected, "reward": result.expected["reward"] + 1e-6}}, "expected.'reward'"
    yield "cost", {"expected": {**result.expected, "wear": result.expected["wear"] + 1e-6}}, "expected.'wear'"


@pytest.mark.parametrize("case", range(10))
def test_false_figures_beside_the_certificate_are_named(case):
    mdp = oc.instances.get("machine-repair")
    result = oc.solve(mdp)
    cases = list(changed_figures(result))
    assert len(cases) == 10
    _, changes, words = cases[case]
    with pytest.raises(AuditFailed, match=words):
        oc.verify(mdp, dataclasses.replace(result, **changes))


def test_a_false_objective_within_the_gap_is_rejected():
    problem = oc.Problem(oc.instances.get("howard-toymaker"))
    result = oc.solve(problem, oc.NaturalPolicyGradient(steps=0), check=False)
    assert result.gap > 0.1
    with pytest.raises(AuditFailed):
        oc.verify(problem, dataclasses.replace(result, objective=result.objective + 0.1))


@pytest.mark.parametrize(
    "name", ["state_values", "pair_action_values", "pair_advantages", "visited", "rest", "expected"]
)
def test_other_false_figures_are_rejected(name):
    mdp = oc.instances.get("howard-toymaker")
    result = oc.solve(mdp)
    value = getattr(result, name)
    change = {} if name == "expected" else ~value if name == "visited" else value + 1.0
    with pytest.raises(AuditFailed):
        oc.verify(mdp, dataclasses.replace(result, **{name: change}))


def test_answers_to_other_questions_are_rejected():
    mdp = oc.instances.get("howard-toymaker")
    result = oc.solve(mdp)
    for other in (
        oc.Problem(mdp, sense="minimize"),
        oc.Problem(mdp.replace(discount=0.8)),
        oc.Problem(mdp.replace(initial="successful")),
        oc.Problem(mdp, regularizer=oc.KL(1.0, oc.Policy.uniform(mdp))),
        oc.Problem(oc.instances.get("kakade-two-state")),
    ):
        with pytest.raises(AuditFailed, match="another problem"):
            oc.verify(other, result)


def test_a_policy_of_another_model_or_with_garbage_is_rejected():
    mdp = oc.instances.get("howard-toymaker")
    result = oc.solve(mdp)
    other = oc.Policy.uniform(oc.instances.get("kakade-two-state"))
    broken = [np.array([0.5, 0.6, 1.0, 0.0]), np.array([1.5, -0.5, 1.0, 0.0]), np.array([np.nan, 1.0, 1.0, 0.0])]
    policies = [other, *(oc.Policy(mdp.pairs, probabilities) for probabilities in broken)]
    for policy in policies:
        with pytest.raises(AuditFailed, match=r"another model|not probabilities|sum to"):
            oc.verify(mdp, dataclasses.replace(result, policy=policy))


def test_a_kl_answer_off_the_support_of_the_prior_is_rejected():
    mdp = oc.instances.get("howard-toymaker")
    reference = oc.Policy.from_pairs(mdp, [1.0, 0.0, 0.5, 0.5])
    problem = oc.Problem(mdp, regularizer=oc.KL(0.5, reference))
    result = oc.solve(problem)
    assert oc.verify(problem, result)
    astray = dataclasses.replace(result, policy=oc.Policy.uniform(mdp))
    with pytest.raises(AuditFailed, match="infinite"):
        oc.verify(problem, astray)


def test_constrained_answers():
    machine = oc.instances.get("machine-repair")
    problem = oc.Problem(machine, constraints={"budget": oc.expected("wear") <= 0.25})
    result = oc.solve(problem)
    assert oc.verify(problem, result)
    certificate = result.certificate
    for changes, words in (
        ({"multipliers": {"budget": -certificate.multipliers["budget"]}}, "must not be negative"),
        ({"multipliers": {"budget": np.nan}}, "must not be negative"),
        ({"multipliers": {"budget": 0.5 * certificate.multipliers["budget"]}}, "not excluded"),
        ({"multipliers": {"budget": 2.0 * certificate.multipliers["budget"]}}, "not excluded"),
        ({"multipliers": {}}, "multipliers"),
    ):
        altered = dataclasses.replace(result, certificate=dataclasses.replace(certificate, **changes))
        with pytest.raises(AuditFailed, match=words):
            oc.verify(problem, altered)
    free = oc.solve(machine)
    spent = dataclasses.replace(free, certificate=dataclasses.replace(
        free.certificate, fingerprint=problem.fingerprint, multipliers={"budget": 0.0},
    ))  # fmt: skip
    with pytest.raises(AuditFailed, match="'budget' is broken by"):
        oc.verify(problem, spent)


# Independence ------------------------------------------------------------------------------------------------


def imports_of(path, *, inside_functions=True):
    """Modules that a file imports when it runs; those under TYPE_CHECKING do not count."""
    found, pending = set(), list(ast.parse(path.read_text(encoding="utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            pending += node.orelse
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return found


def files_of(root, modules):
    """Files of the package's modules among these names."""
    paths = [root.joinpath(*name.split(".")[1:]) for name in modules if name.split(".")[0] == "occlp"]
    return [path for stem in paths for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()]


def test_the_audit_imports_neither_solvers_nor_compilers():
    """Nor the code that makes certificates; and nothing that it imports brings them in."""
    folder = Path(inspect.getfile(verify)).parent
    own = set().union(*(imports_of(path) for path in folder.glob("*.py")))
    assert {"numpy", "scipy"} <= {name.partition(".")[0] for name in own}
    makers = (
        "kernels",
        "chain",
        "resolvent",
        "evaluation",
        "certificate",
        "tracking",
        "solvers",
        "solving",
        "comparison",
    )
    assert not own & {f"occlp.{name}" for name in makers}
    reached, pending = set(folder.glob("*.py")), [*folder.glob("*.py")]
    while pending:
        path = pending.pop()
        # A package brings its __init__ along; functions that import a solver when called are not called here.
        names = imports_of(path, inside_functions=path.parent == folder)
        assert not {name.partition(".")[0] for name in names} & {"cvxpy", "numba", "llvmlite", "highspy"}, path
        fresh = set(files_of(folder.parent, names)) - reached
        reached |= fresh
        pending += fresh
    assert folder.parent / "problem.py" in reached  # the walk went somewhere


def test_the_reader_of_imports_sees_them(tmp_path):
    file = tmp_path / "module.py"
    text = """from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import cvxpy
else:
    import llvmlite
def f():
    import numba
from occlp import solvers
"""
    file.write_text(text, encoding="utf-8")
    seen = {"typing", "typing.TYPE_CHECKING", "llvmlite", "occlp", "occlp.solvers"}
    assert imports_of(file) == {*seen, "numba"}
    assert imports_of(file, inside_functions=False) == seen


AUDIT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("cvxpy", "numba", "llvmlite", "highspy", "clarabel", "scs"):
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocked())
import json
import types
import numpy as np
from occlp.errors import AuditFailed
from occlp.model import MDP
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.verify import verify

plain = json.loads(sys.stdin.read())
mdp = MDP.from_arrays(plain["transitions"], plain["rewards"], discount=plain["discount"], initial=plain["initial"])
fields = {k: np.array(v) if isinstance(v, list) else v for k, v in plain["certificate"].items()}
result = types.SimpleNamespace(
    policy=Policy.from_pairs(mdp, plain["policy"]),
    certificate=types.SimpleNamespace(**fields),
    pair_occupancy=np.array(plain["occupancy"]),
    objective=plain["objective"],
    expected=plain["expected"],
    discount=plain["discount"],
    rest=plain["rest"],
    **{name: np.array(plain[name]) for name in ("visited", "state_values", "pair_action_values", "pair_advantages")},
)
print(verify(Problem(mdp), result))
result.certificate.upper -= 1e-3
result.certificate.lower -= 1e-2
try:
    verify(Problem(mdp), result)
except AuditFailed as error:
    print(error)
try:
    import cvxpy
except ImportError as error:
    print(error)
print(sorted(name for name in ("cvxpy", "numba", "llvmlite") if sys.modules.get(name)))
"""


def test_the_audit_runs_from_plain_data_where_solvers_and_compilers_are_missing():
    mdp = oc.instances.get("garnet", n_states=5, n_actions=2, branching=2, seed=0)
    result = oc.solve(mdp)
    plain = {
        "transitions": mdp.transitions.toarray().reshape(5, 2, 5).tolist(),
        "rewards": mdp.rewards.tolist(),
        "discount": mdp.discount,
        "initial": mdp.initial.tolist(),
        "policy": result.policy.pair_probabilities.tolist(),
        "certificate": json.loads(result.certificate.to_json()),
        "occupancy": result.pair_occupancy.tolist(),
        "objective": float(result.objective),
        "expected": {name: float(value) for name, value in result.expected.items()},
        "rest": result.rest,
    }
    for name in ("visited", "state_values", "pair_action_values", "pair_advantages"):
        plain[name] = getattr(result, name).tolist()
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", AUDIT],
        input=json.dumps(plain),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0] == "True"
    assert lines[1].startswith("policies better than the certificate's bound are not excluded")
    assert lines[2:] == ["blocked: cvxpy", "[]"]

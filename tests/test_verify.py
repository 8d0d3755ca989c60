"""The audit: it accepts what honest solvers return, and nothing that is false."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import pickle
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import Exact, exact_objective, random_policy, sparse_rewards, two_classes
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


# Mutations ---------------------------------------------------------------------------------------------------


def small_questions():
    """Problems whose truth is known: exactly where they are plain, to 1e-12 with a KL term."""
    toymaker, grid = oc.instances.get("howard-toymaker"), sparse_rewards(1e-3, 4)
    machine = oc.instances.get("machine-repair")
    yield "plain", oc.Problem(toymaker)
    yield "costs", oc.Problem(oc.instances.get("puterman-two-state"), sense="minimize")
    yield "classes", oc.Problem(two_classes("1e-3"))
    yield "sparse", oc.Problem(grid)
    yield "offset", oc.Problem(toymaker.replace(rewards=toymaker.pair_rewards + 100.0))
    yield "kl", oc.Problem(machine, regularizer=oc.KL(2.0, oc.Policy.uniform(machine)))
    reference = random_policy(toymaker, np.random.default_rng(1))
    yield "kl costs", oc.Problem(toymaker, sense="minimize", regularizer=oc.KL(0.5, reference))
    yield "limits", oc.Problem(machine, constraints=[oc.expected("wear") <= 0.25])


@dataclasses.dataclass(frozen=True)
class Truth:
    """The optimum and what a policy attains, to be compared with claims."""

    problem: oc.Problem
    optimum: Fraction

    @classmethod
    def of(cls, problem: oc.Problem) -> Truth:
        exact = Exact.of(problem.mdp)
        if problem.limits:  # best lotteries of two policies, in fractions: tests/exact/test_levels.py
            return cls(problem, Fraction(351817, 47600))
        if problem.regularizer is None:
            return cls(problem, exact.optimum(problem.sense))
        # A policy that attains the optimum to 1e-12: its value is on the safe side of it.
        return cls(problem, exact_objective(problem, oc.solve(problem, tol=1e-10, check=False).policy, exact))

    def denies(self, result: oc.Result) -> str | None:
        """What is false in the bounds of a certificate, beyond the rounding that an audit must allow."""
        sign = 1 if self.problem.sense == "maximize" else -1
        certificate = result.certificate
        attained = sign * exact_objective(self.problem, result.policy)
        low, high = (certificate.lower, certificate.upper)[::sign]
        low, high = sign * low, sign * high
        slack = Fraction(1e-11) * Fraction(1 + float(np.abs(self.problem.mdp.pair_rewards).max()))
        if np.isfinite(high) and sign * self.optimum > Fraction(high) + slack:
            return "upper"
        if np.isfinite(low) and attained < Fraction(low) - slack:
            return "lower"
        if np.isfinite(certificate.gap) and sign * self.optimum - attained > Fraction(certificate.gap) + slack:
            return "gap"
        return None


def noise(rng, size):
    """Something to add: of any size from rounding to a hundred times the rewards."""
    return size * rng.choice([-1, 1]) * 10.0 ** rng.uniform(-14, 2)


def change_number(rng, value, size):
    kinds = [value + noise(rng, size), value * (1 + noise(rng, 1.0)), -value, 0.0, np.nan, np.inf, -np.inf]
    return float(kinds[rng.choice(len(kinds), p=[0.5, 0.3, 0.06, 0.06, 0.03, 0.03, 0.02])])


def change_array(rng, array, size):
    array = np.array(array)
    kind = rng.integers(6)
    if kind == 0:
        array[rng.integers(len(array))] += noise(rng, size)
    elif kind == 1:
        array += noise(rng, size)
    elif kind == 2:
        array *= 1 + noise(rng, 1.0)
    elif kind == 3:
        array = rng.permutation(array)
    elif kind == 4:
        array += size * rng.normal(size=len(array)) * 10.0 ** rng.uniform(-14, 2)
    else:
        array[rng.integers(len(array))] = rng.choice([np.nan, np.inf, -np.inf])
    return array


FIGURES = dataclasses.fields(oc.Evaluation)
SCALARS = ("lower", "upper", "gap", "shift")
ARRAYS = ("values", "values_low", "policy_values", "policy_values_low", "reduced_costs")


def mutate(rng, problem, result):
    """One to three lies about a result; the model itself may be exchanged, with the fingerprint to match."""
    certificate, size = result.certificate, float(np.ptp(problem.mdp.pair_rewards))
    words = []
    for _ in range(rng.integers(1, 4)):
        kind = rng.choice(["scalar", "array", "policy", "claim more", "model"], p=[0.3, 0.3, 0.15, 0.15, 0.1])
        if kind == "model" and (problem.limits or certificate.proof is not None):
            kind = "prices" if problem.limits else "proof"
        if kind == "scalar":
            name = str(rng.choice(SCALARS))
            certificate = dataclasses.replace(
                certificate, **{name: change_number(rng, getattr(certificate, name), size)}
            )
        elif kind == "array":
            name = str(rng.choice(ARRAYS))
            certificate = dataclasses.replace(
                certificate, **{name: change_array(rng, getattr(certificate, name), size)}
            )
        elif kind == "policy":
            name, weight = "policy", 10.0 ** rng.uniform(-12, 0)
            other = random_policy(problem.mdp, rng).pair_probabilities
            mixed = (1 - weight) * result.policy.pair_probabilities + weight * other
            policy = oc.Policy.from_pairs(problem.mdp, mixed)
            result = dataclasses.replace(result, policy=policy)
            if rng.random() < 0.5:  # figures that fit, so that the certificate alone gives it away
                evaluation = oc.evaluate(problem, policy)
                result = dataclasses.replace(result, **{f.name: getattr(evaluation, f.name) for f in FIGURES})
        elif kind == "prices":
            name = "prices"
            prices = {key: change_number(rng, price, 1.0) for key, price in certificate.multipliers.items()}
            certificate = dataclasses.replace(certificate, multipliers=prices, sensitivity=dict(prices))
        elif kind == "proof":
            name, proof = "proof", certificate.proof
            lie = Fraction(noise(rng, size))
            values = list(proof.values)
            values[rng.integers(len(values))] += lie
            part = {"optimum": proof.optimum + lie} if rng.random() < 0.5 else {"values": tuple(values)}
            certificate = dataclasses.replace(certificate, proof=dataclasses.replace(proof, **part))
        elif kind == "claim more":
            name, share = "claim more", rng.random()
            end = (1 - share) * certificate.lower + share * certificate.upper + noise(rng, size)
            certificate = dataclasses.replace(certificate, lower=end, upper=end, gap=0.0)
        else:
            name, mdp = "model", problem.mdp
            rewards = change_array(rng, mdp.pair_rewards, size)
            if np.isfinite(rewards).all():
                changed = mdp.replace(rewards=rewards, discount=min(max(mdp.discount + noise(rng, 1e-3), 0.0), 0.9999))
                problem = dataclasses.replace(problem, mdp=changed)
                certificate = dataclasses.replace(certificate, fingerprint=problem.fingerprint)
        words.append(str(name))
    return problem, dataclasses.replace(result, certificate=certificate), "+".join(words)


@pytest.mark.parametrize("count", [200, pytest.param(1250, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [name for name, _ in small_questions()])
def test_no_mutation_gets_a_false_bound_past_the_audit(kind, count):
    """10,000 mutations of eight answers; what passes must be true all the same, by exact arithmetic."""
    question = dict(small_questions())[kind]
    rng, counts = np.random.default_rng(2024 + count), Counter()
    answers = [oc.solve(question)]
    if find_spec("flint") is not None and question.regularizer is None:
        answers.append(oc.solve(question, certify="exact"))
    if question.regularizer is None and not question.limits:
        answers.append(oc.solve(question, oc.PolicyGradient(steps=1), check=False))
    truth = Truth.of(question)
    assert all(truth.denies(answer) is None for answer in answers)
    with np.errstate(all="ignore"):
        for _ in range(count):
            problem, result, words = mutate(rng, question, answers[rng.integers(len(answers))])
            try:
                oc.verify(problem, result)
            except AuditFailed:
                counts["rejected"] += 1
                continue
            counts["accepted"] += 1
            found = (truth if problem is question else Truth.of(problem)).denies(result)
            assert found is None, f"the audit let a false {found} pass: {words}, {result.certificate}"
    print(f"{kind}: {count} mutations, {counts['rejected']} rejected, {counts['accepted']} true all the same, 0 false")
    assert counts["rejected"] >= count / 2
    assert counts["accepted"] >= 1  # some lies are harmless: the audit does not refuse everything


def test_the_truth_denies_what_is_false():
    """The judge of the test above is not blind."""
    problem = oc.Problem(oc.instances.get("howard-toymaker"))
    result, truth = oc.solve(problem), Truth.of(problem)
    for change, word in (
        ({"upper": result.certificate.upper - 1e-6}, "upper"),
        ({"lower": result.certificate.lower + 1e-6, "upper": result.certificate.upper + 1}, "lower"),
    ):
        assert (
            truth.denies(dataclasses.replace(result, certificate=dataclasses.replace(result.certificate, **change)))
            == word
        )
    worse = oc.solve(problem, oc.NaturalPolicyGradient(steps=0), check=False)
    modest = dataclasses.replace(worse, certificate=dataclasses.replace(worse.certificate, gap=0.1))
    assert truth.denies(modest) == "gap"


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

"""The battery: the library's solvers pass it, and each kind of broken solver fails the check that is meant for it."""

from __future__ import annotations

import dataclasses
import importlib.util
import pickle
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers import Exact

import occlp as oc
from occlp.checking.questions import questions

SOLVERS = {
    "PolicyIteration": oc.PolicyIteration(),
    "ModifiedPolicyIteration": oc.ModifiedPolicyIteration(),
    "ValueIteration": oc.ValueIteration(),
    "ExactPolicyIteration": oc.ExactPolicyIteration(),
    "Decomposition": oc.Decomposition(),
    "KLDual": oc.KLDual(),
    "InteriorPoint": oc.InteriorPoint(),
    "SoftPolicyIteration": oc.SoftPolicyIteration(),
}
SLOWER = {
    "CLARABEL": oc.OccupancyProgram("CLARABEL"),
    "NaturalPolicyGradient": oc.NaturalPolicyGradient(steps=10),
    "HIGHS": oc.OccupancyProgram("HIGHS"),
    "SCS": oc.OccupancyProgram("SCS"),
    "DeterministicProgram": oc.DeterministicProgram(),
    "PolicyGradient": oc.PolicyGradient(steps=20),
    "MirrorDescent": oc.MirrorDescent(steps=20),
    "Reps": oc.Reps(steps=10),
    "SaddlePoint": oc.SaddlePoint(),
    "SampledSaddlePoint": oc.SampledSaddlePoint(steps=10),
    "PrimalDualGradient": oc.PrimalDualGradient(steps=10),
    # A few short steps show all that the battery asks of them: they do not promise to arrive.
    **{name: getattr(oc, name)(steps=8, horizon=20) for name in ("Reinforce", "ActorCritic", "A2C")},
    "TRPO": oc.TRPO(steps=8, estimator=oc.estimators.MonteCarlo(horizon=20)),
    "PPO": oc.PPO(steps=8, estimator=oc.estimators.GAE(horizon=20)),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_ours_pass(name):
    if name == "ExactPolicyIteration":
        pytest.importorskip("flint")
    checks = oc.check_solver(SOLVERS[name])
    assert {check.outcome for check in checks} <= {"passed", "not answered"}
    assert sum(check.outcome == "passed" for check in checks) >= 10


def test_all_of_ours_are_asked():
    """Every class that is exported and solves: a new one belongs in one of the lists above."""
    exported = {name for name in dir(oc) if isinstance(getattr(oc, name), type) and name != "Solver"}
    solving = {name for name in exported if {"iterate", "unsupported"} <= set(dir(getattr(oc, name)))}
    assert solving == {type(solver).__name__ for solver in [*SOLVERS.values(), *SLOWER.values()]}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOWER)
def test_the_others_of_ours_pass(name):
    assert oc.check_solver(SLOWER[name])


def test_the_example_of_a_third_party_passes():
    path = Path(__file__).parents[2] / "examples" / "third_party_solver.py"
    spec = importlib.util.spec_from_file_location("third_party_solver", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "third_party_solver", module)  # where pickle looks for its class
        spec.loader.exec_module(module)
        checks = oc.check_solver(module.ScipyDual())
    assert sum(check.outcome == "passed" for check in checks) > 50


def test_the_known_answers_are_true():
    """Plain discounted ones by linear algebra in fractions; all of them enclosed by the default solver."""
    for question in questions():
        problem = question.build()
        if question.optimum is None:
            with pytest.raises(oc.Infeasible):
                oc.solve(problem)
            continue
        certificate = oc.solve(problem, tol=1e-7).certificate
        assert certificate.lower - 1e-12 <= question.optimum <= certificate.upper + 1e-12
        plain = not (problem.limits or problem.regularizer or problem.utility)
        if plain and problem.criterion == "discounted":
            assert Exact.of(problem.mdp).optimum(problem.sense) == question.optimum
        assert isinstance(question.optimum, Fraction) == (problem.regularizer is None and problem.utility is None)


@dataclass(frozen=True)
class Honest:
    """Policy iteration under another name; the broken ones below differ from it in one respect."""

    promises_tol = True

    def unsupported(self, problem):
        return oc.PolicyIteration().unsupported(problem)

    def iterate(self, problem, *, tol, rng, start=None):
        yield from oc.PolicyIteration().iterate(problem, tol=tol, rng=rng, start=start)


class Thawed(Honest.__base__):
    promises_tol = True
    unsupported, iterate = Honest.unsupported, Honest.iterate


@dataclass
class Changeable(Thawed):
    setting: int = 1


@dataclass(frozen=True)
class Shy(Honest):
    def unsupported(self, problem):
        return ""


@dataclass(frozen=True)
class Bold(Honest):
    """Claims to answer everything, and answers the plain question."""

    def unsupported(self, problem):
        return None

    def iterate(self, problem, *, tol, rng, start=None):
        plain = oc.Problem(problem.mdp, problem.sense, problem.criterion, goal=problem.goal)
        yield from oc.PolicyIteration().iterate(plain, tol=tol, rng=rng)


@dataclass(frozen=True)
class Lazy(Honest):
    """Returns the uniform policy, and swears that it is optimal."""

    def iterate(self, problem, *, tol, rng, start=None):
        yield oc.Iterate(oc.Policy.uniform(problem.mdp), claims={"status": "optimal"})


@dataclass(frozen=True)
class Moody(Honest):
    def iterate(self, problem, *, tol, rng, start=None):
        np.random.random()  # noqa: NPY002
        yield from super().iterate(problem, tol=tol, rng=rng, start=start)


@dataclass(frozen=True)
class Erratic(Honest):
    seen: list = field(default_factory=list, compare=False)

    def iterate(self, problem, *, tol, rng, start=None):
        self.seen.append(problem)
        uniform = oc.Policy.uniform(problem.mdp)
        weights = uniform.pair_probabilities * (1 + len(self.seen) * np.arange(problem.mdp.n_pairs))
        yield oc.Iterate(oc.Policy.from_occupancy(problem.mdp, weights))
        yield from super().iterate(problem, tol=tol, rng=rng, start=start)


@dataclass(frozen=True)
class Vandal(Honest):
    def iterate(self, problem, *, tol, rng, start=None):
        rewards = problem.mdp.pair_rewards
        rewards.flags.writeable = True
        rewards += 1.0
        yield from super().iterate(problem, tol=tol, rng=rng, start=start)


@dataclass(frozen=True)
class Stubborn(Honest):
    def iterate(self, problem, *, tol, rng, start=None):
        if start is not None:
            raise RuntimeError("it cannot resume")
        yield from super().iterate(problem, tol=tol, rng=rng)


@dataclass(frozen=True)
class Listing(Honest):
    def iterate(self, problem, *, tol, rng, start=None):
        return list(super().iterate(problem, tol=tol, rng=rng, start=start))


@dataclass(frozen=True)
class Shapeless(Honest):
    def iterate(self, problem, *, tol, rng, start=None):
        for iterate in super().iterate(problem, tol=tol, rng=rng, start=start):
            yield oc.Iterate(iterate.policy, values=np.zeros(problem.mdp.n_states + 1))


@dataclass(frozen=True)
class Forgetful(Honest):
    samples: int = 5

    def iterate(self, problem, *, tol, rng, start=None):
        yield oc.Iterate(oc.Policy.uniform(problem.mdp), samples=self.samples)
        yield from super().iterate(problem, tol=tol, rng=rng, start=start)


@dataclass(frozen=True)
class Locked(Honest):
    key: object = field(default_factory=lambda: lambda: None, compare=False)


@dataclass(frozen=True)
class Unsure(Honest):
    promises_tol = "maybe"


@dataclass(frozen=True)
class Silent(Honest):
    def iterate(self, problem, *, tol, rng, start=None):
        yield from ()


@dataclass(frozen=True)
class Crashing(Honest):
    def iterate(self, problem, *, tol, rng, start=None):
        yield from super().iterate(problem, tol=tol, rng=rng, start=start)
        raise ZeroDivisionError("in the third party")


@dataclass(frozen=True)
class Fickle(Honest):
    """Answers the first time it is asked, and not the next."""

    asked: list = field(default_factory=list, compare=False)

    def unsupported(self, problem):
        self.asked.append(problem)
        return "not now" if len(self.asked) % 2 else None


@dataclass(frozen=True)
class Bare(Honest):
    def iterate(self, problem, *, tol, rng, start=None):
        for iterate in super().iterate(problem, tol=tol, rng=rng, start=start):
            yield iterate.policy


@dataclass(frozen=True)
class Lost(Honest):
    """Its policy is one of a model with one more action."""

    def iterate(self, problem, *, tol, rng, start=None):
        yield oc.Iterate(oc.Policy.uniform(oc.instances.get("frozen-lake")))


@dataclass(frozen=True)
class Inventive(Honest):
    def iterate(self, problem, *, tol, rng, start=None):
        for iterate in super().iterate(problem, tol=tol, rng=rng, start=start):
            yield oc.Iterate(iterate.policy, iterate.values, multipliers={"unheard of": 1.0})


@dataclass(frozen=True)
class Hopeless(Honest):
    def iterate(self, problem, *, tol, rng, start=None):
        raise ArithmeticError("no answer")
        yield


@dataclass(frozen=True)
class Endless(Honest):
    """Promises the tolerance where no policy keeps the limit, and goes on until it is stopped."""

    def unsupported(self, problem):
        return None if problem.limits else "it wants limits"

    def iterate(self, problem, *, tol, rng, start=None):
        while True:
            yield oc.Iterate(oc.Policy.uniform(problem.mdp))


BROKEN = {
    Changeable: "is frozen",
    Unsure: "has the three members",
    Locked: "is a value",
    Shy: "says what it cannot answer",
    Bold: "ends at the truth",
    Lazy: "ends at the truth",
    Silent: "yields iterates",
    Listing: "yields iterates",
    Shapeless: "yields iterates",
    Forgetful: "yields iterates",
    Moody: "leaves everything else alone",
    Vandal: "leaves everything else alone",
    Erratic: "follows from its rng",
    Stubborn: "can resume",
    Crashing: "yields iterates",
    Fickle: "says what it cannot answer",
    Bare: "yields iterates",
    Lost: "yields iterates",
    Inventive: "yields iterates",
    Hopeless: "ends at the truth",
    Endless: "ends at the truth",
}


@dataclass(frozen=True)
class Ready(Honest):
    """Has all its iterates before it is asked for them: an iterator that cannot be closed."""

    def iterate(self, problem, *, tol, rng, start=None):
        return iter(list(super().iterate(problem, tol=tol, rng=rng, start=start)))


def test_the_honest_ones_pass(few):
    assert oc.check_solver(Honest())
    assert oc.check_solver(Ready())


@pytest.mark.parametrize(("by", "side"), [(-1, "at least"), (1, "at most")])
def test_an_enclosure_that_misses_the_truth_is_found_out(by, side, monkeypatch):
    """As no solver can bring that about, the truth is moved."""
    (plain,) = [question for question in questions() if question.name == "rewards"]
    moved = dataclasses.replace(plain, optimum=plain.optimum + by)
    monkeypatch.setattr("occlp.checking.battery.questions", lambda: (moved,))
    found = {check.check: check for check in oc.check_solver(Honest(), check=False)}
    for name in ("ends at the truth", "can be stopped", "can resume"):
        assert found[name].outcome == "failed"
        assert f"the certificate says {side}" in found[name].message


@dataclass(frozen=True)
class Liar(Honest):
    """A third party's toy: any policy, values far too low, and every claim that might impress."""

    def iterate(self, problem, *, tol, rng, start=None):
        n_states, bound = problem.mdp.n_states, float(problem.mdp.pair_rewards.min())
        claims = {"status": "optimal", "gap": 0.0, "objective": 1e6, "infeasible": True}
        yield oc.Iterate(oc.Policy.uniform(problem.mdp), values=np.full(n_states, bound - 1e6), claims=claims)


def test_a_liar_is_told_what_is_wrong_question_by_question():
    with pytest.raises(oc.BrokenSolver) as caught:
        oc.check_solver(Liar())
    words, checks = str(caught.value), caught.value.checks
    assert words.startswith(
        f"Liar fails {sum(check.outcome == 'failed' for check in checks)} of {len(checks)} checks: "
    )
    assert "ends at the truth (rewards): it promises the tolerance, and ends as BOUNDED: " in words
    for check in checks:  # no lie about bounds has come through: what fails is the promise, never the truth
        if check.outcome == "failed":
            assert "the certificate says" not in check.message
            assert check.question


@pytest.fixture
def few(monkeypatch):
    """A plain question, one with an entropy and one without an answer: enough to find any of these out."""
    names = ("rewards", "an entropy", "a limit that nobody keeps")
    chosen = tuple(question for question in questions() if question.name in names)
    monkeypatch.setattr("occlp.checking.battery.questions", lambda: chosen)
    monkeypatch.setattr("occlp.checking.battery.LIMIT", oc.Limit(seconds=20.0, iterations=100))


def test_methods_that_only_approach_may_end_without_a_proof(few):
    """Where nobody keeps a limit: the run ends by its own rule, and what it says claims nothing."""

    @dataclass(frozen=True)
    class Wandering(Honest):
        promises_tol = False

        def unsupported(self, problem):
            return None if problem.limits else "it wants limits"

        def iterate(self, problem, *, tol, rng, start=None):
            yield oc.Iterate(oc.Policy.uniform(problem.mdp))

    (problem,) = [question.build() for question in questions() if question.name == "a limit that nobody keeps"]
    result = oc.solve(problem, Wandering())
    assert result.status is oc.Status.BOUNDED
    assert result.gap == np.inf
    checks = oc.check_solver(Wandering(), check=False)
    assert [check.outcome for check in checks if check.check == "ends at the truth"] == ["passed"]


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_solvers_fail_the_check_meant_for_them(kind, few):
    with pytest.raises(oc.BrokenSolver, match=BROKEN[kind]) as caught:
        oc.check_solver(kind())
    checks = caught.value.checks
    assert BROKEN[kind] in {check.check for check in checks if check.outcome == "failed"}
    assert oc.check_solver(kind(), check=False)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_what_is_no_solver_at_all():
    with pytest.raises(oc.BrokenSolver, match="has the three members"):
        oc.check_solver(object())

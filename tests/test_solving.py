"""`solve`: clocks, limits, interruptions, third-party methods of every character, and what is raised."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import cvxpy
import numpy as np
import pytest
from helpers import Exact, encloses, exact_objective, random_policy

import occlp as oc
from occlp.errors import InvalidProblem, NotCertified, OccupancyError, SolveError, Unsupported
from occlp.evaluation import formulate
from occlp.solving import find_reference


@dataclass(frozen=True)
class Script:
    """A third party's method, minimal: it shows what it is given, and raises an error where it finds one."""

    steps: tuple[Any, ...] = field(default=(), repr=False)
    promises_tol: bool = False
    reason: str | None = None

    def unsupported(self, problem):
        return self.reason

    def iterate(self, problem, *, tol, rng, start=None):
        for step in self.steps:
            if isinstance(step, BaseException):
                raise step
            yield step


@dataclass(frozen=True)
class Endless:
    """A method that never ends, and gets nowhere; a little sleep a step, some samples."""

    policy: Any
    sleep: float = 0.0
    samples: int = 10
    promises_tol: bool = True

    def unsupported(self, problem):
        return None

    def iterate(self, problem, *, tol, rng, start=None):
        for n in itertools.count(1):
            time.sleep(self.sleep)
            yield oc.Iterate(self.policy, samples=n * self.samples)


@pytest.fixture
def mdp():
    return oc.instances.get("howard-toymaker")


@pytest.fixture
def uniform(mdp):
    return oc.Policy.uniform(mdp)


@pytest.fixture
def best(mdp):
    return oc.solve(mdp)


# The plain call ----------------------------------------------------------------------------------------------


def test_the_default_solver_is_the_one_for_the_question_and_is_named(mdp, uniform):
    machine = oc.instances.get("machine-repair")
    limited = oc.Problem(machine, constraints={"budget": oc.expected("wear") <= 0.25})
    assert oc.solve(mdp).solver == "PolicyIteration()"
    assert oc.solve(oc.Problem(mdp, regularizer=oc.KL(1.0, uniform))).solver == "KLDual()"
    assert oc.solve(limited).solver == "Decomposition()"
    assert oc.solve(mdp, oc.PolicyIteration(warm_up=3)).solver == "PolicyIteration(warm_up=3)"
    assert oc.solve(mdp, oc.OccupancyProgram("HIGHS")).solver == "OccupancyProgram(backend='HIGHS')"
    natural = oc.solve(mdp, oc.NaturalPolicyGradient(step_size=0.1, steps=7), check=False)
    assert natural.solver == "NaturalPolicyGradient(step_size=0.1, steps=7)"


@pytest.mark.parametrize(("n_limits", "named"), [(3, "Decomposition()"), (101, "OccupancyProgram(backend='CLARABEL')")])
def test_more_limits_than_prices_are_found_for_go_to_the_whole_program(n_limits, named):
    machine = oc.instances.get("machine-repair")
    limits = {f"budget {k}": oc.expected("wear") <= 0.25 + 0.01 * k for k in range(n_limits)}
    result = oc.solve(oc.Problem(machine, constraints=limits))
    assert result.solver == named
    assert result.expected["wear"] == pytest.approx(0.25, abs=1e-8)


def test_a_solve_is_reproducible_to_the_last_bit(mdp):
    for solver in (None, oc.OccupancyProgram("HIGHS"), oc.NaturalPolicyGradient(steps=5)):
        first, second = (oc.solve(mdp, solver, rng=seed) for seed in (0, 1))
        np.testing.assert_array_equal(first.policy.pair_probabilities, second.policy.pair_probabilities)
        assert first.certificate.to_json() == second.certificate.to_json()
        assert first.objective == second.objective


def test_what_a_result_says_of_itself(mdp, best):
    assert repr(best).startswith("<Result CERTIFIED objective=1.72527")
    text = str(best)
    for words in ("CERTIFIED", "objective", "return", "deterministic; 2 of 2 states visited", "iterations"):
        assert words in text
    row = best.summary()
    assert row["status"] == "CERTIFIED"
    assert row["objective"] == best.objective
    assert row["lower"] <= row["objective"] <= row["upper"]
    assert best.timing.total >= best.timing.solver >= 0
    assert best.timing.total == pytest.approx(best.timing.solver + best.timing.certificate)
    assert best.iterations == best.history.n_rows


def test_results_are_pickled_whole(mdp, best):
    again = pickle.loads(pickle.dumps(best))
    assert again.summary() == best.summary()
    assert again.certificate.to_json() == best.certificate.to_json()
    np.testing.assert_array_equal(again.pair_occupancy, best.pair_occupancy)
    assert oc.verify(mdp, again)
    assert oc.solve(mdp, start=again).iterations == 1


def test_every_status_has_its_sentence():
    assert [status.name for status in oc.Status] == [
        "CERTIFIED", "BOUNDED", "LIMIT", "INFEASIBLE", "UNBOUNDED", "FAILED",
    ]  # fmt: skip
    for status in oc.Status:
        assert str(status) == status.name
        assert status.value[0].isupper()
        assert status.value.endswith(".")


@pytest.mark.parametrize("name", ["tol", "atol"])
@pytest.mark.parametrize("value", [-1e-9, np.nan, np.inf, "1e-8", None, True, [1e-8]])
def test_tolerances_that_are_refused(mdp, name, value):
    with pytest.raises(InvalidProblem, match=f"{name}=.* must be a finite number"):
        oc.solve(mdp, **{name: value})


def test_tolerances_decide_what_is_certified(mdp, uniform):
    stop = Script((oc.Iterate(uniform),))
    gap = oc.solve(mdp, stop).gap
    assert gap == pytest.approx(1.7252747 - 1.3901098, abs=1e-6)
    assert oc.solve(mdp, stop, atol=1.01 * gap).status is oc.Status.CERTIFIED
    assert oc.solve(mdp, stop, atol=0.99 * gap).status is oc.Status.BOUNDED
    size = oc.solve(mdp).objective
    assert oc.solve(mdp, stop, tol=1.01 * gap / size).status is oc.Status.CERTIFIED
    assert oc.solve(mdp, stop, tol=0.99 * gap / size).status is oc.Status.BOUNDED


@pytest.mark.parametrize("certify", ["double", "", "Exact"])
def test_certificates_that_are_not_made(mdp, certify):
    with pytest.raises(InvalidProblem, match="is unknown"):
        oc.solve(mdp, certify=certify)


@pytest.mark.parametrize("question", ["model", None, 3, [[1.0]]])
def test_what_is_not_a_question(question):
    with pytest.raises(InvalidProblem, match="not of"):
        oc.solve(question)


@pytest.mark.parametrize("solver", ["PolicyIteration", 3, object(), lambda problem: None])
def test_what_is_not_a_solver(mdp, solver):
    with pytest.raises(InvalidProblem, match="is not a solver"):
        oc.solve(mdp, solver)


def test_a_class_is_not_a_solver(mdp):
    with pytest.raises(InvalidProblem):
        oc.solve(mdp, oc.PolicyIteration)


def test_a_solver_that_cannot_answer_says_why(mdp):
    with pytest.raises(Unsupported, match=r"Script cannot answer this problem: it is Sunday\."):
        oc.solve(mdp, Script(reason="it is Sunday"))


# Limits ------------------------------------------------------------------------------------------------------


def test_a_limit_of_iterations(mdp, uniform):
    result = oc.solve(mdp, Endless(uniform), limit=oc.Limit(iterations=7))
    assert result.status is oc.Status.LIMIT
    assert result.iterations == 7
    assert "the limit of 7 iterations" in result.message
    assert "the certified gap is" in result.message
    assert encloses(result.certificate, Exact.of(mdp).optimum())


@pytest.mark.bad_input(78)
def test_a_limit_of_time(mdp, uniform):
    began = time.perf_counter()
    result = oc.solve(mdp, Endless(uniform, sleep=0.01), limit=oc.Limit(seconds=0.2))
    elapsed = time.perf_counter() - began
    assert result.status is oc.Status.LIMIT
    assert "the time limit of 0.2 s" in result.message
    assert 0.2 <= result.timing.solver <= elapsed < 5.0
    assert 1 <= result.iterations <= 25
    assert result.history["seconds"][-1] >= 0.2


def test_a_limit_of_samples(mdp, uniform):
    result = oc.solve(mdp, Endless(uniform, samples=10), limit=oc.Limit(samples=35))
    assert (result.status, result.iterations, result.samples) == (oc.Status.LIMIT, 4, 40)
    assert "the limit of 35 samples" in result.message
    assert result.history["samples"].tolist() == [10, 20, 30, 40]


@pytest.mark.parametrize(
    "limit", [oc.Limit(seconds=0), oc.Limit(iterations=0), oc.Limit(iterations=1), oc.Limit(samples=0)]
)
def test_the_smallest_limits_leave_one_iteration(mdp, uniform, limit):
    result = oc.solve(mdp, Endless(uniform), limit=limit)
    assert (result.status, result.iterations) == (oc.Status.LIMIT, 1)


def test_limits_do_not_spoil_an_answer_that_is_there(mdp):
    result = oc.solve(mdp, limit=oc.Limit(iterations=1))  # reached in the first iteration
    assert result.status is oc.Status.CERTIFIED
    assert oc.solve(mdp, limit=oc.Limit(seconds=3600, iterations=10**6, samples=10**9)).status is oc.Status.CERTIFIED


@pytest.mark.parametrize("value", [-1, -0.5, np.nan])
@pytest.mark.parametrize("name", ["seconds", "iterations", "samples"])
def test_limits_that_are_refused(name, value):
    with pytest.raises(InvalidProblem, match=f"Limit\\({name}="):
        oc.Limit(**{name: value})


def test_limits_that_are_not_numbers_are_refused():
    with pytest.raises(InvalidProblem):
        oc.Limit(seconds="3")


# Interruptions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"), [(KeyboardInterrupt(), "the user (Ctrl-C)"), (MemoryError("no"), "a lack of memory")]
)
@pytest.mark.parametrize("seen", [0, 1, 3])
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.bad_input(78)
def test_interrupted_runs_return_the_best_so_far(mdp, uniform, best, error, words, seen, check):
    good = oc.Policy.from_pairs(mdp, [0.1, 0.9, 0.2, 0.8])
    steps = [oc.Iterate(good), oc.Iterate(uniform), oc.Iterate(uniform)][:seen]
    result = oc.solve(mdp, Script((*steps, error), promises_tol=True), check=check)
    assert result.status is oc.Status.LIMIT
    assert words in result.message
    assert result.iterations == seen
    expected = good if seen else uniform
    np.testing.assert_array_equal(result.policy.pair_probabilities, expected.pair_probabilities)
    assert encloses(result.certificate, Exact.of(mdp).optimum())
    assert result.gap >= best.objective - result.objective - 1e-12


@pytest.mark.parametrize(
    ("error", "words"), [(KeyboardInterrupt(), "the user (Ctrl-C)"), (MemoryError("no"), "a lack of memory")]
)
@pytest.mark.parametrize("stage", ["occlp.solving.polisher", "occlp.exact.levels.raise_level"])
def test_what_comes_after_the_iterations_may_be_interrupted(mdp, best, error, words, stage, monkeypatch):
    """Polishing and raising the level of the certificate: the result that there was stands."""

    class Interrupted(oc.PolicyIteration):
        def iterate(self, problem, **options):
            raise error
            yield

    def interrupted(*_):
        if stage.endswith("polisher"):
            return Interrupted()
        raise error

    pytest.importorskip("flint")
    monkeypatch.setattr(stage, interrupted)
    result = oc.solve(mdp, oc.OccupancyProgram("SCS"), tol=1e-15, certify="interval", check=False)
    assert encloses(result.certificate, Exact.of(mdp).optimum())
    assert words in result.message or result.status is oc.Status.CERTIFIED
    if stage.endswith("level"):
        assert "The level 'interval' was not reached." in result.message
        assert result.certificate.level == "float"


def test_noise_where_nobody_comes_does_not_hide_that_an_answer_is_near(monkeypatch):
    """Of large models a policy is first judged by the values that come with it, which may be far off there."""
    monkeypatch.setattr("occlp.tracking.EXACT_STATES", 0)
    stay = np.repeat(np.eye(2), 2, axis=0).reshape(2, 2, 2)
    mdp = oc.MDP.from_arrays(stay, [[1.0, 0.0]] * 2, discount=0.5, initial=0)
    near = oc.Policy.from_pairs(mdp, [1 - 1e-6, 1e-6, 1.0, 0.0])  # of the second state there is no way to the first
    values = np.array([2.0, 1e6])

    class Polished(Script):
        is_polished = True

    bare = oc.solve(mdp, Script((oc.Iterate(near, values),)))
    assert (bare.status, bare.gap) == (oc.Status.BOUNDED, pytest.approx(1e-6, rel=1e-3))
    result = oc.solve(mdp, Polished((oc.Iterate(near, values),)))
    assert (result.status, result.objective) == (oc.Status.CERTIFIED, 1.0)
    assert "polished" in result.message


def test_what_breaking_a_limit_has_gained_is_not_rounding():
    """A policy that breaks a limit by 9e-9 in vain is 9e-9 below the bound, and the allowed gap is 5e-9."""
    mdp = oc.MDP.from_arrays(np.ones((1, 3, 1)), [[1.0, 0.0, 0.0]], discount=0.5, costs={"wear": [[1.0, 0.0, 1.0]]})
    problem = oc.Problem(mdp, constraints={"wear": oc.expected("wear") <= 0.5})
    in_vain, right = (oc.Policy.from_pairs(mdp, [0.5, 0.5 - lost, lost]) for lost in (9e-9, 0.0))
    steps = [oc.Iterate(policy, np.zeros(1), multipliers={"wear": 1.0}) for policy in (in_vain, right)]
    assert oc.solve(problem, Script((steps[0],))).status is oc.Status.BOUNDED
    result = oc.solve(problem, Script(tuple(steps)))
    assert (result.status, result.iterations) == (oc.Status.CERTIFIED, 2)


def test_a_reference_is_polished_like_any_answer(monkeypatch):
    """The backend alone misses the tolerance here; without a reference sampled methods would have no bound."""
    mdp = oc.instances.get("garnet", n_states=20, n_actions=4, branching=3, seed=0, discount=0.999)
    spread = oc.Utility(lambda d: -cvxpy.sum_squares(d)) >= -0.075
    problem = oc.Problem(mdp, constraints={"spread": spread})
    reference = find_reference(problem, 1e-8)
    assert reference is not None
    best = oc.solve(problem)
    upper = formulate(problem).to_user(reference.upper.value)
    assert best.certificate.lower <= upper <= best.certificate.upper + 1e-8
    monkeypatch.setattr("occlp.solving.polisher", lambda problem, solver, prices: None)
    assert find_reference(problem, 1e-8) is None


def test_an_interrupted_run_with_the_answer_in_hand_is_certified(mdp, best):
    steps = (oc.Iterate(best.policy, best.certificate.values), KeyboardInterrupt())
    assert oc.solve(mdp, Script(steps)).status is oc.Status.CERTIFIED


def test_a_start_is_what_is_left_of_a_run_that_shows_nothing(mdp, uniform):
    start = random_policy(mdp, np.random.default_rng(0))
    for steps in ((), (KeyboardInterrupt(),), (RuntimeError("no"),)):
        result = oc.solve(mdp, Script(steps), start=start, check=False)
        np.testing.assert_array_equal(result.policy.pair_probabilities, start.pair_probabilities)
        np.testing.assert_array_equal(
            oc.solve(mdp, Script(steps), check=False).policy.pair_probabilities, uniform.pair_probabilities
        )


# Third parties -----------------------------------------------------------------------------------------------


def test_a_good_third_party(mdp, uniform, best):
    values = best.state_values  # V itself proves the bound; constants are free
    result = oc.solve(mdp, Script((oc.Iterate(uniform), oc.Iterate(best.policy, values)), promises_tol=True))
    assert result.status is oc.Status.CERTIFIED
    assert result.solver == "Script(promises_tol=True)"
    assert result.iterations == 2
    assert oc.verify(mdp, result)
    assert result.history["objective"].tolist() == pytest.approx([1.3901098901, best.objective])


def test_a_third_party_without_values_is_judged_by_the_values_of_its_policy(mdp, best):
    result = oc.solve(mdp, Script((oc.Iterate(best.policy),), promises_tol=True))
    assert result.status is oc.Status.CERTIFIED


def test_a_third_party_that_yields_for_ever_is_stopped_when_the_answer_is_there(mdp, best):
    result = oc.solve(mdp, Endless(best.policy))
    assert (result.status, result.iterations) == (oc.Status.CERTIFIED, 1)


def lies(mdp, uniform):
    """Iterates that claim what is not so."""
    good = oc.Policy.from_pairs(mdp, [0.0, 1.0, 0.0, 1.0])
    rng = np.random.default_rng(0)
    yield "optimal, it says", oc.Iterate(uniform, claims={"status": "optimal", "gap": 0.0})
    yield "another policy's values", oc.Iterate(uniform, oc.solve(mdp).state_values)
    for size in (1e-3, 1.0, 1e3, 1e6):
        yield f"random values of size {size:g}", oc.Iterate(good, size * rng.normal(size=2))
    yield "second digits from nowhere", oc.Iterate(good, np.zeros(2), rng.normal(size=2))
    yield "NaN", oc.Iterate(good, np.array([np.nan, 0.0]))
    yield "inf", oc.Iterate(good, np.array([np.inf, 0.0]))
    yield "NaN in the second digits", oc.Iterate(good, np.zeros(2), np.array([np.nan, 0.0]))
    yield "another shape", oc.Iterate(good, np.zeros(3))
    yield "another shape of the second digits", oc.Iterate(good, np.zeros(2), np.zeros(3))
    yield "two axes", oc.Iterate(good, np.zeros((2, 1)))
    yield "a list", oc.Iterate(good, [1, 2])
    yield "prices of nothing", oc.Iterate(good, np.zeros(2), multipliers={"wear": 3.0, "x": np.nan})
    yield "no samples", oc.Iterate(good, samples=-5)


LIES = [name for name, _ in lies(oc.instances.get("howard-toymaker"), None)]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_a_third_party_that_lies_is_not_believed(mdp, uniform, lie, sense):
    problem, sign = oc.Problem(mdp, sense=sense), 1 if sense == "maximize" else -1
    iterate = dict(lies(mdp, uniform))[lie]
    result = oc.solve(problem, Script((iterate,)))
    optimum, attained = Exact.of(mdp).optimum(sense), exact_objective(problem, result.policy)
    assert encloses(result.certificate, optimum)
    assert encloses(result.certificate, attained)
    assert sign * (optimum - attained) <= Fraction(result.gap)
    if result.status is oc.Status.CERTIFIED:
        assert sign * (optimum - attained) <= Fraction(2e-8)
    evaluation = oc.evaluate(problem, iterate.policy)
    np.testing.assert_array_equal(result.policy.pair_probabilities, iterate.policy.pair_probabilities)
    np.testing.assert_allclose(result.advantages, evaluation.advantages, atol=1e-8)
    assert result.objective == pytest.approx(evaluation.objective, abs=1e-12)


@pytest.mark.parametrize("size", [1e9, 1e15, 1e20, 1e300])
def test_absurd_values_do_not_spoil_the_evaluation_of_a_policy(mdp, best, size):
    """At 1e15 the advantages are wrong in the third digit, at 1e18 they are zero; and the audit lets them pass."""
    result = oc.solve(mdp, Script((oc.Iterate(best.policy, size * np.array([1.0, -1.0])),)))
    np.testing.assert_allclose(result.advantages, best.advantages, atol=1e-9)
    assert result.status is oc.Status.CERTIFIED


def test_infinite_second_digits_are_no_reason_to_complain(mdp, uniform):
    iterate = oc.Iterate(uniform, np.zeros(2), np.array([np.inf, 0.0]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = oc.solve(oc.Problem(mdp, sense="minimize"), Script((iterate,)), check=False)
    assert [str(warning.message) for warning in caught] == []
    assert result.status is oc.Status.BOUNDED


@pytest.mark.parametrize(
    ("garbage", "words"),
    [
        (None, "AttributeError"),
        (3, "AttributeError"),
        ("policy", "AttributeError"),
        (oc.Iterate(None), "AttributeError"),
        (ZeroDivisionError("by zero"), "the method raised ZeroDivisionError: by zero"),
        (KeyError("x"), "the method raised KeyError: 'x'"),
        (ValueError("no"), "the method raised ValueError: no"),
        (AssertionError(), "the method raised AssertionError"),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
def test_a_third_party_that_crashes_has_failed(mdp, uniform, garbage, words, before):
    good = oc.Policy.from_pairs(mdp, [0.1, 0.9, 0.2, 0.8])
    script = Script((*[oc.Iterate(good)] * before, garbage))
    with pytest.raises(NotCertified, match="Script") as caught:
        oc.solve(mdp, script)
    result = caught.value.result
    assert words in str(caught.value)
    assert words in result.message
    assert result.status is oc.Status.FAILED
    expected = good if before else uniform
    np.testing.assert_array_equal(result.policy.pair_probabilities, expected.pair_probabilities)
    assert encloses(result.certificate, Exact.of(mdp).optimum())
    assert oc.solve(mdp, script, check=False).status is oc.Status.FAILED


class NotAGenerator(Script):
    """A method that does all of its work, and its failing, when it is called."""

    def iterate(self, problem, *, tol, rng, start=None):
        return list(super().iterate(problem, tol=tol, rng=rng, start=start))


def test_a_method_may_return_a_list_of_its_steps(mdp, uniform, best):
    result = oc.solve(mdp, NotAGenerator((oc.Iterate(uniform), oc.Iterate(best.policy))))
    assert (result.status, result.iterations) == (oc.Status.CERTIFIED, 2)


def test_a_method_that_crashes_when_it_is_called_has_failed(mdp):
    with pytest.raises(NotCertified, match="ZeroDivisionError"):
        oc.solve(mdp, NotAGenerator((ZeroDivisionError("by zero"),)))


def test_our_own_errors_pass_through(mdp):
    with pytest.raises(InvalidProblem, match="of the problem"):
        oc.solve(mdp, Script((InvalidProblem("something of the problem"),)))
    with pytest.raises(SystemExit):
        oc.solve(mdp, Script((SystemExit(3),)))


def test_policies_with_garbage_in_them_count_for_nothing(mdp, uniform):
    other = oc.instances.get("geron-three-state")
    broken = [
        oc.Policy(mdp.pairs, np.array([np.nan, 1.0, 1.0, 0.0])),
        oc.Policy(mdp.pairs, np.array([2.0, -1.0, 1.0, 0.0])),
        oc.Policy(mdp.pairs, np.array([0.0, 0.0, 1.0, 0.0])),
        oc.Policy(mdp.pairs, np.ones(7)),
        oc.Policy.uniform(other),
    ]
    for policy in broken:
        result = oc.solve(mdp, Script((oc.Iterate(policy),)))
        np.testing.assert_array_equal(result.policy.pair_probabilities, uniform.pair_probabilities)
        assert result.status is oc.Status.BOUNDED
        good = oc.Policy.from_pairs(mdp, [0.1, 0.9, 0.2, 0.8])
        mixed = oc.solve(mdp, Script((oc.Iterate(good), oc.Iterate(policy))))
        np.testing.assert_array_equal(mixed.policy.pair_probabilities, good.pair_probabilities)


def test_a_third_party_that_shows_nothing(mdp, uniform):
    result = oc.solve(mdp, Script())
    assert (result.status, result.iterations, result.history.n_rows) == (oc.Status.BOUNDED, 0, 0)
    np.testing.assert_array_equal(result.policy.pair_probabilities, uniform.pair_probabilities)
    with pytest.raises(NotCertified):
        oc.solve(mdp, Script(promises_tol=True))


def test_the_best_of_a_run_is_returned_and_not_the_last(mdp, uniform):
    good = oc.Policy.from_pairs(mdp, [0.1, 0.9, 0.2, 0.8])
    result = oc.solve(mdp, Script((oc.Iterate(uniform), oc.Iterate(good), oc.Iterate(uniform))))
    np.testing.assert_array_equal(result.policy.pair_probabilities, good.pair_probabilities)
    assert result.history["objective"].argmax() == 1
    minimum = oc.solve(oc.Problem(mdp, sense="minimize"), Script((oc.Iterate(good), oc.Iterate(uniform))))
    np.testing.assert_array_equal(minimum.policy.pair_probabilities, uniform.pair_probabilities)


# Broken promises ---------------------------------------------------------------------------------------------


def test_a_missed_tolerance_is_raised_only_where_it_was_promised(mdp, uniform):
    assert oc.solve(mdp, Script((oc.Iterate(uniform),))).status is oc.Status.BOUNDED
    promise = Script((oc.Iterate(uniform),), promises_tol=True)
    with pytest.raises(NotCertified, match="the certified gap is") as caught:
        oc.solve(mdp, promise)
    result = oc.solve(mdp, promise, check=False)
    assert result.status is oc.Status.BOUNDED
    assert result.gap == caught.value.result.gap


def test_errors_of_a_solve_carry_the_result_and_are_pickled(mdp, uniform):
    with pytest.raises(NotCertified) as caught:
        oc.solve(mdp, Script((oc.Iterate(uniform),), promises_tol=True))
    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is NotCertified
    assert isinstance(error, SolveError)
    assert isinstance(error, OccupancyError)
    assert str(error) == str(caught.value)
    assert error.result.gap == caught.value.result.gap
    np.testing.assert_array_equal(error.result.policy.pair_probabilities, uniform.pair_probabilities)
    assert oc.verify(mdp, error.result)


# Starts and progress -----------------------------------------------------------------------------------------


def test_runs_resume(mdp):
    grid = oc.instances.get("slippery-gridworld", n=8)
    for solver in (oc.ValueIteration(), oc.NaturalPolicyGradient(steps=20), oc.PolicyIteration(warm_up=0)):
        first = oc.solve(grid, solver, start=oc.Policy.uniform(grid), limit=oc.Limit(iterations=3))
        second = oc.solve(grid, solver, start=first)
        assert second.objective >= first.objective - 1e-14
        assert second.gap <= first.gap


@pytest.mark.parametrize("solver", [oc.OccupancyProgram("HIGHS"), oc.KLDual(), oc.Decomposition()])
def test_starts_of_another_model_are_refused_by_every_method(mdp, uniform, solver):
    kl = oc.KL(1.0, uniform) if isinstance(solver, oc.KLDual) else None
    with pytest.raises(InvalidProblem, match="another model"):
        oc.solve(oc.Problem(mdp, regularizer=kl), solver, start=oc.Policy.uniform(oc.instances.get("riverswim")))


def test_progress_is_told_of_every_judgement(mdp, uniform):
    grid, told = oc.instances.get("slippery-gridworld", n=8), []
    result = oc.solve(grid, oc.ValueIteration(), progress=lambda iterations, gap: told.append((iterations, gap)))
    assert [iterations for iterations, _ in told] == result.history["iteration"].tolist()
    gaps = [gap for _, gap in told]
    assert all(after <= before for before, after in itertools.pairwise(gaps))
    assert gaps[-1] <= result.certificate.allowed_gap(1e-8)
    assert gaps[0] > gaps[-1]


def test_an_interruption_in_progress_stops_the_run(mdp, uniform):
    """A user's progress bar may raise KeyboardInterrupt, too."""

    def stop(iterations, gap):
        if iterations == 3:
            raise KeyboardInterrupt

    result = oc.solve(mdp, Endless(uniform), progress=stop)
    assert (result.status, result.iterations) == (oc.Status.LIMIT, 3)


def test_a_plain_question_waits_for_no_other_method():
    """What takes long to import, and is not needed, is not there after a first solve."""
    code = (
        "import sys, occlp as oc; oc.solve(oc.instances.get('machine-repair'));"
        "print([name for name in sys.argv[1:] if name in sys.modules])"
    )
    absent = ["scipy.optimize", "scipy.special", "cvxpy", "flint", "pandas", "matplotlib"]
    absent += [f"occlp.solvers.{name}" for name in ("policy_gradient", "kl_dual", "decomposition", "occupancy_program")]
    found = subprocess.run([sys.executable, "-c", code, *absent], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

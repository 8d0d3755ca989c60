"""The occupancy program: its duals, its units, its backends, and backends that lie."""

from __future__ import annotations

import itertools
import warnings
from fractions import Fraction

import cvxpy
import numpy as np
import pytest
from helpers import (
    Exact,
    dense_transitions,
    doubles,
    encloses,
    exact_objective,
    random_policy,
    sparse_rewards,
    two_classes,
)
from hypothesis import given, settings
from strategies import mdps
from test_verify_kinds import answer

import occlp as oc
from benchmarks.lie_questions import QUESTIONS as KINDS
from benchmarks.lie_truth import Truth
from occlp.errors import BackendMissing, NotCertified

BACKENDS = ["HIGHS", "CLARABEL", "SCS"]
#: What a backend reaches by itself, relative to rewards of size one.
ACCURACY = {"HIGHS": 1e-9, "CLARABEL": 1e-7, "SCS": 1e-4}


@pytest.fixture
def garnet():
    return oc.instances.get("garnet", n_states=12, n_actions=3, branching=3, seed=1, discount=0.9)


def solved_by_hand(problem, backend="CLARABEL"):
    """The program of a problem, solved with cvxpy directly; its constraints by label."""
    program = oc.OccupancyProgram().program(problem)
    program.solve(solver=backend)
    return program, {constraint.label: constraint for constraint in program.constraints}


# The program in the user's units ---------------------------------------------------------------------------


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
@pytest.mark.parametrize("offset", [0.0, 100.0, -100.0])
def test_the_program_is_in_the_users_units(garnet, sense, offset):
    mdp = garnet.replace(rewards=1000.0 * garnet.pair_rewards + offset)
    problem = oc.Problem(mdp, sense=sense)
    program, parts = solved_by_hand(problem)
    assert list(parts) == ["flow", "mass", "nonnegative"]
    assert [variable.name() for variable in program.variables()] == ["occupancy"]
    assert parts["flow"].shape == (mdp.n_states,)
    assert parts["nonnegative"].shape == program.variables()[0].shape == (mdp.n_pairs,)
    assert isinstance(program.objective, cvxpy.Maximize if sense == "maximize" else cvxpy.Minimize)
    result = oc.solve(problem)
    assert program.value == pytest.approx(result.objective, rel=1e-6)
    np.testing.assert_allclose(program.variables()[0].value, result.pair_occupancy, atol=1e-6)


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
@pytest.mark.parametrize("backend", ["HIGHS", "CLARABEL"])
def test_duals_are_values_and_reduced_costs(garnet, sense, backend):
    """h = y proves the bound, V = y + λ/(1 − γ), and the duals of d ≥ 0 are minus the optimal advantages."""
    problem = oc.Problem(garnet, sense=sense)
    _, parts = solved_by_hand(problem, backend)
    sign, rest = (1 if sense == "maximize" else -1), 1 - garnet.discount
    y, mass = sign * parts["flow"].dual_value, sign * float(parts["mass"].dual_value)
    best = oc.solve(problem)
    states = garnet.pairs.states
    scores = garnet.pair_rewards + garnet.discount * dense_transitions(garnet) @ y - y[states]
    bound = rest * garnet.initial @ y + sign * (sign * scores).max()
    assert bound == pytest.approx(best.objective, abs=1e-7)
    np.testing.assert_allclose(y + mass / rest, best.state_values, atol=1e-5)
    np.testing.assert_allclose(parts["nonnegative"].dual_value, -sign * best.pair_advantages, atol=1e-6)
    np.testing.assert_allclose(best.certificate.reduced_costs, -sign * best.pair_advantages, atol=1e-12)
    # The other sign proves nothing.
    wrong = garnet.pair_rewards - garnet.discount * dense_transitions(garnet) @ y + y[states]
    assert sign * (-rest * garnet.initial @ y + sign * (sign * wrong).max()) > sign * best.objective + 1e-2


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_a_kl_term_in_the_users_units(garnet, sense):
    mdp = garnet.replace(rewards=50.0 * garnet.pair_rewards + 10.0)
    problem = oc.Problem(mdp, sense=sense, regularizer=oc.KL(7.0, random_policy(mdp, np.random.default_rng(0))))
    program, _ = solved_by_hand(problem)
    assert program.value == pytest.approx(oc.solve(problem).objective, rel=1e-6)


def test_pairs_that_a_kl_term_excludes_are_not_in_the_program():
    mdp = oc.instances.get("howard-toymaker")
    problem = oc.Problem(mdp, regularizer=oc.KL(1.0, oc.Policy.from_pairs(mdp, [1.0, 0.0, 0.5, 0.5])))
    program, parts = solved_by_hand(problem)
    assert program.variables()[0].shape == (3,)
    assert parts["nonnegative"].shape == (3,)
    result = oc.solve(problem, oc.OccupancyProgram())
    assert program.value == pytest.approx(result.objective, rel=1e-6)
    assert result.policy.pair_probabilities[1] == 0.0
    assert result.pair_occupancy[1] == 0.0


# Backends ----------------------------------------------------------------------------------------------------


@given(mdps(max_states=4))
@settings(max_examples=30)
def test_the_default_backend_on_every_kind_of_model(mdp):
    for sense in ("maximize", "minimize"):
        problem = oc.Problem(mdp, sense=sense)
        result = oc.solve(problem, oc.OccupancyProgram())
        assert result.status is oc.Status.CERTIFIED
        assert encloses(result.certificate, Exact.of(mdp).optimum(sense))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["howard-toymaker", "garnet", "riverswim"])
@pytest.mark.parametrize("rest", [0.05, 1e-9])
@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_long_horizons_and_rewards_of_any_size(backend, name, rest, size):
    mdp = oc.instances.get(name, **({"n_states": 20} if name == "garnet" else {}))
    mdp = mdp.replace(discount=1 - rest, rewards=size * mdp.pair_rewards)
    result = oc.solve(mdp, oc.OccupancyProgram(backend))
    assert result.status is oc.Status.CERTIFIED
    best = oc.solve(mdp)
    assert result.objective == pytest.approx(best.objective, rel=1e-8)
    assert result.gap <= 1e-8 * abs(best.objective)


@pytest.mark.parametrize("mdp", [two_classes(1e-9), sparse_rewards(1e-9, 6)], ids=["two classes", "sparse rewards"])
def test_coefficients_of_the_size_of_one_minus_gamma_are_not_dropped(mdp):
    """HIGHS drops what is below 1e-9 unless it is told not to: it then has another optimum, or none."""
    assert oc.solve(mdp, oc.OccupancyProgram("HIGHS")).status is oc.Status.CERTIFIED
    careless = oc.OccupancyProgram("HIGHS", options={"small_matrix_value": 1e-9})
    assert oc.solve(mdp, careless, check=False).status is not oc.Status.CERTIFIED


def test_an_optimum_of_zero():
    mdp = oc.instances.get("riverswim", discount=1 - 1e-6)
    problem = oc.Problem(mdp, sense="minimize")
    assert Exact.of(mdp).optimum("minimize") == 0
    assert oc.solve(problem, oc.OccupancyProgram("CLARABEL")).status is oc.Status.CERTIFIED


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_backends_reach_their_accuracy_before_anything_is_polished(garnet, backend, sense, monkeypatch):
    """The program itself is right: its answer is near the optimum without the help of policy iteration."""
    monkeypatch.setattr("occlp.solving.polisher", lambda problem, solver, prices: None)
    problem = oc.Problem(garnet, sense=sense)
    result = oc.solve(problem, oc.OccupancyProgram(backend), check=False)
    assert abs(result.objective - oc.solve(problem).objective) <= 10 * ACCURACY[backend]
    assert result.gap <= 10 * ACCURACY[backend]
    assert "polished" not in result.message


@pytest.mark.parametrize("name", ["bumpy", "goal", "queue"])
def test_cones_are_of_the_size_that_an_interior_point_can_bear(name):
    """Clarabel breaks down on these where the mass is the number of pairs and the cones are of masses of one."""
    mdp = {
        "bumpy": lambda: oc.instances.get("bumpy-gridworld", n=12, seed=1, discount=0.99),
        "goal": lambda: oc.instances.get("slippery-gridworld", n=12, seed=1, discount=0.999),
        "queue": lambda: oc.instances.get("queue-admission", capacity=100, discount=0.999),
    }[name]()
    least = 0.5 * float(np.log(mdp.n_states)) if name == "goal" else 0.3 * float(np.log(mdp.n_states))
    asked = [
        {"regularizer": oc.KL(0.1, oc.Policy.uniform(mdp))}, {"utility": oc.StateEntropy()},
        {"constraints": {"even": oc.StateEntropy() >= least}},
    ]  # fmt: skip
    for options in asked:
        result = oc.solve(oc.Problem(mdp, **options), oc.OccupancyProgram("CLARABEL"), check=False)
        assert result.status is oc.Status.CERTIFIED, (options, result.message)


def test_the_default_backend_goes_by_size_and_kind(garnet):
    kl = oc.KL(0.1, oc.Policy.uniform(garnet))
    large = oc.instances.get("garnet", n_states=500, n_actions=5)
    solver = oc.OccupancyProgram()
    assert solver.backend_for(oc.Problem(garnet)) == "HIGHS"
    assert solver.backend_for(oc.Problem(garnet, regularizer=kl)) == "CLARABEL"
    assert solver.backend_for(oc.Problem(large)) == "CLARABEL"
    assert oc.OccupancyProgram("clarabel").backend_for(oc.Problem(garnet)) == "CLARABEL"


def test_options_reach_the_backend(garnet, monkeypatch):
    seen = {}
    original = cvxpy.Problem.solve

    def spy(self, *arguments, **options):
        seen.update(options)
        return original(self, *arguments, **options)

    monkeypatch.setattr(cvxpy.Problem, "solve", spy)
    oc.solve(garnet, oc.OccupancyProgram("CLARABEL", options={"max_iter": 77, "tol_feas": 1e-9}))
    assert (seen["solver"], seen["max_iter"], seen["tol_feas"]) == ("CLARABEL", 77, 1e-9)
    assert seen["tol_gap_rel"] <= 1e-8  # ours stay where the user says nothing


def test_a_missing_backend_names_those_installed(garnet):
    with pytest.raises(BackendMissing, match="'GUROBI_OF_MARS' is not installed") as caught:
        oc.solve(garnet, oc.OccupancyProgram("GUROBI_OF_MARS"))
    for name in cvxpy.installed_solvers():
        assert name in str(caught.value)
    assert isinstance(caught.value, ImportError)


def test_states_that_are_not_visited_are_greedy_in_the_certified_values_and_flagged():
    """Half of the states are out of reach; their actions are the optimal ones all the same."""
    left = oc.instances.get("garnet", n_states=8, n_actions=4, branching=3, seed=3, discount=0.9)
    rows = np.zeros((64, 16))
    rows[:32, :8] = rows[32:, 8:] = left.transitions.toarray()
    rewards = np.concatenate([left.pair_rewards, left.pair_rewards[::-1]])
    mdp = oc.MDP.from_arrays(rows.reshape(16, 4, 16), rewards.reshape(16, 4), discount=0.9, initial=0)
    values, exact = Exact.of(mdp).optimal_values(), Exact.of(mdp)
    advantages = doubles(exact.action_values(values)) - doubles(values)[mdp.pairs.states]
    for backend in BACKENDS:
        result = oc.solve(mdp, oc.OccupancyProgram(backend))
        assert not result.visited[8:].any()
        assert result.visited[0]
        assert (result.state_occupancy[8:] == 0).all()
        assert np.isfinite(result.policy.pair_probabilities).all()
        chosen = result.policy.pair_probabilities > 0
        assert advantages[chosen].min() >= -1e-9
        np.testing.assert_allclose(result.state_values, doubles(values), rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_before_it_is_polished_the_policy_is_greedy_where_the_program_puts_no_mass(backend):
    """The occupancy says nothing of such states: d/Σd would be noise, or 0/0."""
    mdp = oc.instances.get("garnet", n_states=8, n_actions=4, branching=2, seed=3, discount=0.9)
    rows = np.zeros((64, 16))
    rows[:32, :8] = rows[32:, 8:] = mdp.transitions.toarray()
    rewards = np.concatenate([mdp.pair_rewards, mdp.pair_rewards[::-1]])
    mdp = oc.MDP.from_arrays(rows.reshape(16, 4, 16), rewards.reshape(16, 4), discount=0.9, initial=0)
    (step,) = oc.OccupancyProgram(backend).iterate(oc.Problem(mdp), tol=1e-8, rng=np.random.default_rng(0))
    scores = (mdp.pair_rewards + 0.9 * mdp.transitions @ step.values).reshape(16, 4)
    assert step.policy.probabilities[8:].max(axis=1).tolist() == [1.0] * 8
    np.testing.assert_array_equal(step.policy.probabilities[8:].argmax(axis=1), scores[8:].argmax(axis=1))


def test_a_tie_may_be_randomised_and_is_certified_all_the_same():
    mdp = oc.MDP.from_arrays(np.ones((1, 3, 1)), [[1.0, 1.0, 0.0]], discount=0.9)
    result = oc.solve(mdp, oc.OccupancyProgram("CLARABEL"))  # an interior point keeps both
    assert result.status is oc.Status.CERTIFIED
    assert result.policy.pair_probabilities[:2].sum() == pytest.approx(1.0, abs=1e-7)
    assert result.objective == pytest.approx(1.0, abs=1e-8)


def test_claims_of_the_backend_are_kept_apart(garnet):
    iterates = list(oc.OccupancyProgram("HIGHS").iterate(oc.Problem(garnet), tol=1e-8, rng=np.random.default_rng(0)))
    assert len(iterates) == 1
    claims = iterates[0].claims
    assert (claims["backend"], claims["status"]) == ("HIGHS", "optimal")


# Backends that lie -------------------------------------------------------------------------------------------


def everything_of(program):
    """All variables and dual variables of a program that has been solved."""
    return [*program.variables(), *(dual for constraint in program.constraints for dual in constraint.dual_variables)]


def each(change, *, primal=True, dual=True):
    """A lie that changes the arrays of the answer."""

    def lie(program, rng):
        variables = program.variables()
        for variable in everything_of(program):
            mine = any(variable is other for other in variables)
            if variable.value is not None and (primal if mine else dual):
                variable.save_value(change(np.asarray(variable.value, dtype=np.float64), rng))

    return lie


def says(status):
    """A lie about the status."""

    def lie(program, _):
        program._status = status

    return lie


def raises(error):
    """No answer at all."""

    def lie(*_):
        raise error

    return lie


def another_vertex(program, rng):
    """A feasible occupancy, but the worst one, and the values that belong to it."""
    (variable,) = program.variables()
    mirrored = cvxpy.Problem(cvxpy.Minimize(program.objective.args[0]), program.constraints)
    ORIGINAL(mirrored, solver="CLARABEL")
    variable.save_value(np.asarray(variable.value))


ORIGINAL = cvxpy.Problem.solve
LIES = {
    "random primal": each(lambda x, rng: x.sum() * rng.dirichlet(np.ones(x.size)).reshape(x.shape), dual=False),
    "random duals": each(lambda x, rng: rng.normal(size=x.shape), primal=False),
    "random everything": each(lambda x, rng: rng.normal(size=x.shape)),
    "swapped sign of the duals": each(lambda x, _: -x, primal=False),
    "swapped sign of everything": each(lambda x, _: -x),
    "NaN in the primal": each(lambda x, _: np.full(x.shape, np.nan), dual=False),
    "NaN in the duals": each(lambda x, _: np.full(x.shape, np.nan), primal=False),
    "inf in the primal": each(lambda x, _: np.full(x.shape, np.inf), dual=False),
    "-inf in the duals": each(lambda x, _: np.full(x.shape, -np.inf), primal=False),
    "zero primal": each(lambda x, _: np.zeros(x.shape), dual=False),
    "zero duals": each(lambda x, _: np.zeros(x.shape), primal=False),
    "zeros": each(lambda x, _: np.zeros(x.shape)),
    "truncated": each(lambda x, _: np.round(x, 1)),
    "small numbers dropped": each(lambda x, _: np.where(np.abs(x) < 0.1, 0.0, x)),
    "one entry missing": each(lambda x, _: x.ravel()[:-1] if x.size > 1 else x),
    "one entry too many": each(lambda x, _: np.append(x, 1.0)),
    "permuted": each(lambda x, rng: rng.permutation(x) if x.ndim else x),
    "huge": each(lambda x, _: 1e30 * x),
    "huge duals": each(lambda x, _: 1e300 * (x + 1.0), primal=False),
    "largest duals": each(
        lambda x, _: np.where(np.arange(x.size).reshape(x.shape) % 2, 1.7e308, -1.7e308), primal=False
    ),
    "tiny": each(lambda x, _: 1e-30 * x),
    "a little off": each(lambda x, rng: x * (1 + 1e-4 * rng.normal(size=x.shape))),
    "duals a little off": each(lambda x, rng: x + 1e-3 * rng.normal(size=x.shape), primal=False),
    "uniform": each(lambda x, _: np.full(x.shape, x.mean()), dual=False),
    "complex numbers": each(lambda x, _: x + 1j, primal=False),
    "no numbers": each(lambda x, _: None),
    "words": each(lambda x, _: np.full(x.shape, "optimal"), primal=False),
    "worst vertex": another_vertex,
    "infeasible": says("infeasible"),
    "unbounded": says("unbounded"),
    "inaccurate": says("optimal_inaccurate"),
    "user limit": says("user_limit"),
    "error": says("solver_error"),
    "no status": says(None),
    "nonsense": says("fine"),
    "SolverError": raises(cvxpy.error.SolverError("no")),
    "RuntimeError": raises(RuntimeError("no")),
    "ValueError": raises(ValueError("no")),
    "KeyError": raises(KeyError("no")),
    "IndexError": raises(IndexError("no")),
    "OSError": raises(OSError("no")),
    "AssertionError": raises(AssertionError("no")),
    "ZeroDivisionError": raises(ZeroDivisionError("no")),
    "MemoryError": raises(MemoryError("no")),
    "KeyboardInterrupt": raises(KeyboardInterrupt()),
    "Exception": raises(Exception("no")),
}


def tell(lie, monkeypatch, seed):
    """Have cvxpy solve, and then change what it found."""

    def solve(self, *arguments, **options):
        ORIGINAL(self, *arguments, **options)
        LIES[lie](self, np.random.default_rng(seed))

    monkeypatch.setattr(cvxpy.Problem, "solve", solve)


def questions():
    toymaker = oc.instances.get("howard-toymaker")
    machine = oc.instances.get("machine-repair")
    yield "plain", oc.Problem(toymaker)
    yield "costs", oc.Problem(oc.instances.get("puterman-two-state"), sense="minimize")
    yield "two classes", oc.Problem(two_classes(1e-3))
    yield "limits", oc.Problem(machine, constraints=[oc.expected("wear") <= 0.25])
    yield "kl", oc.Problem(machine, regularizer=oc.KL(2.0, oc.Policy.uniform(machine)))


QUESTIONS = dict(questions())
#: The optimum of "limits": the best lottery of two deterministic policies, in fractions (tests/exact/test_levels.py).
LIMITED = Fraction(351817, 47600)


@pytest.mark.parametrize("kind", QUESTIONS)
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("polish", [True, False])
def test_a_backend_that_lies_is_never_believed(kind, lie, polish, monkeypatch):
    """Whatever comes back: bounds stay true, CERTIFIED is only said when it is so, and no foreign error escapes."""
    problem = QUESTIONS[kind]
    if not polish:
        monkeypatch.setattr("occlp.solving.polisher", lambda problem, solver, prices: None)

    best = oc.solve(problem)
    tell(lie, monkeypatch, seed=5)
    exact, sign = Exact.of(problem.mdp), 1 if problem.sense == "maximize" else -1
    optimum = exact.optimum(problem.sense) if kind != "kl" else exact_objective(problem, best.policy, exact)
    if kind == "limits":
        optimum = LIMITED
    result = oc.solve(problem, oc.OccupancyProgram("CLARABEL"), check=False)
    attained = exact_objective(problem, result.policy, exact)
    assert encloses(result.certificate, optimum)
    assert encloses(result.certificate, attained) or kind == "limits"  # where a limit is broken more is attained
    assert sign * (optimum - attained) <= Fraction(result.gap) + Fraction(1e-12)
    if result.status is oc.Status.CERTIFIED:
        assert sign * (optimum - attained) <= Fraction(1.01e-8) * abs(optimum) + Fraction(1e-12)
    else:
        assert result.message
        if result.status is not oc.Status.LIMIT:
            with pytest.raises(NotCertified) as caught:
                oc.solve(problem, oc.OccupancyProgram("CLARABEL"))
            assert isinstance(caught.value.result, oc.Result)


#: Other criteria and curved objectives, with an independent judge of their bounds.
OTHERS = ["average with a limit", "total with a limit", "log sum", "a concave limit"]


@pytest.mark.parametrize(
    ("kind", "lie"), [*zip(itertools.cycle(OTHERS), [lie for lie in LIES for _ in range(2)], strict=False)]
)
def test_lies_about_other_criteria_are_not_believed_either(kind, lie, monkeypatch):
    """Each lie about two of the four questions, told to the solver and to those who polish its answer."""
    problem = KINDS[kind]
    tell(lie, monkeypatch, seed=5)
    result = oc.solve(problem, oc.OccupancyProgram("CLARABEL"), check=False)
    truth = Truth(problem)
    assert truth.denies(result) is None
    assert oc.verify(problem, result)
    if result.status is oc.Status.CERTIFIED:
        short = truth.optimum - truth.sign * result.objective
        assert short <= 1.01e-8 * truth.size + 1e-8
    elif result.status is not oc.Status.LIMIT:
        assert result.message


@pytest.mark.parametrize(
    "lie", ["NaN in the duals", "infeasible", "SolverError", "uniform", "unbounded", "no numbers", "KeyError"]
)
def test_lies_that_leave_nothing_are_failures_that_say_so(lie, monkeypatch):
    problem = QUESTIONS["plain"]
    tell(lie, monkeypatch, seed=0)
    with pytest.raises(NotCertified) as caught:
        oc.solve(problem, oc.OccupancyProgram("HIGHS"))
    assert caught.value.result.status is oc.Status.FAILED
    assert "HIGHS" in str(caught.value) or "KeyError" in str(caught.value)


@pytest.mark.parametrize(
    "lie",
    [
        "huge", "huge duals", "tiny",
        "largest duals",
    ],
)  # fmt: skip
def test_lies_do_not_make_numpy_complain(lie, monkeypatch):
    """A warning of numpy is no message of ours; under pytest it would be an error that is caught as a crash."""
    problem = QUESTIONS["plain"]
    tell(lie, monkeypatch, seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        oc.solve(problem, oc.OccupancyProgram("CLARABEL"), check=False)
    assert [str(warning.message) for warning in caught] == []


OTHER_LIES = [
    "random everything", "swapped sign of everything", "NaN in the primal", "inf in the primal", "-inf in the duals",
    "zeros", "truncated", "small numbers dropped", "permuted", "a little off", "uniform", "no numbers", "infeasible",
    "unbounded", "error", "SolverError",
]  # fmt: skip


@pytest.mark.parametrize("lie", OTHER_LIES)
@pytest.mark.parametrize("kind", ["averages by state", "total", "total with a limit", "infeasible total"])
def test_lies_about_other_programs(kind, lie, monkeypatch):
    """Two-block programs of averages, and totals: the enclosure holds the truth, and the audit agrees."""
    problem, truth = KINDS[kind], answer(kind)
    tell(lie, monkeypatch, seed=5)
    result = oc.solve(problem, oc.OccupancyProgram("HIGHS"), check=False)
    assert oc.verify(problem, result)
    if kind == "infeasible total":
        assert not result.certificate.gap < np.inf
        return
    assert result.status is not oc.Status.INFEASIBLE
    assert result.certificate.lower <= truth.certificate.upper + 1e-12
    assert result.certificate.upper >= truth.certificate.lower - 1e-12


@pytest.mark.parametrize("lie", ["random primal", "truncated", "a little off", "duals a little off", "infeasible"])
@pytest.mark.parametrize("kind", ["total variation", "a concave limit", "occupancy entropy", "conditional KL"])
def test_lies_about_curved_programs(kind, lie, monkeypatch):
    problem, truth = KINDS[kind], answer(kind)
    tell(lie, monkeypatch, seed=5)
    result = oc.solve(problem, oc.OccupancyProgram("CLARABEL"), check=False)
    assert oc.verify(problem, result)
    assert result.status is not oc.Status.INFEASIBLE
    assert result.certificate.lower <= truth.certificate.upper + 1e-12
    assert result.certificate.upper >= truth.certificate.lower - 1e-12


STATUSES = {
    "optimal": ("CERTIFIED", "CERTIFIED"),
    "optimal_inaccurate": ("CERTIFIED", "CERTIFIED"),
    "user_limit": ("CERTIFIED", "CERTIFIED"),
    "time_limit": ("CERTIFIED", "CERTIFIED"),
    # Without limits there always is an optimum; with them the library looks for a proof, and answers where none is.
    "infeasible": ("FAILED", "CERTIFIED"),
    "infeasible_inaccurate": ("FAILED", "CERTIFIED"),
    "infeasible_or_unbounded": ("FAILED", "CERTIFIED"),
    "unbounded": ("FAILED", "FAILED"),
    "unbounded_inaccurate": ("FAILED", "FAILED"),
    "solver_error": ("FAILED", "FAILED"),
    "a word of its own": ("FAILED", "FAILED"),
    None: ("FAILED", "FAILED"),
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("kind", ["plain", "limits"])
@pytest.mark.bad_input(79, 80)
def test_what_becomes_of_each_status(kind, status, monkeypatch):
    """The numbers are right and the status is not: numbers count, and what cannot be is a failure with the words."""

    def solve(self, *arguments, **options):
        ORIGINAL(self, *arguments, **options)
        self._status = status

    monkeypatch.setattr(cvxpy.Problem, "solve", solve)
    result = oc.solve(QUESTIONS[kind], oc.OccupancyProgram("CLARABEL"), check=False)
    assert result.status.name == STATUSES[status][kind == "limits"]
    if result.status is oc.Status.FAILED:
        assert repr(status) in result.message
    assert oc.verify(QUESTIONS[kind], result)


@pytest.mark.parametrize("status", STATUSES)
def test_nobody_is_told_that_the_impossible_was_done(status, monkeypatch):
    """No policy keeps this limit, whatever the backend says and returns."""
    problem = oc.Problem(QUESTIONS["limits"].mdp, constraints=[oc.expected("wear") <= -1.0])

    def solve(self, *arguments, **options):
        for part in everything_of(self):
            part.save_value(np.full(part.shape, 1.0 / max(part.size, 1)))
        self._status = status

    monkeypatch.setattr(cvxpy.Problem, "solve", solve)
    result = oc.solve(problem, oc.OccupancyProgram("CLARABEL"), check=False)
    assert result.status.name in ("FAILED", "INFEASIBLE", "BOUNDED", "LIMIT")
    assert not result.certificate.gap < np.inf


def test_lies_differ_from_the_truth(monkeypatch):
    """Each lie about numbers changes something: otherwise the test above would prove nothing."""
    problem = oc.OccupancyProgram().program(QUESTIONS["plain"])
    for name, lie in LIES.items():
        ORIGINAL(problem, solver="CLARABEL")
        before = [np.array(v.value) for v in everything_of(problem)], problem.status
        try:
            lie(problem, np.random.default_rng(1))
        except (Exception, KeyboardInterrupt):
            continue
        after = [v.value for v in everything_of(problem)], problem.status
        same = all(
            b is not None and np.shape(a) == np.shape(b) and np.array_equal(a, b)
            for a, b in zip(before[0], after[0], strict=True)
        )
        assert not same or before[1] != after[1], name


def test_the_program_survives_every_choice_of_sense_and_size():
    """Answers of one model in many units are the same answer."""
    mdp = oc.instances.get("howard-taxicab")
    base = oc.solve(mdp, oc.OccupancyProgram("HIGHS"))
    for factor, offset in itertools.product((1e-9, 1.0, 1e9), (0.0, 3.0)):
        rewards = factor * (mdp.pair_rewards + offset)
        first = oc.solve(mdp.replace(rewards=rewards), oc.OccupancyProgram("HIGHS"))
        second = oc.solve(oc.Problem(mdp.replace(rewards=-rewards), sense="minimize"), oc.OccupancyProgram("HIGHS"))
        for result in (first, second):
            assert result.policy.actions == base.policy.actions
            np.testing.assert_allclose(result.pair_occupancy, base.pair_occupancy, atol=1e-14)
        assert first.objective == pytest.approx(factor * (base.objective + offset), rel=1e-13)
        assert second.objective == pytest.approx(-first.objective, rel=1e-13)

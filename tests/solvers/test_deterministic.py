"""The best deterministic policy under constraints, against looking at every deterministic policy."""

from __future__ import annotations

import numpy as np
import pytest
from polytope import choices, random_model, vertices

import occlp as oc
from occlp.evaluation import formulate
from occlp.solvers import deterministic
from occlp.solvers.backends import Backend
from occlp.solvers.base import SolverFailure

SENSES = ("maximize", "minimize")


def brute_force(problem, slack=1e-9):
    """The best objective of a deterministic policy that keeps the constraints, or None."""
    best, sign = None, 1.0 if problem.sense == "maximize" else -1.0
    for chosen in choices(problem.mdp):
        evaluation = oc.evaluate(problem, oc.Policy.from_choice(problem.mdp, chosen))
        for limit in problem.limits.values():
            value = limit.expression.coefficients(problem.mdp, problem.rest) @ evaluation.pair_occupancy - limit.bound
            if {"<=": value, ">=": -value, "==": abs(value)}[limit.relation] > slack:
                break
        else:
            if best is None or sign * evaluation.objective > sign * best:
                best = evaluation.objective
    return best


def claims(problem, **settings):
    solver = oc.DeterministicProgram(**settings)
    (iterate,) = solver.iterate(problem, tol=1e-8, rng=np.random.default_rng(0))
    return iterate


@pytest.fixture(scope="module")
def machine():
    return oc.instances.get("machine-repair")


class TestBruteForce:
    @pytest.mark.parametrize("sense", SENSES)
    @pytest.mark.parametrize("seed", range(6))
    def test_one_budget(self, seed, sense):
        mdp = random_model(seed)
        problem = oc.Problem(mdp, sense=sense, constraints=[oc.expected("wear") <= self.quantile(mdp, "wear", 0.2)])
        self.check(problem)

    @pytest.mark.parametrize("sense", SENSES)
    @pytest.mark.parametrize("seed", range(6, 10))
    def test_two_limits(self, seed, sense):
        mdp = random_model(seed)
        constraints = [
            oc.expected("wear") <= self.quantile(mdp, "wear", 0.3),
            oc.expected_total("fuel") >= 10 * self.quantile(mdp, "fuel", 0.6),
        ]
        self.check(oc.Problem(mdp, sense=sense, constraints=constraints))

    @pytest.mark.parametrize("seed", range(4))
    def test_an_equality_that_one_policy_keeps(self, seed):
        mdp = random_model(seed)
        exact = float(vertices(mdp)[100] @ mdp.pair_costs["wear"])
        self.check(oc.Problem(mdp, constraints=[oc.expected("wear") == exact]))

    @pytest.mark.parametrize("bound", [0, 0.02, 0.05, 2 / 21])
    def test_on_average(self, bound):
        mdp = oc.instances.get("hillier-lieberman-machine", discount=None)
        overhauls = np.zeros((4, 3))
        overhauls[:, mdp.actions.index("overhaul")] = 1.0
        constraints = {"overhauls": oc.expected(overhauls) <= bound}
        problem = oc.Problem(mdp, sense="minimize", criterion="average", constraints=constraints)
        result = self.check(problem)
        expected = 5000 / 3 if bound == 2 / 21 else 19000 / 11  # overhaul always, or replace
        assert result.objective == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("seed", range(3))
    def test_where_states_are_not_visited(self, seed):
        mdp = oc.instances.get("garnet", n_states=6, n_actions=2, branching=2, seed=seed, discount=0.9, initial=0)
        mdp = mdp.replace(costs={"wear": np.random.default_rng(seed).random(mdp.n_pairs)})
        bound = self.quantile(mdp, "wear", 0.3)
        self.check(oc.Problem(mdp, constraints=[oc.expected("wear") <= bound, *(oc.conditional([0], 0) <= 0.5)]))

    @staticmethod
    def quantile(mdp, name, share):
        return float(np.quantile(vertices(mdp) @ mdp.pair_costs[name], share))

    @staticmethod
    def check(problem):
        truth = brute_force(problem)
        assert truth is not None
        result = oc.solve(problem, oc.DeterministicProgram())
        assert result.policy.is_deterministic
        assert result.objective == pytest.approx(truth, abs=1e-9)
        assert result.certificate.violation <= 1e-8
        assert oc.verify(problem, result)
        randomised = oc.solve(problem)
        assert result.gap == pytest.approx(abs(randomised.objective - truth), abs=1e-8)
        assert result.status is (oc.Status.CERTIFIED if result.gap < 1e-9 else oc.Status.BOUNDED)
        return result


class TestWhatIsSaid:
    def test_the_bound_of_the_backend_is_a_claim(self, machine):
        problem = oc.Problem(machine, constraints=[oc.expected("wear") <= 0.25])
        said = claims(problem).claims
        assert said["bound"] == pytest.approx(brute_force(problem), abs=1e-7)
        assert "HIGHS claims, without a proof, that no deterministic policy does better than 7.126" in said["note"]
        result = oc.solve(problem, oc.DeterministicProgram())
        assert result.certificate.upper == pytest.approx(oc.solve(problem).objective, abs=1e-10)  # proved: randomised
        assert result.status is oc.Status.BOUNDED

    def test_when_minimising(self, machine):
        paid = machine.replace(rewards=-machine.pair_rewards)
        problem = oc.Problem(paid, sense="minimize", constraints=[oc.expected("wear") <= 0.25])
        assert claims(problem).claims["bound"] == pytest.approx(-7.12605042, abs=1e-7)

    def test_without_constraints_the_gap_closes(self, machine):
        assert oc.solve(machine, oc.DeterministicProgram()).status is oc.Status.CERTIFIED

    def test_a_slack_budget_too(self, machine):
        result = oc.solve(oc.Problem(machine, constraints=[oc.expected("wear") <= 1]), oc.DeterministicProgram())
        assert result.status is oc.Status.CERTIFIED

    def test_feasible_for_randomised_policies_only(self, machine):
        problem = oc.Problem(machine, constraints=[oc.expected("wear") == 0.2])
        assert oc.solve(problem).status is oc.Status.CERTIFIED
        assert brute_force(problem) is None
        said = r"no deterministic policy .* says HIGHS \(a claim, not a proof\), although randomised policies do"
        with pytest.raises(oc.NotCertified, match=said) as caught:
            oc.solve(problem, oc.DeterministicProgram())
        assert caught.value.result.status is oc.Status.FAILED  # INFEASIBLE is kept for what is proved

    def test_infeasible_for_all_is_proved(self, machine):
        problem = oc.Problem(machine, constraints=[oc.expected("wear") <= -0.5])
        with pytest.raises(oc.Infeasible) as caught:
            oc.solve(problem, oc.DeterministicProgram())
        assert oc.verify(problem, caught.value.result)

    def test_elsewhere_it_does_the_sensible_thing(self, machine):
        """In states that the policy never reaches it is greedy, not whatever the program left there."""
        result = oc.solve(oc.Problem(machine, constraints=[oc.expected("wear") <= 0.1]), oc.DeterministicProgram())
        assert result.visited.tolist() == [True, True, False]
        assert result.policy.actions["broken"] == "repair"


class TestBackends:
    def test_a_missing_one(self, machine):
        with pytest.raises(oc.BackendMissing, match="'cplex_or_so' is not installed"):
            oc.solve(machine, oc.DeterministicProgram(backend="cplex_or_so"))

    def test_one_that_takes_no_binaries(self, machine):
        with pytest.raises(oc.Unsupported, match="CLARABEL takes no binary variables"):
            oc.solve(machine, oc.DeterministicProgram(backend="CLARABEL"))

    def test_another_backend_finds_the_same(self, machine):
        problem = oc.Problem(machine, constraints=[oc.expected("wear") <= 0.25])
        assert oc.solve(problem, oc.DeterministicProgram("scipy")).objective == pytest.approx(7.12605042, abs=1e-7)

    def test_regularizers_are_not_linear(self, machine):
        term = oc.KL(strength=1.0, reference=oc.Policy.uniform(machine))
        with pytest.raises(oc.Unsupported, match="linear"):
            oc.solve(oc.Problem(machine, regularizer=term), oc.DeterministicProgram())

    def test_stopped_before_it_had_a_policy(self):
        mdp = random_model(0, n_states=20)
        problem = oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.3])
        result = oc.solve(problem, oc.DeterministicProgram(options={"time_limit": 0.0}), check=False)
        assert result.status is oc.Status.FAILED
        assert "and no policy" in result.message

    def test_a_wrong_option(self, machine):
        problem = oc.Problem(machine, constraints=[oc.expected("wear") <= 0.25])
        result = oc.solve(problem, oc.DeterministicProgram(options={"no_such_option": 1}), check=False)
        assert result.status is oc.Status.FAILED


class TestALyingBackend:
    """Its choices are only looked at; what breaks the constraints is cut off, and worse answers show in the gap."""

    @pytest.fixture
    def problem(self, machine):
        return oc.Problem(machine, constraints=[oc.expected("wear") <= 0.25])

    def test_choices_that_break_the_budget_are_excluded(self, problem, monkeypatch):
        honest, excluded = deterministic._Program.solve, []

        def lying(program):
            if len(excluded) < 3:
                return deterministic._Answer(np.array([0, 2, 5], dtype=np.int32), 99.0, "optimal")
            return honest(program)

        exclude = deterministic._Program.exclude
        monkeypatch.setattr(deterministic._Program, "solve", lying)
        monkeypatch.setattr(
            deterministic._Program, "exclude", lambda self, chosen: (excluded.append(chosen), exclude(self, chosen))
        )
        result = oc.solve(problem, oc.DeterministicProgram())
        assert len(excluded) == 3
        assert result.objective == pytest.approx(brute_force(problem), abs=1e-9)

    def test_cuts_hold_and_leave_the_compiled_program(self, machine, monkeypatch):
        """Each answer is cut off in turn, until no policy is left: all differ, and the bound falls."""
        written = []
        write = deterministic._Program._write
        monkeypatch.setattr(
            deterministic._Program, "_write", lambda self, room: (written.append(room), write(self, room))
        )
        form = formulate(oc.Problem(machine, constraints=[oc.expected("wear") <= 100.0]))
        program = deterministic._Program(form, np.ones(form.n_pairs), Backend("HIGHS"))
        bounds, policies = [], set()
        for _ in range(8):
            answer = program.solve()
            bounds.append(answer.bound)
            policies.add(tuple(answer.choice.tolist()))
            program.exclude(answer.choice)
        with pytest.raises(SolverFailure, match="no deterministic policy keeps the constraints"):
            program.solve()
        assert len(policies) == 8
        assert (np.diff(bounds) <= 1e-9).all()
        assert written == [0, 8]

    def test_for_ever(self, problem, monkeypatch):
        broken = deterministic._Answer(np.array([0, 2, 5], dtype=np.int32), 99.0, "optimal")
        monkeypatch.setattr(deterministic._Program, "solve", lambda self: broken)
        result = oc.solve(problem, oc.DeterministicProgram(), check=False)
        assert result.status is oc.Status.FAILED
        assert "broke the constraints with 200 policies" in result.message

    def test_a_poor_choice_is_not_certified(self, problem, monkeypatch):
        poor = deterministic._Answer(np.array([1, 3, 5], dtype=np.int32), 99.0, "optimal")
        monkeypatch.setattr(deterministic._Program, "solve", lambda self: poor)
        result = oc.solve(problem, oc.DeterministicProgram())
        assert result.objective == pytest.approx(-8.0)
        assert result.status is oc.Status.BOUNDED
        assert result.gap == pytest.approx(oc.solve(problem).objective + 8, abs=1e-8)


class TestTightness:
    @pytest.mark.parametrize("seed", range(3))
    def test_largest_occupancies_are_largest(self, seed):
        mdp = random_model(seed, n_states=4, initial=0)
        form = formulate(oc.Problem(mdp))
        largest = deterministic.largest_occupancies(form, mdp.pairs)
        truth = vertices(mdp).max(axis=0)
        assert (largest >= truth - 1e-15).all()
        assert largest == pytest.approx(truth, abs=1e-9)

    def test_beyond_the_limit_they_are_one(self, monkeypatch):
        mdp = random_model(0)
        monkeypatch.setattr(deterministic, "TIGHT_PAIRS", 14)
        assert (deterministic.largest_occupancies(formulate(oc.Problem(mdp)), mdp.pairs) == 1).all()
        problem = oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.4])
        assert oc.solve(problem, oc.DeterministicProgram()).objective == pytest.approx(brute_force(problem), abs=1e-9)

"""Problems with a KL term: closed forms, limits of the strength, zeros of the prior, and an independent optimiser."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from helpers import Exact, divergence, exact_objective, fractions, random_policy, two_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import logsumexp
from strategies import mdps, policy_tables

import occlp as oc
from occlp.errors import InvalidProblem, NotCertified, Unsupported
from occlp.evaluation import formulate

SOLVERS = [oc.KLDual(), oc.OccupancyProgram("CLARABEL")]


def one_state(rewards, **changes):
    """A bandit: one state, one action for each reward."""
    rewards = np.asarray(rewards, dtype=float)
    return oc.MDP.from_arrays(np.ones((1, len(rewards), 1)), rewards[None], **{"discount": 0.9, **changes})


def with_kl(mdp, strength, reference=None, sense="maximize"):
    reference = oc.Policy.uniform(mdp) if reference is None else reference
    return oc.Problem(mdp, sense=sense, regularizer=oc.KL(strength, reference))


# Closed forms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sense", ["maximize", "minimize"])
@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0, 20.0])
def test_one_state_is_a_log_sum_exp(solver, sense, strength):
    """Value τ log Σ π0 exp(r/τ), policy π0 exp(r/τ) normalised (the Gibbs variational principle)."""
    rewards, prior = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.3, 0.2])
    mdp, sign = one_state(rewards), 1 if sense == "maximize" else -1
    problem = with_kl(mdp, strength, oc.Policy.from_table(mdp, prior[None]), sense)
    result = oc.solve(problem, solver)
    value = sign * strength * logsumexp(sign * rewards / strength, b=prior)
    assert result.status is oc.Status.CERTIFIED
    assert result.objective == pytest.approx(value, rel=1e-9)
    assert result.certificate.lower <= value + 1e-15
    assert value - 1e-15 <= result.certificate.upper
    weights = prior * np.exp(sign * rewards / strength)
    np.testing.assert_allclose(result.policy.pair_probabilities, weights / weights.sum(), atol=1e-5)


def test_the_entropy_of_one_state():
    """V = τ log Σ exp(r/τ), π ∝ exp(r/τ) for r = (1, 2, 3), τ = 1/2: KL to uniform is log 3 less the entropy."""
    result = oc.solve(with_kl(one_state([1.0, 2.0, 3.0]), 0.5))
    assert result.objective + 0.5 * math.log(3) == pytest.approx(3.0714658142499496, rel=1e-14)
    policy = [0.015876239976466765, 0.11731042782619835, 0.8668133321973348]
    np.testing.assert_allclose(result.policy.pair_probabilities, policy, rtol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_zero_of_the_prior_removes_its_pair_exactly(solver):
    """max r·x − KL(x ‖ p), r = (1, 2, 100), p = (1/2, 1/2, 0): given the third column, backends return nonsense."""
    mdp = one_state([1.0, 2.0, 100.0])
    problem = with_kl(mdp, 1.0, oc.Policy.from_table(mdp, [[0.5, 0.5, 0.0]]))
    result = oc.solve(problem, solver)
    assert result.objective == pytest.approx(1.6201145069582774, rel=1e-9)
    assert result.policy.pair_probabilities[2] == 0.0
    np.testing.assert_allclose(result.pair_occupancy, [0.2689414213699951, 0.7310585786300049, 0.0], atol=1e-6)
    assert oc.verify(problem, result)


def test_large_scores_do_not_overflow():
    result = oc.solve(with_kl(one_state([1e3, 0.0]), 1e-3))
    assert result.objective == pytest.approx(1e3 - 1e-3 * math.log(2), rel=1e-15)
    assert result.policy.pair_probabilities.tolist() == [1.0, 0.0]
    assert oc.solve(with_kl(one_state([1e3, 0.0]), 1e-3, sense="minimize")).policy[0] == {0: 0.0, 1: 1.0}


# Strengths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", range(-9, 10, 2))
@pytest.mark.parametrize("sense", ["maximize", "minimize"])
@pytest.mark.parametrize("name", ["howard-toymaker", "garnet", "machine-repair"])
def test_strengths_from_1e_minus_9_to_1e9(name, sense, exponent):
    mdp = oc.instances.get(name, **({"n_states": 15, "n_actions": 3} if name == "garnet" else {}))
    problem = with_kl(mdp, 10.0**exponent, random_policy(mdp, np.random.default_rng(1)), sense)
    result = oc.solve(problem)
    assert result.status is oc.Status.CERTIFIED
    assert np.isfinite(result.policy.pair_probabilities).all()
    assert oc.verify(problem, result)


def test_weak_penalties_approach_the_plain_optimum_and_strong_ones_the_reference():
    mdp = oc.instances.get("garnet", n_states=10, n_actions=3, branching=3, seed=2)
    reference = random_policy(mdp, np.random.default_rng(0))
    plain, start = oc.solve(mdp), oc.evaluate(mdp, reference)
    results = [oc.solve(with_kl(mdp, 10.0**exponent, reference)) for exponent in range(-6, 7)]
    objectives = [result.objective for result in results]
    assert all(first >= second - 1e-12 for first, second in itertools.pairwise(objectives))
    assert objectives[0] == pytest.approx(plain.objective, abs=1e-4)
    assert objectives[0] <= plain.objective
    assert results[0].expected["reward"] == pytest.approx(plain.objective, abs=1e-9)
    assert objectives[-1] == pytest.approx(start.objective, abs=1e-5)
    assert objectives[-1] >= start.objective
    np.testing.assert_allclose(results[-1].pair_occupancy, start.pair_occupancy, atol=1e-5)


def test_a_weak_penalty_is_the_plain_problem_on_the_support_of_the_reference():
    mdp = oc.instances.get("howard-toymaker")  # its optimum advertises and researches; the reference never advertises
    reference = oc.Policy.from_pairs(mdp, [1.0, 0.0, 0.5, 0.5])
    result = oc.solve(with_kl(mdp, 1e-7, reference))
    values = [oc.evaluate(mdp, oc.Policy.from_pairs(mdp, [1.0, 0.0, p, 1 - p])).objective for p in (0.0, 1.0)]
    assert result.objective == pytest.approx(max(values), abs=1e-6)
    assert result.objective < oc.solve(mdp).objective - 0.1
    assert result.policy.pair_probabilities[1] == 0.0


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_units_cancel(scale):
    mdp = oc.instances.get("howard-taxicab")
    reference = random_policy(mdp, np.random.default_rng(3))
    first = oc.solve(with_kl(mdp, 2.0, reference))
    second = oc.solve(with_kl(mdp.replace(rewards=scale * mdp.pair_rewards), 2.0 * scale, reference))
    assert second.objective == pytest.approx(scale * first.objective, rel=1e-12)
    np.testing.assert_allclose(second.pair_occupancy, first.pair_occupancy, atol=1e-8)
    third = oc.solve(with_kl(mdp.replace(rewards=mdp.pair_rewards + 1e9), 2.0, reference))
    assert third.objective == pytest.approx(first.objective + 1e9, rel=1e-15)
    np.testing.assert_allclose(third.pair_occupancy, first.pair_occupancy, atol=1e-8)


@pytest.mark.parametrize("strength", [0.0, -1.0, math.inf, math.nan, "1", None])
def test_strengths_that_are_refused(strength):
    mdp = one_state([1.0, 2.0])
    with pytest.raises(InvalidProblem, match="positive"):
        oc.KL(strength, oc.Policy.uniform(mdp))


# The divergence ----------------------------------------------------------------------------------------------


@given(st.data(), mdps(max_states=4))
@settings(max_examples=60)
def test_the_divergence_is_that_of_occupancies(data, mdp):
    """By its definition, to 60 digits; infinite where a pair is visited that the reference never visits."""
    policy, reference = (oc.Policy.from_table(mdp, data.draw(policy_tables(mdp))) for _ in range(2))
    problem, exact = with_kl(mdp, 1.0, reference), Exact.of(mdp)
    d, d0 = (exact.occupancy(fractions(p.pair_probabilities)) for p in (policy, reference))
    plain, found = oc.evaluate(mdp, policy).objective, oc.evaluate(problem, policy).objective
    if any(p > 0 and q == 0 for p, q in zip(d, d0, strict=True)):
        assert found == -math.inf
        assert oc.evaluate(with_kl(mdp, 1.0, reference, "minimize"), policy).objective == math.inf
    else:
        assert found == pytest.approx(float(Fraction(plain) - divergence(d, d0)), rel=1e-12, abs=1e-13)
    assert oc.evaluate(problem, reference).objective == pytest.approx(oc.evaluate(mdp, reference).objective, abs=1e-14)


def test_small_divergences_keep_their_digits():
    """A policy 1e-9 from its reference: the divergence is near 1e-18, and not rounding."""
    mdp = one_state([0.0, 0.0])
    reference = oc.Policy.from_table(mdp, [[0.5, 0.5]])
    policy = oc.Policy.from_table(mdp, [[0.5 + 1e-9, 0.5 - 1e-9]])
    value = -oc.evaluate(with_kl(mdp, 1.0, reference), policy).objective
    assert value == pytest.approx(2e-18, rel=1e-6)
    form = formulate(with_kl(mdp, 1.0, reference))
    assert form.term.value(np.array([0.5, 0.5])) == 0.0


def test_the_prior_is_an_occupancy_and_not_a_policy():
    """Two states: the reference visits the second rarely, which a policy KL would not see."""
    mdp = oc.MDP.from_arrays([[[1, 0], [0, 1]], [[0, 1], [0, 1]]], [[0.0, 1.0], [1.0, 1.0]], discount=0.5, initial=0)
    reference = oc.Policy.from_table(mdp, [[0.9, 0.1], [0.5, 0.5]])
    policy = oc.Policy.from_table(mdp, [[0.5, 0.5], [0.5, 0.5]])
    joint = oc.evaluate(mdp, policy).objective - oc.evaluate(with_kl(mdp, 1.0, reference), policy).objective
    d, d0 = [1 / 3, 1 / 3, 1 / 6, 1 / 6], [9 / 11, 1 / 11, 1 / 22, 1 / 22]
    assert joint == pytest.approx(sum(p * math.log(p / q) for p, q in zip(d, d0, strict=True)), rel=1e-13)
    policies = 2 / 3 * (0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))
    assert joint > policies + 0.2


# Solvers -----------------------------------------------------------------------------------------------------


@given(
    st.data(),
    mdps(max_states=4),
    st.sampled_from(["maximize", "minimize"]),
    st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 30.0]),
)
@settings(max_examples=60)
def test_every_kind_of_model_and_reference(data, mdp, sense, strength):
    reference = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    problem = with_kl(mdp, strength, reference, sense)
    result = oc.solve(problem)
    attained = exact_objective(problem, result.policy)
    assert result.status is oc.Status.CERTIFIED
    slack = Fraction(1e-14) * (abs(attained) + Fraction(strength))  # the last digit of a logarithm
    assert Fraction(result.certificate.lower) - slack <= attained <= Fraction(result.certificate.upper) + slack
    assert result.objective == pytest.approx(float(attained), rel=1e-12, abs=1e-12)
    assert not result.pair_occupancy[oc.evaluate(mdp, reference).pair_occupancy == 0].any()
    sign = 1 if sense == "maximize" else -1
    assert sign * result.objective >= sign * oc.evaluate(mdp, reference).objective - 1e-12


@given(st.data(), mdps(max_states=4), st.sampled_from(["maximize", "minimize"]), st.sampled_from([0.1, 1.0, 10.0]))
@settings(max_examples=25)
def test_two_methods_that_share_no_code_agree(data, mdp, sense, strength):
    reference = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    problem = with_kl(mdp, strength, reference, sense)
    first, second = (oc.solve(problem, solver, tol=1e-6) for solver in SOLVERS)
    scale = 1 + float(np.abs(mdp.pair_rewards).max())
    assert abs(first.objective - second.objective) <= first.gap + second.gap + 1e-12 * scale
    assert first.certificate.lower <= second.certificate.upper + 1e-12 * scale
    assert second.certificate.lower <= first.certificate.upper + 1e-12 * scale


def by_scipy(problem):
    """The optimum by scipy: sequential quadratic programming over the occupancy, from the reference's own."""
    mdp, tau = problem.mdp, problem.regularizer.strength
    sign = 1.0 if problem.sense == "maximize" else -1.0
    prior = oc.evaluate(mdp, problem.regularizer.reference).pair_occupancy
    flow = np.zeros((mdp.n_states, mdp.n_pairs))
    flow[mdp.pairs.states, np.arange(mdp.n_pairs)] = 1.0
    flow -= mdp.discount * mdp.transitions.toarray().T
    source = (1 - mdp.discount) * mdp.initial

    def loss(d):
        d = np.maximum(d, 1e-300)
        return tau * float(d @ np.log(d / prior)) - sign * float(d @ mdp.pair_rewards)

    def slope(d):
        return tau * (np.log(np.maximum(d, 1e-300) / prior) + 1) - sign * mdp.pair_rewards

    found = minimize(
        loss, prior, jac=slope, method="SLSQP", bounds=[(1e-14, 1)] * mdp.n_pairs,
        constraints={"type": "eq", "fun": lambda d: flow @ d - source, "jac": lambda d: flow},
        options={"maxiter": 1000, "ftol": 1e-15},
    )  # fmt: skip
    return -sign * found.fun, found.x


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
@pytest.mark.parametrize("strength", [0.1, 0.5, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_against_an_independent_optimiser(sense, strength, seed):
    mdp = oc.instances.get("garnet", n_states=5, n_actions=3, branching=2, seed=seed, discount=0.9)
    problem = with_kl(mdp, strength, random_policy(mdp, np.random.default_rng(seed)), sense)
    optimum, occupancy = by_scipy(problem)
    result = oc.solve(problem)
    assert result.objective == pytest.approx(optimum, abs=1e-8)
    np.testing.assert_allclose(result.pair_occupancy, occupancy, atol=1e-4)
    assert oc.solve(with_kl(mdp, strength * 1.01, problem.regularizer.reference, sense)).objective != pytest.approx(
        optimum, abs=1e-8
    )


def test_stationarity_of_the_answer():
    """d ∝ d0 exp((r + γPV − V)/τ), with the certificate's own values."""
    mdp = oc.instances.get("garnet", n_states=8, n_actions=3, branching=3, seed=5, discount=0.9)
    reference, tau = random_policy(mdp, np.random.default_rng(0)), 0.3
    result = oc.solve(with_kl(mdp, tau, reference), tol=1e-10)
    values, states = result.certificate.values, mdp.pairs.states
    scores = mdp.pair_rewards + mdp.discount * mdp.transitions @ values - values[states]
    weights = oc.evaluate(mdp, reference).pair_occupancy * np.exp((scores - scores.max()) / tau)
    np.testing.assert_allclose(result.pair_occupancy, weights / weights.sum(), rtol=1e-3)
    other = oc.evaluate(mdp, reference).pair_occupancy * np.exp(-(scores - scores.max()) / tau)
    assert np.abs(result.pair_occupancy / (other / other.sum()) - 1).max() > 1.0


def test_several_classes_near_a_discount_of_one():
    mdp = oc.MDP.from_pairs(
        [0, 0, 1, 1, 2],
        [0, 1, 0, 1, 0],
        [[0, 1, 0], [3 / 7, 4 / 7, 0], [1 / 7, 6 / 7, 0], [0, 1, 0], [0, 0, 1]],
        [17 / 3, 2.75, 6.5, 50 / 11, 3.0],
        discount=1 - 1e-9,
        initial=[1 / 9, 2 / 9, 2 / 3],
    )
    problem = with_kl(mdp, 10.0, oc.Policy.from_pairs(mdp, [0, 1, 4 / 9, 5 / 9, 1]))
    assert oc.solve(problem).status is oc.Status.CERTIFIED


@pytest.mark.parametrize("rest", [1e-3, 1e-6, 1e-9])
def test_long_horizons(rest):
    for mdp in (oc.instances.get("garnet", n_states=12, discount=1 - rest), two_classes(rest)):
        problem = with_kl(mdp, 0.2, random_policy(mdp, np.random.default_rng(0)))
        assert oc.solve(problem).status is oc.Status.CERTIFIED


@pytest.mark.parametrize("strength", [0.03, 1e-3, 1e-4])
def test_weak_penalties_on_a_choice_between_two_classes(strength):
    mdp = oc.MDP.from_pairs(
        [0, 0, 1], [0, 1, 0], [[1, 0], [0, 1], [0, 1]], [1.0, 0.0, 0.0], discount=0.99, initial=[0.25, 0.75]
    )
    problem = with_kl(mdp, strength, oc.Policy.from_pairs(mdp, [0.25, 0.75, 1.0]))
    assert oc.solve(problem, oc.OccupancyProgram("CLARABEL")).status is oc.Status.CERTIFIED
    assert oc.solve(problem).status is oc.Status.CERTIFIED


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
@pytest.mark.parametrize("exponent", range(-9, 10, 3))
def test_a_binding_constraint_at_every_strength(sense, exponent):
    """Prices grow with the strength; the constraint must bind whatever their size."""
    mdp = oc.instances.get("machine-repair")
    kl = oc.KL(10.0**exponent, oc.Policy.uniform(mdp))
    problem = oc.Problem(mdp, sense=sense, constraints=[oc.expected("wear") <= 0.05], regularizer=kl)
    result = oc.solve(problem)
    assert result.status is oc.Status.CERTIFIED
    assert result.expected["wear"] <= 0.05 + 1e-8 * np.ptp(mdp.pair_costs["wear"])
    assert oc.verify(problem, result)
    if exponent > 2:  # the reference itself is nearly all that counts: its wear is above the limit
        assert result.expected["wear"] == pytest.approx(0.05, abs=1e-8)
        assert result.multipliers["wear"] == pytest.approx(0.5707 * 10.0**exponent, rel=0.02)


def test_limits_that_only_pairs_outside_the_reference_keep():
    mdp = oc.instances.get("machine-repair")
    wearing = oc.Policy.deterministic(mdp, {"new": "run", "worn": "run", "broken": "run"})
    limits = [oc.expected("wear") <= oc.evaluate(mdp, wearing).expected["wear"] / 2]
    problem = oc.Problem(mdp, constraints=limits, regularizer=oc.KL(1.0, wearing))
    with pytest.raises(NotCertified, match="within the reference's support"):
        oc.solve(problem)


def test_limits_that_nothing_keeps_are_proved_infeasible():
    mdp = oc.instances.get("machine-repair")
    limits = [oc.expected("wear") <= -0.01]
    problem = oc.Problem(mdp, constraints=limits, regularizer=oc.KL(1.0, oc.Policy.uniform(mdp)))
    result = oc.solve(problem, check=False)
    assert result.status is oc.Status.INFEASIBLE
    assert oc.verify(problem, result)


def test_constant_rewards_leave_the_reference():
    mdp = one_state([4.0, 4.0, 4.0])
    reference = oc.Policy.from_table(mdp, [[0.2, 0.3, 0.5]])
    for solver in SOLVERS:
        result = oc.solve(with_kl(mdp, 1.0, reference), solver)
        assert result.objective == pytest.approx(4.0, rel=1e-9)
        np.testing.assert_allclose(result.policy.pair_probabilities, [0.2, 0.3, 0.5], atol=1e-4)


def test_a_result_resumes():
    mdp = oc.instances.get("garnet", n_states=20, seed=1)
    problem = with_kl(mdp, 0.05, random_policy(mdp, np.random.default_rng(0)))
    first = oc.solve(problem)
    again = oc.solve(problem, start=first)
    assert again.status is oc.Status.CERTIFIED
    assert again.iterations == 1
    assert again.objective == pytest.approx(first.objective, rel=1e-9)


@pytest.mark.parametrize("solver", [oc.PolicyIteration(), oc.ValueIteration(), oc.ModifiedPolicyIteration()])
def test_methods_for_plain_questions_refuse_a_kl_term(solver):
    mdp = one_state([1.0, 2.0])
    with pytest.raises(Unsupported, match=f"{type(solver).__name__} cannot answer .* OccupancyProgram"):
        oc.solve(with_kl(mdp, 1.0), solver)


def test_the_dual_refuses_a_plain_question():
    with pytest.raises(Unsupported, match="KLDual cannot answer"):
        oc.solve(one_state([1.0, 2.0]), oc.KLDual())


def test_duplicating_an_action_is_paid_for_unless_its_reference_mass_is_split():
    rewards, prior = [1.0, 2.0], [0.6, 0.4]
    single, double = one_state(rewards), one_state([1.0, 2.0, 2.0])
    first = oc.solve(with_kl(single, 0.7, oc.Policy.from_table(single, [prior])))
    split = oc.solve(with_kl(double, 0.7, oc.Policy.from_table(double, [[0.6, 0.1, 0.3]])))
    assert split.objective == pytest.approx(first.objective, rel=1e-12)
    uniform = oc.solve(with_kl(double, 0.7))
    assert uniform.objective > oc.solve(with_kl(single, 0.7)).objective + 1e-2


def test_a_reference_whose_masses_fall_by_a_hundred_digits():
    mdp = oc.instances.get("queue-admission", capacity=300, discount=0.999)
    question = oc.Problem(mdp, regularizer=oc.KL(strength=0.1, reference=oc.Policy.uniform(mdp)))
    result = oc.solve(question)
    assert result.solver == "KLDual()"
    assert oc.verify(question, result)
    independent = oc.solve(question, oc.OccupancyProgram(backend="CLARABEL"))
    assert result.objective == pytest.approx(independent.objective, abs=1e-8)

"""Totals against every deterministic policy in fractions, and what has no finite optimum."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from strategies import sketches
from totals import Question

import occlp as oc

SOLVERS = [oc.PolicyIteration(), oc.ValueIteration(), oc.OccupancyProgram("HIGHS")]


@st.composite
def questions(draw, rewards=(-2, -1, 0), max_states=4):
    """Total-reward problems on models with loops, classes and rewards of 0."""
    sketch = draw(
        sketches(max_states=max_states, max_actions=2, denominators=(1, 2, 3), discounts=(None,), max_costs=0)
    )
    kind = draw(st.sampled_from(["free", "goal", "reach"]))
    drawn = [draw(st.sampled_from(rewards)) for _ in sketch.pairs]
    mdp = sketch.mdp().replace(rewards=np.array(drawn, dtype=float))
    goal = None if kind == "free" else draw(st.sets(st.integers(0, sketch.n_states - 1), min_size=1))
    sense = draw(st.sampled_from(["maximize", "minimize"]))
    if sense == "minimize":
        mdp = mdp.replace(rewards=-mdp.pair_rewards)
    return oc.Problem(
        mdp, sense, criterion="total", goal=goal if goal is None else sorted(goal),
        objective="reach" if kind == "reach" else "reward",
    )  # fmt: skip


def choices(question: Question):
    return itertools.product(*question.exact.spans)


def brute_force(problem: oc.Problem) -> tuple[Fraction | float, bool]:
    """The best total over deterministic policies, to be maximised; and whether some total is undefined."""
    question = Question.of(problem)
    totals = [question.objective(list(chosen)) for chosen in choices(question)]
    defined = [total for total in totals if isinstance(total, Fraction) or not math.isnan(total)]
    return max(defined, default=-math.inf), len(defined) < len(totals)


@given(questions())
@settings(max_examples=150)
def test_losses_only(problem):
    """Rewards that are never positive: every total is defined, and some policy attains the optimum."""
    truth, _ = brute_force(problem)
    sign = 1 if problem.sense == "maximize" else -1
    result = oc.solve(problem, check=False)
    assert oc.verify(problem, result)
    if truth == -math.inf:
        assert result.status in (oc.Status.INFEASIBLE, oc.Status.UNBOUNDED)
        assert result.objective == -sign * math.inf
        return
    assert result.status is oc.Status.CERTIFIED
    assert Fraction(result.certificate.lower) <= sign * truth <= Fraction(result.certificate.upper)
    chosen = [int(np.flatnonzero(result.policy.pair_probabilities[s.start : s.stop])[0]) + s.start
              for s in Question.of(problem).exact.spans]  # fmt: skip
    assert Question.of(problem).objective(chosen) == truth


@given(questions(rewards=(-2, -1, 0, 1)))
@settings(max_examples=150)
@pytest.mark.bad_input(44)
def test_gains_and_losses(problem):
    """Rewards of both signs: bounded or not, the answer is what all deterministic policies say."""
    truth, undefined = brute_force(problem)
    sign = 1 if problem.sense == "maximize" else -1
    result = oc.solve(problem, check=False)
    if undefined:  # a circle on which gains and losses cancel exactly: nothing false is said of those that have a total
        assert oc.verify(problem, result)
        high = sign * (result.certificate.upper if sign > 0 else result.certificate.lower)
        assert truth <= (Fraction(high) if math.isfinite(high) else high)
        return
    if result.status is oc.Status.UNBOUNDED and result.objective == sign * math.inf:
        if problem.goal is None:
            assert truth == math.inf
        return  # with a goal no single policy has an infinite total: the audit checks the witness
    if result.status is oc.Status.BOUNDED:  # a circle on which gains and losses cancel exactly
        assert result.gap > 0
        return
    assert oc.verify(problem, result)
    assert truth != math.inf
    if truth == -math.inf:
        assert result.objective == -sign * math.inf
    else:
        assert result.status is oc.Status.CERTIFIED
        assert Fraction(result.certificate.lower) <= sign * truth <= Fraction(result.certificate.upper)


@given(questions(max_states=3), st.sampled_from(SOLVERS))
@settings(max_examples=60)
def test_solvers_agree(problem, solver):
    reference, result = oc.solve(problem, check=False), oc.solve(problem, solver, check=False)
    assert result.status is reference.status
    if reference.status is oc.Status.CERTIFIED:
        assert result.objective == pytest.approx(reference.objective, rel=1e-8, abs=1e-12)
        assert oc.verify(problem, result)


@given(questions(), st.randoms(use_true_random=False))
@settings(max_examples=80)
def test_any_deterministic_policy_is_evaluated(problem, random):
    question = Question.of(problem)
    sign = question.sign
    chosen = [random.choice(list(span)) for span in question.exact.spans]
    policy = oc.Policy.from_choice(problem.mdp.pairs, np.array(chosen, dtype=np.int32))
    evaluation = oc.evaluate(problem, policy)
    truth = question.objective(chosen)
    assert evaluation.objective == pytest.approx(sign * float(truth), rel=1e-12, abs=1e-12, nan_ok=True)
    values = [sign * float(v) for v in question.values(chosen)]
    if problem.objective == "reward":
        assert evaluation.state_values == pytest.approx(values, rel=1e-12, abs=1e-12, nan_ok=True)


@st.composite
def constrained(draw):
    """Problems with a goal that every state can reach, losses, and a limit on a cost."""
    sketch = draw(sketches(max_states=4, max_actions=2, denominators=(1, 2, 3), discounts=(None,), max_costs=0))
    goal = draw(st.integers(0, sketch.n_states - 1))
    mdp = sketch.mdp()
    numbers = st.sampled_from([0.0, 1.0, 2.0])
    losses = np.array([draw(numbers) for _ in range(mdp.n_pairs)])
    wear = np.array([draw(numbers) for _ in range(mdp.n_pairs)])
    mdp = mdp.replace(rewards=losses, costs={"wear": wear})
    bound = draw(st.sampled_from([0.0, 0.5, 1.0, 3.0]))
    relation = draw(st.sampled_from(["<=", ">=", "=="]))
    expression = oc.expected_total("wear")
    limit = {"<=": expression <= bound, ">=": expression >= bound, "==": expression == bound}[relation]
    return oc.Problem(mdp, "minimize", criterion="total", goal=goal, constraints={"limit": limit})


def connected(seeds: set[int], arrows: list[tuple[int, set[int]]]) -> set[int]:
    """What the arrows reach from the seeds."""
    found: set[int] = set()
    while not seeds <= found:
        found |= seeds
        seeds = {j for tail, heads in arrows if tail in found for j in heads}
    return found


def linear_program(problem: oc.Problem, shift: float = 0.0):
    """The program of visits by scipy: its optimum, or None where it is infeasible."""
    mdp, (limit,) = problem.mdp, problem.limits.values()
    question = Question.of(problem)
    heads = [set(question.row(k)) for k in range(mdp.n_pairs)]
    goal = {s for s in range(mdp.n_states) if problem.goal_states[s]}
    inner, kept = set(range(mdp.n_states)) - goal, set()
    while True:  # visits that go round where no policy comes, or from where none arrives, would satisfy every equation
        kept = {k for k in range(mdp.n_pairs) if mdp.pairs.states[k] in inner and heads[k] <= inner | goal}
        tails = [(int(mdp.pairs.states[k]), heads[k]) for k in kept]
        ahead = connected({s for s, p in enumerate(mdp.initial) if p > 0}, tails)
        back = connected(goal, [(j, {s}) for s, found in tails for j in found])
        if inner <= ahead & back:
            break
        inner &= ahead & back
    live, inner = np.isin(np.arange(mdp.n_pairs), sorted(kept)), np.array(sorted(inner), dtype=int)
    flow = (np.eye(mdp.n_states)[mdp.pairs.states] - mdp.transitions.toarray()).T[np.ix_(inner, np.flatnonzero(live))]
    wear, bound = mdp.pair_costs["wear"][live], limit.bound + shift
    sides = {"<=": ([wear], [bound], [], []), ">=": ([-wear], [-bound], [], []), "==": ([], [], [wear], [bound])}
    above, most, equal, exactly = sides[limit.relation]
    answer = linprog(
        mdp.pair_rewards[live], A_ub=np.array(above) if above else None, b_ub=most or None,
        A_eq=np.vstack([flow, *equal]), b_eq=np.concatenate([mdp.initial[inner], exactly]), method="highs-ds",
    )  # fmt: skip
    return answer.fun if answer.status == 0 else None


@given(constrained())
@settings(max_examples=50, suppress_health_check=[HealthCheck.filter_too_much])
def test_constraints_against_the_linear_program(problem):
    assume(((problem.mdp.initial > 0) & ~problem.goal_states).any())
    bare = oc.solve(oc.Problem(problem.mdp, "minimize", criterion="total", goal=problem.goal), check=False)
    assume(bare.status is oc.Status.CERTIFIED)  # else no policy reaches the goal
    truth, result = linear_program(problem), oc.solve(problem, check=False)
    assert oc.verify(problem, result)
    if truth is None:
        assert result.status is oc.Status.INFEASIBLE
        return
    assert result.status is oc.Status.CERTIFIED
    assert result.objective == pytest.approx(truth, rel=1e-7, abs=1e-9)
    assert result.certificate.violation <= 1e-9
    sides = [linear_program(problem, shift) for shift in (-1e-4, 1e-4)]
    slopes = [(truth - sides[0]) / 1e-4 if sides[0] is not None else -math.inf]
    slopes.append((sides[1] - truth) / 1e-4 if sides[1] is not None else math.inf)
    assert min(slopes) - 1e-5 <= result.sensitivity["limit"] <= max(slopes) + 1e-5


@pytest.mark.parametrize("end", [0.1, 0.25])
@pytest.mark.parametrize("budget", [12.0, 20.0])
def test_a_limit_that_keeps_a_policy_from_a_circle_that_pays(end, budget):
    """Going round earns 1 and costs 2 a step; trying to end earns nothing and costs 1: the price of the cost is 1/2.

    At that price exactly the circle neither earns nor loses, and no values prove a bound; prices beside it do. Trying
    to end takes 1/end steps, so that (budget - 1/end) / 2 steps are left for the circle.
    """
    mdp = oc.MDP.from_arrays(
        [[[1.0, 0.0], [1 - end, end]], [[0.0, 1.0], [0.0, 1.0]]], [[1.0, 0.0], [0.0, 0.0]], initial=0,
        costs={"cost": [[2.0, 1.0], [0.0, 0.0]]},
    )  # fmt: skip
    problem = oc.Problem(mdp, criterion="total", goal=[1], constraints=[oc.expected_total("cost") <= budget])
    result = oc.solve(problem)
    assert result.status is oc.Status.CERTIFIED
    assert result.objective == pytest.approx((budget - 1 / end) / 2, abs=1e-9)
    assert result.multipliers["cost"] == pytest.approx(0.5, abs=1e-8)
    assert oc.verify(problem, result)


@given(sketches(max_states=4, max_actions=2, max_costs=0, discounts=(Fraction(0), Fraction(1, 2), Fraction(9, 10))))
@settings(max_examples=40)
def test_discounting_is_a_chance_to_end(sketch):
    """A discounted return is a total where the process ends with probability 1 − γ after every step."""
    mdp, gamma = sketch.mdp(), float(sketch.discount)
    n, pairs = mdp.n_states, mdp.pairs
    ending = np.column_stack([gamma * mdp.transitions.toarray(), np.full(mdp.n_pairs, 1 - gamma)])
    ended = oc.MDP.from_pairs(
        [*pairs.states, n], [*pairs.actions, 0], np.vstack([ending, np.eye(n + 1)[n]]), [*mdp.pair_rewards, 0.0],
        initial=[*mdp.initial, 0.0],
    )  # fmt: skip
    discounted, total = oc.solve(mdp), oc.solve(oc.Problem(ended, criterion="total", goal=n))
    assert total.status is oc.Status.CERTIFIED
    assert total.objective == pytest.approx(discounted.expected_return, rel=1e-11, abs=1e-11)
    best = discounted.expected_return + discounted.gap / (1 - gamma)
    assert total.certificate.lower <= best * (1 + math.copysign(1e-12, best)) + 1e-12


def test_a_conflict_of_totals_names_what_cannot_be_kept_together():
    """At least two visits of the first state cost two at least; how often it is left does not matter."""
    mdp = oc.MDP.from_arrays(
        [[[0.5, 0.5], [0, 1]], [[0, 1], [0, 1]]], [[-1, -1], [0, 0]],
        costs={"toll": [[1, 1], [0, 0]], "leaving": [[0, 1], [0, 0]]}, initial=0,
    )  # fmt: skip
    limits = {
        "often": oc.expected_total(np.array([[1.0, 1.0], [0.0, 0.0]])) >= 1.75,
        "cheap": oc.expected_total("toll") <= 1.5,
        "rarely": oc.expected_total("leaving") <= 5,
    }
    problem = oc.Problem(mdp, criterion="total", goal=1, constraints=limits)
    for solver in (None, oc.OccupancyProgram("HIGHS")):
        with pytest.raises(oc.Infeasible, match="often") as caught:
            oc.solve(problem, solver)
        assert "cheap" in str(caught.value)
        assert "rarely" not in str(caught.value)
        assert oc.verify(problem, caught.value.result)


def test_a_state_that_is_next_to_never_left():
    """1e310 steps on the average are more than doubles hold; what is earned after them is 1 all the same."""
    mdp = oc.MDP.from_arrays([[[1.0, 1e-310, 0]], [[0, 2 / 3, 1 / 3]], [[0, 0, 1]]], [[0], [1 / 3], [0]], initial=0)
    for goal in (None, 2):
        problem = oc.Problem(mdp, criterion="total", goal=goal)
        result = oc.solve(problem, check=False)
        assert result.certificate.lower <= 1 + 1e-15
        assert result.certificate.upper >= 1 - 1e-15
        assert oc.verify(problem, result)


@pytest.mark.parametrize("solver", [oc.ValueIteration(), oc.ModifiedPolicyIteration(), oc.PolicyIteration()], ids=str)
def test_a_circle_that_earns_is_found_by_every_dynamic_program(solver):
    # Three states in a circle that earns 2 − 1 − .9 a round; each may end for less.
    transitions, rewards = np.zeros((4, 2, 4)), np.array([[2, 0], [-1, 5], [-0.9, 0], [0, 0]])
    transitions[[0, 1, 2], 0, [1, 2, 0]] = transitions[:, 1, 3] = transitions[3, 0, 3] = 1
    for goal in ([3], None):
        question = oc.Problem(oc.MDP.from_arrays(transitions, rewards, initial=0), criterion="total", goal=goal)
        with pytest.raises(oc.Unbounded) as caught:
            oc.solve(question, solver)
        assert oc.verify(question, caught.value.result)

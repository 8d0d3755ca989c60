"""Ratio objectives, against every policy and against the program of Charnes and Cooper."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import dense_transitions
from polytope import best_mixture, random_model, vertices
from scipy.optimize import linprog

import occlp as oc


def charnes_cooper(mdp, above, below, limits=()):
    """The ratio's optimum from the linear program in y = t d, with below·y = 1, t = Σ y."""
    n, gamma = mdp.n_pairs, mdp.discount
    flow = (mdp.pairs.states == np.arange(mdp.n_states)[:, None]).astype(float) - gamma * dense_transitions(mdp).T
    flow = flow - (1 - gamma) * np.outer(mdp.initial, np.ones(n))
    rows = [cost - bound for cost, bound in limits]
    answer = linprog(
        -above, A_ub=np.array(rows) if rows else None, b_ub=np.zeros(len(rows)) if rows else None,
        A_eq=np.vstack([flow, below]), b_eq=np.append(np.zeros(mdp.n_states), 1.0), method="highs-ds",
    )  # fmt: skip
    return -float(answer.fun)


def check(answer, truth):
    assert answer.status is oc.Status.CERTIFIED
    assert answer.value == pytest.approx(truth, rel=1e-7, abs=1e-9)
    assert answer.lower <= truth + 1e-9 * (1 + abs(truth))
    assert answer.upper >= truth - 1e-9 * (1 + abs(truth))
    assert answer.lower <= answer.value <= answer.upper


@pytest.mark.parametrize("seed", range(8))
def test_against_all_policies(seed):
    mdp = random_model(seed)
    points = vertices(mdp)
    above, below = mdp.pair_rewards, mdp.pair_costs["wear"] + 0.01
    truth = float(((points @ above) / (points @ below)).max())  # a ratio is best at a vertex
    denominator = oc.expected("wear") + oc.expected(np.full((5, 3), 0.01))
    answer = oc.maximize_ratio(mdp, "reward", denominator)
    check(answer, truth)
    assert answer.policy.is_deterministic
    assert len(answer.steps) <= 8
    assert charnes_cooper(mdp, above, below) == pytest.approx(truth, rel=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_with_constraints(seed):
    mdp = random_model(seed)
    bound = float(np.quantile(vertices(mdp) @ mdp.pair_costs["fuel"], 0.1))
    problem = oc.Problem(mdp, sense="minimize", constraints=[oc.expected("fuel") <= bound])  # the sense plays no part
    truth = charnes_cooper(mdp, mdp.pair_rewards, mdp.pair_costs["wear"], [(mdp.pair_costs["fuel"], bound)])
    answer = oc.maximize_ratio(problem, "reward", "wear")
    check(answer, truth)
    assert answer.evaluation.expected["fuel"] <= bound + 1e-9
    assert answer.violation <= 1e-9


def test_on_average():
    mdp = random_model(3, discount=None)
    points = vertices(mdp)
    truth = float(((points @ mdp.pair_rewards) / (points @ mdp.pair_costs["wear"])).max())
    check(oc.maximize_ratio(oc.Problem(mdp, criterion="average"), "reward", "wear"), truth)


def test_minimising_is_negating():
    mdp = random_model(4)
    points = vertices(mdp)
    truth = float(((points @ mdp.pair_costs["fuel"]) / (points @ mdp.pair_costs["wear"])).min())
    check(oc.maximize_ratio(mdp, -oc.expected("fuel"), "wear"), -truth)


def test_a_constraint_on_the_reward_is_kept():
    """The linear questions replace the reward, not what a constraint says about it."""
    mdp = random_model(6)
    points = vertices(mdp)
    bound = float(np.quantile(points @ mdp.pair_rewards, 0.9))
    answer = oc.maximize_ratio(oc.Problem(mdp, constraints=[oc.expected("reward") >= bound]), "fuel", "wear")
    assert answer.evaluation.expected["reward"] >= bound - 1e-9
    check(answer, charnes_cooper(mdp, mdp.pair_costs["fuel"], mdp.pair_costs["wear"], [(-mdp.pair_rewards, -bound)]))


@pytest.mark.parametrize("factor", [1e-9, 1e9])
def test_scales(factor):
    mdp = random_model(5)
    plain = oc.maximize_ratio(mdp, "reward", "wear")
    scaled = oc.maximize_ratio(mdp, "reward", factor * oc.expected("wear"))
    assert scaled.status is oc.Status.CERTIFIED
    assert factor * scaled.value == pytest.approx(plain.value, rel=1e-8)


def test_a_ratio_of_zero_is_certified():
    mdp = random_model(5).replace(rewards=-np.abs(random_model(5).pair_rewards) * (np.arange(15) % 3 > 0))
    answer = oc.maximize_ratio(mdp, "reward", "wear")
    assert answer.value == pytest.approx(0.0, abs=1e-12)
    assert answer.status is oc.Status.CERTIFIED


def test_the_steps_show_both_bounds_closing():
    answer = oc.maximize_ratio(random_model(1), "reward", "wear")
    values, uppers = ([step[name] for step in answer.steps] for name in ("parameter", "upper"))
    assert values == sorted(values)
    assert uppers == sorted(uppers, reverse=True)
    assert "CERTIFIED" in repr(answer)
    assert answer.gap == answer.upper - answer.lower


def test_a_limit_on_the_number_of_questions():
    answer = oc.maximize_ratio(random_model(1), "reward", "wear", max_solves=1)
    assert answer.status is oc.Status.BOUNDED
    full = oc.maximize_ratio(random_model(1), "reward", "wear")
    assert answer.lower <= full.value <= answer.upper


class Broken:
    """A solver that gives up at once."""

    promises_tol = True

    def unsupported(self, problem):
        return None

    def iterate(self, problem, *, tol, rng, start=None):
        raise ArithmeticError("no answer")


def test_mistakes():
    mdp = random_model(0)
    with pytest.raises(oc.InvalidProblem, match="positive under every policy, but it can be -"):
        oc.maximize_ratio(mdp, "wear", "reward")
    with pytest.raises(oc.InvalidProblem, match="no cost 'weer'"):
        oc.maximize_ratio(mdp, "reward", "weer")
    with pytest.raises(oc.Infeasible):
        oc.maximize_ratio(oc.Problem(mdp, constraints=[oc.expected("wear") <= -1]), "reward", "wear")
    with pytest.raises(oc.InvalidProblem, match="regularizer or utility"):
        oc.maximize_ratio(oc.Problem(mdp, regularizer=oc.PolicyEntropy(1.0)), "reward", "wear")
    with pytest.raises(oc.NotCertified, match="linear questions failed"):
        oc.maximize_ratio(mdp, "reward", "wear", solver=Broken())


def test_a_constraint_can_make_the_denominator_positive():
    mdp = random_model(0)
    least = best_mixture(vertices(mdp), mdp.pair_rewards)
    assert least is not None
    problem = oc.Problem(mdp, constraints=[oc.expected("reward") >= 0.5 * least])
    assert oc.maximize_ratio(problem, "wear", "reward").status is oc.Status.CERTIFIED

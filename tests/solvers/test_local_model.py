"""The first-order model of policies near one: exact where it must be, and its bound holds for all."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import random_policy
from polytope import random_model, vertices
from scipy.optimize import linprog

import occlp as oc
from occlp.evaluation import formulate
from occlp.solvers.concave_program import program_for
from occlp.solvers.expansion import expand
from occlp.solvers.local_model import LocalModel
from occlp.solvers.mixture_program import MixtureProgram


def question(seed, **changes):
    mdp = random_model(seed, **changes)
    return oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.4, oc.expected("fuel") == 0.5])


@pytest.fixture(params=range(4))
def problem(request):
    return question(request.param)


def rows_of(form):
    return np.vstack([form.rewards, form.limits.rows])


def test_measures_are_those_of_the_occupancy(problem):
    form, policy = formulate(problem), random_policy(problem.mdp, np.random.default_rng(1))
    model = LocalModel(form, policy)
    found = oc.evaluate(problem, policy).pair_occupancy
    assert model.occupancy == pytest.approx(found, abs=1e-14)
    assert model.measures == pytest.approx(rows_of(form) @ found, abs=1e-14)


def test_residuals_weighed_by_another_policy_give_its_measures(problem):
    """The lemma behind the model: with the occupancy of the other policy it is exact."""
    form = formulate(problem)
    model = LocalModel(form, random_policy(problem.mdp, np.random.default_rng(1)))
    other = oc.evaluate(problem, random_policy(problem.mdp, np.random.default_rng(2))).pair_occupancy
    assert model.bases + model.scores @ other == pytest.approx(rows_of(form) @ other, abs=1e-12)


def test_the_bound_holds_for_every_policy(problem):
    form = formulate(problem)
    model = LocalModel(form, random_policy(problem.mdp, np.random.default_rng(1)))
    for weights in np.random.default_rng(0).normal(size=(20, 3)):
        best = (vertices(problem.mdp) @ (weights @ rows_of(form))).max()
        assert model.select(weights)[2] >= best - 1e-12


def test_the_best_policy_proves_its_own_optimality(problem):
    form, weights = formulate(problem), np.array([1.0, -0.3, 0.2])
    points = vertices(problem.mdp)
    best = points[np.argmax(points @ (weights @ rows_of(form)))]
    model = LocalModel(form, oc.Policy.from_occupancy(problem.mdp, best))
    choice, measures, bound = model.select(weights)
    assert bound == pytest.approx(weights @ model.measures, abs=1e-13)
    assert measures == pytest.approx(model.measures, abs=1e-13)
    assert (choice == model.policy.choice).all()
    assert model.is_worse(choice, weights).sum() == 0


def test_ties_keep_what_the_policy_does():
    mdp = oc.MDP.from_arrays(np.full((2, 3, 2), 0.5), np.zeros((2, 3)), discount=0.9)
    model = LocalModel(formulate(oc.Problem(mdp)), oc.Policy.deterministic(mdp, [2, 1]))
    assert model.select(np.array([1.0]))[0].tolist() == [2, 4]


def test_a_response_is_the_optimum_of_the_linear_model(problem):
    """One program in all pairs at once, with the state occupancies held fixed."""
    form = formulate(problem)
    model = LocalModel(form, random_policy(problem.mdp, np.random.default_rng(3)))
    weighed = model.scores * model.mass[form.states]  # per unit of probability
    equal, penalty = form.limits.equal, 3.0
    rows = np.vstack([weighed[1:], -weighed[1:][equal]])
    above = -np.append(model.bases[1:], -model.bases[1:][equal])
    one_each = (form.states[None, :] == np.arange(form.n_states)[:, None]).astype(float)
    answer = linprog(
        np.append(-weighed[0], penalty), A_ub=np.column_stack([rows, -np.ones(len(rows))]), b_ub=above,
        A_eq=np.column_stack([one_each, np.zeros(form.n_states)]), b_eq=np.ones(form.n_states), method="highs-ds",
    )  # fmt: skip
    response = model.respond(MixtureProgram(equal, penalty), 1.0)
    assert response.mixture.level == pytest.approx(model.bases[0] - answer.fun, abs=1e-9)


def test_averages_of_several_classes_are_left_alone():
    stays = oc.MDP.from_arrays(np.eye(2)[:, None, :], [[0.0], [1.0]], costs={"wear": [[1.0], [0.0]]})
    problem = oc.Problem(stays, criterion="average", constraints=[oc.expected("wear") <= 1])
    assert LocalModel(formulate(problem), oc.Policy.uniform(stays)).several


def test_what_a_choice_is_worth_is_what_selecting_it_gives(problem):
    model = LocalModel(formulate(problem), random_policy(problem.mdp, np.random.default_rng(1)))
    for weights in np.random.default_rng(0).normal(size=(5, 3)):
        choice, measures, _ = model.select(weights)
        assert model.worth(choice) == pytest.approx(measures, abs=1e-14)


def test_a_response_does_not_depend_on_the_choices_it_begins_with(problem):
    """Those of the last response, or any others: the small program has one optimum."""
    form, rng = formulate(problem), np.random.default_rng(1)
    model = LocalModel(form, random_policy(problem.mdp, rng))
    program = program_for(expand(form), 4.0)
    bare = model.respond(program.alone(1.0, 4.0), 1.0)
    begun = [model.select(weights)[0] for weights in rng.normal(size=(4, 3))]
    for choices in (bare.used, begun):
        again = model.respond(program.alone(1.0, 4.0), 1.0, choices=choices)
        assert again.mixture.level == pytest.approx(bare.mixture.level, abs=1e-11)
        assert len(again.used) <= len(form.limits.names) + 2

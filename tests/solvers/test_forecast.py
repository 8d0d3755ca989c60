"""Forecasts: sizes are exactly those that a backend is given; time and memory follow from them by stated constants."""

from __future__ import annotations

import math

import cvxpy
import numpy as np
import pytest
from hypothesis import given, settings
from strategies import mdps

import occlp as oc
from occlp.evaluation import formulate
from occlp.solvers import forecast as module
from occlp.solvers.scaled_program import ScaledProgram

MODEL = oc.instances.get("garnet", n_states=12, n_actions=3, branching=4, seed=4, discount=0.9)
MODEL = MODEL.replace(costs={"wear": np.random.default_rng(2).random(MODEL.n_pairs)})
UNIFORM = oc.Policy.uniform(MODEL)
NARROW = oc.Policy.from_occupancy(MODEL, np.arange(MODEL.n_pairs) % 3 > 0, UNIFORM)
WEAR, REWARD = oc.expected("wear"), oc.expected("reward")

QUESTIONS = {
    "plain": {},
    "limits": {"constraints": [WEAR <= 0.5, REWARD >= 0.1, oc.visits(states=[3]) == 0.05]},
    "joint": {"regularizer": oc.KL(0.1, UNIFORM)},
    "joint, with zeros": {"regularizer": oc.KL(0.1, NARROW)},
    "conditional": {"regularizer": oc.ConditionalKL(0.1, UNIFORM), "constraints": [WEAR <= 0.5]},
    "policy entropy": {"regularizer": oc.PolicyEntropy(0.1)},
    "state entropy": {"regularizer": oc.StateEntropy(0.1)},
    "variation": {"utility": oc.TotalVariation(UNIFORM)},
    "logarithms": {"utility": oc.LogSum([WEAR, REWARD])},
    "worst case": {"utility": oc.WorstCase([WEAR, REWARD])},
    "concave limits": {
        "constraints": {
            "spread": oc.StateEntropy() >= 1.0, "fair": oc.LogSum([WEAR, REWARD]) >= -9.0,
            "near": oc.TotalVariation(UNIFORM) >= -0.4, "worst": oc.WorstCase([WEAR]) >= 0.1, "wear": WEAR <= 0.6,
        }
    },
}  # fmt: skip


def given_to(problem, backend):
    """Variables, rows and nonzeros of the program that the backend is given."""
    form = formulate(problem)
    program = ScaledProgram(form)
    for parameter in program.program.parameters():
        parameter.value = np.ones(parameter.shape)
    data = program.program.get_problem_data(backend)[0]
    matrices = [data[key] for key in ("A", "F", "G") if np.ndim(data.get(key)) == 2]
    return matrices[0].shape[1], sum(one.shape[0] for one in matrices), sum(one.nnz for one in matrices)


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("backend", ["CLARABEL", "SCS"])
def test_sizes_are_exact(name, backend):
    problem = oc.Problem(MODEL, **QUESTIONS[name])
    told = oc.OccupancyProgram(backend).forecast(problem)
    assert (told.variables, told.rows, told.nonzeros) == given_to(problem, backend)


@pytest.mark.parametrize("name", ["plain", "limits", "variation", "worst case"])
@pytest.mark.parametrize("backend", ["HIGHS", "OSQP", "SCIPY"])
def test_sizes_of_linear_programs_are_the_same_on_all_backends(name, backend):
    problem = oc.Problem(MODEL, **QUESTIONS[name])
    told = oc.OccupancyProgram(backend).forecast(problem)
    assert (told.variables, told.rows, told.nonzeros) == given_to(problem, backend)


@given(mdps(max_states=4))
@settings(max_examples=30)
def test_sizes_are_exact_on_any_model(mdp):
    told = oc.OccupancyProgram("CLARABEL").forecast(mdp)
    assert (told.variables, told.rows, told.nonzeros) == given_to(oc.Problem(mdp), "CLARABEL")


def test_a_users_function_is_counted_by_cvxpy():
    problem = oc.Problem(MODEL, utility=oc.Utility(lambda d: cvxpy.sum(cvxpy.entr(d))))
    told = oc.OccupancyProgram().forecast(problem)
    assert (told.variables, told.rows, told.nonzeros) == given_to(problem, "CLARABEL")


@given(mdps(max_states=5))
@settings(max_examples=30)
def test_a_factor_of_the_flow_equations_fits_into_its_profile(mdp):
    """Elimination in the order of the profile fills no more than was told."""
    form = formulate(oc.Problem(mdp))
    flow = module.flow_matrix(form).toarray() != 0
    entries, operations = module.factor_size(form)
    assert 0 <= entries <= form.n_states * (form.n_states - 1) / 2
    assert operations <= entries * form.n_states
    if form.n_states > 1 and (flow @ flow.T).all():  # every two states share a pair
        assert entries >= (form.n_states - 1) / 2


def test_a_band_costs_its_width_and_a_random_graph_everything():
    queue = oc.instances.get("garnet", n_states=400, n_actions=2, branching=5, seed=0)
    n, states = 400, np.arange(400)
    walk = np.zeros((n, n))
    walk[states, np.minimum(states + 1, n - 1)] += 0.5
    walk[states, np.maximum(states - 1, 0)] += 0.5
    band = oc.MDP.from_arrays(walk[:, None, :], np.ones((n, 1)), discount=0.9)
    narrow, wide = (module.factor_size(formulate(oc.Problem(one)))[0] for one in (band, queue))
    assert narrow <= 4 * n
    assert wide >= n * n / 8


def test_more_work_is_forecast_for_more_of_everything():
    plain, conic = oc.Problem(MODEL), oc.Problem(MODEL, regularizer=oc.KL(0.1, UNIFORM))
    clarabel = oc.OccupancyProgram("CLARABEL")
    assert clarabel.forecast(conic).seconds > clarabel.forecast(plain).seconds
    large = oc.instances.get("garnet", n_states=60, n_actions=3, branching=4)
    for backend in ("HIGHS", "CLARABEL"):
        solver = oc.OccupancyProgram(backend)
        assert solver.forecast(large).seconds > solver.forecast(plain).seconds
        assert solver.forecast(large).memory > solver.forecast(plain).memory


def test_the_words():
    words = str(oc.OccupancyProgram().forecast(MODEL))
    assert words.startswith("a program of 36 variables, 49 rows and ")
    assert "HIGHS needs about" in words
    scs = oc.OccupancyProgram("SCS").forecast(MODEL)
    assert math.isnan(scs.seconds)
    assert str(scs).endswith("SCS was not measured")


def test_what_has_no_forecast():
    mdp = oc.instances.get("machine-repair", discount=None)
    with pytest.raises(oc.Unsupported, match="before any reduction"):
        oc.OccupancyProgram().forecast(oc.Problem(mdp, criterion="total", goal=["new"]))
    with pytest.raises(oc.BackendMissing):
        oc.OccupancyProgram("NO_SUCH").forecast(MODEL)


def test_what_cannot_fit_is_refused_before_it_is_written(monkeypatch):
    monkeypatch.setattr(module, "physical_memory", lambda: 1e3)
    result = oc.solve(MODEL, oc.OccupancyProgram("CLARABEL"), check=False)
    assert result.status is oc.Status.FAILED
    assert "CLARABEL needs about" in result.message
    assert "this machine has 0 MB" in result.message
    told = oc.OccupancyProgram("CLARABEL").forecast(MODEL).memory
    monkeypatch.setattr(module, "physical_memory", lambda: told / 9.0)  # a forecast may be that wrong
    assert oc.solve(MODEL, oc.OccupancyProgram("CLARABEL")).status is oc.Status.CERTIFIED
    monkeypatch.undo()
    assert module.physical_memory() > 1e8


def test_a_run_that_was_stopped_says_what_it_would_need():
    result = oc.solve(MODEL, oc.OccupancyProgram("CLARABEL"), limit=oc.Limit(seconds=0))
    assert str(oc.OccupancyProgram("CLARABEL").forecast(MODEL)) in result.message

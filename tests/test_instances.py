"""Named models: the published numbers, reproducible random ones, and errors that help."""

from __future__ import annotations

import inspect
import itertools
import pickle
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from occlp import instances
from occlp.errors import InvalidModel, InvalidProblem
from occlp.graph import structure
from occlp.instances import registry
from occlp.model import MDP


def rows_of(mdp):
    """Rows as the literature prints them: (state, action, {successor: fraction}, reward)."""
    bounds = mdp.transitions.indptr
    states, actions = mdp.states, mdp.actions
    return [
        (
            states[mdp.pairs.states[i]],
            actions[mdp.pairs.actions[i]],
            {states[mdp.transitions.indices[k]]: mdp.exact.transitions[k] for k in range(bounds[i], bounds[i + 1])},
            mdp.exact.rewards[i],
        )
        for i in range(mdp.n_pairs)
    ]


def optimal_values(mdp, sense="maximize"):
    """Values [S] and optimal pairs [S] by dense policy iteration."""
    sign = 1.0 if sense == "maximize" else -1.0
    matrix, rewards = mdp.transitions.toarray(), sign * mdp.pair_rewards
    policy = mdp.pair_start[:-1].astype(int)
    while True:
        values = np.linalg.solve(np.eye(mdp.n_states) - mdp.discount * matrix[policy], rewards[policy])
        action_values = rewards + mdp.discount * matrix @ values
        best = [first + int(np.argmax(action_values[first:last])) for first, last in itertools.pairwise(mdp.pair_start)]
        better = action_values[best] > action_values[policy] + 1e-10 * (1 + np.abs(values))
        if not better.any():
            return sign * values, policy
        policy = np.where(better, best, policy)


def gain(mdp, policy):
    """Long-run average reward of a deterministic policy with one recurrent class."""
    matrix = mdp.transitions.toarray()[policy]
    equations = np.vstack([(np.eye(mdp.n_states) - matrix).T, np.ones(mdp.n_states)])
    stationary = np.linalg.lstsq(equations, np.eye(mdp.n_states + 1)[-1], rcond=None)[0]
    return float(stationary @ mdp.pair_rewards[policy])


def chosen(mdp, policy):
    return {mdp.states[s]: mdp.actions[mdp.pairs.actions[pair]] for s, pair in enumerate(policy)}


def read(text):
    """Rows from lines such as ``A cruise A:1/2 B:1/4 C:1/4 8``."""
    rows = []
    for line in text.strip().splitlines():
        state, action, *successors, reward = line.split()
        row = {label: Fraction(p) for label, p in (entry.split(":") for entry in successors)}
        rows.append((state, action, row, Fraction(reward)))
    return rows


# Howard (1960), Chapter 5: transition probabilities and expected rewards of the taxicab.
TAXICAB = """
A cruise A:1/2  B:1/4 C:1/4  8
A stand  A:1/16 B:3/4 C:3/16 2.75
A radio  A:1/4  B:1/8 C:5/8  4.25
B cruise A:1/2  C:1/2 16
B stand  A:1/16 B:7/8 C:1/16 15
C cruise A:1/4  B:1/4 C:1/2  7
C stand  A:1/8  B:3/4 C:1/8  4
C radio  A:3/4  B:1/16 C:3/16 4.5
"""

# Puterman (1994), Figure 3.1.1.
PUTERMAN = """
s1 a1 s1:1/2 s2:1/2 5
s1 a2 s2:1 10
s2 a1 s2:1 -1
"""

# Géron (2017), Figure 16-8; rewards are expectations over the arrows.
GERON = """
s0 a0 s0:7/10 s1:3/10 7
s0 a1 s0:1 0
s0 a2 s0:4/5 s1:1/5 0
s1 a0 s1:1 0
s1 a2 s2:1 -50
s2 a1 s0:4/5 s1:1/10 s2:1/10 32
"""

# Kakade (2001), Figure 2, with the rewards and the discount used there.
KAKADE = """
i stay i:1 1
i go j:1 0
j stay j:1 2
j go i:1 0
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("howard-taxicab", TAXICAB),
        ("puterman-two-state", PUTERMAN),
        ("geron-three-state", GERON),
        ("kakade-two-state", KAKADE),
    ],
)
def test_rows_are_the_published_ones(name, text):
    assert rows_of(instances.get(name)) == read(text)


def test_rows_of_the_toymaker():
    good, bad = "successful", "unsuccessful"
    half, fifth, tenth = Fraction(1, 2), Fraction(1, 5), Fraction(1, 10)
    assert rows_of(instances.get("howard-toymaker")) == [  # Howard (1960), Chapter 3
        (good, "no advertising", {good: half, bad: half}, 6),
        (good, "advertising", {good: 4 * fifth, bad: fifth}, 4),
        (bad, "no research", {good: 2 * fifth, bad: 3 * fifth}, -3),
        (bad, "research", {good: 7 * tenth, bad: 3 * tenth}, -5),
    ]


def test_rows_of_the_forest():
    fire, grow = Fraction(1, 10), Fraction(9, 10)
    assert rows_of(instances.get("forest")) == [  # MDPtoolbox, mdp_example_forest()
        (0, "wait", {0: fire, 1: grow}, 0),
        (0, "cut", {0: 1}, 0),
        (1, "wait", {0: fire, 2: grow}, 0),
        (1, "cut", {0: 1}, 1),
        (2, "wait", {0: fire, 2: grow}, 4),
        (2, "cut", {0: 1}, 2),
    ]


def test_rows_of_the_inventory():
    quarter, half = Fraction(1, 4), Fraction(1, 2)
    two_left = {0: quarter, 1: half, 2: quarter}
    three_left = {1: quarter, 2: half, 3: quarter}
    one_left = {0: 3 * quarter, 1: quarter}
    assert rows_of(instances.get("inventory")) == [  # Puterman (1994), Section 3.2.2
        (0, 0, {0: 1}, 0),
        (0, 1, one_left, -1),
        (0, 2, two_left, -2),
        (0, 3, three_left, -5),
        (1, 0, one_left, 5),
        (1, 1, two_left, 0),
        (1, 2, three_left, -3),
        (2, 0, two_left, 6),
        (2, 1, three_left, -1),
        (3, 0, three_left, 5),
    ]


@pytest.mark.parametrize(
    ("name", "parameters", "values"),
    [
        ("forest", {}, [6561 / 250, 7371 / 250, 8371 / 250]),  # pymdptoolbox, test_PolicyIteration.py
        ("forest", {"discount": 0.96}, [46656 / 625, 48816 / 625, 51316 / 625]),
        ("puterman-two-state", {}, [-60 / 7, -20]),  # QuantEcon, test_ddp.py (Puterman, Example 6.2.1)
        ("howard-taxicab", {}, [1459720 / 11999, 1623540 / 11999, 1473920 / 11999]),  # Howard, Chapter 7
        ("howard-toymaker", {}, [2020 / 91, 160 / 13]),  # Howard, Chapter 7
        ("geron-three-state", {}, [1176800 / 53737, 63400 / 53737, 2895000 / 53737]),
        ("kakade-two-state", {}, [18, 20]),
        ("hillier-lieberman-machine", {}, [30510000 / 2041, 33190000 / 2041, 38035000 / 2041, 39705000 / 2041]),
        ("vanishing-gradient-chain", {"horizon": 1}, [0.5, 1, 2]),  # discount 1/2, reward 1 a step at the end
    ],
)
def test_optimal_values(name, parameters, values):
    mdp = instances.get(name, **parameters)
    found, _ = optimal_values(mdp, instances.describe(name).sense)
    np.testing.assert_allclose(found, values, rtol=1e-12)


def test_sutton_barto_gridworld_has_the_values_of_figure_3_5():
    found, _ = optimal_values(instances.get("sutton-barto-gridworld"))
    figure = [
        [22.0, 24.4, 22.0, 19.4, 17.5],
        [19.8, 22.0, 19.8, 17.8, 16.0],
        [17.8, 19.8, 17.8, 16.0, 14.4],
        [16.0, 17.8, 16.0, 14.4, 13.0],
        [14.4, 16.0, 14.4, 13.0, 11.7],
    ]
    np.testing.assert_allclose(found.reshape(5, 5), figure, atol=0.051)


def test_russell_norvig_grid():
    mdp = instances.get("russell-norvig-grid")
    found, _ = optimal_values(mdp)
    by_cell = dict(zip(mdp.states, found, strict=True))
    # aima-python, tests/test_mdp.py::test_value_iteration, which stops within 0.002.
    published = {(1, 1): 0.2954354, (1, 3): 0.5092855, (3, 3): 0.7953609, (4, 1): 0.1295887, (3, 1): 0.3446131}
    assert {cell: by_cell[cell] for cell in published} == pytest.approx(published, abs=2e-3)
    assert by_cell[4, 3] == pytest.approx(1)
    assert by_cell[4, 2] == pytest.approx(-1)
    assert mdp.initial[mdp.pairs.state((1, 1))] == 1
    # Figure 17.3, at discount 1 (all but 1 here, so that the equations of policy iteration have a solution).
    undiscounted, _ = optimal_values(mdp.replace(discount=1 - 1e-9))
    assert undiscounted[0] == pytest.approx(0.705, abs=6e-4)


@pytest.mark.parametrize(
    ("name", "value", "tolerance"),
    [
        ("howard-taxicab", 1588 / 119, 1e-10),  # Howard, Chapter 5: 13.34
        ("howard-toymaker", 2, 1e-10),  # Howard, Chapter 4
        ("hillier-lieberman-machine", 5000 / 3, 1e-6),
        ("riverswim", 243000 / 109, 1e-6),
        ("howard-automobile", 150.9458363125119, 1e-6),  # Howard, Chapter 5: 150.95
    ],
)
def test_gains(name, value, tolerance):
    mdp = instances.get(name)
    _, policy = optimal_values(mdp.replace(discount=1 - 1e-5), instances.describe(name).sense)
    assert gain(mdp, policy) == pytest.approx(value, abs=tolerance)


def test_howard_automobile_keeps_the_car_of_the_average_optimum():
    mdp = instances.get("howard-automobile")
    _, policy = optimal_values(mdp.replace(discount=1 - 1e-5), "minimize")
    plan = chosen(mdp, policy)
    assert plan == {age: "keep" if 3 <= age <= 25 else "buy 12" for age in range(1, 41)}
    assert mdp.n_pairs == 40 * 41


def test_hillier_lieberman_rewards_are_costs():
    mdp = instances.get("hillier-lieberman-machine")
    assert instances.describe("hillier-lieberman-machine").sense == "minimize"
    np.testing.assert_array_equal(mdp.pair_rewards, mdp.pair_costs["cost"])
    _, policy = optimal_values(mdp, "minimize")
    assert list(chosen(mdp, policy).values()) == ["nothing", "nothing", "overhaul", "replace"]


def test_machine_repair_wears_more_than_a_quarter():
    mdp = instances.get("machine-repair")
    _, policy = optimal_values(mdp)
    assert chosen(mdp, policy) == {"new": "run", "worn": "run", "broken": "repair"}
    flow = np.eye(3) - mdp.discount * mdp.transitions.toarray()[policy].T
    occupancy = np.linalg.solve(flow, (1 - mdp.discount) * mdp.initial)
    assert occupancy @ mdp.pair_costs["wear"][policy] == pytest.approx(0.328, abs=5e-4)


def test_queue_admission_admits_below_a_threshold():
    mdp = instances.get("queue-admission")
    _, policy = optimal_values(mdp)
    admitted = [action == "admit" for action in chosen(mdp, policy).values()]
    assert admitted == sorted(admitted, reverse=True)
    assert any(admitted)
    assert mdp.pairs.pair(10, mdp.pairs.action("admit")) is None
    assert mdp.costs["queue"][10, mdp.pairs.action("reject")] == 10


def test_hazard_gridworld_takes_the_shortcut():
    mdp = instances.get("hazard-gridworld", slip=0)
    found, policy = optimal_values(mdp)
    assert chosen(mdp, policy)[0, 2] == "east"
    assert mdp.initial @ found == pytest.approx(-sum(0.95**t for t in range(6)))
    assert mdp.pair_costs["hazard"].sum() == 6 * 4


def test_hazard_gridworld_reads_maps():
    mdp = instances.get("hazard-gridworld", layout=["S#G", "SH."], slip="1/5")
    assert mdp.states == ((0, 0), (0, 2), (1, 0), (1, 1), (1, 2))
    assert mdp.exact.initial == (Fraction(1, 2), 0, Fraction(1, 2), 0, 0)
    east = mdp.pairs.pair(mdp.pairs.state((0, 0)), mdp.pairs.action("east"))
    # The wall holds it with 4/5 + 1/10 (north is the edge); slipping south is free.
    assert dict(zip(*_row(mdp, east), strict=True)) == {(0, 0): Fraction(9, 10), (1, 0): Fraction(1, 10)}
    for layout in (["S.", "G"], ["SX", "GG"], [], ["..", ".G"], ["S.", ".."]):
        with pytest.raises(InvalidModel, match="layout"):
            instances.get("hazard-gridworld", layout=layout)


def _row(mdp, pair):
    first, last = mdp.transitions.indptr[pair : pair + 2]
    return [mdp.states[j] for j in mdp.transitions.indices[first:last]], mdp.exact.transitions[first:last]


def test_inventory_of_a_poisson_demand():
    mdp = instances.get("inventory", capacity=8, demand=2.5)
    sums = [sum(_row(mdp, pair)[1]) for pair in range(mdp.n_pairs)]
    assert sums == [1] * mdp.n_pairs
    assert mdp.costs["lost"][0, 0] == 2.5
    # Stock 8, no order: 8 sold means a demand of 8 or more, 1 - P(D <= 7).
    none_left = _row(mdp, mdp.pairs.pair(8, 0))[1][0]
    assert float(none_left) == pytest.approx(0.0042467, abs=1e-6)
    with pytest.raises(InvalidModel, match="Poisson"):
        instances.get("inventory", demand=0)
    with pytest.raises(InvalidModel, match="sums to"):
        instances.get("inventory", demand=["1/2", "1/4"])


def test_riverswim_of_any_length():
    short = instances.get("riverswim", n_states=2)
    assert [row[2] for row in rows_of(short)][1::2] == [
        {0: Fraction(7, 10), 1: Fraction(3, 10)},
        {0: Fraction(7, 10), 1: Fraction(3, 10)},
    ]
    long = instances.get("riverswim", n_states=1000)
    assert long.exact is None
    assert long.transitions.nnz == 3998


def test_garnet_is_reproducible():
    first, again, other = (instances.get("garnet", n_states=50, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.transitions.data, again.transitions.data)
    np.testing.assert_array_equal(first.transitions.indices, again.transitions.indices)
    np.testing.assert_array_equal(first.pair_rewards, again.pair_rewards)
    assert not np.array_equal(first.pair_rewards, other.pair_rewards)
    costly = instances.get("garnet", n_states=50, seed=7, n_costs=2)
    np.testing.assert_array_equal(first.pair_rewards, costly.pair_rewards)
    assert sorted(costly.pair_costs) == ["cost0", "cost1"]


@pytest.mark.parametrize(("n_states", "branching"), [(1, 1), (5, 5), (10, 7), (500, 3)])
def test_garnet_rows(n_states, branching):
    mdp = instances.get("garnet", n_states=n_states, n_actions=3, branching=branching)
    assert (np.diff(mdp.transitions.indptr) == branching).all()
    np.testing.assert_array_equal(mdp.transitions.sum(axis=1), 1.0)
    assert mdp.pair_rewards.min() >= 0
    assert mdp.pair_rewards.max() < 1
    assert mdp.notes == ()
    assert mdp.exact is None


def test_garnet_reaches_every_state_evenly():
    mdp = instances.get("garnet", n_states=20, n_actions=500, branching=4)
    counts = np.bincount(mdp.transitions.indices, minlength=20)
    expected = 20 * 500 * 4 / 20
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_slippery_gridworld_is_sparse():
    mdp = instances.get("slippery-gridworld", n=200)
    assert sparse.issparse(mdp.transitions)
    assert (mdp.n_states, mdp.n_actions) == (40_000, 4)
    assert mdp.transitions.nnz <= 3 * mdp.n_pairs
    assert mdp.pair_rewards[-1] == 1
    assert (mdp.pair_rewards[:-4] != 0).mean() == pytest.approx(0.05, abs=0.01)
    assert set(np.unique(mdp.pair_costs["hazard"])) == {0.0, 1.0}


def test_slippery_gridworld_moves():
    mdp = instances.get("slippery-gridworld", n=3, slip="1/5", bumps=0, hazards=0)
    rows = mdp.transitions.toarray().reshape(9, 4, 9)
    middle_north = rows[4, mdp.pairs.action("north")]
    np.testing.assert_allclose(middle_north[[1, 3, 5]], [0.8, 0.1, 0.1])
    corner_west = rows[0, mdp.pairs.action("west")]
    np.testing.assert_allclose(corner_west[[0, 3]], [0.9, 0.1])
    np.testing.assert_array_equal(rows[8, :, 8], 1.0)
    np.testing.assert_array_equal(mdp.rewards[:8], 0.0)
    same = instances.get("slippery-gridworld", n=30, seed=3)
    np.testing.assert_array_equal(same.pair_rewards, instances.get("slippery-gridworld", n=30, seed=3).pair_rewards)


def test_bumpy_gridworld_has_no_end():
    mdp = instances.get("bumpy-gridworld", n=3, slip="1/5", n_costs=2)
    rows = mdp.transitions.toarray().reshape(9, 4, 9)
    np.testing.assert_allclose(rows[8, mdp.pairs.action("north")][[5, 7, 8]], [0.8, 0.1, 0.1])  # the last cell, too
    np.testing.assert_allclose(rows[8, mdp.pairs.action("south")][[7, 8]], [0.1, 0.9])
    slippery = instances.get("slippery-gridworld", n=3, slip="1/5").transitions.toarray().reshape(9, 4, 9)
    np.testing.assert_array_equal(rows[:8], slippery[:8])
    assert structure(mdp).chains.communicating
    assert list(mdp.pair_costs) == ["cost0", "cost1"]


def test_bumpy_gridworld_pays_in_few_cells():
    mdp = instances.get("bumpy-gridworld", n=200, n_costs=1, seed=5)
    for column in (mdp.pair_rewards, mdp.pair_costs["cost0"]):
        assert 0 == column.min() < column.max() < 1
        assert (column != 0).mean() == pytest.approx(0.05, abs=0.01)
    np.testing.assert_array_equal(mdp.pair_rewards, instances.get("bumpy-gridworld", n=200, seed=5).pair_rewards)
    assert np.any(mdp.pair_rewards != mdp.pair_costs["cost0"])


@pytest.mark.parametrize("name", instances.names())
def test_every_model_is_described_and_takes_discount_and_initial(name):
    entry = instances.describe(name)
    assert entry.name == name
    assert "\n" not in entry.title
    assert entry.source
    assert entry.sense in ("maximize", "minimize")
    assert "References" in inspect.getdoc(entry.build)
    mdp = instances.get(name)
    assert isinstance(mdp, MDP)
    assert mdp.discount is None or 0 < mdp.discount < 1
    last = mdp.states[-1]
    changed = instances.get(name, discount=0.5, initial=last)
    assert changed.discount == 0.5
    assert changed.initial[-1] == 1
    assert instances.get(name, discount=None).discount is None or name == "vanishing-gradient-chain"
    if mdp.exact is not None:
        assert sum(mdp.exact.initial) == 1
        assert all(sum(_row(mdp, pair)[1]) == 1 for pair in range(mdp.n_pairs))
    assert pickle.loads(pickle.dumps(entry)) == entry


def test_names_are_sorted():
    assert instances.names() == sorted(instances.names())
    assert {"forest", "garnet", "riverswim", "slippery-gridworld"} <= set(instances.names())


def test_parameters_mean_the_decimals_they_are_written_as():
    mdp = instances.get("forest", p=0.3, r1="9/2", discount="0.9")
    assert mdp.exact.transitions[0] == Fraction(3, 10)
    assert mdp.exact.rewards[4] == Fraction(9, 2)
    assert mdp.exact.discount == Fraction(9, 10)


def test_large_models_start_anywhere_too():
    mdp = instances.get("forest", n_states=1000)
    assert mdp.exact is None
    assert mdp.initial.tolist() == [1 / 1000] * 1000


def test_names_are_given_once():
    with pytest.raises(ValueError, match="two models are called 'forest'"):
        registry.instance("forest", title="", source="")(lambda: None)


def test_unknown_names_bring_close_ones():
    with pytest.raises(InvalidProblem, match="'howard-taxicab'"):
        instances.get("howard_taxi")
    with pytest.raises(InvalidProblem, match="forest, garnet"):
        instances.describe("zzzzzz")


def test_unknown_parameters_bring_the_known_ones():
    with pytest.raises(InvalidProblem, match=r"'states'.*n_states=3, r1=4, r2=2, p=0.1, discount=0.9 and initial"):
        instances.get("forest", states=3)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("forest", {"n_states": 1}, "at least 2"),
        ("forest", {"n_states": 3.5}, "not an integer"),
        ("forest", {"p": 1.5}, "not a probability"),
        ("forest", {"p": float("nan")}, "finite number|not a number"),
        ("forest", {"discount": 1.5}, r"outside \[0, 1\]"),
        ("garnet", {"n_states": 3, "branching": 4}, "distinct"),
        ("queue-admission", {"arrival": 0.7, "service": 0.6}, "more than 1"),
    ],
)
def test_values_that_give_no_model(name, parameters, message):
    with pytest.raises(InvalidModel, match=message):
        instances.get(name, **parameters)

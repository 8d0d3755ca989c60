"""Textbook models that a few lines generate: totals, shortest paths and bounded horizons, with their exact answers."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from tables import GOLDEN, Case, Table, check

import occlp as oc


def gambler(capital):
    """Sutton and Barto (2018), example 4.3: heads with probability 0.4, the goal is 100."""

    def step(s, stake):
        if s in (0, 100):
            return [(1, s, 0)]
        return [(Fraction(2, 5), s + stake, int(s + stake == 100)), (Fraction(3, 5), s - stake, 0)]

    return oc.MDP.from_function(step, capital, lambda s: range(1, min(s, 100 - s) + 1) or [0])


# Exact policy iteration; 1/4, 1/2 and 3/4 of the goal are Dubins and Savage (1965), bold play.
GAMBLER = {
    1: "4924830119296/2384184279361225", 25: "4/25", 50: "2/5", 51: "961060956923434/2384184279361225", 75: "16/25",
    99: "2299147500532684/2384184279361225",
}  # fmt: skip


@pytest.mark.parametrize(("capital", "answer"), GAMBLER.items())
def test_gambler(capital, answer):
    """As a total of one unit paid at the goal, and as the probability of reaching it."""
    mdp = gambler(capital)
    check(Case("gambler", "total", lambda: oc.Problem(mdp, criterion="total"), Fraction(answer)))
    asked = oc.Problem(mdp, criterion="total", goal=100, objective="reach")
    check(Case("gambler", "reach", lambda: asked, Fraction(answer)))


def paths(size, start, goal, moves, *, wind=None, walls=(), cliff=()):
    """A grid that is left in as few steps as possible; the cliff costs 100 and leads back to the start."""
    rows, columns = size

    def step(cell, move):
        if cell == goal:
            return [(1, cell, 0)]
        row = cell[0] + move[0] - (wind[cell[1]] if wind else 0)
        after = (min(max(row, 0), rows - 1), min(max(cell[1] + move[1], 0), columns - 1))
        if after in cliff:
            return [(1, start, 100)]
        return [(1, cell if after in walls else after, 1)]

    return oc.MDP.from_function(step, start, moves)


FOUR = [(-1, 0), (1, 0), (0, -1), (0, 1)]
KING = [move for move in itertools.product((-1, 0, 1), repeat=2) if move != (0, 0)]
WIND = [0, 0, 0, 1, 1, 1, 2, 2, 1, 0]
MAZE = [(1, 2), (2, 2), (3, 2), (4, 5), (0, 7), (1, 7), (2, 7)]
CLIFF = [(3, column) for column in range(1, 11)]


@pytest.mark.parametrize(
    ("source", "mdp", "goal", "answer"),
    [
        ("example 6.5", paths((7, 10), (3, 0), (3, 7), FOUR, wind=WIND), (3, 7), 15),
        ("exercise 6.9", paths((7, 10), (3, 0), (3, 7), KING, wind=WIND), (3, 7), 7),
        ("exercise 6.9, ninth action", paths((7, 10), (3, 0), (3, 7), [*KING, (0, 0)], wind=WIND), (3, 7), 7),
        ("example 6.6", paths((4, 12), (3, 0), (3, 11), FOUR, cliff=CLIFF), (3, 11), 13),
        ("figure 8.2", paths((6, 9), (2, 0), (0, 8), FOUR, walls=MAZE), (0, 8), 14),
    ],
    ids=["windy", "windy, king", "windy, king or stay", "cliff", "maze"],
)
def test_shortest_paths(source, mdp, goal, answer):
    """Sutton and Barto (2018)."""
    check(Case(source, "steps", lambda: oc.Problem(mdp, "minimize", "total", goal=[goal]), Fraction(answer)))


@pytest.mark.parametrize(
    ("name", "options", "answer", "tol"),
    [
        # The hole-free way exists only from most states: 14/17 on the small map; almost surely on the large one.
        ("FrozenLake-v1", {"map_name": "4x4"}, Fraction(14, 17), 1e-12),
        ("FrozenLake-v1", {"map_name": "8x8"}, Fraction(1), 1e-12),
        ("Taxi-v4", {}, Fraction(793, 100), 1e-12),  # the mean over its 300 starts
    ],
)
def test_gymnasium(name, options, answer, tol):
    pytest.importorskip("gymnasium")
    mdp = oc.interop.from_gymnasium(name, discount=1.0, **options)
    check(Case(name, "total", lambda: oc.Problem(mdp, criterion="total"), answer, tol=tol))


def grid(step_reward):
    """Russell and Norvig's 4x3 grid, undiscounted, from any square."""
    mdp = oc.instances.get("russell-norvig-grid")
    inner = np.array([state not in ((4, 2), (4, 3), "terminal") for state in mdp.states])[mdp.pairs.states]
    rewards = np.where(inner, step_reward, mdp.pair_rewards)
    start = np.full(mdp.n_states, 1 / mdp.n_states)
    return oc.Problem(mdp.replace(rewards=rewards, discount=None, initial=start), criterion="total")


@pytest.mark.parametrize(
    ("step_reward", "changes"),
    [
        *((t, True) for t in (-1.649707, -1.564259, -0.731138, -0.452624, -0.084989, -0.044833, -0.027357)),
        *((t, False) for t in (-1.6284, -0.4278, -0.0221)),  # printed in figure 17.2, editions 1 to 3
    ],
)
def test_where_the_policy_of_the_grid_changes(step_reward, changes):
    """Where the optimal policy changes with the step reward: seven numbers, of which three are printed wrongly."""
    below, above = grid(step_reward - 1e-5), grid(step_reward + 1e-5)
    before, after = oc.solve(below), oc.solve(above)
    late = before.objective - oc.evaluate(below, after.policy).objective
    early = after.objective - oc.evaluate(above, before.policy).objective
    assert (min(late, early) > 1e-7) is changes
    assert changes or max(late, early) < 1e-12


def test_entropy_where_every_state_is_one_step_away():
    """Hazan, Kakade, Singh and Van Soest (2019): the most random state distribution is the uniform one."""
    move = np.broadcast_to(np.eye(5), (5, 5, 5))
    mdp = oc.MDP.from_arrays(move, np.zeros((5, 5)))
    result = oc.solve(oc.Problem(mdp, criterion="average", utility=oc.StateEntropy()))
    assert result.certificate.lower <= math.log(5) <= result.certificate.upper
    np.testing.assert_allclose(result.state_occupancy, 0.2, rtol=0, atol=1e-4)


def stored(key):
    """A model of total.json."""
    (model,) = [m for m in json.loads((GOLDEN / "total.json").read_text(encoding="utf-8")) if m["id"] == key]
    rows = [(s, a, [(t, Fraction(p)) for t, p in row]) for s, a, row in model["rows"]]
    rewards = {name: [Fraction(x) for x in values] for name, values in model["rewards"].items()}
    return Table(model["n_states"], rows, rewards, model["initial"])


@pytest.mark.parametrize(
    ("sense", "steps", "answer"),
    [
        ("maximize", 1, "1/10"), ("maximize", 2, "1/5"), ("maximize", 4, "2/5"), ("maximize", 6, "1"),
        ("minimize", 1, "0"), ("minimize", 2, "0"), ("minimize", 4, "0"), ("minimize", 6, "1/10"),
    ],
)  # fmt: skip
def test_bounded_reachability(sense, steps, answer):
    """PRISM, functionality/verify/mdps/reach/mdp_simple.nm.props: F<=k t=1; G<=k t!=1 is what is left."""
    mdp = stored("R25").mdp(closed=frozenset({2, 6}))
    arrived = np.isin(mdp.states, [2, 6]).astype(float)
    found = oc.backward_induction(mdp, steps, terminal=arrived, sense=sense)
    assert found.lower - 1e-15 <= float(Fraction(answer)) <= found.upper + 1e-15
    assert found.upper - found.lower <= 1e-13

"""Worlds of cells: two of the textbooks, one with hazards to avoid, and large ones for measuring."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import sparse

from occlp.errors import InvalidModel
from occlp.instances._build import Number, Row, count, from_rows, probability, rational, read_discount
from occlp.instances.registry import instance
from occlp.model.mdp import MDP

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from occlp._typing import FloatArray

Cell: TypeAlias = tuple[int, int]

#: Moves in (row, column), clockwise, so that the sideways directions are the neighbours in the list.
COMPASS: Mapping[str, Cell] = {"north": (-1, 0), "east": (0, 1), "south": (1, 0), "west": (0, -1)}


def _land(cell: Cell, move: Cell, free: Collection[Cell]) -> Cell:
    """Where a move ends: a wall or the edge of the map holds it back."""
    target = (cell[0] + move[0], cell[1] + move[1])
    return target if target in free else cell


def _slip(cell: Cell, heading: int, moves: Sequence[Cell], free: Collection[Cell], slip: Fraction) -> dict[Any, Any]:
    """Successors when the move slips to either side with probability slip/2 each."""
    row: dict[Any, Fraction] = {}
    for turn, weight in ((0, 1 - slip), (1, slip / 2), (-1, slip / 2)):
        target = _land(cell, moves[(heading + turn) % len(moves)], free)
        row[target] = row.get(target, Fraction(0)) + weight
    return row


@instance(
    "sutton-barto-gridworld",
    title="Sutton and Barto's 5 x 5 gridworld with two jumps",
    source="Sutton and Barto, Reinforcement Learning, 2nd ed. (2018), Examples 3.5 and 3.8, Figures 3.2 and 3.5",
)
def sutton_barto_gridworld(*, discount: Number | None = 0.9) -> MDP:
    """Build the gridworld of Sutton and Barto, cells labelled (row, column) from the top left.

    Every action in A = (0, 1) pays 10 and jumps to (4, 1), in B = (0, 3) pays 5 and jumps to (2, 3); a move
    off the grid pays −1 and stays; others pay 0.

    Parameters
    ----------
    discount : number

    References
    ----------
    Sutton and Barto (2018), Example 3.5 (values of the uniform policy) and 3.8 (optimal: 22.0, 24.4, 22.0, ...).
    """
    cells = [(row, column) for row in range(5) for column in range(5)]
    jumps = {(0, 1): ((4, 1), 10), (0, 3): ((2, 3), 5)}
    rows = []
    for cell in cells:
        for name in ("west", "north", "east", "south"):
            target = _land(cell, COMPASS[name], cells)
            reward = -1 if target == cell else 0
            target, reward = jumps.get(cell, (target, reward))
            rows.append(Row(cell, name, {target: Fraction(1)}, Fraction(reward)))
    return from_rows(rows, cells, discount=discount)


@instance(
    "russell-norvig-grid",
    title="Russell and Norvig's 4 x 3 grid with two exits",
    source="Russell and Norvig, Artificial Intelligence: A Modern Approach, 3rd ed. (2010), Section 17.1",
)
def russell_norvig_grid(*, living_reward: Number = -0.04, slip: Number = 0.2, discount: Number | None = 0.9) -> MDP:
    """Build the 4 × 3 grid, cells labelled (x, y) from the bottom left, started in (1, 1).

    (2, 2) is a wall. In (4, 3) and (4, 2) the one action is "exit": it pays +1 and −1 and ends in "terminal".

    Parameters
    ----------
    living_reward : number
        Reward of every move.
    slip : number
        Probability of moving sideways, half to each side.
    discount : number
        The book's figures have 1, which is not a discounted question.

    References
    ----------
    Russell and Norvig (2010), Figures 17.1 to 17.3: at discount 1 the utility of (1, 1) is 0.705.
    """
    cells = [(x, y) for x in range(1, 5) for y in range(1, 4) if (x, y) != (2, 2)]
    exits = {(4, 2): Fraction(-1), (4, 3): Fraction(1)}
    compass = {"east": (1, 0), "north": (0, 1), "west": (-1, 0), "south": (0, -1)}
    sideways, reward = probability(slip, "slip"), rational(living_reward, "living_reward")
    rows = []
    for cell in cells:
        if cell in exits:
            rows.append(Row(cell, "exit", {"terminal": Fraction(1)}, exits[cell]))
            continue
        for heading, name in enumerate(compass):
            rows.append(Row(cell, name, _slip(cell, heading, list(compass.values()), cells, sideways), reward))
    rows.append(Row("terminal", "exit", {"terminal": Fraction(1)}, Fraction(0)))
    return from_rows(rows, [*cells, "terminal"], discount=discount, initial={(1, 1): 1})


@instance(
    "hazard-gridworld",
    title="A shortcut through hazards, a long way round, and a cost that counts the hazards",
    source="this library, after Geibel and Wysotzki, Journal of Artificial Intelligence Research 24 (2005)",
)
def hazard_gridworld(
    *,
    layout: Sequence[str] = ("S.HHH.G", "..HHH..", ".......", "......."),
    slip: Number = 0.1,
    discount: Number | None = 0.95,
) -> MDP:
    """Build a small world from a map, cells labelled (row, column) from the top left.

    Every move pays −1 until a goal is reached, where the one action "stay" pays 0. The cost "hazard" counts
    the periods spent in hazard cells, which slow nothing down: a bound on it buys the long way round.

    Parameters
    ----------
    layout : sequence of str
        Rows of equal length: ``S`` start (several share the start evenly), ``G`` goal, ``H`` hazard,
        ``#`` wall, ``.`` free.
    slip : number
        Probability of moving sideways, half to each side.
    discount : number

    References
    ----------
    Constrained grids of this kind: Geibel and Wysotzki, Risk-sensitive reinforcement learning applied to
    control under constraints (2005).
    """
    lines = list(layout)
    if not lines or len({len(line) for line in lines}) > 1 or set("".join(lines)) - set("SGH#."):
        raise InvalidModel(f"layout={layout!r} is not a map: give rows of equal length made of S, G, H, # and '.'.")
    kinds = {(i, j): mark for i, line in enumerate(lines) for j, mark in enumerate(line) if mark != "#"}
    starts = [cell for cell, mark in kinds.items() if mark == "S"]
    if not starts or "G" not in kinds.values():
        raise InvalidModel(f"layout={layout!r} needs at least one start S and one goal G.")
    sideways, moves = probability(slip, "slip"), list(COMPASS.values())
    rows = []
    for cell, mark in kinds.items():
        if mark == "G":
            rows.append(Row(cell, "stay", {cell: Fraction(1)}, Fraction(0)))
            continue
        for heading, name in enumerate(COMPASS):
            rows.append(Row(cell, name, _slip(cell, heading, moves, kinds, sideways), Fraction(-1)))
    hazard = [Fraction(int(kinds[row.state] == "H")) for row in rows]  # type: ignore[index]  # labels are cells here
    start = {cell: Fraction(1, len(starts)) for cell in starts}
    return from_rows(rows, list(kinds), discount=discount, initial=start, costs={"hazard": hazard})


@instance(
    "slippery-gridworld",
    title="A large square world with bumps: slow mixing, any size",
    source="this library; the slippery moves are those of Russell and Norvig, Section 17.1",
)
def slippery_gridworld(
    *,
    n: int = 20,
    slip: Number = 0.1,
    bumps: Number = 0.05,
    hazards: Number = 0.05,
    seed: Any = 0,
    discount: Number | None = 0.99,
) -> MDP:
    """Build an n × n world with four moves; cell (row, column) is state ``row * n + column``.

    The goal is the last state: it absorbs and pays 1 in every period. A few other cells are bumps, which pay
    a number in (−1/2, 1/2), and all else pays 0. The cost "hazard" counts the periods in hazard cells.
    The start is uniform. Built with sparse arrays, without a loop over states: n = 1000 takes seconds.

    Parameters
    ----------
    n : int
        Cells a side (at least 2).
    slip : number
        Probability of moving sideways, half to each side; a wall holds the move back.
    bumps, hazards : number
        Fraction of the cells that are bumps, and hazards.
    seed : int or anything that ``numpy.random.default_rng`` takes
        Draws bumps and hazards.
    discount : number

    References
    ----------
    This library. Moves as in Russell and Norvig (2010), Section 17.1.
    """
    side = count(n, "n", 2)
    rng = np.random.default_rng(seed)
    cells = side * side
    bumpy = rng.random(cells) < float(probability(bumps, "bumps"))
    rewards = np.where(bumpy, rng.random(cells) - 0.5, 0.0)
    rewards[-1] = 1.0
    hazard = (rng.random(cells) < float(probability(hazards, "hazards"))).astype(np.float64)
    hazard[-1] = 0.0
    return MDP.from_arrays(
        _slippery_moves(side, float(probability(slip, "slip")), absorbing=True),
        rewards,
        discount=read_discount(discount, exact=False),
        costs={"hazard": hazard},
        actions=list(COMPASS),
    )


@instance(
    "bumpy-gridworld",
    title="A large square world without an end, where few cells pay: slow mixing, any size",
    source="this library; the slippery moves are those of Russell and Norvig, Section 17.1",
)
def bumpy_gridworld(
    *,
    n: int = 20,
    slip: Number = 0.1,
    bumps: Number = 0.05,
    n_costs: int = 0,
    seed: Any = 0,
    discount: Number | None = 0.99,
) -> MDP:
    """Build an n × n world with four moves and no goal; cell (row, column) is state ``row * n + column``.

    A few cells, the bumps, pay a number in (0, 1) in every period, and all else pays 0. A cost is of the same
    kind, with cells of its own. The start is uniform. Every cell leads to every other, a step at a time:
    news of a bump has to travel. Built with sparse arrays, without a loop over states.

    Parameters
    ----------
    n : int
        Cells a side (at least 2).
    slip : number
        Probability of moving sideways, half to each side; a wall holds the move back.
    bumps : number
        Fraction of the cells that pay, and of those that each cost charges.
    n_costs : int
        Number of costs, named "cost0", "cost1", ...; they leave the rewards as they are.
    seed : int or anything that ``numpy.random.default_rng`` takes
        Draws the bumps.
    discount : number

    References
    ----------
    This library. Moves as in Russell and Norvig (2010), Section 17.1.
    """
    side, extra = count(n, "n", 2), count(n_costs, "n_costs", 0)
    rng, share = np.random.default_rng(seed), float(probability(bumps, "bumps"))

    def draw() -> FloatArray:
        bumpy = rng.random(side * side) < share
        return np.where(bumpy, rng.random(side * side), 0.0)

    return MDP.from_arrays(
        _slippery_moves(side, float(probability(slip, "slip")), absorbing=False),
        draw(),
        discount=read_discount(discount, exact=False),
        costs={f"cost{i}": draw() for i in range(extra)},
        actions=list(COMPASS),
    )


def _slippery_moves(n: int, slip: float, *, absorbing: bool) -> Any:
    """Transitions, sparse [S*4, S]; whether the last cell absorbs."""
    row, column = np.divmod(np.arange(n * n, dtype=np.int32), np.int32(n))
    landings = np.stack(
        [np.clip(row + down, 0, n - 1) * n + np.clip(column + right, 0, n - 1) for down, right in COMPASS.values()],
        axis=1,
    )  # [S, 4]
    if absorbing:
        landings[-1] = n * n - 1
    successors = np.stack([landings, np.roll(landings, -1, axis=1), np.roll(landings, 1, axis=1)], axis=2)
    weights = np.broadcast_to([1 - slip, slip / 2, slip / 2], successors.shape)
    starts = np.arange(0, successors.size + 1, 3)
    return sparse.csr_array((weights.ravel(), successors.ravel(), starts), shape=(4 * n * n, n * n))

"""Models that end: optimal stopping, and plans for one year."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from occlp.errors import InvalidModel
from occlp.instances._build import Number, Row, count, from_rows, rational
from occlp.instances.registry import instance

if TYPE_CHECKING:
    from occlp.model.mdp import MDP


@instance(
    "secretary",
    title="The secretary problem: stop at the best of n candidates, or look on",
    source="Lindley, Dynamic programming and decision theory (1961); Gilbert and Mosteller (1966), section 2",
)
def secretary(*, n: int = 10, discount: Number | None = None) -> MDP:
    """Build the secretary problem: the reward is 1 for stopping at the best of all candidates.

    State k means that candidate k is the best so far; "stop" earns the probability k/n that it stays so.
    "continue" leads to the next candidate who is better than all before, j with probability k / (j (j − 1)),
    or to "over". Every path is over after n decisions at most.

    Parameters
    ----------
    n : int
        Number of candidates.
    discount : number

    References
    ----------
    Gilbert and Mosteller (1966), Recognizing the maximum of a sequence, table 2: 0.3987 for n = 10, skipping 3;
    0.3710 for n = 100, skipping 37.
    """
    n = count(n, "n", 1)
    rows = [Row("over", "stop", {"over": Fraction(1)}, Fraction(0))]
    for k in range(1, n + 1):
        following: dict[Any, Fraction] = {j: Fraction(k, j * (j - 1)) for j in range(k + 1, n + 1)}
        rows.append(Row(k, "stop", {"over": Fraction(1)}, Fraction(k, n)))
        rows.append(Row(k, "continue", {**following, "over": Fraction(k, n)}, Fraction(0)))
    return from_rows(rows, [*range(1, n + 1), "over"], discount=discount, initial={1: 1})


@instance(
    "die-stopping",
    title="A die may be rolled again: keep the number, or roll",
    source="classical; values of n rolls 7/2, 17/4, 14/3, 89/18, ... (Ross, Introduction to Stochastic Dynamic "
    "Programming (1983), chapter III, for its family)",
)
def die_stopping(*, sides: int = 6, discount: Number | None = None) -> MDP:
    """Build the stopping of a die: with n rolls in all it is a horizon of n steps.

    The state is the number on top; "keep" earns it and ends the game, "roll" rolls again.

    Parameters
    ----------
    sides : int
    discount : number

    References
    ----------
    V_1 = 7/2, V_{n+1} = E max(die, V_n).
    """
    faces = range(1, count(sides, "sides", 1) + 1)
    rolled: dict[Any, Fraction] = {face: Fraction(1, len(faces)) for face in faces}
    rows = [Row("over", "keep", {"over": Fraction(1)}, Fraction(0))]
    for face in faces:
        rows.append(Row(face, "keep", {"over": Fraction(1)}, Fraction(face)))
        rows.append(Row(face, "roll", rolled, Fraction(0)))
    return from_rows(rows, [*faces, "over"], discount=discount, initial=rolled)


@instance(
    "hillier-lieberman-employment",
    title="Hillier and Lieberman's local job shop: how many people to employ in each season",
    source="Hillier and Lieberman, Introduction to Operations Research, chapter on dynamic programming, Example 4",
    sense="minimize",
)
def hillier_lieberman_employment(*, step: Number = "5/2", discount: Number | None = None) -> MDP:
    """Build the scheduling of employment levels over four seasons, a horizon of 4 steps.

    Summer, autumn, winter and spring need 220, 240, 200 and 255 people; 255 are employed before. Changing the
    level by x costs 200 x² dollars, each person more than needed 2000. State (season, people) is the level of
    the season before, the action the new one. The question is ``sense="minimize"``: rewards are costs in
    thousands of dollars. The cost "idle" counts the people who are not needed, "change" those hired or dismissed.

    Parameters
    ----------
    step : number
        Levels are multiples of it, down from 255; part-time work makes fractions possible.
    discount : number

    References
    ----------
    Hillier and Lieberman, Example 4 (scheduling employment levels): 185 thousand dollars, with levels 247.5,
    245, 247.5 and 255.
    """
    pace = rational(step, "step")
    if pace <= 0:
        raise InvalidModel(f"step={step!r} is not positive.")
    peak = Fraction(255)
    needs = {"summer": 220, "autumn": 240, "winter": 200, "spring": 255}
    rows, idle, change, levels = [], [], [], [peak]
    for season, need in needs.items():
        after = list(needs)[list(needs).index(season) + 1] if season != "spring" else None
        allowed = [peak - i * pace for i in range(int((peak - need) / pace) + 1)]
        for level in levels:
            for new in allowed:
                target = "year over" if after is None else (after, _plain(new))
                cost = (200 * (new - level) ** 2 + 2000 * (new - need)) / 1000
                rows.append(Row((season, _plain(level)), _plain(new), {target: Fraction(1)}, cost))
                idle.append(new - need)
                change.append(abs(new - level))
        levels = allowed
    rows.append(Row("year over", 255, {"year over": Fraction(1)}, Fraction(0)))
    costs = {"idle": [*idle, Fraction(0)], "change": [*change, Fraction(0)]}
    states = list(dict.fromkeys(row.state for row in rows))
    return from_rows(rows, states, discount=discount, initial={("summer", 255): 1}, costs=costs)


def _plain(level: Fraction) -> int | float:
    return int(level) if level.denominator == 1 else float(level)

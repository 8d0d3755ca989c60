"""Small models of the textbooks, kept in exact fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from occlp.instances._build import Number, Row, count, from_rows, probability, rational, read_discount
from occlp.instances.registry import instance

if TYPE_CHECKING:
    from occlp.model.mdp import MDP


def _read(table: list[tuple[Any, Any, dict[Any, str], str]]) -> list[Row]:
    """Rows from a table written as strings."""
    return [
        Row(state, action, {label: Fraction(p) for label, p in successors.items()}, Fraction(reward))
        for state, action, successors, reward in table
    ]


@instance(
    "forest",
    title="Forest management: wait for an old stand, or cut, while fires burn",
    source="Chadès et al., MDPtoolbox, Ecography 37 (2014), mdp_example_forest; pymdptoolbox example.forest",
)
def forest(*, n_states: int = 3, r1: Number = 4, r2: Number = 2, p: Number = 0.1, discount: Number | None = 0.9) -> MDP:
    """Build the forest of MDPtoolbox.

    Parameters
    ----------
    n_states : int
        Number of age classes (at least 2); state 0 is the youngest.
    r1, r2 : number
        Reward of waiting, and of cutting, in the oldest class. Cutting pays 1 in between and 0 when young.
    p : number
        Probability of a fire in a period; a burnt or cut forest is young again.
    discount : number

    References
    ----------
    MDPtoolbox, ``mdp_example_forest``. With the defaults V = (6561, 7371, 8371)/250: never cut.
    """
    n = count(n_states, "n_states", 2)
    fire, oldest = probability(p, "p"), n - 1
    rows = []
    for age in range(n):
        older = {0: fire, min(age + 1, oldest): 1 - fire}
        cut = rational(r2, "r2") if age == oldest else Fraction(int(age > 0))
        rows += [
            Row(age, "wait", older, rational(r1, "r1") if age == oldest else Fraction(0)),
            Row(age, "cut", {0: Fraction(1)}, cut),
        ]
    return from_rows(rows, n, discount=discount)


@instance(
    "puterman-two-state",
    title="Puterman's two-state model, with action sets that differ",
    source="Puterman, Markov Decision Processes (1994), Section 3.1 and Example 6.2.1",
)
def puterman_two_state(*, discount: Number | None = 0.95) -> MDP:
    """Build the running example of Puterman's book.

    In s1, a1 pays 5 and moves to either state, a2 pays 10 and moves to s2; s2 has a1 alone, which stays and
    pays −1.

    Parameters
    ----------
    discount : number
        From 10/11 on a1 is optimal in s1; at 10/11 both are.

    References
    ----------
    Puterman (1994), Section 3.1, Figure 3.1.1; solved in Example 6.2.1: at 0.95, V = (−60/7, −20).
    """
    table = [
        ("s1", "a1", {"s1": "1/2", "s2": "1/2"}, "5"),
        ("s1", "a2", {"s2": "1"}, "10"),
        ("s2", "a1", {"s2": "1"}, "-1"),
    ]
    return from_rows(_read(table), ["s1", "s2"], discount=discount)


@instance(
    "howard-taxicab",
    title="Howard's taxicab: three towns, three ways to find a fare",
    source="Howard, Dynamic Programming and Markov Processes (1960), Chapters 5 and 7",
)
def howard_taxicab(*, discount: Number | None = 0.9) -> MDP:
    """Build Howard's taxicab driver.

    Parameters
    ----------
    discount : number

    References
    ----------
    Howard (1960), the taxicab problem: gain 1588/119 = 13.34, always driving to the stand (Chapter 5); at
    discount 0.9, V = (121.65, 135.31, 122.84) (Chapter 7).
    """
    table = [
        ("A", "cruise", {"A": "1/2", "B": "1/4", "C": "1/4"}, "8"),
        ("A", "stand", {"A": "1/16", "B": "3/4", "C": "3/16"}, "11/4"),
        ("A", "radio", {"A": "1/4", "B": "1/8", "C": "5/8"}, "17/4"),
        ("B", "cruise", {"A": "1/2", "C": "1/2"}, "16"),
        ("B", "stand", {"A": "1/16", "B": "7/8", "C": "1/16"}, "15"),
        ("C", "cruise", {"A": "1/4", "B": "1/4", "C": "1/2"}, "7"),
        ("C", "stand", {"A": "1/8", "B": "3/4", "C": "1/8"}, "4"),
        ("C", "radio", {"A": "3/4", "B": "1/16", "C": "3/16"}, "9/2"),
    ]
    return from_rows(_read(table), ["A", "B", "C"], discount=discount)


@instance(
    "howard-toymaker",
    title="Howard's toymaker: advertise the toy in favour, research the next one",
    source="Howard, Dynamic Programming and Markov Processes (1960), Chapters 3, 4 and 7",
)
def howard_toymaker(*, discount: Number | None = 0.9) -> MDP:
    """Build Howard's toymaker.

    Parameters
    ----------
    discount : number
        Above 20/29 advertising and research are optimal, below it neither is.

    References
    ----------
    Howard (1960): gain 2 and bias difference 10 (Chapter 4); at 0.9, V = (22.2, 12.3) (Chapter 7).
    """
    good, bad = "successful", "unsuccessful"
    table = [
        (good, "no advertising", {good: "1/2", bad: "1/2"}, "6"),
        (good, "advertising", {good: "4/5", bad: "1/5"}, "4"),
        (bad, "no research", {good: "2/5", bad: "3/5"}, "-3"),
        (bad, "research", {good: "7/10", bad: "3/10"}, "-5"),
    ]
    return from_rows(_read(table), [good, bad], discount=discount)


@instance(
    "geron-three-state",
    title="Géron's three states and three actions",
    source="Géron, Hands-On Machine Learning with Scikit-Learn and TensorFlow (2017), Figure 16-8",
)
def geron_three_state(*, discount: Number | None = 0.95) -> MDP:
    """Build the model of Géron's chapter on reinforcement learning.

    Parameters
    ----------
    discount : number
        At 0.95 it pays to walk through the fire of s1 (−50); at 0.9 it does not.

    References
    ----------
    Géron (2017), Figure 16-8: at 0.95, V = (21.90, 1.18, 53.87).
    """
    table = [
        ("s0", "a0", {"s0": "7/10", "s1": "3/10"}, "7"),
        ("s0", "a1", {"s0": "1"}, "0"),
        ("s0", "a2", {"s0": "4/5", "s1": "1/5"}, "0"),
        ("s1", "a0", {"s1": "1"}, "0"),
        ("s1", "a2", {"s2": "1"}, "-50"),
        ("s2", "a1", {"s0": "4/5", "s1": "1/10", "s2": "1/10"}, "32"),
    ]
    return from_rows(_read(table), ["s0", "s1", "s2"], discount=discount)


@instance(
    "kakade-two-state",
    title="Two states with self-loops, a plateau for the plain gradient",
    source="Kakade, A Natural Policy Gradient, NIPS 14 (2001), Figure 2; Bagnell and Schneider, IJCAI 2003",
)
def kakade_two_state(*, discount: Number | None = 0.9) -> MDP:
    """Build Kakade's two-state model, started in i with probability 0.8.

    Staying pays 1 in i and 2 in j; going to the other state pays nothing. A gradient that starts with most
    mass on staying in i sits at average reward 1 for long, while the optimum is 2.

    Parameters
    ----------
    discount : number

    References
    ----------
    Kakade (2001), Figure 2; Bagnell and Schneider, Covariant Policy Search (2003). V = (18, 20) at 0.9.
    """
    table = [
        ("i", "stay", {"i": "1"}, "1"),
        ("i", "go", {"j": "1"}, "0"),
        ("j", "stay", {"j": "1"}, "2"),
        ("j", "go", {"i": "1"}, "0"),
    ]
    return from_rows(_read(table), ["i", "j"], discount=discount, initial={"i": "4/5", "j": "1/5"})


@instance(
    "riverswim",
    title="RiverSwim: a small reward downstream, a large one against the current",
    source="Strehl and Littman, Journal of Computer and System Sciences 74 (2008), RiverSwim",
)
def riverswim(*, n_states: int = 6, small: Number = 5, large: Number = 10000, discount: Number | None = 0.95) -> MDP:
    """Build RiverSwim, started at the left bank.

    Parameters
    ----------
    n_states : int
        Length of the river (at least 2).
    small, large : number
        Reward of swimming left at the left end, and right at the right end.
    discount : number

    References
    ----------
    Strehl and Littman, An analysis of model-based interval estimation for Markov decision processes (2008):
    swimming right advances with 0.3, stays with 0.6 and drifts back with 0.1 (0.7 / 0.3 at the two ends).
    With the defaults the gain is 243000/109, always swimming right.
    """
    n = count(n_states, "n_states", 2)
    last = n - 1
    drift, hold, advance = Fraction(1, 10), Fraction(3, 5), Fraction(3, 10)
    rows = []
    for place in range(n):
        if place == 0:
            swim = {0: 1 - advance, 1: advance}
        elif place == last:
            swim = {last - 1: 1 - advance, last: advance}
        else:
            swim = {place - 1: drift, place: hold, place + 1: advance}
        left = rational(small, "small") if place == 0 else Fraction(0)
        right = rational(large, "large") if place == last else Fraction(0)
        rows += [
            Row(place, "left", {max(place - 1, 0): Fraction(1)}, left),
            Row(place, "right", swim, right),
        ]
    return from_rows(rows, n, discount=discount, initial={0: 1})


@instance(
    "vanishing-gradient-chain",
    title="A chain on which the gradient is exponentially small far from the optimum",
    source="Agarwal, Kakade, Lee and Mahajan, JMLR 22 (2021), Proposition 4.1 and Figure 2",
)
def vanishing_gradient_chain(*, horizon: int = 20, discount: Number | None = None) -> MDP:
    """Build the chain of H + 2 states, started at its left end.

    a1 moves right, a2, a3 and a4 move left; the last state has a1 alone, which stays and pays 1.

    Parameters
    ----------
    horizon : int
        H, at least 1.
    discount : number, optional
        Default H/(H+1), as in the paper.

    References
    ----------
    Agarwal et al., On the theory of policy gradient methods (2021): while every π(a1 | s) < 1/4 the gradient
    is at most (1/3)^(H/4), though the loss is of order H.
    """
    h = count(horizon, "horizon", 1)
    rows = []
    for place in range(h + 1):
        back = {max(place - 1, 0): Fraction(1)}
        rows.append(Row(place, "a1", {place + 1: Fraction(1)}, Fraction(0)))
        rows += [Row(place, action, back, Fraction(0)) for action in ("a2", "a3", "a4")]
    rows.append(Row(h + 1, "a1", {h + 1: Fraction(1)}, Fraction(1)))
    gamma = Fraction(h, h + 1) if discount is None else read_discount(discount)
    return from_rows(rows, h + 2, discount=gamma, initial={0: 1})

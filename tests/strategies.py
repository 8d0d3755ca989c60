"""Random small Markov decision processes, as exact tables and as models.

A `Sketch` is a model written down row by row in fractions: the truth that every encoding of it is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from occlp.model import MDP

DENOMINATORS = tuple(range(1, 13))
DISCOUNTS = (Fraction(0), Fraction(1, 2), Fraction(9, 10), Fraction(99, 100))


@dataclass(frozen=True)
class Sketch:
    """Rows of a model, sorted by (state, action); fractions throughout."""

    n_states: int
    n_actions: int
    rows: dict[tuple[int, int], tuple[Fraction, ...]]  # (s, a) -> probabilities [S]
    rewards: dict[tuple[int, int], Fraction]
    costs: dict[str, dict[tuple[int, int], Fraction]] = field(default_factory=dict)
    initial: tuple[Fraction, ...] = ()  # [S]
    discount: Fraction | None = None

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return list(self.rows)

    def transitions(self, fill: float = 0.0) -> np.ndarray:
        """Doubles [S, A, S']; rows of pairs that do not exist hold `fill`."""
        out = np.full((self.n_states, self.n_actions, self.n_states), fill)
        for pair, row in self.rows.items():
            out[pair] = [float(p) for p in row]
        return out

    def table(self, values: dict[tuple[int, int], Fraction] | None = None, fill: float = 0.0) -> np.ndarray:
        """Doubles [S, A] of the rewards, or of a cost."""
        out = np.full((self.n_states, self.n_actions), fill)
        for pair, value in (self.rewards if values is None else values).items():
            out[pair] = float(value)
        return out

    def admissible(self) -> np.ndarray:
        """Which pairs exist, bool [S, A]."""
        out = np.zeros((self.n_states, self.n_actions), dtype=bool)
        for pair in self.rows:
            out[pair] = True
        return out

    def rest(self, *, exact: bool = False) -> dict[str, object]:
        """The keyword arguments that all constructors share, costs aside."""
        number = str if exact else float
        return {
            "discount": None if self.discount is None else number(self.discount),
            "initial": [number(p) for p in self.initial],
        }

    def mdp(self, *, exact: bool = False, **changes: object) -> MDP:
        """The model, from doubles or from strings."""
        number = str if exact else float
        arguments: dict[str, object] = {
            "costs": {name: [number(cost[pair]) for pair in self.rows] for name, cost in self.costs.items()},
            **self.rest(exact=exact),
            **changes,
        }
        return MDP.from_pairs(
            [s for s, _ in self.rows],
            [a for _, a in self.rows],
            [[number(p) for p in row] for row in self.rows.values()],
            [number(self.rewards[pair]) for pair in self.rows],
            **arguments,
        )


@st.composite
def distributions(draw, n, denominators=DENOMINATORS):
    """Fractions [n] that sum to 1, of one small denominator; zeros are common."""
    d = draw(st.sampled_from(denominators))
    cuts = sorted(draw(st.lists(st.integers(0, d), min_size=n - 1, max_size=n - 1)))
    return tuple(Fraction(high - low, d) for low, high in zip([0, *cuts], [*cuts, d], strict=True))


def numbers(low=-12, high=12, denominators=DENOMINATORS):
    """Fractions of mixed sign, such as rewards."""
    return st.builds(Fraction, st.integers(low, high), st.sampled_from(denominators))


@st.composite
def sketches(
    draw,
    max_states=6,
    max_actions=3,
    min_states=1,
    denominators=DENOMINATORS,
    discounts=DISCOUNTS,
    full=False,
    max_costs=2,
):
    """Models with zeros, absorbing states, several classes and, unless `full`, action sets that differ."""
    n = draw(st.integers(min_states, max_states))
    n_actions = draw(st.integers(1, max_actions))
    border = draw(st.integers(0, n - 1))  # no transition crosses it: two classes or more
    rows, rewards = {}, {}
    for s in range(n):
        first, last = (0, border) if s < border else (border, n)
        available = range(n_actions)
        if not full:
            available = sorted(draw(st.sets(st.integers(0, n_actions - 1), min_size=1)))
        absorbing = draw(st.integers(0, 4)) == 4
        for a in available:
            if absorbing:
                row = tuple(Fraction(int(j == s)) for j in range(n))
            else:
                inside = draw(distributions(last - first, denominators))
                row = (Fraction(0),) * first + inside + (Fraction(0),) * (n - last)
            rows[s, a] = row
            rewards[s, a] = draw(numbers(denominators=denominators))
    names = ["wear", "fuel"][: draw(st.integers(0, max_costs))]
    return Sketch(
        n_states=n,
        n_actions=1 + max(a for _, a in rows),
        rows=rows,
        rewards=rewards,
        costs={name: {pair: draw(numbers(low=-3, denominators=denominators)) for pair in rows} for name in names},
        initial=draw(distributions(n, denominators)),
        discount=draw(st.sampled_from(discounts)),
    )


@st.composite
def drifting_sketches(draw, max_states=4, max_actions=2):
    """Models without a discount whose averages may depend on the start: loops, one-way moves, what leads to both."""
    n, n_actions = draw(st.integers(2, max_states)), draw(st.integers(1, max_actions))
    rows, rewards = {}, {}
    for s in range(n):
        for a in range(n_actions):
            if a and draw(st.booleans()):
                continue
            kind = draw(st.sampled_from(["loop", "move", "chance", "chance"]))
            target = s if kind == "loop" else draw(st.integers(0, n - 1))
            row = tuple(Fraction(int(j == target)) for j in range(n))
            rows[s, a] = draw(distributions(n, (2, 3, 4))) if kind == "chance" else row
            rewards[s, a] = draw(numbers()) if kind == "chance" else Fraction(draw(st.integers(-1, 2)))
    return Sketch(n, n_actions, rows, rewards, initial=draw(distributions(n, (2, 3, 4, 5))))


def mdps(**options):
    """Models of doubles; options as in `sketches`."""
    return sketches(**options).map(Sketch.mdp)


@st.composite
def policy_tables(draw, mdp):
    """Stochastic policies [S, A], zeros and deterministic ones included; 0 where the pair does not exist."""
    table = np.zeros((mdp.n_states, mdp.n_actions))
    for s in range(mdp.n_states):
        available = mdp.pairs.actions[mdp.pair_start[s] : mdp.pair_start[s + 1]]
        table[s, available] = [float(p) for p in draw(distributions(len(available)))]
    return table


@st.composite
def mdps_with_policies(draw, **options):
    """Pairs (model, policy table [S, A])."""
    mdp = draw(mdps(**options))
    return mdp, draw(policy_tables(mdp))

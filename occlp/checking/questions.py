"""Small questions with known answers: each is an exact number with its source, or provably has none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from occlp import instances
from occlp.constraints import expected
from occlp.model import MDP
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.terms import KL, ConditionalKL, PolicyEntropy, StateEntropy


@dataclass(frozen=True)
class Question:
    """A problem and its optimum.

    Attributes
    ----------
    name : str
    build : callable
        Makes the problem anew.
    optimum : Fraction, float or None
        The best objective: exact as a fraction, rounded as a float; None where no policy keeps the constraints.
    """

    name: str
    build: Callable[[], Problem]
    optimum: Fraction | float | None


def questions() -> tuple[Question, ...]:
    """Plain, degenerate, undiscounted, constrained, impossible and regularized questions."""
    return (
        Question("rewards", lambda: Problem(_toymaker()), Fraction(157, 91)),  # Howard 1960, chapter 7
        Question("costs", lambda: Problem(_paid(), sense="minimize"), Fraction(-157, 91)),
        Question("a tie", _tie, Fraction(-1, 2)),  # Puterman 2005, section 3.1: at 10/11 both actions are optimal
        Question("one state, one action", lambda: Problem(_bandit("1/3")), Fraction(1, 3)),
        Question("no discounting at all", lambda: Problem(_bandit("1/3", "1", discount="0")), Fraction(1)),
        Question("rewards of zero", lambda: Problem(_bandit("0", "0")), Fraction(0)),
        Question("an optimum of zero", lambda: Problem(_bandit("0", "-1")), Fraction(0)),
        Question("states that cannot be left or reached", _islands, Fraction(9, 10)),
        Question("action sets that differ", _ragged, Fraction(9, 19)),
        Question("large and small rewards", lambda: Problem(_bandit("1e9", "1000000001")), Fraction(10**9 + 1)),
        Question("a discount near 1", lambda: Problem(_toymaker("0.999999")), Fraction(17999977, 9000001)),
        Question("average reward", _average, Fraction(2)),  # Howard 1960, chapter 4
        Question("a chain of period 2", _periodic, Fraction(1, 2)),
        Question("a total with a goal", _total, Fraction(-2)),
        Question("a limit", lambda: _limited(0.25), Fraction(351817, 47600)),
        Question("a limit that does not bind", lambda: _limited(0.9), Fraction(7870, 1053)),
        Question("a limit that nobody keeps", lambda: _limited(-1.0), None),
        Question("a divergence", _divergence, _soft_maximum(1 / 3)),
        Question("a divergence in each state", _conditional, _soft_maximum(1 / 3)),
        Question("an entropy", _entropy, _soft_maximum(1.0)),
        Question("a utility", _exploration, math.log(3)),  # Hazan, Kakade, Singh and Van Soest 2019
    )


def _toymaker(discount: str = "0.9") -> MDP:
    return instances.get("howard-toymaker", discount=discount)


def _paid() -> MDP:
    mdp = _toymaker()
    return mdp.replace(rewards=-mdp.rewards)


def _bandit(*rewards: str, discount: str | None = "0.9") -> MDP:
    return MDP.from_arrays([[[1]] * len(rewards)], [list(rewards)], discount=discount)


def _tie() -> Problem:
    return Problem(instances.get("puterman-two-state", discount="10/11"))


def _islands() -> Problem:
    """From state 0 to state 1, which pays for ever; states 2 and 3 are never seen."""
    rows = [[[0, 1, 0, 0], [1, 0, 0, 0]], [[0, 1, 0, 0]] * 2, [[0, 0, 0, 1]] * 2, [[0, 0, 1, 0]] * 2]
    return Problem(MDP.from_arrays(rows, [[0, 0], [1, 0], [5, 7], [-3, 2]], discount="0.9", initial=0))


def _ragged() -> Problem:
    """From a one may wait for 2/5 or leave for b, which pays 1 and leads back: (1 − γ) V(a) = γ / (1 + γ)."""
    rows = [["1", "0"], ["0", "1"], ["1", "0"]]
    rewards = ["2/5", "0", "1"]
    mdp = MDP.from_pairs(["a", "a", "b"], ["wait", "leave", "back"], rows, rewards, discount="0.9", initial="a",
                         states=["a", "b"], actions=["wait", "leave", "back"])  # fmt: skip
    return Problem(mdp)


def _average() -> Problem:
    return Problem(_toymaker().replace(discount=None), criterion="average")


def _periodic() -> Problem:
    mdp = MDP.from_arrays([[[0, 1], [0, 1]], [[1, 0], [1, 0]]], [["1", "0"], ["0", "0"]])
    return Problem(mdp, criterion="average")


def _total() -> Problem:
    """A step costs 1 and succeeds with probability 1/2, or costs 3 and succeeds for certain."""
    mdp = MDP.from_arrays([[["1/2", "1/2"], [0, 1]], [[0, 1], [0, 1]]], [[-1, -3], [0, 0]], initial=0)
    return Problem(mdp, criterion="total", goal=1)


def _limited(bound: float) -> Problem:
    return Problem(instances.get("machine-repair"), constraints={"wear": expected("wear") <= bound})


def _divergence() -> Problem:
    mdp = _bandit("0", "1", "2")
    return Problem(mdp, regularizer=KL(strength=1.0, reference=Policy.uniform(mdp)))


def _conditional() -> Problem:
    mdp = _bandit("0", "1", "2")
    return Problem(mdp, regularizer=ConditionalKL(strength=1.0, reference=Policy.uniform(mdp)))


def _entropy() -> Problem:
    return Problem(_bandit("0", "1", "2"), regularizer=PolicyEntropy(strength=1.0))


def _soft_maximum(weight: float) -> float:
    """The Gibbs variational principle with one state: log Σ w exp(r)."""
    return math.log(weight * (1 + math.e + math.e**2))


def _exploration() -> Problem:
    """Any state may be reached in one step."""
    mdp = MDP.from_arrays([[[float(a == t) for t in range(3)] for a in range(3)]] * 3, [[0] * 3] * 3, discount=0.5)
    return Problem(mdp, utility=StateEntropy())

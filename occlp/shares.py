"""Limits that are linear once they are multiplied out: shares within a state, and ratios of expectations."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import read_list
from occlp.atoms import Atom
from occlp.constraints import Constraint, LinearExpression, Relation, expected, read_bound
from occlp.errors import InvalidProblem
from occlp.model import MDP


class ConstraintList(list[Constraint]):
    """Several constraints made by one comparison."""

    def __bool__(self) -> NoReturn:
        raise InvalidProblem("constraints have no truth value; comparisons cannot be chained as a <= x <= b.")


@dataclass(frozen=True, eq=False)
class ConditionalShare:
    """The share of some actions among all that is done in a state, for one or several states.

    Comparing it with a number in [0, 1] gives a list of constraints, one a state; see `conditional`.

    Attributes
    ----------
    states : tuple of labels
    actions : label or collection of labels
    """

    states: tuple[Hashable, ...]
    actions: Any

    __array_ufunc__ = None

    def __le__(self, bound: object) -> ConstraintList:
        return self._limits("<=", bound)

    def __ge__(self, bound: object) -> ConstraintList:
        return self._limits(">=", bound)

    def __eq__(self, bound: object) -> ConstraintList:  # type: ignore[override]
        return self._limits("==", bound)

    __hash__ = None  # type: ignore[assignment]

    def _limits(self, relation: Relation, bound: object) -> ConstraintList:
        share = read_bound(bound)
        if not 0 <= share <= 1:
            raise InvalidProblem(f"a share within a state lies in [0, 1]; the bound {float(share):g} does not.")
        made = ConstraintList()
        for state in self.states:
            chosen = Atom("visits", ([state], self.actions), total=False)
            everything = Atom("visits", ([state], None), total=False)
            difference = LinearExpression(((Fraction(1), chosen), (-share, everything)))
            label = f"conditional({state!r}, {self.actions!r}) {relation} {float(share):g}"
            made.append(Constraint(difference, relation, Fraction(0), label))
        return made


@dataclass(frozen=True, eq=False)
class Ratio:
    """The ratio of two expectations; comparing it with a number makes a constraint. See `ratio`.

    Attributes
    ----------
    numerator, denominator : LinearExpression
    """

    numerator: LinearExpression
    denominator: LinearExpression

    __array_ufunc__ = None

    def __le__(self, bound: object) -> Constraint:
        return self._limit("<=", bound)

    def __ge__(self, bound: object) -> Constraint:
        return self._limit(">=", bound)

    def __eq__(self, bound: object) -> Constraint:  # type: ignore[override]
        return self._limit("==", bound)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> NoReturn:
        raise InvalidProblem("a ratio has no truth value; comparisons cannot be chained as a <= x <= b.")

    def __str__(self) -> str:
        return f"ratio({self.numerator}, {self.denominator})"

    def _limit(self, relation: Relation, bound: object) -> Constraint:
        value = read_bound(bound)
        difference = self.numerator - value * self.denominator
        label = f"{self} {relation} {float(value):g}"
        return Constraint(_Cleared(difference.terms, self.denominator), relation, Fraction(0), label)


@dataclass(frozen=True, eq=False)
class _Cleared(LinearExpression):
    """A ratio multiplied out, numerator − bound · denominator, which holds for a positive denominator only."""

    denominator: LinearExpression

    def coefficients(self, mdp: MDP, rest: float) -> FloatArray:
        """As in `LinearExpression`; raises `InvalidProblem` also where the denominator is negative."""
        below = self.denominator.coefficients(mdp, rest)
        worst = int(np.argmin(below))
        if below[worst] < 0:
            raise InvalidProblem(
                f"the denominator of a ratio must not be negative, but {self.denominator} is {below[worst]:g} in "
                f"{mdp.pairs.describe(worst)}. Write the limit without a ratio: numerator - bound * denominator <= 0."
            )
        if not below.any():
            raise InvalidProblem(f"the denominator {self.denominator} of a ratio is zero everywhere.")
        return super().coefficients(mdp, rest)


def conditional(states: Any, actions: Iterable[Hashable] | Hashable) -> ConditionalShare:
    """Return how often some actions are taken in a state, as a share of all decisions there.

    A limit ``conditional(s, a) <= p`` means d(s, a) ≤ p Σ_a d(s, a): one linear constraint a state, and
    none at all where the state is not visited. Its multiplier is that of this linear form; per unit of p
    the objective improves by the multiplier times the state's occupancy.

    Parameters
    ----------
    states : label or collection of labels
        A tuple is one label; give several states as a list (``mdp.states`` as ``list(mdp.states)``).
    actions : label or collection of labels

    Examples
    --------
    >>> import occlp as oc
    >>> [print(limit) for limit in oc.conditional(["new", "worn"], "repair") <= 0.3]
    conditional('new', 'repair') <= 0.3
    conditional('worn', 'repair') <= 0.3
    [None, None]
    """
    single = isinstance(states, str | tuple) or not isinstance(states, Iterable)
    listed = (states,) if single else tuple(read_list(states, "states"))
    if not listed:
        raise InvalidProblem("conditional() needs at least one state.")
    return ConditionalShare(listed, actions)


def ratio(numerator: LinearExpression | str | Any, denominator: LinearExpression | str | Any) -> Ratio:
    """Return the ratio of two expectations; a limit on it is linear: E[c1] − b E[c2] ≤ 0 for E[c1] / E[c2] ≤ b.

    The denominator must not be negative on any pair. A policy under which both vanish keeps the limit.
    The multiplier belongs to the linear form; per unit of b it has to be multiplied by E[c2].

    Parameters
    ----------
    numerator, denominator : LinearExpression, str or array [S, A]
        Names and arrays are read as by `expected`.

    Examples
    --------
    >>> import occlp as oc
    >>> print(oc.ratio("lost", oc.expected("stock")) <= 0.1)
    ratio(expected('lost'), expected('stock')) <= 0.1
    """
    above, below = (part if isinstance(part, LinearExpression) else expected(part) for part in (numerator, denominator))
    return Ratio(above, below)

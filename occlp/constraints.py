"""Questions to an occupancy: linear expressions such as ``oc.expected("wear")``, and limits on them.

An expression is linear in the occupancy; comparing it with a number makes a constraint, and so does
asking that a concave utility be at least a number. Nothing is checked against a model before a `Problem`
is made.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import is_number, read_fraction, read_list
from occlp.atoms import Atom, atom_of
from occlp.errors import InvalidProblem
from occlp.model import MDP
from occlp.model.exact import rounded_away, to_double

if TYPE_CHECKING:
    from occlp.model.exact import ExactNumbers

Relation: TypeAlias = Literal["<=", ">=", "=="]


@dataclass(frozen=True, eq=False)
class LinearExpression:
    """A linear function of the occupancy: sums and multiples of expectations and visits.

    Supports ``+``, ``-``, multiplication and division by numbers, and comparison with a number, which
    makes a `Constraint`. Two expressions cannot be compared with each other: move both to one side.
    Numbers may be text or fractions, "1/3" or "0.8", and are kept exactly.

    Attributes
    ----------
    terms : tuple of (Fraction, atom)
        Weights and the expectations or visits that they weigh.
    """

    terms: tuple[tuple[Fraction, Atom], ...]

    __array_ufunc__ = None  # numpy leaves products and comparisons with its numbers to this class

    def __add__(self, other: object) -> LinearExpression:
        if not isinstance(other, LinearExpression):
            return NotImplemented
        return LinearExpression(self.terms + other.terms)

    def __neg__(self) -> LinearExpression:
        return -1 * self

    def __sub__(self, other: object) -> LinearExpression:
        if not isinstance(other, LinearExpression):
            return NotImplemented
        return self + -other

    def __mul__(self, factor: object) -> LinearExpression:
        return self._scaled(factor, "multiplied") if is_number(factor) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: object) -> LinearExpression:
        return self._scaled(divisor, "divided") if is_number(divisor) else NotImplemented

    def _scaled(self, number: object, how: str) -> LinearExpression:
        """Multiply or divide by a number, exactly; raises `InvalidProblem` where no double comes near the result."""
        factor = read_fraction(number, "a factor of an expression")
        if isinstance(factor, float) or (how == "divided" and not factor):
            raise InvalidProblem(f"an expression cannot be {how} by {number}.")
        scaled = [(weight * factor if how == "multiplied" else weight / factor, atom) for weight, atom in self.terms]
        if not all(math.isfinite(to_double(weight)) for weight, _ in scaled):
            raise InvalidProblem(f"an expression {how} by {number} is beyond the range of doubles.")
        return LinearExpression(tuple(scaled))

    def __le__(self, bound: object) -> Constraint:
        return Constraint(self, "<=", read_bound(bound))

    def __ge__(self, bound: object) -> Constraint:
        return Constraint(self, ">=", read_bound(bound))

    def __eq__(self, bound: object) -> Constraint:  # type: ignore[override]
        return Constraint(self, "==", read_bound(bound))

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> NoReturn:
        raise InvalidProblem("an expression has no truth value; comparisons cannot be chained as a <= x <= b.")

    def __str__(self) -> str:
        parts = []
        for weight, atom in self.terms:
            factor = "" if abs(weight) == 1 else f"{float(abs(weight)):g}*"
            parts.append(f"{'-' if weight < 0 else '+'} {factor}{atom}")
        text = " ".join(parts)
        return text.removeprefix("+ ")

    def coefficients(self, mdp: MDP, rest: float) -> FloatArray:
        """One coefficient a pair, [pairs]; the expression is their sum weighted by the occupancy.

        Raises `InvalidProblem` for a name, label or shape that the model does not know.
        """
        total = np.zeros(mdp.n_pairs)
        for weight, atom in self.terms:
            if atom.total and rest == 0:
                raise InvalidProblem(f"{atom} is infinite under the average criterion; use expected() per step.")
            total += float(weight) * atom.coefficients(mdp) / (rest if atom.total else 1.0)
        return total

    def total_part(self, mdp: MDP) -> FloatArray:
        """The part of the coefficients that `coefficients` divides by 1 − γ, before the division, [pairs]."""
        parts = [float(weight) * atom.coefficients(mdp) for weight, atom in self.terms if atom.total]
        return np.asarray(sum(parts, start=np.zeros(mdp.n_pairs)))

    def fractions(self, mdp: MDP, numbers: ExactNumbers, rest: Fraction) -> list[Fraction]:
        """Return the coefficients [pairs] in exact arithmetic; doubles are the dyadic rationals that they are."""
        total = [Fraction(0)] * mdp.n_pairs
        for weight, atom in self.terms:
            factor = weight / rest if atom.total else weight
            total = [before + factor * own for before, own in zip(total, atom.fractions(mdp, numbers), strict=True)]
        return total

    def beyond_doubles(self, mdp: MDP) -> list[str]:
        """The numbers of the expression that are no doubles, as text, for fingerprints."""
        found = [text for _, atom in self.terms for text in atom.beyond_doubles(mdp)]
        return rounded_away("weight", (weight for weight, _ in self.terms)) + found

    @property
    def name(self) -> str | None:
        """The cost's name when the expression is one named expectation, unscaled; else None."""
        if len(self.terms) == 1 and self.terms[0][0] == 1 and self.terms[0][1].kind == "name":
            return str(self.terms[0][1].what)
        return None


class _Bounded:
    """What constraints of both kinds have: a bound, and no truth value."""

    exact_bound: Fraction

    @property
    def bound(self) -> float:
        """The double next to the bound."""
        return float(self.exact_bound)

    def __bool__(self) -> NoReturn:
        raise InvalidProblem("a constraint has no truth value; comparisons cannot be chained as a <= x <= b.")


@dataclass(frozen=True, eq=False)
class Constraint(_Bounded):
    """A limit on a linear expression of the occupancy.

    Attributes
    ----------
    expression : LinearExpression
    relation : {"<=", ">=", "=="}
    exact_bound : Fraction
        The bound as it was written: a double is the dyadic rational that it is, "4/5" and "0.8" are four fifths.
    bound : float
        The double next to it.
    label : str, optional
        How the limit was written, where it was multiplied out to become linear.
    """

    expression: LinearExpression
    relation: Relation
    exact_bound: Fraction
    label: str | None = None

    @property
    def name(self) -> str | None:
        """The cost's name where the expression is one named expectation, which names the constraint in a list."""
        return self.expression.name

    def in_numbers(self, mdp: MDP, rest: float) -> Constraint:
        """The same limit with the model's numbers written out: it holds still where rewards or costs are replaced."""
        table = mdp.pairs.table(self.expression.coefficients(mdp, rest), 0.0)
        return Constraint(expected(table), self.relation, self.exact_bound, str(self))

    def __str__(self) -> str:
        return self.label or f"{self.expression} {self.relation} {self.bound:g}"


@dataclass(frozen=True, eq=False)
class ConcaveConstraint(_Bounded):
    """A lower limit on a concave utility of the occupancy, ``oc.StateEntropy() >= 1.5``; its policies are convex.

    Attributes
    ----------
    utility : ConcaveUtility
    exact_bound : Fraction
    bound : float
        The double next to it.
    """

    utility: Any
    exact_bound: Fraction

    @property
    def relation(self) -> Relation:
        """Always ">=": the other sides are not convex."""
        return ">="

    @property
    def name(self) -> str:
        """The utility's name, which names the constraint in a list."""
        return type(self.utility).__name__

    def in_numbers(self, mdp: MDP, rest: float) -> ConcaveConstraint:
        """The same limit with the model's numbers written out: it holds still where rewards or costs are replaced."""
        return ConcaveConstraint(self.utility.in_numbers(mdp), self.exact_bound)

    def __str__(self) -> str:
        return f"{self.name} >= {self.bound:g}"


#: What `Problem` takes as a constraint.
Limit: TypeAlias = Constraint | ConcaveConstraint


def expected(what: str | Any) -> LinearExpression:
    """Return the expectation of a cost per step, Σ d(s, a) c(s, a), as an expression.

    Parameters
    ----------
    what : str or array [S, A]
        "reward", the name of a cost of the model, or numbers of your own (entries of pairs that do not
        exist are ignored), which may be written in fractions.

    Examples
    --------
    >>> import occlp as oc
    >>> print(oc.expected("wear") + 2 * oc.expected("reward") <= 0.25)
    expected('wear') + 2*expected('reward') <= 0.25

    Text and fractions are kept exactly, for ``certify="exact"``:

    >>> (oc.expected("wear") <= "1/3").exact_bound
    Fraction(1, 3)
    """
    return LinearExpression(((Fraction(1), atom_of(what, total=False)),))


def expected_total(what: str | Any) -> LinearExpression:
    """Return the expectation on the return scale, Σ d(s, a) c(s, a) / (1 − γ).

    Parameters
    ----------
    what : str or array [S, A]
        As in `expected`.
    """
    return LinearExpression(((Fraction(1), atom_of(what, total=True)),))


def visits(
    states: Iterable[Hashable] | Hashable | None = None, actions: Iterable[Hashable] | Hashable | None = None
) -> LinearExpression:
    """Return the expected discounted visits of a set of pairs, as in ``result.visits``: occupancy / (1 − γ).

    Parameters
    ----------
    states, actions : label or collection of labels, optional
        Pairs whose state and action are among these; None means all.
    """
    if states is None and actions is None:
        raise InvalidProblem("visits() needs states=, actions= or both: all pairs together are always 1/(1 − γ).")
    return LinearExpression(((Fraction(1), Atom("visits", (states, actions), total=True)),))


def name_constraints(
    constraints: Mapping[str, Limit | Sequence[Limit]] | Sequence[Limit | Sequence[Limit]] | None,
) -> dict[str, Limit]:
    """Name constraints: the keys of a mapping; in a list the cost's or utility's name, or the text of the constraint.

    A list in the place of a constraint stands for all that it holds; under a key, each of several is
    named by the key and its own text.

    Raises `InvalidProblem` for a clash of names and for anything that is not a constraint.
    """
    if constraints is None:
        return {}
    named: dict[str, Limit] = {}
    for name, constraint in _named(constraints):
        if name in named:
            raise InvalidProblem(f"two constraints are called {name!r}. Give a dict with a name for each.")
        named[name] = constraint
    return named


def _named(constraints: Any) -> list[tuple[str, Limit]]:
    if not isinstance(constraints, Iterable):
        raise InvalidProblem("constraints= takes a list or a dict: write [constraint].")
    if not isinstance(constraints, Mapping):
        return [(c.name or str(c), c) for c in _flat(read_list(constraints, "constraints="))]
    items = []
    for key, value in constraints.items():
        inside = _flat(value)
        items += [(str(key) if len(inside) == 1 else f"{key}: {one}", one) for one in inside]
    return items


def _flat(given: Any) -> list[Limit]:
    """All constraints of a list that may hold lists."""
    if isinstance(given, list | tuple):
        return [constraint for part in given for constraint in _flat(part)]
    if not isinstance(given, Constraint | ConcaveConstraint):
        shown = str(given) if isinstance(given, LinearExpression) else repr(given)
        raise InvalidProblem(f"{shown} is not a constraint. Write oc.expected('wear') <= 0.25, for example.")
    return [given]


def read_bound(bound: object) -> Fraction:
    """Return a bound exactly, as `read_fraction` does; raises `InvalidProblem` for anything but a finite number."""
    if isinstance(bound, LinearExpression):
        raise InvalidProblem("compare an expression with a number: write a - b <= 0 for a <= b.")
    if not is_number(bound):
        raise InvalidProblem(f"the bound {bound!r} is not a number.")
    value = read_fraction(bound, "the bound")
    if isinstance(value, float):
        raise InvalidProblem(f"the bound {value} is not finite. Leave a constraint out to have no limit.")
    return value

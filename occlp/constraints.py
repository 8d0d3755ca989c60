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
from occlp.arguments import read_list, read_numbers
from occlp.errors import InvalidProblem
from occlp.model import MDP
from occlp.model.exact import to_double

if TYPE_CHECKING:
    from occlp.model.exact import ExactNumbers

Relation: TypeAlias = Literal["<=", ">=", "=="]


@dataclass(frozen=True, eq=False)
class Atom:
    """One linear functional of the occupancy: a named cost, an [S, A] array, or an indicator of pairs."""

    kind: Literal["name", "array", "visits"]
    what: Any
    total: bool  # on the return scale, divided by 1 − γ

    def __str__(self) -> str:
        inside = {"name": repr(self.what), "array": "array"}.get(self.kind)
        if inside is not None:
            return f"expected{'_total' if self.total else ''}({inside})"
        states, actions = self.what
        listed = [f"states={states!r}"] * (states is not None) + [f"actions={actions!r}"] * (actions is not None)
        return f"{'visits' if self.total else 'share'}({', '.join(listed)})"


@dataclass(frozen=True, eq=False)
class LinearExpression:
    """A linear function of the occupancy: sums and multiples of expectations and visits.

    Supports ``+``, ``-``, multiplication and division by numbers, and comparison with a number, which
    makes a `Constraint`. Two expressions cannot be compared with each other: move both to one side.

    Attributes
    ----------
    terms : tuple of (float, atom)
        Weights and the expectations or visits that they weigh.
    """

    terms: tuple[tuple[float, Atom], ...]

    __array_ufunc__ = None  # numpy leaves products and comparisons with its numbers to this class

    def __add__(self, other: object) -> LinearExpression:
        if not isinstance(other, LinearExpression):
            return NotImplemented
        return LinearExpression(self.terms + other.terms)

    def __neg__(self) -> LinearExpression:
        return -1.0 * self

    def __sub__(self, other: object) -> LinearExpression:
        if not isinstance(other, LinearExpression):
            return NotImplemented
        return self + -other

    def __mul__(self, factor: object) -> LinearExpression:
        if isinstance(factor, bool) or not isinstance(factor, int | float | np.number):
            return NotImplemented
        number = to_double(factor)
        if not math.isfinite(number):
            raise InvalidProblem(f"an expression cannot be multiplied by {number}.")
        return LinearExpression(tuple((number * weight, atom) for weight, atom in self.terms))

    __rmul__ = __mul__

    def __truediv__(self, divisor: object) -> LinearExpression:
        if isinstance(divisor, bool) or not isinstance(divisor, int | float | np.number):
            return NotImplemented
        number = to_double(divisor)
        if number == 0 or not math.isfinite(number):
            raise InvalidProblem(f"an expression cannot be divided by {number}.")
        return self * (1.0 / number)

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
            factor = "" if abs(weight) == 1 else f"{abs(weight):g}*"
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
            total += weight * _coefficients(atom, mdp) / (rest if atom.total else 1.0)
        return total

    def total_part(self, mdp: MDP) -> FloatArray:
        """The part of the coefficients that `coefficients` divides by 1 − γ, before the division, [pairs]."""
        parts = [weight * _coefficients(atom, mdp) for weight, atom in self.terms if atom.total]
        return np.asarray(sum(parts, start=np.zeros(mdp.n_pairs)))

    def fractions(self, mdp: MDP, numbers: ExactNumbers, rest: Fraction) -> list[Fraction]:
        """Return the coefficients [pairs] in exact arithmetic; weights and arrays are the dyadic rationals they are."""
        total = [Fraction(0)] * mdp.n_pairs
        for weight, atom in self.terms:
            factor = Fraction(weight) / rest if atom.total else Fraction(weight)
            known: Mapping[str, Sequence[Fraction]] = {"reward": numbers.rewards, **numbers.costs}
            own = known[atom.what] if atom.kind == "name" else map(Fraction, _coefficients(atom, mdp).tolist())
            total = [before + factor * number for before, number in zip(total, own, strict=True)]
        return total

    @property
    def name(self) -> str | None:
        """The cost's name when the expression is one named expectation, unscaled; else None."""
        if len(self.terms) == 1 and self.terms[0][0] == 1.0 and self.terms[0][1].kind == "name":
            return str(self.terms[0][1].what)
        return None


@dataclass(frozen=True, eq=False)
class Constraint:
    """A limit on a linear expression of the occupancy.

    Attributes
    ----------
    expression : LinearExpression
    relation : {"<=", ">=", "=="}
    bound : float
    label : str, optional
        How the limit was written, where it was multiplied out to become linear.
    """

    expression: LinearExpression
    relation: Relation
    bound: float
    label: str | None = None

    @property
    def name(self) -> str | None:
        """The cost's name where the expression is one named expectation, which names the constraint in a list."""
        return self.expression.name

    def in_numbers(self, mdp: MDP, rest: float) -> Constraint:
        """The same limit with the model's numbers written out: it holds still where rewards or costs are replaced."""
        table = mdp.pairs.table(self.expression.coefficients(mdp, rest), 0.0)
        return Constraint(expected(table), self.relation, self.bound, str(self))

    def __bool__(self) -> NoReturn:
        raise InvalidProblem("a constraint has no truth value; comparisons cannot be chained as a <= x <= b.")

    def __str__(self) -> str:
        return self.label or f"{self.expression} {self.relation} {self.bound:g}"


@dataclass(frozen=True, eq=False)
class ConcaveConstraint:
    """A lower limit on a concave utility of the occupancy, ``oc.StateEntropy() >= 1.5``; its policies are convex.

    Attributes
    ----------
    utility : ConcaveUtility
    bound : float
    """

    utility: Any
    bound: float

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
        return ConcaveConstraint(self.utility.in_numbers(mdp), self.bound)

    def __bool__(self) -> NoReturn:
        raise InvalidProblem("a constraint has no truth value; comparisons cannot be chained as a <= x <= b.")

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
        exist are ignored).

    Examples
    --------
    >>> import occlp as oc
    >>> print(oc.expected("wear") + 2 * oc.expected("reward") <= 0.25)
    expected('wear') + 2*expected('reward') <= 0.25
    """
    return LinearExpression(((1.0, _atom(what, total=False)),))


def expected_total(what: str | Any) -> LinearExpression:
    """Return the expectation on the return scale, Σ d(s, a) c(s, a) / (1 − γ).

    Parameters
    ----------
    what : str or array [S, A]
        As in `expected`.
    """
    return LinearExpression(((1.0, _atom(what, total=True)),))


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
    return LinearExpression(((1.0, Atom("visits", (states, actions), total=True)),))


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


def read_bound(bound: object) -> float:
    """Return a bound as a number; raises `InvalidProblem` for anything but a finite one."""
    if isinstance(bound, LinearExpression):
        raise InvalidProblem("compare an expression with a number: write a - b <= 0 for a <= b.")
    if isinstance(bound, bool) or not isinstance(bound, int | float | np.number):
        raise InvalidProblem(f"the bound {bound!r} is not a number.")
    value = to_double(bound)
    if not math.isfinite(value):
        raise InvalidProblem(f"the bound {value} is not finite. Leave a constraint out to have no limit.")
    return value


def _atom(what: Any, *, total: bool) -> Atom:
    if isinstance(what, str):
        return Atom("name", what, total)
    array = read_numbers(what, "expected()")
    if array.ndim != 2:
        raise InvalidProblem(f"expected() takes the name of a cost or an [S, A] array, not shape {list(array.shape)}.")
    return Atom("array", array, total)


def _coefficients(atom: Atom, mdp: MDP) -> FloatArray:
    pairs = mdp.pairs
    if atom.kind == "visits":
        states, actions = atom.what
        return pairs.select(states, actions).astype(np.float64)
    if atom.kind == "array":
        if atom.what.shape != (mdp.n_states, mdp.n_actions):
            raise InvalidProblem(
                f"an array in expected() is [S, A] = [{mdp.n_states}, {mdp.n_actions}], not {list(atom.what.shape)}."
            )
        values: FloatArray = atom.what[pairs.states, pairs.actions]
        if not np.isfinite(values).all():
            pair = int(np.flatnonzero(~np.isfinite(values))[0])
            raise InvalidProblem(f"the array in expected() holds {values[pair]} at {pairs.describe(pair)}.")
        return values
    if atom.what == "reward":
        return mdp.pair_rewards
    if atom.what not in mdp.pair_costs:
        known = ", ".join(map(repr, ["reward", *mdp.pair_costs]))
        raise InvalidProblem(f"the model has no cost {atom.what!r}. It has {known}.")
    return mdp.pair_costs[atom.what]

"""What linear expressions are made of: one cost, one table of numbers or one set of pairs each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from occlp._typing import AnyArray, FloatArray
from occlp.arguments import read_exact_numbers, read_numbers
from occlp.errors import InvalidProblem
from occlp.model import MDP
from occlp.model.exact import rounded_away, to_floats

if TYPE_CHECKING:
    from occlp.model.exact import ExactNumbers


@dataclass(frozen=True, eq=False)
class Atom:
    """One linear functional of the occupancy.

    Attributes
    ----------
    kind : {"name", "array", "visits"}
        A named cost, an [S, A] array, or an indicator of pairs.
    what : str, FloatArray [S, A], or (states, actions)
    total : bool
        On the return scale, divided by 1 − γ.
    exact : array of Fraction [S, A], optional
        The numbers of an array that was written in fractions.
    """

    kind: Literal["name", "array", "visits"]
    what: Any
    total: bool
    exact: AnyArray | None = None

    def __str__(self) -> str:
        inside = {"name": repr(self.what), "array": "array"}.get(self.kind)
        if inside is not None:
            return f"expected{'_total' if self.total else ''}({inside})"
        states, actions = self.what
        listed = [f"states={states!r}"] * (states is not None) + [f"actions={actions!r}"] * (actions is not None)
        return f"{'visits' if self.total else 'share'}({', '.join(listed)})"

    def coefficients(self, mdp: MDP) -> FloatArray:
        """One number a pair, [pairs], before the division by 1 − γ.

        Raises `InvalidProblem` for a name, label or shape that the model does not know.
        """
        pairs = mdp.pairs
        if self.kind == "visits":
            states, actions = self.what
            return pairs.select(states, actions).astype(np.float64)
        if self.kind == "array":
            return _of_pairs(mdp, self.what)
        if self.what == "reward":
            return mdp.pair_rewards
        if self.what not in mdp.pair_costs:
            known = ", ".join(map(repr, ["reward", *mdp.pair_costs]))
            raise InvalidProblem(f"the model has no cost {self.what!r}. It has {known}.")
        return mdp.pair_costs[self.what]

    def fractions(self, mdp: MDP, numbers: ExactNumbers) -> Sequence[Fraction]:
        """The same in exact arithmetic, [pairs]; doubles are the dyadic rationals that they are."""
        if self.kind == "name":
            known: Mapping[str, Sequence[Fraction]] = {"reward": numbers.rewards, **numbers.costs}
            return known[self.what]
        if self.exact is not None:
            return self._own(self.exact, mdp)
        return [Fraction(number) for number in self.coefficients(mdp).tolist()]

    def _own(self, exact: AnyArray, mdp: MDP) -> list[Fraction]:
        """The entries of the table that belong to pairs, [pairs]."""
        own: list[Fraction] = exact[mdp.pairs.states, mdp.pairs.actions].tolist()
        return own

    def beyond_doubles(self, mdp: MDP) -> list[str]:
        """Its numbers that are no doubles, with their places, as text; those of costs are the model's."""
        if self.kind == "name":
            return (
                [] if mdp.exact is None or self.what == "reward" else rounded_away("cost", mdp.exact.costs[self.what])
            )
        return [] if self.exact is None else rounded_away("table", self._own(self.exact, mdp))


def atom_of(what: Any, *, total: bool) -> Atom:
    """Read what an expectation is of: a name, or an [S, A] array of numbers, which may be written in fractions."""
    if isinstance(what, str):
        return Atom("name", what, total)
    exact = read_exact_numbers(what, "the array in expected()")
    array = read_numbers(what, "expected()") if exact is None else to_floats(exact)
    if array.ndim != 2:
        raise InvalidProblem(f"expected() takes the name of a cost or an [S, A] array, not shape {list(array.shape)}.")
    return Atom("array", array, total, exact)


def _of_pairs(mdp: MDP, table: FloatArray) -> FloatArray:
    """The finite entries of an [S, A] array that belong to pairs, [pairs]."""
    pairs = mdp.pairs
    if table.shape != (mdp.n_states, mdp.n_actions):
        raise InvalidProblem(
            f"an array in expected() is [S, A] = [{mdp.n_states}, {mdp.n_actions}], not {list(table.shape)}."
        )
    values: FloatArray = table[pairs.states, pairs.actions]
    if not np.isfinite(values).all():
        pair = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InvalidProblem(f"the array in expected() holds {values[pair]} at {pairs.describe(pair)}.")
    return values

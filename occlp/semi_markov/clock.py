"""A change of time: the numbers of an embedded model become those of a model with equally long steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, frozen
from occlp.errors import InvalidModel
from occlp.model import MDP, arrays
from occlp.model.checks import Start
from occlp.model.exact import to_floats, to_fractions
from occlp.model.mdp import from_rows
from occlp.model.unrolling import WholeRows
from occlp.semi_markov.process import SemiMarkov


@dataclass(frozen=True, eq=False)
class Given:
    """Numbers of the pairs, [pairs], or of each transition, [nnz]; doubles or fractions."""

    values: AnyArray
    of_transitions: bool = False

    def map(self, function: Callable[[AnyArray], AnyArray]) -> Given:
        """The same with other numbers."""
        return Given(function(self.values), self.of_transitions)


@dataclass(frozen=True, eq=False)
class Clock:
    """The numbers of an embedded model, as doubles or as fractions, and what a change of time makes of them."""

    embedded: MDP
    rows: WholeRows
    exact: bool

    def numbers(self, values: AnyArray) -> AnyArray:
        """Doubles or fractions, as everything else here."""
        if self.exact:
            return values if values.dtype == object else to_fractions(values, "")
        return to_floats(values) if values.dtype == object else values

    @property
    def lines(self) -> AnyArray:
        """Pair of each transition, [nnz]."""
        lines: AnyArray = np.repeat(np.arange(self.embedded.n_pairs), np.diff(self.rows.matrix.indptr))
        return lines

    @property
    def away(self) -> AnyArray:
        """Transitions that leave the state, [nnz]."""
        away: AnyArray = self.rows.matrix.indices != self.embedded.pairs.states[self.lines]
        return away

    @property
    def probabilities(self) -> AnyArray:
        """Q, [nnz]."""
        return self.numbers(self.rows.matrix.data if self.rows.exact is None else self.rows.exact)

    def sums(self, entries: AnyArray) -> AnyArray:
        """Sum numbers of transitions over each pair, [pairs]."""
        found: AnyArray = np.add.reduceat(entries, self.rows.matrix.indptr[:-1])
        return found

    def expected(self, given: Given) -> AnyArray:
        """Expectation over the next state where numbers are per transition, [pairs]."""
        if given.of_transitions:
            return self.sums(self.probabilities * self.numbers(given.values))
        return self.numbers(given.values)

    def entries(self, given: Given) -> AnyArray:
        """One number for each transition, [nnz]."""
        found: AnyArray = self.numbers(given.values)
        return found if given.of_transitions else found[self.lines]

    def number(self, value: Any) -> Any:
        """One double or fraction."""
        return Fraction(value) if self.exact else float(value)

    def average(self, times: AnyArray, accrued: Mapping[str, AnyArray]) -> SemiMarkov:
        """Steps of a length that makes no probability of staying negative; payments per unit of time."""
        leaving = self.sums(np.where(self.away, self.probabilities, self.number(0)))
        fastest = (leaving / times).max()
        step = 1 / fastest if fastest > 0 else times.min()
        if not self.exact:
            step *= 1 - 2.0**-50  # what rounding may add
        moves = self.probabilities * (step / times)[self.lines]
        earned = {name: value * times for name, value in accrued.items()}
        return self._changed(1 / times, step, moves, None, earned)

    def discounted(self, discounts: Given, rests: Given, alpha: Any, accrued: Mapping[str, AnyArray]) -> SemiMarkov:
        """Steps that discount as much as they can, so that no probability of staying is negative."""
        kernel = self.probabilities * self.entries(discounts)
        rest = self.sums(self.probabilities * self.entries(rests))
        leaving = rest + self.sums(np.where(self.away, kernel, self.number(0)))
        step = (rest / leaving).min()
        discount = 1 - step
        if not self.exact and discount > 0:
            discount = min(float(discount) * (1 + 2.0**-50) + 2.0**-53, 1.0)
            step = 1 - discount  # exact: the same 1 − γ everywhere
        if float(discount) == 1.0:
            raise InvalidModel("the discounts of the sojourns are so near 1 that no double lies between.")
        weights = step / rest
        moves = kernel * weights[self.lines] / (discount or 1)  # nothing moves where γ = 0
        earned = {name: value * rest / self.number(alpha) for name, value in accrued.items()}
        return self._changed(weights, step, moves, discount, earned)

    def _changed(
        self, weights: AnyArray, step: Any, moves: AnyArray, discount: Any, earned: Mapping[str, AnyArray]
    ) -> SemiMarkov:
        """Put the model together from its moves away, [nnz]; staying takes the rest."""
        mdp, away, matrix = self.embedded, self.away, self.rows.matrix
        staying = 1 - self.sums(np.where(away, moves, self.number(0)))
        if not self.exact:
            staying = np.maximum(staying, 0.0)
        lines = np.append(self.lines[away], np.arange(mdp.n_pairs))
        columns = np.append(matrix.indices[away], mdp.pairs.states)
        entries = np.append(moves[away], staying)
        order = np.lexsort((columns, lines))
        order = order[entries[order] > 0]
        entries = entries[order]
        indptr = np.append(0, np.cumsum(np.bincount(lines[order], minlength=mdp.n_pairs)))
        floats = to_floats(entries) if self.exact else entries
        rows = arrays.Rows(
            mdp.pairs.states, mdp.pairs.actions, sparse.csr_array((floats, columns[order], indptr), shape=matrix.shape),
            entries if self.exact else None, mdp.n_actions, None,
        )  # fmt: skip
        names = dict.fromkeys(["reward", *mdp.pair_costs, *earned])
        paid = {name: weights * (self._payments(name) + earned.get(name, 0 * weights)) for name in names}
        start = Start(mdp.initial, mdp.exact.initial if self.exact and mdp.exact is not None else None)
        changed = from_rows(
            rows, paid.pop("reward"), costs=paid, initial=start, discount=discount,
            states=mdp.pairs.state_labels, actions=mdp.pairs.action_labels,
        )  # fmt: skip
        each = to_floats(weights) if self.exact else weights
        return SemiMarkov(changed, mdp, frozen(each), float(step))

    def _payments(self, name: str) -> AnyArray:
        known = name == "reward" or name in self.embedded.pair_costs
        return self.numbers(column(self.embedded, name) if known else np.zeros(self.embedded.n_pairs))


def column(mdp: MDP, name: str) -> AnyArray:
    """Rewards or a cost, [pairs], as fractions where the model has them."""
    if mdp.exact is not None:
        return np.array(mdp.exact.rewards if name == "reward" else mdp.exact.costs[name], dtype=object)
    return mdp.pair_rewards if name == "reward" else mdp.pair_costs[name]

"""Column generation for constrained problems: which prices are tried, which policies become columns, when it is done.

Far from the optimum a column is what some sweeps make of the prices; near it, what the local model of the last
policy says by itself (a step of Newton's method, with the randomisation that the constraints need). Either way the
policy of the sweeps is all but optimal at its prices, and so proves a bound: the gap is honest from the beginning.
Where that makes no progress, an ordinary MDP is solved to its end, as Dantzig and Wolfe do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from occlp._typing import AnyArray, FloatArray, IntArray
from occlp.bounds.upper import bound_above
from occlp.certificate import to_multipliers
from occlp.chains.chain import relative_values
from occlp.model import Pairs
from occlp.policy import Policy
from occlp.solvers.approach import approach
from occlp.solvers.base import InfeasibleProof, Iterate, SolverFailure
from occlp.solvers.concave_program import ConcaveProgram, program_for
from occlp.solvers.expansion import expand
from occlp.solvers.joining import joined_policy
from occlp.solvers.local_model import LocalModel, Response
from occlp.solvers.mixture_program import Mixture, MixtureProgram
from occlp.solvers.policy_iteration import ROUNDS, solve_rewards, with_rewards
from occlp.standard import StandardForm

#: Share of the states in which sweeps may disagree with the local model where it is trusted.
NEAR = 1e-3
#: Steps in which the gap is to halve; else an MDP is solved to its end.
PATIENCE = 8
#: Sizes of the prices within which bound and mixture count as equal.
ROUNDING = 1e-13
#: Further columns that are tried when bound and mixture are equal within rounding.
MOST_CLOSED = 3
#: By how much the penalty of a violation grows, and from where on it must be known that there is a feasible mixture.
DEARER, DEAREST = 4.0, 5000.0
#: A penalty beyond which no price is known to any digit.
ENDLESS = 1e15
#: Relaxations known this well are named in a proof that the constraints cannot be kept.
TIGHT = 1e-9


@dataclass(frozen=True, eq=False)
class _Column:
    """The occupancy of a policy, where it is not zero."""

    pairs: AnyArray
    mass: FloatArray


@dataclass(frozen=True, eq=False)
class _Bound:
    """A bound on the priced objective of all policies and the values that prove it."""

    value: float
    high: FloatArray  # [S]
    low: FloatArray | None  # [S]
    weights: FloatArray  # [1 + k]: of the objective, and minus the prices
    concave: FloatArray  # prices of the limits that are not linear


class ColumnGeneration:
    """Columns and the program over them, with the penalty of a violation that is in force.

    Attributes
    ----------
    weight : float
        Of the objective: 1, or 0 while only the constraints count.
    mixture : Mixture
        The best mixture of the columns.
    """

    def __init__(self, form: StandardForm, pairs: Pairs) -> None:
        self.expansion = expand(form)
        self.form, self.pairs = self.expansion.form, pairs
        self.weight, self.penalty = 1.0, 1.0
        self._columns: list[_Column] = []
        self._measures: list[FloatArray] = []
        self._program = program_for(self.expansion, self.penalty)
        self._bound, self._waited, self._last_gap, self._closed = _nothing(self.form), 0, np.inf, 0
        self._feasible, self._near = False, False
        self._choices: list[IntArray] = []  # the last that were good together

    def begin(self, policy: Policy | None) -> None:
        """Add the first column: a policy known to be good, or what sweeps make of the rewards alone."""
        if policy is None:
            _, policy, _ = approach(self.form, self.pairs, np.zeros(self.form.n_states), ROUNDS)
        self._add(LocalModel(self.form, policy))

    def advance(self) -> bool:
        """Add a column; False where none improves the mixture, and it keeps the constraints."""
        model = self._model
        if self._is_closed():
            return self.is_broken and self.weight > 0 and self._raise_penalty()
        if self.form.rest == 0 or not len(self.form.limits.names):
            return self._solve_priced()
        program = self._program.alone(self.weight, self.penalty) if self._near else self._program
        response = self._respond(program)
        # The penalty is what keeps the mixture infeasible: the model gains less than it pays.
        missing = response.mixture.level - self.mixture.level
        if self.is_broken and self.weight > 0 and missing <= 0.5 * self.penalty * self.mixture.excess:
            self._raise_penalty()
        policy = self._next_policy(response) if self._is_progressing() else None
        if policy is None:
            return self._solve_priced()
        self._add(LocalModel(self.form, policy, model))
        if not self._near:  # what sweeps have made of the prices is all but the best there: a bound for nothing
            weights = self._weights(response.mixture)
            top = self._model.select(weights)[2]
            self._note(top, weights, response.mixture, weights @ self._model.values)
        return True

    def _is_progressing(self) -> bool:
        """Whether the gap has halved in the last steps."""
        gap = self._bound.value - self.mixture.level
        self._waited = 0 if gap <= 0.5 * self._last_gap else self._waited + 1
        self._last_gap = gap if self._waited == 0 else self._last_gap
        if self._waited < PATIENCE:
            return True
        self._waited = 0
        return False

    def reach_feasibility(self, most: int) -> None:
        """Add columns until some mixture keeps the constraints; raise a proof where none can."""
        penalty = self.penalty
        self._reprice(0.0, 1.0)
        bare = replace(self.expansion.original, rewards=np.zeros(self.form.n_pairs), term=None)
        for _ in range(most):
            if not self.is_broken:
                break
            gained = self.advance()
            found = self._bound
            prices, slopes = self._original_prices(found)
            bound = bound_above(bare, (found.high, found.low), prices, self._occupancy(), slopes)
            if bound.value < 0 and (bound.value - self.mixture.level <= TIGHT or not gained):
                raise InfeasibleProof(bound, self._policy_of(self._occupancy()))
            if not gained:
                break
        else:
            raise SolverFailure(f"feasibility was not decided with {most} policies.")
        self._feasible = True
        self._reprice(1.0, penalty)

    def iterate(self) -> Iterate:
        """The mixture as one stationary policy, with the best bound's values and prices."""
        form, bound = self.expansion.original, self._bound
        factor = form.sign * form.scale * self.expansion.size
        occupancy = self._occupancy()
        prices, slopes = self._original_prices(bound)
        return Iterate(
            self._policy_of(occupancy),
            values=factor * bound.high,
            values_low=None if bound.low is None else factor * bound.low,
            multipliers=to_multipliers(form, self.expansion.size * prices),
            slopes=slopes,
            state_occupancy=np.add.reduceat(occupancy, form.start[:-1]),
        )

    def _original_prices(self, bound: _Bound) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Prices of the constraints as they were asked for, and slopes of those that are not linear."""
        prices = self.form.limits.feasible_prices(-bound.weights[1:])
        return self.expansion.prices(prices, bound.concave), self.expansion.slopes(prices, bound.concave)

    def _occupancy(self) -> FloatArray:
        """The occupancy of the mixture, [pairs]."""
        occupancy = np.zeros(self.form.n_pairs)
        for weight, column in zip(self.mixture.weights, self._columns, strict=True):
            if weight > 0:
                occupancy[column.pairs] += weight * column.mass
        return occupancy

    def _policy_of(self, occupancy: FloatArray) -> Policy:
        return joined_policy(self.form, occupancy, self._model.policy)

    def _add(self, model: LocalModel) -> None:
        used = np.flatnonzero(model.occupancy)
        self._columns.append(_Column(used.astype(np.int32), model.occupancy[used]))
        self._measures.append(model.measures)
        self._program.add(self.weight * model.measures[0], model.measures[1:])
        self._model, self.mixture = model, self._program.solve()

    def _next_policy(self, response: Response) -> Policy | None:
        """The policy to evaluate next: of the sweeps, or of the model where they agree; None where it is the last."""
        model, mixture = self._model, response.mixture
        weights = self._weights(mixture)
        form, size = with_rewards(self.form, self._priced(weights))
        values, policy, chain = approach(form, self.pairs, weights @ model.values / size, ROUNDS)
        worse = model.is_worse(policy.choice, weights)
        near, self._near = self._near, int(worse.sum()) <= NEAR * form.n_states + len(mixture.prices)
        if not self._near:
            return policy
        # Prices are now right to some digits; what they prove would lack them where the model's values are the proof.
        found = relative_values(chain, values)
        proved = size * bound_above(form, (found.high, found.low)).value
        self._note(proved, weights, mixture, size * found.high, size * found.low)
        alone = response
        if not near:
            alone = self._respond(self._program.alone(self.weight, self.penalty), response)
        # In states that hardly count the model's choices are of any prices on the way; the sweeps' are of the last.
        probabilities = np.zeros(form.n_pairs)
        for share, choice in zip(alone.mixture.weights, alone.choices, strict=True):
            probabilities[np.where(worse, policy.choice, choice)] += share
        policy = Policy.from_pairs(self.pairs, probabilities)
        return None if np.array_equal(policy.pair_probabilities, model.policy.pair_probabilities) else policy

    def _solve_priced(self) -> bool:
        """Solve the MDP at the prices of the mixture; False where it gains nothing, and nothing is broken."""
        weights = self._weights(self.mixture)
        known = None if self._model.several else weights @ self._model.values
        policy, high, low = solve_rewards(self.form, self.pairs, self._priced(weights), values=known)
        model = LocalModel(self.form, policy, None if self._model.several else self._model)
        value = float(weights @ model.measures)
        self._note(value, weights, self.mixture, high, low)
        rounding = self._program.rounding * (1.0 + float(np.abs(weights).sum()))
        if value + self.mixture.offset > self.mixture.level + rounding:
            self._add(model)
            return True
        return self.is_broken and self.weight > 0 and self._raise_penalty()

    def _priced(self, weights: FloatArray) -> FloatArray:
        """The rewards at weights of the measures, r − Gᵀy, [pairs]."""
        return np.asarray(weights[0] * self.form.rewards + weights[1:] @ self.form.limits.rows)

    def _weights(self, mixture: Mixture) -> FloatArray:
        """Of the measures, at the prices of a mixture, [1 + k]."""
        return np.append(self.weight, -mixture.prices)

    def _respond(self, program: MixtureProgram | ConcaveProgram, known: Response | None = None) -> Response:
        """What the model makes of a program; the best bound met on the way is kept."""
        found = self._model.respond(program, self.weight, known, choices=self._choices)
        self._choices = found.used
        if found.bound < self._bound.value:
            values = found.bound_weights @ self._model.values
            self._bound = _Bound(found.bound, values, None, found.bound_weights, found.concave)
        return found

    def _note(
        self, top: float, weights: FloatArray, mixture: Mixture, high: FloatArray, low: FloatArray | None = None
    ) -> None:
        """Keep what values prove at the prices of a mixture, where it is the best bound."""
        if top + mixture.offset < self._bound.value:
            self._bound = _Bound(top + mixture.offset, high, low, weights, mixture.concave)

    def _is_closed(self) -> bool:
        """Whether bound and mixture have been equal within rounding for some steps."""
        self._closed = self._closed + 1 if self.gap <= ROUNDING + self._program.rounding else 0
        return self._closed > MOST_CLOSED

    @property
    def gap(self) -> float:
        """What the bound leaves to be gained, as a share of the weights that it is made of."""
        return (self._bound.value - self.mixture.level) / float(np.abs(self._bound.weights).sum() or 1.0)

    @property
    def is_broken(self) -> bool:
        """Whether the mixture breaks a constraint by more than rounding."""
        return self.mixture.excess > self._program.kept

    def _raise_penalty(self) -> bool:
        """Make violations dearer; from some price on only if some mixture is known to be feasible. False at the end."""
        if self.penalty > ENDLESS:
            return False
        self._reprice(self.weight, DEARER * self.penalty)
        if self.penalty > DEAREST and not self._feasible:
            self.reach_feasibility(2000)
        return True

    def _reprice(self, weight: float, penalty: float) -> None:
        if weight != self.weight:
            self._bound = _nothing(self.form)
        self.weight, self.penalty = weight, penalty
        self._waited, self._last_gap, self._closed = 0, np.inf, 0
        self._program.reprice(weight, penalty, np.array([measures[0] for measures in self._measures]))
        self.mixture = self._program.solve()


def _nothing(form: StandardForm) -> _Bound:
    return _Bound(np.inf, np.zeros(form.n_states), None, np.zeros(1 + len(form.limits.names)), np.zeros(0))

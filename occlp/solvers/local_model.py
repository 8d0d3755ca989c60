"""What policies near an evaluated one are worth, to first order, for any prices of the constraints.

With the residuals ρ = r + γPh − h of a policy's own values for the objective and for every constraint, a policy π'
is worth (1 − γ) μ0·h + Σ d'(s, a) ρ(s, a) in each (Kakade and Langford 2002, lemma 6.1). With the policy's own
state occupancy in the place of that of π' this is a small linear program a state, held together by the
constraints only: its prices and its policy are what Newton's method says next, and an ordinary backup proves
a bound at every price that is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from occlp._typing import BoolArray, FloatArray, IntArray
from occlp.chains.chain import Chain, occupancy, policy_chain, relative_values
from occlp.kernels import selection
from occlp.parallel import inner_product
from occlp.policy import Policy
from occlp.residuals import pair_residuals
from occlp.solvers.concave_program import ConcaveProgram
from occlp.solvers.mixture_program import Mixture, MixtureProgram
from occlp.standard import StandardForm

#: Prices that are tried at most before the next policy is evaluated.
MOST_TRIED = 300
#: By how much prices must improve on the program so far to be tried further, relative to what they weigh.
SETTLED = 1e-13
#: Scores that differ by less than this (of rewards of size one) are those of pairs that the prices make equal.
TIED = 1e-11


@dataclass(frozen=True, eq=False)
class Response:
    """Prices that are best for the model, the mixture of its choices, and the best bound met on the way."""

    mixture: Mixture  # over the columns of the program given, then over the choices
    choices: list[IntArray]  # [S] each, a pair for every state
    models: list[FloatArray]  # [1 + k] each, what the model says of them
    bound: float
    bound_weights: FloatArray  # [1 + k]
    concave: FloatArray  # prices of the limits that are not linear, at the bound

    @property
    def used(self) -> list[IntArray]:
        """The choices that the mixture is made of."""
        shares = self.mixture.weights[-len(self.choices) :]
        return [choice for share, choice in zip(shares, self.choices, strict=True) if share > 0]


class LocalModel:
    """A policy with its state occupancy and the values and residuals of all measures.

    Parameters
    ----------
    form : StandardForm
    policy : Policy
    near : LocalModel, optional
        A policy whose values are not far.

    Attributes
    ----------
    measures : FloatArray [1 + k]
        The objective and the rows of the constraints, for the policy's occupancy.
    several : bool
        Undiscounted: whether the policy has several recurrent classes, and so no values of one gain.
    factored : bool
        Whether its chain had to be factored.
    """

    def __init__(self, form: StandardForm, policy: Policy, near: LocalModel | None = None) -> None:
        self.form, self.policy, self.factored = form, policy, False
        chain = policy_chain(form, policy.pair_probabilities)
        self.several = form.rest == 0 and chain.n_classes > 1
        rows = [form.rewards, *form.limits.rows]
        if not self.several:
            chain = self._evaluate(chain, rows, near)
        self.mass = occupancy(chain)
        self.occupancy = self.mass[form.states] * policy.pair_probabilities
        self.measures = np.array([inner_product(row, self.occupancy) for row in rows])

    def _evaluate(self, chain: Chain, rows: list[FloatArray], near: LocalModel | None) -> Chain:
        """Set the values, residuals and bases of all measures; returns the chain with its factors."""
        form, policy = self.form, self.policy
        self.values = np.empty((len(rows), form.n_states))
        self.scores, self.doubts = np.empty((len(rows), form.n_pairs)), np.empty(len(rows))
        for i, row in enumerate(rows):
            if (near is not None and near.factored) or chain.moves.is_factored:  # sweeps have failed there, or here
                chain.moves.factor()
            if i > 0:
                chain = chain.with_rewards(form, policy.pair_probabilities, row)
            bracket = relative_values(chain, None if near is None else near.values[i])
            self.values[i] = bracket.high + bracket.low
            self.scores[i], error = pair_residuals(form, self.values[i], None, row)
            self.doubts[i] = 4.0 * float(error.max())
        self.factored = chain.moves.is_factored
        self.bases = form.rest * (self.values @ form.initial)
        return chain

    def select(self, weights: FloatArray) -> tuple[IntArray, FloatArray, float]:
        """The best pair of each state at weights of the measures; the model's measures of it; and a bound."""
        choice, sums = np.empty(self.form.n_states, dtype=np.int32), np.empty(len(weights))
        doubt = float(np.abs(weights) @ self.doubts)
        kept = self.policy.choice
        top = selection.select(self.form.start, self.scores, weights, self.mass, kept, doubt, choice, sums)
        return choice, self.bases + sums, float(weights @ self.bases) + top

    def worth(self, choice: IntArray) -> FloatArray:
        """The model's measures of one pair for every state, [1 + k]."""
        return np.asarray(self.bases + np.array([inner_product(row[choice], self.mass) for row in self.scores]))

    def respond(
        self,
        program: MixtureProgram | ConcaveProgram,
        weight: float,
        known: Response | None = None,
        *,
        choices: Sequence[IntArray] = (),
    ) -> Response:
        """Solve a program with the model's choices as further columns.

        What is `known` of this model comes first, or choices that were good for another one.
        """
        run = _Responding(self, program, weight, known, choices)
        for _ in range(MOST_TRIED):
            if not run.advance():
                break
        return run.response()

    def is_worse(self, choice: IntArray, weights: FloatArray) -> BoolArray:
        """In which states, [S], a choice of pairs is not among the model's best at these weights."""
        scores = weights @ self.scores
        top = np.maximum.reduceat(scores, self.form.start[:-1])
        return np.asarray(top - scores[choice] > float(np.abs(weights) @ (10.0 * self.doubts + TIED)))


class _Responding:
    """Prices that are tried on the way to a response.

    Columns are the choices at prices halfway between those of the program and the best ones met, as long as these help
    (Wentges 1997): the program's own jump about while it knows little.
    """

    def __init__(
        self,
        model: LocalModel,
        program: MixtureProgram | ConcaveProgram,
        weight: float,
        known: Response | None,
        choices: Sequence[IntArray],
    ) -> None:
        self.model, self.program, self.weight = model, program.copy(), weight
        self.choices = list(choices) if known is None else list(known.choices)
        self.models = [model.worth(choice) for choice in choices] if known is None else list(known.models)
        self.bound, self.bound_weights, self.concave = np.inf, np.zeros(0), np.zeros(0)
        if known is not None:
            self.bound, self.bound_weights, self.concave = known.bound, known.bound_weights, known.concave
        for found in self.models:
            self.program.add(weight * found[0], found[1:])
        self.mixture = self.program.solve() if self.program.n_columns else None
        #: The least that the priced model was found to be worth, and at which weights.
        self.lowest, self.centre = np.inf, np.zeros(0)

    def advance(self) -> bool:
        """Try other prices; False where no choice gains."""
        mixture = self.mixture
        if mixture is None:
            self._add(*self.model.select(np.append(self.weight, np.zeros(len(self.model.measures) - 1)))[:2])
            return True
        asked = np.append(self.weight, -mixture.prices)
        if np.isfinite(self.lowest) and self._try(0.5 * (asked + self.centre), asked, mixture):
            return True
        return self._try(asked, asked, mixture)

    def _try(self, weights: FloatArray, asked: FloatArray, mixture: Mixture) -> bool:
        """Add the choice at some weights, where it gains at those of the program."""
        choice, model, proved = self.model.select(weights)
        worth = float(weights @ model)
        if mixture.offset == 0.0 and worth < self.lowest:
            self.lowest, self.centre = worth, weights
        if weights is asked and proved + mixture.offset < self.bound:
            self.bound, self.bound_weights, self.concave = proved + mixture.offset, weights, mixture.concave
        small = (SETTLED + self.program.rounding) * float(np.abs(asked) @ np.abs(model))
        if self.choices and float(asked @ model) <= mixture.level - mixture.offset + small:
            return False
        self._add(choice, model)
        return True

    def _add(self, choice: IntArray, model: FloatArray) -> None:
        self.choices.append(choice)
        self.models.append(model)
        self.program.add(self.weight * model[0], model[1:])
        self.mixture = self.program.solve()

    def response(self) -> Response:
        """What was found."""
        assert self.mixture is not None
        return Response(self.mixture, self.choices, self.models, self.bound, self.bound_weights, self.concave)

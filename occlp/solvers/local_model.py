"""What policies near an evaluated one are worth, to first order, for any prices of the constraints.

With the residuals ρ = r + γPh − h of a policy's own values for the objective and for every constraint, a policy π'
is worth (1 − γ) μ0·h + Σ d'(s, a) ρ(s, a) in each (Kakade and Langford 2002, lemma 6.1). With the policy's own
state occupancy in the place of that of π' this is a small linear program a state, held together by the
constraints only: its prices and its policy are what Newton's method says next, and an ordinary backup proves
a bound at every price that is tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occlp._typing import FloatArray, IntArray
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


@dataclass(frozen=True, eq=False)
class Response:
    """Prices that are best for the model, the mixture of its choices, and the best bound met on the way."""

    mixture: Mixture  # over the columns of the program given, then over the choices
    choices: list[IntArray]  # [S] each, a pair for every state
    models: list[FloatArray]  # [1 + k] each, what the model says of them
    bound: float
    bound_weights: FloatArray  # [1 + k]
    concave: FloatArray  # prices of the limits that are not linear, at the bound


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

    def respond(
        self, program: MixtureProgram | ConcaveProgram, weight: float, known: Response | None = None
    ) -> Response:
        """Solve a program with the model's choices as further columns; `known` ones come first."""
        local, tried = program.copy(), known or Response(_NOTHING, [], [], np.inf, np.zeros(0), np.zeros(0))
        choices, models = list(tried.choices), list(tried.models)
        bound, bound_weights, concave = tried.bound, tried.bound_weights, tried.concave
        for model in models:
            local.add(weight * model[0], model[1:])
        prices = np.zeros(len(self.measures) - 1)
        mixture = local.solve() if local.n_columns else None
        for _ in range(MOST_TRIED):
            prices = prices if mixture is None else mixture.prices
            weights = np.append(weight, -prices)
            choice, model, proved = self.select(weights)
            if mixture is not None and proved + mixture.offset < bound:
                bound, bound_weights, concave = proved + mixture.offset, weights, mixture.concave
            small = (SETTLED + program.rounding) * float(np.abs(weights) @ np.abs(model))
            if mixture is not None and choices and float(weights @ model) <= mixture.level - mixture.offset + small:
                break
            choices.append(choice)
            models.append(model)
            local.add(weight * model[0], model[1:])
            mixture = local.solve()
        assert mixture is not None
        return Response(mixture, choices, models, bound, bound_weights, concave)

    def differs(self, choice: IntArray, weights: FloatArray) -> int:
        """In how many states a choice of pairs is not among the model's best at these weights."""
        scores = weights @ self.scores
        top = np.maximum.reduceat(scores, self.form.start[:-1])
        return int((top - scores[choice] > 10.0 * float(np.abs(weights) @ self.doubts)).sum())


_NOTHING = Mixture(np.zeros(0), np.zeros(0), -np.inf, np.inf, -np.inf)

"""The Lagrangian of a question: its objective less the priced excess of its limits, and both along a policy.

Limits are functions g(d) ≤ 0 of size one: rows, and (b − f(d)) / size of f for a limit f(d) ≥ b on a concave utility.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from occlp._typing import BoolArray, FloatArray
from occlp.bounds.relaxation import steepness
from occlp.certificate import to_multipliers
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.base import Iterate
from occlp.solvers.policy_gradient.estimators import Estimate, Estimator, Exact
from occlp.solvers.policy_gradient.estimators.base import form_of
from occlp.solvers.policy_gradient.estimators.exact import exact_on, exact_on_total
from occlp.solvers.policy_gradient.parametrizations import Parametrization
from occlp.solvers.policy_gradient.updates import Landscape
from occlp.standard import StandardForm
from occlp.terms import Term
from occlp.total.form import formulate_total


@dataclass(frozen=True, eq=False)
class View:
    """What a policy shows at some prices. Weighted means over a run show more than its last view.

    The residuals of V are advantages for the priced objective, r − y·∇g + γPV − V = A, and natural steps add them up in
    the logits: their means are at most logits / steps, so that means of values, prices and charges prove bounds that
    close in (Agarwal, Kakade, Lee and Mahajan 2021, theorem 16).

    Attributes
    ----------
    occupancy : FloatArray [pairs]
    prices : FloatArray [k]
        Of limits of size one.
    charges : FloatArray [c, pairs]
        Price times supergradient of each limit on a concave utility.
    values : FloatArray [S] or None
        Of the priced objective; None where the estimator has none.
    """

    occupancy: FloatArray  # [pairs]
    prices: FloatArray  # [k]
    charges: FloatArray  # [c, pairs]
    values: FloatArray | None  # [S]

    def towards(self, other: View, share: float) -> View:
        """The mixture with a share of another view."""

        def mix(one: FloatArray, two: FloatArray) -> FloatArray:
            return one + share * (two - one)

        values = None if self.values is None or other.values is None else mix(self.values, other.values)
        occupancy, prices = mix(self.occupancy, other.occupancy), mix(self.prices, other.prices)
        return View(occupancy, prices, mix(self.charges, other.charges), values)


class Lagrangian:
    """A problem whose limits are taken into the objective at prices that change.

    Attributes
    ----------
    memory : object
        What a sampled estimator learns. A critic follows the priced reward as it moves.
    """

    def __init__(
        self, problem: Problem, family: Parametrization, estimator: Estimator, rng: np.random.Generator
    ) -> None:
        self.problem, self.family, self.estimator, self.rng = problem, family, estimator, rng
        self.form = form_of(problem)
        self.sizes = np.array([limit.term.spread for limit in self.form.concave])
        self.memory: Any = None

    @property
    def n_limits(self) -> int:
        """Number of limits k, the linear ones first."""
        return len(self.form.names)

    @property
    def equal(self) -> BoolArray:
        """Limits g(d) = 0, [k]."""
        return np.append(self.form.limits.equal, np.zeros(len(self.sizes), dtype=np.bool_))

    def excess(self, occupancy: FloatArray) -> FloatArray:
        """g(d) of every limit, [k]; negative where there is room, inf outside the domain of a utility."""
        linear = self.form.limits.rows @ occupancy - self.form.limits.bounds
        short = np.array([limit.bound - limit.term.value(occupancy) for limit in self.form.concave])
        return np.append(linear, short / self.sizes)

    def feasible(self, prices: FloatArray) -> FloatArray:
        """Prices with the signs that a bound needs."""
        return self.form.feasible_prices(prices)

    def look(self, parameters: FloatArray, prices: FloatArray) -> tuple[Landscape, Estimate]:
        """The landscape at these prices, and the estimate of a policy on it."""
        pairs, family = self.problem.mdp.pairs, self.family
        rows = self.form.limits.rows
        form = replace(self.form, rewards=self.form.rewards - prices[: len(rows)] @ rows)
        of_policy: Any
        if isinstance(self.estimator, Exact):
            of_policy = self._exact(form, prices[len(rows) :])
        else:
            rewards = form.sign * (form.shift + form.scale * form.rewards)
            priced = replace(self.problem, mdp=self.problem.mdp.replace(rewards=rewards), constraints=None)
            of_policy, form = self.estimator.prepare(priced, self.rng), form_of(priced)
            if self.memory is not None:
                of_policy.memory = self.memory
        sampled = self.estimator.is_sampled
        landscape = Landscape(form, pairs, family, lambda theta: of_policy(family.probabilities(pairs, theta)), sampled)
        estimate = landscape.estimate(parameters)
        self.memory = getattr(of_policy, "memory", None)
        return landscape, estimate

    def view(self, landscape: Landscape, estimate: Estimate, prices: FloatArray) -> View:
        """What a policy shows at these prices."""
        values = None if estimate.values is None else estimate.values * (landscape.form.scale / self.form.scale)
        own = prices[len(self.form.limits.names) :]
        charges = [
            price * steepness(self.form, k, estimate.pair_mass) if price else np.zeros(self.form.n_pairs)
            for k, price in enumerate(own)
        ]
        return View(estimate.pair_mass, prices, np.reshape(charges, (len(own), self.form.n_pairs)), values)

    def show(self, policy: Policy, view: View, samples: int, state: Any) -> Iterate:
        """A policy with the bound that a view proves, in the user's units."""
        form, linear = self.form, len(self.form.limits.names)
        prices = self.feasible(np.append(view.prices[:linear], view.prices[linear:] / self.sizes))
        values = None
        # Without limits and terms a policy is weighed by values of its own, and these are means.
        if view.values is not None and (form.names or form.term is not None):
            values = form.sign * form.scale * view.values
        return Iterate(
            policy, values, samples=samples,
            multipliers=to_multipliers(form, prices), state=state,
            slopes={
                limit.name: charge / price
                for limit, charge, price in zip(form.concave, view.charges, view.prices[linear:], strict=True)
                if price > 0
            },
        )  # fmt: skip

    def _exact(self, form: StandardForm, prices: FloatArray) -> Callable[[FloatArray], Estimate]:
        if self.problem.criterion == "total":
            return exact_on_total(replace(formulate_total(self.problem), base=form))
        if prices.any():
            form = replace(form, term=_PricedTerm(form, prices / self.sizes))
        return exact_on(form)


class _PricedTerm(Term):
    """The term of the objective, if any, and Σ y f(d) over the concave limits."""

    def __init__(self, form: StandardForm, prices: FloatArray) -> None:
        self.form, self.prices = form, prices
        self.support = np.ones(form.n_pairs, dtype=np.bool_)
        self.spread = form.spread

    def value(self, occupancy: FloatArray) -> float:
        """f(d) of the objective and the priced utilities."""
        total = 0.0 if self.form.term is None else self.form.term.value(occupancy)
        for position in np.flatnonzero(self.prices):
            total += float(self.prices[position]) * self.form.concave[position].term.value(occupancy)
        return total

    def gradient(self, occupancy: FloatArray) -> FloatArray:
        """A supergradient, finite for the utilities."""
        total = np.zeros(self.form.n_pairs) if self.form.term is None else self.form.term.gradient(occupancy)
        for position in np.flatnonzero(self.prices):
            total = total + self.prices[position] * steepness(self.form, int(position), occupancy)
        return total

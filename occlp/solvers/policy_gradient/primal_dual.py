"""Constraints by gradients: the policy climbs the Lagrangian, the prices descend it, and both are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import check_count, check_positive
from occlp.certificate import to_multipliers
from occlp.evaluation import formulate
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.base import LINEAR_ONLY, Iterate, Start, start_policy
from occlp.solvers.policy_gradient.estimators import Estimate, Estimator, Exact
from occlp.solvers.policy_gradient.estimators.exact import exact_on
from occlp.solvers.policy_gradient.parametrizations import Parametrization, Softmax
from occlp.solvers.policy_gradient.updates import Landscape, Position
from occlp.solvers.policy_gradient.updates.natural import natural_direction
from occlp.solvers.resuming import Saved, carried, fingerprint
from occlp.standard import Limits


@dataclass(frozen=True)
class PrimalDualGradient:
    """Natural policy gradients on the Lagrangian f(d) − y·G d, and gradient descent of the prices y ≥ 0.

    f(d) is d·r, with a regularizer besides, or a concave utility.

    Parameters
    ----------
    step_size : float
        η of the policy's steps for rewards of size one: θ ← θ + η F⁺∇(d·(r − Gᵀy)); for tabular
        softmax π ∝ π exp(η A).
    price_step : float
        Of the prices y ← max(y + η' G d, 0), in the same units.
    average : bool
        Whether the policy of the averaged occupancy is shown, with averaged prices (step t weighs t), or the last one.
        Averages converge; last iterates cycle around the saddle point.
    steps : int
        Steps after which the run ends.
    parametrization : Parametrization
        Default tabular softmax.
    estimator : Estimator
        Default exact. A baseline or critic that is learnt follows the priced reward as it moves: baselines do not bias
        the gradient, critics lag behind while prices change.

    Notes
    -----
    An average counts as an answer when it keeps the constraints within the tolerance; the best of those is
    returned, and its gap is that to the optimum of the constrained problem. Averages that break limits are mixed with
    the iterate that has kept them best, just as much as it takes. Source: Ding, Zhang, Başar and Jovanović
    (2020), with averages of occupancies.

    Examples
    --------
    >>> import occlp as oc
    >>> problem = oc.Problem(oc.instances.get("machine-repair"), constraints=[oc.expected("wear") <= 0.25])
    >>> result, best = oc.solve(problem, oc.PrimalDualGradient(steps=300)), oc.solve(problem)
    >>> bool(result.certificate.violation <= 1e-8), bool(best.objective - result.objective < 0.02)
    (True, True)
    """

    step_size: float = 1.0
    price_step: float = 1.0
    average: bool = True
    steps: int = 1000
    parametrization: Parametrization = Softmax()  # noqa: RUF009 (frozen, without state)
    estimator: Estimator = Exact()  # noqa: RUF009

    def __post_init__(self) -> None:
        check_positive("step_size", self.step_size)
        check_positive("price_step", self.price_step)
        check_count("steps", self.steps, least=0)

    @property
    def promises_tol(self) -> bool:
        """False: a run ends by its own rule."""
        return False

    @property
    def is_sampled(self) -> bool:
        """Whether runs are random; a comparison repeats them with several seeds."""
        return self.estimator.is_sampled

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if problem.criterion == "total":
            return "it prices limits of discounted and average problems; OccupancyProgram answers those of totals"
        if problem.concave_limits:
            return LINEAR_ONLY
        return self.estimator.unsupported(replace(problem, constraints=None))

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the averages (or the last policy and prices) after each step."""
        form, pairs, family = formulate(problem), problem.mdp.pairs, self.parametrization
        priced, nothing = _Priced(self, problem, rng), np.zeros(len(form.limits.names))
        resumed, settings = carried(self, problem, start), fingerprint(self)
        if resumed is not None:
            parameters, prices, mean, begun, priced.memory = resumed
        else:
            parameters, prices = family.initial(pairs, start_policy(problem, start)), nothing
            mean, begun = _Mean(np.zeros(form.n_pairs), nothing), 0
        samples = 0
        for step in range(begun, (begun or 1) + self.steps):
            landscape, estimate = priced.look(parameters, prices)
            samples += estimate.samples
            mean = mean.join(form.limits, estimate.pair_mass, prices)
            policy = Policy.from_pairs(pairs, family.probabilities(pairs, parameters))
            if self.average:
                policy = Policy.from_occupancy(pairs, mean.kept(form.limits), policy)
            shown = form.limits.feasible_prices(mean.prices if self.average else prices)
            direction = natural_direction(landscape, Position(parameters, estimate), "expected", 0.0)
            length = self.step_size * landscape.form.scale / form.scale
            parameters = family.project(pairs, parameters + length * direction)
            excess = form.limits.rows @ estimate.pair_mass
            prices = form.limits.feasible_prices(prices + self.price_step * excess)
            state = Saved(settings, (parameters, prices, mean, step + 1, priced.memory))
            yield Iterate(policy, multipliers=to_multipliers(form, shown), samples=samples, state=state)


class _Priced:
    """The problem with its limits taken into the reward, at prices that change.

    Attributes
    ----------
    memory : object
        What a sampled estimator learns. A critic follows the priced reward as it moves.
    """

    def __init__(self, solver: PrimalDualGradient, problem: Problem, rng: np.random.Generator) -> None:
        self.solver, self.problem, self.rng = solver, problem, rng
        self.form = formulate(problem)
        self.memory: Any = None

    def look(self, parameters: FloatArray, prices: FloatArray) -> tuple[Landscape, Estimate]:
        """The landscape at these prices, and the estimate of a policy on it."""
        family, pairs = self.solver.parametrization, self.problem.mdp.pairs
        form = replace(self.form, rewards=self.form.rewards - prices @ self.form.limits.rows)
        of_policy: Any
        if isinstance(self.solver.estimator, Exact):
            of_policy = exact_on(form)
        else:
            rewards = form.sign * (form.shift + form.scale * form.rewards)
            priced = replace(self.problem, mdp=self.problem.mdp.replace(rewards=rewards), constraints=None)
            of_policy, form = self.solver.estimator.prepare(priced, self.rng), formulate(priced)
            if self.memory is not None:
                of_policy.memory = self.memory
        landscape = Landscape(
            form, pairs, family, lambda theta: of_policy(family.probabilities(pairs, theta)), self.solver.is_sampled
        )
        estimate = landscape.estimate(parameters)
        self.memory = getattr(of_policy, "memory", None)
        return landscape, estimate


@dataclass(frozen=True, eq=False)
class _Mean:
    """Weighted means of occupancies and prices, and the occupancy that has kept the limits best."""

    occupancy: FloatArray  # [pairs]
    prices: FloatArray  # [k]
    weight: float = 0.0
    safest: FloatArray | None = None  # [pairs]

    def join(self, limits: Limits, occupancy: FloatArray, prices: FloatArray) -> _Mean:
        """Take one more pair in; the n-th weighs n."""
        weight = self.weight + 1.0
        share, safest = 2.0 / (weight + 1.0), occupancy
        if self.safest is not None and _worst(limits, self.safest) <= _worst(limits, occupancy):
            safest = self.safest
        mean = self.occupancy + share * (occupancy - self.occupancy)
        return _Mean(mean, self.prices + share * (prices - self.prices), weight, safest)

    def kept(self, limits: Limits) -> FloatArray:
        """The mean occupancy, moved towards the safest as far as the limits g·d ≤ 0 ask for, where that can do it."""
        assert self.safest is not None
        excess, slack = limits.rows @ self.occupancy, limits.rows @ self.safest
        broken = (excess > 0) & ~limits.equal
        if not broken.any() or (slack[broken] >= 0).any():
            return self.occupancy
        share = float((excess[broken] / (excess[broken] - slack[broken])).max())
        return (1.0 - share) * self.occupancy + share * self.safest


def _worst(limits: Limits, occupancy: FloatArray) -> float:
    """The largest g·d; negative where all limits are kept with some slack."""
    return float((limits.rows @ occupancy).max(initial=-np.inf))

"""Constraints by gradients: the policy climbs the Lagrangian, the prices descend it, and both are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import check_count, check_positive
from occlp.certificate import to_multipliers
from occlp.errors import InvalidProblem
from occlp.evaluation import formulate
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.base import Iterate, Start, start_policy
from occlp.solvers.policy_gradient.estimators import Estimate, Estimator, Exact, TrajectoryEstimator
from occlp.solvers.policy_gradient.parametrizations import Parametrization, Softmax
from occlp.solvers.policy_gradient.updates import Landscape, Position
from occlp.solvers.policy_gradient.updates.natural import natural_direction


@dataclass(frozen=True)
class PrimalDualGradient:
    """Natural policy gradients on the Lagrangian d·(r − Gᵀy), and gradient descent of the prices y ≥ 0.

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
        Default exact. Baselines and critics of sampled ones must not be learnt: the priced reward changes at each step.

    Notes
    -----
    An average counts as an answer when it keeps the constraints within the tolerance; the best of those is
    returned, and its gap is that to the optimum of the constrained problem. Source: Ding, Zhang, Başar and Jovanović
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
        if isinstance(self.estimator, TrajectoryEstimator) and self.estimator.learns:
            raise InvalidProblem(
                f"{self.estimator!r} learns values, but the priced reward changes at each step. Use baseline=None, "
                "'values' or an array."
            )

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
            return "it prices limits of discounted and average problems; Decomposition answers those of totals"
        if problem.utility is not None:
            return "a utility has no reward to take the price of a limit from; OccupancyProgram answers it"
        return self.estimator.unsupported(replace(problem, constraints=None))

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the averages (or the last policy and prices) after each step."""
        form, pairs, family = formulate(problem), problem.mdp.pairs, self.parametrization
        parameters = family.initial(pairs, start_policy(problem, start))
        prices = np.zeros(len(form.limits.names))
        mean = _Mean(np.zeros(form.n_pairs), prices)
        samples = 0
        for step in range(self.steps + 1):
            landscape, estimate, factor = self._look(problem, parameters, prices, rng)
            samples += estimate.samples
            mean = mean.join(estimate.pair_mass, prices, float(step + 1))
            probabilities = family.probabilities(pairs, parameters)
            if self.average:
                policy = Policy.from_occupancy(pairs, mean.occupancy, Policy.from_pairs(pairs, probabilities))
            else:
                policy = Policy.from_pairs(pairs, probabilities)
            shown = form.limits.feasible_prices(mean.prices if self.average else prices)
            yield Iterate(policy, multipliers=to_multipliers(form, shown), samples=samples)
            direction = natural_direction(landscape, Position(parameters, estimate), "expected", 0.0)
            parameters = family.project(pairs, parameters + self.step_size * factor * direction)
            excess = form.limits.rows @ estimate.pair_mass
            prices = form.limits.feasible_prices(prices + self.price_step * excess)

    def _look(
        self, problem: Problem, parameters: FloatArray, prices: FloatArray, rng: np.random.Generator
    ) -> tuple[Landscape, Estimate, float]:
        """The priced problem and an estimate on it, and what its units are in those of the problem."""
        form = formulate(problem)
        rewards = form.sign * (form.shift + form.scale * (form.rewards - prices @ form.limits.rows))
        priced = replace(problem, mdp=problem.mdp.replace(rewards=rewards), constraints=None)
        of_policy, pairs = self.estimator.prepare(priced, rng), problem.mdp.pairs
        landscape = Landscape(
            formulate(priced), pairs, self.parametrization,
            lambda theta: of_policy(self.parametrization.probabilities(pairs, theta)), self.is_sampled,
        )  # fmt: skip
        return landscape, landscape.estimate(parameters), landscape.form.scale / form.scale


@dataclass(frozen=True, eq=False)
class _Mean:
    """Weighted means of occupancies and prices."""

    occupancy: FloatArray  # [pairs]
    prices: FloatArray  # [k]
    weight: float = 0.0

    def join(self, occupancy: FloatArray, prices: FloatArray, weight: float) -> _Mean:
        """Take one more pair in."""
        total = self.weight + weight
        share = weight / total
        return _Mean(
            self.occupancy + share * (occupancy - self.occupancy), self.prices + share * (prices - self.prices), total
        )

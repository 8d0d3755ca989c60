"""Constraints by gradients: the policy climbs the Lagrangian, the prices descend it, and both are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import check_count, check_positive
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.base import Iterate, SolverFailure, Start, start_policy
from occlp.solvers.policy_gradient.estimators import Estimate, Estimator, Exact
from occlp.solvers.policy_gradient.lagrangian import Lagrangian, View
from occlp.solvers.policy_gradient.mending import NO_ANCHORS, Anchors
from occlp.solvers.policy_gradient.parametrizations import Parametrization, Softmax
from occlp.solvers.policy_gradient.updates import Landscape, Position
from occlp.solvers.policy_gradient.updates.natural import natural_direction
from occlp.solvers.resuming import Saved, carried, fingerprint

NEVER_ENDS = (
    "the policy reached may stay for ever where something is earned or counted, and its total has no gradient; "
    "give start= a policy that ends"
)


@dataclass(frozen=True)
class PrimalDualGradient:
    """Natural policy gradients on the Lagrangian f(d) − y·g(d), and gradient descent of the prices y ≥ 0.

    f(d) is d·r, with a regularizer besides, or a concave utility; limits g(d) ≤ 0 are linear or, as
    ``oc.StateEntropy() >= b``, on concave utilities. Discounted, average and total criteria.

    Parameters
    ----------
    step_size : float
        η of the policy's steps for rewards of size one: θ ← θ + η F⁺∇(f(d) − y·g(d)); for tabular
        softmax π ∝ π exp(η A).
    price_step : float
        η' of the prices y ← max(y + η' g(d), 0), for limits of size one. For totals g(d) is divided by the number of
        steps that the first policy takes, on average.
    average : bool
        Whether the policy of the averaged occupancy is shown, with averaged prices (step t weighs t), or the last one.
        Averages converge; last iterates cycle around the saddle point.
    steps : int
        Steps after which the run ends.
    parametrization : Parametrization
        Default tabular softmax.
    estimator : Estimator
        Default exact, which limits on concave utilities need. A baseline or critic that is learnt follows the
        priced reward as it moves: baselines do not bias the gradient, critics lag behind while prices change.

    Notes
    -----
    An average counts as an answer when it keeps the constraints within the tolerance; the best of those is
    returned, and its gap is that to the optimum of the constrained problem. Averages that break limits are mixed with
    the iterate that has kept them best, just as much as it takes. Source: Ding, Zhang, Başar and Jovanović
    (2020), with averages of occupancies. A policy that need not end has no gradient of its total: FAILED, unless
    ``start=`` gives one that ends.

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
        if problem.concave_limits and not isinstance(self.estimator, Exact):
            return "limits on concave utilities need the occupancy itself; use an exact estimator"
        if problem.objective == "reach" and problem.limits and self.is_sampled:
            return "prices are taken into rewards to be sampled, and 'reach' has none; use an exact estimator"
        return self.estimator.unsupported(replace(problem, constraints=None))

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the averages (or the last policy and prices) after each step."""
        pairs, family = problem.mdp.pairs, self.parametrization
        lagrangian = Lagrangian(problem, family, self.estimator, rng)
        resumed, settings = carried(self, problem, start), fingerprint(self)
        if resumed is not None:
            reached, lagrangian.memory = resumed
        else:
            parameters = family.initial(pairs, start_policy(problem, start))
            reached = _Reached(parameters, np.zeros(lagrangian.n_limits))
        samples = 0
        for _ in range(self.steps + (reached.mean is None)):
            landscape, estimate = lagrangian.look(reached.parameters, reached.prices)
            if estimate.objective == -np.inf:
                raise SolverFailure(NEVER_ENDS)
            samples += estimate.samples
            policy = Policy.from_pairs(pairs, landscape.probabilities(reached.parameters))
            view = lagrangian.view(landscape, estimate, reached.prices)
            reached, mean = self._step(lagrangian, landscape, estimate, reached, view)
            if self.average:
                excess = lagrangian.excess(mean.occupancy)
                mended = reached.anchors.mend(mean.occupancy, excess, lagrangian.equal)
                policy, view = Policy.from_occupancy(pairs, mended, policy), mean
            yield lagrangian.show(policy, view, samples, Saved(settings, (reached, lagrangian.memory)))

    def _step(
        self, lagrangian: Lagrangian, landscape: Landscape, estimate: Estimate, reached: _Reached, view: View
    ) -> tuple[_Reached, View]:
        """Move the policy uphill and the prices downhill, both from where they are; the mean of what was seen."""
        excess = lagrangian.excess(view.occupancy)
        direction = natural_direction(landscape, Position(reached.parameters, estimate), "expected", 0.0)
        length = self.step_size * landscape.form.scale / lagrangian.form.scale
        parameters = self.parametrization.project(landscape.pairs, reached.parameters + length * direction)
        # Limits are of size one where occupancies sum to one; for totals they are made so.
        steps = reached.steps or (1.0 if landscape.form.rest else float(view.occupancy.sum()) or 1.0)
        prices = reached.prices + self.price_step * np.clip(excess / steps, -1.0, 1.0)
        mean = view if reached.mean is None else reached.mean.towards(view, 2.0 / (reached.taken + 2.0))
        anchors = reached.anchors.join(view.occupancy, excess, lagrangian.equal)
        return _Reached(parameters, lagrangian.feasible(prices), anchors, mean, reached.taken + 1, steps), mean


@dataclass(frozen=True, eq=False)
class _Reached:
    """Where a run is: parameters, prices of limits of size one, and the weighted mean of its views (the n-th weighs n).

    `steps` is how many the first policy takes for totals, else 1.
    """

    parameters: FloatArray
    prices: FloatArray  # [k]
    anchors: Anchors = NO_ANCHORS
    mean: View | None = None
    taken: int = 0
    steps: float | None = None

"""The solver: an ascent along estimated gradients, its presets, and the gradient itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from occlp._typing import FloatArray
from occlp.errors import InvalidProblem
from occlp.evaluation import evaluate, formulate
from occlp.model import MDP
from occlp.policy import Policy
from occlp.problem import Problem, as_problem
from occlp.solvers.base import Iterate, Start, start_policy
from occlp.solvers.policy_gradient.estimators import Estimator, Exact
from occlp.solvers.policy_gradient.parametrizations import Parametrization, Softmax
from occlp.solvers.policy_gradient.updates import GradientStep, Landscape, NaturalStep, Position, Update


@dataclass(frozen=True)
class PolicyGradient:
    """Ascent on the return in policy space, from the uniform policy or from ``start``.

    Parameters
    ----------
    parametrization : Parametrization
        How parameters become a policy; default tabular softmax.
    estimator : Estimator
        How advantages and occupancy are obtained; default exactly.
    update : Update
        How the parameters move; default gradient ascent with a line search.
    steps : int
        The run ends after this many steps, or when no step makes progress.

    Notes
    -----
    J is not concave in the policy, but exact softmax ascent converges to the optimum (Agarwal et al.
    2021; Mei et al. 2020), slowly across plateaus. The result is BOUNDED unless the gap, measured
    against the true optimum, is within the tolerance.
    """

    parametrization: Parametrization = Softmax()  # noqa: RUF009 (frozen, without state)
    estimator: Estimator = Exact()  # noqa: RUF009
    update: Update = GradientStep()  # noqa: RUF009
    steps: int = 1000

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 0:
            raise InvalidProblem(f"steps={self.steps!r} must be an integer that is not negative.")

    @property
    def promises_tol(self) -> bool:
        """False: a run ends by its own rule."""
        return False

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if problem.regularizer is not None or problem.utility is not None:
            return "it follows the plain reward; OccupancyProgram answers the others"
        if problem.criterion == "average":
            return "it follows the discounted return in this version"
        if problem.limits:
            return "it follows the plain reward and cannot keep constraints; Decomposition and OccupancyProgram can"
        return None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the start and then the policy after each step."""
        form, pairs = formulate(problem), problem.mdp.pairs
        of_policy = self.estimator.prepare(form, rng)
        landscape = Landscape(
            form, pairs, self.parametrization, lambda theta: of_policy(self.parametrization.probabilities(pairs, theta))
        )
        parameters = self.parametrization.initial(pairs, start_policy(problem, start))
        position: Position | None = Position(parameters, landscape.estimate(parameters))
        samples, taken = 0, 0
        while position is not None:
            samples += position.estimate.samples
            probabilities = self.parametrization.probabilities(pairs, position.parameters)
            values = form.sign * form.scale * position.estimate.values
            yield Iterate(Policy.from_pairs(pairs, probabilities), values, samples=samples)
            if taken == self.steps:
                return
            position = self.update.step(landscape, position)
            taken += 1


@dataclass(frozen=True)
class NaturalPolicyGradient:
    """Exact natural policy gradient for tabular softmax (Kakade 2001): a preset of `PolicyGradient`.

    Parameters
    ----------
    step_size : float, optional
        Fixed η on the return scale, in the user's units; default: a line search.
    steps : int
        Steps after which the run ends.
    """

    step_size: float | None = None
    steps: int = 1000

    def __post_init__(self) -> None:
        self.expand()  # checks the settings

    def expand(self) -> PolicyGradient:
        """Return the method as its three parts."""
        return PolicyGradient(update=NaturalStep(self.step_size), steps=self.steps)

    @property
    def promises_tol(self) -> bool:
        """False: a run ends by its own rule."""
        return False

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        return self.expand().unsupported(problem)

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the start and then the policy after each step."""
        return self.expand().iterate(problem, tol=tol, rng=rng, start=start)


def policy_gradient(
    problem: Problem | MDP,
    policy: Policy,
    *,
    scale: Literal["return", "normalized"] = "return",
) -> FloatArray:
    """Exact gradient of the objective with respect to the logits of a tabular softmax policy.

    Parameters
    ----------
    problem : Problem or MDP
    policy : Policy
    scale : {"return", "normalized"}
        ``"return"``: of J = Σ μ0(s) V(s), with the factor 1/(1 − γ) of the policy gradient theorem.
        ``"normalized"``: of d·r, without it. The directions are the same.

    Returns
    -------
    FloatArray [S, A]
        ``d(s) π(a | s) A(s, a)``, divided by 1 − γ on the return scale; in the user's units and sense (the
        gradient of a cost when minimising). NaN where the pair does not exist.

    Raises
    ------
    InvalidProblem
        For an unknown scale, a problem with a regularizer, or a policy of another model.

    Notes
    -----
    Source: Sutton, McAllester, Singh and Mansour (2000), Theorem 1, for ∇ log π = 1_a − π.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("kakade-two-state")
    >>> oc.policy_gradient(mdp, oc.Policy.uniform(mdp)).shape
    (2, 2)
    """
    problem = as_problem(problem)
    if scale not in ("return", "normalized"):
        raise InvalidProblem(f"scale={scale!r} is unknown. Use 'return' or 'normalized'.")
    if problem.regularizer is not None or problem.utility is not None:
        raise InvalidProblem("policy_gradient differentiates the plain reward; leave the regularizer out.")
    found = evaluate(problem, policy)
    gradient = found.pair_occupancy * found.pair_advantages
    if scale == "return":
        gradient = gradient / found.rest
    return policy.pairs.table(gradient, np.nan)

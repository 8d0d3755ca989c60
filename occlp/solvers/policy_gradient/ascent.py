"""The solver, an ascent along estimated gradients, and the exact gradient itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import check_count, check_word
from occlp.errors import InvalidProblem
from occlp.model import MDP
from occlp.policy import Policy, read_policy
from occlp.problem import Problem, as_problem
from occlp.solvers.base import Iterate, Start, start_policy
from occlp.solvers.policy_gradient.estimators import Estimator, Exact
from occlp.solvers.policy_gradient.estimators.base import form_of
from occlp.solvers.policy_gradient.measures import Measures
from occlp.solvers.policy_gradient.parametrizations import Parametrization, Softmax
from occlp.solvers.policy_gradient.updates import GradientStep, Landscape, Position, Update
from occlp.solvers.resuming import Saved, carried, fingerprint


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
    against the true optimum, is within the tolerance. A regularizer or a concave utility f is followed through
    its gradient at the occupancy, ∇f(d) (exact estimators only).
    """

    parametrization: Parametrization = Softmax()  # noqa: RUF009 (frozen, without state)
    estimator: Estimator = Exact()  # noqa: RUF009
    update: Update = GradientStep()  # noqa: RUF009
    steps: int = 1000

    def __post_init__(self) -> None:
        check_count("steps", self.steps, least=0)
        for name, part, kind in (
            ("parametrization", self.parametrization, Parametrization),
            ("estimator", self.estimator, Estimator),
            ("update", self.update, Update),
        ):
            if not isinstance(part, kind):
                raise InvalidProblem(f"{name}={part!r} is not one of oc.{name}s, nor derived from {kind.__name__}.")
        reason = self.update.unsupported(self.parametrization, is_sampled=self.is_sampled)
        if reason is not None:
            raise InvalidProblem(f"{type(self.update).__name__} does not fit: {reason}.")

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
        if problem.constraints:
            return "it cannot keep constraints; PrimalDualGradient, Decomposition and OccupancyProgram can"
        return self.estimator.unsupported(problem)

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the start and then the policy after each step; only these, where the run goes on from a result."""
        form, pairs, parametrization = form_of(problem), problem.mdp.pairs, self.parametrization
        of_policy: Any = self.estimator.prepare(problem, rng)
        landscape = Landscape(
            form, pairs, parametrization,
            lambda theta: of_policy(parametrization.probabilities(pairs, theta)), self.is_sampled,
        )  # fmt: skip
        resumed, settings = carried(self, problem, start), fingerprint(self)
        position: Position | None
        if resumed is not None:
            reached, of_policy.memory = resumed
            last = reached.taken + self.steps
            position = self.update.step(landscape, reached) if self.steps else None
        else:
            parameters, last = parametrization.initial(pairs, start_policy(problem, start)), self.steps
            position = Position(parameters, landscape.estimate(parameters))
        measures = Measures(problem, landscape, getattr(self.estimator, "trajectories", 0))
        samples = 0
        while position is not None:
            estimate = position.estimate
            samples += estimate.samples
            values = None if estimate.values is None else form.sign * form.scale * estimate.values
            policy = Policy.from_pairs(pairs, landscape.probabilities(position.parameters))
            state = Saved(settings, (position.bare(), getattr(of_policy, "memory", None)))
            yield Iterate(policy, values, samples=samples, measures=partial(measures.of, position), state=state)
            if position.taken == last:
                return
            position = self.update.step(landscape, position)


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
        With a regularizer or a utility, the gradient of the whole objective; constraints are not looked at.
    policy : Policy
    scale : {"return", "normalized"}
        ``"return"``: of J = Σ μ0(s) V(s), with the factor 1/(1 − γ) of the policy gradient theorem.
        ``"normalized"``: of d·r, without it. The directions are the same. Under the average criterion, where
        J is infinite, only the second exists: the gradient of the gain. Totals have one scale.

    Returns
    -------
    FloatArray [S, A]
        ``d(s) π(a | s) A(s, a)``, divided by 1 − γ on the return scale; in the user's units and sense (the
        gradient of a cost when minimising). NaN where the pair does not exist.

    Raises
    ------
    InvalidProblem
        For an unknown scale, the return scale of an average, or a policy of another model.

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
    check_word(scale, "scale", ("return", "normalized"))
    if scale == "return" and problem.criterion == "average":
        raise InvalidProblem("the return is infinite under the average criterion; use scale='normalized'.")
    policy = read_policy(policy, problem.mdp.pairs)
    form = form_of(problem)
    estimate = Exact().prepare(problem, np.random.default_rng(0))(policy.pair_probabilities)
    unit = form.sign * form.scale / ((form.rest or 1.0) if scale == "return" else 1.0)
    return policy.pairs.table(unit * policy.pair_probabilities * estimate.slopes, np.nan)

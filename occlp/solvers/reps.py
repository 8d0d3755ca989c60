"""Relative entropy policy search: the program with KL to the occupancy reached last, again and again.

One step maximises d·r over occupancies near the last one, in joint KL of state-action occupancies: with a
penalty τ·KL, or within a bound KL ≤ ε, of which τ is the price. It is the proximal point (mirror descent)
method on the occupancy polytope. Sources: Peters, Mülling and Altün (2010); Zimin and Neu (2013).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy

from occlp.errors import InvalidProblem
from occlp.evaluation import evaluate, formulate
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.solvers.base import LINEAR_ONLY, Iterate, Start, start_policy
from occlp.solvers.decomposition import Decomposition
from occlp.solvers.kl_dual import KLDual
from occlp.terms import KL, JointTerm

#: Strengths below this share of the range of the rewards are not told from the plain program.
LEAST_STRENGTH = 1e-6
#: Strengths above this multiple of it hardly move (and, with constraints, lead to the nearest that keeps them).
MOST_STRENGTH = {"free": 1e9, "constrained": 1e3}
#: A step that moves the occupancy by less than this KL has arrived.
ARRIVED = 1e-15
#: A bound on the KL of a step is met from below, within this share of it.
BOUND_ACCURACY = 1e-6


@dataclass(frozen=True)
class Reps:
    """Relative entropy policy search (Peters, Mülling and Altün 2010) with the exact model.

    Give one of the two:

    Parameters
    ----------
    bound : float, optional
        Largest KL(d_new ‖ d_old) of a step, in nats: the published method. Default 0.5. Where nothing as near
        keeps the constraints, the step leads to the nearest occupancy that does.
    strength : float, optional
        Weight τ of the KL penalty of each step instead, in the units of the reward: the proximal point method.
    steps : int
        The run ends after this many steps, or when no step moves any more.

    Notes
    -----
    With a fixed strength, objectives never fall and J* − J_t ≤ τ KL(d* ‖ d_0) / t (the three-point inequality
    of mirror descent), from any start with positive occupancy wherever an optimal one has it.

    For small steps (τ → ∞, ε → 0) the direction is a natural gradient: to first order a step solves
    max r·δ − τ/2 Σ δ²/d over directions δ with F δ = 0, which is G⁺∇J/τ for the Fisher information
    G = Σ (∇d)(∇d)ᵀ/d of the *occupancy* (Morimura et al. 2008). Kakade's (2001), which `NaturalPolicyGradient`
    follows, takes the Fisher information of the actions alone. Both agree where the policy does not move the
    states, d(s) being fixed: there a step with strength τ is exactly π ∝ π exp(A/τ).
    """

    bound: float | None = None
    strength: float | None = None
    steps: int = 100

    def __post_init__(self) -> None:
        if self.bound is not None and self.strength is not None:
            raise InvalidProblem("Reps takes a bound on the KL of a step or a strength of its penalty, not both.")
        for name, value in (("bound", self.bound), ("strength", self.strength)):
            if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
                raise InvalidProblem(f"{name}={value!r} of Reps must be positive and finite.")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 0:
            raise InvalidProblem(f"steps={self.steps!r} must be an integer that is not negative.")

    @property
    def promises_tol(self) -> bool:
        """False: a run ends by its own rule."""
        return False

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if problem.regularizer is not None or problem.utility is not None:
            return "its steps bring a KL term of their own, beside a linear objective only"
        if problem.criterion == "total":
            return "its steps penalise the divergence of occupancies that sum to one; PolicyIteration answers totals"
        return LINEAR_ONLY if problem.concave_limits else None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the start and then the policy after each step."""
        policy = start_policy(problem, start) or Policy.uniform(problem.mdp)
        yield Iterate(policy)
        if problem.limits:
            Decomposition().require_feasible(problem)
        form = formulate(problem)
        largest = form.scale * form.reward_range
        strength = largest if self.strength is None else self.strength
        if largest == 0 and not problem.limits:  # constant rewards: every policy is optimal
            return
        for _ in range(self.steps):
            step = _Step(problem, policy)
            if self.strength is None:
                strength = step.strength_for(0.5 if self.bound is None else self.bound, strength, largest)
            reached, divergence = step.take(strength)
            yield reached
            policy = reached.policy
            if divergence <= ARRIVED:
                return


class _Step:
    """The program of one step, for any strength."""

    def __init__(self, problem: Problem, policy: Policy) -> None:
        self.problem, self.policy = problem, policy
        self.prior = JointTerm(evaluate(problem, policy).pair_occupancy, 1.0)

    def take(self, strength: float) -> tuple[Iterate, float]:
        """The answer of the program with this strength, and KL(d_new ‖ d_old)."""
        question = replace(self.problem, regularizer=KL(strength=strength, reference=self.policy))
        *_, last = KLDual().iterate(question, tol=0.0, rng=np.random.default_rng(0))
        return last, max(-self.prior.value(evaluate(self.problem, last.policy).pair_occupancy), 0.0)

    def strength_for(self, bound: float, guess: float, largest: float) -> float:
        """The strength whose step has the KL asked for.

        The least one where even that moves less; the largest one where even that moves more, because no
        occupancy that keeps the constraints is as near.
        """
        unit = math.log(largest if largest > 0 else 1.0)
        multiple = MOST_STRENGTH["constrained" if self.problem.limits else "free"]
        least, most = unit + math.log(LEAST_STRENGTH), unit + math.log(multiple)
        low = high = max(math.log(guess), least) if guess > 0 else unit

        def excess(log_strength: float) -> float:
            """log(KL / bound): falls as the strength grows, with slope −2 for strong penalties."""
            return math.log(max(self.take(math.exp(log_strength))[1], 1e-300) / bound)

        while excess(high) > 0:
            if high >= most:  # nothing as near keeps the constraints
                return math.exp(most)
            low, high = high, min(high + math.log(16.0), most)
        while low == high or excess(low) <= 0:
            if low <= least:
                return math.exp(least)
            low, high = max(low - math.log(16.0), least), low
        return math.exp(float(scipy.optimize.brentq(excess, low, high, xtol=0.1 * BOUND_ACCURACY)) + BOUND_ACCURACY)

"""Policy iteration in rationals, from the policy that doubles find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from occlp.exact.form import exact_form
from occlp.exact.gains import exact_gain_iterations
from occlp.exact.policies import exact_policy_iterations
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.rationals import to_fraction
from occlp.solvers.base import Iterate, Start, start_policy
from occlp.solvers.dynamic_programming import PolicyIteration


@dataclass(frozen=True)
class ExactPolicyIteration:
    """Policy iteration without rounding: the optimum as a fraction, for small and medium models.

    Parameters
    ----------
    warm_start : bool
        Whether to begin with the policy that `PolicyIteration` finds in doubles, which usually is optimal
        and then only has to be verified; otherwise with the first action of each state.

    Raises
    ------
    BackendMissing
        Without python-flint.

    Notes
    -----
    Howard (1960), in the arithmetic of FLINT. ``result.certificate.optimum`` is the fraction and
    ``certificate.proof`` proves it. The model is taken exactly as given (docs/trust.md). States with few
    neighbours are eliminated one by one; the rest is one dense system of at most 600 equations.

    Examples
    --------
    >>> import occlp as oc
    >>> result = oc.solve(oc.instances.get("howard-toymaker", discount="0.9"), oc.ExactPolicyIteration())
    >>> result.certificate.optimum, result.gap
    (Fraction(157, 91), 0.0)
    """

    warm_start: bool = True

    #: The level of the certificates that a solve with this method makes.
    certifies: ClassVar[str] = "exact"
    #: Averages may depend on the start.
    several_classes: ClassVar[bool] = True

    @property
    def promises_tol(self) -> bool:
        """True: the answer is exact."""
        return True

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if problem.regularizer is not None or problem.utility is not None:
            return "it answers linear objectives; certify='interval' encloses KL terms and entropies"
        if problem.criterion == "total":
            return "it answers discounted and average questions; PolicyIteration answers totals"
        if problem.constraints:
            return "it cannot keep constraints; certify='exact' with Decomposition proves their optimum"
        return None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield after each exact evaluation; ends when no action improves."""
        form, pairs = exact_form(problem), problem.mdp.pairs
        policy = start_policy(problem, start)
        if policy is None and self.warm_start:
            for iterate in PolicyIteration().iterate(problem, tol=tol, rng=rng):
                policy = iterate.policy
        choice = pairs.start[:-1].tolist() if policy is None else policy.choice.tolist()
        if form.average:
            for step in exact_gain_iterations(form, form.rewards, choice):
                gains, values = ([form.sign * float(to_fraction(x)) for x in row] for row in (step.gains, step.values))
                several = None if min(gains) == max(gains) else np.array(gains)
                yield Iterate(Policy.from_choice(pairs, np.array(step.choice)), np.array(values), gains=several)
            return
        for found in exact_policy_iterations(form, choice):
            top = max(found.worth.values)
            values = [form.sign * float(to_fraction(value - top)) for value in found.worth.values]
            yield Iterate(Policy.from_choice(pairs, np.array(found.choice)), np.array(values))

"""A solver of one's own, in one file: the dual linear program through scipy.

A solver is a frozen dataclass of its settings with one generator. It shows policies and values; `oc.solve` owns the
clock, the limits, the history and the certificate, so no solver grades itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

import occlp as oc


@dataclass(frozen=True)
class ScipyDual:
    """Minimise (1 − γ) μ0·V subject to V ≥ r + γPV, by the HiGHS that comes with scipy."""

    method: str = "highs"

    @property
    def promises_tol(self) -> bool:
        """Whether a missed tolerance is an error: a linear program is solved to the end or not at all."""
        return True

    def unsupported(self, problem: oc.Problem) -> str | None:
        """Say why a problem cannot be answered, or None."""
        plain = not (problem.limits or problem.regularizer or problem.utility)
        return None if plain and problem.criterion == "discounted" else "it answers plain discounted questions"

    def iterate(
        self, problem: oc.Problem, *, tol: float, rng: np.random.Generator, start: object = None
    ) -> Iterator[oc.Iterate]:
        """Yield once, the policy that is greedy in the values found."""
        mdp, pairs = problem.mdp, problem.mdp.pairs
        sign = 1.0 if problem.sense == "maximize" else -1.0
        own = sparse.csr_array((np.ones(pairs.n_pairs), (np.arange(pairs.n_pairs), pairs.states)))
        flow = own - problem.discount * mdp.transitions  # [pairs, S]
        rewards = sign * mdp.pair_rewards
        answer = linprog(problem.rest * mdp.initial, A_ub=-flow, b_ub=-rewards, bounds=(None, None), method=self.method)
        if answer.x is None:
            raise RuntimeError(answer.message)  # becomes a result with status FAILED
        scores = rewards - flow @ answer.x
        best = [first + int(np.argmax(scores[first:last])) for first, last in pairwise(pairs.start)]
        yield oc.Iterate(oc.Policy.from_choice(pairs, np.array(best)), values=sign * answer.x)


if __name__ == "__main__":
    mdp = oc.instances.get("howard-automobile")  # 40 states, 1640 pairs; the rewards are costs
    table = oc.compare(oc.Problem(mdp, sense="minimize"), [ScipyDual(), oc.PolicyIteration()])
    for row in table.to_records():
        print(f"{row['solver']:18} {row['status']}  {row['objective']:.6f}")

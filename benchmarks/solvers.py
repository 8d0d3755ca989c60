"""Who competes: methods of occlp, and other packages used the way their documentation says.

An entrant turns a problem into its own form (the phase "prepare"), and then answers it (the phase "solve"). It
returns a policy, one probability a pair, which is judged by occlp's exact evaluation whoever made it.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

import occlp as oc

#: Answers a question: returns π(a | s), [pairs].
Answer: TypeAlias = Callable[[], Any]


@dataclass(frozen=True)
class Entrant:
    """A competitor.

    Attributes
    ----------
    name : str
    package : str
        Whose version is printed; the entrant is left out where it is not installed.
    prepare : callable
        ``prepare(problem, tol)`` turns a problem into the entrant's form, and returns what answers it.
    most_pairs : int
        Larger plain problems are left out.
    kind : {"plain", "limits", "kl"}
        The questions that it answers: plain ones, with constraints, or with a KL term.
    returns : str
        What one call gives.
    """

    name: str
    package: str
    prepare: Callable[[oc.Problem, float], Answer] = field(repr=False)
    most_pairs: int = 10**9
    kind: str = "plain"
    returns: str = "policy, values"

    @property
    def is_installed(self) -> bool:
        """Whether the package is there."""
        return importlib.util.find_spec(self.package) is not None

    @property
    def version(self) -> str:
        """Version of the package."""
        return importlib.metadata.version(self.package)

    def takes(self, problem: oc.Problem) -> bool:
        """Whether this question is of its kind and size."""
        kind = "kl" if problem.regularizer is not None else "limits" if problem.limits else "plain"
        return self.kind == kind and problem.mdp.n_pairs <= self.most_pairs


def _occlp(solver: oc.Solver | None) -> Callable[[oc.Problem, float], Answer]:
    def prepare(problem: oc.Problem, tol: float) -> Answer:
        def answer() -> Any:
            fresh = dataclasses.replace(problem)  # nothing that was computed before is kept
            return oc.solve(fresh, solver, tol=tol).policy.pair_probabilities

        return answer

    return prepare


def _quantecon(method: str) -> Callable[[oc.Problem, float], Answer]:
    """Prepare a sparse DiscreteDP in state-action form, with ε on the return scale the same as our tolerance."""

    def prepare(problem: oc.Problem, tol: float) -> Answer:
        from quantecon.markov import DiscreteDP
        from scipy import sparse

        mdp = problem.mdp
        optimum = abs(oc.solve(problem).objective)
        epsilon = tol * min(float(np.ptp(mdp.pair_rewards)), optimum) / problem.rest
        transitions = sparse.csr_matrix(mdp.transitions)
        model = DiscreteDP(
            np.array(mdp.pair_rewards), transitions, problem.discount,
            np.array(mdp.pairs.states), np.array(mdp.pairs.actions),
        )  # fmt: skip

        def answer() -> Any:
            found = model.solve(method=method, epsilon=epsilon, max_iter=1_000_000)
            return _chosen(mdp, np.asarray(found.sigma))

        return answer

    return prepare


def _scipy_linprog(problem: oc.Problem, tol: float) -> Answer:
    """Prepare the dual linear program min (1 − γ) μ0·V, V ≥ r + γPV, for scipy's HiGHS."""
    from scipy import sparse
    from scipy.optimize import linprog

    mdp, pairs = problem.mdp, problem.mdp.pairs
    own = sparse.csr_array((np.ones(pairs.n_pairs), (np.arange(pairs.n_pairs), pairs.states)))
    flow = sparse.csr_array(own - problem.discount * mdp.transitions)

    def answer() -> Any:
        found = linprog(
            np.full(mdp.n_states, 1.0), A_ub=-flow, b_ub=-mdp.pair_rewards, bounds=(None, None), method="highs"
        )
        scores = mdp.pair_rewards - flow @ found.x
        tops = np.maximum.reduceat(scores, pairs.start[:-1])
        return _first_of(mdp, scores == tops[pairs.states])

    return answer


def _cvxpy(backend: str) -> Callable[[oc.Problem, float], Answer]:
    """Prepare the occupancy program in cvxpy with the backend's own settings, and take π from d."""

    def prepare(problem: oc.Problem, tol: float) -> Answer:
        def answer() -> Any:
            program = oc.OccupancyProgram().program(problem)
            program.solve(solver=backend)
            (occupancy,) = program.variables()
            return oc.Policy.from_occupancy(problem.mdp, np.maximum(occupancy.value, 0.0)).pair_probabilities

        return answer

    return prepare


def _chosen(mdp: oc.MDP, actions: Any) -> Any:
    return _first_of(mdp, mdp.pairs.actions == actions[mdp.pairs.states])


def _first_of(mdp: oc.MDP, mask: Any) -> Any:
    """Probability one on the first marked pair of each state."""
    marked = np.flatnonzero(mask)
    first = marked[np.searchsorted(marked, mdp.pairs.start[:-1])]
    probabilities = np.zeros(mdp.n_pairs)
    probabilities[first] = 1.0
    return probabilities


_ALL = "policy, values, occupancy, certificate"

#: Largest problem that backends of cvxpy and scipy get, in pairs.
_BACKENDS = 10_000
_LP = oc.OccupancyProgram()

#: The first entrant of each kind is the one that ratios refer to: what `oc.solve` does by itself.
ENTRANTS = (
    Entrant("occlp, default (PolicyIteration)", "occlp", _occlp(None), returns=_ALL),
    Entrant("occlp ModifiedPolicyIteration", "occlp", _occlp(oc.ModifiedPolicyIteration()), returns=_ALL),
    Entrant("occlp OccupancyProgram", "occlp", _occlp(_LP), _BACKENDS, returns=_ALL),
    Entrant("quantecon modified policy iteration", "quantecon", _quantecon("mpi")),
    Entrant("quantecon policy iteration", "quantecon", _quantecon("pi"), _BACKENDS),
    Entrant("scipy linprog (HiGHS), dual program", "scipy", _scipy_linprog, _BACKENDS),
    Entrant("cvxpy, occupancy program, CLARABEL", "cvxpy", _cvxpy("CLARABEL"), _BACKENDS, returns="policy"),
    Entrant("occlp, default (Decomposition)", "occlp", _occlp(None), kind="limits", returns=_ALL),
    Entrant("occlp OccupancyProgram", "occlp", _occlp(_LP), _BACKENDS, kind="limits", returns=_ALL),
    Entrant("cvxpy, linear program, CLARABEL", "cvxpy", _cvxpy("CLARABEL"), _BACKENDS, kind="limits", returns="policy"),
    Entrant("cvxpy, linear program, HIGHS", "cvxpy", _cvxpy("HIGHS"), _BACKENDS, kind="limits", returns="policy"),
    Entrant("occlp, default (KLDual)", "occlp", _occlp(None), kind="kl", returns=_ALL),
    Entrant("occlp OccupancyProgram", "occlp", _occlp(_LP), _BACKENDS, kind="kl", returns=_ALL),
    Entrant("cvxpy, conic program, CLARABEL", "cvxpy", _cvxpy("CLARABEL"), _BACKENDS, kind="kl", returns="policy"),
)

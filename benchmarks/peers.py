"""Other packages for Markov decision processes, used the way their documentation says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

import occlp as oc


@dataclass(frozen=True)
class Answered:
    """What an entrant gives: π(a | s) [pairs], and what it says of itself."""

    policy: Any
    notes: Mapping[str, Any] = field(default_factory=dict)


def quantecon(method: str) -> Callable[[oc.Problem, float], Callable[[], Answered]]:
    """A sparse DiscreteDP in state-action form, asked for ε on the return scale, where it measures."""

    def prepare(problem: oc.Problem, accuracy: float) -> Callable[[], Answered]:
        from quantecon.markov import DiscreteDP
        from scipy import sparse

        mdp = problem.mdp
        transitions = sparse.csr_matrix(mdp.transitions)
        arrays = (np.array(mdp.pair_rewards), transitions, problem.discount)
        model = DiscreteDP(*arrays, np.array(mdp.pairs.states), np.array(mdp.pairs.actions))
        epsilon = accuracy / problem.rest

        def answer() -> Answered:
            found = model.solve(method=method, epsilon=epsilon, max_iter=10**9)
            return Answered(chosen(mdp, np.asarray(found.sigma)), {"iterations": int(found.num_iter)})

        return answer

    return prepare


def mdpsolver(*, parallel: bool) -> Callable[[oc.Problem, float], Callable[[], Answered]]:
    """A model from nested lists, which it takes alone; started from zero each time, since it would resume."""

    def prepare(problem: oc.Problem, accuracy: float) -> Callable[[], Answered]:
        import mdpsolver as package

        mdp, matrix = problem.mdp, problem.mdp.transitions
        by_pair = [_split(array.tolist(), matrix.indptr) for array in (matrix.data, matrix.indices)]
        probabilities, columns = (_split(rows, mdp.pairs.start) for rows in by_pair)
        model = package.model()
        model.mdp(
            discount=float(problem.discount), rewards=_split(mdp.pair_rewards.tolist(), mdp.pairs.start),
            tranMatProbs=probabilities, tranMatColumns=columns,
        )  # fmt: skip
        zeros, first, tolerance = [0.0] * mdp.n_states, [0] * mdp.n_states, accuracy / problem.rest

        def answer() -> Answered:
            model.solve("mpi", tolerance=tolerance, initPolicy=first, initValueVector=zeros, parallel=parallel)
            pairs = mdp.pairs.start[:-1] + np.array(model.getPolicy())
            model.getValueVector()
            return Answered(_mark(mdp, pairs))

        return answer

    return prepare


def linprog_values(method: str) -> Callable[[oc.Problem, float], Callable[[], Answered]]:
    """The program over values, min (1 − γ) μ0·V with V ≥ r + γPV, by scipy."""

    def prepare(problem: oc.Problem, accuracy: float) -> Callable[[], Answered]:
        from scipy.optimize import linprog

        mdp = problem.mdp
        flow = flow_matrix(problem)

        def answer() -> Answered:
            found = linprog(
                np.ones(mdp.n_states), A_ub=-flow, b_ub=-mdp.pair_rewards, bounds=(None, None), method=method
            )
            notes = {"status": found.message, "iterations": int(found.nit)}
            if found.x is None:
                raise RuntimeError(found.message)
            scores = mdp.pair_rewards - flow @ found.x
            tops = np.maximum.reduceat(scores, mdp.pairs.start[:-1])
            return Answered(_first_of(mdp, scores == tops[mdp.pairs.states]), notes)

        return answer

    return prepare


def flow_matrix(problem: oc.Problem) -> Any:
    """E − γP, sparse [pairs, S]."""
    from scipy import sparse

    pairs = problem.mdp.pairs
    own = sparse.csr_array((np.ones(pairs.n_pairs), (np.arange(pairs.n_pairs), pairs.states)))
    return sparse.csr_array(own - problem.discount * problem.mdp.transitions)


def chosen(mdp: oc.MDP, actions: Any) -> Any:
    """The deterministic policy that takes one action, by its number, in each state."""
    return _first_of(mdp, mdp.pairs.actions == actions[mdp.pairs.states])


def _first_of(mdp: oc.MDP, mask: Any) -> Any:
    marked = np.flatnonzero(mask)
    return _mark(mdp, marked[np.searchsorted(marked, mdp.pairs.start[:-1])])


def _mark(mdp: oc.MDP, pairs: Any) -> Any:
    probabilities = np.zeros(mdp.n_pairs)
    probabilities[pairs] = 1.0
    return probabilities


def _split(items: list[Any], starts: Any) -> list[list[Any]]:
    return [items[first:last] for first, last in pairwise(starts.tolist())]

"""Newton's method on the smooth dual of the joint-KL program.

Minimise g(V) = (1 − γ) μ0·V + τ log Σ d0 exp((r + γPV − V) / τ). The dual does not change with V + c,
so one state is pinned; small τ is approached through larger ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from occlp._typing import AnyArray, FloatArray
from occlp.evaluation import formulate, pair_residuals
from occlp.problem import Problem
from occlp.regularizers import KLTerm
from occlp.result import Result
from occlp.solvers.base import Iterate, Start
from occlp.solvers.occupancy_program import soft_policy
from occlp.standard import StandardForm, flow_matrix


@dataclass(frozen=True)
class KLDual:
    """Newton's method on the dual of a problem with a KL term, with continuation in the strength.

    Parameters
    ----------
    max_steps : int
        Newton steps at each strength.

    Notes
    -----
    The dual of the Gibbs variational principle is smooth and convex; its Hessian is
    F (diag(p) − p pᵀ) Fᵀ / τ with p the Gibbs distribution, solved sparsely.
    """

    max_steps: int = 60

    @property
    def promises_tol(self) -> bool:
        """True: a missed tolerance is an error."""
        return True

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if problem.regularizer is None:
            return "it needs a KL term; PolicyIteration answers the plain question"
        if problem.limits:
            return "it cannot keep constraints; OccupancyProgram can"
        return None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield after each Newton step at the final strength."""
        form = formulate(problem)
        assert isinstance(form.term, KLTerm)
        assert problem.regularizer is not None
        newton = _Newton(form)
        values = np.zeros(form.n_states)
        if isinstance(start, Result):  # a result brings its certifying values
            values = form.sign * start.certificate.values / form.scale
            strengths = [form.term.strength]
        else:
            strengths = _continuation(form.term.strength, form.reward_range)
        for strength in strengths:
            final = strength == form.term.strength
            for _ in range(self.max_steps):
                values, decrement = newton.step(values, strength)
                if final:
                    scores, _ = pair_residuals(form, values, None)
                    policy = soft_policy(form, scores, problem.regularizer.reference)
                    yield Iterate(policy, form.sign * form.scale * values)
                if decrement <= (1e-30 if final else 1e-3 * strength):
                    break


def _continuation(strength: float, reward_range: float) -> list[float]:
    """Strengths from the size of the rewards down to the one asked for, each a quarter of the last."""
    strengths = [strength]
    while strengths[-1] < 0.5 * reward_range:
        strengths.append(4.0 * strengths[-1])
    return strengths[::-1]


class _Newton:
    """Newton steps on the pairs and states of the prior's support."""

    def __init__(self, form: StandardForm) -> None:
        assert isinstance(form.term, KLTerm)
        self.form, self.term = form, form.term
        self.pairs: AnyArray = np.flatnonzero(form.term.support)
        self.states: AnyArray = np.unique(form.states[self.pairs])
        self.flow: Any = sparse.csr_array(flow_matrix(form)[self.states][:, self.pairs])
        self.pinned = int(np.argmax(form.initial[self.states]))
        self.free = np.delete(np.arange(len(self.states)), self.pinned)

    def dual(self, values: FloatArray, strength: float) -> tuple[float, FloatArray]:
        """Value of g and the Gibbs distribution p, [kept pairs]."""
        form, term = self.form, replace(self.term, strength=strength)
        scores, _ = pair_residuals(form, values, None)
        value = form.rest * float(form.initial @ values) + term.bound(scores)
        return value, term.maximizer(scores)[self.pairs]

    def step(self, values: FloatArray, strength: float) -> tuple[FloatArray, float]:
        """One damped Newton step; returns the new values and the Newton decrement squared (scaled)."""
        form = self.form
        value, gibbs = self.dual(values, strength)
        mass = self.flow @ gibbs
        gradient = form.rest * form.initial[self.states] - mass
        direction, decrement = np.zeros(form.n_states), 0.0
        if len(self.free):
            direction[self.states[self.free]] = self._direction(gibbs, mass, gradient, strength)
            decrement = float(-(gradient @ direction[self.states]))
        if not decrement > 0:
            return values, 0.0
        length = 1.0
        while length > 1e-10:
            trial = values + length * direction
            new, _ = self.dual(trial, strength)
            # Near the optimum the decrease drowns in rounding: the full step is then the right one.
            if new <= value - 1e-4 * length * decrement or decrement <= 1e-14 * (abs(value) + strength):
                return trial, decrement
            length *= 0.5
        return values, 0.0

    def _direction(self, gibbs: FloatArray, mass: FloatArray, gradient: FloatArray, strength: float) -> FloatArray:
        """Solve F (diag(p) − ppᵀ) Fᵀ δ = −τ ∇g with the pinned state left out (Sherman-Morrison)."""
        free = self.free
        flow = self.flow[free]
        hessian = sparse.csc_array((flow * gibbs) @ flow.T)
        diagonal = hessian.diagonal()
        ridge = 1e-14 * diagonal.max() + 1e-300
        factors = splu(
            hessian + ridge * sparse.eye_array(len(free), format="csc"),
            permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True},
        )  # fmt: skip
        right = factors.solve(np.column_stack([-strength * gradient[free], mass[free]]))
        plain, rank_one = right[:, 0], right[:, 1]
        denominator = 1.0 - float(mass[free] @ rank_one)
        if denominator <= 1e-12:
            return np.asarray(plain)
        return np.asarray(plain + rank_one * (float(mass[free] @ plain) / denominator))

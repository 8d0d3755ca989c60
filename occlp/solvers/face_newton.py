"""Newton's method on a face of the occupancy polytope: the last digits of smooth concave problems.

Given an answer of limited accuracy, the pairs that carry mass and the constraints that are tight are
guessed, the optimality conditions on that face are solved by Newton's method, and the guess is mended:
pairs whose mass would turn negative leave, pairs that would gain join. Constraints f(d) ≥ b on smooth
utilities enter as the rows b − f(d), with the curvature of the Lagrangian.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from occlp._typing import FloatArray
from occlp.certificate import to_multipliers, to_prices
from occlp.evaluation import assess, formulate
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.residuals import pair_residuals
from occlp.solvers.base import Iterate, Start, start_policy
from occlp.solvers.soft_policy_iteration import SoftPolicyIteration
from occlp.standard import StandardForm, flow_matrix
from occlp.terms import JointTerm, PolicyTerm

#: Share of its state's mass below which a pair is guessed to carry none.
NO_SHARE = 1e-6
#: Pull towards the last point, relative to the curvature; makes faces with several optima solvable.
PROXIMITY = 1e-9
#: By how much the score of a pair outside a face must be the better one for it to join, in sizes of the objective.
GAINING = 1e-9
#: Steps that move more mass than this stop at the first pair that has none left.
TRUSTED = 0.1
#: What keeps the matrix regular where flow rows and limits depend on each other.
RIDGE = 1e-14
#: Curvatures below this share of the largest count as this share.
FLAT = 1e-9


@dataclass(frozen=True)
class FaceNewton:
    """Active-set Newton method for smooth terms; needs ``start=`` a policy near the optimum.

    Parameters
    ----------
    max_steps : int
        Newton steps in all.
    multipliers : mapping of str to float
        Prices of the constraints to begin with; those of concave constraints bring the curvature.
    """

    max_steps: int = 60
    multipliers: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def promises_tol(self) -> bool:
        """False: it only mends answers that are near."""
        return False

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        form = formulate(problem)
        terms = [limit.term for limit in form.concave] + ([] if form.term is None else [form.term])
        if not terms or not all(term.smooth for term in terms):
            return "it needs a smooth term in the objective or in a constraint, and none that is not smooth"
        return None

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield after each Newton step."""
        form, policy = formulate(problem), start_policy(problem, start)
        assert policy is not None
        if isinstance(form.term, PolicyTerm) and not form.concave:  # its dual is smooth: no face has to be guessed
            yield from SoftPolicyIteration().iterate(problem, tol=tol, rng=rng, start=start)
            return
        face = _Face(form, policy, self.multipliers)
        for _ in range(self.max_steps):
            if not face.step():
                return
            yield face.iterate(problem)


class _Face:
    """A point on a face, with values and prices."""

    def __init__(self, form: StandardForm, policy: Policy, multipliers: Mapping[str, float]) -> None:
        self.form, self.term = form, form.term
        self.flow = flow_matrix(form)
        self.point = assess(form, policy.pair_probabilities).pair_occupancy.copy()
        share = 0.0 if isinstance(form.term, JointTerm | PolicyTerm) else NO_SHARE  # these use every pair
        kept = np.ones(form.n_pairs, dtype=np.bool_) if form.term is None else form.term.support
        self.free = (policy.pair_probabilities > share) & (self.point > 0) & kept
        self.kept = kept
        self.point[~self.free] = 0.0
        self.values = np.zeros(form.n_states)
        self.prices = to_prices(form, multipliers)
        self.equal = np.append(form.limits.equal, np.zeros(len(form.concave), dtype=np.bool_))
        self.bent = np.arange(len(self.equal)) >= len(form.limits.names)
        self.tight = self.equal | (self._limits(self.point)[0] > -1e-6) | (self.bent & (self.prices > 0))
        self.settled = False

    def step(self) -> bool:
        """One Newton step on the face and one correction of the face; False where none is possible or needed."""
        free, form = np.flatnonzero(self.free), self.form
        if self.settled or not len(free):
            return False
        visited = np.unique(form.states[free])
        tight = np.flatnonzero(self.tight)
        heights, slopes = self._limits(self.point)
        if not (np.isfinite(heights[tight]).all() and np.isfinite(slopes[np.ix_(tight, free)]).all()):
            return False
        rows = self._rows(free, visited, slopes[np.ix_(tight, free)])
        target = np.zeros(rows.shape[0])
        target[: len(visited)] = form.rest * form.initial[visited]
        at = slice(len(visited), len(visited) + len(tight))
        target[at] = slopes[np.ix_(tight, free)] @ self.point[free] - heights[tight]  # zero for linear limits
        if form.rest == 0:
            target[-1] = 1.0
        solution = self._solve(free, rows, target)
        if solution is None:
            return False
        move, dual = solution
        full = self._move(free, move)
        self.values = np.zeros(form.n_states)
        self.values[visited] = dual[: len(visited)]
        before, self.prices = self.prices, np.zeros(len(form.names))
        self.prices[tight] = dual[at]
        if not full:  # the duals of a step that was cut say little; without a price there would be no curvature
            kept = self.bent & (self.prices <= 0)
            self.prices[kept] = before[kept]
        else:
            small = np.abs(move) <= 1e-13 * self.point[free]
            self.settled = not self._mend() and bool(small.all())
        return True

    def iterate(self, problem: Problem) -> Iterate:
        """The point as a policy, with its values and prices."""
        form = self.form
        prices = form.feasible_prices(self.prices)
        policy = Policy.from_occupancy(problem.mdp.pairs, np.maximum(self.point, 0.0))
        return Iterate(policy, form.sign * form.scale * self.values, multipliers=to_multipliers(form, prices))

    def _limits(self, point: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values [k] of all constraints, which must not be positive, and their slopes, finite at d = 0, [k, pairs]."""
        limits, inner = self.form.limits, np.maximum(point, 1e-300)
        bent = [limit.bound - limit.term.value(point) for limit in self.form.concave]
        slopes = [-limit.term.gradient(inner)[None, :] for limit in self.form.concave]
        return np.append(limits.rows @ point, bent), np.concatenate([limits.rows, *slopes])

    def _gradient(self, point: FloatArray) -> FloatArray:
        """Slope of the objective, [pairs]."""
        return self.form.rewards if self.term is None else self.form.rewards + self.term.gradient(point)

    def _solve(self, free: Any, rows: Any, target: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """Move and duals of the optimality conditions linearised at the point; None where they are singular.

        Pairs are measured in units of their curvature, which ranges over many powers of ten.
        """
        point, n = self.point[free], len(free)
        curvature, others, weights = self._curvature(free)
        diagonal = curvature.diagonal() + weights @ others.power(2)
        if not diagonal.max() > 0:  # nothing is curved: a linear program, and no matter for this method
            return None
        units = sparse.diags_array(1.0 / np.sqrt(np.maximum(diagonal, FLAT * diagonal.max() + 1e-300)))
        scaled = -(units @ curvature @ units) - PROXIMITY * sparse.eye_array(n)
        slope = self._gradient(self.point)[free]
        flow, others = rows @ units, others @ units
        system = sparse.csc_array(
            sparse.block_array(
                [[scaled, -flow.T, -others.T], [-flow, None, None], [-others, None, sparse.diags_array(1.0 / weights)]]
            )
        )
        ridge = np.zeros(system.shape[0])
        ridge[n : n + len(target)] = RIDGE
        try:
            factors: Any = splu(sparse.csc_array(system + sparse.diags_array(ridge)))
        except RuntimeError:  # exactly singular
            return None
        right = np.concatenate([-(units @ slope), rows @ point - target, np.zeros(len(weights))])
        solution = factors.solve(right)
        for _ in range(2):  # the ridge is taken out again
            solution = solution + factors.solve(right - system @ solution)
        if not np.isfinite(solution).all():
            return None
        return units @ solution[:n], solution[n : n + len(target)]

    def _curvature(self, free: Any) -> tuple[Any, Any, FloatArray]:
        """Minus the second derivative as a matrix M plus Cᵀ diag(w) C: M [free, free], C [k, free] and w [k]."""
        terms = [] if self.term is None else [(1.0, self.term)]
        prices = self.prices[len(self.form.limits.names) :]
        terms += [(price, limit.term) for price, limit in zip(prices, self.form.concave, strict=True) if price > 0]
        whole = sparse.csr_array((len(free), len(free)))
        blocks, weights = [sparse.csr_array((0, len(free)))], [np.zeros(0)]
        for price, term in terms:
            factors = term.low_rank(self.point)
            if factors is None:
                whole = whole - price * sparse.csr_array(term.hessian(self.point))[free][:, free]
                continue
            rows = sparse.csr_array(sparse.csr_array(factors[0])[:, free])
            used = np.flatnonzero(np.diff(rows.indptr))
            blocks.append(sparse.csr_array(rows[used]))
            weights.append(price * factors[1][used])
        return sparse.csr_array(whole), sparse.csr_array(sparse.vstack(blocks)), np.concatenate(weights)

    def _rows(self, free: Any, visited: Any, limits: FloatArray) -> Any:
        blocks = [self.flow[visited][:, free], sparse.csr_array(limits)]
        if self.form.rest == 0:  # undiscounted, the flow rows do not fix the mass
            blocks.append(sparse.csr_array(np.ones((1, len(free)))))
        return sparse.csr_array(sparse.vstack(blocks))

    def _move(self, free: Any, move: FloatArray) -> bool:
        """Take the step; pairs that would turn negative leave the face, but not all of a state.

        Returns whether none did.
        """
        states, point = self.form.states[free], self.point[free]
        shrinking = move < 0
        limit = float((point[shrinking] / -move[shrinking]).min(initial=np.inf))
        length = 1.0 if np.abs(move).sum() <= TRUSTED else min(limit, 1.0)  # no pair beyond the first in a long step
        new = point + length * move
        negative = shrinking & (new <= 1e-12 * point)
        if negative.any():
            first = np.flatnonzero(np.diff(states, prepend=-1))
            last = np.maximum.reduceat(new, first)[np.cumsum(np.diff(states, prepend=-1) > 0) - 1]
            kept = negative & (new == last)
            new[kept] = 0.05 * point[kept]
            new[negative & ~kept] = 0.0
            self.free[free[negative & ~kept]] = False
        self.point[free] = new
        return not bool(negative.any())

    def _mend(self) -> bool:
        """Pairs that would gain join the face, constraints with a price of the wrong sign leave it.

        Returns whether anything changed.
        """
        form = self.form
        heights, slopes = self._limits(self.point)
        prices = form.feasible_prices(self.prices)
        used = prices != 0
        rewards = self._gradient(np.maximum(self.point, 1e-300)) - prices[used] @ slopes[used]
        scores, _ = pair_residuals(form, self.values, None, np.where(self.kept, rewards, -1e300))
        level = float(np.median(scores[self.free])) if self.free.any() else 0.0
        others = self._value_the_others(rewards - level)
        scores, _ = pair_residuals(form, self.values, None, np.where(self.kept, rewards, -1e300))
        size = 1.0 if self.term is None else max(1.0, self.term.spread)
        gaining = ~self.free & (scores > level + GAINING * size)
        if gaining.any():
            gaining[others] = True  # so that what enters a state that was not visited can leave it
        self.free |= gaining
        self.point[gaining] = np.maximum(self.point[gaining], 1e-12)
        tight = self.equal | (self.tight & (self.prices > 0)) | (heights > 1e-12)
        changed = bool(gaining.any() or (tight != self.tight).any())
        self.tight = tight
        return changed

    def _value_the_others(self, rewards: FloatArray) -> Any:
        """Give the states without mass the least values at which nothing gains there: policy iteration on them.

        Returns the pair chosen in each of them.
        """
        form = self.form
        outside = np.ones(form.n_states, dtype=np.bool_)
        outside[form.states[self.free]] = False
        others = np.flatnonzero(outside)
        pairs = np.flatnonzero(outside[form.states] & self.kept)
        if not len(others) or len(np.unique(form.states[pairs])) < len(others):
            return pairs[:0]
        first = np.searchsorted(form.states[pairs], others)
        columns = sparse.csr_array(self.flow.T)[pairs]  # row k holds e_s − γ p of pair k
        inside, known = columns[:, others], columns[:, np.flatnonzero(~outside)] @ self.values[~outside]
        chosen = first
        for _ in range(100):
            try:
                factors: Any = splu(sparse.csc_array(inside[chosen]))
            except RuntimeError:  # undiscounted, and closed
                return pairs[:0]
            values = factors.solve((rewards[pairs] - known)[chosen])
            scores = rewards[pairs] - known - inside @ values
            top = np.maximum.reduceat(scores, first)
            if not top.max() > 1e-12 * (1.0 + np.abs(values).max()):
                break
            best = np.flatnonzero(scores == np.repeat(top, np.diff([*first, len(pairs)])))
            chosen = best[np.searchsorted(best, first)]
        self.values[others] = values
        return pairs[chosen]

"""Inner and outer approximation of the set of expectations that policies can reach.

The expectations of several objectives are linear in the occupancy, so what policies reach is a polytope Z.
Any weights w ≥ 0 ask a plain question, to maximise w·z; its answer is a point of Z, and its certificate a
half-space w·z ≤ U that contains Z. The points found span an inner approximation (what mixtures of them reach
or surpass), the half-spaces an outer one. The next weights are a facet of the inner one that no half-space
has confirmed. With two objectives this is the dichotomic search of Aneja and Nair (1979), with more the
same on the facets of a hull (Benson 1998; Roijers 2016). Every weight vector either finds a point beyond the
facet or confirms it, so the search ends with all vertices, or sooner within the tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from occlp._typing import AnyArray, FloatArray
from occlp.errors import Infeasible, NotCertified, Unbounded, Unsupported
from occlp.evaluation import total_of
from occlp.policy import Policy
from occlp.problem import Problem, refuse_concave
from occlp.result import Status
from occlp.solvers.base import Solver
from occlp.solving import solve

#: Differences of scaled objectives (ranges of one) up to which points count as the same: rounding.
SAME = 1e-12
#: The accuracy of the linear programs over half-spaces, added to what they prove.
PROGRAM_ERROR = 1e-9
#: The tolerance asked of each weighted question; rounding is the floor.
QUESTION_TOL = 1e-10


@dataclass(frozen=True, eq=False)
class Scale:
    """One objective, scaled so that more is better and its range over the pairs is one."""

    name: str
    sign: float  # 1 to maximise, −1 to minimise
    coefficients: FloatArray  # [pairs], the user's
    low: float
    size: float

    @classmethod
    def of(cls, name: str, sign: float, coefficients: FloatArray, *, total: bool = False) -> Scale:
        """Scale the coefficients of an objective, [pairs]; those of a total have no offset."""
        low, high = float(coefficients.min()), float(coefficients.max())
        if total:
            low, high = 0.0, float(np.abs(coefficients).max())
        return cls(name, sign, coefficients, low, high - low if high > low else 1.0)

    @property
    def gains(self) -> FloatArray:
        """The scaled objective of each pair, in [−1, 1], [pairs]."""
        return self.sign * (self.coefficients - self.low) / self.size

    def to_user(self, value: float | FloatArray) -> FloatArray:
        """Scaled expectations back in the user's units."""
        return np.asarray(self.low + self.sign * self.size * np.asarray(value))


@dataclass(eq=False)
class Search:
    """The points, half-spaces and facets found so far; all coordinates are scaled.

    Attributes
    ----------
    problem : Problem
        Its model, criterion and constraints are kept; its rewards are replaced by weighted sums.
    scales : list of Scale [k]
    solver : Solver or None
        For the weighted questions.
    """

    problem: Problem
    scales: list[Scale]
    solver: Solver | None = None
    points: list[FloatArray] = field(default_factory=list)  # [k] each
    policies: list[Policy] = field(default_factory=list)
    found_by: list[FloatArray] = field(default_factory=list)  # [k] each, the weights of the point
    half_spaces: list[tuple[FloatArray, float]] = field(default_factory=list)
    n_solves: int = 0
    _bounds: dict[tuple[float, ...], float] = field(default_factory=dict)
    _asked: set[tuple[float, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        refuse_concave(self.problem, "a front takes")
        self.gains = np.stack([scale.gains for scale in self.scales])  # [k, pairs]
        # Limits may speak of the reward, which is about to be replaced: they are turned into numbers.
        self.limits = {name: self.problem.in_numbers(limit) for name, limit in self.problem.limits.items()}

    def run(self, tol: float, max_solves: int) -> None:
        """Search until every facet is confirmed within `tol`, or `max_solves` questions are answered."""
        for axis in np.eye(len(self.scales)):
            self.ask(axis, tol)
        while self.n_solves < max_solves:
            open_facets = [facet for facet in self.facets() if self._key(facet) not in self._asked]
            if not open_facets:
                return
            excesses = [self.bound(facet) for facet in open_facets] - self.support(np.array(open_facets))
            widest, excess = open_facets[int(np.argmax(excesses))], float(excesses.max())
            if excess <= tol:
                return
            if np.isfinite(excess):  # half-spaces found since may prove more
                self._bounds[self._key(widest)] = bound = self._program_bound(widest)
                excess = bound - float(self.support(widest))
            if excess > tol:
                self.ask(widest, tol)

    def ask(self, weights: FloatArray, tol: float) -> None:
        """Answer the question of these weights; keeps its half-space, and its point where that is new."""
        mdp = self.problem.mdp.replace(rewards=weights @ self.gains)
        question = replace(self.problem, mdp=mdp, sense="maximize", constraints=self.limits, objective="reward")
        result = solve(question, self.solver, tol=QUESTION_TOL, check=False, start=self._nearest(weights))
        if result.status is Status.INFEASIBLE:
            raise Infeasible(result.message, result)
        if result.status is Status.UNBOUNDED:
            raise Unbounded(result.message, result)
        if result.status is Status.FAILED or not np.isfinite(result.certificate.upper):
            raise NotCertified(f"a weighted question of the front failed: {result.message}", result)
        self.n_solves += 1
        upper = result.certificate.upper
        self.half_spaces.append((weights, upper))
        self._bounds[self._key(weights)] = upper
        self._asked.add(self._key(weights))
        point = np.array([total_of(result.pair_occupancy, gains) for gains in self.gains])
        if not np.isfinite(point).all():
            raise Unsupported(
                "a policy of the front stays for ever where another objective is paid without end. Give the problem "
                "a goal= that must be reached."
            )
        if not self.points or weights @ point > self.support(weights) + max(tol, SAME):
            self.points.append(point)
            self.policies.append(result.policy)
            self.found_by.append(weights)

    def support(self, weights: FloatArray) -> FloatArray:
        """The most that the points reach in a direction [k], or in each of several, [n, k]."""
        return np.asarray((weights @ np.array(self.points).T).max(axis=-1))

    def bound(self, weights: FloatArray) -> float:
        """The most that any policy may reach in a direction, as far as it is known.

        With two objectives the search asks every facet anyway; with more, half-spaces may spare a question.
        """
        key = self._key(weights)
        if key not in self._bounds:
            self._bounds[key] = np.inf if len(weights) == 2 else self._program_bound(weights)
        return self._bounds[key]

    def _program_bound(self, weights: FloatArray) -> float:
        """What the half-spaces known now prove together."""
        rows, ends = (np.array(part) for part in zip(*self.half_spaces, strict=True))
        answer = linprog(-weights, A_ub=rows, b_ub=ends, bounds=(None, None), method="highs-ds")
        return np.inf if answer.fun is None else -float(answer.fun) + PROGRAM_ERROR

    def facets(self) -> list[FloatArray]:
        """Weights w ≥ 0, summing to one, of the facets of what mixtures of the points reach or surpass."""
        points = np.array(self.points)
        if points.shape[1] == 2:
            corners = points[chain(points)]
            steps = np.column_stack([np.diff(corners[:, 1]), -np.diff(corners[:, 0])])
            return [*np.eye(2), *(steps / steps.sum(axis=1, keepdims=True))]
        # Each point with all that it surpasses, cut off at a distance: the hull has the same upper facets.
        below = [points - 4.0 * axis for axis in np.eye(points.shape[1])]
        normals = ConvexHull(np.vstack([points, *below])).equations[:, :-1]
        upper = np.maximum(normals[normals.min(axis=1) >= -1e-9], 0.0)
        upper = upper / upper.sum(axis=1, keepdims=True)
        return list(upper[np.unique(upper.round(9), axis=0, return_index=True)[1]])

    def vertices(self) -> list[int]:
        """Positions of the points that no mixture of the others reaches or surpasses, best first objective first."""
        points = np.array(self.points)
        if points.shape[1] == 2:
            return chain(points)
        kept: list[int] = np.lexsort(-points.T[::-1]).tolist()
        for candidate in list(kept):
            others = points[[n for n in kept if n != candidate]]
            if len(others) and is_reached(points[candidate], others):
                kept.remove(candidate)
        return kept

    def finish(self) -> float:
        """Keep only the vertices, and return the gap that remains."""
        kept = self.vertices()
        self.points = [self.points[n] for n in kept]
        self.policies = [self.policies[n] for n in kept]
        self.found_by = [self.found_by[n] for n in kept]
        facets = self.facets()
        for facet in facets:
            if self._key(facet) not in self._asked:
                self._bounds[self._key(facet)] = self._program_bound(facet)
        return float(max(0.0, *(self.bound(facet) - float(self.support(facet)) for facet in facets)))

    def _key(self, weights: FloatArray) -> tuple[float, ...]:
        """Weights as a key: with three objectives or more the hull returns them with rounding errors."""
        return tuple((weights if len(weights) == 2 else weights.round(9)).tolist())

    def _nearest(self, weights: FloatArray) -> Policy | None:
        """The policy of the best point in a direction, to start from."""
        if not self.points or self.limits:
            return None
        return self.policies[int(np.argmax([point @ weights for point in self.points]))]


def chain(points: AnyArray) -> list[int]:
    """Vertices of the upper right hull of points [n, 2], from the best first to the best second coordinate."""
    kept: list[int] = []
    for n in np.lexsort((-points[:, 1], -points[:, 0])).tolist():
        if kept and points[n, 1] <= points[kept[-1], 1] + SAME:
            continue  # surpassed in both
        while kept and points[kept[-1], 0] - points[n, 0] <= SAME:
            kept.pop()  # the first coordinates are the same, and the second is better
        while len(kept) > 1 and not _sticks_out(points[kept[-2]], points[kept[-1]], points[n]):
            kept.pop()
        kept.append(n)
    return kept


def _sticks_out(first: FloatArray, middle: FloatArray, last: FloatArray) -> bool:
    """Whether the middle one lies beyond the line through its neighbours, by more than rounding."""
    normal = np.array([last[1] - first[1], first[0] - last[0]])
    return float(normal @ (middle - first)) > SAME * float(normal.sum())


def is_reached(point: FloatArray, others: FloatArray) -> bool:
    """Whether a mixture of the others is at least as good in every objective (to the accuracy of the program)."""
    count = len(others)
    answer = linprog(
        np.append(np.zeros(count), 1.0),
        A_ub=np.column_stack([-others.T, -np.ones(len(point))]), b_ub=-point,
        A_eq=np.append(np.ones(count), 0.0)[None, :], b_eq=[1.0],
        bounds=[(0, None)] * count + [(None, None)], method="highs-ds",
    )  # fmt: skip
    return answer.fun is not None and float(answer.fun) <= PROGRAM_ERROR

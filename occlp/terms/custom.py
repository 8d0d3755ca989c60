"""The escape hatch: a concave function of the occupancy written with cvxpy, ``oc.Utility(f)``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy
from scipy import sparse

from occlp._typing import AnyArray, FloatArray
from occlp.convex import load_cvxpy
from occlp.errors import InvalidProblem, Unsupported
from occlp.model import MDP
from occlp.terms.base import EPS, Binding, ConcaveUtility, Majorant, ProgramSize, Term, largest_sum

#: Up to this many pairs the second derivative is computed, by differences of the first.
DIFFERENCED_PAIRS = 100
#: Cutting planes at most, for a function that is not smooth.
MOST_CUTS = 60
#: Weights of the uniform distribution in the points that are tried where there is no gradient.
INWARD = (1e-12, 1e-9, 1e-6, 1e-3, 0.5)


@dataclass(frozen=True, eq=False)
class Utility(ConcaveUtility):
    """A concave function of the occupancy written with cvxpy: the escape hatch, ``oc.Utility(f)``.

    Parameters
    ----------
    function : callable
        ``function(d) -> concave cvxpy expression`` of the occupancy d [pairs].
    smooth : bool
        Whether it has a gradient at the answer. If so, the bound is its linearisation there. If not, the
        linearisation may be loose and the answer BOUNDED; ``smooth=False`` looks for a better majorant
        by cutting planes, which takes longer.

    Notes
    -----
    Its concavity is checked by cvxpy's rules and then trusted: the certificate stores an affine majorant
    made of its gradients, and says so.
    """

    function: Callable[[Any], Any] = field(repr=False)
    smooth: bool = True

    def bind(self, binding: Binding) -> CustomTerm:
        """Return the term."""
        return CustomTerm(self.function, binding.mdp.n_pairs, smooth=self.smooth)

    def parts(self, mdp: MDP) -> list[Any]:
        """Return the name of the function."""
        return ["Utility", getattr(self.function, "__qualname__", "function")]

    def check(self, mdp: MDP) -> None:
        """Raise `InvalidProblem` unless cvxpy knows the expression to be concave."""
        if not callable(self.function):
            raise InvalidProblem(f"oc.Utility takes a function of the occupancy, not {type(self.function).__name__}.")
        variable, written = expression(self.function, mdp.n_pairs)
        others = [other for other in written.variables() if other is not variable]
        empty = [parameter for parameter in written.parameters() if parameter.value is None]
        if others or empty:
            raise InvalidProblem(f"oc.Utility(f): f(d) must depend on d alone, not on {(others + empty)[0]}.")


class NamedUtility(Utility):
    """A user's function of which only the name is known, as a file has it: it can be audited, not evaluated."""

    def __init__(self, name: str) -> None:
        super().__init__(_unknown)
        object.__setattr__(self, "name", name)

    def bind(self, binding: Binding) -> CustomTerm:
        """Raise `Unsupported`: there is no function."""
        raise Unsupported(
            f"of {self.parts(binding.mdp)[1]!r} the file has the name only; the question cannot be solved."
        )

    def parts(self, mdp: MDP) -> list[Any]:
        """Return the name of the function."""
        return ["Utility", vars(self)["name"]]

    def check(self, mdp: MDP) -> None:
        """There is nothing to check."""


def _unknown(occupancy: Any) -> Any:
    raise Unsupported("of this function a file has the name only.")


class CustomTerm(Term):
    """A user's function, through cvxpy; its majorants are made of linearisations."""

    def __init__(self, function: Callable[[Any], Any], n_pairs: int, *, smooth: bool) -> None:
        self.function, self.n_pairs = function, n_pairs
        self.smooth = smooth and n_pairs <= DIFFERENCED_PAIRS
        self.cuts = 1 if smooth else MOST_CUTS
        self.support = np.ones(n_pairs, dtype=np.bool_)
        self.spread = self._size()

    def value(self, occupancy: FloatArray) -> float:
        """f(d); −inf outside its domain."""
        return _Differentiable(self.function, self.n_pairs).at(occupancy)[0]

    def gradient(self, occupancy: FloatArray) -> FloatArray:
        """∇f(d) by cvxpy; NaN where it does not exist."""
        return _Differentiable(self.function, self.n_pairs).at(occupancy)[1]

    def bound(self, scores: FloatArray, dual: FloatArray | None = None) -> float:
        """max (q + g) + c for the affine majorant g·d + c, packed as [g, c]."""
        if dual is None or not np.isfinite(dual).all():
            return math.inf
        return largest_sum(scores, dual[:-1], np.abs(dual[:-1])) + float(dual[-1])

    def best_dual(self, scores: FloatArray, occupancy: FloatArray) -> FloatArray:
        """The linearisation at d, or the best mixture of linearisations, packed as [∇f, f − ∇f·d]."""
        function = _Differentiable(self.function, self.n_pairs)
        cuts, point = [], occupancy
        best: tuple[float, FloatArray] = (math.inf, np.full(self.n_pairs + 1, np.nan))
        achieved = -math.inf
        for _ in range(self.cuts):
            cut, value = function.majorant(point, occupancy)
            if cut is None:
                break
            cuts.append(cut)
            achieved = max(achieved, float(scores @ point) + value)
            mixture, point = _mix(scores, np.array(cuts))
            bound = self.bound(scores, mixture)
            if bound < best[0]:
                best = bound, mixture
            if best[0] - achieved <= 1e-10 * self.spread:
                break
        return best[1]

    def unit_expression(self, occupancy: Any, pairs: Any, mass: float = 1.0) -> Any:
        """f(d), with zeros for the pairs left out."""
        kept = np.arange(self.n_pairs)[pairs]
        if len(kept) < self.n_pairs:
            spread = sparse.csr_array((np.ones(len(kept)), (kept, np.arange(len(kept)))), (self.n_pairs, len(kept)))
            occupancy = spread @ occupancy
        return mass * self.function(load_cvxpy().atoms.affine.wraps.nonneg_wrap(occupancy / mass))

    def program_size(self, pairs: AnyArray) -> ProgramSize:
        """What cvxpy makes of the function alone."""
        cvxpy = load_cvxpy()
        alone = cvxpy.Variable(len(pairs))
        matrix = cvxpy.Problem(cvxpy.Maximize(self.unit_expression(alone, pairs))).get_problem_data("SCS")[0]["A"]
        return ProgramSize(matrix.shape[1] - len(pairs), matrix.shape[0], int(matrix.nnz))

    def identity(self) -> None:
        """None: a function may hold parameters of its own."""

    def majorant(self, slope: FloatArray, occupancy: FloatArray) -> Majorant:
        """A mixture of linearisations of f, the nearest to the slope that `best_dual` finds."""
        packed = self.best_dual(-slope, occupancy)
        doubt = 64.0 * EPS * (float(np.abs(packed).max()) + self.spread)
        return Majorant(packed[:-1], float(packed[-1]) + doubt, np.zeros(0))

    def hessian(self, occupancy: FloatArray) -> Any:
        """Differences of the gradient, made symmetric."""
        function = _Differentiable(self.function, self.n_pairs)
        here = function.at(occupancy)[1]
        columns = np.empty((self.n_pairs, self.n_pairs))
        for k in range(self.n_pairs):
            moved = np.array(occupancy)
            moved[k] += max(1e-5 * occupancy[k], 1e-8)
            columns[:, k] = (function.at(moved)[1] - here) / (moved[k] - occupancy[k])
        return sparse.csr_array(0.5 * (columns + columns.T))

    def _size(self) -> float:
        """How much f changes over the simplex, from its gradient in the middle and its values at some corners."""
        function, n = _Differentiable(self.function, self.n_pairs), self.n_pairs
        weights = np.arange(1.0, n + 1.0)
        middle, slope = function.at(np.full(n, 1.0 / n))
        slopes = [slope, function.at(weights / weights.sum())[1]]
        corners = [function.at(np.eye(1, n, k)[0])[0] for k in {0, n // 2, n - 1}]
        sizes = [float(np.ptp(slope)) for slope in slopes] + [abs(middle - corner) for corner in corners]
        found = max((size for size in sizes if math.isfinite(size)), default=0.0)
        return found if found > 0.0 else 1.0


class _Differentiable:
    """f and its gradient at numbers; built anew for each use, since cvxpy keeps numbers in its variables."""

    def __init__(self, function: Callable[[Any], Any], n_pairs: int) -> None:
        self.variable, self.expression = expression(function, n_pairs)
        self.n_pairs = n_pairs

    def at(self, point: FloatArray) -> tuple[float, FloatArray]:
        """f and ∇f at a point; (−inf, NaN) outside the domain."""
        self.variable.value = np.maximum(point, 0.0)
        with np.errstate(all="ignore"):
            value, slopes = self.expression.value, self.expression.grad
        slope = slopes.get(self.variable, 0.0)
        number = -math.inf if value is None else float(np.asarray(value).item())
        if slope is None or not math.isfinite(number):
            return number if math.isfinite(number) else -math.inf, np.full(self.n_pairs, np.nan)
        dense = np.asarray(slope.toarray() if hasattr(slope, "toarray") else slope)
        return number, np.array(np.broadcast_to(dense.ravel(), self.n_pairs), dtype=np.float64)

    def majorant(self, point: FloatArray, middle: FloatArray) -> tuple[FloatArray | None, float]:
        """[∇f, f − ∇f·d] and f at the point, or near it where there is no gradient at the point itself."""
        uniform = np.full(self.n_pairs, 1.0 / self.n_pairs)
        found = []
        for weight in (0.0, *INWARD):
            where = (1.0 - weight) * point + weight * 0.5 * (middle + uniform)
            value, slope = self.at(where)
            found.append(value)
            if np.isfinite(slope).all():
                return np.append(slope, value - slope @ where), found[0]
        return None, found[0]


def _mix(scores: FloatArray, cuts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The mixture of majorants with the least bound, and the distribution at which they all bind: a linear program."""
    n, k = len(scores), len(cuts)
    if k == 1:
        best = np.zeros(n)
        best[int(np.argmax(scores + cuts[0, :-1]))] = 1.0
        return cuts[0], best
    size = max(float(np.abs(cuts).max()), float(np.abs(scores).max()), 1e-300)
    answer = scipy.optimize.linprog(
        np.append(cuts[:, -1] / size, 1.0),
        A_ub=np.column_stack([cuts[:, :-1].T / size, -np.ones(n)]), b_ub=-scores / size,
        A_eq=np.append(np.ones(k), 0.0)[None, :], b_eq=[1.0], bounds=[(0, None)] * k + [(None, None)],
        method="highs",
    )  # fmt: skip
    if answer.x is None:
        return cuts[-1], np.full(n, 1.0 / n)
    weights = np.maximum(answer.x[:k], 0.0)
    binding = np.maximum(-np.asarray(answer.ineqlin.marginals), 0.0)
    total = float(binding.sum())
    return weights @ cuts / weights.sum(), binding / total if total > 0 else np.full(n, 1.0 / n)


def expression(function: Callable[[Any], Any], n_pairs: int) -> tuple[Any, Any]:
    """A variable d and the expression f(d); raises `InvalidProblem` unless it is scalar and concave."""
    cvxpy = load_cvxpy()
    variable = cvxpy.Variable(n_pairs, nonneg=True)
    try:
        written = function(variable)
    except Exception as error:
        raise InvalidProblem(f"oc.Utility(f): f(d) raised {type(error).__name__}: {error}") from error
    if not (isinstance(written, cvxpy.Expression) and written.is_scalar() and written.is_concave()):
        raise InvalidProblem("oc.Utility(f): f(d) must be a scalar concave cvxpy expression of d [pairs].")
    return variable, written

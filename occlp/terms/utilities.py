"""Utilities that take the place of the reward: matching an expert, fairness, and the worst case."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from scipy import sparse

from occlp._typing import AnyArray, FloatArray, frozen
from occlp.arguments import read_list, read_numbers
from occlp.constraints import LinearExpression, expected
from occlp.convex import load_cvxpy
from occlp.errors import InvalidProblem
from occlp.model import MDP
from occlp.policy import Policy
from occlp.terms.base import Binding, ConcaveUtility, Majorant, ProgramSize, Term, check_reference, largest_sum

#: A dual whose bound is attained up to this share needs no search.
TIGHT = 1e-13
#: Rounds of a search among the pairs.
MOST_ROUNDS = 60


@dataclass(frozen=True, eq=False)
class TotalVariation(ConcaveUtility):
    """ConcaveUtility ``−½ ‖d − d_target‖₁``: match the occupancy of an expert (apprenticeship learning).

    Parameters
    ----------
    target : Policy or array [S, A]
        A policy, whose occupancy on the model is the target, or an occupancy that sums to one.
    """

    target: Any

    def __post_init__(self) -> None:
        if not isinstance(self.target, Policy):
            object.__setattr__(self, "target", _read_target(self.target))

    def bind(self, binding: Binding) -> VariationTerm:
        """Return the term."""
        if isinstance(self.target, Policy):
            return VariationTerm(binding.occupancy_of(self.target))
        pairs = binding.mdp.pairs
        return VariationTerm(self.target[pairs.states, pairs.actions])

    def parts(self, mdp: MDP) -> list[Any]:
        """Return name and target."""
        if isinstance(self.target, Policy):
            return ["TotalVariation", self.target.pair_probabilities]
        return ["TotalVariation", self.target]

    def check(self, mdp: MDP) -> None:
        """Raise `InvalidProblem` for a target of another model, or one that is not an occupancy."""
        if isinstance(self.target, Policy):
            check_reference(self.target, mdp, "TotalVariation")
            return
        target = self.target
        if target.shape != (mdp.n_states, mdp.n_actions) or not np.isfinite(target).all() or (target < 0).any():
            raise InvalidProblem(f"the target of TotalVariation is a policy or [S, A], not of shape {target.shape}.")
        if abs(target.sum() - 1.0) > 1e-9 or abs(target[mdp.pairs.states, mdp.pairs.actions].sum() - 1.0) > 1e-9:
            raise InvalidProblem(f"the target of TotalVariation sums to {target.sum():.9g} over the pairs, not 1.")


class VariationTerm(Term):
    """f(d) = −½ ‖d − t‖₁ = Σ min(d, t) − 1."""

    def __init__(self, target: FloatArray) -> None:
        self.target = target / target.sum()
        self.support = np.ones(len(target), dtype=np.bool_)
        self.spread = 1.0

    def value(self, occupancy: FloatArray) -> float:
        """−½ ‖d − t‖₁."""
        return -0.5 * float(np.abs(occupancy - self.target).sum())

    def gradient(self, occupancy: FloatArray) -> FloatArray:
        """A supergradient, −½ sign(d − t)."""
        return np.asarray(-0.5 * np.sign(occupancy - self.target))

    def bound(self, scores: FloatArray, dual: FloatArray | None = None) -> float:
        """max q + Σ t (q + 1 − max q)⁺ − 1: mass up to t earns one more than mass beyond it."""
        top = float(scores.max())
        return top - 1.0 + float(self.target @ np.maximum(scores + 1.0 - top, 0.0))

    def unit_expression(self, occupancy: Any, pairs: Any, mass: float = 1.0) -> Any:
        """−½ norm1(d − t), less ½ t of the pairs left out."""
        cvxpy = load_cvxpy()
        missing = 0.5 * float(self.target.sum() - self.target[pairs].sum())
        return -0.5 * cvxpy.norm1(occupancy - mass * self.target[pairs]) - mass * missing

    def program_size(self, pairs: AnyArray) -> ProgramSize:
        """±(d − t) ≤ e for each pair."""
        return ProgramSize(len(pairs), 2 * len(pairs), 4 * len(pairs))


@dataclass(frozen=True, eq=False)
class LogSum(ConcaveUtility):
    """ConcaveUtility ``Σ_i w_i log E[c_i]``: proportional fairness between expectations (Kelly 1997).

    Parameters
    ----------
    expectations : sequence of str, array [S, A] or LinearExpression
        Names of costs, numbers of your own, or expressions such as ``oc.expected("served") / 2``; each must be
        able to be positive.
    weights : sequence of float, optional
        Positive; default one each.
    """

    expectations: Sequence[str | FloatArray | LinearExpression]
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "expectations", _read_expectations(self.expectations))
        if self.weights is not None:
            object.__setattr__(self, "weights", tuple(map(float, _weights(self.weights, len(self.expectations)))))

    def bind(self, binding: Binding) -> LogTerm:
        """Return the term."""
        rows = _rows(self.expectations, binding.mdp)
        return LogTerm(rows, _weights(self.weights, len(rows)))

    def in_numbers(self, mdp: MDP) -> LogSum:
        """The same function with the model's rewards and costs written out."""
        return LogSum(_written_out(self.expectations, mdp), self.weights)

    def parts(self, mdp: MDP) -> list[Any]:
        """Return name, expectations in numbers, and weights."""
        return ["LogSum", _rows(self.expectations, mdp), _weights(self.weights, len(self.expectations))]

    def check(self, mdp: MDP) -> None:
        """Raise `InvalidProblem` for unknown names and for expectations that can never be positive."""
        for row, what in zip(_rows(self.expectations, mdp), self.expectations, strict=True):
            if row.max() <= 0:
                raise InvalidProblem(f"LogSum: {what} is never positive, so its logarithm is −inf everywhere.")


class LogTerm(Term):
    """f(d) = Σ w_i log(c_i·d); its bound has one dual number z_i > 0 an expectation."""

    smooth = True

    def __init__(self, rows: FloatArray, weights: FloatArray) -> None:
        self.rows, self.weights = rows, weights
        self.support = np.ones(rows.shape[1], dtype=np.bool_)
        self.spread = float(weights.sum())

    def value(self, occupancy: FloatArray) -> float:
        """Σ w log(c·d); −inf when an expectation is not positive."""
        means = self.rows @ occupancy
        return float(self.weights @ np.log(means)) if (means > 0).all() else -math.inf

    def gradient(self, occupancy: FloatArray) -> FloatArray:
        """Σ w c / (c·d)."""
        return np.asarray((self.weights / np.maximum(self.rows @ occupancy, 1e-300)) @ self.rows)

    def bound(self, scores: FloatArray, dual: FloatArray | None = None) -> float:
        """max (q + Σ z c) − Σ w (1 + log(z / w)), from w log x ≤ z x − w (1 + log(z / w))."""
        if dual is None or not (dual > 0).all():
            return math.inf
        top = largest_sum(scores, dual @ self.rows, dual @ np.abs(self.rows))
        return top - float(self.weights @ (1.0 + np.log(dual / self.weights)))

    def best_dual(self, scores: FloatArray, occupancy: FloatArray) -> FloatArray:
        """z = w / (c·d), or what makes the pairs that carry mass equally good, which is less sensitive to d."""
        first = np.asarray(self.weights / np.maximum(self.rows @ occupancy, 1e-300))
        second = equalizing(self.rows, scores, occupancy, first)
        return min(first, second, key=lambda dual: self.bound(scores, dual))

    def majorant(self, slope: FloatArray, occupancy: FloatArray) -> Majorant:
        """As of any term; a slope that is some Σ z c has the offset of this z."""
        point = 0.5 * (occupancy + 1.0 / len(occupancy))
        return min(super().majorant(slope, occupancy), super().majorant(slope, point), key=lambda found: found.offset)

    def unit_expression(self, occupancy: Any, pairs: Any, mass: float = 1.0) -> Any:
        """Σ w log(c @ d)."""
        cvxpy = load_cvxpy()
        return mass * self.weights @ cvxpy.log(self.rows[:, pairs] @ occupancy / mass)

    def program_size(self, pairs: AnyArray) -> ProgramSize:
        """A cone (t, 1, c·d) for each expectation."""
        count = len(self.rows)
        return ProgramSize(count, 3 * count, count + int(np.count_nonzero(self.rows[:, pairs])))

    def hessian(self, occupancy: FloatArray) -> Any:
        """−Σ w c cᵀ / (c·d)²."""
        rows, weights = self.low_rank(occupancy)
        return -(rows.T @ sparse.diags_array(weights) @ rows)

    def low_rank(self, occupancy: FloatArray) -> tuple[Any, FloatArray]:
        """The rows c, and w / (c·d)²."""
        return sparse.csr_array(self.rows), self.weights / np.maximum(self.rows @ occupancy, 1e-150) ** 2


@dataclass(frozen=True, eq=False)
class WorstCase(ConcaveUtility):
    """ConcaveUtility ``min_i E[c_i]``: max-min fairness, or the worst of several scenarios of the reward.

    Parameters
    ----------
    expectations : sequence of str, array [S, A] or LinearExpression
    """

    expectations: Sequence[str | FloatArray | LinearExpression]

    def __post_init__(self) -> None:
        object.__setattr__(self, "expectations", _read_expectations(self.expectations))

    def bind(self, binding: Binding) -> WorstTerm:
        """Return the term."""
        return WorstTerm(_rows(self.expectations, binding.mdp))

    def in_numbers(self, mdp: MDP) -> WorstCase:
        """The same function with the model's rewards and costs written out."""
        return WorstCase(_written_out(self.expectations, mdp))

    def parts(self, mdp: MDP) -> list[Any]:
        """Return name and expectations, in numbers."""
        return ["WorstCase", _rows(self.expectations, mdp)]

    def check(self, mdp: MDP) -> None:
        """Raise `InvalidProblem` for unknown names."""
        _rows(self.expectations, mdp)


class WorstTerm(Term):
    """f(d) = min_i c_i·d; its bound has a dual z on the simplex."""

    def __init__(self, rows: FloatArray) -> None:
        self.rows = rows
        self.support = np.ones(rows.shape[1], dtype=np.bool_)
        self.spread = float(rows.max() - rows.min()) or 1.0

    def value(self, occupancy: FloatArray) -> float:
        """min c·d."""
        return float((self.rows @ occupancy).min())

    def gradient(self, occupancy: FloatArray) -> FloatArray:
        """The row that attains the minimum, a supergradient."""
        return np.asarray(self.rows[int(np.argmin(self.rows @ occupancy))])

    def bound(self, scores: FloatArray, dual: FloatArray | None = None) -> float:
        """max (q + Σ z c) for z on the simplex."""
        if dual is None or (dual < 0).any() or not dual.sum() > 0:
            return math.inf
        weights = dual / dual.sum()
        return largest_sum(scores, weights @ self.rows, weights @ np.abs(self.rows))

    def best_dual(self, scores: FloatArray, occupancy: FloatArray) -> FloatArray:
        """The z that makes the bound least: what makes pairs equally good, or a small linear program."""
        n = len(self.rows)
        found = np.maximum(equalizing(self.rows, scores, occupancy, np.full(n, 1.0 / n)), 0.0)
        attained = float(scores @ occupancy) + self.value(occupancy)
        near = TIGHT * (self.spread + float(np.ptp(scores)))
        return found if self.bound(scores, found) <= attained + near else _least_mixture(self.rows, scores, found)

    def unit_expression(self, occupancy: Any, pairs: Any, mass: float = 1.0) -> Any:
        """min(c @ d), the same for every mass."""
        cvxpy = load_cvxpy()
        return cvxpy.min(self.rows[:, pairs] @ occupancy)

    def program_size(self, pairs: AnyArray) -> ProgramSize:
        """t ≤ c·d for each expectation."""
        count = len(self.rows)
        return ProgramSize(1, count, count + int(np.count_nonzero(self.rows[:, pairs])))


def equalizing(rows: FloatArray, scores: FloatArray, occupancy: FloatArray, dual: FloatArray) -> FloatArray:
    """The z nearest to a dual for which q + Σ z c is constant where an occupancy has mass, as near as can be."""
    used = np.flatnonzero(occupancy > 0)
    mass, columns = occupancy[used] / occupancy[used].sum(), rows[:, used]
    short = scores[used] + dual @ columns
    columns = columns - (columns @ mass)[:, None]
    gram = (columns * mass) @ columns.T
    units = 1.0 / np.sqrt(np.maximum(gram.diagonal(), 1e-300))
    step = np.linalg.lstsq(units[:, None] * gram * units, -units * (columns @ (mass * short)), rcond=1e-12)[0]
    return np.asarray(dual + units * step)


def _least_mixture(rows: FloatArray, scores: FloatArray, dual: FloatArray) -> FloatArray:
    """The z on the simplex with the least max (q + Σ z c): a linear program over pairs that have been the largest."""
    count, best, fallback = len(rows), (np.inf, dual), np.full(len(rows), 1.0 / len(rows))
    size = float(np.abs(rows).max()) + float(np.abs(scores).max()) or 1.0
    pairs, z = np.zeros(0, dtype=np.intp), dual / dual.sum() if dual.sum() > 0 else fallback
    for _ in range(MOST_ROUNDS):
        sums = scores + z @ rows
        best = min(best, (float(sums.max()), z), key=lambda found: found[0])
        if len(pairs) and sums.max() <= sums[pairs].max() + 1e-15 * size:
            break
        pairs = np.union1d(pairs, np.argpartition(-sums, min(count, len(sums) - 1))[: count + 1])
        answer = scipy.optimize.linprog(
            np.append(np.zeros(count), 1.0),
            A_ub=np.column_stack([rows[:, pairs].T / size, -np.ones(len(pairs))]), b_ub=-scores[pairs] / size,
            A_eq=np.append(np.ones(count), 0.0)[None, :], b_eq=[1.0], bounds=[(0, None)] * count + [(None, None)],
            method="highs",
        )  # fmt: skip
        if answer.x is None or not answer.x[:count].sum() > 0:
            break
        z = np.maximum(answer.x[:count], 0.0) / np.maximum(answer.x[:count], 0.0).sum()
    return best[1]


def _read_target(target: Any) -> FloatArray:
    return frozen(read_numbers(target, "the target of TotalVariation, a policy or [S, A],"))


def _read_expectations(expectations: Any) -> tuple[str | LinearExpression, ...]:
    if isinstance(expectations, str | LinearExpression) or not isinstance(expectations, Iterable):
        raise InvalidProblem("give a list of at least one expectation, such as ['served', 'waiting'].")
    listed = tuple(
        expected(what) if isinstance(what, np.ndarray) else what
        for what in read_list(expectations, "a utility of expectations")
    )
    if not listed:
        raise InvalidProblem("give a list of at least one expectation, such as ['served', 'waiting'].")
    for what in listed:
        if not isinstance(what, str | LinearExpression):
            name = type(what).__name__
            raise InvalidProblem(f"an expectation is a cost's name, an [S, A] array or oc.expected(...), not {name}.")
        if not isinstance(what, str) and any(atom.total for _, atom in what.terms):
            raise InvalidProblem(f"{what} is on the return scale; a utility takes expectations per step, oc.expected.")
    return listed


def _rows(expectations: Sequence[Any], mdp: MDP) -> FloatArray:
    listed = [expected(what) if isinstance(what, str) else what for what in expectations]
    return np.array([what.coefficients(mdp, 0.0) for what in listed])


def _written_out(expectations: Sequence[Any], mdp: MDP) -> list[LinearExpression]:
    return [expected(mdp.pairs.table(row, 0.0)) for row in _rows(expectations, mdp)]


def _weights(weights: Any, count: int) -> FloatArray:
    array = np.ones(count) if weights is None else read_numbers(weights, "weights=")
    if array.shape != (count,) or not (np.isfinite(array) & (array > 0)).all():
        raise InvalidProblem(f"weights must be {count} positive numbers, not {weights!r}.")
    return array

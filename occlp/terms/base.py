"""The protocol of concave terms, and what binds them to a problem."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, NoReturn

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, BoolArray, FloatArray, IntArray, frozen
from occlp.constraints import ConcaveConstraint, read_bound
from occlp.errors import InvalidProblem
from occlp.model import MDP
from occlp.plain import plain_array, plain_number
from occlp.policy import Policy

#: Distance from 1 to the next double.
EPS = float(np.finfo(np.float64).eps)

#: Masses below this have the curvature of this one, which a strength of 1e9 does not make infinite.
LEAST_MASS = 1e-200


@dataclass(frozen=True, eq=False)
class Binding:
    """What a term needs to know of the problem it belongs to.

    Attributes
    ----------
    mdp : MDP
    scale : float
        User units of the objective per unit of the standard form.
    occupancy_of : callable
        Occupancy of a policy on the model, [pairs].
    """

    mdp: MDP
    scale: float
    occupancy_of: Callable[[Policy], FloatArray]


@dataclass(frozen=True, eq=False)
class Majorant:
    """An affine function that is nowhere on the simplex below a concave f: f(d) ≤ slope·d + offset.

    Attributes
    ----------
    slope : FloatArray [pairs]
    offset : float
    dual : FloatArray
        Parameter of the bound that gives the offset (`Term.bound`), empty where there is none.
    """

    slope: FloatArray  # [pairs]
    offset: float
    dual: FloatArray

    def to_plain(self) -> dict[str, Any]:
        """Return the numbers as lists."""
        return {"slope": self.slope.tolist(), "offset": self.offset, "dual": self.dual.tolist()}

    @classmethod
    def from_plain(cls, plain: Any) -> Majorant:
        """Read what `to_plain` wrote; raises TypeError or KeyError for anything else."""
        slope, dual = (frozen(plain_array(plain[name], f"the {name} of a majorant")) for name in ("slope", "dual"))
        return cls(slope, plain_number(plain["offset"], "the offset of a majorant"), dual)


@dataclass(frozen=True)
class ProgramSize:
    """Numbers of variables, rows and nonzeros of a program in the form of a backend, or of what a term adds to it."""

    variables: int
    rows: int
    nonzeros: int

    def __add__(self, other: ProgramSize) -> ProgramSize:
        return ProgramSize(self.variables + other.variables, self.rows + other.rows, self.nonzeros + other.nonzeros)


class Term:
    """A concave function f(d) of the occupancy, in the units of the standard form.

    Attributes
    ----------
    support : BoolArray [pairs]
        Pairs that may carry mass; f is −inf when another one does.
    strength : float
        A factor of f: f is the strength times a function that does not depend on it (but for `CustomTerm`'s, 1).
    spread : float
        Size of f, to which tolerances refer where there is no reward; in proportion to the strength.
    smooth : bool
        Whether there is a `hessian`.
    """

    support: BoolArray
    spread: float
    strength: float = 1.0
    smooth: bool = False

    def value(self, occupancy: FloatArray) -> float:
        """Return f(d)."""
        raise NotImplementedError

    def rounding(self, occupancy: FloatArray) -> float:
        """Return what the arithmetic of `value` may have lost, the occupancy itself being exact."""
        return 16.0 * EPS * abs(self.value(occupancy))

    def gradient(self, occupancy: FloatArray) -> FloatArray:
        """Return a supergradient of f at d, [pairs]; −inf off the support."""
        raise NotImplementedError

    def bound(self, scores: FloatArray, dual: FloatArray | None = None) -> float:
        """Return (an upper bound of) sup over the simplex of q·d + f(d).

        `dual` is a parameter of the bound where it has one (see `best_dual`).
        """
        raise NotImplementedError

    def best_dual(self, scores: FloatArray, occupancy: FloatArray) -> FloatArray | None:
        """Return the parameter that makes `bound` tight near an occupancy, or None where there is none."""
        return None

    def majorant(self, slope: FloatArray, occupancy: FloatArray) -> Majorant:
        """Return f(d) ≤ slope·d + offset over the simplex, with the least offset; near a supergradient where fixed."""
        dual = self.best_dual(-slope, occupancy)
        offset = self.bound(-slope, dual)
        doubt = 64.0 * EPS * (float(np.abs(slope).max()) + abs(offset) + self.spread)
        return Majorant(slope, offset + doubt, np.zeros(0) if dual is None else dual)

    def expression(self, occupancy: Any, pairs: Any) -> Any:
        """Return f as a concave cvxpy expression of the variable d over the pairs given by position."""
        return self.strength * self.unit_expression(occupancy, pairs)

    def unit_expression(self, occupancy: Any, pairs: Any, mass: float = 1.0) -> Any:
        """Return mass · f(d / mass) / strength as a concave cvxpy expression, for d of this total mass.

        Written so that the numbers in it are of the size of d: cones of small numbers break interior points down.
        """
        raise NotImplementedError

    def program_size(self, pairs: AnyArray) -> ProgramSize:
        """Return what `unit_expression` adds to a program over these pairs."""
        raise NotImplementedError

    def identity(self) -> tuple[Any, ...] | None:
        """Return all that `unit_expression` depends on, arrays among it, or None where that may change unseen."""
        kept = {name: value for name, value in vars(self).items() if name not in ("strength", "spread")}
        return type(self).__name__, *kept, *kept.values()

    def hessian(self, occupancy: FloatArray) -> Any:
        """Return the second derivative as a sparse [pairs, pairs] matrix, where f is `smooth`."""
        raise NotImplementedError

    def low_rank(self, occupancy: FloatArray) -> tuple[Any, FloatArray] | None:
        """Return C [k, pairs] (sparse) and w [k] with second derivative −Cᵀ diag(w) C, or None where k is not small."""
        return None

    def pair_bonus(self, probabilities: FloatArray) -> FloatArray | None:
        """Return b [pairs] with f(d^π) = Σ d^π b where f is linear in d at a fixed policy, else None."""
        return None


class Regularizer:
    """A term that joins the reward; subclasses are frozen dataclasses of settings."""

    strength: float

    def bind(self, binding: Binding) -> Term:
        """Return the term on a problem."""
        raise NotImplementedError

    def parts(self, mdp: MDP) -> list[Any]:
        """Return the numbers that identify the setting on a model, for the problem's fingerprint."""
        raise NotImplementedError

    def check(self, mdp: MDP) -> None:
        """Raise `InvalidProblem` when the setting does not fit the model."""


class ConcaveUtility:
    """A concave function of the occupancy: it takes the place of the reward, or ``utility >= b`` is a constraint."""

    __array_ufunc__ = None  # numpy leaves comparisons with its numbers to this class

    def __ge__(self, bound: object) -> ConcaveConstraint:
        return ConcaveConstraint(self, read_bound(bound))

    def __le__(self, bound: object) -> NoReturn:
        raise InvalidProblem(
            f"{type(self).__name__} is concave, so 'at most {bound!r}' is not convex and could not be certified. "
            "Only utility >= b can be asked for; limit linear expressions, oc.expected(...) <= b, from above."
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Real):
            raise InvalidProblem(
                f"{type(self).__name__} == {other!r} is not convex. Ask for utility >= b; where the limit costs "
                "something it holds with equality."
            )
        return self is other

    __hash__ = object.__hash__

    def in_numbers(self, mdp: MDP) -> ConcaveUtility:
        """The same function with the model's rewards and costs written out."""
        return self

    def bind(self, binding: Binding) -> Term:
        """Return the term on a problem."""
        raise NotImplementedError

    def parts(self, mdp: MDP) -> list[Any]:
        """Return the numbers that identify the setting on a model, for the problem's fingerprint."""
        raise NotImplementedError

    def check(self, mdp: MDP) -> None:
        """Raise `InvalidProblem` when the setting does not fit the model."""


def check_strength(setting: Regularizer, name: str) -> None:
    """Raise `InvalidProblem` unless the strength is a positive finite number; make it a plain float."""
    strength: Any = setting.strength
    if isinstance(strength, bool) or not isinstance(strength, Real) or not 0 < float(strength) < math.inf:
        raise InvalidProblem(f"the strength of {name} must be positive and finite, not {strength!r}.")
    object.__setattr__(setting, "strength", float(strength))


def check_reference(reference: Any, mdp: MDP, name: str) -> None:
    """Raise `InvalidProblem` unless the reference is a policy of the model."""
    if not reference.pairs.same_as(mdp.pairs):
        raise InvalidProblem(f"the reference policy of {name} belongs to another model.")


def largest_sum(scores: FloatArray, slope: FloatArray, sizes: FloatArray) -> float:
    """max (q + g) with its rounding, and that of g from numbers of these sizes, added; all [pairs]."""
    total = scores + slope
    return float((total + 8.0 * float(np.finfo(np.float64).eps) * (np.abs(scores) + sizes)).max())


def block_hessian(start: IntArray, diagonal: FloatArray, within: FloatArray) -> Any:
    """−diag(h) − Σ_s w_s 1_s 1_sᵀ, a sparse [pairs, pairs] matrix, of what `Term.blocks` returns."""
    n = len(diagonal)
    member = sparse.csr_array((np.ones(n), np.arange(n), start), shape=(len(within), n))
    return -(sparse.diags_array(diagonal) + member.T @ sparse.diags_array(within) @ member)


def log_of(values: FloatArray) -> FloatArray:
    """Logarithm with log 0 = −inf and no warning; the tiny negative numbers of a backend count as zero."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.maximum(values, 0.0)))

"""Programs that are compiled once and solved again with other numbers (disciplined parametrised programming).

What cvxpy does between a program and its backend is the larger part of the work on small models. A sequence of
questions with the same transitions and constraints of the same kind (a front, a curve, a path, a user's own loop)
therefore shares one compiled program, whose rewards, bounds, strengths and start are cvxpy parameters.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, FloatArray
from occlp.convex import load_cvxpy
from occlp.standard import Limits

#: Programs kept for one model; the one not used for longest makes room.
MOST_PROGRAMS = 8

P = TypeVar("P")
#: Compiled programs by the identity of a model's probabilities, which `MDP.replace` passes on; they die with these.
_KEPT: dict[int, dict[Hashable, Any]] = {}


@contextmanager
def borrowed(probabilities: FloatArray, key: Hashable | None, build: Callable[[], P]) -> Iterator[P]:
    """A program that was compiled before under this key for these transitions, or a new one.

    Nobody else has it meanwhile (threads compile their own), and it is given back unless an exception comes through.
    With the key None it is always new.
    """
    if key is None:
        yield build()
        return
    programs = _KEPT.get(id(probabilities))
    if programs is None:
        programs = _KEPT.setdefault(id(probabilities), {})
        weakref.finalize(probabilities, _KEPT.pop, id(probabilities), None)
    program = programs.pop(key, None)
    if program is None:
        program = build()
    yield program
    programs[key] = program
    while len(programs) > MOST_PROGRAMS:
        programs.pop(next(iter(programs)), None)


def digest(*parts: bool | int | float | str | AnyArray | sparse.csr_array | None) -> bytes:
    """A digest of plain values, arrays and sparse matrices."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, sparse.csr_array):
            found.update(digest(part.data, part.indices, part.indptr, *part.shape))
        elif isinstance(part, np.ndarray):
            found.update(f"{part.dtype}{part.shape}".encode())
            found.update(np.ascontiguousarray(part).data)
        elif part is None or isinstance(part, bool | int | float | str):
            found.update(repr(part).encode())
        else:  # the words for anything else need not tell it from its like
            raise TypeError(f"no digest is known for {type(part).__name__}")
    return found.digest()


class LimitRows:
    """Linear constraints C x ≤ b (or = b) with C and b as parameters.

    Parameters
    ----------
    limits : Limits
        Which of them are equalities; their numbers come with `fill`.
    variable : cvxpy expression [n]
    slack : cvxpy expression [k], optional
        By how much each constraint may be broken.
    strict : bool
        Whether equalities hold in spite of a slack.
    """

    def __init__(self, limits: Limits, variable: Any, slack: Any = None, *, strict: bool = False) -> None:
        cvxpy = load_cvxpy()
        self._parts: list[tuple[Any, Any, Any, Sequence[Any]]] = []
        for at, equal in ((np.flatnonzero(~limits.equal), False), (np.flatnonzero(limits.equal), True)):
            if not len(at):
                continue
            matrix, bound = cvxpy.Parameter((len(at), variable.size)), cvxpy.Parameter(len(at))
            excess = matrix @ variable - bound
            allowed = 0.0 if slack is None else slack[at]
            if equal and (slack is None or strict):
                sides = [excess == 0]
            else:
                sides = [excess <= allowed, -excess <= allowed] if equal else [excess <= allowed]
            self._parts.append((at, matrix, bound, sides))

    @property
    def constraints(self) -> list[Any]:
        """The cvxpy constraints."""
        return [side for *_, sides in self._parts for side in sides]

    def fill(self, rows: FloatArray, bounds: FloatArray) -> None:
        """Set the numbers, [k, n] and [k]."""
        for at, matrix, bound, _ in self._parts:
            matrix.value, bound.value = rows[at], bounds[at]

    @property
    def prices(self) -> FloatArray:
        """The duals, [k]; NaN where the backend gave none."""
        prices = np.zeros(sum(len(at) for at, *_ in self._parts))
        for at, _, _, sides in self._parts:
            duals = [np.nan if side.dual_value is None else np.asarray(side.dual_value) for side in sides]
            prices[at] = duals[0] - (duals[1] if len(duals) == 2 else 0.0)
        return prices

"""How much a run computes: transitions, counted by those who call the kernels that read them, and factorisations.

The count belongs to the run that is under way in this context. A run within a run counts for both, and blocks of rows
on other threads are counted by whoever sends them there; so counts do not depend on threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """What a solve has computed, its certificate included; what others held already at that time is not among it.

    Attributes
    ----------
    backups : float
        Transitions read by backups, sweeps, residuals and iterations, as a multiple of those of the model: so many
        times all pairs were backed up once. What linear programs, samples and the arithmetic of factors take is not
        among them.
    factorizations : int
        Matrices of chains, or of Newton steps, that were factored.
    """

    backups: float = 0.0
    factorizations: int = 0

    def __str__(self) -> str:
        return f"{self.backups:.3g} backups"


@dataclass(eq=False)
class _Tally:
    transitions: int = 0
    factorizations: int = 0


_TALLY: ContextVar[_Tally] = ContextVar("occlp_tally")
#: Who asks outside of any run is counted here, and never told.
_NOBODY = _Tally()


@contextmanager
def tallied() -> Iterator[None]:
    """Count anew in here; what is counted belongs to the run around this one as well."""
    outer, own = _TALLY.get(_NOBODY), _Tally()
    token = _TALLY.set(own)
    try:
        yield
    finally:
        _TALLY.reset(token)
        outer.transitions += own.transitions
        outer.factorizations += own.factorizations


def count_transitions(read: int) -> None:
    """Add transitions that have been read."""
    _TALLY.get(_NOBODY).transitions += read


def count_factorization() -> None:
    """Add the factorisation of a matrix."""
    _TALLY.get(_NOBODY).factorizations += 1


def work_so_far(n_transitions: int) -> Work:
    """What has been counted in here, for a model of so many transitions."""
    tally = _TALLY.get(_NOBODY)
    return Work(float(tally.transitions / max(n_transitions, 1)), tally.factorizations)

"""The threads of BLAS and LAPACK: one while a question is answered.

Their products and factors differ in the last digits with the number of threads, which share out the work in other
blocks, and on a busy machine the threads spend their time waiting for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, wraps
from threading import Lock
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from occlp.problem import Problem

P = ParamSpec("P")
R = TypeVar("R")

#: Matrices of so many rows and columns are left to one thread by themselves.
SMALL = 64


class OneThread:
    """A context in which BLAS takes one thread; for all of this process, until the last of those inside leaves it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._before: Any = None  # knows how many threads there were

    def __enter__(self) -> None:
        with self._lock:
            _free()
            limited = _libraries().limit(limits=1, user_api="blas")  # OpenMP counts by the thread that asks
            self._before = self._before if self._inside else limited
            self._inside += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                _free()
                self._before.restore_original_limits()
                _free()


#: The one context: BLAS knows of one number of threads for a whole process.
one_thread = OneThread()


def on_one_thread(function: Callable[Concatenate[Problem, P], R]) -> Callable[Concatenate[Problem, P], R]:
    """Decorate what is done to a question, so that BLAS takes one thread."""

    @wraps(function)
    def wrapped(problem: Problem, /, *args: P.args, **settings: P.kwargs) -> R:
        with one_thread if problem.mdp.n_pairs > SMALL else nullcontext():
            return function(problem, *args, **settings)

    return wrapped


def _free() -> None:
    """Let any thread of this process set the number: threadpoolctl listens to the first that has, from 3.8 on."""
    for library in _libraries().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


@cache
def _libraries() -> Any:
    """What knows the libraries that are loaded, those of numpy and scipy among them."""
    import scipy.linalg  # noqa: F401 (it brings a BLAS of its own)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()

"""The one place where numba is configured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile on first call, release the GIL, and keep the machine code on disk where that is possible."""
    return _compiled(function, {})


def fused_kernel(function: F) -> F:
    """The same, where products may be added without being rounded first: not for error-free transformations."""
    return _compiled(function, {"fastmath": {"contract"}})


def _compiled(function: F, more: dict[str, Any]) -> F:
    options = {"nogil": True, "error_model": "numpy", **more}
    try:
        return numba.njit(function, cache=True, **options)  # type: ignore[no-any-return]
    except RuntimeError:  # no writable place for the cache
        return numba.njit(function, **options)  # type: ignore[no-any-return]

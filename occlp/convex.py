"""The one door to cvxpy, which takes a second to import: it is opened when a program is first written."""

from __future__ import annotations

from typing import Any


def load_cvxpy() -> Any:
    """Return the module cvxpy."""
    import cvxpy

    return cvxpy

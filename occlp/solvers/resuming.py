"""Going on where a run stopped: what a method carries along, and whether it is still the same run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from occlp.problem import Problem
from occlp.result import Result
from occlp.solvers.base import Start

#: Settings that say when a run ends, and not what it does.
LENGTHS = ("steps",)


@dataclass(frozen=True, eq=False)
class Saved:
    """What a method needs besides its settings to take its next step; plain data that can be pickled.

    Attributes
    ----------
    settings : str
        `fingerprint` of the settings.
    content : object
    """

    settings: str
    content: Any


def fingerprint(settings: Any) -> str:
    """SHA-256 of the settings of a method, part by part; arrays count by their numbers, functions by their names.

    Functions without a name of their own (lambdas, functions in functions) count as themselves.
    """
    digest = hashlib.sha256()
    _feed(digest, settings)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if is_dataclass(value):
        digest.update(f"{type(value).__module__}.{type(value).__qualname__}(".encode())
        for field in fields(value):
            if field.name not in LENGTHS:
                digest.update(f"{field.name}=".encode())
                _feed(digest, getattr(value, field.name))
    elif isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif callable(value):
        name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '<unnamed>')}"
        digest.update(f"{name} {id(value) if '<' in name else ''}".encode())
    else:
        digest.update(repr(value).encode())


def carried(solver: Any, problem: Problem, start: Start) -> Any:
    """What a result carries along of a run of the same settings on the same question, or None."""
    if not isinstance(start, Result) or start.checkpoint is None:
        return None
    saved = start.checkpoint.state
    same = isinstance(saved, Saved) and saved.settings == fingerprint(solver)
    return saved.content if same and start.certificate.fingerprint == problem.fingerprint else None

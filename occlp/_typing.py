"""Array aliases used in annotations; shapes stand in trailing comments, as ``# [S]`` or ``# [pairs]``."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int32]
BoolArray: TypeAlias = NDArray[np.bool_]
AnyArray: TypeAlias = NDArray[Any]
#: indptr, indices and data of a CSR matrix.
Rows: TypeAlias = tuple[IntArray, IntArray, FloatArray]


def frozen(array: AnyArray) -> AnyArray:
    """Return the array itself, made read-only and contiguous."""
    array = np.ascontiguousarray(array)
    array.setflags(write=False)
    return array

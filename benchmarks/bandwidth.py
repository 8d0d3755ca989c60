"""How fast this machine reads and writes memory: the triad of STREAM (McCalpin 1995), compiled."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numba
import numpy as np

#: Doubles of each of the three arrays: several times what caches hold.
SIZE = 20_000_000
TRIALS = 10


@numba.njit(nogil=True, cache=True)
def _triad(first: int, last: int, b: Any, c: Any, scalar: float, a: Any) -> None:
    for i in range(first, last):
        a[i] = b[i] + scalar * c[i]


def triad(threads: int, size: int = SIZE) -> float:
    """Bytes a second of a ← b + s c, counted as STREAM does (three arrays), the best of several trials."""
    a, b, c = np.zeros(size), np.ones(size), np.full(size, 2.0)
    edges = np.linspace(0, size, threads + 1).astype(int).tolist()
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(TRIALS):
            began = time.perf_counter()
            jobs = [pool.submit(_triad, first, last, b, c, 3.0, a) for first, last in pairwise(edges)]
            for job in jobs:
                job.result()
            best = min(best, time.perf_counter() - began)
    return 24.0 * size / best


def record(size: int = SIZE) -> dict[str, Any]:
    """Bandwidth of one thread and of all processors, bytes a second."""
    threads = os.cpu_count() or 1
    triad(1, 1000)  # compiles
    return {"kind": "bandwidth", "threads": threads, "one": triad(1, size), "all": triad(threads, size)}

"""Blocks of rows on threads, and sums that do not depend on them.

Kernels release the GIL, so a thread pool is all that is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from occlp._typing import FloatArray

#: Below this many transitions one thread is faster.
SERIAL_SIZE = 2_000_000
#: Threads at most; the memory is busy with fewer.
MOST_THREADS = 8


def run_rows(kernel: Callable[..., int | None], n_rows: int, work: int, *arguments: Any) -> int:
    """Call ``kernel(first, last, *arguments)`` over blocks that cover 0 .. n_rows.

    Each row is computed from the inputs alone, so the result is the same for any number of threads. Returns the sum of
    what the kernel returns, where it counts something.
    """
    workers = 1 if work < SERIAL_SIZE else n_threads()
    if workers == 1:
        return kernel(0, n_rows, *arguments) or 0
    blocks = 4 * workers
    edges = [n_rows * block // blocks for block in range(blocks + 1)]
    pool = _pool(os.getpid(), workers)
    futures = [pool.submit(kernel, first, last, *arguments) for first, last in pairwise(edges) if last > first]
    return sum(future.result() or 0 for future in wait(futures).done)


def inner_product(left: FloatArray, right: FloatArray) -> np.float64:
    """Σ left · right in one order: a BLAS product depends on its threads in the last digits, and waits for them."""
    total: np.float64 = np.einsum("i,i", left, right)
    return total


def n_threads() -> int:
    """How many threads a kernel may use: as many as this process has processors, or as ``OCCLP_THREADS`` says."""
    told = os.environ.get("OCCLP_THREADS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    able = getattr(os, "sched_getaffinity", None)
    return min(len(able(0)) if able else os.cpu_count() or 1, MOST_THREADS)


@cache
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """The threads of a process; those of its parent do not survive a fork."""
    return ThreadPoolExecutor(workers, thread_name_prefix="occlp")

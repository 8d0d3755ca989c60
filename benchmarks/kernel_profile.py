"""The main kernels, one at a time: seconds of one thread, and the bytes that they have to move."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

import occlp as oc
from benchmarks import workloads
from occlp.evaluation import formulate
from occlp.kernels import backup, relaxation
from occlp.standard import StandardForm

#: Seconds that a kernel is repeated for, how often at least, and how often at most.
SECONDS, LEAST, MOST = 0.3, 5, 1000


def _models(garnets: dict[str, int], grids: list[int]) -> dict[str, Callable[[], oc.MDP]]:
    return {
        **{f"garnet-{name}": partial(workloads.garnet, n) for name, n in garnets.items()},
        **{f"bumpy-{n}": partial(workloads.bumpy, n, 0.999) for n in grids},
    }


MODELS = _models({"1e3": 1_000, "1e4": 10_000, "1e5": 100_000, "1e6": 1_000_000}, [50, 200, 500, 1000])
SMALL = _models({"60": 60, "120": 120}, [6, 12])


def backup_bytes(states: int, pairs: int, nnz: int) -> int:
    """What one full Bellman backup has to move: every transition, two numbers a pair, three a state."""
    return 12 * nnz + 8 * (2 * pairs + 3 * states)


def sweep_bytes(states: int, nnz: int) -> int:
    """What a sweep over one row a state has to move: its transitions, the row's ends, and three numbers a state."""
    return 12 * nnz + 8 * states + 8 * 3 * states


@dataclass(frozen=True)
class Call:
    """One kernel on one thread: the transitions that it reads, and the bytes that it has to move."""

    name: str
    run: Callable[[], Any]
    reads: int
    moves: int


def calls(form: StandardForm) -> Iterator[Call]:
    """The main kernels on a model; those for one policy on the greedy one of random values."""
    n, pairs, matrix = form.n_states, form.n_pairs, form.transitions
    values, room, choice = np.random.default_rng(0).random(n), np.empty(n), np.empty(n, dtype=np.int32)
    rows = (matrix.indptr, matrix.indices, matrix.data, form.rewards, form.discount, form.rest)

    def improve() -> None:
        backup.improvements(0, n, form.start, *rows, values, room, choice)

    yield Call("backup of all pairs", improve, matrix.nnz, backup_bytes(n, pairs, matrix.nnz))
    out, error = np.empty(pairs), np.empty(pairs)
    links = (matrix.indptr, matrix.indices, matrix.data, form.states, form.rewards, form.discount, form.rest)
    yield Call(
        "residuals and their rounding",
        lambda: backup.residuals(0, pairs, *links, values, out, error),
        matrix.nnz,
        12 * matrix.nnz + 8 * (5 * pairs + n),
    )
    improve()
    chosen = sparse.csr_array(matrix[choice])
    one, swept, relaxed = sweep_bytes(n, chosen.nnz), values.copy(), values.copy()
    sweep = (1, choice, *rows)
    yield Call("policy, plain sweep", lambda: relaxation.sweep_values(*sweep, swept, room), chosen.nnz, one)
    yield Call("policy, Gauss–Seidel sweep", lambda: relaxation.relax_values(*sweep, 0, relaxed), chosen.nnz, one)
    transposed = sparse.csr_array(chosen.T)
    leaving = np.asarray(chosen.sum(axis=1)).ravel() - chosen.diagonal()
    flow = (transposed.indptr, transposed.indices, transposed.data, leaving)
    flow += (form.discount, form.rest, form.initial, form.initial.copy())
    # One sweep, and one more pass for the defect.
    yield Call("occupancy, Gauss–Seidel sweeps", lambda: relaxation.relax_occupancy(1, *flow), 2 * chosen.nnz, 2 * one)


def measure(name: str, build: Callable[[], oc.MDP]) -> list[dict[str, Any]]:
    """One row a kernel for a model: seconds a call (median), transitions read and bytes moved."""
    form = formulate(oc.Problem(build()))
    rows = []
    for call in calls(form):
        call.run()
        times: list[float] = []
        while len(times) < LEAST or (sum(times) < SECONDS and len(times) < MOST):
            began = time.thread_time()
            call.run()
            times.append(time.thread_time() - began)
        size = {"model": name, "states": form.n_states, "nnz": form.transitions.nnz}
        found = {"seconds": statistics.median(times), "reads": call.reads, "bytes": call.moves}
        rows.append({**size, "kernel": call.name, **found})
    return rows


def record(*, small: bool = False) -> dict[str, Any]:
    """All kernels on all models, on one thread; small models for smoke runs."""
    models = SMALL if small else MODELS
    return {"kind": "kernels", "rows": [row for name, build in models.items() for row in measure(name, build)]}

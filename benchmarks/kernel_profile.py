"""The main kernels, one at a time: seconds of one thread, and the bytes that they have to move."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import occlp as oc
from benchmarks import workloads
from occlp.chains.sweeps import ChosenRows, rows_of
from occlp.evaluation import formulate
from occlp.kernels import backup, rounds
from occlp.standard import StandardForm

#: Sweeps a call, fewer than those after which a kernel asks whether it is worth going on.
SWEEPS = 8
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
    values, choice = np.random.default_rng(0).random(n), form.start[:-1].astype(np.int32)
    everything, earned = (form.start, *rows_of(matrix), form.rewards), (form.discount, form.rest)
    leads, best, room, slack, doubt = (np.empty(n) for _ in range(5))
    known = rows_of(matrix)  # no state keeps its pair, so the rows that lie side by side are not looked at

    def improve() -> None:
        rounds.improve(0, n, *everything, form.discount, *known, values, np.inf, leads, choice, best)

    yield Call("backup of all pairs", improve, matrix.nnz, backup_bytes(n, pairs, matrix.nnz))
    everywhere = np.arange(n, dtype=np.int32)
    placed, steps = values.copy(), backup.sojourns(*everything[:4], *earned)
    yield Call(
        "backup in place, state by state",
        lambda: backup.improve_in_place(everywhere, *everything, *earned, steps, placed, choice),
        matrix.nnz,
        backup_bytes(n, pairs, matrix.nnz),
    )
    scores, top = np.empty(pairs), np.empty(n, dtype=np.int32)
    yield Call(
        "residuals, their bounds and rounding",
        lambda: backup.judge(0, n, *everything, *earned, values, scores, top, best, slack, doubt),
        matrix.nnz,
        backup_bytes(n, pairs, matrix.nnz) + 8 * (pairs + 4 * n),
    )
    improve()
    chosen = ChosenRows(form, choice)
    rows, size = (*chosen.rows, chosen.rewards, *earned), len(chosen.rows[1])
    reads, moves = SWEEPS * size, SWEEPS * sweep_bytes(n, size)
    swept = values.copy()
    yield Call("policy, plain sweeps", lambda: rounds.sweep(SWEEPS, 0.0, *rows, swept, room), reads, moves)
    links, mass = rounds.transpose(*chosen.rows, n), np.empty(n)

    def spread() -> None:
        mass[:] = form.initial
        rounds.spread_mass(SWEEPS, 0.0, *links, *earned, form.initial, mass)

    yield Call("occupancy, Gauss–Seidel sweeps", spread, reads, moves)


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

"""Backends of the convex program, measured beside their forecasts: ``python -m benchmarks.backends``.

Each question is solved once by each backend in a process of its own, whose memory is counted; polishing is left out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import occlp as oc
from benchmarks import workloads
from occlp.evaluation import formulate
from occlp.solvers.backends import Backend
from occlp.solvers.scaled_program import solve_scaled

#: Questions by name; each is built in the process that measures it.
QUESTIONS: dict[str, Callable[[], oc.Problem]] = {
    **{f"garnet {n}": lambda n=n: oc.Problem(workloads.garnet(n)) for n in (50, 200, 500, 1000)},
    **{f"grid {n} × {n}": lambda n=n: oc.Problem(workloads.bumpy(n, 0.99)) for n in (8, 15, 30, 50)},
    **{f"garnet {n}, KL": lambda n=n: _with_kl(workloads.garnet(n)) for n in (50, 200)},
}


def _with_kl(mdp: oc.MDP) -> oc.Problem:
    return oc.Problem(mdp, regularizer=oc.KL(0.1, oc.Policy.uniform(mdp)))


def measure(name: str, backend: str) -> dict[str, Any]:
    """Seconds of the processor and bytes for one question, beside the forecast."""
    problem = QUESTIONS[name]()
    oc.solve(oc.instances.get("machine-repair"), oc.OccupancyProgram(backend))  # cvxpy is loaded
    told = oc.OccupancyProgram(backend).forecast(problem)
    before, began = _peak(), time.process_time()
    solve_scaled(formulate(problem), Backend(backend))
    seconds = time.process_time() - began
    return {"name": name, "forecast": told, "seconds": seconds, "bytes": _peak() - before}


def _peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def apart(name: str, backend: str) -> dict[str, Any]:
    """Measure in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (name, backend))


def table(names: list[str]) -> Iterator[str]:
    """The lines of a table in Markdown."""
    yield "| question | backend | nonzeros | seconds | forecast | MB | forecast |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for name in names:
        for backend in ("CLARABEL",) if "KL" in name else ("HIGHS", "CLARABEL"):
            found = apart(name, backend)
            told = found["forecast"]
            yield (
                f"| {name} | {backend} | {told.nonzeros:,} | {found['seconds']:.2g} | {told.seconds:.2g} "
                f"| {found['bytes'] / 1e6:.3g} | {told.memory / 1e6:.3g} |"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(QUESTIONS), help="some of the questions")
    for line in table(parser.parse_args().names):
        print(line, flush=True)

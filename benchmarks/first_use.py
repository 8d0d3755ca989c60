"""What somebody waits for who uses occlp for the first time: imports, the first solve, and compilation."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

#: Each prints processor seconds and seconds by the clock.
CLOCK = "import time; t, p = time.perf_counter(), time.process_time(); {}; "
CLOCK += "print(time.process_time() - p, time.perf_counter() - t)"
IMPORTS = "import numba, scipy.sparse.linalg"
SOLVE = "import occlp as oc; oc.solve(oc.instances.get('machine-repair'))"

#: Questions that between them use the kernels: plain, slow, limited, regularised, averages, totals, horizons, samples.
TOUR = """
import time
from numba.core import event
import occlp as oc
names = set()
class Listener(event.Listener):
    def on_start(self, one):
        names.add(str(one.data["dispatcher"].py_func.__qualname__))
    def on_end(self, one):
        pass
event.register("numba:compile", Listener())
garnet = oc.instances.get("garnet", n_states=60, n_costs=1)
grid = oc.instances.get("bumpy-gridworld", n=40, discount=0.9999)
uniform = oc.Policy.uniform(garnet)
for mdp in (garnet, grid, oc.instances.get("forest", n_states=300)):
    oc.solve(mdp)
oc.solve(oc.Problem(garnet, constraints=[oc.expected("cost0") <= 0.45]))
oc.solve(oc.Problem(garnet, regularizer=oc.KL(strength=0.1, reference=uniform)))
oc.solve(oc.Problem(garnet, regularizer=oc.PolicyEntropy(strength=0.1)))
oc.solve(oc.Problem(oc.instances.get("howard-automobile", discount=None), criterion="average", sense="minimize"))
oc.solve(oc.Problem(oc.instances.get("die-stopping"), criterion="total"))
oc.backward_induction(garnet, 10)
oc.structure(garnet)
oc.rollouts(garnet, uniform, n_trajectories=10, horizon=10, rng=0)
print(time.process_time(), len(names))
"""


def run(code: str, **environment: str) -> tuple[float, float]:
    """Run Python in a fresh process, and read the two numbers that it prints last."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    first, second = done.stdout.split()[-2:]
    return float(first), float(second)


def medians(code: str, repeat: int, **environment: str) -> tuple[float, float]:
    """The same, several times: medians of both."""
    first, second = zip(*(run(code, **environment) for _ in range(repeat)), strict=True)
    return statistics.median(first), statistics.median(second)


def compilation() -> dict[str, float]:
    """Processor seconds that a tour through the library takes longer with nothing on disk, and kernels compiled."""
    with tempfile.TemporaryDirectory() as folder:
        cold, kernels = run(TOUR, NUMBA_CACHE_DIR=folder)
        warm, left = run(TOUR, NUMBA_CACHE_DIR=folder)
    return {"compile": cold - warm, "kernels": kernels - left}


def record(repeat: int = 5) -> dict[str, Any]:
    """Processor seconds and seconds by the clock of the first things that are done.

    The two that are compared, imports of others and a first solve, take turns.
    Kernels are on disk, but for the compilation.
    """
    run(CLOCK.format(SOLVE))  # puts its kernels on disk
    turns = [(run(CLOCK.format(IMPORTS)), run(CLOCK.format(SOLVE))) for _ in range(repeat)]
    found = {"import": medians(CLOCK.format("import occlp"), repeat)}
    for place, name in enumerate(("others", "solve")):
        columns = zip(*(turn[place] for turn in turns), strict=True)
        found[name] = tuple(statistics.median(column) for column in columns)
    return {"kind": "first use", **found, **compilation()}


if __name__ == "__main__":
    print(json.dumps(record()))

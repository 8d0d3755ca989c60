"""What a program will need before it is started: its size exactly, time and memory by what was measured.

The size is counted from the model, without writing the program. Seconds and bytes follow from it by constants that
``python -m benchmarks.backends`` measures; they are right within a factor of ten, on a machine like the one measured.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np

from occlp.chains.resolvent import inverse, narrow_order
from occlp.solvers.base import SolverFailure
from occlp.solvers.scaled_program import support
from occlp.standard import StandardForm, flow_matrix, transition_graph
from occlp.terms import ProgramSize

#: Steps of an interior point: a linear program, and one with logarithms.
STEPS, CONIC_STEPS = 15, 30
#: Seconds a step takes for each nonzero of the program, and for each operation of its factorisation.
STEP_SECONDS, FACTOR_SECONDS = 4e-7, 4e-10
#: Seconds of a simplex method for each state times nonzero.
SIMPLEX_SECONDS = 5e-8
#: Seconds that any program takes for each nonzero, in cvxpy.
WRITING_SECONDS = 2e-6
#: Bytes for each nonzero of a linear program, of one with logarithms, and for an entry of a factor.
NONZERO_BYTES, CONIC_BYTES, FACTOR_BYTES = 600.0, 3600.0, 32.0
#: A backend is started at all: seconds.
LEAST_SECONDS = 0.02
#: Forecasts of time and memory may be off by this factor.
ACCURACY = 10.0


@dataclass(frozen=True)
class Forecast:
    """What the program of a question will need.

    Attributes
    ----------
    backend : str
    variables, rows, nonzeros : int
        In the form that the backend is given: exact (for `oc.Utility` as far as the function alone tells).
    seconds : float
        For cvxpy and the backend, within a factor of ten; NaN for backends that were not measured.
    memory : float
        Bytes beside the model, within a factor of ten; NaN for backends that were not measured.
    """

    backend: str
    variables: int
    rows: int
    nonzeros: int
    seconds: float
    memory: float

    def __str__(self) -> str:
        size = f"{self.variables:,} variables, {self.rows:,} rows and {self.nonzeros:,} nonzeros"
        if math.isnan(self.seconds):
            return f"a program of {size}; {self.backend} was not measured"
        memory = float(f"{self.memory / 1e6:.1g}")
        return f"a program of {size}; {self.backend} needs about {self.seconds:.1g} s and {memory:,g} MB"


def forecast(form: StandardForm, backend: str) -> Forecast:
    """Tell what a backend will need for the program of a standard form, of occupancies that sum to one."""
    size = program_size(form)
    seconds = memory = math.nan
    if backend == "HIGHS":
        seconds = LEAST_SECONDS + WRITING_SECONDS * size.nonzeros + SIMPLEX_SECONDS * form.n_states * size.nonzeros
        memory = NONZERO_BYTES * size.nonzeros
    elif backend == "CLARABEL":
        entries, operations = factor_size(form)
        step = STEP_SECONDS * size.nonzeros + FACTOR_SECONDS * operations
        conic = form.term is not None or bool(form.concave)
        seconds = LEAST_SECONDS + WRITING_SECONDS * size.nonzeros + (CONIC_STEPS if conic else STEPS) * step
        memory = (CONIC_BYTES if conic else NONZERO_BYTES) * size.nonzeros + FACTOR_BYTES * entries
    return Forecast(backend, size.variables, size.rows, size.nonzeros, seconds, memory)


def check_memory(form: StandardForm, backend: str) -> None:
    """Raise `SolverFailure` for a program that needs ten times the memory of this machine: no answer would come."""
    room = ACCURACY * physical_memory()
    entries = float(form.transitions.nnz + form.n_pairs * (8 + 5 * len(form.names)))
    if CONIC_BYTES * entries + FACTOR_BYTES * 0.5 * form.n_states**2 <= room:  # more than it needs, found without work
        return
    found = forecast(form, backend)
    if found.memory > room:
        raise SolverFailure(
            f"{found}, but this machine has {physical_memory() / 1e6:,.0f} MB. Ask PolicyIteration, Decomposition or "
            "KLDual, which need memory in proportion to the model, or another backend."
        )


def physical_memory() -> float:
    """Bytes of memory of this machine; infinite where it does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * float(os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def program_size(form: StandardForm) -> ProgramSize:
    """The size of the program of occupancies that sum to one, exactly."""
    kept, states = support(form)
    pairs = len(kept)
    flow = int(np.count_nonzero(flow_matrix(form).tocsr()[states][:, kept].data))
    linear = len(form.limits.names)
    size = ProgramSize(pairs, len(states) + 1 + pairs + linear, flow + 2 * pairs + linear * pairs)
    if form.term is not None:
        size += form.term.program_size(kept)
    for limit in form.concave:  # a copy of d, what links it to d, the function of it, and its value as one row
        own = limit.term.program_size(kept)
        size += own + ProgramSize(pairs, pairs + 1, 2 * pairs + own.variables)
    return size


def factor_size(form: StandardForm) -> tuple[float, float]:
    """Entries of a factor of the flow equations, and operations to find it, within the profile of their graph."""
    _, states = support(form)
    graph = transition_graph(form)[states][:, states].tocoo()
    place = inverse(narrow_order(graph)).astype(np.int64)
    ends = place[graph.row], place[graph.col]
    widths = np.zeros(len(place))
    np.maximum.at(widths, np.maximum(*ends), np.abs(ends[0] - ends[1]).astype(np.float64))
    widths = np.minimum(2.0 * widths, np.arange(len(place)))  # two states share a pair at two steps of the graph
    return float(widths.sum()), float((widths**2).sum())

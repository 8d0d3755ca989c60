"""The first run of an entrant on a question, in a process of its own: it can be given up, and its memory is counted."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import occlp as oc
from benchmarks.entrants import Entrant

#: Bytes of data that a trial may have; whoever needs more is left out.
MEMORY = 10 * 2**30
#: Seconds that an entrant may take to turn a question into its own form.
PREPARE = 30.0


@dataclass(frozen=True)
class Trial:
    """What the first run has shown; `failure` says why there is nothing, if so."""

    failure: str = ""
    late: bool = False  # whether it was given up because of its time
    gave: float = math.nan  # the seconds that it had, if so
    prepare: float = 0.0  # seconds
    seconds: float = 0.0
    processor: float = 0.0  # seconds of all threads
    peak: float = 0.0  # bytes of the whole process
    extra: float = 0.0  # of them, beyond what was there with the model loaded
    policy: Any = None
    notes: dict[str, Any] = field(default_factory=dict)


def can_fork() -> bool:
    """Whether trials are possible on this machine."""
    return "fork" in multiprocessing.get_all_start_methods()


def attempt(entrant: Entrant, kind: str, problem: oc.Problem, warm: oc.Problem, accuracy: float, limit: float) -> Trial:
    """Run an entrant once in a fork of this process, for at most `limit` seconds.

    The fork answers the small question `warm` first, so that kernels are compiled and libraries loaded. This process
    must not have used other packages before, since some do not survive a fork.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, entrant, kind, problem, warm, accuracy))
    process.start()
    theirs.close()
    try:
        for phase, most in (("its form", PREPARE), ("an answer", limit)):
            if not ours.poll(most):
                return Trial(f"no {phase.split()[-1]} within {most:.3g} s", late=True, gave=most)
            found = ours.recv()
            if isinstance(found, Trial):
                return found
        return Trial("nothing came back")
    except EOFError:
        process.join()
        return Trial(f"its process ended with code {process.exitcode}")
    finally:
        process.kill()
        process.join()
        ours.close()


def _child(pipe: Any, entrant: Entrant, kind: str, problem: oc.Problem, warm: oc.Problem, accuracy: float) -> None:
    import resource

    with open(os.devnull, "w") as nowhere:  # backends print
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    prepare = entrant.prepare[kind]
    try:
        prepare(warm, accuracy)()
        before = _forget_peak(resource)
        began = time.perf_counter()
        answer = prepare(problem, accuracy)
        prepared = time.perf_counter() - began
        pipe.send("prepared")
        wall, processor = time.perf_counter(), time.process_time()
        found = answer()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        peak = _peak(resource)
        trial = Trial(
            prepare=prepared, seconds=wall, processor=processor, peak=peak, extra=peak - before,
            policy=found.policy, notes=dict(found.notes),
        )  # fmt: skip
    except MemoryError:
        trial = Trial(f"more than {MEMORY / 2**30:.0f} GB of memory")
    except Exception as error:  # whatever a package raises is its result
        trial = Trial(f"{type(error).__name__}: {error}".split("\n")[0][:120])
    pipe.send(trial)


def _forget_peak(resource: Any) -> float:
    """Let the peak of memory begin anew, where the system allows it; a fork inherits that of its parent."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak(resource)


def _peak(resource: Any) -> float:
    """Largest resident memory of this process since its peak was forgotten, in bytes."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)

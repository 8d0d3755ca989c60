"""What is measured, in which order, by whom, and where."""

from __future__ import annotations

import multiprocessing
import threading
from dataclasses import replace
from typing import Any

from benchmarks.cases import CASES, Case
from benchmarks.entrants import ENTRANTS
from benchmarks.goals import GOALS
from benchmarks.measure import Rules, measure
from benchmarks.records import Records

#: Entrants that are slow by nature: they take part in the smallest question of each series only.
ONCE_A_SERIES = ("mdpsolver mpi, one thread", "scipy highs-ds", "cvxpy SCS", "occlp OccupancyProgram")

#: What may take minutes without an answer comes after the others that goals are about.
LONGEST = ("bumpy-1000-limits3",)
#: Seconds after the end of its budget at which a run ends a question that does not end by itself.
GRACE = 240.0


def ordered(cases: list[Case]) -> list[Case]:
    """The smallest question of each series and those that goals are about first, then the others.

    Within each half they stay as they are, except for the longest: the smaller ones of a series show who need not be
    tried at the larger ones.
    """
    first = {name for goal in GOALS if len(goal.cases) == 1 for name in goal.cases} | smallest()
    return sorted(cases, key=lambda case: (case.name not in first, case.name in LONGEST))


def smallest() -> set[str]:
    """The first question of each series."""
    return set({case.series: case.name for case in reversed(CASES)}.values())


def rules(case: Case, records: Records, asked: Rules, *, small: bool) -> Rules:
    """How a case is measured: with patience for those that goals name, and without those who were shown to be slow."""
    patient = {name: goal.factor for goal in GOALS if goal.cases == (case.name,) for name in goal.entrants}
    peers = asked.peers
    if peers is None and case.name not in smallest():
        peers = [one.name for one in ENTRANTS if one.name not in ONCE_A_SERIES or one.name in patient]
    return replace(asked, peers=peers, patient=patient, slower=slower(case, records, small=small))


def slower(case: Case, records: Records, *, small: bool) -> dict[str, float]:
    """Seconds a transition that entrants need at least, if times grow no slower than the number of transitions.

    From the questions of the same series that come before; an entrant that was given up there needs at least
    the time that it was given. What takes less than a second says little about larger sizes.
    """
    least: dict[str, float] = {}
    own = next((k for k, one in enumerate(CASES) if one.name == case.name), 0)
    for other in CASES[:own]:
        found = records.get("case", other.name, small=small)
        if other.series != case.series or found is None or "nnz" not in found:
            continue
        for row in found["rows"]:
            shown = row["gave"] if row["late"] else row["seconds"]
            if shown > 1.0:
                least[row["entrant"]] = max(least.get(row["entrant"], 0.0), shown / found["nnz"])
    return least


def apart(case: Case, rules: Rules, *, small: bool) -> dict[str, Any]:
    """Measure a case in a fresh process, so that the memory of one is no burden to the next.

    What does not end is ended, and the record says so.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    place = next(k for k, one in enumerate(CASES) if one.name == case.name)
    process = context.Process(target=_measure, args=(theirs, place, rules, small))
    process.start()
    theirs.close()
    most = min(max(rules.left, 0.0) + GRACE, threading.TIMEOUT_MAX)
    try:
        if ours.poll(most):
            return dict(ours.recv())
        process.kill()
        why = f"the question was given up after {most:.0f} s"
    except EOFError:
        process.join()
        why = f"the process ended with code {process.exitcode}"
    finally:
        process.join()
    return {"kind": "case", "case": case.name, "small": small, "complete": True, "failure": why, "rows": []}


def _measure(pipe: Any, place: int, rules: Rules, small: bool) -> None:
    pipe.send(measure(CASES[place], rules, small=small))

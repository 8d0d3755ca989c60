"""What is measured, in which order, by whom, and where."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from typing import Any

from benchmarks.cases import CASES, Case
from benchmarks.goals import GOALS, RIVALS
from benchmarks.measure import Rules, measure
from benchmarks.records import Records

#: Budgets of fewer minutes than this are a hurry.
HURRY = 25.0
#: In a hurry, the questions of these goals come last, since others take long about them.
LAST = ("garnet-1e5-kl0.1", "bumpy-200-limits3", "bumpy-200-limits5", "bumpy-1000-limits3")


def ordered(cases: list[Case], *, hurry: bool) -> list[Case]:
    """The questions that goals are about first, then the others.

    Before each question come the smaller ones of its series, which show who need not be tried; in a hurry, only those
    that goals are about.
    """
    named = [name for goal in GOALS if len(goal.cases) == 1 for name in goal.cases]
    if hurry:
        first = [name for name in ["garnet-1e3", "garnet-1e4", "garnet-1e5", *named] if name not in LAST] + list(LAST)
    else:
        ends = {name: place for place, name in enumerate(one.name for one in CASES)}
        series = {one.name: one.series for one in CASES}
        first = [one.name for name in named for one in CASES[: ends[name] + 1] if one.series == series[name]]
    places = {name: place for place, name in enumerate(dict.fromkeys(first))}
    return sorted(cases, key=lambda case: places.get(case.name, len(places)))


def patience(rules: Rules, *, hurry: bool) -> Rules:
    """In a hurry, what takes some seconds is run only once."""
    return replace(rules, once=3.0, once_ours=10.0) if hurry else rules


def rules(case: Case, records: Records, asked: Rules, *, small: bool, hurry: bool) -> Rules:
    """How a case is measured: with patience for those that goals name, and in a hurry without most of the others."""
    named = [entrant for goal in GOALS if goal.cases == (case.name,) for entrant in goal.entrants]
    peers = [*named, *rivals(case)] if hurry and asked.peers is None else asked.peers
    return replace(asked, peers=peers, patient=tuple(named), slower=slower(case, records, small=small))


def rivals(case: Case) -> list[str]:
    """The quickest of the others on a plain question."""
    return [name for name in RIVALS if name != "quantecon vi"] if case.kind == "plain" else []


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
    """Measure a case in a fresh process, so that the memory of one is no burden to the next."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    place = next(k for k, one in enumerate(CASES) if one.name == case.name)
    process = context.Process(target=_measure, args=(theirs, place, rules, small))
    process.start()
    theirs.close()
    try:
        return dict(ours.recv())
    except EOFError:
        process.join()
        why = f"the process ended with code {process.exitcode}"
        return {"kind": "case", "case": case.name, "small": small, "complete": True, "failure": why, "rows": []}
    finally:
        process.join()


def _measure(pipe: Any, place: int, rules: Rules, small: bool) -> None:
    pipe.send(measure(CASES[place], rules, small=small))

"""Run the benchmarks: ``python -m benchmarks.run``; see ``--help``."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import occlp as oc
from benchmarks import sampling
from benchmarks.cases import CASES, Case
from benchmarks.machine import machine
from benchmarks.solvers import ENTRANTS, Entrant

TOLERANCE = 1e-8
#: An entrant whose first run takes longer than this is run once, and marked.
ONCE = 20.0


@dataclass(frozen=True)
class Measurement:
    """One entrant on one case."""

    case: str
    entrant: str
    prepare: float  # seconds
    solve: float  # seconds, median
    runs: int
    ratio: float  # solve, over that of the first entrant
    gap: float  # of the returned policy, normalised, against the certified bound
    violation: float  # by how much that policy breaks a constraint, as a share of the cost's range
    certified: bool  # whether both are within the tolerance
    returns: str


def measure(case: Case, *, small: bool, repeat: int) -> Iterator[Measurement]:
    """Time every entrant of a case, in turns, and judge the policies that they return."""
    problem = case.small() if small else case.full()
    bound = oc.solve(problem, tol=TOLERANCE).certificate
    entrants = [entrant for entrant in ENTRANTS if entrant.takes(problem) and entrant.is_installed]
    answers, prepared, policies, seconds = [], [], [], []
    for entrant in entrants:
        began = time.perf_counter()
        answers.append(entrant.prepare(problem, TOLERANCE))
        prepared.append(time.perf_counter() - began)
        began = time.perf_counter()
        policies.append(answers[-1]())  # compiles kernels, fills caches
        first = time.perf_counter() - began
        seconds.append([first] if first > ONCE else [])
    for _ in range(repeat):
        for answer, times in zip(answers, seconds, strict=True):
            if times and times[0] > ONCE:
                continue
            began = time.perf_counter()
            answer()
            times.append(time.perf_counter() - began)
    base = statistics.median(seconds[0])
    for entrant, ready, times, policy in zip(entrants, prepared, seconds, policies, strict=True):
        gap, violation = judge(problem, bound, policy)
        certified = bool(gap <= bound.allowed_gap(TOLERANCE) + bound.rounding and violation <= TOLERANCE)
        median = statistics.median(times)
        yield Measurement(
            case.name, entrant.name, ready, median, len(times), median / base, gap, violation, certified,
            entrant.returns,
        )  # fmt: skip


def judge(problem: oc.Problem, bound: oc.Certificate, probabilities: Any) -> tuple[float, float]:
    """Distance of a policy to the certified bound, and its largest violation relative to the range of the cost."""
    found = oc.evaluate(problem, oc.Policy.from_pairs(problem.mdp, probabilities))
    gap = bound.upper - found.objective if problem.sense == "maximize" else found.objective - bound.lower
    violation = 0.0
    for limit in problem.limits.values():  # those of the cases are all upper limits
        cost = limit.expression.coefficients(problem.mdp, problem.rest)
        violation = max(violation, float(found.pair_occupancy @ cost - limit.bound) / float(np.ptp(cost)))
    return max(gap, 0.0), violation


def smoke() -> bool:
    """Small sizes of every case, once: exact methods must agree; says which do not."""
    agree = True
    for case in CASES:
        for found in measure(case, small=True, repeat=1):
            exact = "cvxpy" not in found.entrant  # interior points stop at their own accuracy
            fine = found.certified if exact else max(found.gap, found.violation) <= 1e-3
            agree &= fine
            mark = "ok" if fine else "WRONG"
            print(f"{found.case:16} {found.entrant:38} gap {found.gap:8.1e}  {found.solve:8.4f} s  {mark}", flush=True)
    agree &= sampling.smoke()
    print("smoke benchmarks: the answers agree" if agree else "smoke benchmarks: answers DISAGREE")
    return agree


def table(measurements: list[Measurement]) -> list[str]:
    """Rows of a case in Markdown."""
    lines = ["| method | seconds | ratio | gap of its policy | returns |", "|---|---:|---:|---:|---|"]
    for found in measurements:
        runs = "" if found.runs > 1 else " (once)"
        notes = [] if found.certified else ["not within the tolerance"]
        notes += [f"breaks the limit by {found.violation:.0e} of its range"] if found.violation > 1e-12 else []
        words = f" ({', '.join(notes)})" if notes else ""
        lines.append(
            f"| {found.entrant} | {found.solve:.3g}{runs} | {found.ratio:.3g} | {found.gap:.0e}{words} "
            f"| {found.returns} |"
        )
    return lines


def faster(measurements: list[Measurement]) -> list[str]:
    """The rows in which another entrant beats what occlp does by itself, in words."""
    others = (one for one in measurements if one.ratio < 0.95 and not one.entrant.startswith("occlp"))
    found = sorted(others, key=lambda one: one.ratio)
    return [f"* {one.case}: {one.entrant} takes {one.ratio:.2f} of the time." for one in found] or ["* Nowhere."]


def page(measurements: list[Measurement], repeat: int) -> str:
    """The page docs/benchmarks.md."""
    facts = machine()
    date, processors = facts.pop("date"), facts.pop("processors")
    versions = ", ".join(f"{name} {value}" for name, value in facts.items())
    head = (Path(__file__).parent / "page.md").read_text(encoding="utf-8")
    numbers = {"repeat": repeat, "once": ONCE, "tolerance": TOLERANCE}
    lines = [head.format(date=date, processors=processors, versions=versions, **numbers).rstrip(), ""]
    for case in CASES:
        found = [one for one in measurements if one.case == case.name]
        if found:
            lines += [f"## {case.name}", "", f"{case.words[0].upper()}{case.words[1:]}.", "", *table(found), ""]
    lines += ["## Where something else is faster", "", *faster(measurements), ""]
    return "\n".join(lines)


def show(measurements: list[Measurement], entrants: tuple[Entrant, ...] = ENTRANTS) -> None:
    """Print what was measured, as plain text."""
    width = max(len(entrant.name) for entrant in entrants)
    for found in measurements:
        print(
            f"{found.case:16} {found.entrant:{width}} prepare {found.prepare:8.3f} s  solve {found.solve:9.4f} s "
            f"({found.runs} runs)  ratio {found.ratio:8.3g}  gap {found.gap:8.1e}",
            flush=True,
        )


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="small sizes, once, checking that the answers agree")
    parser.add_argument("--case", action="append", metavar="NAME", help="only this case (may be given several times)")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs of which the median is taken")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page of results, as docs/benchmarks.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements as JSON")
    chosen = parser.parse_args(arguments)
    if chosen.smoke:
        return 0 if smoke() else 1
    known = [case.name for case in CASES]
    unknown = sorted(set(chosen.case or []) - set(known))
    if unknown or chosen.repeat < 1:
        parser.error(f"--repeat is at least 1, and the cases are {', '.join(known)}")
    measurements = []
    for case in CASES:
        if chosen.case is None or case.name in chosen.case:
            found = list(measure(case, small=False, repeat=chosen.repeat))
            show(found)
            measurements += found
    if chosen.json:
        chosen.json.write_text(
            json.dumps({"machine": machine(), "rows": [asdict(one) for one in measurements]}, indent=1)
        )
    if chosen.write:
        chosen.write.write_text(page(measurements, chosen.repeat), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Run the benchmarks: ``python -m benchmarks.run``; see ``--help``."""

from __future__ import annotations

import argparse
import fnmatch
import math
import multiprocessing
import sys
from pathlib import Path
from typing import Any

from benchmarks import sampling
from benchmarks.cases import CASES, Case
from benchmarks.entrants import ENTRANTS
from benchmarks.measure import Measurement, Rules, measure
from benchmarks.records import FILE, Records

#: Interior points stop at their own accuracy: in a smoke run their policies may be this far from the bound.
ROUGH = 1e-3
#: Who takes part in a smoke run: all that end soon.
QUICK = ["quantecon [mp]*", "mdpsolver *thread", "scipy *", "cvxpy [HC]*", "occlp *"]


def smoke() -> bool:
    """A small question of each series, once, in this process: exact methods must agree; says which do not."""
    agree = True
    for series, case in {case.series: case for case in CASES}.items():
        found = measure(case, Rules(repeat=1, peers=QUICK), small=True, isolate=False)
        for row in found["rows"]:
            exact = not row["entrant"].startswith("cvxpy")
            close = row["certified"] if exact else max(row["gap"], row["violation"]) <= ROUGH
            fine = close and not row["why"]
            agree &= fine
            mark = "ok" if fine else f"WRONG {row['why']}"
            print(f"{series:20} {row['entrant']:26} gap {row['gap']:8.1e}  {row['seconds']:8.4f} s  {mark}")
        sys.stdout.flush()
    agree &= sampling.smoke()
    print("smoke benchmarks: the answers agree" if agree else "smoke benchmarks: answers DISAGREE")
    return agree


def apart(case: Case, rules: Rules, *, small: bool) -> dict[str, Any]:
    """Measure a case in a fresh process, so that the memory of one is no burden to the next."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    names = [one.name for one in CASES]
    process = context.Process(target=_measure, args=(theirs, names.index(case.name), rules, small))
    process.start()
    theirs.close()
    try:
        return dict(ours.recv())
    except EOFError:
        process.join()
        why = f"the process ended with code {process.exitcode}"
        return {"kind": "case", "case": case.name, "small": small, "failure": why, "rows": []}
    finally:
        process.join()


def _measure(pipe: Any, index: int, rules: Rules, small: bool) -> None:
    pipe.send(measure(CASES[index], rules, small=small))


def slower(case: Case, records: Records, *, small: bool) -> dict[str, float]:
    """Seconds that entrants need at least, if times grow no slower than the number of transitions.

    From the questions of the same series that were measured before; an entrant that was given up there needs at least
    the limit that it was given. What takes less than a second says little about larger sizes.
    """
    least: dict[str, float] = {}
    own = next((k for k, one in enumerate(CASES) if one.name == case.name), 0)
    for other in CASES[:own]:
        found = records.get("case", other.name, small=small)
        if other.series != case.series or found is None or "nnz" not in found:
            continue
        for row in found["rows"]:
            shown = other.limit if row["late"] else row["seconds"]
            if shown > 1.0:
                least[row["entrant"]] = max(least.get(row["entrant"], 0.0), shown / found["nnz"])
    return least


def show(record: dict[str, Any]) -> None:
    """Print what was measured, as plain text."""
    if "failure" in record:
        print(f"{record['case']:20} {record['failure']}", flush=True)
    for row in record["rows"]:
        found = Measurement(**{key: value for key, value in row.items() if key != "certified"})
        figures = (
            f"{found.seconds:9.4g} s  processor {found.processor:9.4g} s  {found.runs:2} runs  ratio {found.ratio:8.4g}"
            f" ({found.processor_ratio:.4g})  +{found.extra / 2**20:5.0f} MB  gap {found.gap:8.1e}"
            f"{'' if found.certified else ' (not within the tolerance)'}"
        )
        print(f"{record['case']:20} {found.entrant:26} {found.why or figures}", flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    made.add_argument("--smoke", action="store_true", help="small sizes, once, checking that the answers agree")
    made.add_argument("--list", action="store_true", help="print the cases and the entrants")
    made.add_argument("--only", action="append", metavar="NAME", help="cases of this name or pattern (may be repeated)")
    made.add_argument("--peers", action="append", metavar="NAME", help="entrants of this name or pattern, or none")
    made.add_argument("--sizes", choices=("full", "small"), default="full", help="sizes of the models")
    made.add_argument("--repeat", type=int, default=5, metavar="N", help="runs of which the median is taken")
    made.add_argument("--results", type=Path, default=None, metavar="FILE", help="keep measurements there, and resume")
    made.add_argument("--fresh", action="store_true", help="measure again what is in the file of results")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and run."""
    words = parser()
    asked = words.parse_args(arguments)
    if asked.smoke:
        return 0 if smoke() else 1
    if asked.list:
        print("\n".join([*(f"{case.name:22} {case.series}" for case in CASES), ""]))
        print("\n".join(f"{one.name:26} {'' if one.is_installed else 'not installed'}" for one in ENTRANTS))
        return 0
    cases = [case for case in CASES if any(fnmatch.fnmatch(case.name, one) for one in asked.only or ["*"])]
    if not cases or asked.repeat < 1:
        words.error("--repeat is at least 1, and --list prints the names of the cases")
    small = asked.sizes == "small"
    records = Records(asked.results or FILE.with_name("unsaved"))
    for case in cases:
        known = records.get("case", case.name, small=small)
        if known is None or asked.fresh:
            per = slower(case, records, small=small)
            rules = Rules(asked.repeat, asked.peers, math.inf, per)
            record = apart(case, rules, small=small)
            if asked.results:
                records.add(record)
        else:
            record = known
        show(record)
    return 0


if __name__ == "__main__":
    sys.exit(main())

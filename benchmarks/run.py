"""Run the benchmarks: ``python -m benchmarks.run``; see ``--help``."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import bandwidth, first_use, kernel_profile, machine, plan, sampling
from benchmarks.cases import CASES, Case
from benchmarks.entrants import ENTRANTS
from benchmarks.measure import Measurement, Rules, measure
from benchmarks.page import page
from benchmarks.plots import save
from benchmarks.records import FILE, Records

#: Interior points stop at their own accuracy: in a smoke run their policies may be this far from the bound.
ROUGH = 1e-3
#: Who takes part in a smoke run: all that end soon.
QUICK = ["quantecon [mp]*", "mdpsolver *thread", "scipy *", "cvxpy [HC]*", "occlp *"]

#: Seconds of a budget that are kept for what is measured after the questions.
RESERVE = 90.0


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
    kernel_profile.record(small=True)  # they can be called as the profile calls them
    agree &= sampling.smoke()
    print("smoke benchmarks: the answers agree" if agree else "smoke benchmarks: answers DISAGREE")
    return agree


def run(asked: argparse.Namespace, records: Records) -> Iterator[dict[str, Any]]:
    """Measure what was asked for and is not known yet; every record is kept as soon as it is there."""
    small = asked.sizes == "small"
    besides = {kind for kind in ("bandwidth", "kernels", "first use") if asked.fresh or records.get(kind) is None}
    besides = besides if asked.only is None else set()
    deadline = time.monotonic() + 60 * asked.budget - (RESERVE if besides else 0.0)
    rules = Rules(asked.repeat, asked.peers, deadline)
    here, before = (
        machine.record() | {name: getattr(rules, name) for name in ("repeat", "once", "once_ours")},
        records.get("machine"),
    )
    if before is not None and not asked.fresh:
        here["load"] = max(here["load"], before["load"])  # the worst that any figure was taken under
    records.add(here)
    if "bandwidth" in besides:
        records.add(bandwidth.record())
    for case in plan.ordered(_cases(asked)):
        known = records.get("case", case.name, small=small)
        if known is not None and known["complete"] and not asked.fresh:
            yield known
        elif time.monotonic() < deadline:
            record = plan.apart(case, plan.rules(case, records, rules, small=small), small=small)
            if record["rows"] or record["complete"]:
                records.add(record)
            yield record
    if "kernels" in besides:
        records.add(kernel_profile.record(small=small))
    if "first use" in besides:
        records.add(first_use.record())


def _cases(asked: argparse.Namespace) -> list[Case]:
    return [case for case in CASES if any(fnmatch.fnmatch(case.name, one) for one in asked.only or ["*"])]


def show(record: dict[str, Any]) -> None:
    """Print what was measured, as plain text."""
    if "failure" in record:
        print(f"{record['case']:20} {record['failure']}", flush=True)
    for row in record["rows"]:
        found = Measurement(**{key: value for key, value in row.items() if key != "certified"})
        figures = (
            f"{found.seconds:9.4g} s  processor {found.processor:9.4g} s  {found.runs:2} runs  ratio {found.ratio:8.4g}"
            f" ({found.processor_ratio:.4g})  +{found.extra / 1e6:5.0f} MB  gap {found.gap:8.1e}"
            f"{'' if found.certified else ' (not within the tolerance)'}"
        )
        print(f"{record['case']:20} {found.entrant:26} {found.why or figures}", flush=True)


def write(asked: argparse.Namespace, records: Records) -> None:
    """Write the page and its pictures from what is known."""
    small = asked.sizes == "small"
    save(records, asked.write.parent / "images", small=small)
    asked.write.write_text(page(records, small=small), encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    made.add_argument("--smoke", action="store_true", help="small sizes, once, checking that the answers agree")
    made.add_argument("--list", action="store_true", help="print the cases and the entrants")
    made.add_argument("--only", action="append", metavar="NAME", help="cases of this name or pattern (may be repeated)")
    made.add_argument("--peers", action="append", metavar="NAME", help="entrants of this name or pattern; none")
    made.add_argument("--sizes", choices=("full", "small"), default="full", help="sizes of the models")
    made.add_argument("--repeat", type=int, default=5, metavar="N", help="runs of which the median is taken, at least")
    made.add_argument(
        "--budget", type=float, default=25.0, metavar="MINUTES",
        help="begin nothing new after about so long (default 25); what goals are about comes first",
    )  # fmt: skip
    made.add_argument(
        "--write", type=Path, metavar="PAGE", help="write the page, as docs/benchmarks.md, and keep results"
    )
    made.add_argument("--results", type=Path, metavar="FILE", help="keep measurements there, and resume from there")
    made.add_argument("--fresh", action="store_true", help="forget what is known, or with --only measure it again")
    made.add_argument("--render", action="store_true", help="with --write: measure nothing, write what is known")
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
    if not _cases(asked) or asked.repeat < 1:
        words.error("--repeat is at least 1, and --list prints the names of the cases")
    records = Records(asked.results or (FILE if asked.write else None))
    if not asked.render:
        if asked.fresh and asked.only is None:
            records.forget()  # figures of another run do not stand beside those of this one
        for record in run(asked, records):
            show(record)
        records.tidy()
    if asked.write:
        write(asked, records)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Branch coverage of occlp, compiled code included: which lines and branches no test has taken.

    python -m benchmarks.coverage [--jobs 2] [--data FOLDER] [--files tests/test_model.py ...] [--report]

Compiled code leaves no trace, and interpreted it is a thousand times slower. So every file of tests is run once
with the compiler on, which measures everything but the bodies of the kernels, and some files on small models with
NUMBA_DISABLE_JIT=1, which measure those. Property tests draw few examples, as many as it takes to get everywhere.
Each file is a process of its own that leaves its data in FOLDER: what is there already is not run again. The report
joins the data, and lists each folder of occlp and what is not covered.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Files of tests that take the branches of the kernels on models so small that an interpreter will do.
INTERPRETED = [
    "tests/test_interpreted.py", "tests/test_kernels.py", "tests/test_graph.py", "tests/chains/test_aggregation.py",
    "tests/solvers/test_local_model.py", "tests/solvers/test_multifrontal.py",
]  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One file of tests, compiled or interpreted."""

    tests: str
    compiled: bool

    @property
    def name(self) -> str:
        """A name for its files."""
        mode = "compiled" if self.compiled else "interpreted"
        return f"{mode}-{self.tests}".replace("/", "-").replace("::", "-")

    def start(self, data: Path) -> str:
        """Run it, unless it has been run, and say how that went."""
        done = data / f"{self.name}.txt"
        if done.exists():
            return f"{self.name}: kept"
        chosen = ["--omit", "occlp/kernels/*"] if self.compiled else ["--source", "occlp.kernels"]
        command = [sys.executable, "-m", "coverage", "run", *chosen, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["-p", "benchmarks.few_examples", "-m", "not slow", self.tests]
        command += [] if self.compiled else ["-k", "not compiled"]
        quiet = {"COVERAGE_FILE": str(data / f"{self.name}.data"), "HYPOTHESIS_PROFILE": "ci"}
        interpreted = {} if self.compiled else {"NUMBA_DISABLE_JIT": "1"}
        with (data / f"{self.name}.log").open("w") as log:
            environment = os.environ | quiet | interpreted
            code = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)
        last = (data / f"{self.name}.log").read_text().rstrip().rpartition("\n")[2]
        done.write_text(last)
        return f"{self.name}: {last}" if code.returncode == 0 else f"{self.name}: FAILED, {last}"


def runs(files: list[str]) -> list[Run]:
    """The runs of some files of tests, or of all; the longest files first."""
    every = sorted((ROOT / "tests").rglob("test_*.py"), key=lambda path: -path.stat().st_size)
    chosen = files or ["occlp", *(path.relative_to(ROOT).as_posix() for path in every)]
    return [Run(name, compiled=False) for name in INTERPRETED] + [Run(name, compiled=True) for name in chosen]


@dataclass
class Count:
    """Statements and branches, and those among them that were taken."""

    statements: int = 0
    run: int = 0
    branches: int = 0
    taken: int = 0

    def add(self, summary: dict[str, int]) -> None:
        """Add a file of coverage's report."""
        self.statements += summary["num_statements"]
        self.run += summary["covered_lines"]
        self.branches += summary["num_branches"]
        self.taken += summary["covered_branches"]

    @property
    def shares(self) -> tuple[float, float]:
        """Percentages: of statements, of branches."""
        run, taken = self.run + (self.statements == 0), self.taken + (self.branches == 0)
        return 100 * run / max(self.statements, 1), 100 * taken / max(self.branches, 1)


def report(data: Path) -> Iterator[str]:
    """Lines: what is not covered in each file, shares of each folder, and of everything."""
    parts = [str(path) for path in data.glob("*.data.*")]
    for command in (["combine", "-q", "--keep", *parts], ["json", "-q", "-o", str(data / "joined.json")]):
        environment = os.environ | {"COVERAGE_FILE": str(data / "joined")}
        subprocess.run([sys.executable, "-m", "coverage", *command], cwd=ROOT, env=environment, check=True)
    found = json.loads((data / "joined.json").read_text())["files"]
    folders: dict[str, Count] = defaultdict(Count)
    for path, file in sorted(found.items()):
        folders["/".join(path.split("/")[:2])].add(file["summary"])
        folders["everything"].add(file["summary"])
        lines = file["missing_lines"]
        branches = [f"{start}->{end}" for start, end in file["missing_branches"] if start not in lines]
        if lines or branches:
            yield f"{path}: {' '.join(map(str, [*lines, *branches]))}"
    yield f"\n{'':32} statements  branches  not taken"
    for folder, count in sorted(folders.items(), key=lambda pair: pair[1].shares[1]):
        left = f"{count.branches - count.taken} of {count.branches}"
        yield f"{folder:32} {count.shares[0]:8.1f} % {count.shares[1]:7.1f} %  {left}"


def main() -> None:
    """Run what has not been run, and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "coverage", help="where the data are kept")
    parser.add_argument("--files", nargs="*", default=[], help="only these files of tests; default: all")
    parser.add_argument("--report", action="store_true", help="run nothing, report what there is")
    given = parser.parse_args()
    given.data.mkdir(parents=True, exist_ok=True)
    if not given.report:
        with ThreadPoolExecutor(given.jobs) as pool:
            for future in as_completed([pool.submit(run.start, given.data) for run in runs(given.files)]):
                print(future.result(), flush=True)
    print("\n".join(report(given.data)))


if __name__ == "__main__":
    main()

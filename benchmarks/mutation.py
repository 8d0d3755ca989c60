"""Mutation testing of the modules that answers are trusted by: each small change to them must fail some test.

    python -m benchmarks.mutation --record mutation.jsonl      # goes on where the record stops
    python -m benchmarks.mutation --record mutation.jsonl --again      # once more what survived
    python -m benchmarks.mutation --target occlp/verify/gain.py --sample 50 --seed 0

Tests are collected and run once, which also tells which lines each of them runs, and once more to be timed. Every
mutant is then made in a forked child by exchanging the code of one function, and the tests that run the changed
statement are run until one fails: first those that noticed other changes of the function, then the quick ones, as many
as the budget allows. What survives is printed; mutants that change nothing stand in equivalent_mutants.txt beside this
file, with the reason, and are not counted. POSIX only.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from benchmarks.mutants import ROOT, Mutant, function_of, mutants

TARGETS = ["occlp/verify", "occlp/certificate.py"]
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.txt")
#: Tests that audit answers; those that take longer than this many seconds of the processor are left out.
TESTS = [
    "tests/test_verify_boundaries.py", "tests/exact/test_proofs.py", "tests/test_certificate.py",
    "tests/test_lies.py", "tests/test_verify_kinds.py", "tests/test_verify.py", "tests/exact/test_totals.py",
    "tests/test_average.py::TestCertificate", "tests/exact/test_levels.py::TestTheAudit",
]  # fmt: skip
LEFT_OUT = (
    "not honest_answers_about and not honest_answers_with and not missing and not brute_force and not digit_for_digit "
    "and not hold_for_any_values"
)
LONGEST_TEST = 5.0
#: A test on a mutant that takes so many times as long as without it, and seconds, never ends.
PATIENCE, GRACE = 10.0, 5.0


class Hunt:
    """A plugin of pytest: runs the tests once, and then again on every mutant that they concern."""

    def __init__(self, found: list[Mutant], record: Path | None, budget: float) -> None:
        self.mutants, self.record, self.budget = found, record, budget
        self.verdicts: dict[str, str] = {}
        self.out = os.fdopen(os.dup(1), "w")  # pytest captures the other one
        self.seconds: dict[str, float] = {}
        self.runs: dict[str, set[tuple[str, str, int]]] = defaultdict(set)  # test -> (path, place, line)
        self.kills: Counter[tuple[str, str]] = Counter()  # (place, test)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests once, and then on each mutant in the place of running them."""
        codes = self._codes()
        for item in session.items:
            self._learn(session, item, codes)
        for item in session.items:  # the first time may have compiled, or solved what is remembered from then on
            began = time.process_time()
            self._run(session, item)
            self.seconds[item.nodeid] = time.process_time() - began
        assert not session.testsfailed, "the tests fail without any change"
        gc.freeze()  # children share what is there
        items = [item for item in session.items if self.seconds[item.nodeid] <= LONGEST_TEST]
        touching: dict[tuple[str, str], list[tuple[pytest.Item, set[int]]]] = defaultdict(list)
        for item in items:
            lines: dict[tuple[str, str], set[int]] = defaultdict(set)
            for path, place, line in self.runs[item.nodeid]:
                lines[path, place].add(line)
            for target, seen in lines.items():
                touching[target].append((item, seen))
        for n, mutant in enumerate(self.mutants):
            first, last = mutant.lines
            mine = [
                item
                for item, seen in touching[mutant.path, mutant.place]
                if any(first <= line <= last for line in seen)
            ]
            if mutant.constant:
                mine = [item for item in items if any(path == mutant.path for path, _, _ in self.runs[item.nodeid])]
            mine.sort(key=lambda item: (-self.kills[mutant.place, item.nodeid], self.seconds[item.nodeid]))
            spent = itertools.accumulate(self.seconds[item.nodeid] for item in mine)
            mine = [item for item, seconds in zip(mine, spent, strict=True) if seconds <= self.budget]
            self._note(mutant, mine, self._killer(session, mutant, mine))
            if n % 50 == 49:
                print(f"{n + 1} of {len(self.mutants)}", file=self.out, flush=True)
        return True

    def _note(self, mutant: Mutant, mine: list[pytest.Item], killer: int | None) -> None:
        """Write a verdict down."""
        test = None if killer is None else mine[killer].nodeid
        if test is None:
            print(f"survived ({len(mine)} tests): {mutant}", file=self.out, flush=True)
        else:
            self.kills[mutant.place, test] += 1
        self.verdicts[mutant.key] = "survived" if test is None else "killed"
        if self.record is not None:
            row = {"mutant": mutant.key, "verdict": self.verdicts[mutant.key], "by": test, "tests": len(mine)}
            with self.record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def _codes(self) -> dict[CodeType, tuple[str, str]]:
        """The code of every function with a mutant, and of those inside it."""
        found: dict[CodeType, tuple[str, str]] = {}
        files = {mutant.path for mutant in self.mutants}
        for path, place in {(m.path, m.place) for file in files for m in mutants(file) if not m.constant}:
            pending = [function_of(path, place).__code__]
            while pending:
                code = pending.pop()
                found[code] = path, place
                pending += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
        return found

    def _learn(self, session: pytest.Session, item: pytest.Item, codes: dict[CodeType, tuple[str, str]]) -> None:
        """Run a test without any change, to learn which lines it runs."""
        seen = self.runs[item.nodeid]

        def follow(frame: FrameType, event: str, _: Any) -> Any:
            target = codes.get(frame.f_code)
            if target is None:
                return None
            seen.add((*target, frame.f_lineno))
            return follow

        sys.settrace(follow)
        self._run(session, item)
        sys.settrace(None)

    @staticmethod
    def _run(session: pytest.Session, item: pytest.Item) -> None:
        """Run one test."""
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)

    def _killer(self, session: pytest.Session, mutant: Mutant, items: list[pytest.Item]) -> int | None:
        """Which of the tests fails or does not end, in a child that has the mutant."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                mutant.put_in_place()
                for item in items:
                    os.write(writing, b".")
                    signal.setitimer(signal.ITIMER_PROF, PATIENCE * self.seconds[item.nodeid] + GRACE)
                    self._run(session, item)
                    if session.testsfailed:
                        os._exit(1)
                os._exit(0)
            finally:
                os._exit(3)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            begun = len(pipe.read())
        status = os.waitpid(child, 0)[1]
        assert begun == len(items) or (begun and status), f"{mutant} could not be made"
        return begun - 1 if status else None


def equivalent(path: Path = EQUIVALENT) -> dict[str, str]:
    """Mutants that change nothing, with the reason: lines ``# reason`` above those that it holds for."""
    reason, found = "", {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            reason = line.removeprefix("#").strip()
        elif line.strip():
            found[line.strip()] = reason
    return found


def known(record: Path | None) -> dict[str, str]:
    """Verdicts of a record; the last one of each mutant counts."""
    if record is None or not record.is_file():
        return {}
    rows = map(json.loads, record.read_text(encoding="utf-8").splitlines())
    return {row["mutant"]: row["verdict"] for row in rows}


def main() -> None:
    """Make mutants of the targets, or a sample of them, and say which survive."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", action="append", help=f"file or folder; default: {', '.join(TARGETS)}")
    parser.add_argument("--sample", type=int, help="how many mutants, drawn at random; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, metavar="FILE", help="verdicts, kept: what stands there is not repeated")
    parser.add_argument("--test", action="append", help="tests instead of all those that audit answers")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of tests that a mutant is given, at most")
    parser.add_argument("--again", action="store_true", help="what survived by the record is tried once more")
    options = parser.parse_args()
    targets = [ROOT / target for target in options.target or TARGETS]
    paths = [path for target in targets for path in sorted(target.glob("*.py")) or [target]]
    found = [mutant for path in paths for mutant in mutants(path.relative_to(ROOT).as_posix())]
    idle = equivalent()
    counted = [mutant for mutant in found if str(mutant) not in idle]
    for words in sorted(set(idle) - {str(mutant) for mutant in found}) if options.target is None else ():
        print(f"no such mutant any more: {words}")
    if options.sample is not None:
        counted = random.Random(options.seed).sample(counted, min(options.sample, len(counted)))
    verdicts = known(options.record)
    done = {key for key, verdict in verdicts.items() if verdict == "killed" or not options.again}
    hunt = Hunt([mutant for mutant in counted if mutant.key not in done], options.record, options.budget)
    if hunt.mutants:
        quiet = ["-q", "--no-header", "-p", "no:cacheprovider", "-m", "not slow", "-k", LEFT_OUT]
        pytest.main([*quiet, *(options.test or TESTS)], plugins=[hunt])
    verdicts |= hunt.verdicts
    killed = sum(verdicts.get(mutant.key) == "killed" for mutant in counted)
    for mutant in counted:
        if verdicts.get(mutant.key) == "survived":
            print(f"survives: {mutant}")
    share = killed / max(len(counted), 1)
    rest = len(found) - len(counted)
    print(f"{killed} of {len(counted)} mutants killed ({share:.1%}); {rest} others left out or equivalent")


if __name__ == "__main__":
    main()

"""What the library sets out to reach, and whether the measurements show it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.cases import CASES
from benchmarks.entrants import BASE, TOLERANCE
from benchmarks.kernel_profile import backup_bytes
from benchmarks.records import Records

#: Other packages that answer plain questions without a linear program.
RIVALS = ("quantecon mpi", "quantecon pi", "quantecon vi", "mdpsolver mpi", "mdpsolver mpi, one thread")
TOLERANCE_WORDS = f"{TOLERANCE:.0e}".replace("e-0", "e-")
#: Below this many states it does not count who is faster.
LARGE = 1000


@dataclass(frozen=True)
class Verdict:
    """Whether a goal is met (None: not measured), and the figure that decides, in words."""

    goal: str
    met: bool | None
    words: str


@dataclass(frozen=True)
class Goal:
    """A goal, the questions and entrants that it is about, and how it is judged."""

    words: str
    cases: tuple[str, ...]
    entrants: tuple[str, ...]
    judge: Callable[[Records], tuple[bool | None, str]]
    factor: float = 1.0  # how many times as long as ours the entrants are to take

    def verdict(self, records: Records) -> Verdict:
        """Judge by the measurements."""
        return Verdict(self.words, *self.judge(records))


def advantage(records: Records, case: str, entrant: str) -> tuple[float, bool]:
    """How many times longer an entrant takes than ours, and whether it is known only that it is at least this.

    NaN where either was not measured.
    """
    ours, other = records.row(case, BASE.name), records.row(case, entrant)
    if ours is None or other is None or ours["why"]:
        return math.nan, False
    if other["late"]:
        return other["gave"] / ours["seconds"], True
    return other["ratio"], False


def _ahead(case: str, entrant: str, factor: float) -> Goal:
    def judge(records: Records) -> tuple[bool | None, str]:
        times, at_least = advantage(records, case, entrant)
        if math.isnan(times):
            return None, "not run, going by a smaller question" if at_least else "not measured"
        if at_least and times < factor:
            return None, f"more than {times:.3g} ×: given up"
        sound = records.row(case, BASE.name)
        certified = sound is not None and sound["certified"]
        words = f"{'more than ' if at_least else ''}{times:.3g} ×" + ("" if certified else ", but not certified")
        return times >= factor and certified, words

    words = f"at least {factor:,g} × as fast as" if factor > 1 else "never slower than"
    return Goal(f"{case}: {words} {entrant}", (case,), (entrant,), judge, factor)


def _never_slower() -> Goal:
    plain = tuple(case.name for case in CASES if case.kind == "plain")

    def judge(records: Records) -> tuple[bool | None, str]:
        found = []
        for name in plain:
            record = records.get("case", name)
            if record is None or record.get("states", 0) < LARGE:
                continue
            others = [row for row in record["rows"] if not row["entrant"].startswith("occlp") and row["ratio"] > 0]
            found += [(row["ratio"], f"{row['entrant']} on {name}") for row in others]
        if not found:
            return None, "not measured"
        least, where = min(found)
        slower = sum(ratio < 1 for ratio, _ in found)
        words = f"{slower} of {len(found)} pairs of entrant and question are ahead of ours"
        return least >= 1, f"{words}; the nearest is {where}, {least:.3g} × our time"

    return Goal("Plain questions from 1,000 states up: never slower than anybody's values", plain, RIVALS, judge)


def _memory(case: str, most: float) -> Goal:
    def judge(records: Records) -> tuple[bool | None, str]:
        row = records.row(case, BASE.name)
        if row is None or not row["peak"] > 0:
            return None, "not measured"
        return row["peak"] <= most and row["certified"], f"{row['peak'] / 1e9:.2f} GB, model and interpreter included"

    return Goal(f"{case}: certified, with its occupancy, in less than {most / 1e9:g} GB", (case,), (), judge)


def backups(records: Records, case: str) -> float:
    """Seconds of ours in full Bellman backups at the measured bandwidth; NaN where something is missing."""
    record, memory, row = records.get("case", case), records.get("bandwidth"), records.row(case, BASE.name)
    if record is None or memory is None or row is None:
        return math.nan
    one = backup_bytes(record["states"], record["pairs"], record["nnz"]) / memory["all"]
    return float(row["seconds"] / one)


def _within_backups(case: str, most: float) -> Goal:
    def judge(records: Records) -> tuple[bool | None, str]:
        count = backups(records, case)
        return (None, "not measured") if math.isnan(count) else (count <= most, f"{count:,.0f} backups")

    return Goal(f"{case}: within {most:,g} full backups at the bandwidth of memory", (case,), (), judge)


def growth(records: Records) -> dict[str, float]:
    """Slope of the time of a backup against the transitions, both logarithmic, from the smallest to the largest.

    One for each family of models and each of the two kernels that back up all pairs.
    """
    record = records.get("kernels")
    series: dict[str, list[tuple[int, float]]] = {}
    for row in [] if record is None else record["rows"]:
        if row["kernel"].startswith("backup"):
            place = " in place" if "in place" in row["kernel"] else ""
            series.setdefault(row["model"].split("-")[0] + place, []).append((row["nnz"], row["seconds"]))
    slopes = {}
    for name, found in series.items():
        (small, quick), (large, slow) = min(found), max(found)
        if large > small:
            slopes[name] = math.log(slow / quick) / math.log(large / small)
    return slopes


def _growth(most: float) -> Goal:
    def judge(records: Records) -> tuple[bool | None, str]:
        slopes = growth(records)
        words = ", ".join(f"{name} {slope:.3g}" for name, slope in slopes.items())
        return (max(slopes.values()) <= most, words) if slopes else (None, "not measured")

    return Goal(f"The time of a backup grows no faster than nnz^{most:g} from cache to 1e6 states", (), (), judge)


def _kept(case: str) -> Goal:
    def judge(records: Records) -> tuple[bool | None, str]:
        row = records.row(case, BASE.name)
        if row is None:
            return None, "not measured"
        if row["why"]:
            return False, str(row["why"])
        words = f"gap {row['gap']:.1e} of {row['allowed']:.1e}, limits broken by {max(row['violation'], 0.0):.1e}"
        return row["certified"] and row["violation"] <= 1e-10, f"{words}, {row['seconds']:.3g} s"

    return Goal(f"{case}: certified to {TOLERANCE_WORDS}, limits kept to 1e-10", (case,), (), judge)


def _first_use(words: str, figure: Callable[[dict[str, list[float]]], float], most: float, unit: str) -> Goal:
    def judge(records: Records) -> tuple[bool | None, str]:
        record = records.get("first use")
        if record is None:
            return None, "not measured"
        value = figure(record)
        return value <= most, f"{value:.3g} {unit}"

    return Goal(words, (), (), judge)


def _all() -> Iterator[Goal]:
    yield _never_slower()
    yield _ahead("bumpy-200-.999", "quantecon mpi", 5)
    yield _ahead("bumpy-50-.9999", "quantecon mpi", 30)
    yield _ahead("garnet-1e3", "cvxpy HIGHS", 2000)
    yield _ahead("garnet-1e3", "cvxpy CLARABEL", 150)
    yield _memory("bumpy-1000-.999", 2e9)
    yield _within_backups("bumpy-1000-.999", 2000)
    yield _growth(1.15)
    for k in (1, 3, 5):
        yield _ahead(f"bumpy-200-limits{k}", "cvxpy CLARABEL", 20)
        yield _kept(f"bumpy-200-limits{k}")
    yield _kept("bumpy-1000-limits3")
    for strength, factor in (("1", 20), ("0.1", 20), ("0.01", 5)):
        yield _ahead(f"garnet-1e3-kl{strength}", "cvxpy CLARABEL", factor)
    for strength, factor in (("0.1", 5), ("0.01", 1), ("0.001", 1), ("0.0001", 1)):
        yield _ahead(f"bumpy-50-kl{strength}", "cvxpy CLARABEL", factor)
    yield _kept("garnet-1e5-kl0.1")
    yield _first_use("import occlp: at most 0.1 s of a processor", lambda found: found["import"][0], 0.1, "s")
    yield _first_use(
        "The first solve in a fresh process: at most twice the imports of numba and scipy.sparse.linalg",
        lambda found: found["solve"][0] / found["others"][0], 2.0, "×",
    )  # fmt: skip


GOALS = tuple(_all())

"""The page docs/benchmarks.md, from the measurements alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.cases import CASES, SERIES, Case
from benchmarks.entrants import BASE, ENTRANTS
from benchmarks.goals import GOALS, TOLERANCE_WORDS, backups, growth
from benchmarks.machine import words_of_load
from benchmarks.plots import PICTURES
from benchmarks.records import Records

HEAD = Path(__file__).parent / "page.md"
#: Packages that the page says something about when they are not there.
OPTIONAL = ("quantecon", "mdpsolver")
KERNELS = (
    "Kernels on one thread: nanoseconds a transition that they read, and the bytes that they have to move a second as "
    "a share of the triad's (more than 100 % comes from caches)."
)
#: What a picture shows, for those who cannot see it.
WORDS = {
    "benchmarks-plain.png": "Seconds against transitions for plain questions, one line an entrant",
    "benchmarks-other.png": "Seconds against transitions with three limits, and against the strength of a KL penalty",
}


def page(records: Records, *, small: bool = False) -> str:
    """The whole page, in Markdown."""
    lines = [_head(records), *goals(records)]
    for name, panels in PICTURES.items():
        if plots.drawn(records, panels, small=small):
            lines += [f"![{WORDS[name]}](images/{name})", ""]
    for series, words in SERIES.items():
        found = {case.name: records.get("case", case.name, small=small) or {} for case in CASES}
        cases = [case for case in CASES if case.series == series and found[case.name].get("rows")]
        if cases:
            lines += [f"## {series[0].upper()}{series[1:]}", "", words, "", *table(cases, records, small=small), ""]
    lines += [*memory(records), *first_use(records), *faster(records, small=small), *missing(records, small=small)]
    return "\n".join(lines).rstrip() + "\n"


def _head(records: Records) -> str:
    record = records.get("machine") or {"facts": {}, "load": 0.0, "repeat": 0}
    facts = dict(record["facts"])
    date, processors = facts.pop("date", "an unknown date"), facts.pop("processors", "unknown processors")
    versions = ", ".join(f"{name} {value}" for name, value in facts.items())
    load = words_of_load(record["load"])
    absent = [name for name in OPTIONAL if name not in facts]
    missing = f" Not installed, and so left out: {', '.join(absent)}." if absent else ""
    text = HEAD.read_text(encoding="utf-8")
    once = {name: record.get(name, 0.0) for name in ("once", "once_ours")}
    numbers = {"repeat": record["repeat"], "tolerance": TOLERANCE_WORDS, **once}
    return text.format(**numbers, date=date, processors=processors, versions=versions, load=load, missing=missing)


def goals(records: Records) -> list[str]:
    """What was to be reached, and what was."""
    verdicts = [goal.verdict(records) for goal in GOALS]
    lines = ["## Goals", ""]
    for title, met in (("Met", True), ("Not met", False), ("Not measured in this run", None)):
        some = [verdict for verdict in verdicts if verdict.met is met]
        if some:
            lines += [f"{title}:", "", *(f"* {one.goal}: **{one.words}**." for one in some), ""]
    return lines


def table(cases: list[Case], records: Records, *, small: bool = False) -> list[str]:
    """One series: a column a case, a row an entrant, and what is known of ours besides."""
    found = {case.name: records.get("case", case.name, small=small) or {"rows": []} for case in cases}
    lines = ["| | " + " | ".join(found) + " |", "|---|" + "---:|" * len(found)]
    for key, words in (("states", "states"), ("pairs", "pairs"), ("nnz", "transitions")):
        lines.append(_line(words, [f"{record[key]:,}" if key in record else "" for record in found.values()]))
    failures = []
    for entrant in ENTRANTS:
        rows = [records.row(name, entrant.name, small=small) for name in found]
        if any(row is not None for row in rows):
            name = f"**{entrant.name}**" if entrant is BASE else entrant.name
            lines.append(_line(name, [cell(row) for row in rows]))
            failures += [
                f"{entrant.name} on {case}: {row['why']}"
                for case, row in zip(found, rows, strict=True)
                if row is not None and row["why"] and not row["late"]
            ]
    ours = {name: records.row(name, BASE.name, small=small) for name in found}
    lines += [_line(words, [write(ours[name], name) for name in found]) for words, write in _details(records)]
    return lines + (["", f"‡ {'; '.join(failures)}."] if failures else [])


def _details(records: Records) -> list[tuple[str, Any]]:
    """What else is said of ours: words, and what writes a cell from a row and the name of its case."""

    def written(form: Any) -> Any:
        return lambda row, name: "" if row is None or row["why"] else form(row, name)

    def in_backups(row: dict[str, Any], name: str) -> str:
        count = backups(records, name)
        return "" if math.isnan(count) else f"{count:,.0f}"

    return [
        ("ours: seconds of processors", written(lambda row, name: f"{row['processor']:.3g}")),
        ("ours: in backups at the bandwidth", written(in_backups)),
        ("ours: memory beyond the model, MB", written(lambda row, name: _megabytes(row["extra"]))),
        ("ours: certified gap", written(lambda row, name: f"{row['notes'].get('gap', math.nan):.0e}")),
        ("ours: method, iterations", written(lambda row, name: _method(row["notes"]))),
        ("ours: backups counted, factorisations", written(lambda row, name: _work(row["notes"]))),
    ]


def _method(notes: dict[str, Any]) -> str:
    return f"{str(notes.get('method', '')).removesuffix('()')}, {notes.get('iterations', '')}"


def _work(notes: dict[str, Any]) -> str:
    return f"{notes['backups']:,.0f}, {notes['factorizations']}" if "backups" in notes else ""


def _megabytes(size: float) -> str:
    return "" if math.isnan(size) else f"{size / 1e6:,.0f}"


def cell(row: dict[str, Any] | None) -> str:
    """Seconds and the ratio, or why there are none."""
    if row is None:
        return ""
    if row["late"]:
        return "–" if math.isnan(row["gave"]) else f"> {row['gave']:.0f} s"
    if row["why"]:
        return "‡"
    marks = ("\\*" if row["runs"] == 1 else "") + ("" if row["certified"] else " †")
    ratio = "" if row["entrant"] == BASE.name or math.isnan(row["ratio"]) else f" ({row['ratio']:.3g})"
    return f"{row['seconds']:.3g} s{marks}{ratio}"


def _line(words: str, cells: list[str]) -> str:
    return "| " + " | ".join([words, *cells]) + " |"


def memory(records: Records) -> list[str]:
    """Bandwidth of memory, and the kernels against it."""
    found, kernels = records.get("bandwidth"), records.get("kernels")
    if found is None:
        return []
    rates = f"{found['one'] / 1e9:.1f} GB/s on one thread and {found['all'] / 1e9:.1f} GB/s on {found['threads']}"
    counted = "One full backup is counted as 12·nnz + 8·(2·pairs + 3·S) bytes."
    lines = ["## Memory and kernels", "", f"The triad of STREAM moves {rates}. {counted}", ""]
    if kernels is None:
        return lines
    lines += [KERNELS, ""]
    models = list(dict.fromkeys(row["model"] for row in kernels["rows"]))
    lines += [_line("", models), "|---|" + "---:|" * len(models)]
    for kernel in dict.fromkeys(row["kernel"] for row in kernels["rows"]):
        rows = {row["model"]: row for row in kernels["rows"] if row["kernel"] == kernel}
        shares = [rows[model]["bytes"] / rows[model]["seconds"] / found["one"] for model in models]
        each = [1e9 * rows[model]["seconds"] / rows[model]["reads"] for model in models]
        lines.append(_line(kernel, [f"{time:.2f} ({share:.0%})" for time, share in zip(each, shares, strict=True)]))
    slopes = ", ".join(f"{name} nnz^{slope:.3g}" for name, slope in growth(records).items())
    return [*lines, "", f"From the smallest to the largest model the time of a backup grows as {slopes}.", ""]


def first_use(records: Records) -> list[str]:
    """What somebody waits for the first time."""
    found = records.get("first use")
    if found is None:
        return []
    rows = [
        ("`import occlp`", found["import"]),
        ("`import numba, scipy.sparse.linalg`", found["others"]),
        ("`import occlp` and a first `oc.solve`, kernels on disk", found["solve"]),
    ]
    lines = ["## First use", "", "In a fresh process, medians:", "", "| | seconds of a processor | by the clock |"]
    lines += ["|---|---:|---:|", *(f"| {words} | {one[0]:.3g} | {one[1]:.3g} |" for words, one in rows), ""]
    words = f"With nothing on disk, a tour through the library compiles {found['kernels']:.0f} kernels, which takes "
    return [*lines, f"{words}{found['compile']:.3g} s of a processor once.", ""]


def faster(records: Records, *, small: bool = False) -> list[str]:
    """Where another entrant beats what occlp does by itself, and where that has no answer, in words."""
    found = []
    for case in CASES:
        ours = records.row(case.name, BASE.name, small=small)
        if ours is not None and ours["why"]:
            found.append((0.0, f"* {case.name}: ours has none: {ours['why'].rstrip('.')}."))
        for row in (records.get("case", case.name, small=small) or {"rows": []})["rows"]:
            if row["ratio"] < 1 and not row["entrant"].startswith("occlp"):
                words = "" if row["certified"] else ", with a policy that is not within the tolerance"
                text = f"* {case.name}: {row['entrant']} takes {row['ratio']:.2f} of our time{words}."
                found.append((row["ratio"], text))
    lines = [text for _, text in sorted(found)] or ["* Nowhere."]
    return ["## Where something else is faster, or ours has no answer", "", *lines, ""]


def missing(records: Records, *, small: bool = False) -> list[str]:
    """Questions of which there are no figures or not all, and why."""
    found = {case.name: records.get("case", case.name, small=small) for case in CASES}
    unbegun = [name for name, record in found.items() if record is None]
    known = {name: record for name, record in found.items() if record is not None}
    cut = [name for name, record in known.items() if not record.get("complete", True)]
    lines = [f"* {name}: {record['failure']}." for name, record in known.items() if "failure" in record]
    for words, names in (("Cut short, so that some entrants are missing", cut), ("Not begun", unbegun)):
        lines += [f"* {words} when the time of the run was up: {', '.join(names)}."] if names else []
    return ["## What is missing", "", *lines, ""] if lines else []

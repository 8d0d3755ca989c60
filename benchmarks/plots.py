"""Pictures of the measurements: time against the number of transitions, and against the strength of a penalty."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from benchmarks.cases import CASES
from benchmarks.entrants import BASE, ENTRANTS
from benchmarks.kernel_profile import backup_bytes
from benchmarks.records import Records
from occlp.report.figures import COLOURS, INK, MARKERS, MUTED, style

#: Panels of the picture of plain questions, and of the other one: series, and the pattern of its cases.
PLAIN = (
    ("garnet", "garnet-.*"), ("bumpy, γ = .99", "bumpy-.*"), ("bumpy, γ = .999", "bumpy-.*"),
    ("bumpy, γ = .9999", "bumpy-.*"), ("queue", "queue-.*"), ("inventory", "inventory-.*"), ("forest", "forest-.*"),
)  # fmt: skip
OTHERS = (
    ("garnet with limits", "garnet-.*-limits3"), ("bumpy with limits", "bumpy-.*-limits3"),
    ("garnet with KL", "garnet-1e3-kl.*"), ("bumpy with KL", "bumpy-50-kl.*"),
)  # fmt: skip
PICTURES = {"benchmarks-plain.png": PLAIN, "benchmarks-other.png": OTHERS}
#: Ours is dark and thick; the others have a colour for the package and a marker for the method.
PACKAGES = {"quantecon": COLOURS[0], "mdpsolver": COLOURS[1], "scipy": COLOURS[2], "cvxpy": COLOURS[3]}

Curve = list[tuple[float, float]]


def looks(name: str) -> dict[str, Any]:
    """Colour, marker and width of an entrant's line."""
    if name == BASE.name:
        return {"color": INK, "marker": "o", "linewidth": 2.4, "markersize": 5.5, "zorder": 3}
    package = name.split()[0]
    place = [one.name for one in ENTRANTS if one.name.startswith(package)].index(name)
    return {
        "color": PACKAGES[package], "marker": MARKERS[1 + place], "linewidth": 1.2, "markersize": 4.5,
        "linestyle": ("-", "--", ":")[place % 3],
    }  # fmt: skip


def curves(records: Records, series: str, pattern: str, *, small: bool = False) -> dict[str, Curve]:
    """Points (transitions or strength, seconds) of each entrant that was measured, ours first."""
    found: dict[str, Curve] = {}
    for case in CASES:
        record = records.get("case", case.name, small=small)
        if case.series != series or not re.fullmatch(pattern, case.name) or record is None:
            continue
        strength = re.search(r"-kl([\d.e-]+)$", case.name)
        for row in record["rows"]:
            if row["seconds"] > 0 and row["entrant"] != "occlp OccupancyProgram":
                x = float(strength[1]) if strength else float(record["nnz"])
                found.setdefault(row["entrant"], []).append((x, row["seconds"]))
    return found


def drawn(
    records: Records, panels: tuple[tuple[str, str], ...], *, small: bool = False
) -> list[tuple[str, dict[str, Curve]]]:
    """The panels for which there is something to draw: series and curves."""
    every = [(series, curves(records, series, pattern, small=small)) for series, pattern in panels]
    return [(series, lines) for series, lines in every if lines]


def draw(records: Records, panels: tuple[tuple[str, str], ...], *, small: bool = False) -> Figure | None:
    """Draw one panel a series; None where nothing was measured."""
    found = drawn(records, panels, small=small)
    if not found:
        return None
    places = len(found) + 1  # one is for the legend
    rows = math.ceil(places / 4)
    columns = math.ceil(places / rows)
    figure = Figure(figsize=(3.1 * columns, 2.9 * rows), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    floor, ceiling = _decades([seconds for _, lines in found for points in lines.values() for _, seconds in points])
    for axes, (series, lines) in zip(grid, found, strict=False):
        strength = series.endswith("KL")
        style(axes, "strength" if strength else "transitions")
        axes.set(
            xscale="log", xlim=_decades([x for points in lines.values() for x, _ in points]), ylim=(floor, ceiling)
        )
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(series, fontsize=10, color=INK)
        for name, points in lines.items():
            axes.plot(*zip(*sorted(points), strict=True), clip_on=False, **looks(name))
        if not strength:
            _draw_backup(axes, records, panels, series, small=small)
    for axes in grid[::columns]:
        axes.set_ylabel("seconds", color=MUTED, fontsize=9)
    names = [entrant.name for entrant in ENTRANTS if any(entrant.name in lines for _, lines in found)]
    handles = [Line2D([], [], label=name, **looks(name)) for name in names]
    if records.get("bandwidth") and not all(series.endswith("KL") for series, _ in found):
        handles.append(Line2D([], [], color=MUTED, linewidth=0.9, linestyle=":", label="one backup, at the bandwidth"))
    for axes in grid[len(found) :]:
        axes.axis("off")
    grid[len(found)].legend(handles=handles, loc="center", fontsize=8.5, frameon=False)
    return figure


def _decades(figures: list[float]) -> tuple[float, float]:
    """Powers of ten around some figures."""
    return 10.0 ** math.floor(math.log10(min(figures))), 10.0 ** math.ceil(math.log10(1.001 * max(figures)))


def _draw_backup(axes: Any, records: Records, panels: tuple[tuple[str, str], ...], series: str, *, small: bool) -> None:
    """A dotted line at the time that memory takes for one backup."""
    memory = records.get("bandwidth")
    if memory is None:
        return
    pattern, points = dict(panels)[series], []
    for case in CASES:
        record = records.get("case", case.name, small=small)
        if case.series == series and re.fullmatch(pattern, case.name) and record is not None and "nnz" in record:
            sizes = (record["states"], record["pairs"], record["nnz"])
            points.append((record["nnz"], backup_bytes(*sizes) / memory["all"]))
    if points:
        axes.plot(*zip(*sorted(points), strict=True), color=MUTED, linewidth=0.9, linestyle=":")


def save(records: Records, folder: Path, *, small: bool = False) -> list[Path]:
    """Draw both pictures into a folder; the files that were written."""
    written = []
    for name, panels in PICTURES.items():
        figure = draw(records, panels, small=small)
        if figure is not None:
            folder.mkdir(parents=True, exist_ok=True)
            figure.savefig(folder / name, dpi=110, metadata={"Software": None})
            written.append(folder / name)
    return written

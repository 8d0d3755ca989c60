"""Pictures of comparisons, drawn with matplotlib's objects and without its global state."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D

from occlp.errors import InvalidProblem
from occlp.report.content import answer, crop_occupancies, crop_words, display, drawable_results, label, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

    from occlp._typing import AnyArray, FloatArray
    from occlp.comparison import Comparison
    from occlp.result import Result

#: Okabe and Ito's colours, told apart by colour-blind readers, without the yellow that vanishes on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#333333")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)))
INK, MUTED, FAINT = "#1c2733", "#5d6b7a", "#dfe4ea"
#: White for no mass, dark for much, and lightness that only falls.
MASS_MAP = LinearSegmentedColormap.from_list(
    "occlp_mass",
    [(0.0, "#ffffff"), (0.08, "#e4f0f8"), (0.3, "#a3cfe6"), (0.55, "#4a9bcb"), (0.8, "#1565a6"), (1.0, "#062f5c")],
)
#: Figures of mass that the colour bar may name.
MASS_TICKS = (1.0, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 1e-4, 1e-5, 1e-6)
#: Axes run logarithmically when their figures span more than this factor.
LOG_SPAN = 20.0


@dataclass(frozen=True, eq=False)
class _Run:
    """One run as it is drawn."""

    name: str
    steps: FloatArray  # [points]
    clock: FloatArray  # [points]
    gap: FloatArray  # [points]
    method: int  # position of the method, which decides its colour
    first: bool  # the first run of its method, which the legend shows

    @property
    def is_point(self) -> bool:
        """Whether the run has a single iteration, drawn as a marker."""
        return len(np.unique(self.steps)) == 1


def plot_convergence(comparison: Comparison, path: str | Path | None = None) -> Figure:
    """Draw the certified gap of every run against iterations and against seconds.

    Methods of a single iteration are markers. Gaps of zero cannot stand on a logarithmic axis: they are
    drawn on a line at the bottom which says so.

    Parameters
    ----------
    comparison : Comparison
    path : path, optional
        Where to save the figure; the suffix chooses the format (.png, .svg, .pdf).

    Returns
    -------
    Figure

    Raises
    ------
    InvalidProblem
        For a suffix that matplotlib does not know, or when no run has an answer.
    """
    check_format(path)
    runs = _runs(comparison)
    rows = math.ceil(sum(run.first for run in runs) / 3)
    figure = Figure(figsize=(10.0, 4.0 + 0.24 * rows), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    floor, above = _floor(runs)
    for axes, of_run, words in ((left, "steps", "iterations"), (right, "clock", "seconds")):
        style(axes, words)
        ends = [(getattr(run, of_run)[-1], max(run.gap[-1], floor)) for run in runs]
        for k, run in enumerate(runs):
            _draw_run(axes, run, getattr(run, of_run), floor, _marker_size(runs, ends, k))
        _scale_x(axes, np.concatenate([getattr(run, of_run) for run in runs]))
    _mark((left, right), _levels(comparison, runs, floor), floor, above)
    left.set_ylabel("certified gap", color=INK)
    _legend(figure, runs)
    return saved(figure, path)


def plot_occupancies(comparison: Comparison, path: str | Path | None = None) -> Figure:
    """Draw the occupancies d(s, a) of the methods side by side, as heat maps with one colour scale.

    Of large models the 50 states with most mass are drawn, and the figure says how much mass that is.

    Parameters
    ----------
    comparison : Comparison
    path : path, optional
        Where to save the figure; the suffix chooses the format (.png, .svg, .pdf).

    Returns
    -------
    Figure

    Raises
    ------
    InvalidProblem
        For a suffix that matplotlib does not know, or when no run has an answer.
    """
    check_format(path)
    results = drawable_results(comparison)
    tables, states, actions = crop_occupancies([result for _, result in results])
    highest = max(float(np.nanmax(table)) for table in tables)
    norm = PowerNorm(1 / 3, vmin=0.0, vmax=highest)
    columns = _panel_columns(len(results), len(actions))
    rows = math.ceil(len(results) / columns)
    tall = _panel_height(len(states))
    wide = _panel_width(len(actions))
    figure = Figure(figsize=(1.9 + columns * wide, 0.15 + rows * (tall + 0.6) + 0.45), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.ravel()[len(results) :]:
        axes.set_axis_off()
    image: Any = None
    for axes, (name, result), table in zip(grid.ravel(), results, tables, strict=False):
        image = axes.imshow(table, cmap=MASS_MAP, norm=norm, aspect="auto", interpolation="nearest")
        _style_panel(axes, name, result, wide)
        _write_cells(axes, table, norm, wide / len(actions))
    pairs = results[0][1].pairs
    _label_panels(grid, len(results), [pairs.state_name(int(s)) for s in states],
                  [pairs.action_name(int(a)) for a in actions], wide, tall)  # fmt: skip
    bar = figure.colorbar(image, ax=grid, shrink=min(1.0, 2.6 / (rows * tall)), aspect=18, pad=0.015)
    bar.set_ticks(mass_ticks(norm, highest))
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    bar.set_label("occupancy d(s, a), cube-root scale", color=MUTED, fontsize=8.5)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=2)
    words = crop_words(results[0][1].pairs, tables, states, actions)
    if words:
        figure.supxlabel(words, fontsize=8.5, color=MUTED)
    return saved(figure, path)


def to_data_uri(figure: Figure) -> str:
    """Return the figure as a ``data:`` address of an SVG, for a page that loads nothing."""
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "occlp"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def check_format(path: str | Path | None) -> None:
    """Raise `InvalidProblem` unless matplotlib writes files with this suffix, or none is to be written."""
    if path is None:
        return
    known = Figure().canvas.get_supported_filetypes()
    suffix = Path(path).suffix.removeprefix(".").lower()
    if suffix not in known:
        raise InvalidProblem(f"{str(path)!r}: no picture ends in {suffix!r}. Use one of .png, .svg, .pdf.")


def saved(figure: Figure, path: str | Path | None) -> Figure:
    """The figure itself, written to a file where one is named."""
    if path is not None:
        figure.savefig(path, dpi=160)
    return figure


def drawable(name: object, width: int) -> str:
    """Write a label with question marks for what the font has no glyph for, which would be a warning and a box.

    Text with a $ is still read as mathematics where ``parse_math`` is not off.
    """
    font, words = get_font(findfont(FontProperties())), label(name, width)
    return "".join(c if c == " " or font.get_char_index(ord(c)) else "?" for c in words)


def _runs(comparison: Comparison) -> list[_Run]:
    names = list(dict.fromkeys(name for name, _ in drawable_results(comparison)))
    runs, seen = [], set()
    for row in comparison:
        result = answer(row)
        if result is None:
            continue
        steps, clock, gap = (result.history[column] for column in ("iteration", "seconds", "gap"))
        # What is returned, with polishing and certificate in its time, is the end of every line.
        steps = np.append(steps, max(result.iterations, 1))
        clock, gap = np.append(clock, result.timing.total), np.append(gap, result.gap)
        keep = np.isfinite(gap)
        keep[-1] = True
        gap = np.where(np.isfinite(gap), gap, np.nan)
        runs.append(
            _Run(row.name, steps[keep], np.maximum(clock[keep], 1e-6), gap[keep], names.index(row.name),
                 row.name not in seen)
        )  # fmt: skip
        seen.add(row.name)
    return runs


def _floor(runs: Sequence[_Run]) -> tuple[float, float]:
    """Where gaps of zero are drawn (a power of ten beneath all others), and the largest gap."""
    gaps = np.concatenate([run.gap for run in runs])
    positive = gaps[gaps > 0]
    if len(positive) == 0:
        return 1e-16, 1e-15
    return 10.0 ** (math.floor(math.log10(positive.min())) - 1), float(positive.max())


def _near(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(math.log10(one[0] / other[0])) < 0.04 and abs(math.log10(one[1] / other[1])) < 0.4


def _marker_size(runs: Sequence[_Run], ends: Sequence[tuple[float, float]], k: int) -> float:
    """Markers of methods that fall on one another become rings, the earlier the larger; other seeds are dots."""
    if not runs[k].first:
        return 3.0
    hidden = sum(later.first and _near(ends[k], end) for later, end in zip(runs[k + 1 :], ends[k + 1 :], strict=True))
    few = sum(run.first for run in runs) <= 5
    return (8.0 if runs[k].is_point else 6.0) + (5.0 if few else 2.0) * min(hidden, 4)


def _draw_run(axes: Axes, run: _Run, x: FloatArray, floor: float, marker_size: float) -> None:
    colour, marker = COLOURS[run.method % len(COLOURS)], MARKERS[run.method % len(MARKERS)]
    dash = DASHES[run.method % len(DASHES)]
    y = np.maximum(run.gap, floor)
    look: dict[str, Any] = {"color": colour, "zorder": 3 + run.method / 100, "clip_on": False}
    if not run.is_point:
        axes.plot(x, y, linewidth=1.9, linestyle=dash, alpha=1.0 if run.first else 0.45, **look)
    axes.plot(x[-1:], y[-1:], marker=marker, markersize=marker_size, markeredgecolor="white",
              markeredgewidth=1.0, linestyle="none", **look)  # fmt: skip


def style(axes: Axes, words: str) -> None:
    """Logarithmic gaps above a plain axis with these words."""
    axes.set_xlabel(words, color=INK)
    axes.set_yscale("log")
    axes.grid(True, which="major", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(colors=MUTED, which="both", labelsize=9)


def _scale_x(axes: Axes, x: FloatArray) -> None:
    low, high = float(x.min()), float(x.max())
    if high > LOG_SPAN * low:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.35, high * 1.35)
        return
    margin = 0.06 * (high - low) or 0.5 * high
    axes.set_xlim(low - margin, high + margin)
    whole = low >= 1 and low == round(low) and high == round(high)  # iterations, not seconds
    if whole and high - low <= 6:
        axes.set_xticks(np.arange(low, high + 1))
    else:
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=whole))


def _levels(comparison: Comparison, runs: Sequence[_Run], floor: float) -> list[tuple[float, str]]:
    """Heights to mark: the tolerance, and the line on which gaps of zero lie."""
    certificate = drawable_results(comparison)[0][1].certificate
    allowed = certificate.allowed_gap(float(comparison.facts["tolerance"]))
    levels = [(allowed, "tolerance")] if 0 < allowed < math.inf else []
    return levels + [(floor, "gap 0")] * any((run.gap == 0).any() for run in runs)


def _mark(pair: Sequence[Axes], levels: Sequence[tuple[float, str]], floor: float, above: float) -> None:
    """Choose the range of gaps, with the marked levels in it, and draw these."""
    heights = [10 * floor, above, *(level for level, _ in levels)]
    pair[0].set_ylim(min(heights) / 3, max(heights) * 4)
    for axes in pair:
        for level, _ in levels:
            axes.axhline(level, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    for level, words in levels:
        pair[1].annotate(words, (1.0, level), xycoords=("axes fraction", "data"), xytext=(4, 0),
                         textcoords="offset points", va="center", fontsize=8.5, color=MUTED)  # fmt: skip


def _legend(figure: Figure, runs: Sequence[_Run]) -> None:
    handles, names = [], []
    for run in (run for run in runs if run.first):
        style: Any = "none" if run.is_point else DASHES[run.method % len(DASHES)]
        handles.append(
            Line2D([], [], color=COLOURS[run.method % len(COLOURS)], linestyle=style, linewidth=1.9,
                   marker=MARKERS[run.method % len(MARKERS)], markersize=7, markeredgecolor="white")
        )  # fmt: skip
        names.append(drawable(display(run.name), 44))
    legend = figure.legend(handles, [f"{k}" for k in range(len(names))], loc="outside lower center",
                           ncols=min(3, len(names)), frameon=False, fontsize=9.5, labelcolor=INK)  # fmt: skip
    write_names(legend, names)


def write_names(legend: Legend, names: Sequence[str]) -> None:
    """Write names into a legend of as many entries: an underscore in front, or a $, is a letter like any other."""
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def mass_ticks(norm: PowerNorm, highest: float) -> list[float]:
    """Round figures that stand apart on the colour bar, from the highest to 0."""
    kept = [0.0]
    for tick in MASS_TICKS:
        place = float(norm(tick))
        if tick <= highest and place > 0.085 and (len(kept) == 1 or float(norm(kept[-1])) - place > 0.085):
            kept.append(tick)
    return kept


def _panel_columns(count: int, actions: int) -> int:
    """How many panels stand in a row, so that the figure stays within a page."""
    return min(count, max(1, int(11.0 / _panel_width(actions))))


def _panel_width(actions: int) -> float:
    return float(np.clip(0.4 * actions, 1.9, 5.0))


def _panel_height(states: int) -> float:
    return float(np.clip(0.36 * states, 1.2, 4.0 if states <= 20 else 0.165 * states))


def _style_panel(axes: Axes, name: str, result: Result, wide: float) -> None:
    axes.set_facecolor("#eceff2")  # shows through where there is no pair
    for spine in axes.spines.values():
        spine.set_color("#b8c2cc")
        spine.set_linewidth(0.8)
    words = drawable(display(name), int(12.5 * wide))
    axes.set_title(words, fontsize=9.5, color=INK, pad=18, parse_math=False)
    note = f"{result.status.name.lower()}, gap {size(result.gap)}"
    axes.annotate(note, (0.5, 1.0), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points",
                  ha="center", va="bottom", fontsize=8, color=MUTED)  # fmt: skip
    axes.tick_params(length=0, labelsize=8, colors=MUTED)


def _write_cells(axes: Axes, table: FloatArray, norm: PowerNorm, width: float) -> None:
    """Write the numbers into the cells where there is room for them."""
    if table.shape[0] > 15 or width < 0.42:
        return
    for i, j in np.argwhere(np.nan_to_num(table) >= 5e-4):
        dark = float(norm(table[i, j])) > 0.55
        axes.text(j, i, f"{table[i, j]:.3f}".removeprefix("0"), ha="center", va="center", fontsize=7.5,
                  color="white" if dark else INK)  # fmt: skip


def _label_panels(
    grid: AnyArray, count: int, states: Sequence[Any], actions: Sequence[Any], wide: float, tall: float
) -> None:
    columns = grid.shape[1]
    names = [drawable(name, 18) for name in states]
    every = max(1, math.ceil(len(states) * 0.15 / tall))
    heads = [drawable(name, 14) for name in actions]
    longest = max(map(len, heads))
    upright = longest * 0.075 <= wide / len(actions)
    step = max(1, math.ceil(len(actions) * 0.16 / wide)) if not upright else 1
    for k, axes in enumerate(grid.ravel()[:count]):
        axes.set_xticks(range(0, len(actions), step), heads[::step], rotation=0 if upright else 90, parse_math=False)
        axes.set_yticks(range(0, len(states), every), names[::every], parse_math=False)
        if k % columns == 0:
            axes.set_ylabel("state", color=MUTED, fontsize=9)
        axes.tick_params(labelbottom=k + columns >= count)

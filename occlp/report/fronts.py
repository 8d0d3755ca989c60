"""Pictures of fronts and of curves along a bound."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from occlp.errors import InvalidProblem
from occlp.report.figures import COLOURS, FAINT, INK, MUTED, check_format, drawable, saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from occlp._typing import FloatArray
    from occlp.pareto import Front, LimitCurve

#: A curve of more pieces than this is drawn without its slopes written on it.
MOST_SLOPES = 8
#: Fronts of more objectives than this have too many projections for one figure.
MOST_OBJECTIVES = 5


def plot_front(front: Front, path: str | Path | None = None) -> Figure:
    """Draw a front of two objectives, or the points of a larger one projected on each pair of objectives.

    Parameters
    ----------
    front : Front
    path : path, optional
        Where to save the figure; the suffix chooses the format (.png, .svg, .pdf).

    Returns
    -------
    Figure

    Raises
    ------
    InvalidProblem
        For a suffix that matplotlib does not know, or more than five objectives.
    """
    check_format(path)
    if len(front.names) > MOST_OBJECTIVES:
        raise InvalidProblem(f"a figure shows at most {MOST_OBJECTIVES} objectives; this front has {len(front.names)}.")
    panels = list(combinations(range(len(front.names)), 2))
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5.4 * columns if columns == 1 else 3.9 * columns, 3.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (first, second) in zip(grid, panels, strict=False):
        _draw_pair(axes, front, first, second)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return saved(figure, path)


def plot_curve(curve: LimitCurve, path: str | Path | None = None) -> Figure:
    """Draw the optimum against the bound, with its breakpoints, slopes and the bounds that cannot be kept.

    Parameters
    ----------
    curve : LimitCurve
    path : path, optional
        Where to save the figure; the suffix chooses the format (.png, .svg, .pdf).

    Returns
    -------
    Figure

    Raises
    ------
    InvalidProblem
        For a suffix that matplotlib does not know.
    """
    check_format(path)
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    bounds, objectives = curve.bounds, curve.objectives
    margin = 0.15 * float(np.ptp(bounds)) or max(0.15 * abs(float(bounds[0])), 0.1)
    left, right = float(bounds[0]) - margin, float(bounds[-1]) + margin
    axes.plot(bounds, objectives, color=COLOURS[0], marker="o", markersize=5, linewidth=1.9, zorder=3)
    low, high = curve.feasible
    for end, level, finite in ((left, objectives[0], low), (right, objectives[-1], high)):
        edge = float(bounds[0] if end == left else bounds[-1])
        if math.isfinite(finite):
            axes.axvspan(end, edge, color=FAINT, zorder=0)
            axes.annotate("cannot\nbe kept", (0.5 * (end + edge), 0.5), xycoords=("data", "axes fraction"),
                          ha="center", va="center", fontsize=8.5, color=MUTED)  # fmt: skip
        else:
            axes.plot([edge, end], [level, level], color=COLOURS[0], linewidth=1.9, linestyle=(0, (2, 2)), zorder=2)
    if len(curve.slopes) <= MOST_SLOPES:
        middles = 0.5 * (bounds[1:] + bounds[:-1]), 0.5 * (objectives[1:] + objectives[:-1])
        for x, y, slope in zip(*middles, curve.slopes, strict=True):
            axes.annotate(f"slope {slope:.3g}", (x, y), xytext=(8, -10), textcoords="offset points",
                          fontsize=8.5, color=MUTED)  # fmt: skip
    axes.set_xlim(left, right)
    axes.set_xlabel(f"bound of {drawable(repr(curve.name), 40)} ({curve.relation})", color=INK, parse_math=False)
    axes.set_ylabel("optimum", color=INK)
    _style(axes)
    return saved(figure, path)


def _draw_pair(axes: Axes, front: Front, first: int, second: int) -> None:
    """The first objective upwards, the second to the right."""
    x, y = front.points[:, second], front.points[:, first]
    if len(front.names) == 2:
        _shade(axes, x, y, front.signs)
        axes.plot(x, y, color=COLOURS[0], linewidth=1.9, zorder=2)
    axes.plot(x, y, color=COLOURS[0], marker="o", markersize=5, linestyle="none", zorder=3)
    for setter, n in ((axes.set_xlabel, second), (axes.set_ylabel, first)):
        words = "more is better" if front.senses[n] == "maximize" else "less is better"
        setter(f"{drawable(front.names[n], 40)} ({words})", color=INK, parse_math=False)
    _style(axes)


def _shade(axes: Axes, x: FloatArray, y: FloatArray, signs: FloatArray) -> None:
    """What the front reaches or surpasses, up to the edges of the picture."""
    margin_x = 0.12 * float(np.ptp(x)) or max(0.12 * abs(float(x[0])), 0.1)
    margin_y = 0.12 * float(np.ptp(y)) or max(0.12 * abs(float(y[0])), 0.1)
    axes.set_xlim(x.min() - margin_x, x.max() + margin_x)
    axes.set_ylim(y.min() - margin_y, y.max() + margin_y)
    worst_x = axes.get_xlim()[0 if signs[1] > 0 else 1]
    worst_y = axes.get_ylim()[0 if signs[0] > 0 else 1]
    # Points run from the best first objective to the best second one.
    corners_x = [worst_x, *x, x[-1], worst_x]
    corners_y = [y[0], *y, worst_y, worst_y]
    axes.fill(corners_x, corners_y, color=COLOURS[4], alpha=0.18, linewidth=0, zorder=1)


def _style(axes: Axes) -> None:
    axes.grid(True, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=9)

"""Pictures of methods that are run with several seeds: medians and bands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from occlp.errors import InvalidProblem
from occlp.report.content import answer, display
from occlp.report.figures import COLOURS, DASHES, INK, check_format, drawable, saved, style, write_names

if TYPE_CHECKING:
    from occlp._typing import FloatArray
    from occlp.comparison import Comparison

#: Columns of a history that gaps are drawn against.
AGAINST = ("samples", "iteration", "seconds")
#: Quantiles of the seeds that the band spans.
BAND = (0.1, 0.9)
#: Gaps beneath this share of the largest are drawn there: a logarithmic axis has no zero.
LEAST = 1e-12
#: Axes that span fewer have numbers between the powers of ten.
FEW_DECADES = 3.0


def plot_seeds(comparison: Comparison, path: str | Path | None = None, *, against: str = "samples") -> Figure:
    """Draw the best gap so far of each method: the median of its seeds, and a band of 80 % of them.

    Parameters
    ----------
    comparison : Comparison
    path : path, optional
        Where to save the figure; the suffix chooses the format (.png, .svg, .pdf).
    against : {"samples", "iteration", "seconds"}
        Methods that do not sample are left out where it is "samples".

    Returns
    -------
    Figure

    Raises
    ------
    InvalidProblem
        For an unknown column or suffix, or when no method has anything to draw.
    """
    if against not in AGAINST:
        raise InvalidProblem(f"against={against!r} is unknown. Use one of {', '.join(map(repr, AGAINST))}.")
    check_format(path)
    every = {name: quantiles(comparison, name, against) for name in dict.fromkeys(row.name for row in comparison)}
    curves = {name: found for name, found in every.items() if found is not None}
    if not curves:
        raise InvalidProblem(f"no method of this comparison has a history of {against}, so there is nothing to draw.")
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.subplots()
    style(axes, "iterations" if against == "iteration" else against)
    floor = LEAST * max(float(bands.max()) for _, bands in curves.values())
    for k, (x, bands) in enumerate(curves.values()):
        low, middle, high = np.maximum(bands, floor)
        colour = COLOURS[k % len(COLOURS)]
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0, step="post")
        axes.step(x, middle, where="post", color=colour, linestyle=DASHES[k % len(DASHES)], linewidth=1.8, label=f"{k}")
    axes.set_xscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        _number(axis)
    axes.set_ylabel("best certified gap so far", color=INK)
    write_names(axes.legend(fontsize=8, frameon=False), [drawable(display(name), 44) for name in curves])
    return saved(figure, path)


def _number(axis: Axis) -> None:
    """Plain numbers along a logarithmic axis; where it spans few decades at 2 and 5 times a power of ten as well."""
    low, high = np.log10(axis.get_view_interval())
    plain = FuncFormatter(lambda value, _: f"{value:g}".replace("e+0", "e").replace("e-0", "e-"))
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(plain if high - low < FEW_DECADES else NullFormatter())
    if high - low < FEW_DECADES:
        axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))


def quantiles(comparison: Comparison, name: str, against: str) -> tuple[FloatArray, FloatArray] | None:
    """Points where the seeds of a method are compared, [n], and quantiles of their gaps, [3, n]; None for nothing.

    A run that has ended keeps what it found.
    """
    runs = []
    for row in comparison:
        result = answer(row)
        if row.name != name or result is None or result.history.n_rows == 0:
            continue
        x, gap = result.history[against], np.minimum.accumulate(result.history["gap"])
        kept = (x > 0) & np.isfinite(gap)
        if kept.any():
            runs.append((x[kept], gap[kept]))
    if not runs:
        return None
    x = np.unique(np.concatenate([x for x, _ in runs]))
    x = x[x >= max(xs[0] for xs, _ in runs)]  # where every seed has something to say
    table = np.stack([gaps[np.searchsorted(xs, x, side="right") - 1] for xs, gaps in runs])
    return x, np.quantile(table, (BAND[0], 0.5, BAND[1]), axis=0)

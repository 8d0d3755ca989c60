"""Occupancies of a run on the cells of a grid, one picture a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from occlp.errors import InvalidProblem
from occlp.model import Pairs
from occlp.report.content import display, drawable_results, size
from occlp.report.figures import INK, MASS_MAP, MUTED, check_format, drawable, mass_ticks, saved
from occlp.result import Result

if TYPE_CHECKING:
    from occlp._typing import AnyArray, FloatArray
    from occlp.comparison import Comparison

#: From the label of a state to its (row, column), or to None where it is not drawn.
Cells: TypeAlias = Callable[[Any], tuple[int, int] | None] | Mapping[Any, tuple[int, int]] | None
#: Pictures of one run, at most.
MOST_COLUMNS = 7
#: Size of the smallest cell, and of the longer side of the smallest picture, in inches.
CELL, LEAST = 0.08, 1.35


def plot_over_time(
    results: Result | Mapping[str, Result] | Comparison, path: str | Path | None = None, *, cells: Cells = None
) -> Figure:
    """Draw how occupancies move over a grid: a row for each method, a picture for each snapshot of its run.

    Darker cells are visited more; the scale is the same for all pictures (cube root, so that little mass shows).

    Parameters
    ----------
    results : Result, mapping of name to Result, or Comparison
        Made with ``snapshots=``. Of a comparison the first run of each method.
    path : path, optional
        Where to save the figure; the suffix chooses the format (.png, .svg, .pdf).
    cells : callable or mapping, optional
        From the label of a state to its (row, column); states that it maps to None, or leaves out, are not drawn.
        Default: labels that are two integers already, others are left out.

    Returns
    -------
    Figure

    Raises
    ------
    InvalidProblem
        Where no run has snapshots, where no state has a cell or two states have the same, and for an unknown suffix.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("hazard-gridworld")
    >>> result = oc.solve(mdp, oc.NaturalPolicyGradient(0.05, steps=20), snapshots=4)
    >>> figure = oc.plot_over_time(result)
    >>> [snapshot.iteration for snapshot in result.history.snapshots]
    [1, 7, 14, 21]
    """
    check_format(path)
    runs = {name: result for name, result in _named(results).items() if result.history.snapshots}
    if not runs:
        raise InvalidProblem("no run has kept occupancies: solve or compare with snapshots=6, say.")
    places = {name: locate(result.pairs, cells) for name, result in runs.items()}
    masses = {name: _masses(result) for name, result in runs.items()}
    shape = next(iter(places.values())).max(axis=0) + 1
    columns = max(len(found) for found in masses.values())
    cell = max(CELL, LEAST / max(shape))
    high, wide = (cell * int(count) for count in shape)
    figure = Figure(figsize=(columns * (wide + 0.12) + 1.0, len(runs) * (high + 0.5) + 0.6), layout="constrained")
    grid = figure.subplots(len(runs), columns, squeeze=False)
    drawn = {name: places[name][:, 0] >= 0 for name in runs}
    highest = max(float(masses[name][:, drawn[name]].max()) for name in runs)
    norm = PowerNorm(1 / 3, vmin=0.0, vmax=highest or 1.0)
    image: Any = None
    for row, (name, result) in zip(grid, runs.items(), strict=True):
        for axes in row:
            axes.set_axis_off()
        image = _draw_row(row, result, masses[name], places[name], norm)
        words = drawable(display(name), 60)
        above = row[0].annotate(words, (0.0, 1.0), xycoords="axes fraction", xytext=(0, 16), fontsize=9.5,
                                textcoords="offset points", color=INK, parse_math=False)  # fmt: skip
        above.set_in_layout(False)  # may reach over the neighbours; an empty line in the titles makes room
    bar = figure.colorbar(image, ax=grid, shrink=0.8, aspect=18, pad=0.015)
    bar.set_label("occupancy, cube-root scale", color=MUTED, fontsize=8.5)
    bar.set_ticks(mass_ticks(norm, float(norm.vmax or 1.0)))
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=2)
    figure.supxlabel("above each picture: the iteration and its certified gap", fontsize=8.5, color=MUTED)
    return saved(figure, path)


def has_cells(results: Comparison) -> bool:
    """Whether there is something to draw without being told where."""
    runs = [result for _, result in drawable_results(results) if result.history.snapshots]
    return bool(runs) and any(_cell_of(label, None) is not None for label in _labels(runs[0].pairs))


def locate(pairs: Pairs, cells: Cells) -> AnyArray:
    """Row and column of each state, [S, 2], counted from zero; −1 where it has none."""
    found = [_cell_of(label, cells) for label in _labels(pairs)]
    places = np.array([(-1, -1) if cell is None else cell for cell in found], dtype=np.int64)
    drawn = places[[cell is not None for cell in found]]
    if not len(drawn):
        raise InvalidProblem(
            "no state has a cell: the labels are not pairs of integers. Give cells=, for instance "
            "cells=lambda state: divmod(state, 4)."
        )
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    if counts.max() > 1:
        raise InvalidProblem("two states have one cell. Give cells= that tells them apart, or None for one of them.")
    places[[cell is not None for cell in found]] -= drawn.min(axis=0)
    return places


def _labels(pairs: Pairs) -> Sequence[Hashable]:
    return [pairs.state_name(state) for state in range(pairs.n_states)]


def _cell_of(label: Any, cells: Cells) -> tuple[int, int] | None:
    if cells is None:
        whole = isinstance(label, tuple) and len(label) == 2
        whole = whole and all(isinstance(part, int | np.integer) and not isinstance(part, bool) for part in label)
        return label if whole else None
    cell = cells(label) if callable(cells) else cells.get(label)
    return None if cell is None else (int(cell[0]), int(cell[1]))


def _named(results: Result | Mapping[str, Result] | Comparison) -> dict[str, Result]:
    if isinstance(results, Result):
        return {results.solver: results}
    return dict(results) if isinstance(results, Mapping) else dict(drawable_results(results))


def _masses(result: Result) -> FloatArray:
    """Occupancies of the states in the snapshots that are drawn, [n, S]; of totals the visits that end."""
    tables = np.stack([snapshot.pair_occupancy for snapshot in _shown(result)])
    return np.add.reduceat(np.where(np.isfinite(tables), tables, 0.0), result.pairs.start[:-1], axis=1)


def _shown(result: Result) -> list[Any]:
    snapshots = result.history.snapshots
    kept = np.unique(np.linspace(0, len(snapshots) - 1, MOST_COLUMNS).astype(int))
    return [snapshots[i] for i in kept]


def _draw_row(row: Any, result: Result, masses: FloatArray, places: AnyArray, norm: PowerNorm) -> Any:
    drawn = places[:, 0] >= 0
    image: Any = None
    for axes, snapshot, mass in zip(row, _shown(result), masses, strict=False):
        table = np.full(places.max(axis=0) + 1, np.nan)
        table[tuple(places[drawn].T)] = mass[drawn]
        axes.set_axis_on()
        axes.set_facecolor("#eceff2")  # shows through where there is no state
        image = axes.imshow(table, cmap=MASS_MAP, norm=norm, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color("#b8c2cc")
        axes.set_title(f"\n{snapshot.iteration}: gap {size(snapshot.gap)}", fontsize=8, color=MUTED, pad=3)
    return image

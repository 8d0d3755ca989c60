"""Occupancies along a run: which are kept, and how they are drawn on the cells of a grid."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import occlp as oc
from occlp.errors import InvalidProblem
from occlp.report.grids import locate
from occlp.tracking import Rows

GRID = oc.instances.get("hazard-gridworld", layout=("S.G", ".H."))


@pytest.fixture(scope="module")
def table():
    methods = {"natural": oc.NaturalPolicyGradient(0.01, steps=40), "saddle point": oc.SaddlePoint(steps=30)}
    return oc.compare(GRID, methods, snapshots=4, tol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 5, 9, 10, 11, 40, 333])
def test_snapshots_are_the_first_the_last_and_evenly_between(count):
    rows = Rows(5)
    for n in range(1, count + 1):
        rows.add_row((n, *[0.0] * 8), {}, lambda n=n: np.array([float(n)]))
    kept = [snapshot.iteration for snapshot in rows.history().snapshots]
    assert kept[0] == 1
    assert kept[-1] == count
    assert len(kept) == min(count, 5)
    assert [snapshot.pair_occupancy[0] for snapshot in rows.history().snapshots] == kept
    if count > 5:
        assert max(np.diff(kept)) <= 3 * min(np.diff(kept)[:-1])
    assert Rows().history().snapshots == ()


def test_snapshots_are_the_occupancies_of_the_iterates():
    """Each is the exact occupancy of the policy that the method showed then, with its own gap."""
    solver = oc.NaturalPolicyGradient(0.01, steps=12)
    result = pickle.loads(pickle.dumps(oc.solve(GRID, solver, snapshots=3, tol=1e-12)))
    shown = list(solver.iterate(oc.Problem(GRID), tol=0, rng=None))
    assert [snapshot.iteration for snapshot in result.history.snapshots] == [1, 7, 13]
    for snapshot in result.history.snapshots:
        exact = oc.evaluate(GRID, shown[snapshot.iteration - 1].policy)
        np.testing.assert_allclose(snapshot.pair_occupancy, exact.pair_occupancy, atol=1e-14)
        assert snapshot.gap == result.history["gap"][snapshot.iteration - 1]
    assert oc.solve(GRID, solver).history.snapshots == ()


def test_snapshots_of_totals_are_visits():
    total = oc.Problem(GRID.unrolled(4), criterion="total")
    (last,) = oc.solve(total, snapshots=1).history.snapshots
    np.testing.assert_allclose(last.pair_occupancy, oc.solve(total).pair_occupancy)


def test_panels_show_states_where_their_cells_are(table):
    """Each number of each image is the occupancy of the state in that cell, on one scale for all."""
    figure = oc.plot_over_time(table)
    panels = [axes for axes in figure.axes if axes.images]
    runs = [row.result for row in table]
    snapshots = [(run, snapshot) for run in runs for snapshot in run.history.snapshots]
    assert len(panels) == len(snapshots) == 8
    places = locate(GRID.pairs, None)
    for axes, (run, snapshot) in zip(panels, snapshots, strict=True):
        image = axes.images[0].get_array()
        mass = np.add.reduceat(snapshot.pair_occupancy, run.pairs.start[:-1])
        np.testing.assert_allclose(image[tuple(places.T)], mass)
        assert axes.images[0].norm is panels[0].images[0].norm
        assert axes.get_title().strip().startswith(f"{snapshot.iteration}: gap ")


def test_cells_of_ones_own(table, tmp_path):
    mirrored = {label: (row, -column) for label in GRID.states for row, column in [label]}
    turned = oc.plot_over_time(table["natural"], cells=lambda label: (label[1], label[0]))
    flipped = oc.plot_over_time({"one": table["natural"]}, tmp_path / "film.png", cells=mirrored)
    plain = oc.plot_over_time(table["natural"]).axes[0].images[0].get_array()
    np.testing.assert_array_equal(turned.axes[0].images[0].get_array(), plain.T)
    np.testing.assert_array_equal(flipped.axes[0].images[0].get_array(), plain[:, ::-1])
    assert (tmp_path / "film.png").stat().st_size > 5000
    part = oc.plot_over_time(table["natural"], cells=lambda label: label if label[0] == 0 else None)
    assert part.axes[0].images[0].get_array().shape == (1, 3)


def test_the_report_shows_them_where_labels_are_cells(table, tmp_path):
    machine = oc.compare(oc.instances.get("machine-repair"), [oc.PolicyIteration()], snapshots=3)
    for comparison, shown in ((table, True), (machine, False)):
        text = comparison.report(tmp_path / "page.html").read_text(encoding="utf-8")
        assert ("Occupancy of each cell along the runs" in text) is shown


def test_what_cannot_be_drawn(table, tmp_path):
    machine = oc.solve(oc.instances.get("machine-repair"), snapshots=2)
    for build, words in (
        (lambda: oc.plot_over_time(oc.solve(GRID)), "snapshots="),
        (lambda: oc.plot_over_time(machine), "give cells="),
        (lambda: oc.plot_over_time(table, cells=lambda label: (0, 0)), "one cell"),
        (lambda: table.plot_over_time(tmp_path / "film.doc"), "no picture ends in"),
        (lambda: oc.solve(GRID, snapshots=-1), "snapshots=-1"),
        (lambda: oc.compare(GRID, [oc.PolicyIteration()], snapshots=0.5), "snapshots=0.5"),
    ):
        with pytest.raises(InvalidProblem, match=f"(?i){words}"):
            build()

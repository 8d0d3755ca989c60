"""Pictures of several seeds: medians and quantiles of the best gaps so far, computed again by hand."""

from __future__ import annotations

import numpy as np
import pytest

import occlp as oc
from occlp.errors import InvalidProblem
from occlp.report.seeds import plot_seeds, quantiles

MDP = oc.instances.get("machine-repair")


@pytest.fixture(scope="module")
def table():
    methods = {"pi": oc.PolicyIteration(), "ppo": oc.PPO(steps=12), "trpo": oc.TRPO(steps=8)}
    return oc.compare(MDP, methods, seeds=5)


def test_quantiles_are_those_of_the_seeds(table):
    x, bands = quantiles(table, "ppo", "samples")
    runs = [row.result.history for row in table if row.name == "ppo"]
    assert len(runs) == 5
    for point, (low, middle, high) in zip(x, bands.T, strict=True):
        best = [history["gap"][history["samples"] <= point].min() for history in runs]
        np.testing.assert_allclose([low, middle, high], np.quantile(best, [0.1, 0.5, 0.9]), rtol=1e-12)
    assert (np.diff(bands, axis=1) <= 0).all()


@pytest.mark.parametrize(("against", "methods"), [("samples", 2), ("iteration", 3), ("seconds", 3)])
def test_each_method_has_a_line_and_a_band(table, against, methods, tmp_path):
    figure = table.plot_seeds(tmp_path / "seeds.png", against=against)
    (axes,) = figure.axes
    assert len(axes.lines) == len(axes.collections) == methods
    assert (tmp_path / "seeds.png").stat().st_size > 5_000
    for line in axes.lines:
        assert (line.get_ydata() > 0).all()


def test_what_cannot_be_drawn(table, tmp_path):
    with pytest.raises(InvalidProblem, match="against='steps'"):
        plot_seeds(table, against="steps")
    with pytest.raises(InvalidProblem, match="no picture ends in"):
        plot_seeds(table, tmp_path / "a.xyz")
    with pytest.raises(InvalidProblem, match="nothing to draw"):
        plot_seeds(oc.compare(MDP, [oc.PolicyIteration()]))

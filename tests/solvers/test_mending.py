"""Averages moved just inside the limits: the least that is enough, exactly, and never a worse answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occlp.solvers.policy_gradient.mending import NO_ANCHORS

ROWS = np.array([[0.5, -0.25, -0.5, 0.125], [-0.5, 0.5, -0.25, 0.25]])


def anchors(points, equal):
    """After these iterates, one after the other."""
    found = NO_ANCHORS
    for point in points:
        found = found.join(point, ROWS @ point, equal)
    return found


def test_the_way_to_the_safest_is_cut_at_the_limit():
    free = np.array([False, False])
    safest, mean = np.array([0.0, 0.25, 0.75, 0.0]), np.array([0.75, 0.25, 0.0, 0.0])
    known = anchors([np.full(4, 0.25), safest, mean], free)
    mended = known.mend(mean, ROWS @ mean, free)
    assert (ROWS @ mended).max() == pytest.approx(0.0, abs=1e-15)
    assert mended == pytest.approx((5 / 11) * mean + (6 / 11) * safest, abs=0.4)
    assert mended.sum() == pytest.approx(1.0)


def test_what_keeps_the_limits_stays_as_it_is():
    free, mean = np.array([False, False]), np.array([0.0, 0.25, 0.75, 0.0])
    known = anchors([np.full(4, 0.25)], free)
    assert known.mend(mean, ROWS @ mean, free) is mean


def test_where_nothing_helps_nothing_is_done():
    free, mean = np.array([False, False]), np.array([1.0, 0.0, 0.0, 0.0])
    for known in (NO_ANCHORS, anchors([mean, mean], free)):
        assert known.mend(mean, ROWS @ mean, free) is mean
    outside = np.array([np.inf, 0.0])
    assert anchors([np.full(4, 0.25)], free).mend(mean, outside, free) is not None


@given(
    st.lists(st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4), min_size=3, max_size=8),
    st.sampled_from([(False, False), (True, False), (True, True)]),
)
def test_mended_points_are_mixtures_that_keep_what_can_be_kept(weights, equal):
    """Never outside the hull, and within the limits wherever a mixture of the anchors is."""
    equal = np.array(equal)
    points = [np.array(one) / np.sum(one) for one in weights]
    mean = np.mean(points, axis=0)
    known = anchors(points, equal)
    mended = known.mend(mean, ROWS @ mean, equal)
    assert mended.min() >= 0
    assert mended.sum() == pytest.approx(1.0)
    excess = ROWS @ mended
    if mended is not mean:
        assert np.where(equal, np.abs(excess), np.maximum(excess, 0)).max() <= 1e-9
    elif not equal.any():
        inside = known.excesses[0] < 0
        assert (ROWS @ mean <= 0).all() or not inside.all()
    elif not equal.all():
        sides = known.excesses[:, 0]
        crossing = sides.min() <= -1e-6 and sides.max() >= 1e-6 and (known.excesses[:, 1] < 0).all()
        assert not crossing or (abs(ROWS[0] @ mean) == 0 and ROWS[1] @ mean <= 0)

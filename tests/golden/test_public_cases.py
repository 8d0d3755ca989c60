"""Larger public models with exact answers, where the folder that holds them is present; see docs/coverage.md."""

from __future__ import annotations

import cases
import pytest
from tables import check

#: Rows above which a model counts as slow.
LARGE = 1_500


def parameters(found):
    """One parameter a case, the large ones marked."""
    return [pytest.param(case, id=str(case), marks=[pytest.mark.slow] if case.n_rows > LARGE else []) for case in found]


@pytest.mark.parametrize("case", parameters(cases.qcomp()))
def test_qcomp(case):
    check(case)


@pytest.mark.parametrize("case", parameters(cases.storm()))
def test_storm(case):
    check(case)

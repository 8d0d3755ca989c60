"""The questions of the table in docs/trust.md: their truths are what fractions say, and ours enclose them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from helpers import encloses

import occlp as oc
from benchmarks import trust

pytest.importorskip("flint")

CASES = {case.name: case for case in trust.cases()}


@pytest.mark.parametrize("name", CASES)
def test_the_truth_is_the_exact_optimum(name):
    case = CASES[name]
    for level in ("float", "interval", "exact"):
        assert encloses(oc.solve(case.problem, certify=level, tol=1e-7).certificate, case.truth)
    assert oc.solve(case.problem, certify="exact").certificate.optimum == case.truth


def test_the_escape_by_hand():
    """V(0) = γp V(1) / (1 − γ + γp), V(1) = 1 / (1 − γ); times 1 − γ."""
    gamma, p = Fraction(99999999, 10**8), Fraction(1, 10**10)
    assert CASES["escape by 1e-10, 1 − γ = 1e-8"].truth == gamma * p / (1 - gamma + gamma * p)


def test_the_page_has_the_table():
    page = (Path(trust.__file__).parents[1] / "docs" / "trust.md").read_text(encoding="utf-8")
    table = page.split(trust.START)[1].split(trust.END)[0]
    assert all(f"| {name} | {peer} |" in table for name in CASES for peer in trust.PEERS)

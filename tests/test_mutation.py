"""Mutants are made as they say, and those listed as changing nothing exist."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.mutants import mutants
from benchmarks.mutation import EQUIVALENT, equivalent, known
from occlp.verify import gain


@pytest.fixture(scope="module")
def made():
    return {str(mutant): mutant for name in ("gain", "audit", "total") for mutant in mutants(f"occlp/verify/{name}.py")}


def test_operators_conditions_constants_and_calls_are_changed(made):
    words = [name.partition(": ")[2] for name in made if "gain.py mean_gain" in name]
    assert "initial @ (gain - gain[0]) / initial.sum() -> initial @ (gain - gain[0]) * initial.sum()" in words
    assert "occlp/verify/audit.py LARGE_VALUES: 10000.0 -> 10001.0" in made
    assert "occlp/verify/gain.py long_run: off.setdiag(0.0) left out" in made
    assert not any("AuditFailed" in words for words in made)


def test_mutants_of_one_module_differ(made):
    assert len({mutant.key for mutant in made.values()}) == len(made)


def test_a_mutant_is_put_in_place(made):
    chain, code = np.array([[0.5, 0.5], [0.0, 1.0]]), gain.closed_classes.__code__
    assert gain.closed_classes(chain).tolist() == [-1, 0]
    try:
        made["occlp/verify/gain.py closed_classes: entries.data > 0 -> entries.data < 0"].put_in_place()
        assert (gain.closed_classes(chain) >= 0).all()  # each state a class that is never left
    finally:
        gain.closed_classes.__code__ = code
    assert gain.closed_classes(chain).tolist() == [-1, 0]


def test_what_is_said_to_change_nothing_exists_and_has_a_reason(made):
    listed = equivalent(EQUIVALENT)
    assert set(listed) <= set(made)
    assert all(listed.values())


def test_records_are_read_by_their_last_verdict(tmp_path):
    file = tmp_path / "record.jsonl"
    file.write_text('{"mutant": "a", "verdict": "survived"}\n{"mutant": "a", "verdict": "killed"}\n', encoding="utf-8")
    assert known(file) == {"a": "killed"}
    assert known(tmp_path / "none.jsonl") == known(None) == {}

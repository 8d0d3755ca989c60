"""Every entry of docs/bad-input.md has its test: by number in the test's name (test_bad_*.py), or marked elsewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "bad-input.md"


def numbers_of(test: ast.FunctionDef, *, named: bool) -> set[int]:
    """Numbers in the name of a test, as in test_31_32_words, and in its marks ``bad_input(31, 32)``."""
    found = re.match(r"test((?:_\d+)+)_", test.name) if named else None
    numbers = {int(n) for n in found[1].split("_")[1:]} if found else set()
    for mark in test.decorator_list:
        if isinstance(mark, ast.Call) and getattr(mark.func, "attr", "") == "bad_input":
            numbers |= {int(ast.literal_eval(argument)) for argument in mark.args}
    return numbers


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    """Entries and the names of their tests in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            for number in numbers_of(node, named=path.name.startswith("test_bad_")):
                yield number, f"{path.relative_to(HERE)}::{node.name}"


def catalogue() -> dict[int, list[str]]:
    """The tests of each entry."""
    found: dict[int, list[str]] = {}
    for path in sorted(HERE.rglob("test_*.py")):
        for number, test in numbered(path):
            found.setdefault(number, []).append(test)
    return found


def test_the_page_has_the_eighty_entries_in_order():
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| [^|]+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(number) for number in rows] == list(range(1, 81))


def test_every_entry_has_a_test():
    found = catalogue()
    assert sorted(found) == list(range(1, 81)), {n: found.get(n, []) for n in range(1, 81) if not found.get(n)}


def test_the_reader_of_numbers_sees_them():
    module = ast.parse("@pytest.mark.bad_input(5, 6)\ndef test_31_32_words(): ...\ndef test_b4(): ...")
    first, second = (node for node in module.body if isinstance(node, ast.FunctionDef))
    assert numbers_of(first, named=True) == {5, 6, 31, 32}
    assert numbers_of(first, named=False) == {5, 6}
    assert numbers_of(second, named=True) == set()

"""README and docs: every python block runs, what it prints is what the page says, and every link leads somewhere.

The blocks of a page run in order in one namespace, in an empty folder. A ``text`` block right after a ``python``
block is its output. Two kinds of number may differ from one machine to the next, and are not compared: wall-clock
seconds (``0.12 s``, and the last column of a comparison) and rounding errors (below 1e-9 in size).
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
import types
from itertools import pairwise
from pathlib import Path

import pytest
from test_architecture import house, layer_of

import occlp

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SECONDS = re.compile(r"\b\d[\d.e+-]* (?:s|backups)\b|(?<= )\d+\.\d{4}$")
TINY = re.compile(r"(?<![\w.])-?\d(?:\.\d+)?e-(?:09|[1-9]\d)\b")


def blocks(text):
    """Yield (line number, code, expected output or None) for each python block of a page."""
    fences = list(FENCE.finditer(text))
    for fence, after in pairwise([*fences, None]):
        if fence[1] == "python":
            adjoins = after is not None and after[1] == "text" and not text[fence.end() : after.start()].strip()
            yield text[: fence.start(2)].count("\n"), fence[2], after[2] if adjoins else None


def comparable(text):
    """Lines without the numbers that machines may disagree on."""
    lines = []
    for line in text.rstrip().splitlines():
        masked = TINY.sub("<rounding>", SECONDS.sub("<seconds>", line.rstrip()))
        lines.append(masked if masked == line.rstrip() else re.sub(" +", " ", masked))
    return "\n".join(lines)


def run_page(path, name):
    """Run the blocks of a page in a module of their own; return [(line, expected, printed)]."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    found = []
    try:
        for line, code, expected in blocks(path.read_text(encoding="utf-8")):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * line + code, str(path), "exec"), module.__dict__)
            found.append((line, expected, printed.getvalue()))
    finally:
        del sys.modules[name]
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_blocks_of_a_page_print_what_it_says(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line, expected, printed in run_page(path, f"page_{path.stem.replace('-', '_')}"):
        if expected is not None:
            assert comparable(printed) == comparable(expected), f"{path.name}, the block at line {line + 1}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_text_blocks_follow_a_python_block_or_a_command(path):
    text = path.read_text(encoding="utf-8")
    fences = list(FENCE.finditer(text))
    lonely = [
        fence[2].splitlines()[0]
        for before, fence in pairwise([None, *fences])
        if fence[1] == "text" and (before is None or before[1] not in ("python", "console"))
    ]
    assert lonely == []


def commands():
    """Every `occlp` command that a page shows."""
    shown = (
        fence[2]
        for path in PAGES
        for fence in FENCE.finditer(path.read_text(encoding="utf-8"))
        if fence[1] == "console"
    )
    return sorted({line for block in shown for line in block.splitlines() if line.startswith("occlp ")})


@pytest.mark.parametrize("command", commands())
def test_commands_run(command, tmp_path):
    words = [sys.executable, "-m", "occlp", *shlex.split(command)[1:]]
    streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "encoding": "utf-8"}
    done = subprocess.run(words, cwd=tmp_path, timeout=300, check=False, **streams)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def anchors(path):
    """Anchors of the headings of a page, as they are made from their words."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file) if file else path
        assert page.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in anchors(page), f"{path.name} links to {target}"


def test_the_sections_that_the_code_cites_exist():
    conventions = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    numbers = set(re.findall(r"^## (\d+)\. ", conventions, re.MULTILINE))
    cited = set()
    for source in (ROOT / "occlp").rglob("*.py"):
        cited |= set(re.findall(r"conventions\.md,\s+section (\d+)", source.read_text(encoding="utf-8")))
    assert cited
    assert cited <= numbers


def test_the_pages_that_the_code_names_exist():
    named = set()
    for source in (ROOT / "occlp").rglob("*.py"):
        named |= set(re.findall(r"docs/[\w-]+\.md", source.read_text(encoding="utf-8")))
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []


def test_the_reference_names_everything_that_is_offered():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in occlp.__all__ if not re.search(rf"\boc\.{name}\b", text)] == []
    named = re.findall(r"\boc\.(\w+)", text)
    assert [name for name in named if not hasattr(occlp, name)] == []


def test_the_house_is_drawn_as_it_stands():
    """Every part of the package is in the table, below all that it imports."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    sources = [source for source in house() if source.layer not in ("", "__main__")]
    assert sorted(drawn) == sorted({source.layer for source in sources})
    upwards = [
        f"{source.layer} is drawn above {layer_of(imported.name)}, which it imports"
        for source in sources
        for imported in source.imports()
        if layer_of(imported.name) in drawn and drawn.index(layer_of(imported.name)) > drawn.index(source.layer)
    ]
    assert upwards == []


def test_the_solver_on_its_page_is_the_example():
    page = (ROOT / "docs" / "writing-a-solver.md").read_text(encoding="utf-8")
    example = (ROOT / "examples" / "third_party_solver.py").read_text(encoding="utf-8")
    first = next(blocks(page))[1].strip()
    assert "def iterate" in first
    assert first in example


class TestTheMechanism:
    def test_numbers_of_the_machine_are_not_compared(self):
        one, other = "run  3 iterations, 9.5 backups, 0.12 s", "run 3 iterations, 10 backups, 1.4e-05 s"
        assert comparable(one) == comparable(other)
        assert comparable("within 1.1e-13") == comparable("within  9e-12")

    def test_other_numbers_are(self):
        assert comparable("objective 7.47") != comparable("objective 7.48")
        assert comparable("gap 1.1e-05") != comparable("gap 1.2e-05")
        assert comparable("a  b") != comparable("a b")

    def test_a_wrong_output_is_found(self, tmp_path):
        page = tmp_path / "page.md"
        page.write_text("# A page\n\n```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n", encoding="utf-8")
        [(line, expected, printed)] = run_page(page, "page_of_a_test")
        assert (line, expected, printed) == (3, "3\n", "2\n")

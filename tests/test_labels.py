"""Names that mean something to what shows them: HTML, terminals, mathematical type, markup. All of it is text."""

from __future__ import annotations

import io
import sys
import xml.etree.ElementTree as tree

import numpy as np
import pytest
from rich.console import Console
from test_report import outline
from typer.testing import CliRunner

import occlp as oc
from occlp.cli import app
from occlp.cli.output import solve_progress
from occlp.plain import visible
from occlp.report import content, tables
from occlp.report.figures import plot_convergence, plot_occupancies
from occlp.report.fronts import plot_curve, plot_front
from occlp.report.seeds import plot_seeds

CLEAR, BELL, REVERSED, HALF, NUL = "\x1b[2J\x1b]0;owned\x07", "\x07\x9b31m", "\u202etxt.exe", "\ud800", "\x00"
SCRIPT, FORMULA = "<script>alert(1)</script>", "$\\frac{1$"
NAMES = [SCRIPT, CLEAR, FORMULA, "[red]hot[/red]", "[/]", REVERSED, HALF, NUL, "_hidden", BELL]
#: What no terminal may get to see.
OBEYED = {"\x1b", "\x07", "\x9b", "\u202e", "\ud800", "\x00"}


def ring():
    """One state a name, visited in turn; actions, costs and limits have such names too."""
    n = len(NAMES)
    rows = np.stack([np.roll(np.eye(n), 1, axis=1)] * 2, axis=1)
    rewards = np.arange(2.0 * n).reshape(n, 2)
    costs = {name: np.roll(rewards, k) for k, name in enumerate(NAMES)}
    return oc.MDP.from_arrays(
        rows, rewards, discount=0.9, costs=costs, states=NAMES, actions=["<b>" + CLEAR, "$x" + HALF]
    )


@pytest.fixture(scope="module")
def problem():
    return oc.Problem(ring(), constraints={name: oc.expected(name) <= 100 for name in NAMES})


@pytest.fixture(scope="module")
def comparison(problem):
    names = iter(NAMES)
    solvers = {next(names): oc.Decomposition(), next(names): oc.KLDual(), next(names): oc.OccupancyProgram()}
    return oc.compare(problem, solvers)


def assert_tame(text):
    assert not OBEYED & set(text)
    text.encode()  # no half of a pair is left


def test_visible_keeps_what_is_read_and_shows_what_is_obeyed():
    assert visible("a b\n\tç 状態 😀") == "a b\n\tç 状態 😀"
    assert visible("می\u200cخواهم\xa0!") == "می\u200cخواهم\xa0!"  # joiners and blanks belong to writing
    assert visible(CLEAR + REVERSED + HALF) == r"\x1b[2J\x1b]0;owned\x07\u202etxt.exe\ud800"
    assert content.label("a\x1b[31m\nb") == r"a\x1b[31m b"


def test_what_is_printed(problem, comparison):
    result = comparison[SCRIPT]
    for text in (str(comparison), tables.result_text(result), str(result)):
        assert_tame(text)
    text = tables.result_text(result)
    for name in (SCRIPT, FORMULA, "[red]hot[/red]", "[/]"):
        assert name in text
    facts = content.model_facts(problem.mdp, CLEAR + "[/]") | content.structure_facts(problem.mdp)
    text = tables.render(tables.model_table(problem.mdp, facts))
    assert_tame(text)
    assert "[red]hot[/red]" in text
    terminal = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=100)
    for table in (tables.comparison_table(comparison), tables.result_table(result)):
        terminal.print(table)
    shown = terminal.file.getvalue()
    assert "\x1b[2J" not in shown
    assert "\x1b]" not in shown
    assert not (OBEYED - {"\x1b"}) & set(shown)


def test_what_is_written(comparison, tmp_path):
    page = comparison.report(tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    assert_tame(text)
    assert "script" not in outline(page).tags
    assert SCRIPT in outline(page).text
    for draw in (plot_occupancies, plot_convergence):
        draw(comparison, tmp_path / "picture.svg")
        tree.parse(tmp_path / "picture.svg")  # well-formed, so nothing in it was a tag
        assert_tame((tmp_path / "picture.svg").read_text(encoding="utf-8"))


def test_pictures_of_fronts_seeds_and_runs(tmp_path):
    mdp = ring()
    front = oc.pareto(mdp, maximize=["reward"], minimize=[FORMULA])
    figure = plot_front(front, tmp_path / "a.svg")
    assert figure.axes[0].get_xlabel() == f"{FORMULA} (less is better)"
    curve = oc.limit_curve(oc.Problem(mdp, constraints={CLEAR: oc.expected(FORMULA) <= 5}), CLEAR)
    plot_curve(curve, tmp_path / "b.svg")
    gradients = {name: oc.Reinforce(steps=2) for name in (FORMULA, "_状態", CLEAR)}
    seeds = oc.compare(mdp, gradients, seeds=2, rng=0)
    legend = plot_seeds(seeds, tmp_path / "c.svg").axes[0].get_legend()
    words = [text.get_text() for text in legend.get_texts()]
    assert words[0] == FORMULA
    assert words[1].startswith("_")  # an underscore in front does not hide a method
    result = oc.solve(oc.instances.get("hazard-gridworld"), oc.NaturalPolicyGradient(steps=2), check=False, snapshots=2)
    oc.plot_over_time(dict.fromkeys(NAMES, result), tmp_path / "d.svg")
    for name in "abcd":
        tree.parse(tmp_path / f"{name}.svg")
        assert_tame((tmp_path / f"{name}.svg").read_text(encoding="utf-8"))


def test_commands(tmp_path):
    path = tmp_path / "[red]model[b].npz"
    plain = [name.replace(HALF, "").replace(NUL, "") for name in NAMES]
    oc.interop.save(oc.MDP.from_arrays(np.eye(2)[:, None], [[1], [0]], discount=0.9, states=plain[:2],
                                       costs={plain[1]: [[1], [2]]}), path)  # fmt: skip
    for arguments in (["solve"], ["show"], ["compare", "--methods", "pi,vi"], ["solve", "--json"], ["show", "--json"]):
        done = CliRunner().invoke(app, [*arguments, str(path)])
        assert done.exit_code == 0, done.output
        assert_tame(done.output)
    for model in (CLEAR, "[/]", str(tmp_path / (REVERSED + ".npz"))):
        done = CliRunner().invoke(app, ["show", model])
        assert done.exit_code == 2
        assert_tame(done.output)
        done = CliRunner().invoke(app, ["solve", str(path), "--constraint", f"{model} <= 1"])
        assert done.exit_code in (1, 2)  # the first is a cost, and cannot be kept so low
        assert_tame(done.output)


def test_progress_on_a_terminal_takes_the_name_of_a_model_as_text(monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    with solve_progress("[/]" + CLEAR) as progress:
        progress(1, 0.5)
    assert "\x1b]" not in screen.getvalue()
    assert "\x07" not in screen.getvalue()

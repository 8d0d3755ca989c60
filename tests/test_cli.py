from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import occlp as oc
from occlp.cli import METHODS, app, main

COLUMNS = {"solver", "status", "objective", "expected_return", "gap", "seconds"}


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def strict(text):
    """Read JSON as a strict parser does: no NaN, no Infinity, one object."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def rows(*words):
    done = run(*words, "--json")
    assert done.exit_code == 0, done.stderr
    found = strict(done.stdout)["rows"]
    assert all(set(row) >= COLUMNS for row in found)
    return found


def shell(*words, **environment):
    """Run in a process of its own, with both outputs in pipes."""
    command = [sys.executable, "-m", "occlp", *words]
    environment = {**os.environ, "PYTHONWARNINGS": "error", **environment}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, env=environment)


class TestSolve:
    def test_prints_the_answer(self):
        done = run("solve", "howard-toymaker")
        assert done.exit_code == 0
        assert "CERTIFIED" in done.stdout
        assert "advertising" in done.stdout
        assert done.stderr == ""

    def test_json_holds_the_figures_and_the_policy(self):
        done = run("solve", "howard-toymaker", "--json")
        answer = strict(done.stdout)
        (row,) = answer["rows"]
        result = oc.solve(oc.instances.get("howard-toymaker"))
        assert row["status"] == "CERTIFIED"
        assert row["objective"] == result.objective
        assert row["expected_return"] == result.expected_return
        assert answer["policy"][0] == {
            "state": "successful", "action": "advertising", "probability": 1.0,
            "occupancy": pytest.approx(result.occupancy.max()),
        }  # fmt: skip

    def test_takes_the_sense_of_the_instance(self):
        (cost,) = rows("solve", "hillier-lieberman-machine")
        (most,) = rows("solve", "hillier-lieberman-machine", "--sense", "maximize")
        mdp = oc.instances.get("hillier-lieberman-machine")
        assert cost["objective"] == pytest.approx(oc.solve(oc.Problem(mdp, sense="minimize")).objective)
        assert most["objective"] > cost["objective"]

    def test_takes_discount_and_parameters(self):
        (row,) = rows("solve", "forest", "--discount", "24/25", "--set", "n_states=10", "--set", "p=1/20")
        result = oc.solve(oc.instances.get("forest", n_states=10, p="1/20", discount="24/25"))
        assert row["expected_return"] == pytest.approx(result.expected_return)

    def test_reads_a_file(self, tmp_path):
        oc.interop.save(oc.instances.get("forest"), tmp_path / "forest.npz")
        (row,) = rows("solve", tmp_path / "forest.npz")
        assert row["objective"] == pytest.approx(oc.solve(oc.instances.get("forest")).objective)

    def test_reads_gymnasium(self):
        pytest.importorskip("gymnasium")
        (row,) = rows("solve", "gym:FrozenLake-v1", "--set", "is_slippery=false")
        assert row["expected_return"] == pytest.approx(0.99**5)

    def test_kl(self):
        (row,) = rows("solve", "machine-repair", "--kl", "0.5")
        assert row["solver"].startswith("KLDual")
        assert not row["deterministic"]

    def test_constraint(self):
        (row,) = rows("solve", "machine-repair", "--constraint", "wear <= 0.25")
        assert row["expected"]["wear"] == pytest.approx(0.25)
        assert row["multipliers"]["wear"] > 0

    def test_average_criterion_has_no_return(self):
        (row,) = rows("solve", "howard-taxicab", "--criterion", "average")
        assert row["objective"] == pytest.approx(1588 / 119)
        assert row["expected_return"] is None

    def test_method_backend_and_seed(self):
        (row,) = rows("solve", "forest", "--backend", "clarabel", "--seed", "3")
        assert "clarabel" in row["solver"]
        (row,) = rows("solve", "forest", "--method", "lp-clarabel")
        assert "CLARABEL" in row["solver"]
        (row,) = rows("solve", "forest", "--method", "ValueIteration")
        assert row["solver"].startswith("ValueIteration")

    def test_a_limit_is_an_answer(self):
        (row,) = rows("solve", "hazard-gridworld", "--method", "npg", "--iterations", "2")
        assert row["status"] == "LIMIT"
        assert row["gap"] > 0

    def test_a_broken_promise_is_exit_code_1(self):
        done = run("solve", "forest", "--tol", "0", "--json")
        assert done.exit_code == 1
        assert strict(done.stdout)["rows"][0]["status"] == "BOUNDED"
        assert done.stderr.startswith("error: ")

    def test_infeasible_is_exit_code_1_and_strict_json(self):
        done = run("solve", "machine-repair", "--constraint", "wear <= -1", "--json")
        assert done.exit_code == 1
        (row,) = strict(done.stdout)["rows"]
        assert (row["status"], row["objective"], row["gap"]) == ("INFEASIBLE", None, None)
        plain = run("solve", "machine-repair", "--constraint", "wear <= -1")
        assert plain.stdout == ""
        assert "no policy keeps" in plain.stderr


class TestCompare:
    def test_prints_the_table_and_writes_nothing(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        done = run("compare", "riverswim")
        assert done.exit_code == 0
        for head in ("objective", "expected return", "certified gap", "iterations", "seconds"):
            assert head in done.stdout
        solvers = ["OccupancyProgram", "ValueIteration", "PolicyIteration", "PolicyGradient", "NaturalPolicyGradient"]
        lines = [line.split()[0] for line in done.stdout.splitlines() if "CERTIFIED" in line]
        assert lines == solvers
        assert list(tmp_path.iterdir()) == []
        assert done.stderr == ""

    def test_writes_report_and_picture_and_says_where(self, tmp_path):
        page, picture = tmp_path / "a.html", tmp_path / "a.png"
        done = run("compare", "forest", "--methods", "pi,npg", "--report", page, "--plot", picture)
        assert done.exit_code == 0
        assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert f"report written to {page}" in done.stdout
        assert f"plot written to {picture}" in done.stdout

    def test_json(self, tmp_path):
        page = tmp_path / "a.html"
        done = run("compare", "forest", "--methods", "PI, Kl", "--report", page, "--json")
        answer = strict(done.stdout)
        assert [row["solver"] for row in answer["rows"]] == ["PolicyIteration()", "KLDual()"]
        assert [row["status"] for row in answer["rows"]] == ["CERTIFIED", "FAILED"]
        assert answer["rows"][1]["gap"] is None
        assert "KL term" in answer["rows"][1]["message"]
        assert answer["report"] == str(page)
        assert answer["plot"] is None

    @pytest.mark.parametrize(
        ("options", "solvers"),
        [
            (["--kl", "1"], ["OccupancyProgram", "KLDual"]),
            (["--constraint", "wear<=0.25"], ["OccupancyProgram", "Decomposition"]),
        ],
    )
    def test_default_methods_fit_the_question(self, options, solvers):
        found = rows("compare", "machine-repair", *options)
        assert [row["solver"].partition("(")[0] for row in found] == solvers
        assert {row["status"] for row in found} == {"CERTIFIED"}

    def test_default_methods_of_the_average_criterion(self):
        found = rows("compare", "howard-taxicab", "--criterion", "average")
        assert {row["status"] for row in found} == {"CERTIFIED"}

    @pytest.mark.parametrize("name", METHODS)
    def test_every_method_has_a_name(self, name):
        options = ["--kl", "1"] if name == "kl" else ["--constraint", "reward<=9"] if name == "dec" else []
        (row,) = rows("compare", "forest", "--methods", name.upper(), *options)
        assert row["solver"].startswith(METHODS[name])
        approximate = name in ("reinforce", "ac", "a2c", "trpo", "ppo", "pd", "saddle")
        assert row["status"] in ("CERTIFIED", "BOUNDED" if approximate else "CERTIFIED")

    def test_the_backend_goes_to_lp_alone(self):
        found = rows("compare", "forest", "--methods", "lp,lp-highs,pi", "--backend", "CLARABEL")
        assert [row["solver"] for row in found] == [
            "OccupancyProgram(backend='CLARABEL')", "OccupancyProgram(backend='HIGHS')", "PolicyIteration()",
        ]  # fmt: skip

    def test_no_answer_at_all_is_exit_code_1(self):
        done = run("compare", "forest", "--methods", "kl")
        assert done.exit_code == 1
        assert "FAILED" in done.stdout

    def test_infeasible_is_an_answer_without_a_picture(self, tmp_path):
        picture = tmp_path / "a.png"
        done = run("compare", "machine-repair", "--constraint", "wear<=-1", "--plot", picture)
        assert done.exit_code == 0
        assert "INFEASIBLE" in done.stdout
        assert "no picture is written" in done.stderr
        assert not picture.exists()


class TestModelsAndShow:
    def test_models_lists_every_instance(self):
        done = run("models")
        assert done.exit_code == 0
        assert all(name in done.stdout for name in oc.instances.names())

    def test_models_json(self):
        found = rows("models")
        assert [row["model"] for row in found] == oc.instances.names()
        assert all(row["source"] and row["states"] > 0 for row in found)
        assert all(row["solver"] is None and row["gap"] is None for row in found)

    def test_show(self):
        done = run("show", "inventory")
        assert done.exit_code == 0
        for words in ("Puterman", "0.95", "lost, orders, stock", "exact fractions"):
            assert words in done.stdout

    def test_show_json(self):
        (row,) = rows("show", "hillier-lieberman-machine", "--discount", "0.5")
        mdp = oc.instances.get("hillier-lieberman-machine")
        assert row["sense"] == "minimize"
        assert (row["states"], row["actions"], row["pairs"]) == (mdp.n_states, mdp.n_actions, mdp.n_pairs)
        assert row["transitions"] == mdp.transitions.nnz
        assert row["discount"] == 0.5
        assert row["costs"] == ["cost"]
        assert row["exact"] is True

    def test_show_structure(self):
        words = ("show", "russell-norvig-grid", "--goal", "(4, 3)")
        (row,) = rows(*words)
        assert (row["class"], row["unichain"]) == ("multichain", False)
        assert row["maximal_end_components"] == 2  # the grid without the exits, and the end
        assert (row["absorbing_states"], row["unreachable_states"]) == (1, 0)
        assert (row["goal_states"], row["dead_ends"]) == (1, 2)  # the pit and the end
        assert (row["goal_certain_for_some"], row["goal_certain_for_all"]) == (10, 1)
        done = run(*words)
        for line in ("multichain", "2 maximal end", "dead ends", "from 10 states under some policy, from 1 under"):
            assert line in done.stdout
        assert "dead ends" not in run("show", "forest").stdout
        assert "undecided" in run("show", "garnet").stdout

    def test_show_what_the_program_would_need(self):
        told = oc.OccupancyProgram().forecast(oc.instances.get("machine-repair"))
        (row,) = rows("show", "machine-repair", "--forecast")
        assert row["program"] == vars(told)
        assert f"OccupancyProgram: {told}" in run("show", "machine-repair", "--forecast").stdout
        assert "OccupancyProgram" not in run("show", "machine-repair").stdout

    def test_show_a_file_without_a_discount(self, tmp_path):
        mdp = oc.MDP.from_arrays(np.ones((1, 1, 1)), [[1.0]])
        oc.interop.save(mdp, tmp_path / "m.npz")
        (row,) = rows("show", tmp_path / "m.npz")
        assert row["discount"] is None
        assert "give --discount" in run("show", tmp_path / "m.npz").stdout


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["solve", "forrest"], "Did you mean 'forest'?"),
            (["solve", "forest", "--discount", "1"], "a discount of 1"),
            (["solve", "forest", "--discount", "much"], "not a number"),
            (["solve", "forest", "--tol", "-1"], "tol=-1.0"),
            (["solve", "forest", "--seconds", "-1"], "Limit(seconds=-1.0)"),
            (["solve", "forest", "--kl", "0"], "strength"),
            (["solve", "forest", "--backend", "nobody"], "is not installed"),
            (["solve", "forest", "--method", "kl"], "KLDual cannot answer this"),
            (["solve", "forest", "--set", "n_states"], "NAME=VALUE"),
            (["solve", "forest", "--set", "trees=3"], "no parameter 'trees'"),
            (["solve", "forest", "--constraint", "wear 3"], "COST <= NUMBER"),
            (["solve", "forest", "--constraint", "wear <= 3"], "no cost 'wear'"),
            (["solve", "forest", "--constraint", "wear <= much"], "COST <= NUMBER"),
            (["solve", "forest", "--save", "/nowhere/a.json"], "/nowhere/a.json"),
            (["compare", "forest", "--methods", "pii"], "Did you mean 'pi'?"),
            (["compare", "forest", "--methods", ""], "there is no method ''"),
            (["compare", "forest", "--methods", "vi", "--backend", "SCS"], "--backend SCS is for the method lp"),
            (["compare", "forest", "--report", "/nowhere/a.html"], "--report"),
            (["compare", "forest", "--plot", "a.xyz"], "no picture ends in 'xyz'"),
            (["show", "nothing"], "is no model"),
            (["show", "forest", "--goal", "meadow"], "'meadow' is no state"),
        ],
    )
    def test_a_bad_question_is_one_line_and_exit_code_2(self, words, says):
        done = run(*words)
        assert done.exit_code == 2
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert says in done.stderr
        assert done.stderr.count("\n") == 1

    def test_a_damaged_file(self, tmp_path):
        path = tmp_path / "m.npz"
        path.write_bytes(b"no model")
        done = run("solve", path)
        assert done.exit_code == 2
        assert "damaged" in done.stderr

    def test_a_report_that_cannot_be_written(self, tmp_path):
        done = run("compare", "forest", "--methods", "pi", "--report", tmp_path)
        assert done.exit_code == 2
        assert str(tmp_path) in done.stderr


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


class TestTerminal:
    """In colour and with progress on a terminal, and the same words as in a pipe."""

    @pytest.mark.parametrize(
        ("words", "progress"),
        [
            (["show", "forest"], ""),
            (["solve", "[red]"], "certified gap"),
            (["compare", "[red]", "--methods", "pi,vi"], "comparing"),
        ],
    )
    def test_words_and_progress(self, words, progress, tmp_path, monkeypatch):
        oc.interop.save(oc.instances.get("forest"), tmp_path / "[red].npz")
        words = [word.replace("[red]", str(tmp_path / "[red].npz")) for word in words]
        out, err = Terminal(), Terminal()
        for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "300")):
            monkeypatch.setenv(name, value)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            app(words, standalone_mode=False)
        shown, told = (re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()) for stream in (out, err))
        piped = run(*words)
        first = re.sub(r"[0-9.]+", "", piped.stdout).split()
        assert re.sub(r"[0-9.]+", "", shown).split()[:8] == first[:8]
        assert progress in told
        assert piped.stderr == ""

    def test_streams_that_cannot_be_told_about_letters(self, monkeypatch):
        """Those of some editors and notebooks."""
        out = io.StringIO()
        monkeypatch.setattr(sys, "argv", ["occlp", "--version"])
        monkeypatch.setattr(sys, "stdout", out)
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 0
        assert out.getvalue() == f"occlp {oc.__version__}\n"


class TestProcess:
    def test_json_in_a_pipe_without_progress(self):
        done = shell("compare", "forest", "--methods", "pi,vi", "--json")
        assert done.returncode == 0
        assert done.stderr == ""
        assert len(strict(done.stdout)["rows"]) == 2

    def test_text_in_a_pipe_has_no_colours_and_no_traceback(self):
        done = shell("solve", "forest", FORCE_COLOR="1")
        assert done.returncode == 0
        assert "\x1b" not in done.stdout + done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 110

    def test_an_error_has_no_traceback(self):
        done = shell("solve", "nothing-of-the-kind")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("error: ")

    def test_version(self):
        done = shell("--version")
        assert (done.returncode, done.stdout.strip()) == (0, f"occlp {oc.__version__}")

    def test_help_loads_nothing_heavy(self):
        code = (
            "import sys; from occlp.cli import app\n"
            "try: app(['--help'])\n"
            "except SystemExit: pass\n"
            "print(sorted({'numba', 'cvxpy', 'matplotlib', 'jinja2', 'scipy', 'numpy'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "compare" in done.stdout
        assert done.stdout.splitlines()[-1] == "[]"


class TestTotals:
    def test_a_horizon(self):
        [row] = rows("solve", "secretary", "--horizon", 10)
        assert row["objective"] == pytest.approx(3349 / 8400)
        [row] = rows("solve", "hillier-lieberman-employment", "--horizon", 4, "--constraint", "idle <= 78")
        assert row["objective"] == pytest.approx(185 + 2 / 3)
        found = rows("compare", "die-stopping", "--horizon", 3)
        assert [row["objective"] for row in found] == pytest.approx([14 / 3] * 5, rel=1e-6)

    def test_states_of_a_horizon_are_shown_with_their_time(self):
        done = run("solve", "machine-repair", "--horizon", 2)
        assert "(1, 'worn')" in done.stdout
        answer = strict(run("solve", "machine-repair", "--horizon", 2, "--json").stdout)
        assert [1, "worn"] in [row["state"] for row in answer["policy"]]

    def test_totals_and_goals(self):
        [row] = rows("solve", "secretary", "--criterion", "total")
        assert row["objective"] == pytest.approx(3349 / 8400)
        [row] = rows("solve", "die-stopping", "--goal", "over", "--sense", "minimize")
        assert row["objective"] == pytest.approx(1.0)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--horizon", 0], "horizon=0 is not a number of steps"),
            (["--horizon", 3, "--criterion", "average"], "leave --criterion and --goal"),
            (["--horizon", 3, "--goal", "over"], "leave --criterion and --goal"),
        ],
    )
    def test_what_does_not_fit(self, options, words):
        done = run("solve", "secretary", *options)
        assert done.exit_code == 2
        assert words in done.stderr

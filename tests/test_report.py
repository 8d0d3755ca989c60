from __future__ import annotations

import dataclasses
import itertools
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import occlp as oc
from occlp.comparison import Comparison, Row
from occlp.report import content, tables
from occlp.report.figures import plot_convergence, plot_occupancies
from occlp.report.page import write_report

SCRIPT = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def table() -> Comparison:
    """A comparison with a certified, a stopped and a failed run, on a model that has a gap to show."""
    mdp = oc.instances.get("hazard-gridworld")
    solvers = [oc.OccupancyProgram(), oc.ValueIteration(), oc.NaturalPolicyGradient(steps=4), oc.KLDual()]
    return oc.compare(mdp, solvers)


@pytest.fixture(scope="module")
def hostile() -> Comparison:
    """Labels that mean something to HTML, to mathematical type and to XML; one state is never reached."""
    labels = [SCRIPT, "$\\frac{1$", "状態\x0b\n", "_hidden"]
    mdp = oc.MDP.from_arrays(
        np.array([[[0, 1, 0, 0]] * 2, [[0, 0, 1, 0], [0.5, 0.5, 0, 0]], [[1, 0, 0, 0]] * 2, [[1, 0, 0, 0]] * 2]),
        [[0, 0.1], [1, 0], [0, 2], [5, 5]], discount=0.9, initial=labels[0], states=labels, actions=["<b>", "&amp;"],
    )  # fmt: skip
    return oc.compare(mdp, {"_lp & <i>": oc.OccupancyProgram(), "$pg$": oc.PolicyGradient(steps=2)})


@pytest.fixture(scope="module")
def failed() -> Comparison:
    return oc.compare(oc.instances.get("forest"), [oc.KLDual()])


def with_result(table: Comparison, index: int, **changes: object) -> Comparison:
    rows = list(table.rows)
    rows[index] = dataclasses.replace(rows[index], result=dataclasses.replace(rows[index].result, **changes))
    return dataclasses.replace(table, rows=tuple(rows))


# Words


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "–"), (np.nan, "–"), (np.inf, "inf"), (-np.inf, "-inf"), (-0.0, "0"), (1022.98857736, "1022.988577"),
     (-1e-20, "-1e-20")],
)  # fmt: skip
def test_number(value, words):
    assert content.number(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (8.53e-11, "8.5e-11"), (1e-8, "1e-8"), (58.19, "58"), (0.0123, "0.012"), (np.nan, "–"),
     (np.inf, "inf"), (2e7, "2e+7")],
)  # fmt: skip
def test_size(value, words):
    assert content.size(value) == words


def test_label_is_one_line_of_bounded_width():
    assert content.label(("a\nb", 1)) == "('a\\nb', 1)"
    assert content.label("a\n b") == "a b"
    assert content.label("") == "''"
    long = content.label("x" * 30 + "y" * 30, 20)
    assert len(long) == 20
    assert long.startswith("xxx")
    assert long.endswith("yyy")


def test_plain_is_strict_json():
    given = {"a": np.float64("nan"), 2: (np.int64(3), np.inf, True, None), "c": {"d": [oc.Limit]}}
    assert content.plain(given) == {"a": None, "2": [3, None, True, None], "c": {"d": [str(oc.Limit)]}}


def test_choice_names_probabilities_and_differences():
    mdp = oc.instances.get("machine-repair")
    mixed = oc.Policy.from_table(mdp, [[0.25, 0.75], [1, 0], [1e-9, 1 - 1e-9]])
    best, other = oc.solve(mdp), oc.solve(mdp, oc.NaturalPolicyGradient(steps=0), start=mixed)
    words = [content.choice(other, state, best) for state in range(3)]
    first, second = mdp.actions
    assert words[0].actions == f"{second}: 0.750, {first}: 0.250"
    assert words[2].actions == f"{second}: >0.999"
    assert words[0].differs
    assert not content.choice(best, 0, best).differs


def test_losses_add_up_to_the_gap_and_lead_with_the_worst_pair(table):
    result = table["NaturalPolicyGradient(steps=4)"]
    found = content.losses(result, limit=10_000)
    assert sum(loss.lost for loss in found) == pytest.approx(result.gap, rel=0.02)
    state, action = np.unravel_index(np.argmax(result.lost), result.lost.shape)
    assert found[0].state == content.label(result.pairs.state_name(state))
    assert found[0].action == result.pairs.action_name(action)
    assert all(a.lost >= b.lost for a, b in itertools.pairwise(found))


def test_losses_are_none_at_the_optimum_and_undefined_with_kl(table):
    assert content.losses(table["OccupancyProgram()"]) == []
    mdp = oc.instances.get("machine-repair")
    soft = oc.solve(oc.Problem(mdp, regularizer=oc.KL(strength=1.0, reference=oc.Policy.uniform(mdp))))
    assert content.losses(soft) is None


# Tables


def test_comparison_text_is_plain_and_of_moderate_width(table):
    text = str(table)
    assert text == tables.comparison_text(table)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert max(map(len, lines)) <= 110
    assert all(line == line.rstrip() for line in lines)
    for head in ("solver", "status", "objective", "expected return", "certified gap", "iterations", "seconds"):
        assert head in text
    for name in ("OccupancyProgram", "ValueIteration", "NaturalPolicyGradient", "KLDual"):
        assert name in text
    assert f"{table['ValueIteration()'].objective:.10g}" in text


def test_comparison_text_says_why_a_run_is_not_certified(table):
    beneath = str(table).partition("FAILED")[2]
    assert "it needs a KL term" in beneath
    assert "the certified gap is" in beneath


def test_comparison_table_fits_a_terminal_of_80_columns(table):
    from rich.console import Console

    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(tables.comparison_table(table, 80))
    lines = capture.get().splitlines()
    row = next(line for line in lines if line.startswith("ValueIteration"))
    assert max(map(len, lines)) <= 80
    assert "CERTIFIED" in row
    assert row.split()[-1].count(".") == 1  # the seconds stand on the same line


def test_comparison_text_names_seeds_of_sampled_methods(table):
    rows = tuple(dataclasses.replace(table.rows[0], seed=seed) for seed in range(2))
    seeds = dataclasses.replace(table, rows=rows)
    assert "OccupancyProgram #0" in str(seeds)
    assert "OccupancyProgram #1" in str(seeds)
    sizes = [line.get_markersize() for line in plot_convergence(seeds).axes[0].lines if line.get_marker() != "None"]
    assert sizes[1] < sizes[0]  # the other seeds are dots


def test_result_text_lists_the_states_with_most_occupancy(table):
    text = tables.result_text(table["OccupancyProgram()"])
    assert str(table["OccupancyProgram()"]) in text
    assert re.search(r"^\(0, 6\) +0\.7\d* +stay$", text, re.MULTILINE)
    assert "and 16 states with less occupancy" in text


def test_tables_print_markup_in_labels_as_text():
    mdp = oc.MDP.from_arrays([[[1.0]]], [[1.0]], discount=0.5, states=["[red]hot[/red]"], actions=["[/]"])
    text = tables.result_text(oc.solve(mdp))
    assert "[red]hot[/red]" in text
    assert "[/]" in text


def test_model_table_shows_facts_and_source():
    entry = oc.instances.describe("inventory")
    mdp = oc.instances.get("inventory")
    text = tables.render(tables.model_table(mdp, content.model_facts(mdp, "inventory", entry)))
    for words in (entry.source, "26", "lost, orders, stock", "exact fractions", "0.95", "from -5 to 6"):
        assert words in text


def test_model_facts_of_a_model_without_a_name_or_a_discount():
    mdp = oc.MDP.from_arrays([[[1.0]]], [[1.0]])
    facts = content.model_facts(mdp, "mine.npz")
    assert facts["discount"] is None
    assert facts["source"] is None
    assert "give --discount" in tables.render(tables.model_table(mdp, facts))


def test_notes_about_a_model_are_shown():
    mdp = oc.MDP.from_arrays([[[1.0 - 5e-10]]], [[1.0]], discount=0.5)
    text = tables.render(tables.model_table(mdp, content.model_facts(mdp, "mine.npz")))
    assert re.search(r"note +.*5e-10", text)


def test_records_stand_in_for_a_frame_where_pandas_is_missing(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    frame, records = table.to_frame(), table.to_records()
    assert frame[:3] == records[:3]
    assert len(frame) == len(records)


# Figures


def curves(axes):
    return [line for line in axes.lines if len(line.get_xdata()) > 2]


def test_convergence_draws_the_history_on_logarithmic_axes(table):
    figure = plot_convergence(table)
    left, right = figure.axes
    assert left.get_yscale() == "log"
    assert (left.get_xlabel(), right.get_xlabel()) == ("iterations", "seconds")
    drawn = curves(left)
    assert len(drawn) == 2  # value iteration and the gradient; the program is a marker
    history = table["ValueIteration()"].history
    np.testing.assert_allclose(drawn[0].get_ydata()[:-1], history["gap"])
    np.testing.assert_allclose(drawn[0].get_xdata()[:-1], history["iteration"])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["OccupancyProgram", "ValueIteration", "NaturalPolicyGradient(steps=4)"]


def test_convergence_draws_a_method_of_one_iteration_as_a_marker(table):
    left = plot_convergence(table).axes[0]
    marker = next(line for line in left.lines if line.get_linestyle() == "None" and line.get_xdata()[0] == 1)
    assert marker.get_ydata()[0] == table["OccupancyProgram()"].gap


def test_convergence_clips_gaps_of_zero_and_says_so(table):
    certificate = dataclasses.replace(table["OccupancyProgram()"].certificate, gap=0.0)
    figure = plot_convergence(with_result(table, 0, certificate=certificate))
    assert "gap 0" in [text.get_text() for text in figure.axes[1].texts]
    heights = np.concatenate([line.get_ydata() for line in figure.axes[0].lines])
    assert (np.asarray(heights, dtype=float) > 0).all()
    assert "gap 0" not in [text.get_text() for text in plot_convergence(table).axes[1].texts]


def test_convergence_of_gaps_that_are_all_zero_is_drawn(table):
    only = dataclasses.replace(table, rows=table.rows[:1])
    result = only.rows[0].result
    exact = with_result(
        only, 0, certificate=dataclasses.replace(result.certificate, gap=0.0), history=oc.History([])
    )  # fmt: skip
    figure = plot_convergence(exact)
    assert "gap 0" in [text.get_text() for text in figure.axes[1].texts]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_pictures_are_saved_by_suffix(table, tmp_path, suffix):
    head = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    path = tmp_path / f"picture.{suffix}"
    table.plot(path)
    assert path.read_bytes().startswith(head)


def test_pictures_refuse_unknown_formats_and_empty_comparisons(table, failed, tmp_path):
    with pytest.raises(oc.InvalidProblem, match="no picture ends in 'xyz'"):
        plot_convergence(table, tmp_path / "a.xyz")
    with pytest.raises(oc.InvalidProblem, match="no method of this comparison has an answer"):
        plot_convergence(failed)
    with pytest.raises(oc.InvalidProblem, match="no method of this comparison has an answer"):
        plot_occupancies(failed)


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


def test_occupancies_share_one_scale_and_mark_missing_pairs(table):
    figure = plot_occupancies(table)
    images = [axes.images[0] for axes in panels(figure)]
    assert len(images) == 3
    assert len({id(image.norm) for image in images}) == 1
    for image, result in zip(images, table.results, strict=True):
        drawn = np.ma.filled(image.get_array(), np.nan)
        assert np.nansum(drawn) == pytest.approx(1.0)
        np.testing.assert_array_equal(np.isnan(drawn), np.isnan(result.action_values))
    assert figure.get_supxlabel() == "grey: no such action"


def test_occupancies_of_a_large_model_show_the_states_with_most_mass():
    figure = plot_occupancies(oc.compare(oc.instances.get("slippery-gridworld"), [oc.PolicyIteration()]))
    assert panels(figure)[0].images[0].get_array().shape == (50, 4)
    assert re.fullmatch(r"50 of 400 states: those with most mass, \d+\.\d% of all", figure.get_supxlabel())


def test_occupancies_leave_out_actions_that_nobody_takes():
    mdp = oc.instances.get("howard-automobile")
    figure = plot_occupancies(oc.compare(oc.Problem(mdp, sense="minimize"), [oc.PolicyIteration()]))
    shown = [text.get_text() for text in panels(figure)[0].get_xticklabels()]
    assert shown == ["keep", "buy 12"]
    assert "2 of 41 actions" in figure.get_supxlabel()


def test_many_panels_are_wrapped():
    mdp = oc.instances.get("forest")
    figure = plot_occupancies(oc.compare(mdp, {f"run {k}": oc.PolicyIteration() for k in range(9)}))
    assert len(panels(figure)) == 9
    assert figure.get_figwidth() < 14


def test_pictures_take_hostile_labels_as_text(hostile, tmp_path):
    path = tmp_path / "picture.svg"
    plot_occupancies(hostile, path)
    assert "<script" not in path.read_text(encoding="utf-8")
    assert plot_convergence(hostile).legends[0].get_texts()[0].get_text() == "_lp & <i>"


def test_pictures_leave_the_global_state_of_matplotlib_alone():
    code = (
        "import sys, occlp as oc; from occlp.report.figures import plot_convergence, plot_occupancies\n"
        "table = oc.compare(oc.instances.get('forest'), [oc.PolicyIteration()])\n"
        "plot_convergence(table), plot_occupancies(table)\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# The page


class Outline(HTMLParser):
    """Collects tags, text and addresses, and checks that every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.tags, self.addresses, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def outline(path):
    parser = Outline()
    parser.feed(path.read_text(encoding="utf-8"))
    assert parser.open == []
    return parser


def test_report_is_one_file_that_loads_nothing(table, tmp_path):
    path = table.report(tmp_path / "comparison.html")
    assert path == tmp_path / "comparison.html"
    page = outline(path)
    assert len(page.addresses) == 2
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "http" not in path.read_text(encoding="utf-8").replace("http-equiv", "")
    assert [file.name for file in tmp_path.iterdir()] == ["comparison.html"]


def test_report_tells_what_the_comparison_found(table, tmp_path):
    text = outline(write_report(table, tmp_path / "a.html")).text
    assert "2 of 4 runs" in text
    assert "Maximize the discounted reward of 28 states" in text
    assert "it needs a KL term" in text
    assert table["ValueIteration()"].certificate.fingerprint in text
    assert f"occlp {oc.__version__}" in text
    assert f"numpy {np.__version__}" in text
    for heading in ("Results", "Convergence", "Occupancies", "Policies", "Where the loss sits", "Certificates"):
        assert heading in text
    lossless = re.search(r"Nothing is lost beyond rounding: (.*)\.", text)
    assert lossless is not None
    assert lossless[1] == "OccupancyProgram, ValueIteration"


def test_report_writes_hostile_labels_as_text(hostile, tmp_path):
    path = write_report(hostile, tmp_path / "a.html")
    page = outline(path)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert SCRIPT in page.text
    assert "_lp & <i>" in page.text
    assert "&amp;lt;" not in path.read_text(encoding="utf-8")


def test_report_flags_states_that_a_policy_never_visits(hostile, tmp_path):
    assert not hostile["_lp & <i>"].visited[3]
    path = write_report(hostile, tmp_path / "a.html")
    row = next(row for row in path.read_text(encoding="utf-8").split("<tr>") if "<td>_hidden</td>" in row)
    assert row.count('class="unvisited"') == 2
    assert row.count("(unvisited)") == 2


def test_report_shows_the_first_50_states(tmp_path):
    table = oc.compare(oc.instances.get("garnet"), [oc.PolicyIteration()])
    text = outline(write_report(table, tmp_path / "a.html")).text
    assert "The 50 states with most occupancy; 50 more are left out." in text


def test_report_without_an_answer_says_so(failed, tmp_path):
    text = outline(write_report(failed, tmp_path / "a.html")).text
    assert "No run is certified." in text
    assert "it needs a KL term" in text


def test_report_of_a_kl_problem_does_not_split_the_gap(tmp_path):
    mdp = oc.instances.get("machine-repair")
    problem = oc.Problem(mdp, regularizer=oc.KL(strength=1.0, reference=oc.Policy.uniform(mdp)))
    text = outline(write_report(oc.compare(problem, [oc.KLDual()]), tmp_path / "a.html")).text
    assert "no sum over pairs: KLDual" in text


def test_report_replaces_a_file_and_refuses_a_missing_folder(failed, tmp_path):
    path = tmp_path / "a.html"
    path.write_text("old")
    write_report(failed, path)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(oc.InvalidProblem, match="does not exist"):
        write_report(failed, tmp_path / "missing" / "a.html")


def test_rows_without_a_result_are_kept_apart():
    row = Row("a", "A()", 0, None, "no")
    assert content.reason(row) == "no"
    assert content.first_runs(Comparison((row,), "t", {})) == []


def test_report_shows_costs_and_prices(tmp_path):
    mdp = oc.instances.get("machine-repair")
    problem = oc.Problem(mdp, constraints={"budget": oc.expected("wear") <= 0.25})
    table = oc.compare(problem, [oc.OccupancyProgram(), oc.Decomposition()])
    text = outline(write_report(table, tmp_path / "a.html")).text
    assert "Costs and prices" in text
    assert "price of budget" in text
    assert text.count(content.number(table.results[0].multipliers["budget"])) == 2


def test_infeasible_is_told_and_not_drawn(tmp_path):
    mdp = oc.instances.get("machine-repair")
    problem = oc.Problem(mdp, constraints={"budget": oc.expected("wear") <= -1})
    table = oc.compare(problem, [oc.Decomposition()])
    page = outline(write_report(table, tmp_path / "a.html"))
    assert "It is proved that no policy meets the constraints." in page.text
    assert "optimum" not in page.text
    assert page.addresses == []
    with pytest.raises(oc.InvalidProblem, match="no method"):
        plot_occupancies(table)


def test_the_average_criterion_has_no_discount(tmp_path):
    mdp = oc.instances.get("howard-taxicab").replace(discount=None)
    table = oc.compare(oc.Problem(mdp, criterion="average"), [oc.PolicyIteration()])
    text = outline(write_report(table, tmp_path / "a.html")).text
    assert "average" in text
    assert "long-run time" in text
    assert "discount" not in text + str(table)


def test_a_policy_that_breaks_a_constraint_is_drawn_without_a_gap(table):
    certificate = dataclasses.replace(table.results[2].certificate, gap=np.inf)
    figure = plot_convergence(with_result(table, 2, certificate=certificate))
    assert len(curves(figure.axes[0])) == 2

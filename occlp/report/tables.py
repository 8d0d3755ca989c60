"""Tables for a terminal (coloured) and for ``print`` (plain text of moderate width)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from occlp.plain import visible
from occlp.report.content import choice, label, number, reason, run_name, seconds, size, title, top_states

if TYPE_CHECKING:
    from occlp.comparison import Comparison, Row
    from occlp.model import MDP
    from occlp.result import Result

#: Columns of plain text.
WIDTH = 110
#: Headings for which there is room on that page.
NAMES = ("=expected return", "=certified gap", "=iterations", "=backups")
#: States whose action is listed beneath a single result.
LISTED_STATES = 12
#: Colours of the statuses on a terminal.
STYLES: Mapping[str, str] = {
    "CERTIFIED": "green", "BOUNDED": "yellow", "LIMIT": "yellow", "INFEASIBLE": "red", "UNBOUNDED": "red",
    "FAILED": "red",
}  # fmt: skip


def comparison_text(comparison: Comparison) -> str:
    """Lay out a comparison as plain text, at most 110 columns, without colours.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    str
        Title and facts, one line a run (solver, status, objective, expected return, certified gap,
        iterations, backups, seconds), and beneath it why a run is not certified.
    """
    return render(comparison_table(comparison))


def comparison_table(comparison: Comparison, width: int = WIDTH) -> RenderableType:
    """Lay out a comparison for a rich console: the same content as `comparison_text`, with colours.

    On a console of less than 100 columns, headings are shorter and numbers have 7 digits.
    """
    narrow = width < 100
    heading = Text(visible(title(comparison)), style="bold")
    parts: list[RenderableType] = [heading, Text(_facts_line(comparison), style="dim")]
    heads = ("=expected\nreturn", "=certified\ngap", "=iters", "=back-\nups") if narrow else NAMES
    table = _table("solver", ".status", "=objective", *heads, "=seconds", gap=not narrow)
    for row in comparison:
        table.add_row(*_run_cells(row, comparison, 7 if narrow else 10))
    parts.append(table)
    notes = [(run_name(row, comparison), words) for row in comparison if (words := reason(row)) is not None]
    parts += [
        Padding(Text.assemble((f"{visible(name)}: ", "bold"), visible(words)), (0, 0, 0, 1)) for name, words in notes
    ]
    return Group(*parts)


def result_text(result: Result) -> str:
    """Lay out one result as plain text: its figures, and what the policy does where it is most."""
    return render(result_table(result))


def result_table(result: Result) -> RenderableType:
    """Lay out one result for a rich console."""
    table = _table("state", "=occupancy", "policy")
    mass = result.state_occupancy
    for state in top_states([result], LISTED_STATES):
        found = choice(result, int(state))
        note = Text("  unvisited: any action will do", style="dim") if found.unvisited else Text("")
        name = Text(label(result.pairs.state_name(int(state))))
        table.add_row(name, number(float(mass[state]), 6), Text(found.actions) + note)
    parts: list[RenderableType] = [Text(visible(str(result))), table]
    left = result.pairs.n_states - LISTED_STATES
    if left > 0:
        parts.append(Text(f" and {left} states with less occupancy", style="dim"))
    return Group(*parts)


def model_table(mdp: MDP, facts: Mapping[str, Any]) -> RenderableType:
    """Lay out the facts of a model (`content.model_facts`) for a rich console."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in _model_lines(mdp, facts):
        table.add_row(name, Text(visible(words)))
    heading = Text(visible(str(facts["model"])), style="bold")
    return Group(heading + Text(f"  {facts['title']}" if facts["title"] else ""), table)


def models_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Lay out the named models, one line each, for a rich console."""
    table = _table("model", "what it is", "=states", "=pairs", "=discount", "sense")
    for facts in rows:
        table.add_row(
            Text(str(facts["model"]), style="bold"), Text(str(facts["title"])), str(facts["states"]),
            str(facts["pairs"]), number(facts["discount"], 6), str(facts["sense"]),
        )  # fmt: skip
    return table


def render(content: RenderableType) -> str:
    """Draw on a page of plain text: no colours, at most 110 columns, no blanks at the ends of lines."""
    page = io.StringIO()
    console = Console(file=page, width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(content)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def _table(*columns: str, gap: bool = True) -> Table:
    """Make a table; = heads right-aligned columns of figures, which are never broken, nor are those of a dot."""
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, int(gap)),
        pad_edge=False,
        collapse_padding=True,
        header_style="bold",
        show_edge=False,
    )
    for name in columns:
        figures = name.startswith("=")
        justify: Any = "right" if figures else "left"
        table.add_column(name.lstrip("=."), justify=justify, no_wrap=figures or name[0] == ".", overflow="fold")
    return table


def _run_cells(row: Row, comparison: Comparison, digits: int) -> list[RenderableType]:
    record = row.record()
    status = str(record["status"])
    return [
        Text(visible(_broken(run_name(row, comparison)))),
        Text(status, style=STYLES.get(status, "")),
        number(record["objective"], digits),
        number(record["expected_return"], digits),
        size(record["gap"]),
        str(record["iterations"]) if row.result is not None else number(None),
        number(record["backups"], 3),
        seconds(record["seconds"]),
    ]


def _broken(name: str) -> str:
    """Break a long name where its settings begin rather than anywhere."""
    return name.replace("(", "(\n  ", 1) if len(name) > 30 else name


def _facts_line(comparison: Comparison) -> str:
    facts = comparison.facts
    counts = ", ".join(f"{facts[key]} {key}" for key in ("states", "actions", "pairs", "transitions"))
    discount = "" if facts["criterion"] == "average" else f"discount {number(facts['discount'])}, "
    return f"{counts}; {discount}tolerance {facts['tolerance']:g}"


def _model_lines(mdp: MDP, facts: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    pairs = mdp.pairs
    if facts["source"]:
        yield "source", facts["source"]
    yield "question", f"{facts['sense']} the {'reward' if facts['sense'] == 'maximize' else 'cost'}"
    yield "states", f"{facts['states']}{_names(pairs.state_labels)}"
    yield "actions", f"{facts['actions']}{_names(pairs.action_labels)}"
    yield "pairs", str(facts["pairs"])
    yield "transitions", str(facts["transitions"])
    yield "discount", number(facts["discount"]) if facts["discount"] is not None else "none; give --discount"
    yield "start", f"{facts['initial_states']} of {facts['states']} states have positive probability"
    yield "rewards", f"from {number(facts['reward_min'])} to {number(facts['reward_max'])}"
    if facts["costs"]:
        yield "costs", ", ".join(facts["costs"])
    yield "numbers", "exact fractions" if facts["exact"] else "double precision"
    if "class" in facts:
        yield from _structure_lines(facts)
    if facts["parameters"]:
        yield "parameters", ", ".join(f"{name}={value}" for name, value in facts["parameters"].items())
    for note in facts["notes"]:
        yield "note", note


def _structure_lines(facts: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    undecided = facts["unichain"] is None
    yield "class", facts["class"] + ("; whether every policy has one recurrent class is undecided" if undecided else "")
    yield (
        "components",
        (f"{facts['strongly_connected_components']} strongly connected, {facts['maximal_end_components']} maximal end"),
    )
    yield "absorbing", _of_states(facts["absorbing_states"], facts)
    yield "unreachable", _of_states(facts["unreachable_states"], facts)
    if "dead_ends" in facts:
        yield "goal", _of_states(facts["goal_states"], facts)
        yield "dead ends", _of_states(facts["dead_ends"], facts)
        some, every = facts["goal_certain_for_some"], facts["goal_certain_for_all"]
        yield "goal certain", f"from {some} states under some policy, from {every} under every policy"


def _of_states(count: int, facts: Mapping[str, Any]) -> str:
    return f"{count} of {facts['states']} states"


def _names(labels: Sequence[Any] | None) -> str:
    if labels is None:
        return ""
    shown = ", ".join(label(name, 20) for name in labels[:8])
    return f": {shown}{', …' if len(labels) > 8 else ''}"

"""What the commands print: tables, JSON, and progress on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

import occlp as oc

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

#: Every row of ``--json`` has these, null where there is no such figure.
COLUMNS = ("solver", "status", "objective", "expected_return", "gap", "seconds")


@contextmanager
def solve_progress(model: str) -> Iterator[Callable[[int, float], None] | None]:
    """Show iterations and gap while a solve runs, on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    from occlp.plain import visible

    with Console(stderr=True).status(Text(f"solving {visible(model)}")) as status:
        yield lambda iterations, gap: status.update(f"iteration {iterations}, certified gap {gap:.2g}")


@contextmanager
def compare_progress() -> Iterator[Callable[[int, int], None] | None]:
    """Show how many runs are done, on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("comparing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("runs", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def print_text(content: RenderableType) -> None:
    """Print in colour on a terminal, as plain text of fixed width elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(content)
    else:
        from occlp.report.tables import render

        typer.echo(render(content))


def print_line(words: str, *, to_stderr: bool = False) -> None:
    """Print words that may hold names from outside."""
    from occlp.plain import visible  # brings numpy along

    typer.echo(visible(words), err=to_stderr)


def print_error(words: object) -> None:
    """Print what is wrong to stderr."""
    print_line(f"error: {words}", to_stderr=True)


def print_json(command: str, model: str | None, rows: Sequence[dict[str, Any]], **more: Any) -> None:
    """Print one JSON object with rows."""
    from occlp.report.content import plain

    complete = [dict.fromkeys(COLUMNS) | row for row in rows]
    answer = {"command": command, "model": model, "version": oc.__version__, "rows": complete, **more}
    typer.echo(json.dumps(plain(answer), allow_nan=False, indent=2))

"""One HTML file about a comparison that loads nothing: it can be mailed, archived and read offline."""

from __future__ import annotations

import math
import platform
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, StrictUndefined, Template

from occlp.errors import InvalidProblem
from occlp.plain import visible
from occlp.report import content
from occlp.report.figures import plot_convergence, plot_occupancies, to_data_uri
from occlp.report.grids import has_cells, plot_over_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from occlp.comparison import Comparison
    from occlp.result import Result

#: Libraries whose versions stand at the foot of the page.
LIBRARIES = ("occlp", "numpy", "scipy", "cvxpy")


def write_report(comparison: Comparison, path: str | Path) -> Path:
    """Write a comparison as one self-contained HTML file.

    The file holds the table, the pictures of convergence and occupancies, the policies side by side,
    where the loss of each method sits, and the facts of the certificates. It needs no network.

    Parameters
    ----------
    comparison : Comparison
    path : path
        An existing file is replaced once the new one is complete.

    Returns
    -------
    Path

    Raises
    ------
    InvalidProblem
        When the folder of the file does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InvalidProblem(f"the folder {str(path.parent)!r} of the report does not exist. Make it first.")
    return content.write_file(path, _template().render(_context(comparison)))


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )  # fmt: skip
    environment.filters["number"] = lambda value, digits=10: content.number(value, digits).replace("-", "−")
    environment.filters["size"] = lambda value: content.size(value).replace("-", "−")
    environment.filters["seconds"] = content.seconds
    environment.filters["percent"] = lambda share: f"{share:.1%}" if share >= 1e-3 else "<0.1%"
    source = resources.files("occlp.report").joinpath("templates/comparison.html").read_text(encoding="utf-8")
    return environment.from_string(source)


def _context(comparison: Comparison) -> dict[str, Any]:
    runs = [(content.display(name), result) for name, result in content.first_runs(comparison)]
    results = [result for _, result in runs]
    statuses = {row.record()["status"]: row for row in comparison}
    return {
        "title": content.title(comparison),
        "facts": comparison.facts,
        "verdict": _verdict(comparison, results),
        "rows": [
            row.record() | {"name": content.run_name(row, comparison), "reason": content.reason(row)}
            for row in comparison
        ],
        "statuses": {name: row.result.status.value for name, row in statuses.items() if row.result is not None},
        "pictures": _pictures(comparison) if runs else None,
        "policies": _policies(results) if runs else None,
        "names": [name for name, _ in runs],
        **_losses(runs),
        "certificates": [(name, result.certificate) for name, result in runs],
        "costs": [name for name in results[0].expected if name != "reward"] if runs else [],
        "limits": list(results[0].multipliers) if runs else [],
        "runs": runs,
        "versions": {name: _version(name) for name in LIBRARIES} | {"Python": platform.python_version()},
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _verdict(comparison: Comparison, results: Sequence[Result]) -> dict[str, Any]:
    """What the comparison comes to, in figures: how many are certified and where the optimum lies."""
    certified = [row for row in comparison if row.result is not None and row.result.status.name == "CERTIFIED"]
    fastest = min(certified, key=lambda row: row.record()["seconds"], default=None)
    lower = max((result.certificate.lower for result in results), default=float("-inf"))
    upper = min((result.certificate.upper for result in results), default=float("inf"))
    return {
        "runs": len(comparison),
        "certified": len(certified),
        "infeasible": any(row.result is not None and row.result.status.name == "INFEASIBLE" for row in comparison),
        "fastest": None if fastest is None else content.run_name(fastest, comparison),
        "seconds": None if fastest is None else fastest.record()["seconds"],
        "lower": lower,
        "upper": upper,
        "optimum": (lower + upper) / 2 if math.isclose(lower, upper, rel_tol=1e-9) and results else None,
        "within": min((result.gap for result in results), default=None),
    }


def _pictures(comparison: Comparison) -> list[dict[str, Any]]:
    gaps, masses = plot_convergence(comparison), plot_occupancies(comparison)
    figures = [
        (gaps, "Certified gap of each method against iterations and against seconds"),
        (masses, "Occupancy of each state and action, method by method"),
    ]
    if has_cells(comparison):
        figures.append((plot_over_time(comparison), "Occupancy of each cell along the runs, with iteration and gap"))
    return [
        {"source": to_data_uri(figure), "width": int(96 * figure.get_figwidth()), "words": words}
        for figure, words in figures
    ]


def _policies(results: Sequence[Result]) -> dict[str, Any]:
    """The policies side by side in the states with most mass, against the best one."""
    pairs, best = results[0].pairs, content.best_result(results)
    states = [int(state) for state in content.top_states(results)]
    mass = np.mean([result.state_occupancy for result in results], axis=0)
    table: list[dict[str, Any]] = [
        {
            "state": content.label(pairs.state_name(state)),
            "mass": float(mass[state]),
            "choices": [content.choice(result, state, best) for result in results],
        }
        for state in states
    ]
    return {
        "table": table,
        "best": results.index(best),
        "hidden": pairs.n_states - len(states),
        "differs": any(choice.differs for row in table for choice in row["choices"]),
        "unvisited": any(choice.unvisited for row in table for choice in row["choices"]),
    }


def _losses(runs: Sequence[tuple[str, Result]]) -> dict[str, Any]:
    """Where each method loses, with those that lose nothing, or lose what does not split, named apart."""
    found = [(name, result, content.losses(result)) for name, result in runs]
    return {
        "losses": [(name, result, entries) for name, result, entries in found if entries],
        "lossless": [name for name, _, entries in found if entries == []],
        "unsplit": [name for name, _, entries in found if entries is None],
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"

"""Measurements in a file, one JSON object a line, so that a run that was ended goes on where it was."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

#: Where they are kept, unless told otherwise.
FILE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.jsonl"


class Records:
    """Records of a run, by kind and name; a later one replaces an earlier one of the same name.

    Without a path they are kept in memory only. Figures that do not exist are NaN here and null in the file.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._found: dict[tuple[str, str, bool], dict[str, Any]] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._keep(_swap(json.loads(line), None, math.nan))

    def _keep(self, record: dict[str, Any]) -> None:
        self._found[record["kind"], record.get("case", ""), record.get("small", False)] = record

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record, and write it down at once."""
        self._keep(record)
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(record))

    def forget(self) -> None:
        """Begin anew."""
        self._found.clear()
        self.tidy()

    def tidy(self) -> None:
        """Write the file anew, without what was replaced."""
        if self.path is not None:
            self.path.write_text("".join(_line(record) for record in self._found.values()), encoding="utf-8")

    def get(self, kind: str, case: str = "", *, small: bool = False) -> dict[str, Any] | None:
        """Return a record, or None."""
        return self._found.get((kind, case, small))

    def row(self, case: str, entrant: str, *, small: bool = False) -> dict[str, Any] | None:
        """The measurement of an entrant on a case, or None."""
        record = self.get("case", case, small=small)
        rows = [] if record is None else record["rows"]
        return next((row for row in rows if row["entrant"] == entrant), None)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(_swap(record, math.nan, None), ensure_ascii=False, allow_nan=False) + "\n"


def _swap(value: Any, old: float | None, new: float | None) -> Any:
    """The same plain data with NaN for null, or the other way round."""
    if isinstance(value, dict):
        return {key: _swap(one, old, new) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_swap(one, old, new) for one in value]
    missing = value is None if old is None else isinstance(value, float) and not math.isfinite(value)
    return new if missing else value

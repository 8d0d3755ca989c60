"""Records as a pandas DataFrame: the one place that imports pandas."""

from __future__ import annotations

from typing import Any


def to_frame(records: list[dict[str, Any]]) -> Any:
    """Return a DataFrame of records; the records themselves where pandas is missing."""
    try:
        import pandas
    except ImportError:
        return records
    return pandas.DataFrame(records)

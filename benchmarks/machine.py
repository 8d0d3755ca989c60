"""What figures depend on."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.entrants import ENTRANTS


def machine() -> dict[str, str]:
    """What the figures depend on, without the names of machines."""
    packages = {entrant.package: entrant for entrant in ENTRANTS if entrant.is_installed}
    versions = {name: entrant.version for name, entrant in sorted(packages.items())}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processors": f"{os.cpu_count()} {processor_name()}",
        "Python": platform.python_version(),
        "numpy": np.__version__,
        **versions,
    }


def processor_name() -> str:
    """The family of the processor, where the system tells."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return f"{platform.machine()}, {found[1]}"
    return platform.machine()


def record() -> dict[str, Any]:
    """The same as a record, with what else the machine was doing when the run began."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {"kind": "machine", "facts": machine(), "load": load}


def words_of_load(load: float) -> str:
    """A sentence, with the space before it, where the machine had other work; else nothing."""
    words = f" The machine was shared: its load was {load:.1f} when the run began, so times by the clock are long."
    return words if load > 1 else ""

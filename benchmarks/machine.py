"""What figures depend on."""

from __future__ import annotations

import datetime
import os
import platform

import numpy as np

from benchmarks.entrants import ENTRANTS


def machine() -> dict[str, str]:
    """What the figures depend on, without the names of machines."""
    packages = {entrant.package: entrant for entrant in ENTRANTS if entrant.is_installed}
    versions = {name: entrant.version for name, entrant in sorted(packages.items())}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processors": f"{os.cpu_count()} {platform.machine()}",
        "Python": platform.python_version(),
        "numpy": np.__version__,
        **versions,
    }

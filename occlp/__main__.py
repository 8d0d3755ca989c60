"""``python -m occlp``: the command line."""

from __future__ import annotations

from occlp.cli import main

if __name__ == "__main__":
    main()

"""The command line: ``occlp solve``, ``compare``, ``models`` and ``show``.

Answers go to stdout, as a table or (``--json``) as one object with ``rows``; errors and progress go to
stderr. The exit code is 0 for an answer, 1 for a solve that broke its promise, 2 for a bad question.
"""

from __future__ import annotations

from occlp.cli.commands import app as app
from occlp.cli.commands import main as main
from occlp.cli.questions import METHODS as METHODS

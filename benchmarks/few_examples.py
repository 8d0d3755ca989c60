"""A plugin of pytest: property tests draw at most a few examples, whatever their own settings say."""

from __future__ import annotations

from typing import Any

import hypothesis

MOST = 12

_set = hypothesis.settings.__init__


def _set_few(self: hypothesis.settings, parent: Any = None, **given: Any) -> None:
    if "max_examples" in given:
        given["max_examples"] = min(given["max_examples"], MOST)
    _set(self, parent, **given)


hypothesis.settings.__init__ = _set_few  # type: ignore[method-assign]

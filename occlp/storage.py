"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield a stream whose bytes take the place of a file once all of them are on the disk.

    Until then the old file stays as it is, whatever happens: an error, Ctrl-C, a crash. The new one has its
    permissions, or those of any new file; a link goes on leading to it. What is no file, such as ``/dev/stdout``, is
    written to.
    """
    given = Path(path)
    mode = given.stat().st_mode if given.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        with given.open("wb") as stream:
            yield stream
        return
    target = Path(os.path.realpath(given))
    partial = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if mode is not None:
            partial.chmod(stat.S_IMODE(mode))
        os.replace(partial, target)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) == str(partial):
            error.filename = str(given)  # nobody has asked for the other
        raise
    _settle(target.parent)


def _settle(folder: Path) -> None:
    """Put the name of a new file on the disk as well, where folders can be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

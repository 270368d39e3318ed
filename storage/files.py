"""Files that only their owner may read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_MAX_PREFIX_CHARS = 100


def create_private_file(path: Path) -> None:
    """Create a file with mode 0600, and its folders with 0700; those that exist stay as they are.

    Raises OSError if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


@contextmanager
def atomic_private_file(path: Path) -> Iterator[TextIO]:
    """Write a text file with mode 0600, which replaces ``path`` at the end of the block.

    After an error ``path`` is as it was.  Raises OSError.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:_MAX_PREFIX_CHARS]}.")
    try:
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def open_private(path: str, flags: int) -> int:
    """Open a file, for ``open(opener=…)``; a new one has the mode 0600."""
    return os.open(path, flags, 0o600)

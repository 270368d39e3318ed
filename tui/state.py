"""Remembers view, theme, sort and filters between runs, in a small file that only its owner can read."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path

from storage.files import atomic_private_file

STATE_FILE = "dashboard.json"
"""Name of the file in the data directory."""
_MAX_BYTES = 64 * 1024
_MAX_VALUE_CHARS = 2_000
_MAX_KEYS = 100


class RememberedState:
    """Texts by name.  A file that is missing, half-written, foreign or read-only is never an error."""

    def __init__(self, data_dir: Path | None) -> None:
        """Without ``data_dir`` nothing is read or written."""
        self._path = None if data_dir is None else data_dir / STATE_FILE
        self._values = {} if self._path is None else _read(self._path)
        self._saved = self._values
        """The content of the file."""

    @property
    def is_saved(self) -> bool:
        """Whether the file has all that is to be remembered."""
        return self._path is None or self._values is self._saved

    def get(self, name: str) -> str | None:
        """Return what was remembered under this name."""
        return self._values.get(name)

    def set(self, name: str, value: str) -> None:
        """Remember a text, in the file from the next `save` on; an empty text is the default."""
        if self._values.get(name, "") == value or len(value) > _MAX_VALUE_CHARS:
            return
        others = {key: text for key, text in self._values.items() if key != name}
        self._values = others | ({name: value} if value else {})

    def save(self) -> None:
        """Write the file if that changes it.  Waits for the disk: not for the thread of the event loop."""
        values = self._values
        if self._path is not None and values is not self._saved:
            with contextlib.suppress(OSError):
                _write(self._path, values)
            self._saved = values


def _read(path: Path) -> dict[str, str]:
    try:
        # Not a link to a file elsewhere, and no pipe, which would block.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return {}
            content = json.loads(file.read(_MAX_BYTES).decode())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    texts = {
        name: value
        for name, value in content.items()
        if isinstance(value, str) and max(len(name), len(value)) <= _MAX_VALUE_CHARS
    }
    return dict(list(texts.items())[:_MAX_KEYS])


def _write(path: Path, values: dict[str, str]) -> None:
    with atomic_private_file(path) as file:
        json.dump(values, file, indent=2)

"""Jobs from a file of one JSON object a line, read as they are enqueued: memory stays as it is."""

from __future__ import annotations

import os
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from app.cli.values import json_object
from app.errors import UsageError
from app.pending_lines import PendingLines

if TYPE_CHECKING:
    from workers.operations.operations import NewJob

_MAX_LINE_BYTES = 4_000_000
"""A payload has a megabyte at the most, and spaces around it."""


class JobLines(PendingLines):
    """The jobs of an open file, and how far they have been read and enqueued."""

    def __init__(self, file: IO[bytes], name: str, *, first_line: int, delay: float) -> None:
        super().__init__(first_line)
        self.name = name
        self.read_bytes = 0
        self.size = _size(file)
        """Bytes of the file; None if that is unknown, as of a pipe."""
        self._file = file
        self._delay = delay
        self._run = uuid.uuid4().hex
        """Beginning of the keys, which end in the number of the line."""

    @property
    def share(self) -> float | None:
        """Share of the file that has been read, from 0 to 1."""
        return None if not self.size else min(1.0, self.read_bytes / self.size)

    def __iter__(self) -> Iterator[NewJob]:
        """Raises UsageError at a line that is not a JSON object."""
        from workers.operations.operations import NewJob

        while line := self._file.readline(_MAX_LINE_BYTES):
            self.line += 1
            self.read_bytes += len(line)
            if self.line < self.first_line or not line.strip():
                continue
            source = f"{self.name}, line {self.line}"
            if len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
                raise UsageError(f"has more than {_MAX_LINE_BYTES:,} bytes", field=source)
            data = json_object(line, source)
            self.add()
            yield NewJob(data, f"{self._run}-{self.line}", self._delay, source)


@contextmanager
def open_job_lines(path: Path, *, first_line: int, delay: float) -> Iterator[JobLines]:
    """Open the jobs in a file; ``-`` is standard input.  Raises UsageError if it cannot be read."""
    is_stdin = str(path) == "-"
    name = "standard input" if is_stdin else str(path)
    try:
        file = open(sys.stdin.fileno() if is_stdin else path, "rb", closefd=not is_stdin)  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}", field="--file") from None
    with file:
        yield JobLines(file, name, first_line=first_line, delay=delay)


def _size(file: IO[bytes]) -> int | None:
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None

"""Repairs the append-only file of an embedded server, whose end a power cut may damage.

Valkey keeps a base file and a file of later commands; the manifest names both.  A power cut may leave zeros,
half a command or garbage at the end of the last file of commands.  Valkey then does not start, and the wheel
has no tool that can read its base file.  So we find the last whole command ourselves.
"""

from __future__ import annotations

import mmap
import os
import re
import shlex
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from storage.files import open_private

FOLDER = "appendonlydir"
_MANIFEST = "appendonly.aof.manifest"
_ENTRY = re.compile(r"^file (\S+) seq (\d+) type i\b", re.MULTILINE)
_COUNT = re.compile(rb"\*([1-9]\d{0,9})\r\n")
_LENGTH = re.compile(rb"\$(\d{1,10})\r\n")
_NAME = re.compile(rb"[A-Za-z][\w.|-]*")
_MAX_HEADER_BYTES = 14  # of a line that _COUNT or _LENGTH matches
_MAX_ANNOTATION_BYTES = 127  # of an annotation with its line end; Valkey reads no longer ones


@dataclass(frozen=True, slots=True)
class Damage:
    """Position at which a file of commands is damaged.

    ``good`` bytes of ``size`` are whole commands.  ``in_the_middle``: whole commands follow the damage, so a
    power cut is not the cause.
    """

    file: Path
    good: int
    size: int
    in_the_middle: bool

    @property
    def problem(self) -> str:
        """The problem if the damage is in the middle."""
        return f"{self.file} is damaged at byte {self.good} of {self.size}, and whole commands follow"

    @property
    def fix(self) -> str:
        """The operator's choices if the damage is in the middle; the product does not decide that."""
        path, copy = (shlex.quote(str(file)) for file in (self.file, f"{self.file}.damaged"))
        return (
            "restore it from a backup, or keep what is before: "
            f"cp -p {path} {copy} && truncate -s {self.good} {path}"
        )


def last_file(folder: Path) -> Path | None:
    """Return the file to which the server in ``folder`` appends; None if no manifest names one."""
    try:
        manifest = (folder / FOLDER / _MANIFEST).read_text(errors="replace")
    except OSError:
        return None
    entries = [(int(number), name) for name, number in _ENTRY.findall(manifest)]
    return folder / FOLDER / max(entries)[1] if entries else None


def ends_badly(file: Path) -> bool:
    """Return whether the last bytes alone show damage.  Raises OSError."""
    with open(file, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 2))
        return size > 0 and stream.read() != b"\r\n"


def find_damage(file: Path) -> Damage | None:
    """Return the damage of a file of commands, if any.  Reads the whole file.  Raises OSError."""
    with open(file, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size == 0:
            return None
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            scan = _Scan(content)
            good = scan.run()
            return None if good == size else Damage(file, good, size, scan.resumes())


def cut_off(damage: Damage) -> Path:
    """Copy the damaged file, then cut off its end; return the path of the copy.  Raises OSError.

    The copy is on the disk before the end is cut off.
    """
    file, now = damage.file, datetime.now(UTC)
    copy = file.with_name(f"{file.name}.damaged-{now:%Y%m%dT%H%M%S.%fZ}")
    part = copy.with_name(f"{copy.name}.part")
    try:
        with open(file, "rb") as source, open(part, "xb", opener=open_private) as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        part.rename(copy)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    _sync(copy.parent)
    with open(file, "r+b") as stream:
        stream.truncate(damage.good)
        os.fsync(stream.fileno())
    return copy


def _sync(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class _EndError(Exception):
    """The file ends within a command."""


class _GarbageError(Exception):
    """The file has bytes that are not a command."""


class _Scan:
    """Parses the commands of ``content`` without copying them."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._size = len(content)
        self._stopped_at = 0
        self._cut_off = False

    def run(self) -> int:
        """Return the bytes of whole commands from the start; an unfinished transaction does not count."""
        position = good = 0
        transaction = False
        try:
            while position < self._size:
                name, position = self._command(position)
                if name == b"MULTI":
                    transaction = True
                elif name == b"EXEC":
                    transaction = False
                if not transaction:
                    good = position
        except (_EndError, _GarbageError) as error:
            self._cut_off = isinstance(error, _EndError)
        self._stopped_at = position
        return good

    def resumes(self) -> bool:
        """Return whether whole commands follow where `run` stopped.

        A payload may contain commands.  So within the command that the end of the file cuts off, commands
        count only if they reach that end: then a length is wrong, and nothing was cut off.
        """
        start, size = self._stopped_at, self._size
        tried: set[int] = set()
        while 0 <= (start := self._content.find(b"*", start + 1)) < size:
            if _COUNT.match(self._content, start) and self._has_commands(start, tried):
                return True
        return False

    def _has_commands(self, position: int, tried: set[int]) -> bool:
        try:
            while position < self._size and position not in tried:
                tried.add(position)
                name, position = self._command(position)
                if name and not self._cut_off:
                    return True
        except (_EndError, _GarbageError):
            return False
        return position == self._size

    def _command(self, position: int) -> tuple[bytes, int]:
        """Return the name of a command in capitals, empty for an annotation, and the position of its end."""
        if self._content[position] == ord("#"):
            return b"", self._annotation(position)
        count = _COUNT.match(self._content, position)
        if count is None:
            raise self._header_error(position, b"*")
        position = count.end()
        name = b""
        for number in range(int(count[1])):
            length = _LENGTH.match(self._content, position)
            if length is None:
                raise self._header_error(position, b"$")
            start, end = length.end(), length.end() + int(length[1])
            if end + 2 > self._size:
                raise _EndError
            if self._content[end : end + 2] != b"\r\n":
                raise _GarbageError
            if number == 0:
                name = self._content[start : min(end, start + 64)].upper()
                if not _NAME.fullmatch(name):
                    raise _GarbageError
            position = end + 2
        return name, position

    def _annotation(self, position: int) -> int:
        end = self._content.find(b"\n", position, position + _MAX_ANNOTATION_BYTES)
        if end < 0:
            raise _EndError if self._size - position < _MAX_ANNOTATION_BYTES else _GarbageError
        return end + 1

    def _header_error(self, position: int, sign: bytes) -> Exception:
        """Return _EndError if the file ends within a count or a length, else _GarbageError."""
        rest = self._content[position : position + _MAX_HEADER_BYTES]
        whole = re.fullmatch(re.escape(sign) + rb"(\d{1,10}\r?)?", rest)
        return _EndError() if not rest or (whole and position + len(rest) == self._size) else _GarbageError()

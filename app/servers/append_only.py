"""The append-only file of an embedded server, as a power cut may leave it: its end is garbage.

Valkey keeps a base file, and a file of the commands since; the manifest names both.  A power cut may leave
zeros, half a command or garbage at the end of the last file of commands.  Valkey then does not start, and
the wheel brings no tool that knows its base file.  So we find the last whole command ourselves.
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

FOLDER = "appendonlydir"
_MANIFEST = "appendonly.aof.manifest"
_ENTRY = re.compile(r"^file (\S+) seq (\d+) type i\b", re.MULTILINE)
_COUNT = re.compile(rb"\*([1-9]\d{0,9})\r\n")
_LENGTH = re.compile(rb"\$(\d{1,10})\r\n")
_NAME = re.compile(rb"[A-Za-z][\w.|-]*")
_LONGEST_LENGTH = 14  # bytes of a line that _COUNT or _LENGTH matches
_LONGEST_NOTE = 127  # bytes of an annotation, its line end included, that Valkey reads in one go


@dataclass(frozen=True, slots=True)
class Damage:
    """Where a file of commands stops being one.

    ``good`` bytes of ``size`` are whole commands.  ``in_the_middle``: whole commands follow the damage, so it
    is not what a power cut leaves.
    """

    file: Path
    good: int
    size: int
    in_the_middle: bool

    def in_words(self) -> str:
        """What an operator does where it is in the middle: nothing is changed without being asked."""
        path, copy = (shlex.quote(str(each)) for each in (self.file, f"{self.file}.damaged"))
        return (
            f"{self.file} is damaged at byte {self.good} of {self.size}, and whole commands follow: restore "
            f"it from a backup, or keep what is before: cp -p {path} {copy} && truncate -s {self.good} {path}"
        )


def last_file(folder: Path) -> Path | None:
    """The file to which the server in ``folder`` appends; None where no manifest names one."""
    try:
        manifest = (folder / FOLDER / _MANIFEST).read_text(errors="replace")
    except OSError:
        return None
    entries = [(int(number), name) for name, number in _ENTRY.findall(manifest)]
    return folder / FOLDER / max(entries)[1] if entries else None


def ends_badly(file: Path) -> bool:
    """Whether the last bytes alone show that it is damaged.  Raises OSError."""
    with open(file, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 2))
        return size > 0 and stream.read() != b"\r\n"


def find_damage(file: Path) -> Damage | None:
    """The damage of a file of commands; None where it has none.  Reads all of it.  Raises OSError."""
    with open(file, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size == 0:
            return None
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            scan = _Scan(content)
            good = scan.run()
            return None if good == size else Damage(file, good, size, scan.resumes())


def cut(damage: Damage) -> Path:
    """Keep the damaged file aside and cut its end off; the path of what is kept.  Raises OSError.

    The copy is on the disk before anything is cut.
    """
    file, now = damage.file, datetime.now(UTC)
    kept = file.with_name(f"{file.name}.damaged-{now:%Y%m%dT%H%M%S.%fZ}")
    part = kept.with_name(f"{kept.name}.part")
    try:
        with open(file, "rb") as source, open(part, "xb", opener=_private) as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        part.rename(kept)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    _sync(kept.parent)
    with open(file, "r+b") as stream:
        stream.truncate(damage.good)
        os.fsync(stream.fileno())
    return kept


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class _EndError(Exception):
    """The file ends within a command."""


class _GarbageError(Exception):
    """Something that is no command."""


class _Scan:
    """Reads commands of ``content``, without copying them."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._size = len(content)
        self._stopped_at = 0
        self._cut_off = False

    def run(self) -> int:
        """Bytes of whole commands from the start; a transaction that was not ended does not count."""
        at = good = 0
        transaction = False
        try:
            while at < self._size:
                name, at = self._command(at)
                if name == b"MULTI":
                    transaction = True
                elif name == b"EXEC":
                    transaction = False
                if not transaction:
                    good = at
        except (_EndError, _GarbageError) as error:
            self._cut_off = isinstance(error, _EndError)
        self._stopped_at = at
        return good

    def resumes(self) -> bool:
        """Whether whole commands follow where `run` stopped.

        A payload may look like commands.  So of a command that the file's end cuts off, only commands up to
        that very end count: then a length is wrong, and nothing was cut off.
        """
        at, size = self._stopped_at, self._size
        tried: set[int] = set()
        while 0 <= (at := self._content.find(b"*", at + 1)) < size:
            if _COUNT.match(self._content, at) and self._leads_on(at, tried):
                return True
        return False

    def _leads_on(self, at: int, tried: set[int]) -> bool:
        try:
            while at < self._size and at not in tried:
                tried.add(at)
                name, at = self._command(at)
                if name and not self._cut_off:
                    return True
        except (_EndError, _GarbageError):
            return False
        return at == self._size

    def _command(self, at: int) -> tuple[bytes, int]:
        """The name of the command at ``at``, in capitals (of an annotation: empty), and where it ends."""
        if self._content[at] == ord("#"):
            return b"", self._annotation(at)
        found = _COUNT.match(self._content, at)
        if found is None:
            raise self._why_none(at, b"*")
        at = found.end()
        name = b""
        for number in range(int(found[1])):
            length = _LENGTH.match(self._content, at)
            if length is None:
                raise self._why_none(at, b"$")
            start, at = length.end(), length.end() + int(length[1])
            if at + 2 > self._size:
                raise _EndError
            if self._content[at : at + 2] != b"\r\n":
                raise _GarbageError
            if number == 0:
                name = self._content[start : min(at, start + 64)].upper()
                if not _NAME.fullmatch(name):
                    raise _GarbageError
            at += 2
        return name, at

    def _annotation(self, at: int) -> int:
        end = self._content.find(b"\n", at, at + _LONGEST_NOTE)
        if end < 0:
            raise _EndError if self._size - at < _LONGEST_NOTE else _GarbageError
        return end + 1

    def _why_none(self, at: int, sign: bytes) -> Exception:
        """A line that is no count and no length may be the beginning of one, at the end of the file."""
        rest = self._content[at : at + _LONGEST_LENGTH]
        whole = re.fullmatch(re.escape(sign) + rb"(\d{1,10}\r?)?", rest)
        return _EndError() if not rest or (whole and at + len(rest) == self._size) else _GarbageError()

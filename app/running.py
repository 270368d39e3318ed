"""The processes that run in a data directory, and where each of them serves HTTP.

Each process has a file there, which it keeps locked.  The kernel ends the lock with the process, however that
ends, and no process inherits it.  Imports next to nothing: a container's health check runs every few seconds.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.address import Address

_FOLDER = "processes"
_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """A process of ours; ``address`` is None if it serves no HTTP."""

    pid: int
    address: Address | None


@contextmanager
def announce(data_dir: Path, address: Address | None) -> Iterator[None]:
    """Keep a file of this process in the data directory while the block runs.  Raises OSError."""
    folder = data_dir / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    _remove_stale_files(folder)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".")
    path = Path(temporary)
    try:
        with open(handle, "w", encoding="ascii") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            json.dump([os.getpid(), None if address is None else str(address)], file)
            file.flush()
            path = path.rename(folder / f"{path.name.lstrip('.')}{_SUFFIX}")
            yield
    finally:
        path.unlink(missing_ok=True)


def running_processes(data_dir: Path) -> list[RunningProcess]:
    """Return the processes that run in the data directory.  Blocking.  Raises OSError."""
    processes = []
    for path in _files(data_dir / _FOLDER):
        with suppress(FileNotFoundError, ValueError), open(path, encoding="ascii") as file:
            if _is_locked(file.fileno()):
                pid, http = json.load(file)
                processes.append(RunningProcess(pid, None if http is None else Address.parse(http)))
    return sorted(processes, key=lambda process: process.pid)


def _remove_stale_files(folder: Path) -> None:
    """Remove the files of processes that have ended without doing so."""
    for path in _files(folder):
        with suppress(OSError), open(path, encoding="ascii") as file:
            if not _is_locked(file.fileno()):
                path.unlink()


def _files(folder: Path) -> list[Path]:
    return list(folder.glob(f"*{_SUFFIX}"))


def _is_locked(descriptor: int) -> bool:
    """Return whether the process that wrote the file still runs."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    return False

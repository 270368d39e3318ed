"""Makes the data directory and the private folders of the embedded server."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from app.errors import UsageError, refused_by_system


def prepare_data_dir(directory: Path) -> Path:
    """Make the data directory if it is missing and return its full path.  Raises UsageError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory.resolve()
    except OSError as error:
        raise not_writable(directory, error) from None


def make_private_dir(directory: Path) -> None:
    """Make a folder that only its owner can enter.  Raises UsageError if that is not possible."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise UsageError(
                f"{directory} belongs to another user", fix="name another data directory with --data-dir"
            )
        if stat.S_IMODE(status.st_mode) != 0o700:
            directory.chmod(0o700)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise not_writable(directory, error) from None


def not_writable(directory: Path, error: OSError) -> UsageError:
    """Return the error about a folder in which no file can be made."""
    fix = "name another data directory with --data-dir or COUTURECAST_DATA_DIR"
    return refused_by_system(f"{directory} cannot be written", error, fix=fix)

"""The token that closed routes need: a file in the data directory, unless the settings have one."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from pathlib import Path

from app.errors import UsageError, refused_by_system

FILE = "admin-token"
MIN_LENGTH = 16
"""Characters."""
_NEW_TOKEN_BYTES = 32
_VALID = re.compile(rf"[!-~]{{{MIN_LENGTH},}}", re.ASCII)


def is_valid(token: str) -> bool:
    """Return whether ``token`` is long enough, and fits into a header."""
    return _VALID.fullmatch(token) is not None


def load_or_create(data_dir: Path) -> str:
    """Return the token of a data directory, after creating one if needed.  Blocking.  Raises UsageError.

    The file is read and written under a lock, so that processes which start at the same moment get one token.
    """
    path = data_dir / FILE
    try:
        with open(path, "r+", encoding="ascii", errors="replace", opener=_open_private) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.fchmod(file.fileno(), 0o600)
            token = file.read().strip()
            if not token:
                token = secrets.token_urlsafe(_NEW_TOKEN_BYTES)
                file.write(f"{token}\n")
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise _unusable_error(path, error) from None
    _check(path, token)
    return token


def find(data_dir: Path) -> Path | None:
    """Return the file that `load_or_create` would read, if it holds a token.  Blocking.  Raises UsageError.

    It changes nothing.
    """
    path = data_dir / FILE
    try:
        with open(path, "r+", encoding="ascii", errors="replace", opener=_open_existing) as file:
            if os.geteuid() not in (0, os.fstat(file.fileno()).st_uid):
                raise PermissionError(errno.EPERM, "it belongs to another user")
            token = file.read().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unusable_error(path, error) from None
    if not token:
        return None
    _check(path, token)
    return path


def _check(path: Path, token: str) -> None:
    if not is_valid(token):
        raise UsageError(
            f"{path} holds no token of {MIN_LENGTH} characters or more",
            fix="remove it, and one is made",
        )


def _unusable_error(path: Path, error: OSError) -> UsageError:
    fix = "correct it, or set COUTURECAST_ADMIN_TOKEN"
    return refused_by_system(f"{path} cannot be used", error, fix=fix)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _open_existing(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)

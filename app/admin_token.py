"""The token that the admin routes ask for."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from pathlib import Path

from app.errors import UsageError, exhausted

FILE = "admin-token"
LEAST = 16  # characters
_BYTES = 32
_USABLE = re.compile(rf"[!-~]{{{LEAST},}}", re.ASCII)


def usable(token: str) -> bool:
    """Whether ``token`` is long enough, and fits into a header."""
    return _USABLE.fullmatch(token) is not None


def kept_token(data_dir: Path) -> str:
    """The token of a data directory; one is made where there is none.  Blocking.  Raises UsageError.

    It is read and written under a lock, so that processes which start at the same moment agree on one.
    """
    path = data_dir / FILE
    try:
        with open(path, "r+", encoding="ascii", errors="replace", opener=_private) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.fchmod(file.fileno(), 0o600)
            found = file.read().strip()
            if not found:
                found = secrets.token_urlsafe(_BYTES)
                file.write(f"{found}\n")
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise _useless(path, error) from None
    _check(path, found)
    return found


def kept_already(data_dir: Path) -> Path | None:
    """The file that `kept_token` reads, if it holds one.  Changes nothing.  Blocking.  Raises UsageError."""
    path = data_dir / FILE
    try:
        with open(path, "r+", encoding="ascii", errors="replace", opener=_existing) as file:
            if os.geteuid() not in (0, os.fstat(file.fileno()).st_uid):
                raise PermissionError(errno.EPERM, "it belongs to another user")
            found = file.read().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _useless(path, error) from None
    if not found:
        return None
    _check(path, found)
    return path


def _check(path: Path, found: str) -> None:
    if not usable(found):
        raise UsageError(
            f"{path} holds no token of {LEAST} characters or more", fix="remove it, and one is made"
        )


def _useless(path: Path, error: OSError) -> UsageError:
    if (problem := exhausted(error)) is not None:
        return UsageError(f"{path} cannot be used: {problem.problem}", fix=problem.fix)
    return UsageError(
        f"{path} cannot be used ({error.strerror})", fix="correct it, or set COUTURECAST_ADMIN_TOKEN"
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _existing(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)

"""The token that the admin routes ask for."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from pathlib import Path

from app.errors import UsageError

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
        raise UsageError(
            f"{path} cannot be used ({error.strerror}): mend it, or set COUTURECAST_ADMIN_TOKEN"
        ) from None
    if not usable(found):
        raise UsageError(f"{path} holds no token of {LEAST} characters or more: remove it, and one is made")
    return found


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)

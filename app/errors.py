"""Errors that end a command with one line."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Sequence

from storage.errors import ApplianceError, Kind


class AppError(ApplianceError):
    """Root of the errors of `app`: shown as ``error: …``; the command ends with ``exit_code``."""

    exit_code = 1


class UsageError(AppError):
    """The command line, the settings or the environment are wrong; the message names the fix."""

    kind = Kind.USAGE
    exit_code = 2


class SettingsError(UsageError):
    """Settings are wrong: one error for each, and a line for each in the message."""

    def __init__(self, errors: Sequence[UsageError]) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = tuple(errors)


class InvalidValueError(UsageError, ValueError):
    """A validator rejects a value; `field` is filled in by the caller, who has the name of the setting."""


class UnavailableError(AppError):
    """A server did not answer before the timeout of the start."""


class InterruptedStartError(AppError):
    """A signal interrupted the start of the program."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("interrupted while it started")
        self.exit_code = exit_code


class OutputError(AppError):
    """Standard output cannot be written."""


def exhausted(error: OSError) -> AppError | None:
    """Return which resource has run out and how to get more; None if ``error`` has another cause."""
    match error.errno:
        case errno.EMFILE:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return AppError(f"too many open files (limit {limit})", fix="raise it with `ulimit -n`")
        case errno.ENFILE:
            fix = "end programs, or raise fs.file-max"
            return AppError("too many open files on this machine", fix=fix)
        case errno.ENOMEM:
            return AppError("out of memory", fix="end programs, or add memory")
        case errno.ENOSPC | errno.EDQUOT:
            return AppError(os.strerror(error.errno), fix="free some space")
    return None

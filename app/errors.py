"""Errors that end a command with one line."""

from __future__ import annotations

import errno
import resource

from storage.errors import ApplianceError, Kind


class AppError(ApplianceError):
    """Root: the message is shown as ``error: …``, and the command ends with ``exit_code``."""

    exit_code = 1


class UsageError(AppError):
    """The command line, the settings or the surroundings are wrong; the message says what to change."""

    kind = Kind.USAGE
    exit_code = 2


class UnavailableError(AppError):
    """A server did not answer for as long as we were told to wait."""


class InterruptedStartError(AppError):
    """A signal came while the program started."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("interrupted while it started")
        self.exit_code = exit_code


class OutputError(AppError):
    """Standard output cannot be written."""


def exhausted(error: OSError) -> str | None:
    """What has run out, and how to get more; None where ``error`` is about its file, or another thing."""
    match error.errno:
        case errno.EMFILE:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"too many open files (limit {limit}): raise it with `ulimit -n`"
        case errno.ENFILE:
            return "too many open files on this machine: end programs, or raise fs.file-max"
        case errno.ENOMEM:
            return "out of memory: end programs, or add memory"
        case errno.ENOSPC | errno.EDQUOT:
            return f"{error.strerror}: free some space"
    return None

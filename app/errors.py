"""Errors that end a command with one line."""

from __future__ import annotations

import errno
import resource
from typing import Final

from storage.errors import ApplianceError, Kind

EXIT_CODES: Final = {Kind.USAGE: 2}
"""Exit codes of commands by the kind of their error; 1 for every other."""
INTERRUPTED: Final = 130
"""Exit code of a command that ctrl-C ended."""


class AppError(ApplianceError):
    """Root: the message is shown as ``error: …``, a line for each of its lines."""


class UsageError(AppError):
    """The command line, the settings or the surroundings are wrong; the message says what to change."""

    kind = Kind.USAGE


class UnavailableError(AppError):
    """A server did not answer for as long as we were told to wait."""


class CommandInterruptedError(AppError):
    """A signal, or the operator, ended the command; ``exit_code`` is that of the process."""

    def __init__(self, problem: str, *, exit_code: int = INTERRUPTED, fix: str = "") -> None:
        super().__init__(problem, fix=fix)
        self.exit_code = exit_code


class InterruptedStartError(CommandInterruptedError):
    """A signal came while the program started."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("interrupted while it started", exit_code=exit_code)


class OutputError(AppError):
    """Standard output cannot be written."""


def exit_code_of(error: ApplianceError) -> int:
    """The exit code of a command that ends with ``error``."""
    if isinstance(error, CommandInterruptedError):
        return error.exit_code
    return EXIT_CODES.get(error.kind, 1)


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

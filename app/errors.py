"""Errors that end a command with one line."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Sequence
from typing import Final

from storage.errors import ApplianceError, Kind

EXIT_CODES: Final = {Kind.USAGE: 2}
"""Exit codes of commands by the kind of their error; 1 for every other."""
INTERRUPTED: Final = 130
"""Exit code of a command that ctrl-C ended."""


class AppError(ApplianceError):
    """Root of the errors of `app`: shown as ``error: …``, a line for each of its lines."""


class UsageError(AppError):
    """The command line, the settings or the environment are wrong; the message names the fix."""

    kind = Kind.USAGE


class SettingsError(UsageError):
    """Settings are wrong: one error for each, and a line for each in the message."""

    def __init__(self, errors: Sequence[UsageError]) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = tuple(errors)


class InvalidValueError(UsageError, ValueError):
    """A validator rejects a value; `field` is filled in by the caller, who has the name of the setting."""


class UnavailableError(AppError):
    """A server did not answer before the timeout of the start."""


class CommandInterruptedError(AppError):
    """A signal, or the operator, ended the command; ``exit_code`` is that of the process."""

    def __init__(self, problem: str, *, exit_code: int = INTERRUPTED, fix: str = "") -> None:
        super().__init__(problem, fix=fix)
        self.exit_code = exit_code


class InterruptedStartError(CommandInterruptedError):
    """A signal interrupted the start of the program."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("interrupted while it started", exit_code=exit_code)


class OutputError(AppError):
    """Standard output cannot be written."""


def exit_code_of(error: ApplianceError) -> int:
    """Return the exit code of a command that ends with ``error``."""
    if isinstance(error, CommandInterruptedError):
        return error.exit_code
    return EXIT_CODES.get(error.kind, 1)


def refused_by_system(problem: str, error: OSError, *, fix: str) -> UsageError:
    """Return the error about a file that cannot be used; with the fix of `explain_shortage` if it has one."""
    shortage = explain_shortage(error)
    if shortage is not None:
        return UsageError(f"{problem}: {shortage.problem}", fix=shortage.fix)
    return UsageError(f"{problem} ({error.strerror})", fix=fix)


def explain_shortage(error: OSError) -> AppError | None:
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

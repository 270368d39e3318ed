"""Errors that end a command with one line."""

from __future__ import annotations


class AppError(Exception):
    """Root: the message is shown as ``error: …``, and the command ends with ``exit_code``."""

    exit_code = 1


class UsageError(AppError):
    """The command line, the settings or the surroundings are wrong; the message says what to change."""

    exit_code = 2


class UnavailableError(AppError):
    """A server did not answer for as long as we were told to wait."""


class InterruptedStartError(AppError):
    """A signal came while the program started."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("interrupted while it started")
        self.exit_code = exit_code

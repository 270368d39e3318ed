"""The root of all errors of the program, and the errors of the storage package."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Final

UNREACHABLE_FIX: Final = "see whether it runs and answers, or correct the URL"
"""How to fix that a server of a URL does not answer."""


class Kind(Enum):
    """Kind of an error, which decides the exit code and the HTTP status."""

    USAGE = "usage"
    NOT_FOUND = "not found"
    CONFLICT = "conflict"
    READ_ONLY = "read only"
    UNAVAILABLE = "unavailable"
    FULL = "full"
    DEFECT = "defect"


def one_line(error: object) -> str:
    """Return the text of an error in one line; of one without a text, the name of its class."""
    return " ".join(str(error).split()) or type(error).__name__


class ApplianceError(Exception):
    """Root of everything the program raises on purpose.

    ``field`` names the option, setting or parameter that is wrong, ``problem`` is what happened, ``fix``
    what to do about it.  The text of the error is all three, separated by colons.
    """

    kind: ClassVar[Kind] = Kind.DEFECT

    def __init__(self, problem: str, *, field: str = "", fix: str = "") -> None:
        super().__init__(": ".join(filter(None, (field, problem, fix))))
        self.field, self.problem, self.fix = field, problem, fix


class StorageError(ApplianceError):
    """Root of everything this package raises on purpose."""

    kind = Kind.UNAVAILABLE


class DatabaseUnavailableError(StorageError):
    """The database does not answer; its URL in the message is without the password.

    ``cause`` is the last part of a problem that names the URL first: what the driver reports.
    """

    def __init__(self, problem: str, *, field: str = "", fix: str = "", cause: str = "") -> None:
        super().__init__(problem, field=field, fix=fix)
        self.cause = cause


class PermanentDatabaseError(DatabaseUnavailableError):
    """The database refuses until an operator changes something: waiting does not help."""


class InvalidDatabaseUrlError(PermanentDatabaseError):
    """The server refuses parameters of the URL: waiting does not help."""


class DirectConnectionError(DatabaseUnavailableError):
    """The database does not answer at ``direct_url``, the URL without its pooler."""


class DirectUrlError(StorageError, ValueError):
    """The URL without the pooler cannot be used."""


class InvalidCursorError(StorageError):
    """A page cursor was not made by this program, or is that of another list."""

    kind = Kind.USAGE


class MigrationError(StorageError):
    """The tables cannot be brought up to date: our user lacks a right, or a newer version made them."""


class InvalidFilterError(StorageError):
    """A condition of a filter is invalid; ``field`` names it."""

    kind = Kind.USAGE


class CacheUnavailableError(StorageError):
    """The cache's Redis does not answer, or refuses."""


class CacheLoadError(StorageError):
    """A value could not be loaded in time, and there is no stale one."""

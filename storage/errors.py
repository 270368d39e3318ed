"""What all errors of the program have in common, and the errors of the storage package."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Kind(Enum):
    """What an error means to whoever called: exit codes and HTTP statuses are made of it."""

    USAGE = "usage"
    NOT_FOUND = "not found"
    CONFLICT = "conflict"
    READ_ONLY = "read only"
    UNAVAILABLE = "unavailable"
    FULL = "full"
    DEFECT = "defect"


class ApplianceError(Exception):
    """Root of everything the program raises on purpose.

    ``field`` names the option, setting or parameter that is wrong, ``problem`` says what happened, ``fix``
    what to do about it; the text of the error is the three of them, separated by colons.
    """

    kind: ClassVar[Kind] = Kind.DEFECT

    def __init__(self, problem: str, *, field: str = "", fix: str = "") -> None:
        super().__init__(": ".join(filter(None, (field, problem, fix))))
        self.field, self.problem, self.fix = field, problem, fix


def one_line(error: BaseException) -> str:
    """Text of any error in one line; the name of its class if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__


class StorageError(ApplianceError):
    """Root of everything this package raises on purpose."""

    kind = Kind.UNAVAILABLE


class DatabaseUnavailableError(StorageError):
    """The database does not answer; the message names it without its password."""


class PermanentDatabaseError(DatabaseUnavailableError):
    """The database refuses, and will until somebody changes something: there is nothing to wait for."""


class InvalidDatabaseUrlError(PermanentDatabaseError):
    """Parameters of the URL are refused, and will be: there is nothing to wait for."""


class DirectConnectionError(DatabaseUnavailableError):
    """The database does not answer past its pooler, where ``direct_url`` leads."""


class DirectUrlError(StorageError, ValueError):
    """The URL past the pooler cannot be used; the message says how to mend it."""


class InvalidCursorError(StorageError):
    """A page cursor was not made by this program, or belongs to another list."""

    kind = Kind.USAGE


class MigrationError(StorageError):
    """The tables cannot be brought up to date: no right to, or a newer version made them."""


class InvalidFilterError(StorageError):
    """A condition on dead letters that cannot be meant; the message names it and says how to mend it."""

    kind = Kind.USAGE


class CacheUnavailableError(StorageError):
    """The cache's Redis does not answer, or refuses; whoever reads has the loader."""


class CacheLoadError(StorageError):
    """What was to be cached could not be loaded in time, and there is nothing older."""

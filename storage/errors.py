"""Errors of the storage package."""

from __future__ import annotations


class StorageError(Exception):
    """Root of everything this package raises on purpose."""


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


class MigrationError(StorageError):
    """The tables cannot be brought up to date: no right to, or a newer version made them."""


class InvalidFilterError(StorageError):
    """A condition on dead letters that cannot be meant; the message names it and says how to mend it."""


class CacheUnavailableError(StorageError):
    """The cache's Redis does not answer, or refuses; whoever reads has the loader."""


class CacheLoadError(StorageError):
    """What was to be cached could not be loaded in time, and there is nothing older."""

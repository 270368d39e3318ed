"""What drivers raise, as errors of this package: what passes, what is refused, and what will not pass."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from storage.errors import DatabaseUnavailableError, PermanentDatabaseError

STATEMENT_SECONDS = 30
"""What a statement may take."""
_AWAY = (OSError, TimeoutError, DBAPIError, PoolTimeoutError)
_REFUSALS = ("21", "22", "23", "42", "54")
"""SQLSTATE classes of a statement that would be refused again: its values, its constraints, its text."""
PREPARED_NAMES = ("26000", "42P05")
"""SQLSTATEs of a prepared statement that another client of a pooler made, or that its server never saw."""
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_NOT_OURS = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH)
_PRIMARY_CODE = 0xFF
"""The bits of SQLite's error code that say its kind."""


class TranslatedErrors:
    """Turns whatever a driver raises when the database is away into one line without the password."""

    def __init__(self, safe_url: str, kind: type[DatabaseUnavailableError]) -> None:
        self._safe_url = safe_url
        self._kind = kind

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DatabaseUnavailableError):
            if isinstance(error, self._kind):
                return
            raise self._kind(str(error)) from error
        if isinstance(error, _AWAY) and not is_refusal(error):
            cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            if isinstance(cause, TimeoutError) and not cause.args:
                late = f"{self._safe_url} did not answer within {STATEMENT_SECONDS:g} s"
                raise self._kind(late) from error
            line = " ".join(str(cause).split()) or type(cause).__name__
            self._raise_permanent(cause, line, error)
            if sqlstate(cause) in PREPARED_NAMES:
                line += ": behind a transaction pooler no statement can be prepared: use pgbouncer=true"
            raise self._kind(f"{self._safe_url} does not answer: {line}") from error

    def _raise_permanent(self, cause: object, line: str, error: BaseException) -> None:
        """Raises PermanentDatabaseError for a file that is damaged, or not for us."""
        code = getattr(cause, "sqlite_errorcode", 0) & _PRIMARY_CODE
        if code in _DAMAGED:
            raise PermanentDatabaseError(
                f"{self._safe_url} is damaged: {line}: restore a backup, or move it away with its -wal and "
                "-shm and start again without; sqlite3 FILE .recover may save what is in it"
            ) from error
        if code in _NOT_OURS:
            raise PermanentDatabaseError(
                f"{self._safe_url} cannot be used: {line}: change the owner and mode of it and its folder"
            ) from error


def is_refusal(error: BaseException) -> bool:
    """The database answered, and would answer the same statement in the same way again.

    Whatever else a driver raises (too many clients, starting up, read-only, disk full, a wrong password)
    passes, or is the operator's to mend: then nothing is wrong with what was to be written.
    """
    if not isinstance(error, DBAPIError) or error.connection_invalidated:
        return False
    cause = error.orig
    if isinstance(cause, sqlite3.OperationalError):  # the class of a locked file too
        said = str(cause)
        return said.startswith(("no such", "near ", "malformed JSON")) or said.endswith("already exists")
    if isinstance(cause, sqlite3.Error):  # of that very class is a file that is no database, or damaged
        return type(cause) is not sqlite3.DatabaseError
    if isinstance(getattr(cause, "__cause__", None), ValueError):
        return True  # asyncpg refuses some values itself, without a SQLSTATE
    return sqlstate(cause).startswith(_REFUSALS) and sqlstate(cause) not in PREPARED_NAMES


def sqlstate(cause: object) -> str:
    return str(getattr(cause, "sqlstate", None) or "")


def is_locked(error: DatabaseUnavailableError) -> bool:
    """Another process has written on SQLite for longer than is waited for."""
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and str(cause.orig).startswith("database is locked")

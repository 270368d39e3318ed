"""Translates errors of the drivers: the database is unavailable, or refuses for good.

Refusals of a statement (see `is_refusal`) are not translated.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from storage.errors import DatabaseUnavailableError, PermanentDatabaseError, one_line

STATEMENT_SECONDS = 30
"""Timeout of a statement."""
_UNAVAILABLE = (OSError, TimeoutError, DBAPIError, PoolTimeoutError)
_STATEMENT_ERROR_CLASSES = ("21", "22", "23", "42", "54")
"""SQLSTATE classes of a statement that would be refused again: its values, its constraints, its text."""
PREPARED_STATEMENT_STATES = ("26000", "42P05")
"""SQLSTATEs of a prepared statement that another client of a pooler made, or that its server lacks."""
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_NOT_PERMITTED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH)
_PRIMARY_CODE = 0xFF
"""The bits of SQLite's error code that give its kind."""


@contextmanager
def translate_errors(safe_url: str, kind: type[DatabaseUnavailableError]) -> Iterator[None]:
    """Raises ``kind``, or PermanentDatabaseError, for what a driver raises if the database is unavailable.

    ``safe_url`` is the URL without its password.
    """
    try:
        yield
    except DatabaseUnavailableError as error:
        if isinstance(error, kind):
            raise
        raise kind(error.problem, field=error.field, fix=error.fix, cause=error.cause) from error
    except _UNAVAILABLE as error:
        if is_refusal(error):
            raise
        raise _translate(safe_url, kind, error) from error


def _translate(
    safe_url: str, kind: type[DatabaseUnavailableError], error: BaseException
) -> DatabaseUnavailableError:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(cause, TimeoutError) and not cause.args:
        return kind(f"{safe_url} did not answer within {STATEMENT_SECONDS:g} s")
    line = one_line(cause)
    code = getattr(cause, "sqlite_errorcode", 0) & _PRIMARY_CODE
    if code in _DAMAGED:
        return PermanentDatabaseError(
            f"{safe_url} is damaged: {line}",
            fix="restore a backup, or move it away with its -wal and -shm and start again without; "
            "sqlite3 FILE .recover may save what is in it",
        )
    if code in _NOT_PERMITTED:
        return PermanentDatabaseError(
            f"{safe_url} cannot be used: {line}", fix="change the owner and mode of it and its folder"
        )
    fix = ""
    if sqlstate(cause) in PREPARED_STATEMENT_STATES:
        fix = "behind a transaction pooler no statement can be prepared: use pgbouncer=true"
    return kind(f"{safe_url} does not answer: {line}", fix=fix, cause=line)


def is_refusal(error: BaseException) -> bool:
    """Return whether the database answered, and would answer the same statement in the same way again.

    Other errors of a driver (too many clients, starting up, read-only, disk full, a wrong password) pass by
    themselves or are the operator's to fix.  They are not about the statement.
    """
    if not isinstance(error, DBAPIError) or error.connection_invalidated:
        return False
    cause = error.orig
    if isinstance(cause, sqlite3.OperationalError):  # the class of a locked file too
        message = str(cause)
        return message.startswith(("no such", "near ", "malformed JSON")) or message.endswith(
            "already exists"
        )
    if isinstance(cause, sqlite3.Error):  # a file that is damaged or not a database has that class itself
        return type(cause) is not sqlite3.DatabaseError
    if isinstance(getattr(cause, "__cause__", None), ValueError):
        return True  # asyncpg refuses some values itself, without a SQLSTATE
    state = sqlstate(cause)
    return state.startswith(_STATEMENT_ERROR_CLASSES) and state not in PREPARED_STATEMENT_STATES


def sqlstate(cause: object) -> str:
    """Return the SQLSTATE of a driver's error; empty if it has none."""
    return str(getattr(cause, "sqlstate", None) or "")


def is_locked(error: DatabaseUnavailableError) -> bool:
    """Return whether another process wrote on SQLite for longer than the timeout."""
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and is_busy(cause)


def is_busy(error: DBAPIError) -> bool:
    """Return whether another connection to SQLite has the lock."""
    return getattr(error.orig, "sqlite_errorcode", 0) & _PRIMARY_CODE == sqlite3.SQLITE_BUSY

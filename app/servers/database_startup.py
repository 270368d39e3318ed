"""Opens the database of a command: waits for it, tries it briefly, or keeps trying in the background."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import structlog

from app.errors import UnavailableError, UsageError
from app.settings import DATABASE_FILE, Settings
from storage.asyncio_tools import cancel_and_wait
from storage.database.engine import Database
from storage.errors import (
    UNREACHABLE_FIX,
    DatabaseUnavailableError,
    DirectConnectionError,
    DirectUrlError,
    MigrationError,
    PermanentDatabaseError,
    StorageError,
    one_line,
)

log = structlog.get_logger(__name__)

DatabaseUse = Literal["required", "optional", "later"]
"""``required``: the command needs it.  ``optional``: it is tried briefly, then the command does without.
``later``: as optional, but tries go on in the background, and it is used once it answers.
"""

_TRY_SECONDS = 1.0
"""Timeout of a database that is not required."""
_BUSY_SECONDS = 0.5
"""Timeout for another writer on SQLite if the database is optional."""
_RETRY_SECONDS = 1.0
_TABLES_SECONDS = 10.0
"""Timeout for another process that makes the tables."""


async def open_database(
    settings: Settings, data_dir: Path, stack: AsyncExitStack, use: DatabaseUse
) -> Database:
    """Open the database of the settings and update its tables.  Raises UsageError, UnavailableError.

    A database that is not required may be unavailable: then its methods raise DatabaseUnavailableError.
    """
    database = _make(settings, data_dir, use)
    stack.push_async_callback(database.close)
    if use == "required":
        await _wait_for(database, settings.start_timeout)
    else:
        await _try(database, stack, keep_trying=use == "later")
    return database


def existing_database(settings: Settings) -> Database | None:
    """Return the database as it is, not started: its tables stay as they are.

    None if it is a file not made yet.

    Raises UsageError.
    """
    if settings.database_url is None and not (settings.data_dir / DATABASE_FILE).is_file():
        return None
    return _make(settings, settings.data_dir, "optional")


def _make(settings: Settings, data_dir: Path, use: DatabaseUse) -> Database:
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
    else:
        url = f"sqlite:///{quote(str(data_dir))}/{DATABASE_FILE}"
    direct = settings.direct_url.get_secret_value() if settings.direct_url is not None else None
    busy = {"busy_seconds": _BUSY_SECONDS} if use == "optional" else {}
    try:
        return Database(url, pool_size=settings.db_pool_size, direct_url=direct, **busy)
    except DirectUrlError as error:
        raise UsageError(error.problem, field="DIRECT_URL", fix=error.fix) from None
    except ValueError as error:
        raise UsageError(one_line(error), field="DATABASE_URL") from None


async def _wait_for(database: Database, timeout: float) -> None:
    has_waited = False

    def wait(cause: str) -> None:
        nonlocal has_waited
        has_waited = True
        log.warning("waiting for the database", cause=cause)

    try:
        await database.start(timeout=timeout, on_waiting=wait)
    except (DatabaseUnavailableError, MigrationError) as error:
        given_up = has_waited and not isinstance(error, DirectConnectionError | MigrationError)
        prefix = f"given up after {timeout:g} s: " if given_up else ""
        problem, field = f"{prefix}{error.problem}", _field(error)
        lasts = database.dialect == "sqlite" or isinstance(error, PermanentDatabaseError | MigrationError)
        fix = error.fix or ("" if lasts else UNREACHABLE_FIX)
        raise UnavailableError(problem, field=field, fix=fix) from None


def _field(error: StorageError) -> str:
    """Return the variable of the URL that fails."""
    return "DIRECT_URL" if isinstance(error, DirectConnectionError) else "DATABASE_URL"


async def _try(database: Database, stack: AsyncExitStack, *, keep_trying: bool) -> None:
    """Go on without the database if it is not ready in time; with ``keep_trying`` only until it answers.

    Waits for tables that this program makes.
    """
    trial = _Trial(database, keep_trying=keep_trying)
    stack.push_async_callback(trial.end)
    error = await trial.error()
    if error is None:
        return
    database.mark_unavailable(error)
    log.warning("the database is unavailable: going on without it", cause=str(error))
    if keep_trying:
        trial.starting.add_done_callback(_report_start)


class _Trial:
    """A start of the database in the background."""

    def __init__(self, database: Database, *, keep_trying: bool) -> None:
        self._database = database
        self._keep_trying = keep_trying
        self._waits: asyncio.Future[DatabaseUnavailableError] = asyncio.get_running_loop().create_future()
        self._answers = asyncio.Event()
        self._ending = asyncio.Event()
        self.starting = asyncio.create_task(self._start())

    async def error(self) -> DatabaseUnavailableError | None:
        """Return why the database cannot be used yet; None if it is ready."""
        first: set[asyncio.Future[Any]] = {self.starting, self._waits}
        # A single attempt on SQLite ends by itself.
        ends_by_itself = self._database.dialect == "sqlite" and not self._keep_trying
        timeout = None if ends_by_itself else _TRY_SECONDS
        await asyncio.wait(first, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._answers.is_set():
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({self.starting}, timeout=_TABLES_SECONDS)
        if self.starting.done():
            return None if self.starting.exception() is None else _error(self.starting)
        if self._waits.done():
            return self._waits.result()
        cause = f"nothing within {_TRY_SECONDS:g} s"
        return DatabaseUnavailableError(f"{self._database.safe_url} does not answer: {cause}", cause=cause)

    async def end(self) -> None:
        """Stop trying.  A connection to SQLite that is cancelled while it opens would never end."""
        self._ending.set()
        if self._database.dialect != "sqlite":
            await cancel_and_wait([self.starting])
        await asyncio.wait({self.starting})
        if not self.starting.cancelled():
            self.starting.exception()  # consume it

    async def _start(self) -> None:
        while True:
            try:
                return await self._database.start(
                    timeout=0.0, on_waiting=self._wait_for_tables, on_available=self._answers.set
                )
            except PermanentDatabaseError:
                raise
            except DatabaseUnavailableError as error:
                if not self._keep_trying or self._ending.is_set():
                    raise
                self._wait(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECONDS):
                    await self._ending.wait()

    def _wait_for_tables(self, problem: str) -> None:
        self._wait(DatabaseUnavailableError(problem))

    def _wait(self, error: DatabaseUnavailableError) -> None:
        if not self._waits.done():
            self._waits.set_result(error)


def _error(starting: asyncio.Task[None]) -> DatabaseUnavailableError:
    error = starting.exception()
    if isinstance(error, DirectConnectionError):
        return DatabaseUnavailableError(error.problem, field=_field(error), fix=error.fix)
    if isinstance(error, DatabaseUnavailableError):
        return error
    if isinstance(error, StorageError):
        return DatabaseUnavailableError(error.problem, field=error.field, fix=error.fix)
    assert error is not None  # noqa: S101 - the caller has seen that there is one
    raise error


def _report_start(starting: asyncio.Task[None]) -> None:
    if starting.cancelled():
        return
    error = starting.exception()
    if error is None:
        log.info("the database answers")
    else:
        log.warning("the database is given up: fix the cause, then start again", cause=str(error))

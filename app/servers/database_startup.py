"""Opens the database for as long as a command runs: waited for, tried shortly, or tried on behind."""

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
    DatabaseUnavailableError,
    DirectConnectionError,
    DirectUrlError,
    MigrationError,
    PermanentDatabaseError,
    StorageError,
)

log = structlog.get_logger(__name__)

DatabaseUse = Literal["required", "optional", "later"]
"""``required``: nothing goes on without it.  ``optional``: it is tried shortly, and then done without.
``later``: as optional, but it is tried on behind, and used once it answers.
"""

_TRY_SECONDS = 1.0
"""Within these a database must answer that is not required."""
_BUSY_SECONDS = 0.5
"""How long a command that can do without it waits for another writer on SQLite."""
_RETRY_SECONDS = 1.0
_TABLES_SECONDS = 10.0
"""How long it is waited for another process that makes the tables."""


async def open_database(
    settings: Settings, data_dir: Path, stack: AsyncExitStack, use: DatabaseUse
) -> Database:
    """The database that the settings name, its tables up to date.  Raises UsageError, UnavailableError.

    One that is not required may be given up: then whatever is asked of it raises DatabaseUnavailableError.
    """
    database = _made(settings, data_dir, use)
    stack.push_async_callback(database.close)
    if use == "required":
        await _wait_for(database, settings.start_patience)
    else:
        await _try(database, stack, keep_trying=use == "later")
    return database


def existing_database(settings: Settings) -> Database | None:
    """The database as it is, not started: its tables stay as they are.  None if it is a file not made yet.

    Raises UsageError.
    """
    if settings.database_url is None and not (settings.data_dir / DATABASE_FILE).is_file():
        return None
    return _made(settings, settings.data_dir, "optional")


def _made(settings: Settings, data_dir: Path, use: DatabaseUse) -> Database:
    given = settings.database_url
    url = (
        given.get_secret_value() if given is not None else f"sqlite:///{quote(str(data_dir))}/{DATABASE_FILE}"
    )
    direct = settings.direct_url.get_secret_value() if settings.direct_url is not None else None
    busy = {"busy_seconds": _BUSY_SECONDS} if use == "optional" else {}
    try:
        return Database(url, pool_size=settings.db_pool_size, direct_url=direct, **busy)
    except DirectUrlError as error:
        raise UsageError(f"DIRECT_URL: {error}") from None
    except ValueError as error:
        raise UsageError(f"DATABASE_URL: {error}") from None


async def _wait_for(database: Database, timeout: float) -> None:
    waited = ""

    def wait(cause: str) -> None:
        nonlocal waited
        waited = f"given up after {timeout:g} s: "
        log.warning("waiting for the database", cause=cause)

    try:
        await database.start(patience=timeout, on_wait=wait)
    except (DatabaseUnavailableError, MigrationError) as error:
        raise UnavailableError(_in_words(error, waited)) from None


def _in_words(error: StorageError, waited: str = "") -> str:
    """What is wrong, after the variable that it is to be mended in."""
    if isinstance(error, DirectConnectionError):
        return f"DIRECT_URL: {error}"
    return f"DATABASE_URL: {waited if isinstance(error, DatabaseUnavailableError) else ''}{error}"


async def _try(database: Database, stack: AsyncExitStack, *, keep_trying: bool) -> None:
    """Give it up where it does not answer in time, or has to be waited for; with ``keep_trying`` only until
    it does.  Tables that are made by us are waited for.
    """
    trial = _Trial(database, keep_trying=keep_trying)
    stack.push_async_callback(trial.end)
    cause = await trial.problem()
    if cause is None:
        return
    database.give_up(cause)
    log.warning("the database is unavailable: going on without it", cause=cause)
    if keep_trying:
        trial.starting.add_done_callback(_report_start)


class _Trial:
    """A start of the database that nobody needs to wait for."""

    def __init__(self, database: Database, *, keep_trying: bool) -> None:
        self._database = database
        self._keep_trying = keep_trying
        self._waits: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers = asyncio.Event()
        self._ending = asyncio.Event()
        self.starting = asyncio.create_task(self._start())

    async def problem(self) -> str | None:
        """Why the database is not to be used yet; None where it is ready."""
        first: set[asyncio.Future[Any]] = {self.starting, self._waits}
        # One attempt on SQLite ends by itself, where nobody keeps trying.
        by_itself = self._database.dialect == "sqlite" and not self._keep_trying
        timeout = None if by_itself else _TRY_SECONDS
        await asyncio.wait(first, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._answers.is_set():
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({self.starting}, timeout=_TABLES_SECONDS)
        if self.starting.done():
            return None if self.starting.exception() is None else _cause(self.starting)
        if self._waits.done():
            return self._waits.result()
        return f"{self._database.safe_url} does not answer: nothing within {_TRY_SECONDS:g} s"

    async def end(self) -> None:
        """Try no longer.  A connection to SQLite that is cancelled while it is made would never end."""
        self._ending.set()
        if self._database.dialect != "sqlite":
            await cancel_and_wait([self.starting])
        await asyncio.wait({self.starting})
        if not self.starting.cancelled():
            self.starting.exception()  # nobody asks any more

    async def _start(self) -> None:
        while True:
            try:
                return await self._database.start(
                    patience=0.0, on_wait=self._wait, on_answer=self._answers.set
                )
            except PermanentDatabaseError:
                raise
            except DatabaseUnavailableError as error:
                if not self._keep_trying or self._ending.is_set():
                    raise
                self._wait(str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECONDS):
                    await self._ending.wait()

    def _wait(self, cause: str) -> None:
        if not self._waits.done():
            self._waits.set_result(cause)


def _cause(starting: asyncio.Task[None]) -> str:
    error = starting.exception()
    if isinstance(error, DirectConnectionError):
        return _in_words(error)
    if isinstance(error, StorageError):
        return str(error)
    assert error is not None  # noqa: S101 - the caller has seen that there is one
    raise error


def _report_start(starting: asyncio.Task[None]) -> None:
    if starting.cancelled():
        return
    error = starting.exception()
    if error is None:
        log.info("the database answers")
    else:
        log.warning("the database is given up: start again once that is mended", cause=str(error))

"""Connections to one database, Postgres or SQLite, and its migration at start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import NullPool

from storage.backoff import Backoff
from storage.database import errors as driver_errors
from storage.database.drivers import (
    create_postgres_engine,
    create_sqlite_engine,
    parse_database_url,
    parse_direct_target,
    parse_target,
)
from storage.database.errors import PREPARED_STATEMENT_STATES, is_locked, sqlstate, translate_errors
from storage.database.migrations import is_current, name_clash_hint, upgrade
from storage.database.postgres_url import PostgresTarget
from storage.errors import (
    DatabaseUnavailableError,
    DirectConnectionError,
    MigrationError,
    PermanentDatabaseError,
    one_line,
)
from storage.files import create_private_file

log = structlog.get_logger(__name__)

_BUSY_SECONDS = 10
_MIN_ATTEMPT_SECONDS = 5.0
"""Shortest timeout of one attempt to reach the database at start."""
_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS = 0.1, 2.0
_MIGRATION_LOCK = 0x636F7574757265
"""Any number that no other program uses: the key of Postgres' advisory lock."""

_NO_TIMEOUTS_SQL = text(
    "SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN ('statement_timeout', "
    "'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)
_MORE_MEMORY_SQL = text(
    "SELECT set_config(name, '256MB', true) FROM pg_settings "
    "WHERE name = 'maintenance_work_mem' AND setting::bigint < 262144"
)
IDENTITY_SQL = "SELECT current_database(), current_schema(), pg_postmaster_start_time()"
"""Differs between two Postgres servers, databases or schemas."""

Insert = postgresql.Insert | sqlite.Insert


class Database:
    """Connections to one database.  ``url``: ``postgresql://…``, ``postgres://…`` or ``sqlite:///path``.

    ``direct_url`` leads to the same Postgres without its transaction pooler.  The migrations and
    `dedicated_connection` use it; without it they use ``url``, as far as a pooler allows.  ``busy_seconds``
    is how long a statement on SQLite waits for another writer.

    Raises ValueError, in one line, if ``url`` cannot be used; DirectUrlError for ``direct_url``.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 5,
        direct_url: str | None = None,
        busy_seconds: float = _BUSY_SECONDS,
    ) -> None:
        self._unavailable_error: DatabaseUnavailableError | None = None
        self._url = parse_database_url(url)
        self.dialect = self._url.get_backend_name()
        self._target = self._direct = None
        if self.dialect == "postgresql":
            self._target = parse_target(self._url)
            self._direct = parse_direct_target(direct_url) if direct_url is not None else None
            self.safe_url = self._target.safe_url
            pool: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": 10}
            statement_seconds = driver_errors.STATEMENT_SECONDS
            self.engine = create_postgres_engine(self._current_target, statement_seconds, **pool)
            event.listen(self.engine.sync_engine, "handle_error", self._notice_pooler)
        else:
            self.safe_url = self._url.set(drivername=self.dialect).render_as_string(hide_password=True)
            self.engine = create_sqlite_engine(self._url, busy_seconds)
        self._writer = self.engine.execution_options(begin="IMMEDIATE")

    @property
    def no_session_reason(self) -> str | None:
        """The reason why there is no `dedicated_connection`, and how to fix it; None if there is."""
        if self._target is None:
            return "SQLite sends no notifications"
        if self._target.behind_pooler and self._direct is None:
            return "a transaction pooler carries no session: give the URL past it as DIRECT_URL"
        return None

    async def dedicated_connection(self) -> Any:
        """Return an asyncpg connection outside the pool, which the caller closes.

        Raises DatabaseUnavailableError; DirectConnectionError if ``direct_url`` was given.
        """
        target = self._direct or self._target
        if target is None or target.behind_pooler:
            raise DatabaseUnavailableError(f"{self.safe_url}: {self.no_session_reason}")
        from storage.database.postgres_connect import DRIVER_ERRORS, make_connector

        with translate_errors(target.safe_url, self._direct_error):
            try:
                return await make_connector(target, driver_errors.STATEMENT_SECONDS)()
            except DRIVER_ERRORS as error:
                raise ConnectionError(one_line(error)) from error

    def _current_target(self) -> PostgresTarget:
        assert self._target is not None  # noqa: S101 - only for Postgres
        return self._target

    async def _recognise_pooler(self) -> None:
        """Compare the server's process with the one that greeted us: a pooler answers with another.

        Its kind shows only when it mixes up prepared statements, which may be too late; so none are prepared.
        """
        if self._target is None or not self._target.may_be_pooled:
            return
        async with self._connect() as connection:
            serving = await connection.scalar(text("SELECT pg_backend_pid()"))
            driver: Any = (await connection.get_raw_connection()).driver_connection
            is_pooler = driver.get_server_pid() != serving
        if is_pooler:
            self._target = replace(self._target, prepares_statements=False, may_be_pooled=False)
            log.info(
                "a pooler stands before the database: no statements are prepared; "
                "pgbouncer=false in the URL keeps them, pgbouncer=true is for a transaction pooler",
                url=self.safe_url,
            )
            await self.engine.dispose()

    def _notice_pooler(self, context: ExceptionContext) -> None:
        """Reconnect without prepared statements after an error that only a transaction pooler causes."""
        target = self._current_target()
        state = sqlstate(context.original_exception)
        if target.pooler_denied or state not in PREPARED_STATEMENT_STATES:
            return
        context.is_disconnect = True
        if not target.behind_pooler:
            self._target = replace(target, prepares_statements=False, behind_pooler=True, may_be_pooled=False)
            log.warning(
                "the database is behind a transaction pooler: no statements are prepared from now on; "
                "pgbouncer=true in the URL says so from the start",
                url=self.safe_url,
            )

    @property
    def _direct_error(self) -> type[DatabaseUnavailableError]:
        return DatabaseUnavailableError if self._direct is None else DirectConnectionError

    async def start(
        self,
        *,
        timeout: float = 30.0,
        on_waiting: Callable[[str], None] | None = None,
        on_available: Callable[[], None] | None = None,
    ) -> None:
        """Wait until the database answers, then bring its tables up to date, under a lock.

        ``on_waiting`` is called once with the reason for waiting, ``on_available`` when the database
        answers.  Raises DatabaseUnavailableError after ``timeout`` seconds, PermanentDatabaseError at once,
        and MigrationError.  While another process changes the tables, it waits without a timeout.
        """
        self._create_file()
        report = _once(on_waiting)
        await self._wait_until_available(timeout, report)
        if on_available is not None:
            on_available()
        await self._migrate(report)
        self._unavailable_error = None

    async def _wait_until_available(self, timeout: float, on_waiting: Callable[[str], None]) -> None:
        deadline, backoff = time.monotonic() + timeout, Backoff(_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS)
        seconds = max(timeout, _MIN_ATTEMPT_SECONDS)
        while True:
            target = self._target
            try:
                await self._try_once(seconds)
            except PermanentDatabaseError:
                raise
            except DatabaseUnavailableError as error:
                if self._target is not target:  # a pooler was recognised: the next try is different
                    continue
                delay = backoff.next()
                if time.monotonic() + delay > deadline:
                    raise
                on_waiting(str(error))
                await asyncio.sleep(delay)
            else:
                return

    async def _try_once(self, seconds: float) -> None:
        """Raises DatabaseUnavailableError if the database does not answer in time.

        SQLite has a timeout of its own: a connection to it that is cancelled while it opens would never end.
        """
        try:
            async with asyncio.timeout(None if self._target is None else seconds):
                await self._ping()
                await self._recognise_pooler()
        except TimeoutError:
            cause = f"nothing within {seconds:g} s"
            raise DatabaseUnavailableError(f"{self.safe_url} does not answer: {cause}", cause=cause) from None

    def mark_unavailable(self, error: DatabaseUnavailableError) -> None:
        """Let every operation raise DatabaseUnavailableError with these parts until `start` has succeeded."""
        self._unavailable_error = error

    async def ping(self) -> None:
        """Raises DatabaseUnavailableError if the database does not answer."""
        self._check_available()
        await self._ping()

    async def _ping(self) -> None:
        async with self._connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def check_writes(self) -> None:
        """Write nothing, as far as the database allows that.

        Raises DatabaseUnavailableError if it does not answer, is read-only, or another process has its lock.
        """
        if self.dialect == "sqlite":
            async with self.begin():  # takes the lock of a writer
                return
        async with self.connect() as connection:
            read_only = await connection.scalar(text("SELECT current_setting('transaction_read_only')"))
        if read_only == "on":
            cause = "it is read-only"
            fix = "name the primary in DATABASE_URL; of a managed one the disk may be full"
            raise DatabaseUnavailableError(f"{self.safe_url}: {cause}", fix=fix, cause=cause)

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection for reading.  Raises DatabaseUnavailableError."""
        self._check_available()
        async with self._connect() as connection:
            yield connection

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction, which the end of the block commits.  Raises DatabaseUnavailableError."""
        self._check_available()
        async with self._begin() as connection:
            yield connection

    def _check_available(self) -> None:
        if (error := self._unavailable_error) is not None:
            raise DatabaseUnavailableError(error.problem, field=error.field, fix=error.fix, cause=error.cause)

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[AsyncConnection]:
        with translate_errors(self.safe_url, DatabaseUnavailableError):
            async with self.engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        with translate_errors(self.safe_url, DatabaseUnavailableError):
            async with self._writer.begin() as connection:
                yield connection

    def insert(self, table: type[DeclarativeBase], rows: Sequence[dict[str, Any]] = ()) -> Insert:
        """Return an INSERT that has ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
        make = postgresql.insert if self.dialect == "postgresql" else sqlite.insert
        return make(table).values(list(rows)) if rows else make(table)

    async def upsert(self, table: type[DeclarativeBase], row: dict[str, Any], *, keys: Sequence[str]) -> None:
        """Insert a row, or replace the other columns of the row that has the same ``keys``.

        Raises DatabaseUnavailableError.
        """
        insert = self.insert(table, [row])
        columns = {name: insert.excluded[name] for name in row if name not in keys}
        async with self.begin() as connection:
            await connection.execute(insert.on_conflict_do_update(index_elements=list(keys), set_=columns))

    def _create_file(self) -> None:
        """Create SQLite's file, readable by its owner only."""
        if self.dialect != "sqlite" or not self._url.database or self._url.database == ":memory:":
            return
        try:
            create_private_file(Path(self._url.database))
        except OSError as error:
            raise DatabaseUnavailableError(f"{self.safe_url}: cannot be written: {error.strerror}") from None

    async def _migrate(self, on_waiting: Callable[[str], None]) -> None:
        try:
            while not await self._is_current():
                try:
                    await self._upgrade(on_waiting)
                except DatabaseUnavailableError as error:
                    if not is_locked(error):
                        raise
                    on_waiting(f"{self.safe_url}: another process writes, perhaps the tables")
                else:
                    return
        except (SQLAlchemyError, MigrationError) as error:
            cause = one_line(getattr(error, "orig", None) or error)
            if cause.endswith("already exists"):
                cause += f", and is not ours: {name_clash_hint(self.dialect)}"
            raise MigrationError(
                f"{self.safe_url}: the tables cannot be brought up to date: {cause}"
            ) from error

    async def _is_current(self) -> bool:
        async with self._connect() as connection:
            return await connection.run_sync(is_current)

    async def _upgrade(self, on_waiting: Callable[[str], None]) -> None:
        """Run the migrations; on Postgres over a connection without timeouts."""
        target = self._direct or self._target
        if target is None:
            async with self._begin() as connection:
                await connection.run_sync(upgrade)
            return
        engine = create_postgres_engine(lambda: target, None, poolclass=NullPool)
        with translate_errors(target.safe_url, self._direct_error):
            async with engine.begin() as connection:
                await self._check_same_database(connection)
                await connection.execute(_NO_TIMEOUTS_SQL)
                await _raise_maintenance_work_mem(connection)
                if not await connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({_MIGRATION_LOCK})")):
                    on_waiting(f"{self.safe_url}: another process brings the tables up to date")
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                await connection.run_sync(upgrade)

    async def _check_same_database(self, direct: AsyncConnection) -> None:
        """Raises MigrationError if ``direct_url`` and ``url`` lead to different databases."""
        if self._direct is None:
            return
        direct_identity = (await direct.execute(text(IDENTITY_SQL))).one()
        async with self._connect() as connection:
            identity = (await connection.execute(text(IDENTITY_SQL))).one()
        if direct_identity != identity:
            raise MigrationError(
                f"DIRECT_URL, {self._direct.safe_url}, leads to another server, database or schema",
                fix="give the same one past the pooler",
            )


async def _raise_maintenance_work_mem(connection: AsyncConnection) -> None:
    """Raise the memory for building an index, which makes that several times as fast."""
    try:
        async with connection.begin_nested():
            await connection.execute(_MORE_MEMORY_SQL)
    except DBAPIError:  # our user may not change it
        pass


def _once(report: Callable[[str], None] | None) -> Callable[[str], None]:
    """Return a function that passes on the first reason only; no reason if ``report`` is None."""
    remaining = report

    def report_first(reason: str) -> None:
        nonlocal remaining
        current, remaining = remaining, None
        if current is not None:
            current(reason)

    return report_first

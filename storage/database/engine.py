"""One SQLAlchemy engine, on Postgres or SQLite; what differs between the two is here."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # has no stubs
import structlog
from sqlalchemy import event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import NullPool

from storage import json as json_text
from storage.database import errors as driver_errors
from storage.database.errors import PREPARED_NAMES, TranslatedErrors, is_locked, sqlstate
from storage.database.migrations import is_current, name_clash_hint, upgrade
from storage.database.postgres_url import PostgresTarget, connector, parse_postgres_url
from storage.database.sqlite import begin_transaction, connect, prepare_connection, terminate_connection
from storage.errors import (
    DatabaseUnavailableError,
    DirectConnectionError,
    DirectUrlError,
    MigrationError,
    PermanentDatabaseError,
)

log = structlog.get_logger(__name__)

_DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
}
_BUSY_SECONDS = 10
_MIGRATION_LOCK = 0x636F7574757265  # any number of ours: the key of Postgres' advisory lock

_WITHOUT_LIMITS = text(
    "SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN ('statement_timeout', "
    "'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)
_WITH_MEMORY = text(
    "SELECT set_config(name, '256MB', true) FROM pg_settings "
    "WHERE name = 'maintenance_work_mem' AND setting::bigint < 262144"
)

_ENCODED = "in a password write %40 for @, %2F for / and %3A for :"
_PLACE = text("SELECT current_database(), current_schema(), pg_postmaster_start_time()")

Insert = postgresql.Insert | sqlite.Insert


class Database:
    """Connections to one database.  ``url``: ``postgresql://…``, ``postgres://…`` or ``sqlite:///path``.

    ``direct_url`` leads to the same Postgres without its transaction pooler.  The migrations and
    `dedicated_connection` use it; without it they use ``url``, as far as a pooler allows.  ``busy_seconds``
    is how long a statement on SQLite waits for another writer.

    Raises ValueError, in one line, where ``url`` is none of these; DirectUrlError for ``direct_url``.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 5,
        direct_url: str | None = None,
        busy_seconds: float = _BUSY_SECONDS,
    ) -> None:
        self._given_up: str | None = None
        self._url = _with_driver(url)
        self.dialect = self._url.get_backend_name()
        self._target = self._direct = None
        if self.dialect == "postgresql":
            self._target = parse_postgres_url(_of_postgres(self._url))
            self._direct = _direct(direct_url) if direct_url is not None else None
            self.safe_url = self._target.safe_url
            limits: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": 10}
            self.engine = _postgres_engine(self._current_target, driver_errors.STATEMENT_SECONDS, **limits)
            event.listen(self.engine.sync_engine, "handle_error", self._notice_pooler)
        else:
            self.safe_url = self._url.set(drivername=self.dialect).render_as_string(hide_password=True)
            self.engine = create_async_engine(
                self._url,
                connect_args={"timeout": busy_seconds, "async_creator_fn": connect},
                **_ENGINE_OPTIONS,
            )
            self.engine.dialect.do_terminate = terminate_connection  # type: ignore[assignment]
            event.listen(self.engine.sync_engine, "connect", partial(prepare_connection, busy_seconds))
            event.listen(self.engine.sync_engine, "begin", begin_transaction)
        self._writer = self.engine.execution_options(begin="IMMEDIATE")

    @property
    def no_session_reason(self) -> str | None:
        """Why `dedicated_connection` cannot be had, and how to mend it; None where it can."""
        if self._target is None:
            return "SQLite sends no notifications"
        if self._target.pooled and self._direct is None:
            return "a transaction pooler carries no session: give the URL past it as DIRECT_URL"
        return None

    async def dedicated_connection(self) -> Any:
        """An asyncpg connection of its own, outside the pool, which the caller closes.

        Raises DatabaseUnavailableError, of the kind DirectConnectionError where ``direct_url`` is asked.
        """
        target = self._direct or self._target
        if target is None or target.pooled:
            raise DatabaseUnavailableError(f"{self.safe_url}: {self.no_session_reason}")
        with TranslatedErrors(target.safe_url, self._direct_error):
            try:
                return await connector(target, driver_errors.STATEMENT_SECONDS)()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
                raise ConnectionError(" ".join(str(error).split())) from error

    def _current_target(self) -> PostgresTarget:
        assert self._target is not None  # noqa: S101 - of Postgres
        return self._target

    async def _recognise_pooler(self) -> None:
        """Whoever answers for a server's connection as another than it is is a pooler: of which kind shows
        when it mixes up statements, and then perhaps too late.
        """
        if self._target is None or not self._target.may_be_pooled:
            return
        async with self._connect() as connection:
            serving = await connection.scalar(text("SELECT pg_backend_pid()"))
            driver: Any = (await connection.get_raw_connection()).driver_connection
            is_pooler = driver.get_server_pid() != serving
        if is_pooler:
            self._target = replace(self._target, prepares=False, may_be_pooled=False)
            log.info(
                "a pooler stands before the database: no statements are prepared; "
                "pgbouncer=false in the URL keeps them, pgbouncer=true is for a transaction pooler",
                url=self.safe_url,
            )
            await self.engine.dispose()

    def _notice_pooler(self, context: ExceptionContext) -> None:
        """A statement that was mixed up shows a transaction pooler: all connections are made again."""
        target = self._current_target()
        if target.said_no or sqlstate(context.original_exception) not in PREPARED_NAMES:
            return
        context.is_disconnect = True
        if not target.pooled:
            self._target = replace(target, prepares=False, pooled=True, may_be_pooled=False)
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

        ``on_waiting`` is told once what is waited for, ``on_available`` that it answers.  Raises
        DatabaseUnavailableError after ``timeout`` seconds, PermanentDatabaseError at once, MigrationError.
        Where another process changes the tables, that is waited for without limit.
        """
        self._make_file()
        deadline, delay = time.monotonic() + timeout, 0.1
        while True:
            target = self._target
            try:
                await self._ping()
                await self._recognise_pooler()
                break
            except PermanentDatabaseError:
                raise
            except DatabaseUnavailableError as error:
                if self._target is not target:  # a pooler was recognised: the next try is another
                    continue
                if time.monotonic() + delay > deadline:
                    raise
                if on_waiting is not None:
                    on_waiting(str(error))
                    on_waiting = None
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)
        if on_available is not None:
            on_available()
        await self._migrate(on_waiting or _say_nothing)
        self._given_up = None

    def mark_unavailable(self, cause: str) -> None:
        """Ask nothing of the database: until `start` has ended, whatever is asked raises
        DatabaseUnavailableError with ``cause`` at once.
        """
        self._given_up = cause

    async def ping(self) -> None:
        """Raises DatabaseUnavailableError where the database does not answer."""
        self._check_given_up()
        await self._ping()

    async def _ping(self) -> None:
        async with self._connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with.  Raises DatabaseUnavailableError."""
        self._check_given_up()
        async with self._connect() as connection:
            yield connection

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end of the block.  Raises DatabaseUnavailableError."""
        self._check_given_up()
        async with self._begin() as connection:
            yield connection

    def _check_given_up(self) -> None:
        if self._given_up is not None:
            raise DatabaseUnavailableError(self._given_up)

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[AsyncConnection]:
        with self._told():
            async with self.engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        with self._told():
            async with self._writer.begin() as connection:
                yield connection

    def insert(self, table: type[DeclarativeBase], rows: Sequence[dict[str, Any]] = ()) -> Insert:
        """An INSERT that has ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
        make = postgresql.insert if self.dialect == "postgresql" else sqlite.insert
        return make(table).values(list(rows)) if rows else make(table)

    def _told(self) -> TranslatedErrors:
        return TranslatedErrors(self.safe_url, DatabaseUnavailableError)

    def _make_file(self) -> None:
        """SQLite's file, readable by its owner only."""
        if self.dialect != "sqlite" or not self._url.database or self._url.database == ":memory:":
            return
        path = Path(self._url.database)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
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
                    on_waiting = _say_nothing
        except (SQLAlchemyError, MigrationError) as error:
            cause = " ".join(str(getattr(error, "orig", None) or error).split())
            if cause.endswith("already exists"):
                cause += f", and is not ours: {name_clash_hint(self.dialect)}"
            raise MigrationError(
                f"{self.safe_url}: the tables cannot be brought up to date: {cause}"
            ) from error

    async def _is_current(self) -> bool:
        async with self._connect() as connection:
            return await connection.run_sync(is_current)

    async def _upgrade(self, on_waiting: Callable[[str], None]) -> None:
        """On Postgres over a connection whose statements may take as long as they need."""
        target = self._direct or self._target
        if target is None:
            async with self._begin() as connection:
                await connection.run_sync(upgrade)
            return
        engine = _postgres_engine(lambda: target, None, poolclass=NullPool)
        with TranslatedErrors(target.safe_url, self._direct_error):
            async with engine.begin() as connection:
                await self._check_place(connection)
                await connection.execute(_WITHOUT_LIMITS)
                await _raise_memory(connection)
                if not await connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({_MIGRATION_LOCK})")):
                    on_waiting(f"{self.safe_url}: another process brings the tables up to date")
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                await connection.run_sync(upgrade)

    async def _check_place(self, direct: AsyncConnection) -> None:
        """What is made past the pooler is to be seen by way of it."""
        if self._direct is None:
            return
        there = (await direct.execute(_PLACE)).one()
        async with self._connect() as connection:
            here = (await connection.execute(_PLACE)).one()
        if there != here:
            raise MigrationError(
                f"DIRECT_URL, {self._direct.safe_url}, leads to another server, database or schema: "
                "give the same one past the pooler"
            )


async def _raise_memory(connection: AsyncConnection) -> None:
    """An index is made several times as fast with it."""
    try:
        async with connection.begin_nested():
            await connection.execute(_WITH_MEMORY)
    except DBAPIError:  # not permitted
        pass


def _say_nothing(cause: str) -> None:
    """Nobody wishes to hear."""


def _read_json(body: bytes | str) -> Any:
    """What no program of ours wrote is shown as it is, and keeps no page from being read."""
    try:
        return json_text.loads(body)
    except (ValueError, RecursionError):
        return {"unreadable": body if isinstance(body, str) else body.decode("utf-8", "backslashreplace")}


_ENGINE_OPTIONS: dict[str, Any] = {"pool_pre_ping": True, "json_deserializer": _read_json}


def _of_postgres(url: URL) -> URL:
    if url.get_backend_name() != "postgresql":
        raise ValueError("use postgresql://user:password@host/name")
    return url.set(drivername="postgresql")


def _direct(url: str) -> PostgresTarget:
    try:
        target = parse_postgres_url(_of_postgres(_with_driver(url)))
    except ValueError as error:
        raise DirectUrlError(str(error)) from None
    if target.pooled:
        raise DirectUrlError(f"{target.safe_url} is a transaction pooler's: give the URL past it")
    return target


def _postgres_engine(
    target: Callable[[], PostgresTarget], statement_seconds: float | None, **options: Any
) -> AsyncEngine:
    """Behind a transaction pooler every statement is the nameless one, which is forgotten when another comes:
    nothing is left on the server's connection for the next client to trip over.
    """
    nameless = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": lambda: ""}

    def create() -> Any:
        adapter: Any = engine.dialect.dbapi
        now = target()
        connect = connector(now, statement_seconds)
        return adapter.connect(async_creator_fn=connect, **({} if now.prepares else nameless))

    url = target().url.set(drivername=_DRIVERS["postgresql"])
    engine = create_async_engine(url, creator=create, **options, **_ENGINE_OPTIONS)
    return engine


def _with_driver(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            f"not a database URL: use postgresql://user@host/name or sqlite:///path; {_ENCODED}"
        ) from None
    driver = _DRIVERS.get(parsed.get_backend_name())
    if driver is None:
        raise ValueError(f"unknown database {parsed.drivername!r}: use postgresql:// or sqlite:///")
    if parsed.get_backend_name() != "sqlite" and url.partition("?")[0].count("@") > 1:
        raise ValueError(f"two @ stand before its parameters: {_ENCODED}")
    return parsed.set(drivername=driver)

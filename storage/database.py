"""One SQLAlchemy engine, on Postgres or SQLite; what differs between the two is here."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg  # type: ignore[import-untyped]  # has no stubs
from sqlalchemy import Connection, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import NullPool
from sqlalchemy.util.concurrency import await_, in_greenlet

from storage import json_text
from storage.errors import (
    DatabaseUnavailableError,
    DirectConnectionError,
    DirectUrlError,
    MigrationError,
    UnusableUrlError,
)
from storage.migrations import elsewhere, is_current, upgrade
from storage.postgres import Target, connector, understand

_DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
}
_AWAY = (OSError, TimeoutError, DBAPIError, PoolTimeoutError)
_REFUSALS = ("21", "22", "23", "42", "54")
"""SQLSTATE classes of a statement that would be refused again: its values, its constraints, its text."""
_NAMES = ("26000", "42P05")
"""SQLSTATEs of a prepared statement that another client of a pooler made, or that its server never saw."""
_STATEMENT_SECONDS = 30
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

    ``direct_url``: of the same Postgres past a transaction pooler, for the migrations and for `session`;
    without it they go by way of ``url``, as far as a pooler lets them.

    Raises ValueError, in one line, where ``url`` is none of these; DirectUrlError for ``direct_url``.
    """

    def __init__(self, url: str, *, pool_size: int = 5, direct_url: str | None = None) -> None:
        self._url = _with_driver(url)
        self.dialect = self._url.get_backend_name()
        self._target = self._direct = None
        if self.dialect == "postgresql":
            self._target = understand(_of_postgres(self._url))
            self._direct = _direct(direct_url) if direct_url is not None else None
            self.safe_url = self._target.safe_url
            self.engine = _postgres_engine(
                self._target, _STATEMENT_SECONDS, pool_size=pool_size, max_overflow=0, pool_timeout=10
            )
        else:
            self.safe_url = self._url.set(drivername=self.dialect).render_as_string(hide_password=True)
            self.engine = create_async_engine(
                self._url,
                connect_args={"timeout": _BUSY_SECONDS, "async_creator_fn": _connect_sqlite},
                **_ENGINE_OPTIONS,
            )
            self.engine.dialect.do_terminate = _terminate_sqlite  # type: ignore[assignment]
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)
        self._writer = self.engine.execution_options(begin="IMMEDIATE")

    @property
    def without_sessions(self) -> str | None:
        """Why `session` cannot be had, and how to mend it; None where it can."""
        if self._target is None:
            return "SQLite sends no notifications"
        if self._target.pooled and self._direct is None:
            return "a transaction pooler carries no session: give the URL past it as DIRECT_URL"
        return None

    async def session(self) -> Any:
        """An asyncpg connection of its own, outside the pool, which the caller closes.

        Raises DatabaseUnavailableError, of the kind DirectConnectionError where ``direct_url`` is asked.
        """
        target = self._direct or self._target
        if target is None or target.pooled:
            raise DatabaseUnavailableError(f"{self.safe_url}: {self.without_sessions}")
        with _Told(target.safe_url, self._direct_error):
            try:
                return await connector(target, _STATEMENT_SECONDS)()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
                raise ConnectionError(" ".join(str(error).split())) from error

    @property
    def _direct_error(self) -> type[DatabaseUnavailableError]:
        return DatabaseUnavailableError if self._direct is None else DirectConnectionError

    async def start(self, *, patience: float = 30.0, on_wait: Callable[[str], None] | None = None) -> None:
        """Wait until the database answers, then bring its tables up to date, under a lock.

        ``on_wait`` is told once what is waited for.  Raises DatabaseUnavailableError after ``patience``
        seconds, UnusableUrlError at once, MigrationError.  Where another process changes the tables, that is
        waited for without limit.
        """
        self._make_file()
        deadline, delay = time.monotonic() + patience, 0.1
        while True:
            try:
                await self.ping()
                break
            except UnusableUrlError:
                raise
            except DatabaseUnavailableError as error:
                if time.monotonic() + delay > deadline:
                    raise
                if on_wait is not None:
                    on_wait(str(error))
                    on_wait = None
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)
        await self._migrate(on_wait or _say_nothing)

    async def ping(self) -> None:
        """Raises DatabaseUnavailableError where the database does not answer."""
        async with self.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with.  Raises DatabaseUnavailableError."""
        with self._told():
            async with self.engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end of the block.  Raises DatabaseUnavailableError."""
        with self._told():
            async with self._writer.begin() as connection:
                yield connection

    def insert(self, table: type[DeclarativeBase], rows: Sequence[dict[str, Any]] = ()) -> Insert:
        """An INSERT that has ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
        make = postgresql.insert if self.dialect == "postgresql" else sqlite.insert
        return make(table).values(list(rows)) if rows else make(table)

    def _told(self) -> _Told:
        return _Told(self.safe_url, DatabaseUnavailableError)

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

    async def _migrate(self, on_wait: Callable[[str], None]) -> None:
        try:
            while not await self._is_current():
                try:
                    await self._upgrade(on_wait)
                except DatabaseUnavailableError as error:
                    if not _is_locked(error):
                        raise
                    on_wait(f"{self.safe_url}: another process writes, perhaps the tables")
                    on_wait = _say_nothing
        except (SQLAlchemyError, MigrationError) as error:
            cause = " ".join(str(getattr(error, "orig", None) or error).split())
            if cause.endswith("already exists"):
                cause += f", and is not ours: {elsewhere(self.dialect)}"
            raise MigrationError(
                f"{self.safe_url}: the tables cannot be brought up to date: {cause}"
            ) from error

    async def _is_current(self) -> bool:
        async with self.connect() as connection:
            return await connection.run_sync(is_current)

    async def _upgrade(self, on_wait: Callable[[str], None]) -> None:
        """On Postgres over a connection whose statements may take as long as they need."""
        target = self._direct or self._target
        if target is None:
            async with self.begin() as connection:
                await connection.run_sync(upgrade)
            return
        engine = _postgres_engine(target, None, poolclass=NullPool)
        with _Told(target.safe_url, self._direct_error):
            async with engine.begin() as connection:
                await self._check_place(connection)
                await connection.execute(_WITHOUT_LIMITS)
                await _raise_memory(connection)
                if not await connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({_MIGRATION_LOCK})")):
                    on_wait(f"{self.safe_url}: another process brings the tables up to date")
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                await connection.run_sync(upgrade)

    async def _check_place(self, direct: AsyncConnection) -> None:
        """What is made past the pooler is to be seen by way of it."""
        if self._direct is None:
            return
        there = (await direct.execute(_PLACE)).one()
        async with self.connect() as connection:
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
        return json_text.load(body)
    except (ValueError, RecursionError):
        return {"unreadable": body if isinstance(body, str) else body.decode("utf-8", "backslashreplace")}


_ENGINE_OPTIONS: dict[str, Any] = {"pool_pre_ping": True, "json_deserializer": _read_json}


class _Told:
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
        if isinstance(error, _AWAY) and not _is_refusal(error):
            cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            if isinstance(cause, TimeoutError) and not cause.args:
                late = f"{self._safe_url} did not answer within {_STATEMENT_SECONDS:g} s"
                raise self._kind(late) from error
            line = " ".join(str(cause).split()) or type(cause).__name__
            if _sqlstate(cause) in _NAMES:
                line += ": this is a transaction pooler: add pgbouncer=true to the parameters of the URL"
            raise self._kind(f"{self._safe_url} does not answer: {line}") from error


def _is_refusal(error: BaseException) -> bool:
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
    return _sqlstate(cause).startswith(_REFUSALS) and _sqlstate(cause) not in _NAMES


def _sqlstate(cause: object) -> str:
    return str(getattr(cause, "sqlstate", None) or "")


def _is_locked(error: DatabaseUnavailableError) -> bool:
    """Another process has written on SQLite for longer than is waited for."""
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and str(cause.orig).startswith("database is locked")


def _of_postgres(url: URL) -> URL:
    if url.get_backend_name() != "postgresql":
        raise ValueError("use postgresql://user:password@host/name")
    return url.set(drivername="postgresql")


def _direct(url: str) -> Target:
    try:
        target = understand(_of_postgres(_with_driver(url)))
    except ValueError as error:
        raise DirectUrlError(str(error)) from None
    if target.pooled:
        raise DirectUrlError(f"{target.safe_url} is a transaction pooler's: give the URL past it")
    return target


def _postgres_engine(target: Target, statement_seconds: float | None, **options: Any) -> AsyncEngine:
    """Behind a transaction pooler every statement is the nameless one, which is forgotten when another comes:
    nothing is left on the server's connection for the next client to trip over.
    """
    connect = connector(target, statement_seconds)
    nameless = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": lambda: ""}

    def create() -> Any:
        adapter: Any = engine.dialect.dbapi
        return adapter.connect(async_creator_fn=connect, **(nameless if target.pooled else {}))

    url = target.url.set(drivername=_DRIVERS["postgresql"])
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


async def _connect_sqlite(*args: Any, **options: Any) -> aiosqlite.Connection:
    """Connect.  If that fails, wait for the end of the connection's thread: it still answers the event loop,
    and would find it closed if that was the last thing that the loop did."""
    connection = aiosqlite.connect(*args, **options)
    connection._thread.daemon = True  # as SQLAlchemy has it
    try:
        return await connection
    except sqlite3.Error:
        await asyncio.to_thread(connection._thread.join, 1.0)
        raise


def _terminate_sqlite(connection: Any) -> None:
    """Close a connection whose statement was cancelled, however often it is cancelled.

    SQLAlchemy ends the connection's thread if the close is cancelled too.  The close, which it shields, then
    waits for that thread for ever, and so does the end of the event loop.
    """

    async def close() -> None:
        with suppress(ValueError):  # it is closed
            await connection.driver_connection.interrupt()
        await connection._terminate_graceful_close()

    if in_greenlet():
        await_(asyncio.shield(close()))
    else:  # the garbage collector's
        connection._terminate_force_close()


def _prepare_sqlite(connection: Any, record: object) -> None:
    """WAL, so that readers do not wait; FULL, so that a recorded dead letter survives a power cut."""
    connection.isolation_level = None  # the driver would begin transactions by itself, and too late
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_SECONDS * 1000}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """A transaction that writes takes the write lock at once: waiting for it is possible only there."""
    mode = connection.get_execution_options().get("begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")

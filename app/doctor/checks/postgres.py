"""Checks a Postgres that answers.  Only reads, and sends a notification to itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from app.doctor.checks.migrations import assess_revision
from app.doctor.checks.redis_server import RedisServer
from app.doctor.checks.redis_state import assess_clock
from app.doctor.groups import OPENING_SECONDS, run_with_timeout
from app.doctor.network import is_private_host
from app.doctor.results import Finding, describe_cause, describe_problem, ok, unknown, warning, wrong
from storage.cache.change_listener import notifications_arrive
from storage.database.engine import IDENTITY_SQL, Database
from storage.database.migrations import HEAD
from storage.database.tables import Base
from storage.errors import DatabaseUnavailableError, DirectUrlError, StorageError

_MIN_VERSION = 11  # CREATE TRIGGER … EXECUTE FUNCTION
_NOTIFY_TIMEOUT_SECONDS = 2.0
_SESSION_TIMEOUT_SECONDS = 3.0  # below the timeout of a check
_POOL_SIZE = 2  # one for the checks, one that notifies
_STALE_CACHE = "changes by other programs show only after the TTL of cached entries"


@dataclass
class Postgres:
    """A database that answered, with a connection to it."""

    url: str
    direct_url: str | None
    pool_size: int
    database: Database
    connection: AsyncConnection
    closing: AsyncExitStack
    redises: Sequence[RedisServer] = ()
    """The queues' Redis, which lists the processes of the cluster; None if it does not answer."""
    direct_problem: str = ""
    """Why ``direct_url`` cannot be used."""

    async def row(self, query: str, **values: Any) -> Any:
        """Return the first row."""
        return (await self.connection.execute(text(query), values)).one()

    async def value(self, query: str, **values: Any) -> Any:
        """Return the first value of the first row."""
        return await self.connection.scalar(text(query), values)

    async def close(self) -> None:
        """Close all connections."""
        with suppress(Exception):  # broken already
            await run_with_timeout(1.0, self.closing.aclose())


async def open_postgres(url: str, *, direct_url: str | None, pool_size: int) -> Postgres | Finding:
    """Return the database, or why it does not answer, within `OPENING_SECONDS`."""
    try:
        database = Database(url, pool_size=_POOL_SIZE, direct_url=direct_url)
    except DirectUrlError as error:
        fix = error.fix or "correct it"
        return wrong(f"DIRECT_URL: {describe_problem(error)}", "no process starts", fix)
    except Exception as error:  # ValueError, or another error of an unusual URL
        return wrong(f"DATABASE_URL: {describe_cause(error)}", "no process starts", "correct it")
    closing = AsyncExitStack()
    closing.push_async_callback(database.close)
    try:
        connection = await run_with_timeout(OPENING_SECONDS, _connect(database, closing))
    except Exception as error:
        return _unreachable(error, database.safe_url)
    return Postgres(url, direct_url, pool_size, database, connection, closing)


def _unreachable(error: Exception, safe_url: str) -> Finding:
    consequence = "no process starts; dead letters of running processes wait in Redis"
    fix = "see that it runs, that DATABASE_URL names it, and that user and password are right"
    if isinstance(error, TimeoutError):
        timeout = f"{safe_url} does not answer: nothing within {OPENING_SECONDS:g} s"
        return wrong(timeout, consequence, fix)
    if isinstance(error, DatabaseUnavailableError):
        return wrong(describe_problem(error), consequence, error.fix or fix)
    return wrong(
        f"{safe_url}: {describe_cause(error)}",
        "no process starts",
        "correct DATABASE_URL: see its port and its parameters",
    )


async def _connect(database: Database, closing: AsyncExitStack) -> AsyncConnection:
    connection = await closing.enter_async_context(database.connect())
    return await connection.execution_options(isolation_level="AUTOCOMMIT")


async def answers(postgres: Postgres) -> Finding:
    """Report the database that was opened, and its round trip."""
    started = time.perf_counter()
    await postgres.value("SELECT 1")
    return ok(f"{postgres.database.safe_url}, round trip {(time.perf_counter() - started) * 1000:.1f} ms")


async def version(postgres: Postgres) -> Finding:
    """Check for the version that our migrations need."""
    number = int(await postgres.value("SELECT current_setting('server_version_num')"))
    name = f"Postgres {number // 10_000}.{number % 10_000}"
    if number // 10_000 >= _MIN_VERSION:
        return ok(name)
    return wrong(name, "the tables cannot be made", f"use Postgres {_MIN_VERSION} or newer")


async def encryption(postgres: Postgres) -> Finding:
    """Check our own connection for TLS; the one that reaches the server may be a pooler's."""
    connection: Any = (await postgres.connection.get_raw_connection()).driver_connection
    tls = connection._transport.get_extra_info("ssl_object")
    if tls is not None:
        return ok(tls.version() or "TLS")
    url = make_url(postgres.url)
    host = url.host or str(url.query.get("host", ""))
    if await is_private_host(host):
        return ok("none is needed: a private address")
    return warning(
        f"none, and {host} is not a private address",
        "the password and all rows travel in clear",
        "append sslmode=require to DATABASE_URL, or better verify-full",
    )


async def primary(postgres: Postgres) -> Finding:
    """Check that the database accepts writes."""
    standby, read_only = await postgres.row(
        "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')"
    )
    if not standby and read_only == "off":
        return ok("primary, accepts writes")
    return wrong(
        "a read-only standby" if standby else "transactions are read-only here",
        "no dead letter is recorded",
        "name the primary in DATABASE_URL"
        if standby
        else "ALTER ROLE … SET default_transaction_read_only = off; of a managed one the disk may be full",
    )


async def migrations(postgres: Postgres) -> Finding:
    """Check the revision of the tables."""
    return assess_revision(await revision(postgres), await _tables(postgres))


async def revision(postgres: Postgres) -> str | None:
    """Return the revision of the tables; None if there are none."""
    if await postgres.value("SELECT to_regclass('alembic_version')") is None:
        return None
    if not await postgres.value("SELECT has_table_privilege('alembic_version', 'SELECT')"):
        return HEAD  # the check of the rights reports it
    number: str | None = await postgres.value("SELECT version_num FROM alembic_version")
    return number


async def _tables(postgres: Postgres) -> set[str]:
    rows = await postgres.connection.execute(
        text("SELECT relname FROM pg_class WHERE pg_table_is_visible(oid) AND relkind IN ('r', 'p')")
    )
    return {name for (name,) in rows} & set(Base.metadata.tables)


async def pooler(postgres: Postgres) -> Finding:
    """Check for a transaction pooler, which carries no notifications."""
    if postgres.database.no_session_reason is not None:
        return warning(
            "a transaction pooler, and no DIRECT_URL",
            _STALE_CACHE,
            "set DIRECT_URL to the database itself",
        )
    return ok("none, by the URL" if postgres.direct_url is None else "DIRECT_URL bypasses it")


async def direct_url(postgres: Postgres) -> Finding:
    """Check that DIRECT_URL, which migrations and the listener use, leads to the same database."""
    if postgres.direct_url is None:
        return ok("no DIRECT_URL: DATABASE_URL is used for everything")
    try:
        identity = await run_with_timeout(_SESSION_TIMEOUT_SECONDS, _direct_identity(postgres.database))
    except Exception as error:
        cause = "no answer in time" if isinstance(error, TimeoutError) else describe_cause(error)
        postgres.direct_problem = f"DIRECT_URL cannot be used: {cause}"
        fix = "see that it names the same database without the pooler, and that user and password are right"
        if await revision(postgres) != HEAD:
            return wrong(postgres.direct_problem, "the next start fails: migrations use DIRECT_URL", fix)
        return warning(postgres.direct_problem, f"{_STALE_CACHE}; a start with migrations fails", fix)
    if identity == tuple(await postgres.row(IDENTITY_SQL)):
        return ok("the same database, without a pooler")
    postgres.direct_problem = "DIRECT_URL leads to another server, database or schema"
    return wrong(
        postgres.direct_problem,
        f"a start with migrations fails; {_STALE_CACHE}",
        "name the same database without the pooler",
    )


async def _direct_identity(database: Database) -> tuple[Any, ...]:
    connection = await database.dedicated_connection()
    try:
        return tuple(await connection.fetchrow(IDENTITY_SQL))
    finally:
        connection.terminate()


async def notifications(postgres: Postgres) -> Finding:
    """Check that a NOTIFY of our own arrives, by DIRECT_URL if that is set."""
    if postgres.database.no_session_reason is not None:
        return unknown("not checked: a transaction pooler carries none")
    if postgres.direct_problem:
        return unknown("not checked: DIRECT_URL cannot be used")
    try:
        arrives = await run_with_timeout(
            _SESSION_TIMEOUT_SECONDS, notifications_arrive(postgres.database, seconds=_NOTIFY_TIMEOUT_SECONDS)
        )
    except (StorageError, TimeoutError, OSError) as error:
        cause = "no answer in time" if isinstance(error, TimeoutError) else describe_cause(error)
        name = "DATABASE_URL" if postgres.direct_url is None else "DIRECT_URL"
        return warning(f"cannot be checked: {cause}", _STALE_CACHE, f"see that {name} is right")
    if arrives:
        return ok("a NOTIFY arrives")
    return warning(
        f"a NOTIFY did not arrive within {_NOTIFY_TIMEOUT_SECONDS:g} s",
        _STALE_CACHE,
        "set DIRECT_URL to the database itself, without a pooler",
    )


async def clock(postgres: Postgres) -> Finding:
    """Compare this machine's clock with the server's."""
    sent_at = time.time()
    server_time = float(await postgres.value("SELECT extract(epoch FROM clock_timestamp())"))
    return assess_clock((sent_at + time.time()) / 2 - server_time, "the database's")

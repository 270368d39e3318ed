"""A Postgres that answers.  Only reads, and a notification to ourselves."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from app.doctor.checks.migrations import migrations as of_revision
from app.doctor.checks.redis_server import RedisServer
from app.doctor.checks.redis_state import clock_difference
from app.doctor.groups import OPENING_SECONDS, within
from app.doctor.network import is_near
from app.doctor.results import Finding, cause_of, ok, unknown, warning, wrong
from storage.cache.change_listener import notifications_arrive
from storage.database.engine import Database
from storage.database.migrations import HEAD
from storage.database.postgres_url import parse_postgres_url
from storage.database.tables import Base
from storage.errors import DatabaseUnavailableError, DirectUrlError, StorageError
from workers.engine import wire
from workers.engine.keys import WORKERS

_OLDEST = 11  # CREATE TRIGGER … EXECUTE FUNCTION
_MOST = 100
"""Connections that all processes together stay below."""
_BESIDE = 2
"""Connections beside the pools: one that listens, one for migrations; see docs/postgres.md."""
_HEARD_SECONDS = 2.0
_SESSION_SECONDS = 3.0  # less than a check has
_CONNECTIONS = 2  # ours, and one that notifies
_UNHEARD = "what other programs change is served from the cache until its TTL"
_NEEDED = ("SELECT", "INSERT", "UPDATE", "DELETE")
_TABLES_LACKING = text(
    "SELECT wanted, relname::text FROM pg_class, unnest(CAST(:needed AS text[])) AS wanted "
    "WHERE relkind IN ('r', 'p') AND relname = ANY(CAST(:tables AS text[])) AND pg_table_is_visible(oid) "
    "AND (wanted IN ('SELECT', 'INSERT') OR relname <> 'operator_actions') "
    "AND (wanted = 'SELECT' OR relname <> 'alembic_version') "
    "AND NOT has_table_privilege(oid, wanted) LIMIT 1"
)
_SEQUENCES_LACKING = text(
    "SELECT 'USAGE', s.relname::text FROM pg_class s JOIN pg_depend d ON d.objid = s.oid "
    "JOIN pg_class t ON t.oid = d.refobjid WHERE s.relkind = 'S' AND d.deptype IN ('a', 'i') "
    "AND t.relname = ANY(CAST(:tables AS text[])) AND pg_table_is_visible(t.oid) "
    "AND CASE s.relkind WHEN 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE') ELSE false END LIMIT 1"
)
_PLACE = "SELECT current_database(), current_schema(), pg_postmaster_start_time()"
_ALL_RIGHTS = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
_ALL_SEQUENCES = "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}"


@dataclass
class Postgres:
    """A database that answered, with a connection to it."""

    url: str
    direct_url: str | None
    pool_size: int
    database: Database
    connection: AsyncConnection
    closing: AsyncExitStack
    redis: RedisServer | None = None
    """The queues' Redis, which knows the cluster's processes; None where it does not answer."""
    direct_problem: str = ""
    """Why ``direct_url`` is of no use."""

    async def row(self, query: str, **values: Any) -> Any:
        """The first row."""
        return (await self.connection.execute(text(query), values)).one()

    async def value(self, query: str, **values: Any) -> Any:
        """The first value of the first row."""
        return await self.connection.scalar(text(query), values)

    async def close(self) -> None:
        """Close all connections."""
        with suppress(Exception):  # broken already
            await within(1.0, self.closing.aclose())


async def open_postgres(url: str, *, direct_url: str | None, pool_size: int) -> Postgres | Finding:
    """The database, or why there is none, within `OPENING_SECONDS`."""
    try:
        database = Database(url, pool_size=_CONNECTIONS, direct_url=direct_url)
    except Exception as error:  # ValueError, StorageError, or what a URL raises that nobody has seen yet
        name = "DIRECT_URL" if isinstance(error, DirectUrlError) else "DATABASE_URL"
        return wrong(f"{name}: {cause_of(error)}", "no process starts", "correct it")
    closing = AsyncExitStack()
    closing.push_async_callback(database.close)
    try:
        connection = await within(OPENING_SECONDS, _connected(database, closing))
    except Exception as error:
        return _unreachable(error, database.safe_url)
    return Postgres(url, direct_url, pool_size, database, connection, closing)


def _unreachable(error: Exception, safe_url: str) -> Finding:
    consequence = "no process starts; while it is away, dead letters wait in Redis"
    mend = "see that it runs, that DATABASE_URL names it, and that user and password are right"
    if isinstance(error, TimeoutError):
        late = f"{safe_url} does not answer: nothing within {OPENING_SECONDS:g} s"
        return wrong(late, consequence, mend)
    if isinstance(error, DatabaseUnavailableError):
        return wrong(cause_of(error), consequence, mend)
    return wrong(
        f"{safe_url}: {cause_of(error)}",
        "no process starts",
        "correct DATABASE_URL: see its port and its parameters",
    )


async def _connected(database: Database, closing: AsyncExitStack) -> AsyncConnection:
    connection = await closing.enter_async_context(database.connect())
    return await connection.execution_options(isolation_level="AUTOCOMMIT")


async def answers(at: Postgres) -> Finding:
    """That it does, we know."""
    started = time.perf_counter()
    await at.value("SELECT 1")
    return ok(f"{at.database.safe_url}, round trip {(time.perf_counter() - started) * 1000:.1f} ms")


async def version(at: Postgres) -> Finding:
    """What our migrations need."""
    number = int(await at.value("SELECT current_setting('server_version_num')"))
    name = f"Postgres {number // 10_000}.{number % 10_000}"
    if number // 10_000 >= _OLDEST:
        return ok(name)
    return wrong(name, "the tables cannot be made", f"use Postgres {_OLDEST} or newer")


async def encryption(at: Postgres) -> Finding:
    """TLS of our own connection: what the server sees may be that of a pooler."""
    ours: Any = (await at.connection.get_raw_connection()).driver_connection
    tls = ours._transport.get_extra_info("ssl_object")
    if tls is not None:
        return ok(tls.version() or "TLS")
    url = make_url(at.url)
    host = url.host or str(url.query.get("host", ""))
    if await is_near(host):
        return ok("none is needed: a private address")
    return warning(
        f"none, and {host} is no private address",
        "the password and all rows travel in clear",
        "append sslmode=require to DATABASE_URL, or better verify-full",
    )


async def primary(at: Postgres) -> Finding:
    """Whether it takes writes at all."""
    standby, read_only = await at.row("SELECT pg_is_in_recovery(), current_setting('transaction_read_only')")
    if not standby and read_only == "off":
        return ok("primary, takes writes")
    return wrong(
        "a read-only standby" if standby else "transactions are read-only here",
        "no dead letter is recorded",
        "name the primary in DATABASE_URL"
        if standby
        else "ALTER ROLE … SET default_transaction_read_only = off; a managed one may have a full disk",
    )


async def migrations(at: Postgres) -> Finding:
    """Which revision the tables have."""
    return of_revision(await _revision(at), await _tables(at))


async def _revision(at: Postgres) -> str | None:
    if await at.value("SELECT to_regclass('alembic_version')") is None:
        return None
    if not await at.value("SELECT has_table_privilege('alembic_version', 'SELECT')"):
        return HEAD  # the check of the rights speaks of it
    found: str | None = await at.value("SELECT version_num FROM alembic_version")
    return found


async def _tables(at: Postgres) -> set[str]:
    rows = await at.connection.execute(
        text("SELECT relname FROM pg_class WHERE pg_table_is_visible(oid) AND relkind IN ('r', 'p')")
    )
    return {name for (name,) in rows} & set(Base.metadata.tables)


async def rights(at: Postgres) -> Finding:
    """May our role do what the product does?  Nothing is tried: Postgres is asked."""
    schema, role = await at.row("SELECT current_schema(), current_user")
    if schema is None:
        return wrong(
            "our role sees no schema",
            "the tables cannot be made or found",
            f"GRANT USAGE, CREATE ON SCHEMA public TO {role}",
        )
    if await _revision(at) != HEAD:
        may = await at.value("SELECT has_schema_privilege(:schema, 'CREATE')", schema=schema)
        if not may:
            return wrong(
                f"{role} may not make tables in the schema {schema}",
                "the next start fails: it brings the tables up to date",
                f"GRANT CREATE ON SCHEMA {schema} TO {role}",
            )
    lacking = await _lacking(at)
    if lacking is None:
        return ok(f"{role} has what it needs")
    right, of = lacking
    grant = _ALL_SEQUENCES if right == "USAGE" else _ALL_RIGHTS
    return wrong(
        f"{role} lacks {right} on {of}",
        "what fails for good cannot be recorded, or not be replayed",
        grant.format(schema=schema, role=role),
    )


async def _lacking(at: Postgres) -> tuple[str, str] | None:
    """The first right that our role lacks, and on what."""
    tables = sorted(Base.metadata.tables)
    searched = [f"{name}_text" for name in tables]
    values = {"needed": list(_NEEDED), "tables": [*tables, *searched, "alembic_version"]}
    for query in (_TABLES_LACKING, _SEQUENCES_LACKING):
        found = (await at.connection.execute(query, values)).first()
        if found is not None:
            return str(found[0]), str(found[1])
    return None


async def connections(at: Postgres) -> Finding:
    """The pools of all processes against what the server gives."""
    processes = await _processes(at.redis)
    if parse_postgres_url(make_url(at.url).set(drivername="postgresql")).behind_pooler:
        return pools(at.pool_size, processes, _MOST, None)
    most, reserved, used = await at.row(
        "SELECT current_setting('max_connections')::int, "
        "current_setting('superuser_reserved_connections')::int, "
        "(SELECT coalesce(sum(numbackends), 0) FROM pg_stat_database)"
    )
    return pools(at.pool_size, processes, min(_MOST, most - reserved), int(used))


def pools(pool_size: int, processes: int | None, limit: int, used: int | None) -> Finding:
    """``processes`` workers that are known, and one more: a dashboard, a command, or the next worker.

    ``used``: None where a pooler stands between, which shares out the server's connections as it likes.
    """
    wanted = pool_size * ((processes or 0) + 1) + _BESIDE
    known = "unknown" if processes is None else str(processes)
    text_ = "to a pooler, at most 100" if used is None else f"{used} of {limit} in use"
    text_ += f"; pool size {pool_size} × ({known} workers + 1) + {_BESIDE} = {wanted}"
    if wanted > limit:
        fitting = max(1, (limit - _BESIDE) // ((processes or 0) + 1))
        return wrong(
            text_,
            "processes find no connection, and dead letters wait",
            f"set COUTURECAST_DB_POOL_SIZE to {fitting}, or use a pooler",
        )
    if used is not None and used >= 0.9 * limit:
        return warning(text_, "the next process may find none", "see pg_stat_activity for who holds them")
    return ok(text_)


async def _processes(server: RedisServer | None) -> int | None:
    """Worker processes of the cluster that were heard of lately."""
    if server is None:
        return None
    found: dict[bytes, bytes] = await server.client.hgetall(WORKERS)  # type: ignore[misc]
    seconds, _ = await server.client.time()
    alive = 0
    for name, body in found.items():
        if not name.startswith(b"at:"):
            with suppress(ValueError, TypeError, LookupError):  # written by somebody else
                heard = float(found[b"at:" + name]) / 1000
                alive += seconds - heard <= wire.load(body)["forget"]
    return alive


async def pooler(at: Postgres) -> Finding:
    """Whether the URL names a transaction pooler, which carries no notifications."""
    if at.database.no_session_reason is not None:
        return warning(
            "a transaction pooler, and no DIRECT_URL",
            _UNHEARD,
            "set DIRECT_URL to the database itself",
        )
    return ok("none, as far as the URL tells" if at.direct_url is None else "DIRECT_URL goes past it")


async def direct(at: Postgres) -> Finding:
    """Whether DIRECT_URL leads where DATABASE_URL leads: migrations go there, and what listens."""
    if at.direct_url is None:
        return ok("no DIRECT_URL: all goes by way of DATABASE_URL")
    try:
        there = await within(_SESSION_SECONDS, _direct_place(at.database))
    except Exception as error:
        cause = "no answer in time" if isinstance(error, TimeoutError) else cause_of(error)
        at.direct_problem = f"DIRECT_URL cannot be used: {cause}"
        mend = "see that it names the same database past the pooler, and that user and password are right"
        if await _revision(at) != HEAD:
            return wrong(at.direct_problem, "the next start fails: migrations go that way", mend)
        return warning(at.direct_problem, f"{_UNHEARD}; a start with migrations fails", mend)
    if there == tuple(await at.row(_PLACE)):
        return ok("the same database, past any pooler")
    at.direct_problem = "DIRECT_URL leads to another server, database or schema"
    return wrong(
        at.direct_problem,
        f"a start that has to migrate fails; {_UNHEARD}",
        "give the same one past the pooler",
    )


async def _direct_place(database: Database) -> tuple[Any, ...]:
    connection = await database.dedicated_connection()
    try:
        return tuple(await connection.fetchrow(_PLACE))
    finally:
        connection.terminate()


async def notifications(at: Postgres) -> Finding:
    """Whether a NOTIFY of our own arrives, past the pooler where a URL for that is set."""
    if at.database.no_session_reason is not None:
        return unknown("not checked: a transaction pooler carries none")
    if at.direct_problem:
        return unknown("not checked: DIRECT_URL cannot be used")
    try:
        heard = await within(_SESSION_SECONDS, notifications_arrive(at.database, seconds=_HEARD_SECONDS))
    except (StorageError, TimeoutError, OSError) as error:
        cause = "no answer in time" if isinstance(error, TimeoutError) else cause_of(error)
        name = "DATABASE_URL" if at.direct_url is None else "DIRECT_URL"
        return warning(f"cannot be tried: {cause}", _UNHEARD, f"see that {name} is right")
    if heard:
        return ok("a NOTIFY arrives")
    return warning(
        f"a NOTIFY did not arrive within {_HEARD_SECONDS:g} s",
        _UNHEARD,
        "set DIRECT_URL to the database itself, past any pooler",
    )


async def clock(at: Postgres) -> Finding:
    """Ours against the server's."""
    sent = time.time()
    theirs = float(await at.value("SELECT extract(epoch FROM clock_timestamp())"))
    return clock_difference((sent + time.time()) / 2 - theirs, "the database's")


async def trigrams(at: Postgres) -> Finding:
    """What makes the search in errors fast."""
    if await at.value("SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'"):
        return ok("pg_trgm is there")
    may = await at.value(
        "SELECT has_database_privilege(current_database(), 'CREATE') AND EXISTS "
        "(SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm')"
    )
    if may and await _revision(at) is None:
        return ok("pg_trgm is made with the tables")
    return unknown("pg_trgm is not there: the search in errors reads all of them", "CREATE EXTENSION pg_trgm")

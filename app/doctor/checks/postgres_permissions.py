"""Checks what our role may do on a Postgres: rights, connections, the search."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.engine import make_url

from app.doctor.checks.postgres import Postgres, revision
from app.doctor.checks.processes import live_workers
from app.doctor.checks.redis_server import RedisServer
from app.doctor.results import Finding, ok, unknown, warning, wrong
from storage.database.migrations import HEAD
from storage.database.postgres_url import parse_postgres_url
from storage.database.tables import Base

_MAX_CONNECTIONS = 100
"""Limit of the connections of all processes together."""
_EXTRA_CONNECTIONS = 2
"""Connections outside of the pools: one that listens, one for migrations; see docs/postgres.md."""

_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")
_MISSING_ON_TABLES = text(
    "SELECT privilege, relname::text FROM pg_class, unnest(CAST(:needed AS text[])) AS privilege "
    "WHERE relkind IN ('r', 'p') AND relname = ANY(CAST(:tables AS text[])) AND pg_table_is_visible(oid) "
    "AND (privilege IN ('SELECT', 'INSERT') OR relname <> 'operator_actions') "
    "AND (privilege = 'SELECT' OR relname <> 'alembic_version') "
    "AND NOT has_table_privilege(oid, privilege) LIMIT 1"
)
_MISSING_ON_SEQUENCES = text(
    "SELECT 'USAGE', s.relname::text FROM pg_class s JOIN pg_depend d ON d.objid = s.oid "
    "JOIN pg_class t ON t.oid = d.refobjid WHERE s.relkind = 'S' AND d.deptype IN ('a', 'i') "
    "AND t.relname = ANY(CAST(:tables AS text[])) AND pg_table_is_visible(t.oid) "
    "AND CASE s.relkind WHEN 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE') ELSE false END LIMIT 1"
)
_GRANT_TABLES = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
_GRANT_SEQUENCES = "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}"


async def rights(postgres: Postgres) -> Finding:
    """Check the rights of our role, by Postgres' own functions; nothing is tried."""
    schema, role = await postgres.row("SELECT current_schema(), current_user")
    if schema is None:
        return wrong(
            "our role sees no schema",
            "the tables cannot be made or found",
            f"GRANT USAGE, CREATE ON SCHEMA public TO {role}",
        )
    if await revision(postgres) != HEAD:
        may_create = await postgres.value("SELECT has_schema_privilege(:schema, 'CREATE')", schema=schema)
        if not may_create:
            return wrong(
                f"{role} may not make tables in the schema {schema}",
                "the next start fails: it brings the tables up to date",
                f"GRANT CREATE ON SCHEMA {schema} TO {role}",
            )
    missing = await _missing_privilege(postgres)
    if missing is None:
        return ok(f"{role} has what it needs")
    privilege, relation = missing
    grant = _GRANT_SEQUENCES if privilege == "USAGE" else _GRANT_TABLES
    return wrong(
        f"{role} lacks {privilege} on {relation}",
        "dead letters cannot be recorded, or not be replayed",
        grant.format(schema=schema, role=role),
    )


async def _missing_privilege(postgres: Postgres) -> tuple[str, str] | None:
    """Return the first privilege that our role lacks, and its relation."""
    tables = sorted(Base.metadata.tables)
    search_tables = [f"{name}_text" for name in tables]
    values = {"needed": list(_PRIVILEGES), "tables": [*tables, *search_tables, "alembic_version"]}
    for query in (_MISSING_ON_TABLES, _MISSING_ON_SEQUENCES):
        row = (await postgres.connection.execute(query, values)).first()
        if row is not None:
            return str(row[0]), str(row[1])
    return None


async def connections(postgres: Postgres) -> Finding:
    """Compare the pools of all processes with the connections of the server."""
    workers = await _live_workers(postgres.redises)
    if parse_postgres_url(make_url(postgres.url).set(drivername="postgresql")).behind_pooler:
        return assess_pool_size(postgres.pool_size, workers, _MAX_CONNECTIONS, None)
    limit, reserved, used = await postgres.row(
        "SELECT current_setting('max_connections')::int, "
        "current_setting('superuser_reserved_connections')::int, "
        "(SELECT coalesce(sum(numbackends), 0) FROM pg_stat_database)"
    )
    return assess_pool_size(postgres.pool_size, workers, min(_MAX_CONNECTIONS, limit - reserved), int(used))


def assess_pool_size(pool_size: int, workers: int | None, limit: int, used: int | None) -> Finding:
    """Judge the pools of ``workers`` processes, and of one more: a dashboard, a command, or the next worker.

    ``used`` is None behind a pooler, which distributes the server's connections by its own rules.
    """
    needed = pool_size * ((workers or 0) + 1) + _EXTRA_CONNECTIONS
    count = "unknown" if workers is None else str(workers)
    finding = "to a pooler, at most 100" if used is None else f"{used} of {limit} in use"
    finding += f"; pool size {pool_size} × ({count} workers + 1) + {_EXTRA_CONNECTIONS} = {needed}"
    if needed > limit:
        fitting = max(1, (limit - _EXTRA_CONNECTIONS) // ((workers or 0) + 1))
        return wrong(
            finding,
            "processes get no connection, and dead letters wait",
            f"set COUTURECAST_DB_POOL_SIZE to {fitting}, or use a pooler",
        )
    if used is not None and used >= 0.9 * limit:
        return warning(finding, "the next process may get none", "see pg_stat_activity for their clients")
    return ok(finding)


async def _live_workers(servers: Sequence[RedisServer]) -> int | None:
    """Count the worker processes of the cluster; None if no Redis answers."""
    if not servers:
        return None
    living: set[str] = set()
    for server in servers:
        living |= {worker.id for worker in await live_workers(server)}
    return len(living)


async def trigrams(postgres: Postgres) -> Finding:
    """Check for the extension that makes the search in errors fast."""
    if await postgres.value("SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'"):
        return ok("pg_trgm is installed")
    may_create = await postgres.value(
        "SELECT has_database_privilege(current_database(), 'CREATE') AND EXISTS "
        "(SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm')"
    )
    if may_create and await revision(postgres) is None:
        return ok("pg_trgm is made with the tables")
    return unknown(
        "pg_trgm is not installed: the search in errors reads all of them", "CREATE EXTENSION pg_trgm"
    )

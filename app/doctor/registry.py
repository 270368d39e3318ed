"""Lists all checks by group, in the order of the report."""

from __future__ import annotations

from app.doctor.checks import (
    cache,
    embedded_valkey,
    http_port,
    machine,
    postgres,
    postgres_permissions,
    processes,
    redis_permissions,
    redis_placement,
    redis_server,
    redis_state,
    redis_tls,
    settings,
    sqlite,
    terminal,
)
from app.doctor.checks.postgres import Postgres
from app.doctor.checks.redis_server import RedisServer
from app.doctor.checks.settings import LoadedSettings
from app.doctor.checks.sqlite import SqliteFile
from app.doctor.groups import Check

SETTINGS: tuple[Check[LoadedSettings], ...] = (
    Check("handlers", settings.handlers),
    Check("weather", settings.weather),
    Check("image folders", settings.images),
    Check("notifications", settings.notifications),
)

REDIS: tuple[Check[RedisServer], ...] = (
    Check("server", redis_server.answers),
    Check("round trip", redis_server.round_trip),
    Check("encryption", redis_tls.encryption),
    Check("version", redis_state.version),
    Check("role", redis_state.role),
    Check("scripts", redis_permissions.scripts),
    Check("blocking wait", redis_permissions.blocking),
    Check("messages", redis_permissions.messages),
    Check("write rights", redis_permissions.writes),
    Check("engine's rights", redis_permissions.engine),
    Check("eviction", redis_state.eviction),
    Check("memory", redis_state.memory),
    Check("persistence", redis_state.persistence),
    Check("clock", redis_state.clock),
    Check("connections", redis_state.connections),
    Check("idle cost", redis_state.idle_cost),
    Check("processes", processes.same_settings),
)

ONE_REDIS_OF_SEVERAL = (REDIS[0], Check("queues", redis_placement.placement), *REDIS[1:])
"""Run instead of `REDIS` if queues have a Redis of their own."""

EMBEDDED: tuple[Check[LoadedSettings], ...] = (
    Check("server", embedded_valkey.server),
    Check("append-only file", embedded_valkey.append_only_file),
)
"""Run instead of `REDIS` if the embedded server does not run."""

CACHE: tuple[Check[RedisServer], ...] = (
    Check("server", redis_server.answers),
    Check("round trip", redis_server.round_trip),
    Check("encryption", redis_tls.encryption),
    Check("own server", cache.own_server),
    Check("scripts", redis_permissions.scripts),
    Check("write rights", redis_permissions.writes),
    Check("eviction", cache.eviction),
    Check("memory", cache.memory),
)
"""Run if CACHE_REDIS_URL is set."""

POSTGRES: tuple[Check[Postgres], ...] = (
    Check("server", postgres.answers),
    Check("version", postgres.version),
    Check("encryption", postgres.encryption),
    Check("role", postgres.primary),
    Check("migrations", postgres.migrations),
    Check("rights", postgres_permissions.rights),
    Check("connections", postgres_permissions.connections),
    Check("pooler", postgres.pooler),
    Check("search", postgres_permissions.trigrams),
    Check("clock", postgres.clock),
    Check("direct URL", postgres.direct_url),
    Check("notifications", postgres.notifications),
)

SQLITE: tuple[Check[SqliteFile], ...] = (
    Check("file", sqlite.file),
    Check("version", sqlite.library),
    Check("migrations", sqlite.migrations),
    Check("disk", sqlite.disk),
)

MACHINE: tuple[Check[LoadedSettings], ...] = (
    Check("Python", machine.python),
    Check("data directory", machine.data_directory),
    Check("disk", machine.disk),
    Check("HTTP", http_port.port),
    Check("admin token", machine.token),
    Check("terminal", terminal.terminal),
    Check("open files", machine.open_files),
    Check("processors", machine.processors),
)

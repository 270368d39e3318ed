"""All checks, by group, in the order in which they are shown."""

from __future__ import annotations

from app.doctor.checks import (
    cache,
    machine,
    postgres,
    redis_state,
    settings,
    sqlite,
    terminal,
)
from app.doctor.checks import (
    embedded_valkey as embedded,
)
from app.doctor.checks import (
    http_port as port,
)
from app.doctor.checks import (
    redis_permissions as redis_rights,
)
from app.doctor.checks import (
    redis_server as redis,
)
from app.doctor.checks import (
    redis_tls as redis_encryption,
)
from app.doctor.checks.postgres import Postgres
from app.doctor.checks.redis_server import RedisServer
from app.doctor.checks.settings import Configuration
from app.doctor.checks.sqlite import SqliteFile
from app.doctor.groups import Check

SETTINGS: tuple[Check[Configuration], ...] = (
    Check("handlers", settings.handlers),
    Check("weather", settings.weather),
    Check("image folders", settings.images),
)

REDIS: tuple[Check[RedisServer], ...] = (
    Check("server", redis.answers),
    Check("round trip", redis.round_trip),
    Check("encryption", redis_encryption.encryption),
    Check("version", redis_state.version),
    Check("role", redis_state.role),
    Check("scripts", redis_rights.scripts),
    Check("blocking wait", redis_rights.blocking),
    Check("messages", redis_rights.messages),
    Check("write rights", redis_rights.writes),
    Check("engine's rights", redis_rights.engine),
    Check("eviction", redis_state.eviction),
    Check("memory", redis_state.memory),
    Check("persistence", redis_state.persistence),
    Check("clock", redis_state.clock),
    Check("connections", redis_state.connections),
    Check("idle cost", redis_state.idle_cost),
)

EMBEDDED: tuple[Check[Configuration], ...] = (
    Check("server", machine.embedded_server),
    Check("append-only file", embedded.append_only_file),
)
"""In their place where the embedded server does not run."""

CACHE: tuple[Check[RedisServer], ...] = (
    Check("server", redis.answers),
    Check("round trip", redis.round_trip),
    Check("encryption", redis_encryption.encryption),
    Check("own server", cache.own_server),
    Check("scripts", redis_rights.scripts),
    Check("write rights", redis_rights.writes),
    Check("eviction", cache.eviction),
    Check("memory", cache.memory),
)
"""Where CACHE_REDIS_URL is set."""

POSTGRES: tuple[Check[Postgres], ...] = (
    Check("server", postgres.answers),
    Check("version", postgres.version),
    Check("encryption", postgres.encryption),
    Check("role", postgres.primary),
    Check("migrations", postgres.migrations),
    Check("rights", postgres.rights),
    Check("connections", postgres.connections),
    Check("pooler", postgres.pooler),
    Check("search", postgres.trigrams),
    Check("clock", postgres.clock),
    Check("direct URL", postgres.direct),
    Check("notifications", postgres.notifications),
)

SQLITE: tuple[Check[SqliteFile], ...] = (
    Check("file", sqlite.place),
    Check("version", sqlite.library),
    Check("migrations", sqlite.migrations),
    Check("disk", sqlite.disk),
)

MACHINE: tuple[Check[Configuration], ...] = (
    Check("Python", machine.python),
    Check("data directory", machine.data_directory),
    Check("disk", machine.disk),
    Check("HTTP", port.port),
    Check("admin token", machine.token),
    Check("terminal", terminal.terminal),
    Check("open files", machine.open_files),
    Check("processors", machine.processors),
)

"""What is examined: everything that the settings name is opened at the same time, then checked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

from sqlalchemy.engine import make_url

from app.doctor import registry as checks
from app.doctor.checks import cache as caches
from app.doctor.checks.machine import embedded_listens
from app.doctor.checks.postgres import Postgres, open_postgres
from app.doctor.checks.redis_server import RedisServer, open_redis
from app.doctor.checks.settings import GROUP, Configuration, read_settings
from app.doctor.checks.sqlite import SqliteFile
from app.doctor.groups import OPENING_SECONDS, Check, examined, unexamined, within
from app.doctor.results import Finding, Item, cause_of, ok, unknown
from app.servers.embedded_valkey import EmbeddedServer
from app.servers.redis_eviction import same_server
from app.settings import DATABASE_FILE

REDIS, CACHE, DATABASE, MACHINE = "Redis", "cache", "database", "machine"

S = TypeVar("S")
_MOST_SECONDS = OPENING_SECONDS + 2.0  # of an opening, all in all


async def examine(of: Configuration) -> list[Item]:
    """All items, group by group.  Takes some 12 s where nothing answers in time."""
    # What hangs in its own code or file system hangs beside the servers, not before them.
    own = [
        asyncio.ensure_future(examined(GROUP, of, checks.SETTINGS)),
        asyncio.ensure_future(examined(MACHINE, of, checks.MACHINE)),
    ]
    redis, cache, database = await asyncio.gather(
        _opened(_open_redis(of)), _opened(_open_cache(of)), _opened(_open_database(of))
    )
    _introduce(redis, cache, database)
    try:
        servers = await asyncio.gather(
            _examine_redis(of, redis), _examine_cache(cache), _examine_database(database)
        )
        settings, machine = await asyncio.gather(*own)
    finally:
        await asyncio.gather(
            *(each.close() for each in (redis, cache, database) if isinstance(each, RedisServer | Postgres))
        )
    return [*read_settings(of), *settings, *(item for group in servers for item in group), *machine]


async def _opened(opening: Awaitable[S]) -> S | Finding:
    """What no part of the opening foresees hides nothing else either."""
    try:
        return await within(_MOST_SECONDS, opening)
    except Exception as error:
        return unknown(f"not checked: {cause_of(error)}")


async def _open_redis(of: Configuration) -> RedisServer | Finding | None:
    """None: the embedded server does not run."""
    if of.is_broken("REDIS_URL"):
        return unknown("not checked: REDIS_URL cannot be read")
    given = of.settings.redis_url
    if given is None:
        if not await asyncio.to_thread(embedded_listens, of):
            return None
        server = EmbeddedServer(of.settings.data_dir)
        found = await open_redis(server.url, "REDIS_URL", embedded=server.directory)
    else:
        found = await open_redis(given.get_secret_value(), "REDIS_URL")
    if isinstance(found, RedisServer):
        found.pace = of.settings.pace
    return found


async def _open_cache(of: Configuration) -> RedisServer | Finding | None:
    """None: it lives beside the queues."""
    if of.is_broken("CACHE_REDIS_URL"):
        return unknown("not checked: CACHE_REDIS_URL cannot be read")
    given = of.settings.cache_redis_url
    if given is None:
        return None
    found = await open_redis(given.get_secret_value(), caches.VARIABLE)
    if isinstance(found, RedisServer):
        found.prefixes = caches.PREFIXES
    return found


async def _open_database(of: Configuration) -> Postgres | SqliteFile | Finding:
    if of.is_broken("DATABASE_URL"):
        return unknown("not checked: DATABASE_URL cannot be read")
    settings = of.settings
    if settings.database_url is None:
        return SqliteFile(settings.data_dir.absolute() / DATABASE_FILE)
    url = settings.database_url.get_secret_value()
    if url.startswith("sqlite:"):
        return SqliteFile(Path(make_url(url).database or ""))
    direct = settings.direct_url.get_secret_value() if settings.direct_url is not None else None
    return await open_postgres(url, direct_url=direct, pool_size=settings.db_pool_size)


def _introduce(redis: object, cache: object, database: object) -> None:
    """Tell each server what it has to know of the others."""
    if isinstance(redis, RedisServer) and isinstance(cache, RedisServer):
        ids = [(each.about.get("run_id"), each.url) for each in (redis, cache)]
        redis.cache_beside = cache.cache_beside = same_server(*ids)
    elif isinstance(redis, RedisServer):
        redis.cache_beside = cache is None
    elif isinstance(cache, RedisServer):
        cache.cache_beside = False
    if isinstance(database, Postgres) and isinstance(redis, RedisServer):
        database.redis = redis


async def _examine_redis(of: Configuration, redis: RedisServer | Finding | None) -> list[Item]:
    if redis is None:
        return await examined(REDIS, of, checks.EMBEDDED)
    return await _examine(REDIS, redis, checks.REDIS, "Redis does not answer")


async def _examine_cache(cache: RedisServer | Finding | None) -> list[Item]:
    if cache is None:
        return [Item(CACHE, "server", ok("beside the queues: no CACHE_REDIS_URL"))]
    items = await _examine(CACHE, cache, checks.CACHE, "the cache's Redis does not answer")
    return list(map(caches.as_warning, items))


async def _examine_database(database: Postgres | SqliteFile | Finding) -> list[Item]:
    if isinstance(database, SqliteFile):
        return await examined(DATABASE, database, checks.SQLITE)
    return await _examine(DATABASE, database, checks.POSTGRES, "the database does not answer", together=1)


def _examine(
    group: str, server: S | Finding, among: Sequence[Check[S]], why: str, *, together: int = 4
) -> Awaitable[list[Item]]:
    """The items of a server that answers; of one that does not, why, and what depends on it."""
    if not isinstance(server, Finding):
        return examined(group, server, among, together=together)

    async def away() -> list[Item]:
        first, *others = among
        reason = why if server.state == "wrong" else server.finding.removeprefix("not checked: ")
        return [Item(group, first.name, server), *unexamined(group, others, reason)]

    return away()

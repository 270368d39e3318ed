"""Runs all checks: opens every server that the settings name at the same time, checks it, closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from sqlalchemy.engine import make_url

from app.doctor import registry
from app.doctor.checks import cache as cache_checks
from app.doctor.checks.embedded_valkey import embedded_server_listens
from app.doctor.checks.postgres import Postgres, open_postgres
from app.doctor.checks.redis_placement import compare
from app.doctor.checks.redis_server import RedisServer, open_redis
from app.doctor.checks.settings import GROUP, LoadedSettings, check_settings
from app.doctor.checks.sqlite import SqliteFile
from app.doctor.groups import OPENING_SECONDS, Check, run_group, run_with_timeout, skip_group
from app.doctor.results import CheckResult, Finding, describe_cause, ok
from app.servers.embedded_valkey import EmbeddedServer
from app.servers.redis_eviction import is_same_server
from app.servers.redis_placement import RedisAddress, redis_addresses
from app.settings import DATABASE_FILE

REDIS, CACHE, DATABASE, MACHINE = "Redis", "cache", "database", "machine"

S = TypeVar("S")
_MAX_OPENING_SECONDS = OPENING_SECONDS + 2.0
"""Timeout of an opening as a whole: after its own timeout it may diagnose the cause."""


@dataclass(frozen=True, slots=True)
class _NotOpened:
    """A server that was not asked at all."""

    reason: str


async def run_checks(config: LoadedSettings) -> list[CheckResult]:
    """Return all results, group by group.  Takes some 12 s if nothing answers in time."""
    # A module or a file system that hangs delays its own group only, so these two start first.
    local = [
        asyncio.ensure_future(run_group(GROUP, config, registry.SETTINGS)),
        asyncio.ensure_future(run_group(MACHINE, config, registry.MACHINE)),
    ]
    others = _other_addresses(config)
    redis, cache, database, opened_others = await asyncio.gather(
        _open_safely(_open_redis(config)),
        _open_safely(_open_cache(config)),
        _open_safely(_open_database(config)),
        asyncio.gather(*(_open_safely(_open_other(config, address)) for address in others)),
    )
    _share_facts(redis, cache)
    other_servers = list(zip(others, opened_others, strict=True))
    _share_placement(config, redis, other_servers, cache)
    if isinstance(database, Postgres):
        database.redises = [server for server in (redis, *opened_others) if isinstance(server, RedisServer)]
    try:
        servers = await asyncio.gather(
            _check_redis(config, redis),
            *(_check_other(address, server) for address, server in other_servers),
            _check_cache(cache),
            _check_database(database),
        )
        settings, machine = await asyncio.gather(*local)
    finally:
        open_servers = [
            server
            for server in (redis, cache, database, *opened_others)
            if isinstance(server, RedisServer | Postgres)
        ]
        await asyncio.gather(*(server.close() for server in open_servers))
    return [*check_settings(config), *settings, *(result for group in servers for result in group), *machine]


async def _open_safely(opening: Awaitable[S]) -> S | _NotOpened:
    """Await an opening; an error that it does not expect must not hide the other groups."""
    try:
        return await run_with_timeout(_MAX_OPENING_SECONDS, opening)
    except Exception as error:
        return _NotOpened(describe_cause(error))


async def _open_redis(config: LoadedSettings) -> RedisServer | Finding | _NotOpened | None:
    """Open the queues' Redis; None if it is the embedded server, which does not run."""
    if config.is_broken("REDIS_URL"):
        return _NotOpened("REDIS_URL cannot be read")
    url = config.settings.redis_url
    if url is None:
        if not await asyncio.to_thread(embedded_server_listens, config):
            return None
        embedded = EmbeddedServer(config.settings.data_dir)
        server = await open_redis(embedded.url, "REDIS_URL", embedded=embedded.directory)
    else:
        server = await open_redis(url.get_secret_value(), "REDIS_URL")
    if isinstance(server, RedisServer):
        server.pace, server.thresholds = config.settings.pace, config.settings.thresholds
        server.policies = config.policies
    return server


def _other_addresses(config: LoadedSettings) -> list[RedisAddress]:
    """Return the Redises of single queues."""
    url = config.settings.redis_url
    _, *others = redis_addresses("" if url is None else url.get_secret_value(), config.policies)
    return others


async def _open_other(config: LoadedSettings, address: RedisAddress) -> RedisServer | Finding:
    server = await open_redis(address.url, address.variable)
    if isinstance(server, RedisServer):
        server.pace, server.thresholds = config.settings.pace_at(address.url), config.settings.thresholds
        server.policies, server.cache_is_shared = config.policies, False
    return server


async def _open_cache(config: LoadedSettings) -> RedisServer | Finding | _NotOpened | None:
    """Open the cache's Redis; None if the cache shares that of the queues."""
    if config.is_broken("CACHE_REDIS_URL"):
        return _NotOpened("CACHE_REDIS_URL cannot be read")
    url = config.settings.cache_redis_url
    if url is None:
        return None
    server = await open_redis(url.get_secret_value(), cache_checks.VARIABLE)
    if isinstance(server, RedisServer):
        server.prefixes = cache_checks.PREFIXES
    return server


async def _open_database(config: LoadedSettings) -> Postgres | SqliteFile | Finding | _NotOpened:
    if config.is_broken("DATABASE_URL"):
        return _NotOpened("DATABASE_URL cannot be read")
    settings = config.settings
    if settings.database_url is None:
        return SqliteFile(settings.data_dir.absolute() / DATABASE_FILE)
    url = settings.database_url.get_secret_value()
    if url.startswith("sqlite:"):
        return SqliteFile(Path(make_url(url).database or ""))
    direct = settings.direct_url.get_secret_value() if settings.direct_url is not None else None
    return await open_postgres(url, direct_url=direct, pool_size=settings.db_pool_size)


def _share_facts(redis: object, cache: object) -> None:
    """Give each server the facts about the others that its checks need."""
    if isinstance(redis, RedisServer) and isinstance(cache, RedisServer):
        redis.cache_is_shared = cache.cache_is_shared = _is_same(redis, cache)
    elif isinstance(redis, RedisServer):
        redis.cache_is_shared = cache is None
    elif isinstance(cache, RedisServer):
        cache.cache_is_shared = False


def _is_same(one: RedisServer, other: RedisServer) -> bool:
    return is_same_server((one.info.run_id, one.url), (other.info.run_id, other.url))


def _share_placement(
    config: LoadedSettings, redis: object, others: Sequence[tuple[RedisAddress, object]], cache: object
) -> None:
    """Note for each Redis of several which queues it holds, and what it has in common with another."""
    if not others:
        return
    placed_queues = {name for address, _ in others for name in address.queues}
    holders = [(redis, tuple(name for name in config.policies if name not in placed_queues))]
    holders += [(server, address.queues) for address, server in others]
    servers = [(server, queues) for server, queues in holders if isinstance(server, RedisServer)]
    for server, queues in servers:
        server.queues = queues
        server.foreign = tuple(name for name in config.policies if name not in queues)
        if isinstance(cache, RedisServer):
            server.cache_is_shared = _is_same(server, cache)
            cache.cache_is_shared = cache.cache_is_shared or server.cache_is_shared
    compare([server for server, _ in servers])


async def _check_other(
    address: RedisAddress, server: RedisServer | Finding | _NotOpened
) -> list[CheckResult]:
    group = f"{REDIS} of {', '.join(address.queues)}"
    if isinstance(server, Finding) and server.is_silent:
        server = replace(server, consequence="its queues wait, those of the other servers run")
    return await _check_server(group, server, registry.ONE_REDIS_OF_SEVERAL, "it does not answer")


async def _check_redis(
    config: LoadedSettings, redis: RedisServer | Finding | _NotOpened | None
) -> list[CheckResult]:
    if redis is None:
        return await run_group(REDIS, config, registry.EMBEDDED)
    several = isinstance(redis, RedisServer) and bool(redis.foreign)
    checks = registry.ONE_REDIS_OF_SEVERAL if several else registry.REDIS
    return await _check_server(REDIS, redis, checks, "Redis does not answer")


async def _check_cache(cache: RedisServer | Finding | _NotOpened | None) -> list[CheckResult]:
    if cache is None:
        return [CheckResult(CACHE, "server", ok("shares the Redis of the queues: no CACHE_REDIS_URL"))]
    results = await _check_server(CACHE, cache, registry.CACHE, "the cache's Redis does not answer")
    return list(map(cache_checks.as_warning, results))


async def _check_database(database: Postgres | SqliteFile | Finding | _NotOpened) -> list[CheckResult]:
    if isinstance(database, SqliteFile):
        return await run_group(DATABASE, database, registry.SQLITE)
    reason = "the database does not answer"
    return await _check_server(DATABASE, database, registry.POSTGRES, reason, concurrency=1)


async def _check_server(
    group: str,
    server: S | Finding | _NotOpened,
    checks: Sequence[Check[S]],
    reason: str,
    *,
    concurrency: int = 4,
) -> list[CheckResult]:
    """Check a server; if it does not answer, report that and skip the other checks for ``reason``."""
    if isinstance(server, _NotOpened):
        return skip_group(group, checks, server.reason)
    if isinstance(server, Finding):
        first, *others = checks
        return [CheckResult(group, first.name, server), *skip_group(group, others, reason)]
    return await run_group(group, server, checks, concurrency=concurrency)

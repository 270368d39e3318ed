"""Checks that the Redis of the queues does not evict keys: an evicted job is lost."""

from __future__ import annotations

from urllib.parse import urlsplit

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.errors import UsageError
from storage.errors import one_line
from storage.redis.client import make_client, redact_url
from storage.redis.info import ServerInfo, reply_or_empty
from workers.monitoring.alert_evaluation import evicts_jobs

log = structlog.get_logger(__name__)

EVICTION_FIX = (
    "run CONFIG SET maxmemory-policy volatile-lru there, or set CACHE_REDIS_URL to a Redis of its own"
)


async def eviction_policy(client: Redis) -> str | None:
    """Return the server's ``maxmemory-policy``; None if it denies both commands, as managed ones may.

    Raises RedisError if it does not answer.
    """
    policy = (await reply_or_empty(client.info("memory"))).get("maxmemory_policy")
    if not policy:
        policy = (await reply_or_empty(client.config_get("maxmemory-policy"))).get("maxmemory-policy")
    return str(policy) if policy else None


async def check_eviction(redis_url: str, cache_url: str | None, variable: str = "REDIS_URL") -> None:
    """Raise UsageError if jobs at ``redis_url`` may be evicted.

    If the cache has its own server, log a warning only: then the cache does not fill this one.
    """
    client = make_client(redis_url)
    try:
        policy = await eviction_policy(client)
        if not evicts_jobs(policy):
            log.info("eviction", url=redact_url(redis_url), policy=policy or "unknown")
            return
        danger = f"{redact_url(redis_url)} evicts by {policy}: queued jobs may be evicted, and so lost"
        if cache_url is None or await _on_one_server(client, redis_url, cache_url):
            raise UsageError(danger, field=variable, fix=EVICTION_FIX)
        log.warning(danger, fix="CONFIG SET maxmemory-policy noeviction")
    except (RedisError, OSError) as error:
        log.info("eviction", url=redact_url(redis_url), policy="unknown", cause=one_line(error))
    finally:
        await client.aclose()


def is_same_server(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Compare two servers by run id, or by URL if one does not report its id; the database does not count."""
    if one[0] and other[0]:
        return one[0] == other[0]
    return _host_and_port(one[1]) == _host_and_port(other[1])


async def _on_one_server(client: Redis, redis_url: str, cache_url: str) -> bool:
    cache = make_client(cache_url)
    try:
        ids = await _run_id(client), await _run_id(cache)
    finally:
        await cache.aclose()
    return is_same_server((ids[0], redis_url), (ids[1], cache_url))


async def _run_id(client: Redis) -> str:
    try:
        return ServerInfo.parse(await reply_or_empty(client.info("server"))).run_id
    except (RedisError, OSError):  # the cache is unavailable
        return ""


def _host_and_port(url: str) -> tuple[str, ...]:
    """Return host and port of a URL, or the path of its socket."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return ("unix", parts.path)
    return ((parts.hostname or "localhost").lower(), str(parts.port or 6379))

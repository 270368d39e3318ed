"""May the Redis that holds the queues throw keys away?  It may not: a job that is evicted is lost."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from app.errors import UsageError
from storage.redis.client import make_client, redact_url
from workers.monitoring.thresholds import evicts_jobs

log = structlog.get_logger(__name__)

MEND = "run CONFIG SET maxmemory-policy volatile-lru there, or set CACHE_REDIS_URL to a Redis of its own"


async def eviction_policy(client: Redis) -> str | None:
    """The server's ``maxmemory-policy``, None where it does not say: managed ones may deny both commands.

    Raises RedisError where it does not answer.
    """
    about = await _told(client.info("memory"))
    if not about.get("maxmemory_policy"):
        about = await _told(client.config_get("maxmemory-policy"))
    policy = about.get("maxmemory_policy") or about.get("maxmemory-policy")
    return str(policy) if policy else None


async def check_eviction(redis_url: str, cache_url: str | None) -> None:
    """Raises UsageError where jobs at ``redis_url`` may be evicted.

    A warning will do where the cache has a server of its own: then it is not the cache that fills this one.
    """
    client = make_client(redis_url)
    try:
        policy = await eviction_policy(client)
        if not evicts_jobs(policy):
            log.info("eviction", url=redact_url(redis_url), policy=policy or "unknown")
            return
        danger = f"{redact_url(redis_url)} evicts by {policy}: queued jobs may be evicted, and so lost"
        if cache_url is None or await _on_one_server(client, redis_url, cache_url):
            raise UsageError(f"REDIS_URL: {danger}: {MEND}")
        log.warning(danger, mend="CONFIG SET maxmemory-policy noeviction")
    except (RedisError, OSError) as error:
        log.info("eviction", url=redact_url(redis_url), policy="unknown", cause=" ".join(str(error).split()))
    finally:
        await client.aclose()


def same_server(one: tuple[object, str], other: tuple[object, str]) -> bool:
    """By the run ids that servers tell, else by their URLs; another database is no other server."""
    if one[0] and other[0]:
        return one[0] == other[0]
    return _address(one[1]) == _address(other[1])


async def _on_one_server(client: Redis, redis_url: str, cache_url: str) -> bool:
    cache = make_client(cache_url)
    try:
        ours, theirs = await _run_id(client), await _run_id(cache)
    finally:
        await cache.aclose()
    return same_server((ours, redis_url), (theirs, cache_url))


async def _run_id(client: Redis) -> str | None:
    try:
        run_id = (await _told(client.info("server"))).get("run_id")
    except (RedisError, OSError):  # a cache that is away
        return None
    return str(run_id) if run_id else None


def _address(url: str) -> tuple[str, ...]:
    """Where a server is, whatever database of it ``url`` names."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return ("unix", parts.path)
    return ((parts.hostname or "localhost").lower(), str(parts.port or 6379))


async def _told(asking: Any) -> dict[str, Any]:
    """What the server says; nothing where it does not know the command or denies it."""
    try:
        return dict(await asking)
    except ResponseError:
        return {}

"""Waits at the start for a Redis that does not serve yet, and ends it at once if waiting cannot help."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from urllib.parse import unquote, urlsplit

import structlog
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.errors import UnavailableError, UsageError
from app.servers.redis_tls import encryption_problem
from storage.redis.client import make_client, redact_url
from storage.redis.refusals import CLUSTER_MODE, Refusal, fix_of, problem_of, refusal_of
from workers.engine.probe import check_reads, check_rights

log = structlog.get_logger(__name__)

_DELAY_SECONDS = (0.1, 2.0)
"""Between two tries: the first time, and at the most."""
_UNAVAILABLE = (RedisConnectionError, RedisTimeoutError, InvalidResponse, OSError)


async def wait_for_redis(url: str, timeout: float, *, works: bool) -> None:
    """Return once Redis can be read, and if this process ``works`` once it lets us do all that workers do.

    Raises UsageError, UnavailableError.
    """

    async def check() -> None:
        client = make_client(url)  # another each time: after a failover it may lead to another server
        try:
            await check_reads(client)
            if works:
                await check_rights(client)
        finally:
            await client.aclose()

    await until_redis_serves(check, url, timeout)


async def until_redis_serves(attempt: Callable[[], Awaitable[None]], url: str, timeout: float) -> None:
    """Await ``attempt`` until it succeeds, for ``timeout`` seconds if it fails by what may pass by itself.

    Raises UsageError, UnavailableError.
    """
    place, user = f"REDIS_URL: {redact_url(url)}", unquote(urlsplit(url).username or "default")
    deadline, (delay, longest), waits = time.monotonic() + timeout, _DELAY_SECONDS, False
    while True:
        try:
            await attempt()
        except (RedisError, OSError) as error:
            refusal = await _refusal(url, error)
            if refusal is None:
                await _end_if_lasting(place, url, error, first=not waits)
                cause = " ".join(str(error).split())
                failure = f"{place} does not answer, given up after {timeout:g} s: {cause}"
            else:
                cause = f"{problem_of(error, refusal)}: {fix_of(error, refusal, user)}"
                if not refusal.passes:
                    raise UsageError(f"{place}: {cause}") from None
                failure = f"{place}: {cause}; given up after {timeout:g} s"
            if time.monotonic() + delay > deadline:
                raise UnavailableError(failure) from None
            if not waits:
                log.warning("waiting for Redis", url=redact_url(url), cause=cause)
                waits = True
        else:
            return
        await asyncio.sleep(delay)
        delay = min(delay * 2, longest)


async def _refusal(url: str, error: Exception) -> Refusal | None:
    """The kind of refusal.  A node of a cluster that is not complete yet will be one of a cluster, too."""
    refusal = refusal_of(error)
    if refusal is None or refusal.code != "CLUSTERDOWN":
        return refusal
    client = make_client(url)
    try:
        return CLUSTER_MODE if await in_cluster_mode(client) else refusal
    finally:
        await client.aclose()


async def in_cluster_mode(client: Redis) -> bool:
    """Whether the server says that it is a node of a cluster; False if it does not tell."""
    try:
        about = await client.info("cluster")
    except (RedisError, OSError):
        return False
    return bool(about.get("cluster_enabled"))


async def _end_if_lasting(place: str, url: str, error: Exception, *, first: bool) -> None:
    """Raise UsageError or UnavailableError unless ``error``, no known refusal, may pass by itself."""
    if not isinstance(error, _UNAVAILABLE):
        raise UnavailableError(f"{place}: {' '.join(str(error).split())}") from None
    problem = await encryption_problem(url, error) if first else None
    if problem is not None:
        raise UsageError(f"{place}: {problem}") from None

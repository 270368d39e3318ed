"""Opens the Redis of a process: waits for the configured one, or runs the embedded server.

It fails at once if waiting cannot help.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import structlog
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.errors import AppError, UnavailableError, UsageError
from app.servers.embedded_valkey import EmbeddedServer, EmbeddedServerError
from app.servers.redis_tls import diagnose_tls
from app.settings import Settings
from storage.backoff import Backoff
from storage.errors import UNREACHABLE_FIX, one_line
from storage.redis.client import make_client, redact_url
from storage.redis.refusals import CLUSTER_MODE, Refusal, fix_of, problem_of, refusal_of
from workers.engine.probe import check_reads, check_rights

log = structlog.get_logger(__name__)

_RETRY_SECONDS = (0.1, 2.0)
"""First and longest pause between two attempts."""
_MIN_ATTEMPT_SECONDS = 5.0
"""Shortest timeout of one attempt."""
_OPTIONAL_SECONDS = 1.0
"""How long an embedded server that is not required may be silent."""
_SUPERVISE_SECONDS = 1.0
"""Pause between two checks that the embedded server lives."""
REDIS_VARIABLE = "REDIS_URL"
_UNAVAILABLE = (RedisConnectionError, RedisTimeoutError, InvalidResponse, OSError)


RedisUse = Literal["works", "required", "optional"]
"""``works``: with all rights that workers need.  ``optional``: what needs it only can fail without it."""


async def open_redis(settings: Settings, data_dir: Path, stack: AsyncExitStack, use: RedisUse) -> str:
    """Return the URL of a Redis: the configured one, or that of the embedded server.

    It answers, unless it is optional.  Raises AppError.
    """
    if settings.redis_url is None:
        return await _open_embedded(data_dir, stack, settings.start_timeout, use)
    url = settings.redis_url.get_secret_value()
    if use != "optional":
        await wait_for_redis(url, settings.start_timeout, works=use == "works")
    return url


def existing_redis_url(settings: Settings) -> str | None:
    """Return the URL of the Redis, not started; None if it is an embedded server that does not run."""
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    server = EmbeddedServer(settings.data_dir)
    return server.url if server.socket.exists() else None


async def _open_embedded(data_dir: Path, stack: AsyncExitStack, timeout: float, use: RedisUse) -> str:
    silent_seconds = _OPTIONAL_SECONDS if use == "optional" else max(timeout, _MIN_ATTEMPT_SECONDS)
    server = EmbeddedServer(data_dir, silent_seconds=silent_seconds)
    joining = asyncio.create_task(asyncio.to_thread(server.acquire))
    stack.push_async_callback(_stop_embedded, server, joining)
    try:
        await asyncio.shield(joining)
    except EmbeddedServerError as error:
        if use != "optional":
            raise
        log.warning("Redis is unavailable: going on without it", cause=str(error))
        return server.url
    supervisor = asyncio.create_task(_supervise_embedded(server))
    stack.callback(supervisor.cancel)
    return server.url


async def _stop_embedded(server: EmbeddedServer, joining: asyncio.Task[None]) -> None:
    """Stop the server; an interrupted start continues in its thread, so wait for that first."""
    await asyncio.wait({joining})
    await asyncio.to_thread(server.release)


async def _supervise_embedded(server: EmbeddedServer) -> None:
    """Restart the embedded server when it dies; its append-only file holds all that was acknowledged."""
    while True:
        await asyncio.sleep(_SUPERVISE_SECONDS)
        try:
            if await asyncio.to_thread(server.restart_if_dead):
                log.warning("the embedded Valkey had died and was started again")
        except (AppError, OSError) as error:  # for instance no free descriptor: the next try may succeed
            log.warning("the embedded Valkey cannot be started again", error=str(error))


async def wait_for_redis(url: str, timeout: float, *, works: bool, variable: str = REDIS_VARIABLE) -> None:
    """Return once Redis can be read; if this process ``works``, once it has all rights that workers need.

    ``variable`` names the URL.  Raises UsageError, UnavailableError.
    """
    seconds = max(timeout, _MIN_ATTEMPT_SECONDS)

    async def check() -> None:
        client = make_client(url)  # a new one: after a failover the URL may lead to another server
        try:
            async with asyncio.timeout(seconds):
                await check_reads(client)
                if works:
                    await check_rights(client)
        except TimeoutError:
            raise TimeoutError("no reply in time") from None
        finally:
            await client.aclose()

    await until_redis_serves(check, url, timeout, variable)


async def until_redis_serves(
    attempt: Callable[[], Awaitable[None]], url: str, timeout: float, variable: str = REDIS_VARIABLE
) -> None:
    """Await ``attempt`` until it succeeds, for up to ``timeout`` seconds if its error may pass by itself.

    Raises UsageError, UnavailableError.
    """
    deadline, delays, waits = time.monotonic() + timeout, Backoff(*_RETRY_SECONDS), False
    while True:
        try:
            await attempt()
        except (RedisError, OSError) as error:
            cause, failure = await _explain(url, error, variable, timeout, first=not waits)
            delay = delays.next()
            if time.monotonic() + delay > deadline:
                raise failure from None
            if not waits:
                log.warning("waiting for Redis", url=redact_url(url), cause=cause)
                waits = True
        else:
            return
        await asyncio.sleep(delay)


async def _explain(
    url: str, error: Exception, variable: str, timeout: float, *, first: bool
) -> tuple[str, UnavailableError]:
    """Return the cause of an error that may pass, and the error to raise if it lasts until the timeout.

    Raises UsageError or UnavailableError if it does not pass by itself.
    """
    server, user = redact_url(url), unquote(urlsplit(url).username or "default")
    refusal = await _refusal(url, error)
    if refusal is None:
        await _raise_if_lasting(url, error, variable, first=first)
        cause = one_line(error).rstrip(".")
        problem = f"{server} does not answer, given up after {timeout:g} s: {cause}"
        return cause, _failure(variable, problem, UNREACHABLE_FIX)
    problem, fix = problem_of(error, refusal), fix_of(error, refusal, user)
    if not refusal.passes:
        raise UsageError(f"{server}: {problem}", field=variable, fix=fix) from None
    failure = _failure(variable, f"{server}: {problem}", f"{fix}; given up after {timeout:g} s")
    return f"{problem}: {fix}", failure


async def _refusal(url: str, error: Exception) -> Refusal | None:
    """Return the kind of refusal; an incomplete cluster counts as a cluster, too."""
    refusal = refusal_of(error)
    if refusal is None or refusal.code != "CLUSTERDOWN":
        return refusal
    client = make_client(url)
    try:
        return CLUSTER_MODE if await in_cluster_mode(client) else refusal
    finally:
        await client.aclose()


async def in_cluster_mode(client: Redis) -> bool:
    """Return whether the server is a node of a cluster; False if it does not report that."""
    try:
        info = await client.info("cluster")
    except (RedisError, OSError):
        return False
    return bool(info.get("cluster_enabled"))


async def _raise_if_lasting(url: str, error: Exception, variable: str, *, first: bool) -> None:
    """Raise UsageError or UnavailableError unless ``error``, not a known refusal, may pass by itself."""
    server = redact_url(url)
    if not isinstance(error, _UNAVAILABLE):
        raise _failure(variable, f"{server}: {one_line(error)}") from None
    diagnosis = await diagnose_tls(url, error) if first else None
    if diagnosis is not None:
        raise UsageError(f"{server}: {diagnosis.problem}", field=variable, fix=diagnosis.fix) from None


def _failure(variable: str, problem: str, fix: str = "") -> UnavailableError:
    return UnavailableError(problem, field=variable, fix=fix)

"""Connections to Redis, as the engine needs them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.retry import Retry as SyncRetry

_CONNECT_TIMEOUT = 5.0
_REPLY_TIMEOUT = 10.0  # s: a command that has no reply by then counts as a broken connection


def connect(url: str, *, reply_timeout: float | None = _REPLY_TIMEOUT) -> Redis:
    """A client that never repeats a command by itself: a take whose reply was lost must not run twice.

    ``reply_timeout`` is None for commands that block.  Raises ValueError where ``url`` is no Redis URL.
    """
    return Redis.from_url(
        url,
        socket_connect_timeout=_CONNECT_TIMEOUT,
        socket_timeout=reply_timeout,
        retry=Retry(NoBackoff(), 0),
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
    )


async def command(client: Redis, *words: str | bytes | int | float) -> Any:
    """Run one command; its reply as redis-py reads it.  Raises redis.exceptions.RedisError."""
    return await client.execute_command(*words)


def connect_thread(url: str) -> redis.Redis:
    """A blocking client, for the heartbeat's thread."""
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=_CONNECT_TIMEOUT,
        socket_timeout=_CONNECT_TIMEOUT,
        retry=SyncRetry(NoBackoff(), 0),
    )


def safe_url(url: str) -> str:
    """``url`` without its password."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))

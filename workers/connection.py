"""Connections to Redis, as the engine needs them."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.retry import Retry as SyncRetry

_CONNECT_TIMEOUT = 5.0
_REPLY_TIMEOUT = 10.0  # s: a command that has no reply by then counts as a broken connection


def connect(url: str, *, reply_timeout: float | None = _REPLY_TIMEOUT) -> Redis:
    """A client that never repeats a command by itself: a take whose reply was lost must not run twice.

    ``reply_timeout`` is None for commands that block.  Raises ValueError where ``url`` is no Redis URL.
    """
    client = Redis.from_url(
        url,
        socket_connect_timeout=_CONNECT_TIMEOUT,
        socket_timeout=reply_timeout,
        retry=Retry(NoBackoff(), 0),
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
    )
    pool: Any = client.connection_pool
    pool.connection_class = _packing(pool.connection_class)
    return client


class _Packing:
    """Packs commands with hiredis, as redis-py's blocking connections do; its others do it in Python."""

    _serializer = HiredisRespSerializer()

    def pack_command(self, *words: Any) -> list[bytes]:
        """One command as it goes over the wire."""
        packed: list[bytes] = self._serializer.pack(*words)
        return packed

    def pack_commands(self, commands: Any) -> list[bytes]:
        """Many commands, in one piece."""
        return [b"".join(self._serializer.pack(*words)[0] for words in commands)]


@cache
def _packing(kind: Any) -> Any:
    return type(f"Packing{kind.__name__}", (_Packing, kind), {})


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

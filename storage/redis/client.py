"""Clients of Redis."""

from __future__ import annotations

import asyncio
import re
import socket
from functools import cache
from typing import Any

import redis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ResponseError
from redis.retry import Retry as SyncRetry

from storage.redis.failover import FailoverConnection, FailoverThreadConnection

MAX_CONNECTIONS = 10
"""Connections of one client."""
_CONNECT_SECONDS = 5.0
REPLY_SECONDS = 10.0
"""Timeout of a command: a connection on which no reply arrives by then counts as broken."""
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds until the first probe, seconds between probes, probes without a reply."""
_TOO_LARGE = re.compile(r"size exceeded|exceeds maximum|too (large|big|long)", re.IGNORECASE)


def _keepalive(url: str, reply_timeout: float | None) -> dict[str, Any]:
    """Return options for TCP's probes, which keep an idle connection open and detect a dead one."""
    if url.startswith("unix:"):
        return {}
    if reply_timeout is not None:
        return {"socket_keepalive": True}
    options = {getattr(socket, name, None): value for name, value in _KEEPALIVE.items()}
    options.pop(None, None)
    return {"socket_keepalive": True, "socket_keepalive_options": options}


def make_client(url: str, *, reply_timeout: float | None = REPLY_SECONDS) -> Redis:
    """Return a client that never repeats a command by itself: a take whose reply was lost must not run twice.

    It opens at most `MAX_CONNECTIONS`, as it needs them, and keeps them.  ``reply_timeout``, in seconds, is
    None for commands that block.  Raises ValueError if ``url`` is not a Redis URL.
    """
    pool: Any = _WaitingPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_timeout=reply_timeout,
        retry=Retry(NoBackoff(), 0),
        **_keepalive(url, reply_timeout),
    )
    pool.connection_class = _with_our_connection(pool.connection_class)
    pool.blocks = reply_timeout is None
    pool.connection_kwargs |= {"protocol": 2, "decode_responses": False}  # whatever the URL asks for
    return Redis.from_pool(pool)


class _WaitingPool(ConnectionPool):
    """If all connections are in use, a caller waits until one is released."""

    blocks = False
    """Whether its connections wait for jobs or messages."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._released = asyncio.Event()

    def make_connection(self) -> Any:
        """Return a new connection."""
        make: Any = super().make_connection
        connection = make()
        connection.blocks = self.blocks
        return connection

    async def get_connection(self, *_: Any, **__: Any) -> Any:
        """Raises redis.exceptions.ConnectionError if none is released in time."""
        if not self.can_get_connection():
            await self._wait()
        take: Any = super().get_connection
        return await take()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                while not self.can_get_connection():
                    self._released.clear()
                    await self._released.wait()
        except TimeoutError:
            raise RedisConnectionError(
                f"all {self.max_connections} connections to Redis are in use for {REPLY_SECONDS:g} s"
            ) from None

    async def release(self, connection: Any) -> None:
        try:
            await super().release(connection)
        finally:
            self._released.set()


class _HiredisPacker(FailoverConnection):
    """Packs commands with hiredis, as redis-py's blocking connections do; asyncio ones pack in Python."""

    _serializer = HiredisRespSerializer()

    def pack_command(self, *words: Any) -> list[bytes]:
        """Pack one command in Redis' protocol."""
        packed: list[bytes] = self._serializer.pack(*words)
        return packed

    def pack_commands(self, commands: Any) -> list[bytes]:
        """Pack several commands in one piece."""
        return [b"".join(self._serializer.pack(*words)[0] for words in commands)]


@cache
def _with_our_connection(kind: Any) -> Any:
    """Return redis-py's connection class ``kind`` with our mixin."""
    part = FailoverThreadConnection if kind.__module__ == "redis.connection" else _HiredisPacker
    return type(f"Our{kind.__name__}", (part, kind), {})


async def execute(client: Redis, *words: str | bytes | int | float) -> Any:
    """Execute one command, and return its reply as redis-py parses it.  Raises RedisError."""
    return await client.execute_command(*words)


def is_full(error: Exception) -> bool:
    """Return whether a server refused a write since it is full; for a script, Redis 6 has another message."""
    full = ("-OOM ", "capacity quota exceeded")
    return isinstance(error, OutOfMemoryError) or any(words in str(error) for words in full)


def is_wrong_type(error: Exception) -> bool:
    """Return whether a key of a command or script has another type."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def is_too_large(error: Exception) -> bool:
    """Return whether a server refused a command for its size."""
    return isinstance(error, ResponseError) and _TOO_LARGE.search(str(error)) is not None


def make_sync_client(url: str) -> redis.Redis:
    """Return a blocking client, for the heartbeat's thread."""
    client = redis.Redis.from_url(
        url,
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_timeout=_CONNECT_SECONDS,
        retry=SyncRetry(NoBackoff(), 0),
    )
    client.connection_pool.connection_class = _with_our_connection(client.connection_pool.connection_class)
    return client


def redact_url(url: str) -> str:
    """Return ``url`` without its password, which may also be one of its parameters."""
    host, mark, query = url.partition("?")
    host = re.sub(r"^([a-z]+://[^:/@]*):.*@", r"\1:***@", host)
    query = re.sub(r"(?i)(?<![^&])((?:ssl_)?password)=[^&]*", r"\1=***", query)
    return f"{host}{mark}{query}"

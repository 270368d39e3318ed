"""Clients of Redis, and a faster connection for commands that go together."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
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

from storage.asyncio_tools import cancel_and_wait, consume_exception
from storage.redis.failover import FailoverConnection, FailoverThreadConnection, confirm_primary

MAX_CONNECTIONS = 10
"""Connections of one client."""
_CONNECT_SECONDS = 5.0
_REPLY_SECONDS = 10.0
"""Timeout of a command: a connection on which no reply arrives by then counts as broken."""
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds until the first probe, seconds between probes, probes without a reply."""
_TOO_LARGE = re.compile(r"size exceeded|exceeds maximum|too (large|big|long)", re.IGNORECASE)


def _keepalive(url: str, reply_timeout: float | None) -> dict[str, Any]:
    """Options for TCP's probes, which keep an idle connection open and detect a dead one."""
    if url.startswith("unix:"):
        return {}
    if reply_timeout is not None:
        return {"socket_keepalive": True}
    options = {getattr(socket, name, None): value for name, value in _KEEPALIVE.items()}
    options.pop(None, None)
    return {"socket_keepalive": True, "socket_keepalive_options": options}


def make_client(url: str, *, reply_timeout: float | None = _REPLY_SECONDS) -> Redis:
    """A client that never repeats a command by itself: a take whose reply was lost must not run twice.

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
    pool.connection_class = _ours(pool.connection_class)
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
        """A new connection."""
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
            async with asyncio.timeout(_REPLY_SECONDS):
                while not self.can_get_connection():
                    self._released.clear()
                    await self._released.wait()
        except TimeoutError:
            raise RedisConnectionError(
                f"all {self.max_connections} connections to Redis are in use for {_REPLY_SECONDS:g} s"
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
        """One command in Redis' protocol."""
        packed: list[bytes] = self._serializer.pack(*words)
        return packed

    def pack_commands(self, commands: Any) -> list[bytes]:
        """Several commands in one piece."""
        return [b"".join(self._serializer.pack(*words)[0] for words in commands)]


@cache
def _ours(kind: Any) -> Any:
    """redis-py's connection class ``kind`` with our mixin."""
    part = FailoverThreadConnection if kind.__module__ == "redis.connection" else _HiredisPacker
    return type(f"Our{kind.__name__}", (part, kind), {})


class PipelineConnection:
    """One connection for commands that go together.

    redis-py's pipeline takes three times as long: it borrows a connection, and sets a timeout for the sending
    and for each reply.
    """

    def __init__(self, url: str, *, blocks: bool = False) -> None:
        """``blocks``: whether its commands wait for jobs."""
        self._client = make_client(url, reply_timeout=None)
        self._client.connection_pool.blocks = blocks  # type: ignore[attr-defined]
        self._lock = asyncio.Lock()
        self._connection: Any = None
        self._read: Any = None
        self._connecting: asyncio.Task[None] | None = None

    async def round_trip(
        self, commands: Sequence[tuple[Any, ...]], *, limit: float = _REPLY_SECONDS
    ) -> list[Any]:
        """The reply of each command, an error reply as its exception.

        ``limit`` is the timeout in seconds, once to connect and once for the replies.  A connection that the
        server closed while it was idle is replaced before anything is sent.  Raises
        redis.exceptions.ConnectionError or TimeoutError: then any of the commands may have been executed.
        """
        async with self._lock:
            if self._connecting is None or not self._connecting.done() or not self._connection.can_send:
                async with asyncio.timeout(limit):
                    await self._connected()
            try:
                async with asyncio.timeout(limit):
                    await self._connection.send_packed_command(self._connection.pack_commands(commands))
                    replies = [await self._reply() for _ in commands]
            except BaseException:  # unread replies would be taken for those of the next commands
                await self._connection.disconnect(nowait=True)
                raise
            if self._connection.should_reconnect():
                await self._connection.disconnect(nowait=True)
            return replies

    async def _connected(self) -> None:
        """Connect if needed.  If the caller times out, connecting continues, for the next caller."""
        if self._connection is None:
            self._connection = self._client.connection_pool.make_connection()
            # redis-py's own method: one more call for each reply would be measurable
            reader: Any = super(FailoverConnection, self._connection)
            self._read = reader.read_response
        if self._connecting is None or self._connecting.done():
            # It is still open if it leads to the wrong server.
            await self._connection.disconnect(nowait=True)
            self._connecting = asyncio.create_task(self._connection.connect())
            self._connecting.add_done_callback(consume_exception)
        await asyncio.shield(self._connecting)

    async def _reply(self) -> Any:
        try:
            return await self._read()
        except ResponseError as error:
            self._connection.note_refusal(error)
            return error

    def confirm_primary(self) -> None:
        """Note that a write succeeded over it: see `storage.redis.failover`."""
        if self._connection is not None:
            confirm_primary(self._connection)

    async def close(self) -> None:
        """Close the connection."""
        if self._connecting is not None:
            await cancel_and_wait([self._connecting])
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
        await self._client.aclose()


async def execute(client: Redis, *words: str | bytes | int | float) -> Any:
    """Execute one command, and return its reply as redis-py parses it.  Raises RedisError."""
    return await client.execute_command(*words)


def is_full(error: Exception) -> bool:
    """Whether a server refused a write since it is full; for a script, Redis 6 has another message."""
    full = ("-OOM ", "capacity quota exceeded")
    return isinstance(error, OutOfMemoryError) or any(words in str(error) for words in full)


def is_wrong_type(error: Exception) -> bool:
    """Whether a key of a command or script has another type."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def is_too_large(error: Exception) -> bool:
    """Whether a server refused a command for its size."""
    return isinstance(error, ResponseError) and _TOO_LARGE.search(str(error)) is not None


def make_sync_client(url: str) -> redis.Redis:
    """A blocking client, for the heartbeat's thread."""
    client = redis.Redis.from_url(
        url,
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_timeout=_CONNECT_SECONDS,
        retry=SyncRetry(NoBackoff(), 0),
    )
    client.connection_pool.connection_class = _ours(client.connection_pool.connection_class)
    return client


def redact_url(url: str) -> str:
    """``url`` without its password, which may also be one of its parameters."""
    host, mark, query = url.partition("?")
    host = re.sub(r"^([a-z]+://[^:/@]*):.*@", r"\1:***@", host)
    query = re.sub(r"(?i)(?<![^&])((?:ssl_)?password)=[^&]*", r"\1=***", query)
    return f"{host}{mark}{query}"

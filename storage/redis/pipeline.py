"""A connection on which requests follow each other without waiting for the replies of those before.

redis-py's pipeline takes three times as long.  It borrows a connection, sets a timeout for the sending and
for each reply, and has one request under way at a time.  Here redis-py connects and greets the server; from
then on the replies are read as they arrive.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

from storage.asyncio_tools import cancel_and_wait, consume_exception
from storage.redis.client import REPLY_SECONDS, make_client
from storage.redis.failover import confirm_primary

Replies = asyncio.Future[list[Any]]
"""The reply of each command of a request, an error reply as its exception."""

_INCOMPLETE = object()
"""The parser's result until a reply is whole."""


class _Request:
    """Commands that were sent together."""

    __slots__ = ("commands", "deadline", "future", "on_done", "replies")

    def __init__(
        self, commands: int, deadline: float, future: Replies, on_done: Callable[[], None] | None
    ) -> None:
        self.commands = commands
        self.deadline = deadline
        """Loop time after which a missing reply means that the connection is broken."""
        self.future = future
        self.on_done = on_done
        self.replies: list[Any] = []

    def finish(self, error: Exception | None = None) -> None:
        """Set the result; its caller may be cancelled."""
        if self.future.done():
            return
        if error is None:
            self.future.set_result(self.replies)
        else:
            self.future.set_exception(error)
            self.future.exception()  # its sender may be gone
        if self.on_done is not None:
            self.on_done()


class _ReplyReader(asyncio.Protocol):
    """Sends over one open connection, and reads the replies in the order of the requests."""

    def __init__(self, connection: Any) -> None:
        """Take over the transport of ``connection``, a redis-py one that is connected."""
        self._is_open = True
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,
            notEnoughData=_INCOMPLETE,
        )
        self._requests: deque[_Request] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport = connection._writer.transport
        self._transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        """Whether it can send: what is sent over a closed transport is lost, and gets no reply."""
        return self._is_open and not self._transport.is_closing()

    def send(
        self, commands: Sequence[tuple[Any, ...]], limit: float, on_done: Callable[[], None] | None
    ) -> Replies:
        """See `PipelineConnection.send`."""
        deadline = self._loop.time() + limit
        request = _Request(len(commands), deadline, self._loop.create_future(), on_done)
        self._transport.write(self._connection.pack_commands(commands)[0])
        self._requests.append(request)
        if self._alarm is None:
            self._alarm = self._loop.call_at(deadline, self._check_deadline)
        return request.future

    def data_received(self, data: bytes) -> None:
        """Handle the transport's call."""
        self._parser.feed(data)
        try:
            while self._requests:
                reply = self._parser.gets()
                if reply is _INCOMPLETE:
                    return
                self._add_reply(self._requests[0], reply)
        except (RedisConnectionError, InvalidResponse) as error:
            self.close(error)
        if self._parser.has_data():  # a server may send the reason before it closes an idle connection
            self._is_open = False

    def _add_reply(self, request: _Request, reply: Any) -> None:
        if isinstance(reply, Exception):
            if not isinstance(reply, ResponseError):
                raise reply
            self._connection.note_refusal(reply)
        request.replies.append(reply)
        if len(request.replies) == request.commands:
            self._requests.popleft()
            request.finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the transport's call."""
        self.close(RedisConnectionError(str(exc) if exc else "Connection closed by server."))

    def close(self, error: Exception) -> None:
        """Close the connection; requests under way fail with ``error``."""
        self._is_open = False
        self._transport.abort()
        if self._alarm is not None:
            self._alarm.cancel()
        while self._requests:
            self._requests.popleft().finish(error)

    def _check_deadline(self) -> None:
        self._alarm = None
        if not self._requests:
            return
        deadline = self._requests[0].deadline
        if self._loop.time() >= deadline:
            self.close(TimeoutError("no reply in time"))
        else:
            self._alarm = self._loop.call_at(deadline, self._check_deadline)


class PipelineConnection:
    """One connection to Redis for many requests at once; their replies come in the order of sending."""

    def __init__(self, url: str, *, blocks: bool = False) -> None:
        """``blocks``: whether its commands wait for jobs."""
        self._client = make_client(url, reply_timeout=None)
        self._client.connection_pool.blocks = blocks  # type: ignore[attr-defined]
        self._connection: Any = None
        self._reader: _ReplyReader | None = None
        self._connecting: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can send, to the right server.  It needs no system call."""
        return self._reader is not None and self._reader.is_open and not self._connection.should_reconnect()

    async def connect(self, limit: float = REPLY_SECONDS) -> None:
        """Connect within ``limit`` seconds, if it is not open.

        A connection that the server closed while it was idle is replaced so before anything is sent.  If the
        caller times out, connecting continues, for the next caller.  Raises redis.exceptions.ConnectionError
        or TimeoutError, and what redis-py raises if the server refuses the client.
        """
        if self.is_open:
            return
        async with asyncio.timeout(limit):
            if self._connecting is None or self._connecting.done():
                self._connecting = asyncio.create_task(self._connect())
                self._connecting.add_done_callback(consume_exception)
            await asyncio.shield(self._connecting)

    async def _connect(self) -> None:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._client.connection_pool.make_connection()
        if self._reader is not None:  # it is still open if it leads to the wrong server
            self._reader.close(RedisConnectionError("the connection was opened again"))
            self._reader = None
        await connection.disconnect(nowait=True)
        await connection.connect()
        if not connection.can_send:
            raise RedisConnectionError("Connection closed by server.")
        self._reader = _ReplyReader(connection)

    def send(
        self,
        commands: Sequence[tuple[Any, ...]],
        limit: float = REPLY_SECONDS,
        on_done: Callable[[], None] | None = None,
    ) -> Replies:
        """Send ``commands`` over the connection, which is open; the future of their replies.

        ``on_done`` is called as soon as it is done: earlier than its own callbacks, by a turn of the loop.

        It fails with redis.exceptions.ConnectionError, or with TimeoutError after ``limit`` seconds, if the
        connection breaks: then any of the commands may have been executed.
        """
        if self._reader is None or not self._reader.is_open:
            raise RedisConnectionError("the connection is not open")
        return self._reader.send(commands, limit, on_done)

    async def round_trip(
        self, commands: Sequence[tuple[Any, ...]], *, limit: float = REPLY_SECONDS
    ) -> list[Any]:
        """Connect if needed, send ``commands`` and wait for their replies; see `connect` and `send`."""
        await self.connect(limit)
        return await self.send(commands, limit)

    def confirm_primary(self) -> None:
        """Note that a write succeeded over it: see `storage.redis.failover`."""
        if self._connection is not None:
            confirm_primary(self._connection)

    async def close(self) -> None:
        """Close the connection."""
        if self._connecting is not None:
            await cancel_and_wait([self._connecting])
        if self._reader is not None:
            self._reader.close(RedisConnectionError("the connection was closed"))
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
        await self._client.aclose()

"""Closes connections to a server that is the wrong one or cannot serve now.

After a failover behind one address, old connections stay open to the server that was demoted, and new ones
reach the new primary.  So an error reply of that kind closes its connection.  If the server was demoted, all
connections that this process opened to it before are closed too.  A wait for jobs and a subscription get no
reply there, and would wait for ever.

Only the first refusal closes connections that wait.  While a server stays read-only, a subscription would be
closed most of the time if each refusal closed it.

Connections are opened again at once, perhaps before the address leads to the new primary.  So those that are
older than the first one over which a write succeeds are closed once more.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any
from weakref import WeakSet

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from storage.redis.refusals import refusal_of

_numbers = itertools.count()
_connections: WeakSet[Any] = WeakSet()
_demotions: set[str] = set()
"""Addresses of demoted servers, until a write succeeds there."""


class FailoverConnection:
    """Mixin of a redis.asyncio connection: closes it after some error replies."""

    number = 0
    """Number of the connection in the order in which this process opened them."""
    loop: asyncio.AbstractEventLoop | None = None
    blocks = False
    """Whether its commands wait for jobs or messages, and so get no error reply while there are none."""
    _reader: Any
    _writer: Any
    _should_reconnect: bool

    @property
    def can_send(self) -> bool:
        """Whether it is open, to the right server, and nothing was received while it was idle.

        A server may close an idle connection, and some send the reason before.  It needs no system call.
        """
        reader = self._reader
        return (
            reader is not None
            and not self._should_reconnect
            and not reader._eof
            and not reader._buffer
            and reader.exception() is None
        )

    async def connect(self) -> None:
        """Connect; a connection that is marked for reconnecting is closed before."""
        connecting: Any = super()
        if self._should_reconnect:
            await connecting.disconnect(nowait=True)
        await connecting.connect()

    async def _connect(self) -> None:
        self.number = next(_numbers)
        self.loop = asyncio.get_running_loop()
        connecting: Any = super()
        await connecting._connect()
        _connections.add(self)

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Greet the server.  Raises the error with which a server refuses a client before it closes."""
        reader = self._reader
        greeting: Any = super()
        try:
            await greeting.on_connect_check_health(check_health)
        except RedisConnectionError as error:
            received = bytes(reader._buffer) if reader is not None else b""
            if not received.startswith(b"-"):
                raise
            raise RedisConnectionError(received[1:].decode(errors="replace").strip()) from error

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read a reply, and note if it is a refusal."""
        reading: Any = super()
        try:
            return await reading.read_response(*args, **kwargs)
        except ResponseError as error:
            self.note_refusal(error)
            raise

    def note_refusal(self, error: ResponseError) -> None:
        """Close the connection after ``error``, if that means that this server cannot serve."""
        refusal = refusal_of(error)
        if refusal is not None and refusal.closes:
            self._should_reconnect = True
            if refusal.demoted:
                address = _address(self)
                _close_older(self, waiting=address not in _demotions)
                _demotions.add(address)


class FailoverThreadConnection:
    """Mixin of a blocking connection: closes it after the same error replies."""

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read a reply, and note if it is a refusal."""
        connection: Any = super()
        try:
            return connection.read_response(*args, **kwargs)
        except ResponseError as error:
            refusal = refusal_of(error)
            if refusal is not None and refusal.closes:
                connection.mark_for_reconnect()
            raise


def confirm_primary(connection: Any) -> None:
    """Note that a write succeeded over ``connection``: after a demotion, close what was opened before it."""
    if _demotions and _address(connection) in _demotions:
        _demotions.discard(_address(connection))
        _close_older(connection, waiting=True)


def _address(connection: Any) -> str:
    return str(connection._host_error())


def _close_older(connection: Any, *, waiting: bool) -> None:
    """Close connections to the address of ``connection`` that are older: before they are used, and with
    ``waiting`` at once if they block.

    Later ones may lead to the new primary.  A command under way gets its reply.
    """
    address = _address(connection)
    for other in list(_connections):
        older = other.number < connection.number and other.loop is connection.loop
        if (
            older
            and other._writer is not None
            and _address(other) == address
            and (waiting or not other.blocks)
        ):
            other._should_reconnect = True
            if other.blocks:
                other._writer.transport.abort()

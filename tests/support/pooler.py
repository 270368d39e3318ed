"""A transaction pooler like PgBouncer without ``max_prepared_statements``.

Each transaction may be served by another of its connections, which keep what was prepared on them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import struct

from sqlalchemy.engine import make_url

from tests.support.servers import free_port

Message = tuple[bytes, bytes]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_SSL_REQUEST = 80877103
_CANCEL_REQUEST = 80877102


class TransactionPooler:
    """Listens on a loopback port of its own; ``size`` connections lead to the Postgres of ``upstream``, of
    which any may serve the next transaction.
    """

    def __init__(self, upstream: str, *, size: int = 3) -> None:
        self._upstream = make_url(upstream)
        self._size = size
        self._port = free_port()
        self._listener: asyncio.Server | None = None
        self._idle: list[Stream] = []
        self._random = random.Random(7)
        self._greeting: list[Message] = []
        self._free = asyncio.Condition()
        self._clients: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)

    def url(self, parameters: str = "") -> str:
        """The URL of the pooler."""
        name = self._upstream.username
        return f"postgresql://{name}:hidden@127.0.0.1:{self._port}/{self._upstream.database}?{parameters}"

    async def start(self) -> None:
        """Open the connections, and accept clients."""
        for _ in range(self._size):
            self._idle.append(await self._connect())
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def stop(self) -> None:
        """Break all connections, as the restart of a pooler does."""
        if self._listener is not None:
            self._listener.close()
        for client in list(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _connect(self) -> Stream:
        host = self._upstream.query.get("host")
        if isinstance(host, str):
            server = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.5432")
        else:
            server = await asyncio.open_connection(self._upstream.host, self._upstream.port)
        names = {"user": self._upstream.username, "database": self._upstream.database}
        body = b"".join(f"{name}\0{value}\0".encode() for name, value in names.items()) + b"\0"
        server[1].write(struct.pack("!ii", len(body) + 8, 196608) + body)
        self._greeting = []
        while True:
            kind, payload = await _read(server[0])
            if kind == b"Z":
                return server
            assert kind in b"RSKN", payload
            if kind == b"S":
                self._greeting.append((kind, payload))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if await self._greet(reader, writer):
                await self._serve(reader, writer)
        writer.close()
        self._clients.discard(task)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        while True:
            length, code = struct.unpack("!ii", await reader.readexactly(8))
            await reader.readexactly(length - 8)
            if code == _CANCEL_REQUEST:
                return False
            if code != _SSL_REQUEST:
                break
            writer.write(b"N")
        # Its own key, since it cannot give away those of the server's connections.
        key = struct.pack("!ii", 1_000_000 + next(self._numbers), 1)
        for kind, payload in (
            (b"R", struct.pack("!i", 0)),
            *self._greeting,
            (b"K", key),
            (b"Z", b"I"),
        ):
            _write(writer, kind, payload)
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = asyncio.create_task(_read(reader))
        try:
            while (await asked)[0] != b"X":
                async with self._free:
                    await self._free.wait_for(lambda: bool(self._idle))
                    server = self._random.choice(self._idle)
                    self._idle.remove(server)
                try:
                    asked = await self._transaction(asked, reader, writer, server)
                except BaseException:
                    server[1].close()
                    raise
                async with self._free:
                    self._idle.append(server)
                    self._free.notify()
        finally:
            asked.cancel()

    async def _transaction(
        self,
        asked: asyncio.Task[Message],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server: Stream,
    ) -> asyncio.Task[Message]:
        """Forward until the server is in no transaction; returns the client's next request."""
        unanswered = 0
        answered = asyncio.create_task(_read(server[0]))
        try:
            while True:
                await asyncio.wait({asked, answered}, return_when=asyncio.FIRST_COMPLETED)
                if asked.done():
                    message = asked.result()
                    unanswered += message[0] in b"QSF"
                    _write(server[1], *message)
                    asked = asyncio.create_task(_read(reader))
                if answered.done():
                    message = answered.result()
                    _write(writer, *message)
                    if message[0] == b"Z":
                        unanswered -= 1
                        if message[1] == b"I" and not unanswered:
                            return asked
                    answered = asyncio.create_task(_read(server[0]))
        except BaseException:
            asked.cancel()
            answered.cancel()
            raise


async def _read(reader: asyncio.StreamReader) -> Message:
    kind, length = struct.unpack("!ci", await reader.readexactly(5))
    return kind, await reader.readexactly(length - 4)


def _write(writer: asyncio.StreamWriter, kind: bytes, payload: bytes) -> None:
    writer.write(struct.pack("!ci", kind, len(payload) + 4) + payload)

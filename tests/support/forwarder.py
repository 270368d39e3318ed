"""A TCP proxy of Postgres, with TLS or without, that can cut connections or let them hang."""

from __future__ import annotations

import asyncio
import ssl
import struct

from sqlalchemy.engine import make_url

from tests.support.servers import free_port

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Forwarder:
    """Listens on its own loopback port, and forwards to the Postgres of the URL ``upstream``."""

    def __init__(self, upstream: str, tls: ssl.SSLContext | None = None) -> None:
        self.accepted = 0
        self._upstream = make_url(upstream)
        self._tls = tls
        self._port = free_port()
        self._listener: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], asyncio.Event] = {}

    def url(self, parameters: str = "", *, host: str = "127.0.0.1") -> str:
        """The URL of the proxy, with a password even if Postgres asks for none."""
        user = f"{self._upstream.username}:{self._upstream.password or 'hidden'}"
        return f"postgresql://{user}@{host}:{self._port}/{self._upstream.database}?{parameters}"

    async def start(self) -> None:
        """Accept connections."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def stop(self) -> None:
        """Accept no connections, and close those that are open."""
        if self._listener is not None:
            self._listener.close()
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def freeze(self) -> None:
        """Forward nothing more over the open connections, and do not close them."""
        for passes in self._links.values():
            passes.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links[task] = passes = asyncio.Event()
        passes.set()
        self.accepted += 1
        server: Stream | None = None
        ways: list[asyncio.Task[None]] = []
        try:
            first = await self._greet(reader, writer)
            server = await self._connect()
            server[1].write(first)
            ways += [
                asyncio.create_task(_pass(reader, server[1], passes)),
                asyncio.create_task(_pass(server[0], writer, passes)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass  # by `stop`; asyncio would report it as an error of the connection
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._links.pop(task, None)
            for stream in (writer, server[1] if server is not None else writer):
                stream.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Answer the client's request for TLS; returns the bytes that are for the server."""
        first = await reader.readexactly(8)
        if first != _SSL_REQUEST:
            return first
        writer.write(b"N" if self._tls is None else b"S")
        await writer.drain()
        if self._tls is not None:
            await writer.start_tls(self._tls)
        return b""

    async def _connect(self) -> Stream:
        host = self._upstream.query.get("host")
        if isinstance(host, str):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.5432")
        return await asyncio.open_connection(self._upstream.host, self._upstream.port)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: asyncio.Event) -> None:
    while data := await reader.read(65_536):
        await passes.wait()
        writer.write(data)
        await writer.drain()

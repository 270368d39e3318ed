"""A webhook on loopback that answers, refuses, hangs or hangs up."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Literal

Behaviour = Literal["ok", "500", "hang", "close", "slow"]


@dataclass
class Webhook:
    """The requests that it has received, and how it answers.

    ``hang`` never answers, ``slow`` sends its answer byte by byte, ``close`` ends the connection instead.
    """

    behaviour: Behaviour = "ok"
    received: list[dict[str, Any]] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        """Its URL for apprise, with a password and a token."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"json://ann:s3cr3t-pass@127.0.0.1:{port}/t0ken-path?cto=3&rto=3"

    @property
    def titles(self) -> list[str]:
        """The titles of the messages."""
        return [message["title"] for message in self.received]

    @property
    def lines(self) -> list[str]:
        """The lines of all messages."""
        return [line for message in self.received for line in message["message"].splitlines()]

    async def close(self) -> None:
        """End it, with its connections."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            self.received.append(json.loads(await reader.readexactly(length)))
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.behaviour == "hang":
            await reader.read()
        if self.behaviour in ("hang", "close"):
            return
        status = "500 Internal Server Error" if self.behaviour == "500" else "200 OK"
        answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        if self.behaviour == "slow":  # never silent for long, and never done
            for byte in answer * 100:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.3)
        writer.write(answer)
        await writer.drain()

"""The appliance's end of the socket to a handler process: whole messages, many in one write."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, cast

import structlog

from storage.errors import one_line
from workers.engine import wire

log = structlog.get_logger(__name__)

_LENGTH = struct.Struct(">I")
MAX_MESSAGE_BYTES = 64 << 20
"""A longer message means that a handler wrote into the socket: nothing of it can be read any more."""


class Connection(asyncio.Protocol):
    """Hands each message to ``on_message``; calls ``on_lost`` once the socket is closed or broken."""

    def __init__(self, on_message: Callable[[dict[str, Any]], None], on_lost: Callable[[], None]) -> None:
        self.problem: str | None = None
        """Why what was received cannot be read; None while it can be."""
        self._on_message = on_message
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._jobs: list[list[Any]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass of it

    def data_received(self, data: bytes) -> None:
        """Hand on every whole message."""
        received = self._received
        received += data
        begin = 0
        while len(received) - begin >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received, begin)
            if length > MAX_MESSAGE_BYTES:
                self.close()
                return
            end = begin + _LENGTH.size + length
            if len(received) < end:
                break
            body = bytes(received[begin + _LENGTH.size : end])
            begin = end
            try:
                self._on_message(wire.load(body))
            except Exception as error:
                self.problem = one_line(error)
                log.warning("a handler process sent what is no message", error=self.problem)
                self.close()
                return
        del received[:begin]

    def connection_lost(self, exc: Exception | None) -> None:
        """Call ``on_lost``."""
        self._transport = None
        self._on_lost()

    def run(self, job: list[Any]) -> None:
        """Send a job together with all others of this turn of the event loop."""
        if not self._jobs:
            asyncio.get_running_loop().call_soon(self._send_jobs)
        self._jobs.append(job)

    def _send_jobs(self) -> None:
        jobs, self._jobs = self._jobs, []
        self.send({"run": jobs})

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; to a process that is gone it is lost."""
        if self._transport is not None:
            body = wire.dump(message)
            self._transport.write(_LENGTH.pack(len(body)) + body)

    def close(self) -> None:
        """Close the socket, upon which the process ends."""
        if self._transport is not None:
            self._transport.close()

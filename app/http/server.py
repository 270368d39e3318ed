"""Serves the routes on a socket, in the event loop that the workers and the dashboard share."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
import uvicorn

from app.address import local_address
from app.http.application import make_application
from app.http.protocol import Connection
from app.http.state import HttpState

log = structlog.get_logger(__name__)

_CLOSE_GRACE_SECONDS = 2
"""How long requests under way may take at the end."""
_TICK_SECONDS = 1.0
_TICKS_A_SECOND = 10
"""Limit of uvicorn's own counting."""


async def serve(listener: socket.socket, state: HttpState, token: str, closing: asyncio.Event) -> None:
    """Serve until ``closing`` is set; then finish the requests under way, and close the socket."""
    server = _Server(
        uvicorn.Config(
            make_application(state, token),
            http=Connection,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            headers=[("Cache-Control", "no-store")],
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            workers=1,
            timeout_graceful_shutdown=_CLOSE_GRACE_SECONDS,
        ),
        closing,
    )
    log.info("http answers", url=f"http://{local_address(listener)}")
    try:
        await server.serve([listener])
    finally:
        state.close()


class _Server(uvicorn.Server):
    """Leaves signals to the program, and ends by an event."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: a signal drains the program."""
        yield

    async def main_loop(self) -> None:
        """Tick, which keeps the date of the answers, until the end."""
        ticks = 0
        while not self._closing.is_set() and not await self.on_tick(ticks):
            ticks += _TICKS_A_SECOND
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._closing.wait()

"""Serves the routes on a socket, in the event loop that the workers and the dashboard share."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
import uvicorn

from app.address import bound
from app.http.application import application
from app.http.context import Context
from app.http.protocol import Connection

log = structlog.get_logger(__name__)

_PARTING = 2
"""Seconds that requests under way get to be answered at the end."""
_TICK_SECONDS = 1.0
_TICKS = 10  # that uvicorn counts in a second


async def serve(listener: socket.socket, context: Context, token: str, ending: asyncio.Event) -> None:
    """Answer until ``ending``; then finish what is being answered, and close the socket."""
    server = _Server(
        uvicorn.Config(
            application(context, token),
            http=Connection,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            workers=1,
            timeout_graceful_shutdown=_PARTING,
        ),
        ending,
    )
    log.info("http answers", url=f"http://{bound(listener)}")
    try:
        await server.serve([listener])
    finally:
        context.close()


class _Server(uvicorn.Server):
    """One that leaves the signals to the program, and is told of its end."""

    def __init__(self, config: uvicorn.Config, ending: asyncio.Event) -> None:
        super().__init__(config)
        self._ending = ending

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: a signal drains."""
        yield

    async def main_loop(self) -> None:
        """Ticks, which keep the date of the answers, until the end."""
        ticks = 0
        while not self._ending.is_set() and not await self.on_tick(ticks):
            ticks += _TICKS
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._ending.wait()

"""An HTTP client that is made with its first request: many processes never send one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


class LazyHttpClient:
    """Makes a client of `http_client`, with the same arguments.

    httpx and the trusted CAs cost each start some 60 ms, and 10 MB.  They are loaded in a thread, so that
    the event loop goes on.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._client: httpx.AsyncClient | None = None
        self._lock = asyncio.Lock()

    async def open(self) -> httpx.AsyncClient:
        """Return the client."""
        async with self._lock:
            if self._client is None:
                self._client = await asyncio.to_thread(_make_client, self._options)
            return self._client

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()


def _make_client(options: dict[str, Any]) -> httpx.AsyncClient:
    from workers.handlers.http_client import client

    return client(**options)

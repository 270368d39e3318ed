"""A value that is slow to fetch, refreshed in the background so that callers never wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from storage.errors import one_line

T = TypeVar("T")

REFRESH_SECONDS = 5.0
"""From the start of one refresh to that of the next."""
TIMEOUT_SECONDS = 2.0
"""Timeout of one refresh: a server that is silent for longer counts as down."""
_CLOSE_SECONDS = 0.5
"""How long a cancelled refresh may take to close its connection."""


class BackgroundValue(Generic[T]):
    """Calls ``fetch`` now and then, one call at a time; ``value`` and ``error`` are of the last call.

    If ``fetch`` raises, ``error`` has the error as ``describe`` returns it, and ``value`` is None.
    """

    def __init__(
        self, fetch: Callable[[], Awaitable[T]], describe: Callable[[Exception], str] = one_line
    ) -> None:
        self.value: T | None = None
        self.error: str | None = None
        self.ready = asyncio.Event()
        """Set once there is a value, or an error."""
        self._fetch = fetch
        self._describe = describe
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None

    def refresh_if_due(self) -> None:
        """Start a refresh if it is time and the one before has ended."""
        if self._task is None and time.monotonic() >= self._due:
            self._due = time.monotonic() + REFRESH_SECONDS
            self._task = asyncio.create_task(self._refresh())

    def invalidate(self) -> None:
        """Have the next `refresh_if_due` start a refresh: the value may be out of date."""
        self._due = 0.0

    async def close(self) -> None:
        """Cancel the refresh that is under way, and start none after it."""
        self._due = float("inf")
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)

    async def _refresh(self) -> None:
        # The timeout sets the error at once, not when the cancellation has ended: a driver may hang in that.
        timeout = asyncio.get_running_loop().call_later(TIMEOUT_SECONDS, self._time_out)
        try:
            value = await self._fetch()
        except Exception as error:
            self._set(None, self._describe(error))
        else:
            self._set(value, None)
        finally:
            timeout.cancel()
            self._task = None

    def _time_out(self) -> None:
        self._set(None, f"no answer for {TIMEOUT_SECONDS:g} s")
        if self._task is not None:
            self._task.cancel()

    def _set(self, value: T | None, error: str | None) -> None:
        self.value, self.error = value, error
        self.ready.set()

"""The event loop of ``async def`` handlers."""

from __future__ import annotations

import asyncio
import selectors
import sys
from select import select as wait_for_files
from time import monotonic

if sys.platform == "linux":

    class _Selector(selectors.EpollSelector):
        """Waits for fractions of a millisecond.

        ``epoll`` counts whole ones, so asyncio rounds up.  A timer among others is up to a millisecond late
        then, and jobs that began one after the other end together.
        """

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                wait_for_files([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)

    class _EventLoop(asyncio.SelectorEventLoop):
        """Its clock goes on if a handler freezes that of ``time``, as tests do."""

        def time(self) -> float:
            return monotonic()

    def new_event_loop() -> asyncio.AbstractEventLoop:
        """Return a loop of asyncio whose timers are exact."""
        return _EventLoop(_Selector())

else:
    new_event_loop = asyncio.new_event_loop

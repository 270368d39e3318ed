"""Reports the state of the process to systemd, for units of ``Type=notify`` (see sd_notify(3))."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress

from app.process.group import ProcessGroup
from storage.errors import one_line
from workers.process.worker_process import WorkerProcess

_STATUS_SECONDS = 10.0
"""Between two reports if the unit has no watchdog."""
_START_POLL_SECONDS = 0.05
_DRAIN_POLL_SECONDS = 0.5
_CLOSING_SECONDS = 15.0
"""Beyond the drain's time: until Redis confirms the last jobs, and all is closed."""
_MICROSECONDS = 1_000_000


class SystemdNotifier:
    """Sends datagrams to the socket of the service manager; without one it does nothing.

    It takes its variables out of ``environment``: they are not for the children of this process.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        address, microseconds, pid = (environment.pop(name, "") for name in names)
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        watched = microseconds.isdecimal() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
        self.watchdog_seconds = int(microseconds) / _MICROSECONDS if watched else None
        """Seconds without a report after which systemd ends the process; None if it does not watch it."""

    def send(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``.  No error of the socket ends or delays the process."""
        if not self._address:
            return
        with suppress(OSError, ValueError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), self._address)

    async def report(self, process: WorkerProcess, stall_reasons: Callable[[], Awaitable[list[str]]]) -> None:
        """Report the process from its first turns on, until this is cancelled.

        ``stall_reasons`` returns why a supervisor should restart it.  The reports of the watchdog stop while
        there is a reason, and, since this runs in the event loop, while a handler blocks that.
        """
        if not self._address:
            return
        while process.unready() and not await process.drain_began(_START_POLL_SECONDS):
            pass
        if not process.draining:
            self.send("READY=1")
        interval = self.watchdog_seconds / 2 if self.watchdog_seconds is not None else _STATUS_SECONDS
        while not process.is_ending:  # a drain that can be undone is not the end yet
            await self._report_progress(process, stall_reasons)
            if process.draining:
                await asyncio.sleep(min(interval, _DRAIN_POLL_SECONDS))
            else:
                await process.drain_began(interval)
        seconds = (process.drain_deadline_in or 0.0) + _CLOSING_SECONDS
        self.send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(seconds * _MICROSECONDS)}")
        while True:
            await self._report_progress(process, stall_reasons)
            await asyncio.sleep(interval)

    async def report_group(self, group: ProcessGroup) -> None:
        """Report worker processes that this one has started and that take jobs, until this is cancelled."""
        if not self._address:
            return
        self.send("READY=1")
        interval = self.watchdog_seconds / 2 if self.watchdog_seconds is not None else _STATUS_SECONDS
        while not group.draining:
            self.send("WATCHDOG=1", f"STATUS={'; '.join(group.unready()) or f'{group.count} processes run'}")
            await asyncio.sleep(min(interval, _DRAIN_POLL_SECONDS))
        seconds = group.drain_seconds + _CLOSING_SECONDS
        self.send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(seconds * _MICROSECONDS)}")
        while True:
            self.send("WATCHDOG=1", "STATUS=draining")
            await asyncio.sleep(interval)

    async def _report_progress(
        self, process: WorkerProcess, stall_reasons: Callable[[], Awaitable[list[str]]]
    ) -> None:
        reasons = await stall_reasons()
        alive = [] if reasons else ["WATCHDOG=1"]
        self.send(*alive, f"STATUS={one_line(_status(process, reasons))}")


def _status(process: WorkerProcess, reasons: list[str]) -> str:
    if reasons:
        return f"stuck: {'; '.join(reasons)}"
    if process.draining:
        return f"draining: {process.in_flight} jobs in flight, {process.drain_deadline_in or 0:.0f} s left"
    if process.redis_error is not None:
        return f"waits for Redis: {process.redis_error}"
    return f"takes jobs of {', '.join(process.dispatchers)}"

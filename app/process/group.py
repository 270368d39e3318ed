"""Worker processes on one machine that this one starts, watches, restarts and drains together."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress

import structlog

from app.errors import AppError
from storage.asyncio_tools import cancel_and_wait
from storage.backoff import Backoff

log = structlog.get_logger(__name__)

_RESTART_SECONDS = (1.0, 30.0)
"""The first and the longest pause before a process that failed is started again."""
_STEADY_SECONDS = 60.0
"""A process that ran for longer has not failed at its start."""
_DRAINED = (0, 3)
"""Exit codes of a process that has drained; 3: jobs were requeued."""
_SETTINGS_EXIT_CODE = 2
"""Exit code of a process whose settings are wrong: another start would fail, too."""


class ProcessGroup:
    """Runs ``count`` worker processes, each with ``arguments`` of the command line."""

    def __init__(self, count: int, arguments: Sequence[str], *, drain_seconds: float) -> None:
        self.count = count
        self.drain_seconds = drain_seconds
        """Seconds that the drain of one may take."""
        self._command = (sys.executable, "-m", "couturecast_tui", *arguments, "--until-eof")
        self._running: dict[int, Process] = {}
        """By its number in the group."""
        self._ready: set[int] = set()
        self._codes: dict[int, int] = {}
        """Exit codes of those that are not started again."""
        self._changed = asyncio.Condition()
        self._draining = asyncio.Event()

    @property
    def draining(self) -> bool:
        """Whether its processes are to end."""
        return self._draining.is_set()

    def unready(self) -> list[str]:
        """Return why the group does not take jobs with all of its processes."""
        missing_count = self.count - len(self._ready)
        return [f"{missing_count} of {self.count} worker processes do not run"] if missing_count else []

    async def wait_started(self) -> None:
        """Wait until all processes take jobs.  Raises AppError if one has ended instead."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._codes or len(self._ready) == self.count)
        if self._codes and not self._draining.is_set():
            number, code = next(iter(self._codes.items()))
            raise AppError(f"worker process {number} ended with exit code {code} at its start")

    async def run(self) -> int:
        """Run all processes until they have ended; the exit code of the group.

        It is 3 if jobs were requeued, 1 if a process failed while it drained.
        """
        watches = [asyncio.create_task(self._watch(number)) for number in range(1, self.count + 1)]
        try:
            await asyncio.gather(*watches)
        finally:
            await cancel_and_wait(watches)
            for process in self._running.values():
                _signal(process, signal.SIGKILL)
        codes = set(self._codes.values())
        return max(codes & set(_DRAINED), default=0) if codes <= set(_DRAINED) else 1

    def drain(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Pass a stop signal on to all processes; none is started again."""
        self._draining.set()
        for process in self._running.values():
            _signal(process, number)

    async def _watch(self, number: int) -> None:
        """Run one process, again after each failure."""
        delays = Backoff(*_RESTART_SECONDS)
        while not self._draining.is_set():
            began = time.monotonic()
            code = await self._run_once(number)
            if self._draining.is_set() or code in (*_DRAINED, _SETTINGS_EXIT_CODE):
                break
            if time.monotonic() - began >= _STEADY_SECONDS:
                delays.reset()
            delay = delays.next()
            log.error("a worker process ended, and is started again", number=number, exit=code, after=delay)
            await self._pause(delay)
        else:
            code = 0
        await self._note(number, code)

    async def _run_once(self, number: int) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, start_new_session=True
        )
        self._running[number] = process
        if self._draining.is_set():  # while it was started
            _signal(process, signal.SIGTERM)
        try:
            assert process.stdout is not None  # noqa: S101
            while line := await process.stdout.readline():
                if line.strip() == b"ready":
                    await self._note(number)
            return await process.wait()
        finally:
            self._ready.discard(number)
            del self._running[number]

    async def _note(self, number: int, code: int | None = None) -> None:
        async with self._changed:
            if code is None:
                self._ready.add(number)
            else:
                self._codes[number] = code
            self._changed.notify_all()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._draining.wait(), seconds)
        except TimeoutError:
            return


def _signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to a process, which may have ended a moment ago: the others are to get theirs."""
    with suppress(ProcessLookupError):
        process.send_signal(number)

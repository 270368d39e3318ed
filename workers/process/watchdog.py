"""Watches the event loop from a thread that does not depend on it.

Heartbeats from a thread prove nothing about the event loop: a handler that blocks it delays every queue of
its process.  So the loop counts; if the count does not change, the loop is blocked.
"""

from __future__ import annotations

import asyncio
import math
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from types import FrameType
from typing import Any

from workers.engine.blocked import BlockedAt
from workers.engine.policy import TIMINGS

_GRACE_SECONDS = 2.0
"""Seconds after the longest timeout of the jobs in flight: the loop, if it moves, ends them within one."""
_MIN_BLOCKED_SECONDS = 10.0
"""How long a loop is blocked before its process gives up: so every screen has named the handler."""
_IDLE_SECONDS = 30.0
"""How long a process without jobs may be blocked."""
_LATE_SECONDS = 3.0
"""A wait of a second that took longer: the whole process was frozen, which proves nothing about the loop."""
_MAX_BUSY_SECONDS = 10.0
"""How long the watching thread may take for commands to Redis; a longer time was a freeze."""
_MAX_KEPT_LAGS = 120
"""A minute of counts."""
_LIBRARIES = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")} - {None}
)


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job that runs in this process; ``deadline`` is the monotonic time at which its timeout passes."""

    queue: str
    key: str
    function: Callable[..., Any] | None
    task: asyncio.Task[None] | None
    deadline: float


class Verdict(Enum):
    """The result of one check."""

    MOVES = "moves"
    BLOCKED = "blocked"
    GIVE_UP = "give up"


class LoopClock:
    """Counts in the event loop that it was started in, twice a second."""

    def __init__(self, count_seconds: float = TIMINGS.loop_count_seconds) -> None:
        self.count = 0
        self._count_seconds = count_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._lags: deque[float] = deque(maxlen=_MAX_KEPT_LAGS)

    def start(self) -> None:
        """Count from now on."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._tick()

    def stop(self) -> None:
        """Stop counting."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop = self._due = None

    def lag_p99(self) -> float | None:
        """Return the seconds by which 99 % of the last minute's counts were late at most; for any thread."""
        lags = sorted(self._lags)
        return lags[max(0, math.ceil(len(lags) * 0.99) - 1)] if lags else None

    @property
    def runs(self) -> bool:
        """Whether it was started and not stopped."""
        return self._loop is not None

    def task(self) -> asyncio.Task[Any] | None:
        """Return the task that the loop runs at this moment; for other threads."""
        return asyncio.current_task(self._loop) if self._loop is not None else None

    def frames(self) -> Iterator[FrameType]:
        """Yield the stack of the loop's thread, the innermost frame first."""
        frame = sys._current_frames().get(self._thread)
        while frame is not None:
            yield frame
            frame = frame.f_back

    def _tick(self) -> None:
        self.count += 1
        if self._loop is not None:
            now = self._loop.time()
            if self._due is not None:
                self._lags.append(round(max(0.0, now - self._due), 6))
            self._due = now + self._count_seconds
            self._timer = self._loop.call_at(self._due, self._tick)


class Watchdog:
    """Decides, from a thread, by the count of ``clock``.  ``list_jobs`` returns the jobs in flight.

    If a stop was requested, a blocked loop gets ``drain_seconds`` to begin with it.
    """

    def __init__(
        self,
        clock: LoopClock,
        *,
        list_jobs: Callable[[], Sequence[HeldJob]],
        drain_seconds: float = 30.0,
        blocked_after_seconds: float = TIMINGS.blocked_after_seconds,
    ) -> None:
        self.blocked_seconds = 0.0
        """Since the loop moved, as far as this thread could observe."""
        self._clock = clock
        self._list_jobs = list_jobs
        self._drain_seconds = drain_seconds
        self._blocked_after_seconds = blocked_after_seconds
        self._count = 0
        self._stop_by: float | None = None

    def stop_asked(self, *, now: bool = False) -> None:
        """Note that a signal, or an operator, ends the process; safe to call in a signal handler."""
        by = time.monotonic() + (0.0 if now else self._drain_seconds)
        self._stop_by = by if self._stop_by is None else min(self._stop_by, by)

    def stop_withdrawn(self) -> None:
        """Note that the drain was undone."""
        self._stop_by = None

    def check(self, waited: float, busy: float = 0.0) -> Verdict:
        """Check.  Since the last check the thread slept for ``waited`` seconds, and worked for ``busy``."""
        if self._clock.count != self._count or not self._clock.runs:
            self._count, self.blocked_seconds = self._clock.count, 0.0
        elif waited > _LATE_SECONDS:
            self.blocked_seconds = 0.0
        else:
            self.blocked_seconds += waited + min(busy, _MAX_BUSY_SECONDS)
        if self.blocked_seconds <= self._blocked_after_seconds or busy > _LATE_SECONDS:
            return Verdict.MOVES  # after a long time at work the loop gets the chance to move first
        return Verdict.GIVE_UP if self._limit_passed() else Verdict.BLOCKED

    def blocked_at(self) -> BlockedAt:
        """Return where the loop is blocked now."""
        task = self._clock.task()
        job = next((job for job in self._list_jobs() if task is not None and job.task is task), None)
        line = _line(list(self._clock.frames()), job.function if job is not None else None)
        if job is None:
            return BlockedAt(line)
        return BlockedAt(f"handler {_name(job)}, {line}", job.queue, job.key)

    def _limit_passed(self) -> bool:
        now = time.monotonic()
        if self._stop_by is not None and now >= self._stop_by:
            return True
        deadline = max((job.deadline for job in self._list_jobs()), default=None)
        if deadline is None:
            return self.blocked_seconds > _IDLE_SECONDS
        return self.blocked_seconds > _MIN_BLOCKED_SECONDS and now > deadline + _GRACE_SECONDS


def _name(job: HeldJob) -> str:
    function = job.function
    name = getattr(function, "__qualname__", "")
    return f"{function.__module__}:{name}" if name and "<" not in name else f"of {job.queue}"


def _line(frames: Sequence[FrameType], function: Callable[..., Any] | None) -> str:
    """Return file and line of the innermost frame outside of libraries, or of the innermost one."""
    module = getattr(function, "__module__", None)
    frame = next(
        (
            frame
            for frame in frames
            if frame.f_globals.get("__name__") == module
            or not frame.f_code.co_filename.startswith((*_LIBRARIES, "<"))
        ),
        frames[0] if frames else None,
    )
    if frame is None:
        return "an unknown line"
    return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"

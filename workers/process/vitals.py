"""The figures that the presence and the heartbeats of a process carry: CPU, memory, event-loop lag."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_MEASURE_SECONDS = 2.0
"""Between two measurements."""
_FIND_CHILDREN_SECONDS = 30.0
"""Between two searches for handler processes, each of which reads a file of every thread."""

Figures = Mapping[str, float | int | None]


class Vitals:
    """Measures this process and those that it started; ``handlers`` are the ones with sessions of their own.

    Without a ``/proc`` only the CPU of the process itself is known.
    """

    def __init__(self, loop_lag: Callable[[], float | None], handlers: Callable[[], list[int]]) -> None:
        self._loop_lag = loop_lag
        self._handlers = handlers
        self._children: list[str] = []
        self._find_children_at = 0.0
        self._measured_at = -math.inf
        self._cpu_seconds = 0.0
        self._cpu: float | None = None
        self._memory = _resident_bytes([])

    @property
    def newest(self) -> Figures:
        """CPU as a share of one core, resident memory in bytes, lag of the event loop in seconds."""
        return {"cpu": self._cpu, "memory": self._memory, "loop_p99": self._loop_lag()}

    def measure(self) -> Figures:
        """Measure, if that is due; for the heartbeat's thread, since it reads some files."""
        now = time.monotonic()
        seconds = now - self._measured_at
        if seconds >= _MEASURE_SECONDS:
            handlers = [str(pid) for pid in self._handlers()]
            if now >= self._find_children_at:
                self._children = _find_children(handlers)
                self._find_children_at = now + _FIND_CHILDREN_SECONDS
            children = [*handlers, *self._children]
            used, before = _cpu_seconds(children), self._cpu_seconds
            if math.isfinite(seconds):
                self._cpu = round(max(0.0, used - before) / seconds, 4)
            self._measured_at, self._cpu_seconds = now, used
            self._memory = _resident_bytes(children)
        return self.newest


def _cpu_seconds(children: list[str]) -> float:
    """Return the CPU seconds of the process, and of its living children."""
    ticks = 0
    for child in children:
        with suppress(OSError, ValueError, IndexError):
            fields = (_PROC / child / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + (ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0)


def _resident_bytes(children: list[str]) -> int | None:
    pages = 0
    for process in ("self", *children):
        with suppress(OSError, ValueError, IndexError):
            pages += int((_PROC / process / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") or None


def _find_children(handlers: list[str]) -> list[str]:
    """Return the pids of handlers and of children in this session (an embedded server has its own)."""
    session, children = os.getsid(0), []
    for process in ("self", *handlers):
        with suppress(OSError):
            for thread in (_PROC / process / "task").iterdir():
                with suppress(OSError, ValueError):
                    pids = (thread / "children").read_text().split()
                    children += [pid for pid in pids if process != "self" or os.getsid(int(pid)) == session]
    return children

"""The figures that the presence and the heartbeats of a process carry: CPU, memory, event-loop lag."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_MIN_WINDOW_SECONDS = 0.5
"""Over less time a share of the CPU says nothing."""


class Vitals:
    """Measures this process and the handler processes that it started; for any thread.

    Without a ``/proc`` only the CPU of the process itself is known.
    """

    def __init__(self, loop_lag: Callable[[], float | None]) -> None:
        self._loop_lag = loop_lag
        self._last = (time.monotonic(), _cpu_seconds())
        self._cpu: float | None = None

    def measure(self) -> dict[str, float | int | None]:
        """CPU since the last call as a share of one core, resident memory in bytes, loop lag in seconds."""
        now, used = time.monotonic(), _cpu_seconds()
        then, before = self._last
        if now - then >= _MIN_WINDOW_SECONDS:
            self._cpu = round(max(0.0, used - before) / (now - then), 4)
            self._last = (now, used)
        return {"cpu": self._cpu, "memory": _resident_bytes(), "loop_p99": self._loop_lag()}


def _cpu_seconds() -> float:
    """Of the process, and of its living children."""
    ticks = 0
    for child in _children():
        with suppress(OSError, ValueError, IndexError):
            fields = (_PROC / child / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + (ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0)


def _resident_bytes() -> int | None:
    pages = 0
    for process in ("self", *_children()):
        with suppress(OSError, ValueError, IndexError):
            pages += int((_PROC / process / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") or None


def _children() -> Iterator[str]:
    """The pids of the children in this session: an embedded server has a session of its own."""
    session = os.getsid(0)
    with suppress(OSError):
        for thread in (_PROC / "self" / "task").iterdir():
            with suppress(OSError, ValueError):
                for pid in (thread / "children").read_text().split():
                    if os.getsid(int(pid)) == session:
                        yield pid

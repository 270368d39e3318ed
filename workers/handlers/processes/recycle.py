"""When a handler process is replaced, though nothing is wrong with it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

_MEMORY_CHECK_JOBS = 100
"""Between two measurements of a process's memory."""


@dataclass(frozen=True, slots=True)
class Recycle:
    """After so many ``jobs``, or once the process has so many ``megabytes``; 0: never."""

    jobs: int = 0
    megabytes: int = 0

    def is_due(self, pid: int | None, jobs_done: int) -> bool:
        """Return whether a process that has done so many jobs has done enough."""
        if self.jobs and jobs_done >= self.jobs:
            return True
        if not self.megabytes or jobs_done % _MEMORY_CHECK_JOBS:
            return False
        return resident_bytes(pid) > self.megabytes << 20


NEVER = Recycle()


def resident_bytes(pid: int | None) -> int:
    """Return the memory of a process; 0 if the system does not report it."""
    if pid is None or sys.platform != "linux":
        return 0
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (OSError, ValueError, IndexError):
        return 0

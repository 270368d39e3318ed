"""Real worker processes to kill, freeze and cut off, and what their handlers wrote down."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually


class Journal:
    """Notes of the handlers of all processes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[dict[str, Any]]:
        """All lines, in the order in which they were written; the last may still be on its way."""
        if not self.path.exists():
            return []
        whole = self.path.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def events(self, event: str) -> list[dict[str, Any]]:
        """The lines of one kind: start, end, failed or cancelled."""
        return [line for line in self.lines() if line["event"] == event]


class Spawner:
    """Starts worker processes with ``options`` of `tests.support.worker_process`, and ends them all."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.processes: list[asyncio.subprocess.Process] = []

    async def __call__(self, **options: Any) -> asyncio.subprocess.Process:
        """One more process, which takes jobs when this returns."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.worker_process",
            json.dumps(self._options | options),
            stdout=asyncio.subprocess.PIPE,
        )
        self.processes.append(process)
        assert process.stdout is not None
        line = b""
        while line != b"ready\n":
            line = await process.stdout.readline()
            assert line, "the process ended before it was ready"
        return process

    async def end(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended, and only waits for its parent to notice, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends between opening and reading
        return False


async def pid_in(path: Path) -> int:
    """The process id that a call wrote down when it began."""
    return int(await eventually(lambda: path.exists() and path.read_text()))

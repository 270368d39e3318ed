"""A process of the pool that reports where the call which it runs stands."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar

import orjson

_ANSWER_SECONDS = 0.5
"""Within which a process answers, unless C code keeps Python's lock there."""
_MAX_FRAMES = 60
"""The innermost ones: the answer has to fit into one write."""

PoolFrame = tuple[str, int, str]
"""File, line and function."""


@dataclass(frozen=True, slots=True)
class PoolStack:
    """The place of a call in its process; ``frames`` None: the process does not answer."""

    pid: int
    frames: Sequence[PoolFrame] | None
    """The outermost first."""
    cpu: float | None
    """Share of a core that the process uses now; None if that is not known."""


class PoolProcess(SpawnProcess):
    """Answers over a pipe of its own, from a thread: no signal interrupts the call, and nothing waits for it.

    While C code keeps Python's lock the thread does not run, and no answer comes.
    """

    call_code: ClassVar[CodeType | None] = None
    """Code of the function that makes the calls: the frames below its own are theirs."""

    def start(self) -> None:
        """Start it, with its end of the pipe."""
        self._pipe, self._child_pipe = Pipe()
        self._is_asked = False
        self._asking: asyncio.Task[list[PoolFrame] | None] | None = None
        super().start()
        self._child_pipe.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for the child, without the parent's parts."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_pipe", "_asking")}

    def run(self) -> None:
        """Run in the child: answer while the calls run."""
        threading.Thread(target=self._answer, args=(self._child_pipe,), daemon=True).start()
        super().run()

    def terminate(self) -> None:
        """Kill it at once: in the midst of C code a process would not react to SIGTERM."""
        self.kill()

    async def stack(self) -> PoolStack:
        """Return where its call stands, within half a second."""
        pid, began, used = self.pid or 0, time.monotonic(), _cpu_seconds(self.pid)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        frames = await asyncio.shield(self._asking)
        if frames is not None or used is None:
            return PoolStack(pid, frames, None)
        used_after = _cpu_seconds(pid)
        share = None if used_after is None else (used_after - used) / (time.monotonic() - began)
        return PoolStack(pid, None, share)

    async def _ask(self) -> list[PoolFrame] | None:
        """Return the frames; None if no answer comes, or the process is gone.

        One request is under way at most.
        """
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        with suppress(OSError, EOFError, ValueError):
            while self._pipe.poll():  # of a request before, which was given up
                self._pipe.recv_bytes()
                self._is_asked = False
            if not self._is_asked:
                self._pipe.send_bytes(b"")
                self._is_asked = True
            loop.add_reader(self._pipe.fileno(), readable.set)
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await readable.wait()
            except TimeoutError:
                return None
            finally:
                loop.remove_reader(self._pipe.fileno())
            answer = self._pipe.recv_bytes()
            self._is_asked = False
            return [(str(file), int(line), str(name)) for file, line, name in orjson.loads(answer)]
        return None

    @classmethod
    def _answer(cls, pipe: Connection) -> None:
        """Send, in a thread of the child, the frames of the main thread whenever they are asked for."""
        with suppress(OSError, EOFError, MemoryError):
            while True:
                pipe.recv_bytes()
                pipe.send_bytes(orjson.dumps(cls._frames()))

    @classmethod
    def _frames(cls) -> list[PoolFrame]:
        frames: list[PoolFrame] = []
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        while frame is not None and frame.f_code is not cls.call_code:
            frames.append((frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_qualname))
            frame = frame.f_back
        return frames[:_MAX_FRAMES][::-1] if frame is not None else []


class PoolContext(SpawnContext):
    """Starts such processes."""

    Process = PoolProcess


def _cpu_seconds(pid: int | None) -> float | None:
    """Return what a process has used so far; None without a ``/proc``, or if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None

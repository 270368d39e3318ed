"""The stack of a task: of its coroutines, and of the thread or process in which it has work done."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.thread import _WorkItem
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from workers.engine.fingerprint import is_handler_frame
from workers.handlers.process_pool import stack_of_call

MAX_FRAMES = 60
"""The innermost ones, which show where it stands."""


@dataclass(slots=True)
class TaskStack:
    """Frames by file, line, function, and whether it is the handler's code; the outermost first."""

    frames: list[tuple[str, int, str, bool]] = field(default_factory=list)
    place: str = ""
    """The thread or process that works; empty: its coroutine waits."""
    problem: str = ""
    """Why the frames of that thread or process are missing."""

    def add(self, frames: list[FrameType], *, without: tuple[str, ...] = ()) -> None:
        """Add frames that are further inside, but for those of files whose names end so."""
        self.frames += [
            (
                short_path(frame.f_code.co_filename),
                frame.f_lineno or 0,
                frame.f_code.co_qualname,
                is_handler_frame(frame),
            )
            for frame in frames
            if not frame.f_code.co_filename.endswith(without or ("\0",))
        ]


async def read_stack(task: asyncio.Task[Any] | None, *, without: tuple[str, ...] = ()) -> TaskStack:
    """Return where a task stands, without the frames of some files."""
    stack = TaskStack()
    waiting: Any = task
    tasks = _chain(task)
    for waiting in tasks:
        stack.add(list(_coroutine_frames(waiting.get_coro())), without=without)
    if tasks:
        await _add_work(stack, tasks[-1])
    stack.frames = stack.frames[-MAX_FRAMES:]
    return stack


def _chain(task: asyncio.Task[Any] | None) -> list[asyncio.Task[Any]]:
    """Return a suspended task and those that it waits for: of a gather the first that runs."""
    chain: list[asyncio.Task[Any]] = []
    waiting: Any = task
    while isinstance(waiting, asyncio.Task) and waiting not in chain:
        chain.append(waiting)
        waiting = getattr(waiting, "_fut_waiter", None)
        several = [child for child in getattr(waiting, "_children", ()) if not child.done()]
        waiting = several[0] if several else waiting
    return chain


async def _add_work(stack: TaskStack, task: asyncio.Task[Any]) -> None:
    """Add the frames of the thread or process whose result a task waits for."""
    call = await stack_of_call(task)
    if call is not None:
        stack.place = f"pool process {call.pid}"
        stack.frames += [(short_path(file), line, name, False) for file, line, name in call.frames or ()]
        if call.frames is None:
            share = "" if call.cpu is None else f", which uses {call.cpu * 100:.0f} % of a core"
            stack.problem = f"it does not answer: it may be in C code{share}"
        return
    work = _executor_future(getattr(task, "_fut_waiter", None))
    if work is None:
        return
    ident, frames = _thread_frames(work)
    if ident is not None:
        name = next((thread.name for thread in threading.enumerate() if thread.ident == ident), "")
        stack.place = f"thread {name or ident}"
        stack.add(frames)
    elif not work.running():
        stack.place, stack.problem = "executor", "it waits for a free thread: all of them work"


def _executor_future(waiting: Any) -> Future[Any] | None:
    """Return the future of an executor for which one of asyncio stands.

    Asyncio keeps it in a callback only.
    """
    for callback, *_ in getattr(waiting, "_callbacks", None) or ():
        for cell in getattr(callback, "__closure__", None) or ():
            if isinstance(cell.cell_contents, Future):
                return cell.cell_contents
    return None


def _thread_frames(work: Future[Any]) -> tuple[int | None, list[FrameType]]:
    """Return the thread that does the work of an executor, and the frames of the function that it runs."""
    for ident, innermost in sys._current_frames().items():
        frames: list[FrameType] = []
        frame: FrameType | None = innermost
        while frame is not None:
            if frame.f_code is _WorkItem.run.__code__:
                if getattr(frame.f_locals.get("self"), "future", None) is work:
                    return ident, frames[:MAX_FRAMES][::-1]
                break
            frames.append(frame)
            frame = frame.f_back
    return None, []


def _coroutine_frames(awaited: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine and of what it awaits; get_stack has the first one only."""
    for _ in range(10 * MAX_FRAMES):
        kind = next((kind for kind in _SUSPENDED if hasattr(awaited, kind[0])), None)
        if kind is None:
            # The step of an asynchronous generator does not name its generator, though it refers to it.
            inner = [item for item in gc.get_referents(awaited) if inspect.isasyncgen(item)]
            if not inner:
                return
            awaited = inner[0]
            continue
        frame = getattr(awaited, kind[0])
        if frame is not None:
            yield frame
        awaited = getattr(awaited, kind[1])


_SUSPENDED = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))
"""Attributes of coroutines, generators and asynchronous generators: frame, and what it waits for."""


def short_path(path: str) -> str:
    """Return a file by its path below the folder that Python imports it from."""
    folders = [folder for folder in sys.path if folder and path.startswith(folder + os.sep)]
    return path[len(max(folders, key=len)) + 1 :] if folders else path

"""Tells other processes where a job of this one stands: the stack of its coroutine, and its newest log lines.

A request comes over the channel of this process, and its answer goes to a channel that the request names.
Nothing happens without a request.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.redis.client import execute
from workers.engine import wire
from workers.engine.attempt_log import log_text
from workers.engine.dispatcher import Dispatcher
from workers.engine.keys import REPLY
from workers.engine.runner import RunningJob

log = structlog.get_logger(__name__)

MAX_FRAMES = 60
"""The innermost ones, which say where it stands."""
_MAX_CHANNEL_CHARS = 100
_ENGINE_FILES = tuple(os.path.join("workers", "engine", name) for name in ("runner.py", "tracing.py"))


class JobStacks:
    """Answers requests about the jobs of ``dispatchers``."""

    def __init__(self, redis: Redis, dispatchers: Mapping[str, Dispatcher]) -> None:
        self._redis = redis
        self._dispatchers = dispatchers

    async def answer(self, message: bytes) -> None:
        """Answer a request; anything else on the channel is ignored."""
        try:
            request = wire.load(message)
            queue, key, reply = (str(request[name]) for name in ("queue", "key", "reply"))
        except (ValueError, TypeError, LookupError, RecursionError):
            return
        if not reply.startswith(REPLY) or len(reply) > _MAX_CHANNEL_CHARS:
            return
        dispatcher = self._dispatchers.get(queue)
        running = None if dispatcher is None else dispatcher.runner.running.get(f"saq:job:{queue}:{key}")
        try:
            answer = {"frames": None} if running is None else _describe(running)
        except Exception as error:  # of what a handler awaits, which may be anything
            log.warning("a stack cannot be read", queue=queue, job=key, error=repr(error))
            return
        try:
            await execute(self._redis, "PUBLISH", reply, wire.dump(answer))
        except (RedisError, OSError, ValueError) as error:
            log.debug("a request for a stack is not answered", error=repr(error))


def _describe(running: RunningJob) -> dict[str, Any]:
    """The frames, the outermost first, by file, line and function; the newest lines of the log."""
    frames = [
        [_short(frame.f_code.co_filename), frame.f_lineno or 0, frame.f_code.co_qualname]
        for frame in _stack(running.task)
        if not frame.f_code.co_filename.endswith(_ENGINE_FILES)
    ]
    return {"frames": frames[-MAX_FRAMES:], "log": log_text(running.lines)}


def _stack(task: asyncio.Task[Any] | None) -> Iterator[FrameType]:
    """The frames of a suspended task and of the one that it waits for, the outermost first.

    Of several, as of a gather, the first that has not ended.
    """
    seen: set[int] = set()
    waiting: Any = task
    while isinstance(waiting, asyncio.Task) and id(waiting) not in seen:
        seen.add(id(waiting))
        yield from _coroutine_stack(waiting.get_coro())
        waiting = getattr(waiting, "_fut_waiter", None)
        several = [task for task in getattr(waiting, "_children", ()) if not task.done()]
        waiting = several[0] if several else waiting


def _coroutine_stack(awaited: Any) -> Iterator[FrameType]:
    """The frames of a coroutine and of what it awaits; a task's own get_stack has the first one only."""
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
"""Of coroutines, generators and asynchronous generators: the frame, and what it waits for."""


def _short(path: str) -> str:
    """A file by its path below the folder that Python imports it from."""
    folders = [folder for folder in sys.path if folder and path.startswith(folder + os.sep)]
    return path[len(max(folders, key=len)) + 1 :] if folders else path

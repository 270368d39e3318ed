"""Asks the processes that hold jobs where these stand, and for the newest lines of their logs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from storage.redis.client import execute
from storage.sanitize import sanitize
from workers.engine import wire
from workers.engine.attempt_log import LogLine
from workers.engine.keys import PROCESS, REPLY
from workers.errors import ConflictError

_ANSWER_SECONDS = 2.0
"""Within which a process answers whose event loop moves."""


@dataclass(frozen=True, slots=True)
class StackFrame:
    """A line at which a coroutine is suspended, or a thread or a process works."""

    file: str
    line: int
    function: str
    own: bool = False
    """Whether it is a line of the handler's code, not of a library."""


@dataclass(frozen=True, slots=True)
class JobStack:
    """The stack of a job."""

    frames: Sequence[StackFrame]
    """Frames of its coroutine, of the tasks that it waits for, and of the thread or process that works
    for it; the outermost first."""
    log: Sequence[str] = ()
    """The newest lines that it has logged, the oldest of them first."""
    place: str = ""
    """The thread or process that works for it, as ``pool process 4121``; empty: its coroutine waits."""
    problem: str = ""
    """Why the frames of that thread or process are missing."""

    @property
    def line(self) -> StackFrame | None:
        """The line at which it stands: the innermost one of the handler's code, else of all."""
        own = [frame for frame in self.frames if frame.own]
        return next(reversed(own or self.frames), None)


async def ask_for_stack(redis: Redis, worker: str, queue: str, key: str) -> JobStack:
    """Return where a job stands in its process.

    Raises ConflictError if the process does not answer, or the job does not run there any more; RedisError.
    """
    answer = await _ask(redis, worker, {"queue": queue, "key": key}, key)
    stack = _parse_stack(answer)
    if stack is None:
        raise ConflictError(f"{key}: does not run there any more")
    return stack


async def ask_for_stacks(redis: Redis, worker: str) -> dict[tuple[str, str], JobStack]:
    """Return where the jobs of a process stand, by queue and key.  Raises ConflictError, RedisError."""
    answer = await _ask(redis, worker, {"about": "jobs"}, f"process {worker[:8]}")
    stacks: dict[tuple[str, str], JobStack] = {}
    for entry in _list(answer, "jobs"):
        stack = _parse_stack(entry)
        if stack is not None:
            stacks[str(entry.get("queue")), str(entry.get("key"))] = stack
    return stacks


async def ask_for_log(redis: Redis, worker: str) -> list[LogLine]:
    """Return the newest lines of a process' log, the oldest of them first.

    Raises ConflictError, RedisError.
    """
    answer = await _ask(redis, worker, {"about": "log"}, f"process {worker[:8]}")
    try:
        return [LogLine(**line) for line in _list(answer, "lines")]
    except TypeError:
        raise ConflictError(f"process {worker[:8]}: is of another version, its log cannot be read") from None


async def _ask(redis: Redis, worker: str, request: Mapping[str, str], subject: str) -> Any:
    reply = f"{REPLY}{uuid.uuid4().hex}"
    message = wire.dump({"queue": "", "key": "", **request, "reply": reply})
    async with redis.pubsub() as channel:
        await channel.subscribe(reply)
        receivers = await execute(redis, "PUBLISH", f"{PROCESS}{worker}", message)
        if not receivers:
            raise ConflictError(f"{subject}: the process {worker[:8]} is not connected")
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                async for answer in channel.listen():
                    if answer["type"] == "message":
                        return sanitize(wire.load(answer["data"]))
        except TimeoutError:
            pass
        except (ValueError, RecursionError):
            raise ConflictError(f"{subject}: the answer of its process cannot be read") from None
    raise ConflictError(
        f"{subject}: its process does not answer within {_ANSWER_SECONDS:g} s",
        fix="its event loop may be blocked",
    )


def _list(answer: Any, name: str) -> list[dict[str, Any]]:
    value = answer.get(name) if isinstance(answer, dict) else None
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _parse_stack(answer: Any) -> JobStack | None:
    """Parse an answer; None for a job that does not run there."""
    try:
        if answer["frames"] is None:
            return None
        frames = [
            StackFrame(str(file), int(line), str(function), bool(own and own[0]))
            for file, line, function, *own in answer["frames"]
        ]
        log = [str(line) for line in answer.get("log", ())]
        return JobStack(frames, log, str(answer.get("place", "")), str(answer.get("problem", "")))
    except (ValueError, TypeError, LookupError, AttributeError):
        return None

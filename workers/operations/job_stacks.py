"""Asks the process that holds a job where the job stands."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from storage.redis.client import execute
from storage.sanitize import sanitize
from workers.engine import wire
from workers.engine.keys import PROCESS, REPLY
from workers.errors import ConflictError

_ANSWER_SECONDS = 2.0
"""Within which a process answers whose event loop moves."""


@dataclass(frozen=True, slots=True)
class StackFrame:
    """A line of a coroutine: it is suspended there."""

    file: str
    line: int
    function: str


@dataclass(frozen=True, slots=True)
class JobStack:
    """Where a job stands."""

    frames: Sequence[StackFrame]
    """Of its coroutine, and of the tasks that it waits for, the outermost first."""
    log: Sequence[str]
    """The newest lines that it has logged, the oldest of them first."""


async def ask_for_stack(redis: Redis, worker: str, queue: str, key: str) -> JobStack:
    """Where a job stands in its process.

    Raises ConflictError if the process does not answer, or the job does not run there any more; RedisError.
    """
    reply = f"{REPLY}{uuid.uuid4().hex}"
    request = wire.dump({"queue": queue, "key": key, "reply": reply})
    async with redis.pubsub() as channel:
        await channel.subscribe(reply)
        heard = await execute(redis, "PUBLISH", f"{PROCESS}{worker}", request)
        if not heard:
            raise ConflictError(f"{key}: the process {worker[:8]} is not connected")
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                async for message in channel.listen():
                    if message["type"] == "message":
                        return _parse(message["data"], key)
        except TimeoutError:
            pass
    raise ConflictError(
        f"{key}: its process does not answer within {_ANSWER_SECONDS:g} s",
        fix="its event loop may be blocked",
    )


def _parse(answer: Any, key: str) -> JobStack:
    try:
        parts = sanitize(wire.load(answer))
        if parts["frames"] is not None:
            frames = [
                StackFrame(str(file), int(line), str(function)) for file, line, function in parts["frames"]
            ]
            return JobStack(frames, [str(line) for line in parts["log"]])
    except (ValueError, TypeError, LookupError, RecursionError):
        pass
    raise ConflictError(f"{key}: does not run there any more")

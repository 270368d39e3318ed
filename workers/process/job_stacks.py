"""Reports to other processes where the jobs of this one stand, and the newest lines of its log.

A request comes over the channel of this process, and its answer goes to a channel that the request names.
It does nothing without a request.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import asdict
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
from workers.handlers.processes.pool import HandlerPool
from workers.handlers.processes.process import ProcessStack
from workers.process.held_jobs import log_lines
from workers.process.task_stack import read_stack, short_path

log = structlog.get_logger(__name__)

MAX_JOBS = 200
"""Jobs whose stacks one answer has: those that have run the longest."""
MAX_LINES = 200
"""Lines of the log in one answer."""
_MAX_UNDER_WAY = 10
"""Requests that are answered at once; any program may send them, and a pool process may take its time."""
_MAX_CHANNEL_CHARS = 100
_ENGINE_FILES = tuple(os.path.join("workers", "engine", name) for name in ("runner.py", "tracing.py"))


class JobStacks:
    """Answers requests about the jobs of ``dispatchers``."""

    def __init__(self, redis: Redis, dispatchers: Mapping[str, Dispatcher]) -> None:
        self._redis = redis
        self._dispatchers = dispatchers
        self._answers: set[asyncio.Task[None]] = set()

    def answer(self, message: bytes) -> None:
        """Answer a request soon; anything else on the channel is ignored."""
        try:
            request = wire.load(message)
            queue, key, reply = (str(request[name]) for name in ("queue", "key", "reply"))
            about = str(request.get("about", "job"))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return
        if not reply.startswith(REPLY) or len(reply) > _MAX_CHANNEL_CHARS:
            return
        if len(self._answers) < _MAX_UNDER_WAY:
            task = asyncio.create_task(self._answer(about, queue, key, reply))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    async def _answer(self, about: str, queue: str, key: str, reply: str) -> None:
        try:
            match about:
                case "jobs":
                    answer = await self._all_jobs()
                case "log":
                    answer = self._log()
                case _:
                    answer = await self._job(queue, key)
        except Exception as error:  # of what a handler awaits, which may be anything
            log.warning("a stack cannot be read", queue=queue, job=key, error=repr(error))
            return
        try:
            await execute(self._redis, "PUBLISH", reply, wire.dump(answer))
        except (RedisError, OSError, ValueError) as error:
            log.debug("a request for a stack is not answered", error=repr(error))

    async def _job(self, queue: str, key: str) -> dict[str, Any]:
        dispatcher = self._dispatchers.get(queue)
        running = None if dispatcher is None else dispatcher.runner.running.get(f"saq:job:{queue}:{key}")
        if dispatcher is None or running is None:
            return {"frames": None}
        return await _describe(dispatcher, running) | {"log": log_text(running.lines)}

    async def _all_jobs(self) -> dict[str, Any]:
        """Return the stacks of all jobs; the one of a job that cannot be read is left out."""
        running = [
            (dispatcher, job)
            for dispatcher in self._dispatchers.values()
            for job in dispatcher.runner.running.values()
        ]
        oldest = sorted(running, key=lambda pair: pair[1].started)[:MAX_JOBS]
        stacks = await asyncio.gather(*(_describe(*pair) for pair in oldest), return_exceptions=True)
        return {
            "jobs": [
                {"queue": dispatcher.queue.name, "key": job.log_fields()["job"], **stack}
                for (dispatcher, job), stack in zip(oldest, stacks, strict=True)
                if not isinstance(stack, BaseException)
            ]
        }

    def _log(self) -> dict[str, Any]:
        """Return the newest lines of the process and of the jobs that run."""
        newest = log_lines(self._dispatchers.values())[-MAX_LINES:]
        return {"lines": [asdict(line) for line in newest]}


async def _describe(dispatcher: Dispatcher, running: RunningJob) -> dict[str, Any]:
    """Return the frames, outermost first: file, line, function and whether it is the handler's code."""
    pool = HandlerPool.for_function(dispatcher.runner.functions[dispatcher.queue.policy.function])
    if pool is not None:
        stack = await pool.stack(running.job)
        frames = [(short_path(file), line, name, own) for file, line, name, own in stack.frames]
        problem = "" if frames else _describe_block(stack)
        return {"frames": frames, "place": f"handler process {stack.pid}", "problem": problem}
    task_stack = await read_stack(running.task, without=_ENGINE_FILES)
    return {"frames": task_stack.frames, "place": task_stack.place, "problem": task_stack.problem}


def _describe_block(stack: ProcessStack) -> str:
    """Return why a job has no frames."""
    if stack.blocked_by is None:
        return "its process does not answer: it may be in C code, or has just begun"
    frames = [frame for frame in stack.blocked_at if frame[3]] or stack.blocked_at
    if not frames:
        return f"job {stack.blocked_by} blocks its process, which does not answer: it may be in C code"
    file, line, name, _ = frames[-1]
    return f"job {stack.blocked_by} blocks its process, at {short_path(file)}:{line} in {name}"

"""Jobs that are enqueued by the clock: each occurrence once, whatever the number of processes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from croniter import croniter
from redis.exceptions import RedisError
from saq import Job
from saq.utils import now

from storage.errors import StorageError
from storage.redis.client import execute
from workers.engine.keys import CRON
from workers.engine.queue import JobQueue

log = structlog.get_logger(__name__)

_SPREAD = 1.0
"""Seconds over which the processes come to look at an occurrence: the first enqueues, the others see it."""
_RETRY = 15.0
"""Seconds until the next try where a server is away; the occurrence is made up for."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """``jobs`` gives, at each occurrence of ``expression``, job key -> arguments for ``queue``.

    ``expression`` is a cron expression as croniter reads it, in UTC.  A job whose key is still queued from
    the occurrence before is not enqueued again.
    """

    name: str
    expression: str
    queue: str
    jobs: Callable[[], Awaitable[Mapping[str, dict[str, Any]]]]

    def last(self, at: datetime) -> datetime:
        """The newest occurrence that is not after ``at``."""
        found: datetime = croniter(self.expression, at + timedelta(seconds=1)).get_prev(datetime)
        return found

    def next(self, at: datetime) -> datetime:
        """The first occurrence after ``at``."""
        found: datetime = croniter(self.expression, at).get_next(datetime)
        return found


class Scheduler:
    """Runs in every process that works on the schedule's queue.

    What was missed while no process ran is made up for by one occurrence, not by all of them.
    """

    def __init__(self, schedule: Schedule, queue: JobQueue) -> None:
        self._schedule = schedule
        self._queue = queue

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                wait = await self.look()
            except (RedisError, StorageError, OSError) as error:
                log.warning("schedule waits", schedule=self._schedule.name, error=str(error), retry_in=_RETRY)
                wait = _RETRY
            await asyncio.sleep(wait + random.uniform(0, _SPREAD))  # noqa: S311 - spreads the load

    async def look(self) -> float:
        """Enqueue the newest occurrence where nobody has; seconds until the next one.

        Raises RedisError, StorageError.
        """
        seconds, _ = await self._queue.redis.time()
        at = datetime.fromtimestamp(int(seconds), UTC)
        occurrence = self._schedule.last(at)
        done = await execute(self._queue.redis, "HGET", CRON, self._schedule.name)
        newest = past_second(done, now=int(seconds))
        if newest is None or newest < occurrence.timestamp():
            enqueued = await self._enqueue(int(occurrence.timestamp()))
            log.info("by the clock", schedule=self._schedule.name, occurrence=occurrence, jobs=enqueued)
        return (self._schedule.next(at) - at).total_seconds()

    async def _enqueue(self, occurrence: int) -> int:
        wanted = await self._schedule.jobs()
        jobs = [
            Job(function=self._queue.policy.function, kwargs=arguments, key=key, queued=now())
            for key, arguments in wanted.items()
        ]
        return await self._queue.enqueue_occurrence(self._schedule.name, occurrence, jobs)


def past_second(text: bytes | None, *, now: int) -> int | None:
    """The Unix second that a field of the schedules holds; None where it is none, or lies ahead of ``now``.

    A time that lies ahead was written before the server's clock was set back.
    """
    try:
        second = int(text or b"")
    except ValueError:
        return None
    return second if second <= now else None

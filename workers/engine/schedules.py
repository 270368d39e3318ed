"""Enqueues jobs by the clock: each occurrence once, however many processes run."""

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
from workers.engine.attempts import META, SCHEDULE
from workers.engine.keys import CRON
from workers.engine.queue import JobQueue
from workers.engine.schedule_state import ScheduleState, field_names

log = structlog.get_logger(__name__)

_SPREAD_SECONDS = 1.0
"""Over which the processes check an occurrence: the first enqueues it, the others find it done."""
_RETRY_SECONDS = 15.0
"""Until the next try if a server is down; then the missed occurrence is run."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """``jobs`` returns, at each occurrence of ``expression``, the arguments for ``queue`` by job key.

    ``expression`` is a cron expression as croniter reads it, in UTC.  A job whose key is still queued from
    the occurrence before is not enqueued again.
    """

    name: str
    expression: str
    queue: str
    jobs: Callable[[], Awaitable[Mapping[str, dict[str, Any]]]]

    def previous_occurrence(self, when: datetime) -> datetime:
        """Return the newest occurrence that is not after ``when``."""
        occurrence: datetime = croniter(self.expression, when + timedelta(seconds=1)).get_prev(datetime)
        return occurrence

    def next_occurrence(self, when: datetime) -> datetime:
        """Return the first occurrence after ``when``."""
        occurrence: datetime = croniter(self.expression, when).get_next(datetime)
        return occurrence


class Scheduler:
    """Runs in every process that works on the schedule's queue.

    If occurrences were missed while no process ran, one is run for all of them.
    """

    def __init__(self, schedule: Schedule, queue: JobQueue) -> None:
        self._schedule = schedule
        self._queue = queue

    async def run(self) -> None:
        """Run every occurrence, until cancelled."""
        while True:
            try:
                wait = await self.run_due()
            except (RedisError, StorageError, OSError) as error:
                log.warning(
                    "schedule waits", schedule=self._schedule.name, error=str(error), retry_in=_RETRY_SECONDS
                )
                wait = _RETRY_SECONDS
            await asyncio.sleep(wait + random.uniform(0, _SPREAD_SECONDS))  # noqa: S311 - spreads the load

    async def run_due(self) -> float:
        """Enqueue the newest occurrence if no process has, unless an operator has disabled the schedule.

        Returns the seconds until the next one.  Raises RedisError, StorageError.
        """
        seconds, _ = await self._queue.redis.time()
        when = datetime.fromtimestamp(int(seconds), UTC)
        occurrence = self._schedule.previous_occurrence(when)
        names = field_names(self._schedule.name)
        values = await execute(self._queue.redis, "HMGET", CRON, *names)
        fields = {name.encode(): value for name, value in zip(names, values, strict=True)}
        state = ScheduleState.read(fields, self._schedule.name, int(seconds))
        done = state.done_until
        if state.disabled is None and (done is None or done < occurrence.timestamp()):
            enqueued = await self._enqueue(int(occurrence.timestamp()))
            occurred = occurrence.isoformat()
            log.info("a schedule ran", schedule=self._schedule.name, occurrence=occurred, jobs=enqueued)
        return (self._schedule.next_occurrence(when) - when).total_seconds()

    async def _enqueue(self, occurrence: int) -> int:
        jobs = await scheduled_jobs(self._schedule, self._queue)
        return await self._queue.enqueue_occurrence(self._schedule.name, occurrence, jobs)


async def scheduled_jobs(schedule: Schedule, queue: JobQueue) -> list[Job]:
    """Return the jobs of one occurrence.  Raises StorageError."""
    arguments_by_key = await schedule.jobs()
    meta = {META: {SCHEDULE: schedule.name}}
    return [
        Job(function=queue.policy.function, kwargs=arguments, key=key, queued=now(), meta=dict(meta))
        for key, arguments in arguments_by_key.items()
    ]

"""Finds a reason to check the alerts while no queue holds anything, with hardly a command to Redis.

A process may have gone, the database may be unavailable, a replay may have lost its process, and a schedule
may not have run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime

from redis.asyncio import Redis

from storage.dead_letters.plans import PlanRepository
from storage.errors import StorageError
from storage.redis.client import execute
from workers.engine.keys import CRON, WAKE_CHANNEL
from workers.engine.schedules import Schedule
from workers.monitoring.alert_evaluation import schedule_conditions

_DATABASE_SECONDS = 2.0
"""Timeout of the query: a database that is silent for longer counts as unavailable."""
_AFTER_LATE_SECONDS = 5.0
"""How long after the moment from which its run is missed a schedule is checked."""
_LOOK_SECONDS = 8.0
"""After a process has gone, time until a check is due: it counts as reconnecting for a few seconds."""
_RETRY_SECONDS = 60.0
"""Until the schedules are checked again if Redis failed."""


class IdleChecks:
    """The checks of one process, which do not depend on the others.

    ``schedules`` are those of its queues, each with the Redis of its queue.  ``count_seconds`` is the time
    between two counts of the processes: one command to each Redis.  The schedules are checked with two
    commands an occurrence, plans and database with one query each a call.
    """

    def __init__(
        self,
        redises: Collection[Redis],
        *,
        count_seconds: float,
        plans: PlanRepository | None = None,
        check_writes: Callable[[], Awaitable[None]] | None = None,
        schedules: Mapping[Schedule, Redis] | None = None,
    ) -> None:
        self._redises = redises
        self._count_seconds = count_seconds
        self._plans = plans
        self._check_writes = check_writes
        self._schedules = schedules or {}
        self._next_count = 0.0
        self._look_until = 0.0
        self._next_schedule_check = 0.0
        """All by the monotonic clock."""
        self._processes = 0
        """Processes that listened for jobs when they were last counted."""

    async def find_reason(self) -> bool:
        """Return whether something may be wrong.  Raises RedisError."""
        if await self._is_process_gone() or await self._is_database_or_plan_troubled():
            return True
        return await self._is_schedule_missed()

    async def _is_process_gone(self) -> bool:
        now = time.monotonic()
        if now < self._next_count:
            return now < self._look_until
        self._next_count = now + self._count_seconds
        counting = (execute(redis, "PUBSUB", "NUMSUB", WAKE_CHANNEL) for redis in self._redises)
        replies = await asyncio.gather(*counting)
        before, self._processes = self._processes, sum(int(reply[1]) for reply in replies)
        if self._processes < before:
            self._look_until = now + _LOOK_SECONDS
        return now < self._look_until

    async def _is_database_or_plan_troubled(self) -> bool:
        """Return whether the database is unavailable or read-only, or has a plan that runs or has halted."""
        try:
            async with asyncio.timeout(_DATABASE_SECONDS):
                if self._check_writes is not None:
                    await self._check_writes()
                return self._plans is not None and bool(await self._plans.unfinished_plans(1))
        except (StorageError, OSError):
            return True

    async def _is_schedule_missed(self) -> bool:
        if not self._schedules or time.monotonic() < self._next_schedule_check:
            return False
        self._next_schedule_check = time.monotonic() + _RETRY_SECONDS
        waits, is_missed = [], False
        for redis in set(self._schedules.values()):
            schedules = [schedule for schedule, client in self._schedules.items() if client is redis]
            seconds, _ = await redis.time()
            fields = await execute(redis, "HGETALL", CRON)
            waits += [_seconds_until_late(schedule, int(seconds)) for schedule in schedules]
            is_missed = is_missed or any(schedule_conditions(schedules, fields, float(seconds)))
        self._next_schedule_check = time.monotonic() + min(waits) + _AFTER_LATE_SECONDS
        return is_missed


def _seconds_until_late(schedule: Schedule, now: int) -> float:
    """Return the seconds until the next moment from which a run of the schedule is missed."""
    when = datetime.fromtimestamp(now, UTC)
    occurrence = schedule.previous_occurrence(when)
    following = schedule.next_occurrence(when)
    late = occurrence + (following - occurrence) / 2
    if late <= when:
        late += following - occurrence
    return (late - when).total_seconds()

"""The operator's verbs on schedules: list, run now, disable, enable; for the whole cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from redis.asyncio import Redis

from storage.redis.client import execute
from storage.redis.scripts import Script, run_script
from workers.engine import wire
from workers.engine.enqueueing import EnqueueResult
from workers.engine.keys import CRON
from workers.engine.schedule_state import RAN, ScheduleState
from workers.engine.schedules import Schedule, scheduled_jobs
from workers.errors import NotFoundError
from workers.operations.audit import Audit
from workers.operations.enqueueing import Enqueueing

DISABLE_SCRIPT = Script.load(__name__, "disable_schedule")
ENABLE_SCRIPT = Script.load(__name__, "enable_schedule")

_MAX_MISSED = 1_000
"""Missed runs that are counted one by one."""


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule now, by the server's clock."""

    name: str
    function: str
    queue: str
    expression: str
    """In the syntax of croniter, in UTC."""
    interval_seconds: float
    """Between its next two occurrences."""
    enabled: bool
    next_at: datetime | None
    """None while it is disabled."""
    last_at: datetime | None
    """The newest occurrence for which jobs were enqueued."""
    missed: int
    """Occurrences since then that are late by more than half the interval; at most 1,000."""
    run_at: datetime | None
    """When an operator last ran it."""
    disabled_by: str | None = None
    disabled_at: datetime | None = None
    disabled_reason: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduleRun:
    """A run by an operator: of its ``jobs`` those were ``enqueued`` whose keys were not queued already."""

    schedule: str
    queue: str
    jobs: int
    enqueued: int


class ScheduleOperations:
    """Every method raises RedisError; those with a name raise NotFoundError."""

    def __init__(self, enqueueing: Enqueueing, schedules: Sequence[Schedule], audit: Audit) -> None:
        self._enqueueing = enqueueing
        self._schedules = {schedule.name: schedule for schedule in schedules}
        self._audit = audit

    async def list(self) -> list[ScheduleView]:
        """Return all schedules, in one round trip to each Redis that holds one of their queues."""
        redises = {self._redis(schedule) for schedule in self._schedules.values()}
        states = dict(zip(redises, await asyncio.gather(*map(_read_states, redises)), strict=True))
        return [self._view(schedule, *states[self._redis(schedule)]) for schedule in self._schedules.values()]

    async def get(self, name: str) -> ScheduleView:
        """Return one schedule."""
        self._find(name)
        return next(view for view in await self.list() if view.name == name)

    async def run(self, name: str, reason: str = "") -> ScheduleRun:
        """Enqueue the jobs of a schedule now, also of one that is disabled.  Raises StorageError.

        Its occurrences come as before; a job whose key is still queued is not enqueued again.
        """
        schedule = self._find(name)
        queue = self._enqueueing.queue(schedule.queue)
        async with self._audit.record("cron run", {"schedule": name, "queue": queue.name}, reason) as action:
            jobs = await scheduled_jobs(schedule, queue)
            results = await queue.enqueue_many(jobs)
            seconds, _ = await queue.redis.time()
            await execute(queue.redis, "HSET", CRON, f"{name}{RAN}", seconds)
            action.affected = results.count(EnqueueResult.ENQUEUED)
            action.outcome = f"{action.affected} of {len(jobs)} enqueued"
            return ScheduleRun(name, queue.name, len(jobs), action.affected)

    async def disable(self, name: str, reason: str = "") -> bool:
        """Enqueue no occurrence from now on, in any process; False if it was disabled already."""
        schedule = self._find(name)
        arguments = {"schedule": name, "queue": schedule.queue}
        async with self._audit.record("cron disable", arguments, reason) as action:
            note = wire.dump({"by": self._audit.actor, "reason": reason})
            call = DISABLE_SCRIPT.call([CRON], [name, note])
            action.affected = int(await run_script(self._redis(schedule), call))
            return bool(action.affected)

    async def enable(self, name: str, reason: str = "") -> bool:
        """Enqueue its occurrences again, from the next one on; False if it was not disabled."""
        schedule = self._find(name)
        arguments = {"schedule": name, "queue": schedule.queue}
        async with self._audit.record("cron enable", arguments, reason) as action:
            call = ENABLE_SCRIPT.call([CRON], [name])
            action.affected = int(await run_script(self._redis(schedule), call))
            return bool(action.affected)

    def _redis(self, schedule: Schedule) -> Redis:
        """Return the Redis of its queue: the script that enqueues an occurrence reads its state."""
        return self._enqueueing.queue(schedule.queue).redis

    def _find(self, name: str) -> Schedule:
        schedule = self._schedules.get(name)
        if schedule is None:
            names = ", ".join(self._schedules) or "there is none"
            raise NotFoundError(f"no schedule {name!r}", fix=f"use one of {names}")
        return schedule

    def _view(self, schedule: Schedule, fields: dict[bytes, bytes], now: int) -> ScheduleView:
        state = ScheduleState.read(fields, schedule.name, now)
        when = datetime.fromtimestamp(now, UTC)
        following = schedule.next_occurrence(when)
        interval = schedule.next_occurrence(following) - following
        disabled = state.disabled
        return ScheduleView(
            name=schedule.name,
            function=self._enqueueing.queue(schedule.queue).policy.function,
            queue=schedule.queue,
            expression=schedule.expression,
            interval_seconds=interval.total_seconds(),
            enabled=disabled is None,
            next_at=following if disabled is None else None,
            last_at=_time(state.newest),
            missed=_count_missed(schedule, state, when - interval / 2),
            run_at=_time(state.ran),
            disabled_by=None if disabled is None else disabled.by,
            disabled_at=None if disabled is None else _time(disabled.since),
            disabled_reason=None if disabled is None else disabled.reason,
        )


async def _read_states(redis: Redis) -> tuple[dict[bytes, bytes], int]:
    """Return what a Redis holds of schedules, and its time in Unix seconds.  Raises RedisError."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.time()
    pipeline.hgetall(CRON)
    (seconds, _), fields = await pipeline.execute(raise_on_error=False)
    # Another program may have given the key another type.
    return fields if isinstance(fields, dict) else {}, int(seconds)


def _count_missed(schedule: Schedule, state: ScheduleState, until: datetime) -> int:
    """Return the occurrences up to ``until`` that were not run."""
    if state.disabled is not None or state.done_until is None:
        return 0
    missed, occurrence = 0, schedule.next_occurrence(datetime.fromtimestamp(state.done_until, UTC))
    while occurrence <= until and missed < _MAX_MISSED:
        missed += 1
        occurrence = schedule.next_occurrence(occurrence)
    return missed


def _time(second: float | None) -> datetime | None:
    try:
        return None if second is None else datetime.fromtimestamp(second, UTC)
    except (ValueError, OverflowError, OSError):
        return None

"""Archives old dead letters, and deletes old events and alerts: daily, in batches, by one process.

No dead letter is deleted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import StorageError
from storage.redis.client import execute
from storage.redis.lock import ExpiringLock
from workers.engine.keys import CRON, RETENTION
from workers.engine.schedule_state import past_second

log = structlog.get_logger(__name__)

RETENTION_DAYS = 30.0
ALERT_DAYS = 365.0
"""For which alerts that are resolved, and silences that have ended, are kept."""
_SCHEDULE = "retention"
"""Its field among the schedules: the day, in Unix seconds, whose run is done."""
_DAY_SECONDS = 86_400
_CHECK_SECONDS = 3_600.0
"""Between two checks whether today's run is done."""
_FIRST_CHECK_SECONDS = (30.0, 90.0)
"""After the start of a process, at random in between: many may start at once."""
_PAUSE_SECONDS = 0.05
"""Between two batches, so that others can write, too."""


class Expiring(NamedTuple):
    """Rows that are deleted when they are older than ``days``."""

    delete: Callable[[datetime], Awaitable[int]]
    """Deletes some of those of before a time; how many, 0 once none is left."""
    days: float


class Retention:
    """Moves letters, and deletes what expires; a lock makes sure that one process moves at a time."""

    def __init__(
        self, redis: Redis, letters: DeadLetterRepository, expiring: Sequence[Expiring] = ()
    ) -> None:
        self._redis = redis
        self._letters = letters
        self._expiring = expiring

    async def run(self) -> None:
        """Archive once a day, until cancelled."""
        await asyncio.sleep(random.uniform(*_FIRST_CHECK_SECONDS))  # noqa: S311 - spreads the load
        while True:
            try:
                await self.run_if_due()
            except (RedisError, StorageError, OSError) as error:
                log.warning("old dead letters stay where they are", error=str(error), retry_in=_CHECK_SECONDS)
            await asyncio.sleep(_CHECK_SECONDS)

    async def run_if_due(self) -> int:
        """Do today's run, unless it was done; return how many letters were moved.

        Raises RedisError, StorageError.
        """
        seconds, _ = await self._redis.time()
        today = int(seconds) // _DAY_SECONDS * _DAY_SECONDS
        last_run = await execute(self._redis, "HGET", CRON, _SCHEDULE)
        newest = past_second(last_run, now=int(seconds))
        if newest is not None and newest >= today:
            return 0
        now = datetime.now(UTC)
        moved = await self.archive(now - timedelta(days=RETENTION_DAYS))
        if moved is None:
            return 0
        deleted = 0
        for expiring in self._expiring:  # two processes that delete at once disturb nothing
            while batch := await expiring.delete(now - timedelta(days=expiring.days)):
                deleted += batch
                await asyncio.sleep(_PAUSE_SECONDS)
        await execute(self._redis, "HSET", CRON, _SCHEDULE, today)
        log.info("old dead letters were archived", letters=moved, rows_deleted=deleted)
        return moved

    async def archive(self, before: datetime) -> int | None:
        """Move all letters that died before ``before``; how many, None if another process archives now.

        Raises RedisError, StorageError; letters that were moved before the error stay moved.
        """
        lock, moved = ExpiringLock(self._redis, RETENTION), 0
        if not await lock.acquire_or_renew():
            return None
        try:
            while batch := await self._letters.archive(before):
                moved += batch
                if not await lock.acquire_or_renew():
                    break
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            await lock.release()
        return moved

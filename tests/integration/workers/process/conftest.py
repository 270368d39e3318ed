"""Snapshots of one queue and its processes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from tests.support.engine import Bench
from workers.engine.keys import BEATS
from workers.engine.policy import QueuePolicy
from workers.monitoring.snapshot import QueueSnapshot, Snapshot
from workers.monitoring.snapshot_reader import SnapshotReader

HOUR_MS = 3_600_000


class View:
    """Snapshots of the one queue of a bench."""

    def __init__(self, observer: SnapshotReader) -> None:
        self._observer = observer

    async def now(self) -> Snapshot:
        return await self._observer.snapshot(loop_lag=None, drain_deadline_in=None)

    async def queue(self) -> QueueSnapshot:
        (found,) = (await self.now()).queues
        return found

    async def states(self) -> list[str]:
        return [worker.state for worker in (await self.now()).workers]


@pytest.fixture
async def view(redis: Redis, redis_url: str, database: Database) -> AsyncIterator[View]:
    policy = QueuePolicy("color-extraction", "extract_colors", concurrency=5, timeout=60)
    made = SnapshotReader(
        redis,
        redis_url,
        [policy],
        database,
        DeadLetterRepository(database),
        environment="test",
        weather_provider="offline",
    )
    yield View(made)
    await made.close()


async def server_ms(redis: Redis) -> int:
    seconds, micros = await redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def add_leases(bench: Bench, worker: str, count: int, *, beat: int | None) -> None:
    """``count`` jobs in flight at ``worker``, which beat so many ms ago."""
    await bench.send(count)
    await bench.queue.take(worker, count, [])
    await bench.redis.zrem(BEATS, worker)
    if beat is not None:
        await bench.redis.zadd(BEATS, {worker: await server_ms(bench.redis) - beat})

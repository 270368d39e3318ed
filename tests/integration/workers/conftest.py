"""Queues under test, and worker processes to start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from tests.support.databases import open_database
from tests.support.engine import FAST_RETRIES, Bench, MakeBench, stop
from tests.support.processes import Journal, Spawner
from workers.engine.policy import QueuePolicy
from workers.engine.queue import JobQueue


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def migrated_database_url(request: pytest.FixtureRequest) -> str:
    """Each of the two databases in turn; what differs between them is tested with the storage."""
    url: str = request.getfixturevalue(f"migrated_{request.param}_url")
    return url


@pytest.fixture
async def database(migrated_sqlite_url: str) -> AsyncIterator[Database]:
    async with open_database(migrated_sqlite_url) as database:
        yield database


@pytest.fixture
def letters(database: Database) -> DeadLetterRepository:
    return DeadLetterRepository(database)


@pytest.fixture
async def make_bench(redis_url: str, redis: Redis, letters: DeadLetterRepository) -> AsyncIterator[MakeBench]:
    benches: list[Bench] = []

    def make(**policy: Any) -> Bench:
        settings = {
            "name": "color-extraction",
            "function": "extract_colors",
            "concurrency": 5,
            "timeout": 60,
            "retry_delays": FAST_RETRIES,
        } | policy
        made = QueuePolicy(**settings)
        stock = RedisQueue.from_url(redis_url, name=made.name)
        benches.append(Bench(redis_url, redis, letters, made, JobQueue(redis, made), stock))
        return benches[-1]

    yield make
    for bench in benches:
        for process in bench.processes:
            await stop(process)
        await bench.stock.disconnect()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return the notes of the handlers of all worker processes."""
    return Journal(tmp_path / "journal")


@pytest.fixture
async def spawn(redis_url: str, sqlite_url: str, journal: Journal) -> AsyncIterator[Spawner]:
    """Starts worker processes of their own."""
    spawner = Spawner(redis=redis_url, database=sqlite_url, journal=str(journal.path))
    yield spawner
    await spawner.end()

"""What the engine's tests share: a process to start, jobs to send, a condition to wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from tests.support.processes import Journal, Spawner
from workers.engine.policy import QueuePolicy, Timings
from workers.engine.queue import JobQueue
from workers.engine.runner import SaqFunction
from workers.process.worker_process import WorkerProcess

FAST_RETRIES = (0.1, 0.2, 0.3)
QUICK = Timings(
    heartbeat_seconds=0.1,
    dead_after_seconds=0.6,
    max_check_gap_seconds=0.5,
    recovery_check_seconds=0.1,
    full_poll_seconds=0.05,
    standby_poll_seconds=0.1,
    retry_seconds=(0.02, 0.1),
    loop_check_seconds=0.05,
)
"""Notice in half a second that a process died: not for tests in which a living one must not seem dead."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def migrated_database_url(request: pytest.FixtureRequest) -> str:
    """Each of the two databases in turn; what differs between them is tested with the storage."""
    url: str = request.getfixturevalue(f"migrated_{request.param}_url")
    return url


@pytest.fixture
async def database(migrated_sqlite_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_sqlite_url)
    await database.start()
    yield database
    await database.close()


@pytest.fixture
def letters(database: Database) -> DeadLetterRepository:
    return DeadLetterRepository(database)


@dataclass
class Bench:
    """One queue under test: its policy, our handle on it, a stock SAQ producer, and processes to start."""

    url: str
    redis: Redis
    letters: DeadLetterRepository
    policy: QueuePolicy
    queue: JobQueue
    stock: RedisQueue
    processes: list[WorkerProcess] = field(default_factory=list)

    async def start(self, function: SaqFunction, **options: Any) -> WorkerProcess:
        process = WorkerProcess(
            self.url,
            policies=[self.policy],
            functions={self.policy.name: function},
            letters=self.letters,
            **options,
        )
        self.processes.append(process)
        await process.start()
        return process

    async def send(self, count: int = 1, **arguments: Any) -> list[str]:
        jobs = [await self.stock.enqueue(self.policy.function, number=n, **arguments) for n in range(count)]
        return [job.key for job in jobs if job is not None]

    async def total(self, outcome: str) -> int:
        return int(await self.redis.hget(self.queue.keys.totals, outcome) or 0)

    async def lists(self) -> dict[str, int]:
        """Lengths of everything that may hold a job that has not ended."""
        keys = self.queue.keys
        return {
            "queued": await self.redis.llen(keys.queued),
            "active": await self.redis.llen(keys.active),
            "incomplete": await self.redis.zcard(keys.incomplete),
            "leases": await self.redis.hlen(keys.leases),
        }

    async def empty(self) -> bool:
        return not any((await self.lists()).values())


MakeBench = Callable[..., Bench]


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
            process.drain_now()
            await process.drained()
            await process.close()
        await bench.stock.disconnect()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """What the handlers of all worker processes wrote down."""
    return Journal(tmp_path / "journal")


@pytest.fixture
async def spawn(redis_url: str, sqlite_url: str, journal: Journal) -> AsyncIterator[Spawner]:
    """Starts worker processes of their own."""
    spawner = Spawner(redis=redis_url, database=sqlite_url, journal=str(journal.path))
    yield spawner
    await spawner.end()


async def eventually(
    condition: Callable[[], Awaitable[Any] | Any], *, within: float = 30.0, what: str = ""
) -> Any:
    """Wait until ``condition()`` is true; its value.  Fails after ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within} s: {what or condition}"
        await asyncio.sleep(0.01)

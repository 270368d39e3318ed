"""A small Redis under pressure: the cache makes room, no job does, and a producer hears that it is full."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from saq import Job
from saq.queue.redis import RedisQueue

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import execute, make_client
from tests.chaos.conftest import MakeLedger
from tests.chaos.ledger import Ledger
from tests.support.operations import build_operations
from tests.support.processes import Journal, Spawner
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from workers.engine.policy import QueuePolicy
from workers.engine.queue import JobQueue
from workers.errors import RedisFullError
from workers.operations.operations import NewJob, Operations

pytestmark = pytest.mark.slow

LIMIT = 32 * 2**20
SLACK_BYTES = 256 * 1024
"""The server makes room before each command, and the command's own buffers come on top."""
CACHE = "couturecast:cache:"
POLICY = QueuePolicy("color-extraction", "extract_colors", concurrency=10, timeout=60, retry_delays=(0.1,))


@pytest.fixture
def valkey_options() -> tuple[str, ...]:
    return ("--maxmemory", str(LIMIT), "--maxmemory-policy", "volatile-lru")


@pytest.fixture
async def operations(valkey: ValkeyServer, sqlite_url: str) -> AsyncIterator[Operations]:
    database = Database(sqlite_url)
    await database.start()
    operations = build_operations(
        valkey.url, policies=[POLICY], schemas={}, database=database, letters=DeadLetterRepository(database)
    )
    yield operations
    await operations.close()
    await database.close()


class Memory:
    """Memory that the server used, sampled until the end."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.samples: list[int] = []
        self.evicted = 0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Memory]:
        over = asyncio.Event()
        watching = asyncio.create_task(self._watch(over))
        try:
            yield self
        finally:
            over.set()
            await watching

    async def _watch(self, over: asyncio.Event) -> None:
        while not over.is_set():
            about = await self._redis.info()
            self.samples.append(about["used_memory"])
            self.evicted = about["evicted_keys"]
            await asyncio.sleep(0.02)

    def __str__(self) -> str:
        most = max(self.samples) / 2**20
        limit = LIMIT / 2**20
        return f"{len(self.samples)} samples, at most {most:.1f} of {limit:.0f} MB, {self.evicted} evicted"


async def _fill_cache(redis: Redis, keys: int, over: asyncio.Event) -> int:
    """Write ``keys`` entries of about 4 KB with a TTL, and on until it is over; how many."""
    for number in itertools.count():
        if number * 50 >= keys and over.is_set():
            return number * 50
        pipeline = redis.pipeline(transaction=False)
        for entry in range(50):
            pipeline.set(f"{CACHE}user-{number}:{entry}", os.urandom(4_000), ex=900)
        await pipeline.execute()
        await asyncio.sleep(0.005)
    raise AssertionError


@pytest.mark.timeout(180)
async def test_under_pressure_the_cache_is_evicted_and_no_job_is_lost(
    make_ledger: MakeLedger, valkey: ValkeyServer, redis: Redis, spawn: Spawner, journal: Journal
) -> None:
    ledger = await make_ledger(journal, concurrency=10, retry_delays=(0.1,))
    await spawn(concurrency=10, retry_delays=[0.1])
    over = asyncio.Event()
    cache = make_client(valkey.url)
    async with Memory(redis).watched() as memory, ledger.watched():
        filling = asyncio.create_task(_fill_cache(cache, 12_000, over))
        await eventually(lambda: memory.evicted, within=30, what="the cache fills the memory")
        for number in range(1_000):
            await ledger.send(seconds=0.005, fail=number % 20 == 0)
        assert not ledger.in_doubt
        rows = await ledger.balance(within=90)
        over.set()
        written = await filling
    await cache.aclose()
    left = [key async for key in redis.scan_iter(f"{CACHE}*", count=1_000)]
    evicted = (await redis.info("stats"))["evicted_keys"]
    figures = f"{written} cache keys, {len(left)} left, {evicted} evicted; {memory}"
    sys.stdout.write(f"\n1,000 jobs, {len(rows)} dead letters; {figures}\n")
    assert len(rows) == 50
    assert evicted >= written - len(left) > 0
    assert max(memory.samples) <= LIMIT + SLACK_BYTES


def _jobs(count: int, size: int) -> list[NewJob]:
    return [NewJob({"text": "x" * size}) for _ in range(count)]


async def _full(operations: Operations, size: int = 50_000) -> RedisFullError:
    """Enqueue until Redis is full; what the producer is told."""
    for _ in range(LIMIT // size + 1):
        try:
            await operations.queues.enqueue_many(POLICY.name, _jobs(1, size))
        except RedisFullError as error:
            return error
    raise AssertionError("it takes more than it has room for")


async def _state(redis: Redis) -> tuple[Any, ...]:
    queue = JobQueue(redis, POLICY)
    return (
        await redis.dbsize(),
        await redis.llen(queue.keys.queued),
        await redis.zcard(queue.keys.incomplete),
        await redis.zcard("couturecast:tokens"),
        await redis.hgetall("couturecast:cron"),
    )


async def test_a_full_redis_takes_nothing_by_half_and_gives_a_one_line_error(
    operations: Operations, redis: Redis, valkey: ValkeyServer
) -> None:
    text = str(await _full(operations))
    sys.stdout.write(f"\n{text}\n")
    assert "\n" not in text
    assert text.startswith("Redis is full (3")
    assert "of 32.0 MB used): nothing was enqueued; " in text
    assert text.endswith("raise its maxmemory")
    before = await _state(redis)
    assert before[1] == before[2] > 300
    queue = JobQueue(redis, POLICY)
    jobs = [Job(POLICY.function, key=f"job-{number}") for number in range(600)]
    with pytest.raises(RedisFullError):
        await queue.enqueue_many(jobs, [job.key for job in jobs])
    with pytest.raises(RedisFullError):
        await queue.enqueue_occurrence("weather", 900, jobs)
    with pytest.raises(RedisFullError):
        await queue.enqueue(POLICY.function)
    stock = RedisQueue.from_url(valkey.url, name=POLICY.name)
    with pytest.raises(ResponseError, match="maxmemory"):
        await stock.enqueue(POLICY.function)
    await stock.redis.aclose()
    assert await _state(redis) == before
    (last,) = await operations.recent_actions(1)
    assert (last.affected, "RedisFullError" in last.outcome) == (0, True)


async def test_a_queue_of_a_full_redis_can_be_paused_and_resumed(operations: Operations) -> None:
    await _full(operations)
    assert (await operations.queues.pause(POLICY.name, "it is full")).reason == "it is full"
    paused = await operations.queues.pause_of(POLICY.name)
    assert paused is not None
    assert paused.since is not None
    assert await operations.queues.resume(POLICY.name)


async def test_the_error_of_a_batch_that_no_longer_fits_has_the_number_of_enqueued_jobs(
    operations: Operations, redis: Redis
) -> None:
    with pytest.raises(RedisFullError) as error:
        await operations.queues.enqueue_many(POLICY.name, _jobs(1_000, 50_000))
    queued = await redis.llen(JobQueue(redis, POLICY).keys.queued)
    assert f"{queued} of 1000 jobs were enqueued" in str(error.value)


async def test_a_full_server_that_does_not_report_its_memory_is_full(
    operations: Operations, redis: Redis, valkey: ValkeyServer
) -> None:
    await _full(operations)
    await execute(redis, "CONFIG", "SET", "maxmemory", LIMIT * 2)  # ACL SETUSER needs memory
    await execute(redis, "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-info")
    await execute(redis, "CONFIG", "SET", "maxmemory", LIMIT // 2)
    client = make_client(valkey.url.replace("://", "://app:secret@"))
    with pytest.raises(RedisFullError, match=r"^Redis is full: nothing was enqueued; "):
        await JobQueue(client, POLICY).enqueue(POLICY.function)
    await client.aclose()


async def _send(operations: Operations, ledger: Ledger, key: str, **arguments: Any) -> None:
    data = {"ballast": "x" * 50_000, **arguments}
    assert await operations.queues.enqueue(POLICY.name, data, key=key) == key
    ledger.acknowledged.add(key)


@pytest.mark.timeout(180)
async def test_workers_empty_a_full_redis_and_the_producer_goes_on(
    operations: Operations, make_ledger: MakeLedger, redis: Redis, spawn: Spawner, journal: Journal
) -> None:
    ledger = await make_ledger(journal, concurrency=10, retry_delays=(0.1,))
    sent = 0
    with contextlib.suppress(RedisFullError):
        while True:
            await _send(operations, ledger, f"job-{sent}", fail=sent % 10 == 0)
            sent += 1
    assert sent > 300
    async with Memory(redis).watched() as memory, ledger.watched():
        process = await spawn(concurrency=10, retry_delays=[0.1])
        rows = await ledger.balance(within=60)
        process.terminate()
        await process.wait()
        for number in range(sent * 9 // 10):  # nearly as many again: what has ended makes room
            await _send(operations, ledger, f"again-{number}")
        await spawn(concurrency=10, retry_delays=[0.1])
        await ledger.balance(within=60)
    sys.stdout.write(f"\n{sent} jobs of 50 KB fill it, {len(rows)} dead letters; {memory}\n")
    assert len(rows) == len(range(0, sent, 10))

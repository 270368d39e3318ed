"""Redis and the database are killed, away, full, read-only or still loading."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import execute
from tests.chaos.conftest import MakeLedger
from tests.chaos.ledger import Ledger
from tests.support.engine import stop
from tests.support.processes import Journal, Spawner
from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.waiting import eventually
from workers.engine.keys import BEATS, LETTERS
from workers.process.worker_process import WorkerProcess

_FILLER = "test:filler"

StartProcess = Callable[..., Any]


@pytest.fixture
async def start(valkey: ValkeyServer, letters: DeadLetterRepository) -> AsyncIterator[StartProcess]:
    """Start a worker process within this one, on the queue of a ledger."""
    processes: list[WorkerProcess] = []

    async def start_process(ledger: Ledger, function: Any) -> WorkerProcess:
        policy = ledger.queue.policy
        process = WorkerProcess(
            valkey.url,
            policies=[policy],
            functions={policy.name: function},
            letters=ledger.letters,
        )
        processes.append(process)
        await process.start()
        return process

    yield start_process
    for process in processes:
        await stop(process)


@pytest.mark.slow
async def test_e2_e12_redis_killed_and_started_again_three_times_under_load_loses_nothing(
    make_ledger: MakeLedger, valkey: ValkeyServer, spawn: Spawner, journal: Journal, factor: float
) -> None:
    ledger = await make_ledger(journal, concurrency=10)
    processes = [await spawn(concurrency=10) for _ in range(2)]
    over = asyncio.Event()

    async def send() -> None:
        while not over.is_set():
            await ledger.send(seconds=0.05, fail=len(ledger.acknowledged) % 20 == 0)
            await asyncio.sleep(0.003)

    async with ledger.watched():
        sender = asyncio.create_task(send())
        for _ in range(round(3 * factor)):
            before = len(journal.events("end"))
            await eventually(lambda before=before: len(journal.events("end")) > before + 30, within=30)
            await asyncio.to_thread(valkey.kill)
            await asyncio.to_thread(valkey.start)
        over.set()
        await sender
        rows = await ledger.balance()
    assert rows
    assert all(process.returncode is None for process in processes)


async def test_e12_results_of_jobs_that_ended_during_an_outage_of_redis_are_delivered(
    make_ledger: MakeLedger, valkey: ValkeyServer, redis: Redis, start: StartProcess
) -> None:
    ledger = await make_ledger()
    release = asyncio.Event()
    runs: list[str] = []

    async def work(ctx: dict[str, Any], fails: bool) -> dict[str, str]:
        runs.append(ctx["job"].key)
        await release.wait()
        if fails and ctx["job"].attempts == 4:
            raise RuntimeError("the last attempt")
        if fails:
            raise RuntimeError("told to fail")
        return {"made": ctx["job"].key}

    process = await start(ledger, work)
    for fails in (False, True, False):
        await ledger.send(fails=fails)
    await eventually(lambda: len(runs) == 3)
    await asyncio.to_thread(valkey.stop)
    await eventually(lambda: process.redis_error, within=15)
    release.set()
    await eventually(lambda: not process.dispatchers[ledger.queue.name].runner.running)
    assert process.in_flight == 3
    await asyncio.to_thread(valkey.start)
    rows = await ledger.balance()
    assert process.redis_error is None
    assert (list(rows), len(runs)) == (["job-2"], 6)
    job = await ledger.queue.job("job-3")
    assert job is not None
    assert (job.result, job.attempts) == ({"made": "job-3"}, 1)


async def test_e12_an_idle_process_logs_an_outage_of_redis_and_its_end(
    make_ledger: MakeLedger, valkey: ValkeyServer, start: StartProcess
) -> None:
    ledger = await make_ledger()

    async def work(ctx: dict[str, Any]) -> None: ...

    process = await start(ledger, work)
    await eventually(lambda: process.dispatchers[ledger.queue.name].state == "empty")
    await asyncio.to_thread(valkey.stop)
    await eventually(lambda: process.redis_error, within=15)
    assert "ConnectionError" in process.redis_error
    await asyncio.to_thread(valkey.start)
    await eventually(lambda: process.redis_error is None, within=15)
    await ledger.send()
    assert not await ledger.balance()


@pytest.mark.slow
async def test_e12_a_redis_without_memory_lets_jobs_end_and_refuses_new_ones(
    make_ledger: MakeLedger, redis: Redis, spawn: Spawner, journal: Journal
) -> None:
    ledger = await make_ledger(journal, concurrency=4)
    await spawn(concurrency=4)
    await ledger.send(2, seconds=12)
    await ledger.send(1, seconds=3)
    await ledger.send(1, seconds=3, fail=True)
    await eventually(lambda: len(journal.events("start")) == 4)
    await ledger.send(2)
    await spawn(concurrency=4)
    async with ledger.watched():
        await _fill(redis)
        await ledger.send(3)
        assert len(ledger.in_doubt) == 3, "a server without memory took a job"
        with pytest.raises(OutOfMemoryError, match="maxmemory"):
            await ledger.queue.enqueue("extract_colors")
        # The jobs run, fail and die, and the two long ones outlast the lease without heartbeats.
        rows = await ledger.balance(within=40)
        assert (len(rows), len(journal.events("end"))) == (1, 5)
        assert not [
            line for line in journal.events("start") if line["attempt"] > 1 and line["key"] != "job-4"
        ]
        await execute(redis, "CONFIG", "SET", "maxmemory", 0)
        await ledger.send(2)
        await ledger.balance()


@pytest.mark.slow
async def test_e12_a_redis_that_turns_read_only_delays_jobs_and_loses_none(
    make_ledger: MakeLedger, redis: Redis, start: StartProcess
) -> None:
    ledger = await make_ledger()
    release = asyncio.Event()
    ended: list[str] = []

    async def work(ctx: dict[str, Any], fails: bool) -> None:
        await release.wait()
        ended.append(ctx["job"].key)
        if fails:
            raise RuntimeError("told to fail")

    process = await start(ledger, work)
    for fails in (False, True):
        await ledger.send(fails=fails)
    await eventually(lambda: process.in_flight == 2)
    await execute(redis, "REPLICAOF", "127.0.0.1", 1)
    await ledger.send(fails=False)
    assert ledger.in_doubt == {"job-3"}
    release.set()
    await eventually(lambda: process.redis_error and "read only" in process.redis_error, within=15)
    await execute(redis, "REPLICAOF", "NO", "ONE")
    await ledger.send(fails=False)
    rows = await ledger.balance()
    assert list(rows) == ["job-2"]
    assert sorted(ended) == ["job-1"] + ["job-2"] * 4 + ["job-4"]
    await eventually(lambda: process.redis_error is None)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_e12_a_redis_that_still_loads_its_data_is_waited_for(
    make_ledger: MakeLedger, valkey: ValkeyServer, redis: Redis, start: StartProcess
) -> None:
    ledger = await make_ledger()
    release = asyncio.Event()

    async def work(ctx: dict[str, Any]) -> None:
        await release.wait()

    process = await start(ledger, work)
    await ledger.send()
    await eventually(lambda: process.in_flight == 1)
    await execute(redis, "EVAL", "for i = 1, 400 do redis.call('SET', 'test:' .. i, i) end", 0)
    # Each key takes a hundredth of a second to load.
    await execute(redis, "CONFIG", "SET", "appendonly", "no")
    valkey.options = (
        "--appendonly",
        "no",
        "--key-load-delay",
        "10000",
        "--loading-process-events-interval-bytes",
        "1024",
    )
    await execute(redis, "SAVE")
    await asyncio.to_thread(valkey.kill)
    starting = asyncio.create_task(asyncio.to_thread(valkey.start))
    release.set()
    await eventually(lambda: process.redis_error and "loading" in process.redis_error.lower(), within=15)
    await starting
    assert not await ledger.balance()
    await eventually(lambda: process.redis_error is None)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_e8_jobs_that_die_while_the_database_is_down_leave_one_row_each(
    make_ledger: MakeLedger, redis: Redis, start: StartProcess, postgres: PostgresServer, factor: float
) -> None:
    database = Database(postgres.url())
    await database.start()
    ledger = await make_ledger(concurrency=20, retry_delays=(0.01,))
    ledger.letters = DeadLetterRepository(database)

    async def fail(ctx: dict[str, Any]) -> None:
        raise RuntimeError("told to fail")

    await start(ledger, fail)
    await start(ledger, fail)
    await ledger.send(10)
    await eventually(lambda: _count(ledger, 10))
    async with ledger.watched():
        jobs, away = (150, 0.0) if factor <= 1 else (500, 60.0)
        back_at = time.monotonic() + away
        await asyncio.to_thread(postgres.stop)
        await ledger.send(jobs)
        await eventually(lambda: _waiting(redis, jobs))
        assert await redis.hlen("couturecast:letter") == jobs
        await eventually(lambda: time.monotonic() >= back_at, within=away + 1)
        await asyncio.to_thread(postgres.start)
        await eventually(lambda: _count(ledger, 10 + jobs), within=40)
        rows = await ledger.balance()
    assert set(rows) == ledger.acknowledged
    await database.close()


@pytest.mark.slow
async def test_e8_a_process_killed_between_the_row_and_its_removal_from_redis_leaves_one_row(
    make_ledger: MakeLedger, redis: Redis, spawn: Spawner, journal: Journal
) -> None:
    ledger = await make_ledger(journal, retry_delays=())
    doomed = await spawn(die_recorded=True, retry_delays=[])
    await ledger.send(3, fail=True)
    await asyncio.wait_for(doomed.wait(), 30)
    assert await redis.zcard(LETTERS) > 0
    assert await ledger.letters.count() > 0
    await spawn(retry_delays=[])
    rows = await ledger.balance(within=30)
    assert set(rows) == ledger.acknowledged


@pytest.mark.slow
async def test_e10_a_living_worker_keeps_its_jobs_while_redis_is_frozen_or_down(
    make_ledger: MakeLedger, valkey: ValkeyServer, redis: Redis, start: StartProcess
) -> None:
    ledger = await make_ledger()
    release = asyncio.Event()
    starts: list[int] = []

    async def work(ctx: dict[str, Any]) -> None:
        starts.append(ctx["job"].attempts)
        await release.wait()

    await start(ledger, work)
    await ledger.send()
    await eventually(lambda: starts)
    await start(ledger, work)
    await eventually(lambda: redis.hexists(ledger.queue.keys.looks, "since"))
    await asyncio.to_thread(valkey.stop)
    # To the server, whose clock goes on, the outage took longer than a heartbeat may be old.
    await asyncio.to_thread(valkey.start)
    before = await _beat(redis)
    await execute(redis, "ZADD", BEATS, before - 60_000, (await redis.zrange(BEATS, 0, -1))[-1])
    await execute(redis, "HSET", ledger.queue.keys.looks, "last", int(before - 58_000))
    await eventually(lambda: _beats_since(redis, before), within=15)
    release.set()
    assert not await ledger.balance()
    assert starts == [1]


async def _beat(redis: Redis) -> float:
    return float((await redis.zrange(BEATS, 0, -1, withscores=True))[-1][1])


async def _beats_since(redis: Redis, before: float) -> bool:
    with contextlib.suppress(RedisError, OSError):
        return await _beat(redis) > before
    return False


async def _count(ledger: Ledger, expected: int) -> bool:
    return await ledger.letters.count() == expected


async def _waiting(redis: Redis, expected: int) -> bool:
    return bool(await redis.zcard(LETTERS) == expected)


async def _fill(redis: Redis) -> None:
    """Use up all the memory that the server may use."""
    used = int((await redis.info("memory"))["used_memory"])
    await execute(redis, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    await execute(redis, "CONFIG", "SET", "maxmemory", used + 2_000_000)
    deadline = time.monotonic() + 10
    with contextlib.suppress(OutOfMemoryError):
        while time.monotonic() < deadline:
            await execute(redis, "APPEND", _FILLER, "x" * 100_000)
    used = int((await redis.info("memory"))["used_memory"])
    await execute(redis, "CONFIG", "SET", "maxmemory", used - 1_000_000)

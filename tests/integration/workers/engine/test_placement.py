"""Queues on Redises of their own: each works while the server of another is down."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import redis as sync_redis
from redis.asyncio import Redis

from storage.database.engine import Database
from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client
from tests.support.engine import QUICK, stop
from tests.support.operations import BuiltOperations, build_operations
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from workers.engine.keys import BEATS, CRON, WORKERS
from workers.engine.policy import ALERT, COLOR, DEFAULT_POLICIES
from workers.engine.queue import JobQueue
from workers.engine.schedules import Schedule
from workers.process.worker_process import WorkerProcess

TIMINGS = replace(QUICK, loop_count_seconds=0.1, blocked_after_seconds=0.5)


@pytest.fixture
def valkey_options() -> tuple[str, ...]:
    """Return the options of a second Redis, which holds the colours."""
    return ("--appendonly", "yes")


@pytest.fixture
async def other(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = make_client(valkey.url)
    yield client
    await client.aclose()


@pytest.fixture
async def process(
    redis_url: str, valkey: ValkeyServer, letters: DeadLetterRepository
) -> AsyncIterator[WorkerProcess]:
    """A process with a queue on each of the two; its handlers fail if they are told to."""

    async def work(ctx: dict[str, Any], fail: bool = False, seconds: float = 0.0, block: float = 0.0) -> str:
        time.sleep(block)  # noqa: ASYNC251 - what a careless handler does
        await asyncio.sleep(seconds)
        if fail:
            raise RuntimeError("told to fail")
        return ctx["job"].key

    policies = [
        replace(DEFAULT_POLICIES[ALERT], retry_delays=()),
        replace(DEFAULT_POLICIES[COLOR], retry_delays=(), redis_url=valkey.url),
    ]
    process = WorkerProcess(
        redis_url, policies=policies, functions={ALERT: work, COLOR: work}, letters=letters, timings=TIMINGS
    )
    await process.start()
    yield process
    await stop(process)


async def _send(queue: JobQueue, key: str, **arguments: Any) -> None:
    assert await queue.enqueue(queue.policy.function, key=key, **arguments)


async def _ended(queue: JobQueue) -> bool:
    keys = queue.keys
    return not (await queue.redis.zcard(keys.incomplete) or await queue.redis.hlen(keys.leases))


async def test_all_that_concerns_a_queue_is_on_its_own_redis(
    process: WorkerProcess, redis: Redis, other: Redis, letters: DeadLetterRepository
) -> None:
    alerts = JobQueue(redis, process.dispatchers[ALERT].queue.policy)
    colors = JobQueue(other, process.dispatchers[COLOR].queue.policy)
    for queue in (alerts, colors):
        await _send(queue, "good")
        await _send(queue, "bad", fail=True)
        await eventually(lambda queue=queue: _ended(queue))
        assert (await queue.redis.zscore(BEATS, process.id)) is not None
        assert await queue.redis.hexists(WORKERS, process.id)
    await eventually(lambda: _count(letters, 2))
    for client, foreign in ((redis, COLOR), (other, ALERT)):
        keys = [key.decode() async for key in client.scan_iter(match="*")]
        assert not [key for key in keys if foreign in key]


async def test_e12_a_queue_goes_on_while_the_redis_of_another_one_is_down(
    process: WorkerProcess, redis: Redis, valkey: ValkeyServer, other: Redis
) -> None:
    alerts = JobQueue(redis, process.dispatchers[ALERT].queue.policy)
    colors = JobQueue(other, process.dispatchers[COLOR].queue.policy)
    await _send(colors, "held", seconds=1.0)
    await eventually(lambda: process.dispatchers[COLOR].in_flight)
    await asyncio.to_thread(valkey.kill)
    await eventually(lambda: process.redis_error)
    assert process.redis_error is not None
    assert process.redis_error.startswith(f"{COLOR}: ")
    for number in range(3):
        await _send(alerts, f"job-{number}", seconds=0.2)
        await eventually(lambda: _ended(alerts))
    await asyncio.to_thread(valkey.start)
    await eventually(lambda: _ended(colors))
    assert process.redis_error is None
    held = await colors.job("held")
    assert held is not None
    assert (held.status, held.result) == ("complete", "held")


async def _count(letters: DeadLetterRepository, expected: int) -> bool:
    return await letters.count() == expected


@pytest.fixture
async def operations(
    redis_url: str, process: WorkerProcess, database: Database, letters: DeadLetterRepository
) -> AsyncIterator[BuiltOperations]:
    """The operations of another process."""
    policies = [dispatcher.queue.policy for dispatcher in process.dispatchers.values()]
    schedule = Schedule("colors", "* * * * *", COLOR, _no_jobs)
    made = build_operations(
        redis_url, policies=policies, schemas={}, database=database, letters=letters, schedules=[schedule]
    )
    yield made
    await made.close()


async def _no_jobs() -> dict[str, dict[str, object]]:
    return {}


async def test_an_operator_sees_one_cluster_and_acts_on_each_queue_where_it_is(
    process: WorkerProcess, operations: BuiltOperations, redis: Redis, other: Redis
) -> None:
    (worker,) = (await operations.snapshot()).workers
    assert worker.queues == (ALERT, COLOR)
    assert worker.state == "running"
    for name, client in ((ALERT, redis), (COLOR, other)):
        await operations.queues.pause(name, "maintenance")
        assert await client.exists(f"couturecast:{name}:pause")
        assert await operations.queues.enqueue(name, {}, key=f"job of {name}") is not None
    assert [job.key for job in (await operations.jobs.page()).items] == [f"job of {ALERT}", f"job of {COLOR}"]
    assert {name: counts.ready for name, counts in (await operations.jobs.counts()).items()} == {
        ALERT: 1,
        COLOR: 1,
    }
    assert [load.ready for load in await operations.queues.loads()] == [1, 1]
    assert await operations.schedules.disable("colors")
    assert (await other.exists(CRON), await redis.exists(CRON)) == (1, 0)
    for name in (ALERT, COLOR):
        await operations.queues.resume(name)
        await eventually(lambda name=name: _ended(process.dispatchers[name].queue))


async def test_letters_of_two_redises_are_replayed_by_one_plan(
    process: WorkerProcess, operations: BuiltOperations, letters: DeadLetterRepository
) -> None:
    for name in (ALERT, COLOR):
        await _send(process.dispatchers[name].queue, "bad", fail=True)
    await eventually(lambda: _count(letters, 2))
    plan = await operations.replays.create_plan(LetterFilter())
    assert (await operations.replays.run_plan(plan.id)).state == "done"
    await eventually(lambda: _has_died(operations, plan.id, 2))


async def _has_died(operations: BuiltOperations, plan_id: int, expected: int) -> bool:
    return (await operations.replays.get_plan(plan_id)).ledger.died == expected


async def test_e12_what_is_known_of_the_others_is_shown_while_one_redis_is_down(
    process: WorkerProcess, operations: BuiltOperations, valkey: ValkeyServer
) -> None:
    await operations.snapshot()
    await asyncio.to_thread(valkey.kill)
    snapshot = await operations.snapshot()
    assert [queue.redis_error is None for queue in snapshot.queues] == [True, False]
    assert [alert.message.partition(":")[0] for alert in snapshot.alerts] == [
        f"Redis of {COLOR} does not answer"
    ]
    assert list(await operations.check_writes()) == [(COLOR,)]
    assert [load.queue for load in await operations.queues.loads()] == [ALERT]
    assert list(await operations.jobs.counts()) == [ALERT]
    assert (await operations.jobs.why(COLOR)).cause == "redis_unavailable"
    assert (await operations.jobs.why(ALERT)).cause != "redis_unavailable"
    result = await operations.workers.drain(process.id)
    assert (result.state, process.draining) == ("draining", True)


async def test_e15_a_blocked_loop_is_published_on_each_redis(
    process: WorkerProcess, redis_url: str, valkey: ValkeyServer
) -> None:
    ended = threading.Event()

    def watch(url: str) -> bool:
        with sync_redis.Redis.from_url(url) as client:
            while not ended.wait(0.02):
                if client.hexists(WORKERS, f"blocked:{process.id}"):
                    return True
        return False

    watching = [asyncio.create_task(asyncio.to_thread(watch, url)) for url in (redis_url, valkey.url)]
    try:
        await _send(process.dispatchers[ALERT].queue, "blocks", block=3.0)
        await eventually(lambda: all(task.done() for task in watching), what="both have it")
    finally:
        ended.set()
    assert [task.result() for task in watching] == [True, True]


@pytest.mark.slow
async def test_e12_a_redis_that_is_silent_delays_no_other_queue(
    process: WorkerProcess, operations: BuiltOperations, redis: Redis, valkey: ValkeyServer, other: Redis
) -> None:
    alerts, colors = (process.dispatchers[name].queue for name in (ALERT, COLOR))
    await operations.snapshot()
    await _send(colors, "held", seconds=1.0)
    await eventually(lambda: process.dispatchers[COLOR].in_flight)
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        await _send(alerts, "long", seconds=3.0)
        await eventually(lambda: process.dispatchers[ALERT].in_flight)
        beat = await redis.zscore(BEATS, process.id)
        for _ in range(3):
            before = beat
            await eventually(lambda before=before: _beats_since(redis, process, before))
            beat = await redis.zscore(BEATS, process.id)
        await eventually(lambda: _ended(alerts))
        for _ in range(2):
            snapshot = await asyncio.wait_for(operations.snapshot(), 20)
            assert [queue.redis_error is None for queue in snapshot.queues] == [True, False]
            assert [redis.timed_out for redis in snapshot.redises] == [False, True]
        assert list(await operations.check_writes()) == [(COLOR,)]
        assert [job.key for job in (await operations.jobs.page(state="done")).items] == ["long"]
        await operations.ping()
        assert [load.queue for load in await operations.queues.loads()] == [ALERT]
        assert (await operations.workers.drain(process.id)).state == "draining"
        assert (await operations.workers.undo_drain(process.id)).state == "running"
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    await eventually(lambda: _ended(colors))
    await eventually(lambda: _all_answer(operations))
    held = await colors.job("held")
    assert held is not None
    assert (held.status, held.attempts) == ("complete", 1)


async def _beats_since(redis: Redis, process: WorkerProcess, before: float) -> bool:
    return bool(await redis.zscore(BEATS, process.id) > before)


async def _all_answer(operations: BuiltOperations) -> bool:
    return all(redis.error is None for redis in (await operations.snapshot()).redises)

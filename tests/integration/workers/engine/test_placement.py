"""Queues on Redises of their own: each works while the server of another is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from storage.database.engine import Database
from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client
from tests.integration.workers.conftest import QUICK, eventually
from tests.support.operations import BuiltOperations, build_operations
from tests.support.servers import ValkeyServer
from workers.engine.keys import BEATS, CRON, WORKERS
from workers.engine.policy import ALERT, COLOR, DEFAULT_POLICIES
from workers.engine.queue import JobQueue
from workers.engine.schedules import Schedule
from workers.process.worker_process import WorkerProcess


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A second Redis, which holds the colours."""
    server = ValkeyServer(tmp_path / "valkey", "--appendonly", "yes")
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def other(server: ValkeyServer) -> AsyncIterator[Redis]:
    client = make_client(server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def process(
    redis_url: str, server: ValkeyServer, letters: DeadLetterRepository
) -> AsyncIterator[WorkerProcess]:
    """A process with a queue on each of the two; its handlers fail if they are told to."""

    async def work(ctx: dict[str, Any], fail: bool = False, seconds: float = 0.0) -> str:
        await asyncio.sleep(seconds)
        if fail:
            raise RuntimeError("told to fail")
        return ctx["job"].key

    policies = [
        replace(DEFAULT_POLICIES[ALERT], retry_delays=()),
        replace(DEFAULT_POLICIES[COLOR], retry_delays=(), redis_url=server.url),
    ]
    process = WorkerProcess(
        redis_url, policies=policies, functions={ALERT: work, COLOR: work}, letters=letters, timings=QUICK
    )
    await process.start()
    yield process
    process.drain_now()
    await process.drained()
    await process.close()


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
    process: WorkerProcess, redis: Redis, server: ValkeyServer, other: Redis
) -> None:
    alerts = JobQueue(redis, process.dispatchers[ALERT].queue.policy)
    colors = JobQueue(other, process.dispatchers[COLOR].queue.policy)
    await _send(colors, "held", seconds=1.0)
    await eventually(lambda: process.dispatchers[COLOR].in_flight)
    await asyncio.to_thread(server.kill)
    await eventually(lambda: process.redis_error)
    assert process.redis_error is not None
    assert process.redis_error.startswith(f"{COLOR}: ")
    for number in range(3):
        await _send(alerts, f"job-{number}", seconds=0.2)
        await eventually(lambda: _ended(alerts))
    await asyncio.to_thread(server.start)
    await eventually(lambda: _ended(colors))
    assert process.redis_error is None
    held = await colors.job("held")
    assert held is not None
    assert (held.status, held.result) == ("complete", "held")


async def _count(letters: DeadLetterRepository, wanted: int) -> bool:
    return await letters.count() == wanted


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
        await operations.pause(name, "maintenance")
        assert await client.exists(f"couturecast:{name}:pause")
        assert await operations.enqueue(name, {}, key=f"job of {name}") is not None
    assert [job.key for job in (await operations.jobs.page()).items] == [f"job of {ALERT}", f"job of {COLOR}"]
    assert {name: counts.ready for name, counts in (await operations.jobs.counts()).items()} == {
        ALERT: 1,
        COLOR: 1,
    }
    assert [load.ready for load in await operations.loads()] == [1, 1]
    assert await operations.schedules.disable("colors")
    assert (await other.exists(CRON), await redis.exists(CRON)) == (1, 0)
    for name in (ALERT, COLOR):
        await operations.resume(name)
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


async def _has_died(operations: BuiltOperations, plan_id: int, wanted: int) -> bool:
    return (await operations.replays.get_plan(plan_id)).ledger.died == wanted


async def test_e12_what_is_known_of_the_others_is_shown_while_one_redis_is_down(
    process: WorkerProcess, operations: BuiltOperations, server: ValkeyServer
) -> None:
    await operations.snapshot()
    await asyncio.to_thread(server.kill)
    snapshot = await operations.snapshot()
    assert [queue.redis_error is None for queue in snapshot.queues] == [True, False]
    assert [alert.message.partition(":")[0] for alert in snapshot.alerts] == [
        f"Redis of {COLOR} does not answer"
    ]
    assert list(await operations.check_writes()) == [(COLOR,)]
    assert [load.queue for load in await operations.loads()] == [ALERT]
    assert list(await operations.jobs.counts()) == [ALERT]
    assert (await operations.jobs.why(COLOR)).cause == "redis_unavailable"
    assert (await operations.jobs.why(ALERT)).cause != "redis_unavailable"
    result = await operations.workers.drain(process.id)
    assert (result.state, process.draining) == ("draining", True)

"""Queues on Redises of their own: each works while the server of another is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client
from tests.integration.workers.conftest import QUICK, eventually
from tests.support.servers import ValkeyServer
from workers.engine.keys import BEATS, WORKERS
from workers.engine.policy import ALERT, COLOR, DEFAULT_POLICIES
from workers.engine.queue import JobQueue
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

"""A Redis as managed services give it: few rights, scripts that vanish."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import execute, make_client
from tests.support.engine import FAST_RETRIES
from tests.support.operations import build_operations
from tests.support.waiting import eventually
from workers.engine.policy import PollIntervals, QueuePolicy
from workers.operations.operations import NewJob, Operations
from workers.process.worker_process import WorkerProcess

RIGHTS = "+@all -@admin -@dangerous -config -info -script -client -debug -keys -flushall -flushdb -acl"
POLICY = QueuePolicy("color-extraction", "extract_colors", 5, timeout=60, retry_delays=FAST_RETRIES)
BRISK = PollIntervals(scheduled=0.1, ready_wait=0.3, presence=0.1, aborts=0.1)


@pytest.fixture
async def url(redis_url: str, redis: Redis) -> AsyncIterator[str]:
    """A Redis URL with a user and a password, who may do little."""
    await execute(redis, "ACL", "SETUSER", "app", "reset", "on", ">s3cr:t/@", "~*", "&*", *RIGHTS.split())
    yield redis_url.replace("://", "://app:s3cr%3At%2F%40@")
    await execute(redis, "ACL", "DELUSER", "app")


@pytest.fixture
async def operations(
    url: str, database: Database, letters: DeadLetterRepository
) -> AsyncIterator[Operations]:
    operations = build_operations(url, policies=[POLICY], schemas={}, database=database, letters=letters)
    yield operations
    await operations.close()


async def _process(url: str, letters: DeadLetterRepository, function: Any, **options: Any) -> WorkerProcess:
    process = WorkerProcess(
        url, policies=[POLICY], functions={POLICY.name: function}, letters=letters, pace=BRISK, **options
    )
    await process.start()
    return process


async def _assert_rights_are_few(url: str) -> None:
    denied = make_client(url)
    for words in (("INFO",), ("CONFIG", "GET", "*"), ("SCRIPT", "FLUSH"), ("CLIENT", "LIST"), ("KEYS", "*")):
        with pytest.raises(NoPermissionError):
            await execute(denied, *words)
    await denied.aclose()


async def _assert_snapshot_has_no_problem(operations: Operations, worker_id: str) -> None:
    """Check that facts which Redis does not report are unknown, and raise no alert."""
    snapshot = await operations.snapshot()
    assert snapshot.redis.error is None
    assert (snapshot.redis.memory_used, snapshot.redis.memory_limit, snapshot.redis.eviction_policy) == (
        None,
        None,
        None,
    )
    assert [worker.id for worker in snapshot.workers] == [worker_id]
    assert not [alert for alert in snapshot.alerts if alert.name.startswith("redis")]
    assert "s3cr" not in repr(snapshot)


async def test_a_user_with_few_rights_can_do_all_that_a_job_needs(
    url: str, operations: Operations, letters: DeadLetterRepository, redis: Redis
) -> None:
    await _assert_rights_are_few(url)
    running = asyncio.Event()

    async def work(ctx: dict[str, Any], fails: int, waits: bool = False) -> str:
        job = ctx["job"]
        await job.update(meta={"seen": job.attempts})
        if waits:
            running.set()
            await asyncio.Event().wait()
        if job.attempts <= fails:
            raise RuntimeError("told to fail")
        return "done"

    process = await _process(url, letters, work, drain_seconds=0.2)
    jobs = [NewJob({"fails": fails}) for fails in (0, 2, 9)] + [NewJob({"fails": 0}, delay=0.2)]
    await operations.queues.enqueue_many(POLICY.name, jobs)
    await eventually(lambda: letters.count())

    async def totals() -> list[int]:
        (queue,) = (await operations.snapshot()).queues
        return [queue.completed, queue.retried, queue.dead_lettered, queue.depth]

    async def as_wanted() -> bool:
        return await totals() == [3, 5, 1, 0]

    await eventually(as_wanted)
    await operations.queues.pause(POLICY.name, "a look")
    assert await operations.queues.resume(POLICY.name)
    (letter,) = (await letters.page()).items
    plan = await operations.replays.create_plan([letter.id])
    assert (await operations.replays.run_plan(plan.id)).ledger.sent == 1
    await operations.queues.enqueue(POLICY.name, {"fails": 0, "waits": True}, key="waits")
    await asyncio.wait_for(running.wait(), 10)
    await _assert_snapshot_has_no_problem(operations, process.id)
    process.begin_drain()
    assert await process.wait_drained() == 1
    await process.close()
    assert process.redis_error is None
    # At the head; the replayed job may be due again behind it.
    assert await redis.lindex("saq:color-extraction:queued", 0) == b"saq:job:color-extraction:waits"


@pytest.mark.slow
async def test_scripts_that_vanish_under_load_lose_and_repeat_nothing(
    url: str, operations: Operations, letters: DeadLetterRepository, redis: Redis
) -> None:
    ran: Counter[str] = Counter()
    running: set[str] = set()
    most = 0

    async def work(ctx: dict[str, Any], number: int) -> None:
        nonlocal most
        ran[ctx["job"].key] += 1
        running.add(ctx["job"].key)
        most = max(most, len(running))
        await asyncio.sleep(0.002)
        running.remove(ctx["job"].key)
        if number % 10 == 0 and ctx["job"].attempts == 1:
            raise RuntimeError("told to fail")

    over = asyncio.Event()

    async def flush() -> None:
        while not over.is_set():
            await execute(redis, "SCRIPT", "FLUSH")
            await asyncio.sleep(0.003)

    processes: list[WorkerProcess] = []
    for _ in range(2):
        processes.append(await _process(url, letters, work))
    flushing = asyncio.create_task(flush())
    for start in range(0, 500, 50):
        await operations.queues.enqueue_many(
            POLICY.name, [NewJob({"number": n}, key=f"job-{n}") for n in range(start, start + 50)]
        )
    totals = processes[0].dispatchers[POLICY.name].queue.keys.totals

    async def all_done() -> bool:
        return int(await redis.hget(totals, "completed") or 0) == 500

    await eventually(all_done, within=30)
    over.set()
    await flushing
    assert len(ran) == 500
    assert sum(ran.values()) == 550
    assert most <= POLICY.concurrency
    assert not await letters.count()
    for process in processes:
        process.begin_drain()
        assert await process.wait_drained() == 0
        assert process.redis_error is None
        await process.close()

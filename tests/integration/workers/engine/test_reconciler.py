"""Lists that are gone, of another type or incomplete are repaired, once, named and counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from saq import Job

from storage.database.engine import Database
from tests.integration.workers.engine.conftest import has_completed
from tests.support.engine import Bench, MakeBench
from tests.support.operations import build_operations
from tests.support.waiting import eventually
from workers.engine import reconciler
from workers.engine.settlement import Settlement
from workers.monitoring.descriptions import describe_broken_keys


@pytest.mark.parametrize("lost", ["queued", "incomplete", "leases", "active"])
@pytest.mark.parametrize("how", ["deleted", "of another type"])
async def test_e14_jobs_whose_list_is_gone_run(make_bench: MakeBench, lost: str, how: str) -> None:
    bench = make_bench(concurrency=2)
    runs: Counter[str] = Counter()

    async def work(ctx: dict[str, Any], number: int) -> None:
        runs[ctx["job"].key] += 1
        await asyncio.sleep(0.3)

    process = await bench.start(work)
    keys = await bench.send(6)
    await eventually(lambda: process.in_flight == 2)
    name = getattr(bench.queue.keys, lost)
    await bench.redis.delete(name)
    if how == "of another type":
        await bench.redis.set(name, "surprise")
    await eventually(lambda: _is_whole(bench, name))
    await eventually(lambda: has_completed(bench, 6), within=20)
    await eventually(bench.empty)
    assert set(runs) == set(keys)
    assert process.dispatchers[bench.policy.name].settled["complete"] == 6
    if how == "of another type":
        (aside,) = await bench.redis.keys(f"{bench.queue.keys.aside}{lost}:*")
        assert await bench.redis.get(aside) == b"surprise"
        assert 0 < await bench.redis.ttl(aside) <= 7 * 86_400


async def _is_whole(bench: Bench, name: str) -> bool:
    await bench.queue.reconciler.reconcile(now=True)
    return await bench.redis.type(name) != b"string"


async def test_e14_a_producer_finds_a_list_of_another_type_repaired(make_bench: MakeBench) -> None:
    bench = make_bench()
    await bench.redis.set(bench.queue.keys.queued, "surprise")
    await bench.queue.enqueue_many([Job("extract_colors", kwargs={"number": 1})])
    assert await bench.redis.llen(bench.queue.keys.queued) == 1


async def test_e13_a_queue_that_is_checked_is_not_checked_again_within_a_minute(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    assert await bench.queue.reconciler.reconcile() == Counter()
    assert await bench.queue.reconciler.reconcile() is None


async def test_e14_a_job_whose_id_is_on_no_key_is_found_soon_after_the_first_check(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "_FIRST_SEARCH_SECONDS", 0.2)
    bench = make_bench()
    await bench.redis.set(bench.queue.job_id("lost"), b'{"status": "queued"}')
    assert await bench.queue.reconciler.reconcile(now=True) == Counter()
    await asyncio.sleep(0.25)
    assert await bench.queue.reconciler.reconcile(now=True) == {"unknown": 1}
    assert await bench.redis.llen(bench.queue.keys.queued) == 1


@pytest.mark.parametrize("count", [4_000, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_e14_many_jobs_that_are_on_no_list_are_listed_again(make_bench: MakeBench, count: int) -> None:
    bench = make_bench()
    for start in range(0, count, 1000):
        ids = [bench.queue.job_id(str(number)) for number in range(start, start + 1000)]
        await bench.redis.mset(dict.fromkeys(ids, b"{}"))
        await bench.redis.zadd(bench.queue.keys.incomplete, dict.fromkeys(ids, 0))
        await bench.redis.rpush(bench.queue.keys.queued, *ids)
    assert await bench.queue.reconciler.reconcile(now=True) == Counter()
    await bench.redis.ltrim(bench.queue.keys.queued, count // 2, -1)
    assert await bench.queue.reconciler.reconcile(now=True) == {"unlisted": count // 2}
    assert await bench.redis.llen(bench.queue.keys.queued) == count
    assert await bench.queue.reconciler.reconcile(now=True) == Counter()


async def test_e15_a_broken_key_is_named_and_its_repair_is_counted(
    make_bench: MakeBench, database: Database
) -> None:
    bench = make_bench()
    await bench.send()
    name = bench.queue.keys.incomplete
    await bench.redis.set(name, "surprise")
    operations = build_operations(
        bench.url, policies=[bench.policy], schemas={}, database=database, letters=bench.letters
    )
    try:
        (queue,) = (await operations.snapshot()).queues
        assert (queue.depth, queue.broken_keys) == (1, (name,))
        assert name in describe_broken_keys(queue)
        await bench.queue.reconciler.reconcile(now=True)
        (queue,) = (await operations.snapshot()).queues
        assert (queue.depth, queue.broken_keys) == (1, ())
        assert queue.repairs | {"type": 1, "unindexed": 1} == queue.repairs
    finally:
        await operations.close()


async def test_e14_a_long_queue_that_moves_is_not_listed_twice(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(concurrency=50)
    count = 6_000
    jobs = [Job("extract_colors", kwargs={"number": number}) for number in range(count)]
    assert all(await bench.queue.enqueue_many(jobs))
    await bench.redis.lpush(bench.queue.keys.queued, jobs[-1].id)  # listed twice: the numbers differ
    read = bench.queue.reconciler._queued_ids

    async def read_while_jobs_are_taken() -> AsyncIterator[list[bytes]]:
        async for ids in read():
            yield ids
            _, take = await bench.queue.take("worker", 50, [])
            done = [Settlement(job.id, job.lease, "complete", job.body) for job in take.jobs]
            await bench.queue.settle(done)

    monkeypatch.setattr(bench.queue.reconciler, "_queued_ids", read_while_jobs_are_taken)
    assert await bench.queue.reconciler.reconcile(now=True) == Counter()
    left = count - await bench.total("completed")
    assert await bench.redis.llen(bench.queue.keys.queued) in (left, left + 1)

"""A process that drains or loses a reply returns its jobs, and charges no attempt."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from saq import Status

from tests.integration.workers.engine.conftest import has_total
from tests.support.engine import MakeBench
from tests.support.waiting import eventually

pytestmark = pytest.mark.lifecycle


async def test_e9_a_drain_finishes_what_runs_and_starts_nothing(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=3)
    release = asyncio.Event()
    started: list[int] = []

    async def work(ctx: dict[str, Any], number: int) -> str:
        started.append(number)
        await release.wait()
        return "ended"

    process = await bench.start(work)
    await bench.send(10)
    await eventually(lambda: len(started) == 3)
    process.begin_drain()
    drained = asyncio.create_task(process.wait_drained())
    release.set()
    assert await drained == 0
    assert len(started) == 3
    assert await bench.total("completed") == 3
    assert await bench.lists() == {"queued": 7, "active": 0, "incomplete": 7, "leases": 0}


async def test_e9_jobs_that_do_not_end_are_returned_to_the_head_uncharged(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=2)

    async def hang(ctx: dict[str, Any], number: int) -> None:
        await asyncio.Event().wait()

    process = await bench.start(hang, drain_seconds=0.3)
    keys = await bench.send(4)
    await eventually(lambda: process.in_flight == 2)

    async def active() -> bool:
        records = [await bench.stock.job(key) for key in keys[:2]]
        return {record.status for record in records if record is not None} == {Status.ACTIVE}

    await eventually(active, what="their records say that they are active")
    process.begin_drain()
    assert await process.wait_drained() == 2, "the handlers never end"
    order = [
        key.decode().rpartition(":")[2] for key in await bench.redis.lrange(bench.queue.keys.queued, 0, -1)
    ]
    assert (set(order[:2]), order[2:]) == (set(keys[:2]), keys[2:])
    job = await bench.stock.job(keys[0])
    assert job is not None
    assert (job.status, job.attempts, job.meta) == (Status.QUEUED, 0, {})


async def test_e9_the_drain_of_an_idle_process_is_quick(make_bench: MakeBench) -> None:
    bench = make_bench()

    async def nothing(ctx: dict[str, Any], number: int) -> None: ...

    took = [60.0]
    while min(took) >= 1.0 and len(took) <= 3:  # the machine may be busy once
        process = await bench.start(nothing)
        await bench.send(1)
        await eventually(lambda: has_total(bench, "completed", len(took)))
        began = time.monotonic()
        process.begin_drain()
        assert await process.wait_drained() == 0
        await process.close()
        took.append(time.monotonic() - began)
    assert min(took) < 1.0


async def test_e2_jobs_taken_by_a_lost_reply_return_to_the_queue(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=2)
    done: list[int] = []

    async def work(ctx: dict[str, Any], number: int) -> None:
        done.append(number)

    process = await bench.start(work)
    dispatcher = process.dispatchers[bench.policy.name]
    process_paused = bench.queue.keys.pause
    await bench.redis.hset(process_paused, mapping={"by": "test", "since": "0"})
    keys = await bench.send(3)
    await eventually(lambda: dispatcher.state == "paused", within=10)
    await bench.redis.delete(process_paused)
    _, take = await bench.queue.take(process.id, 2, [])  # its reply never reaches the dispatcher
    assert len(take.jobs) == 2
    dispatcher.request_lease_check()
    await eventually(lambda: len(done) == 3)
    await eventually(bench.empty)
    job = await bench.stock.job(keys[0])
    assert job is not None
    assert job.attempts == 1

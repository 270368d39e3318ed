"""Leases and heartbeats that others wrote or removed: no slot is lost, and no job runs for nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from saq import Status

from tests.integration.workers.engine.conftest import has_completed, run_next_job, succeed
from tests.support.engine import QUICK, Bench, MakeBench
from tests.support.waiting import eventually
from workers.engine.keys import BEATS
from workers.engine.settlement import Settlement


@pytest.mark.parametrize("lease", [b"", b":", b"nobody", b"nobody:x:y", b"\xff:1:1", b"ghost:1:1"])
async def test_e14_a_lease_without_a_holder_takes_no_slot_for_good(
    make_bench: MakeBench, lease: bytes
) -> None:
    bench = make_bench(concurrency=1)
    await bench.redis.hset(bench.queue.keys.leases, bench.queue.job_id("ghost"), lease)
    await bench.start(succeed, timings=QUICK)
    await bench.send(2)
    await eventually(lambda: has_completed(bench, 2), within=20)
    await eventually(bench.empty)


async def test_e14_leases_that_name_this_process_by_mistake_are_given_back(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=1)
    process = await bench.start(succeed)
    await bench.redis.hset(bench.queue.keys.leases, bench.queue.job_id("ghost"), f"{process.id}:1:1")
    await run_next_job(bench)


async def test_e3_a_process_whose_leases_are_gone_stops_what_it_runs(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=2)
    started, at_once = 0, 0

    async def work(ctx: dict[str, Any], number: int) -> None:
        nonlocal started, at_once
        started += 1
        if started <= 2:
            at_once += 1
            try:
                await asyncio.Event().wait()
            finally:
                at_once -= 1

    process = await bench.start(work)
    await bench.send(2)
    await eventually(lambda: at_once == 2)
    await bench.redis.delete(bench.queue.keys.leases)
    process.dispatchers[bench.policy.name].wake()
    await eventually(lambda: at_once == 0)
    await eventually(lambda: _reconciled(bench))
    await eventually(lambda: has_completed(bench, 2))
    await eventually(bench.empty)


async def _reconciled(bench: Bench) -> bool:
    await bench.queue.reconciler.reconcile(now=True)
    return True


async def test_e14_a_living_process_whose_beat_was_removed_keeps_its_job(make_bench: MakeBench) -> None:
    bench = make_bench()
    await bench.send()
    await bench.queue.take("living", 1, [])
    seconds, _ = await bench.redis.time()
    looks = {"since": (seconds - 60) * 1000, "last": seconds * 1000}
    await bench.redis.hset(bench.queue.keys.looks, mapping=looks)
    await bench.redis.delete(BEATS)
    assert (await bench.queue.leases_of_dead_workers(8, 4)) == []
    await bench.redis.zadd(BEATS, {"living": 1})  # it did not beat again
    assert len(await bench.queue.leases_of_dead_workers(8, 4)) == 1


@pytest.mark.parametrize("verb", ["retry", "return"])
async def test_e1_an_abort_that_no_process_saw_holds_when_the_attempt_ends(
    make_bench: MakeBench, verb: str
) -> None:
    bench = make_bench()
    (key,) = await bench.send()
    _, take = await bench.queue.take("worker", 1, [])
    (taken,) = take.jobs
    job = await bench.stock.job(key)
    assert job is not None
    await bench.stock.abort(job, "not needed")
    await bench.redis.delete(job.abort_id)  # the wish lasts for five seconds
    settlement = Settlement(taken.id, taken.lease, verb, taken.body, delay=0.01)
    assert await bench.queue.settle([settlement]) == [True]
    assert await bench.empty()
    await job.refresh()
    assert (job.status, job.error) == (Status.ABORTED, "not needed")
    assert await bench.redis.ttl(job.id) > 0

"""A job of a stock producer on a real server: enqueued, run, its result kept."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from saq import Job, Status

from tests.integration.workers.engine.conftest import has_total
from tests.support.engine import MakeBench
from tests.support.waiting import eventually
from workers.engine.policy import KEEP_COMPLETED_JOBS, KEEP_ENDED_MS

pytestmark = pytest.mark.lifecycle


async def test_e1_a_stock_producer_gets_its_result(make_bench: MakeBench) -> None:
    bench = make_bench()
    patterns = await bench.redis.pubsub_numpat()
    release = asyncio.Event()

    async def double(ctx: dict[str, Any], number: int) -> dict[str, int]:
        if number == 4:  # SAQ's refresh misses an end that comes before it listens
            await release.wait()
        return {"double": 2 * number}

    async def refresh_listens() -> bool:
        return bool(bench.stock._pubsub._queues and await bench.redis.pubsub_numpat() > patterns)

    await bench.start(double)
    assert await bench.stock.apply("extract_colors", number=21, timeout=10) == {"double": 42}
    job = await bench.stock.enqueue("extract_colors", number=4)
    assert job is not None
    refresh = asyncio.create_task(job.refresh(until_complete=10))
    await eventually(refresh_listens)
    release.set()
    await refresh
    assert (job.status, job.result, job.attempts) == (Status.COMPLETE, {"double": 8}, 1)
    assert await bench.empty()


async def test_e1_stock_info_reads_the_queue_truthfully(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=2)
    release = asyncio.Event()

    async def wait(ctx: dict[str, Any], number: int) -> None:
        await release.wait()

    process = await bench.start(wait)
    await bench.stock.enqueue("extract_colors", number=9, scheduled=int(time.time()) + 3600)
    keys = await bench.send(5)
    await eventually(lambda: len(process.dispatchers[bench.policy.name].runner.running) == 2)
    info = await bench.stock.info(jobs=True)
    assert (info["queued"], info["active"], info["scheduled"]) == (3, 2, 1)
    assert list(info["workers"]) == [process.id]

    async def shown_active() -> bool:
        job = await bench.stock.job(keys[0])
        return job is not None and job.status == Status.ACTIVE and job.worker_id == process.id

    await eventually(shown_active)
    release.set()
    await eventually(lambda: bench.total("completed"), what="the released jobs complete")


async def test_the_newest_hundred_completed_jobs_stay(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=50)

    async def work(ctx: dict[str, Any], number: int) -> None: ...

    await bench.start(work)
    keys = await bench.send(150)
    await eventually(lambda: has_total(bench, "completed", 150))
    lifetimes = [await bench.redis.pttl(bench.queue.job_id(key)) for key in keys]
    newest = [lifetime for lifetime in lifetimes if lifetime > 10_000]
    assert len(newest) == KEEP_COMPLETED_JOBS
    assert min(newest) > KEEP_ENDED_MS - 60_000
    assert all(lifetime > 5_000 for lifetime in lifetimes)
    assert await bench.redis.zcard(bench.queue.keys.completed) == KEEP_COMPLETED_JOBS


async def test_the_server_indexes_the_completed_jobs_and_they_alone_are_listed(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=1)

    async def work(ctx: dict[str, Any], number: int) -> None: ...

    await bench.start(work)
    keys = await bench.send(3)
    await eventually(lambda: has_total(bench, "completed", 3))
    completed = bench.queue.keys.completed
    assert await bench.redis.object("ENCODING", completed) == b"skiplist"
    listed = await bench.redis.zrange(completed, 0, -1)
    assert {job_id.decode() for job_id in listed} == {bench.queue.job_id(key) for key in keys}


async def test_a_key_that_is_enqueued_again_outlives_its_old_record(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=1)

    async def work(ctx: dict[str, Any], number: int) -> None: ...

    process = await bench.start(work)
    await bench.stock.enqueue("extract_colors", key="again", number=1)
    await eventually(lambda: has_total(bench, "completed", 1))
    process.begin_drain()
    await process.wait_drained()
    await bench.stock.enqueue("extract_colors", key="again", number=2)
    await bench.send(KEEP_COMPLETED_JOBS + 5)
    await bench.redis.lmove(bench.queue.keys.queued, bench.queue.keys.queued, "LEFT", "RIGHT")
    again = await bench.start(work)
    await eventually(lambda: has_total(bench, "completed", KEEP_COMPLETED_JOBS + 7), within=20)
    again.begin_drain()
    await again.wait_drained()
    job = await bench.stock.job("again")
    assert job is not None
    assert job.kwargs == {"number": 2}


async def test_numbers_beyond_64_bits_and_odd_text_arrive_as_they_were_sent(make_bench: MakeBench) -> None:
    bench = make_bench()
    seen: list[dict[str, Any]] = []

    async def work(ctx: dict[str, Any], **arguments: Any) -> None:
        seen.append(arguments)

    await bench.start(work)
    sent: dict[str, Any] = {
        "big": 2**80 + 1,
        "list": [],
        "text": "[red]\x1b[31m ☂",
        "nan": float("inf"),
    }
    await bench.stock.enqueue("extract_colors", **sent)
    await eventually(lambda: seen)
    assert seen == [sent]


async def test_a_running_job_may_report_its_progress(make_bench: MakeBench) -> None:
    bench = make_bench()
    reported, release = asyncio.Event(), asyncio.Event()

    async def work(ctx: dict[str, Any], number: int) -> None:
        job: Job = ctx["job"]
        await job.update(progress=0.5)
        reported.set()
        await release.wait()

    await bench.start(work)
    (key,) = await bench.send()
    await reported.wait()
    job = await bench.stock.job(key)
    assert job is not None
    assert (job.progress, job.status) == (0.5, Status.ACTIVE)
    release.set()
    await eventually(bench.empty)

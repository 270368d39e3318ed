"""SAQ's web page, and what it does with a queue, against our workers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from saq import Job, Status
from saq.queue.base import JobError
from saq.web.common import job_dict
from saq.web.starlette import saq_web

from tests.support.engine import MakeBench
from tests.support.waiting import eventually


async def test_e1_the_page_shows_queue_workers_and_jobs_as_they_are(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=1)
    release = asyncio.Event()

    async def work(ctx: dict[str, Any], number: int) -> dict[str, int]:
        await release.wait()
        return {"number": number}

    process = await bench.start(work)
    keys = await bench.send(3)
    await bench.stock.enqueue("extract_colors", key="later", number=9, scheduled=int(time.time()) + 3600)
    await eventually(lambda: process.in_flight)
    info = await bench.stock.info(jobs=True)
    assert (info["name"], info["queued"], info["active"], info["scheduled"]) == (bench.policy.name, 2, 1, 1)
    assert {job["key"] for job in info["jobs"]} == {*keys, "later"}
    assert set(info["workers"]) == {process.id}
    assert set(info["workers"][process.id]["stats"]) == {"complete", "failed", "retried", "aborted", "uptime"}
    release.set()
    await eventually(lambda: _completed(bench, 3))
    job = await bench.stock.job(keys[2])
    assert job is not None
    shown = job_dict(job)
    assert (shown["status"], shown["result"], shown["kwargs"]) == (
        Status.COMPLETE,
        "{'number': 2}",
        "{'number': 2}",
    )
    assert shown["queued"] <= shown["started"] <= shown["completed"]
    info = await bench.stock.info()
    assert (info["queued"], info["active"], info["scheduled"]) == (0, 0, 1)


async def test_e1_the_pages_retry_runs_a_dead_job_again(make_bench: MakeBench) -> None:
    bench = make_bench(retry_delays=())
    broken = True

    async def work(ctx: dict[str, Any], number: int) -> str:
        if broken:
            raise RuntimeError("told to fail")
        return "mended"

    await bench.start(work)
    (key,) = await bench.send()
    await eventually(bench.letters.count)
    await eventually(bench.empty)
    broken = False
    job = await bench.stock.job(key)
    assert job is not None
    await job.retry("retried from ui")
    await eventually(lambda: _completed(bench, 1))
    await job.refresh()
    assert (job.status, job.result) == (Status.COMPLETE, "mended")
    assert await bench.empty()


async def test_e1_the_pages_retry_of_a_running_job_does_not_run_it_twice(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=2)
    release = asyncio.Event()
    runs: list[int] = []

    async def work(ctx: dict[str, Any], number: int) -> None:
        runs.append(number)
        await release.wait()

    process = await bench.start(work)
    (key,) = await bench.send()
    await eventually(lambda: process.in_flight)
    job = await bench.stock.job(key)
    assert job is not None
    await job.retry("retried from ui")
    await eventually(lambda: _dropped(bench))
    release.set()
    await eventually(bench.empty)
    assert runs == [0]
    assert await bench.total("completed") == 1


async def test_e1_the_pages_abort_takes_a_waiting_job_off_its_queue(make_bench: MakeBench) -> None:
    bench = make_bench()
    keys = await bench.send(2)
    job = await bench.stock.job(keys[0])
    assert job is not None
    await job.abort("aborted from ui")
    ran: list[str] = []

    async def work(ctx: dict[str, Any], number: int) -> None:
        ran.append(ctx["job"].key)

    await bench.start(work)
    await eventually(bench.empty)
    await job.refresh()
    assert (ran, job.status) == ([keys[1]], Status.ABORTED)


async def test_e1_apply_raises_what_the_job_died_of(make_bench: MakeBench) -> None:
    bench = make_bench(retry_delays=(0.05,))

    async def work(ctx: dict[str, Any], number: int) -> None:
        raise LookupError("no such garment")

    await bench.start(work)
    with pytest.raises(JobError, match="no such garment"):
        await bench.stock.apply("extract_colors", number=1, timeout=10, retries=9)
    assert [letter.attempts for letter in (await bench.letters.page()).items] == [2]


async def test_e1_a_handlers_update_reaches_who_refreshes_the_job(make_bench: MakeBench) -> None:
    bench = make_bench()
    started, release = asyncio.Event(), asyncio.Event()

    async def work(ctx: dict[str, Any], number: int) -> str:
        job: Job = ctx["job"]
        await job.update(progress=0.25, meta={"step": "decoded"})
        started.set()
        await release.wait()
        return "done"

    await bench.start(work)
    job = await bench.stock.enqueue("extract_colors", number=1)
    assert job is not None
    await started.wait()
    await job.refresh()
    assert (job.status, job.progress, job.meta, job.attempts) == (Status.ACTIVE, 0.25, {"step": "decoded"}, 1)
    waiting = asyncio.create_task(job.refresh(until_complete=10))
    await eventually(lambda: _listened(bench, job))
    release.set()
    await waiting
    assert (job.status, job.result, job.progress) == (Status.COMPLETE, "done", 1.0)


async def _listened(bench: Any, job: Job) -> bool:
    patterns = await bench.redis.pubsub_numpat()
    return bool(patterns)


async def _completed(bench: Any, expected: int) -> bool:
    return bool(await bench.total("completed") == expected)


async def _dropped(bench: Any) -> bool:
    return not await bench.redis.llen(bench.queue.keys.queued)


async def test_e1_the_page_itself_is_served_from_our_queues(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=1)
    started = asyncio.Event()

    async def work(ctx: dict[str, Any], number: int) -> str:
        started.set()
        await asyncio.sleep(0 if number else 60)
        return "done"

    process = await bench.start(work)
    running, waiting = await bench.send(2)
    await started.wait()
    page = saq_web("/monitor", [bench.stock])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(page), base_url="http://saq") as browser:
        assert "<html" in (await browser.get("/")).text
        (queue,) = (await browser.get("/api/queues")).json()["queues"]
        name = queue["name"]
        assert (name, queue["active"], list(queue["workers"])) == (bench.policy.name, 1, [process.id])
        shown = (await browser.get(f"/api/queues/{name}")).json()["queue"]
        assert {job["key"] for job in shown["jobs"]} == {running, waiting}
        aborted = await browser.post(f"/api/queues/{name}/jobs/{running}/abort")
        assert aborted.status_code == 200
        await eventually(lambda: _completed(bench, 1), what="the other one runs when the first is aborted")
        job = (await browser.get(f"/api/queues/{name}/jobs/{waiting}")).json()["job"]
        assert (job["status"], job["result"]) == ("complete", "'done'")
    assert await bench.empty()

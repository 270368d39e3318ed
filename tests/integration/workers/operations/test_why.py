"""Why a job does not run, and why a queue starts nothing: each cause, from the state of a real engine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from storage.asyncio_tools import cancel_and_wait
from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import Bench, MakeBench
from tests.support.waiting import eventually
from workers.engine.keys import BEATS, WORKERS
from workers.engine.policy import NORMAL, RateLimit
from workers.operations.jobs import JobOperations, JobRef

QUEUE = "color-extraction"
PREFIX = f"saq:job:{QUEUE}:"
FAST = replace(NORMAL, presence=0.2, aborts=0.2)


async def cause_of(jobs: JobOperations, key: str | None = None) -> str:
    return (await jobs.why(QUEUE, key)).cause


async def expect(jobs: JobOperations, cause: str, key: str | None = None) -> str:
    """The sentence, once this is the cause."""

    async def found() -> str | None:
        why = await jobs.why(QUEUE, key)
        return why.sentence if why.cause == cause else None

    sentence: str = await eventually(found, what=f"{cause} for {key or QUEUE}")
    return sentence


async def send_job(bench: Bench, key: str, **options: Any) -> None:
    assert await bench.stock.enqueue("extract_colors", key=key, number=1, **options)


async def worker_on_paper(redis: Redis, name: str, **presence: Any) -> None:
    """Write the keys of a process that lives and takes nothing."""
    seconds, micros = await redis.time()
    now_ms = seconds * 1000 + micros // 1000
    facts = {
        "host": "box-2",
        "pid": 4121,
        "version": "1",
        "queues": [QUEUE],
        "draining": False,
        "forget": 900,
    }
    body = json.dumps(facts | presence)
    await redis.hset(WORKERS, mapping={name: body, f"at:{name}": now_ms, f"since:{name}": now_ms - 60_000})
    await redis.zadd(BEATS, {name: now_ms})


async def lease_on_paper(bench: Bench, worker: str, key: str) -> None:
    seconds, _ = await bench.redis.time()
    body = json.dumps({"function": "extract_colors", "key": key, "status": "active", "attempts": 1})
    await bench.redis.set(f"{PREFIX}{key}", body)
    await bench.redis.zadd(bench.queue.keys.incomplete, {f"{PREFIX}{key}": 0})
    await bench.redis.rpush(bench.queue.keys.active, f"{PREFIX}{key}")
    await bench.redis.hset(bench.queue.keys.leases, f"{PREFIX}{key}", f"{worker}:1:{(seconds - 31) * 1000}")


@asynccontextmanager
async def beating(redis: Redis, *workers: str) -> AsyncIterator[None]:
    """Heartbeats of processes that are not there."""

    async def beat() -> None:
        while True:
            await redis.zadd(BEATS, {name: time.time() * 1000 for name in workers})
            await asyncio.sleep(0.1)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        await cancel_and_wait([task])


async def test_redis_is_unavailable(make_bench: MakeBench, operate: Operate) -> None:
    away = replace(make_bench(), url="redis://127.0.0.1:9/0")
    jobs = (await operate(away)).jobs
    assert await cause_of(jobs) == "redis_unavailable"
    assert await cause_of(jobs, "dress-17") == "redis_unavailable"


async def test_nothing_is_there(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    assert await cause_of(jobs, "nothing") == "unknown"
    assert await cause_of(jobs) == "no_worker"
    await bench.redis.set(f"{PREFIX}lost", json.dumps({"function": "extract_colors", "key": "lost"}))
    await worker_on_paper(bench.redis, "w1")
    assert await cause_of(jobs) == "empty"
    assert await cause_of(jobs, "lost") == "unlisted"


async def test_a_job_that_runs_then_is_aborted(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(concurrency=1)
    jobs = (await operate(bench)).jobs

    async def wait(ctx: dict[str, Any], number: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            raise

    process = await bench.start(wait, pace=FAST)
    await send_job(bench, "first")
    sentence = await expect(jobs, "running", "first")
    assert ":" in sentence.partition(" for ")[0], "it names host and pid"
    await send_job(bench, "second")
    sentence = await expect(jobs, "full", "second")
    assert sentence.startswith("color-extraction is full: 1 of 1, the oldest for ")
    await expect(jobs, "full")
    await jobs.abort(QUEUE, [JobRef("second")])
    assert await cause_of(jobs, "second") == "aborted"
    await jobs.abort(QUEUE, [JobRef("first")])
    await expect(jobs, "aborting", "first")
    await expect(jobs, "aborted", "first")
    await expect(jobs, "empty")
    process.begin_drain()


async def test_a_paused_queue_and_a_draining_process(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(concurrency=2)
    operations = await operate(bench)
    jobs = operations.jobs
    release = asyncio.Event()

    async def wait(ctx: dict[str, Any], number: int) -> None:
        await release.wait()

    process = await bench.start(wait, pace=FAST)
    await send_job(bench, "first")
    await expect(jobs, "running", "first")
    await operations.queues.pause(QUEUE, "CDN is down")
    await send_job(bench, "second")
    sentence = await expect(jobs, "paused", "second")
    assert sentence.startswith("color-extraction is paused by ops@box-2 since ")
    assert sentence.endswith("UTC: CDN is down")
    await expect(jobs, "paused")
    process.begin_drain()
    await expect(jobs, "paused", "second")
    await bench.redis.delete(bench.queue.keys.pause)
    await expect(jobs, "draining", "second")
    release.set()
    await process.wait_drained()
    await process.close()
    bench.processes.remove(process)
    await expect(jobs, "no_worker", "second")
    assert await cause_of(jobs, "first") == "done"


async def test_a_retry_waits_for_its_time(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=(600.0, 600.0))
    jobs = (await operate(bench)).jobs

    async def fail(ctx: dict[str, Any], number: int) -> None:
        raise RuntimeError("told to fail")

    await bench.start(fail)
    await send_job(bench, "first")
    sentence = await expect(jobs, "scheduled", "first")
    assert sentence.startswith("retry 1 of 2, due in ")
    await send_job(bench, "later", scheduled=int(time.time()) + 600)
    assert (await expect(jobs, "scheduled", "later")).startswith("delayed, due in ")


async def test_the_rate_limit_says_how_many_are_before(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(rate_limit=RateLimit(1, 60))
    jobs = (await operate(bench)).jobs

    async def work(ctx: dict[str, Any], number: int) -> None: ...

    await bench.start(work)
    for key in ("first", "second", "third"):
        await send_job(bench, key)
    await expect(jobs, "done", "first")
    sentence = await expect(jobs, "rate_limit", "third")
    assert sentence.startswith("waits for the rate limit: next start in ")
    assert sentence.endswith(", 1 before it")
    await expect(jobs, "rate_limit")


async def test_a_sixth_process_stands_by(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(concurrency=20)
    jobs = (await operate(bench)).jobs
    ghosts = [f"ghost{number}" for number in range(5)]

    async def work(ctx: dict[str, Any], number: int) -> None: ...

    async with beating(bench.redis, *ghosts):
        for ghost in ghosts:
            await lease_on_paper(bench, ghost, f"of-{ghost}")
        await send_job(bench, "waiting")
        await bench.start(work, pace=FAST)
        sentence = await expect(jobs, "standby", "waiting")
        assert "1 on standby" in sentence
        await expect(jobs, "standby")


async def test_a_dead_workers_job_runs_again(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(concurrency=1)
    jobs = (await operate(bench)).jobs
    await worker_on_paper(bench.redis, "w1")
    await lease_on_paper(bench, "ghost", "held")
    await send_job(bench, "waiting")
    sentence = await expect(jobs, "held_by_dead_worker", "held")
    assert sentence.startswith("held by ghost, which is dead: it runs again in ")
    sentence = await expect(jobs, "slots_of_dead_worker", "waiting")
    assert sentence.startswith("color-extraction is full: 1 of 1, 1 of them held by a dead worker")
    await expect(jobs, "slots_of_dead_worker")


async def test_a_blocked_worker_is_named_with_its_line(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(concurrency=1)
    jobs = (await operate(bench)).jobs
    await worker_on_paper(bench.redis, "w1")
    await worker_on_paper(bench.redis, "w2")
    now_ms = int(time.time() * 1000)
    await bench.redis.hset(
        WORKERS, "blocked:w2", f'{now_ms - 6000} {{"where": "extract_colors (color.py:88)"}}'
    )
    await lease_on_paper(bench, "w2", "held")
    await send_job(bench, "waiting")
    async with beating(bench.redis, "w1", "w2"):
        sentence = await expect(jobs, "held_by_blocked_worker", "held")
        assert sentence == ("held by box-2:4121, whose event loop is blocked by extract_colors (color.py:88)")
        await expect(jobs, "slots_of_blocked_worker", "waiting")
        await expect(jobs, "slots_of_blocked_worker")


async def test_keys_of_another_type_stop_the_queue(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    await worker_on_paper(bench.redis, "w1")
    await send_job(bench, "waiting")
    await bench.redis.set(bench.queue.keys.leases, "x")
    sentence = await expect(jobs, "broken_keys", "waiting")
    assert bench.queue.keys.leases in sentence
    await expect(jobs, "broken_keys")


async def test_what_nothing_forbids_waits_its_turn(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    await worker_on_paper(bench.redis, "w1")
    await bench.redis.set(f"{PREFIX}rubbish", "rubbish")
    await bench.redis.rpush(bench.queue.keys.queued, f"{PREFIX}rubbish")
    assert await cause_of(jobs, "rubbish") == "not_a_job"
    await send_job(bench, "second")
    why = await jobs.why(QUEUE, "second")
    assert (why.cause, why.sentence) == ("waits_its_turn", "waits its turn: 1 job before it")
    assert await cause_of(jobs) == "starts"
    await bench.redis.lpop(bench.queue.keys.queued)
    assert await cause_of(jobs, "second") == "next"


@pytest.mark.parametrize("key", ["waiting", None])
async def test_a_queue_that_stands_although_nothing_forbids_a_start(
    make_bench: MakeBench, operate: Operate, key: str | None
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    await worker_on_paper(bench.redis, "w1")
    queued_ms = int(time.time() - 40) * 1000
    record = {"function": "extract_colors", "key": "waiting", "status": "queued", "queued": queued_ms}
    await bench.redis.set(f"{PREFIX}waiting", json.dumps(record))
    await bench.redis.zadd(bench.queue.keys.incomplete, {f"{PREFIX}waiting": 0})
    await bench.redis.rpush(bench.queue.keys.queued, f"{PREFIX}waiting")
    sentence = await expect(jobs, "stalled", key)
    assert sentence.startswith("nothing forbids a start, and none happens: stalled: 1 ready")

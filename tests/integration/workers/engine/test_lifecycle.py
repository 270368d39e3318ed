"""The life of a job on a real server: enqueue, run, retry, dead letter, drain, limits."""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import time
from typing import Any

import pytest
from saq import Job, Status

from couturecast_handlers import PermanentError
from tests.integration.workers.conftest import MakeBench, eventually
from workers.engine.policy import KEEP_COMPLETED, KEEP_ENDED_MS, RateLimit

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


async def test_e5_retries_start_on_time_and_keep_every_error(make_bench: MakeBench) -> None:
    bench = make_bench(retry_delays=(0.3, 0.6, 0.9))
    attempts: dict[str, list[float]] = {}

    async def fail(ctx: dict[str, Any], number: int, tag: str) -> None:
        starts = attempts.setdefault(ctx["job"].key, [])
        starts.append(time.monotonic())
        raise RuntimeError(f"attempt {len(starts)}")

    process = await bench.start(fail)
    (key,) = await bench.send(tag="blue")
    late: list[float] = []
    for number in range(4):  # from different moments of any clock that the dispatcher may go by
        await asyncio.sleep(0.13 * (number > 0))
        await bench.stock.enqueue("extract_colors", number=number, tag="red")
    await eventually(lambda: _count(bench.letters, 5), what="the dead letters")
    for starts in attempts.values():
        gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
        late += [gap - delay for gap, delay in zip(gaps, bench.policy.retry_delays, strict=True)]
    assert min(late) >= 0
    assert statistics.median(late) <= 0.25  # a single one may be late by the machine's fault
    (letter,) = [each for each in (await bench.letters.page()).items if each.job_id == key]
    assert (letter.job_id, letter.queue_name, letter.function) == (key, "color-extraction", "extract_colors")
    assert letter.job_data["kwargs"] == {"number": 0, "tag": "blue"}
    assert (letter.attempts, letter.error_type, letter.error_message) == (4, "RuntimeError", "attempt 4")
    assert [each["message"] for each in letter.attempt_errors] == [f"attempt {n}" for n in (1, 2, 3, 4)]
    assert {each["worker"] for each in letter.attempt_errors} == {process.id}
    assert all("RuntimeError: attempt" in each["traceback"] for each in letter.attempt_errors)
    assert await bench.empty()
    job = await bench.stock.job(key)
    assert job is not None
    assert (job.status, job.attempts) == (Status.FAILED, 4)


async def test_e5_a_retry_that_succeeds_leaves_no_letter(make_bench: MakeBench) -> None:
    bench = make_bench()

    async def third_time(ctx: dict[str, Any], number: int) -> str:
        if ctx["job"].attempts < 3:
            raise ConnectionError("not yet")
        return "done"

    await bench.start(third_time)
    assert await bench.stock.apply("extract_colors", number=1, timeout=10) == "done"
    assert (await bench.total("retried"), await bench.letters.count()) == (2, 0)


@pytest.mark.parametrize("timeout", [0.2])
async def test_e6_a_coroutine_past_its_timeout_is_cancelled(make_bench: MakeBench, timeout: float) -> None:
    bench = make_bench(timeout=timeout, retry_delays=())
    cancelled = asyncio.Event()

    async def hang(ctx: dict[str, Any], number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await bench.start(hang)
    await bench.send(timeout=3600)
    await eventually(lambda: bench.letters.count())
    assert cancelled.is_set()
    (letter,) = (await bench.letters.page()).items
    assert "longer than the 0.2 s" in letter.error_message


async def test_e6_a_handler_that_ignores_its_cancellation_loses_its_job(make_bench: MakeBench) -> None:
    bench = make_bench(timeout=0.1, retry_delays=())
    release = asyncio.Event()

    async def stubborn(ctx: dict[str, Any], number: int) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    await bench.start(stubborn)
    await bench.send()
    await eventually(lambda: bench.letters.count())
    release.set()
    assert await bench.empty()


async def test_e7_what_cannot_succeed_is_not_retried(make_bench: MakeBench) -> None:
    bench = make_bench()

    async def refuse(ctx: dict[str, Any], number: int) -> None:
        raise PermanentError("image: not a picture")

    await bench.start(refuse)
    await bench.send()
    await bench.stock.enqueue("no_such_function", x=1)
    raw = f"saq:job:{bench.policy.name}:"
    for key, body in (("garbage", "not json"), ("list", "[1, 2]"), ("deep", "[" * 200_000)):
        await bench.redis.set(raw + key, body)
        await bench.redis.zadd(bench.queue.keys.incomplete, {raw + key: 0})
        await bench.redis.rpush(bench.queue.keys.queued, raw + key)
    strange = {"function": "extract_colors", "queue": bench.policy.name, "kwargs": [1], "key": "strange"}
    await bench.redis.set(raw + "strange", json.dumps(strange))
    await bench.redis.rpush(bench.queue.keys.queued, raw + "strange", raw + "gone")
    await eventually(lambda: _count(bench.letters, 7))
    found = {letter.job_id: letter for letter in (await bench.letters.page()).items}
    assert all(letter.attempts == 1 for letter in found.values())
    messages = " | ".join(letter.error_message for letter in found.values())
    for expected in ("image: not a picture", "unknown function 'no_such_function'", "kwargs: an object"):
        assert expected in messages
    assert found["garbage"].job_data == {"unreadable": "not json"}
    assert "gone from Redis" in found["gone"].error_message
    assert await bench.empty()


async def _count(letters: Any, wanted: int) -> bool:
    return bool(await letters.count() == wanted)


async def test_e3_two_processes_keep_the_concurrency_of_five(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=5)
    running, most = 0, 0

    async def work(ctx: dict[str, Any], number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    await bench.start(work)
    await bench.start(work)
    await bench.send(100)
    await eventually(lambda: _total(bench, "completed", 100), within=20)
    assert most == 5
    assert await bench.empty()


async def _total(bench: Any, outcome: str, wanted: int) -> bool:
    return bool(await bench.total(outcome) == wanted)


WINDOWS = pytest.mark.parametrize("window", [0.3, pytest.param(1.0, marks=pytest.mark.slow)])


@WINDOWS
async def test_e4_two_processes_keep_the_rate(make_bench: MakeBench, window: float) -> None:
    bench = make_bench(rate_limit=RateLimit(6, window), concurrency=10)
    starts: list[float] = []

    async def note(ctx: dict[str, Any], number: int) -> None:
        starts.append(time.monotonic())

    await bench.start(note)
    await bench.start(note)
    keys = await bench.send(20)
    await eventually(lambda: _total(bench, "completed", 20), within=20)
    starts.sort()
    for first, seventh in zip(starts, starts[6:], strict=False):
        assert seventh - first > window
    assert (await bench.lists())["queued"] == 0
    records = [await bench.stock.job(key) for key in keys]
    assert {job.attempts for job in records if job is not None} == {1}, "waiting uses no attempt"


@WINDOWS
async def test_e4_no_window_holds_more_starts_wherever_it_begins(
    make_bench: MakeBench, window: float
) -> None:
    bench = make_bench(rate_limit=RateLimit(6, window), concurrency=20)
    starts: list[float] = []

    async def note(ctx: dict[str, Any], number: int) -> None:
        starts.append(time.monotonic())

    await bench.start(note)
    await bench.start(note)
    for _ in range(12):  # each arrival makes somebody ask for a start, at any moment of the window
        await bench.send(2)
        await asyncio.sleep(0.17 * window)
    await eventually(lambda: len(starts) == 24, within=20)
    starts.sort()
    for first, seventh in zip(starts, starts[6:], strict=False):
        assert seventh - first > window


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
    drained = asyncio.create_task(process.drained())
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
    began = time.monotonic()
    process.begin_drain()
    assert await process.drained() == 2
    assert time.monotonic() - began < 5, "the handlers never end"
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
        await eventually(lambda: _total(bench, "completed", len(took)))
        began = time.monotonic()
        process.begin_drain()
        assert await process.drained() == 0
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


async def test_the_newest_hundred_completed_jobs_stay(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=50)

    async def work(ctx: dict[str, Any], number: int) -> None: ...

    await bench.start(work)
    keys = await bench.send(150)
    await eventually(lambda: _total(bench, "completed", 150))
    lifetimes = [await bench.redis.pttl(bench.queue.job_id(key)) for key in keys]
    newest = [each for each in lifetimes if each > 10_000]
    assert len(newest) == KEEP_COMPLETED
    assert min(newest) > KEEP_ENDED_MS - 60_000
    assert all(each > 5_000 for each in lifetimes)
    assert await bench.redis.zcard(bench.queue.keys.completed) == KEEP_COMPLETED


async def test_a_key_that_is_enqueued_again_outlives_its_old_record(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=1)

    async def work(ctx: dict[str, Any], number: int) -> None: ...

    process = await bench.start(work)
    await bench.stock.enqueue("extract_colors", key="again", number=1)
    await eventually(lambda: _total(bench, "completed", 1))
    process.begin_drain()
    await process.drained()
    await bench.stock.enqueue("extract_colors", key="again", number=2)
    await bench.send(KEEP_COMPLETED + 5)
    await bench.redis.lmove(bench.queue.keys.queued, bench.queue.keys.queued, "LEFT", "RIGHT")
    again = await bench.start(work)
    await eventually(lambda: _total(bench, "completed", KEEP_COMPLETED + 7), within=20)
    again.begin_drain()
    await again.drained()
    job = await bench.stock.job("again")
    assert job is not None
    assert job.kwargs == {"number": 2}


async def test_what_no_job_may_hold_is_dead_lettered(make_bench: MakeBench) -> None:
    bench = make_bench()

    async def work(ctx: dict[str, Any], **arguments: Any) -> None: ...

    await bench.start(work)
    deep: list[Any] = []
    for _ in range(150):
        deep = [deep]
    for arguments in ({"a": "nul \x00"}, {"a": "half \ud800"}, {"a": deep}, {"a": "x" * 1_000_001}):
        await bench.stock.enqueue("extract_colors", **arguments)
    await bench.stock.enqueue("extract_colors", a="\\u0000 is text, and so is \\ud800")
    await eventually(lambda: _count(bench.letters, 4))
    await eventually(lambda: _total(bench, "completed", 1))
    messages = " | ".join(letter.error_message for letter in (await bench.letters.page()).items)
    for expected in ("NUL", "UTF-8", "deeper than 100", "1,000,000 are allowed"):
        assert expected in messages
    assert await bench.empty()


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


async def test_a_result_that_is_no_json_is_a_failed_attempt(make_bench: MakeBench) -> None:
    bench = make_bench(retry_delays=())

    async def work(ctx: dict[str, Any], number: int) -> object:
        return object()

    await bench.start(work)
    await bench.send()
    await eventually(lambda: bench.letters.count())
    (letter,) = (await bench.letters.page()).items
    assert letter.error_type == "TypeError"


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

"""Failed attempts are retried on time, cut at their timeout, and end in a dead letter."""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import time
from typing import Any

import pytest
from saq import Status

from couturecast_handlers import PermanentError
from tests.integration.workers.engine.conftest import has_letters, has_total
from tests.support.engine import MakeBench
from tests.support.waiting import eventually

pytestmark = pytest.mark.lifecycle


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
    await eventually(lambda: has_letters(bench, 5), what="the dead letters")
    for starts in attempts.values():
        gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
        late += [gap - delay for gap, delay in zip(gaps, bench.policy.retry_delays, strict=True)]
    assert min(late) >= 0
    assert statistics.median(late) <= 0.25  # a single one may be late by the machine's fault
    (letter,) = [buried for buried in (await bench.letters.page()).items if buried.job_id == key]
    assert (letter.job_id, letter.queue_name, letter.function) == (key, "color-extraction", "extract_colors")
    assert letter.job_data["kwargs"] == {"number": 0, "tag": "blue"}
    assert (letter.attempts, letter.error_type, letter.error_message) == (4, "RuntimeError", "attempt 4")
    assert [attempt["message"] for attempt in letter.attempt_errors] == [f"attempt {n}" for n in (1, 2, 3, 4)]
    assert {attempt["worker"] for attempt in letter.attempt_errors} == {process.id}
    assert all("RuntimeError: attempt" in attempt["traceback"] for attempt in letter.attempt_errors)
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
    await eventually(lambda: has_letters(bench, 7))
    found = {letter.job_id: letter for letter in (await bench.letters.page()).items}
    assert all(letter.attempts == 1 for letter in found.values())
    messages = " | ".join(letter.error_message for letter in found.values())
    for expected in ("image: not a picture", "unknown function 'no_such_function'", "kwargs: an object"):
        assert expected in messages
    assert found["garbage"].job_data == {"unreadable": "not json"}
    assert "gone from Redis" in found["gone"].error_message
    assert await bench.empty()


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
    await eventually(lambda: has_letters(bench, 4))
    await eventually(lambda: has_total(bench, "completed", 1))
    messages = " | ".join(letter.error_message for letter in (await bench.letters.page()).items)
    for expected in ("NUL", "UTF-8", "deeper than 100", "1,000,000 are allowed"):
        assert expected in messages
    assert await bench.empty()


async def test_a_result_that_is_no_json_is_a_failed_attempt(make_bench: MakeBench) -> None:
    bench = make_bench(retry_delays=())

    async def work(ctx: dict[str, Any], number: int) -> object:
        return object()

    await bench.start(work)
    await bench.send()
    await eventually(lambda: bench.letters.count())
    (letter,) = (await bench.letters.page()).items
    assert letter.error_type == "TypeError"

"""Times that lie ahead of the server's clock block nothing for longer than they should."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from saq import Job

from storage.redis.client import execute
from tests.integration.workers.engine.conftest import has_completed, succeed
from tests.support.engine import QUICK, MakeBench
from tests.support.waiting import eventually
from workers.engine.keys import BEATS, CRON
from workers.engine.policy import RateLimit
from workers.engine.schedules import Schedule, Scheduler

HOUR = 3600.0


async def test_e14_starts_that_lie_ahead_block_no_longer_than_their_window(make_bench: MakeBench) -> None:
    """The server's clock was set back: the last starts are an hour ahead of it."""
    bench = make_bench(rate_limit=RateLimit(2, 0.5))
    now, _ = await bench.redis.time()
    for number in range(2):
        await bench.redis.zadd(bench.queue.keys.starts, {f"before-{number}": (now + HOUR) * 1e6})
    await bench.start(succeed)
    began = time.monotonic()
    await bench.send(2)
    await eventually(lambda: has_completed(bench, 2))
    assert time.monotonic() - began >= 0.5, "they count as starts of this moment"


async def test_e14_a_beat_that_lies_ahead_does_not_keep_the_dead_alive(make_bench: MakeBench) -> None:
    bench = make_bench()
    await bench.send()
    await bench.queue.take("dead-worker", 1, [])
    now, _ = await bench.redis.time()
    ahead = (now + HOUR) * 1000
    await bench.redis.zadd(BEATS, {"dead-worker": ahead})
    await bench.redis.hset(bench.queue.keys.looks, mapping={"since": ahead, "last": ahead, "told": ahead})
    await bench.start(succeed, timings=QUICK)
    await eventually(lambda: has_completed(bench, 1))
    await eventually(bench.empty)


async def test_e14_retries_that_lie_ahead_are_brought_forward(make_bench: MakeBench) -> None:
    bench = make_bench(retry_delays=(0.3,))
    attempts = 0

    async def work(ctx: dict[str, Any], number: int) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise RuntimeError("once more")

    await bench.start(work)
    (key,) = await bench.send()
    later = Job(
        "extract_colors", key="tomorrow", kwargs={"number": 2}, scheduled=int(time.time() + 24 * HOUR)
    )
    await bench.queue.enqueue_many([later])
    await eventually(lambda: attempts == 1)
    now, _ = await bench.redis.time()
    ids = {bench.queue.job_id(key): now + HOUR}
    await execute(bench.redis, "ZADD", bench.queue.keys.incomplete, "XX", now + HOUR, *ids)
    await bench.redis.hset(bench.queue.keys.looks, "reconciled", (now + HOUR) * 1000)
    assert await bench.queue.reconciler.reconcile() == {"late": 1}
    await eventually(lambda: has_completed(bench, 1))
    assert await bench.redis.zrange(bench.queue.keys.incomplete, 0, -1) == [
        bench.queue.job_id("tomorrow").encode()
    ]


@pytest.mark.parametrize("written", ["ahead", "junk"])
async def test_e14_a_schedule_goes_on_after_an_occurrence_that_lies_ahead(
    make_bench: MakeBench, written: str
) -> None:
    bench = make_bench()

    async def jobs() -> dict[str, dict[str, Any]]:
        return {"by-clock": {"number": 1}}

    schedule = Schedule("weather", "*/15 * * * *", bench.policy.name, jobs)
    now, _ = await bench.redis.time()
    value = (
        int(schedule.previous_occurrence(datetime.fromtimestamp(now + HOUR, UTC)).timestamp())
        if written == "ahead"
        else "soon"
    )
    await bench.redis.hset(CRON, "weather", value)
    await Scheduler(schedule, bench.queue).run_due()
    assert await bench.redis.llen(bench.queue.keys.queued) == 1
    await Scheduler(schedule, bench.queue).run_due()
    assert await bench.redis.llen(bench.queue.keys.queued) == 1

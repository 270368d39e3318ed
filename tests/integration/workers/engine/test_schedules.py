"""Jobs by the clock: each occurrence once, on a real server."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.engine import MakeBench
from tests.support.waiting import eventually
from workers.engine.keys import CRON
from workers.engine.schedules import Schedule, Scheduler

EVERY_QUARTER = "*/15 * * * *"
EVERY_SECOND = "* * * * * *"


async def test_an_occurrence_is_enqueued_once_by_many_processes(make_bench: MakeBench) -> None:
    bench = make_bench()
    asked, all_asked = 0, asyncio.Event()

    async def jobs() -> dict[str, dict[str, Any]]:
        nonlocal asked
        asked += 1
        if asked == 5:
            all_asked.set()
        await all_asked.wait()  # so that all of them find it undone
        return {f"{place}-{asked}": {"number": asked} for place in ("lisboa", "porto")}

    schedule = Schedule("weather", EVERY_QUARTER, bench.policy.name, jobs)
    waits = await asyncio.gather(*(Scheduler(schedule, bench.queue).run_due() for _ in range(5)))
    assert asked == 5
    assert await bench.redis.llen(bench.queue.keys.queued) == 2
    assert all(0 < wait <= 900 for wait in waits)
    await Scheduler(schedule, bench.queue).run_due()
    assert asked == 5, "an occurrence that is done costs no look into the database"


async def test_what_was_missed_is_made_up_for_once(make_bench: MakeBench) -> None:
    bench = make_bench()

    async def jobs() -> dict[str, dict[str, Any]]:
        return {"lisboa": {"number": 1}}

    schedule = Schedule("weather", EVERY_QUARTER, bench.policy.name, jobs)
    seconds, _ = await bench.redis.time()
    newest = int(schedule.previous_occurrence(datetime.fromtimestamp(seconds, UTC)).timestamp())
    await bench.redis.hset(CRON, "weather", newest - 10 * 900)
    for _ in range(3):
        await Scheduler(schedule, bench.queue).run_due()
    assert await bench.redis.llen(bench.queue.keys.queued) == 1
    assert int(await bench.redis.hget(CRON, "weather")) == newest


async def test_a_job_that_still_waits_is_not_enqueued_again(make_bench: MakeBench) -> None:
    bench = make_bench()

    async def jobs() -> dict[str, dict[str, Any]]:
        return {"lisboa": {"number": 1}, "porto": {"number": 2}}

    schedule = Schedule("weather", EVERY_QUARTER, bench.policy.name, jobs)
    await bench.stock.enqueue(bench.policy.function, key="porto", number=0)
    await Scheduler(schedule, bench.queue).run_due()
    assert await bench.redis.llen(bench.queue.keys.queued) == 2


@pytest.mark.slow
async def test_three_processes_run_each_occurrence_once(make_bench: MakeBench) -> None:
    bench = make_bench()
    ran: list[int] = []
    asked = itertools.count()

    async def work(ctx: dict[str, Any], number: int) -> None:
        ran.append(number)

    async def jobs() -> dict[str, dict[str, Any]]:
        number = next(asked)
        return {f"tick-{number}": {"number": number}}

    schedule = Schedule("tick", EVERY_SECOND, bench.policy.name, jobs)
    began, _ = await bench.redis.time()
    for _ in range(3):
        await bench.start(work, schedules=[schedule])
    await eventually(lambda: len(ran) >= 6, within=30)
    ended, _ = await bench.redis.time()
    assert len(ran) <= ended - began + 2, "more runs than there were seconds"


def test_occurrences_are_of_the_clock() -> None:
    async def jobs() -> dict[str, dict[str, Any]]:
        return {}

    schedule = Schedule("weather", EVERY_QUARTER, "weather-ingestion", jobs)
    quarter = datetime(2026, 3, 1, 12, 15, tzinfo=UTC)
    assert schedule.previous_occurrence(quarter) == quarter
    assert schedule.previous_occurrence(quarter.replace(second=59)) == quarter
    assert schedule.previous_occurrence(quarter.replace(minute=14, second=59)) == quarter.replace(minute=0)
    assert schedule.next_occurrence(quarter) == quarter.replace(minute=30)


async def test_a_disabled_schedule_enqueues_nothing_in_any_process(make_bench: MakeBench) -> None:
    bench = make_bench()
    asked = 0

    async def jobs() -> dict[str, dict[str, Any]]:
        nonlocal asked
        asked += 1
        return {"lisboa": {"number": 1}}

    schedule = Schedule("weather", EVERY_QUARTER, bench.policy.name, jobs)
    await bench.redis.hset(CRON, "weather:disabled", '1.5 {"by": "ops", "reason": "maintenance"}')
    wait = await Scheduler(schedule, bench.queue).run_due()
    assert 0 < wait <= 900
    assert (await bench.redis.llen(bench.queue.keys.queued), asked) == (0, 0)


async def test_a_schedule_that_is_disabled_while_it_collects_its_jobs_enqueues_none(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()

    async def jobs() -> dict[str, dict[str, Any]]:
        await bench.redis.hset(CRON, "weather:disabled", "1 {}")
        return {"lisboa": {"number": 1}}

    await Scheduler(Schedule("weather", EVERY_QUARTER, bench.policy.name, jobs), bench.queue).run_due()
    assert await bench.redis.llen(bench.queue.keys.queued) == 0
    assert await bench.redis.hget(CRON, "weather") is None

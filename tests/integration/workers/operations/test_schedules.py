"""The verbs on schedules, on a real server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import Bench, MakeBench
from workers.engine.keys import CRON
from workers.engine.schedules import Schedule, Scheduler
from workers.errors import NotFoundError, ReadOnlyError
from workers.monitoring.alert_evaluation import schedule_conditions
from workers.operations.operations import Operations

QUARTER_SECONDS = 900


def every_quarter(bench: Bench) -> Schedule:
    async def jobs() -> dict[str, dict[str, Any]]:
        return {"lisboa": {"number": 1}, "porto": {"number": 2}}

    return Schedule("weather", "*/15 * * * *", bench.policy.name, jobs)


async def opened(bench: Bench, operate: Operate, **options: Any) -> tuple[Operations, Schedule]:
    schedule = every_quarter(bench)
    return await operate(bench, schedules=[schedule], **options), schedule


async def newest_occurrence(redis: Redis, schedule: Schedule) -> int:
    seconds, _ = await redis.time()
    return int(schedule.previous_occurrence(datetime.fromtimestamp(seconds, UTC)).timestamp())


async def missed_alerts(redis: Redis, schedule: Schedule) -> list[Any]:
    seconds, _ = await redis.time()
    return list(schedule_conditions([schedule], await redis.hgetall(CRON), seconds))


async def test_a_schedule_is_listed_with_its_next_and_last_run(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    operations, schedule = await opened(bench, operate)
    (view,) = await operations.schedules.list()
    assert (view.name, view.queue, view.function) == ("weather", "color-extraction", "extract_colors")
    assert (view.enabled, view.last_at, view.missed, view.interval_seconds) == (
        True,
        None,
        0,
        QUARTER_SECONDS,
    )
    await Scheduler(schedule, bench.queue).run_due()
    view = await operations.schedules.get("weather")
    newest = datetime.fromtimestamp(await newest_occurrence(redis, schedule), UTC)
    assert view.last_at == newest
    assert view.next_at is not None
    assert (view.next_at - newest).total_seconds() == QUARTER_SECONDS


async def test_missed_runs_are_counted(make_bench: MakeBench, operate: Operate, redis: Redis) -> None:
    bench = make_bench()
    operations, schedule = await opened(bench, operate)
    newest = await newest_occurrence(redis, schedule)
    await redis.hset(CRON, "weather", newest - 4 * QUARTER_SECONDS)
    assert (await operations.schedules.get("weather")).missed in (3, 4)
    assert len(await missed_alerts(redis, schedule)) == 1
    await redis.hset(CRON, "weather", 1)
    assert (await operations.schedules.get("weather")).missed == 1_000


async def test_a_disabled_schedule_misses_nothing_and_goes_on_with_its_next_occurrence(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    operations, schedule = await opened(bench, operate)
    newest = await newest_occurrence(redis, schedule)
    await redis.hset(CRON, "weather", newest - 4 * QUARTER_SECONDS)
    assert await operations.schedules.disable("weather", "maintenance")
    assert not await operations.schedules.disable("weather", "once more")
    view = await operations.schedules.get("weather")
    assert (view.enabled, view.next_at, view.missed) == (False, None, 0)
    assert (view.disabled_by, view.disabled_reason) == ("ops@box-2", "maintenance")
    assert view.disabled_at is not None
    assert await missed_alerts(redis, schedule) == []
    await Scheduler(schedule, bench.queue).run_due()
    assert await redis.llen(bench.queue.keys.queued) == 0
    assert await operations.schedules.enable("weather")
    assert not await operations.schedules.enable("weather")
    view = await operations.schedules.get("weather")
    assert (view.enabled, view.missed) == (True, 0)
    assert view.last_at == datetime.fromtimestamp(newest - 4 * QUARTER_SECONDS, UTC)
    assert await missed_alerts(redis, schedule) == []
    await Scheduler(schedule, bench.queue).run_due()
    assert await redis.llen(bench.queue.keys.queued) == 0, "what it left out was not missed"


async def test_a_run_now_enqueues_also_a_disabled_schedule_and_no_job_twice(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    operations, _ = await opened(bench, operate)
    await operations.schedules.disable("weather")
    await bench.stock.enqueue("extract_colors", key="porto", number=0)
    run = await operations.schedules.run("weather", "after the outage")
    assert (run.jobs, run.enqueued) == (2, 1)
    assert (await operations.jobs.get("color-extraction", "lisboa")).producer == "the schedule weather"
    assert await redis.llen(bench.queue.keys.queued) == 2
    view = await operations.schedules.get("weather")
    assert view.run_at is not None
    assert view.last_at is None
    actions = await operations.recent_actions()
    assert [(action.verb, action.affected) for action in actions] == [("cron run", 1), ("cron disable", 1)]
    events = (await operations.events.page()).items
    assert [(event.kind, event.subject) for event in events] == [
        ("schedule-run", "weather"),
        ("schedule-disabled", "weather"),
    ]


async def test_unknown_schedules_and_read_only_mode_are_refused(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    operations, _ = await opened(bench, operate, read_only=True)
    verbs = (operations.schedules.run, operations.schedules.disable, operations.schedules.enable)
    for verb in verbs:
        with pytest.raises(NotFoundError, match="use one of weather"):
            await verb("nothing")
        with pytest.raises(ReadOnlyError):
            await verb("weather")
    assert await redis.hgetall(CRON) == {}


async def test_what_others_wrote_into_the_schedules_is_no_schedule(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    operations, schedule = await opened(bench, operate)
    fields = {
        "weather": "x",
        "weather:disabled": b"\xff",
        "weather:enabled": "1e999",
        "weather:ran": "9" * 30,
    }
    await redis.hset(CRON, mapping=fields)
    (view,) = await operations.schedules.list()
    assert (view.enabled, view.disabled_by, view.disabled_at) == (False, "?", None)
    assert (view.last_at, view.run_at, view.missed) == (None, None, 0)
    await redis.delete(CRON)
    await redis.set(CRON, "x")
    assert (await operations.schedules.list())[0].enabled
    assert await missed_alerts_without_hash(schedule) == []


async def missed_alerts_without_hash(schedule: Schedule) -> list[Any]:
    return list(schedule_conditions([schedule], {}, 2e9))

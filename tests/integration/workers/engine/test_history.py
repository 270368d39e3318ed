"""The history in Redis: written by the step that changes something, and bounded."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.engine import MakeBench
from tests.support.waiting import eventually
from workers.engine.history import KEEP_POINT, STEP_SECONDS, Point

_START_MS = 1_800_000_000_000


_KEEPER = KEEP_POINT + "keep_point(KEYS[1], KEYS[2], tonumber(ARGV[1]), 7, 2)"


async def _keep(redis: Redis, at_ms: int) -> None:
    await redis.eval(_KEEPER, 2, "totals", "history:", at_ms)


async def _times(redis: Redis, seconds: int) -> list[int]:
    return [int(at) for _, at in await redis.zrange(f"history:{seconds}", 0, -1, withscores=True)]


async def test_a_point_has_the_counters_from_before_the_change(redis: Redis) -> None:
    await redis.hset(
        "totals", mapping={"completed": 5, "w3": 1, "odd one": 1, "failed": "many", "point": "x"}
    )
    await _keep(redis, _START_MS)
    (member,) = await redis.zrange("history:10", 0, -1)
    assert Point.parse(member) == Point(_START_MS / 1000, 7, 2, {"completed": 5, "w3": 1})


@pytest.mark.slow
async def test_history_is_bounded_however_long_it_is_written(redis: Redis) -> None:
    for step in range(0, 26 * 360, 3):  # for 26 hours, every 30 s
        await _keep(redis, _START_MS + step * 10_000)
    fine, minutes, hours = [await _times(redis, seconds) for seconds in STEP_SECONDS]
    assert len(fine) == 130
    assert len(minutes) == 1500
    assert len(hours) == 26
    assert {await redis.ttl(f"history:{seconds}") > 0 for seconds in STEP_SECONDS} == {True}


async def test_points_of_the_future_go_when_the_clock_is_set_back(redis: Redis) -> None:
    await _keep(redis, _START_MS)
    await _keep(redis, _START_MS - 3_600_000)
    for seconds in STEP_SECONDS:
        assert await _times(redis, seconds) == [_START_MS - 3_600_000]


async def test_jobs_are_counted_and_kept_in_the_history(make_bench: MakeBench) -> None:
    bench = make_bench()

    async def succeed(ctx: dict[str, Any], number: int) -> None: ...

    await bench.start(succeed)
    await bench.send(3)

    async def completed() -> bool:
        return await bench.total("completed") == 3

    await eventually(completed)
    for seconds in STEP_SECONDS:
        assert await bench.redis.zcard(f"{bench.queue.keys.history}{seconds}") >= 1
    totals = await bench.redis.hgetall(bench.queue.keys.totals)
    assert int(totals[b"started"]) == 3
    assert int(totals[b"wait_us"]) > 0
    assert int(totals[b"run_us"]) > 0
    assert int(totals[b"succeeded_at"]) == int(totals[b"ended_at"])

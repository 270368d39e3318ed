"""Charts of a day: old points are read once, and only if they are asked for."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from workers.engine.history import History, Point
from workers.engine.keys import QueueKeys
from workers.monitoring.charts import OldHistoryReader, series

QUEUE = "color-extraction"
KEY = f"{QueueKeys.of(QUEUE).history}60"
NOW = 1_700_000_040.0


def recent(now: float = NOW) -> History:
    """The three hours that the snapshots have."""
    return History([Point(now - 60 * minute, 3, 1, {"completed": 10_000}) for minute in range(180, -1, -1)])


@pytest.fixture
async def points(redis: Redis) -> None:
    """A day of points, one a minute, with a single peak ten hours ago."""
    members = {}
    for minute in range(1_440, -1, -1):
        at = round((NOW - 60 * minute) * 1000)
        depth = 500 if minute == 600 else 2
        members[f'[{at},{depth},1,"completed",{10_000 - minute}]'] = at
    await redis.zadd(KEY, members)
    await redis.zadd(KEY, {"of another program": round((NOW - 36_030) * 1000)})


@pytest.mark.usefixtures("points")
async def test_a_day_shows_a_peak_and_costs_one_command(redis: Redis) -> None:
    reader = OldHistoryReader(redis)
    before = (await redis.info("commandstats")).get("cmdstat_zrangebyscore", {}).get("calls", 0)
    for _ in range(3):
        history = await reader.extend(QUEUE, recent(), 86_400)
    found = series(history, "depth", 86_400, 96)
    assert found.greatest == 500
    assert None not in found.values[1:]
    assert len(history.points) < 900
    calls = (await redis.info("commandstats"))["cmdstat_zrangebyscore"]["calls"]
    assert calls - before == 1


@pytest.mark.usefixtures("points")
async def test_a_range_within_the_snapshots_reads_nothing(redis: Redis) -> None:
    history = recent()
    assert await OldHistoryReader(redis).extend(QUEUE, history, 10_800) is history


@pytest.mark.usefixtures("points")
async def test_later_only_what_is_new_is_read(redis: Redis) -> None:
    reader = OldHistoryReader(redis)
    await reader.extend(QUEUE, recent(), 86_400)
    await redis.zremrangebyscore(KEY, 0, (NOW - 11_000) * 1000)
    history = await reader.extend(QUEUE, recent(NOW + 600), 86_400)
    assert series(history, "depth", 86_400, 96).greatest == 500
    assert history.span(NOW - 40_000, NOW - 30_000)["completed"] == pytest.approx(167, abs=6)


async def test_a_queue_without_a_history_has_what_the_snapshots_have(redis: Redis) -> None:
    history = await OldHistoryReader(redis).extend(QUEUE, recent(), 86_400)
    assert len(history.points) == 181

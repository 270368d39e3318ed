"""Who carries a plan out is derived: from killed processes, odd clocks, a Redis that is silent."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import update

from storage.database.engine import Database
from storage.database.tables import PlanRow
from storage.dead_letters.plans import PlanRepository, UnfinishedPlan
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.lock import ExpiringLock
from tests.support.engine import MakeBench
from tests.support.operations import build_operations
from tests.support.plans import NOW, write
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from workers.engine.keys import PLAN
from workers.engine.policy import DEFAULT_POLICIES
from workers.errors import ConflictError
from workers.monitoring.plans import read_plans
from workers.operations.operations import ALL_DEAD, Operations, ReplayOptions

QUEUE = "color-extraction"
HOUR_MILLISECONDS = 3_600_000
LENGTH_MILLISECONDS = 6_000


def operations_on(url: str, database: Database) -> Operations:
    return build_operations(
        url,
        policies=[DEFAULT_POLICIES[QUEUE]],
        schemas={},
        database=database,
        letters=DeadLetterRepository(database),
        actor="ops@box-2",
    )


@pytest.fixture
async def operations(redis_url: str, database: Database) -> AsyncIterator[Operations]:
    made = operations_on(redis_url, database)
    yield made
    await made.close()


@pytest.mark.parametrize("way", ["a clock that was set back", "a key that does not expire"])
async def test_a_place_that_lives_longer_than_it_can_is_cut_short(redis: Redis, way: str) -> None:
    dead, other = ExpiringLock(redis, "place"), ExpiringLock(redis, "place")
    assert await dead.acquire_or_renew()
    if way == "a clock that was set back":
        await redis.pexpire("place", HOUR_MILLISECONDS)
    else:
        await redis.persist("place")
    assert not await other.acquire_or_renew()
    assert 0 < await redis.pttl("place") <= LENGTH_MILLISECONDS


@pytest.mark.slow
async def test_a_dead_holder_is_out_after_its_time_whatever_the_clock_did(redis: Redis) -> None:
    dead, other = ExpiringLock(redis, "place"), ExpiringLock(redis, "place")
    assert await dead.acquire_or_renew()
    await redis.pexpire("place", HOUR_MILLISECONDS)
    assert await other.wait_acquire()


async def test_a_living_holder_keeps_its_lock_against_another_process(redis: Redis) -> None:
    holder, other = ExpiringLock(redis, "place"), ExpiringLock(redis, "place")
    assert await holder.acquire_or_renew()
    await other.release()
    assert await ExpiringLock.held_names(redis, ["place", "nothing"]) == {"place"}
    await redis.pexpire("place", HOUR_MILLISECONDS)
    assert await ExpiringLock.held_names(redis, ["place"]) == {"place"}
    assert 0 < await redis.pttl("place") <= LENGTH_MILLISECONDS
    assert not await other.acquire_or_renew()


async def _killed(operations: Operations, redis_url: str, database: Database) -> int:
    """A plan whose process was killed while it carried the plan out."""
    await write(DeadLetterRepository(database), 40)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(rate=1.0))
    options = {"redis": redis_url, "database": str(database.engine.url), "queue": QUEUE, "plan": plan.id}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.replay_process", json.dumps(options)
    )

    async def runs() -> bool:
        now = await operations.replays.get_plan(plan.id)
        return now.standing == "running" and now.ledger.sent > 0

    await eventually(runs, within=60, what="the plan runs")
    process.kill()
    await process.wait()
    return plan.id


@pytest.mark.slow
async def test_a_plan_whose_process_was_killed_is_interrupted_and_goes_on(
    operations: Operations, redis: Redis, redis_url: str, database: Database
) -> None:
    plan_id = await _killed(operations, redis_url, database)
    await redis.pexpire(f"{PLAN}{plan_id}", HOUR_MILLISECONDS)  # as if the clock was set back by an hour

    async def interrupted() -> bool:
        return (await operations.replays.get_plan(plan_id)).standing == "interrupted"

    await eventually(interrupted, within=60, what="the plan is interrupted")
    (listed,) = await operations.replays.plans()
    assert (listed.state, listed.standing) == ("running", "interrupted")

    async def fires() -> bool:
        snapshot = await operations.snapshot()
        found = {(alert.name, alert.subject, alert.state) for alert in snapshot.alerts}
        assert snapshot.plans is not None
        return ("plan_interrupted", str(plan_id), "firing") in found and snapshot.plans["interrupted"] == 1

    await eventually(fires, within=30, what="the interrupted plan is an alert")
    plan = await operations.replays.start_plan(plan_id)
    assert plan.standing == "running"
    with pytest.raises(ConflictError, match="runs already"):
        await operations.replays.start_plan(plan_id)


@pytest.mark.slow
async def test_a_plan_is_never_seen_interrupted_while_it_begins_and_ends(
    make_bench: MakeBench, operations: Operations, database: Database
) -> None:
    await write(make_bench().letters, 60)
    seen: set[str] = set()
    ended = asyncio.Event()

    async def watch() -> None:
        while not ended.is_set():
            seen.update(plan.standing for plan in await operations.replays.plans())

    watching = [asyncio.create_task(watch()) for _ in range(3)]
    ids = [letter.id for letter in (await operations.dead_letters.page(ALL_DEAD, limit=60)).items]
    for number in range(5):
        plan = await operations.replays.create_plan(ids[number * 3 : number * 3 + 3])
        assert (await operations.replays.run_plan(plan.id)).state == "done"
    for letter_id in ids[30:34]:
        await operations.replays.replay(letter_id)
    ended.set()
    await asyncio.gather(*watching)
    assert seen <= {"frozen", "running", "done"}


async def _interrupted(operations: Operations, database: Database) -> int:
    """A plan that is marked as running, and that no process runs."""
    await write(DeadLetterRepository(database), 3)
    plan = await operations.replays.create_plan(ALL_DEAD)
    await PlanRepository(database).transition(plan.id, "running", from_states=["frozen"])
    async with database.begin() as connection:
        await connection.execute(update(PlanRow).values(created_at=NOW - timedelta(hours=1)))
    return plan.id


async def _plan_alerts(operations: Operations) -> tuple[list[str], dict[str, int]]:
    snapshot = await operations.snapshot()
    assert snapshot.plans is not None
    names = [f"{alert.name} {alert.state}" for alert in snapshot.alerts if alert.name.startswith("plan_")]
    return names, {state: count for state, count in snapshot.plans.items() if count}


async def test_a_plan_that_runs_again_is_not_interrupted_in_any_process_from_that_moment_on(
    operations: Operations, redis: Redis, redis_url: str, database: Database
) -> None:
    plan_id = await _interrupted(operations, database)
    other = operations_on(redis_url, database)
    try:
        for shown in (operations, other):
            assert await _plan_alerts(shown) == (["plan_interrupted firing"], {"interrupted": 1})
        lock = ExpiringLock(redis, f"{PLAN}{plan_id}")
        assert await lock.acquire_or_renew()
        for shown in (operations, other):
            assert await _plan_alerts(shown) == ([], {"running": 1})
    finally:
        await other.close()


async def test_a_plan_that_ends_while_the_plans_are_read_is_not_interrupted(
    operations: Operations, redis: Redis, database: Database
) -> None:
    plan_id = await _interrupted(operations, database)

    class EndsMeanwhile(PlanRepository):
        async def unfinished_plans(self, limit: int = 20) -> list[UnfinishedPlan]:
            plans = await super().unfinished_plans(limit)
            await self.transition(plan_id, "done", from_states=["running"])
            return plans

    overview = await read_plans(redis, EndsMeanwhile(database))
    assert (overview.conditions, dict(overview.counts)["done"]) == ([], 1)


async def test_a_plan_is_unknown_while_redis_is_silent(tmp_path: Path, database: Database) -> None:
    server = ValkeyServer(tmp_path)
    server.start()
    operations = operations_on(server.url, database)
    try:
        await write(DeadLetterRepository(database), 3)
        plan = await operations.replays.create_plan(ALL_DEAD)
        await PlanRepository(database).transition(plan.id, "running", from_states=["frozen"])
        async with database.begin() as connection:
            await connection.execute(update(PlanRow).values(created_at=NOW - timedelta(hours=1)))
        assert (await operations.replays.get_plan(plan.id)).standing == "interrupted"
        server.stop()
        assert (await operations.replays.get_plan(plan.id)).standing == "unknown"
        assert [listed.standing for listed in await operations.replays.plans()] == ["unknown"]
    finally:
        await operations.close()
        server.stop()

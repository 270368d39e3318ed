"""Checks of a process while no queue holds anything, and how few commands they send."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from storage.database.engine import Database
from storage.dead_letters.plans import PlanRepository
from storage.errors import DatabaseUnavailableError
from workers.engine.keys import CRON
from workers.engine.schedules import Schedule
from workers.process import idle_checks
from workers.process.idle_checks import IdleChecks


async def _no_jobs() -> dict[str, dict[str, Any]]:
    return {}


SCHEDULE = Schedule("weather", "*/15 * * * *", "weather-ingestion", _no_jobs)
MINUTE = 60


async def _sent(redis: Redis) -> int:
    return int((await redis.info("stats"))["total_commands_processed"])


@pytest.fixture
def plans(database: Database) -> PlanRepository:
    return PlanRepository(database)


async def test_while_nothing_is_wrong_the_checks_find_nothing_and_send_nothing(
    redis: Redis, plans: PlanRepository
) -> None:
    checks = IdleChecks([redis], count_seconds=3600, plans=plans, schedules={SCHEDULE: redis})
    await redis.hset(CRON, "weather", int((await redis.time())[0]))
    assert not await checks.find_reason()
    before = await _sent(redis)
    for _ in range(10):
        assert not await checks.find_reason()
    assert await _sent(redis) - before == 1, "the INFO that counts"


async def test_a_database_that_is_unavailable_or_silent_is_a_reason(
    redis: Redis, plans: PlanRepository, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = IdleChecks([redis], count_seconds=3600, plans=plans)

    async def hang(limit: int) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(idle_checks, "_DATABASE_SECONDS", 0.2)
        patched.setattr(plans, "unfinished_plans", hang)
        assert await checks.find_reason()
    assert not await checks.find_reason()
    database.mark_unavailable(DatabaseUnavailableError("does not answer", fix="start it", cause="refused"))
    assert await checks.find_reason()


async def test_a_database_that_refuses_writes_is_a_reason(redis: Redis, migrated_database_url: str) -> None:
    database, other = (Database(migrated_database_url, busy_seconds=0.1) for _ in range(2))
    checks = IdleChecks(
        [redis],
        count_seconds=3600,
        plans=PlanRepository(database),
        check_writes=database.check_writes,
    )
    assert not await checks.find_reason()
    if database.dialect == "sqlite":
        async with other.begin():
            assert await checks.find_reason()
    else:
        async with other.begin() as connection:
            name = await connection.scalar(text("SELECT current_database()"))
            await connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
        await database.engine.dispose()  # it holds for new sessions
        assert await checks.find_reason()
        async with other.begin() as connection:
            await connection.execute(text("SET TRANSACTION READ WRITE"))
            await connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))
        await database.engine.dispose()
    assert not await checks.find_reason()
    await database.close()
    await other.close()


async def test_a_plan_that_is_marked_as_running_is_a_reason(
    redis: Redis, plans: PlanRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = IdleChecks([redis], count_seconds=3600, plans=plans)

    async def unfinished(limit: int) -> list[str]:
        return ["a plan"][:limit]

    monkeypatch.setattr(plans, "unfinished_plans", unfinished)
    assert await checks.find_reason()


async def test_a_schedule_that_has_not_run_is_a_reason_once_it_is_missed(redis: Redis) -> None:
    now = int((await redis.time())[0])
    await redis.hset(CRON, "weather", now - 60 * MINUTE)
    assert await IdleChecks([redis], count_seconds=3600, schedules={SCHEDULE: redis}).find_reason()
    await redis.hset(CRON, "weather", now)
    checks = IdleChecks([redis], count_seconds=3600, schedules={SCHEDULE: redis})
    assert not await checks.find_reason()
    await redis.hset(CRON, "weather", now - 60 * MINUTE)
    assert not await checks.find_reason(), "it asks again only when the next run could be missed"
    checks._next_schedule_check = 0.0
    assert await checks.find_reason()


@pytest.mark.parametrize(
    ("minute", "second", "wait"), [(0, 0, 450), (7, 29, 1), (7, 30, 900), (8, 0, 870), (14, 59, 451)]
)
def test_a_run_is_missed_half_an_interval_after_its_occurrence(minute: int, second: int, wait: int) -> None:
    when = datetime(2026, 11, 28, 12, tzinfo=UTC) + timedelta(minutes=minute, seconds=second)
    assert idle_checks._seconds_until_late(SCHEDULE, int(when.timestamp())) == wait

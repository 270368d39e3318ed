"""A bulk replay whose process is killed in the middle, again and again."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from storage.database.engine import Database
from storage.dead_letters.filters import ALL_DEAD, LetterFilter
from storage.dead_letters.repository import DeadLetterRepository
from tests.support.databases import open_database
from tests.support.letters import letter
from tests.support.operations import build_operations
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from workers.engine.policy import DEFAULT_POLICIES
from workers.operations.operations import ReplayOptions
from workers.process.worker_process import WorkerProcess

pytestmark = pytest.mark.slow

_LETTERS = 10_000
_QUEUE = "color-extraction"


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    async with open_database(migrated_database_url) as database:
        yield database


async def _bury_all(letters: DeadLetterRepository) -> None:
    now = datetime.now(UTC)
    await letters.record(
        [
            letter(
                f"u{number}",
                queue_name=_QUEUE,
                function="extract_colors",
                failed_at=now - timedelta(seconds=number),
                job_data={"kwargs": {"number": number}},
            )
            for number in range(_LETTERS)
        ]
    )


async def _begin(redis_url: str, database_url: str, plan_id: int) -> asyncio.subprocess.Process:
    """Start a process that carries the plan out."""
    options = json.dumps({"redis": redis_url, "database": database_url, "queue": _QUEUE, "plan": plan_id})
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.replay_process", options, stdout=asyncio.subprocess.PIPE
    )


@pytest.mark.timeout(1200)
async def test_a_bulk_replay_killed_in_the_middle_enqueues_each_job_once(
    valkey: ValkeyServer, redis: Redis, database: Database, migrated_database_url: str, factor: float
) -> None:
    letters = DeadLetterRepository(database)
    await _bury_all(letters)
    policy = DEFAULT_POLICIES[_QUEUE]
    operations = build_operations(
        valkey.url, policies=[policy], schemas={}, database=database, letters=letters
    )
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(rate=4_000))
    ran: Counter[int] = Counter()

    async def handler(ctx: dict[str, Any], number: int) -> None:
        ran[number] += 1

    worker = WorkerProcess(valkey.url, policies=[policy], functions={_QUEUE: handler}, letters=letters)
    await worker.start()

    async def enqueued() -> int:
        return sum(ran.values()) + int(await redis.llen(f"saq:{_QUEUE}:queued"))

    async def more_than(jobs: float) -> bool:
        return await enqueued() > jobs

    kills = min(20, round(3 * factor))
    for number in range(kills):
        process, before = await _begin(valkey.url, migrated_database_url, plan.id), await enqueued()
        share = _LETTERS * 0.8 / kills * (0.2 + 0.7 * (number % 3) / 2)  # of the way that this one gets
        await eventually(lambda: more_than(before + share), within=60)  # noqa: B023 - called here only
        process.kill()
        await process.wait()
    ledger = (await operations.replays.get_plan(plan.id)).ledger
    assert ledger.waiting > 0, "it was killed in the middle"
    process = await _begin(valkey.url, migrated_database_url, plan.id)
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert output.split()[-1] == b"done"

    async def ended() -> bool:
        return (await operations.replays.get_plan(plan.id)).ledger.completed == _LETTERS

    await eventually(ended, within=60)
    assert len(ran) == _LETTERS
    assert set(ran.values()) == {1}
    assert await letters.count(LetterFilter(state="replayed")) == _LETTERS
    assert await redis.llen(f"saq:{_QUEUE}:queued") == 0
    worker.begin_drain()
    await worker.wait_drained()
    await worker.close()
    await operations.close()

"""Decisions about alerts that no worker process has recorded."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.repositories.alert_history import AlertHistoryRepository, FiringAlert
from tests.support.operations import BuiltOperations, build_operations
from tests.support.waiting import eventually
from workers.engine.keys import OBSERVED
from workers.engine.policy import COLOR, DEFAULT_POLICIES
from workers.errors import NotFoundError


@pytest.fixture
async def operations(
    redis_url: str, database: Database, letters: DeadLetterRepository
) -> AsyncIterator[BuiltOperations]:
    made = build_operations(
        redis_url,
        policies=[DEFAULT_POLICIES[COLOR]],
        schemas={},
        database=database,
        letters=letters,
        actor="anna",
    )
    yield made
    await made.close()


async def test_an_alert_that_fires_is_acknowledged_before_a_process_has_recorded_it(
    operations: BuiltOperations, redis: Redis, database: Database
) -> None:
    with pytest.raises(NotFoundError, match="no alert 'no_worker' fires: see alerts list"):
        await operations.alerts.acknowledge("no_worker")  # it is pending
    history = AlertHistoryRepository(database)
    other = FiringAlert("backlog", COLOR, "", "132 queued, limit 100", 132)
    await history.record([other], datetime.now(UTC))
    await redis.hset(OBSERVED, f"no_worker|{COLOR}|", int((time.time() - 60) * 1000))
    (marked,) = await operations.alerts.acknowledge("no_worker", reason="a deploy")
    assert (marked.alert, marked.queue, marked.acknowledged_by) == ("no_worker", COLOR, "anna")

    async def is_shown() -> bool:
        (alert,) = (await operations.snapshot()).alerts
        decided = (alert.state, alert.acknowledged_by, alert.acknowledge_reason)
        return alert.name == "no_worker" and decided == ("acknowledged", "anna", "a deploy")

    await eventually(is_shown)
    assert {record.alert for record in await history.firing_alerts(datetime.now(UTC))} == {
        "no_worker",
        "backlog",
    }
    assert await operations.alerts.acknowledge("no_worker", COLOR) == []

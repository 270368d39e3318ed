"""The parts that run beside the dispatchers of a whole process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.process.composition import open_appliance
from app.settings import load
from storage.database.events import NewEvent
from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.repository import DeadLetterRepository
from storage.repositories.alert_history import AlertHistoryRepository, FiringAlert
from storage.repositories.events import EventRepository
from tests.support.letters import letter
from tests.support.waiting import eventually
from workers.dead_letters import retention


async def test_a_process_archives_old_letters_and_deletes_old_events_and_alerts(
    redis_url: str, migrated_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_FIRST_CHECK_SECONDS", (0.0, 0.0))
    settings, policies = load(data_dir=tmp_path, redis_url=redis_url, database_url=migrated_database_url)
    now, alert = datetime.now(UTC), FiringAlert("redis", "", "", "Redis does not answer", None)
    async with open_appliance(settings, policies, run=["moderation-review"]) as opened:
        letters, events = DeadLetterRepository(opened.database), EventRepository(opened.database)
        alerts = AlertHistoryRepository(opened.database)
        await letters.record(
            [letter(f"{days} days", failed_at=now - timedelta(days=days)) for days in (31, 29)]
        )
        await events.record(
            [NewEvent("queue-paused", f"{days} days", at=now - timedelta(days=days)) for days in (31, 29)]
        )
        for days in (366, 364):
            await alerts.record([alert], now - timedelta(days=days))
            await alerts.record([], now - timedelta(days=days))
        assert opened.process is not None
        await opened.process.start()

        async def old_alert_is_deleted() -> bool:  # the last of all
            return len((await alerts.page(now)).items) == 1

        await eventually(old_alert_is_deleted)
        assert [one.uid for one in (await letters.page(LetterFilter(archived=True))).items] == ["31 days"]
        assert [one.uid for one in (await letters.page()).items] == ["29 days"]
        paused = [one.message for one in (await events.page()).items if one.kind == "queue-paused"]
        assert paused == ["29 days"]
        opened.process.begin_drain()
        await opened.process.wait_drained()

"""The life of an alert is written once, whoever writes, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from storage.database.engine import Database
from storage.errors import InvalidCursorError
from storage.repositories.alert_history import AlertHistoryRepository, FiringAlert

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BACKLOG = FiringAlert("backlog", "color-extraction", "", "132 queued, limit 100", 132.0)
REDIS = FiringAlert("redis", "", "", "Redis does not answer", None)


def later(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


@pytest.fixture
async def history(migrated_database_url: str) -> AsyncIterator[AlertHistoryRepository]:
    database = Database(migrated_database_url)
    await database.start()
    yield AlertHistoryRepository(database)
    await database.close()


async def test_an_alert_fires_once_with_its_peak_and_is_resolved_once(
    history: AlertHistoryRepository,
) -> None:
    changes = await history.record([BACKLOG, REDIS], NOON)
    assert {record.key for record in changes.fired} == {BACKLOG.key, REDIS.key}
    deeper = FiringAlert(*BACKLOG.key, "500 queued, limit 100", 500.0)
    less = FiringAlert(*BACKLOG.key, "90 queued, limit 100", 90.0)
    for alert in (deeper, less):
        changes = await history.record([alert, REDIS], later(1))
        assert (changes.fired, changes.resolved) == ([], [])
    (record,) = (record for record in changes.firing if record.alert == "backlog")
    assert (record.value, record.peak, record.message, record.fired_at) == (90, 500, less.message, NOON)
    changes = await history.record([REDIS], later(2))
    assert [(record.alert, record.state, record.resolved_at) for record in changes.resolved] == [
        ("backlog", "resolved", later(2))
    ]
    changes = await history.record([BACKLOG, REDIS], later(3))
    assert [record.fired_at for record in changes.fired] == [later(3)]


async def test_five_processes_at_once_report_each_change_once(history: AlertHistoryRepository) -> None:
    fired = await asyncio.gather(*(history.record([BACKLOG, REDIS], NOON) for _ in range(5)))
    assert sum(len(changes.fired) for changes in fired) == 2
    resolved = await asyncio.gather(*(history.record([], later(1)) for _ in range(5)))
    assert sum(len(changes.resolved) for changes in resolved) == 2


async def test_what_could_not_be_judged_stays_as_it_is(history: AlertHistoryRepository) -> None:
    await history.record([BACKLOG], NOON)
    changes = await history.record(
        [REDIS], later(1), judged=lambda record: record.alert in {"redis", "database"}
    )
    assert {record.alert for record in changes.firing} == {"backlog", "redis"}


async def test_an_acknowledged_alert_says_by_whom_until_it_ends(
    history: AlertHistoryRepository,
) -> None:
    await history.record([BACKLOG], NOON)
    (marked,) = await history.acknowledge("backlog", None, "ann", "a season\x00", later(1))
    assert (marked.state, marked.acknowledged_by) == ("acknowledged", "ann")
    assert marked.acknowledge_reason == "a season\\x00"
    assert await history.acknowledge("backlog", None, "bob", "", later(2)) == []
    assert (await history.decisions(later(2))).acknowledged == {BACKLOG.key: marked}
    await history.record([], later(3))
    await history.record([BACKLOG], later(4))
    assert (await history.decisions(later(4))).acknowledged == {}


async def test_a_silence_covers_what_fires_now_and_later_and_ends(history: AlertHistoryRepository) -> None:
    await history.record([BACKLOG], NOON)
    assert await history.silence(None, "color-extraction", later(10), "ann", "deploy", NOON) == 1
    slow = FiringAlert("slow", "color-extraction", "run", "slow", 3.0)
    changes = await history.record([BACKLOG, slow, REDIS], later(1))
    states = {record.alert: record.state for record in changes.firing}
    assert states == {"backlog": "silenced", "slow": "silenced", "redis": "firing"}
    (silence,) = (await history.decisions(later(2))).silences
    assert silence.covers("slow", "color-extraction")
    assert not silence.covers("slow", "")
    assert (await history.decisions(later(11))).silences == []
    assert await history.end_silences(None, "color-extraction", later(3)) == 1
    assert {record.state for record in await history.firing_alerts(NOON)} == {"firing"}


async def test_an_acknowledged_alert_is_so_again_when_its_silence_ends(
    history: AlertHistoryRepository,
) -> None:
    await history.record([BACKLOG], NOON)
    await history.acknowledge("backlog", None, "ann", "", NOON)
    await history.silence("backlog", None, later(10), "ann", "deploy", NOON)
    for moment, state in ((NOON, "silenced"), (later(11), "acknowledged")):
        assert {record.state for record in await history.firing_alerts(moment)} == {state}
    await history.silence("backlog", None, later(10), "ann", "deploy", NOON)
    await history.end_silences("backlog", None, NOON)
    assert {record.state for record in await history.firing_alerts(NOON)} == {"acknowledged"}


async def test_of_two_silences_the_longer_one_counts_whichever_came_first_or_ends_first(
    history: AlertHistoryRepository,
) -> None:
    await history.record([BACKLOG, REDIS], NOON)
    await history.silence("backlog", None, later(60), "ann", "rollout", NOON)
    assert await history.silence(None, None, later(10), "bob", "deploy", NOON) == 2
    states = {record.alert: record.state for record in await history.firing_alerts(later(11))}
    assert states == {"backlog": "silenced", "redis": "firing"}
    await history.silence("backlog", None, later(20), "bob", "deploy", NOON)
    await history.end_silences(None, None, later(1))
    (backlog,) = (record for record in await history.firing_alerts(later(2)) if record.alert == "backlog")
    assert (backlog.silenced_by, backlog.silenced_until) == ("ann", later(60))
    assert (backlog.state, backlog.silence_reason) == ("silenced", "rollout")


async def test_history_pages_are_newest_first_and_complete(history: AlertHistoryRepository) -> None:
    for minute in range(7):
        await history.record([BACKLOG], later(2 * minute))
        await history.record([], later(2 * minute + 1))
    seen, cursor = [], None
    while True:
        page = await history.page(NOON, limit=3, cursor=cursor)
        seen += [record.fired_at for record in page.items]
        if (cursor := page.next) is None:
            break
    assert seen == [later(2 * minute) for minute in reversed(range(7))]
    with pytest.raises(InvalidCursorError):
        await history.page(NOON, cursor="x")


async def test_old_alerts_and_silences_are_deleted_but_none_that_fires_or_silences(
    history: AlertHistoryRepository,
) -> None:
    year = timedelta(days=365)
    await history.silence("backlog", None, NOON + timedelta(minutes=1), "ada", "", NOON)
    await history.silence("redis", None, NOON + 2 * year, "ada", "", NOON)
    for minute in range(3):
        await history.record([REDIS, BACKLOG], later(2 * minute))
        await history.record([REDIS], later(2 * minute + 1))
    await history.record([REDIS, BACKLOG], later(6))
    await history.record([REDIS], NOON + year)
    assert await history.delete(later(6), limit=2) == 3, "two alerts and a silence"
    assert await history.delete(later(6), limit=2) == 1
    assert await history.delete(later(6)) == 0
    left = (await history.page(NOON + year)).items
    assert [(record.alert, record.fired_at) for record in left] == [("backlog", later(6)), ("redis", NOON)]
    assert [silence.alert for silence in (await history.decisions(NOON + year)).silences] == ["redis"]

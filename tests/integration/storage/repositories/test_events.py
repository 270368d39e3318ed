"""Events are written once, read newest first by keyset, and deleted after their time, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from storage.database.engine import Database
from storage.database.events import NewEvent
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import InvalidCursorError, InvalidFilterError
from storage.repositories.events import EventFilter, EventRepository
from storage.repositories.operator_actions import OperatorAction, OperatorActionRepository
from tests.support.databases import open_database
from tests.support.letters import letter

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    async with open_database(migrated_database_url) as database:
        yield database


def event(number: int, **fields: object) -> NewEvent:
    return NewEvent(
        **{"kind": "queue-paused", "message": f"e{number}", "at": NOON + timedelta(seconds=number)} | fields
    )  # type: ignore[arg-type]


async def _messages(events: EventRepository, **conditions: object) -> list[str]:
    page = await events.page(EventFilter.from_options(**conditions), limit=100)
    return [item.message for item in page.items]


async def test_pages_are_newest_first_and_complete(database: Database) -> None:
    events = EventRepository(database)
    assert await events.record([event(number // 3) for number in range(20)]) == 20  # several at one time
    seen, cursor = [], None
    while True:
        page = await events.page(limit=7, cursor=cursor)
        seen += page.items
        if (cursor := page.next) is None:
            break
    assert len({item.id for item in seen}) == 20
    assert [(item.at, item.id) for item in seen] == sorted(((e.at, e.id) for e in seen), reverse=True)


async def test_filters_by_kind_queue_and_time(database: Database) -> None:
    events = EventRepository(database)
    await events.record(
        [
            event(1, queue="alert-fanout", actor="anna", subject="7", detail={"n": [1, "x"]}),
            event(2, kind="worker-started"),
            event(3),
        ]
    )
    assert await _messages(events) == ["e3", "e2", "e1"]
    assert await _messages(events, kind="worker-started") == ["e2"]
    assert await _messages(events, queue="alert-fanout") == ["e1"]
    assert await _messages(events, since=NOON + timedelta(seconds=2)) == ["e3", "e2"]
    assert await _messages(events, until="2026-03-01T12:00:02") == ["e1"]
    (first,) = (await events.page(EventFilter(queue="alert-fanout"))).items
    assert (first.at, first.actor, first.subject, first.detail) == (
        NOON + timedelta(seconds=1),
        "anna",
        "7",
        {"n": [1, "x"]},
    )
    with pytest.raises(InvalidFilterError, match="kind: there is no such kind: use "):
        EventFilter.from_options(kind="nonsense")
    with pytest.raises(InvalidFilterError, match="since: use for instance 2h"):
        EventFilter.from_options(since="yesterday")


@pytest.mark.parametrize("cursor", ["x", "WyJmYWlsZWRfYXQiLCIyMDI2LTAzLTAxVDEyOjAwOjAwKzAwOjAwIiwxXQ"])
async def test_cursors_of_other_lists_are_refused(database: Database, cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        await EventRepository(database).page(cursor=cursor)


async def test_an_event_that_several_processes_see_is_written_once(database: Database) -> None:
    events = EventRepository(database)
    same = [event(number, dedupe=f"d{number}") for number in range(20)]
    written = await asyncio.gather(*(events.record(order) for order in (same, same[::-1], same)))
    assert sum(written) == 20
    assert await events.record([event(1), event(1)]) == 2  # without a key each is one of its own
    assert len(await _messages(events)) == 22


async def test_hostile_texts_are_one_line_and_short(database: Database) -> None:
    events = EventRepository(database)
    odd = "a\0b\ud800\nc" + "x" * 10_000
    await events.record(
        [event(1, message=odd, actor=odd, subject=odd, queue=odd, dedupe=odd, detail={odd: odd})]
    )
    (stored,) = (await events.page()).items
    assert len(stored.message) <= 500
    assert "\n" not in stored.message
    assert stored.subject is not None
    assert len(stored.subject) <= 200


async def test_what_was_recorded_later_follows(database: Database) -> None:
    events = EventRepository(database)
    assert await events.newest_id() == 0
    await events.record([event(5)])
    last = await events.newest_id()
    await events.record([event(1), event(2, kind="worker-started")])
    assert [item.message for item in await events.recorded_after(last)] == ["e1", "e2"]
    kinds = EventFilter(kind="worker-started")
    assert [item.message for item in await events.recorded_after(last, kinds)] == ["e2"]
    assert len(await events.recorded_after(0, limit=2)) == 2


async def test_old_events_are_deleted_in_batches_except_releases(database: Database) -> None:
    events = EventRepository(database)
    await events.record([event(0, kind="new-release"), *(event(number) for number in range(1, 11))])
    before = NOON + timedelta(seconds=8)
    assert [await events.delete(before, limit=5) for _ in range(3)] == [5, 2, 0]
    assert await _messages(events) == ["e10", "e9", "e8", "e0"]


async def test_pages_come_from_an_index(database: Database) -> None:
    events = EventRepository(database)
    await events.record([event(number) for number in range(3)])
    explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
    for condition, index in (
        ("at < '2030-01-01'", "ix_events_newest"),
        ("kind = 'x'", "ix_events_kind"),
        ("queue = 'x'", "ix_events_queue"),
    ):
        async with database.connect() as connection:
            if database.dialect == "postgresql":
                await connection.execute(text("SET LOCAL enable_seqscan = off"))
                await connection.execute(text("SET LOCAL enable_sort = off"))
            query = f"{explain} SELECT * FROM events WHERE {condition} ORDER BY at DESC, id DESC LIMIT 5"
            plan = " ".join(str(row) for row in (await connection.execute(text(query))).all())
        assert index in plan
        assert "TEMP B-TREE" not in plan


async def test_a_letter_and_an_action_are_recorded_whatever_becomes_of_their_event(
    database: Database,
) -> None:
    async with database.begin() as connection:
        await connection.execute(text("DROP TABLE events"))
    letters, actions = DeadLetterRepository(database), OperatorActionRepository(database)
    with capture_logs() as logged:
        assert await letters.record([letter()]) == 1
        await actions.record(OperatorAction(NOON, "anna", "pause", {}, 1, "", "done"), event(1))
        assert await EventRepository(database).record([event(2)]) == 0
    assert await letters.count() == 1
    assert len(await actions.newest()) == 1
    assert [line["kind"] for line in logged] == ["new-group", "queue-paused", "queue-paused"]
    assert {line["event"] for line in logged} == {"an event is recorded in this log only"}

"""A follower finds each event once, however late its transaction commits."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from storage.dead_letters.records import Page
from storage.repositories.events import ALL_EVENTS, MAX_EVENTS, Event, EventFilter, EventRepository
from workers.operations import events as events_module
from workers.operations.events import EventFollower

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


class _Events(EventRepository):
    def __init__(self, ids: Iterable[int] = ()) -> None:
        self.ids = set(ids)

    async def newest_id(self) -> int:
        return max(self.ids, default=0)

    async def page(
        self, event_filter: EventFilter = ALL_EVENTS, *, limit: int = 50, cursor: str | None = None
    ) -> Page[Event]:
        return Page([_event(id_) for id_ in sorted(self.ids, reverse=True)[:limit]], None)

    async def recorded_after(
        self, event_id: int, event_filter: EventFilter = ALL_EVENTS, *, limit: int = MAX_EVENTS
    ) -> list[Event]:
        return [_event(id_) for id_ in sorted(self.ids) if id_ > event_id][:limit]


def _event(event_id: int) -> Event:
    return Event(event_id, AT, "queue-paused", None, None, None, "paused", {})


def _ids(events: Iterable[Event]) -> list[int]:
    return [event.id for event in events]


async def test_the_newest_come_first_and_then_each_once() -> None:
    events = _Events(range(1, 31))
    follower = EventFollower(events, ALL_EVENTS)
    assert _ids(await follower.start(3)) == [28, 29, 30]
    assert _ids(await follower.poll()) == []
    events.ids |= {31, 33}
    assert _ids(await follower.poll()) == [31, 33]
    events.ids.add(32)  # its transaction began before that of 33
    assert _ids(await follower.poll()) == [32]
    assert _ids(await follower.poll()) == []


async def test_more_than_a_page_at_once_is_found() -> None:
    events = _Events([1])
    follower = EventFollower(events, ALL_EVENTS)
    await follower.start(0)
    events.ids |= set(range(2, 2 * MAX_EVENTS + 100))
    assert _ids(await follower.poll()) == list(range(2, 2 * MAX_EVENTS + 100))
    assert _ids(await follower.poll()) == []


async def test_events_of_long_ago_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    events = _Events(range(1, 5))
    follower = EventFollower(events, ALL_EVENTS)
    await follower.start(1)
    with monkeypatch.context() as patch:
        patch.setattr(events_module, "_LATE_SECONDS", -1.0)
        await follower.poll()
    assert (follower._settled_id, follower._found_at) == (4, {})
    events.ids.add(5)
    assert _ids(await follower.poll()) == [5]

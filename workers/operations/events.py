"""Reads events: what happened, and what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace

from storage.dead_letters.records import Page
from storage.repositories.events import ALL_EVENTS, MAX_EVENTS, Event, EventFilter, EventRepository
from workers.errors import UnknownQueueError
from workers.operations.secrets import DEFAULT_MASK, SecretMask

_LATE_SECONDS = 30.0
"""How long after an event another one with a lesser id may appear: its transaction began before."""
_MAX_LATE_IDS = 200
"""Ids before the newest one that may still appear when a follower starts."""


class EventOperations:
    """Every method raises StorageError if the database is unavailable."""

    def __init__(
        self, events: EventRepository, *, queues: Collection[str], mask: SecretMask = DEFAULT_MASK
    ) -> None:
        self._mask = mask
        self._events = events
        self._queues = queues

    async def page(
        self, event_filter: EventFilter = ALL_EVENTS, *, limit: int = 50, cursor: str | None = None
    ) -> Page[Event]:
        """Return one page, newest first.

        Raises UnknownQueueError, InvalidCursorError, ValueError (the limit).
        """
        self._check_queue(event_filter)
        page = await self._events.page(event_filter, limit=limit, cursor=cursor)
        return replace(page, items=[self._mask.event(event) for event in page.items])

    def follow(self, event_filter: EventFilter = ALL_EVENTS) -> EventFollower:
        """Return a follower of the events that the filter selects.  Raises UnknownQueueError."""
        self._check_queue(event_filter)
        return EventFollower(self._events, event_filter, self._mask)

    def _check_queue(self, event_filter: EventFilter) -> None:
        if event_filter.queue is not None and event_filter.queue not in self._queues:
            raise UnknownQueueError(event_filter.queue, tuple(self._queues))


class EventFollower:
    """Finds each event once, as it is written.

    An id is given when a transaction writes, and becomes visible when it commits.  So the events of the last
    seconds are read again, and those that were found before are left out.
    """

    def __init__(
        self, events: EventRepository, event_filter: EventFilter, mask: SecretMask = DEFAULT_MASK
    ) -> None:
        self._mask = mask
        self._events = events
        self._filter = event_filter
        self._settled_id = 0
        """Events up to this id have all been found."""
        self._found_at: dict[int, float] = {}
        """Loop time at which later ones were found, by id."""

    async def start(self, limit: int) -> list[Event]:
        """Return the newest events, at most ``limit``, the oldest first; `poll` has those that follow."""
        self._settled_id = max(0, await self._events.newest_id() - _MAX_LATE_IDS)
        await self.poll()  # before the page, so that none is missed between the two
        newest = (await self._events.page(self._filter, limit=limit)).items if limit else []
        now = asyncio.get_running_loop().time()
        self._found_at |= {event.id: now for event in newest if event.id > self._settled_id}
        return [self._mask.event(event) for event in newest[::-1]]

    async def poll(self) -> list[Event]:
        """Return the events that were written since the last call, in the order of their ids."""
        now = asyncio.get_running_loop().time()
        new: list[Event] = []
        last = self._settled_id
        while True:
            events = await self._events.recorded_after(last, self._filter)
            new += [event for event in events if event.id not in self._found_at]
            if len(events) < MAX_EVENTS:
                break
            last = events[-1].id
        self._found_at |= {event.id: now for event in new}
        settled = [id_ for id_, at in self._found_at.items() if at < now - _LATE_SECONDS]
        self._settled_id = max([self._settled_id, *settled])
        self._found_at = {id_: at for id_, at in self._found_at.items() if id_ > self._settled_id}
        return [self._mask.event(event) for event in new]

"""Stores events in the table ``events``: what happened, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import ColumnElement, Select, delete, func, literal, select, tuple_

from storage.database.engine import Database
from storage.database.events import EVENT_KINDS, EventKind, NewEvent, insert_events
from storage.database.tables import EventRow
from storage.dead_letters.filters import LocalTime, Text
from storage.dead_letters.queries import decode_cursor, encode_cursor
from storage.dead_letters.records import Page
from storage.errors import InvalidFilterError
from storage.sanitize import sanitize
from storage.validation import lower_first, validation_problems

MAX_EVENTS = 1_000
"""Largest number of events on one page."""
_ORDER = "events"
"""Name of the order of pages, which their cursors carry."""
_KEPT: EventKind = "new-release"
"""Never deleted, or a release that runs for longer than the retention would be new again."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; see `NewEvent`."""

    id: int
    at: datetime
    kind: str
    queue: str | None
    subject: str | None
    actor: str | None
    message: str
    detail: dict[str, Any]


class EventFilter(BaseModel):
    """Selects the events that meet all conditions; None sets none.

    ``since`` and ``until`` bound the time: from, and before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: EventKind | None = None
    queue: Text | None = None
    since: LocalTime | None = None
    until: LocalTime | None = None

    @classmethod
    def from_options(cls, **conditions: Any) -> EventFilter:
        """Raises InvalidFilterError, whose field is the condition."""
        try:
            return cls(**conditions)
        except ValidationError as error:
            problem = validation_problems(error)[0]
            if problem.type == "literal_error":
                raise InvalidFilterError(
                    "there is no such kind", field=problem.field, fix=f"use {', '.join(EVENT_KINDS)}"
                ) from None
            raise InvalidFilterError(lower_first(problem.problem), field=problem.field) from None


ALL_EVENTS = EventFilter()


class EventRepository:
    """Every method raises DatabaseUnavailableError if the database is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, events: Sequence[NewEvent]) -> int:
        """Write events; how many of them were not there before."""
        async with self._database.begin() as connection:
            return await insert_events(connection, self._database, events)

    async def page(
        self, event_filter: EventFilter = ALL_EVENTS, *, limit: int = 50, cursor: str | None = None
    ) -> Page[Event]:
        """Return a page, the newest first.

        ``limit`` is from 1 to 1,000.  Raises InvalidCursorError, ValueError.
        """
        if not 1 <= limit <= MAX_EVENTS:
            raise ValueError(f"limit: {limit} is not between 1 and {MAX_EVENTS}")
        c = EventRow.__table__.c
        query = _select(event_filter).order_by(c.at.desc(), c.id.desc()).limit(limit + 1)
        if cursor is not None:
            position = zip(decode_cursor(cursor, _ORDER), (c.at, c.id), strict=True)
            last = tuple_(*(literal(value, column.type) for value, column in position))
            query = query.where(tuple_(c.at, c.id) < last)
        events = await self._fetch(query)
        items = events[:limit]
        more = len(events) > limit
        return Page(items, encode_cursor(_ORDER, items[-1].at, items[-1].id) if more else None)

    async def recorded_after(
        self, event_id: int, event_filter: EventFilter = ALL_EVENTS, *, limit: int = MAX_EVENTS
    ) -> list[Event]:
        """Return the events with a greater id, in the order of their ids."""
        c = EventRow.__table__.c
        return await self._fetch(_select(event_filter, c.id > event_id).order_by(c.id).limit(limit))

    async def newest_id(self) -> int:
        """Return the id of the event that was recorded last; 0 if none was recorded."""
        async with self._database.connect() as connection:
            return (await connection.scalar(select(func.max(EventRow.id)))) or 0

    async def delete(self, before: datetime, *, limit: int = 500) -> int:
        """Delete at most ``limit`` events of before ``before``, but no new release; how many."""
        c = EventRow.__table__.c
        oldest = select(c.id).where(c.at < before, c.kind != _KEPT).order_by(c.at, c.id).limit(limit)
        async with self._database.begin() as connection:
            return (await connection.execute(delete(EventRow).where(c.id.in_(oldest)))).rowcount

    async def _fetch(self, query: Select[Any]) -> list[Event]:
        async with self._database.connect() as connection:
            return [Event(**row._mapping) for row in await connection.execute(query)]


def _select(event_filter: EventFilter, *conditions: ColumnElement[bool]) -> Select[Any]:
    c = EventRow.__table__.c
    query = select(*(c[name] for name in Event.__dataclass_fields__)).where(*conditions)
    if event_filter.kind is not None:
        query = query.where(c.kind == event_filter.kind)
    if event_filter.queue is not None:
        query = query.where(c.queue == sanitize(event_filter.queue))
    if event_filter.since is not None:
        query = query.where(c.at >= event_filter.since)
    if event_filter.until is not None:
        query = query.where(c.at < event_filter.until)
    return query

"""Events: what happened, the newest first."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from app.http.dependencies import ActorOperations
from app.http.models import QueueName, example
from app.http.routing import strict_router
from storage.database.events import EventKind
from storage.dead_letters.filters import Time
from storage.repositories.events import MAX_EVENTS, EventFilter

router = strict_router("events", "/api/v1/events")


class EventsQuery(BaseModel):
    """Selects a page of events; conditions hold together."""

    kind: EventKind | None = Field(None, description="Of one kind.")
    queue: QueueName | None = Field(None, description="Of one queue.")
    since: Time | None = Field(
        None,
        description="Then or later: a time, or how long ago: 30m, 2h, 7d.",
        examples=["2026-03-01T12:00:00Z"],
    )
    until: Time | None = Field(
        None, description="Before: a time, or how long ago.", examples=["2026-03-01T14:00:00Z"]
    )
    limit: int = Field(50, ge=1, le=MAX_EVENTS, description="Most items of the page.")
    cursor: str | None = Field(None, description="`next` of the page before.")


class EventItem(BaseModel):
    """Something that happened."""

    model_config = example(
        id=90,
        at="2026-03-01T12:00:00Z",
        kind="worker-draining",
        queue=None,
        subject="5f0c9a",
        actor="http:anna",
        message="box-2:4121 drains: 3 in flight",
        detail={},
    ) | ConfigDict(from_attributes=True)

    id: int
    at: datetime
    kind: str
    queue: str | None
    subject: str | None = Field(
        description="The id of what it is about: a plan, a worker, a fingerprint, a release."
    )
    actor: str | None = Field(description="Who caused it, if an operator did.")
    message: str = Field(description="One line.")
    detail: dict[str, Any]


class EventPage(BaseModel):
    """One page, the newest first."""

    model_config = ConfigDict(from_attributes=True)

    items: list[EventItem]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


@router.get(
    "",
    summary="Events, the newest first",
    response_description="One page.",
)
async def list_events(operations: ActorOperations, query: Annotated[EventsQuery, Query()]) -> EventPage:
    """Give `next` as `cursor` to get the following page.  Events are kept for 30 days."""
    event_filter = EventFilter(kind=query.kind, queue=query.queue, since=query.since, until=query.until)
    page = await operations.events.page(event_filter, limit=query.limit, cursor=query.cursor)
    return EventPage.model_validate(page)

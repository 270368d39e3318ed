"""Pause and resume a queue, for the whole cluster."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, Field

from app.http.route import Call, GivenBody, Reply

_LONGEST_REASON = 500  # characters


class Reason(GivenBody):
    """Why a queue is paused."""

    reason: str = Field("", max_length=_LONGEST_REASON, description="Shown to all who look.")


class Paused(BaseModel):
    """A queue of which nothing starts."""

    queue: str
    paused: bool = True
    by: str
    reason: str
    since: datetime | None


class Resumed(BaseModel):
    """A queue that runs."""

    queue: str
    paused: bool = False
    was_paused: bool = Field(description="Whether this changed anything.")


async def pause(call: Call) -> Reply:
    """Pause a queue; one that is paused gets the new reason."""
    queue = call.path.queue
    pause = await call.operations.pause(queue, call.body.reason)
    since = None if pause.since is None else datetime.fromtimestamp(pause.since, UTC)
    return Reply(Paused(queue=queue, by=pause.by, reason=pause.reason, since=since))


async def resume(call: Call) -> Reply:
    """Resume a queue."""
    queue = call.path.queue
    return Reply(Resumed(queue=queue, was_paused=await call.operations.resume(queue)))

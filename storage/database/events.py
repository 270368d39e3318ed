"""Events: what happened, and the statement that writes each of them once, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.engine import Database
from storage.database.errors import is_refusal
from storage.database.tables import EventRow
from storage.errors import one_line
from storage.sanitize import sanitize

log = structlog.get_logger(__name__)

EventKind = Literal[
    "alert-acknowledged",
    "alert-fired",
    "alert-resolved",
    "alert-silenced",
    "alert-unsilenced",
    "cache-evicted",
    "jobs-aborted",
    "jobs-advanced",
    "jobs-duplicated",
    "jobs-enqueued",
    "jobs-removed",
    "keys-repaired",
    "letters-archived",
    "letters-discarded",
    "letters-replayed",
    "letters-restored",
    "new-group",
    "new-release",
    "plan-cancelled",
    "plan-created",
    "plan-ended",
    "plan-halted",
    "plan-interrupted",
    "plan-paused",
    "plan-started",
    "queue-paused",
    "queue-resumed",
    "schedule-disabled",
    "schedule-enabled",
    "schedule-run",
    "worker-drained",
    "worker-draining",
    "worker-lost",
    "worker-resumed",
    "worker-returned",
    "worker-started",
]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)

SHORT_ID_CHARS = 8
"""Characters of a worker's id in a message; the subject has all of it."""
_MAX_MESSAGE_CHARS = 500
_MAX_NAME_CHARS = 200
"""Characters of a text in an index: on Postgres an entry of an index has at most 2,700 bytes."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that happened, as it is written.

    ``message`` is one line for people.  ``subject`` is the id of what the event is about: a plan, a worker,
    a fingerprint, a release.  ``actor`` is the operator who caused it, if one did.  Only the first of the
    events with the same ``dedupe`` is written.
    """

    kind: EventKind
    message: str
    queue: str | None = None
    subject: str | None = None
    actor: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    dedupe: str | None = None
    at: datetime = field(default_factory=_now)


EventSink = Callable[[NewEvent], None]
"""Has an event written soon; it neither waits nor raises."""


def ignore_event(event: NewEvent) -> None:
    """Ignore an event: the sink of a program that writes none."""


async def insert_events(connection: AsyncConnection, database: Database, events: Sequence[NewEvent]) -> int:
    """Write events; how many were not there before.

    They are inserted in the order of ``dedupe``, so that transactions which write the same ones cannot wait
    for each other.  Events that the database refuses, for instance for a missing right, are logged: the rest
    of the transaction is worth more.
    """
    if not events:
        return 0
    rows = [_to_row(event) for event in sorted(events, key=lambda event: event.dedupe or "")]
    statement = database.insert(EventRow, rows).on_conflict_do_nothing(index_elements=["dedupe"])
    try:
        async with connection.begin_nested():
            return len((await connection.execute(statement.returning(EventRow.id))).all())
    except DBAPIError as error:
        if not is_refusal(error):
            raise
        log_instead(events, one_line(error.orig))
        return 0


def log_instead(events: Sequence[NewEvent], error: str) -> None:
    """Log events that cannot be written, and why."""
    for event in events:
        log.warning(
            "an event is recorded in this log only",
            kind=event.kind,
            message=event.message,
            queue=event.queue,
            subject=event.subject,
            error=error,
        )


def _to_row(event: NewEvent) -> dict[str, Any]:
    row = sanitize(asdict(event))
    row["message"] = one_line(row["message"])[:_MAX_MESSAGE_CHARS]
    for name in ("queue", "subject", "actor", "dedupe"):
        row[name] = row[name] and row[name][:_MAX_NAME_CHARS]
    return row

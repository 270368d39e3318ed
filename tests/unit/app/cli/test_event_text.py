"""Events as plain text: which queue they are about."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.cli.render.events import event_lines, events_text
from storage.database.events import EventKind
from storage.repositories.events import Event


def event(kind: EventKind, message: str) -> Event:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    return Event(1, at, kind, "color-extraction", None, None, message, {})


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Jobs pile up: 150 queued, limit 100", "color-extraction  Jobs pile up: 150 queued, limit 100"),
        ("anna paused color-extraction", "anna paused color-extraction"),
    ],
)
def test_an_event_of_a_queue_names_it_once(message: str, shown: str) -> None:
    events = [event("alert-fired", message)]
    assert events_text(events).splitlines()[1].endswith(f"alert-fired  {shown}")
    assert event_lines(events).endswith(f"alert-fired         {shown}")

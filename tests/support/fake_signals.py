"""Plays the operations on alerts and events, and the history, for screens that must always look the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from storage.repositories.alert_history import AlertRecord
from storage.repositories.events import Event
from workers.operations.operations import Page

NOW = datetime(2026, 3, 1, 14, 32, 7, tzinfo=UTC)


def event(number: int, kind: str, message: str, **fields: Any) -> Event:
    """An event of so many minutes ago."""
    at = datetime.fromtimestamp(NOW.timestamp() - 60 * number, UTC)
    base: dict[str, Any] = {
        "id": 1_000 - number,
        "at": at,
        "kind": kind,
        "queue": None,
        "subject": None,
        "actor": None,
        "message": message,
        "detail": {},
    }
    return Event(**(base | fields))


class CannedAlerts:
    """Keeps what it was asked to do in ``done``."""

    def __init__(self, done: list[tuple[Any, ...]]) -> None:
        self.done = done
        self.records: list[AlertRecord] = []
        self.error: Exception | None = None

    async def history(self, *, limit: int = 50, cursor: str | None = None) -> Page[AlertRecord]:
        return Page(self.records[:limit], None)

    async def acknowledge(self, alert: str, queue: str | None = None, reason: str = "") -> list[AlertRecord]:
        self._acts("acknowledge", alert, queue)
        return []

    async def silence(
        self, alert: str | None, queue: str | None, seconds: float, reason: str = ""
    ) -> datetime:
        self._acts("silence", alert, queue, seconds, reason)
        return datetime.fromtimestamp(NOW.timestamp() + seconds, UTC)

    async def end_silence(self, alert: str | None, queue: str | None) -> int:
        self._acts("end silence", alert, queue)
        return 1

    def _acts(self, *what: Any) -> None:
        if self.error is not None:
            raise self.error
        self.done.append(what)


class CannedEvents:
    """A page of events, the newest first."""

    def __init__(self) -> None:
        self.kept: list[Event] = []
        self.asked = 0

    async def page(
        self, event_filter: Any = None, *, limit: int = 50, cursor: str | None = None
    ) -> Page[Event]:
        self.asked += 1
        found = [
            event
            for event in self.kept
            if event_filter is None
            or (event_filter.queue in (None, event.queue) and event_filter.kind in (None, event.kind))
        ]
        return Page(found[:limit], None)

"""Plays the operations on alerts and events, and the history, for screens that must always look the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol

from storage.repositories.alert_history import AlertRecord
from storage.repositories.events import Event
from workers.engine.history import History, Point
from workers.monitoring.snapshot import Snapshot
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
        self._note_change("acknowledge", alert, queue)
        return []

    async def silence(
        self, alert: str | None, queue: str | None, seconds: float, reason: str = ""
    ) -> datetime:
        self._note_change("silence", alert, queue, seconds, reason)
        return datetime.fromtimestamp(NOW.timestamp() + seconds, UTC)

    async def end_silence(self, alert: str | None, queue: str | None) -> int:
        self._note_change("end silence", alert, queue)
        return 1

    def _note_change(self, *what: Any) -> None:
        if self.error is not None:
            raise self.error
        self.done.append(what)


class CannedEvents:
    """A page of events, the newest first."""

    def __init__(self) -> None:
        self.kept: list[Event] = []
        self.asked = 0
        self.error: Exception | None = None

    async def page(
        self, event_filter: Any = None, *, limit: int = 50, cursor: str | None = None
    ) -> Page[Event]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        found = [
            event
            for event in self.kept
            if event_filter is None
            or (event_filter.queue in (None, event.queue) and event_filter.kind in (None, event.kind))
        ]
        start = int(cursor or 0)
        more = start + limit < len(found)
        return Page(found[start : start + limit], str(start + limit) if more else None)


class HasSnapshot(Protocol):
    now: Snapshot


def history(depth: int, *, minutes: int = 180, seed: int = 0) -> History:
    """A history that ends with this depth: it has risen for half an hour, and had waves before."""
    now = NOW.timestamp()
    points = []
    completed = failed = 0
    for minute in range(minutes, -1, -1):
        rise = depth * max(0.0, 1 - minute / 30)
        wave = (minute * (7 + seed)) % 11 if seed else (minute * 5) % 7
        completed += 40 + (minute * 13 + seed * 5) % 30
        failed += (minute * (3 + seed)) % 17 == 0
        counters = {
            "completed": completed,
            "failed": failed,
            "w5": completed // 3,
            "w9": completed // 9,
            "r12": completed // 2,
            "r15": completed // 20,
        }
        depth_then = depth if minute == 0 else int(rise) + (wave if minute > 30 else 0)
        points.append(Point(now - 60 * minute, depth_then, 3, counters))
    return History(points)


class CannedHistory:
    """Makes up the history of the queues of the present moment."""

    def __init__(self, operations: HasSnapshot) -> None:
        self._operations = operations
        self.asked: list[float] = []
        """The ranges, in seconds."""

    async def histories(self, queues: Any, seconds: float) -> dict[str, History]:
        self.asked.append(seconds)
        depths = {queue.name: queue.depth for queue in self._operations.now.queues}
        minutes = 180 if seconds <= 10_800 else 1_440
        return {
            name: history(depths[name], minutes=minutes, seed=number)
            for number, name in enumerate(queues)
            if name in depths
        }

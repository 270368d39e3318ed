"""Writes events in the background: nothing waits for the database."""

from __future__ import annotations

import asyncio

from storage.database.events import NewEvent, log_instead
from storage.errors import StorageError
from storage.repositories.events import EventRepository

_WRITE_SECONDS = 5.0
"""Timeout of writing what waits; after it, and after any error, the events are logged instead."""
_MAX_BATCH_EVENTS = 100


class EventLog:
    """Writes what is emitted, in order, by one task that runs while something waits."""

    def __init__(self, events: EventRepository) -> None:
        self.repository = events
        self._waiting: list[NewEvent] = []
        self._writing: asyncio.Task[None] | None = None

    def emit(self, event: NewEvent) -> None:
        """Write an event soon; for callers in the event loop."""
        self._waiting.append(event)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_waiting(), name="events")

    async def close(self) -> None:
        """Wait until what was emitted is written or logged."""
        if self._writing is not None:
            await asyncio.wait({self._writing})

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MAX_BATCH_EVENTS], self._waiting[_MAX_BATCH_EVENTS:]
            try:
                async with asyncio.timeout(_WRITE_SECONDS):
                    await self.repository.record(batch)
            except (StorageError, TimeoutError) as error:
                log_instead(batch, str(error) or "the database did not answer in time")
            except Exception as error:  # a defect must not end this task
                log_instead(batch, repr(error))

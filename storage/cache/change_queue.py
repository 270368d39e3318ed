"""Changes that wait to be delivered: each tag once, in order, and again until it is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from storage.backoff import Backoff
from storage.cache.tags import ALL_TAG
from storage.errors import one_line

log = structlog.get_logger(__name__)

_MAX_PENDING = 10_000
"""Tags that wait; if there are more, they are replaced by `ALL_TAG`."""
_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS = 0.25, 10.0
_OUTAGE_FAILURES = 3
"""Failures in a row after which other changes are not tried at once."""
_RESYNC = None
"""Stands in the queue for a resync."""


class ChangeQueue:
    """Calls ``on_change(tag)`` and ``on_resync()`` one at a time.

    A call that raises is retried after a growing delay; new changes are delivered before that.
    """

    def __init__(
        self, on_change: Callable[[str], Awaitable[None]], on_resync: Callable[[], Awaitable[None]]
    ) -> None:
        self._on_change = on_change
        self._on_resync = on_resync
        self._pending: dict[str | None, None] = {}
        self._failed: dict[str | None, None] = {}
        self._added = asyncio.Event()
        self._failing = False

    def add_resync(self) -> None:
        """Add a resync: changes may have been missed."""
        self._add(_RESYNC)

    def add(self, tag: str) -> None:
        """Add a change of something with this tag."""
        self._add(tag)

    def _add(self, change: str | None) -> None:
        self._failed.pop(change, None)
        self._pending[change] = None
        if len(self._pending) + len(self._failed) > _MAX_PENDING:
            resync = _RESYNC in self._pending or _RESYNC in self._failed
            self._pending = dict.fromkeys([_RESYNC, ALL_TAG] if resync else [ALL_TAG])
            self._failed = {}
        self._added.set()

    async def run(self) -> None:
        """Deliver changes until cancelled."""
        failures, delay = 0, _FIRST_RETRY_SECONDS
        backoff = Backoff(_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS)
        while True:
            await self._wait_for_pending(delay)
            if await self._deliver(next(iter(self._pending))):
                failures, delay = 0, _FIRST_RETRY_SECONDS
                backoff.reset()
                continue
            failures, delay = failures + 1, backoff.next()
            if failures >= _OUTAGE_FAILURES and self._pending:
                await asyncio.sleep(delay)

    async def _wait_for_pending(self, retry_seconds: float) -> None:
        """Return when there is a new change, or after ``retry_seconds`` if there are failed ones."""
        while not self._pending:
            self._added.clear()
            try:
                await asyncio.wait_for(self._added.wait(), retry_seconds if self._failed else None)
            except TimeoutError:
                self._pending, self._failed = self._failed, {}

    async def _deliver(self, change: str | None) -> bool:
        del self._pending[change]
        try:
            await (self._on_resync() if change is _RESYNC else self._on_change(change))
        except Exception as error:
            if not self._failing:
                tag, cause = change or "resync", one_line(error)
                log.warning("an invalidation failed, and is retried", tag=tag, cause=cause)
            self._failing = True
            if change not in self._pending:
                self._failed[change] = None
            return False
        if self._failing and not self._pending and not self._failed:
            self._failing = False
            log.info("all invalidations have succeeded again")
        return True

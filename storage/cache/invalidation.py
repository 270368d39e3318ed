"""Invalidations that Redis has not confirmed, which are retried until it does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import structlog

from storage.asyncio_tools import cancel_and_wait, consume_exception
from storage.backoff import Backoff
from storage.cache.entries import CacheKey
from storage.cache.store import RedisCacheStore
from storage.cache.tags import ALL_TAG
from storage.errors import CacheUnavailableError

log = structlog.get_logger(__name__)

_MAX_PENDING = 1_000
"""Tags kept; if there are more, all entries are invalidated instead."""
_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS = 0.25, 1.0


class PendingInvalidations:
    """Retries invalidations that may not have reached Redis.

    Until Redis has confirmed them this process must bypass the cache for the entries they cover.  The same
    task releases load locks whose grant may have been lost with the reply, so that other processes need not
    wait until they expire.
    """

    def __init__(self, store: RedisCacheStore) -> None:
        self._store = store
        self._tags: dict[str, int] = {}
        """Tags to invalidate, each with the number of its last change."""
        self._sequence = 0
        self._unconfirmed_locks: set[CacheKey] = set()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def covers(self, key: CacheKey) -> bool:
        """Return whether an invalidation of the entry is pending."""
        return bool(self._tags) and (ALL_TAG in self._tags or not self._tags.keys().isdisjoint(key.tags))

    def add(self, tags: Iterable[str]) -> None:
        """Retry an invalidation in the background."""
        self._sequence += 1
        self._tags |= dict.fromkeys(tags, self._sequence)
        if len(self._tags) > _MAX_PENDING:
            self._tags = {ALL_TAG: self._sequence}
        self._start()

    def lock_requested(self, key: CacheKey) -> None:
        """Note that a load lock was requested, and that its reply may be lost."""
        self._unconfirmed_locks.add(key)

    def lock_confirmed(self, key: CacheKey) -> None:
        """Note that the reply has arrived."""
        self._unconfirmed_locks.discard(key)

    def lock_unconfirmed(self) -> None:
        """Release the lock in the background: the reply is lost."""
        if len(self._unconfirmed_locks) > _MAX_PENDING:
            self._unconfirmed_locks.clear()  # they expire
        self._start()

    async def wait_until_delivered(self) -> None:
        """Wait until Redis has confirmed everything."""
        while self._task is not None and not self._task.done():
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Stop retrying; release load locks if Redis answers."""
        self._closed = True
        if self._task is not None:
            await cancel_and_wait([self._task])
        if self._tags:
            log.warning("the process ends before the cache's Redis took invalidations", tags=len(self._tags))
        with suppress(CacheUnavailableError):
            await self._release_locks()

    def _start(self) -> None:
        if not self._closed and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._retry())
            self._task.add_done_callback(consume_exception)

    async def _retry(self) -> None:
        backoff = Backoff(_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS)
        while self._tags or self._unconfirmed_locks:
            await asyncio.sleep(backoff.next())
            tags = dict(self._tags)
            try:
                if tags:
                    await self._store.invalidate(tags)
                await self._release_locks()
            except CacheUnavailableError:
                continue
            backoff.reset()
            # A tag that has changed again since it was sent stays pending.
            self._tags = {tag: number for tag, number in self._tags.items() if tags.get(tag) != number}
            log.info("the cache's Redis has taken the pending invalidations", tags=len(tags))

    async def _release_locks(self) -> None:
        while self._unconfirmed_locks:
            key = next(iter(self._unconfirmed_locks))
            await self._store.release_own_load_lock(key)
            self._unconfirmed_locks.discard(key)

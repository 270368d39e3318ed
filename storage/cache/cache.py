"""Read-through cache.

Concurrent misses share one load.  Stale values are served only if the load fails.  An invalidated value is
never served.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Generic, TypeVar

from storage.cache.entries import CacheKey
from storage.cache.invalidation import PendingInvalidations
from storage.cache.loading import LoadCoordinator, Loader
from storage.cache.stats import ReadCounter
from storage.cache.store import RedisCacheStore
from storage.cache.values import Cached, CachedValues, Source
from storage.errors import CacheUnavailableError

T = TypeVar("T")

FRESH_SECONDS = 60.0
"""Seconds for which an entry is fresh."""
EXPIRE_SECONDS = 900.0
"""Seconds until an entry expires; while it is stale it is served only if its load fails."""
LOAD_SECONDS = 10.0
"""Timeout of a load, in seconds."""
_MIN_TTL_SECONDS, _MAX_TTL_SECONDS = 0.001, 30 * 86_400.0

_OUTCOMES = {Source.FRESH: "hits", Source.LOADED: "misses", Source.STALE: "stale", Source.DIRECT: "errors"}


class Cache(Generic[T]):
    """Caches values of type ``kind`` (a pydantic model, or what a TypeAdapter takes) as JSON in ``store``.

    Create one per process and invalidate through it.  Invalidations that Redis has not confirmed are retried;
    until they succeed, this process bypasses the cache for the entries that they cover.
    """

    def __init__(
        self,
        store: RedisCacheStore,
        kind: type[T],
        *,
        fresh_seconds: float = FRESH_SECONDS,
        expire_seconds: float = EXPIRE_SECONDS,
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        self.store = store
        self._counter = ReadCounter()
        self._pending = PendingInvalidations(store)
        self._values = CachedValues(
            store,
            kind,
            self._pending,
            self._counter,
            fresh_seconds=fresh_seconds,
            expire_seconds=expire_seconds,
        )
        self._loads = LoadCoordinator(self._values, self._counter, timeout=load_seconds)

    @property
    def counts(self) -> Counter[str]:
        """Outcomes of this process' reads: hits, misses, stale, errors; and loads, load_failures."""
        return self._counter.totals

    async def close(self) -> None:
        """Cancel loads, stop retrying invalidations, and report the statistics."""
        await self._loads.close()
        await self._pending.close()
        await self.flush_stats()

    async def flush_stats(self) -> None:
        """Report how reads of this process ended; otherwise reads do that every few seconds."""
        counts = self._counter.take()
        try:
            await self.store.count(counts)
        except CacheUnavailableError:
            self._counter.restore(counts)

    async def get(self, key: CacheKey) -> T | None:
        """Return the value if it is fresh, else None."""
        cached = await self._values.read(key)
        if cached is None or not cached.fresh:
            self._counter.add("misses")
            return None
        self._counter.add("hits")
        return cached.value

    async def exists(self, key: CacheKey) -> bool:
        """Return whether there is a fresh value."""
        return await self.ttl(key) is not None

    async def ttl(self, key: CacheKey) -> float | None:
        """Return the seconds for which the value stays fresh; None if it is not cached."""
        entry = await self._values.read_entry(key)
        return entry.fresh_for if entry is not None and entry.fresh_for > 0 else None

    async def set(self, key: CacheKey, value: T, ttl: float | None = None) -> bool:
        """Store a value for ``ttl`` seconds; False if Redis did not take it.

        Prefer `get_or_load`, which does not store a value that was invalidated while it was computed.  Raises
        ValueError for a TTL that is not between a millisecond and 30 days.
        """
        fresh = self._values.fresh_seconds if ttl is None else ttl
        if not _MIN_TTL_SECONDS <= fresh <= _MAX_TTL_SECONDS:
            raise ValueError(f"a TTL of {fresh:g} s: use {_MIN_TTL_SECONDS:g} to {_MAX_TTL_SECONDS:g}")
        expire = self._values.expire_seconds if ttl is None else fresh
        lock_expire = max(expire, self._values.expire_seconds)
        data = self._values.encode(value)
        self._loads.detach(key)
        try:
            await self.store.remove(key)  # prevents a running load from storing an older value
            lock = await self.store.acquire_load_lock(key, self._loads.timeout, lock_expire)
            return await self.store.store(key, lock, data, fresh_seconds=fresh, expire_seconds=expire)
        except CacheUnavailableError as error:
            self._values.outages.record_failure("writes", error)
            return False

    async def delete(self, key: CacheKey) -> bool:
        """Remove an entry; whether there was one.  Raises CacheUnavailableError."""
        self._loads.detach(key)
        return await self.store.remove(key)

    async def get_or_load(self, key: CacheKey, loader: Loader[T]) -> Cached[T]:
        """Return a fresh value from the cache, else a loaded one; concurrent readers share the load.

        If the load fails or times out, a stale value is returned; without one, raises the error of
        ``loader``, or CacheLoadError.  While Redis is unavailable every value is loaded.
        """
        outcome = "misses"
        try:
            answer = await self._loads.get_or_load(key, loader)
            outcome = _OUTCOMES[answer.source]
            return answer
        finally:
            self._counter.add(outcome)

    async def invalidate(self, *tags: str) -> int | None:
        """Invalidate all entries that have one of ``tags``, in one round trip.

        Returns how many were removed at once; None if Redis is unavailable, and then it is retried.
        """
        self._loads.detach_tags(tags)
        try:
            return await self.store.invalidate(tags)
        except CacheUnavailableError as error:
            self._values.outages.record_failure("writes", error)
            self._pending.add(tags)
            return None
        except asyncio.CancelledError:  # the caller is gone, and the value has changed all the same
            self._pending.add(tags)
            raise

    async def wait_until_delivered(self) -> None:
        """Wait until Redis has confirmed all invalidations."""
        await self._pending.wait_until_delivered()

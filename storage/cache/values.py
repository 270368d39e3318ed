"""Values of one type in the cache's Redis."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

import structlog
from pydantic import TypeAdapter

from storage.cache.entries import CacheKey, LoadLock, StoredEntry
from storage.cache.invalidation import PendingInvalidations
from storage.cache.outages import OutageLog
from storage.cache.stats import ReadCounter
from storage.cache.store import RedisCacheStore
from storage.errors import CacheUnavailableError, one_line
from storage.json import dumps, loads

log = structlog.get_logger(__name__)

T = TypeVar("T")

_MAX_CAUSE_CHARS = 200


class Source(StrEnum):
    """The source of a value."""

    FRESH = "fresh"
    """From the cache."""
    LOADED = "loaded"
    STALE = "stale"
    """From the cache, after its load failed."""
    DIRECT = "direct"
    """Loaded while the cache's Redis was unavailable."""


@dataclass(frozen=True, slots=True)
class Cached(Generic[T]):
    """A value, its source, and its age in seconds."""

    value: T
    source: Source
    age: float = 0.0

    @property
    def stale(self) -> bool:
        """Whether it is older than it should be, since its load failed."""
        return self.source is Source.STALE

    @property
    def fresh(self) -> bool:
        """Whether it came from the cache and need not be loaded."""
        return self.source is Source.FRESH


class CachedValues(Generic[T]):
    """Reads and stores values of type ``kind``.

    While Redis is unavailable nothing is found and nothing is stored, and the outage is logged once.  The
    same holds for entries with a pending invalidation.
    """

    def __init__(
        self,
        store: RedisCacheStore,
        kind: type[T],
        pending: PendingInvalidations,
        counter: ReadCounter,
        *,
        fresh_seconds: float,
        expire_seconds: float,
    ) -> None:
        self.store = store
        self.outages = OutageLog()
        self.fresh_seconds = fresh_seconds
        self.expire_seconds = max(fresh_seconds, expire_seconds)
        self._kind = TypeAdapter(kind)
        self._pending = pending
        self._counter = counter

    async def read(self, key: CacheKey) -> Cached[T] | None:
        """Return the value, fresh or stale; None if it is not cached or Redis is unavailable."""
        return self._decode(key, await self.read_entry(key))

    async def read_entry(self, key: CacheKey) -> StoredEntry | None:
        """Like `read`, without decoding the value."""
        if self._pending.covers(key):
            return None
        counts = self._counter.take_due()
        try:
            entry = await self.store.read(key, counts)
        except CacheUnavailableError as error:
            self._counter.restore(counts)
            self.outages.record_failure("reads", error)
            return None
        self.outages.record_success("reads")
        return entry

    async def acquire_load_lock(
        self, key: CacheKey, lock_seconds: float
    ) -> tuple[LoadLock, Cached[T] | None]:
        """Request the right to load; the value comes with the reply.  Raises CacheUnavailableError."""
        if self._pending.covers(key):
            raise CacheUnavailableError("an invalidation of this entry is pending")
        self._pending.lock_requested(key)
        try:
            lock = await self.store.acquire_load_lock(key, lock_seconds, self.expire_seconds)
        except BaseException as error:  # also if it is cancelled
            self._pending.lock_unconfirmed()
            if isinstance(error, CacheUnavailableError):
                self.outages.record_failure("writes", error)
            raise
        self._pending.lock_confirmed(key)
        self.outages.record_success("writes")
        return lock, self._decode(key, lock.entry)

    async def release_load_lock(self, key: CacheKey, lock: LoadLock, pause_seconds: float = 0.0) -> None:
        """Release a lock, as `RedisCacheStore.release_load_lock`; if Redis is unavailable it expires."""
        try:
            await self.store.release_load_lock(key, lock, pause_seconds)
        except CacheUnavailableError as error:
            self.outages.record_failure("writes", error)

    async def store_loaded(self, key: CacheKey, lock: LoadLock, value: T) -> bool:
        """Store a value that was loaded under ``lock``; False if it is outdated already.

        True also if it cannot be stored: another load would not help.
        """
        try:
            data = self.encode(value)
            return await self.store.store(
                key, lock, data, fresh_seconds=self.fresh_seconds, expire_seconds=self.expire_seconds
            )
        except CacheUnavailableError as error:
            self.outages.record_failure("writes", error)
        except (TypeError, ValueError, RecursionError) as error:
            log.warning(
                "a value cannot be cached: it is not JSON",
                key=str(key),
                error=one_line(error)[:_MAX_CAUSE_CHARS],
            )
            await self.release_load_lock(key, lock)
        return True

    def encode(self, value: T) -> bytes:
        """Return a value as JSON.  Raises TypeError, ValueError, RecursionError."""
        return dumps(self._kind.dump_python(value, mode="json"))

    def _decode(self, key: CacheKey, entry: StoredEntry | None) -> Cached[T] | None:
        """Return the value of an entry; None if it is not of our type, so that it is replaced."""
        if entry is None:
            return None
        try:
            value = self._kind.validate_python(loads(entry.data))
        except (ValueError, RecursionError) as error:  # a ValidationError of pydantic is a ValueError
            log.warning(
                "a cache entry has another type, and is replaced",
                key=str(key),
                error=one_line(error)[:_MAX_CAUSE_CHARS],
            )
            return None
        return Cached(value, Source.FRESH if entry.fresh_for > 0 else Source.STALE, entry.age)

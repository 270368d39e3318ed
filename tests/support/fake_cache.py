"""A cache, made up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from tests.support.fake_moments import NASTY
from tests.support.fake_record import CannedRecord
from workers.errors import NotFoundError, ReadOnlyError
from workers.operations.cache import owner_of
from workers.operations.operations import (
    CacheEntry,
    CacheOverview,
    CachePage,
    CacheStats,
)

HIT_RATES = (None,) * 20 + tuple(0.55 + (n * 7 % 40) / 100 for n in range(40))
FIGURES = CacheStats(hits=45_210, misses=3_120, stale=14, errors=0, minutes=HIT_RATES)
CACHE = CacheOverview(
    url="rediss://cache.example.com:6379/0",
    dedicated=True,
    stats=FIGURES,
    memory_used=180 * 2**20,
    memory_limit=256 * 2**20,
    evicted=1_204,
    policy="volatile-lru",
)


def entry(key: str, **fields: Any) -> CacheEntry:
    return replace(CacheEntry(key, "fresh", 12.4, 887.6, 968), **fields)


ENTRIES = (
    entry("anna-1:lisboa:2026-03-01T12"),
    entry("anna-1:porto:2026-03-01T12", state="stale", age=64.0, ttl=836.0, size=1_204),
    entry("bruno-2:tromso:2026-03-01T12", state="outdated", age=312.0, ttl=588.0),
    entry(f"chidi-3:{'a-very-long-name-of-a-place-' * 4}:2026-03-01T15", size=2_600_000),
    entry(f"foreign {NASTY}", state="corrupt", age=None, ttl=0.0, size=7),
    entry("jos%C3%A9%3Ax:lisboa:2026-03-01T12", age=0.31, ttl=899.7),
)


class CannedCache:
    """Plays the operations on the cache; a page has as many entries as is said, and its cursors are rows."""

    def __init__(self, record: CannedRecord) -> None:
        self._record = record
        self.kept: list[CacheEntry] = list(ENTRIES)
        self.now = CACHE
        self.error: Exception | None = None
        self.asked: list[tuple[Any, ...]] = []
        """The reads, in their order."""
        self.page_size = 1_000
        self.value: Any = {"user_id": "anna-1", "preferences": {"style": NASTY}, "weather": None}
        self.door = asyncio.Event()
        """While it is not set, no page arrives."""
        self.door.set()

    def _note_read(self, *what: Any) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    def _note_change(self, *what: Any) -> None:
        if self._record.read_only:
            raise ReadOnlyError(str(what[0]))
        self._record.done.append(what)
        if self.error is not None:
            raise self.error

    def _go(self, gone: Sequence[CacheEntry]) -> int:
        self.kept = [entry for entry in self.kept if entry not in gone]
        return len(gone)

    async def overview(self) -> CacheOverview:
        self._note_read("overview")
        return self.now

    async def page(self, pattern: str = "*", *, cursor: str | None = None, limit: int = 50) -> CachePage:
        self._note_read("page", pattern, cursor)
        await self.door.wait()
        found = [entry for entry in self.kept if fnmatchcase(entry.key, pattern)]
        start = int(cursor or 0)
        end = start + self.page_size
        return CachePage(tuple(found[start:end][::-1]), str(end) if end < len(found) else None)

    async def get(self, key: str) -> tuple[CacheEntry, Any]:
        self._note_read("get", key)
        found = [entry for entry in self.kept if entry.key == key]
        if not found:
            raise NotFoundError(f"no cache entry {key!r}")
        return found[0], self.value

    async def keys_matching(self, pattern: str) -> list[str]:
        self._note_read("matching", pattern)
        return [entry.key for entry in self.kept if fnmatchcase(entry.key, pattern)]

    async def count_for_user(self, user_id: str) -> int:
        self._note_read("count", user_id)
        return len(self._entries_of(user_id))

    async def evict(self, keys: Sequence[str], *, pattern: str | None = None) -> int:
        self._note_change("evict", tuple(keys), pattern)
        return self._go([entry for entry in self.kept if entry.key in keys])

    async def evict_user(self, user_id: str) -> int:
        self._note_change("evict user", user_id)
        return self._go(self._entries_of(user_id))

    def _entries_of(self, user_id: str) -> list[CacheEntry]:
        return [entry for entry in self.kept if owner_of(entry.key) == user_id]

"""The verbs on the cache."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import punctuation
from typing import Any
from urllib.parse import quote, unquote

import orjson

from storage.cache.cache import Cache
from storage.cache.store import CacheEntry, CachePage, CacheStats
from storage.cache.tags import user
from storage.errors import CacheUnavailableError
from storage.redis.client import redact_url
from workers.errors import NotFoundError
from workers.operations.audit import Audit

_MAX_NAMED_KEYS = 10
"""Keys of an eviction that its record names."""
_GLOB = "*?["
"""What makes a pattern of a text."""
_IN_KEYS = "@._-+ :%"
"""What keys have as it is, beside letters and digits of ASCII; all else is written as %XX there."""


def glob_pattern(text: str) -> str:
    """The pattern that an operator means: all for nothing, else the text itself where it has ``*?[``.

    Other text is a part of keys.  Letters that keys have as %XX may be written as they are.
    """
    if any(sign in text for sign in _GLOB):
        return quote(text, safe=f"{punctuation} ", errors="surrogatepass")
    return f"*{quote(text, safe=_IN_KEYS, errors='surrogatepass')}*" if text else "*"


def owner_of(key: str) -> str:
    """Whose entry a listed key names."""
    return unquote(key.partition(":")[0])


@dataclass(frozen=True, slots=True)
class CacheOverview:
    """The cache at this moment.  Memory is that of its Redis, in bytes; None where it cannot be read."""

    url: str
    """Of its Redis, without its password."""
    dedicated: bool
    """Whether that Redis is the cache's alone."""
    stats: CacheStats
    memory_used: int | None
    memory_limit: int | None
    """None, too, where there is no limit."""
    evicted: int | None
    """Keys that the server has evicted since it started."""
    policy: str | None


class CacheOperations:
    """Everything raises CacheUnavailableError where the cache's Redis does not answer."""

    def __init__(self, cache: Cache[Any], url: str, *, dedicated: bool, audit: Audit) -> None:
        self._cache = cache
        self._url = redact_url(url)
        self._dedicated = dedicated
        self._audit = audit

    def as_actor(self, audit: Audit) -> CacheOperations:
        """The same verbs, for the acts of another."""
        view = copy.copy(self)
        view._audit = audit
        return view

    @property
    def counts(self) -> Mapping[str, int]:
        """How reads of this process ended: hits, misses, stale, errors; and loads, load_failures."""
        return self._cache.counts

    async def overview(self) -> CacheOverview:
        """Figures of the last hour, and the memory."""
        await self._cache.say()
        stats, info = await self._cache.store.figures(), await self._cache.store.about()
        return CacheOverview(
            url=self._url,
            dedicated=self._dedicated,
            stats=stats,
            memory_used=_whole(info.get("used_memory")),
            memory_limit=_whole(info.get("maxmemory")) or None,
            evicted=_whole(info.get("evicted_keys")),
            policy=info.get("maxmemory_policy"),
        )

    async def page(self, pattern: str = "*", *, cursor: str | None = None, limit: int = 50) -> CachePage:
        """Entries whose key fits ``pattern`` (as Redis has them: ``*``, ``?``, ``[ab]``); about ``limit``.

        A key is ``user:location:block``.  Raises InvalidCursorError.
        """
        return await self._cache.store.page(pattern, cursor=cursor, limit=limit)

    async def get(self, key: str) -> tuple[CacheEntry, Any]:
        """An entry with its value; text where that is no JSON.  Raises NotFoundError."""
        found = await self._cache.store.entry(key)
        if found is None:
            raise NotFoundError(f"no cache entry {key!r}")
        entry, data = found
        try:
            return entry, orjson.loads(data)
        except orjson.JSONDecodeError:
            return entry, data.decode("utf-8", "backslashreplace")

    async def keys_matching(self, pattern: str) -> list[str]:
        """The keys of all entries that fit ``pattern``: what `evict` takes."""
        return await self._cache.store.keys(pattern)

    async def count_for_user(self, user_id: str) -> int:
        """Entries of a user."""
        return await self._cache.store.count_of_user(user_id)

    async def evict(self, keys: Sequence[str], *, pattern: str | None = None) -> int:
        """Remove entries; how many there were.  ``pattern``, by which they were found, is for the record."""
        about = {"keys": list(keys[:_MAX_NAMED_KEYS])} if pattern is None else {"pattern": pattern}
        async with self._audit.record("cache evict", {**about, "entries": len(keys)}) as act:
            act.affected = await self._cache.store.evict(keys)
            act.outcome = f"{act.affected} of {len(keys)} evicted"
            return act.affected

    async def evict_user(self, user_id: str) -> int:
        """Remove every entry of a user, those that are being loaded now with them; how many there were."""
        async with self._audit.record("cache evict-user", {"user": user_id}) as act:
            removed = await self.invalidate(user(user_id))
            if removed is None:
                raise CacheUnavailableError(
                    f"the cache's Redis ({self._url}) does not answer: while this process runs, it is told "
                    "as soon as it does; until then other processes may serve what they have for a minute"
                )
            act.affected = removed
            return removed

    async def invalidate(self, *subjects: str) -> int | None:
        """These have changed: for programs, which are no operators who act; as `storage.cache.cache`."""
        return await self._cache.invalidate(*subjects)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None

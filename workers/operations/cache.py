"""The operator's verbs on the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from string import punctuation
from typing import Any
from urllib.parse import quote, unquote

import orjson

from storage.cache.cache import Cache
from storage.cache.entries import CacheEntry, CachePage
from storage.cache.stats import CacheStats
from storage.cache.tags import user_tag
from storage.errors import CacheUnavailableError
from storage.redis.client import redact_url
from workers.errors import NotFoundError
from workers.monitoring.alert_rules import DEFAULTS, REDIS_MEMORY, Thresholds
from workers.operations.audit import Audit
from workers.operations.secrets import DEFAULT_MASK, SecretMask

MAX_USER_ID_CHARS = 200
_MAX_NAMED_KEYS = 10
"""Keys of an eviction that its record names."""
_GLOB_CHARS = "*?["
"""A text with one of these is a pattern."""
_CHARS_OF_KEYS = "@._-+ :%"
"""Characters that keys hold unescaped, besides ASCII letters and digits; everything else is %XX in keys."""


def glob_pattern(text: str) -> str:
    """Return the pattern for an operator's input: all for nothing, the text itself if it has ``*?[``.

    Any other text matches keys that contain it.  It may hold letters that keys have as %XX.
    """
    if any(sign in text for sign in _GLOB_CHARS):
        return quote(text, safe=f"{punctuation} ", errors="surrogatepass")
    return f"*{quote(text, safe=_CHARS_OF_KEYS, errors='surrogatepass')}*" if text else "*"


def owner_of(key: str) -> str:
    """Return the user whose entry this key names."""
    return unquote(key.partition(":")[0])


def user_id_problem(user_id: str) -> str:
    """Why no user can have this id, as what to do instead; empty if one can."""
    is_possible = 0 < len(user_id) <= MAX_USER_ID_CHARS and "\0" not in user_id
    return "" if is_possible else f"use 1 to {MAX_USER_ID_CHARS} characters without NUL"


@dataclass(frozen=True, slots=True)
class CacheOverview:
    """The cache now.  Memory is that of its Redis, in bytes; None if it cannot be read."""

    url: str
    """URL of its Redis, without its password."""
    dedicated: bool
    """Whether that Redis holds the cache only."""
    stats: CacheStats
    memory_used: int | None
    memory_limit: int | None
    """Bytes; None if there is no limit, too."""
    evicted: int | None
    """Keys that the server has evicted since it started."""
    policy: str | None
    nearly_full: float = DEFAULTS.limit(REDIS_MEMORY)
    """Share of the memory limit above which a Redis that holds jobs, too, is nearly full."""

    def to_fields(self) -> dict[str, Any]:
        """Return all figures by the names that commands and HTTP give them."""
        fields = asdict(self)
        del fields["nearly_full"]
        stats, own = fields.pop("stats"), fields.pop("dedicated")
        return {"url": fields.pop("url"), "own": own, **fields, "hit_rate": self.stats.hit_rate, **stats}


class CacheOperations:
    """Everything raises CacheUnavailableError if the cache's Redis does not answer."""

    def __init__(
        self,
        cache: Cache[Any],
        url: str,
        *,
        dedicated: bool,
        audit: Audit,
        thresholds: Thresholds = DEFAULTS,
        mask: SecretMask = DEFAULT_MASK,
    ) -> None:
        self._cache = cache
        self._mask = mask
        self._nearly_full = thresholds.limit(REDIS_MEMORY)
        self._url = redact_url(url)
        self._dedicated = dedicated
        self._audit = audit

    @property
    def counts(self) -> Mapping[str, int]:
        """Reads of this process by their end (hits, misses, stale, errors), and loads, load_failures."""
        return self._cache.counts

    async def overview(self) -> CacheOverview:
        """Return the statistics of the last hour, and the memory."""
        await self._cache.flush_stats()
        stats, info = await self._cache.store.stats(), await self._cache.store.server_info()
        return CacheOverview(
            url=self._url,
            dedicated=self._dedicated,
            stats=stats,
            memory_used=info.used_memory,
            memory_limit=info.max_memory or None,
            evicted=info.evicted_keys,
            policy=info.eviction_policy or None,
            nearly_full=self._nearly_full,
        )

    async def page(self, pattern: str = "*", *, cursor: str | None = None, limit: int = 50) -> CachePage:
        """Return about ``limit`` entries whose key matches ``pattern`` (``*``, ``?``, ``[ab]``).

        A key is ``user:location:block``.  Raises InvalidCursorError.
        """
        return await self._cache.store.page(pattern, cursor=cursor, limit=limit)

    async def get(self, key: str, *, reveal: bool = False) -> tuple[CacheEntry, Any]:
        """Return an entry with its value, as text if it is not JSON; ``reveal``: with its secrets.

        Raises NotFoundError.
        """
        stored = await self._cache.store.entry(key)
        if stored is None:
            raise NotFoundError(f"no cache entry {key!r}")
        entry, data = stored
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            value = data.decode("utf-8", "backslashreplace")
        return entry, value if reveal else self._mask.value(value)

    async def keys_matching(self, pattern: str) -> list[str]:
        """Return the keys of all entries that match ``pattern``, for `evict`."""
        return await self._cache.store.keys(pattern)

    async def existing_keys(self, keys: Sequence[str]) -> list[str]:
        """Return the ``keys`` whose entries exist, for `evict`."""
        return await self._cache.store.existing_keys(keys)

    async def count_for_user(self, user_id: str) -> int:
        """Return the number of a user's entries."""
        return await self._cache.store.count_for_user(user_id)

    async def evict(self, keys: Sequence[str], *, pattern: str | None = None) -> int:
        """Remove entries; how many existed.  The record names ``pattern`` if the keys were found by one."""
        selection = {"keys": list(keys[:_MAX_NAMED_KEYS])} if pattern is None else {"pattern": pattern}
        async with self._audit.record("cache evict", {**selection, "entries": len(keys)}) as action:
            action.affected = await self._cache.store.evict(keys)
            action.outcome = f"{action.affected} of {len(keys)} evicted"
            return action.affected

    async def evict_matching(self, pattern: str, *, dry_run: bool = False) -> int:
        """Remove all entries that match ``pattern``, as `page` takes it; how many existed."""
        keys = await self.keys_matching(pattern)
        return len(keys) if dry_run else await self.evict(keys, pattern=pattern)

    async def evict_user(self, user_id: str) -> int:
        """Remove every entry of a user, also those that are being loaded now; how many existed."""
        async with self._audit.record("cache evict-user", {"user": user_id}) as action:
            removed = await self.invalidate(user_tag(user_id))
            if removed is None:
                raise CacheUnavailableError(
                    f"the cache's Redis ({self._url}) does not answer: this process retries until it does; "
                    "until then other processes may serve cached values for a minute"
                )
            action.affected = removed
            return removed

    async def invalidate(self, *tags: str) -> int | None:
        """Invalidate entries by tag, without an audit record: for programs.  See `storage.cache.cache`."""
        return await self._cache.invalidate(*tags)

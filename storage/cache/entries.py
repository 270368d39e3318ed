"""Cache entries: their keys in Redis, their format, and the rows of a list.

Every key has a TTL and begins with `PREFIX`.  An entry is one line of JSON, its header, and then its value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import orjson

from storage.cache.tags import ALL_TAG, user_tag

PREFIX = "couturecast:cache:"
"""Begins every key of the cache."""
ENTRY = f"{PREFIX}entry:"
LOAD = f"{PREFIX}load:"
"""Begins the keys of load locks, each of which is followed by the key of an entry."""
VERSION = f"{PREFIX}generation:"
"""Begins the keys of tags' versions."""
HEADER_BYTES = 4_096
"""Upper limit of a header's size."""

_OWNED = f"{PREFIX}owned:"

_PTTL_NO_KEY, _PTTL_NO_EXPIRY = -2, -1


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Names an entry: its owner, its name among the owner's entries, and the tags it has besides."""

    user_id: str
    name: str
    extra_tags: tuple[str, ...] = ()

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags of the entry, always in the same order."""
        return (ALL_TAG, user_tag(self.user_id), *self.extra_tags)

    def __str__(self) -> str:
        """Return the key as lists show it: ``user:name``, with special characters of patterns as %XX."""
        return f"{_quote(self.user_id)}:{_quote(self.name, ':')}"


@dataclass(frozen=True, slots=True)
class EntryHeader:
    """The first line of an entry."""

    fresh: float
    """Seconds for which it is fresh after it was stored."""
    kept: float
    """Seconds until it expires, from when it was stored."""
    versions: Mapping[str, str]
    """Versions of its tags when its load began, by the tag as it is written in a version's key."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """A valid entry: no tag of it was invalidated since its load began."""

    data: bytes
    age: float
    """Seconds since it was stored."""
    fresh_for: float
    """Seconds for which it stays fresh; negative if it is stale."""


@dataclass(frozen=True, slots=True)
class LoadLock:
    """The reply to a request for the right to load an entry."""

    outcome: str
    """``load``: granted; ``wait``: another process loads; ``failed``: another's load failed just now."""
    token: str
    """Proves the right when the value is stored or the lock released."""
    versions: Mapping[str, str]
    """Versions of the entry's tags, by tag."""
    entry: StoredEntry | None
    """The entry, fresh or stale, if there is one."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One row of a list."""

    key: str
    state: str
    """``fresh``, ``stale``, ``outdated`` (invalidated and not removed yet) or ``corrupt``."""
    age: float | None
    """Seconds since it was stored."""
    ttl: float
    """Seconds until it expires."""
    size: int
    """Bytes of the entry."""


@dataclass(frozen=True, slots=True)
class CachePage:
    """Entries, and the cursor of the next page; None after the last page."""

    items: tuple[CacheEntry, ...]
    next: str | None


def entry_key(key: CacheKey) -> str:
    """Return the Redis key of an entry."""
    return f"{ENTRY}{key}"


def load_lock_key(key: CacheKey) -> str:
    """Return the Redis key of an entry's load lock."""
    return f"{LOAD}{key}"


def owner_index_key(user_id: str) -> str:
    """Return the Redis key of the sorted set that lists a user's entries."""
    return _OWNED + _quote(user_id)


def version_key(tag: str) -> str:
    """Return the Redis key of a tag's version."""
    return VERSION + quote_tag(tag)


def display_key(key: bytes) -> str:
    """Return the listed key of an entry, from its Redis key."""
    return key.decode("utf-8", "backslashreplace").removeprefix(ENTRY)


def quote_tag(tag: str) -> str:
    """Return a tag as it is written in a version's key."""
    return _quote(tag, ":")


def encode_header(header: EntryHeader) -> bytes:
    """Return the first line of an entry, with its line end."""
    values = {"fresh": header.fresh, "kept": header.kept, "under": dict(header.versions)}
    return orjson.dumps(values) + b"\n"


def decode_header(body: bytes) -> EntryHeader | None:
    """Return the header in the first line of an entry; None if it is not valid."""
    line, end, _ = body.partition(b"\n")
    try:
        header: Any = orjson.loads(line) if end else None
        fresh, kept = float(header["fresh"]), float(header["kept"])
        versions = {str(tag): str(version) for tag, version in header["under"].items()}
        return EntryHeader(fresh, kept, versions) if math.isfinite(fresh) and math.isfinite(kept) else None
    except (orjson.JSONDecodeError, TypeError, ValueError, LookupError, AttributeError, OverflowError):
        return None


def valid_entry(
    body: bytes, header: EntryHeader, ttl_ms: int, versions: Mapping[str, bytes | None]
) -> StoredEntry | None:
    """Return the entry if its tags still have the versions of its header.

    ``versions`` are the current ones.
    """
    current = {quote_tag(tag): _text(version) for tag, version in versions.items()}
    if current != header.versions:
        return None
    age = max(0.0, header.kept - ttl_ms / 1000)
    return StoredEntry(body.partition(b"\n")[2], age, header.fresh - age)


def list_row(
    key: bytes, header: EntryHeader | None, size: object, ttl_ms: int, versions: Mapping[str, str]
) -> CacheEntry | None:
    """Return the row of an entry; None if it is gone.  ``versions`` are the current ones of all tags."""
    if ttl_ms == _PTTL_NO_KEY:
        return None
    name, ttl, bytes_ = display_key(key), max(0.0, ttl_ms / 1000), size if isinstance(size, int) else 0
    if header is None or ttl_ms == _PTTL_NO_EXPIRY:
        return CacheEntry(name, "corrupt", None, ttl, bytes_)
    age = max(0.0, header.kept - ttl)
    if any(versions.get(tag) != version for tag, version in header.versions.items()):
        state = "outdated"
    else:
        state = "fresh" if age < header.fresh else "stale"
    return CacheEntry(name, state, age, ttl, bytes_)


@lru_cache(maxsize=4_096)
def _quote(text: str, safe: str = "") -> str:
    return quote(text, safe=f"@._-+ {safe}", errors="surrogatepass")


def _text(version: bytes | None) -> str | None:
    return None if version is None else version.decode("utf-8", "replace")

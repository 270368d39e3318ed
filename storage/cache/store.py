"""Reads, loads, invalidates and lists cache entries in Redis.

An entry belongs to a user and has tags: its user, perhaps others, and ``all``.  Each tag has a version, a
key whose random value is never used twice.  An entry stores the versions its load began with, and is valid
only while all of them are current.  An invalidation deletes the version of a tag, so it needs one command,
whatever is written or evicted at the same time.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any

import structlog
from redis.exceptions import RedisError, ResponseError

from storage.cache.entries import (
    ENTRY,
    HEADER_BYTES,
    LOAD,
    VERSION,
    CacheEntry,
    CacheKey,
    CachePage,
    EntryHeader,
    LoadLock,
    StoredEntry,
    decode_header,
    display_key,
    encode_header,
    entry_key,
    list_row,
    load_lock_key,
    owner_index_key,
    quote_tag,
    valid_entry,
    version_key,
)
from storage.cache.stats import CacheStats, LastHour, count_call, minute_key, parse_counts
from storage.errors import UNREACHABLE_FIX, CacheUnavailableError, InvalidCursorError, one_line
from storage.redis.info import ServerInfo
from storage.redis.refusals import fix_of, problem_of, refusal_of
from storage.redis.scripts import Argument, PipelineExecutor, Script, ScriptCall, run_scripts

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 1.0
"""Timeout of a command: the loader may be faster than a slow Redis."""
_BACKOFF_SECONDS = 0.5
"""Seconds without commands after Redis did not answer."""
_SCAN_COUNT = 1_000
"""Keys that one SCAN examines; they may be those of jobs."""
_MAX_SCANS = 100
"""SCANs of one page: it may have fewer entries than its limit, and still a next page."""
_MAX_POSITION = 2**64 - 1
"""Largest position of a SCAN: Redis refuses a larger one."""
_MAX_UNLINK_KEYS = 1_000
"""Entries that one command removes."""

_GET_SCRIPT = Script.load(__name__, "get")
_ACQUIRE_SCRIPT = Script.load(__name__, "acquire_load_lock")
_STORE_SCRIPT = Script.load(__name__, "store")
_RELEASE_SCRIPT = Script.load(__name__, "release_load_lock")
_INVALIDATE_SCRIPT = Script.load(__name__, "invalidate")


class RedisCacheStore:
    """The cache's entries in Redis.  Every method raises CacheUnavailableError if Redis does not answer."""

    def __init__(self, redis: PipelineExecutor) -> None:
        self._redis = redis
        self._retry_at = 0.0
        self._process = secrets.token_hex(8)
        self._last_hour = LastHour()

    async def read(self, key: CacheKey, counts: Mapping[str, int] | None = None) -> StoredEntry | None:
        """Return the entry if it is valid.

        ``counts``, by outcome, are added to the statistics in the same call.
        """
        calls = [_GET_SCRIPT.call([entry_key(key), *map(version_key, key.tags)])]
        if counts:
            calls.append(count_call(counts))
        body, ttl_ms, *versions = (await self._run(calls))[0]
        return await self._valid_entry(key, body, ttl_ms, dict(zip(key.tags, versions, strict=True)))

    async def count(self, counts: Mapping[str, int]) -> None:
        """Add numbers of reads, by outcome, to the statistics."""
        if counts:
            await self._run([count_call(counts)])

    async def acquire_load_lock(self, key: CacheKey, lock_seconds: float, expire_seconds: float) -> LoadLock:
        """Request the right to load an entry, which will expire ``expire_seconds`` after it is stored.

        The lock expires after ``lock_seconds``.  Its holder is granted it again.
        """
        keys = [entry_key(key), load_lock_key(key), *map(version_key, key.tags)]
        # A version outlives the entries that were loaded under it; if it is evicted, they are misses.
        version_ms = _ms(lock_seconds) + 2 * _ms(expire_seconds)
        args: list[Argument] = [self._process, _ms(lock_seconds), version_ms, secrets.token_hex(8)]
        (reply,) = await self._run([_ACQUIRE_SCRIPT.call(keys, args)])
        outcome, token, body, ttl_ms, *replied = reply
        versions = dict(zip(key.tags, replied, strict=True))
        names = {tag: version.decode() for tag, version in versions.items()}
        entry = await self._valid_entry(key, body, ttl_ms, versions)
        return LoadLock(outcome.decode(), token.decode(), names, entry)

    async def store(
        self, key: CacheKey, lock: LoadLock, data: bytes, *, fresh_seconds: float, expire_seconds: float
    ) -> bool:
        """Store a loaded value.  False if one of its tags was invalidated since the load began."""
        keys = [entry_key(key), load_lock_key(key), owner_index_key(key.user_id)]
        keys += map(version_key, key.tags)
        versions = {quote_tag(tag): version for tag, version in lock.versions.items()}
        body = encode_header(EntryHeader(fresh_seconds, expire_seconds, versions)) + data
        args: list[Argument] = [lock.token, body, _ms(expire_seconds)]
        args += (lock.versions[tag] for tag in key.tags)
        (stored,) = await self._run([_STORE_SCRIPT.call(keys, args)])
        return bool(stored)

    async def release_load_lock(self, key: CacheKey, lock: LoadLock, pause_seconds: float = 0.0) -> None:
        """Release the lock of a load that stored nothing.

        For ``pause_seconds`` other processes do not load either, if they have a stale value.
        """
        await self._run([_RELEASE_SCRIPT.call([load_lock_key(key)], [lock.token, _ms(pause_seconds)])])

    async def release_own_load_lock(self, key: CacheKey) -> None:
        """Release the lock of an entry if this process holds it, perhaps without having had the reply."""
        await self._run([_RELEASE_SCRIPT.call([load_lock_key(key)], [self._process, 0])])

    async def remove(self, key: CacheKey) -> bool:
        """Remove an entry, and prevent a running load from storing it.  Returns whether there was one."""
        return bool(await self.evict([str(key)]))

    async def invalidate(self, tags: Iterable[str]) -> int:
        """Invalidate all entries that have one of the tags, in one round trip.

        Returns how many entries were removed at once: those of the users among the tags.
        """
        unique = list(dict.fromkeys(tags))
        owners = [tag.removeprefix("user:") for tag in unique if tag.startswith("user:")]
        keys = [*map(version_key, unique), *map(owner_index_key, owners)]
        (removed,) = await self._run([_INVALIDATE_SCRIPT.call(keys, [len(unique)])])
        return int(removed)

    async def count_for_user(self, user_id: str) -> int:
        """Return the number of a user's entries, including stale ones."""
        keys = await self._command("ZRANGE", owner_index_key(user_id), 0, -1)
        return int(await self._command("EXISTS", *keys)) if keys else 0

    async def page(self, pattern: str = "*", *, cursor: str | None = None, limit: int = 50) -> CachePage:
        """Return the entries whose key matches ``pattern``, in no order.

        An entry that exists while all pages are read is on one of them.  A page may have more or fewer
        entries than ``limit``.  Raises InvalidCursorError.
        """
        position, keys = _decode_cursor(cursor), list[bytes]()
        for _ in range(_MAX_SCANS):
            position, matches = await self._scan(position, pattern)
            keys += matches
            if position == 0 or len(keys) >= limit:
                break
        rows = await self._rows(list(dict.fromkeys(keys)))
        return CachePage(tuple(rows), str(position) if position else None)

    async def keys(self, pattern: str = "*") -> list[str]:
        """Return the keys of all entries that match ``pattern``.  It scans all keys of the server."""
        position, keys = 0, dict[str, None]()
        while True:
            position, matches = await self._scan(position, pattern)
            keys |= dict.fromkeys(map(display_key, matches))
            if position == 0:
                return list(keys)

    async def existing_keys(self, keys: Sequence[str]) -> list[str]:
        """Return the listed keys whose entries exist, in their order; in one round trip."""
        replies = await self._pipeline([("EXISTS", ENTRY + key) for key in keys])
        return [key for key, exists in zip(keys, replies, strict=True) if exists]

    async def entry(self, key: str) -> tuple[CacheEntry, bytes] | None:
        """Return one entry by its listed key, with its data; None if it does not exist."""
        rows = await self._rows([(ENTRY + key).encode()])
        if not rows:
            return None
        (body,) = await self._guard(self._redis.round_trip([("GET", ENTRY + key)]))
        if isinstance(body, Exception):  # a value of another type
            return rows[0], b""
        return None if body is None else (rows[0], body.partition(b"\n")[2])

    async def evict(self, keys: Sequence[str]) -> int:
        """Remove entries by their listed keys, and prevent running loads from storing them.

        Returns how many entries there were.
        """
        removed = 0
        for start in range(0, len(keys), _MAX_UNLINK_KEYS):
            batch = keys[start : start + _MAX_UNLINK_KEYS]
            entries, locks = (("UNLINK", *(prefix + key for key in batch)) for prefix in (ENTRY, LOAD))
            removed += int((await self._pipeline([entries, locks]))[0])
        return removed

    async def stats(self) -> CacheStats:
        """Return how reads ended in the last hour; those of the last seconds may be missing.

        Minutes that are over are read once: after the first time it takes two commands.
        """
        minute = int((await self._command("TIME"))[0]) // 60
        missing_minutes = self._last_hour.missing_minutes(minute)
        replies = await self._pipeline([("HGETALL", minute_key(number)) for number in missing_minutes])
        return self._last_hour.update(minute, zip(missing_minutes, map(parse_counts, replies), strict=True))

    async def server_info(self) -> ServerInfo:
        """Return facts about the cache's Redis; none if our user may not read them."""
        try:
            return ServerInfo.parse_text(await self._command("INFO"))
        except CacheUnavailableError as error:
            if isinstance(error.__cause__, ResponseError):
                return ServerInfo()
            raise

    async def _scan(self, position: int, pattern: str) -> tuple[int, list[bytes]]:
        command = ("SCAN", position, "MATCH", ENTRY + pattern, "COUNT", _SCAN_COUNT)
        next_position, keys = await self._command(*command)
        return int(next_position), keys

    async def _rows(self, keys: Sequence[bytes]) -> list[CacheEntry]:
        """Return the rows of keys that still exist."""
        if not keys:
            return []
        commands: list[tuple[Any, ...]] = []
        for key in keys:
            commands += (("GETRANGE", key, 0, HEADER_BYTES), ("STRLEN", key), ("PTTL", key))
        replies = await self._guard(self._redis.round_trip(commands))
        _raise_refusal(replies[2])
        starts, sizes, ttls_ms = replies[::3], replies[1::3], replies[2::3]
        headers = [decode_header(start) if isinstance(start, bytes) else None for start in starts]
        versions = await self._current_versions(headers)
        rows = (
            list_row(key, header, size, ttl_ms, versions)
            for key, header, size, ttl_ms in zip(keys, headers, sizes, ttls_ms, strict=True)
        )
        return [row for row in rows if row is not None]

    async def _current_versions(self, headers: Sequence[EntryHeader | None]) -> Mapping[str, str]:
        """Return the current versions of all tags of some entries."""
        tags = list({tag for header in headers if header is not None for tag in header.versions})
        if not tags:
            return {}
        versions = await self._command("MGET", *(VERSION + tag for tag in tags))
        return {
            tag: version.decode() for tag, version in zip(tags, versions, strict=True) if version is not None
        }

    async def _valid_entry(
        self, key: CacheKey, body: bytes | None, ttl_ms: int, versions: Mapping[str, bytes | None]
    ) -> StoredEntry | None:
        """Return the entry if it is valid.  A value that is not an entry is removed and logged."""
        if body is None or ttl_ms == -2:
            return None
        header = decode_header(body)
        if header is None:
            log.warning("a cache entry could not be read, and was removed", key=str(key))
            await self._command("UNLINK", entry_key(key))
            return None
        return valid_entry(body, header, ttl_ms, versions)

    async def _command(self, *words: Any) -> Any:
        (reply,) = await self._pipeline([words])
        return reply

    async def _pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        if not commands:
            return []
        replies = await self._guard(self._redis.round_trip(commands))
        for reply in replies:
            _raise_refusal(reply)
        return replies

    async def _run(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """Run scripts; only a refusal of the first is an error."""
        replies = await self._guard(run_scripts(self._redis, calls))
        _raise_refusal(replies[0])
        return replies

    async def _guard(self, request: Coroutine[Any, Any, list[Any]]) -> list[Any]:
        """Await replies, unless Redis did not answer a moment ago."""
        if time.monotonic() < self._retry_at:
            request.close()
            raise CacheUnavailableError("the cache's Redis did not answer a moment ago")
        try:
            return await request
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            self._retry_at = time.monotonic() + _BACKOFF_SECONDS
            cause = one_line(error) if str(error) else "no reply in time"
            problem = f"the cache's Redis does not answer: {cause}"
            raise CacheUnavailableError(problem, fix=UNREACHABLE_FIX) from error


def _raise_refusal(reply: object) -> None:
    if not isinstance(reply, Exception):
        return
    refusal = refusal_of(reply)
    if refusal is None:
        raise CacheUnavailableError(f"the cache's Redis refuses: {one_line(reply)}") from reply
    problem = f"the cache's {problem_of(reply, refusal)}"
    raise CacheUnavailableError(problem, fix=fix_of(reply, refusal)) from reply


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _decode_cursor(text: str | None) -> int:
    if text is None:
        return 0
    if not re.fullmatch(r"\d{1,20}", text, re.ASCII) or int(text) > _MAX_POSITION:
        raise InvalidCursorError(
            f"{text[:40]!r} is not a cursor of a cache page", fix="leave it out for the first page"
        )
    return int(text)

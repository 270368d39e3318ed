"""The cache's entries in Redis: how they are named, read, loaded once, invalidated and listed.

An entry belongs to an owner (a user) and depends on subjects: its owner, perhaps others, and ``all``.  Each
subject has a generation, a key with a name that no other generation has, and an entry counts only while all
generations that it was loaded under are still there.  So an invalidation is the removal of one key, whatever
was being written or evicted meanwhile.  Every key has an end and lies under one prefix.
"""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import orjson
import structlog
from redis.exceptions import RedisError, ResponseError

from storage.cache.tags import ALL_TAG, user_tag
from storage.errors import CacheUnavailableError, InvalidCursorError
from storage.redis.refusals import explain, refusal_of
from storage.redis.scripts import Argument, PipelineExecutor, Script, ScriptCall, run_scripts

log = structlog.get_logger(__name__)

PREFIX = "couturecast:cache:"
"""Of every key of the cache."""
ENTRY = f"{PREFIX}entry:"

_GENERATION = f"{PREFIX}generation:"
_LOAD = f"{PREFIX}load:"
_OWNED = f"{PREFIX}owned:"
_MINUTE = f"{PREFIX}minute:"
TIMEOUT_SECONDS = 1.0
"""Seconds that Redis gets for an answer: the loader may have it sooner."""
_AWAY_SECONDS = 0.5
"""Seconds for which nobody asks a Redis that did not answer."""
_LOOKED_AT = 1_000
"""Keys that one SCAN looks at; they may be those of jobs."""
_SCANS = 100
"""Of one page: it may have fewer entries than were asked for, and still a next one."""
_HEAD = 4_096
"""Bytes of an entry that surely hold its head."""
_MINUTES = 60
_MINUTE_SECONDS = (_MINUTES + 2) * 60

GET = Script.load(__name__, "get")
CLAIM = Script.load(__name__, "acquire_load_lock")
STORE = Script.load(__name__, "store")
GIVE_UP = Script.load(__name__, "release_load_lock")
INVALIDATE = Script.load(__name__, "invalidate")
COUNT = Script.load(__name__, "count")


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Names an entry: whose it is, what it is called among theirs, and what else it depends on."""

    user_id: str
    name: str
    subjects: tuple[str, ...] = ()

    @property
    def depends_on(self) -> tuple[str, ...]:
        """All subjects, in a steady order."""
        return (ALL_TAG, user_tag(self.user_id), *self.subjects)

    def __str__(self) -> str:
        """As it is listed: ``user:name``, each with what is special in a pattern written as %XX."""
        return f"{_quoted(self.user_id)}:{_quoted(self.name, ':')}"


@dataclass(frozen=True, slots=True)
class EntryHeader:
    """What an entry says of itself, in its first line; seconds."""

    fresh: float
    kept: float
    generations: Mapping[str, str]
    """By subject, as it stands in the generation's key; as they were when the load began."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry that counts: its data, its age, and for how many seconds it is still fresh (may be < 0)."""

    data: bytes
    age: float
    fresh_for: float


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a wish to load: ``load``, ``wait`` (another does) or ``failed`` (it did, just now)."""

    answer: str
    right: str
    """What is told when it is used, or given up."""
    generations: Mapping[str, str]
    found: StoredEntry | None


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One row of a list.  ``state``: fresh, stale, outdated (invalidated, not yet removed) or corrupt."""

    key: str
    state: str
    age: float | None
    """Seconds since it was stored."""
    ttl: float
    """Seconds until it goes."""
    size: int
    """Bytes of its value."""


@dataclass(frozen=True, slots=True)
class CachePage:
    """Entries, and the cursor of the next page; None after the last one."""

    items: tuple[CacheEntry, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class CacheStats:
    """How reads ended in the last hour, all processes together."""

    hits: int = 0
    misses: int = 0
    stale: int = 0
    errors: int = 0
    """Reads for which Redis had no answer."""
    minutes: tuple[float | None, ...] = field(default=())
    """Share of hits in each of the last 60 minutes, oldest first; None where nothing was read."""

    @property
    def hit_rate(self) -> float | None:
        """Share of reads that the cache answered, 0 to 1; None where there were none."""
        reads = self.hits + self.misses + self.stale + self.errors
        return self.hits / reads if reads else None


class RedisCacheStore:
    """Speaks to the cache's Redis.  Every method raises CacheUnavailableError where it does not answer."""

    def __init__(self, redis: PipelineExecutor) -> None:
        self._redis = redis
        self._away_until = 0.0
        self._process = secrets.token_hex(8)
        self._minutes: dict[int, Mapping[str, int]] = {}
        """How reads ended in minutes that are over, which do not change."""

    async def read(self, key: CacheKey, counts: Mapping[str, int] | None = None) -> StoredEntry | None:
        """The entry, where it counts.  ``counts`` (outcome -> number) go along, for the figures."""
        subjects = key.depends_on
        calls = [GET.call([_entry(key), *map(_generation, subjects)])]
        if counts:
            calls.append(_counting(counts))
        body, left, *generations = (await self._run(calls))[0]
        return await self._found(key, body, left, dict(zip(subjects, generations, strict=True)))

    async def count(self, counts: Mapping[str, int]) -> None:
        """Add to the figures."""
        if counts:
            await self._run([_counting(counts)])

    async def claim(self, key: CacheKey, seconds: float, kept: float) -> Claim:
        """Ask for the right to load, for so many seconds, what will be kept for ``kept``.

        Whoever holds it already is granted it again.
        """
        subjects = key.depends_on
        keys = [_entry(key), _load(key), *map(_generation, subjects)]
        # A generation outlives the entries that were loaded under it; where it is evicted, they are misses.
        lasts = _ms(seconds) + 2 * _ms(kept)
        args: list[Argument] = [self._process, _ms(seconds), lasts, secrets.token_hex(8)]
        (reply,) = await self._run([CLAIM.call(keys, args)])
        answer, right, body, left, *found = reply
        generations = dict(zip(subjects, found, strict=True))
        names = {subject: name.decode() for subject, name in generations.items()}
        return Claim(answer.decode(), right.decode(), names, await self._found(key, body, left, generations))

    async def store(self, key: CacheKey, claim: Claim, data: bytes, *, fresh: float, kept: float) -> bool:
        """Store what was loaded; False where something that it depends on was invalidated meanwhile."""
        keys = [_entry(key), _load(key), _owned(key.user_id), *map(_generation, key.depends_on)]
        named = {_quoted(subject, ":"): name for subject, name in claim.generations.items()}
        body = _head(EntryHeader(fresh, kept, named)) + data
        under = [claim.generations[each] for each in key.depends_on]
        (stored,) = await self._run([STORE.call(keys, [claim.right, body, _ms(kept), *under])])
        return bool(stored)

    async def give_up(self, key: CacheKey, claim: Claim, pause: float = 0.0) -> None:
        """Nothing was loaded; for ``pause`` seconds others shall not try, if they have something older."""
        await self._run([GIVE_UP.call([_load(key)], [claim.right, _ms(pause)])])

    async def abandon(self, key: CacheKey) -> None:
        """Give up a right that this process may hold without having heard of it."""
        await self._run([GIVE_UP.call([_load(key)], [self._process, 0])])

    async def remove(self, key: CacheKey) -> bool:
        """Remove one entry; whether there was one.  What is being loaded for it is not stored."""
        return bool(await self.evict([str(key)]))

    async def invalidate(self, subjects: Iterable[str]) -> int:
        """Nothing that depends on one of ``subjects`` counts any longer, in one round trip.

        The number of entries that were removed: those of users.
        """
        wanted = list(dict.fromkeys(subjects))
        owners = [subject.removeprefix("user:") for subject in wanted if subject.startswith("user:")]
        keys = [*map(_generation, wanted), *map(_owned, owners)]
        (removed,) = await self._run([INVALIDATE.call(keys, [len(wanted)])])
        return int(removed)

    async def count_for_user(self, user_id: str) -> int:
        """Entries of a user, stale ones with them."""
        keys = await self._command("ZRANGE", _owned(user_id), 0, -1)
        return int(await self._command("EXISTS", *keys)) if keys else 0

    async def page(self, pattern: str = "*", *, cursor: str | None = None, limit: int = 50) -> CachePage:
        """Entries whose key fits ``pattern``, in no order; one that stays for all pages is on one of them.

        ``limit`` is a wish: a page may have some more, or fewer.  Raises InvalidCursorError.
        """
        at, keys = _cursor(cursor), list[bytes]()
        for _ in range(_SCANS):
            at, found = await self._command("SCAN", at, "MATCH", ENTRY + pattern, "COUNT", _LOOKED_AT)
            at = int(at)
            keys += found
            if at == 0 or len(keys) >= limit:
                break
        return CachePage(tuple(await self._entries(list(dict.fromkeys(keys)))), str(at) if at else None)

    async def keys(self, pattern: str = "*") -> list[str]:
        """The keys of all entries that fit ``pattern``; looks at every key of the server, piece by piece."""
        at, keys = 0, dict[str, None]()
        while True:
            at, found = await self._command("SCAN", at, "MATCH", ENTRY + pattern, "COUNT", _LOOKED_AT)
            keys |= dict.fromkeys(map(_listed, found))
            at = int(at)
            if at == 0:
                return list(keys)

    async def entry(self, key: str) -> tuple[CacheEntry, bytes] | None:
        """One entry by its listed key, with its data; None where there is none."""
        rows = await self._entries([(ENTRY + key).encode()])
        if not rows:
            return None
        (body,) = await self._answered(self._redis.round_trip([("GET", ENTRY + key)]))
        if isinstance(body, Exception):  # of another type
            return rows[0], b""
        return None if body is None else (rows[0], body.partition(b"\n")[2])

    async def evict(self, keys: Sequence[str]) -> int:
        """Remove entries by their listed keys; how many there were.  What is being loaded is not stored."""
        removed = 0
        for start in range(0, len(keys), _LOOKED_AT):
            batch = keys[start : start + _LOOKED_AT]
            entries, rights = (("UNLINK", *(prefix + key for key in batch)) for prefix in (ENTRY, _LOAD))
            removed += int((await self._pipeline([entries, rights]))[0])
        return removed

    async def stats(self) -> CacheStats:
        """How reads ended in the last hour; what the last seconds came to may be missing.

        Minutes that are over are read once and remembered: after the first time it takes two commands.
        """
        minute = int((await self._command("TIME"))[0]) // 60
        hour = range(minute - _MINUTES + 1, minute + 1)
        known = {number: counts for number, counts in self._minutes.items() if number in hour}
        missing = [number for number in hour if number not in known]
        replies = await self._pipeline([("HGETALL", f"{_MINUTE}{number}") for number in missing])
        known |= zip(missing, map(_counts, replies), strict=True)
        self._minutes = {number: counts for number, counts in known.items() if number < minute}
        totals = {
            name: sum(counts.get(name, 0) for counts in known.values())
            for name in ("hits", "misses", "stale", "errors")
        }
        return CacheStats(**totals, minutes=tuple(_share(known[number]) for number in hour))

    async def server_info(self) -> Mapping[str, str]:
        """INFO of the cache's Redis; empty where it may not be read."""
        try:
            return _info(await self._command("INFO"))
        except CacheUnavailableError as error:
            if isinstance(error.__cause__, ResponseError):
                return {}
            raise

    async def _entries(self, keys: Sequence[bytes]) -> list[CacheEntry]:
        """The rows of keys that are still there."""
        if not keys:
            return []
        asked = [
            words for key in keys for words in (("GETRANGE", key, 0, _HEAD), ("STRLEN", key), ("PTTL", key))
        ]
        replies = await self._answered(self._redis.round_trip(asked))
        _raise_refusal(replies[2])
        heads = [_read_head(each) if isinstance(each, bytes) else None for each in replies[::3]]
        living = await self._living(heads)
        return [
            _row(_listed(key), head, size if isinstance(size, int) else 0, left, living)
            for key, head, size, left in zip(keys, heads, replies[1::3], replies[2::3], strict=True)
            if left != -2
        ]

    async def _living(self, heads: Sequence[EntryHeader | None]) -> Mapping[str, str]:
        """The present generations of all subjects of some entries."""
        subjects = list({subject for head in heads if head is not None for subject in head.generations})
        if not subjects:
            return {}
        names = await self._command("MGET", *(_GENERATION + subject for subject in subjects))
        return {
            subject: name.decode() for subject, name in zip(subjects, names, strict=True) if name is not None
        }

    async def _found(
        self, key: CacheKey, body: bytes | None, left: int, generations: Mapping[str, bytes | None]
    ) -> StoredEntry | None:
        """The entry, where it is one of ours and counts; what is not ours is removed, and told."""
        if body is None or left == -2:
            return None
        head, _, data = body.partition(b"\n")
        about = _read_head(head + b"\n")
        if about is None:
            log.warning("a cache entry could not be read, and was removed", key=str(key))
            await self._command("UNLINK", _entry(key))
            return None
        now = {_quoted(subject, ":"): _text(name) for subject, name in generations.items()}
        if now != about.generations:
            return None
        age = max(0.0, about.kept - left / 1000)
        return StoredEntry(data, age, about.fresh - age)

    async def _command(self, *words: Any) -> Any:
        (reply,) = await self._pipeline([words])
        return reply

    async def _pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        if not commands:
            return []
        replies = await self._answered(self._redis.round_trip(commands))
        for reply in replies:
            _raise_refusal(reply)
        return replies

    async def _run(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """The replies; a call that goes along with the first one may be refused."""
        replies = await self._answered(run_scripts(self._redis, calls))
        _raise_refusal(replies[0])
        return replies

    async def _answered(self, asking: Coroutine[Any, Any, list[Any]]) -> list[Any]:
        """Await replies; a Redis that has just been silent is not asked."""
        if time.monotonic() < self._away_until:
            asking.close()
            raise CacheUnavailableError("the cache's Redis did not answer a moment ago")
        try:
            return await asking
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            self._away_until = time.monotonic() + _AWAY_SECONDS
            raise CacheUnavailableError(f"the cache's Redis does not answer: {_line(error)}") from error


def _raise_refusal(reply: object) -> None:
    if isinstance(reply, Exception):
        known = refusal_of(reply) is not None
        refusal = f"the cache's {explain(reply)}" if known else f"the cache's Redis refuses: {_line(reply)}"
        raise CacheUnavailableError(refusal) from reply


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _counting(counts: Mapping[str, int]) -> ScriptCall:
    return COUNT.call([_MINUTE], [_MINUTE_SECONDS, *(word for pair in counts.items() for word in pair)])


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


@lru_cache(maxsize=4_096)
def _quoted(text: str, safe: str = "") -> str:
    return quote(text, safe=f"@._-+ {safe}", errors="surrogatepass")


def _text(name: bytes | None) -> str | None:
    return None if name is None else name.decode("utf-8", "replace")


def _entry(key: CacheKey) -> str:
    return f"{ENTRY}{key}"


def _load(key: CacheKey) -> str:
    return f"{_LOAD}{key}"


def _listed(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace").removeprefix(ENTRY)


def _generation(subject: str) -> str:
    return _GENERATION + _quoted(subject, ":")


def _owned(user_id: str) -> str:
    return _OWNED + _quoted(user_id)


def _head(head: EntryHeader) -> bytes:
    return orjson.dumps({"fresh": head.fresh, "kept": head.kept, "under": dict(head.generations)}) + b"\n"


def _read_head(body: bytes) -> EntryHeader | None:
    """The head in the first line of an entry; None where there is none of ours."""
    line, end, _ = body.partition(b"\n")
    try:
        head: Any = orjson.loads(line) if end else None
        fresh, kept = float(head["fresh"]), float(head["kept"])
        under = {str(subject): str(name) for subject, name in head["under"].items()}
        return EntryHeader(fresh, kept, under) if math.isfinite(fresh) and math.isfinite(kept) else None
    except (orjson.JSONDecodeError, TypeError, ValueError, LookupError, AttributeError, OverflowError):
        return None


def _row(key: str, head: EntryHeader | None, size: int, left: int, living: Mapping[str, str]) -> CacheEntry:
    ttl = max(0.0, left / 1000)
    if head is None or left == -1:
        return CacheEntry(key, "corrupt", None, ttl, size)
    age = max(0.0, head.kept - ttl)
    if any(living.get(subject) != name for subject, name in head.generations.items()):
        state = "outdated"
    else:
        state = "fresh" if age < head.fresh else "stale"
    return CacheEntry(key, state, age, ttl, size)


def _counts(reply: Sequence[bytes]) -> Mapping[str, int]:
    return {name.decode(): int(number) for name, number in zip(reply[::2], reply[1::2], strict=True)}


def _info(text: bytes) -> dict[str, str]:
    """The fields of an INFO."""
    lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _share(counts: Mapping[str, int]) -> float | None:
    reads = sum(counts.values())
    return counts.get("hits", 0) / reads if reads else None


def _cursor(text: str | None) -> int:
    if text is None:
        return 0
    if not re.fullmatch(r"\d{1,20}", text, re.ASCII):
        raise InvalidCursorError(
            f"{text[:40]!r} is no cursor of a cache page: leave it out for the first page"
        )
    return int(text)

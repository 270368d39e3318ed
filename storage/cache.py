"""A read-through cache: one load for many readers, stale rather than nothing, and nothing outdated."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import orjson
import structlog
from pydantic import TypeAdapter, ValidationError

from storage.cache_store import CacheKey, CacheStore, Claim, Found
from storage.errors import CacheUnavailableError, LoadError
from storage.subjects import ALL

log = structlog.get_logger(__name__)

T = TypeVar("T")

FRESH_SECONDS = 60.0
"""For so long an entry is served without a thought."""
KEPT_SECONDS = 900.0
"""For so long it is kept, to be served where its load fails."""
LOAD_SECONDS = 10.0
"""That a load may take: then it has failed, and another may try."""
_FAILED_SECONDS = 1.0
"""After a load failed, readers that have something older do not try again for so long."""
_POLL = (0.02, 0.25)
"""Seconds between looks whether another process has loaded it: the first, and the longest."""
_RELOADS = 3
"""Loads in a row that were outdated before they were stored; then the last one is served."""
_OWED_MOST = 10_000
"""Subjects that Redis has not heard of: beyond that all entries go."""
_OWED_RETRY = (0.25, 1.0)
"""Seconds between tries: the first, and the longest."""
_SAID_SECONDS = 5.0
"""Seconds for which counts are gathered before they go along with a read."""

FRESH = "fresh"
LOADED = "loaded"
STALE = "stale"
DIRECT = "direct"
"""Loaded past the cache, whose Redis did not answer."""


@dataclass(frozen=True, slots=True)
class Cached(Generic[T]):
    """A value, where it came from (fresh, loaded, stale or direct) and its age in seconds."""

    value: T
    source: str
    age: float = 0.0

    @property
    def stale(self) -> bool:
        """Whether it is older than it should be, since its load failed."""
        return self.source == STALE


Loader = Callable[[], Awaitable[T]]


@dataclass(slots=True)
class _Flight(Generic[T]):
    """A load that many wait for."""

    task: asyncio.Task[Cached[T]]
    subjects: frozenset[str]


class Cache(Generic[T]):
    """Values of ``kind`` (a pydantic model, or what a TypeAdapter takes), as JSON in ``store``.

    A process has one.  Invalidate by way of it: what Redis did not hear is said again until it does, and
    until then this process reads past the cache.
    """

    def __init__(
        self,
        store: CacheStore,
        kind: type[T],
        *,
        fresh: float = FRESH_SECONDS,
        kept: float = KEPT_SECONDS,
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        self.store = store
        self._kind = TypeAdapter(kind)
        self._fresh = fresh
        self._kept = max(fresh, kept)
        self._load_seconds = load_seconds
        self._flights: dict[str, _Flight[T]] = {}
        self.counts: Counter[str] = Counter()
        """How reads of this process ended: hits, misses, stale, errors; and loads, load_failures."""
        self._unsaid: Counter[str] = Counter()
        self._said_at = time.monotonic()
        self._owed: set[str] = set()
        self._paying: asyncio.Task[None] | None = None
        self._told = False

    async def close(self) -> None:
        """End what goes on in the background, and say what was counted."""
        tasks: list[asyncio.Task[Any]] = [flight.task for flight in self._flights.values()]
        tasks += [self._paying] if self._paying is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._owed:
            log.warning("the cache's Redis was never told of changes", subjects=len(self._owed))
        await self.say()

    async def say(self) -> None:
        """Add what reads of this process came to, to the figures of all; those go along with reads, too."""
        unsaid, self._unsaid, self._said_at = self._unsaid, Counter(), time.monotonic()
        with suppress(CacheUnavailableError):
            await self.store.count(unsaid)

    async def get(self, key: CacheKey) -> T | None:
        """The value while it is fresh, else None."""
        held = self._held(key, await self._read(key))
        fresh = held is not None and held.source == FRESH
        self._count("hits" if fresh else "misses")
        return held.value if held is not None and fresh else None

    async def exists(self, key: CacheKey) -> bool:
        """Whether there is a fresh value."""
        return await self.ttl(key) is not None

    async def ttl(self, key: CacheKey) -> float | None:
        """Seconds for which the value is still fresh; None where there is none."""
        found = await self._read(key)
        return found.fresh_for if found is not None and found.fresh_for > 0 else None

    async def set(self, key: CacheKey, value: T, ttl: float | None = None) -> bool:
        """Store a value for ``ttl`` seconds; False where Redis did not take it.

        Prefer `get_or_load`, which stores nothing that was outdated while it was computed.
        """
        fresh = self._fresh if ttl is None else ttl
        if fresh <= 0:
            raise ValueError(f"a TTL of {fresh:g} s: every entry lasts for more than 0")
        kept = max(fresh, self._kept) if ttl is None else fresh
        try:
            claim = await self.store.claim(key, self._load_seconds, max(kept, self._kept))
            return await self.store.store(key, claim, self._packed(value), fresh=fresh, kept=kept)
        except CacheUnavailableError as error:
            self._away(error)
            return False

    async def delete(self, key: CacheKey) -> bool:
        """Remove one entry; whether there was one.  Raises CacheUnavailableError."""
        return await self.store.remove(key)

    async def get_or_load(self, key: CacheKey, loader: Loader[T]) -> Cached[T]:
        """The value: fresh from the cache, else loaded, by one of all who ask for it at the same time.

        Where the load fails, or takes too long, a value that is kept is served as stale; without one what the
        loader raised is raised, or LoadError.  Where Redis does not answer it is loaded.
        """
        flight = self._flights.get(str(key))
        if flight is None:
            held = self._held(key, await self._read(key))
            if held is not None and held.source == FRESH:
                self._count("hits")
                return held
            flight = self._flights.get(str(key))  # of somebody who asked meanwhile
        if flight is None:
            flight = self._take_off(key, loader)
        answer = await asyncio.shield(flight.task)
        self._count({STALE: "stale", DIRECT: "errors"}.get(answer.source, "misses"))
        return answer

    async def invalidate(self, *subjects: str) -> int | None:
        """Nothing that depends on one of ``subjects`` is served any longer; entries that were removed.

        One round trip.  None where Redis does not answer: then it is said again until it does.
        """
        for name, flight in list(self._flights.items()):
            if ALL in subjects or not flight.subjects.isdisjoint(subjects):
                del self._flights[name]  # whoever comes now wants what is true now
        try:
            return await self.store.invalidate(subjects)
        except CacheUnavailableError as error:
            self._away(error)
            self._owe(subjects)
            return None
        except asyncio.CancelledError:  # whoever wanted it has gone, and it is wanted all the same
            self._owe(subjects)
            raise

    async def settled(self) -> None:
        """Until Redis has heard of all changes."""
        while self._paying is not None and not self._paying.done():
            await asyncio.wait({self._paying})

    def _take_off(self, key: CacheKey, loader: Loader[T]) -> _Flight[T]:
        name = str(key)
        flight = _Flight(asyncio.create_task(self._load(key, loader)), frozenset(key.depends_on))
        self._flights[name] = flight

        def landed(task: asyncio.Task[Cached[T]]) -> None:
            if self._flights.get(name) is flight:
                del self._flights[name]
            if not task.cancelled():
                task.exception()  # its readers may have gone

        flight.task.add_done_callback(landed)
        return flight

    async def _load(self, key: CacheKey, loader: Loader[T]) -> Cached[T]:
        """Load what nobody else loads, and store it; once more where it was outdated meanwhile."""
        loaded: Cached[T] | None = None
        for _ in range(_RELOADS):
            claim = await self._claim(key)
            if claim is None:
                return await self._loaded_directly(loader)
            held = self._held(key, claim.found)
            if held is not None and held.source == FRESH:  # another process was faster
                if claim.right == "load":
                    await self._give_up(key, claim)
                return replace(held, source=LOADED)
            if claim.right != "load":
                return held or await self._loaded_directly(loader)
            loaded = await self._loaded(key, claim, loader, held)
            if loaded.source != LOADED or await self._stored(key, claim, loaded.value):
                return loaded
        assert loaded is not None  # noqa: S101 - there is more than no round
        return loaded

    async def _claim(self, key: CacheKey) -> Claim | None:
        """The right to load, or what another process has loaded meanwhile; None where Redis is no help."""
        delay, deadline = _POLL[0], time.monotonic() + self._load_seconds
        while not self._owes(key):
            try:
                claim = await self.store.claim(key, self._load_seconds + 1, self._kept)
            except CacheUnavailableError as error:
                self._away(error)
                return None
            ready = claim.found is not None and claim.found.fresh_for > 0
            if claim.right != "wait" or ready:
                return claim
            if time.monotonic() + delay > deadline:
                return None
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, _POLL[1])
        return None

    async def _loaded(
        self, key: CacheKey, claim: Claim, loader: Loader[T], old: Cached[T] | None
    ) -> Cached[T]:
        """What the loader says; the old value where it fails.  Others are told that it failed."""
        try:
            return Cached(await self._asked(loader), LOADED)
        except asyncio.CancelledError:
            await self._give_up(key, claim)
            raise
        except Exception as error:
            await self._give_up(key, claim, _FAILED_SECONDS)
            if old is None:
                raise
            log.warning("a stale cache entry is served: its load failed", key=str(key), error=repr(error))
            return old

    async def _loaded_directly(self, loader: Loader[T]) -> Cached[T]:
        return Cached(await self._asked(loader), DIRECT)

    async def _asked(self, loader: Loader[T]) -> T:
        self._count_only("loads")
        try:
            async with asyncio.timeout(self._load_seconds):
                return await loader()
        except TimeoutError:
            self._count_only("load_failures")
            raise LoadError(f"not loaded within {self._load_seconds:g} s") from None
        except Exception:
            self._count_only("load_failures")
            raise

    async def _stored(self, key: CacheKey, claim: Claim, value: T) -> bool:
        """False where it is outdated already.  A Redis that does not take it is no reason to load again."""
        try:
            return await self.store.store(key, claim, self._packed(value), fresh=self._fresh, kept=self._kept)
        except CacheUnavailableError as error:
            self._away(error)
            return True

    async def _give_up(self, key: CacheKey, claim: Claim, pause: float = 0.0) -> None:
        try:
            await self.store.give_up(key, claim, pause)
        except CacheUnavailableError as error:  # the right ends by itself
            self._away(error)

    async def _read(self, key: CacheKey) -> Found | None:
        """The entry, None where there is none that counts or Redis does not answer."""
        if self._owes(key):
            return None
        unsaid = self._unsaid if time.monotonic() - self._said_at >= _SAID_SECONDS else Counter[str]()
        if unsaid:
            self._unsaid, self._said_at = Counter(), time.monotonic()
        try:
            found = await self.store.read(key, unsaid)
        except CacheUnavailableError as error:
            self._unsaid.update(unsaid)
            self._away(error)
            return None
        if self._told:
            log.info("the cache's Redis answers again")
            self._told = False
        return found

    def _held(self, key: CacheKey, found: Found | None) -> Cached[T] | None:
        """An entry's value, fresh or stale; None where it is not of our kind: then it is replaced."""
        if found is None:
            return None
        try:
            value = self._kind.validate_python(orjson.loads(found.data))
        except (orjson.JSONDecodeError, ValidationError) as error:
            cause = " ".join(str(error).split())[:200]
            log.warning("a cache entry is not what it should be, and is replaced", key=str(key), error=cause)
            return None
        return Cached(value, FRESH if found.fresh_for > 0 else STALE, found.age)

    def _packed(self, value: T) -> bytes:
        return orjson.dumps(self._kind.dump_python(value, mode="json"))

    def _count(self, outcome: str) -> None:
        self.counts[outcome] += 1
        self._unsaid[outcome] += 1

    def _count_only(self, what: str) -> None:
        self.counts[what] += 1

    def _away(self, error: CacheUnavailableError) -> None:
        """Told once, until it answers again."""
        if not self._told:
            log.warning("the cache is of no help, what is read is loaded", error=str(error))
            self._told = True

    def _owes(self, key: CacheKey) -> bool:
        """Whether Redis has not heard yet that something of this entry has changed."""
        return bool(self._owed) and (ALL in self._owed or not self._owed.isdisjoint(key.depends_on))

    def _owe(self, subjects: Iterable[str]) -> None:
        self._owed.update(subjects)
        if len(self._owed) > _OWED_MOST:
            self._owed = {ALL}
        if self._paying is None or self._paying.done():
            self._paying = asyncio.create_task(self._pay())

    async def _pay(self) -> None:
        """Tell Redis what it did not hear, until it has."""
        delay = _OWED_RETRY[0]
        while self._owed:
            await asyncio.sleep(delay)
            owed = list(self._owed)
            try:
                await self.store.invalidate(owed)
            except CacheUnavailableError:
                delay = min(delay * 2, _OWED_RETRY[1])
            else:
                self._owed.difference_update(owed)
                log.info("the cache's Redis has heard of changes", subjects=len(owed))

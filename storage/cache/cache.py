"""A read-through cache: one load for many readers, stale rather than nothing, and nothing outdated."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import structlog
from pydantic import TypeAdapter

from storage import json as json_text
from storage.asyncio_tools import cancel_and_wait
from storage.cache.store import CacheKey, Claim, RedisCacheStore, StoredEntry
from storage.cache.tags import ALL_TAG
from storage.errors import CacheLoadError, CacheUnavailableError

log = structlog.get_logger(__name__)

T = TypeVar("T")
U = TypeVar("U")

FRESH_SECONDS = 60.0
"""For so long an entry is served without a thought."""
EXPIRE_SECONDS = 900.0
"""For so long it is kept, to be served where its load fails."""
LOAD_SECONDS = 10.0
"""That a load may take: then it has failed, and another may try."""
_FAILED_SECONDS = 1.0
"""After a load failed, readers that have something older do not try again for so long."""
_TTL_LEAST, _TTL_MOST = 0.001, 30 * 86_400.0
_POLL = (0.02, 0.25)
"""Seconds between looks whether another process has loaded it: the first, and the longest."""
_ROUNDS = 3
"""Loads in a row that were outdated before they were stored; then a reader loads for itself."""
_OWED_MOST = 1_000
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

_READS, _WRITES = "reads", "writes"
"""Of the cache's Redis: what it may not answer."""


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


@dataclass(slots=True, eq=False)
class _Flight(Generic[T]):
    """A load that many wait for; None where it was outdated before it could be served."""

    subjects: frozenset[str]
    task: asyncio.Task[Cached[T] | None] = field(init=False)


class Cache(Generic[T]):
    """Values of ``kind`` (a pydantic model, or what a TypeAdapter takes), as JSON in ``store``.

    A process has one.  Invalidate by way of it: what Redis did not hear is said again until it does, and
    until then this process reads past the cache.

    No read serves what was outdated before it began.  Whoever joins a load of another does so before Redis is
    asked whether that still counts; whoever comes later reads for themselves.
    """

    def __init__(
        self,
        store: RedisCacheStore,
        kind: type[T],
        *,
        fresh: float = FRESH_SECONDS,
        kept: float = EXPIRE_SECONDS,
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        self.store = store
        self._kind = TypeAdapter(kind)
        self._fresh = fresh
        self._kept = max(fresh, kept)
        self._load_seconds = load_seconds
        self._flights: dict[str, _Flight[T]] = {}
        """Those that may still be joined, by key."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self.counts: Counter[str] = Counter()
        """How reads of this process ended: hits, misses, stale, errors; and loads, load_failures."""
        self._unsaid: Counter[str] = Counter()
        self._said_at = time.monotonic()
        self._owed: dict[str, int] = {}
        """Subjects that have changed, and Redis was not told; each with the number of its last change."""
        self._changes = 0
        self._unheard: set[CacheKey] = set()
        """Entries that this process may have the right to load, without having heard of it."""
        self._paying: asyncio.Task[None] | None = None
        self._troubled: set[str] = set()
        self._closed = False

    async def close(self) -> None:
        """End what goes on in the background, and say what was counted."""
        self._closed = True
        await cancel_and_wait(list(self._tasks))
        if self._owed:
            log.warning("the cache's Redis was never told of changes", subjects=len(self._owed))
        with suppress(CacheUnavailableError):
            await self._abandon()
        await self.flush_stats()

    async def flush_stats(self) -> None:
        """Add what reads of this process came to, to the figures of all; those go along with reads, too."""
        unsaid = self._take_unsaid()
        try:
            await self.store.count(unsaid)
        except CacheUnavailableError:
            self._unsaid.update(unsaid)

    async def get(self, key: CacheKey) -> T | None:
        """The value while it is fresh, else None."""
        held = self._held(key, await self._read(key))
        if held is None or not _is_fresh(held):
            self._count("misses")
            return None
        self._count("hits")
        return held.value

    async def exists(self, key: CacheKey) -> bool:
        """Whether there is a fresh value."""
        return await self.ttl(key) is not None

    async def ttl(self, key: CacheKey) -> float | None:
        """Seconds for which the value is still fresh; None where there is none."""
        found = await self._read(key)
        return found.fresh_for if found is not None and found.fresh_for > 0 else None

    async def set(self, key: CacheKey, value: T, ttl: float | None = None) -> bool:
        """Store a value for ``ttl`` seconds; False where Redis did not take it.

        Prefer `get_or_load`, which stores nothing that was outdated while it was computed.  Raises ValueError
        for a TTL that is not between a millisecond and 30 days.
        """
        fresh = self._fresh if ttl is None else ttl
        if not _TTL_LEAST <= fresh <= _TTL_MOST:
            raise ValueError(f"a TTL of {fresh:g} s: use {_TTL_LEAST:g} to {_TTL_MOST:g}")
        kept = self._kept if ttl is None else fresh
        packed = self._packed(value)
        self._flights.pop(str(key), None)
        try:
            await self.store.remove(key)  # and what is being loaded for it
            claim = await self.store.claim(key, self._load_seconds, max(kept, self._kept))
            return await self.store.store(key, claim, packed, fresh=fresh, kept=kept)
        except CacheUnavailableError as error:
            self._trouble(_WRITES, error)
            return False

    async def delete(self, key: CacheKey) -> bool:
        """Remove one entry; whether there was one.  Raises CacheUnavailableError."""
        self._flights.pop(str(key), None)
        return await self.store.remove(key)

    async def get_or_load(self, key: CacheKey, loader: Loader[T]) -> Cached[T]:
        """The value: fresh from the cache, else loaded, by one of all who ask for it at the same time.

        Where the load fails, or takes too long, a value that is kept is served as stale; without one what the
        loader raised is raised, or LoadError.  Where Redis does not answer it is loaded.
        """
        outcome = "misses"
        try:
            answer = await self._answer(key, loader)
            outcome = _OUTCOMES.get(answer.source, outcome)
            return answer
        finally:
            self._count(outcome)

    async def invalidate(self, *subjects: str) -> int | None:
        """Nothing that depends on one of ``subjects`` is served any longer; entries that were removed.

        One round trip.  None where Redis does not answer: then it is said again until it does.
        """
        for name, flight in list(self._flights.items()):
            if ALL_TAG in subjects or not flight.subjects.isdisjoint(subjects):
                del self._flights[name]  # whoever comes now wants what is true now
        try:
            return await self.store.invalidate(subjects)
        except CacheUnavailableError as error:
            self._trouble(_WRITES, error)
            self._owe(subjects)
            return None
        except asyncio.CancelledError:  # whoever wanted it has gone, and it is wanted all the same
            self._owe(subjects)
            raise

    async def wait_until_delivered(self) -> None:
        """Until Redis has heard of all changes."""
        while self._paying is not None and not self._paying.done():
            await asyncio.wait({self._paying})

    async def _answer(self, key: CacheKey, loader: Loader[T]) -> Cached[T]:
        name = str(key)
        for _ in range(_ROUNDS):
            flight = self._flights.get(name)
            if flight is None:
                held = self._held(key, await self._read(key))
                if held is not None and _is_fresh(held):
                    return held
                # Somebody who asked meanwhile may have taken off.
                flight = self._flights.get(name) or self._take_off(key, loader)
            answer = await self._landing(flight)
            if answer is not None:
                return answer
        return await self._directly(key, loader, LOADED)

    def _take_off(self, key: CacheKey, loader: Loader[T]) -> _Flight[T]:
        flight = _Flight[T](frozenset(key.depends_on))
        flight.task = self._start(self._fly(key, loader, flight))
        self._flights[str(key)] = flight
        flight.task.add_done_callback(lambda _: self._board_no_more(key, flight))
        return flight

    def _board_no_more(self, key: CacheKey, flight: _Flight[T]) -> None:
        if self._flights.get(str(key)) is flight:
            del self._flights[str(key)]

    @staticmethod
    async def _landing(flight: _Flight[T]) -> Cached[T] | None:
        """What a flight brings; a reader that goes does not end it for the others."""
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            if flight.task.cancelled() and not _is_cancelled_itself():
                raise CacheLoadError("the load was broken off") from None
            raise

    async def _fly(self, key: CacheKey, loader: Loader[T], flight: _Flight[T]) -> Cached[T] | None:
        """Load what nobody else loads, and store it."""
        claim, held = await self._claim(key)
        if claim is None:
            return await self._directly(key, loader, DIRECT)
        if _is_fresh(held):  # another process was faster
            self._board_no_more(key, flight)
            if claim.answer == "load":
                await self._give_up(key, claim)
            held = self._held(key, await self._read(key))
            return replace(held, source=LOADED) if held is not None and _is_fresh(held) else None
        if claim.answer != "load":
            self._board_no_more(key, flight)
            held = self._held(key, await self._read(key))
            return held or await self._directly(key, loader, LOADED)
        try:
            value = await self._asked(loader)
        except asyncio.CancelledError:
            await self._give_up(key, claim)
            raise
        except Exception as error:
            self._board_no_more(key, flight)
            await self._give_up(key, claim, _FAILED_SECONDS)
            return await self._kept_or(error, key)
        self._board_no_more(key, flight)
        return Cached(value, LOADED) if await self._stored(key, claim, value) else None

    async def _claim(self, key: CacheKey) -> tuple[Claim | None, Cached[T] | None]:
        """The right to load, and what is held; no right where Redis is no help.

        Whoever has not got the right waits until something fresh is held, or the right is to be had.
        """
        delay, deadline = _POLL[0], time.monotonic() + self._load_seconds + 1 + 2 * _POLL[1]
        while not self._owes(key):
            self._unheard.add(key)
            try:
                claim = await self.store.claim(key, self._load_seconds + 1, self._kept)
            except CacheUnavailableError as error:
                self._trouble(_WRITES, error)
                self._owe(())
                return None, None
            except asyncio.CancelledError:
                self._owe(())
                raise
            self._unheard.discard(key)
            self._trouble(_WRITES, None)
            held = self._held(key, claim.found)
            if claim.answer != "wait" or _is_fresh(held) or time.monotonic() > deadline:
                return claim, held
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, _POLL[1])
        return None, None

    async def _directly(self, key: CacheKey, loader: Loader[T], source: str) -> Cached[T]:
        """Load and store nothing."""
        try:
            return Cached(await self._asked(loader), source)
        except Exception as error:
            return await self._kept_or(error, key)

    async def _kept_or(self, error: Exception, key: CacheKey) -> Cached[T]:
        """What is kept, where a load failed and it still counts; else the error."""
        held = self._held(key, await self._read(key))
        if held is None:
            raise error
        if held.source == STALE:
            log.warning("a stale cache entry is served: its load failed", key=str(key), error=repr(error))
        return held

    async def _asked(self, loader: Loader[T]) -> T:
        self.counts["loads"] += 1
        try:
            async with asyncio.timeout(self._load_seconds) as limit:
                return await loader()
        except asyncio.CancelledError:
            if _is_cancelled_itself():
                raise
            self.counts["load_failures"] += 1
            raise CacheLoadError("the load was broken off") from None
        except Exception as error:
            self.counts["load_failures"] += 1
            if limit.expired() and isinstance(error, TimeoutError):
                raise CacheLoadError(f"not loaded within {self._load_seconds:g} s") from None
            raise

    async def _stored(self, key: CacheKey, claim: Claim, value: T) -> bool:
        """False where it is outdated already.  What cannot be stored is no reason to load again."""
        try:
            packed = self._packed(value)
            return await self.store.store(key, claim, packed, fresh=self._fresh, kept=self._kept)
        except CacheUnavailableError as error:
            self._trouble(_WRITES, error)
        except (TypeError, ValueError, RecursionError) as error:
            cause = " ".join(str(error).split())[:200]
            log.warning("a value cannot be cached: it is no JSON", key=str(key), error=cause)
            await self._give_up(key, claim)
        return True

    async def _give_up(self, key: CacheKey, claim: Claim, pause: float = 0.0) -> None:
        try:
            await self.store.give_up(key, claim, pause)
        except CacheUnavailableError as error:  # the right ends by itself
            self._trouble(_WRITES, error)

    async def _read(self, key: CacheKey) -> StoredEntry | None:
        """The entry, None where there is none that counts or Redis does not answer."""
        if self._owes(key):
            return None
        unsaid = Counter[str]()
        if self._unsaid and time.monotonic() - self._said_at >= _SAID_SECONDS:
            unsaid = self._take_unsaid()
        try:
            found = await self.store.read(key, unsaid)
        except CacheUnavailableError as error:
            self._unsaid.update(unsaid)
            self._trouble(_READS, error)
            return None
        self._trouble(_READS, None)
        return found

    def _held(self, key: CacheKey, found: StoredEntry | None) -> Cached[T] | None:
        """An entry's value, fresh or stale; None where it is not of our kind: then it is replaced."""
        if found is None:
            return None
        try:
            value = self._kind.validate_python(json_text.loads(found.data))
        except (ValueError, RecursionError) as error:  # pydantic's ValidationError, too
            cause = " ".join(str(error).split())[:200]
            log.warning("a cache entry is not what it should be, and is replaced", key=str(key), error=cause)
            return None
        return Cached(value, FRESH if found.fresh_for > 0 else STALE, found.age)

    def _packed(self, value: T) -> bytes:
        return json_text.dumps(self._kind.dump_python(value, mode="json"))

    def _start(self, coroutine: Coroutine[Any, Any, U]) -> asyncio.Task[U]:
        """A task that `close` ends, and whose error is nobody's where its readers have gone."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)

        def ended(_: asyncio.Task[U]) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                task.exception()

        task.add_done_callback(ended)
        return task

    def _count(self, outcome: str) -> None:
        self.counts[outcome] += 1
        self._unsaid[outcome] += 1

    def _take_unsaid(self) -> Counter[str]:
        unsaid, self._unsaid, self._said_at = self._unsaid, Counter(), time.monotonic()
        return unsaid

    def _trouble(self, what: str, error: CacheUnavailableError | None) -> None:
        """Told once, until it passes."""
        if error is None and what in self._troubled:
            self._troubled.discard(what)
            log.info("the cache's Redis answers again", what=what)
        elif error is not None and what not in self._troubled:
            self._troubled.add(what)
            log.warning("the cache is of no help, what is read is loaded", what=what, error=str(error))

    def _owes(self, key: CacheKey) -> bool:
        """Whether Redis has not heard yet that something of this entry has changed."""
        return bool(self._owed) and (
            ALL_TAG in self._owed or not self._owed.keys().isdisjoint(key.depends_on)
        )

    def _owe(self, subjects: Iterable[str]) -> None:
        self._changes += 1
        self._owed |= dict.fromkeys(subjects, self._changes)
        if len(self._owed) > _OWED_MOST:
            self._owed = {ALL_TAG: self._changes}
        if len(self._unheard) > _OWED_MOST:
            self._unheard.clear()  # rights end by themselves
        if not self._closed and (self._paying is None or self._paying.done()):
            self._paying = self._start(self._pay())

    async def _pay(self) -> None:
        """Tell Redis what it did not hear, until it has."""
        delay = _OWED_RETRY[0]
        while self._owed or self._unheard:
            await asyncio.sleep(delay)
            owed = dict(self._owed)
            try:
                if owed:
                    await self.store.invalidate(owed)
                await self._abandon()
            except CacheUnavailableError:
                delay = min(delay * 2, _OWED_RETRY[1])
            else:  # what has changed again meanwhile is owed again
                self._owed = {name: at for name, at in self._owed.items() if owed.get(name) != at}
                log.info("the cache's Redis has heard of changes", subjects=len(owed))

    async def _abandon(self) -> None:
        """Whoever else wants to load these need not wait until our right ends."""
        while self._unheard:
            key = next(iter(self._unheard))
            await self.store.abandon(key)
            self._unheard.discard(key)


_OUTCOMES = {FRESH: "hits", STALE: "stale", DIRECT: "errors"}


def _is_fresh(held: Cached[Any] | None) -> bool:
    return held is not None and held.source == FRESH


def _is_cancelled_itself() -> bool:
    """Whether it is the task that runs now which was cancelled, not something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

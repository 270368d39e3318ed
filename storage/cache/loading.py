"""Loads a value once for all readers who miss it at the same time, in this process and in others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Generic, TypeVar

import structlog

from storage.asyncio_tools import BackgroundTasks
from storage.cache.entries import CacheKey, LoadLock
from storage.cache.stats import ReadCounter
from storage.cache.tags import ALL_TAG
from storage.cache.values import Cached, CachedValues, Source
from storage.errors import CacheLoadError, CacheUnavailableError

log = structlog.get_logger(__name__)

T = TypeVar("T")
Loader = Callable[[], Awaitable[T]]

_MAX_OUTDATED_LOADS = 3
"""Loads in a row that were invalidated before they were stored; then a reader loads without storing."""
_FAILURE_PAUSE_SECONDS = 1.0
"""Seconds after a failed load during which readers who have a stale value do not load."""
_LOCK_GRACE_SECONDS = 1.0
"""Seconds for which a load lock outlasts the load's timeout."""
_FIRST_POLL_SECONDS, _MAX_POLL_SECONDS, _POLL_GROWTH = 0.02, 0.25, 1.5
"""Intervals at which a process that waits for another's load polls Redis."""


class Turn(Enum):
    """The next step of a process whose value is missing or stale."""

    OURS = auto()
    """Load: it holds the load lock."""
    LOADED_ELSEWHERE = auto()
    """Read: another process has stored a fresh value."""
    FAILED_ELSEWHERE = auto()
    """Serve a stale value: another's load failed a moment ago, or takes too long."""


@dataclass(slots=True, eq=False)
class _Load(Generic[T]):
    """A load that readers of this process can join; its result is None if it was outdated."""

    tags: frozenset[str]
    task: asyncio.Task[Cached[T] | None] = field(init=False)


@dataclass(frozen=True, slots=True)
class _Loaded(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


class LoadCoordinator(Generic[T]):
    """Answers reads from the cache, and loads what is missing: one load for all readers.

    No read returns a value that was invalidated before the read began.
    """

    def __init__(self, values: CachedValues[T], counter: ReadCounter, *, timeout: float) -> None:
        self.timeout = timeout
        """Seconds until a load has failed."""
        self._values = values
        self._counter = counter
        self._joinable: dict[str, _Load[T]] = {}
        self._tasks = BackgroundTasks()

    @property
    def lock_seconds(self) -> float:
        """TTL of a load lock: its holder has died if it has not released it by then."""
        return self.timeout + _LOCK_GRACE_SECONDS

    async def close(self) -> None:
        """Cancel the loads; their readers get CacheLoadError."""
        await self._tasks.close()

    def detach(self, key: CacheKey) -> None:
        """Let no later reader join the load of an entry."""
        self._joinable.pop(str(key), None)

    def detach_tags(self, tags: Iterable[str]) -> None:
        """Let no later reader join the load of an entry that has one of the tags."""
        invalidated = frozenset(tags)
        for name, load in list(self._joinable.items()):
            if ALL_TAG in invalidated or not load.tags.isdisjoint(invalidated):
                del self._joinable[name]

    async def get_or_load(self, key: CacheKey, loader: Loader[T]) -> Cached[T]:
        """Return a fresh value, else what a load returns.

        Loads which were invalidated before they were stored are repeated.  Raises as `load_uncached`.
        """
        for _ in range(_MAX_OUTDATED_LOADS):
            load = self._joinable.get(str(key))
            if load is None:
                cached = await self._values.read(key)
                if cached is not None and cached.fresh:
                    return cached
                # Another reader may have started a load during the read.
                load = self._joinable.get(str(key)) or self._start(key, loader)
            answer = await _join(load)
            if answer is not None:
                return answer
        return await self.load_uncached(key, loader, Source.LOADED)

    async def load_uncached(self, key: CacheKey, loader: Loader[T], source: Source) -> Cached[T]:
        """Load without storing.

        If that fails, returns a stale value; without one, raises the error of ``loader`` or CacheLoadError.
        """
        try:
            return Cached(await self._run(loader), source)
        except Exception as error:
            return await self._stale_or_raise(key, error)

    def _start(self, key: CacheKey, loader: Loader[T]) -> _Load[T]:
        load = _Load[T](frozenset(key.tags))
        load.task = self._tasks.start(self._load(key, loader, load))
        load.task.add_done_callback(lambda _: self._close(key, load))
        self._joinable[str(key)] = load
        return load

    def _close(self, key: CacheKey, load: _Load[T]) -> None:
        if self._joinable.get(str(key)) is load:
            del self._joinable[str(key)]

    async def _load(self, key: CacheKey, loader: Loader[T], load: _Load[T]) -> Cached[T] | None:
        """Load a value in the four steps below; None if it was outdated before it could be served."""
        try:
            turn, lock = await self._wait_for_turn(key)
        except CacheUnavailableError:
            return await self.load_uncached(key, loader, Source.DIRECT)
        result = await self._run_locked(key, lock, loader) if turn is Turn.OURS else None
        # Invariant: a load can be joined only until Redis checks, below, whether its value is valid.  So
        # the check is newer than the start of every read that joined; a later reader has its own check.
        self._close(key, load)
        if result is not None:
            return await self._store(key, lock, result)
        return await self._serve_stored(key, turn, lock, loader)

    async def _wait_for_turn(self, key: CacheKey) -> tuple[Turn, LoadLock]:
        """Wait until this process holds the load lock or need not load.  Raises CacheUnavailableError."""
        delay = _FIRST_POLL_SECONDS
        deadline = time.monotonic() + self.lock_seconds + 2 * _MAX_POLL_SECONDS
        while True:
            lock, cached = await self._values.acquire_load_lock(key, self.lock_seconds)
            if cached is not None and cached.fresh:
                return Turn.LOADED_ELSEWHERE, lock
            if lock.outcome == "load":
                return Turn.OURS, lock
            if lock.outcome == "failed" or time.monotonic() > deadline:
                return Turn.FAILED_ELSEWHERE, lock
            await asyncio.sleep(delay)
            delay = min(delay * _POLL_GROWTH, _MAX_POLL_SECONDS)

    async def _run_locked(self, key: CacheKey, lock: LoadLock, loader: Loader[T]) -> _Loaded[T] | _Failed:
        """Run the loader; its error is returned, so that one line in `_load` ends the joining."""
        try:
            return _Loaded(await self._run(loader))
        except asyncio.CancelledError:
            await self._values.release_load_lock(key, lock)
            raise
        except Exception as error:
            return _Failed(error)

    async def _store(self, key: CacheKey, lock: LoadLock, result: _Loaded[T] | _Failed) -> Cached[T] | None:
        """Store what was loaded; if the load failed, pause other loads and serve a stale value."""
        if isinstance(result, _Failed):
            await self._values.release_load_lock(key, lock, _FAILURE_PAUSE_SECONDS)
            return await self._stale_or_raise(key, result.error)
        stored = await self._values.store_loaded(key, lock, result.value)
        return Cached(result.value, Source.LOADED) if stored else None

    async def _serve_stored(
        self, key: CacheKey, turn: Turn, lock: LoadLock, loader: Loader[T]
    ) -> Cached[T] | None:
        """Serve what another process has stored."""
        if turn is Turn.LOADED_ELSEWHERE and lock.outcome == "load":
            await self._values.release_load_lock(key, lock)
        cached = await self._values.read(key)
        if turn is Turn.FAILED_ELSEWHERE:
            return cached or await self.load_uncached(key, loader, Source.LOADED)
        return replace(cached, source=Source.LOADED) if cached is not None and cached.fresh else None

    async def _stale_or_raise(self, key: CacheKey, error: Exception) -> Cached[T]:
        """Return a value that is valid still, after its load failed; else raises the error."""
        cached = await self._values.read(key)
        if cached is None:
            raise error
        if cached.stale:
            log.warning("a stale cache entry is served: its load failed", key=str(key), error=repr(error))
        return cached

    async def _run(self, loader: Loader[T]) -> T:
        """Run the loader with the timeout.  A cancellation that is not ours is an error like others."""
        self._counter.totals["loads"] += 1
        try:
            async with asyncio.timeout(self.timeout) as limit:
                return await loader()
        except asyncio.CancelledError:
            if _is_cancelled_itself():
                raise
            self._counter.totals["load_failures"] += 1
            raise CacheLoadError("the load was cancelled") from None
        except Exception as error:
            self._counter.totals["load_failures"] += 1
            if limit.expired() and isinstance(error, TimeoutError):
                raise CacheLoadError(f"not loaded within {self.timeout:g} s") from None
            raise


async def _join(load: _Load[T]) -> Cached[T] | None:
    """Return the result of a load, which continues if this reader is cancelled."""
    try:
        return await asyncio.shield(load.task)
    except asyncio.CancelledError:
        if load.task.cancelled() and not _is_cancelled_itself():
            raise CacheLoadError("the load was cancelled") from None
        raise


def _is_cancelled_itself() -> bool:
    """Return whether the running task was cancelled, and not something that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

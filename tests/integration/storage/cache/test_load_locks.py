"""The lock of a load: killed holders, lost replies, locks of others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis.asyncio

from storage.cache.cache import Cache
from storage.cache.entries import PREFIX, LoadLock
from storage.errors import CacheLoadError, CacheUnavailableError
from tests.integration.storage.cache.conftest import KEY, NewCache, Outfit, Wardrobe, called, until


async def test_another_process_loads_after_the_loader_was_killed(new_cache: NewCache) -> None:
    dead, cache, wardrobe = new_cache(), new_cache(load_seconds=0.5), Wardrobe()
    assert (await dead.store.acquire_load_lock(KEY, 1.5, 5)).outcome == "load"  # then the process dies
    assert (await cache.get_or_load(KEY, wardrobe.load)).source == "loaded"
    assert await cache.exists(KEY), "and it is kept for the next one"
    assert wardrobe.calls == 1


async def test_a_lock_whose_reply_was_lost_is_released(
    new_cache: NewCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = new_cache(), new_cache()
    real = here.store.acquire_load_lock

    async def lost(*args: Any) -> LoadLock:
        await real(*args)
        raise CacheUnavailableError("the reply is lost")

    monkeypatch.setattr(here.store, "acquire_load_lock", lost)
    assert (await here.get_or_load(KEY, Wardrobe().load)).source == "direct"
    async with asyncio.timeout(2):
        assert (await there.get_or_load(KEY, Wardrobe().load)).source == "loaded"
        await here.wait_until_delivered()


async def test_a_load_lock_is_granted_to_its_holder_again(cache: Cache[Outfit]) -> None:
    first = await cache.store.acquire_load_lock(KEY, 10, 60)
    again = await cache.store.acquire_load_lock(KEY, 10, 60)
    assert (first.outcome, again.outcome) == ("load", "load")
    assert first.token == again.token


async def test_a_closing_cache_releases_its_load_locks(new_cache: NewCache) -> None:
    closing, next_one = new_cache(load_seconds=60), new_cache(load_seconds=60)
    slow = Wardrobe(seconds=60)
    reading = asyncio.create_task(closing.get_or_load(KEY, slow.load))
    await until(lambda: called(slow, 1))
    await closing.close()
    with pytest.raises(CacheLoadError):
        await reading
    async with asyncio.timeout(10):
        assert (await next_one.get_or_load(KEY, Wardrobe().load)).source == "loaded"


async def test_a_foreign_lock_without_a_ttl_is_ignored(
    cache: Cache[Outfit], raw: redis.asyncio.Redis
) -> None:
    await raw.set(f"{PREFIX}load:{KEY}", "somebody")
    await raw.hset(f"{PREFIX}generation:all", "a", "b")
    async with asyncio.timeout(2):
        assert (await cache.get_or_load(KEY, Wardrobe().load)).source == "loaded"
    assert (await cache.get_or_load(KEY, Wardrobe().load)).source == "fresh"


async def test_a_reader_who_waits_for_a_failing_load_gets_the_stale_value(new_cache: NewCache) -> None:
    here, there = (new_cache(fresh_seconds=0.1, expire_seconds=60, load_seconds=0.6) for _ in range(2))
    await here.get_or_load(KEY, Wardrobe().load)
    await asyncio.sleep(0.15)
    slow = Wardrobe(seconds=60)
    answers = await asyncio.gather(*(cache.get_or_load(KEY, slow.load) for cache in (here, there)))
    assert [answer.source for answer in answers] == ["stale", "stale"]

"""One load for many readers, and what they get if it fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from storage.cache.cache import Cache
from storage.errors import CacheLoadError
from tests.integration.storage.cache.conftest import (
    COAT,
    KEY,
    OTHER,
    NewCache,
    Outfit,
    Wardrobe,
    called,
    until,
)


async def test_a_fresh_value_is_served_and_a_stale_one_is_loaded_again(new_cache: NewCache) -> None:
    cache, wardrobe = new_cache(fresh_seconds=1.0, expire_seconds=60), Wardrobe()
    first = await cache.get_or_load(KEY, wardrobe.load)
    second = await cache.get_or_load(KEY, wardrobe.load)
    assert (first.source, second.source, wardrobe.calls) == ("loaded", "fresh", 1)
    await asyncio.sleep(1.05)
    third = await cache.get_or_load(KEY, wardrobe.load)
    assert (third.source, wardrobe.calls) == ("loaded", 2)


async def test_200_misses_of_two_processes_are_one_load(new_cache: NewCache) -> None:
    here, there, wardrobe = new_cache(), new_cache(), Wardrobe(seconds=0.2)
    answers = await asyncio.gather(
        *(cache.get_or_load(KEY, wardrobe.load) for cache in (here, there) for _ in range(100))
    )
    assert {answer.value.name for answer in answers} == {"coat"}
    assert wardrobe.calls == 1


async def test_a_failed_load_serves_the_stale_value_as_stale(new_cache: NewCache) -> None:
    cache, wardrobe = new_cache(fresh_seconds=0.1, expire_seconds=5), Wardrobe()
    await cache.get_or_load(KEY, wardrobe.load)
    await asyncio.sleep(0.15)
    wardrobe.error = RuntimeError("the database is down")
    answer = await cache.get_or_load(KEY, wardrobe.load)
    assert answer.stale
    assert answer.value == COAT
    assert 0.1 < answer.age < 5
    again = await new_cache(fresh_seconds=0.1, expire_seconds=5).get_or_load(KEY, wardrobe.load)
    assert again.stale
    assert wardrobe.calls == 2, "for a moment nobody else tries"
    await asyncio.sleep(1.1)
    wardrobe.error = None
    assert (await cache.get_or_load(KEY, wardrobe.load)).source == "loaded"
    assert cache.counts["stale"] == 1
    assert cache.counts["load_failures"] == 1


async def test_a_failed_load_without_a_stale_value_raises(cache: Cache[Outfit]) -> None:
    wardrobe = Wardrobe()
    wardrobe.error = RuntimeError("the database is down")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="down"):
            await cache.get_or_load(KEY, wardrobe.load)
    assert wardrobe.calls == 2


async def test_a_stale_value_expires(new_cache: NewCache) -> None:
    cache, wardrobe = new_cache(fresh_seconds=0.1, expire_seconds=0.3), Wardrobe()
    await cache.get_or_load(KEY, wardrobe.load)
    await asyncio.sleep(0.4)
    wardrobe.error = RuntimeError("the database is down")
    with pytest.raises(RuntimeError, match="down"):
        await cache.get_or_load(KEY, wardrobe.load)


async def test_a_slow_load_times_out(new_cache: NewCache) -> None:
    cache = new_cache(load_seconds=0.2)
    with pytest.raises(CacheLoadError, match=r"0\.2 s"):
        await cache.get_or_load(KEY, Wardrobe(seconds=5).load)


async def test_a_cancelled_reader_does_not_cancel_the_load_of_others(cache: Cache[Outfit]) -> None:
    wardrobe = Wardrobe(seconds=0.2)
    leaving = asyncio.create_task(cache.get_or_load(KEY, wardrobe.load))
    staying = asyncio.create_task(cache.get_or_load(KEY, wardrobe.load))
    await until(lambda: called(wardrobe, 1))
    leaving.cancel()
    assert (await staying).value == COAT
    assert wardrobe.calls == 1


async def test_a_value_that_is_not_json_is_served_and_releases_its_lock(
    new_cache: NewCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = new_cache()

    def refuse(_: Any) -> bytes:
        raise RecursionError("too deep")

    monkeypatch.setattr(cache._values, "encode", refuse)
    async with asyncio.timeout(2):
        for _ in range(2):
            assert (await cache.get_or_load(KEY, Wardrobe().load)).value == COAT
        with pytest.raises(RecursionError):
            await cache.set(KEY, COAT)
        assert (await new_cache().get_or_load(KEY, Wardrobe().load)).source == "loaded"


async def test_timeouts_and_cancellations_of_a_loader_are_its_errors(cache: Cache[Outfit]) -> None:
    wardrobe = Wardrobe()
    wardrobe.error = TimeoutError("the mail server gave no answer")
    with pytest.raises(TimeoutError, match="mail server"):
        await cache.get_or_load(KEY, wardrobe.load)

    async def broken_off() -> Outfit:
        raise asyncio.CancelledError

    with pytest.raises(CacheLoadError, match="cancelled"):
        await cache.get_or_load(OTHER, broken_off)

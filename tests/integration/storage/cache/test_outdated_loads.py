"""No outdated value is stored or served when a change comes during a load."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from storage.cache.cache import Cache
from storage.cache.entries import CacheKey, LoadLock
from storage.cache.tags import ALL_TAG, location_tag, user_tag
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
from tests.support.servers import free_port


async def test_a_stale_value_invalidated_during_its_load_is_not_served(new_cache: NewCache) -> None:
    here, there = (new_cache(fresh_seconds=0.1, expire_seconds=60) for _ in range(2))
    await here.get_or_load(KEY, Wardrobe().load)
    await asyncio.sleep(0.15)
    failing = Wardrobe(seconds=0.3)
    failing.error = RuntimeError("the database is down")
    early = asyncio.create_task(there.get_or_load(KEY, failing.load))
    await until(lambda: called(failing, 1))
    await here.invalidate(user_tag("u1"))
    late = asyncio.create_task(there.get_or_load(KEY, failing.load))
    for task in (early, late):
        with pytest.raises(RuntimeError, match="down"):
            await task


async def test_a_reader_does_not_join_a_load_whose_value_is_stored_already(
    new_cache: NewCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing, loading, wardrobe = new_cache(), new_cache(), Wardrobe()
    stored, go, real = asyncio.Event(), asyncio.Event(), loading.store.store

    async def slow(*args: Any, **options: Any) -> bool:
        done = await real(*args, **options)
        stored.set()
        await go.wait()
        return done

    monkeypatch.setattr(loading.store, "store", slow)
    early = asyncio.create_task(loading.get_or_load(KEY, wardrobe.load))
    await stored.wait()
    monkeypatch.setattr(loading.store, "store", real)
    wardrobe.outfit = Outfit(name="raincoat")
    await changing.invalidate(user_tag("u1"))
    late = asyncio.create_task(loading.get_or_load(KEY, wardrobe.load))
    await asyncio.sleep(0.05)
    go.set()
    assert (await late).value.name == "raincoat"
    assert (await early).value == COAT


async def test_a_value_that_another_process_loaded_first_is_checked_again(
    new_cache: NewCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, reading, wardrobe = new_cache(), new_cache(), Wardrobe()
    claimed, go, real = asyncio.Event(), asyncio.Event(), reading.store.acquire_load_lock

    async def slow(*args: Any) -> LoadLock:
        await other.set(KEY, COAT)
        claim = await real(*args)
        monkeypatch.setattr(reading.store, "acquire_load_lock", real)
        claimed.set()
        await go.wait()
        return claim

    monkeypatch.setattr(reading.store, "acquire_load_lock", slow)
    early = asyncio.create_task(reading.get_or_load(KEY, wardrobe.load))
    await claimed.wait()
    wardrobe.outfit = Outfit(name="raincoat")
    await other.invalidate(user_tag("u1"))
    late = asyncio.create_task(reading.get_or_load(KEY, wardrobe.load))
    await asyncio.sleep(0.05)
    go.set()
    assert (await late).value.name == "raincoat"
    assert (await early).value.name == "raincoat"


async def test_repeatedly_outdated_loads_end_with_a_current_value(
    new_cache: NewCache,
) -> None:
    changing, reading, wardrobe = new_cache(), new_cache(), Wardrobe(seconds=0.1)
    early = asyncio.create_task(reading.get_or_load(KEY, wardrobe.load))
    late = early
    for number in range(1, 4):
        await until(lambda number=number: called(wardrobe, number))  # type: ignore[misc]
        wardrobe.outfit = Outfit(name="coat", warmth=number)
        await changing.invalidate(user_tag("u1"))
        late = asyncio.create_task(reading.get_or_load(KEY, wardrobe.load))
        await asyncio.sleep(0)
    assert (await late).value.warmth == 3
    await early


async def test_no_reader_waits_for_a_load_that_an_invalidation_outdated(new_cache: NewCache) -> None:
    slow, quick, wardrobe = new_cache(load_seconds=60), new_cache(load_seconds=60), Wardrobe(seconds=60)
    early = asyncio.create_task(slow.get_or_load(KEY, wardrobe.load))
    await until(lambda: called(wardrobe, 1))
    await quick.invalidate(user_tag("u1"))
    async with asyncio.timeout(10):
        assert (await quick.get_or_load(KEY, Wardrobe().load)).source == "loaded"
    early.cancel()
    await asyncio.wait({early})


async def test_an_older_load_does_not_undo_a_set_or_delete(new_cache: NewCache) -> None:
    loading, acting, wardrobe = new_cache(), new_cache(), Wardrobe(seconds=0.2)
    early = asyncio.create_task(loading.get_or_load(KEY, wardrobe.load))
    await until(lambda: called(wardrobe, 1))
    wardrobe.outfit = Outfit(name="raincoat")
    assert await acting.set(KEY, Outfit(name="set"))
    assert (await early).value.name == "set"
    early = asyncio.create_task(loading.get_or_load(OTHER, wardrobe.load))
    await until(lambda: called(wardrobe, 2))
    wardrobe.outfit = COAT
    await acting.delete(OTHER)
    assert (await early).value == COAT


@pytest.mark.parametrize("tag", [user_tag("u1"), location_tag("lisboa"), ALL_TAG])
async def test_a_value_loaded_before_an_invalidation_is_neither_stored_nor_served(
    new_cache: NewCache, tag: str
) -> None:
    """The load of one process begins before the invalidation by another."""
    loading, changing, wardrobe = new_cache(), new_cache(), Wardrobe(seconds=0.3)
    early = asyncio.create_task(loading.get_or_load(KEY, wardrobe.load))
    await until(lambda: called(wardrobe, 1))
    wardrobe.outfit = Outfit(name="raincoat")
    await changing.invalidate(tag)
    late = asyncio.create_task(loading.get_or_load(KEY, wardrobe.load))
    assert (await late).value.name == "raincoat"
    assert (await early).value.name == "raincoat"
    assert (await changing.get_or_load(KEY, wardrobe.load)).value.name == "raincoat"


async def test_a_reader_after_an_invalidation_does_not_join_an_older_load(
    cache: Cache[Outfit],
) -> None:
    wardrobe = Wardrobe(seconds=0.2)
    early = asyncio.create_task(cache.get_or_load(KEY, wardrobe.load))
    await until(lambda: called(wardrobe, 1))
    wardrobe.outfit = Outfit(name="raincoat")
    await cache.invalidate(user_tag("u1"))
    assert (await cache.get_or_load(KEY, wardrobe.load)).value.name == "raincoat"
    await early


async def test_a_reader_after_an_invalidation_does_not_join_an_older_load_without_redis(
    new_cache: NewCache,
) -> None:
    cache, wardrobe = new_cache(f"redis://127.0.0.1:{free_port()}/0"), Wardrobe(seconds=0.2)
    early = asyncio.create_task(cache.get_or_load(KEY, wardrobe.load))
    await until(lambda: called(wardrobe, 1))
    wardrobe.outfit = Outfit(name="raincoat")
    assert await cache.invalidate(user_tag("u1")) is None
    late = await cache.get_or_load(KEY, wardrobe.load)
    assert (late.value.name, late.source) == ("raincoat", "direct")
    assert (await early).value.name == "coat"


@pytest.mark.slow
async def test_no_outdated_value_is_served_under_concurrent_changes(new_cache: NewCache) -> None:
    """Four processes read, a fifth invalidates: no value is older than the last invalidation."""
    versions = {"u1": 0, "u2": 0}
    keys = [CacheKey(name, f"place-{n}") for name in versions for n in range(5)]

    async def load(name: str) -> Outfit:
        version = versions[name]
        await asyncio.sleep(0.002)
        return Outfit(name=name, warmth=version)

    async def read(cache: Cache[Outfit]) -> int:
        reads = 0
        while not done.is_set():
            for key in keys:
                least = versions_confirmed[key.user_id]
                answer = await cache.get_or_load(key, lambda name=key.user_id: load(name))  # type: ignore[misc]
                assert answer.value.warmth >= least, f"{key}: {answer} is older than {least}"
                reads += 1
        return reads

    versions_confirmed = dict(versions)
    done = asyncio.Event()
    readers = [asyncio.create_task(read(new_cache())) for _ in range(4)]
    changer = new_cache()
    for turn in range(200):
        name = ("u1", "u2")[turn % 2]
        versions[name] += 1
        await changer.invalidate(user_tag(name))
        versions_confirmed[name] = versions[name]
        await asyncio.sleep(0.005)
    done.set()
    assert min(await asyncio.gather(*readers)) > len(keys)

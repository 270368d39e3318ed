"""Entries of the cache: they expire, have a prefix and a TTL, and come back as they were set."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio

from storage.cache.cache import Cache
from storage.cache.entries import ENTRY, PREFIX, CacheKey
from storage.cache.tags import location_tag, user_tag
from tests.integration.storage.cache.conftest import COAT, KEY, OTHER, NewCache, Outfit, Wardrobe


async def test_get_exists_ttl_set_and_delete(cache: Cache[Outfit]) -> None:
    assert await cache.get(KEY) is None
    assert not await cache.exists(KEY)
    assert await cache.ttl(KEY) is None
    assert await cache.set(KEY, COAT)
    assert await cache.get(KEY) == COAT
    assert await cache.exists(KEY)
    assert 59 < (await cache.ttl(KEY) or 0) <= 60
    assert await cache.delete(KEY)
    assert not await cache.delete(KEY)
    assert await cache.get(KEY) is None
    assert cache.counts["hits"] == 1
    assert cache.counts["misses"] == 2


async def test_an_entry_expires_after_its_ttl(cache: Cache[Outfit], raw: redis.asyncio.Redis) -> None:
    await cache.set(KEY, COAT, ttl=20)
    assert 0 < await raw.pttl(f"{ENTRY}{KEY}") <= 20_000
    await cache.set(KEY, COAT, ttl=0.2)
    await asyncio.sleep(0.25)
    assert await cache.get(KEY) is None
    assert not await cache.exists(KEY)


@pytest.mark.parametrize("ttl", [0, -1, 1e-5, 1e9, float("inf"), float("nan")])
async def test_an_invalid_ttl_is_refused(cache: Cache[Outfit], ttl: float) -> None:
    with pytest.raises(ValueError, match="TTL"):
        await cache.set(KEY, COAT, ttl=ttl)


async def test_every_key_has_a_ttl_and_the_prefix(cache: Cache[Outfit], raw: redis.asyncio.Redis) -> None:
    wardrobe = Wardrobe()
    await cache.get_or_load(KEY, wardrobe.load)
    await cache.set(OTHER, COAT)
    await cache.get_or_load(KEY, wardrobe.load)
    await cache.store.count(cache.counts)
    keys = [key async for key in raw.scan_iter()]
    assert len(keys) >= 8
    for key in keys:
        assert key.decode().startswith(PREFIX)
        assert await raw.ttl(key) > 0


async def test_integers_beyond_64_bits_are_cached_exactly(new_cache: NewCache) -> None:
    cache, big = new_cache(), Outfit(name="big", warmth=2**70)

    async def load() -> Outfit:
        return big

    assert (await cache.get_or_load(KEY, load)).value == big
    again = await cache.get_or_load(KEY, load)
    assert (again.value, again.source) == (big, "fresh")


@pytest.mark.parametrize("options", ["?protocol=3", "?decode_responses=true"])
async def test_options_of_the_url_change_nothing(new_cache: NewCache, redis_url: str, options: str) -> None:
    cache = new_cache(redis_url + options)
    for source in ("loaded", "fresh"):
        assert (await cache.get_or_load(KEY, Wardrobe().load)).source == source
    await cache.flush_stats()
    assert (await cache.store.stats()).hits == 1
    assert (await cache.store.server_info()).eviction_policy
    assert (await cache.store.page()).items


async def test_an_evicted_version_is_a_miss(cache: Cache[Outfit], raw: redis.asyncio.Redis) -> None:
    await cache.set(KEY, COAT)
    await raw.delete(f"{PREFIX}owned:u1")  # an eviction may take any of the keys
    await cache.invalidate(user_tag("u1"))
    assert not await cache.exists(KEY)
    await cache.set(KEY, COAT)
    await raw.delete(f"{PREFIX}generation:user:u1")
    assert not await cache.exists(KEY)


async def test_special_characters_in_names_are_escaped(cache: Cache[Outfit]) -> None:
    odd = CacheKey("a*[b]?:c\\ \x1b\ud800", "Köln:2026", (location_tag("x\ny"),))
    await cache.set(odd, COAT)
    assert await cache.get(odd) == COAT
    (row,) = (await cache.store.page()).items
    assert row.key == str(odd)
    assert "\x1b" not in row.key
    assert await cache.invalidate(user_tag(odd.user_id)) == 1

"""Invalidating users, locations and everything: neither more nor less, and in one round trip."""

from __future__ import annotations

import redis.asyncio

from storage.cache.cache import Cache
from storage.cache.entries import ENTRY, CacheKey
from storage.cache.tags import ALL_TAG, location_tag, user_tag
from tests.integration.storage.cache.conftest import COAT, KEY, OTHER, Outfit


async def test_invalidating_a_user_removes_their_entries_and_no_others(
    cache: Cache[Outfit], raw: redis.asyncio.Redis
) -> None:
    mine = [CacheKey("u1", f"place-{n}:now", (location_tag(f"place-{n}"),)) for n in range(30)]
    for key in [*mine, OTHER]:
        await cache.set(key, COAT)
    assert await cache.store.count_for_user("u1") == 30
    scans = (await raw.info("commandstats")).get("cmdstat_scan")
    assert await cache.invalidate(user_tag("u1")) == 30
    assert (await raw.info("commandstats")).get("cmdstat_scan") == scans
    assert not [key for key in mine if await cache.exists(key)]
    assert [key async for key in raw.scan_iter(f"{ENTRY}u1:*")] == []
    assert await cache.exists(OTHER)


async def test_a_user_with_the_same_prefix_is_not_invalidated(cache: Cache[Outfit]) -> None:
    odd = CacheKey("u1:lisboa", "now")
    await cache.set(odd, COAT)
    await cache.invalidate(user_tag("u1"))
    assert await cache.exists(odd)


async def test_a_location_and_all_entries_can_be_invalidated(cache: Cache[Outfit]) -> None:
    elsewhere = CacheKey("u1", "porto:now", (location_tag("porto"),))
    for key in (KEY, OTHER, elsewhere):
        await cache.set(key, COAT)
    await cache.invalidate(location_tag("lisboa"))
    assert [await cache.exists(key) for key in (KEY, OTHER, elsewhere)] == [False, False, True]
    await cache.invalidate(ALL_TAG)
    assert not await cache.exists(elsewhere)


async def test_invalidating_thousands_of_users_is_one_round_trip(cache: Cache[Outfit]) -> None:
    users = [f"u{number}" for number in range(12_000)]
    await cache.set(CacheKey("u11999", "now"), COAT)
    assert await cache.invalidate(*map(user_tag, users)) == 1
    assert not await cache.exists(CacheKey("u11999", "now"))

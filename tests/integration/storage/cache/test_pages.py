"""The cache as operators see it: the counts of all processes, and pages of entries."""

from __future__ import annotations

import asyncio

import redis.asyncio

from storage.cache.cache import Cache
from storage.cache.entries import ENTRY, PREFIX, CacheKey
from tests.integration.storage.cache.conftest import COAT, KEY, NewCache, Outfit, Wardrobe


async def test_statistics_count_all_processes(new_cache: NewCache) -> None:
    here, there = new_cache(), new_cache()
    await here.get_or_load(KEY, Wardrobe().load)
    for cache in (here, there, there):
        await cache.get_or_load(KEY, Wardrobe().load)
    for cache in (here, there):
        await cache.flush_stats()
        await cache.flush_stats()
    stats = await here.store.stats()
    assert (stats.hits, stats.misses, stats.stale, stats.errors) == (3, 1, 0, 0)
    assert stats.hit_rate == 0.75
    assert len(stats.minutes) == 60
    assert any(share is not None for share in stats.minutes[-2:])


async def test_pages_list_every_entry_once(cache: Cache[Outfit], raw: redis.asyncio.Redis) -> None:
    async with raw.pipeline(transaction=False) as pipeline:
        for number in range(5_000):
            pipeline.set(f"saq:job:color-extraction:{number}", "a job")
        await pipeline.execute()
    keys = [CacheKey(f"u{n % 7}", f"place-{n}") for n in range(250)]
    for key in keys:
        await cache.set(key, COAT)
    seen, cursor, pages = list[str](), None, 0
    while True:
        page = await cache.store.page(cursor=cursor, limit=50)
        seen += [row.key for row in page.items]
        cursor, pages = page.next, pages + 1
        if cursor is None:
            break
    assert sorted(seen) == sorted(map(str, keys))
    assert pages > 1
    assert {row.key for row in (await cache.store.page("u3:*", limit=1000)).items} == {
        str(key) for key in keys if key.user_id == "u3"
    }


async def test_rows_show_the_state_of_entries(new_cache: NewCache, raw: redis.asyncio.Redis) -> None:
    cache = new_cache(fresh_seconds=0.1, expire_seconds=60)
    fresh, stale, gone, corrupt = (CacheKey(name, "now") for name in ("fresh", "stale", "gone", "corrupt"))
    await cache.set(stale, COAT)
    await asyncio.sleep(0.15)
    await cache.set(fresh, COAT, ttl=30)
    await cache.set(gone, COAT, ttl=30)
    await raw.delete(f"{PREFIX}generation:user:gone")
    await raw.set(f"{ENTRY}{corrupt}", "rubbish", ex=10)
    rows = {row.key: row for row in (await cache.store.page()).items}
    assert {key: row.state for key, row in rows.items()} == {
        "fresh:now": "fresh",
        "stale:now": "stale",
        "gone:now": "outdated",
        "corrupt:now": "corrupt",
    }
    assert 29 < rows["fresh:now"].ttl <= 30
    assert rows["corrupt:now"].size == 7
    found = await cache.store.entry("fresh:now")
    assert found is not None
    assert found[1] == b'{"name":"coat","warmth":3}'
    assert await cache.store.entry("nobody:now") is None
    assert await cache.store.existing_keys(["nobody:now", "stale:now", "fresh:now"]) == [
        "stale:now",
        "fresh:now",
    ]
    assert await cache.store.existing_keys([]) == []
    assert await cache.store.evict(["fresh:now", "nobody:now"]) == 1
    assert sorted(await cache.store.keys("*")) == ["corrupt:now", "gone:now", "stale:now"]

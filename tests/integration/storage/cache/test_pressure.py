"""The cache in a full Redis: LRU evicts its keys, and no outdated value is served."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis.asyncio

from storage.asyncio_tools import cancel_and_wait
from storage.cache.cache import Cache
from storage.cache.entries import CacheKey
from storage.cache.tags import location_tag, user_tag
from tests.integration.storage.cache.conftest import NewCache, Outfit
from tests.support.servers import ValkeyServer

LIMIT_MB = 12
USERS = 600
PLACES = 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(
        tmp_path / "valkey", "--maxmemory", f"{LIMIT_MB}mb", "--maxmemory-policy", "volatile-lru"
    )
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
async def test_reads_are_correct_when_a_fraction_of_12000_entries_fits(
    small: ValkeyServer, new_cache: NewCache
) -> None:
    """Every read returns the current value, while entries, versions and lists are evicted."""
    caches = [new_cache(small.url) for _ in range(3)]
    versions: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    sources: Counter[str] = Counter()

    async def read(cache: Cache[Outfit], user_id: str, place: str) -> None:
        least = counts[user_id]

        async def load() -> Outfit:
            version = versions[user_id]
            await asyncio.sleep(0)
            return Outfit(name=f"{user_id} {place} " + "x" * 1_500, warmth=version)

        answer = await cache.get_or_load(CacheKey(user_id, place, (location_tag(place),)), load)
        sources[answer.source] += 1
        assert answer.value.name.startswith(f"{user_id} {place} ")
        assert answer.value.warmth >= least, f"{user_id} {place}: older than what was told"

    async def reader(cache: Cache[Outfit], seed: int) -> None:
        choose = random.Random(seed)
        every = [(f"u{n}", f"p{m}") for n in range(USERS) for m in range(PLACES)]
        choose.shuffle(every)
        for user_id, place in every[: len(every) // 3]:
            await read(cache, user_id, place)
            await read(cache, f"u{choose.randrange(20)}", place)

    async def change() -> None:
        while True:
            user_id = f"u{random.randrange(20)}"  # one of those that are read often
            versions[user_id] += 1
            version = versions[user_id]
            await caches[0].invalidate(user_tag(user_id))
            counts[user_id] = max(counts[user_id], version)
            await asyncio.sleep(0.002)

    changing = asyncio.create_task(change())
    await asyncio.gather(*(reader(cache, seed) for seed, cache in enumerate(caches * 2)))
    await cancel_and_wait([changing])
    async with redis.asyncio.Redis.from_url(small.url) as client:
        info = await client.info()
        assert info["evicted_keys"] > 5_000
        # Redis evicts keys before it executes a command, not after it.
        assert info["used_memory"] < LIMIT_MB * 2**20 + 64 * 2**10
        assert info["db0"]["keys"] == info["db0"]["expires"], "a key without an end cannot be evicted"
    assert sources["fresh"] > 1_000
    assert sources["direct"] == 0

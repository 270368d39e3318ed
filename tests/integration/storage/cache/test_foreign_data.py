"""Values that other programs or older ones wrote are misses, and are replaced."""

from __future__ import annotations

import pytest
import redis.asyncio
from structlog.testing import capture_logs

from storage.cache.cache import Cache
from storage.cache.entries import ENTRY
from tests.integration.storage.cache.conftest import COAT, KEY, Outfit, Wardrobe


async def test_one_key_of_another_type_does_not_hide_the_others(
    cache: Cache[Outfit], raw: redis.asyncio.Redis
) -> None:
    await cache.set(KEY, COAT)
    await raw.hset(f"{ENTRY}foreign", "a", "b")
    rows = {row.key: row.state for row in (await cache.store.page()).items}
    assert rows == {str(KEY): "fresh", "foreign": "corrupt"}
    found = await cache.store.entry("foreign")
    assert found is not None
    assert found[1] == b""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe\x00",
        b"not ours",
        b'{"fresh": 60}\n{}',
        b'{"fresh": "soon", "kept": 1, "under": {}}\n{}',
        b'[1]\n{"name": "coat"}',
    ],
)
async def test_a_foreign_value_is_a_miss_and_is_removed_and_logged(
    cache: Cache[Outfit], raw: redis.asyncio.Redis, body: bytes
) -> None:
    await raw.set(f"{ENTRY}{KEY}", body, ex=60)
    with capture_logs() as logs:
        assert await cache.get(KEY) is None
    assert not await raw.exists(f"{ENTRY}{KEY}")
    assert [line["key"] for line in logs] == [str(KEY)]
    assert cache.counts["misses"] == 1
    assert (await cache.get_or_load(KEY, Wardrobe().load)).source == "loaded"


async def test_a_value_of_another_type_or_without_a_ttl_is_removed(
    cache: Cache[Outfit], raw: redis.asyncio.Redis
) -> None:
    await raw.rpush(f"{ENTRY}{KEY}", "a", "b")
    assert await cache.get(KEY) is None
    assert not await raw.exists(f"{ENTRY}{KEY}")
    await cache.set(KEY, COAT)
    await raw.persist(f"{ENTRY}{KEY}")
    assert await cache.get(KEY) is None
    assert not await raw.exists(f"{ENTRY}{KEY}")


async def test_data_of_an_older_shape_is_replaced(cache: Cache[Outfit], raw: redis.asyncio.Redis) -> None:
    await cache.set(KEY, COAT)
    head = (await raw.get(f"{ENTRY}{KEY}")).partition(b"\n")[0]
    await raw.set(f"{ENTRY}{KEY}", head + b'\n{"title": "coat"}', ex=60)
    with capture_logs() as logs:
        assert (await cache.get_or_load(KEY, Wardrobe().load)).value == COAT
    assert logs
    assert await cache.get(KEY) == COAT


async def test_fresh_data_of_an_older_program_is_replaced_at_once(
    cache: Cache[Outfit], raw: redis.asyncio.Redis
) -> None:
    await cache.set(KEY, COAT)
    head = (await raw.get(f"{ENTRY}{KEY}")).partition(b"\n")[0]
    await raw.set(f"{ENTRY}{KEY}", head + b'\n{"title": "coat"}', keepttl=True)
    wardrobe = Wardrobe()
    for source in ("loaded", "fresh"):
        assert (await cache.get_or_load(KEY, wardrobe.load)).source == source
    assert wardrobe.calls == 1

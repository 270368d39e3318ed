"""The cache when Redis is unavailable, hangs or refuses writes: misses, and no lost invalidation."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from structlog.testing import capture_logs

from storage.cache.entries import CacheKey, LoadLock
from storage.cache.store import TIMEOUT_SECONDS
from storage.cache.tags import user_tag
from storage.errors import CacheUnavailableError
from tests.integration.storage.cache.conftest import COAT, KEY, NewCache, Wardrobe
from tests.support.servers import ValkeyServer, free_port


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Redis that the test may stop."""
    with ValkeyServer(tmp_path / "valkey") as server:
        yield server


async def test_a_read_only_server_serves_stale_values(
    new_cache: NewCache, raw: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, wardrobe = new_cache(fresh_seconds=0.1, expire_seconds=60), Wardrobe()
    await cache.get_or_load(KEY, wardrobe.load)
    await asyncio.sleep(0.15)

    async def refuse(*_: Any) -> LoadLock:
        raise CacheUnavailableError("READONLY")

    monkeypatch.setattr(cache.store, "acquire_load_lock", refuse)
    with capture_logs() as logs:
        assert (await cache.get_or_load(KEY, wardrobe.load)).source == "direct"
        wardrobe.error = RuntimeError("the database is down")
        for _ in range(5):
            assert (await cache.get_or_load(KEY, wardrobe.load)).stale
    assert sum("is unavailable" in line["event"] for line in logs) == 1, "told once"


async def test_an_unavailable_redis_causes_misses_and_no_errors(new_cache: NewCache) -> None:
    cache = new_cache(f"redis://127.0.0.1:{free_port()}/0")
    assert await cache.get(KEY) is None
    assert not await cache.exists(KEY)
    assert not await cache.set(KEY, COAT)
    with pytest.raises(CacheUnavailableError, match="not answer"):
        await cache.delete(KEY)
    assert (await cache.get_or_load(KEY, Wardrobe().load)).value == COAT
    assert cache.counts["errors"] == 1


@pytest.mark.slow
async def test_too_many_pending_invalidations_invalidate_everything(
    new_cache: NewCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, other = new_cache(), new_cache()
    for number in range(1_200):
        await cache.set(CacheKey(f"u{number}", "now"), COAT)
    real = cache.store.invalidate

    async def away(_: Any) -> int:
        raise CacheUnavailableError("away")

    monkeypatch.setattr(cache.store, "invalidate", away)
    for number in range(1_100):
        assert await cache.invalidate(user_tag(f"u{number}")) is None
    monkeypatch.setattr(cache.store, "invalidate", real)
    await cache.wait_until_delivered()
    assert not await other.exists(CacheKey("u1", "now"))
    assert not await other.exists(CacheKey("u1199", "now"))


async def test_an_invalidation_during_a_retry_is_retried_too(
    new_cache: NewCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, other, confirmed = new_cache(), new_cache(), asyncio.Event()
    real, calls = cache.store.invalidate, 0

    async def first_two_fail(tags: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise CacheUnavailableError("away")
        removed = await real(tags)
        if calls == 2:  # Redis has confirmed, and before the reply arrives there is another change
            await other.set(KEY, COAT)
            monkeypatch.setattr(cache.store, "invalidate", fail_once)
            assert await cache.invalidate(user_tag("u1")) is None
            confirmed.set()
        return removed

    async def fail_once(_: Any) -> int:
        monkeypatch.setattr(cache.store, "invalidate", real)
        raise CacheUnavailableError("away")

    monkeypatch.setattr(cache.store, "invalidate", first_two_fail)
    assert await cache.invalidate(user_tag("u1")) is None
    await confirmed.wait()
    await cache.wait_until_delivered()
    assert not await other.exists(KEY)


async def test_counts_of_an_outage_are_reported_after_it(
    new_cache: NewCache, raw: redis.asyncio.Redis
) -> None:
    cache = new_cache(f"redis://127.0.0.1:{free_port()}/0")
    for _ in range(3):
        await cache.get_or_load(KEY, Wardrobe().load)
    await cache.flush_stats()
    failing = Wardrobe()
    failing.error = RuntimeError("away")
    with pytest.raises(RuntimeError):
        await cache.get_or_load(KEY, failing.load)
    assert cache.counts["errors"] == 3
    assert cache.counts["misses"] == 1
    cache.store = new_cache().store
    await cache.flush_stats()
    stats = await cache.store.stats()
    assert (stats.errors, stats.misses) == (3, 1)


async def test_readers_of_a_hanging_redis_wait_once(new_cache: NewCache, frozen: ValkeyServer) -> None:
    """They do not wait one after the other."""
    cache = new_cache(frozen.url, limit=TIMEOUT_SECONDS)
    await cache.get_or_load(KEY, Wardrobe().load)
    assert frozen.pid is not None
    os.kill(frozen.pid, signal.SIGSTOP)
    async with asyncio.timeout(30):  # one after the other they would wait for minutes
        answers = await asyncio.gather(*(cache.get_or_load(KEY, Wardrobe().load) for _ in range(1_000)))
    assert {answer.source for answer in answers} == {"direct"}

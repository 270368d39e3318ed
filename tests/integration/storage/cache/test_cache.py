"""The cache on a real Redis: one load for many readers, and no outdated values."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from structlog.testing import capture_logs

from storage.cache.cache import Cache
from storage.cache.entries import ENTRY, PREFIX, CacheKey, LoadLock
from storage.cache.tags import ALL_TAG, location_tag, user_tag
from storage.errors import CacheLoadError, CacheUnavailableError
from tests.integration.storage.cache.conftest import NewCache, Outfit
from tests.support.servers import ValkeyServer, free_port

KEY = CacheKey("u1", "lisboa:2026-11-25T03", (location_tag("lisboa"),))
OTHER = CacheKey("u2", "lisboa:2026-11-25T03", (location_tag("lisboa"),))
COAT = Outfit(name="coat", warmth=3)


class Wardrobe:
    """A loader that counts its calls."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls = 0
        self.seconds = seconds
        self.outfit = COAT
        self.error: Exception | None = None

    async def load(self) -> Outfit:
        self.calls += 1
        outfit = self.outfit
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return outfit


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Redis that the test may stop."""
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    yield server
    server.kill()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 - what others do in Redis has no event
            await asyncio.sleep(0.01)


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
    await until(lambda: _called(wardrobe, 1))
    leaving.cancel()
    assert (await staying).value == COAT
    assert wardrobe.calls == 1


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
    await until(lambda: _called(slow, 1))
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


async def test_a_stale_value_invalidated_during_its_load_is_not_served(new_cache: NewCache) -> None:
    here, there = (new_cache(fresh_seconds=0.1, expire_seconds=60) for _ in range(2))
    await here.get_or_load(KEY, Wardrobe().load)
    await asyncio.sleep(0.15)
    failing = Wardrobe(seconds=0.3)
    failing.error = RuntimeError("the database is down")
    early = asyncio.create_task(there.get_or_load(KEY, failing.load))
    await until(lambda: _called(failing, 1))
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
        await until(lambda number=number: _called(wardrobe, number))  # type: ignore[misc]
        wardrobe.outfit = Outfit(name="coat", warmth=number)
        await changing.invalidate(user_tag("u1"))
        late = asyncio.create_task(reading.get_or_load(KEY, wardrobe.load))
        await asyncio.sleep(0)
    assert (await late).value.warmth == 3
    await early


async def test_no_reader_waits_for_a_load_that_an_invalidation_outdated(new_cache: NewCache) -> None:
    slow, quick, wardrobe = new_cache(load_seconds=60), new_cache(load_seconds=60), Wardrobe(seconds=60)
    early = asyncio.create_task(slow.get_or_load(KEY, wardrobe.load))
    await until(lambda: _called(wardrobe, 1))
    await quick.invalidate(user_tag("u1"))
    async with asyncio.timeout(10):
        assert (await quick.get_or_load(KEY, Wardrobe().load)).source == "loaded"
    early.cancel()
    await asyncio.wait({early})


async def test_an_older_load_does_not_undo_a_set_or_delete(new_cache: NewCache) -> None:
    loading, acting, wardrobe = new_cache(), new_cache(), Wardrobe(seconds=0.2)
    early = asyncio.create_task(loading.get_or_load(KEY, wardrobe.load))
    await until(lambda: _called(wardrobe, 1))
    wardrobe.outfit = Outfit(name="raincoat")
    assert await acting.set(KEY, Outfit(name="set"))
    assert (await early).value.name == "set"
    early = asyncio.create_task(loading.get_or_load(OTHER, wardrobe.load))
    await until(lambda: _called(wardrobe, 2))
    wardrobe.outfit = COAT
    await acting.delete(OTHER)
    assert (await early).value == COAT


async def test_integers_beyond_64_bits_are_cached_exactly(new_cache: NewCache) -> None:
    cache, big = new_cache(), Outfit(name="big", warmth=2**70)

    async def load() -> Outfit:
        return big

    assert (await cache.get_or_load(KEY, load)).value == big
    again = await cache.get_or_load(KEY, load)
    assert (again.value, again.source) == (big, "fresh")


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


@pytest.mark.parametrize("tag", [user_tag("u1"), location_tag("lisboa"), ALL_TAG])
async def test_a_value_loaded_before_an_invalidation_is_neither_stored_nor_served(
    new_cache: NewCache, tag: str
) -> None:
    """The load of one process begins before the invalidation by another."""
    loading, changing, wardrobe = new_cache(), new_cache(), Wardrobe(seconds=0.3)
    early = asyncio.create_task(loading.get_or_load(KEY, wardrobe.load))
    await until(lambda: _called(wardrobe, 1))
    wardrobe.outfit = Outfit(name="raincoat")
    await changing.invalidate(tag)
    late = asyncio.create_task(loading.get_or_load(KEY, wardrobe.load))
    assert (await late).value.name == "raincoat"
    assert (await early).value.name == "raincoat"
    assert (await changing.get_or_load(KEY, wardrobe.load)).value.name == "raincoat"


async def _called(wardrobe: Wardrobe, times: int) -> bool:
    return wardrobe.calls >= times


async def test_a_reader_after_an_invalidation_does_not_join_an_older_load(
    cache: Cache[Outfit],
) -> None:
    wardrobe = Wardrobe(seconds=0.2)
    early = asyncio.create_task(cache.get_or_load(KEY, wardrobe.load))
    await until(lambda: _called(wardrobe, 1))
    wardrobe.outfit = Outfit(name="raincoat")
    await cache.invalidate(user_tag("u1"))
    assert (await cache.get_or_load(KEY, wardrobe.load)).value.name == "raincoat"
    await early


async def test_a_reader_after_an_invalidation_does_not_join_an_older_load_without_redis(
    new_cache: NewCache,
) -> None:
    cache, wardrobe = new_cache(f"redis://127.0.0.1:{free_port()}/0"), Wardrobe(seconds=0.2)
    early = asyncio.create_task(cache.get_or_load(KEY, wardrobe.load))
    await until(lambda: _called(wardrobe, 1))
    wardrobe.outfit = Outfit(name="raincoat")
    assert await cache.invalidate(user_tag("u1")) is None
    late = await cache.get_or_load(KEY, wardrobe.load)
    assert (late.value.name, late.source) == ("raincoat", "direct")
    assert (await early).value.name == "coat"


async def test_an_unavailable_redis_causes_misses_and_no_errors(new_cache: NewCache) -> None:
    cache = new_cache(f"redis://127.0.0.1:{free_port()}/0")
    assert await cache.get(KEY) is None
    assert not await cache.exists(KEY)
    assert not await cache.set(KEY, COAT)
    with pytest.raises(CacheUnavailableError, match="not answer"):
        await cache.delete(KEY)
    assert (await cache.get_or_load(KEY, Wardrobe().load)).value == COAT
    assert cache.counts["errors"] == 1


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


async def test_invalidating_thousands_of_users_is_one_round_trip(cache: Cache[Outfit]) -> None:
    users = [f"u{number}" for number in range(12_000)]
    await cache.set(CacheKey("u11999", "now"), COAT)
    assert await cache.invalidate(*map(user_tag, users)) == 1
    assert not await cache.exists(CacheKey("u11999", "now"))


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


@pytest.mark.parametrize("options", ["?protocol=3", "?decode_responses=true"])
async def test_options_of_the_url_change_nothing(new_cache: NewCache, redis_url: str, options: str) -> None:
    cache = new_cache(redis_url + options)
    for source in ("loaded", "fresh"):
        assert (await cache.get_or_load(KEY, Wardrobe().load)).source == source
    await cache.flush_stats()
    assert (await cache.store.stats()).hits == 1
    assert (await cache.store.server_info()).eviction_policy
    assert (await cache.store.page()).items


async def test_readers_of_a_hanging_redis_wait_once(new_cache: NewCache, frozen: ValkeyServer) -> None:
    """They do not wait one after the other."""
    cache = new_cache(frozen.url)
    await cache.get_or_load(KEY, Wardrobe().load)
    assert frozen.pid is not None
    os.kill(frozen.pid, signal.SIGSTOP)
    async with asyncio.timeout(30):  # one after the other they would wait for minutes
        answers = await asyncio.gather(*(cache.get_or_load(KEY, Wardrobe().load) for _ in range(1_000)))
    assert {answer.source for answer in answers} == {"direct"}


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


async def test_an_evicted_version_is_a_miss(cache: Cache[Outfit], raw: redis.asyncio.Redis) -> None:
    await cache.set(KEY, COAT)
    await raw.delete(f"{PREFIX}owned:u1")  # an eviction may take any of the keys
    await cache.invalidate(user_tag("u1"))
    assert not await cache.exists(KEY)
    await cache.set(KEY, COAT)
    await raw.delete(f"{PREFIX}generation:user:u1")
    assert not await cache.exists(KEY)


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


async def test_special_characters_in_names_are_escaped(cache: Cache[Outfit]) -> None:
    odd = CacheKey("a*[b]?:c\\ \x1b\ud800", "Köln:2026", (location_tag("x\ny"),))
    await cache.set(odd, COAT)
    assert await cache.get(odd) == COAT
    (row,) = (await cache.store.page()).items
    assert row.key == str(odd)
    assert "\x1b" not in row.key
    assert await cache.invalidate(user_tag(odd.user_id)) == 1


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
    assert await cache.store.existing(["nobody:now", "stale:now", "fresh:now"]) == ["stale:now", "fresh:now"]
    assert await cache.store.existing([]) == []
    assert await cache.store.evict(["fresh:now", "nobody:now"]) == 1
    assert sorted(await cache.store.keys("*")) == ["corrupt:now", "gone:now", "stale:now"]

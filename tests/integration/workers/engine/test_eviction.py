"""A Redis that may evict jobs is found at start, and while we run."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from app.errors import UsageError, exit_code_of
from app.servers.redis_eviction import check_eviction, eviction_policy
from storage.database.engine import Database
from storage.redis.client import execute, make_client
from tests.support.engine import MakeBench
from tests.support.operations import build_operations
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from workers.monitoring import background_value as look

EVICTS = "allkeys-lru"
DENIED = ("+@all -info -config", "+@all -info", "+@all -config")


@pytest.fixture
def valkey_options() -> tuple[str, ...]:
    """A Redis that may evict whatever it likes."""
    return ("--maxmemory", "64mb", "--maxmemory-policy", EVICTS)


@pytest.fixture
async def redis(valkey: ValkeyServer) -> Any:
    client = make_client(valkey.url)
    yield client
    await client.aclose()


@pytest.mark.parametrize("rights", DENIED)
async def test_the_policy_is_read_by_whatever_command_is_allowed(
    rights: str, valkey: ValkeyServer, redis: Redis
) -> None:
    assert await eviction_policy(redis) == EVICTS
    await execute(redis, "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", *rights.split())
    client = make_client(valkey.url.replace("://", "://app:secret@"))
    assert await eviction_policy(client) == (EVICTS if len(rights.split()) == 2 else None)
    await client.aclose()


async def test_a_redis_that_does_not_report_its_policy_is_accepted(
    valkey: ValkeyServer, redis: Redis
) -> None:
    await execute(redis, "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", *DENIED[0].split())
    await check_eviction(valkey.url.replace("://", "://app:secret@"), None)


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "volatile-ttl"])
async def test_a_redis_that_keeps_jobs_is_taken(policy: str, valkey: ValkeyServer, redis: Redis) -> None:
    await execute(redis, "CONFIG", "SET", "maxmemory-policy", policy)
    await check_eviction(valkey.url, None)


async def test_a_redis_that_evicts_is_refused_unless_the_cache_has_a_server_of_its_own(
    valkey: ValkeyServer, redis: Redis, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = valkey.url.replace("://", "://:secret@")
    await execute(redis, "CONFIG", "SET", "requirepass", "secret")
    same = (None, url, url.replace("/0", "/7"), url.replace("127.0.0.1", "localhost"))
    for cache_url in same:
        with pytest.raises(UsageError) as refused:
            await check_eviction(url, cache_url)
        assert exit_code_of(refused.value) == 2
        text = str(refused.value)
        assert "\n" not in text
        assert "secret" not in text
        for part in ("REDIS_URL: redis://:***@", EVICTS, "lost", "volatile-lru", "CACHE_REDIS_URL"):
            assert part in text
    capsys.readouterr()
    await check_eviction(url, redis_url)
    assert "jobs may be evicted" in capsys.readouterr().out


@pytest.mark.parametrize("away", ["redis://127.0.0.1:1/0", "redis://127.0.0.1:{port}/3"])
async def test_a_cache_that_does_not_report_its_run_id_is_recognised_by_its_address(
    away: str, valkey: ValkeyServer, redis: Redis
) -> None:
    await execute(redis, "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-info")
    url = valkey.url.replace("://", "://app:secret@")
    if "{port}" not in away:
        await check_eviction(url, away)
        return
    with pytest.raises(UsageError):
        await check_eviction(url, away.format(port=valkey.port))


async def test_a_policy_that_is_changed_during_the_run_is_an_alert(
    make_bench: MakeBench, redis_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "REFRESH_SECONDS", 0.05)
    bench = make_bench()
    client = make_client(redis_url)
    operations = build_operations(
        redis_url, policies=[bench.policy], schemas={}, database=database, letters=bench.letters
    )

    async def alerts() -> list[str]:
        return [alert.message for alert in (await operations.snapshot()).alerts if alert.queue is None]

    assert await alerts() == []
    assert (await operations.snapshot()).redis.eviction_policy == "noeviction"
    await execute(client, "CONFIG", "SET", "maxmemory-policy", EVICTS)
    try:
        await eventually(alerts)
        assert await alerts() == [f"Redis evicts by {EVICTS}: jobs may be evicted"]
    finally:
        await execute(client, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    await client.aclose()
    await operations.close()
